//! JSON schemas of inputs and outputs, and reading and writing values by the same rules.
//!
//! A workflow's input is always an object: a struct is the whole input, and a scalar is wrapped as
//! `{"parameter": value}`. Its output is an object or null: anything else is wrapped as `{"result": value}`.
//! Activities exchange the plain JSON of their types.

mod shape;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use self::shape::Shape;
use crate::{Error, Result};

/// The schema of an activity's input.
pub fn plain_input<T: JsonSchema>() -> String {
    deserialize_schema::<T>().to_string()
}

/// The schema of an activity's output; none for `()`.
pub fn plain_output<T: JsonSchema>() -> Option<String> {
    Some(serialize_schema::<T>()).filter(|schema| !accepts_only_null(schema)).map(|schema| schema.to_string())
}

/// The schema of a workflow's input. `parameter` is the name of the workflow's parameter, if it has one.
pub fn workflow_input<T: JsonSchema + DeserializeOwned>(parameter: Option<&str>) -> String {
    let Some(parameter) = parameter else {
        return json!({"type": "object", "properties": {}, "additionalProperties": false}).to_string();
    };
    let schema = deserialize_schema::<T>();
    let shape = Shape::of::<T>();
    if shape.object {
        return schema.to_string();
    }
    wrap(schema, parameter, !shape.optional).to_string()
}

/// The schema of a workflow's output; none for `()`, and for a type that is sometimes an object and sometimes not.
pub fn workflow_output<T: JsonSchema>() -> Option<String> {
    let schema = serialize_schema::<T>();
    if accepts_only_null(&schema) {
        return None;
    }
    match objects(&schema, &schema) {
        Objects::All => Some(schema.to_string()),
        Objects::None => Some(wrap(schema, "result", true).to_string()),
        Objects::Some => None,
    }
}

/// Reads an activity's input.
pub(crate) fn read_plain<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| explain::<T>(text, error))
}

/// Reads a workflow's input.
pub(crate) fn read_workflow_input<T: JsonSchema + DeserializeOwned>(
    parameter: Option<&str>,
    text: &str,
) -> Result<T> {
    let null = text.trim_ascii() == "null";
    let Some(parameter) = parameter else {
        // No parameter: the type is `()`, and the only object is the empty one.
        let empty = null || serde_json::from_str::<Map<String, Value>>(text).is_ok_and(|map| map.is_empty());
        return if empty {
            read_plain("null")
        } else {
            Err(Error::invalid_input("the workflow takes no input: send {} or nothing"))
        };
    };
    let shape = Shape::of::<T>();
    if shape.object {
        return read_plain(if null && !shape.optional { "{}" } else { text });
    }
    let value = match serde_json::from_str(text)
        .map_err(|error| Error::invalid_input(format!("the input is not JSON: {error}")))?
    {
        Value::Object(mut map) => {
            let value = map.remove(parameter);
            if let Some(unknown) = map.keys().next() {
                return Err(Error::invalid_input(format!(
                    "unknown field `{unknown}`, expected `{parameter}`"
                )));
            }
            match value {
                Some(value) => value,
                None if shape.optional => Value::Null,
                None => return Err(Error::invalid_input(format!("missing field `{parameter}`"))),
            }
        }
        Value::Null if !shape.optional => {
            return Err(Error::invalid_input(format!("missing field `{parameter}`")));
        }
        bare => bare,
    };
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { parameter.to_owned() } else { format!("{parameter}.{path}") };
        Error::invalid_input(format!("{path}: {}", error.inner()))
    })
}

/// Writes a value as plain JSON.
pub(crate) fn write_plain<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| {
        Error::new(Error::INVALID_OUTPUT, format!("the value cannot be written as JSON: {error}"))
            .non_retryable()
    })
}

