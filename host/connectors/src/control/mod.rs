//! What an operator lets calls of a connector do: the rules, and what keeps them.
//!
//! [`Control`] is the rules of one connector as they are written and stored. The other files keep them: [`limits`] count
//! calls and redactions, [`retries`] and [`breaker`] say when a server is called again, [`asking`] how long people may
//! take, [`pins`] notice that a tool is not what it was. All of them are asked with the control of the moment, so a change takes effect with the next call.
//!
//! It sends nothing, knows no secret, and does not ask people: a decision to ask is carried out by who calls.

pub(crate) mod asking;
pub(crate) mod breaker;
pub(crate) mod limits;
#[cfg(test)]
pub(crate) mod memory;
pub(crate) mod pins;
pub(crate) mod retries;

use std::{collections::BTreeMap, fmt, time::Duration};

use airlock_engine::problem::with_nearest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{ConnectorsError, error::pointer};

/// Limits of what can be written.
const MAX_TIMEOUT_MS: u64 = 120_000;
const MAX_RETRIES: u32 = 10;
const MAX_RESPONSE: u64 = 64 << 20;
const MAX_PATTERNS: usize = 1_000;
const MAX_PATTERN: usize = 256;
const MAX_RATES: usize = 16;
const MAX_CALLS: u32 = 1_000_000;
const MAX_RATE_SECONDS: u32 = 86_400;
const MAX_FAILURES: u32 = 1_000;
const MAX_BREAK_SECONDS: u32 = 3_600;
const MAX_ASK_SECONDS: u32 = 30 * 86_400;

/// The rules of one connector. Every field may be left out or null; `{}` is the default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Control {
    /// What happens with tools that nothing else speaks of. Default: allow.
    pub(crate) default: Decision,
    /// What happens with tools by name. `*` in a name stands for any characters. The exact name goes before patterns, and
    /// among patterns that match, the one with the most characters beside its `*`; if two have as many, the stricter
    /// decision. Default: none.
    pub(crate) tools: BTreeMap<String, Decision>,
    /// What happens with tools that say of themselves that they only read, if `tools` says nothing. Default: as `default`.
    pub(crate) read_only: Option<Decision>,
    /// What happens with tools that may destroy something, if `tools` says nothing. As in MCP, those are all that do not
    /// say of themselves that they only read or only add. Default: as `default`.
    pub(crate) destructive: Option<Decision>,
    /// How long a question about a call (`ask`) waits for its answer, in seconds, 1 to 2,592,000; after it the call is
    /// refused. Default: as long as the execution.
    pub(crate) ask_timeout_seconds: Option<u32>,
    /// How many calls there may be in a time. All limits hold. Default: none.
    pub(crate) rate: Vec<Rate>,
    /// How long one attempt of a call may take, in milliseconds, 1 to 120,000. Default: 120,000.
    pub(crate) timeout_ms: u64,
    /// How often a call that failed for no fault of its own is tried again, 0 to 10. Default: 2.
    pub(crate) retries: u32,
    /// The largest answer that is taken, in bytes, up to 64 MiB. Default: 8 MiB.
    pub(crate) max_response_bytes: u64,
    /// When a server that fails is left alone. Default: 30 s after 5 failures in a row.
    pub(crate) breaker: Breaking,
    /// A tool whose definition changes cannot be called until somebody approves it. Default: true.
    pub(crate) pin: bool,
    /// New tools cannot be called until somebody approves them either. Default: false.
    pub(crate) review: bool,
    /// The audit log holds the arguments of calls. Default: false.
    pub(crate) audit_arguments: bool,
    /// Answers come from mocks; the server is never called. Default: false.
    pub(crate) mock: bool,
    /// Answers of the server are recorded as mocks. Default: false.
    pub(crate) record: bool,
    /// The operation of a REST API, harmless and without required arguments, that shows whether a credential is taken: it
    /// is called before a workflow starts, and by `airlock connectors check`. Default: none, so nothing is tried.
    pub(crate) check: Option<String>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            default: Decision::Allow,
            tools: BTreeMap::new(),
            read_only: None,
            destructive: None,
            ask_timeout_seconds: None,
            rate: Vec::new(),
            timeout_ms: MAX_TIMEOUT_MS,
            retries: 2,
            max_response_bytes: 8 << 20,
            breaker: Breaking::default(),
            pin: true,
            review: false,
            audit_arguments: false,
            mock: false,
            record: false,
            check: None,
        }
    }
}

