//! Write jobs that share a transaction with others that fail or panic.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use diesel::prelude::*;
use futures_util::future::{join, join_all};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::clock::{Clock, Timestamp};
use crate::db::schema::{audit_events, tenants};
use crate::db::{Conn, DatabaseUrl};
use crate::domain::{Actor, EventType};
use crate::error::{Code, Error};
use crate::id::ClientId;
use crate::journal::Event;
use crate::metrics::Metrics;
use crate::store::{Opening, Owner, Recorded, Store, Tx, Worker};
use crate::telemetry::Tracer;

fn open() -> (TempDir, Store, Metrics) {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Metrics::new().unwrap();
    let opening = Opening { connections: 4, max_batch: 64, migrate: true };
    let url: DatabaseUrl = format!("sqlite://{}", folder.path().join("test.store").display()).parse().unwrap();
    let store = Store::open(&url, opening, &[], &metrics, &Tracer::default()).unwrap();
    (folder, store, metrics)
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
async fn behind_one<T>(store: &Store, others: impl Future<Output = Vec<T>>) -> Vec<T> {
    let (open_gate, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let begun = Arc::new(Notify::new());
    let first = store.write({
        let begun = Arc::clone(&begun);
        move |_tx| {
            begun.notify_one();
            let _closed = gate.lock().unwrap().recv();
            Ok(())
        }
    });
    // They are queued while a writer is in the first one's hands, and the gate is opened after that.
    let others = async move {
        begun.notified().await;
        join(others, async move { drop(open_gate) }).await.0
    };
    let (first, others) = join(first, others).await;
    first.unwrap();
    others
}

async fn rows(store: &Store) -> (Vec<String>, Vec<String>) {
    store
        .read(|conn| {
            let ids = tenants::table.select(tenants::id).order(tenants::id).load(conn)?;
            let logs = audit_events::table.select(audit_events::tenant_id).order(audit_events::tenant_id).load(conn)?;
            Ok((ids, logs))
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn jobs_that_fail_or_panic_leave_their_neighbours_alone() {
    let (_folder, store, metrics) = open();
    let now = Clock::System.now();
    let jobs = (0..60).map(|number| {
        store.write(move |tx: &mut Tx<'_>| {
            // Every sixth job inserts the same id as the job before it.
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
    let outcomes = behind_one(&store, join_all(jobs)).await;
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
    assert_eq!(rows(&store).await, (expected.clone(), expected));
    assert_eq!(metrics.events.with_label_values(&["tenant.saved"]).get(), 20);
}

#[tokio::test]
async fn savepoints_are_set_only_where_a_job_was_refused_lately() {
    let (_folder, store, _metrics) = open();
    let has_savepoint = |tx: &mut Tx<'_>| Ok(tx.back_to_savepoint().is_ok());
    let five = || join_all((0..5).map(|_| store.write(has_savepoint)));
    let savepoints = |outcomes: Vec<Result<bool, Error>>| outcomes.into_iter().map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(savepoints(behind_one(&store, five()).await), [false; 5]);

    let refused = || async {
        let refused = store.write(|_tx: &mut Tx<'_>| Err::<bool, _>(Error::not_found()));
        let (refused, mut others) = join(refused, five()).await;
        others.insert(0, refused);
        others
    };
    let mut outcomes = behind_one(&store, refused()).await;
    assert_eq!(outcomes.remove(0).unwrap_err().code(), Code::NotFound);
    assert_eq!(savepoints(outcomes), [true; 5], "the batch is run again, with savepoints");
    assert_eq!(savepoints(behind_one(&store, five()).await), [true; 5], "and so are those that follow");
    for _ in 0..15 {
        behind_one(&store, five()).await;
    }
    assert_eq!(savepoints(behind_one(&store, five()).await), [false; 5]);
}

#[tokio::test]
async fn an_event_that_cannot_be_written_undoes_its_own_job_only() {
    let (_folder, store, _metrics) = open();
    let now = Clock::System.now();
    let session = crate::id::SessionId::new(now);
    let jobs = (0..20).map(|number| {
        let session = session.clone();
        store.write(move |tx: &mut Tx<'_>| {
            let id = format!("tenant-{number:02}");
            insert(tx, &id, now)?;
            // Two of them report the same activity event, and neither checks first.
            let seq = if number < 2 { 1 } else { number };
            let activity = crate::journal::ActivityRef { source: "portal", seq };
            tx.record(saved(&id, now).of_session(&session).act(activity, now, std::collections::BTreeSet::new()));
            Ok(id)
        })
    });
    let outcomes = behind_one(&store, join_all(jobs)).await;
    let done: Vec<String> = outcomes.into_iter().filter_map(Result::ok).collect();
    assert_eq!(done.len(), 19);
    assert_eq!(rows(&store).await, (done.clone(), done));
}

#[tokio::test]
async fn jobs_that_wait_together_share_a_commit_and_large_ones_do_not() {
    let (_folder, store, metrics) = open();
    let now = Clock::System.now();
    let small = |number| store.write(move |tx: &mut Tx<'_>| Ok(insert(tx, &format!("small-{number:03}"), now)?));
    let large = |number| store.write_large(move |tx: &mut Tx<'_>| Ok(insert(tx, &format!("large-{number}"), now)?));
    let jobs = async {
        let (mut small, large) = join(join_all((0..100).map(small)), join_all((1..3).map(large))).await;
        small.extend(large);
        small
    };
    let outcomes = behind_one(&store, jobs).await;
    assert!(outcomes.iter().all(|outcome| *outcome.as_ref().unwrap() == 1));
    // The gate (perhaps with other jobs), at most two for the small ones, one for each large one.
    let commits = metrics.write_batch.get_sample_count();
    assert!((4..=5).contains(&commits), "{commits} commits");
    assert_eq!(rows(&store).await.0.len(), 102);
}

#[tokio::test]
async fn jobs_wait_while_no_transaction_may_begin_however_many_threads_are_idle() {
    let (_folder, store, metrics) = open();
    let (tell_begun, begun) = tokio::sync::oneshot::channel::<()>();
    let (open_gate, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new((Some(tell_begun), gate));
    let first = store.write(move |_tx| {
        let mut gate = gate.lock().unwrap();
        drop(gate.0.take());
        let _closed = gate.1.recv();
        Ok(())
    });
    let others = async {
        let _begun = begun.await;
        let jobs = join_all((0..5).map(|_| store.write(|_tx| Ok(()))));
        let opener = async {
            // Time enough for a thread that should not begin.
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(metrics.writer_queue.get(), 5);
            drop(open_gate);
        };
        join(jobs, opener).await.0
    };
    let (first, others) = join(first, others).await;
    assert!(first.is_ok() && others.iter().all(Result::is_ok), "{others:?}");
    assert_eq!(metrics.write_batch.get_sample_count(), 2);
}

/// Inserts a tenant and then refuses.
fn refused(tx: &mut Tx<'_>, id: &str, now: Timestamp) -> Result<String, Error> {
    insert(tx, id, now)?;
    tx.record(saved(id, now));
    tx.wake(Worker::Mail);
    let refusal =
        Event::access_refused(&ClientId::new(now), "Test client", "POST", "/v1/tenants", None, Code::NotFound, now);
    Err(tx.refuse(Code::NotFound, refusal.tenant(id)))
}

#[tokio::test]
async fn a_refusal_undoes_its_job_and_is_recorded_before_it_is_answered() {
    let (_folder, store, _metrics) = open();
    let now = Clock::System.now();
    // Alone it has no savepoint.
    let alone = store.write(move |tx| refused(tx, "alone", now)).await.unwrap_err();
    assert!(alone.code() == Code::NotFound && alone.is_recorded());
    assert_eq!(rows(&store).await, (vec![], vec!["alone".to_owned()]));
    let jobs = (0..20).map(|number| {
        let id = format!("tenant-{number:02}");
        store.write(move |tx: &mut Tx<'_>| if number % 2 == 0 { refused(tx, &id, now) } else { Ok(id.clone()) })
    });
    let outcomes = behind_one(&store, join_all(jobs)).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.as_ref().is_err_and(Error::is_recorded)).count(), 10);
    let (tenants, logs) = rows(&store).await;
    assert!(tenants.is_empty(), "{tenants:?}");
    assert_eq!(logs.len(), 11, "{logs:?}");
}

#[tokio::test]
async fn a_refusal_that_cannot_be_recorded_is_not_answered() {
    let (_folder, store, _metrics) = open();
    let now = Clock::System.now();
    store.write(|tx| Ok(diesel::sql_query("DROP TABLE audit_payloads").execute(&mut **tx)?)).await.unwrap();
    let outcome = store.write(move |tx| refused(tx, "alone", now)).await.unwrap_err();
    assert_eq!(outcome.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_worker_is_woken_by_a_commit_and_not_by_a_refusal() {
    let (_folder, store, _metrics) = open();
    let now = Clock::System.now();
    drop(store.write(move |tx| refused(tx, "acme", now)).await);
    let wanted = async |worker| tokio::time::timeout(Duration::from_millis(20), store.wanted(worker)).await.is_ok();
    assert!(!wanted(Worker::Mail).await);
    let waking = |tx: &mut Tx<'_>| {
        tx.wake(Worker::Mail);
        Ok(())
    };
    store.write(waking).await.unwrap();
    assert!(wanted(Worker::Mail).await && !wanted(Worker::Webhooks).await);
}

/// Runs a future for a client.
async fn by<T>(client: &ClientId, work: impl Future<Output = T>) -> T {
    let client = Owner::Client(client.clone());
    Owner::scope(Recorded::default(), async {
        client.becomes_current(None);
        work.await
    })
    .await
}

#[tokio::test]
async fn who_queues_many_jobs_delays_their_own() {
    let (_folder, store, _metrics) = open();
    let now = Clock::System.now();
    let clients = [ClientId::new(now), ClientId::new(now), ClientId::new(now)];
    let order = Arc::new(std::sync::Mutex::new(String::new()));
    let job = |name: char, large: bool| {
        let order = Arc::clone(&order);
        let work = move |_tx: &mut Tx<'_>| {
            order.lock().unwrap().push(name);
            Ok(())
        };
        let (store, client) = (store.clone(), clients[name as usize - 'A' as usize].clone());
        async move {
            let written = async { if large { store.write_large(work).await } else { store.write(work).await } };
            by(&client, written).await
        }
    };
    let small = (0..200).map(|_| job('A', false)).chain([job('B', false)]);
    let outcomes = behind_one(&store, join_all(small)).await;
    assert!(outcomes.iter().all(Result::is_ok));
    let place = order.lock().unwrap().find('B').unwrap();
    assert!(place < 64, "it is in the first transaction: {place}");
    order.lock().unwrap().clear();
    // A long one of each, and what is short in between.
    let large = [job('A', true), job('A', true), job('A', true), job('B', false), job('C', true)];
    behind_one(&store, join_all(large)).await;
    assert_eq!(*order.lock().unwrap(), "ABCAA");
}

#[tokio::test]
async fn who_has_too_many_jobs_in_the_queue_is_refused_alone() {
    let (_folder, store, metrics) = open();
    let now = Clock::System.now();
    let (many, other) = (ClientId::new(now), ClientId::new(now));
    let job = || store.write(|_tx: &mut Tx<'_>| Ok(()));
    let jobs = async {
        let many = join_all((0..1_100).map(|_| by(&many, job())));
        let (mut outcomes, other) = join(many, by(&other, job())).await;
        outcomes.push(other);
        outcomes
    };
    let mut outcomes = behind_one(&store, jobs).await;
    assert!(outcomes.pop().unwrap().is_ok());
    let refused: Vec<Code> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err().map(Error::code)).collect();
    assert_eq!(refused, vec![Code::Unavailable; 76]);
    assert_eq!(metrics.writer_queue.get(), 0);
}

#[tokio::test]
async fn whoever_reads_much_waits_for_themselves() {
    let (_folder, store, _metrics) = open();
    let store = &store;
    let now = Clock::System.now();
    let (open_gate, gate) = mpsc::channel::<()>();
    let (gate, begun) = (Arc::new(std::sync::Mutex::new(gate)), Arc::new(Notify::new()));
    let read_of = |owner: Owner, gate: Option<Arc<std::sync::Mutex<mpsc::Receiver<()>>>>| {
        let begun = Arc::clone(&begun);
        let read = async move {
            owner.becomes_current(None);
            let work = move |_conn: &mut Conn| {
                begun.notify_one();
                let _opened = gate.map(|gate| gate.lock().unwrap().recv());
                Ok(())
            };
            store.read(work).await
        };
        Owner::scope(Recorded::default(), read)
    };
    let (greedy, other) = (ClientId::new(now), ClientId::new(now));
    let much = join_all((0..6).map(|_| read_of(Owner::Client(greedy.clone()), Some(Arc::clone(&gate)))));
    let others = async {
        begun.notified().await;
        let outcomes = (read_of(Owner::Client(other), None).await, read_of(Owner::Service, None).await);
        drop(open_gate);
        outcomes
    };
    let (much, (other, service)) = join(much, others).await;
    assert!(other.is_ok() && service.is_ok(), "{other:?} {service:?}");
    assert!(much.iter().any(Result::is_ok), "its share is its own");
}
