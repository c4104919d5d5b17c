//! Where a history and the code that ought to repeat it part, in words.
//!
//! Two commands may differ and read the same, because a line about a command holds no payload. Then the line says what
//! differs inside: the part, the place in it and what stands there on both sides. Values stand between `«` and `»`, are cut,
//! and not told where a name above them says that they are secret. What is kept in clear, in search keys and the log, is
//! the line [`without_values`].

use std::{fmt, time::Duration};

use serde_json::Value;

use crate::history::Command;

/// The first event of a history that the code does not produce.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Its number in the history, from 1.
    pub event: u64,
    /// What the history holds; nothing at the end of a turn.
    pub recorded: Option<Command>,
    /// What the code produced; nothing if it wants less.
    pub produced: Option<Command>,
}

impl std::error::Error for Difference {}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |command: &Option<Command>| command.as_ref().map_or("nothing".into(), Command::to_string);
        let (recorded, produced) = (show(&self.recorded), show(&self.produced));
        write!(f, "event {} of the history is {recorded}, but the code now wants {produced}", self.event)?;
        if recorded != produced {
            return Ok(());
        }
        let value = |command: &Option<Command>| serde_json::to_value(command).unwrap_or_default();
        match first(&value(&self.recorded), &value(&self.produced)) {
            Some(Inside { part, place, recorded, produced }) => {
                write!(f, " with another {part}: ")?;
                if !place.is_empty() {
                    write!(f, "at {OPEN}{}{CLOSE}, ", cut(&place, 0))?;
                }
                write!(f, "{OPEN}{recorded}{CLOSE} in the history, {OPEN}{produced}{CLOSE} now")
            }
            None => Ok(()),
        }
    }
}

const OPEN: char = '«';
const CLOSE: char = '»';

/// The line without what it tells of payloads.
pub(crate) fn without_values(line: &str) -> String {
    let mut rest = line;
    let mut clear = String::with_capacity(line.len());
    while let Some((before, after)) = rest.split_once(OPEN) {
        clear.push_str(before);
        clear.push_str("«…»");
        // Without an end, everything is a value.
        rest = after.split_once(CLOSE).map_or("", |(_, after)| after);
    }
    clear.push_str(rest);
    clear
}

/// A value is told with at most so many characters, a place as well.
const TOLD: usize = 80;

/// So much of what two texts have in common stands before where they part.
const COMMON: usize = 16;

/// What two commands of a kind differ in.
struct Inside {
    /// The part of the command.
    part: String,
    /// JSON pointer into the part; empty for the whole.
    place: String,
    recorded: String,
    produced: String,
}

/// The first place where two commands differ.
fn first(recorded: &Value, produced: &Value) -> Option<Inside> {
    // The name of the kind, and its parts.
    let parts = |command: &Value| command.as_object()?.values().next().cloned();
    let (recorded, produced) = (parts(recorded)?, parts(produced)?);
    let mut place = Vec::new();
    let (recorded, produced) = parting(Some(&recorded), Some(&produced), &mut place)?;
    let is_secret = place.iter().any(|name| is_secret(name));
    let (recorded, produced) = match is_secret {
        true => (HIDDEN.to_owned(), HIDDEN.to_owned()),
        false => told(recorded, produced),
    };
    let mut names = place.into_iter();
    let part = names.next()?;
    let place = names.map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1"))).collect();
    Some(Inside { part, place, recorded, produced })
}

type Side<'v> = Option<&'v Value>;

/// Follows two values down to where they part.
fn parting<'v>(
    recorded: Side<'v>,
    produced: Side<'v>,
    place: &mut Vec<String>,
) -> Option<(Side<'v>, Side<'v>)> {
    if recorded == produced {
        return None;
    }
    match (recorded, produced) {
        // Durations are one value to people.
        (Some(left), Some(right)) if duration(left).is_some() && duration(right).is_some() => {
            Some((recorded, produced))
        }
        (Some(Value::Object(left)), Some(Value::Object(right))) => {
            let mut names = left.keys().chain(right.keys());
            let name = names.find(|name| left.get(*name) != right.get(*name))?;
            place.push(name.clone());
            parting(left.get(name), right.get(name), place)
        }
        (Some(Value::Array(left)), Some(Value::Array(right))) => {
            let index = (0..left.len().max(right.len())).find(|&i| left.get(i) != right.get(i))?;
            place.push(index.to_string());
            parting(left.get(index), right.get(index), place)
        }
        sides => Some(sides),
    }
}

const HIDDEN: &str = "(not told: by its name it may be secret)";

/// Both values, cut to where they part.
fn told(recorded: Side<'_>, produced: Side<'_>) -> (String, String) {
    let text = |side: Side<'_>| match side {
        None => "nothing".to_owned(),
        Some(value) => match duration(value) {
            Some(duration) => format!("{duration:?}"),
            None => masked(value).to_string(),
        },
    };
    let (recorded, produced) = (text(recorded), text(produced));
    let common = recorded.chars().zip(produced.chars()).take_while(|(left, right)| left == right).count();
    // What is not told reads the same on both sides.
    let from = if common > TOLD / 2 && recorded != produced { common - COMMON } else { 0 };
    (cut(&recorded, from), cut(&produced, from))
}

/// As the binary history's durations read in JSON.
fn duration(value: &Value) -> Option<Duration> {
    let parts = value.as_object().filter(|parts| parts.len() == 2)?;
    let nanos = u32::try_from(parts.get("nanos")?.as_u64()?).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(parts.get("secs")?.as_u64()?, nanos))
}

/// Without the values whose names say that they may be secret.
fn masked(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(masked).collect(),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                (name.clone(), if is_secret(name) { HIDDEN.into() } else { masked(value) })
            };
            members.iter().map(member).collect()
        }
        Value::String(text) => credential(text).map_or_else(|| value.clone(), Value::from),
        _ => value.clone(),
    }
}

/// What goes into an `Authorization` header is known by how it begins.
fn credential(text: &str) -> Option<&'static str> {
    let (scheme, rest) = text.split_once(' ')?;
    let is_known = ["bearer", "basic"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    (is_known && !rest.contains(' ')).then_some(HIDDEN)
}

/// Words in names of what nobody is to read.
const SECRET: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "apikey",
    "privatekey",
    "credential",
    "cookie",
    "signature",
    "otp",
];

fn is_secret(name: &str) -> bool {
    // The name of a credential is none.
    if name == "credentials_name" {
        return false;
    }
    let plain: String =
        name.chars().filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    SECRET.iter().any(|word| plain.contains(word))
}

/// So much of a text, from there on, on one line and without the marks of values.
fn cut(text: &str, from: usize) -> String {
    let mut rest = text.chars().skip(from);
    let mut cut: String = if from > 0 { "…".into() } else { String::new() };
    cut.extend(rest.by_ref().take(TOLD).map(|char| match char {
        OPEN => '<',
        CLOSE => '>',
        char if char.is_control() => ' ',
        char => char,
    }));
    if rest.next().is_some() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests;
