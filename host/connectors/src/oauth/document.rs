//! A JSON object from outside, taken apart member by member: what is odd costs that member and not the whole.
//!
//! Promises: every member that was asked for is used, or is named in [`Document::left_out`] with its reason, which quotes
//! nothing of the value. A member that stands there twice with different values is not used at all, so that two readers
//! cannot read two things. What is never asked for is never read, whatever it holds.

use std::{collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use url::Url;

use super::{quote::quoted, text};

/// Characters of a text.
const LONGEST: usize = 4096;

/// Members that hold a secret, here or deeper, in whatever answer (RFC 6749 §5.1, RFC 7591 §3.2.1, RFC 7592 §3).
pub(super) const SECRETS: [&str; 6] = [
    "access_token",
    "refresh_token",
    "id_token",
    "client_secret",
    "device_secret",
    "registration_access_token",
];

/// Items of a list.
const MOST: usize = 1000;

/// Parts that are told in one line.
const TOLD: usize = 20;

/// Odd items of one list that are named one by one.
const NAMED: usize = 3;

/// A part of an answer that was not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeftOut {
    /// The member, as a JSON pointer without its first slash: `scopes_supported/3`.
    pub(crate) what: String,
    pub(crate) reason: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.reason)
    }
}

/// An object whose members are taken one after the other.
#[derive(Debug)]
pub(super) struct Document {
    members: HashMap<String, Member>,
    left_out: Vec<LeftOut>,
}

#[derive(Debug)]
enum Member {
    Once(Box<RawValue>),
    /// More than once, with different values.
    Contested(Vec<Box<RawValue>>),
}

/// What a body is instead of a JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoDocument {
    Empty,
    Page,
    OtherText,
    OtherJson,
    /// It should be one, and is broken: why and where.
    Broken(String),
}

impl fmt::Display for NoDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broken(why) => return write!(f, "JSON that cannot be read: {why}"),
            Self::Empty => "an empty answer",
            Self::Page => "a web page instead of JSON",
            Self::OtherText => "something that is not JSON",
            Self::OtherJson => "JSON that is not an object",
        })
    }
}

impl Document {
    /// The object in a body, whatever content type it was sent with.
    pub(super) fn read(body: &[u8]) -> Result<Self, NoDocument> {
        let text = text::decoded(body);
        if let Ok(document) = serde_json::from_str(&text) {
            return Ok(document);
        }
        if text.starts_with('{')
            && let Some(mended) = text::mended(&text)
            && let Ok(document) = serde_json::from_str::<Self>(&mended.text)
        {
            let odd =
                mended.odd.into_iter().map(|(what, why)| LeftOut { what: what.into(), reason: why.into() });
            return Ok(Self { left_out: odd.collect(), ..document });
        }
        Err(match text.chars().next() {
            None => NoDocument::Empty,
            Some('<') => NoDocument::Page,
            Some('[' | '"') if serde_json::from_str::<&RawValue>(&text).is_ok() => NoDocument::OtherJson,
            Some('{') => NoDocument::Broken(text::fault(&text)),
            Some(_) if text.parse::<f64>().is_ok() || matches!(&*text, "true" | "false" | "null") => {
                NoDocument::OtherJson
            }
            Some(_) => NoDocument::OtherText,
        })
    }

    /// An object that was read already.
    pub(super) fn of(value: &Value) -> Result<Self, NoDocument> {
        serde_json::to_vec(value).map_err(|_| NoDocument::OtherText).and_then(|text| Self::read(&text))
    }

    /// The same, of a form.
    pub(super) fn of_form(body: &[u8]) -> Self {
        let mut members = HashMap::new();
        for (name, value) in url::form_urlencoded::parse(body.trim_ascii()) {
            if let Ok(raw) = serde_json::value::to_raw_value(&value) {
                add(&mut members, name.into_owned(), raw);
            }
        }
        Self { members, left_out: Vec::new() }
    }

    /// What was asked for and not used.
    pub(super) fn left_out(self) -> Vec<LeftOut> {
        self.left_out
    }

    /// Why a member was not used; nothing about one that is absent.
    pub(super) fn reason(&self, name: &str) -> Option<&str> {
        self.left_out.iter().find(|left_out| left_out.what == name).map(|left_out| left_out.reason.as_str())
    }

    /// The first thing that was not used.
    pub(super) fn first_left_out(&self) -> Option<&LeftOut> {
        self.left_out.first()
    }

