//! Who asks is judged before what is asked.
//!
//! actix polls the extractors of a handler side by side, and the first error is the answer. A client has to be loaded, so
//! any other error would win: told to strangers, and for a client without the scope nothing would be on record. So an
//! operation with a [`super::Caller`] takes its body, and says what else is wrong, when its caller was judged. All
//! extractors exist before one of them is polled: the order of a handler's parameters decides nothing about that.

use std::future::{Ready, ready};

use actix_web::{HttpMessage, HttpRequest};
use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, Shared};
use tokio::sync::oneshot;

use crate::error::Error;

/// Set in the request of an operation with a caller.
#[derive(Clone)]
struct Turn(Shared<oneshot::Receiver<()>>);

/// The judgement of a caller, for which everything else waits.
pub(super) struct Judgement(oneshot::Sender<()>);

impl Judgement {
    /// Begins it, before any extractor is polled.
    pub(super) fn begin(request: &HttpRequest) -> Self {
        let (sender, receiver) = oneshot::channel();
        request.extensions_mut().insert(Turn(receiver.shared()));
        Self(sender)
    }

    /// The caller may call. Without it nothing else has its turn, and the caller's error is the answer.
    pub(super) fn pass(self) {
        let _nobody_waits = self.0.send(());
    }
}

/// Waits until the caller was judged, where the operation has one.
///
/// # Errors
/// `internal` for a caller who did not pass, whose own error is the answer.
pub(super) async fn turn(request: &HttpRequest) -> Result<(), Error> {
    let turn = request.extensions().get::<Turn>().cloned();
    let Some(Turn(passed)) = turn else { return Ok(()) };
    passed.await.map_err(|_dropped| Error::internal("the caller did not pass"))
}

/// The outcome of an extractor whose error waits for its turn.
pub(super) type InTurn<T> = Either<Ready<Result<T, Error>>, LocalBoxFuture<'static, Result<T, Error>>>;

/// What was read of the request's head; an error in its turn.
pub(super) fn in_turn<T: 'static>(request: &HttpRequest, outcome: Result<T, Error>) -> InTurn<T> {
    let error = match outcome {
        Ok(value) => return Either::Left(ready(Ok(value))),
        Err(error) => error,
    };
    let request = request.clone();
    Either::Right(Box::pin(async move {
        turn(&request).await?;
        Err(error)
    }))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::error::Code;

    #[test]
    fn an_error_waits_for_the_judgement_whichever_parameter_comes_first() {
        let request = TestRequest::default().to_http_request();
        let mut read = in_turn::<()>(&request, Err(Code::InvalidHeader.into()));
        let judgement = Judgement::begin(&request);
        assert!((&mut read).now_or_never().is_none());
        judgement.pass();
        assert_eq!(read.now_or_never().unwrap().unwrap_err().code(), Code::InvalidHeader);
    }

    #[test]
    fn where_nobody_is_judged_nothing_waits() {
        let request = TestRequest::default().to_http_request();
        let read = in_turn::<()>(&request, Err(Code::InvalidHeader.into()));
        assert_eq!(read.now_or_never().unwrap().unwrap_err().code(), Code::InvalidHeader);
    }
}
