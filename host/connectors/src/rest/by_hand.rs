//! Operations that somebody lists, for APIs without a document.
//!
//! ```json
//! [{
//!   "name": "Get customer order",
//!   "description": "One order of a customer",
//!   "method": "GET",
//!   "path": "/clientes/{id}/pedidos/{pedidoId}",
//!   "parameters": [{ "name": "expand", "in": "query", "schema": { "type": "boolean" } }],
//!   "output": { "type": "object" },
//!   "example": { "id": 456 }
//! }]
//! ```
//!
//! Parameters of the path that are not listed are texts or whole numbers, and required. The slug comes from the name. The
//! list is turned into OpenAPI and imported as such; what an import would leave out or repair is an error here, because
//! the one who wrote the list is there to mend it.

use std::collections::BTreeMap;

use airlock_schemas::{Dialect, Refused, Schemas};
use http::HeaderName;
use serde_json::{Map, Value, json};

use super::{
    Operation, Verb, keys,
    openapi::{Importer, body_schema, relocate},
    request::{check_template, is_reserved, names},
    slug,
};
use crate::ConnectorsError;

const MAX_OPERATIONS: usize = 1_000;

const FIELDS: [&str; 10] = [
    "name",
    "description",
    "method",
    "path",
    "parameters",
    "body",
    "content_type",
    "output",
    "example",
    "requires_auth",
];
const PARAMETER_FIELDS: [&str; 5] = ["name", "in", "required", "schema", "description"];

/// Reads a list of operations. Pointers in errors lead into the list.
pub(crate) fn by_hand(value: &Value) -> Result<Vec<Operation>, ConnectorsError> {
    let list = value
        .as_array()
        .ok_or_else(|| ConnectorsError::invalid("", "a list of operations is expected here"))?;
    if list.is_empty() || list.len() > MAX_OPERATIONS {
        let message = format!("1 to {MAX_OPERATIONS} operations are expected here");
        return Err(ConnectorsError::invalid("", message));
    }
    let mut written = Vec::new();
    for (index, item) in list.iter().enumerate() {
        written.push(openapi(item, &format!("/{index}"))?);
    }
    let mut root = json!({ "operations": written.iter().map(|written| &written.source).collect::<Vec<_>>() });
    keys::redact(&mut root);
    let nothing = Map::new();
    let mut importer = Importer::new(&root);
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    let mut operations = Vec::new();
    for (index, Written { verb, path, requires_auth, .. }) in written.into_iter().enumerate() {
        let mut operation =
            importer.operation(verb, &path, &root["operations"][index], &nothing).map_err(|reason| {
                ConnectorsError::invalid(&format!("/{index}"), format!("this cannot be called: {reason}"))
            })?;
        operation.requires_auth = requires_auth;
        if let Some(other) = named.insert(operation.slug.clone(), index) {
            let message = format!("operation {other} of the list is called '{}' as well", operation.slug);
            return Err(ConnectorsError::invalid(&format!("/{index}/name"), message));
        }
        operations.push(operation);
    }
    Ok(operations)
}

/// An operation as OpenAPI has it.
struct Written {
    verb: Verb,
    path: String,
    requires_auth: bool,
    source: Value,
}

