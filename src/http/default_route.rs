//! The response where no route matches: 405 if another method would, else 404.

use std::collections::HashSet;

use actix_web::dev::ResourceDef;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::Value;

use crate::error::{Code, Error};

/// Every documented path.
pub(crate) struct KnownRoutes {
    methods: Vec<(ResourceDef, Vec<&'static str>)>,
    /// Paths without parameters.
    plain: HashSet<String>,
}

impl KnownRoutes {
    pub(crate) fn of(description: &Value) -> Self {
        let paths = || description["paths"].as_object().into_iter().flatten();
        let documented = paths().map(|(path, item)| {
            let methods = [
                ("GET", "get"),
                ("HEAD", "get"),
                ("POST", "post"),
                ("PUT", "put"),
                ("PATCH", "patch"),
                ("DELETE", "delete"),
            ];
            let known = methods.into_iter().filter(|(_, name)| item.get(name).is_some());
            (ResourceDef::new(path.as_str()), known.map(|(method, _)| method).collect())
        });
        let plain = paths().map(|(path, _)| path).filter(|path| !path.contains('{')).cloned();
        Self { methods: documented.collect(), plain: plain.collect() }
    }

    /// Whether a path has no parameters, and so is the pattern of its route.
    pub(crate) fn is_plain(&self, path: &str) -> bool {
        self.plain.contains(path)
    }

    fn methods(&self, path: &str) -> Vec<&'static str> {
        self.methods
            .iter()
            .filter(|(known, _)| known.is_match(path))
            .flat_map(|(_, methods)| methods)
            .copied()
            .collect()
    }
}

/// The default service: answers 404 or 405.
pub(crate) async fn refuse(request: HttpRequest, known: web::Data<KnownRoutes>) -> HttpResponse {
    let methods = known.methods(request.path());
    if methods.is_empty() {
        return HttpResponse::from_error(Error::new(Code::RouteNotFound));
    }
    HttpResponse::from_error(Error::new(Code::MethodNotAllowed).allow(methods.join(", ")))
}
