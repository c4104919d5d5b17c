//! An operation and its arguments become a request.
//!
//! The base address is given by the host and frozen: arguments fill holes of the path's template, with every byte encoded
//! that could end a segment, and nothing else of the address (THREATS rows 4 and 5). What was built is compared with what
//! the URL parser made of it. Headers are typed values under names that the operation declares (rows 6 and 7); the
//! credential is put in later, by the egress.

use std::collections::BTreeSet;

use http::{HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use url::Url;

use super::{Operation, Parameter, Place, Style, arguments::invalid, body, keys};
use crate::{
    ConnectorsError,
    egress::{Prepared, headers, same_origin},
};

/// Everything but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The same without what may stand in the value of a query parameter and end nothing there (RFC 3986 §3.4). `&`, `+`, `;` and
/// `#` would.
const FREE: &AsciiSet = &RESERVED
    .remove(b':')
    .remove(b'/')
    .remove(b'?')
    .remove(b'@')
    .remove(b'!')
    .remove(b'$')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b',')
    .remove(b'=');

/// Bytes of an address. HTTP libraries stop at 65,534.
const MAX_ADDRESS: usize = 60_000;

/// Levels of `a[b][c]`.
const MAX_LEVELS: usize = 16;

impl Operation {
    /// The request for arguments in either form, to a base address that the host has chosen.
    pub(crate) fn request(
        &self,
        base: &Url,
        arguments: &Map<String, Value>,
    ) -> Result<Prepared, ConnectorsError> {
        let arguments = &*self.flat(arguments)?;
        self.check_names(arguments)?;
        Ok(Prepared {
            method: self.verb.method(),
            url: self.url(base, arguments)?,
            headers: self.headers(arguments)?,
            body: body::encode(self, arguments)?,
        })
    }

    fn url(&self, base: &Url, arguments: &Map<String, Value>) -> Result<Url, ConnectorsError> {
        let before = self.before(base)?;
        let path = format!("{before}{}", self.filled(arguments)?);
        let mut pairs = Vec::new();
        for (parameter, value) in self.given(Place::Query, arguments)? {
            self.query(parameter, value, &mut pairs)?;
        }
        let query: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = base.query().map(str::to_owned).into_iter().chain(query).collect::<Vec<_>>().join("&");

        let mut url = base.clone();
        url.set_fragment(None);
        url.set_path(&path);
        url.set_query((!query.is_empty()).then_some(query.as_str()));
        // Whatever the parser changed was not meant.
        let segments = |path: &str| path.matches('/').count();
        let is_as_meant = same_origin(&url, base)
            && url.username() == base.username()
            && url.path() == path
            && segments(url.path()) == segments(&before) + segments(&self.path)
            && url.query().unwrap_or_default() == query;
        if !is_as_meant || base.cannot_be_a_base() {
            return Err(invalid(&[], "the arguments would lead to another address than the operation's"));
        }
        if url.as_str().len() > MAX_ADDRESS {
            return Err(invalid(&[], format!("the address would be longer than {MAX_ADDRESS} bytes")));
        }
        Ok(url)
    }

    /// The path before the operation's own: the base's, or what stands there in its place for this operation.
    fn before(&self, base: &Url) -> Result<String, ConnectorsError> {
        let before = base.path().trim_end_matches('/');
        let Some(moved) = &self.moved else { return Ok(before.to_owned()) };
        match before.strip_suffix(moved.from.as_str()) {
            Some(before) => Ok(format!("{before}{}", moved.to)),
            None => Err(invalid(
                &[],
                format!(
                    "by its document '{}' stands at {}/ while the others stand at {}/, and the connector's address does \
                     not end so: give it the document's address, or import the document again",
                    self.slug, moved.to, moved.from
                ),
            )),
        }
    }

