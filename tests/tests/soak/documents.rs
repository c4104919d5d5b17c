//! What attackers hand in: schemas that cost more than they look, and components that take long to compile.

use serde_json::{Map, Value, json};

/// A chain of so many references, each to the next; `place` is where they stand.
pub fn chain(length: usize, place: &str) -> Map<String, Value> {
    let link = |n: usize| {
        let next = json!({ "$ref": format!("{place}a{}", n + 1) });
        (format!("a{n}"), json!({ "allOf": [next, { "minProperties": 0 }] }))
    };
    (0..length).map(link).chain([(format!("a{length}"), json!({ "type": "object" }))]).collect()
}

/// Alternatives of which each leads to two more, so many deep.
pub fn doubled(depth: usize, place: &str) -> Map<String, Value> {
    let link = |n: usize| {
        let next = json!({ "$ref": format!("{place}a{}", n + 1) });
        (format!("a{n}"), json!({ "anyOf": [next.clone(), next] }))
    };
    (0..depth).map(link).chain([(format!("a{depth}"), json!({ "required": ["x"] }))]).collect()
}

/// A tool's schema with definitions.
pub fn of_tool(definitions: Map<String, Value>) -> Value {
    json!({ "type": "object", "allOf": [{ "$ref": "#/$defs/a0" }], "$defs": definitions })
}

/// An OpenAPI document whose one operation takes such a body.
pub fn openapi(server: &str, definitions: Map<String, Value>) -> Value {
    let body = json!({ "type": "object", "properties": { "a": { "$ref": "#/components/schemas/a0" } } });
    json!({
        "openapi": "3.1.0", "info": { "title": "t", "version": "1" }, "servers": [{ "url": server }],
        "paths": { "/x": { "post": {
            "operationId": "x", "requestBody": { "content": { "application/json": { "schema": body } } },
            "responses": { "200": { "description": "x" } },
        } } },
        "components": { "schemas": definitions },
    })
}

/// A schedule whose every time is skipped.
pub fn never() -> Value {
    let all = json!([{
        "second": [{ "start": 0, "end": 59 }], "minute": [{ "start": 0, "end": 59 }], "hour": [{ "start": 0, "end": 23 }],
    }]);
    json!({
        "input": { "name": "x" }, "cron_expressions": vec!["* * * * *"; 100],
        "skip": vec![all[0].clone(); 20],
    })
}
