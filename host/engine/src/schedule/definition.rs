//! What a schedule is, in the shape of the wire (contract §11.3). Read here, understood in [`spec`](super::spec).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Problem;
use crate::{Extensions, Json, problem::with_nearest};

/// `ScheduleDefinition`: what to start and when. Kept as it was sent, so that clients read back what they wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The input of every execution.
    pub input: Json,
    /// Times by their fields on the clock and in the calendar.
    #[serde(default)]
    pub calendars: Option<Vec<Calendar>>,
    /// Times at a fixed distance, counted from the Unix epoch.
    #[serde(default)]
    pub intervals: Option<Vec<Interval>>,
    /// Times as cron writes them.
    #[serde(default)]
    pub cron_expressions: Option<Vec<String>>,
    /// Times that are left out.
    #[serde(default)]
    pub skip: Option<Vec<Calendar>>,
    /// Nothing before this (RFC 3339).
    #[serde(default)]
    pub start_at: Option<String>,
    /// Nothing after this (RFC 3339).
    #[serde(default)]
    pub end_at: Option<String>,
    /// Each start is later by less than this (ISO 8601 duration).
    #[serde(default)]
    pub jitter: Option<String>,
    /// Where calendars, cron expressions and skips read the clock (IANA name). UTC if absent.
    #[serde(default)]
    pub time_zone_name: Option<String>,
    /// What to do when times meet executions that still run, and with times that were missed.
    #[serde(default)]
    pub policy: Option<PolicyWire>,
    /// No more than so many executions.
    #[serde(default)]
    pub max_executions: Option<i64>,
    /// Ours: what starts ask for besides the input, as in a start by hand: mocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Value>,
}

/// `ScheduleCalendar`: a time matches when every field does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// 0–59; 0 if absent.
    #[serde(default)]
    pub second: Option<Vec<Range>>,
    /// 0–59; 0 if absent.
    #[serde(default)]
    pub minute: Option<Vec<Range>>,
    /// 0–23; 0 if absent.
    #[serde(default)]
    pub hour: Option<Vec<Range>>,
    /// 1–31; every day if absent.
    #[serde(default)]
    pub day_of_month: Option<Vec<Range>>,
    /// 1–12; every month if absent.
    #[serde(default)]
    pub month: Option<Vec<Range>>,
    /// Every year if absent.
    #[serde(default)]
    pub year: Option<Vec<Range>>,
    /// 0–6, 0 is Sunday; every day if absent.
    #[serde(default)]
    pub day_of_week: Option<Vec<Range>>,
    /// For people.
    #[serde(default)]
    pub comment: Option<String>,
}

/// `ScheduleRange`: `start`, `start + step`, … up to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The first value.
    pub start: i64,
    /// The last value; 0 or absent means `start`.
    #[serde(default)]
    pub end: Option<i64>,
    /// 0 or absent means 1.
    #[serde(default)]
    pub step: Option<i64>,
}

/// `ScheduleInterval`: the times `n × every + offset` after the Unix epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// ISO 8601 duration in whole seconds.
    pub every: String,
    /// ISO 8601 duration in whole seconds, shorter than `every`.
    #[serde(default)]
    pub offset: Option<String>,
}

/// `SchedulePolicy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyWire {
    /// Times that were missed are made up for when they are not older; 31,536,000 (a year) if absent.
    #[serde(default)]
    pub catchup_window_seconds: Option<i64>,
    /// What to do when an execution still runs, as a number from 1 to 6; 1 if absent.
    #[serde(default)]
    pub overlap: Option<i64>,
    /// Pause when an execution fails.
    #[serde(default)]
    pub pause_on_failure: Option<bool>,
}

/// A definition member by member, as texts: the numbers of an input stay as they are.
pub type Members = BTreeMap<String, Json>;

