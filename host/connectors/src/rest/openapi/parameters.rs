//! Parameters: which of them callers give, which are the credential's, which cannot be sent.

use std::collections::BTreeMap;

use http::HeaderName;
use serde_json::{Map, Value, json};

use super::{
    super::{
        Parameter, Place, Style, body, keys, request,
        schema::{Direction, Uses, size},
        security::{KeyIn, SecurityKind, SecurityScheme},
    },
    Importer, MAX_DESCRIPTION, MAX_PARAMETERS, MAX_TITLE, flag, what,
};
use crate::error::wording::short;

/// Headers that a document may name and that are set right by themselves.
const BY_THEMSELVES: [&str; 9] = [
    "accept",
    "authorization",
    "content-type",
    "content-length",
    "content-encoding",
    "accept-encoding",
    "connection",
    "host",
    "transfer-encoding",
];

/// A parameter as it is declared, with its schema translated.
pub(super) struct Declared {
    pub(super) parameter: Parameter,
    pub(super) schema: Map<String, Value>,
}

/// The parameters of an operation.
pub(super) struct Found {
    /// Those that callers give, by place and name.
    pub(super) kept: Vec<Declared>,
    /// The names of the security schemes that it has among its parameters and must have.
    pub(super) keys: Vec<String>,
    /// It must have a header `Authorization`, which says what no scheme says otherwise.
    pub(super) authorization: bool,
}

/// Where a document says that a parameter stands.
enum Stands {
    In(Place),
    Cookie,
    Nowhere(String),
}

impl<'a> Importer<'a> {
    pub(super) fn parameters(
        &mut self,
        path: &str,
        source: &'a Map<String, Value>,
        item: &'a Map<String, Value>,
        uses: &mut Uses,
    ) -> Result<Found, String> {
        // The operation's own come later and replace those of the path.
        let mut listed = self.listed(item)?;
        listed.extend(self.listed(source)?);
        if listed.len() > MAX_PARAMETERS {
            return Err(format!("it has more than {MAX_PARAMETERS} parameters"));
        }
        let holes = request::names(path);
        let mut declared: BTreeMap<(Place, String), &'a Value> = BTreeMap::new();
        let mut cookies: BTreeMap<String, &'a Value> = BTreeMap::new();
        for (key, parameter) in listed {
            let parameter =
                self.follow(parameter).map_err(|broken| format!("one of its parameters {broken}"))?;
            let required = flag(parameter.get("required")) == Some(true);
            let Some(name) = name_of(parameter).or_else(|| parameter.is_object().then_some(key?.to_owned()))
            else {
                let reason = match parameter.is_object() {
                    true => "one of its parameters has no name".to_owned(),
                    false => format!("one of its parameters is {}", what(parameter)),
                };
                self.left_out(required, reason)?;
                continue;
            };
            match stands(parameter, &name, |name| holes.contains(name)) {
                Stands::In(place) => {
                    declared.insert((place, name), parameter);
                }
                Stands::Cookie => {
                    cookies.insert(name, parameter);
                }
                Stands::Nowhere(place) => {
                    self.left_out(required, format!("its parameter '{}' {place}", short(&name, 100)))?;
                }
            }
        }
        let (mut kept, mut keys, mut authorization) = (Vec::new(), Vec::new(), false);
        for (name, source) in cookies {
            self.cookie(&name, source, &mut keys)?;
        }
        for ((place, name), source) in &declared {
            let required = *place == Place::Path || flag(source.get("required")) == Some(true);
            let told = short(name, 100);
            let is_header = *place == Place::Header;
            match place {
                Place::Path if !holes.contains(name.as_str()) => {
                    self.note(format!("its parameter '{told}' stands nowhere in the path and is left out"));
                }
                Place::Header if self.hidden.header(name) => {}
                Place::Query if self.hidden.query(name) => {}
                _ if is_header && HeaderName::from_bytes(name.as_bytes()).is_err() => {
                    self.left_out(required, format!("its header '{told}' has a name that is none"))?;
                }
                _ if is_header && BY_THEMSELVES.contains(&name.to_ascii_lowercase().as_str()) => {
                    authorization |= required && name.eq_ignore_ascii_case("authorization");
                }
                Place::Header | Place::Query if keys::is_credential(name) => {
                    let place = if is_header { KeyIn::Header } else { KeyIn::Query };
                    let scheme = self.undeclared(SecurityKind::Key { place, name: name.clone() }, name);
                    if required {
                        keys.push(scheme);
                    }
                }
                Place::Header if request::is_reserved(name) => {
                    self.left_out(required, format!("its header '{told}' is set by the host alone"))?;
                }
                _ => match self.parameter(*place, name, source, uses) {
                    Ok(declared) => kept.push(declared),
                    Err(reason) => self.left_out(required, reason)?,
                },
            }
        }
        for name in holes {
            if !declared.contains_key(&(Place::Path, name.to_owned())) {
                let source = json!({ "schema": { "type": ["string", "integer"] } });
                kept.push(self.parameter(Place::Path, name, &source, uses)?);
            }
        }
        kept.sort_by(|a, b| {
            (a.parameter.place, &a.parameter.name).cmp(&(b.parameter.place, &b.parameter.name))
        });
        Ok(Found { kept, keys, authorization })
    }

    /// The list of parameters, each with the name that it is listed under if it is an object.
    fn listed(&self, of: &'a Map<String, Value>) -> Result<Vec<(Option<&'a str>, &'a Value)>, String> {
        let Some(listed) = of.get("parameters") else { return Ok(Vec::new()) };
        let listed = self.follow(listed).map_err(|broken| format!("the list of its parameters {broken}"))?;
        match listed {
            Value::Null => Ok(Vec::new()),
            Value::Array(listed) => Ok(listed.iter().map(|parameter| (None, parameter)).collect()),
            Value::Object(fields) => Ok(super::reference::own_fields(fields)
                .map(|(name, field)| (Some(name.as_str()), field))
                .collect()),
            other => Err(format!("its parameters are no list but {}", what(other))),
        }
    }

