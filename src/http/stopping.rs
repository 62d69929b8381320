//! What a copy of the service says before it stops: that connections to it end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::HttpResponse;
use actix_web::body::BoxBody;
use actix_web::http::ConnectionType;

/// Whether this copy is about to stop: it still serves, and is not ready any more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stopping(Arc<AtomicBool>);

impl Stopping {
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Lets a connection end with this answer: a caller that kept it could write the next request into it just when the copy is
/// gone, and would not know what became of that.
pub(super) fn close_with(answer: &mut HttpResponse<BoxBody>) {
    answer.head_mut().set_connection_type(ConnectionType::Close);
}
