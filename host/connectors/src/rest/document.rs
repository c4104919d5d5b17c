//! A document's text becomes a value, within limits.
//!
//! JSON is read by `serde_json`, which refuses more than 128 levels; what it refuses for other reasons is tried as YAML,
//! which has most of what people do to JSON (commas at the end, comments, numbers without end). [`yaml`] counts while it
//! reads. Texts in other encodings are decoded. What was guessed is remarked upon.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

pub(super) use super::reference::{pointer, resolve, step};
use super::{held::Held, yaml};
use crate::ConnectorsError;

/// Bytes of a document.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// Values in a document, aliases counted as what they stand for. GitHub's document has less than a million.
pub(super) const MAX_VALUES: usize = 4_000_000;

/// Levels of nesting, the same for both languages.
pub(super) const MAX_DEPTH: usize = 128;

/// Remarks about one document.
const MAX_REMARKS: usize = 100;

/// True or false, also as a text.
pub(super) fn flag(value: Option<&Value>) -> Option<bool> {
    match value? {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) if text.trim().eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.trim().eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// What was guessed when a text was read.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    texts: Vec<String>,
    more: usize,
    /// What the document takes, with what was read before it.
    pub(super) held: Held,
}

impl Remarks {
    pub(super) fn add(&mut self, remark: String) {
        match self.texts.len() < MAX_REMARKS {
            true => self.texts.push(remark),
            false => self.more += 1,
        }
    }

    /// A name that stands twice in one object. It may hold anything, so only one that looks like a name is told.
    pub(super) fn twice(&mut self, name: &str, line: usize) {
        let is_plain = name.len() <= 80 && name.bytes().all(|byte| byte.is_ascii_graphic());
        let name = if is_plain { format!("'{name}'") } else { "a name".into() };
        let place = if line > 0 { format!("line {line}: ") } else { String::new() };
        self.add(format!("{place}{name} stands twice in one object: the last one counts"));
    }

    pub(super) fn into_texts(mut self) -> Vec<String> {
        if self.more > 0 {
            self.texts.push(format!("and {} more of this kind", self.more));
        }
        self.texts
    }
}

/// Reads JSON or YAML.
pub(super) fn read(bytes: &[u8]) -> Result<(Value, Remarks), ConnectorsError> {
    read_beside(bytes, Held::default())
}

/// The same beside others, which take so much already.
pub(super) fn read_beside(bytes: &[u8], held: Held) -> Result<(Value, Remarks), ConnectorsError> {
    let invalid = |message: String| ConnectorsError::invalid("", message);
    if bytes.len() > MAX_BYTES {
        return Err(invalid(format!("the document is larger than {} MB", MAX_BYTES >> 20)));
    }
    let mut remarks = Remarks { held, ..Remarks::default() };
    let text = decode(bytes, &mut remarks);
    if !text.trim_start().starts_with('{') {
        let root = yaml::read(&text, &mut remarks).map_err(invalid)?;
        return Ok((root, remarks));
    }
    if values(&text) > MAX_VALUES {
        return Err(invalid(format!("the document holds more than {MAX_VALUES} values")));
    }
    let error = match json(&text, &mut remarks) {
        Ok(root) => return Ok((root, remarks)),
        Err(error) => error,
    };
    remarks.held.check().map_err(invalid)?;
    let (line, column) = (error.line(), error.column());
    if error.to_string().starts_with("recursion limit") {
        return Err(invalid(format!(
            "the document is nested more than {MAX_DEPTH} levels deep (line {line})"
        )));
    }
    let mut remarks = Remarks { held, ..Remarks::default() };
    let read = yaml::read(&text, &mut remarks);
    remarks.held.check().map_err(invalid)?;
    match read {
        Ok(root) if root.is_object() => Ok((root, remarks)),
        _ => Err(invalid(format!("the document is not JSON: line {line}, column {column}"))),
    }
}

/// The text of a document: UTF-8, or UTF-16 when it begins so. Anything else is taken for Latin-1, which has a character
/// for every byte.
fn decode<'a>(bytes: &'a [u8], remarks: &mut Remarks) -> Cow<'a, str> {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (units, _) = bytes.as_chunks::<2>();
        char::decode_utf16(units.iter().map(|&pair| unit(pair)))
            .map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect::<String>()
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes).into(),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes).into(),
        [1..=255, 0, 1..=255, 0, ..] => wide(bytes, u16::from_le_bytes).into(),
        [0, 1..=255, 0, 1..=255, ..] => wide(bytes, u16::from_be_bytes).into(),
        [0xef, 0xbb, 0xbf, bytes @ ..] | bytes => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => {
                remarks.add("the document is not UTF-8: it is read as Latin-1".into());
                bytes.iter().map(|&byte| char::from(byte)).collect::<String>().into()
            }
        },
    }
}

fn json(text: &str, remarks: &mut Remarks) -> serde_json::Result<Value> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let root = Reader(remarks).deserialize(&mut reader)?;
    reader.end()?;
    Ok(root)
}

