//! A definition, understood and checked.

use std::time::Duration;

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

use super::{Calendar, Definition, Policy, Problem, Range, UnixSeconds, duration};

/// When a schedule fires: the union of calendars, intervals and cron expressions, without what is skipped, from
/// `start_at` to `end_at` (both included).
///
/// Calendars, cron expressions and skips are about the clock on the wall of their time zone. When clocks go forward, a
/// time that does not exist that day is left out; when they go back, a time that exists twice counts once, the first
/// time. Intervals count real seconds and know nothing of clocks.
#[derive(Debug, Clone)]
pub struct Spec {
    pub(super) patterns: Vec<Pattern>,
    pub(super) intervals: Vec<Every>,
    /// Read in `zone`.
    pub(super) skip: Vec<Pattern>,
    pub(super) zone: Tz,
    pub(super) first: UnixSeconds,
    pub(super) last: UnixSeconds,
    pub(super) jitter: Duration,
    pub(super) policy: Policy,
    pub(super) max_executions: Option<u64>,
}

/// Times by the fields of the clock.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    pub(super) cron: Cron,
    pub(super) zone: Tz,
    /// Which fields take every value, from the finest: a skip that takes a whole day is passed in one step.
    pub(super) every_second: bool,
    pub(super) every_minute: bool,
    pub(super) every_hour: bool,
}

/// Times at a fixed distance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Every {
    pub(super) seconds: i64,
    pub(super) offset: i64,
}

/// So many entries a list may have: a look for the next time asks each of them.
const LONGEST_LIST: usize = 100;

/// The last second of the year 9999: later times have no form that others read.
const LAST: UnixSeconds = 253_402_300_799;

/// The years that times may lie in; the cron library knows no later ones.
pub(super) const YEARS: std::ops::RangeInclusive<i64> = 1970..=4999;

impl Spec {
    /// Checks a definition; all problems at once.
    pub fn new(definition: &Definition) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let zone = definition.time_zone_name.as_deref().map_or(Tz::UTC, |name| {
            zone(name).unwrap_or_else(|message| {
                problems.push(Problem::new("/time_zone_name", message));
                Tz::UTC
            })
        });
        let mut patterns = calendars("calendars", definition.calendars.as_deref(), zone, &mut problems);
        let expressions = bounded("cron_expressions", definition.cron_expressions.as_deref(), &mut problems);
        for (i, expression) in expressions.iter().enumerate() {
            match cron(expression, zone) {
                Ok(pattern) => patterns.push(pattern),
                Err(message) => problems.push(Problem::new(format!("/cron_expressions/{i}"), message)),
            }
        }
        let mut intervals = Vec::new();
        for (i, interval) in
            bounded("intervals", definition.intervals.as_deref(), &mut problems).iter().enumerate()
        {
            let mut read = |field: &str, text: Option<&str>| {
                let whole = text.map_or(Ok(0), |text| {
                    let length = duration::read(text)?;
                    match length.subsec_nanos() {
                        0 => Ok(length.as_secs() as i64),
                        _ => Err(format!("'{text}' is not in whole seconds, and schedules are")),
                    }
                });
                whole
                    .map_err(|message| {
                        problems.push(Problem::new(format!("/intervals/{i}/{field}"), message))
                    })
                    .ok()
            };
            let every = read("every", Some(&interval.every));
            let offset = read("offset", interval.offset.as_deref());
            match (every, offset) {
                (Some(0), _) => {
                    problems.push(Problem::new(
                        format!("/intervals/{i}/every"),
                        "an interval has at least one second",
                    ));
                }
                (Some(seconds), Some(offset)) if offset >= seconds => {
                    let message = "the offset must be shorter than the interval";
                    problems.push(Problem::new(format!("/intervals/{i}/offset"), message));
                }
                (Some(seconds), Some(offset)) => intervals.push(Every { seconds, offset }),
                _ => {}
            }
        }
        let skip = calendars("skip", definition.skip.as_deref(), zone, &mut problems);
        let mut time = |field: &str, text: &Option<String>| {
            text.as_deref().and_then(|text| {
                DateTime::parse_from_rfc3339(text)
                    .ok()
                    // What is shown of it must be a year that others read, wherever they are.
                    .filter(|time| (1..=9998).contains(&time.year()))
                    .ok_or_else(|| {
                        let message = format!(
                            "'{text}' is not a time with a zone such as 2026-11-21T08:00:00Z (RFC 3339), from the year 1 to 9998"
                        );
                        problems.push(Problem::new(format!("/{field}"), message));
                    })
                    .ok()
            })
        };
        // The first whole second from `start_at` on.
        let start = time("start_at", &definition.start_at)
            .map(|time| time.timestamp() + i64::from(time.timestamp_subsec_nanos() > 0));
        let end = time("end_at", &definition.end_at).map(|time| time.timestamp());
        if let (Some(start), Some(end)) = (start, end)
            && end < start
        {
            problems
                .push(Problem::new("/end_at", "it lies before start_at, so there is no time between them"));
        }
        let jitter = definition.jitter.as_deref().map_or(Ok(Duration::ZERO), duration::read).unwrap_or_else(
            |message| {
                problems.push(Problem::new("/jitter", message));
                Duration::ZERO
            },
        );
        let policy = Policy::read(definition.policy, &mut problems);
        let max_executions = match definition.max_executions {
            Some(limit) if limit < 1 => {
                let message = "it must be at least 1; leave it out for no limit, or pause the schedule";
                problems.push(Problem::new("/max_executions", message));
                None
            }
            limit => limit.and_then(|limit| u64::try_from(limit).ok()),
        };
        if problems.is_empty() && patterns.is_empty() && intervals.is_empty() {
            let message = "the schedule has no times: give calendars, intervals or cron_expressions";
            problems.push(Problem::new("", message));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            patterns,
            intervals,
            skip,
            zone,
            first: start.unwrap_or(0).max(0),
            last: end.unwrap_or(LAST).min(LAST),
            jitter,
            policy,
            max_executions,
        })
    }

    /// What it does when times meet executions.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// How many executions it may start; `None` for no limit.
    pub fn max_executions(&self) -> Option<u64> {
        self.max_executions
    }
}

