//! JSON text as the engine carries it: checked once at the edge, then passed on without being parsed again.
//!
//! One reader decides what is JSON, for guests, clients and services alike, so that host and guest see the same document:
//! [`check`]. It refuses what only looks valid (halves of surrogate pairs, numbers that no double holds, documents nested
//! deeper than readers follow) and the names by which `serde_json` tells itself that a text stands for its content. A name
//! that stands twice in an object is settled when a [`Json`] is made: the last one counts, for everybody.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

/// Text that is known to be valid JSON (RFC 8259). Cheap to clone.
///
/// With a human-readable format (serde_json) it stands for the value itself; in the binary history it is a string.
#[derive(Clone, Eq)]
pub struct Json(Arc<str>);

impl PartialEq for Json {
    /// The same value, whatever the space between its parts and the order of its keys.
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.value() == other.value()
    }
}

impl Json {
    /// The JSON value `null`.
    pub fn null() -> Self {
        Self("null".into())
    }

    /// Checks that `text` is one JSON value, as [`check`] does. The error says where it is not. The text is kept as it is,
    /// unless an object has a name twice: then it is written anew with the last one alone.
    pub fn parse(text: impl Into<Arc<str>>) -> Result<Self, serde_json::Error> {
        let text = text.into();
        match check(&text)? {
            Names::Once => Ok(Self(text)),
            Names::Twice => Ok(Self(value(&text)?.to_string().into())),
        }
    }

    /// The JSON form of `value`. Fails for values that JSON cannot express, such as maps with keys that are not text, and
    /// for those that [`check`] refuses.
    pub fn from_value(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).and_then(Self::parse)
    }

    /// Reads the text into a type.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        check(&self.0)?;
        serde_json::from_str(&self.0)
    }

    /// The value as a tree.
    pub fn value(&self) -> serde_json::Value {
        // The text was checked when it was made; only one of before that check can fail here.
        value(&self.0).unwrap_or(serde_json::Value::Null)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the value `null`.
    pub fn is_null(&self) -> bool {
        self.0.trim() == "null"
    }
}

impl From<serde_json::Value> for Json {
    /// What has a name of `serde_json`'s own is left out, wherever it stands: readers would take it for something else.
    fn from(mut value: serde_json::Value) -> Self {
        if !without_private(&mut value) {
            tracing::warn!(
                "a member of a document is left out: {PRIVATE}… is a name of the JSON reader's own"
            );
        }
        Self(value.to_string().into())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads stay out of logs: only the length is shown.
        write!(f, "Json({} bytes)", self.0.len())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let raw: &serde_json::value::RawValue =
                serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
            raw.serialize(serializer)
        } else {
            serializer.serialize_str(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let raw = Box::<serde_json::value::RawValue>::deserialize(deserializer)?;
            Self::parse(Box::<str>::from(raw)).map_err(D::Error::custom)
        } else {
            deserializer.deserialize_str(Whole)
        }
    }
}

/// Takes a text as it stands, which may be large, without a copy in between.
struct Whole;

impl Visitor<'_> for Whole {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json(text.into()))
    }
}

/// How the names `serde_json` keeps for itself begin. An object whose first name is one of them is no object to it, but a
/// text to be parsed by a parser of its own.
const PRIVATE: &str = "$serde_json::private::";

/// Whether the names of each object differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// They do.
    Once,
    /// One stands twice: readers may take either, so the text must not be passed on.
    Twice,
}

/// Checks that `text` is one JSON value that every reader reads alike. Nothing is built; how deep it may go is bounded by
/// the reader, so a text of any shape is checked on an ordinary stack.
///
/// Whatever comes from outside and is read into a type with `serde_json::Value` in it has to pass here first.
pub fn check(text: &str) -> Result<Names, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let names = Check.deserialize(&mut reader)?;
    reader.end()?;
    Ok(names)
}

/// The same for bytes that ought to be UTF-8.
pub fn check_bytes(text: &[u8]) -> Result<Names, serde_json::Error> {
    check(std::str::from_utf8(text).map_err(serde_json::Error::custom)?)
}

/// The value of a text as a tree in which every name is only a name.
pub fn value(text: &str) -> Result<serde_json::Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Tree.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// What becomes a tree of values may have so many: each takes many times the memory of its text.
pub const MOST_VALUES: usize = 500_000;

/// How many values and keys a JSON text has, or a few more. Nothing is built.
pub fn values(text: &[u8]) -> usize {
    let (mut count, mut inside, mut escaped) = (1, false, false);
    for &byte in text {
        match (inside, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => inside = !inside,
            (false, b',' | b'[' | b'{' | b':') => count += 1,
            _ => {}
        }
    }
    count
}

/// Takes out members with private names. Whether there were none.
fn without_private(value: &mut serde_json::Value) -> bool {
    match value {
        serde_json::Value::Array(items) => {
            items.iter_mut().fold(true, |clean, item| without_private(item) & clean)
        }
        serde_json::Value::Object(members) => {
            let before = members.len();
            members.retain(|name, _| !name.starts_with(PRIVATE));
            let clean = members.len() == before;
            members.values_mut().fold(clean, |clean, member| without_private(member) & clean)
        }
        _ => true,
    }
}

/// Walks through a document.
#[derive(Clone, Copy)]
struct Check;

impl<'de> DeserializeSeed<'de> for Check {
    type Value = Names;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Names, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Names, E> {
        Ok(Names::Once)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Names, E> {
        Ok(Names::Once)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Names, E> {
        Ok(Names::Once)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Names, E> {
        Ok(Names::Once)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Names, E> {
        Ok(Names::Once)
    }

    fn visit_str<E>(self, _: &str) -> Result<Names, E> {
        Ok(Names::Once)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Names, A::Error> {
        let mut all = Names::Once;
        while let Some(names) = items.next_element_seed(Check)? {
            all = all.and(names);
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Names, A::Error> {
        let (mut all, mut seen) = (Names::Once, Vec::new());
        while let Some(Name(name)) = members.next_key()? {
            if name.starts_with(PRIVATE) {
                return Err(A::Error::custom(format!(
                    "the name '{PRIVATE}…' cannot be used for a member: JSON readers take it for something else"
                )));
            }
            seen.push(name);
            all = all.and(members.next_value_seed(Check)?);
        }
        seen.sort_unstable();
        let twice = seen.windows(2).any(|pair| pair[0] == pair[1]);
        Ok(if twice { Names::Twice } else { all })
    }
}

impl Names {
    fn and(self, other: Self) -> Self {
        if self == Self::Twice { self } else { other }
    }
}

/// The name of a member, borrowed where it stands without escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

/// Builds a tree.
struct Tree;

impl<'de> DeserializeSeed<'de> for Tree {
    type Value = serde_json::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree {
    type Value = serde_json::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(serde_json::Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(Tree)? {
            all.push(item);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut all = serde_json::Map::new();
        while let Some(name) = members.next_key::<String>()? {
            all.insert(name, members.next_value_seed(Tree)?);
        }
        Ok(all.into())
    }
}

#[cfg(test)]
#[path = "json/fuzz.rs"]
mod fuzz;
#[cfg(test)]
#[path = "json/tests.rs"]
mod tests;
