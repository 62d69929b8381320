//! What is answered where no route matches: 405 where another method would, else 404.

use actix_web::dev::ResourceDef;
use actix_web::{HttpRequest, HttpResponse, web};
use utoipa::openapi::OpenApi;

use crate::error::{Code, Error};

/// The methods of every documented path, and of the pages.
pub(super) struct KnownRoutes(Vec<(ResourceDef, Vec<&'static str>)>);

impl KnownRoutes {
    pub(super) fn of(description: &OpenApi) -> Self {
        let documented = description.paths.paths.iter().map(|(path, item)| {
            let methods = [
                ("GET", item.get.is_some()),
                ("POST", item.post.is_some()),
                ("PUT", item.put.is_some()),
                ("PATCH", item.patch.is_some()),
                ("DELETE", item.delete.is_some()),
            ];
            let methods = methods.into_iter().filter(|(_, known)| *known).map(|(method, _)| method).collect();
            (ResourceDef::new(path.as_str()), methods)
        });
        Self(documented.collect())
    }

    fn methods(&self, path: &str) -> Vec<&'static str> {
        self.0.iter().filter(|(known, _)| known.is_match(path)).flat_map(|(_, methods)| methods).copied().collect()
    }
}

/// The default service.
pub(super) async fn refuse(request: HttpRequest, known: web::Data<KnownRoutes>) -> HttpResponse {
    let methods = known.methods(request.path());
    if methods.is_empty() {
        return HttpResponse::from_error(Error::new(Code::RouteNotFound));
    }
    HttpResponse::from_error(Error::new(Code::MethodNotAllowed).allow(methods.join(", ")))
}
