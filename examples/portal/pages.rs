//! The visitor's three pages. Both looking and changing are reported; neither happens unrecorded.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Form, Path};
use askama::Template;
use serde::Deserialize;

use crate::App;
use crate::magic_link::{Act, Change, Kind};
use crate::records::{Employee, LeavePolicy};
use crate::visitor::{Banner, Visitor};
use crate::web::{Place, Stop, page, see_other};

#[derive(Template)]
#[template(path = "home.html")]
struct Home<'a> {
    banner: Banner,
    place: &'a Place,
    employees: &'a [Employee],
}

pub async fn home(app: Data<App>, place: Place, visitor: Visitor) -> Result<HttpResponse, Stop> {
    let records = app.companies.records(&place.tenant).await;
    let employees = records.lock().await.employees.clone();
    // An edit may have held the records for long.
    visitor.is_still_here().await?;
    Ok(page(StatusCode::OK, &Home { banner: visitor.banner(), place: &place, employees: &employees }))
}

#[derive(Template)]
#[template(path = "employee.html")]
struct EmployeePage<'a> {
    banner: Banner,
    place: &'a Place,
    employee: &'a Employee,
    form: &'a EmployeeForm,
    errors: &'a [&'static str],
}

#[derive(Deserialize)]
pub struct EmployeeForm {
    bank_account: String,
    salary: String,
}

pub async fn employee(
    app: Data<App>,
    place: Place,
    path: Path<InPath>,
    visitor: Visitor,
) -> Result<HttpResponse, Stop> {
    show_employee(&app, &place, &path.id, &visitor, None, &[]).await
}

/// The part of the path that is not the place.
#[derive(Deserialize)]
pub struct InPath {
    id: String,
}

/// Shows an employee, each time recorded as a view of that employee, before anything is shown.
async fn show_employee(
    app: &App,
    place: &Place,
    id: &str,
    visitor: &Visitor,
    form: Option<&EmployeeForm>,
    errors: &[&'static str],
) -> Result<HttpResponse, Stop> {
    let records = app.companies.records(&place.tenant).await;
    let employee = records.lock().await.employee(id).cloned().ok_or(Stop::NoSuchPage)?;
    visitor.report(about(&employee, Kind::View, "employee.viewed", Vec::new())).await?;
    let stored = EmployeeForm { bank_account: employee.bank_account.clone(), salary: employee.salary.to_string() };
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let form = form.unwrap_or(&stored);
    Ok(page(status, &EmployeePage { banner: visitor.banner(), place, employee: &employee, form, errors }))
}

pub async fn edit_employee(
    app: Data<App>,
    place: Place,
    path: Path<InPath>,
    visitor: Visitor,
    form: Form<EmployeeForm>,
) -> Result<HttpResponse, Stop> {
    let wanted = match form.read() {
        Ok(wanted) => wanted,
        Err(errors) => {
            return show_employee(&app, &place, &path.id, &visitor, Some(&form), &errors).await;
        }
    };

    let records = app.companies.records(&place.tenant).await;
    // Held until the edit is done, so that `before` in the report is what the edit really replaces. The report asks
    // after this wait.
    let mut records = records.lock().await;
    let employee = records.employee_mut(&path.id).ok_or(Stop::NoSuchPage)?;
    let changes = changed([
        ("bank_account", employee.bank_account.clone(), wanted.bank_account.clone()),
        ("salary", employee.salary.to_string(), wanted.salary.to_string()),
    ]);
    let action = match changes.as_slice() {
        [] => {
            return Ok(see_other(&format!("{}employees/{}", place.root(), employee.id)));
        }
        [only] if only.field == "bank_account" => "employee.bank_account.updated",
        [_] => "employee.salary.updated",
        _ => "employee.updated",
    };
    visitor.report(about(employee, Kind::Change, action, changes)).await?;
    // No pause between the record and the deed: nothing can interrupt here.
    employee.bank_account = wanted.bank_account;
    employee.salary = wanted.salary;
    Ok(see_other(&format!("{}employees/{}", place.root(), employee.id)))
}

struct WantedEmployee {
    bank_account: String,
    salary: u32,
}

impl EmployeeForm {
    fn read(&self) -> Result<WantedEmployee, Vec<&'static str>> {
        let bank_account = self.bank_account.trim();
        let has_good_letters = bank_account.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == ' ');
        let is_bank_account = has_good_letters && (6..=34).contains(&bank_account.len());
        let salary = self.salary.trim().parse().ok().filter(|salary| (1..=10_000_000).contains(salary));
        match salary {
            Some(salary) if is_bank_account => Ok(WantedEmployee { bank_account: bank_account.to_owned(), salary }),
            _ => Err([
                (!is_bank_account).then_some("The bank account needs 6 to 34 letters, digits and spaces."),
                salary.is_none().then_some("The salary is a whole number of rupees between 1 and 10000000."),
            ]
            .into_iter()
            .flatten()
            .collect()),
        }
    }
}

