//! The API's own description (OpenAPI 3.1), made from the table of routes.

use axum::Json;
use serde_json::{Map, Value, json};

/// What there is to say of a path.
pub(crate) struct Description {
    pub(crate) path: &'static str,
    /// Its methods, with a line about each.
    pub(crate) methods: &'static [(&'static str, &'static str)],
    /// Open to everybody.
    pub(crate) public: bool,
}

/// The document about these paths.
pub(crate) fn document<'a>(routes: impl IntoIterator<Item = &'a Description>) -> Json<Value> {
    let mut paths = Map::new();
    for route in routes {
        let parameters: Vec<Value> = route
            .path
            .split('/')
            .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .collect();
        let mut methods = Map::new();
        for (method, about) in route.methods {
            let mut operation = json!({ "summary": about, "parameters": parameters, "responses": {
                "2XX": { "description": "Success" },
                "4XX": { "description": "`{\"detail\": …}`: a sentence, or for 422 a list of places with messages" },
            } });
            if route.public {
                operation["security"] = json!([]);
            }
            methods.insert((*method).into(), operation);
        }
        paths.insert(route.path.into(), methods.into());
    }
    Json(json!({
        "openapi": "3.1.0",
        "info": { "title": "airlock", "version": env!("CARGO_PKG_VERSION"),
            "description": "Workflows and connectors as the public Python client speaks them; airlock's own under /v1/airlock." },
        "components": { "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } } },
        "security": [{ "key": [] }],
        "paths": paths,
    }))
}
