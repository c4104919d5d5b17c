//! What inputs with a `format` may say: whatever the types behind it write, and nothing that they do not read.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use jiff::{SignedDuration, Span, Timestamp, civil, tz};
use proptest::{prelude::*, test_runner::Config};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Dialect, Outcome, Schemas};

fn check(format: &str, value: &Value) -> Outcome {
    let schema = json!({ "type": "object", "properties": { "field": { "format": format } } });
    let checked = Schemas::of_process().compile_blocking(&schema, Dialect::Input).expect("a schema");
    checked.check_blocking(&json!({ "field": value }))
}

fn fits(format: &str, text: impl ToString) -> Result<(), TestCaseError> {
    let text = text.to_string();
    prop_assert_eq!(check(format, &json!(text)), Outcome::Fits, "{} {:?}", format, text);
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 300, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_a_type_of_chrono_or_jiff_writes_has_the_format_that_its_schema_says(
        seconds in -377_705_023_201_i64..253_402_207_201, nanos in 0_i32..1_000_000_000, offset in -86_400_i32..86_400,
    ) {
        let timestamp = Timestamp::new(seconds, if seconds < 0 { -nanos } else { nanos }).expect("in range");
        fits("date-time", timestamp)?;
        let zoned = timestamp.to_zoned(tz::Offset::from_seconds(offset).expect("in range").to_time_zone());
        fits("zoned-date-time", &zoned)?;
        fits("date", zoned.date())?;
        fits("partial-time", zoned.time())?;
        fits("time", zoned.time())?;
        fits("partial-date-time", zoned.datetime())?;
        fits("duration", SignedDuration::new(seconds, if seconds < 0 { -nanos } else { nanos }))?;
        let span = civil::date(2000, 2, 29).at(0, 0, 0, 0).until((jiff::Unit::Year, zoned.datetime()));
        fits("duration", span.expect("in range"))?;

        let time = DateTime::<Utc>::from_timestamp(seconds, nanos.unsigned_abs()).expect("in range");
        let written = |value: Value| value.as_str().map(str::to_owned).expect("a text");
        fits("date-time", written(serde_json::to_value(time).expect("is written")))?;
        fits("date", written(serde_json::to_value(time.date_naive()).expect("is written")))?;
        fits("partial-time", written(serde_json::to_value(time.time()).expect("is written")))?;
        fits("partial-date-time", written(serde_json::to_value(time.naive_utc()).expect("is written")))?;
    }

    /// Texts near the right ones: whoever's type reads it gets it.
    #[test]
    fn no_text_is_refused_that_the_type_behind_a_format_reads(
        date in "[+-]?[0-9]{2,6}-?[01]?[0-9]-?[0-3]?[0-9]", between in "[Tt ]?", time in "([0-2]?[0-9]:?[0-6][0-9](:?[0-6][0-9]([.,][0-9]{1,9})?)?)?",
        offset in "( ?([Zz]|[+-][0-2][0-9](:?[0-5][0-9])?))?(\\[UTC\\])?", span in "[+-]?P?([0-9]{1,3}[YMWDymwd]){0,3}(T([0-9]{1,3}(\\.[0-9])?[HMShms]){0,3})?",
        id in "(urn:uuid:)?\\{?[0-9a-fA-F]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\\}?",
    ) {
        let text = format!("{date}{between}{time}{offset}");
        let read: [(&str, bool, &str); 12] = [
            ("date-time", text.parse::<Timestamp>().is_ok(), &text),
            ("date-time", serde_json::from_value::<DateTime<Utc>>(json!(text)).is_ok(), &text),
            ("partial-date-time", text.parse::<civil::DateTime>().is_ok(), &text),
            ("partial-date-time", text.parse::<NaiveDateTime>().is_ok(), &text),
            ("date", text.parse::<civil::Date>().is_ok(), &text),
            ("date", text.parse::<NaiveDate>().is_ok(), &text),
            ("partial-time", time.parse::<civil::Time>().is_ok(), &time),
            ("time", time.parse::<NaiveTime>().is_ok(), &time),
            ("duration", span.parse::<Span>().is_ok(), &span),
            ("duration", span.parse::<SignedDuration>().is_ok(), &span),
            ("zoned-date-time", text.parse::<jiff::Zoned>().is_ok(), &text),
            ("uuid", id.parse::<Uuid>().is_ok(), &id),
        ];
        for (format, is_read, text) in read {
            if is_read {
                fits(format, text)?;
            }
        }
    }
}

