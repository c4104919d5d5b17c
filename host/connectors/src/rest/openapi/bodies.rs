//! Bodies: which media type is sent, and what the body adds to the arguments.
//!
//! A media type is taken by what its schema lets through (`application/json` first, a list for a JSON Patch, an object for a
//! merge patch or a form, a file for the rest), and not by the alphabet. When several fit, all are offered, and an argument
//! chooses.

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderValue;
use serde_json::{Map, Value, json};

use super::{
    super::{
        Body, Choice, Format, Given, Part, Unnamed,
        body::{self, Media},
        schema::{Direction, Fields, Uses},
    },
    ANY, Importer, files, flag,
    kinds::{Kinds, Look},
    what,
};
use crate::error::wording::short;

const ANYTHING: &Value = &Value::Bool(true);

/// Media types of one body that are offered.
const MAX_CHOICES: usize = 20;

/// One of the media types of a body.
struct Candidate<'a> {
    media: &'a str,
    about: &'a Value,
    schema: &'a Value,
    kinds: Kinds,
    is_binary: bool,
    /// Whether the type can carry what the schema lets through.
    fits: bool,
    format: Format,
    /// Its fields, if they can stand among the arguments.
    fields: Option<Fields<'a>>,
}

impl<'a> Importer<'a> {
    /// The body, and what it adds to the arguments.
    pub(super) fn body(
        &mut self,
        source: &'a Value,
        properties: &mut Map<String, Value>,
        required: &mut BTreeSet<String>,
        input: &mut Map<String, Value>,
        uses: &mut Uses,
    ) -> Result<Option<Body>, String> {
        let source = self.follow(source).map_err(|broken| format!("its body {broken}"))?;
        if !source.is_object() {
            return Err(format!("its body is {}", what(source)));
        }
        let is_required = flag(source.get("required")) == Some(true);
        let content = source.get("content").and_then(Value::as_object).filter(|content| !content.is_empty());
        let Some(content) = content else {
            if is_required {
                return Err("it must have a body, and no media type is named for it".into());
            }
            self.note("its body has no media type: it is called without one".into());
            return Ok(None);
        };
        let look = Look::new(self.root);
        let mut candidates = self.candidates(content, &look)?;
        let spent = look.looks().ok_or("its body refers to long parts of the document too often")?;
        self.schemas.charge(spent);
        // A body that may be missing, but has a required field when it is there, cannot be told apart otherwise.
        for candidate in &mut candidates {
            let is_free = |fields: &Fields<'_>| {
                fields.properties.keys().all(|name| !properties.contains_key(*name))
                    && (is_required || fields.required.is_empty() && fields.combinations.is_empty())
            };
            candidate.fields = candidate.fields.take().filter(is_free);
        }
        self.settle(&mut candidates);
        let chosen = candidates.first().ok_or("its body has no media type that can be sent")?;
        let media = match (Media::of(chosen.media), &chosen.format) {
            (Media::Any, Format::Bytes) => "application/octet-stream",
            (Media::Any, _) => ANY,
            _ => chosen.media,
        };
        let mut body = Body {
            media: media.to_owned(),
            format: chosen.format.clone(),
            required: is_required,
            given: Given::Whole(String::new()),
            choices: Vec::new(),
            chooser: None,
        };
        let (given, alternatives) = match candidates.iter().all(|candidate| candidate.fields.is_some()) {
            true => self.fields(&candidates, properties, required, input, uses),
            false => self.whole(&candidates, source, is_required, properties, required, &look, uses),
        };
        body.given = given;
        self.chooser(&mut body, &candidates, alternatives, properties);
        Ok(Some(body))
    }

    /// The media types that fit, the best first; if none fits, the one that is spoken best.
    fn candidates(
        &self,
        content: &'a Map<String, Value>,
        look: &Look<'a>,
    ) -> Result<Vec<Candidate<'a>>, String> {
        let mut candidates = Vec::new();
        for (media, about) in content {
            // 3.2 lets media types be references.
            let about =
                self.follow(about).map_err(|broken| format!("its body as {} {broken}", short(media, 60)))?;
            let schema = about.get("schema").filter(|schema| !schema.is_null()).unwrap_or(ANYTHING);
            let kinds = Kinds::allowed(look, schema);
            let is_binary = files::shape(look, schema, None).one;
            let format = self.format(media, about, schema, kinds, is_binary, look);
            let takes_fields =
                matches!(format, Format::Json | Format::Form { .. } | Format::Multipart { .. });
            let fields = self.schemas.fields(schema, Direction::Sent).filter(|_| takes_fields);
            let fits = Media::of(media).fits(kinds, is_binary);
            candidates.push(Candidate { media, about, schema, kinds, is_binary, fits, format, fields });
        }
        candidates.sort_by_key(|candidate| {
            (!candidate.fits, body::preference(candidate.media, candidate.is_binary), candidate.media)
        });
        if let Some(first) = candidates.first()
            && Media::of(first.media) == Media::OtherMultipart
        {
            return Err(format!("its body is written as {}", short(first.media, 60)));
        }
        let is_fit = candidates.first().is_some_and(|first| first.fits);
        if !is_fit {
            // The document has no better one: it is sent as it is given.
            candidates.truncate(1);
            return Ok(candidates);
        }
        candidates.retain(|candidate| candidate.fits);
        // What means the same is offered once, and a range only when there is nothing in particular.
        let mut kept: Vec<Candidate<'a>> = Vec::new();
        for candidate in candidates {
            let is_same = |other: &Candidate<'_>| {
                body::is_synonym(candidate.media, other.media) && candidate.schema == other.schema
            };
            let is_range = candidate.media.contains('*');
            let adds = (!is_range || kept.is_empty()) && !kept.iter().any(is_same);
            if adds && kept.len() < MAX_CHOICES {
                kept.push(candidate);
            }
        }
        Ok(kept)
    }

    /// A text in the place of an object is not worth an argument for the whole body: fields stay arguments, and it is not
    /// offered.
    fn settle(&mut self, candidates: &mut Vec<Candidate<'a>>) {
        if candidates.first().is_some_and(|first| first.fields.is_some()) {
            let (kept, texts): (Vec<_>, Vec<_>) =
                std::mem::take(candidates).into_iter().partition(|candidate| {
                    candidate.fields.is_some() || !matches!(candidate.format, Format::Text)
                });
            *candidates = kept;
            for text in texts {
                self.note(format!("its body may be {} as well, which is not offered", short(text.media, 60)));
            }
        }
    }

    /// The body's fields stand among the arguments.
    fn fields(
        &mut self,
        candidates: &[Candidate<'a>],
        properties: &mut Map<String, Value>,
        required: &mut BTreeSet<String>,
        input: &mut Map<String, Value>,
        uses: &mut Uses,
    ) -> (Given, Vec<BTreeMap<String, usize>>) {
        let all = || {
            candidates
                .iter()
                .filter_map(|candidate| candidate.fields.as_ref().map(|fields| (candidate, fields)))
        };
        let mut schemas: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        let look = Look::new(self.root);
        let mut own: Vec<BTreeMap<String, usize>> = Vec::new();
        for (candidate, fields) in all() {
            let mut alternatives = BTreeMap::new();
            for (name, property) in &fields.properties {
                let file = candidate.format.file(name).map(|_| {
                    let media = encoding(candidate.about, name).content_type;
                    let shape = files::shape(&look, property, media.as_deref());
                    files::file_schema(&shape, look.at(property, 0).unwrap_or(property))
                });
                let schema = file.as_ref().unwrap_or(property);
                let schema = self.schemas.translate(schema, Direction::Sent, uses);
                let known = schemas.entry(name).or_default();
                let place = known.iter().position(|other| *other == schema).unwrap_or(known.len());
                if place == known.len() {
                    known.push(schema);
                }
                alternatives.insert((*name).to_owned(), place);
            }
            own.push(alternatives);
        }
        own.iter_mut().for_each(|own| own.retain(|name, _| schemas[name.as_str()].len() > 1));
        let names: BTreeSet<String> = schemas.keys().map(|name| (*name).to_owned()).collect();
        for (name, mut alternatives) in schemas {
            let schema = match alternatives.len() {
                1 => alternatives.remove(0),
                _ => json!({ "anyOf": alternatives }),
            };
            properties.insert(name.to_owned(), schema);
        }
        // What each of them must have.
        let mut everywhere = all().map(|(_, fields)| fields.required.clone());
        let first = everywhere.next().unwrap_or_default();
        let must = everywhere.fold(first, |must, other| must.intersection(&other).copied().collect());
        required.extend(must.into_iter().map(str::to_owned));
        let open = all().any(|(_, fields)| fields.others.is_some());
        match (candidates, all().next()) {
            ([_], Some((_, fields))) => {
                match fields.others {
                    None => {}
                    Some(Value::Bool(true)) => {
                        input.remove("additionalProperties");
                    }
                    Some(others) => {
                        let shape = files::shape(&look, others, None);
                        let is_file =
                            matches!(candidates[0].format, Format::Multipart { .. }) && shape.is_file();
                        let file =
                            is_file.then(|| files::file_schema(&shape, look.at(others, 0).unwrap_or(others)));
                        let others = file.as_ref().unwrap_or(others);
                        let others = self.schemas.translate(others, Direction::Sent, uses);
                        input.insert("additionalProperties".into(), others);
                    }
                }
                if !fields.combinations.is_empty() {
                    input.insert("allOf".into(), fields.combinations.clone().into());
                }
            }
            _ if open => {
                input.remove("additionalProperties");
            }
            _ => {}
        }
        (Given::Fields { names, open }, own)
    }

    /// The body is one argument.
    #[expect(clippy::too_many_arguments, reason = "all of them grow with the operation that is read")]
    fn whole(
        &mut self,
        candidates: &[Candidate<'a>],
        source: &Value,
        is_required: bool,
        properties: &mut Map<String, Value>,
        required: &mut BTreeSet<String>,
        look: &Look<'a>,
        uses: &mut Uses,
    ) -> (Given, Vec<BTreeMap<String, usize>>) {
        let mut argument = "body".to_owned();
        while properties.contains_key(&argument) {
            argument = format!("request_{argument}");
        }
        let mut schemas: Vec<Value> = Vec::new();
        let mut own: Vec<BTreeMap<String, usize>> = Vec::new();
        for candidate in candidates {
            let schema = match &candidate.format {
                Format::Text => json!({ "type": "string" }),
                Format::Bytes => files::bytes(Some(candidate.media).filter(|media| !media.contains('*'))),
                Format::Multipart { .. } => {
                    let media = |name: &str| encoding(candidate.about, name).content_type;
                    let schema = files::with_files(look, candidate.schema, &media);
                    self.schemas.translate(&schema, Direction::Sent, uses)
                }
                _ => self.schemas.translate(candidate.schema, Direction::Sent, uses),
            };
            let place = schemas.iter().position(|other| *other == schema).unwrap_or(schemas.len());
            if place == schemas.len() {
                schemas.push(schema);
            }
            own.push(BTreeMap::from([(argument.clone(), place)]));
        }
        if schemas.len() < 2 {
            own.iter_mut().for_each(BTreeMap::clear);
        }
        let mut schema = match schemas.len() {
            1 => schemas.remove(0),
            _ => json!({ "anyOf": schemas }),
        };
        if let (Some(text), Value::Object(schema)) = (source.get("description"), &mut schema)
            && text.is_string()
        {
            schema.insert("description".into(), text.clone());
        }
        if is_required {
            required.insert(argument.clone());
        }
        properties.insert(argument.clone(), schema);
        (Given::Whole(argument), own)
    }

    /// The argument that chooses the media type, if there is something to choose.
    fn chooser(
        &mut self,
        body: &mut Body,
        candidates: &[Candidate<'a>],
        alternatives: Vec<BTreeMap<String, usize>>,
        properties: &mut Map<String, Value>,
    ) {
        let is_range = body.media.contains('*');
        if candidates.len() < 2 && !is_range {
            return;
        }
        let mut argument = "content_type".to_owned();
        while properties.contains_key(&argument) {
            argument = format!("request_{argument}");
        }
        let schema = match is_range {
            true => json!({
                "type": "string",
                "description": format!(
                    "The media type of the body, one of {}, unless a file says its own",
                    short(&body.media, 60)
                ),
            }),
            false => json!({
                "type": "string",
                "enum": candidates.iter().map(|candidate| candidate.media).collect::<Vec<_>>(),
                "description": format!(
                    "The media type of the body. If it is not said: what fits the other arguments, first {}",
                    short(&body.media, 60)
                ),
            }),
        };
        properties.insert(argument.clone(), schema);
        body.chooser = Some(argument);
        if is_range {
            return;
        }
        let look = Look::new(self.root);
        body.choices = candidates
            .iter()
            .zip(alternatives)
            .map(|(candidate, alternatives)| {
                let (names, required) = match &candidate.fields {
                    Some(fields) => (
                        fields.properties.keys().map(|name| (*name).to_owned()).collect(),
                        fields.required.iter().map(|&name| name.to_owned()).collect(),
                    ),
                    None => {
                        let names = files::properties(&look, candidate.schema);
                        (names.into_iter().map(|(name, _)| name.to_owned()).collect(), BTreeSet::new())
                    }
                };
                let is_data = |property| {
                    let inner = files::properties(&look, property);
                    inner.iter().any(|(name, _)| *name == "data")
                };
                let fields = files::properties(&look, candidate.schema).into_iter();
                let data = fields.filter(|(_, property)| is_data(*property));
                Choice {
                    media: candidate.media.to_owned(),
                    format: candidate.format.clone(),
                    kinds: candidate.kinds.0,
                    names,
                    required,
                    alternatives,
                    data: data.map(|(name, _)| name.to_owned()).collect(),
                }
            })
            .collect();
    }

    fn format(
        &self,
        media: &str,
        about: &'a Value,
        schema: &'a Value,
        kinds: Kinds,
        is_binary: bool,
        look: &Look<'a>,
    ) -> Format {
        let encodings = about.get("encoding").and_then(Value::as_object);
        let encoded = |is: fn(&Part) -> bool| {
            let names = encodings.into_iter().flatten().map(|(name, _)| name);
            names.filter(|name| is(&encoding(about, name))).cloned().collect()
        };
        match Media::of(media) {
            Media::Form => {
                Format::Form { deep: encoded(|part| part.deep), joined: encoded(|part| part.joined) }
            }
            Media::Multipart => {
                let (mut files, mut texts, mut composed) =
                    (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
                for (name, property) in files::properties(look, schema) {
                    let shape = files::shape(look, property, encoding(about, name).content_type.as_deref());
                    if shape.is_file() {
                        files.insert(name.to_owned());
                    }
                    if shape.is_file() && shape.text {
                        texts.insert(name.to_owned());
                    }
                    if shape.is_composed() {
                        composed.insert(name.to_owned());
                    }
                }
                let unnamed = files::unnamed(look, schema).map(|(shape, patterns)| Unnamed {
                    known: files::properties(look, schema)
                        .into_iter()
                        .map(|(name, _)| name.to_owned())
                        .collect(),
                    patterns,
                    texts: shape.text,
                    composed: shape.is_composed(),
                });
                let parts =
                    encodings.into_iter().flatten().map(|(name, _)| (name.clone(), encoding(about, name)));
                let mut parts: BTreeMap<String, Part> =
                    parts.filter(|(_, part)| *part != Part::default()).collect();
                // What a file is by its schema, its part is as well.
                for (name, property) in
                    files::properties(look, schema).into_iter().filter(|(name, _)| files.contains(*name))
                {
                    let media = look.at(property, 0).and_then(|property| property.get("contentMediaType"));
                    if let Some(media) = media.and_then(Value::as_str).and_then(concrete) {
                        parts.entry(name.to_owned()).or_default().content_type.get_or_insert(media);
                    }
                }
                Format::Multipart { files, texts, composed, unnamed, parts }
            }
            Media::Text if is_binary => Format::Bytes,
            Media::Text => Format::Text,
            // It is a file, whatever is in it.
            Media::Json | Media::Yaml | Media::Any if is_binary => Format::Bytes,
            // JSON is YAML.
            Media::Yaml if kinds == Kinds::ALL || !kinds.has(Kinds::OBJECT) && !kinds.has(Kinds::ARRAY) => {
                Format::Text
            }
            Media::Json | Media::Patch | Media::Merge | Media::Yaml | Media::Any => Format::Json,
            Media::Bytes | Media::OtherMultipart => Format::Bytes,
        }
    }
}

/// How a part or a field is written, as far as `encoding` says it and it can be done.
fn encoding(about: &Value, name: &str) -> Part {
    let Some(encoding) = about.get("encoding").and_then(|all| all.get(name)) else { return Part::default() };
    let text = |name: &str| encoding.get(name).and_then(Value::as_str);
    Part {
        content_type: text("contentType").and_then(|listed| {
            let mut types =
                listed.split(',').map(str::trim).filter(|media| HeaderValue::from_str(media).is_ok());
            let first = types.clone().next();
            types.find_map(concrete).or(first.map(str::to_owned))
        }),
        deep: text("style") == Some("deepObject"),
        joined: flag(encoding.get("explode")) == Some(false),
    }
}

/// A media type that can stand in a header as it is.
fn concrete(media: &str) -> Option<String> {
    (media.contains('/') && !media.contains('*') && HeaderValue::from_str(media).is_ok())
        .then(|| media.to_owned())
}

#[cfg(test)]
mod tests;
