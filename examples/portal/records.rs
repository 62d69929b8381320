//! The make-believe HR data, per company and in memory.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::magic_link::Person;

#[derive(Clone)]
pub struct Employee {
    pub id: &'static str,
    pub name: &'static str,
    pub job: &'static str,
    pub bank_account: String,
    /// Rupees a month.
    pub salary: u32,
}

impl Employee {
    fn new(id: &'static str, name: &'static str, job: &'static str, bank_account: &str, salary: u32) -> Self {
        Self { id, name, job, bank_account: bank_account.to_owned(), salary }
    }
}

#[derive(Clone)]
pub struct LeavePolicy {
    pub days_per_year: u32,
    pub carry_over_days: u32,
}

/// One company's data.
pub struct Records {
    pub employees: Vec<Employee>,
    pub leave_policy: LeavePolicy,
}

impl Records {
    /// What a company starts with. The same every time, so it can also be asked for names alone.
    pub fn of_first_day(tenant: &str) -> Self {
        let employees = match tenant {
            "acme" => vec![
                Employee::new("emp-1042", "Asha Rao", "Payroll manager", "5010 0234 8871", 94_000),
                Employee::new("emp-9", "Nikhil Menon", "Warehouse lead", "0072 0167 3390", 50_000),
                Employee::new("emp-21", "Farah Khan", "Sales engineer", "3388 1210 4456", 71_500),
            ],
            "globex" => vec![
                Employee::new("emp-512", "Divya Pillai", "HR partner", "9120 4410 0087", 88_000),
                Employee::new("emp-9", "Arjun Sethi", "Line technician", "6604 7731 2205", 46_000),
                Employee::new("emp-33", "Lena Fernandes", "Designer", "1149 8820 6613", 67_000),
            ],
            _ => vec![
                Employee::new("emp-1", "Kiran Das", "HR generalist", "2201 5540 1198", 62_000),
                Employee::new("emp-9", "Tara Bose", "Accountant", "7715 3302 4480", 58_000),
                Employee::new("emp-14", "Imran Qureshi", "Driver", "4400 9912 7056", 34_000),
            ],
        };
        Self { employees, leave_policy: LeavePolicy { days_per_year: 24, carry_over_days: 8 } }
    }

    pub fn employee(&self, id: &str) -> Option<&Employee> {
        self.employees.iter().find(|employee| employee.id == id)
    }

    pub fn employee_mut(&mut self, id: &str) -> Option<&mut Employee> {
        self.employees.iter_mut().find(|employee| employee.id == id)
    }
}

/// The portal users whose access an admin may share.
pub fn profiles(tenant: &str) -> Vec<Person> {
    let person =
        |employee: Employee| Person { id: employee.id.to_owned(), name: employee.name.to_owned(), email: None };
    Records::of_first_day(tenant).employees.into_iter().map(person).collect()
}

#[derive(Default)]
pub struct Companies(Mutex<HashMap<String, Arc<Mutex<Records>>>>);

impl Companies {
    /// The company's records, made on the first visit. Only a guarded visitor gets here, so a stranger
    /// who tries tenant names fills no memory.
    pub async fn records(&self, tenant: &str) -> Arc<Mutex<Records>> {
        let mut companies = self.0.lock().await;
        let records =
            companies.entry(tenant.to_owned()).or_insert_with(|| Arc::new(Mutex::new(Records::of_first_day(tenant))));
        Arc::clone(records)
    }
}
