//! The form in which the values of a type cross the boundary, where inputs and outputs of workflows are objects.
//!
//! The type decides, here and nowhere else: schemas are made, values written and values read by what this says. A type is
//! asked by its JSON schema. Reading an input has a shortcut for types that say it themselves, see [`Shape`].

use std::{any::TypeId, cell::RefCell, collections::BTreeMap};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{deserialize_schema, serialize_schema, shape::Shape};

/// What a type's values are in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Always an object.
    Object,
    /// An object or null, or always null.
    Optional,
    /// Sometimes an object, sometimes something else: an enum with and without data, any JSON.
    Mixed,
    /// Never an object.
    Scalar,
}

impl Form {
    /// Of a type that is read.
    pub(crate) fn of_input<T: JsonSchema + DeserializeOwned + 'static>() -> Self {
        match Shape::of::<T>() {
            Shape { object: Some(true), optional: false } => Self::Object,
            Shape { object: Some(true), optional: true } => Self::Optional,
            Shape { object: Some(false), .. } => Self::Scalar,
            Shape { object: None, .. } => {
                remembered::<T>(Side::Input, || Self::of_schema(&deserialize_schema::<T>()))
            }
        }
    }

    /// Of a type that is written.
    pub(crate) fn of_output<T: JsonSchema + 'static>() -> Self {
        remembered::<T>(Side::Output, || Self::of_schema(&serialize_schema::<T>()))
    }

    /// Of what a schema accepts.
    pub(super) fn of_schema(root: &Value) -> Self {
        match Kinds::of(root, root, &mut Vec::new()) {
            Kinds { object: true, other: true, .. } => Self::Mixed,
            Kinds { other: true, .. } => Self::Scalar,
            Kinds { null: true, .. } => Self::Optional,
            Kinds { .. } => Self::Object,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Input,
    Output,
}

/// A schema is made once for a type: a workflow may read ten thousand outputs of children.
fn remembered<T: 'static>(side: Side, find: impl FnOnce() -> Form) -> Form {
    thread_local! {
        static KNOWN: RefCell<BTreeMap<(TypeId, Side), Form>> = const { RefCell::new(BTreeMap::new()) };
    }
    let key = (TypeId::of::<T>(), side);
    if let Some(form) = KNOWN.with_borrow(|known| known.get(&key).copied()) {
        return form;
    }
    let form = find();
    KNOWN.with_borrow_mut(|known| known.insert(key, form));
    form
}

/// The kinds of values that a schema accepts.
#[derive(Clone, Copy)]
struct Kinds {
    object: bool,
    null: bool,
    other: bool,
}

const NOTHING: Kinds = Kinds { object: false, null: false, other: false };
const ANYTHING: Kinds = Kinds { object: true, null: true, other: true };
const OBJECTS: Kinds = Kinds { object: true, ..NOTHING };

impl Kinds {
    /// `open` are the references that are being followed: a type that is itself by way of them adds nothing to it.
    fn of(schema: &Value, root: &Value, open: &mut Vec<String>) -> Self {
        let schema = match schema {
            Value::Bool(false) => return NOTHING,
            Value::Object(schema) => schema,
            _ => return ANYTHING,
        };
        let mut kinds = ANYTHING;
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            if open.iter().any(|followed| followed == reference) {
                return NOTHING;
            }
            let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
            if let Some(target) = target {
                open.push(reference.to_owned());
                kinds = kinds.and(Self::of(target, root, open));
                open.pop();
            }
        }
        match schema.get("type") {
            Some(Value::String(name)) => kinds = kinds.and(Self::named(name)),
            Some(Value::Array(names)) => {
                let names = names.iter().filter_map(Value::as_str).map(Self::named);
                kinds = kinds.and(names.fold(NOTHING, Self::or));
            }
            // Written by hand, these mean objects.
            _ if schema.contains_key("properties") => kinds = kinds.and(OBJECTS),
            _ => {}
        }
        if let Some(value) = schema.get("const") {
            kinds = kinds.and(Self::of_value(value));
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            kinds = kinds.and(values.iter().map(Self::of_value).fold(NOTHING, Self::or));
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(alternatives) = schema.get(key).and_then(Value::as_array) {
                let each = alternatives.iter().map(|schema| Self::of(schema, root, open));
                kinds = kinds.and(each.fold(NOTHING, Self::or));
            }
        }
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            kinds = kinds.and(Self::of(part, root, open));
        }
        kinds
    }

    fn named(name: &str) -> Self {
        match name {
            "object" => OBJECTS,
            "null" => Self { null: true, ..NOTHING },
            _ => Self { other: true, ..NOTHING },
        }
    }

    fn of_value(value: &Value) -> Self {
        Self {
            object: value.is_object(),
            null: value.is_null(),
            other: !value.is_object() && !value.is_null(),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            object: self.object && other.object,
            null: self.null && other.null,
            other: self.other && other.other,
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            object: self.object || other.object,
            null: self.null || other.null,
            other: self.other || other.other,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schemas_form_is_that_of_the_values_it_accepts() {
        let of = |schema: Value| Form::of_schema(&schema);
        assert_eq!(of(json!({"type": "object"})), Form::Object);
        assert_eq!(of(json!({"properties": {"a": true}})), Form::Object);
        assert_eq!(of(json!({"type": ["object", "null"]})), Form::Optional);
        assert_eq!(of(json!({"type": "null"})), Form::Optional);
        assert_eq!(of(json!({"anyOf": [{"type": "object"}, {"type": "null"}]})), Form::Optional);
        assert_eq!(of(json!({"oneOf": [{"type": "object"}, {"const": "a"}]})), Form::Mixed);
        assert_eq!(of(json!({"enum": ["a", {"b": 1}]})), Form::Mixed);
        assert_eq!(of(json!({"type": ["integer", "null"]})), Form::Scalar);
        assert_eq!(
            of(json!({"type": "object", "oneOf": [{"const": "a"}, {"required": ["b"]}]})),
            Form::Object
        );
        assert_eq!(of(json!({"allOf": [true, {"type": "string"}]})), Form::Scalar);
        assert_eq!(of(json!(true)), Form::Mixed);
    }

    #[test]
    fn references_are_followed_and_circles_end() {
        let defs =
            json!({"A": {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]}, "B": {"type": "object"}});
        let of = |reference: &str| Form::of_schema(&json!({"$ref": reference, "$defs": defs}));
        assert_eq!(of("#/$defs/A"), Form::Object);
        assert_eq!(of("#/$defs/nowhere"), Form::Mixed);
    }
}
