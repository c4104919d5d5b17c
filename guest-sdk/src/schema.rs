//! JSON schemas of inputs and outputs, and reading and writing values by the same rules.
//!
//! Activities, and the answers to queries and updates, are the plain JSON of their types. Inputs of workflows and of their
//! messages are objects, outputs of workflows are objects or null; the [`Form`] of the type says what becomes of the rest:
//!
//! | values of the type | as an input with the parameter `p` | as an output |
//! | --- | --- | --- |
//! | always objects | as they are | as they are |
//! | objects or null | as they are, null as `{"p": null}` | as they are |
//! | sometimes objects | `{"p": value}` | objects and null as they are, others as `{"result": value}` |
//! | never objects | `{"p": value}` | `{"result": value}` |
//!
//! Where both a value and its wrapper may stand, an object whose only member has the wrapper's name is wrapped too, so
//! that whoever reads can tell them apart. More is read than is written: a bare value that is no object, and no value at
//! all for an `Option`.

mod form;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json, value::RawValue};

pub(crate) use self::form::Form;
use self::shape::Shape;
use crate::{Error, Result};

/// What wraps an output.
const RESULT: &str = "result";

/// The schema of an activity's input.
pub fn plain_input<T: JsonSchema>() -> String {
    deserialize_schema::<T>().to_string()
}

/// The schema of an activity's output; none for `()`.
pub fn plain_output<T: JsonSchema>() -> Option<String> {
    Some(serialize_schema::<T>()).filter(|schema| !accepts_only_null(schema)).map(|schema| schema.to_string())
}

/// The schema of a workflow's input. `parameter` is the name of the workflow's parameter, if it has one.
pub fn workflow_input<T: JsonSchema + DeserializeOwned + 'static>(parameter: Option<&str>) -> String {
    let Some(parameter) = parameter else {
        return json!({"type": "object", "properties": {}, "additionalProperties": false}).to_string();
    };
    let required = !Shape::of::<T>().optional;
    let schema = match Form::of_input::<T>() {
        Form::Object => deserialize_schema::<T>(),
        Form::Optional => Part::of::<T>(reading()).or_wrapped(parameter, false, json!("object")),
        Form::Mixed | Form::Scalar => Part::of::<T>(reading()).wrapped(parameter, required),
    };
    schema.to_string()
}

/// The schema of a workflow's output; none for `()`.
pub fn workflow_output<T: JsonSchema + 'static>() -> Option<String> {
    let schema = serialize_schema::<T>();
    if accepts_only_null(&schema) {
        return None;
    }
    let schema = match Form::of_output::<T>() {
        Form::Object | Form::Optional => schema,
        Form::Mixed => Part::of::<T>(writing()).or_wrapped(RESULT, true, json!(["object", "null"])),
        Form::Scalar => Part::of::<T>(writing()).wrapped(RESULT, true),
    };
    Some(schema.to_string())
}

/// Reads an activity's input.
pub(crate) fn read_plain<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| explain::<T>(text, None, error))
}

/// Writes a value as plain JSON.
pub(crate) fn write_plain<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| {
        Error::new(Error::INVALID_OUTPUT, format!("the value cannot be written as JSON: {error}"))
            .non_retryable()
    })
}

/// Reads the input of a workflow or a handler.
pub(crate) fn read_workflow_input<T: JsonSchema + DeserializeOwned + 'static>(
    parameter: Option<&str>,
    text: &str,
) -> Result<T> {
    let text = text.trim_ascii();
    let Some(parameter) = parameter else {
        // No parameter: the type is `()`, and the only object is the empty one.
        let empty = text == "null" || members(text).is_some_and(|members| members.is_empty());
        return if empty {
            read_plain("null")
        } else {
            Err(Error::invalid_input("the workflow takes no input: send {} or nothing"))
        };
    };
    match Form::of_input::<T>() {
        Form::Object => read_plain(if text == "null" { "{}" } else { text }),
        Form::Optional => read_optional(parameter, text),
        Form::Mixed | Form::Scalar => read_wrapped(parameter, text),
    }
}

/// An object as it is, or null in its wrapper; nothing at all is null unless it is an object of the type.
fn read_optional<T: DeserializeOwned>(parameter: &str, text: &str) -> Result<T> {
    let whole = || read_plain(text);
    match members(text) {
        Some(members) if members.is_empty() => whole().or_else(|error| read_plain("null").map_err(|_| error)),
        Some(members) if members.len() == 1 => match members.get(parameter) {
            Some(inner) => read_member(parameter, inner.get()).or_else(|error| whole().map_err(|_| error)),
            None => whole(),
        },
        _ => whole(),
    }
}

