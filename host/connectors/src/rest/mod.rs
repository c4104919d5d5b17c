//! REST APIs as tools: documents and lists become operations, an operation and its arguments become a request, an answer
//! becomes what a tool gives.
//!
//! Nothing here sends or reads a socket, and nothing here knows a credential: the egress sends what [`Operation::request`]
//! prepares and puts the credential in. Promises: arguments choose values and never the host, the path's shape, or a header
//! that the operation does not declare (THREATS rows 4 to 7); authentication parameters are taken out at import and so are
//! examples that look like keys (row 19); a document is read within limits of size, depth and number (row 22).
//!
//! Documents are read as JSON values and their references are followed by JSON pointer, not with typed models of OpenAPI
//! (`oas3` and others): those are for 3.1 only, refuse a whole document for one field that is not as it should be, and
//! lose what they do not know. Real documents are full of such fields, and one bad operation must not cost the other
//! thousand; it is left out, and [`Api::skipped`] says why.

mod answer;
mod arguments;
mod body;
mod bundle;
mod by_hand;
mod catalogue;
mod check;
mod definition;
mod document;
mod example;
#[cfg(test)]
mod fuzz;
mod held;
mod keys;
mod multipart;
mod openapi;
mod reference;
mod request;
mod schema;
pub(crate) mod security;
mod service;
mod slug;
mod survey;
#[cfg(test)]
mod tests;
mod upload;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use self::{answer::answer, check::Checks, example::Example, openapi::import};
pub use self::{
    bundle::{Bundle, Origin},
    survey::{Survey, survey},
};
pub(crate) use self::{
    by_hand::by_hand,
    catalogue::Catalogue,
    definition::Terms,
    openapi::{import_for, server_of},
    security::{KeyIn, OAuthFlow, Way, WayKind},
    service::Caller,
};

/// A REST API as its document describes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Api {
    pub(crate) title: String,
    pub(crate) description: Option<String>,
    /// The API's own version, as it writes it.
    pub(crate) version: String,
    /// Base addresses, absolute or relative to the document's own address. Variables have their defaults.
    pub(crate) servers: Vec<String>,
    /// How one may authenticate, what the document names first before the rest.
    pub(crate) ways: Vec<Way>,
    /// By slug.
    pub(crate) operations: Vec<Operation>,
    /// Operations that cannot be called, and why.
    pub(crate) skipped: Vec<Skipped>,
    /// What else is not as the document says, or was guessed.
    pub(crate) notes: Vec<Note>,
}

/// An operation that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Skipped {
    /// `GET /pets/{id}`.
    pub(crate) operation: String,
    pub(crate) reason: String,
}

/// A part that was left out of an operation or of the document, or was guessed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// `GET /pets/{id}`, or what part of the document it is.
    pub(crate) place: String,
    pub(crate) reason: String,
}

/// One operation: a tool. It stands for itself, so that it can be stored as a record of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Operation {
    /// The tool's name: `[a-z0-9-]`, at most 64 characters, unique in its API.
    pub(crate) slug: String,
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) verb: Verb,
    /// The template, such as `/pets/{id}`.
    pub(crate) path: String,
    /// Where it stands, when that is not where the document's others stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moved: Option<Moved>,
    /// Whether a credential is needed.
    pub(crate) requires_auth: bool,
    /// OAuth scopes that the document names for it.
    pub(crate) scopes: Vec<String>,
    parameters: Vec<Parameter>,
    body: Option<Body>,
    /// Query parameters that carry credentials: arguments cannot set them by way of a free-form object.
    hidden: Vec<String>,
    /// The media type of a good answer.
    accept: Option<String>,
    input_schema: Box<RawValue>,
    /// What arguments are checked by where [`Operation::input_schema`] is cut: the whole, without what is said to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check_schema: Option<Box<RawValue>>,
    /// Not even that is the whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_cut: bool,
    /// Of a good answer's data, if it is JSON.
    output_schema: Option<Box<RawValue>>,
    example: Option<Example>,
}

/// An operation whose document gives it another address of the same origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Moved {
    /// The path of the address at which the others stand, such as `/v1`, and its own, such as `/v2`.
    from: String,
    to: String,
}

/// The HTTP methods that operations may have. TRACE is not among them: it gives back what was sent, credential included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Verb {
    Get,
    Head,
    Options,
    Post,
    Put,
    Patch,
    Delete,
}

/// A parameter, where it goes and how it is written there (OpenAPI 3.1 §4.8.12).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Parameter {
    /// Its name among the arguments.
    argument: String,
    /// Its name in the request.
    name: String,
    place: Place,
    required: bool,
    style: Style,
    explode: bool,
    /// Some characters that mean something in an address stand in its value as they are (`allowReserved`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    reserved: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    Path,
    Query,
    Header,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Style {
    /// `a,b` in a path or a header.
    Simple,
    /// `n=a&n=b`, or `n=a,b` when it does not explode.
    Form,
    SpaceDelimited,
    PipeDelimited,
    /// `n[a]=1`.
    DeepObject,
    /// The JSON text of the value.
    Json,
}

