//! The API's own description (OpenAPI 3.1), made from the table of routes.

use axum::Json;
use serde_json::{Map, Value, json};

use crate::parameters::{Parameter, Takes};

/// What there is to say of a path.
pub(crate) struct Description {
    pub(crate) path: &'static str,
    /// Its methods, in small letters.
    pub(crate) methods: &'static [Operation],
    /// Open to everybody.
    pub(crate) public: bool,
}

/// What there is to say of a method.
pub(crate) struct Operation {
    pub(crate) method: &'static str,
    pub(crate) about: &'static str,
    /// What it takes in the query.
    pub(crate) query: Takes,
}

impl Description {
    /// What a method takes in the query; the method is written as in a request.
    pub(crate) fn takes(&self, method: &str) -> Takes {
        let method = if method == "HEAD" { "get" } else { method };
        let found = self.methods.iter().find(|operation| operation.method.eq_ignore_ascii_case(method));
        found.map_or(Takes::NOTHING, |operation| operation.query)
    }
}

fn in_query(parameter: &Parameter) -> Value {
    let (name, about, schema) = (parameter.name, parameter.about.trim(), (parameter.schema)());
    json!({ "name": name, "in": "query", "required": false, "description": about, "schema": schema })
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
        for Operation { method, about, query } in route.methods {
            let parameters: Vec<Value> =
                parameters.iter().cloned().chain(query.list.iter().map(in_query)).collect();
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