fn read_wrapped<T: DeserializeOwned>(parameter: &str, text: &str) -> Result<T> {
    let optional = Shape::of::<T>().optional;
    let missing = || Error::invalid_input(format!("missing field `{parameter}`"));
    if text == "null" && !optional {
        return Err(missing());
    }
    if !text.starts_with('{') {
        // A bare value.
        return read_member(parameter, text);
    }
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)
        .map_err(|error| Error::invalid_input(format!("the input is not JSON: {error}")))?;
    if let Some(unknown) = members.keys().find(|name| *name != parameter) {
        return Err(Error::invalid_input(format!("unknown field `{unknown}`, expected `{parameter}`")));
    }
    match members.get(parameter) {
        Some(inner) => read_member(parameter, inner.get()),
        None if optional => read_plain("null"),
        None => Err(missing()),
    }
}

/// Reads what stands under a name. It is read from its text, because numbers do not survive anything else.
fn read_member<T: DeserializeOwned>(name: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| explain::<T>(text, Some(name), error))
}

/// Writes the input of a workflow or a handler.
pub(crate) fn write_workflow_input<T>(parameter: Option<&str>, value: &T) -> Result<String>
where
    T: Serialize + JsonSchema + DeserializeOwned + 'static,
{
    match parameter {
        Some(parameter) => Ok(formed_input(Form::of_input::<T>(), parameter, write_plain(value)?)),
        None => no_input(&write_plain(value)?),
    }
}

fn formed_input(form: Form, parameter: &str, text: String) -> String {
    match form {
        Form::Object => text,
        Form::Optional if text != "null" && !is_like_wrapper(&text, parameter) => text,
        Form::Optional | Form::Mixed | Form::Scalar => wrapped(parameter, &text),
    }
}

fn no_input(text: &str) -> Result<String> {
    match text {
        "null" | "{}" => Ok("{}".to_owned()),
        _ => Err(Error::invalid_input("it takes no input: give ()")),
    }
}

/// The input of a next run of a workflow that takes a `T`, from the plain JSON of what was given: a `T`, or an object as
/// somebody else would send it.
pub(crate) fn next_input<T: JsonSchema + DeserializeOwned + 'static>(
    parameter: Option<&str>,
    text: String,
) -> Result<String> {
    let Some(name) = parameter else { return no_input(&text) };
    let written = formed_input(Form::of_input::<T>(), name, text.clone());
    match read_workflow_input::<T>(parameter, &written) {
        Ok(_) => Ok(written),
        Err(_) if text.starts_with('{') && read_workflow_input::<T>(parameter, &text).is_ok() => Ok(text),
        Err(error) => Err(error),
    }
}

/// Writes a workflow's output.
pub(crate) fn write_workflow_output<T: Serialize + JsonSchema + 'static>(value: &T) -> Result<String> {
    let text = write_plain(value)?;
    // Forms differ in null and in what looks like the wrapper. A schema is not made for anything else.
    let is_whole = if text == "null" {
        Form::of_output::<T>() != Form::Scalar
    } else if is_like_wrapper(&text, RESULT) {
        matches!(Form::of_output::<T>(), Form::Object | Form::Optional)
    } else {
        text.starts_with('{')
    };
    Ok(if is_whole { text } else { wrapped(RESULT, &text) })
}

/// Reads the output of another workflow whose type is known.
pub(crate) fn read_workflow_output<T: JsonSchema + DeserializeOwned + 'static>(text: &str) -> Result<T> {
    read_output(text, || matches!(Form::of_output::<T>(), Form::Mixed | Form::Scalar))
}

/// Reads the output of a workflow of which only the name is known.
pub(crate) fn read_any_output<T: DeserializeOwned>(text: &str) -> Result<T> {
    read_output(text, || Shape::of::<T>().object != Some(true))
}

fn read_output<T: DeserializeOwned>(text: &str, is_wrapped: impl FnOnce() -> bool) -> Result<T> {
    let whole = || serde_json::from_str(text);
    let members = members(text).filter(|members| members.len() == 1);
    let inner = members.as_ref().and_then(|members| members.get(RESULT)).map(|inner| inner.get());
    let read = match inner {
        None => whole(),
        Some(inner) if is_wrapped() => {
            serde_json::from_str(inner).or_else(|error| whole().map_err(|_| error))
        }
        // Its workflow may know more of its output than is known here.
        Some(inner) => whole().or_else(|error| serde_json::from_str(inner).map_err(|_| error)),
    };
    read.map_err(|error| {
        Error::new(
            Error::INVALID_OUTPUT,
            format!("the child's output is not what the workflow expects: {}", without_position(&error)),
        )
        .non_retryable()
    })
}

