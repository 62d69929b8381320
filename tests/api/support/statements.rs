//! The statements that the service sends to a test's database, as diesel tells them of each connection.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once};

use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

use super::World;

/// Addresses of the databases that are watched, and what was sent to them.
static SENT: Mutex<BTreeMap<String, Vec<Sent>>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Clone)]
struct Sent {
    connection: u32,
    sql: String,
    prepared: bool,
}

/// One connection of the service.
struct Wire {
    number: u32,
    address: String,
    /// What the connection has prepared to be run again.
    prepared: HashSet<String>,
}

/// From now on every connection of this process is told of.
pub fn tell() {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        set_default_instrumentation(|| {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::SeqCst);
            Some(Box::new(Wire { number, address: String::new(), prepared: HashSet::new() }))
        })
        .expect("nobody panics while holding it");
    });
}

impl Instrumentation for Wire {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartEstablishConnection { url, .. } => {
                url.split('?').next().unwrap_or_default().trim_start_matches("file:").clone_into(&mut self.address);
            }
            InstrumentationEvent::CacheQuery { sql, .. } => {
                self.prepared.insert(sql.replace('`', "\""));
            }
            // Not before: a statement is prepared while it is run for the first time.
            InstrumentationEvent::FinishQuery { query, .. } => {
                let mut sent = SENT.lock().expect("no test panics here");
                let watched = sent.iter_mut().find(|(database, _)| database.ends_with(&self.address));
                let Some((_, sent)) = watched.filter(|_| !self.address.is_empty()) else { return };
                let text = query.to_string().replace('`', "\"");
                let sql = text.rsplit_once(" -- binds: ").map_or(text.as_str(), |(sql, _)| sql);
                let prepared = self.prepared.contains(sql);
                sent.push(Sent { connection: self.number, sql: sql.to_owned(), prepared });
            }
            _ => {}
        }
    }
}

/// What a part of a test has sent, as transactions: a statement outside of them is one by itself.
#[derive(Debug)]
pub struct Statements {
    transactions: Vec<Vec<Sent>>,
}

impl Statements {
    /// What the service sends while the part runs.
    pub async fn during<T>(world: &World, part: impl Future<Output = T>) -> (Self, T) {
        let url = super::for_a_service(&world.database_url);
        let database = url.split('?').next().unwrap_or_default().to_owned();
        SENT.lock().expect("no test panics here").insert(database.clone(), Vec::new());
        let outcome = part.await;
        let sent = SENT.lock().expect("no test panics here").remove(&database).unwrap_or_default();
        (Self { transactions: grouped(sent) }, outcome)
    }

    /// The statements of the transactions that do what one of these words say, each counted once however often it was
    /// run, and those among them that were parsed anew; shows them.
    pub fn of(&self, act: &str, words: &[&str]) -> (usize, usize) {
        let does = |sent: &&Vec<Sent>| sent.iter().any(|one| words.iter().any(|word| one.sql.contains(word)));
        let (mut number, mut anew) = (0, 0);
        for transaction in self.transactions.iter().filter(does) {
            let mut seen = HashSet::new();
            for one in transaction.iter().filter(|one| seen.insert(one.sql.as_str())) {
                let is_plain = ["BEGIN", "COMMIT", "SAVEPOINT", "RELEASE"].iter().any(|word| one.sql.starts_with(word));
                number += 1;
                anew += usize::from(!is_plain && !one.prepared);
                eprintln!("{act:>8} {} {}", if is_plain || one.prepared { " " } else { "!" }, one.sql);
            }
        }
        (number, anew)
    }

    /// The texts of the statements that say all of these words.
    pub fn texts(&self, words: &[&str]) -> HashSet<&str> {
        let all = self.transactions.iter().flatten().map(|one| one.sql.as_str());
        all.filter(|sql| words.iter().all(|word| sql.contains(word))).collect()
    }

    /// The number of statements that say one of these words, and those among them that were parsed anew.
    pub fn that_say(&self, words: &[&str]) -> (usize, Vec<&str>) {
        let all = self.transactions.iter().flatten().filter(|one| words.iter().any(|word| one.sql.contains(word)));
        let (prepared, anew): (Vec<&Sent>, Vec<&Sent>) = all.partition(|one| one.prepared);
        (prepared.len() + anew.len(), anew.into_iter().map(|one| one.sql.as_str()).collect())
    }
}

fn grouped(sent: Vec<Sent>) -> Vec<Vec<Sent>> {
    let mut open: BTreeMap<u32, Vec<Sent>> = BTreeMap::new();
    let mut whole = Vec::new();
    for one in sent {
        let connection = one.connection;
        if one.sql.starts_with("BEGIN") {
            open.insert(connection, vec![one]);
        } else if let Some(transaction) = open.get_mut(&connection) {
            let is_last = ["COMMIT", "ROLLBACK"].contains(&one.sql.as_str());
            transaction.push(one);
            if is_last {
                whole.extend(open.remove(&connection));
            }
        } else {
            whole.push(vec![one]);
        }
    }
    whole
}