    /// The path with its holes filled.
    fn filled(&self, arguments: &Map<String, Value>) -> Result<String, ConnectorsError> {
        let mut values = Vec::new();
        for (parameter, value) in self.given(Place::Path, arguments)? {
            let texts = joined(parameter, value)?;
            let encoded: Vec<_> = texts.iter().map(|text| encode(text)).collect();
            let filled = encoded.join(",");
            if texts.iter().any(|text| text.is_empty()) || texts.is_empty() || is_dots(&filled) {
                let message = "a part of a path cannot be empty, '.' or '..'";
                return Err(invalid(&[&parameter.argument], message));
            }
            values.push((parameter, filled));
        }
        let mut path = String::new();
        for segment in self.path.split('/').skip(1) {
            let mut filled = String::new();
            for piece in pieces(segment) {
                match piece {
                    Piece::Text(text) => filled.push_str(text),
                    Piece::Hole(name) => {
                        let value = values.iter().find(|(parameter, _)| parameter.name == name);
                        // The import declares every hole, and what is required was checked.
                        let (_, value) = value.ok_or_else(|| invalid(&[name], "a value is expected here"))?;
                        filled.push_str(value);
                    }
                }
            }
            // `{a}{b}` can be two dots together.
            if is_dots(&filled) {
                return Err(invalid(&[], "a part of a path cannot be '.' or '..'"));
            }
            path.push('/');
            path.push_str(&filled);
        }
        Ok(path)
    }

    /// The parameters of a place that have a value. A required one must.
    fn given<'a>(
        &'a self,
        place: Place,
        arguments: &'a Map<String, Value>,
    ) -> Result<Vec<(&'a Parameter, &'a Value)>, ConnectorsError> {
        let mut given = Vec::new();
        for parameter in self.parameters.iter().filter(|parameter| parameter.place == place) {
            match arguments.get(&parameter.argument) {
                None | Some(Value::Null) if parameter.required => {
                    let message =
                        format!("the {} parameter '{}' is required", place.as_str(), parameter.name);
                    return Err(invalid(&[&parameter.argument], message));
                }
                None | Some(Value::Null) => {}
                Some(value) => given.push((parameter, value)),
            }
        }
        Ok(given)
    }

    /// Encoded names and values of one query parameter.
    fn query(
        &self,
        parameter: &Parameter,
        value: &Value,
        pairs: &mut Vec<(String, String)>,
    ) -> Result<(), ConnectorsError> {
        let name = encode(&parameter.name);
        let list = |separator: &str| {
            let texts = joined(parameter, value)?.into_iter().map(|text| encode(&text));
            Ok::<_, ConnectorsError>(texts.collect::<Vec<_>>().join(separator))
        };
        match (parameter.style, value) {
            (Style::Json, value) => pairs.push((name, encode(&value.to_string()))),
            (Style::DeepObject, value) => {
                deep(&name, value, 0, pairs).map_err(|message| invalid(&[&parameter.argument], message))?
            }
            (_, Value::String(text)) if parameter.reserved => {
                pairs.push((name, utf8_percent_encode(text, FREE).to_string()));
            }
            (_, Value::Array(items)) if parameter.explode => {
                pairs.extend(items.iter().filter_map(text).map(|text| (name.clone(), encode(&text))));
            }
            (_, Value::Object(fields)) if parameter.explode => {
                for (field, value) in fields {
                    self.check_free(parameter, field)?;
                    pairs.extend(text(value).map(|text| (encode(field), encode(&text))));
                }
            }
            // An empty list has no value to name.
            (_, Value::Array(items)) if items.is_empty() => {}
            (Style::SpaceDelimited, _) => pairs.push((name, list("%20")?)),
            (Style::PipeDelimited, _) => pairs.push((name, list("%7C")?)),
            (Style::Form | Style::Simple, _) => pairs.push((name, list(",")?)),
        }
        Ok(())
    }

    /// The fields of an exploded object become parameters: not ones that are somebody else's.
    fn check_free(&self, parameter: &Parameter, field: &str) -> Result<(), ConnectorsError> {
        let is_declared = |other: &Parameter| {
            other.place == Place::Query && other.name == field && other.name != parameter.name
        };
        let is_hidden = keys::is_credential(field) || self.hidden.iter().any(|name| name == field);
        if is_hidden || self.parameters.iter().any(is_declared) {
            let message = "a field of this object cannot have the name of another query parameter";
            return Err(invalid(&[&parameter.argument, field], message));
        }
        Ok(())
    }

    fn headers(
        &self,
        arguments: &Map<String, Value>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, ConnectorsError> {
        let mut headers = Vec::new();
        let accept = match &self.accept {
            Some(media) => format!("{media}, */*;q=0.5"),
            None => "application/json, */*;q=0.5".into(),
        };
        // A media type of a document that cannot stand in a header is left out.
        headers.extend(HeaderValue::from_str(&accept).ok().map(|value| (header::ACCEPT, value)));
        for (parameter, value) in self.given(Place::Header, arguments)? {
            let wrong = |message: String| invalid(&[&parameter.argument], message);
            let text = joined(parameter, value)?.join(",");
            let name = HeaderName::from_bytes(parameter.name.as_bytes())
                .ok()
                .filter(|name| !is_reserved(name.as_str()))
                .ok_or_else(|| wrong(format!("the header '{}' is set by the host alone", parameter.name)))?;
            let value = HeaderValue::from_str(&text)
                .map_err(|_| wrong("a header's value is one line of printable ASCII characters".into()))?;
            headers.push((name, value));
        }
        Ok(headers)
    }
}

