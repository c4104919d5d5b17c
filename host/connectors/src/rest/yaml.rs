//! YAML, value by value: what is odd in one place costs that place and no document.
//!
//! The parser gives events, and this makes values of them that JSON has. Scalars are read by the core schema of YAML 1.2
//! (§10.3.2); what JSON cannot say stays the text that it is (dates, `.inf`), a number of more than 64 bits becomes the
//! nearest that there is. Keys are texts as they are written. Merge keys are merged, tags that nobody knows are passed
//! over, an alias of nothing is null. What was guessed is remarked upon. Everything is counted while it is read, aliases as
//! what they stand for, so a document of a few lines cannot become gigabytes (THREATS row 22).

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Tag};
use serde_json::{Map, Number, Value};

use super::{
    document::{MAX_BYTES, MAX_DEPTH, MAX_VALUES, Remarks},
    held::Held,
};

/// A key that is no text may hold so many values and bytes of texts.
const MAX_KEY: usize = 1_000;

/// Reads the first document of a text. The parser's own messages quote the document, so only the place is told.
pub(super) fn read(text: &str, remarks: &mut Remarks) -> Result<Value, String> {
    let options = granit_parser::options! {
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH + 1,
        block_nesting_limit: MAX_DEPTH + 1,
        simple_key_max_lookahead: 8 << 10,
    };
    let mut builder =
        Builder { remarks, open: Vec::new(), anchors: HashMap::new(), values: 0, bytes: 0, root: None };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, line) = match event {
            Ok((event, span)) => (event, span.start.line()),
            Err(error) => return Err(told(&error)),
        };
        if builder.root.is_some() && matches!(event, Event::DocumentStart(..)) {
            builder.remarks.add(format!("line {line}: another document begins, which is not read"));
            break;
        }
        builder.take(event, line).map_err(|problem| format!("{problem} (line {line})"))?;
    }
    Ok(builder.root.map_or(Value::Null, |(root, _)| root))
}

fn told(error: &ScanError) -> String {
    let (line, column) = (error.marker().line(), error.marker().col() + 1);
    match matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
        true => format!("the document is nested more than {MAX_DEPTH} levels deep: line {line}"),
        false => format!("the document is neither JSON nor YAML: line {line}, column {column}"),
    }
}

/// What a value costs.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    values: usize,
    bytes: usize,
    depth: usize,
    /// What it takes in memory.
    held: Held,
}

/// A list or a mapping that is not yet closed.
struct Open {
    anchor: usize,
    cost: Cost,
    node: Node,
}

enum Node {
    List(Vec<Value>),
    Mapping {
        fields: Map<String, Value>,
        /// The key whose value comes next.
        key: Option<Key>,
        /// What `<<` names: it yields to what the mapping says itself.
        merged: Vec<Value>,
    },
}

enum Key {
    Merge,
    Text(String),
}