fn wrapped(name: &str, text: &str) -> String {
    format!("{{{}:{text}}}", json!(name))
}

/// Whether a text that was written here is an object with this member alone.
fn is_like_wrapper(text: &str, name: &str) -> bool {
    let first = text.strip_prefix('{').and_then(|text| text.strip_prefix(json!(name).to_string().as_str()));
    first.is_some_and(|text| text.starts_with(':')) && members(text).is_some_and(|members| members.len() == 1)
}

/// The members of an object as they stand in the text.
fn members(text: &str) -> Option<BTreeMap<String, &RawValue>> {
    if text.trim_ascii_start().starts_with('{') { serde_json::from_str(text).ok() } else { None }
}

/// Says which field is wrong. Reads the text a second time, which only failures pay for.
fn explain<T: DeserializeOwned>(text: &str, name: Option<&str>, error: serde_json::Error) -> Error {
    if error.is_syntax() || error.is_eof() {
        return Error::invalid_input(format!("the input is not JSON: {error}"));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let (path, message) = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(error) if error.path().iter().next().is_some() => {
            (Some(error.path().to_string()), without_position(error.inner()))
        }
        _ => (None, without_position(&error)),
    };
    Error::invalid_input(match (name, path) {
        (Some(name), Some(path)) if path.starts_with('[') => format!("{name}{path}: {message}"),
        (Some(name), Some(path)) => format!("{name}.{path}: {message}"),
        (Some(place), None) => format!("{place}: {message}"),
        (None, Some(path)) => format!("{path}: {message}"),
        (None, None) => message,
    })
}

/// The message without "at line 1 column 9", which says nothing to whoever sent a value and not a text.
fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&position).unwrap_or(&message).to_owned()
}

fn reading() -> SchemaSettings {
    SchemaSettings::draft2020_12().for_deserialize()
}

fn writing() -> SchemaSettings {
    SchemaSettings::draft2020_12().for_serialize()
}

fn deserialize_schema<T: JsonSchema>() -> Value {
    reading().into_generator().into_root_schema_for::<T>().to_value()
}

fn serialize_schema<T: JsonSchema>() -> Value {
    writing().into_generator().into_root_schema_for::<T>().to_value()
}

/// A schema that is to stand inside another document: it does not refer to the root as to itself, as a recursive type's
/// own document does.
struct Part {
    schema: Value,
    /// What stands at the root: references point there.
    root: Map<String, Value>,
}

impl Part {
    fn of<T: JsonSchema>(settings: SchemaSettings) -> Self {
        let mut generator = settings.into_generator();
        let schema = generator.subschema_for::<T>().to_value();
        let mut root = Map::new();
        if let Some(dialect) = &generator.settings().meta_schema {
            root.insert("$schema".to_owned(), dialect.to_string().into());
        }
        let definitions = generator.take_definitions(true);
        if !definitions.is_empty() {
            root.insert("$defs".to_owned(), definitions.into());
        }
        Self { schema, root }
    }

    /// An object with one property.
    fn wrapped(self, property: &str, required: bool) -> Value {
        let mut whole = self.root;
        whole.extend(wrapper(self.schema, property, required));
        Value::Object(whole)
    }

    /// The schema itself for values of these types, or an object with one property.
    fn or_wrapped(self, property: &str, required: bool, types: Value) -> Value {
        let mut whole = self.root;
        let wrapper = Value::Object(wrapper(self.schema.clone(), property, required));
        whole.insert("type".to_owned(), types);
        whole.insert("anyOf".to_owned(), json!([self.schema, wrapper]));
        Value::Object(whole)
    }
}

fn wrapper(schema: Value, property: &str, required: bool) -> Map<String, Value> {
    let mut whole = Map::new();
    whole.insert("type".to_owned(), "object".into());
    whole.insert("properties".to_owned(), json!({ property: schema }));
    if required {
        whole.insert("required".to_owned(), json!([property]));
    }
    whole.insert("additionalProperties".to_owned(), false.into());
    whole
}

fn accepts_only_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}