    pub(super) fn leave_out(&mut self, what: impl Into<String>, reason: impl Into<String>) {
        self.left_out.push(LeftOut { what: what.into(), reason: reason.into() });
    }

    /// Never reads members whose names begin with something.
    pub(super) fn forget(&mut self, prefix: &str) {
        self.members.retain(|name, _| !name.starts_with(prefix));
    }

    /// Whether there is something under a name, of whatever kind.
    pub(super) fn has(&self, name: &str) -> bool {
        match self.members.get(name) {
            Some(Member::Once(raw)) => raw.get() != "null",
            Some(Member::Contested(_)) => true,
            None => false,
        }
    }

    /// Every secret in it, at any depth and however often: what must not be quoted.
    pub(super) fn secrets(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, member) in &self.members {
            let raw = match member {
                Member::Once(raw) => std::slice::from_ref(raw),
                Member::Contested(all) => all,
            };
            for value in raw.iter().filter_map(|raw| serde_json::from_str::<Value>(raw.get()).ok()) {
                collect(name, &value, &mut found);
            }
        }
        found
    }

    /// The value as it is; `null` counts as absent.
    pub(super) fn value(&mut self, name: &str) -> Option<Value> {
        let reason = match self.members.get(name)? {
            Member::Once(raw) => match serde_json::from_str(raw.get()) {
                Ok(Value::Null) => return None,
                Ok(value) => return Some(value),
                Err(error) => format!("it cannot be read: {}", text::because(&error)),
            },
            Member::Contested(_) => "it stands there twice, with different values".to_owned(),
        };
        self.leave_out(name, reason);
        None
    }

    /// An object inside this one.
    pub(super) fn object(&mut self, name: &str) -> Option<Self> {
        let value = self.value(name)?;
        let inner = Self::of(&value).ok();
        if inner.is_none() && !is_empty(&value) {
            self.leave_out(name, format!("it is {}, not an object", kind(&value)));
        }
        inner
    }

    /// A text; an empty one counts as absent.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.text_up_to(name, LONGEST)
    }

    pub(super) fn text_up_to(&mut self, name: &str, longest: usize) -> Option<String> {
        let read = match self.value(name)? {
            Value::String(text) => check(text, longest),
            other => Err(format!("it is {}, not a text", kind(&other))),
        };
        self.or_leave_out(name, read)
    }

    /// A secret, without the blanks and line breaks that some put around it.
    pub(super) fn secret(&mut self, name: &str, longest: usize) -> Option<String> {
        let is_around =
            |char: char| char.is_whitespace() || char.is_control() || matches!(char, '\u{feff}' | '\u{200b}');
        let read = match self.value(name)? {
            Value::String(text) => check(text.trim_matches(is_around).to_owned(), longest),
            other => Err(format!("it is {}, not a text", kind(&other))),
        };
        self.or_leave_out(name, read)
    }

    /// A text, or a whole number that stands for one.
    pub(super) fn text_or_number(&mut self, name: &str) -> Option<String> {
        let read = match self.value(name)? {
            Value::Number(number) if number.is_u64() => Ok(Some(number.to_string())),
            Value::String(text) => check(text, LONGEST),
            other => Err(format!("it is {}, not a text", kind(&other))),
        };
        self.or_leave_out(name, read)
    }

    /// A number, also one that is written as a text.
    pub(super) fn number(&mut self, name: &str) -> Option<f64> {
        let read = match self.value(name)? {
            Value::Number(number) => Ok(number.as_f64()),
            Value::String(text) if text.trim().is_empty() => Ok(None),
            Value::String(text) => match text.trim().parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Some(number)),
                _ => Err("it is a text, not a number".into()),
            },
            other => Err(format!("it is {}, not a number", kind(&other))),
        };
        self.or_leave_out(name, read)
    }

    /// A flag, also one that is written as a text.
    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        let read = match self.value(name)? {
            Value::Bool(flag) => Ok(Some(flag)),
            Value::Number(number) if number.as_f64() == Some(0.0) => Ok(Some(false)),
            Value::Number(number) if number.as_f64() == Some(1.0) => Ok(Some(true)),
            Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
                "" => Ok(None),
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => Err("it is a text, not true or false".into()),
            },
            other => Err(format!("it is {}, not true or false", kind(&other))),
        };
        self.or_leave_out(name, read)
    }

    /// A list of texts, also one that is written as a text with spaces or commas between.
    pub(super) fn list(&mut self, name: &str) -> Option<Vec<String>> {
        let items = match self.value(name)? {
            Value::String(text) if text.trim().is_empty() => return None,
            Value::String(text) => words(&text).map(Value::from).collect(),
            Value::Array(items) => items,
            Value::Object(members) if members.is_empty() => return None,
            other => {
                self.leave_out(name, format!("it is {}, not a list", kind(&other)));
                return None;
            }
        };
        let (total, mut list, mut odd) = (items.len(), Vec::new(), 0usize);
        for (place, item) in items.into_iter().take(MOST).enumerate() {
            let read = match item {
                Value::String(text) => {
                    check(text, LONGEST).map(|text| text.map(|text| text.trim().to_owned()))
                }
                Value::Null => Ok(None),
                other => Err(format!("it is {}, not a text", kind(&other))),
            };
            match read {
                Ok(text) => list.extend(text),
                Err(reason) => {
                    odd += 1;
                    if odd <= NAMED {
                        self.leave_out(format!("{name}/{place}"), reason);
                    }
                }
            }
        }
        if odd > NAMED {
            self.leave_out(name, format!("{odd} of its items are no texts"));
        }
        if total > MOST {
            self.leave_out(name, format!("it has {total} items, of which the first {MOST} were read"));
        }
        (odd == 0 || !list.is_empty()).then_some(list)
    }

    /// An address. Whether it may be called is for the caller to ask.
    pub(super) fn address(&mut self, name: &str) -> Option<Url> {
        let read = match Url::parse(&self.text(name)?) {
            // Escapes make it longer, and it is read again from what is kept.
            Ok(url) if url.as_str().len() > LONGEST => Err("it is too long".to_owned()),
            Ok(url) => Ok(Some(url)),
            Err(error) => Err(format!("it is not an address: {error}")),
        };
        self.or_leave_out(name, read)
    }

    fn or_leave_out<T>(&mut self, name: &str, read: Result<Option<T>, String>) -> Option<T> {
        read.unwrap_or_else(|reason| {
            self.leave_out(name, reason);
            None
        })
    }
}