struct Builder<'a> {
    remarks: &'a mut Remarks,
    open: Vec<Open>,
    anchors: HashMap<usize, (Value, Cost)>,
    values: usize,
    bytes: usize,
    root: Option<(Value, Cost)>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_key = self.wants_key();
                let cost = Cost { values: 1, bytes: text.len(), depth: 0, held: Held::text(text.len()) };
                self.charge(cost)?;
                let value = match is_key {
                    true => Value::String(text.into_owned()),
                    false => scalar(text.as_ref(), style, tag.as_deref()),
                };
                if is_key && style == ScalarStyle::Plain && value == "<<" {
                    self.key(Key::Merge);
                    return Ok(());
                }
                self.complete(value, cost, anchor, line)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(anchor, Node::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                self.begin(anchor, Node::Mapping { fields: Map::new(), key: None, merged: Vec::new() })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { anchor, cost, node }) = self.open.pop() else { return Ok(()) };
                let value = match node {
                    Node::List(items) => Value::Array(items),
                    Node::Mapping { fields, merged, .. } => Value::Object(merge(fields, merged)),
                };
                self.complete(value, cost, anchor, line)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some((value, cost)) => {
                    let (cost, whole) = (*cost, value.clone());
                    self.charge(cost)?;
                    self.complete(whole, cost, 0, line)
                }
                None => self.nothing("an alias inside of what it stands for", line),
            },
            Event::UnresolvedAlias(_) => self.nothing("an alias of nothing", line),
            _ => Ok(()),
        }
    }

    fn nothing(&mut self, what: &str, line: usize) -> Result<(), String> {
        self.remarks.add(format!("line {line}: {what} is read as null"));
        self.complete(Value::Null, Cost { values: 1, ..Cost::default() }, 0, line)
    }

    fn begin(&mut self, anchor: usize, node: Node) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("the document is nested more than {MAX_DEPTH} levels deep"));
        }
        self.charge(Cost { values: 1, ..Cost::default() })?;
        self.open.push(Open { anchor, cost: Cost { values: 1, depth: 1, ..Cost::default() }, node });
        Ok(())
    }

    fn charge(&mut self, cost: Cost) -> Result<(), String> {
        self.values = self.values.saturating_add(cost.values);
        self.bytes = self.bytes.saturating_add(cost.bytes);
        if self.values > MAX_VALUES || self.bytes > 2 * MAX_BYTES {
            return Err(format!("the document holds more than {MAX_VALUES} values or too many aliases"));
        }
        self.remarks.held.add(cost.held)?;
        if self.open.len() + cost.depth > MAX_DEPTH {
            return Err(format!("the document is nested more than {MAX_DEPTH} levels deep"));
        }
        Ok(())
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { node: Node::Mapping { key: None, .. }, .. }))
    }

    fn key(&mut self, next: Key) {
        if let Some(Open { node: Node::Mapping { key, .. }, .. }) = self.open.last_mut() {
            *key = Some(next);
        }
    }

    /// A value is whole: it goes where it belongs.
    fn complete(&mut self, value: Value, cost: Cost, anchor: usize, line: usize) -> Result<(), String> {
        if anchor != 0 {
            // It is kept once more.
            self.charge(Cost { depth: 0, ..cost })?;
            self.anchors.insert(anchor, (value.clone(), cost));
        }
        let Some(open) = self.open.last_mut() else {
            self.root.get_or_insert((value, cost));
            return Ok(());
        };
        let more = match &open.node {
            Node::List(items) => Held::item(items.len()),
            // Its name was counted as a text.
            Node::Mapping { fields, key: Some(_), .. } => Held::member(fields.len(), 0),
            Node::Mapping { .. } => Held::default(),
        };
        self.remarks.held.add(more)?;
        open.cost.held = open.cost.held.and(cost.held).and(more);
        open.cost.values += cost.values;
        open.cost.bytes += cost.bytes;
        open.cost.depth = open.cost.depth.max(cost.depth + 1);
        match &mut open.node {
            Node::List(items) => items.push(value),
            Node::Mapping { fields, key, merged } => match key.take() {
                None => {
                    *key = Some(Key::Text(match value {
                        Value::String(text) => text,
                        // A list as a key: there is nothing in JSON that it could be. Its text is a key only while it is
                        // short, since the quotes of keys in keys double with each level.
                        other if cost.bytes + cost.values <= MAX_KEY => {
                            let text = other.to_string();
                            open.cost.bytes += text.len();
                            text
                        }
                        _ => {
                            self.remarks
                                .add(format!("line {line}: a key that is a list or a mapping is too long"));
                            format!("(a key on line {line})")
                        }
                    }));
                }
                Some(Key::Merge) => match value {
                    Value::Object(_) => merged.push(value),
                    Value::Array(items) if items.iter().all(Value::is_object) => merged.extend(items),
                    other => {
                        fields.insert("<<".into(), other);
                    }
                },
                Some(Key::Text(name)) => {
                    if fields.contains_key(&name) {
                        self.remarks.twice(&name, line);
                    }
                    fields.insert(name, value);
                }
            },
        }
        Ok(())
    }
}

/// What a mapping says itself goes before what it merges, and of those the first (yaml.org/type/merge.html).
fn merge(mut fields: Map<String, Value>, merged: Vec<Value>) -> Map<String, Value> {
    for source in merged {
        if let Value::Object(source) = source {
            for (name, value) in source {
                fields.entry(name).or_insert(value);
            }
        }
    }
    fields
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let tagged = tag.map(|tag| (tag.core_suffix(), tag.suffix()));
    match tagged {
        Some((Some("str"), _)) => text.into(),
        Some((Some("int" | "float" | "bool" | "null"), _)) => plain(text.trim()),
        Some((_, "binary")) => text.split_whitespace().collect::<String>().into(),
        // `! 12` is a text.
        Some((None, "")) => text.into(),
        _ if style == ScalarStyle::Plain => plain(text),
        _ => text.into(),
    }
}

