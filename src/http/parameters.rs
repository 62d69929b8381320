//! Parameters of the path and of the query, as the API description states them.

use std::collections::HashMap;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::contract::Contract;
use super::turn::{InTurn, in_turn};
use crate::error::{Code, Error};

/// The parameters of the path. Every one has a syntax, so that no other text goes on from here.
pub(crate) struct Path<T>(T);

impl<T> Path<T> {
    pub(crate) fn into_inner(self) -> T {
        self.0
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Path<T> {
    type Error = Error;
    type Future = InTurn<Self>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let read = Contract::operation(request).and_then(|operation| {
            operation.check_path(&path_texts(request)?)?;
            decoded(request).map(Self)
        });
        in_turn(request, read)
    }
}

fn decoded<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Error> {
    let read = web::Path::<T>::from_request(request, &mut Payload::None).into_inner();
    read.map(web::Path::into_inner).map_err(|_invalid| Code::InvalidId.into())
}

/// The parameters of the query, each at most once.
pub(crate) struct Query<T>(T);

impl<T> Query<T> {
    pub(crate) fn into_inner(self) -> T {
        self.0
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Query<T> {
    type Error = Error;
    type Future = InTurn<Self>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let values = request.extensions_mut().remove::<Checked>();
        let unchecked = || Error::internal(format_args!("the query of {} is not described", request.path()));
        let read = require_described_query(request).and_then(|()| values.ok_or_else(unchecked));
        let read = read.and_then(|Checked(values)| {
            T::deserialize(values).map(Self).map_err(|error| {
                tracing::warn!(error.cause = %error, "a query is as described, and not taken");
                Error::new(Code::InvalidQuery)
            })
        });
        in_turn(request, read)
    }
}

/// The values of a query that is as described.
struct Checked(Value);

/// Checks the query of every call below `/v1`, those without parameters included: a caller who adds `dry_run` to an order
/// that takes it in the body means it. The handler that reads the query finds its values. Elsewhere no call has
/// parameters, and what a probe or a cache adds is ignored.
///
/// Where a caller is judged first, what is wrong is only noted, for [`require_described_query`].
///
/// # Errors
/// `invalid_query` with every parameter that is not as described.
pub(super) fn check_query(request: &HttpRequest) -> Result<(), Error> {
    let described = request.path().starts_with("/v1/").then(|| Contract::find(request)).flatten();
    let Some(operation) = described else { return Ok(()) };
    match operation.read_query(request.query_string()) {
        Ok(values) if operation.has_query() => drop(request.extensions_mut().insert(Checked(values))),
        Ok(_none) => {}
        Err(error) if operation.has_caller() => drop(request.extensions_mut().insert(Undescribed(error))),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// What is wrong with a query, until the caller was judged.
struct Undescribed(Error);

/// Refuses what [`check_query`] noted.
///
/// # Errors
/// `invalid_query` with every parameter that is not as described.
pub(super) fn require_described_query(request: &HttpRequest) -> Result<(), Error> {
    let extensions = request.extensions();
    extensions.get::<Undescribed>().map_or(Ok(()), |Undescribed(error)| Err(error.clone()))
}

/// The decoded parameters of the path, by name.
pub(super) type Texts = HashMap<String, String>;

/// The decoded parameters of the path, by name.
///
/// # Errors
/// `invalid_id`
pub(super) fn path_texts(request: &HttpRequest) -> Result<Texts, Error> {
    let texts: Vec<String> = decoded(request)?;
    Ok(request.match_info().iter().map(|(name, _)| name.to_owned()).zip(texts).collect())
}

/// What the path names first, as the handler reads it; as the router has it where that is no text.
pub(super) fn named_in_path(request: &HttpRequest) -> Option<String> {
    let (_, raw) = request.match_info().iter().next()?;
    let texts = decoded::<Vec<String>>(request).ok();
    Some(texts.and_then(|texts| texts.into_iter().next()).unwrap_or_else(|| raw.to_owned()))
}
