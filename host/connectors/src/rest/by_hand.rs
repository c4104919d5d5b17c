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
    let nothing = json!({});
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
    match schema.is_object() && jsonschema::validator_for(schema).is_ok() {
        true => Ok(Some(schema)),
        false => {
            let message = "a JSON Schema (2020-12) is expected here";
            Err(ConnectorsError::invalid(&format!("{place}/{name}"), message))
        }
    }
}
