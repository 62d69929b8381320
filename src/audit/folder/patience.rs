//! Work on a folder that may be that of another machine, and may not answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};

/// How long the folder may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Works on the folder one at a time, on a thread that is left behind where the folder does not answer. Until it does,
/// nothing else is tried, so that no more than one thread hangs.
#[derive(Clone, Default)]
pub(super) struct Patience(Arc<Mutex<()>>);

impl Patience {
    /// Works when its turn comes.
    ///
    /// # Errors
    /// Those of the work, and `TimedOut`.
    pub(super) async fn bounded<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.within(PATIENCE, work).await
    }

    /// Works now.
    ///
    /// # Errors
    /// Those of the work, `TimedOut`, and `WouldBlock` where others have the turn, or the folder has not answered them yet.
    pub(super) async fn at_once<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let turn = Arc::clone(&self.0).try_lock_owned().map_err(|_taken| io::ErrorKind::WouldBlock)?;
        on_a_thread(turn, PATIENCE, work).await
    }

    async fn within<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let turn = tokio::time::timeout(limit, Arc::clone(&self.0).lock_owned()).await;
        on_a_thread(turn.map_err(|_elapsed| hangs())?, limit, work).await
    }
}

async fn on_a_thread<T: Send + 'static>(
    turn: OwnedMutexGuard<()>,
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("checkpoints".to_owned()).spawn(move || {
        let done = work();
        drop(turn);
        drop(tell.send(done));
    })?;
    match tokio::time::timeout(limit, told).await {
        Ok(done) => done.map_err(io::Error::other)?,
        Err(_elapsed) => Err(hangs()),
    }
}

fn hangs() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the folder does not answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_hangs_costs_one_thread() {
        let (patience, shortly) = (Patience::default(), Duration::from_millis(20));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let hanging = patience.within(shortly, move || held.recv().map_err(io::Error::other)).await;
        assert_eq!(hanging.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // Nothing is begun that could hang as well.
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let also = tell.clone();
        let next = patience.within(shortly, move || tell.send(()).map_err(io::Error::other)).await;
        assert_eq!(next.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let next = patience.at_once(move || also.send(()).map_err(io::Error::other)).await;
        assert_eq!(next.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(told.try_recv().is_err());
        drop(release);
        patience.bounded(|| Ok(())).await.unwrap();
    }
}