fn openapi(item: &Value, place: &str) -> Result<Written, ConnectorsError> {
    let invalid =
        |field: &str, message: String| ConnectorsError::invalid(&format!("{place}{field}"), message);
    let fields = object(item, place, &FIELDS)?;
    let name =
        text(fields, "name", place)?.ok_or_else(|| invalid("/name", "a name is expected here".into()))?;
    if slug::of(name).is_empty() {
        return Err(invalid("/name", "a name needs a letter from a to z or a digit".into()));
    }
    let verb = text(fields, "method", place)?.and_then(Verb::parse).ok_or_else(|| {
        let verbs = Verb::ALL.map(Verb::as_str).join(", ");
        invalid("/method", format!("one of {verbs} is expected here"))
    })?;
    let path = text(fields, "path", place)?.unwrap_or_default();
    check_template(path).map_err(|message| invalid("/path", message))?;
    let number = place.trim_start_matches('/');
    let here = format!("/operations/{number}");

    let mut parameters = Vec::new();
    let listed = fields.get("parameters").unwrap_or(&Value::Null);
    let listed = match listed {
        Value::Null => &Vec::new(),
        Value::Array(listed) => listed,
        _ => return Err(invalid("/parameters", "a list of parameters is expected here".into())),
    };
    for (index, listed) in listed.iter().enumerate() {
        let mut parameter = parameter(listed, path, &format!("{place}/parameters/{index}"))?;
        if let Some(schema) = parameter.get_mut("schema") {
            relocate(schema, &format!("{here}/parameters/{index}/schema"));
        }
        parameters.push(parameter);
    }
    let mut source = json!({ "operationId": name, "summary": name, "parameters": parameters });
    if let Some(description) = text(fields, "description", place)? {
        source["description"] = description.into();
    }
    if let Some(schema) = schema(fields, "body", place)? {
        let media = text(fields, "content_type", place)?.unwrap_or("application/json");
        let mut schema = schema.clone();
        relocate(&mut schema, &body_schema(&here, media));
        let is_required =
            schema.get("required").and_then(Value::as_array).is_some_and(|names| !names.is_empty());
        source["requestBody"] =
            json!({ "required": is_required, "content": { media: { "schema": schema } } });
    } else if fields.contains_key("content_type") {
        return Err(invalid(
            "/content_type",
            "this is the media type of a body, and there is no body".into(),
        ));
    }
    let mut answer = Map::new();
    if let Some(schema) = schema(fields, "output", place)? {
        let mut schema = schema.clone();
        relocate(&mut schema, &format!("{here}/responses/200/content/application~1json/schema"));
        answer.insert("schema".into(), schema);
    }
    if let Some(example) = fields.get("example") {
        answer.insert("example".into(), example.clone());
    }
    if !answer.is_empty() {
        source["responses"] = json!({ "200": { "content": { "application/json": answer } } });
    }
    let requires_auth = flag(fields, "requires_auth", place)?;
    Ok(Written { verb, path: path.to_owned(), requires_auth, source })
}

fn parameter(listed: &Value, path: &str, place: &str) -> Result<Value, ConnectorsError> {
    let invalid =
        |field: &str, message: String| ConnectorsError::invalid(&format!("{place}{field}"), message);
    let fields = object(listed, place, &PARAMETER_FIELDS)?;
    let name = text(fields, "name", place)?.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| invalid("/name", "a name is expected here".into()))?;
    let is_required = flag(fields, "required", place)?;
    let is_host_alone = "the host sets this one: store the key as a credential of the connector instead";
    match text(fields, "in", place)? {
        Some("path") if !names(path).contains(name) => {
            return Err(invalid("/name", format!("the path has no part {{{name}}}")));
        }
        Some("path") if fields.get("required") == Some(&Value::Bool(false)) => {
            return Err(invalid("/required", "a parameter of the path is always required".into()));
        }
        Some("header") if HeaderName::from_bytes(name.as_bytes()).is_err() => {
            return Err(invalid("/name", "this is not the name of a header".into()));
        }
        Some("header") if is_reserved(name) || keys::is_credential(name) => {
            return Err(invalid("/name", is_host_alone.into()));
        }
        Some("query") if keys::is_credential(name) => return Err(invalid("/name", is_host_alone.into())),
        Some("path" | "query" | "header") => {}
        _ => return Err(invalid("/in", "one of path, query, header is expected here".into())),
    }
    let mut parameter = json!({ "name": name, "in": fields["in"], "required": is_required });
    if let Some(schema) = schema(fields, "schema", place)? {
        parameter["schema"] = schema.clone();
    }
    if let Some(description) = text(fields, "description", place)? {
        parameter["description"] = description.into();
    }
    Ok(parameter)
}

fn object<'a>(
    value: &'a Value,
    place: &str,
    known: &[&str],
) -> Result<&'a Map<String, Value>, ConnectorsError> {
    let fields =
        value.as_object().ok_or_else(|| ConnectorsError::invalid(place, "an object is expected here"))?;
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(fields),
        Some(unknown) => {
            let place = format!("{place}/{}", super::document::step(unknown));
            Err(ConnectorsError::invalid(
                &place,
                format!("this is not known here: it may be {}", known.join(", ")),
            ))
        }
    }
}

