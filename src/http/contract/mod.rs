//! What the API description demands of a request. The extractors check every path, query and JSON body against it, so
//! that the description is true, and errors are told in its words.

mod shape;

use std::collections::HashMap;

use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, web};
use serde_json::{Map, Value};

use self::shape::{Checked, Place, Shape};
use crate::error::{Code, Error};

/// Every operation, by the pattern of its route.
#[derive(Debug, Default)]
pub(crate) struct Contract {
    operations: HashMap<String, Vec<Operation>>,
    /// Whether any operation is deprecated, so that no request pays for asking where none is.
    deprecates: bool,
}

/// What one operation takes.
#[derive(Debug)]
pub(crate) struct Operation {
    /// The pattern of its route.
    route: String,
    method: Method,
    path: Vec<Parameter>,
    query: Vec<Parameter>,
    body: Option<Shape>,
    /// Whether the body may be left out.
    may_omit_body: bool,
    /// Whether its `Authorization` says who asks, and so whether a [`super::Caller`] is judged before all else.
    has_caller: bool,
    /// What a client is refused with that may not act there, or does not see what is there.
    beyond_reach: Code,
    /// Headers of each of its answers that tell clients to leave it.
    deprecation: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug)]
struct Parameter {
    name: String,
    required: bool,
    shape: Shape,
}

impl Contract {
    /// The contract of a description.
    ///
    /// # Errors
    /// Where the description holds what is not understood: a bug that every test would detect.
    pub(crate) fn of(description: &Value) -> Result<Self, String> {
        let mut operations = HashMap::new();
        for (path, item) in members(&description["paths"]) {
            let of_path = members(item).map(|(method, operation)| Operation::of(description, path, method, operation));
            operations.insert(path.clone(), of_path.collect::<Result<Vec<_>, String>>()?);
        }
        let deprecates = operations.values().flatten().any(|operation| !operation.deprecation.is_empty());
        Ok(Self { operations, deprecates })
    }

    /// The operation of a method and a route.
    #[cfg(test)]
    pub(super) fn of_route(&self, method: &str, route: &str) -> Option<&Operation> {
        self.operations.get(route)?.iter().find(|operation| operation.method.as_str() == method)
    }

    /// The operation that a request was routed to.
    ///
    /// # Errors
    /// `internal` for a route that is not described.
    pub(super) fn operation(request: &HttpRequest) -> Result<&Operation, Error> {
        Self::find(request).ok_or_else(|| Error::internal(format_args!("{} is not described", request.path())))
    }

    /// The operation that a request is for; `None` for pages, which are not described, and where there is no route.
    pub(super) fn find(request: &HttpRequest) -> Option<&Operation> {
        let contract = request.app_data::<web::Data<Self>>()?;
        // Finding the pattern costs more than looking the path up, and most paths have no parameters.
        let operations = match contract.operations.get(request.path()) {
            Some(operations) => Some(operations),
            None => request.match_pattern().and_then(|pattern| contract.operations.get(&pattern)),
        };
        let asked = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        operations?.iter().find(|one| one.method == asked)
    }
}

impl Operation {
    /// The headers of an answer to this request that tell its client to leave the operation.
    pub(super) fn deprecation(request: &HttpRequest) -> &[(HeaderName, HeaderValue)] {
        let deprecates = request.app_data::<web::Data<Contract>>().is_some_and(|contract| contract.deprecates);
        let operation = deprecates.then(|| Contract::find(request)).flatten();
        operation.map_or(&[], |operation| operation.deprecation.as_slice())
    }

    /// How the operation of a request refuses what is out of a client's reach. Where it refuses nothing for that, the call is
    /// to be made again.
    pub(super) fn beyond_reach(request: &HttpRequest) -> Code {
        Contract::find(request).map_or(Code::Unavailable, |operation| operation.beyond_reach)
    }

    /// The pattern of its route.
    pub(super) fn route(&self) -> &str {
        &self.route
    }

