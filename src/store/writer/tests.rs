//! Acts that share a transaction, beside neighbours that fail or panic.

use std::sync::mpsc;
use std::time::Duration;

use diesel::prelude::*;
use futures_util::future::{join, join_all, join3};
use tempfile::TempDir;

use crate::clock::{Clock, Timestamp};
use crate::db::schema::{audit_events, tenants};
use crate::db::{Conn, DatabaseUrl};
use crate::domain::{Actor, EventType};
use crate::error::{Code, Error};
use crate::journal::Event;
use crate::metrics::Metrics;
use crate::store::{Store, Tx};

fn open() -> (TempDir, Store, Metrics) {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Metrics::new().unwrap();
    let db = Store::open(&DatabaseUrl::Sqlite(folder.path().join("test.db")), 4, 64, &[], &metrics).unwrap();
    (folder, db, metrics)
}

fn insert(conn: &mut Conn, id: &str, now: Timestamp) -> QueryResult<usize> {
    let row = (
        tenants::id.eq(id),
        tenants::name.eq(id),
        tenants::time_zone.eq("Asia/Kolkata"),
        tenants::contacts.eq("[]"),
        tenants::created_at.eq(now),
        tenants::updated_at.eq(now),
    );
    diesel::insert_into(tenants::table).values(row).execute(conn)
}

fn saved(tenant_id: &str, now: Timestamp) -> Event {
    Event::new(EventType::TenantSaved, Actor::system("test"), now).tenant(tenant_id)
}

/// Keeps the writer busy until all the others have queued.
async fn behind_one<T>(db: &Store, others: impl Future<Output = Vec<T>>) -> Vec<T> {
    let (open_gate, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let first = db.write(move |_tx| {
        let _closed = gate.lock().unwrap().recv();
        Ok(())
    });
    let (first, others, ()) = join3(first, others, async move { drop(open_gate) }).await;
    first.unwrap();
    others
}

async fn rows(db: &Store) -> (Vec<String>, Vec<String>) {
    db.read(|conn| {
        let ids = tenants::table.select(tenants::id).order(tenants::id).load(conn)?;
        let logs = audit_events::table.select(audit_events::tenant_id).order(audit_events::tenant_id).load(conn)?;
        Ok((ids, logs))
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn acts_that_fail_or_panic_leave_their_neighbours_alone() {
    let (_folder, db, metrics) = open();
    let now = Clock::System.now();
    let acts = (0..60).map(|number| {
        db.write(move |tx: &mut Tx<'_>| {
            // Every sixth one wants what its neighbour has just taken.
            let id = format!("tenant-{:02}", if number % 6 == 5 { number - 1 } else { number });
            insert(tx, &id, now)?;
            tx.record(saved(&id, now));
            match number % 6 {
                1 => Err(Error::not_found()),
                2 => panic!("as the test wants it"),
                3 => Err(diesel::result::Error::NotFound.into()),
                _ => Ok(id),
            }
        })
    });
    let outcomes = behind_one(&db, join_all(acts)).await;
    let mut expected = Vec::new();
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match (number % 6, outcome) {
            (0 | 4, Ok(id)) => expected.push(id),
            (1, Err(error)) => assert_eq!(error.code(), Code::NotFound),
            (2 | 3 | 5, Err(error)) => assert_eq!(error.code(), Code::Internal),
            (_, outcome) => panic!("{number}: {outcome:?}"),
        }
    }
    assert_eq!(expected.len(), 20);
    assert_eq!(rows(&db).await, (expected.clone(), expected));
    assert_eq!(metrics.events.with_label_values(&["tenant.saved"]).get(), 20);
}

#[tokio::test]
async fn an_event_that_cannot_be_written_undoes_its_own_act_only() {
    let (_folder, db, _metrics) = open();
    let now = Clock::System.now();
    let session = crate::id::SessionId::new(now);
    let acts = (0..20).map(|number| {
        let session = session.clone();
        db.write(move |tx: &mut Tx<'_>| {
            let id = format!("tenant-{number:02}");
            insert(tx, &id, now)?;
            // Two of them report the same act, and neither looks first.
            let seq = if number < 2 { 1 } else { number };
            let act = crate::journal::ActivityRef { source: "portal", seq };
            tx.record(saved(&id, now).of_session(&session).act(act, now, None));
            Ok(id)
        })
    });
    let outcomes = behind_one(&db, join_all(acts)).await;
    let done: Vec<String> = outcomes.into_iter().filter_map(Result::ok).collect();
    assert_eq!(done.len(), 19);
    assert_eq!(rows(&db).await, (done.clone(), done));
}

#[tokio::test]
async fn acts_that_wait_together_share_a_commit_and_large_ones_do_not() {
    let (_folder, db, metrics) = open();
    let now = Clock::System.now();
    let small = |number| db.write(move |tx: &mut Tx<'_>| Ok(insert(tx, &format!("small-{number:03}"), now)?));
    let large = |number| db.write_large(move |tx: &mut Tx<'_>| Ok(insert(tx, &format!("large-{number}"), now)?));
    let acts = async {
        let (mut small, large) = join(join_all((0..100).map(small)), join_all((1..3).map(large))).await;
        small.extend(large);
        small
    };
    let outcomes = behind_one(&db, acts).await;
    assert!(outcomes.iter().all(|outcome| *outcome.as_ref().unwrap() == 1));
    // The gate (perhaps with company), at most two for the small ones, one for each large one.
    let commits = metrics.write_batch.get_sample_count();
    assert!((4..=5).contains(&commits), "{commits} commits");
    assert_eq!(rows(&db).await.0.len(), 102);
}

#[tokio::test]
async fn acts_wait_while_no_transaction_may_begin_however_many_threads_are_idle() {
    let (_folder, db, metrics) = open();
    let (tell_begun, begun) = tokio::sync::oneshot::channel::<()>();
    let (open_gate, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new((Some(tell_begun), gate));
    let first = db.write(move |_tx| {
        let mut gate = gate.lock().unwrap();
        drop(gate.0.take());
        let _closed = gate.1.recv();
        Ok(())
    });
    let others = async {
        let _begun = begun.await;
        let acts = join_all((0..5).map(|_| db.write(|_tx| Ok(()))));
        let opener = async {
            // Time enough for a thread that should not.
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(metrics.writer_queue.get(), 5);
            drop(open_gate);
        };
        join(acts, opener).await.0
    };
    let (first, others) = join(first, others).await;
    assert!(first.is_ok() && others.iter().all(Result::is_ok), "{others:?}");
    assert_eq!(metrics.write_batch.get_sample_count(), 2);
}
