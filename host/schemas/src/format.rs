//! What the word `format` means for inputs.
//!
//! A form that says `date-time` is there so that whoever sends something else hears of it before anything begins. The types
//! behind forms read more than the RFCs name: `chrono` takes a blank for the `T`, `jiff` years of six digits and durations
//! with fractions, `url` addresses that are not written out in ASCII. None of that is refused: what the word means is what
//! those crates read. Formats that are not named here are [`jsonschema`]'s own, and a word that neither knows says nothing.
//!
//! Formats of numbers are bounds: a number that no `u64` holds is told before anything begins, and not by the type behind the
//! form. Bounds that a schema has itself stay. For JSON Schema `5.0` is an integer; the types behind forms read none that is
//! written with a fraction or an exponent, so that is told as well.

use std::net::IpAddr;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime};
use jiff::{
    SignedDuration, Span, Timestamp,
    civil::{Date, DateTime as Civil, Time},
    fmt::temporal::Pieces,
};
use jsonschema::{Keyword, ValidationError, ValidationOptions};
use serde_json::{Number, Value};
use url::Url;
use uuid::Uuid;

/// Whether a text has a format.
type Check = fn(&str) -> bool;

/// Formats by name. Those with `partial` and `zoned` are what `schemars` writes for types without an offset, and with a zone.
const CHECKS: [(&str, Check); 10] = [
    ("date", is_date),
    ("date-time", is_date_time),
    ("partial-date-time", is_civil),
    ("zoned-date-time", is_zoned),
    ("time", is_time_of_day),
    ("partial-time", is_time),
    ("duration", is_duration),
    ("uuid", |text| text.parse::<Uuid>().is_ok()),
    ("uri", |text| text.parse::<Url>().is_ok()),
    ("ip", |text| text.parse::<IpAddr>().is_ok()),
];

/// Asserts formats, in the meaning that they have here.
pub(crate) fn asserted(options: ValidationOptions) -> ValidationOptions {
    let options = options
        .should_validate_formats(true)
        .with_keyword(WHOLE, |_, _, _| Ok(Box::new(Whole) as Box<dyn for<'i> Keyword<'i>>));
    CHECKS.into_iter().fold(options, |options, (name, check)| options.with_format(name, check))
}

/// The least and the largest number of a format. What is beyond 64 bits is compared as a floating-point number, so that one
/// just beyond a bound passes and is told by the type.
fn bounds(format: &str) -> Option<(Number, Number)> {
    let float = |value: f64| Number::from_f64(value);
    Some(match format {
        "int8" => (i8::MIN.into(), i8::MAX.into()),
        "int16" => (i16::MIN.into(), i16::MAX.into()),
        "int32" => (i32::MIN.into(), i32::MAX.into()),
        "int64" | "int" => (i64::MIN.into(), i64::MAX.into()),
        "int128" => (float(i128::MIN as f64)?, float(i128::MAX as f64)?),
        "uint8" => (0.into(), u8::MAX.into()),
        "uint16" => (0.into(), u16::MAX.into()),
        "uint32" => (0.into(), u32::MAX.into()),
        "uint64" | "uint" => (0.into(), u64::MAX.into()),
        "uint128" => (0.into(), float(u128::MAX as f64)?),
        _ => return None,
    })
}

/// Stands in schemas of integers: the number is written as one.
const WHOLE: &str = "airlock: a whole number";

struct Whole;

impl<'i> Keyword<'i> for Whole {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        match <Self as Keyword<'i>>::is_valid(self, value) {
            true => Ok(()),
            false => Err(ValidationError::custom(format!(
                "{value} is written with a fraction or an exponent: write a whole number without them"
            ))),
        }
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        // What is beyond 64 bits is held as a floating-point number, however it was written.
        let beyond = |number: f64| number < i64::MIN as f64 || number >= u64::MAX as f64;
        match value {
            Value::Number(number) if number.is_f64() => number.as_f64().is_some_and(beyond),
            _ => true,
        }
    }
}

fn is_integer(schema: &Value) -> bool {
    let is = |kind: &Value, name: &str| {
        kind == name || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == name))
    };
    schema.get("type").is_some_and(|kind| is(kind, "integer") && !is(kind, "number"))
}

/// A schema of an input in which formats of numbers are bounds and integers are written as such. `places` are where its
/// schemas stand. None if there is nothing of that.
pub(crate) fn bounded<'p>(schema: &Value, places: impl Iterator<Item = &'p str>) -> Option<Value> {
    let mut bounded: Option<Value> = None;
    for place in places {
        let Some(at) = schema.pointer(place) else { continue };
        let bounds = at.get("format").and_then(Value::as_str).and_then(bounds);
        let is_integer = is_integer(at);
        if bounds.is_none() && !is_integer {
            continue;
        }
        let whole = bounded.get_or_insert_with(|| schema.clone());
        let Some(Value::Object(fields)) = whole.pointer_mut(place) else { continue };
        if let Some((least, largest)) = bounds {
            fields.entry("minimum").or_insert(Value::Number(least));
            fields.entry("maximum").or_insert(Value::Number(largest));
        }
        if is_integer {
            fields.insert(WHOLE.into(), Value::Bool(true));
        }
    }
    bounded
}

fn is_date(text: &str) -> bool {
    text.parse::<Date>().is_ok() || text.parse::<NaiveDate>().is_ok()
}

fn is_date_time(text: &str) -> bool {
    text.parse::<Timestamp>().is_ok() || text.parse::<DateTime<FixedOffset>>().is_ok()
}

fn is_civil(text: &str) -> bool {
    text.parse::<Civil>().is_ok() || text.parse::<NaiveDateTime>().is_ok()
}

/// Whether the zone exists is for whoever knows zones.
fn is_zoned(text: &str) -> bool {
    Pieces::parse(text).is_ok_and(|pieces| pieces.time_zone_annotation().is_some())
}

fn is_time(text: &str) -> bool {
    text.parse::<Time>().is_ok() || text.parse::<NaiveTime>().is_ok()
}

/// With an offset, as the RFC has it, or without, as forms of people mean it.
fn is_time_of_day(text: &str) -> bool {
    is_time(text) || is_date_time(&format!("2000-01-01T{text}"))
}

fn is_duration(text: &str) -> bool {
    text.parse::<Span>().is_ok() || text.parse::<SignedDuration>().is_ok()
}
