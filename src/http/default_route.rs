//! The response where no route matches: 405 if another method would, else 404.

use std::collections::HashSet;

use actix_web::dev::ResourceDef;
use actix_web::{HttpRequest, HttpResponse, web};
use utoipa::openapi::OpenApi;

use crate::error::{Code, Error};

/// Every documented path.
pub(crate) struct KnownRoutes {
    methods: Vec<(ResourceDef, Vec<&'static str>)>,
    /// Paths without parameters.
    plain: HashSet<String>,
}

impl KnownRoutes {
    pub(crate) fn of(description: &OpenApi) -> Self {
        let documented = description.paths.paths.iter().map(|(path, item)| {
            let methods = [
                ("GET", item.get.is_some()),
                ("HEAD", item.get.is_some()),
                ("POST", item.post.is_some()),
                ("PUT", item.put.is_some()),
                ("PATCH", item.patch.is_some()),
                ("DELETE", item.delete.is_some()),
            ];
            let methods = methods.into_iter().filter(|(_, known)| *known).map(|(method, _)| method).collect();
            (ResourceDef::new(path.as_str()), methods)
        });
        let plain = description.paths.paths.keys().filter(|path| !path.contains('{')).cloned();
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