#[derive(Template)]
#[template(path = "leave_policy.html")]
struct LeavePolicyPage<'a> {
    banner: Banner,
    place: &'a Place,
    form: &'a LeavePolicyForm,
    errors: &'a [&'static str],
}

#[derive(Deserialize)]
pub struct LeavePolicyForm {
    days_per_year: String,
    carry_over_days: String,
}

pub async fn leave_policy(app: Data<App>, place: Place, visitor: Visitor) -> Result<HttpResponse, Stop> {
    show_leave_policy(&app, &place, &visitor, None, &[]).await
}

async fn show_leave_policy(
    app: &App,
    place: &Place,
    visitor: &Visitor,
    form: Option<&LeavePolicyForm>,
    errors: &[&'static str],
) -> Result<HttpResponse, Stop> {
    let records = app.companies.records(&place.tenant).await;
    let policy = records.lock().await.leave_policy.clone();
    visitor.report(about_leave(Kind::View, "leave_policy.viewed", Vec::new())).await?;
    let stored = LeavePolicyForm {
        days_per_year: policy.days_per_year.to_string(),
        carry_over_days: policy.carry_over_days.to_string(),
    };
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let form = form.unwrap_or(&stored);
    Ok(page(status, &LeavePolicyPage { banner: visitor.banner(), place, form, errors }))
}

pub async fn edit_leave_policy(
    app: Data<App>,
    place: Place,
    visitor: Visitor,
    form: Form<LeavePolicyForm>,
) -> Result<HttpResponse, Stop> {
    let Some(wanted) = form.read() else {
        let errors =
            ["Leave days are a whole number up to 365, and no more of them can be carried over than there are."];
        return show_leave_policy(&app, &place, &visitor, Some(&form), &errors).await;
    };

    let records = app.companies.records(&place.tenant).await;
    let mut records = records.lock().await;
    let policy = &mut records.leave_policy;
    let changes = changed([
        ("days_per_year", policy.days_per_year.to_string(), wanted.days_per_year.to_string()),
        ("carry_over_days", policy.carry_over_days.to_string(), wanted.carry_over_days.to_string()),
    ]);
    if !changes.is_empty() {
        visitor.report(about_leave(Kind::Change, "leave_policy.updated", changes)).await?;
        *policy = wanted;
    }
    Ok(see_other(&format!("{}leave-policy", place.root())))
}

impl LeavePolicyForm {
    fn read(&self) -> Option<LeavePolicy> {
        let days_per_year = self.days_per_year.trim().parse().ok().filter(|days| *days <= 365)?;
        let carry_over_days = self.carry_over_days.trim().parse().ok().filter(|days| *days <= days_per_year)?;
        Some(LeavePolicy { days_per_year, carry_over_days })
    }
}

/// An act on a person's data names that person: years later the employee can ask who saw it.
fn about(employee: &Employee, kind: Kind, action: &'static str, changes: Vec<Change>) -> Act {
    let id = employee.id.to_owned();
    let category = changes.iter().any(|change| change.field == "bank_account").then_some("bank_account");
    Act {
        kind,
        module: "employees",
        category,
        action,
        resource_type: "employee",
        resource_id: id.clone(),
        principal_id: Some(id),
        changes,
    }
}

/// The leave policy is the company's and nobody's personal data: it has no principal.
fn about_leave(kind: Kind, action: &'static str, changes: Vec<Change>) -> Act {
    Act {
        kind,
        module: "leave",
        category: None,
        action,
        resource_type: "leave_policy",
        resource_id: "default".to_owned(),
        principal_id: None,
        changes,
    }
}

fn changed<const N: usize>(fields: [(&'static str, String, String); N]) -> Vec<Change> {
    let differs = fields.into_iter().filter(|(_, before, after)| before != after);
    differs.map(|(field, before, after)| Change { field, before, after }).collect()
}