/// A value as the texts that a separator stands between.
fn joined(parameter: &Parameter, value: &Value) -> Result<Vec<String>, ConnectorsError> {
    Ok(match value {
        value if parameter.style == Style::Json => vec![value.to_string()],
        Value::Array(items) => items.iter().filter_map(text).collect(),
        Value::Object(fields) => fields
            .iter()
            .filter_map(|(name, value)| Some((name, text(value)?)))
            .flat_map(|(name, value)| match parameter.explode {
                true => vec![format!("{name}={value}")],
                false => vec![name.clone(), value],
            })
            .collect(),
        single => {
            vec![text(single).ok_or_else(|| invalid(&[&parameter.argument], "a value is expected here"))?]
        }
    })
}

/// `a[b]=1`, to any depth that makes sense. Lists are written with their positions.
pub(super) fn deep(
    name: &str,
    value: &Value,
    level: usize,
    pairs: &mut Vec<(String, String)>,
) -> Result<(), &'static str> {
    if level > MAX_LEVELS {
        return Err("it is nested too deep for this operation");
    }
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(field, value)| {
            deep(&format!("{name}%5B{}%5D", encode(field)), value, level + 1, pairs)
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, value)| deep(&format!("{name}%5B{index}%5D"), value, level + 1, pairs)),
        single => {
            pairs.extend(text(single).map(|text| (name.to_owned(), encode(&text))));
            Ok(())
        }
    }
}

/// A value as text: what is inside a list of lists is written as JSON, null is nothing.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Whether a header is the host's alone: those that credentials cannot set either, and those that say who calls.
pub(super) fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    headers::RESERVED.contains(&name.as_str())
        || ["authorization", "x-real-ip", "x-http-method-override", "x-method-override"]
            .contains(&name.as_str())
        || ["proxy-", "x-forwarded-", "mcp-", "sec-"].iter().any(|start| name.starts_with(start))
}

fn is_dots(segment: &str) -> bool {
    segment == "." || segment == ".."
}

enum Piece<'a> {
    Text(&'a str),
    Hole(&'a str),
}

/// A segment of a template: text and `{holes}`.
fn pieces(segment: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = segment;
    std::iter::from_fn(move || {
        let piece = match rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, after)) => {
                rest = after;
                Piece::Hole(name)
            }
            None if rest.is_empty() => return None,
            None => {
                // At least one character: an open brace without its other half is text.
                let next = rest.char_indices().skip(1).find(|(_, char)| *char == '{');
                let (text, after) = rest.split_at(next.map_or(rest.len(), |(end, _)| end));
                rest = after;
                Piece::Text(text)
            }
        };
        Some(piece)
    })
}

/// The names of a template's holes.
pub(super) fn names(path: &str) -> BTreeSet<&str> {
    let holes = path.split('/').flat_map(pieces).filter_map(|piece| match piece {
        Piece::Hole(name) => Some(name),
        Piece::Text(_) => None,
    });
    holes.collect()
}

