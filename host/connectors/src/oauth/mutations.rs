//! Odd answers for tests: everything that may be wrong with one member of a good one.

use serde_json::{Map, Value};

/// An answer with one odd member.
pub(super) struct Mutation {
    pub(super) member: String,
    pub(super) kind: Kind,
    /// The whole answer.
    pub(super) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is not there, or as good as not there.
    Absent,
    /// It is there twice with the same value.
    Repeated,
    /// Something that it should not be.
    Odd,
}

/// Every odd form of every member of an answer.
pub(super) fn mutations(good: &Value) -> Vec<Mutation> {
    let Value::Object(members) = good else { panic!("not an object: {good}") };
    let mut all = Vec::new();
    for (name, value) in members {
        let key = Value::from(name.as_str());
        let rest: Vec<String> = (members.iter())
            .filter(|(other, _)| *other != name)
            .map(|(other, value)| format!("{}: {value}", Value::from(other.as_str())))
            .collect();
        let mut with = |kind, own: &[String]| {
            let own = own.iter().map(|value| format!("{key}: {value}"));
            let listed: Vec<String> = own.chain(rest.iter().cloned()).collect();
            let text = format!("{{{}}}", listed.join(", "));
            all.push(Mutation { member: name.clone(), kind, text });
        };
        with(Kind::Absent, &[]);
        for empty in ["null", "\"\"", "\"  \""] {
            with(Kind::Absent, &[empty.to_owned()]);
        }
        with(Kind::Repeated, &[value.to_string(), value.to_string()]);
        let other = "\"another-value\"".to_owned();
        with(Kind::Odd, &[value.to_string(), other.clone()]);
        with(Kind::Odd, &[other, value.to_string()]);
        for odd in odd() {
            with(Kind::Odd, &[odd]);
        }
    }
    all
}

/// Values that fit nowhere.
fn odd() -> Vec<String> {
    let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    let mut odd: Vec<String> = [
        "7",
        "-1.5",
        "1e400",
        "123456789012345678901234567890",
        "true",
        "[]",
        "{}",
        "[7, null, {\"a\": 1}]",
        "{\"a\": \"b\"}",
        "\"a\\u0000b\"",
        "\"\\ud800\"",
        "\"line\\r\\nbreak\"",
        "\"http://[\"",
    ]
    .map(str::to_owned)
    .to_vec();
    odd.push(deep);
    odd.push(Value::from("x".repeat(200_000)).to_string());
    odd.push(Value::from(vec!["x"; 20_000]).to_string());
    odd.push(Value::Object(Map::from_iter((0..5_000).map(|n| (n.to_string(), n.into())))).to_string());
    odd
}