#[test]
fn a_text_that_no_type_reads_is_refused_where_it_stands() {
    for (format, texts) in [
        (
            "date",
            &["", "yesterday", "2024-02-30", "2023-02-29", "2024-13-01", "24:00", "0", "٢٠٢٤-٠١-٠١"][..],
        ),
        (
            "date-time",
            &["yesterday", "2024-01-01", "2024-01-01T10:00:00", "2024-01-01T25:00:00Z", "1704103200"],
        ),
        ("partial-date-time", &["noon", "2024-02-30T10:00:00"]),
        ("zoned-date-time", &["2024-01-01T10:00:00Z", "2024-01-01T10:00:00+01:00"]),
        ("time", &["noon", "25:00:00", "10:60:00"]),
        ("partial-time", &["noon", "24:01:00"]),
        ("duration", &["", "P", "PT", "a while", "1 x"]),
        ("uuid", &["", "5", "123e4567-e89b-12d3-a456-42661417400", "123e4567-e89b-12d3-a456-42661417400g"]),
        ("email", &["", "ada", "ada@", "@example.com", "a b@example.com"]),
        ("uri", &["", "example", "/path", "http://", "http://a b/"]),
        ("uri-reference", &["\\\\host\\share", "http://[::1"]),
        ("ipv4", &["", "256.0.0.1", "1.2.3", "::1"]),
        ("ipv6", &["", "127.0.0.1", ":::"]),
        ("ip", &["", "localhost"]),
        ("hostname", &["", "-a.example", "a..example", "a_b c"]),
    ] {
        for text in texts {
            let Outcome::Differs(found) = check(format, &json!(text)) else {
                panic!("{format} {text:?} fits")
            };
            assert_eq!(found.len(), 1, "{format} {text:?}");
            assert_eq!(found[0].instance, "/field");
            assert!(found[0].message.contains(format), "{}", found[0].message);
        }
    }
}

#[test]
fn texts_that_people_write_fit() {
    for (format, texts) in [
        ("date", &["2024-02-29"][..]),
        (
            "date-time",
            &[
                "2024-02-29T10:00:00Z",
                "2024-02-29t10:00:00.5z",
                "2016-12-31T23:59:60Z",
                "2024-02-29 10:00:00+01:00",
            ],
        ),
        ("time", &["10:00:00Z", "10:00:00+01:00", "10:00", "23:59:60Z"]),
        ("duration", &["P3W", "P1Y2M3DT4H5M6S", "PT0.5S", "-PT5S", "P1DT12H"]),
        ("uuid", &["123e4567-e89b-12d3-a456-426614174000"]),
        ("email", &["ada@example.com", "ada+x@mail.example.com"]),
        (
            "uri",
            &[
                "https://example.com/a?b#c",
                "mailto:ada@example.com",
                "urn:isbn:0451450523",
                "https://exämple.de/ü",
            ],
        ),
        ("uri-reference", &["/a/b", "../c?d", "https://example.com/"]),
        ("ipv4", &["127.0.0.1"]),
        ("ipv6", &["::1"]),
        ("ip", &["127.0.0.1", "::1"]),
        ("hostname", &["example.com", "localhost"]),
    ] {
        for text in texts {
            assert_eq!(check(format, &json!(text)), Outcome::Fits, "{format} {text:?}");
        }
    }
}

#[test]
fn a_format_that_nobody_knows_and_a_value_that_is_no_text_are_left_alone() {
    for format in ["double", "colour", "", "binary", "password"] {
        assert_eq!(check(format, &json!("anything")), Outcome::Fits, "{format}");
        assert_eq!(check(format, &json!(5)), Outcome::Fits, "{format}");
    }
    for value in [json!(5), json!(null), json!({}), json!([1])] {
        assert_eq!(check("date-time", &value), Outcome::Fits);
    }
    for value in [json!("12"), json!(null), json!({}), json!([300])] {
        assert_eq!(check("uint8", &value), Outcome::Fits);
    }
}

#[test]
fn a_number_fits_its_format_if_the_type_of_that_name_reads_it() {
    fn reads<T: std::str::FromStr>(text: &str) -> bool {
        text.parse::<T>().is_ok()
    }
    type Reads = fn(&str) -> bool;
    let types: [(&str, Reads); 10] = [
        ("int8", reads::<i8>),
        ("int16", reads::<i16>),
        ("int32", reads::<i32>),
        ("int64", reads::<i64>),
        ("int", reads::<isize>),
        ("uint8", reads::<u8>),
        ("uint16", reads::<u16>),
        ("uint32", reads::<u32>),
        ("uint64", reads::<u64>),
        ("uint", reads::<usize>),
    ];
    for (format, reads) in types {
        for bits in [0, 7, 8, 15, 16, 31, 32, 63, 64, 65, 100] {
            for sign in [-1, 1] {
                for beside in [-1, 0, 1] {
                    let number = sign * (1_i128 << bits) + beside;
                    // It is compared as the floating-point number next to it, which is the least `i64`.
                    if number == i128::from(i64::MIN) - 1 {
                        continue;
                    }
                    let number = number.to_string();
                    let value = serde_json::from_str(&number).expect("a number");
                    let fits = check(format, &value) == Outcome::Fits;
                    assert_eq!(fits, reads(&number), "{number} as {format}");
                }
            }
        }
    }
    let far = |number: &str| serde_json::from_str(number).expect("a number");
    assert_eq!(check("uint128", &far(&u128::MAX.to_string())), Outcome::Fits);
    assert_eq!(check("int128", &far(&i128::MIN.to_string())), Outcome::Fits);
    for (format, number) in [("uint128", "-1"), ("uint128", "1e39"), ("int128", "-2e38"), ("int128", "2e38")]
    {
        assert_ne!(check(format, &far(number)), Outcome::Fits, "{number} as {format}");
    }
}

