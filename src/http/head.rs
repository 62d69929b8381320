//! `HEAD` wherever `GET` is (RFC 9110, 9.3.2).

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use bytes::Bytes;

/// The size of a body, without the body. actix sends none in answer to a HEAD, but would read it to its end.
struct Unsent(BodySize);

impl MessageBody for Unsent {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(None)
    }
}

/// Makes a HEAD a GET; whether it was one.
pub(super) fn take_head(request: &mut ServiceRequest) -> bool {
    let is_head = request.method() == Method::HEAD;
    if is_head {
        request.head_mut().method = Method::GET;
    }
    is_head
}

/// The answer to a HEAD: that of the GET, without its body.
pub(super) fn without_body(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    response.map_body(|_, body| BoxBody::new(Unsent(body.size())))
}

/// Answers a HEAD as the GET would be answered, without its body. Where [`super::surround`] stands, it does that.
pub(crate) async fn head_as_get(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let is_head = take_head(&mut request);
    let response = next.call(request).await?.map_into_boxed_body();
    Ok(if is_head { without_body(response) } else { response })
}
