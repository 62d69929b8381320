//! Threads that wait for the database, and how long their owner waits for them.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Time that threads have to finish when their owner is dropped. A database that hangs must not keep a process alive.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// Threads of one owner.
pub(crate) struct Threads {
    started: Vec<JoinHandle<()>>,
    /// Each thread holds a sender: the channel closes with the last of them.
    running: Option<Sender<()>>,
    /// Behind a mutex because a receiver is not `Sync`.
    ended: Mutex<Receiver<()>>,
}

impl Threads {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        Self { started: Vec::new(), running: Some(sender), ended: Mutex::new(receiver) }
    }

    /// Starts a thread.
    pub(crate) fn spawn(&mut self, name: String, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let running = self.running.clone();
        let thread = thread::Builder::new().name(name).spawn(move || {
            work();
            drop(running);
        })?;
        self.started.push(thread);
        Ok(())
    }

    /// Waits for the threads, which hold a pool: SQLite cleans up when its last connection closes. One that the database
    /// holds is given up.
    pub(crate) fn finish(&mut self) {
        self.running = None;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(FINISH_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the database holds a thread, which is given up");
            return;
        }
        for thread in self.started.drain(..) {
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_hangs_is_given_up() {
        let (release, held) = mpsc::channel::<()>();
        let mut threads = Threads::new();
        threads.spawn("quick".to_owned(), || {}).unwrap();
        threads.spawn("held".to_owned(), move || _ = held.recv()).unwrap();
        threads.finish();
        assert_eq!(threads.started.len(), 2);
        drop(release);
        threads.finish();
        assert!(threads.started.is_empty());
    }
}
