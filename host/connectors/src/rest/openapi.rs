//! OpenAPI 3.0 and 3.1 documents become operations.
//!
//! What a document gets wrong costs the operation that it is wrong in, and nothing else. What it leaves out is filled in
//! as the specification says, and where that says nothing, so that a call is possible: a path parameter that nobody
//! declared is a text or a number.

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderName;
use serde_json::{Map, Value, json, value::to_raw_value};
use url::Url;

use super::{
    Api, Body, Format, Given, Operation, Parameter, Place, Skipped, Style, Verb,
    body::{self, rank},
    document::{self, resolve, step},
    example, keys, request,
    schema::{Direction, Schemas, Uses, short, size, values},
    security::{self, Hidden, SecurityKind, SecurityScheme},
    slug,
};
use crate::ConnectorsError;

const MAX_OPERATIONS: usize = 5_000;
const MAX_PARAMETERS: usize = 500;

/// What `*/*` stands for.
const ANY: &str = "application/json";

/// Bytes of the schemas of one operation that are shown: people and models read them.
const MAX_INPUT: usize = 32 << 10;
const MAX_OUTPUT: usize = 8 << 10;

/// Bytes of a schema that arguments are checked by, if that is more than what is shown, and of all of them together.
/// Beyond, what is shown is what is checked. The longest that is known, of DocuSign's envelopes, has 0.4 MB.
const MAX_CHECK: usize = 2 << 20;
const MAX_CHECKS: usize = 32 << 20;

/// Bytes of everything that is imported from one document: short documents can be long when each operation stands for
/// itself.
const MAX_IMPORTED: usize = 64 << 20;

/// Values of the document that may be looked at, as often as they are. For GitHub's document it is a few million.
const MAX_WORK: usize = 50_000_000;

/// Characters of texts.
const MAX_TITLE: usize = 200;
const MAX_DESCRIPTION: usize = 4_000;

/// Reads a document. Keys that stand in it are taken out.
pub(crate) fn import(document: &[u8]) -> Result<Api, ConnectorsError> {
    let mut root = document::read(document)?;
    check_version(&root)?;
    keys::redact(&mut root);
    let paths = root.get("paths").and_then(Value::as_object);
    let paths =
        paths.ok_or_else(|| ConnectorsError::invalid("/paths", "an object of paths is expected here"))?;
    let mut importer = Importer::new(&root);
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    for (path, item) in paths.iter().filter(|(path, _)| !path.starts_with("x-")) {
        let Some(item) = resolve(&root, item) else {
            skipped
                .push(Skipped { operation: path.clone(), reason: "it is described in another file".into() });
            continue;
        };
        importer.schemas.charge(values(item));
        for (verb, source) in Verb::ALL.into_iter().filter_map(|verb| Some((verb, of(item, verb)?))) {
            if found.len() >= MAX_OPERATIONS {
                let message = format!("the document has more than {MAX_OPERATIONS} operations");
                return Err(ConnectorsError::invalid("/paths", message));
            }
            let identity = format!("{} {path}", verb.as_str());
            match importer.operation(verb, path, source, item) {
                Ok(operation) => found.push((identity, operation)),
                Err(reason) => skipped.push(Skipped { operation: identity, reason }),
            }
        }
        if item.get("trace").is_some() {
            let reason = "a TRACE gives back the credential that was sent".to_owned();
            skipped.push(Skipped { operation: format!("TRACE {path}"), reason });
        }
        if importer.bytes > MAX_IMPORTED {
            let message = format!("the operations would take more than {} MB", MAX_IMPORTED >> 20);
            return Err(ConnectorsError::invalid("/paths", message));
        }
        if importer.schemas.work() > MAX_WORK {
            let message = "the operations refer to long parts of the document too often";
            return Err(ConnectorsError::invalid("/paths", message));
        }
    }
    if found.is_empty() {
        let reason = skipped.first().map(|first| format!(": {} cannot, {}", first.operation, first.reason));
        let message = format!("there is no operation that can be called{}", reason.unwrap_or_default());
        return Err(ConnectorsError::invalid("/paths", message));
    }
    let text = |pointer: &str| root.pointer(pointer).and_then(Value::as_str);
    let version = root.pointer("/info/version").map(|version| match version {
        Value::String(text) => text.clone(),
        // In YAML, 1.0 is a number.
        other => other.to_string(),
    });
    Ok(Api {
        title: short(text("/info/title").unwrap_or_default(), MAX_TITLE),
        description: text("/info/description").map(|text| short(text, MAX_DESCRIPTION)),
        version: short(&version.unwrap_or_default(), MAX_TITLE),
        servers: servers(&root),
        operations: name(found, &mut skipped),
        security: importer.into_schemes(),
        skipped,
    })
}