/// What a request's body is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    /// `image/*` when the caller says which.
    media: String,
    format: Format,
    required: bool,
    given: Given,
    /// When there are several media types: all of them, what is taken first before the rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    choices: Vec<Choice>,
    /// The argument that chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chooser: Option<String>,
}

/// One of the media types of a body, with what tells it from the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Choice {
    media: String,
    format: Format,
    /// The JSON types that it may be; see [`openapi::Kinds`].
    kinds: u8,
    /// Its fields, and those that it must have.
    names: BTreeSet<String>,
    required: BTreeSet<String>,
    /// Arguments whose schema is a list of alternatives, one for each media type that differs: which is its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    alternatives: BTreeMap<String, usize>,
    /// Fields that have a field `data` of their own: an object there is not taken for a file.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    data: BTreeSet<String>,
}

/// How a body is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    Json,
    /// `a=1&b=2`. Fields in `deep` are written `a[b]=1`, lists in `joined` as `a=1,2`.
    Form {
        deep: BTreeSet<String>,
        joined: BTreeSet<String>,
    },
    /// One part for each field. Those in `files` come as base64; those of them in `texts` only when they say so, a plain
    /// text being one, and those in `composed` may be anything else, which is written as JSON.
    Multipart {
        files: BTreeSet<String>,
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        texts: BTreeSet<String>,
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        composed: BTreeSet<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unnamed: Option<Unnamed>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        parts: BTreeMap<String, Part>,
    },
    Text,
    /// From base64.
    Bytes,
}

/// Fields of a multipart body that the document does not name, and that are files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Unnamed {
    /// Those that it names.
    known: BTreeSet<String>,
    /// What their names are like, if it says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    patterns: Vec<String>,
    #[serde(default)]
    texts: bool,
    #[serde(default)]
    composed: bool,
}

/// How a document says that a part is written (`encoding`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    content_type: Option<String>,
    #[serde(default)]
    deep: bool,
    #[serde(default)]
    joined: bool,
}

/// Where a body stands among the arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Given {
    /// It is the argument of this name.
    Whole(String),
    /// Each of its fields is an argument. If it is open, so is every argument that is no parameter.
    Fields { names: BTreeSet<String>, open: bool },
}

impl Verb {
    const ALL: [Self; 7] =
        [Self::Get, Self::Head, Self::Options, Self::Post, Self::Put, Self::Patch, Self::Delete];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str().eq_ignore_ascii_case(text))
    }

    fn method(self) -> http::Method {
        match self {
            Self::Get => http::Method::GET,
            Self::Head => http::Method::HEAD,
            Self::Options => http::Method::OPTIONS,
            Self::Post => http::Method::POST,
            Self::Put => http::Method::PUT,
            Self::Patch => http::Method::PATCH,
            Self::Delete => http::Method::DELETE,
        }
    }

    /// RFC 9110 §9.2.1: nothing changes at the server.
    pub(crate) fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options)
    }

    /// RFC 9110 §9.2.2: twice is like once, so it may be tried again.
    pub(crate) fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }
}

impl Place {
    fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
        }
    }
}

impl Operation {
    /// JSON Schema 2020-12 of the arguments in their flat form (see [`Operation::flat`]).
    pub(crate) fn input_schema(&self) -> Value {
        parse(&self.input_schema)
    }

    /// An answer for mock mode: from the document's examples, else none.
    pub(crate) fn example(&self) -> Option<&Example> {
        self.example.as_ref()
    }

    /// `MCPTool` (contract §11.1).
    pub(crate) fn tool(&self) -> Value {
        let mut tool = json!({
            "name": self.slug, "title": self.title, "description": self.description,
            "inputSchema": self.input_schema(), "annotations": self.annotations(),
        });
        if let Some(schema) = &self.output_schema {
            tool["outputSchema"] = envelope(parse(schema));
        }
        tool
    }

    /// MCP's hints. What HTTP does not say (whether a POST destroys anything) is left open.
    fn annotations(&self) -> Value {
        let mut annotations = json!({
            "readOnlyHint": self.verb.is_safe(), "idempotentHint": self.verb.is_idempotent(), "openWorldHint": true,
        });
        if let Some(title) = &self.title {
            annotations["title"] = title.as_str().into();
        }
        if self.verb == Verb::Delete {
            annotations["destructiveHint"] = true.into();
        }
        annotations
    }
}

/// The schema of an answer's `structuredContent`. Only a good answer promises its data's shape.
fn envelope(mut data: Value) -> Value {
    let definitions = data.as_object_mut().and_then(|fields| fields.remove("$defs"));
    let mut schema = json!({
        "type": "object",
        "properties": { "success": { "type": "boolean" }, "data": {}, "metadata": { "type": "object" } },
        "required": ["success", "data", "metadata"],
        "if": { "properties": { "success": { "const": true } } },
        "then": { "properties": { "data": data } },
    });
    if let Some(definitions) = definitions {
        schema["$defs"] = definitions;
    }
    schema
}

/// What was written by this module is read back.
fn parse(schema: &RawValue) -> Value {
    serde_json::from_str(schema.get()).unwrap_or_else(|_| json!({}))
}