/// Reads a value and sees what stands twice in an object.
struct Reader<'a>(&'a mut Remarks);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number without end"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.held.add(Held::text(value.len())).map_err(E::custom)?;
        Ok(value.into())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.0.held.add(Held::text(value.len())).map_err(E::custom)?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Reader(&mut *self.0))? {
            self.0.held.add(Held::item(list.len())).map_err(A::Error::custom)?;
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(Reader(&mut *self.0))?;
            self.0.held.add(Held::member(object.len(), name.len())).map_err(A::Error::custom)?;
            if object.contains_key(&name) {
                self.0.twice(&name, 0);
            }
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

/// At least the number of values in JSON text: each but the first follows one of these outside strings.
fn values(text: &str) -> usize {
    let (mut count, mut in_string, mut escaped) = (1, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(document: &[u8]) -> String {
        read(document).expect_err("it cannot be read").to_string()
    }

    fn value(document: &[u8]) -> Value {
        read(document).expect("a document").0
    }

    fn remarks(document: &[u8]) -> Vec<String> {
        read(document).expect("a document").1.into_texts()
    }

    #[test]
    fn yaml_is_read_like_json() {
        let yaml = "%YAML 1.2\n---\nresponses:\n  200: ok\nversion: 1.0\nshared: &a {no: on}\nagain: *a\n";
        let expected = json!({
            "responses": { "200": "ok" }, "version": 1.0, "shared": { "no": "on" }, "again": { "no": "on" },
        });
        assert_eq!(value(yaml.as_bytes()), expected);
        assert_eq!(value(b"\xef\xbb\xbf {\"a\": 1}"), json!({ "a": 1 }));
    }

    #[test]
    fn a_broken_document_is_told_by_its_place_and_not_by_its_text() {
        let json = message(b"{\"secret\": hunter2]");
        assert!(json.contains("not JSON: line 1, column 12") && !json.contains("hunter2"), "{json}");
        let yaml = message(b"openapi: 3.0.0\nsecret: [hunter2\n");
        assert!(yaml.contains("neither JSON nor YAML: line") && !yaml.contains("hunter2"), "{yaml}");
    }

    #[test]
    fn what_people_do_to_json_is_read() {
        for (text, expected) in [
            (r#"{"a": [1, 2,], "b": 1,}"#, json!({ "a": [1, 2], "b": 1 })),
            ("{\n# a comment\n\"a\": 1}", json!({ "a": 1 })),
            (r#"{"a": 1e999, "b": 2}"#, json!({ "a": "1e999", "b": 2 })),
            (r#"{"a": NaN}"#, json!({ "a": "NaN" })),
            (r#"{a: b}"#, json!({ "a": "b" })),
            (r#"{"a": 36893488147419103232}"#, json!({ "a": 3.689_348_814_741_910_3e19 })),
        ] {
            assert_eq!(value(text.as_bytes()), expected, "{text}");
        }
        let twice = br#"{"a": {"b": 1, "b": 2}}"#;
        assert_eq!(value(twice), json!({ "a": { "b": 2 } }));
        assert_eq!(remarks(twice), ["'b' stands twice in one object: the last one counts"]);
    }

    #[test]
    fn a_text_in_another_encoding_is_decoded() {
        let wide = |unit: fn(u16) -> [u8; 2], before: &[u8]| {
            before.iter().copied().chain("{\"é\": \"日\"}".encode_utf16().flat_map(unit)).collect::<Vec<u8>>()
        };
        for bytes in [
            wide(u16::to_le_bytes, b"\xff\xfe"),
            wide(u16::to_be_bytes, b"\xfe\xff"),
            wide(|unit| unit.to_le_bytes(), b""),
            wide(|unit| unit.to_be_bytes(), b""),
        ] {
            // Without a mark, only what begins with two characters of ASCII is known.
            if bytes.starts_with(b"{\0\"\0") || bytes.starts_with(b"\0{\0\"") || bytes[0] >= 0xfe {
                assert_eq!(value(&bytes), json!({ "é": "日" }));
            }
        }
        assert_eq!(value(b"a: caf\xe9\n"), json!({ "a": "café" }));
        assert_eq!(remarks(b"a: caf\xe9\n"), ["the document is not UTF-8: it is read as Latin-1"]);
        assert_eq!(value(b"\xff\xfe"), Value::Null);
    }

    #[test]
    fn row_22_a_document_that_grows_when_it_is_read_is_refused() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(","));
        }
        let text = message(bomb.as_bytes());
        assert!(text.contains("too many aliases"), "{text}");
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 10_000].join(","));
        assert!(message(long.as_bytes()).contains("too many aliases"));
        let many = format!("{{\"a\": [{}0]}}", "0,".repeat(MAX_VALUES));
        assert!(message(many.as_bytes()).contains("more than 4000000 values"));
        assert!(message(&vec![b' '; MAX_BYTES + 1]).contains("larger than 64 MB"));
    }

    #[test]
    fn row_22_a_document_that_is_too_deep_is_refused() {
        let json = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(message(json.as_bytes()).contains("nested more than 128 levels"));
        assert!(message(format!("a: {}", "[".repeat(100_000)).as_bytes()).contains("nested more than 128"));
        let blocks: String = (0..5_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
        assert!(message(blocks.as_bytes()).contains("nested more than 128"));
    }

    #[test]
    fn commas_in_strings_are_no_values() {
        assert_eq!(values(r#"{"a,[\",": [1, 2], "b": {}}"#), 6);
    }
}
