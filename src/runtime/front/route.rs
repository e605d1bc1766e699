//! The routes there are.

use http::Method;

use crate::runtime::request::head::Operation;

/// A route of the OpenAI API.
#[derive(Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// A request for a backend.
    Infer(Operation),
    /// `GET /v1/models`.
    Models,
    /// `GET /v1/models/{id}`, as it was written: clients encode the slash of a name.
    Model(&'a str),
}

/// There is no such route.
#[derive(Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No such path.
    Path,
    /// The path wants another method.
    Method(&'static str),
}

impl<'a> Route<'a> {
    /// Finds the route.
    pub fn find(method: &Method, path: &'a str) -> Result<Self, NoRoute> {
        let (route, wanted, name) = match path {
            "/v1/chat/completions" => (Self::Infer(Operation::Chat), Method::POST, "POST"),
            "/v1/completions" => (Self::Infer(Operation::Completions), Method::POST, "POST"),
            "/v1/embeddings" => (Self::Infer(Operation::Embeddings), Method::POST, "POST"),
            "/v1/models" => (Self::Models, Method::GET, "GET"),
            _ => match path.strip_prefix("/v1/models/") {
                Some(id) if !id.is_empty() => (Self::Model(id), Method::GET, "GET"),
                _ => return Err(NoRoute::Path),
            },
        };
        if *method == wanted {
            Ok(route)
        } else {
            Err(NoRoute::Method(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_found_and_others_refused() {
        assert_eq!(
            Route::find(&Method::POST, "/v1/chat/completions"),
            Ok(Route::Infer(Operation::Chat))
        );
        assert_eq!(Route::find(&Method::GET, "/v1/models/a/b"), Ok(Route::Model("a/b")));
        assert_eq!(
            Route::find(&Method::GET, "/v1/embeddings"),
            Err(NoRoute::Method("POST"))
        );
        for path in [
            "/",
            "/v1",
            "/v1/models/",
            "/v1/chat/completions/",
            "/metrics",
            "/v1/responses",
        ] {
            assert_eq!(Route::find(&Method::GET, path), Err(NoRoute::Path), "{path}");
        }
    }
}