fn zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| {
        format!("'{name}' is not a time zone: use a name of the IANA database such as Europe/Berlin, or UTC")
    })
}

/// The entries of a list that is not too long.
fn bounded<'a, T>(field: &str, list: Option<&'a [T]>, problems: &mut Vec<Problem>) -> &'a [T] {
    let list = list.unwrap_or_default();
    if list.len() > LONGEST_LIST {
        let message = format!("it has {} entries, at most {LONGEST_LIST} are possible", list.len());
        problems.push(Problem::new(format!("/{field}"), message));
        return &[];
    }
    list
}

fn calendars(field: &str, list: Option<&[Calendar]>, zone: Tz, problems: &mut Vec<Problem>) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for (i, entry) in bounded(field, list, problems).iter().enumerate() {
        let known = problems.len();
        let place = format!("/{field}/{i}");
        let mut part =
            |name: &str, ranges: &Option<Vec<Range>>, default: &str, bounds: (i64, i64)| match cron_field(
                ranges.as_deref().unwrap_or_default(),
                default,
                bounds,
            ) {
                Ok(text) => text,
                Err((at, message)) => {
                    problems.push(Problem::new(format!("{place}/{name}/{at}"), message));
                    default.to_owned()
                }
            };
        let expression = [
            part("second", &entry.second, "0", (0, 59)),
            part("minute", &entry.minute, "0", (0, 59)),
            part("hour", &entry.hour, "0", (0, 23)),
            part("day_of_month", &entry.day_of_month, "*", (1, 31)),
            part("month", &entry.month, "*", (1, 12)),
            part("day_of_week", &entry.day_of_week, "*", (0, 6)),
            part("year", &entry.year, "*", (*YEARS.start(), *YEARS.end())),
        ]
        .join(" ");
        if problems.len() == known {
            match pattern(&expression, zone, true) {
                Ok(pattern) => patterns.push(pattern),
                Err(message) => problems.push(Problem::new(place, message)),
            }
        }
    }
    patterns
}