/// The words of a text that stands for a list.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|char: char| char.is_whitespace() || char == ',').filter(|word| !word.is_empty())
}

fn check(text: String, longest: usize) -> Result<Option<String>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    if text.chars().any(char::is_control) {
        return Err("it holds control characters".into());
    }
    match text.len() > longest {
        true => Err(format!("it is longer than {longest} characters")),
        false => Ok(Some(text)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn collect(name: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if SECRETS.contains(&name) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(name, item, found)),
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| collect(name, value, found));
        }
        _ => {}
    }
}

fn add(members: &mut HashMap<String, Member>, name: String, raw: Box<RawValue>) {
    let same = |other: &RawValue| {
        let read = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).ok();
        other.get() == raw.get() || read(other).is_some_and(|other| Some(other) == read(&raw))
    };
    let member = match members.remove(&name) {
        None => Member::Once(raw),
        Some(Member::Once(other)) if same(&other) => Member::Once(other),
        Some(Member::Once(other)) => Member::Contested(vec![other, raw]),
        Some(Member::Contested(mut all)) => {
            all.push(raw);
            Member::Contested(all)
        }
    };
    members.insert(name, member);
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut members = HashMap::new();
                while let Some((name, raw)) = map.next_entry::<String, Box<RawValue>>()? {
                    add(&mut members, name, raw);
                }
                Ok(Document { members, left_out: Vec::new() })
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// All of it in one line, for a log.
pub(crate) fn told(left_out: &[LeftOut]) -> String {
    let told = left_out.iter().take(TOLD).map(|left_out| quoted(&left_out.to_string(), &[]));
    let more = left_out.len().saturating_sub(TOLD);
    let more = (more > 0).then(|| format!("and {more} more"));
    told.chain(more).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Document {
        Document::read(text.as_bytes()).expect("a document")
    }

    fn reason(document: &Document) -> String {
        document.first_left_out().map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn what_is_not_an_object_is_named() {
        for (body, expected) in [
            ("", NoDocument::Empty),
            (" \n", NoDocument::Empty),
            ("<!doctype html>", NoDocument::Page),
            ("access_token=x", NoDocument::OtherText),
            ("{\"a\":", NoDocument::Broken("it ends too soon (line 1, column 5)".into())),
            ("{} {}", NoDocument::Broken("something behind its end (line 1, column 4)".into())),
            ("[1]", NoDocument::OtherJson),
            ("\"text\"", NoDocument::OtherJson),
            ("7", NoDocument::OtherJson),
            ("null", NoDocument::OtherJson),
        ] {
            assert_eq!(Document::read(body.as_bytes()).err(), Some(expected), "{body}");
        }
    }

    #[test]
    fn a_mark_of_the_byte_order_and_what_nobody_asks_for_cost_nothing() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let text = format!("\u{feff}\n{{\"deep\": {deep}, \"far\": 1e999, \"a\": \"x\"}}\n");
        let mut document = read(&text);
        assert_eq!(document.text("a").as_deref(), Some("x"));
        assert!(document.first_left_out().is_none());
        assert_eq!(document.number("far"), None);
        assert_eq!(reason(&document), "far: it cannot be read: a number that is too large");
    }

    #[test]
    fn a_member_that_stands_there_twice_counts_only_if_both_say_the_same() {
        let mut document = read(r#"{"a": "x", "a": "y", "b": [1, 2], "b": [1,2], "a": "x"}"#);
        assert_eq!(document.value("b"), Some(serde_json::json!([1, 2])));
        assert_eq!(document.text("a"), None);
        assert_eq!(document.reason("a"), Some("it stands there twice, with different values"));
    }

    #[test]
    fn what_is_nearly_json_costs_the_member_that_it_is_in() {
        let mut document = read("{\"access_token\": \"x\", \"expires_in\": NaN, \"scope\": [\"a\",],}");
        assert_eq!(document.text("access_token").as_deref(), Some("x"));
        assert_eq!((document.number("expires_in"), document.list("scope")), (None, Some(vec!["a".into()])));
        assert_eq!(reason(&document), "expires_in: it is NaN, which is no JSON");
        let mut document = read("{\"a\": \" \\r\\n\\u0000s3cret\\n\", \"b\": \"s3\\ncret\"}");
        assert_eq!(document.secret("a", 10).as_deref(), Some("s3cret"));
        assert_eq!(document.secret("b", 10), None);
        assert_eq!(reason(&document), "b: it holds control characters");
    }

    #[test]
    fn texts_stand_for_lists_flags_and_numbers() {
        let mut document = read(
            r#"{"list": "a, b  c", "flag": "False", "on": 1, "number": " 3600.0 ", "empty": "", "none": null, "id": 7}"#,
        );
        assert_eq!(document.list("list"), Some(vec!["a".into(), "b".into(), "c".into()]));
        assert_eq!((document.flag("flag"), document.flag("on")), (Some(false), Some(true)));
        assert_eq!(document.number("number"), Some(3600.0));
        assert_eq!(document.text_or_number("id").as_deref(), Some("7"));
        for name in ["empty", "none", "absent"] {
            assert!(document.text(name).is_none() && document.list(name).is_none());
            assert!(document.flag(name).is_none() && document.number(name).is_none());
        }
        assert!(document.first_left_out().is_none());
    }

    #[test]
    fn an_odd_item_costs_itself_and_a_list_has_an_end() {
        let mut document = read(r#"{"some": ["a", 7, null, ""], "none": [7, 8], "empty": []}"#);
        assert_eq!(document.list("some"), Some(vec!["a".into()]));
        assert_eq!(reason(&document), "some/1: it is a number, not a text");
        assert_eq!((document.list("none"), document.list("empty")), (None, Some(Vec::new())));
        let long = serde_json::json!({ "long": vec!["x"; MOST + 1], "odd": vec![7; 50] });
        let mut document = Document::of(&long).expect("a document");
        assert_eq!(document.list("long").map(|list| list.len()), Some(MOST));
        assert_eq!(document.list("odd"), None);
        assert_eq!(document.left_out().len(), 1 + NAMED + 1);
    }

    #[test]
    fn a_reason_quotes_nothing_of_the_value() {
        let secret = "canary-of-a-value";
        for value in [
            serde_json::json!([[secret]]),
            serde_json::json!({ secret: secret }),
            serde_json::json!(format!("{secret}\n")),
            serde_json::json!(secret.repeat(1000)),
            serde_json::json!(format!("http://[{secret}")),
        ] {
            let mut document = Document::of(&serde_json::json!({ "m": value })).expect("a document");
            assert!(document.address("m").is_none());
            assert!(!reason(&document).is_empty() && !reason(&document).contains(secret));
            document.number("m");
            document.flag("m");
            assert!(!told(&document.left_out()).contains(secret));
        }
    }
}
