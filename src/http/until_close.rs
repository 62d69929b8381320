//! Answers of unknown length for peers of HTTP/1.0, which know no chunks (RFC 9112, 6.1): they end with the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::{ConnectionType, Version};

/// Whether a connection's end is the end of an answer. One that breaks off must not end like one that is complete.
#[derive(Debug, Clone, Default)]
pub(crate) struct UntilClose(Arc<AtomicBool>);

impl UntilClose {
    /// Whether what was written so far would pass for complete.
    pub(crate) fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The answer, if there was one, is complete.
    pub(crate) fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Lets a body of unknown length end with the connection where the peer would not understand chunks.
pub(super) fn close_instead_of_chunks(response: &mut ServiceResponse<BoxBody>) {
    if response.request().version() >= Version::HTTP_11 || response.response().body().size() != BodySize::Stream {
        return;
    }
    if let Some(UntilClose(open)) = response.request().conn_data() {
        open.store(true, Ordering::Relaxed);
    }
    let head = response.response_mut().head_mut();
    head.no_chunking(true);
    head.set_connection_type(ConnectionType::Close);
}
