//! Bodies in slices.
//!
//! actix copies each chunk of a body into the buffer of the connection, and a body that is one large buffer is one
//! chunk. In slices, a connection whose peer does not read holds a slice of it, and the buffer stays shared.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

/// Largest chunk, in bytes.
pub(crate) const SLICE: usize = 16 * 1024;

/// A body that hands out what another one holds, in slices.
struct Sliced {
    body: BoxBody,
    size: BodySize,
    rest: Bytes,
}

/// The body in slices, if it may have chunks that are larger.
pub(super) fn sliced(body: BoxBody) -> BoxBody {
    match body.size() {
        BodySize::Sized(length) if length > SLICE as u64 => {}
        BodySize::Stream => {}
        BodySize::None | BodySize::Sized(_) => return body,
    }
    BoxBody::new(Sliced { size: body.size(), body, rest: Bytes::new() })
}

impl MessageBody for Sliced {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.size
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.rest.is_empty() {
            match ready!(self.body.as_pin_mut().poll_next(context)) {
                Some(Ok(chunk)) => self.rest = chunk,
                end => return Poll::Ready(end),
            }
        }
        let length = self.rest.len().min(SLICE);
        Poll::Ready(Some(Ok(self.rest.split_to(length))))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use actix_web::body::{BodyStream, to_bytes};
    use futures_util::stream;

    use super::*;

    async fn chunks(mut body: BoxBody) -> Vec<usize> {
        let mut lengths = Vec::new();
        while let Some(chunk) = std::future::poll_fn(|context| body.as_pin_mut().poll_next(context)).await {
            lengths.push(chunk.unwrap().len());
        }
        lengths
    }

    #[actix_web::test]
    async fn a_large_body_comes_in_slices_and_is_the_same() {
        let text: Bytes = (0..40_000_u32).flat_map(u32::to_le_bytes).collect();
        let body = || sliced(BoxBody::new(text.clone()));
        assert_eq!(body().size(), BodySize::Sized(160_000));
        assert!(to_bytes(body()).await.unwrap() == text);
        let lengths = chunks(body()).await;
        assert!(lengths.len() == 10 && lengths.iter().all(|length| *length <= SLICE), "{lengths:?}");
    }

    #[actix_web::test]
    async fn a_stream_comes_in_slices_and_a_small_body_as_it_is() {
        let stream =
            stream::iter([3, SLICE, 2 * SLICE + 1].map(|length| Ok::<_, Infallible>(Bytes::from(vec![0; length]))));
        assert_eq!(chunks(sliced(BoxBody::new(BodyStream::new(stream)))).await, [3, SLICE, SLICE, SLICE, 1]);
        assert!(sliced(BoxBody::new("small")).try_into_bytes().is_ok());
    }
}