/// What happens with a call. In order of strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Decision {
    /// It is made.
    Allow,
    /// A person who follows the execution is asked first.
    Ask,
    /// It is refused.
    Deny,
}

/// Which of the rules says what happens with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule<'a> {
    /// That for this name or pattern.
    Named(&'a str),
    /// That for tools that say of themselves that they only read.
    ReadOnly,
    /// That for tools that may destroy something.
    Destructive,
    /// That for all others.
    Default,
}

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "the rule for '{name}' under 'tools'"),
            Self::ReadOnly => f.write_str("the rule 'read_only'"),
            Self::Destructive => f.write_str("the rule 'destructive', for tools that may destroy something,"),
            Self::Default => f.write_str("the rule 'default'"),
        }
    }
}

/// At most so many calls in a time: `calls` at once, and one more each time that a `calls`th of the time has gone by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rate {
    /// What is counted together.
    pub(crate) per: Per,
    /// 1 to 1,000,000.
    pub(crate) calls: u32,
    /// 1 to 86,400.
    pub(crate) seconds: u32,
}

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Per {
    /// The calls of a user.
    User,
    /// The calls with a credential; calls without one are counted together.
    Credential,
    /// All calls of the connector.
    Connector,
}

/// When a server that fails is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Breaking {
    /// After so many failures in a row, 1 to 1,000.
    pub(crate) failures: u32,
    /// For so long, 1 to 3,600.
    pub(crate) seconds: u32,
}

impl Default for Breaking {
    fn default() -> Self {
        Self { failures: 5, seconds: 30 }
    }
}