/// Ranges as a field of a cron expression; the error holds the index of the range.
fn cron_field(ranges: &[Range], default: &str, (low, high): (i64, i64)) -> Result<String, (usize, String)> {
    if ranges.is_empty() {
        return Ok(default.into());
    }
    let mut parts = Vec::new();
    for (i, range) in ranges.iter().enumerate() {
        // 0 is what clients send for "not given".
        let start = range.start;
        let end = range.end.filter(|&end| end != 0).unwrap_or(start);
        let step = range.step.filter(|&step| step != 0).unwrap_or(1);
        if start < low || end > high {
            return Err((
                i,
                format!("the range {start} to {end} leaves the possible values {low} to {high}"),
            ));
        }
        if end < start {
            return Err((i, format!("the range ends at {end}, before its start at {start}")));
        }
        if step < 1 {
            return Err((i, format!("the step {step} leads backwards: it must be at least 1")));
        }
        parts.push(match (start == end || step > end - start, step) {
            (true, _) => start.to_string(),
            (false, 1) => format!("{start}-{end}"),
            (false, step) => format!("{start}-{end}/{step}"),
        });
    }
    Ok(parts.join(","))
}

/// A cron expression, with an optional zone of its own before it.
fn cron(expression: &str, default: Tz) -> Result<Pattern, String> {
    let text = expression.trim();
    let named = ["CRON_TZ=", "TZ="].iter().find_map(|prefix| text.strip_prefix(prefix));
    let (own_zone, text) = match named {
        None => (default, text),
        Some(rest) => {
            let (name, text) = rest
                .split_once(char::is_whitespace)
                .ok_or_else(|| format!("'{expression}' has a time zone and no expression after it"))?;
            (zone(name)?, text.trim())
        }
    };
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("@every") {
        return Err(format!("'{expression}': give an interval instead of @every"));
    }
    let text = if lower == "@midnight" { "@daily" } else { text };
    pattern(text, own_zone, false)
        .map_err(|message| {
            let message = message.trim_end_matches('.');
            format!(
                "'{expression}' is not a cron expression that can be used: {message} (five fields are minute, hour, day of month, \
                 month, day of week; six begin with the second, seven also end with the year)"
            )
        })
}