fn check_version(root: &Value) -> Result<(), ConnectorsError> {
    let version = match root.get("openapi") {
        Some(Value::String(version)) => version.clone(),
        Some(Value::Number(version)) => version.to_string(),
        _ if root.get("swagger").is_some() => "Swagger 2.0".into(),
        _ => {
            let message = "an OpenAPI document says its version here, such as 3.1.0";
            return Err(ConnectorsError::invalid("/openapi", message));
        }
    };
    if version.starts_with("3.0") || version.starts_with("3.1") {
        return Ok(());
    }
    let version = short(&version, 20);
    let message =
        format!("OpenAPI 3.0 and 3.1 can be imported, {version} cannot: convert the document first");
    Err(ConnectorsError::invalid("/openapi", message))
}

fn of(item: &Value, verb: Verb) -> Option<&Value> {
    item.get(verb.as_str().to_ascii_lowercase()).filter(|operation| operation.is_object())
}

/// Gives each operation a slug of its own and sorts by it.
fn name(found: Vec<(String, Operation)>, skipped: &mut Vec<Skipped>) -> Vec<Operation> {
    let mut groups: BTreeMap<String, Vec<(String, Operation)>> = BTreeMap::new();
    for (identity, operation) in found {
        groups.entry(operation.slug.clone()).or_default().push((identity, operation));
    }
    let mut named: BTreeMap<String, Operation> = BTreeMap::new();
    for (slug, group) in groups {
        let is_alone = group.len() == 1;
        for (identity, mut operation) in group {
            operation.slug = if is_alone { slug.clone() } else { slug::distinct(&slug, &identity) };
            if named.contains_key(&operation.slug) {
                let reason = format!("another operation is called '{}'", operation.slug);
                skipped.push(Skipped { operation: identity, reason });
            } else {
                named.insert(operation.slug.clone(), operation);
            }
        }
    }
    named.into_values().collect()
}

/// Base addresses. Variables have their defaults and no other values: nobody who calls chooses a host (THREATS row 4).
fn servers(of: &Value) -> Vec<String> {
    let Some(servers) = of.get("servers").and_then(Value::as_array).filter(|servers| !servers.is_empty())
    else {
        return vec!["/".into()];
    };
    let address = |server: &Value| {
        let mut url = server.get("url")?.as_str()?.to_owned();
        for (name, variable) in server.get("variables").and_then(Value::as_object).into_iter().flatten() {
            url = url.replace(&format!("{{{name}}}"), variable.get("default")?.as_str()?);
        }
        (!url.contains(['{', '}'])).then_some(url)
    };
    servers.iter().filter_map(address).collect()
}

/// The first base address that a document names, in full. `at` is the document's own address, if it has one.
pub(crate) fn server_of(document: &[u8], at: Option<&Url>) -> Result<Option<String>, ConnectorsError> {
    let root = document::read(document)?;
    check_version(&root)?;
    let whole = |server: &String| match at {
        Some(at) => at.join(server).ok().map(String::from),
        None => Url::parse(server).is_ok().then(|| server.clone()),
    };
    Ok(servers(&root).iter().find_map(whole))
}

/// A parameter as it is declared, with its schema translated.
struct Declared {
    parameter: Parameter,
    schema: Map<String, Value>,
}

/// Turns the operations of one document into ours.
pub(super) struct Importer<'a> {
    root: &'a Value,
    schemas: Schemas<'a>,
    schemes: Vec<SecurityScheme>,
    hidden: Hidden,
    servers: Vec<String>,
    /// Credentials that are parameters of operations without being declared as such.
    undeclared: BTreeSet<(Place, String)>,
    bytes: usize,
    /// Of `bytes`, those of the schemas that are not shown.
    checks: usize,
}

