//! Parameters of the path and of the query, as the API description states them.

use std::collections::HashMap;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use serde::de::DeserializeOwned;

use super::contract::Contract;
use crate::error::{Code, Error};

/// The parameters of the path. Every one has a syntax, so that no other text goes on from here.
pub(crate) struct Path<T>(T);

impl<T> Path<T> {
    pub(crate) fn into_inner(self) -> T {
        self.0
    }
}

impl<T: DeserializeOwned> FromRequest for Path<T> {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Contract::operation(request).and_then(|operation| {
            operation.check_path(&path_texts(request)?)?;
            decoded(request).map(Self)
        }))
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

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Contract::operation(request).and_then(|operation| {
            let values = operation.read_query(request.query_string())?;
            T::deserialize(values).map(Self).map_err(|error| {
                tracing::warn!(error.cause = %error, "a query is as described, and not taken");
                Error::new(Code::InvalidQuery)
            })
        }))
    }
}

/// Refuses a query where the call has none: its handler does not read it, and a caller who adds `dry_run` to an order that
/// takes it in the body means it.
///
/// # Errors
/// `invalid_query` with every parameter.
pub(super) fn require_known_query(request: &HttpRequest) -> Result<(), Error> {
    if request.query_string().is_empty() || !request.path().starts_with("/v1/") {
        return Ok(());
    }
    match Contract::operation(request) {
        Ok(operation) if operation.has_no_query() => operation.read_query(request.query_string()).map(drop),
        _ => Ok(()),
    }
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
