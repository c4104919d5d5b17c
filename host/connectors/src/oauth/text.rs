//! JSON as authorization servers write it: UTF-8 or UTF-16, with a mark of the byte order, a comma behind the last member, or a
//! word that is no value. What cannot be read is told by its place and the member that it is in, and never by what is there.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use crate::protocol::mend::{self, Change, Kind};

/// Members of OAuth's answers, which may be named: a broken text may have anything where a name should be.
const NAMES: [&str; 38] = [
    "access_token",
    "authed_user",
    "authorization_endpoint",
    "authorization_servers",
    "client_id",
    "client_id_issued_at",
    "client_secret",
    "client_secret_expires_at",
    "code_challenge_methods_supported",
    "created_at",
    "data",
    "error",
    "error_description",
    "error_uri",
    "expires",
    "expires_at",
    "expires_in",
    "expires_on",
    "ext_expires_in",
    "grant_types",
    "grant_types_supported",
    "id_token",
    "introspection_endpoint",
    "issuer",
    "jwks_uri",
    "redirect_uris",
    "refresh_token",
    "registration_endpoint",
    "resource",
    "response_types_supported",
    "revocation_endpoint",
    "scope",
    "scopes",
    "scopes_supported",
    "token_endpoint",
    "token_endpoint_auth_method",
    "token_endpoint_auth_methods_supported",
    "token_type",
];

/// A text that was made JSON, and the members whose values are none.
pub(super) struct Mended {
    pub(super) text: String,
    pub(super) odd: Vec<(&'static str, &'static str)>,
}

/// The text in a body, without a mark of the byte order and blanks around it.
pub(super) fn decoded(body: &[u8]) -> String {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        Cow::Owned(String::from_utf16_lossy(&units))
    };
    let text = match body {
        [0xff, 0xfe, ..] | [1..=255, 0, ..] => wide(body, u16::from_le_bytes),
        [0xfe, 0xff, ..] | [0, 1..=255, ..] => wide(body, u16::from_be_bytes),
        body => String::from_utf8_lossy(body),
    };
    text.trim_start_matches('\u{feff}').trim().to_owned()
}

/// The text without what can be taken out of it and changes nothing that it says; none if there is no such thing. What
/// stands in other quotes, or in another language's words, stays: what guards must not be guessed.
pub(super) fn mended(text: &str) -> Option<Mended> {
    let (mut whole, mut copied) = (String::with_capacity(text.len()), 0);
    let (mut places, mut whys) = (Vec::new(), Vec::new());
    for Change { at, kind } in mend::read(text).changes {
        let instead = match kind {
            Kind::Comma => "",
            Kind::NoValue(why) => {
                places.push(at.start);
                whys.push(why);
                "null"
            }
            Kind::Word | Kind::Text => continue,
        };
        whole.push_str(&text[copied..at.start]);
        whole.push_str(instead);
        copied = at.end;
    }
    whole.push_str(&text[copied..]);
    (copied > 0).then(|| Mended { text: whole, odd: members(text, places).into_iter().zip(whys).collect() })
}

/// What is wrong with a text that should be an object, and where.
pub(super) fn fault(text: &str) -> String {
    let Err(error) = serde_json::from_str::<IgnoredAny>(text) else { return "it is no object".into() };
    let at = offset(text, error.line(), error.column());
    let why = match text[..at].chars().next_back() {
        Some('\'') if !error.is_eof() => "single quotes, where JSON has double ones",
        _ => because(&error),
    };
    let place = match members(&text[..at], [at])[..] {
        [name] if name != UNNAMED => format!(" in {name}"),
        _ => String::new(),
    };
    format!("{why}{place} (line {}, column {})", error.line(), error.column())
}

/// The members of the outermost object that some places are in. The places come in their order, and each byte is looked
/// at once, however many there are.
fn members(text: &str, places: impl IntoIterator<Item = usize>) -> Vec<&'static str> {
    let (mut names, mut at) = (Names::default(), 0);
    let member = |place: usize| {
        while at < place
            && let Some(char) = text[at..].chars().next()
        {
            let size = if char == '"' { string(&text[at..]) } else { char.len_utf8() };
            let (piece, behind) = text[at..].split_at(size);
            names.see(piece, behind);
            at += size;
        }
        names.current()
    };
    places.into_iter().map(member).collect()
}

/// What an error of the reader says; nothing of the text.
pub(super) fn because(error: &serde_json::Error) -> &'static str {
    let message = error.to_string();
    let reasons = [
        ("recursion limit", "it is nested too deep"),
        ("EOF", "it ends too soon"),
        ("trailing comma", "a comma too many"),
        ("trailing characters", "something behind its end"),
        ("control character", "a control character inside of a text"),
        ("key must be a string", "a name without quotes"),
        ("expected `:`", "a colon is missing"),
        ("expected `,`", "a comma is missing"),
        ("number out of range", "a number that is too large"),
        ("invalid number", "a number that is none"),
        ("invalid escape", "an escape that is none"),
        ("lone leading surrogate", "half a character"),
        ("unexpected end of hex escape", "half a character"),
        ("invalid unicode", "half a character"),
        ("expected", "something that is no value"),
    ];
    let found = reasons.iter().find(|(begin, _)| message.starts_with(begin));
    found.map_or("it is not JSON", |(_, reason)| reason)
}

fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut at = (before + column).min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

/// Bytes of the string that a text begins with.
fn string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, char) in text.char_indices().skip(1) {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

const UNNAMED: &str = "a member";

/// The member of the outermost object that a reader is in.
#[derive(Default)]
struct Names {
    depth: usize,
    name: Option<&'static str>,
}

impl Names {
    fn see(&mut self, piece: &str, behind: &str) {
        match piece {
            "{" | "[" => self.depth += 1,
            "}" | "]" => {
                self.depth = self.depth.saturating_sub(1);
                self.name = self.name.filter(|_| self.depth > 0);
            }
            "," if self.depth == 1 => self.name = None,
            piece if self.depth == 1 && self.name.is_none() && piece.starts_with('"') => {
                let is_name = behind.trim_start().starts_with(':') || behind.is_empty();
                let name = piece.trim_matches('"');
                self.name = NAMES.into_iter().find(|known| is_name && *known == name);
            }
            _ => {}
        }
    }

    fn current(&self) -> &'static str {
        self.name.unwrap_or(UNNAMED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_nothing_is_taken_out_and_what_is_no_value_is_named() {
        let mended = |text: &str| mended(text).map(|mended| (mended.text, mended.odd));
        for (text, expected) in [
            (r#"{"a": [1, 2,], "b": ", }",}"#, r#"{"a": [1, 2], "b": ", }"}"#),
            ("{\"a\": 1 ,\n}", "{\"a\": 1 \n}"),
        ] {
            assert_eq!(mended(text), Some((expected.to_owned(), Vec::new())));
        }
        let (text, odd) =
            mended(r#"{"expires_in": NaN, "s3cret": [-Infinity], "scope": None, "expires": 1e999}"#)
                .expect("odd");
        assert_eq!(text, r#"{"expires_in": null, "s3cret": [null], "scope": null, "expires": null}"#);
        let names: Vec<&str> = odd.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["expires_in", UNNAMED, "scope", "expires"]);
        for kept in [r#"{"a": 'x'"#, "{\"a\": \"x\ny\"", r#"{"a": True"#, r#"{"a": "\ud800""#] {
            let text = mended(&format!("{kept},}}")).map(|(text, _)| text);
            assert_eq!((text, mended(kept).map(|(text, _)| text)), (Some(format!("{kept}}}")), None));
        }
        for whole in ["", "{}", r#"{"a": "NaN, ]", "b": [1, "x"]}"#, "hello", "\"open"] {
            assert_eq!(mended(whole), None, "{whole}");
        }
    }

    #[test]
    fn a_fault_is_told_by_its_place_and_member() {
        for (text, expected) in [
            (
                "{\"access_token\": 's3cret'}",
                "single quotes, where JSON has double ones in access_token (line 1, column 18)",
            ),
            ("{'access_token': 's3cret'}", "single quotes, where JSON has double ones (line 1, column 2)"),
            ("{\"access_token\": \"s3cret", "it ends too soon in access_token (line 1, column 24)"),
            (
                "{\"access_token\": \"s3cret\n\"}",
                "a control character inside of a text in access_token (line 1, column 24)",
            ),
            (
                "{\"access_token\": \"x\",\n \"expires_in\": 0x10}",
                "a comma is missing in expires_in (line 2, column 17)",
            ),
            ("{\"s3cret\": oops}", "something that is no value (line 1, column 12)"),
            ("{\"access_token\" \"s3cret\"}", "a colon is missing (line 1, column 17)"),
            ("{\"a\": 1} s3cret", "something behind its end (line 1, column 10)"),
            ("{access_token: 1}", "a name without quotes (line 1, column 2)"),
        ] {
            assert_eq!(fault(text), expected, "{text}");
        }
    }

    #[test]
    fn a_text_is_read_in_every_encoding() {
        let text = "{\"a\": \"é\"}";
        let wide = |bytes: fn(u16) -> [u8; 2]| -> Vec<u8> { text.encode_utf16().flat_map(bytes).collect() };
        let marked = |bytes: fn(u16) -> [u8; 2]| [bytes(0xfeff).to_vec(), wide(bytes)].concat();
        for body in [
            text.as_bytes().to_vec(),
            format!("\u{feff} {text}\r\n").into_bytes(),
            wide(u16::to_le_bytes),
            wide(u16::to_be_bytes),
            marked(u16::to_le_bytes),
            marked(u16::to_be_bytes),
        ] {
            assert_eq!(decoded(&body), text);
        }
    }
}
