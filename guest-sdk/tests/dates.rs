//! The features `chrono` and `jiff`: dates and times travel as their types, and schemas say what they are.
#![cfg(all(feature = "chrono", feature = "jiff"))]
#![allow(clippy::unwrap_used, reason = "a test that unwraps fails as it should")]

use airlock::{Result, Workflow, testing::Test};
use airlock_sdk as airlock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Booking {
    from: chrono::NaiveDate,
    paid_at: Option<chrono::DateTime<chrono::Utc>>,
    until: jiff::civil::Date,
    seen_at: jiff::Timestamp,
}

#[airlock::workflow]
async fn book(ctx: Workflow, booking: Booking) -> Result<Booking> {
    // The workflow's clock, as either of them.
    let now = chrono::DateTime::<chrono::Utc>::from(ctx.now());
    let seen_at = jiff::Timestamp::try_from(ctx.now())?;
    Ok(Booking { paid_at: Some(now), seen_at, ..booking })
}

/// A date alone is no object.
#[airlock::workflow]
async fn next_day(ctx: Workflow, day: jiff::civil::Date) -> Result<jiff::civil::Date> {
    let _ = ctx;
    Ok(day.tomorrow()?)
}

airlock::plugin!(workflows: [book, next_day]);

#[test]
fn schemas_say_what_a_date_is() {
    let definition = <book as airlock::WorkflowFn>::definition();
    let schema: Value = serde_json::from_str(&definition.input_schema).unwrap();
    let format = |field: &str| schema["properties"][field]["format"].as_str();
    assert_eq!(format("from"), Some("date"));
    assert_eq!(format("paid_at"), Some("date-time"));
    assert_eq!(format("until"), Some("date"));
    assert_eq!(format("seen_at"), Some("date-time"));
}

#[test]
fn dates_travel_as_text() {
    let input = json!({"from": "2026-02-28", "until": "2026-03-01", "seen_at": "2026-01-01T00:00:00Z"});
    let ended = Test::of(AirlockPlugin).run("book", input);
    let booking: Booking = ended.output_as().unwrap();
    assert_eq!(booking.until.to_string(), "2026-03-01");
    assert_eq!(booking.paid_at.map(|at| at.timestamp()), Some(booking.seen_at.as_second()));
    let ended = Test::of(AirlockPlugin).run("next_day", json!({"day": "2026-02-28"}));
    assert_eq!(ended.output.unwrap(), json!({"result": "2026-03-01"}));
    let wrong = Test::of(AirlockPlugin).run("next_day", json!({"day": "2026-02-30"}));
    assert!(wrong.output.unwrap_err().message().starts_with("day: "));
}