impl Breaking {
    /// How long the server is left alone.
    pub(crate) fn duration(self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

impl Control {
    /// Reads rules as somebody wrote them. An error says where and what is expected there.
    pub(crate) fn parse(mut value: Value) -> Result<Self, ConnectorsError> {
        let Value::Object(fields) = &mut value else { return Err(refused("")) };
        fields.retain(|_, field| !field.is_null());
        // serde would take a list of values in the order of the fields as well.
        if fields.get("breaker").is_some_and(Value::is_array) {
            return Err(refused("/breaker"));
        }
        let mut rates = fields.get("rate").and_then(Value::as_array).into_iter().flatten();
        if let Some(index) = rates.position(Value::is_array) {
            return Err(refused(&format!("/rate/{index}")));
        }
        let control: Self = serde_path_to_error::deserialize(value).map_err(|error| {
            let pointer = pointer(error.path());
            let problem = error.inner().to_string();
            // It lists the fields there are.
            if problem.starts_with("unknown field") {
                return ConnectorsError::invalid(&pointer, with_nearest(&problem));
            }
            refused(&pointer)
        })?;
        control.check()?;
        Ok(control)
    }

    fn check(&self) -> Result<(), ConnectorsError> {
        let ensure = |holds: bool, pointer: &str| if holds { Ok(()) } else { Err(refused(pointer)) };
        ensure((1..=MAX_TIMEOUT_MS).contains(&self.timeout_ms), "/timeout_ms")?;
        ensure(self.retries <= MAX_RETRIES, "/retries")?;
        if self.review && !self.pin {
            return Err(ConnectorsError::invalid(
                "/review",
                "tools are held back by their pins: 'pin' must be true",
            ));
        }
        let patience = self.ask_timeout_seconds.is_none_or(|limit| (1..=MAX_ASK_SECONDS).contains(&limit));
        ensure(patience, "/ask_timeout_seconds")?;
        ensure((1..=MAX_RESPONSE).contains(&self.max_response_bytes), "/max_response_bytes")?;
        ensure((1..=MAX_FAILURES).contains(&self.breaker.failures), "/breaker/failures")?;
        ensure((1..=MAX_BREAK_SECONDS).contains(&self.breaker.seconds), "/breaker/seconds")?;
        ensure(self.rate.len() <= MAX_RATES, "/rate")?;
        for (index, rate) in self.rate.iter().enumerate() {
            ensure((1..=MAX_CALLS).contains(&rate.calls), &format!("/rate/{index}/calls"))?;
            ensure((1..=MAX_RATE_SECONDS).contains(&rate.seconds), &format!("/rate/{index}/seconds"))?;
        }
        let named = |name: &String| (1..=MAX_PATTERN).contains(&name.len());
        ensure(self.tools.len() <= MAX_PATTERNS && self.tools.keys().all(named), "/tools")
    }

    /// What happens with a call of a tool. `annotations` are the tool's own (MCP `ToolAnnotations`), which are claims of
    /// the server: they are part of what is pinned.
    pub(crate) fn decide(&self, tool: &str, annotations: Option<&Value>) -> Decision {
        self.decided(tool, annotations).0
    }

    /// The same with the rule that says so.
    pub(crate) fn decided(&self, tool: &str, annotations: Option<&Value>) -> (Decision, Rule<'_>) {
        if let Some((name, decision)) = self.tools.get_key_value(tool) {
            return (*decision, Rule::Named(name));
        }
        let matching = self.tools.iter().filter(|(pattern, _)| matches(pattern, tool));
        let by_name = matching.max_by_key(|(pattern, decision)| (literal(pattern), **decision));
        if let Some((pattern, decision)) = by_name {
            return (*decision, Rule::Named(pattern));
        }
        let hint = |name: &str| annotations.and_then(|annotations| annotations[name].as_bool());
        let reads = hint("readOnlyHint") == Some(true);
        // A tool that says both is not believed the harmless one.
        let destroys = hint("destructiveHint").unwrap_or(!reads);
        let by_kind = [
            self.read_only.filter(|_| reads).map(|decision| (decision, Rule::ReadOnly)),
            self.destructive.filter(|_| destroys).map(|decision| (decision, Rule::Destructive)),
        ];
        let strictest = by_kind.into_iter().flatten().max_by_key(|(decision, _)| *decision);
        strictest.unwrap_or((self.default, Rule::Default))
    }

    /// The contract's `ToolExecutionConfiguration` (§11.1), as far as it can say the same: patterns stand in its lists
    /// as they are, `destructive` stands as "not read-only", and a refusal by annotations has no place in it.
    pub(crate) fn execution_configuration(&self) -> Value {
        let names = |decision: Decision| -> Vec<&String> {
            self.tools.iter().filter(|(_, this)| **this == decision).map(|(name, _)| name).collect()
        };
        let kinds = |decision: Decision| {
            let kinds = [(self.read_only, true), (self.destructive, false)];
            let kinds = kinds.into_iter().filter(move |(this, _)| *this == Some(decision));
            kinds.map(|(_, read_only)| json!({ "read_only": read_only }))
        };
        // What is asked for besides the names; a configuration has one expression for both.
        let either = |names: Vec<&String>, kinds: Vec<Value>| -> Value {
            let names = Some(json!(names)).filter(|names| names != &json!([]));
            let mut all: Vec<Value> = names.into_iter().chain(kinds).collect();
            match all.len() {
                0 => Value::Null,
                1 => all.swap_remove(0),
                _ => json!({ "type": "or", "expressions": all }),
            }
        };
        let (allowed, asked, denied) = (names(Decision::Allow), names(Decision::Ask), names(Decision::Deny));
        let everything = "*".to_owned();
        let mut skipped_kinds = Vec::new();
        let (include, confirmed) = match self.default {
            Decision::Allow => (None, either(asked, kinds(Decision::Ask).collect())),
            Decision::Deny => (Some([allowed.clone(), asked.clone()].concat()), either(asked, Vec::new())),
            Decision::Ask => {
                skipped_kinds.extend(kinds(Decision::Allow).filter(|kind| kind["read_only"] == true));
                (None, json!([everything]))
            }
        };
        let skipped = match confirmed.is_null() {
            true => Value::Null,
            false => either(allowed, skipped_kinds),
        };
        json!({
            "requires_confirmation": confirmed, "skip_confirmation": skipped, "include": include,
            "exclude": Some(denied).filter(|denied| !denied.is_empty()),
        })
    }

    /// How long a question about a call waits for its answer; absent: as long as the execution.
    pub(crate) fn ask_timeout(&self) -> Option<Duration> {
        self.ask_timeout_seconds.map(|limit| Duration::from_secs(limit.into()))
    }

    /// How long one attempt may take.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// Whether a name matches a pattern, in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        // The earliest place leaves most for the parts that follow.
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(last)
}

/// How many characters of a pattern are not `*`.
fn literal(pattern: &str) -> usize {
    pattern.chars().filter(|character| *character != '*').count()
}

/// Says what is expected at a place.
fn refused(pointer: &str) -> ConnectorsError {
    let mut keys = pointer.split('/').skip(1);
    let number = |least: u64, most: u64| format!("a whole number from {least} to {most}");
    let expected = match (keys.next(), keys.next(), keys.next()) {
        (None, ..) => "a JSON object".into(),
        (Some("default" | "read_only" | "destructive"), ..) | (Some("tools"), Some(_), _) => {
            "'allow', 'ask' or 'deny'".into()
        }
        (Some("tools"), ..) => format!(
            "an object of at most {MAX_PATTERNS} tool names or patterns with '*', each of 1 to {MAX_PATTERN} bytes"
        ),
        (Some("rate"), Some(_), Some("per")) => "'connector', 'credential' or 'user'".into(),
        (Some("rate"), Some(_), Some("calls")) => number(1, MAX_CALLS.into()),
        (Some("rate"), Some(_), Some("seconds")) => number(1, MAX_RATE_SECONDS.into()),
        (Some("rate"), Some(_), _) => "an object with 'per', 'calls' and 'seconds'".into(),
        (Some("rate"), ..) => format!("a list of at most {MAX_RATES} limits"),
        (Some("timeout_ms"), ..) => number(1, MAX_TIMEOUT_MS),
        (Some("ask_timeout_seconds"), ..) => number(1, MAX_ASK_SECONDS.into()),
        (Some("retries"), ..) => number(0, MAX_RETRIES.into()),
        (Some("max_response_bytes"), ..) => number(1, MAX_RESPONSE),
        (Some("breaker"), Some("failures"), _) => number(1, MAX_FAILURES.into()),
        (Some("breaker"), Some("seconds"), _) => number(1, MAX_BREAK_SECONDS.into()),
        (Some("breaker"), ..) => "an object with 'failures' and 'seconds'".into(),
        (Some("check"), ..) => "the name of an operation".into(),
        _ => "true or false".into(),
    };
    ConnectorsError::invalid(pointer, format!("expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(value: Value) -> Control {
        Control::parse(value).expect("is valid")
    }

    #[test]
    fn everything_may_be_left_out() {
        assert_eq!(control(json!({})), Control::default());
        assert_eq!(control(json!({ "rate": null, "default": null })), Control::default());
        let default = serde_json::to_value(Control::default()).expect("serialises");
        assert_eq!(control(default.clone()), Control::default(), "what is shown can be sent back");
        assert_eq!(
            default,
            json!({ "default": "allow", "tools": {}, "read_only": null, "destructive": null,
                "ask_timeout_seconds": null, "rate": [], "timeout_ms": 120_000, "retries": 2,
                "max_response_bytes": 8 << 20, "breaker": { "failures": 5, "seconds": 30 }, "pin": true,
                "review": false, "audit_arguments": false, "mock": false, "record": false, "check": null })
        );
        assert_eq!(control(json!({ "breaker": { "failures": 2 } })).breaker.seconds, 30);
        assert_eq!(control(json!({ "timeout_ms": 1_500 })).timeout(), Duration::from_millis(1_500));
        assert_eq!(control(json!({})).ask_timeout(), None);
        let patient = control(json!({ "ask_timeout_seconds": 90 }));
        assert_eq!(patient.ask_timeout(), Some(Duration::from_secs(90)));
    }

    #[test]
    fn a_mistake_is_named_with_its_place_and_what_is_expected() {
        let table = [
            (json!([]), "", "a JSON object"),
            (
                json!({ "defualt": "deny" }),
                "/defualt",
                "there is no field 'defualt' here: 'default' is meant?",
            ),
            (json!({ "default": "maybe" }), "/default", "expected 'allow', 'ask' or 'deny'"),
            (json!({ "tools": { "a/b": 1 } }), "/tools/a~1b", "expected 'allow', 'ask' or 'deny'"),
            (json!({ "tools": [] }), "/tools", "an object of at most 1000 tool names"),
            (json!({ "tools": { "": "deny" } }), "/tools", "each of 1 to 256 bytes"),
            (json!({ "rate": {} }), "/rate", "a list of at most 16 limits"),
            (json!({ "rate": [{ "per": "user", "calls": 1 }] }), "/rate/0", "'per', 'calls' and 'seconds'"),
            (
                json!({ "rate": [{ "per": "team", "calls": 1, "seconds": 1 }] }),
                "/rate/0/per",
                "'connector', 'credential'",
            ),
            (
                json!({ "rate": [{ "per": "user", "calls": 0, "seconds": 1 }] }),
                "/rate/0/calls",
                "from 1 to 1000000",
            ),
            (
                json!({ "rate": [{ "per": "user", "calls": 1, "seconds": -1 }] }),
                "/rate/0/seconds",
                "from 1 to 86400",
            ),
            (json!({ "timeout_ms": 120_001 }), "/timeout_ms", "a whole number from 1 to 120000"),
            (json!({ "timeout_ms": 0 }), "/timeout_ms", "a whole number from 1 to 120000"),
            (json!({ "timeout_ms": "1s" }), "/timeout_ms", "a whole number from 1 to 120000"),
            (json!({ "retries": 11 }), "/retries", "from 0 to 10"),
            (json!({ "ask_timeout_seconds": 0 }), "/ask_timeout_seconds", "from 1 to 2592000"),
            (json!({ "ask_timeout_seconds": 2_592_001 }), "/ask_timeout_seconds", "from 1 to 2592000"),
            (json!({ "ask_timeout_seconds": "1h" }), "/ask_timeout_seconds", "a whole number"),
            (json!({ "max_response_bytes": (64 << 20) + 1 }), "/max_response_bytes", "from 1 to 67108864"),
            (json!({ "breaker": { "failures": 0 } }), "/breaker/failures", "from 1 to 1000"),
            (json!({ "breaker": { "seconds": 3601 } }), "/breaker/seconds", "from 1 to 3600"),
            (json!({ "rate": [["user", 1, 1]] }), "/rate/0", "'per', 'calls' and 'seconds'"),
            (json!({ "breaker": [5, 30] }), "/breaker", "an object with 'failures' and 'seconds'"),
            (json!({ "breaker": 5 }), "/breaker", "an object with 'failures' and 'seconds'"),
            (json!({ "pin": "yes" }), "/pin", "true or false"),
        ];
        for (value, place, expected) in table {
            let error = Control::parse(value.clone()).expect_err("is refused");
            let ConnectorsError::Invalid { pointer, message } = &error else { panic!("{error:?}") };
            assert_eq!(pointer, place, "{value}");
            assert!(message.contains(expected), "{value}: {message}");
        }
    }

    #[test]
    fn the_exact_name_goes_first_then_the_most_specific_pattern_then_annotations_then_the_default() {
        let control = control(json!({
            "default": "ask", "read_only": "allow", "destructive": "deny",
            "tools": {
                "issues.delete": "allow", "issues.*": "ask", "issues.d*": "deny", "*.list": "allow", "repo*e": "ask",
                "repo*d": "deny", "r*epod": "allow"
            }
        }));
        let reads = json!({ "readOnlyHint": true });
        let adds = json!({ "readOnlyHint": false, "destructiveHint": false });
        let both = json!({ "readOnlyHint": true, "destructiveHint": true });
        let table = [
            ("issues.delete", Some(&reads), Decision::Allow, "the exact name"),
            ("issues.drop", Some(&reads), Decision::Deny, "the longer pattern"),
            ("issues.list", None, Decision::Ask, "the longer of two patterns"),
            ("repos.list", None, Decision::Allow, "a pattern"),
            ("repo-d", None, Decision::Deny, "a pattern"),
            ("repod", None, Decision::Deny, "the stricter of two that are as long"),
            ("other", Some(&reads), Decision::Allow, "what it says of itself"),
            ("other", Some(&adds), Decision::Ask, "the default"),
            ("other", Some(&both), Decision::Deny, "the stricter of what it says of itself"),
            ("other", None, Decision::Deny, "MCP's default for tools that say nothing"),
            ("other", Some(&json!({ "readOnlyHint": "yes" })), Decision::Deny, "a hint that is none"),
        ];
        for (tool, annotations, expected, why) in table {
            assert_eq!(control.decide(tool, annotations), expected, "{tool}: {why}");
        }
        for (tool, annotations, rule) in [
            ("issues.delete", None, Rule::Named("issues.delete")),
            ("issues.drop", None, Rule::Named("issues.d*")),
            ("other", Some(&reads), Rule::ReadOnly),
            ("other", Some(&both), Rule::Destructive),
            ("other", Some(&adds), Rule::Default),
        ] {
            assert_eq!(control.decided(tool, annotations).1, rule, "{tool}");
        }
        let plain = Control { default: Decision::Ask, ..Control::default() };
        assert_eq!(plain.decide("other", None), Decision::Ask);
    }

    #[test]
    fn a_star_stands_for_any_characters_and_nothing_else_is_special() {
        let table = [
            ("*", "", true),
            ("*", "anything", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("a**c", "abc", true),
            ("ab*ba", "aba", false),
            ("get.?", "get.x", false),
            ("[a]", "a", false),
            ("*ö*", "größer", true),
            ("get", "Get", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(matches(pattern, name), expected, "{pattern} and {name}");
        }
    }

    #[test]
    fn clients_see_the_rules_as_an_execution_configuration() {
        let table = [
            (json!({}), json!({})),
            (
                json!({ "tools": { "drop": "deny", "write*": "ask", "read": "allow" } }),
                json!({ "exclude": ["drop"], "requires_confirmation": ["write*"], "skip_confirmation": ["read"] }),
            ),
            (
                json!({ "tools": { "write": "ask" }, "destructive": "ask" }),
                json!({ "requires_confirmation":
                    { "type": "or", "expressions": [["write"], { "read_only": false }] } }),
            ),
            (json!({ "read_only": "ask" }), json!({ "requires_confirmation": { "read_only": true } })),
            (
                json!({ "default": "ask", "tools": { "read": "allow" }, "read_only": "allow" }),
                json!({ "requires_confirmation": ["*"], "skip_confirmation":
                    { "type": "or", "expressions": [["read"], { "read_only": true }] } }),
            ),
            (
                json!({ "default": "deny", "tools": { "read": "allow", "write": "ask" } }),
                json!({ "include": ["read", "write"], "requires_confirmation": ["write"],
                    "skip_confirmation": ["read"] }),
            ),
            (json!({ "default": "deny", "tools": { "read": "allow" } }), json!({ "include": ["read"] })),
            (json!({ "default": "deny" }), json!({ "include": [] })),
        ];
        for (rules, expected) in table {
            let mut configuration = control(rules.clone()).execution_configuration();
            let fields = configuration.as_object_mut().expect("an object");
            assert_eq!(fields.len(), 4);
            fields.retain(|_, field| !field.is_null());
            assert_eq!(configuration, expected, "{rules}");
        }
    }
}
