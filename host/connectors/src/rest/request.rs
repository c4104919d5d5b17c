//! An operation and its arguments become a request.
//!
//! The base address is given by the host and frozen: arguments fill holes of the path's template, with every byte encoded
//! that could end a segment, and nothing else of the address (THREATS rows 4 and 5). What was built is compared with what
//! the URL parser made of it. Headers are typed values under names that the operation declares (rows 6 and 7); the
//! credential is put in later, by the egress.

use std::collections::BTreeSet;

use http::{HeaderName, HeaderValue, Method, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use url::Url;

use super::{Operation, Parameter, Place, Style, arguments::invalid, body};
use crate::{ConnectorsError, credentials};

/// Everything but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Bytes of an address. HTTP libraries stop at 65,534.
const MAX_ADDRESS: usize = 60_000;

/// Levels of `a[b][c]`.
const MAX_LEVELS: usize = 16;

/// A request without its credential.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Content type and bytes.
    pub(crate) body: Option<(HeaderValue, Vec<u8>)>,
}

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
        let before = base.path().trim_end_matches('/');
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
        let is_as_meant = url.origin() == base.origin()
            && url.scheme() == base.scheme()
            && url.username() == base.username()
            && url.path() == path
            && segments(url.path()) == segments(before) + segments(&self.path)
            && url.query().unwrap_or_default() == query;
        if !is_as_meant || base.cannot_be_a_base() {
            return Err(invalid(&[], "the arguments would lead to another address than the operation's"));
        }
        if url.as_str().len() > MAX_ADDRESS {
            return Err(invalid(&[], format!("the address would be longer than {MAX_ADDRESS} bytes")));
        }
        Ok(url)
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
        if self.hidden.iter().any(|name| name == field) || self.parameters.iter().any(is_declared) {
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
            let text = match parameter.style {
                Style::Json => value.to_string(),
                _ => joined(parameter, value)?.join(","),
            };
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
    credentials::RESERVED.contains(&name.as_str())
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
                let (text, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
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
