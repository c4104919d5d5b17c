//! What is wrong with a body, and where: an answer that says so by the keys that lead there, as the client shows them.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, json};
use serde_path_to_error::{Path, Segment};

use crate::error::ApiError;

/// A place is told with so many keys at most.
const STEPS: usize = 32;

/// A body that was refused. It is read once more, which only the refused ones pay for.
pub(crate) fn body<T: DeserializeOwned>(text: &[u8], error: &serde_json::Error) -> ApiError {
    // What no type reads is no JSON, or none that every reader reads alike: a type may take it as a text and see no place in
    // it.
    let places = [reached::<T>(text), reached::<Anything>(text)].into_iter().flatten();
    let place = places.max_by_key(Vec::len).unwrap_or_default();
    let message = match error.is_data() {
        true => without_position(error),
        false => error.to_string(),
    };
    let mut place: Vec<Value> = std::iter::once(json!("body")).chain(place).collect();
    if let Some(field) = field(&message)
        && place.last().is_none_or(|last| last != field)
    {
        place.push(json!(field));
    }
    ApiError::Invalid(vec![(place.into(), format!("the body is not as expected: {message}"))])
}

/// The field that a message is about, where what is wrong is that it is there, or is not.
fn field(message: &str) -> Option<&str> {
    let about =
        message.strip_prefix("missing field `").or_else(|| message.strip_prefix("unknown field `"))?;
    about.split_once('`').map(|(field, _)| field)
}

/// How far a type comes with a text that it does not take.
fn reached<T: DeserializeOwned>(text: &[u8]) -> Option<Vec<Value>> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let error = serde_path_to_error::deserialize::<_, T>(&mut reader).err()?;
    Some(steps(error.path()))
}

fn steps(path: &Path) -> Vec<Value> {
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(json!(index)),
        Segment::Map { key } => Some(json!(key)),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(step).take(STEPS).collect()
}

/// The message without "at line 1 column 9": the place says more to whoever sent a value and not a text.
fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&position).unwrap_or(&message).to_owned()
}

/// Any JSON. Nothing is built of it.
struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

macro_rules! anything {
    ($($visit:ident($type:ty))*) => {$(
        fn $visit<E>(self, _: $type) -> Result<Self, E> {
            Ok(self)
        }
    )*};
}

impl<'de> Visitor<'de> for Anything {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    anything! { visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_str(&str) }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<String, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use airlock_engine::Json;

    use super::*;

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Body {
        wait: Option<bool>,
        input: Option<Json>,
        retry: Option<Retry>,
        runs: Option<Vec<Run>>,
        strict: Option<Strict>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Strict {
        a: Option<u8>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Retry {
        maximum_attempts: Option<u32>,
        mode: Option<Mode>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Run {
        id: String,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        Fast,
    }

    fn told(text: &str) -> (Value, String) {
        let error = airlock_engine::json::check(text).err();
        let error = error.or_else(|| serde_json::from_str::<Body>(text).err()).expect("is refused");
        let ApiError::Invalid(mut places) = body::<Body>(text.as_bytes(), &error) else { panic!("no place") };
        places.swap_remove(0)
    }

    #[test]
    fn whatever_is_wrong_with_a_body_is_told_by_its_place() {
        for (text, place, says) in [
            (r#"{"wait":3}"#, json!(["body", "wait"]), "invalid type: integer `3`, expected a boolean"),
            (
                r#"{"retry":{"maximum_attempts":-1}}"#,
                json!(["body", "retry", "maximum_attempts"]),
                "expected u32",
            ),
            (r#"{"retry":{"mode":"slow"}}"#, json!(["body", "retry", "mode"]), "unknown variant `slow`"),
            (r#"{"retry":7}"#, json!(["body", "retry"]), "invalid type: integer `7`"),
            (r#"{"runs":[{"id":"a"},{"id":1}]}"#, json!(["body", "runs", 1, "id"]), "expected a string"),
            (r#"{"runs":[{}]}"#, json!(["body", "runs", 0, "id"]), "missing field `id`"),
            (r#"{"strict":{"b":1}}"#, json!(["body", "strict", "b"]), "unknown field `b`"),
            (r#"{"input":{"v":[0,1e400]}}"#, json!(["body", "input", "v", 1]), "number out of range"),
            (r#"{"input":{"v":"\ud800"}}"#, json!(["body", "input", "v"]), "hex escape"),
            (
                r#"{"input":{"v":"#,
                json!(["body", "input", "v"]),
                "EOF while parsing a value at line 1 column 14",
            ),
            ("nothing", json!(["body"]), "expected ident"),
        ] {
            let (at, message) = told(text);
            assert_eq!(at, place, "{text}: {message}");
            assert!(message.contains(says), "{text}: {message}");
        }
    }

    #[test]
    fn a_deep_place_is_cut() {
        let (at, message) = told(&format!(r#"{{"input":{}{}}}"#, "[".repeat(200), "]".repeat(200)));
        assert_eq!(at.as_array().map(Vec::len), Some(STEPS + 1));
        assert!(message.contains("recursion limit"), "{message}");
    }
}