fn text<'a>(
    fields: &'a Map<String, Value>,
    name: &str,
    place: &str,
) -> Result<Option<&'a str>, ConnectorsError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(ConnectorsError::invalid(&format!("{place}/{name}"), "a text is expected here")),
    }
}

fn flag(fields: &Map<String, Value>, name: &str, place: &str) -> Result<bool, ConnectorsError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => {
            Err(ConnectorsError::invalid(&format!("{place}/{name}"), "true or false is expected here"))
        }
    }
}

/// A JSON Schema. It is checked here, because a mistake in it would silently accept everything.
fn schema<'a>(
    fields: &'a Map<String, Value>,
    name: &str,
    place: &str,
) -> Result<Option<&'a Value>, ConnectorsError> {
    let Some(schema) = fields.get(name).filter(|schema| !schema.is_null()) else { return Ok(None) };
    let refuse = |message: &str| Err(ConnectorsError::invalid(&format!("{place}/{name}"), message));
    if !schema.is_object() {
        return refuse("a JSON Schema (2020-12) is expected here");
    }
    match Schemas::of_process().compile_blocking(schema, Dialect::Declared) {
        Ok(_) => Ok(Some(schema)),
        Err(Refused::Broken { .. }) => refuse("a JSON Schema (2020-12) is expected here"),
        Err(refused) => refuse(&refused.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::tests::prepare;

    #[test]
    fn the_operation_of_the_seed_is_called_as_it_says() {
        let list = json!([{
            "name": "Get customer order", "description": "One order of a customer", "method": "get",
            "path": "/clientes/{id}/pedidos/{pedidoId}", "output": { "type": "object" }, "example": { "id": 456 },
        }]);
        let operations = by_hand(&list).expect("operations");
        let operation = &operations[0];
        assert_eq!(operation.slug, "get-customer-order");
        assert!(!operation.requires_auth);
        let schema = operation.input_schema();
        assert_eq!(schema["required"], json!(["id", "pedidoId"]));
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        for arguments in [json!({ "id": 123, "pedidoId": 456 }), json!({ "id": "123", "pedidoId": "456" })] {
            assert!(validator.is_valid(&arguments));
            assert_eq!(
                prepare(operation, arguments).url.as_str(),
                "https://api.example/v1/clientes/123/pedidos/456"
            );
        }
        let example = operation.example().expect("an example");
        assert_eq!((example.status, example.body.as_str()), (200, r#"{"id":456}"#));
        assert_eq!(
            operation.tool()["outputSchema"]["then"]["properties"]["data"],
            json!({ "type": "object" })
        );
    }

    #[test]
    fn schemas_may_refer_to_their_own_definitions() {
        let tree = json!({
            "type": "object", "properties": { "tree": { "$ref": "#/$defs/tree" } }, "required": ["tree"],
            "$defs": { "tree": { "type": "array", "items": { "$ref": "#/$defs/tree" } } },
        });
        let list = json!([
            { "name": "first", "method": "GET", "path": "/" },
            {
                "name": "Grow", "method": "POST", "path": "/trees/{id}", "requires_auth": true, "body": tree, "output": tree,
                "parameters": [{ "name": "id", "in": "path", "schema": {
                    "$ref": "#/$defs/id", "$defs": { "id": { "type": "integer" } },
                } }],
            },
        ]);
        let operations = by_hand(&list).expect("operations");
        assert!(operations[1].requires_auth);
        let validator = jsonschema::validator_for(&operations[1].input_schema()).expect("a schema");
        assert!(validator.is_valid(&json!({ "id": 1, "tree": [[[]]] })));
        for wrong in
            [json!({ "id": 1, "tree": [[[7]]] }), json!({ "id": "x", "tree": [] }), json!({ "id": 1 })]
        {
            assert!(!validator.is_valid(&wrong), "{wrong}");
        }
        assert!(jsonschema::validator_for(&operations[1].tool()["outputSchema"]).is_ok());
    }

    #[test]
    fn row_19_keys_in_a_list_are_taken_out() {
        let list = json!([{
            "name": "a", "method": "GET", "path": "/", "description": "Use ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            "example": { "api_key": "live-key-of-somebody" },
        }]);
        let stored = serde_json::to_string(&by_hand(&list).expect("operations")).expect("JSON");
        assert!(!stored.contains("ghp_") && !stored.contains("live"), "{stored}");
    }

    #[test]
    fn every_mistake_is_told_where_it_is() {
        let with = |field: &str, value: Value| {
            let mut item = json!({ "name": "a", "method": "GET", "path": "/a/{id}" });
            item[field] = value;
            json!([item])
        };
        let parameter = |parameter: Value| with("parameters", json!([parameter]));
        for (list, pointer, reason) in [
            (json!({}), "", "a list of operations"),
            (json!([]), "", "1 to 1000 operations"),
            (json!([7]), "/0", "an object is expected"),
            (with("nmae", json!(1)), "/0/nmae", "it may be name, description"),
            (with("name", json!(null)), "/0/name", "a name is expected"),
            (with("name", json!("日本")), "/0/name", "a letter from a to z"),
            (with("name", json!(7)), "/0/name", "a text is expected"),
            (with("method", json!("TRACE")), "/0/method", "one of GET, HEAD"),
            (with("method", json!(7)), "/0/method", "a text is expected"),
            (with("path", json!("a")), "/0/path", "begin with '/'"),
            (with("path", json!("/a/../b")), "/0/path", "segments such as /pets/{id}"),
            (with("path", json!("/a?b=c")), "/0/path", "segments such as /pets/{id}"),
            (with("parameters", json!({})), "/0/parameters", "a list of parameters"),
            (with("requires_auth", json!("yes")), "/0/requires_auth", "true or false"),
            (with("body", json!(7)), "/0/body", "a JSON Schema"),
            (with("output", json!({ "type": "text" })), "/0/output", "a JSON Schema"),
            (with("content_type", json!("text/plain")), "/0/content_type", "there is no body"),
            (parameter(json!(7)), "/0/parameters/0", "an object is expected"),
            (parameter(json!({ "in": "query" })), "/0/parameters/0/name", "a name is expected"),
            (
                parameter(json!({ "name": "q", "in": "cookie" })),
                "/0/parameters/0/in",
                "one of path, query, header",
            ),
            (parameter(json!({ "name": "q", "in": "path" })), "/0/parameters/0/name", "no part {q}"),
            (
                parameter(json!({ "name": "q", "in": "query", "x/y": 1 })),
                "/0/parameters/0/x~1y",
                "it may be name, in",
            ),
            (
                parameter(json!({ "name": "id", "in": "path", "required": false })),
                "/0/parameters/0/required",
                "always required",
            ),
            (
                parameter(json!({ "name": "a b", "in": "header" })),
                "/0/parameters/0/name",
                "not the name of a header",
            ),
            (parameter(json!({ "name": "Cookie", "in": "header" })), "/0/parameters/0/name", "store the key"),
            (
                parameter(json!({ "name": "X-Api-Key", "in": "header" })),
                "/0/parameters/0/name",
                "store the key",
            ),
            (
                parameter(json!({ "name": "access_token", "in": "query" })),
                "/0/parameters/0/name",
                "store the key",
            ),
            (
                parameter(json!({ "name": "q", "in": "query", "schema": 1 })),
                "/0/parameters/0/schema",
                "a JSON Schema",
            ),
            (
                json!([{ "name": "a b", "method": "GET", "path": "/" }, { "name": "A-B", "method": "PUT", "path": "/" }]),
                "/1/name",
                "operation 0 of the list is called 'a-b' as well",
            ),
        ] {
            match by_hand(&list) {
                Err(ConnectorsError::Invalid { pointer: at, message }) => {
                    assert!(at == pointer && message.contains(reason), "{list}: {at}: {message}");
                }
                other => panic!("{list}: {other:?}"),
            }
        }
    }
}