/// Whether a template can be a path: it says why not.
pub(super) fn check_template(path: &str) -> Result<(), String> {
    const EXPECTED: &str =
        "its path is not one: expected are segments such as /pets/{id}, without query, dots or spaces";
    let segments = path.strip_prefix('/').ok_or("its path does not begin with '/'")?;
    let (mut checked, mut left) = (Vec::new(), segments.split('/').peekable());
    while let Some(segment) = left.next() {
        let is_last = left.peek().is_none();
        let is_filled = pieces(segment).all(|piece| match piece {
            Piece::Text(text) => {
                text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte))
            }
            Piece::Hole(name) => !name.is_empty() && !name.contains('{'),
        });
        checked.push(is_filled && !is_dots(segment) && (is_last || !segment.is_empty()));
    }
    if checked.into_iter().all(|good| good) { Ok(()) } else { Err(EXPECTED.into()) }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};
    use serde_json::json;

    use http::Method;

    use super::*;
    use crate::rest::{
        by_hand,
        tests::{arguments, base, operation, pets, prepare, refused},
    };

    fn by_path(path: &str) -> Operation {
        let query = json!([
            { "name": "q", "in": "query" }, { "name": "X-Note", "in": "header" },
        ]);
        let list = json!([{ "name": "test", "method": "GET", "path": path, "parameters": query }]);
        by_hand(&list).expect("an operation").remove(0)
    }

    fn url(slug: &str, arguments: Value) -> String {
        let prepared = prepare(operation(&pets(), slug), arguments);
        prepared.url.as_str().strip_prefix("https://api.example/v1").expect("the base").to_owned()
    }

    #[test]
    fn query_parameters_are_written_in_their_style() {
        for (arguments, expected) in [
            (json!({ "limit": 5 }), "/pets?limit=5"),
            (json!({ "limit": null }), "/pets"),
            (json!({ "tags": ["a b", "c&d", 1] }), "/pets?tags=a%20b&tags=c%26d&tags=1"),
            (json!({ "tags": "one" }), "/pets?tags=one"),
            (json!({ "tags": [] }), "/pets"),
            (json!({ "kinds": ["a,b", "c"] }), "/pets?kinds=a%2Cb,c"),
            (json!({ "kinds": [] }), "/pets"),
            (json!({ "ids": [1, 2] }), "/pets?ids=1%7C2"),
            (json!({ "words": ["a", "b"] }), "/pets?words=a%20b"),
            (
                json!({ "filter": { "age": { "min": 1 }, "kind": ["dog", "cat"], "none": null } }),
                "/pets?filter%5Bage%5D%5Bmin%5D=1&filter%5Bkind%5D%5B0%5D=dog&filter%5Bkind%5D%5B1%5D=cat",
            ),
            (json!({ "where": { "a": 1 } }), "/pets?where=%7B%22a%22%3A1%7D"),
            (json!({ "more": { "x": "1", "y": true } }), "/pets?x=1&y=true"),
        ] {
            assert_eq!(url("list-pets", arguments.clone()), expected, "{arguments}");
        }
    }

    #[test]
    fn paths_have_their_holes_filled() {
        let compare = json!({ "base": "v1.0", "head": "feature/x", "format": "diff" });
        assert_eq!(url("compare", compare), "/compare/v1.0...feature%2Fx.diff");
        assert_eq!(url("delete-pets-id", json!({ "id": [1, "a,b"] })), "/pets/1,a%2Cb");
        assert_eq!(url("delete-pets-id", json!({ "id": { "a": 1 } })), "/pets/a,1");
    }

    #[test]
    fn the_base_may_have_a_path_and_a_query_of_its_own() {
        let operation = by_path("/things/{id}/");
        for (address, expected) in [
            ("https://a.example", "https://a.example/things/7/?q=x"),
            ("https://a.example/v1//", "https://a.example/v1/things/7/?q=x"),
            ("http://a.example:8080/v1?tenant=t#top", "http://a.example:8080/v1/things/7/?tenant=t&q=x"),
        ] {
            let base = Url::parse(address).expect("an address");
            let given = arguments(json!({ "id": 7, "q": "x" }));
            let prepared = operation.request(&base, &given).expect("a request");
            assert_eq!(prepared.method, Method::GET);
            assert_eq!(prepared.url.as_str(), expected);
        }
    }

    #[test]
    fn row_05_parts_of_a_path_that_would_change_it_are_refused() {
        let pets = pets();
        let delete = operation(&pets, "delete-pets-id");
        for value in [json!(""), json!("."), json!(".."), json!([]), json!([""]), json!(["a", ""]), json!({})]
        {
            let (pointer, message) = refused(delete, json!({ "id": value }));
            assert!(pointer == "/arguments/id" && message.contains("cannot be empty"), "{value}: {message}");
        }
        let two = by_path("/{a}{b}/x");
        let (_, message) = refused(&two, json!({ "a": ".", "b": "." }));
        assert!(message.contains("'.' or '..'"), "{message}");
        for (value, written) in [
            ("../..", "..%2F.."),
            ("%2e%2e", "%252e%252e"),
            ("a/b", "a%2Fb"),
            ("a;b", "a%3Bb"),
            ("a?b#c", "a%3Fb%23c"),
            ("..\\..", "..%5C.."),
            ("...", "..."),
            ("\u{0}\n", "%00%0A"),
            ("ü", "%C3%BC"),
        ] {
            assert_eq!(url("delete-pets-id", json!({ "id": value })), format!("/pets/{written}"));
        }
    }

    /// Texts that addresses are attacked with, and any others.
    fn texts() -> impl Strategy<Value = String> {
        const ATTACKS: [&str; 24] = [
            "//evil.example",
            "\\\\evil.example",
            "@evil.example",
            "user:pass@",
            "https://evil.example/",
            "/..",
            "../",
            "..",
            ".",
            "%2e%2e",
            "%2E%2e%2F",
            "%2f",
            "%5c",
            ";",
            "?",
            "#",
            "&",
            "=",
            ":",
            "\\",
            "\t",
            "\r\n",
            "\u{0}",
            "x",
        ];
        let pieces = vec(prop_oneof![select(&ATTACKS[..]).prop_map(str::to_owned), any::<String>()], 0..4);
        pieces.prop_map(|pieces| pieces.concat())
    }

    /// The value after it was encoded, as a server would read it.
    fn read(text: &str) -> String {
        percent_encoding::percent_decode_str(text).decode_utf8().expect("UTF-8").into_owned()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn row_04_no_argument_leads_to_another_host(id in texts(), q in texts(), key in texts()) {
            let things = by_path("/things/{id}/parts/{part}");
            let pets = pets_once();
            let free = json!({ "more": { key.clone(): q.clone() }, "filter": { key: q.clone() }, "tags": [q.clone()] });
            let requests = [
                things.request(&base(), &arguments(json!({ "id": id, "part": q, "q": q }))),
                operation(pets, "list-pets").request(&base(), &arguments(free)),
            ];
            for prepared in requests.into_iter().flatten() {
                prop_assert_eq!(prepared.url.origin(), base().origin());
                prop_assert_eq!(prepared.url.host_str(), Some("api.example"));
                prop_assert!(prepared.url.username().is_empty() && prepared.url.password().is_none());
                prop_assert!(prepared.url.path().starts_with("/v1/") && prepared.url.fragment().is_none());
                // What goes over the wire is read again by others.
                let again = Url::parse(prepared.url.as_str());
                prop_assert_eq!(again, Ok(prepared.url));
            }
        }

        #[test]
        fn row_05_no_argument_changes_the_shape_of_a_path(id in texts(), part in texts(), q in texts()) {
            let things = by_path("/things/{id}/parts/a-{part}.json");
            let given = arguments(json!({ "id": id, "part": part, "q": q }));
            match things.request(&base(), &given) {
                Ok(prepared) => {
                    let segments: Vec<_> = prepared.url.path().split('/').collect();
                    prop_assert_eq!(segments.len(), 6);
                    prop_assert_eq!((segments[1], segments[2], segments[4]), ("v1", "things", "parts"));
                    prop_assert_eq!(read(segments[3]), id);
                    prop_assert_eq!(read(segments[5]), format!("a-{part}.json"));
                    let pairs: Vec<_> = prepared.url.query_pairs().collect();
                    prop_assert_eq!(pairs, [("q".into(), q.into())]);
                }
                Err(_) => prop_assert!(is_dots(&id) || id.is_empty() || part.is_empty() || is_dots(&part)),
            }
        }

        #[test]
        fn row_06_no_argument_breaks_out_of_a_header(note in texts(), name in texts()) {
            let things = by_path("/things");
            let given = arguments(json!({ "X-Note": note }));
            match things.request(&base(), &given) {
                Ok(prepared) => {
                    prop_assert_eq!(prepared.headers.len(), 2);
                    let (sent, value) = &prepared.headers[1];
                    prop_assert_eq!(sent.as_str(), "x-note");
                    prop_assert_eq!(value.as_bytes(), note.as_bytes());
                    prop_assert!(!value.as_bytes().iter().any(|byte| b"\r\n\0".contains(byte)));
                }
                Err(_) => prop_assert!(note.bytes().any(|byte| !(32..127).contains(&byte) && byte != b'\t')),
            }
            // The names in a multipart body are headers as well.
            let upload = operation(pets_once(), "upload-photo");
            let photo = json!({ "data": "YQ==", "filename": name.clone(), "content_type": "image/png" });
            let fields = json!({ name: "x", "id": 1, "photo": photo });
            let prepared = upload.request(&base(), &arguments(fields)).expect("a request");
            let (media, bytes) = prepared.body.expect("a body");
            let text = String::from_utf8(bytes).expect("UTF-8");
            let boundary = media.to_str().expect("ASCII").split("boundary=").last().expect("a boundary");
            let parts: Vec<_> = text.split(&format!("--{boundary}")).collect();
            for part in &parts[1..parts.len() - 1] {
                let (head, _) = part.split_once("\r\n\r\n").expect("a part");
                for line in head.split(['\r', '\n']) {
                    let known = ["Content-Disposition: form-data; name=", "Content-Type: "];
                    prop_assert!(line.is_empty() || known.iter().any(|start| line.starts_with(start)), "{}", line);
                }
            }
        }
    }

    /// The fixture, read once for thousands of cases.
    fn pets_once() -> &'static crate::rest::Api {
        static PETS: std::sync::LazyLock<crate::rest::Api> = std::sync::LazyLock::new(pets);
        &PETS
    }

    #[test]
    fn row_07_only_declared_headers_are_sent() {
        let pets = pets();
        let list = operation(&pets, "list-pets");
        for name in ["Authorization", "Host", "Cookie", "X-Forwarded-For", "X-Shop-Key", "Accept", "X-Other"]
        {
            for arguments in [json!({ name: "x" }), json!({ "header": { name: "x" } })] {
                let (pointer, message) = refused(list, arguments);
                assert!(pointer.ends_with(name) && message.contains("of this name"), "{pointer}: {message}");
            }
        }
        let prepared = prepare(list, json!({ "X-Trace": ["a", "b"] }));
        let headers: Vec<_> = prepared
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().expect("ASCII")))
            .collect();
        assert_eq!(headers, [("accept", "application/json, */*;q=0.5"), ("x-trace", "a,b")]);
    }

    #[test]
    fn row_07_reserved_headers_stay_reserved_in_a_stored_operation() {
        let mut stored = serde_json::to_value(by_path("/a")).expect("JSON");
        stored["parameters"][1]["name"] = "Proxy-Authorization".into();
        let operation: Operation = serde_json::from_value(stored).expect("an operation");
        let (_, message) = refused(&operation, json!({ "X-Note": "x" }));
        assert!(message.contains("set by the host alone"), "{message}");
        for name in [
            "HOST",
            "authorization",
            "Cookie",
            "mcp-session-id",
            "Transfer-Encoding",
            "Connection",
            "Content-Length",
        ] {
            assert!(is_reserved(name), "{name}");
        }
    }

    #[test]
    fn row_07_a_free_form_object_cannot_set_the_parameter_of_the_credential() {
        let document = json!({
            "openapi": "3.1.0",
            "components": { "securitySchemes": { "k": { "type": "apiKey", "in": "query", "name": "key" } } },
            "paths": { "/a": { "get": { "operationId": "a", "parameters": [
                { "name": "more", "in": "query", "schema": { "type": "object" } }, { "name": "page", "in": "query" },
            ] } } },
        });
        let api = crate::rest::import(document.to_string().as_bytes()).expect("a document");
        for name in ["key", "page", "access_token"] {
            let (pointer, message) = refused(operation(&api, "a"), json!({ "more": { name: "mine" } }));
            assert_eq!(pointer, format!("/arguments/more/{name}"));
            assert!(message.contains("the name of another query parameter"), "{message}");
        }
    }

    #[test]
    fn row_22_an_address_and_its_nesting_have_limits() {
        let pets = pets();
        let list = operation(&pets, "list-pets");
        let (_, message) = refused(list, json!({ "tags": "x".repeat(MAX_ADDRESS) }));
        assert!(message.contains("longer than 60000 bytes"), "{message}");
        let deep = (0..20).fold(json!(1), |value, _| json!({ "a": value }));
        let (pointer, message) = refused(list, json!({ "filter": deep }));
        assert!(pointer == "/arguments/filter" && message.contains("nested too deep"), "{message}");
    }

    #[test]
    fn row_05_templates_that_are_no_paths_are_refused() {
        for template in [
            "",
            "a",
            "/a?b=c",
            "/a#b",
            "/a/../b",
            "/./a",
            "/a//b",
            "//a",
            "/a b",
            "/{}",
            "/{a",
            "/a}",
            "/%2e%2e/a",
            "/a\\b",
        ] {
            assert!(check_template(template).is_err(), "{template}");
        }
        for template in
            ["/", "/a/", "/a/{b}", "/{a}...{b}.json", "/v1/users:batch", "/a/@me", "/Users('{id}')"]
        {
            assert_eq!(check_template(template), Ok(()), "{template}");
        }
    }
}