/// Writes a workflow's output.
pub(crate) fn write_workflow_output<T: Serialize>(value: &T) -> Result<String> {
    let text = write_plain(value)?;
    Ok(if text.starts_with('{') || text == "null" { text } else { format!("{{\"result\":{text}}}") })
}

/// Writes the input of a workflow or a handler, by the rules that it is read by.
pub(crate) fn write_workflow_input<T: Serialize>(parameter: Option<&str>, value: &T) -> Result<String> {
    let text = write_plain(value)?;
    let Some(parameter) = parameter else {
        return match text.as_str() {
            "null" | "{}" => Ok("{}".to_owned()),
            _ => Err(Error::invalid_input("it takes no input: give ()")),
        };
    };
    Ok(if text.starts_with('{') || text == "null" {
        text
    } else {
        format!("{{{}:{text}}}", json!(parameter))
    })
}

/// Reads the output of another workflow, by the rules that it is written by.
pub(crate) fn read_workflow_output<T: DeserializeOwned>(text: &str) -> Result<T> {
    let whole = serde_json::from_str(text);
    let error = match whole {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    // A value that is no object came wrapped.
    let inner = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(mut map)) if map.len() == 1 => map.remove("result"),
        _ => None,
    };
    let unwrapped = inner.and_then(|inner| serde_json::from_value(inner).ok());
    unwrapped.ok_or_else(|| {
        Error::new(
            Error::INVALID_OUTPUT,
            format!("the child's output is not what the workflow expects: {}", without_position(&error)),
        )
        .non_retryable()
    })
}

/// Says which field is wrong. Reads the text a second time, which only failures pay for.
fn explain<T: DeserializeOwned>(text: &str, error: serde_json::Error) -> Error {
    if error.is_syntax() || error.is_eof() {
        return Error::invalid_input(format!("the input is not JSON: {error}"));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(error) if error.path().iter().next().is_some() => {
            Error::invalid_input(format!("{}: {}", error.path(), without_position(error.inner())))
        }
        _ => Error::invalid_input(without_position(&error)),
    }
}

/// The message without "at line 1 column 9", which says nothing to whoever sent a value and not a text.
fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&position).unwrap_or(&message).to_owned()
}

fn deserialize_schema<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<T>().to_value()
}

fn serialize_schema<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>().to_value()
}

/// An object schema with one property.
fn wrap(mut schema: Value, property: &str, required: bool) -> Value {
    let mut whole = Map::new();
    if let Value::Object(map) = &mut schema {
        // References point to the root, so definitions stay there.
        for key in ["$schema", "$defs"] {
            if let Some(value) = map.remove(key) {
                whole.insert(key.to_owned(), value);
            }
        }
    }
    whole.insert("type".to_owned(), "object".into());
    whole.insert("properties".to_owned(), json!({ property: schema }));
    if required {
        whole.insert("required".to_owned(), json!([property]));
    }
    whole.insert("additionalProperties".to_owned(), false.into());
    Value::Object(whole)
}

fn accepts_only_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

/// Which of the values that a schema accepts are objects (or null).
#[derive(PartialEq, Clone, Copy)]
pub(crate) enum Objects {
    All,
    Some,
    None,
}

pub(crate) fn of_type<T: JsonSchema>() -> Objects {
    let schema = deserialize_schema::<T>();
    objects(&schema, &schema)
}

fn objects(schema: &Value, root: &Value) -> Objects {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return match reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer)) {
            Some(target) if target != schema => objects(target, root),
            _ => Objects::Some,
        };
    }
    match schema.get("type") {
        Some(Value::String(name)) => {
            return if name == "object" || name == "null" { Objects::All } else { Objects::None };
        }
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            return merge(names.map(|name| if name == "object" { Objects::All } else { Objects::None }));
        }
        _ => {}
    }
    let alternatives = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
    match alternatives {
        Some(alternatives) => merge(
            alternatives
                .iter()
                .filter(|schema| !accepts_only_null(schema))
                .map(|schema| objects(schema, root)),
        ),
        None if schema.get("properties").is_some() => Objects::All,
        None if schema.get("const").is_some_and(|value| !value.is_object()) => Objects::None,
        None => Objects::Some,
    }
}

