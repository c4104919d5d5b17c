//! What the word `format` means for inputs.
//!
//! A form that says `date-time` is there so that whoever sends something else hears of it before anything begins. The types
//! behind forms read more than the RFCs name: `chrono` takes a blank for the `T`, `jiff` years of six digits and durations
//! with fractions, `url` addresses that are not written out in ASCII. None of that is refused: what the word means is what
//! those crates read. Formats that are not named here are [`jsonschema`]'s own, and a word that neither knows says nothing,
//! `int32` and its like among them.

use std::net::IpAddr;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime};
use jiff::{
    SignedDuration, Span, Timestamp,
    civil::{Date, DateTime as Civil, Time},
    fmt::temporal::Pieces,
};
use jsonschema::ValidationOptions;
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
    let options = options.should_validate_formats(true);
    CHECKS.into_iter().fold(options, |options, (name, check)| options.with_format(name, check))
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