    /// What cannot be sent costs the operation when it must be, else a note.
    fn left_out(&mut self, required: bool, reason: String) -> Result<(), String> {
        match required {
            true => Err(reason),
            false => {
                self.note(format!("{reason}: it is left out"));
                Ok(())
            }
        }
    }

    /// Cookies are the host's alone (THREATS row 7): one that authenticates comes from the credential.
    fn cookie(&mut self, name: &str, source: &Value, keys: &mut Vec<String>) -> Result<(), String> {
        let required = flag(source.get("required")) == Some(true);
        if self.hidden.cookie(name) {
            return Ok(());
        }
        if required && is_session(name) && HeaderName::from_bytes(name.as_bytes()).is_ok() {
            let kind = SecurityKind::Key { place: KeyIn::Cookie, name: name.to_owned() };
            keys.push(self.undeclared(kind, name));
            return Ok(());
        }
        self.left_out(
            required,
            format!("its parameter '{}' is a cookie, which callers cannot set", short(name, 100)),
        )
    }

    /// A security scheme that the name of a parameter gives away. Gives its name among the schemes.
    pub(super) fn undeclared(&mut self, kind: SecurityKind, name: &str) -> String {
        if let Some(known) = self.schemes.iter().find(|scheme| scheme.kind == kind) {
            return known.name.clone();
        }
        let mut unique = name.to_owned();
        while self.schemes.iter().any(|scheme| scheme.name == unique) {
            unique = format!("{unique} (parameter)");
        }
        self.schemes.push(SecurityScheme { name: unique.clone(), kind });
        unique
    }

    fn parameter(
        &mut self,
        place: Place,
        name: &str,
        source: &Value,
        uses: &mut Uses,
    ) -> Result<Declared, String> {
        let told = || short(name, 100);
        let content = source.get("content").and_then(Value::as_object).filter(|content| !content.is_empty());
        let json = content.and_then(|content| content.iter().find(|(media, _)| body::is_json(media)));
        let other = content.and_then(|content| content.keys().next());
        let style = match source.get("style") {
            None | Some(Value::Null) => None,
            Some(Value::String(style)) => Some(style.as_str()),
            Some(other) => {
                return Err(format!("its parameter '{}' has a style that is {}", told(), what(other)));
            }
        };
        let (style, schema) = match (json, other, style, place) {
            (Some((_, content)), ..) => (Style::Json, content.get("schema")),
            (None, Some(media), ..) => {
                return Err(format!("its parameter '{}' is written as {}", told(), short(media, 60)));
            }
            (None, None, None | Some("form"), Place::Query) => (Style::Form, source.get("schema")),
            (None, None, None | Some("simple"), Place::Path | Place::Header) => {
                (Style::Simple, source.get("schema"))
            }
            (None, None, Some("spaceDelimited"), Place::Query) => {
                (Style::SpaceDelimited, source.get("schema"))
            }
            (None, None, Some("pipeDelimited"), Place::Query) => (Style::PipeDelimited, source.get("schema")),
            (None, None, Some("deepObject"), Place::Query) => (Style::DeepObject, source.get("schema")),
            (None, None, Some(style), _) => {
                return Err(format!("its parameter '{}' has the style '{}'", told(), short(style, 40)));
            }
        };
        let explode = match source.get("explode") {
            None | Some(Value::Null) => style == Style::Form,
            given => flag(given).ok_or_else(|| {
                format!("its parameter '{}' does not say whether it explodes: neither true nor false", told())
            })?,
        };
        let schema = schema.map(|schema| self.schemas.translate(schema, Direction::Sent, uses));
        let mut schema = match schema {
            Some(Value::Object(schema)) => schema,
            _ => Map::new(),
        };
        if let Some(text) = source.get("description").and_then(Value::as_str) {
            schema.insert("description".into(), short(text, MAX_DESCRIPTION / 4).into());
        }
        if let Some(example) = source.get("example").filter(|example| size(example) <= MAX_TITLE) {
            schema.entry("examples").or_insert_with(|| json!([example]));
        }
        let parameter = Parameter {
            argument: name.to_owned(),
            name: name.to_owned(),
            place,
            required: place == Place::Path || flag(source.get("required")) == Some(true),
            style,
            explode,
            reserved: place == Place::Query && flag(source.get("allowReserved")) == Some(true),
        };
        Ok(Declared { parameter, schema })
    }
}

/// A name; in YAML it may look like a number.
fn name_of(parameter: &Value) -> Option<String> {
    match parameter.get("name")? {
        Value::String(name) if !name.is_empty() => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn stands(parameter: &Value, name: &str, is_hole: impl Fn(&str) -> bool) -> Stands {
    let place = match parameter.get("in") {
        Some(Value::String(place)) => place.trim().to_ascii_lowercase(),
        _ if is_hole(name) => "path".into(),
        _ => return Stands::Nowhere("does not say where it stands".into()),
    };
    match place.as_str() {
        "path" => Stands::In(Place::Path),
        "query" => Stands::In(Place::Query),
        "header" => Stands::In(Place::Header),
        "cookie" => Stands::Cookie,
        other => Stands::Nowhere(format!("stands in '{}', which is not served", short(other, 40))),
    }
}

/// Whether a cookie of this name says who calls.
fn is_session(name: &str) -> bool {
    const PARTS: [&str; 6] = ["session", "sess", "auth", "token", "sid", "jwt"];
    let name = name.to_ascii_lowercase();
    keys::is_credential(&name) || PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests;