fn merge(parts: impl Iterator<Item = Objects>) -> Objects {
    parts.reduce(|a, b| if a == b { a } else { Objects::Some }).unwrap_or(Objects::None)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    struct Inner {
        count: u32,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    struct Order {
        name: String,
        inner: Vec<Inner>,
    }

    fn value(text: impl AsRef<str>) -> Value {
        serde_json::from_str(text.as_ref()).unwrap()
    }

    #[test]
    fn a_struct_is_the_whole_input() {
        let schema = value(workflow_input::<Order>(Some("order")));
        assert_eq!(schema["properties"]["name"]["type"], "string");
        let order: Order = read_workflow_input(Some("order"), r#"{"name":"a","inner":[]}"#).unwrap();
        assert_eq!(order.name, "a");
    }

    #[test]
    fn a_scalar_is_a_property_named_like_the_parameter() {
        let schema = value(workflow_input::<Vec<Inner>>(Some("items")));
        assert_eq!(schema["required"], json!(["items"]));
        assert_eq!(schema["properties"]["items"]["items"]["$ref"], "#/$defs/Inner");
        assert!(schema["$defs"]["Inner"].is_object());
        assert_eq!(read_workflow_input::<String>(Some("name"), r#"{"name":"a"}"#).unwrap(), "a");
        assert_eq!(read_workflow_input::<String>(Some("name"), r#""a""#).unwrap(), "a");
        assert_eq!(read_workflow_input::<Option<String>>(Some("name"), "{}").unwrap(), None);
        assert_eq!(value(workflow_input::<Option<String>>(Some("name"))).get("required"), None);
    }

    #[test]
    fn no_parameter_is_an_empty_object() {
        assert_eq!(value(workflow_input::<()>(None))["additionalProperties"], false);
        read_workflow_input::<()>(None, "{}").unwrap();
        read_workflow_input::<()>(None, "null").unwrap();
        assert_eq!(read_workflow_input::<()>(None, r#"{"a":1}"#).unwrap_err().kind(), "InvalidInput");
    }

    #[test]
    fn an_output_that_is_no_object_is_wrapped() {
        assert_eq!(write_workflow_output(&"hi").unwrap(), r#"{"result":"hi"}"#);
        assert_eq!(write_workflow_output(&()).unwrap(), "null");
        assert_eq!(write_workflow_output(&Inner { count: 1 }).unwrap(), r#"{"count":1}"#);
        assert_eq!(value(workflow_output::<String>().unwrap())["properties"]["result"]["type"], "string");
        assert_eq!(value(workflow_output::<Inner>().unwrap())["properties"]["count"]["type"], "integer");
        assert_eq!(workflow_output::<()>(), None);
        assert_eq!(workflow_output::<Value>(), None);
    }

    #[test]
    fn a_wrong_input_names_the_field() {
        let error = read_plain::<Order>(r#"{"name":"a","inner":[{"count":"x"}]}"#).unwrap_err();
        assert_eq!(error.kind(), "InvalidInput");
        assert_eq!(error.message(), r#"inner[0].count: invalid type: string "x", expected u32"#);
        assert_eq!(read_plain::<Order>("{}").unwrap_err().message(), "missing field `name`");
        assert!(read_plain::<Order>("{").unwrap_err().message().starts_with("the input is not JSON"));
        let error = read_workflow_input::<u32>(Some("n"), r#"{"n":"x"}"#).unwrap_err();
        assert_eq!(error.message(), r#"n: invalid type: string "x", expected u32"#);
        assert_eq!(
            read_workflow_input::<u32>(Some("n"), r#"{"m":1}"#).unwrap_err().message(),
            "unknown field `m`, expected `n`"
        );
    }
}
