//! JSON of answers while it is put together: payloads stay the text that they are, since a tree of a payload takes many
//! times its memory.

use std::borrow::Cow;

use airlock_engine::Json as Text;
use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

use crate::unserved;

/// A piece of JSON.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// Small things.
    Value(Value),
    /// A payload.
    Text(Text),
    /// Pieces by name.
    Object(Vec<(Cow<'static, str>, Part)>),
    /// Pieces in their order.
    List(Vec<Part>),
}

impl Part {
    pub(crate) fn object<const N: usize>(members: [(&'static str, Self); N]) -> Self {
        Self::Object(members.into_iter().map(|(name, part)| (Cow::Borrowed(name), part)).collect())
    }

    /// An object of small things, with more members.
    pub(crate) fn with<const N: usize>(value: Value, more: [(&'static str, Self); N]) -> Self {
        let mut members: Vec<(Cow<'static, str>, Self)> = match value {
            Value::Object(members) => {
                members.into_iter().map(|(name, value)| (Cow::Owned(name), Self::Value(value))).collect()
            }
            _ => Vec::new(),
        };
        members.extend(more.into_iter().map(|(name, part)| (Cow::Borrowed(name), part)));
        Self::Object(members)
    }

    /// An object with one more member.
    #[must_use]
    pub(crate) fn and(mut self, name: &'static str, part: Self) -> Self {
        if let Self::Object(members) = &mut self {
            members.push((Cow::Borrowed(name), part));
        }
        self
    }

    /// A text member of an object.
    pub(crate) fn text_of(&self, name: &str) -> Option<&str> {
        let Self::Object(members) = self else { return None };
        match &members.iter().find(|(member, _)| member == name)?.1 {
            Self::Value(value) => value.as_str(),
            _ => None,
        }
    }
}

impl From<Value> for Part {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl From<&Text> for Part {
    fn from(text: &Text) -> Self {
        Self::Text(text.clone())
    }
}

impl From<Option<&Text>> for Part {
    fn from(text: Option<&Text>) -> Self {
        text.map_or(Self::Value(Value::Null), Self::from)
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
            Self::List(parts) => parts.serialize(serializer),
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, part) in members {
                    map.serialize_entry(name, part)?;
                }
                map.end()
            }
        }
    }
}

impl Part {
    /// How many bytes its payloads have.
    fn payloads(&self) -> usize {
        match self {
            Self::Value(_) => 0,
            Self::Text(text) => text.as_str().len(),
            Self::Object(members) => members.iter().map(|(_, part)| part.payloads()).sum(),
            Self::List(parts) => parts.iter().map(Self::payloads).sum(),
        }
    }

    /// Its text, in room that is asked for once.
    pub(crate) fn to_text(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(self.payloads() + ABOUT);
        serde_json::to_writer(&mut text, self)?;
        Ok(text)
    }
}

/// What stands around payloads has so many bytes, mostly.
const ABOUT: usize = 1 << 10;

impl IntoResponse for Part {
    fn into_response(self) -> Response {
        match self.to_text() {
            Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
            Err(_) => unserved::panicked().into_response(),
        }
    }
}