impl<'a> Importer<'a> {
    pub(super) fn new(root: &'a Value) -> Self {
        let schemes = security::schemes(root);
        Self {
            root,
            schemas: Schemas::new(root),
            hidden: Hidden::by(&schemes),
            schemes,
            servers: servers(root),
            undeclared: BTreeSet::new(),
            bytes: 0,
            checks: 0,
        }
    }

    /// The declared security schemes, and those that the names of parameters give away.
    fn into_schemes(self) -> Vec<SecurityScheme> {
        let mut schemes = self.schemes;
        for (place, name) in self.undeclared {
            let kind = match place {
                _ if name.eq_ignore_ascii_case("authorization") => continue,
                Place::Query => SecurityKind::ApiKeyQuery { parameter: name.clone() },
                Place::Path | Place::Header => SecurityKind::ApiKeyHeader { header: name.clone() },
            };
            schemes.push(SecurityScheme { name, kind });
        }
        schemes
    }

    /// One operation, or why it cannot be called. `item` holds what the operations of a path share.
    pub(super) fn operation(
        &mut self,
        verb: Verb,
        path: &str,
        source: &'a Value,
        item: &'a Value,
    ) -> Result<Operation, String> {
        let root = self.root;
        request::check_template(path)?;
        if let Some(own) = [source, item].into_iter().find(|of| of.get("servers").is_some()) {
            let own = servers(own);
            if !own.iter().any(|server| self.servers.contains(server)) {
                return Err("it has a server of its own: register that as a connector of its own".into());
            }
        }
        let (mut requires_auth, scopes) = security::needs(root, source);
        let mut uses = Uses::new();
        let (declared, needs_key) = self.parameters(path, source, item, &mut uses)?;
        requires_auth |= needs_key;

        let mut properties = Map::new();
        let mut required = BTreeSet::new();
        let mut parameters = Vec::new();
        for Declared { mut parameter, schema } in declared {
            while properties.contains_key(&parameter.argument) {
                parameter.argument = format!("{}_{}", parameter.place.as_str(), parameter.argument);
            }
            if parameter.required {
                required.insert(parameter.argument.clone());
            }
            properties.insert(parameter.argument.clone(), schema.into());
            parameters.push(parameter);
        }
        let mut input = Map::from_iter([("type".into(), json!("object"))]);
        input.insert("additionalProperties".into(), json!(false));
        let body = match source.get("requestBody") {
            Some(body) => self.body(body, &mut properties, &mut required, &mut input, &mut uses)?,
            None => None,
        };
        input.insert("properties".into(), properties.into());
        if !required.is_empty() {
            input.insert("required".into(), required.into_iter().collect());
        }
        let shown = self.schemas.complete(&input, &uses, MAX_INPUT);
        let check = if shown.whole { None } else { self.check(&input, &uses) };
        let (accept, output, example) = self.success(source, verb);

        let text = |name: &str| source.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let title = text("summary").map(|title| short(title, MAX_TITLE));
        let mut description =
            text("description").or(text("summary")).map(|text| short(text, MAX_DESCRIPTION));
        if source.get("deprecated") == Some(&Value::Bool(true)) {
            description = Some(format!("Deprecated. {}", description.unwrap_or_default()));
        }
        let slug = text("operationId").map(slug::of).filter(|slug| !slug.is_empty());
        let slug = slug.unwrap_or_else(|| slug::of_path(verb.as_str(), path));
        let raw = |schema: &Value| to_raw_value(schema).map_err(|error| error.to_string());
        let operation = Operation {
            slug: slug::fit(slug, &format!("{} {path}", verb.as_str())),
            title,
            description,
            verb,
            path: path.to_owned(),
            requires_auth,
            scopes,
            parameters,
            body,
            hidden: self.hidden.queries(),
            accept,
            input_schema: raw(&shown.schema)?,
            is_cut: !shown.whole && check.is_none(),
            check_schema: check.as_ref().map(raw).transpose()?,
            output_schema: output.as_ref().map(raw).transpose()?,
            example,
        };
        self.bytes += size(&operation);
        Ok(operation)
    }