    fn of(description: &Value, route: &str, method: &str, operation: &Value) -> Result<Self, String> {
        let parameters = |place: &str| -> Result<Vec<Parameter>, String> {
            let all = operation["parameters"].as_array().into_iter().flatten();
            all.filter(|one| one["in"] == place).map(|one| Parameter::of(description, one)).collect()
        };
        let body = operation.pointer("/requestBody/content/application~1json/schema");
        // OAuth's forms may hold the credentials.
        let is_form = operation.pointer("/requestBody/content/application~1x-www-form-urlencoded").is_some();
        let keys = operation["security"].as_array().into_iter().flatten();
        let has_caller = !is_form && keys.into_iter().any(|key| key.get("bearer").is_some());
        let deprecation = members(&operation["x-deprecation"]).map(|(name, value)| {
            let value = HeaderValue::from_str(value.as_str().unwrap_or_default()).map_err(|error| error.to_string())?;
            Ok((HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?, value))
        });
        let refuses = |code: &Code| {
            members(&operation["responses"]).any(|(_, response)| {
                let pointer = response["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
                let response = pointer.and_then(|pointer| description.pointer(pointer)).unwrap_or(response);
                let examples = response.pointer("/content/application~1problem+json/examples");
                examples.is_some_and(|examples| examples.get(code.slug()).is_some())
            })
        };
        let may_omit_body =
            operation.get("requestBody").is_some_and(|body| body.get("required") != Some(&Value::Bool(true)));
        let beyond_reach = [Code::ClientNotPermitted, Code::NotFound].into_iter().find(refuses);
        Ok(Self {
            beyond_reach: beyond_reach.unwrap_or(Code::Unavailable),
            route: route.to_owned(),
            method: method.to_uppercase().parse().map_err(|_invalid| format!("{method} is no method"))?,
            path: parameters("path")?,
            query: parameters("query")?,
            body: body.map(|body| Shape::of(description, body)).transpose()?,
            may_omit_body,
            has_caller,
            deprecation: deprecation.collect::<Result<_, String>>()?,
        })
    }

    pub(super) const fn has_caller(&self) -> bool {
        self.has_caller
    }

    pub(super) const fn has_query(&self) -> bool {
        !self.query.is_empty()
    }

    /// Checks the decoded parameters of the path.
    ///
    /// # Errors
    /// `invalid_id` with every one that is not as described.
    pub(super) fn check_path(&self, texts: &HashMap<String, String>) -> Result<(), Error> {
        let mut checked = Checked::in_a(Place::Path);
        for parameter in &self.path {
            let text = texts.get(&parameter.name).cloned().unwrap_or_default();
            checked.member(&parameter.name, |checked| parameter.shape.check(&mut Value::String(text), checked));
        }
        checked.finish(Code::InvalidId)
    }

    /// Reads a query: the values of its parameters by name.
    ///
    /// # Errors
    /// `invalid_query` with every parameter that is not as described.
    pub(super) fn read_query(&self, text: &str) -> Result<Value, Error> {
        let mut checked = Checked::in_a(Place::Query);
        let mut values = Map::new();
        for (name, text) in url::form_urlencoded::parse(text.as_bytes()) {
            checked.member(&name, |checked| match self.query.iter().find(|one| one.name == name) {
                None => checked.error("unknown", "is not a parameter of this call"),
                Some(_) if values.contains_key(&*name) => checked.error("duplicate", "is there more than once"),
                Some(parameter) => {
                    let mut value = parameter.shape.value_of(&text);
                    parameter.shape.check(&mut value, checked);
                    values.insert(name.to_string(), value);
                }
            });
        }
        for parameter in self.query.iter().filter(|one| one.required && !values.contains_key(&one.name)) {
            checked.member(&parameter.name, |checked| checked.error("required", "is missing"));
        }
        checked.finish(Code::InvalidQuery)?;
        Ok(Value::Object(values))
    }

    /// Checks a body, and brings it to the form that its type is read from: what is null is absent, whole numbers are
    /// integers, and times are in UTC.
    ///
    /// # Errors
    /// `invalid_body` with every member that is not as described.
    pub(super) fn check_body(&self, body: &mut Value) -> Result<(), Error> {
        let mut checked = Checked::in_a(Place::Body);
        // Some libraries write null for a body that their caller left out.
        if self.may_omit_body && body.is_null() {
            *body = Value::Object(Map::new());
        }
        // Where no body is described, one may have no members.
        self.body.as_ref().unwrap_or(&Shape::Object(Vec::new())).check(body, &mut checked);
        checked.finish(Code::InvalidBody)
    }

    /// A checked body without the members that equal their default.
    pub(super) fn minimal(&self, body: &Value) -> Value {
        let mut body = body.clone();
        if let Some(shape) = &self.body {
            shape.drop_defaults(&mut body);
        }
        body
    }
}

impl Parameter {
    fn of(description: &Value, parameter: &Value) -> Result<Self, String> {
        let name = parameter["name"].as_str().ok_or("a parameter without a name")?.to_owned();
        let shape = Shape::of(description, &parameter["schema"]).map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { name, required: parameter["required"] == true, shape })
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}
