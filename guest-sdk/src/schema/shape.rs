//! Whether a type is written as a JSON object, found out without making its schema: a workflow's start asks for it.
//!
//! A derived `Deserialize` tells what it wants before it looks at any data, so a deserializer that only listens knows
//! the answer in a few instructions. The rare types that take anything are looked up in their schema.

use std::fmt;

use schemars::JsonSchema;
use serde::{
    Deserializer,
    de::{DeserializeOwned, Visitor},
};

use super::{Objects, of_type};

/// How a type looks in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// It is an object.
    pub(crate) object: bool,
    /// It may be null.
    pub(crate) optional: bool,
}

impl Shape {
    pub(crate) fn of<T: DeserializeOwned + JsonSchema>() -> Self {
        let heard = T::deserialize(Listener { optional: false }).err();
        let Heard { object, optional } = heard.unwrap_or(Heard { object: None, optional: true });
        Self { object: object.unwrap_or_else(|| of_type::<T>() == Objects::All), optional }
    }
}

/// Asks nothing and answers nothing: every method ends in the error that says what was asked for.
struct Listener {
    optional: bool,
}

#[derive(Debug)]
struct Heard {
    /// None: the type takes anything, or one of several things.
    object: Option<bool>,
    optional: bool,
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("only the shape was asked for")
    }
}

impl std::error::Error for Heard {}

impl serde::de::Error for Heard {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self { object: None, optional: false }
    }
}

macro_rules! heard {
    ($object:expr; $($method:ident($($arg:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $(_: $arg,)* _: V) -> Result<V::Value, Heard> {
            Err(Heard { object: $object, optional: self.optional })
        }
    )*};
}

impl<'de> Deserializer<'de> for Listener {
    type Error = Heard;

    heard! { Some(true); deserialize_map() deserialize_struct(&'static str, &'static [&'static str]) }
    heard! { Some(false);
        deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128()
        deserialize_f32() deserialize_f64() deserialize_char() deserialize_str() deserialize_string()
        deserialize_bytes() deserialize_byte_buf() deserialize_unit() deserialize_unit_struct(&'static str)
        deserialize_seq() deserialize_tuple(usize) deserialize_tuple_struct(&'static str, usize)
        deserialize_identifier()
    }
    heard! { None; deserialize_any() deserialize_ignored_any() deserialize_enum(&'static str, &'static [&'static str]) }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Heard> {
        visitor.visit_some(Listener { optional: true })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Heard> {
        visitor.visit_newtype_struct(self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Thing {
        a: u32,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Meters(f64);

    #[derive(Deserialize, JsonSchema)]
    #[serde(tag = "kind")]
    #[allow(dead_code, reason = "only its shape matters")]
    enum Tagged {
        A { a: u32 },
        B,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code, reason = "only its shape matters")]
    enum Colour {
        Red,
        Green,
    }

    #[test]
    fn structs_maps_and_tagged_enums_are_objects() {
        assert!(Shape::of::<Thing>().object);
        assert!(Shape::of::<BTreeMap<String, u32>>().object);
        assert!(Shape::of::<Tagged>().object);
        assert_eq!(Shape::of::<Option<Thing>>(), Shape { object: true, optional: true });
    }

    #[test]
    fn numbers_texts_lists_and_plain_enums_are_not() {
        assert!(!Shape::of::<u64>().object);
        assert!(!Shape::of::<Vec<Thing>>().object);
        assert!(!Shape::of::<Meters>().object);
        assert!(!Shape::of::<Colour>().object);
        assert!(!Shape::of::<serde_json::Value>().object);
        assert_eq!(Shape::of::<Option<String>>(), Shape { object: false, optional: true });
    }
}
