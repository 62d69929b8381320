//! What clients send to the endpoints of OAuth: introspection (RFC 7662) and revocation (RFC 7009).

use std::borrow::Cow;

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;
use url::form_urlencoded;

use super::body::read_form;
use super::caller::Needs;
use super::{Caller, PresentedKey};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::error::{Code, Error};

/// A token, and the credentials of the client that sends it: in the header, or in the form (`client_secret_post`).
///
/// Other parameters of the form are ignored, as OAuth requires, but none may be there twice (RFC 6749, 3.2). No message
/// repeats what the form says.
pub(crate) struct TokenRequest<S> {
    /// The credentials, which are not checked yet.
    pub presented: PresentedKey<S>,
    /// The token. What is wrong with the form is told to authenticated clients only.
    pub token: Result<String, Error>,
}

impl<S: Needs> TokenRequest<S> {
    /// Authenticates the client, and then looks at the form.
    ///
    /// # Errors
    /// `unauthenticated`, `rate_limited`, `insufficient_scope`, or what is wrong with the form.
    pub(crate) async fn authenticate(self, cx: &Context, now: Timestamp) -> Result<(Caller<S>, String), Error> {
        let caller = self.presented.caller(cx, now).await?;
        Ok((caller, self.token?))
    }
}

/// The parameters that mean something here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parameters {
    token: Vec<String>,
    client_id: Vec<String>,
    client_secret: Vec<String>,
    /// Whether another parameter is there twice.
    repeats: bool,
}

impl Parameters {
    fn of(form: &[u8]) -> Self {
        let mut parameters = Self::default();
        let mut others: Vec<Cow<'_, str>> = Vec::new();
        let text = lossy(form);
        // Bytes that are no UTF-8 are replaced, as in decoded text.
        for (name, value) in text.split('&').filter_map(pair) {
            let (values, may_be_empty) = match &*name {
                "token" => (&mut parameters.token, true),
                "client_id" => (&mut parameters.client_id, false),
                "client_secret" => (&mut parameters.client_secret, false),
                _ => {
                    if !(name.is_empty() || value.is_empty()) {
                        others.push(name);
                    }
                    continue;
                }
            };
            // A parameter without a value counts as left out (RFC 6749, 3.1).
            if may_be_empty || !value.is_empty() {
                values.push(value.into_owned());
            }
        }
        let all = others.len();
        others.sort_unstable();
        others.dedup();
        parameters.repeats = others.len() < all;
        parameters
    }
}

/// A form as text. Almost every one is ASCII, and checked as a whole.
fn lossy(form: &[u8]) -> Cow<'_, str> {
    str::from_utf8(form).map_or_else(|_invalid| String::from_utf8_lossy(form), Cow::Borrowed)
}

/// A parameter of a form. Tokens are long, and need no escapes.
fn pair(text: &str) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    if memchr::memchr2(b'%', b'+', text.as_bytes()).is_some() {
        return form_urlencoded::parse(text.as_bytes()).next();
    }
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    Some((name.into(), value.into()))
}

/// The value of a parameter that may be given once.
fn once(name: &str, mut values: Vec<String>, code: Code) -> Result<Option<String>, Error> {
    if values.len() > 1 {
        return Err(Error::new(code).detail(format!("{name} must be given once")));
    }
    Ok(values.pop())
}

fn invalid(detail: &'static str) -> Error {
    Error::new(Code::InvalidRequest).detail(detail)
}

impl<S: Needs> FromRequest for TokenRequest<S> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let payload = payload.take();
        Box::pin(async move {
            let form = read_form(&request, payload).await;
            let headers = request.headers().get_all(AUTHORIZATION).count();
            if headers > 1 {
                return Err(invalid("the Authorization header must be given once"));
            }
            let (parameters, unreadable) = match form {
                Ok(bytes) => (Parameters::of(&bytes), None),
                // The credentials may stand in the form, which can come again.
                Err(error) if error.code() == Code::Unavailable => return Err(error),
                Err(error) => (Parameters::default(), Some(error)),
            };
            let client_id = once("client_id", parameters.client_id, Code::InvalidRequest)?;
            let presented = match (once("client_secret", parameters.client_secret, Code::InvalidRequest)?, headers) {
                (Some(_), 1..) => {
                    return Err(invalid("credentials must be in the Authorization header or in the form, not in both"));
                }
                (Some(secret), _) => {
                    let client_id = client_id.ok_or_else(|| invalid("client_secret needs client_id beside it"))?;
                    PresentedKey::of_form(&request, client_id, &secret)?
                }
                (None, _) => {
                    let presented = PresentedKey::of(&request)?;
                    if client_id.is_some_and(|id| id != presented.client_id().as_str()) {
                        return Err(invalid("client_id names another client than the Authorization header"));
                    }
                    presented
                }
            };
            let token = match unreadable {
                Some(error) => Err(error),
                None if parameters.repeats => {
                    Err(Error::new(Code::InvalidBody).detail("each parameter must be given once"))
                }
                None => once("token", parameters.token, Code::InvalidBody)
                    .and_then(|token| token.ok_or_else(|| Error::new(Code::InvalidBody).detail("token is missing"))),
            };
            Ok(Self { presented, token })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_once_and_empty_credentials_are_none() {
        let text = |text: &str| vec![text.to_owned()];
        for (form, parameters) in [
            ("", Parameters::default()),
            ("&&colour=red&token", Parameters { token: text(""), ..Parameters::default() }),
            ("token=a%2Eb%252E&x=1", Parameters { token: text("a.b%2E"), ..Parameters::default() }),
            ("client_id=&client_secret=&token=x", Parameters { token: text("x"), ..Parameters::default() }),
            (
                "client_secret=a+b&client_id=c&client_secret=d",
                Parameters {
                    client_id: text("c"),
                    client_secret: vec!["a b".to_owned(), "d".to_owned()],
                    ..Parameters::default()
                },
            ),
            ("hint=a&hint=b&token=x", Parameters { token: text("x"), repeats: true, ..Parameters::default() }),
            ("hint=&hint=b&h%69nt=&token=x", Parameters { token: text("x"), ..Parameters::default() }),
            ("hint=a&h%69nt=b", Parameters { repeats: true, ..Parameters::default() }),
        ] {
            assert_eq!(Parameters::of(form.as_bytes()), parameters, "{form}");
        }
    }
}
