//! ISO 8601 durations, as Python's clients write a `timedelta`: `PT1H`, `P1DT30M`, `PT0.5S`.

use std::time::Duration;

use ixdtf::{
    parsers::IsoDurationParser,
    records::{Sign, TimeDurationRecord},
};

/// Reads a duration of a fixed length. A day has 24 hours, a week 7 days; months and years have no fixed length.
pub(super) fn read(text: &str) -> Result<Duration, String> {
    let not_one = || format!("'{text}' is not an ISO 8601 duration such as PT1H, PT90S or P1DT12H");
    let record = IsoDurationParser::from_str(text.trim()).parse().map_err(|_| not_one())?;
    if record.sign == Sign::Negative {
        return Err(format!("'{text}' is negative"));
    }
    let date = record.date.unwrap_or_default();
    if date.years != 0 || date.months != 0 {
        return Err(format!(
            "'{text}' counts in months or years, which differ in length: use days, or a calendar for times that follow the calendar"
        ));
    }
    let (hours, minutes, seconds, fraction, unit) = match record.time {
        None => (0, 0, 0, None, 1),
        Some(TimeDurationRecord::Hours { hours, fraction }) => (hours, 0, 0, fraction, 3600),
        Some(TimeDurationRecord::Minutes { hours, minutes, fraction }) => (hours, minutes, 0, fraction, 60),
        Some(TimeDurationRecord::Seconds { hours, minutes, seconds, fraction }) => {
            (hours, minutes, seconds, fraction, 1)
        }
    };
    let whole =
        [(u64::from(date.weeks), 604_800), (date.days, 86_400), (hours, 3600), (minutes, 60), (seconds, 1)]
            .into_iter()
            .try_fold(0u64, |sum, (count, unit)| sum.checked_add(count.checked_mul(unit)?));
    // Longer than any calendar: what is computed with it stays in range.
    let whole =
        whole.filter(|&seconds| seconds <= 100_000_000_000).ok_or_else(|| format!("'{text}' is too long"))?;
    let nanos = fraction.map_or(0, |fraction| u64::from(fraction.to_truncated_nanoseconds())) * unit;
    Ok(Duration::from_secs(whole) + Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_a_fixed_length_are_read() {
        for (text, millis) in [
            ("PT1H", 3_600_000),
            ("P1DT2H3M4.5S", 93_784_500),
            ("P2W", 1_209_600_000),
            ("PT0.5H", 1_800_000),
            ("PT1.5M", 90_000),
            ("P7D", 604_800_000),
            ("PT0S", 0),
            ("PT86400S", 86_400_000),
        ] {
            assert_eq!(read(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        for (text, says) in [
            ("1h", "not an ISO 8601 duration"),
            ("", "not an ISO 8601 duration"),
            ("PT", "not an ISO 8601 duration"),
            ("-PT1H", "negative"),
            ("P1M", "months or years"),
            ("P1Y", "months or years"),
            ("P99999999999999999999D", "not an ISO 8601 duration"),
            ("P9999999999999D", "too long"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