fn pattern(expression: &str, zone: Tz, both_days: bool) -> Result<Pattern, String> {
    let parser =
        CronParser::builder().seconds(Seconds::Optional).year(Year::Optional).dom_and_dow(both_days).build();
    let cron = parser.parse(expression).map_err(|error| error.to_string())?;
    let full = |component: &croner::CronComponent| {
        component.values().len() == usize::from(component.max - component.min) + 1
    };
    let fields = &cron.pattern;
    // A stray comma leaves a field that takes nothing.
    let clock = [&fields.seconds, &fields.minutes, &fields.hours, &fields.months, &fields.years];
    let days = [&fields.days, &fields.days_of_week];
    if clock.into_iter().any(|field| field.values().is_empty())
        || days.into_iter().any(|field| field.values().is_empty() && !field.has_modifiers())
    {
        return Err("a field is empty".into());
    }
    let (every_second, every_minute, every_hour) =
        (full(&fields.seconds), full(&fields.minutes), full(&fields.hours));
    // A month of 28 days may be all there is, so the whole range of years is looked through once.
    let beginning: NaiveDateTime = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap_or_default().into();
    if cron.find_next_occurrence(&beginning, true).is_err() {
        return Err("no day has these fields, so it never comes".into());
    }
    Ok(Pattern { cron, zone, every_second, every_minute, every_hour })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problems(mut definition: Value) -> Vec<Problem> {
        definition["input"] = json!({});
        match Definition::read(&serde_json::from_str(&definition.to_string()).expect("an object")) {
            Ok(definition) => Spec::new(&definition).err().unwrap_or_default(),
            Err(problem) => vec![problem],
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_place_and_what_to_do() {
        for (definition, place, says) in [
            (json!({}), "", "no times"),
            (json!({ "cron_expressions": ["61 * * * *"] }), "/cron_expressions/0", "'61 * * * *'"),
            (json!({ "cron_expressions": ["0 0 30 2 *"] }), "/cron_expressions/0", "never comes"),
            (json!({ "cron_expressions": ["@every 5m"] }), "/cron_expressions/0", "interval"),
            (
                json!({ "cron_expressions": ["CRON_TZ=Mars/Base 0 0 * * *"] }),
                "/cron_expressions/0",
                "Mars/Base",
            ),
            (json!({ "cron_expressions": ["0 * * * *", ""] }), "/cron_expressions/1", "cron"),
            (json!({ "intervals": [{ "every": "1h" }] }), "/intervals/0/every", "PT1H"),
            (json!({ "intervals": [{ "every": "PT0S" }] }), "/intervals/0/every", "at least one second"),
            (json!({ "intervals": [{ "every": "PT0.5S" }] }), "/intervals/0/every", "whole seconds"),
            (
                json!({ "intervals": [{ "every": "PT5S", "offset": "PT5S" }] }),
                "/intervals/0/offset",
                "shorter",
            ),
            (json!({ "calendars": [{ "hour": [{ "start": 24 }] }] }), "/calendars/0/hour/0", "0 to 23"),
            (
                json!({ "calendars": [{}, { "day_of_week": [{ "start": 5, "end": 3 }] }] }),
                "/calendars/1/day_of_week/0",
                "before its start",
            ),
            (
                json!({ "calendars": [{ "day_of_month": [{ "start": 31 }], "month": [{ "start": 2 }] }] }),
                "/calendars/0",
                "never comes",
            ),
            (
                json!({ "cron_expressions": ["@daily"], "skip": [{ "minute": [{ "start": -1 }] }] }),
                "/skip/0/minute/0",
                "0 to 59",
            ),
            (json!({ "cron_expressions": ["@daily"], "start_at": "tomorrow" }), "/start_at", "RFC 3339"),
            (
                json!({ "cron_expressions": ["@daily"], "end_at": "0000-01-01T00:00:00Z" }),
                "/end_at",
                "1 to 9998",
            ),
            (
                json!({ "cron_expressions": ["@daily"], "start_at": "2026-01-02T00:00:00Z", "end_at": "2026-01-01T00:00:00Z" }),
                "/end_at",
                "before start_at",
            ),
            (json!({ "cron_expressions": ["@daily"], "jitter": "soon" }), "/jitter", "PT1H"),
            (
                json!({ "cron_expressions": ["@daily"], "time_zone_name": "CEST" }),
                "/time_zone_name",
                "Europe/Berlin",
            ),
            (
                json!({ "cron_expressions": ["@daily"], "policy": { "overlap": 7 } }),
                "/policy/overlap",
                "1 skip",
            ),
            (
                json!({ "cron_expressions": ["@daily"], "policy": { "catchup_window_seconds": -1 } }),
                "/policy/catchup_window_seconds",
                "from 0 on",
            ),
            (json!({ "cron_expressions": ["@daily"], "max_executions": 0 }), "/max_executions", "at least 1"),
        ] {
            let found = problems(definition.clone());
            assert_eq!(found.len(), 1, "{definition}: {found:?}");
            assert_eq!(found[0].pointer, place, "{definition}: {found:?}");
            assert!(found[0].message.contains(says), "{definition}: {found:?}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let found = problems(json!({ "cron_expressions": ["x"], "jitter": "x", "policy": { "overlap": 0 } }));
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn no_text_makes_reading_a_cron_expression_panic_or_take_long() {
        let pieces = [
            "*", "*", "*", "0", "1", "5", "7", "28", "31", "60", "99999", "/2", "/", "-6", ",", "#", "L",
            "W", "?", "+", "MON", "JAN", "@", "é",
        ];
        let (mut random, mut usable) = (7u32, 0);
        let mut pick = |count: usize| {
            random = random.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            (random >> 16) as usize % count
        };
        for _ in 0..50_000 {
            let mut field = || (0..=pick(2)).map(|_| pieces[pick(pieces.len())]).collect::<String>();
            let text = [(); 5].map(|()| field()).join(" ");
            let began = std::time::Instant::now();
            if let Ok(pattern) = cron(&text, Tz::UTC) {
                usable += 1;
                assert!(pattern.cron.find_next_occurrence(&NaiveDateTime::default(), true).is_ok(), "{text}");
            }
            assert!(began.elapsed() < airlock_patience::LIMIT, "{text}: {:?}", began.elapsed());
        }
        assert!(usable > 20, "{usable}");
    }
}