/// A scalar without quotes, by the core schema.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        other => number(other).map_or_else(|| other.into(), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    let digits = |text: &str, radix: u32| {
        (!text.is_empty() && text.chars().all(|char| char.is_digit(radix)))
            .then(|| u64::from_str_radix(text, radix).ok())
            .flatten()
    };
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8).map(Number::from);
    }
    if let Some(hexadecimal) = text.strip_prefix("0x") {
        return digits(hexadecimal, 16).map(Number::from);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|char: char| char.is_ascii_digit() || char == '.') {
        return None;
    }
    let is_number = unsigned.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte))
        && unsigned.bytes().any(|byte| byte.is_ascii_digit());
    if !is_number {
        return None;
    }
    let positive = text.strip_prefix('+').unwrap_or(text);
    if let Ok(whole) = positive.parse::<u64>() {
        return Some(whole.into());
    }
    if let Ok(whole) = positive.parse::<i64>() {
        return Some(whole.into());
    }
    // Infinity is no number of JSON.
    positive.parse::<f64>().ok().and_then(Number::from_f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Value {
        read(text, &mut Remarks::default()).unwrap_or_else(|problem| panic!("{problem}: {text}"))
    }

    fn remarks(text: &str) -> Vec<String> {
        let mut remarks = Remarks::default();
        read(text, &mut remarks).expect("YAML");
        remarks.into_texts()
    }

    #[test]
    fn each_odd_value_costs_nothing_but_itself() {
        for (written, expected) in [
            ("2024-02-30", json!("2024-02-30")),
            ("2024-01-01T10:00:00Z", json!("2024-01-01T10:00:00Z")),
            ("0o17", json!(15)),
            ("017", json!(17)),
            ("0x1F", json!(31)),
            ("0xZZ", json!("0xZZ")),
            ("+12", json!(12)),
            ("-7", json!(-7)),
            ("1_000", json!("1_000")),
            ("12:30:45", json!("12:30:45")),
            ("1.", json!(1.0)),
            (".5", json!(0.5)),
            ("1e3", json!(1000.0)),
            ("1.2.3", json!("1.2.3")),
            ("-", json!([null])),
            ("1e999", json!("1e999")),
            (".inf", json!(".inf")),
            ("-.INF", json!("-.INF")),
            (".nan", json!(".nan")),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("340282366920938463463374607431768211456", json!(3.402_823_669_209_385e38)),
            ("on", json!("on")),
            ("No", json!("No")),
            ("TRUE", json!(true)),
            ("~", json!(null)),
            ("", json!(null)),
            ("!!str 12", json!("12")),
            ("!!int \"12\"", json!(12)),
            ("!!binary |\n   aGVs\n   bG8=", json!("aGVsbG8=")),
            ("!!set { a, b }", json!({ "a": null, "b": null })),
            ("!!timestamp 2024-01-01", json!("2024-01-01")),
            ("!Ref Bucket", json!("Bucket")),
            ("!GetAtt [a, b]", json!(["a", "b"])),
            ("!<tag:example.com,2000:x> { a: 1 }", json!({ "a": 1 })),
            ("'1'", json!("1")),
            ("*nowhere", json!(null)),
            ("&self [1, *self]", json!([1, null])),
        ] {
            let text = format!("before: 1\nodd: {}\nafter: 2\n", written);
            let text = if written == "-" { "before: 1\nodd:\n  -\nafter: 2\n".to_owned() } else { text };
            assert_eq!(value(&text), json!({ "before": 1, "odd": expected, "after": 2 }), "{text}");
        }
    }

    #[test]
    fn keys_are_texts_as_they_are_written() {
        let text =
            "200: a\n1.0: b\ntrue: c\nnull: d\non: e\n? [1, 2]\n: f\n'x': g\n0x10: h\n2024-01-01: i\n~: j\n";
        let expected = json!({
            "200": "a", "1.0": "b", "true": "c", "null": "d", "on": "e", "[1,2]": "f", "x": "g", "0x10": "h",
            "2024-01-01": "i", "~": "j",
        });
        assert_eq!(value(text), expected);
    }

    #[test]
    fn merge_keys_are_merged_and_yield() {
        let text = "one: &one { a: 1, b: 1 }\ntwo: &two { b: 2, c: 2 }\n\
            x: { <<: *one, a: 0 }\ny: { <<: [*one, *two] }\nz: { '<<': *one }\nodd: { <<: 7 }\n";
        let read = value(text);
        assert_eq!(read["x"], json!({ "a": 0, "b": 1 }));
        assert_eq!(read["y"], json!({ "a": 1, "b": 1, "c": 2 }));
        assert_eq!(read["z"], json!({ "<<": { "a": 1, "b": 1 } }));
        assert_eq!(read["odd"], json!({ "<<": 7 }));
    }

    #[test]
    fn what_was_guessed_is_remarked_upon() {
        assert_eq!(
            remarks("a: 1\nb: 2\na: 3\n"),
            ["line 3: 'a' stands twice in one object: the last one counts"]
        );
        assert_eq!(value("a: 1\na: 3\n"), json!({ "a": 3 }));
        assert_eq!(remarks("a: *b\n"), ["line 1: an alias of nothing is read as null"]);
        assert_eq!(remarks("a: 1\n---\nb: 2\n"), ["line 2: another document begins, which is not read"]);
        assert!(remarks("a: 1\n---\n").len() == 1 && remarks("--- \na: 1\n...\n").is_empty());
    }
}
