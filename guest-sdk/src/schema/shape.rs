//! Whether a type is read from a JSON object, found out without making its schema: a workflow's start asks for it.
//!
//! A derived `Deserialize` tells what it wants before it looks at any data, so a deserializer that only listens knows
//! the answer in a few instructions. Types that take one of several things do not say.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeOwned, Visitor},
};

/// What a type says of itself when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// It is an object, or it is none. `None`: it takes anything, or one of several things.
    pub(crate) object: Option<bool>,
    /// It is an `Option`, so it may be left out.
    pub(crate) optional: bool,
}

impl Shape {
    pub(crate) fn of<T: DeserializeOwned>() -> Self {
        let heard = T::deserialize(Listener { optional: false }).err();
        let Heard { object, optional } = heard.unwrap_or(Heard { object: None, optional: true });
        Self { object, optional }
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

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Thing {
        a: u32,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Meters(f64);

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only its shape matters")]
    enum Colour {
        Red,
        Mixed { red: u8 },
    }

    fn shape<T: DeserializeOwned>() -> (Option<bool>, bool) {
        let Shape { object, optional } = Shape::of::<T>();
        (object, optional)
    }

    #[test]
    fn structs_and_maps_say_that_they_are_objects() {
        assert_eq!(shape::<Thing>(), (Some(true), false));
        assert_eq!(shape::<BTreeMap<String, u32>>(), (Some(true), false));
        assert_eq!(shape::<Option<Thing>>(), (Some(true), true));
    }

    #[test]
    fn numbers_texts_and_lists_say_that_they_are_none() {
        assert_eq!(shape::<u64>(), (Some(false), false));
        assert_eq!(shape::<Vec<Thing>>(), (Some(false), false));
        assert_eq!(shape::<Meters>(), (Some(false), false));
        assert_eq!(shape::<Option<String>>(), (Some(false), true));
    }

    #[test]
    fn enums_and_values_say_nothing() {
        assert_eq!(shape::<Colour>(), (None, false));
        assert_eq!(shape::<serde_json::Value>(), (None, false));
        assert_eq!(shape::<Option<Colour>>(), (None, true));
    }
}