#[test]
fn a_format_of_numbers_is_a_bound_only_where_a_schema_stands_and_says_nothing_else() {
    let schema = json!({
        "$defs": { "a/b~c": { "type": "integer", "format": "uint8" } },
        "properties": {
            "format": { "const": { "format": "uint8" } },
            "own": { "format": "uint8", "maximum": 1000 },
            "small": { "$ref": "#/$defs/a~1b~0c" },
            "list": { "items": { "anyOf": [{ "format": "int8" }, { "type": "null" }] } },
        },
        "default": { "format": "uint8" },
    });
    let checked = Schemas::of_process().compile_blocking(&schema, Dialect::Input).expect("a schema");
    let differ = |value: serde_json::Value| match checked.check_blocking(&value) {
        Outcome::Differs(found) => found.into_iter().map(|one| one.instance).collect(),
        _ => Vec::new(),
    };
    assert_eq!(
        differ(json!({ "format": { "format": "uint8" }, "own": 900, "small": 255, "list": [127, null] })),
        [""; 0]
    );
    assert_eq!(differ(json!({ "own": 1001 })), ["/own"]);
    assert_eq!(differ(json!({ "small": 256 })), ["/small"]);
    assert_eq!(differ(json!({ "list": [1, 128] })), ["/list/1"]);
    let declared = Schemas::of_process().compile_blocking(&schema, Dialect::Declared).expect("a schema");
    assert_eq!(
        declared.check_blocking(&json!({ "small": 256 })),
        Outcome::Fits,
        "only inputs are asked for more"
    );
}

#[test]
fn formats_mean_the_same_in_every_draft_and_stay_words_where_they_are_words() {
    for draft in [
        "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2019-09/schema",
        "https://json-schema.org/draft/2020-12/schema",
    ] {
        let schema = json!({ "$schema": draft, "items": { "format": "duration" } });
        let with = |dialect| {
            let checked = Schemas::of_process().compile_blocking(&schema, dialect).expect("a schema");
            checked.check_blocking(&json!(["PT1.5S", "a while"]))
        };
        let Outcome::Differs(found) = with(Dialect::Input) else { panic!("{draft}") };
        assert_eq!(found.iter().map(|one| one.instance.as_str()).collect::<Vec<_>>(), ["/1"], "{draft}");
        assert_eq!(with(Dialect::WithoutFormats), Outcome::Fits, "{draft}");
    }
}

#[test]
fn a_long_text_with_a_format_costs_no_more_than_promised() {
    for format in [
        "date",
        "date-time",
        "time",
        "partial-time",
        "zoned-date-time",
        "duration",
        "uuid",
        "uri",
        "email",
        "hostname",
        "ip",
    ] {
        for part in ["1", "P1Y", "a.", " ", "[", "1 day "] {
            let schema = json!({ "format": format });
            let _ = super::holds(&format!("{part:?} as {format}"), schema, json!(part.repeat(100_000)));
        }
    }
}

#[test]
fn an_integer_is_written_as_one_and_a_number_as_anybody_likes() {
    let schema = json!({ "properties": {
        "whole": { "type": "integer" },
        "perhaps": { "type": ["integer", "null"] },
        "any": { "type": "number" },
        "either": { "type": ["integer", "number"] },
        "list": { "items": { "type": "integer" } },
    } });
    let checked = Schemas::of_process().compile_blocking(&schema, Dialect::Input).expect("a schema");
    let read = |name: &str, number: &str| {
        let value = serde_json::from_str(&format!("{{\"{name}\":{number}}}")).expect("JSON");
        checked.check_blocking(&value)
    };
    for number in ["5", "0", "-3", "18446744073709551615", "340282366920938463463374607431768211455"] {
        for name in ["whole", "perhaps", "any", "either"] {
            assert_eq!(read(name, number), Outcome::Fits, "{name} {number}");
        }
    }
    for number in ["5.0", "5e0", "1e1", "-0.0", "2.50e1"] {
        for name in ["whole", "perhaps"] {
            let Outcome::Differs(found) = read(name, number) else { panic!("{name} {number}") };
            assert_eq!(found[0].instance, format!("/{name}"));
            assert!(found[0].message.contains("write a whole number"), "{}", found[0].message);
        }
        for name in ["any", "either"] {
            assert_eq!(read(name, number), Outcome::Fits, "{name} {number}");
        }
    }
    let Outcome::Differs(found) = read("list", "[1, 2.0]") else { panic!("a list") };
    assert_eq!(found[0].instance, "/list/1");
}