impl Definition {
    /// Reads a definition. The error names the place that is not as expected.
    pub fn read(members: &Members) -> Result<Self, Problem> {
        if !members.contains_key("input") {
            return Err(Problem::new(
                "/input",
                "the input of the executions is missing: give null if there is none",
            ));
        }
        let text = serde_json::to_string(members).map_err(|error| Problem::new("", error.to_string()))?;
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(&text)).map_err(|error| {
            let path = error.path().to_string();
            let pointer = match path.as_str() {
                "." => String::new(),
                path => format!(
                    "/{}",
                    path.replace("[", "/").replace(']', "").replace('.', "/").replace("//", "/")
                ),
            };
            let message = error.into_inner().to_string();
            Problem::new(
                pointer,
                match with_nearest(&message) {
                    same if same == message => format!("it is not as expected: {same}"),
                    better => better,
                },
            )
        })
    }

    /// What its starts ask for besides the input.
    pub fn extensions(&self) -> Result<Extensions, Problem> {
        Extensions::read(self.extensions.as_ref()).map_err(|problem| Problem {
            pointer: format!("/extensions{}", problem.pointer),
            message: problem.message,
        })
    }

    /// This definition with the keys of `changes` in place of its own; `null` takes a value away.
    pub fn changed(&self, changes: &Members) -> Result<Self, Problem> {
        let own = serde_json::to_string(self).and_then(|text| serde_json::from_str::<Members>(&text));
        let mut members = own.map_err(|error| Problem::new("", error.to_string()))?;
        members.extend(changes.iter().map(|(key, value)| (key.clone(), value.clone())));
        Self::read(&members)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tools::Mocks;

    fn members(value: &Value) -> Members {
        serde_json::from_str(&value.to_string()).expect("an object")
    }

    fn read(value: &Value) -> Result<Definition, Problem> {
        Definition::read(&members(value))
    }

    fn before_with_daily() -> Definition {
        read(&json!({ "input": 1, "cron_expressions": ["@daily"] })).expect("is read")
    }

    fn after_changes(before: &Definition, changes: &Value) -> Definition {
        before.changed(&members(changes)).expect("is read")
    }

    #[test]
    fn an_input_keeps_its_text_also_when_something_else_changes() {
        let text = r#"{"n":340282366920938463463374607431768211455,"f":1.10}"#;
        let sent = format!(r#"{{"input":{text},"cron_expressions":["@daily"]}}"#);
        let sent: Members = serde_json::from_str(&sent).expect("an object");
        let before = Definition::read(&sent).expect("is read");
        assert_eq!(before.input.as_str(), text);
        assert_eq!(after_changes(&before, &json!({ "jitter": "PT5S" })).input.as_str(), text);
    }

    #[test]
    fn names_that_nobody_knows_are_refused_with_what_was_meant_wherever_they_stand() {
        for (place, wrong, meant) in [
            ("", json!({ "timezone": "UTC" }), "time_zone_name"),
            ("", json!({ "cronExpressions": [] }), "cron_expressions"),
            ("/policy", json!({ "policy": { "overlap_policy": 6 } }), "overlap"),
            ("/policy", json!({ "policy": { "catchup_window": 6 } }), "catchup_window_seconds"),
            ("/calendars/0", json!({ "calendars": [{ "hours": [{ "start": 9 }] }] }), "hour"),
            ("/skip/0/hour/0", json!({ "skip": [{ "hour": [{ "starts": 9 }] }] }), "start"),
            ("/intervals/0", json!({ "intervals": [{ "every": "PT1H", "ofset": "PT5M" }] }), "offset"),
        ] {
            let mut sent = members(&wrong);
            sent.insert("input".into(), Json::null());
            let problem = Definition::read(&sent).expect_err("is refused");
            assert!(problem.pointer.starts_with(place), "{wrong}: {problem:?}");
            assert!(problem.message.contains(&format!("'{meant}' is meant?")), "{wrong}: {problem:?}");
        }
    }

    #[test]
    fn what_the_client_sends_is_read_and_given_back() {
        let sent = json!({
            "input": { "a": 1 },
            "calendars": [{ "hour": [{ "start": 9, "end": 0, "step": 0 }] }],
            "intervals": [{ "every": "PT1H" }],
            "cron_expressions": ["0 * * * *"],
            "policy": { "catchup_window_seconds": 31_536_000, "overlap": 1, "pause_on_failure": false },
        });
        let read = read(&sent).expect("is read");
        let back = serde_json::to_value(&read).expect("is JSON");
        for key in ["input", "cron_expressions", "policy"] {
            assert_eq!(back[key], sent[key], "{key}");
        }
        assert_eq!(back["calendars"][0]["hour"], sent["calendars"][0]["hour"]);
    }

    #[test]
    fn a_wrong_type_is_named_with_its_place() {
        let problem = |value: Value| read(&value).expect_err("is refused").pointer;
        assert_eq!(
            problem(json!({ "input": 1, "intervals": [{ "every": "PT1S" }, { "every": 5 }] })),
            "/intervals/1/every"
        );
        assert_eq!(problem(json!({ "input": 1, "policy": { "overlap": "skip" } })), "/policy/overlap");
        assert_eq!(problem(json!({})), "/input");
    }

    #[test]
    fn a_change_touches_only_its_keys() {
        let before =
            read(&json!({ "input": 1, "cron_expressions": ["@daily"], "jitter": "PT5S" })).expect("is read");
        let after = after_changes(&before, &json!({ "jitter": null, "start_at": "2026-01-01T00:00:00Z" }));
        assert_eq!(after.jitter, None);
        assert_eq!(after.start_at.as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!((after.input, after.cron_expressions), (before.input, before.cron_expressions));
        let mocked = json!({ "extensions": { "airlock": { "mocks": true } } });
        let mocked = after_changes(&before_with_daily(), &mocked);
        assert_eq!(mocked.extensions().expect("is read").mocks, Mocks::All);
        assert_eq!(after_changes(&mocked, &json!({ "jitter": null })), mocked, "mocks stay");
        let live = after_changes(&mocked, &json!({ "extensions": null }));
        assert_eq!(live.extensions().expect("is read"), Extensions::default());
        let wrong = after_changes(&live, &json!({ "extensions": { "airlock": { "mocks": 1 } } }));
        assert_eq!(wrong.extensions().expect_err("is refused").pointer, "/extensions/airlock/mocks");
    }
}