    /// The whole of a schema that is too long to be shown, without what it says to people.
    fn check(&mut self, input: &Map<String, Value>, uses: &Uses) -> Option<Value> {
        let limit = MAX_CHECK.min(MAX_CHECKS - self.checks);
        let check = self.schemas.assertions(input, uses, limit);
        match &check {
            Some(check) => self.checks += size(check),
            // There is no room for this one, and none for others like it: trying would only take time.
            None if limit < MAX_CHECK => self.checks = MAX_CHECKS,
            None => {}
        }
        check
    }

    /// Follows a reference to a part that operations share, and counts what it leads to.
    fn follow(&self, value: &'a Value) -> Option<&'a Value> {
        let found = resolve(self.root, value)?;
        if !std::ptr::eq(found, value) {
            self.schemas.charge(values(found));
        }
        Some(found)
    }

    /// The parameters that callers give, by place and name, and whether one that they do not give is a required key.
    fn parameters(
        &mut self,
        path: &str,
        source: &'a Value,
        item: &'a Value,
        uses: &mut Uses,
    ) -> Result<(Vec<Declared>, bool), String> {
        let list = |of: &'a Value| of.get("parameters").and_then(Value::as_array).into_iter().flatten();
        let mut declared: BTreeMap<(Place, String), &'a Value> = BTreeMap::new();
        // The operation's own come later and replace those of the path.
        if list(item).chain(list(source)).count() > MAX_PARAMETERS {
            return Err(format!("it has more than {MAX_PARAMETERS} parameters"));
        }
        for parameter in list(item).chain(list(source)) {
            let Some(parameter) = self.follow(parameter) else {
                return Err("one of its parameters is described in another file or nowhere".into());
            };
            let text = |name: &str| parameter.get(name).and_then(Value::as_str).unwrap_or_default();
            let place = match text("in") {
                "path" => Place::Path,
                "query" => Place::Query,
                "header" => Place::Header,
                // Cookies are the host's alone.
                _ => continue,
            };
            if !text("name").is_empty() {
                declared.insert((place, text("name").to_owned()), parameter);
            }
        }
        let names = request::names(path);
        let mut needs_key = false;
        let mut kept = Vec::new();
        for ((place, name), source) in &declared {
            match place {
                Place::Path if !names.contains(&name.as_str()) => continue,
                Place::Header if HeaderName::from_bytes(name.as_bytes()).is_err() => continue,
                Place::Header if self.hidden.header(name) => continue,
                Place::Query if self.hidden.query(name) => continue,
                Place::Header | Place::Query if keys::is_credential(name) => {
                    needs_key |= source.get("required") == Some(&Value::Bool(true));
                    self.undeclared.insert((*place, name.clone()));
                    continue;
                }
                Place::Header if request::is_reserved(name) => continue,
                _ => kept.push(self.parameter(*place, name, source, uses)?),
            }
        }
        for name in names {
            if !declared.contains_key(&(Place::Path, name.to_owned())) {
                let source = json!({ "schema": { "type": ["string", "integer"] } });
                kept.push(self.parameter(Place::Path, name, &source, uses)?);
            }
        }
        kept.sort_by(|a, b| {
            (a.parameter.place, &a.parameter.name).cmp(&(b.parameter.place, &b.parameter.name))
        });
        Ok((kept, needs_key))
    }

    fn parameter(
        &mut self,
        place: Place,
        name: &str,
        source: &Value,
        uses: &mut Uses,
    ) -> Result<Declared, String> {
        let content =
            source.get("content").and_then(Value::as_object).and_then(|content| content.iter().next());
        let (style, schema) = match (content, source.get("style").and_then(Value::as_str), place) {
            (Some((media, content)), ..) if body::is_json(media) => (Style::Json, content.get("schema")),
            (Some((media, _)), ..) => return Err(format!("its parameter '{name}' is written as {media}")),
            (None, None | Some("form"), Place::Query) => (Style::Form, source.get("schema")),
            (None, None | Some("simple"), Place::Path | Place::Header) => {
                (Style::Simple, source.get("schema"))
            }
            (None, Some("spaceDelimited"), Place::Query) => (Style::SpaceDelimited, source.get("schema")),
            (None, Some("pipeDelimited"), Place::Query) => (Style::PipeDelimited, source.get("schema")),
            (None, Some("deepObject"), Place::Query) => (Style::DeepObject, source.get("schema")),
            (None, Some(style), _) => return Err(format!("its parameter '{name}' has the style '{style}'")),
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
        let flag = |name: &str| source.get(name).and_then(Value::as_bool);
        let parameter = Parameter {
            argument: name.to_owned(),
            name: name.to_owned(),
            place,
            required: place == Place::Path || flag("required") == Some(true),
            style,
            explode: flag("explode").unwrap_or(style == Style::Form),
        };
        Ok(Declared { parameter, schema })
    }

    /// The body, and what it adds to the arguments.
    fn body(
        &mut self,
        source: &'a Value,
        properties: &mut Map<String, Value>,
        required: &mut BTreeSet<String>,
        input: &mut Map<String, Value>,
        uses: &mut Uses,
    ) -> Result<Option<Body>, String> {
        const ANYTHING: &Value = &Value::Bool(true);
        let source = self.follow(source).ok_or("its body is described in another file or nowhere")?;
        let is_required = source.get("required") == Some(&Value::Bool(true));
        let content = source.get("content").and_then(Value::as_object);
        let Some((media, about)) = content.and_then(best) else {
            return Ok(None);
        };
        let schema = about.get("schema").unwrap_or(ANYTHING);
        let fields = self.schemas.fields(schema, Direction::Sent);
        let format = self.format(media, about, schema);
        let body = |given: Given| {
            let media = if media.contains('*') { ANY } else { media };
            Some(Body { media: media.to_owned(), format: format.clone(), required: is_required, given })
        };
        let takes_fields = matches!(format, Format::Json | Format::Form { .. } | Format::Multipart { .. });
        let fields = fields.filter(|fields| {
            let is_free = fields.properties.keys().all(|name| !properties.contains_key(*name));
            // A body that may be missing, but has a required field when it is there, cannot be told apart otherwise.
            takes_fields
                && is_free
                && (is_required || fields.required.is_empty() && fields.combinations.is_empty())
        });
        let Some(fields) = fields else {
            let mut argument = "body".to_owned();
            while properties.contains_key(&argument) {
                argument = format!("request_{argument}");
            }
            let mut schema = match &format {
                Format::Text => json!({ "type": "string" }),
                Format::Bytes => {
                    json!({ "type": "string", "contentEncoding": "base64", "contentMediaType": media })
                }
                _ => self.schemas.translate(schema, Direction::Sent, uses),
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
            return Ok(body(Given::Whole(argument)));
        };
        for (name, property) in &fields.properties {
            let mut schema = self.schemas.translate(property, Direction::Sent, uses);
            if let Format::Multipart { files } = &format
                && files.contains(*name)
            {
                schema = file_schema(schema);
            }
            properties.insert((*name).to_owned(), schema);
        }
        required.extend(fields.required.iter().map(|name| (*name).to_owned()));
        match fields.others {
            None => {}
            Some(Value::Bool(true)) => {
                input.remove("additionalProperties");
            }
            Some(others) => {
                let others = self.schemas.translate(others, Direction::Sent, uses);
                input.insert("additionalProperties".into(), others);
            }
        }
        if !fields.combinations.is_empty() {
            input.insert("allOf".into(), fields.combinations.into());
        }
        let names = fields.properties.keys().map(|name| (*name).to_owned()).collect();
        Ok(body(Given::Fields { names, open: fields.others.is_some() }))
    }

    fn format(&self, media: &str, about: &Value, schema: &'a Value) -> Format {
        let encodings = || about.get("encoding").and_then(Value::as_object).into_iter().flatten();
        match media {
            _ if body::is_form(media) => Format::Form {
                deep: encodings()
                    .filter(|(_, encoding)| {
                        encoding.get("style").and_then(Value::as_str) == Some("deepObject")
                    })
                    .map(|(name, _)| name.clone())
                    .collect(),
                joined: encodings()
                    .filter(|(_, encoding)| encoding.get("explode") == Some(&Value::Bool(false)))
                    .map(|(name, _)| name.clone())
                    .collect(),
            },
            _ if body::is_multipart(media) => {
                let fields = self.schemas.fields(schema, Direction::Sent);
                let fields = fields.into_iter().flat_map(|fields| fields.properties);
                let files = fields.filter(|(_, property)| is_file(self.root, property));
                Format::Multipart { files: files.map(|(name, _)| name.to_owned()).collect() }
            }
            _ if body::is_json(media) || media.contains('*') => Format::Json,
            _ if body::is_text(media) => Format::Text,
            _ => Format::Bytes,
        }
    }

    /// What a good answer is: its media type, the schema of its data, an example.
    fn success(
        &mut self,
        source: &'a Value,
        verb: Verb,
    ) -> (Option<String>, Option<Value>, Option<example::Example>) {
        let responses = source.get("responses").and_then(Value::as_object).into_iter().flatten();
        let good = responses.filter_map(|(code, response)| {
            let (order, status) = match code.as_str() {
                "2XX" | "2xx" => (1_000, 200),
                "default" => (1_001, 200),
                code => (0, code.parse::<u16>().ok().filter(|code| (200..300).contains(code))?),
            };
            Some((order + status, status, response))
        });
        let Some((_, status, response)) = good.min_by_key(|(order, ..)| *order) else {
            return (None, None, None);
        };
        let Some(response) = self.follow(response) else {
            return (None, None, None);
        };
        let content = response.get("content").and_then(Value::as_object);
        let chosen = content.and_then(best).filter(|_| verb != Verb::Head);
        let accept = chosen.map(|(media, _)| media.to_owned()).filter(|media| !media.contains('*'));
        // Where anything may come, JSON is what comes.
        let chosen =
            chosen.map(|(media, about)| if media.contains('*') { (ANY, about) } else { (media, about) });
        let schema =
            chosen.filter(|(media, _)| body::is_json(media)).and_then(|(_, about)| about.get("schema"));
        let output = schema.and_then(|schema| {
            let mut uses = Uses::new();
            match self.schemas.translate(schema, Direction::Received, &mut uses) {
                Value::Object(schema) if !schema.is_empty() => {
                    Some(self.schemas.complete(&schema, &uses, MAX_OUTPUT).schema)
                }
                _ => None,
            }
        });
        (accept, output, example::example(self.root, status, chosen))
    }
}

/// The media type that is spoken best: JSON before forms, forms before text, text before bytes.
fn best(content: &Map<String, Value>) -> Option<(&str, &Value)> {
    let found = content.iter().min_by_key(|(media, _)| (rank(media), media.as_str()));
    found.map(|(media, about)| (media.as_str(), about))
}

/// Whether a field of a multipart body is a file, or a list of files.
fn is_file(root: &Value, property: &Value) -> bool {
    let Some(property) = resolve(root, property) else { return false };
    let is_text = |name: &str, wanted: &str| property.get(name).and_then(Value::as_str) == Some(wanted);
    is_text("format", "binary")
        || property.get("contentMediaType").is_some() && property.get("contentEncoding").is_none()
        || is_text("type", "array") && property.get("items").is_some_and(|items| is_file(root, items))
}

/// What callers give for a file.
fn file_schema(declared: Value) -> Value {
    let text = json!({ "type": "string", "contentEncoding": "base64" });
    let file = json!({
        "anyOf": [text, {
            "type": "object",
            "properties": {
                "data": text, "filename": { "type": "string" }, "content_type": { "type": "string" },
            },
            "required": ["data"], "additionalProperties": false,
        }],
    });
    let mut schema = match declared.get("type").and_then(Value::as_str) {
        Some("array") => json!({ "type": "array", "items": file }),
        _ => file,
    };
    if let Some(description) = declared.get("description") {
        schema["description"] = description.clone();
    }
    schema
}

/// Makes the references of a schema that stands for itself lead to where it stands in a larger document.
pub(super) fn relocate(schema: &mut Value, place: &str) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get_mut("$ref")
                && let Some(rest) = reference.strip_prefix('#')
            {
                *reference = format!("#{place}{rest}");
            }
            fields.values_mut().for_each(|field| relocate(field, place));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| relocate(item, place)),
        _ => {}
    }
}

/// The place of a body's schema in an operation.
pub(super) fn body_schema(operation: &str, media: &str) -> String {
    format!("{operation}/requestBody/content/{}/schema", step(media))
}

#[cfg(test)]
mod tests;
