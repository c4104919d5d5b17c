//! Members of a body that nobody looks at. Who wrote one wished for something and does not get it: that is said, never
//! silent.
//!
//! Routes of our own (`/v1/airlock/…`) refuse such a body. The contract lets clients send what a server does not know, so
//! its routes go on, and name those members in the answer's header `airlock-ignored`.

use serde::{
    Deserializer,
    de::{DeserializeOwned, Error as _, Visitor, value::Error},
};
use serde_ignored::Path;

use crate::{
    error::{ApiError, ApiResult},
    visit::Visit,
};

/// So many places are told.
const MOST: usize = 20;

/// What was read, and the places of members that were not looked at.
pub(crate) struct Parsed<T> {
    body: T,
    ignored: Vec<Vec<Step>>,
}

/// A step to a member: a name, or the number of an item.
type Step = serde_json::Value;

impl<T: DeserializeOwned> Parsed<T> {
    /// Reads a JSON text.
    pub(crate) fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        // serde would take a list of values in the order of the fields as well.
        if text.trim_ascii_start().starts_with(b"[") && !names_of::<T>().is_empty() {
            return Err(serde_json::Error::custom("a list, where an object is expected"));
        }
        let mut ignored = Vec::new();
        let mut reader = serde_json::Deserializer::from_slice(text);
        let body = serde_ignored::deserialize(&mut reader, |path| {
            if ignored.len() < MOST {
                ignored.push(steps(&path));
            }
        })?;
        reader.end()?;
        Ok(Self { body, ignored })
    }

    /// The body, if nothing was ignored that may not be.
    pub(crate) fn known(self, is_own: bool, visit: Option<&Visit>) -> ApiResult<T> {
        let Self { body, ignored } = self;
        if !is_own {
            for place in ignored {
                let place: Vec<String> =
                    place.iter().map(|step| step.as_str().map_or(step.to_string(), str::to_owned)).collect();
                visit.iter().for_each(|visit| visit.ignored(&place.join(".")));
            }
            return Ok(body);
        }
        match ignored.is_empty() {
            true => Ok(body),
            false => Err(ApiError::Invalid(ignored.into_iter().map(problem::<T>).collect())),
        }
    }
}

fn problem<T: DeserializeOwned>(place: Vec<Step>) -> (serde_json::Value, String) {
    let name = place.last().and_then(Step::as_str).unwrap_or_default().to_owned();
    // Those of the body itself are known.
    let names = names_of::<T>().iter().copied().filter(|_| place.len() == 1);
    let message = match airlock_engine::problem::nearest(&name, names) {
        Some(meant) => format!("there is no field '{name}' here: '{meant}' is meant?"),
        None => format!("there is no field '{name}' here"),
    };
    let place: Vec<Step> = std::iter::once("body".into()).chain(place).collect();
    (place.into(), message)
}

/// The steps to a member from the body.
fn steps(path: &Path<'_>) -> Vec<Step> {
    let and = |parent: &Path<'_>, step: Step| {
        let mut steps = steps(parent);
        steps.push(step);
        steps
    };
    match path {
        Path::Root => Vec::new(),
        Path::Map { parent, key } => and(parent, key.as_str().into()),
        Path::Seq { parent, index } => and(parent, (*index).into()),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            steps(parent)
        }
    }
}

/// The names of a type's fields.
fn names_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // It asks a reader for a struct with its names, and that is all that this reader is for: it fails always.
    drop(T::deserialize(Names(&mut names)));
    names
}

struct Names<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("only names are asked for"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{json, value::RawValue};

    use super::*;

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Body {
        start_at: Option<String>,
        input: Option<Box<RawValue>>,
        inner: Option<Vec<Inner>>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        name: String,
    }

    #[test]
    fn what_nobody_looks_at_is_named_with_its_place_and_what_was_meant() {
        let text = json!({
            "startAt": "x", "input": { "anything": [1], "goes": 1.10 }, "inner": [{ "name": "a" }, { "name": "b", "nme": 1 }],
        });
        let parsed = Parsed::<Body>::read(text.to_string().as_bytes()).expect("is read");
        let Err(ApiError::Invalid(problems)) = parsed.known(true, None) else { panic!("is refused") };
        let mut problems: Vec<_> = problems.into_iter().collect();
        problems.sort_by_key(|(place, _)| place.to_string());
        assert_eq!(
            problems,
            [
                (json!(["body", "inner", 1, "nme"]), "there is no field 'nme' here".to_owned()),
                (
                    json!(["body", "startAt"]),
                    "there is no field 'startAt' here: 'start_at' is meant?".to_owned()
                ),
            ]
        );
        let parsed = Parsed::<Body>::read(text.to_string().as_bytes()).expect("is read");
        let body = parsed.known(false, None).expect("goes on");
        assert_eq!(body.input.expect("is kept").get(), r#"{"anything":[1],"goes":1.1}"#);
        assert!(Parsed::<Body>::read(b"{} {}").is_err());
        assert!(Parsed::<Body>::read(br#" ["x", null, []]"#).is_err(), "a list is no body");
        assert!(Parsed::<Option<Body>>::read(br#"["x", null, []]"#).is_err());
    }
}
