//! OpenAPI 3.0 and 3.1 documents become operations.
//!
//! What a document gets wrong costs the least that it can: a note, a part, the operation that it is wrong in, and never the
//! others. What it leaves out is filled in as the specification says, and where that says nothing, so that a call is
//! possible: a path parameter that nobody declared is a text or a number. What cannot be read but must be sent costs the
//! operation: nothing is called with less than its document asks for.

mod bodies;
mod files;
mod kinds;
mod parameters;
mod servers;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json, value::to_raw_value};
use url::Url;

pub(super) use self::kinds::Kinds;
use self::parameters::Declared;
pub(crate) use self::servers::server_of;
use super::{
    Api, Note, Operation, Skipped, Verb,
    body::{self, rank},
    document::{self, flag, step},
    example, keys, reference,
    reference::{Broken, follow},
    request,
    schema::{Direction, Schemas, Uses, size, values},
    security::{self, Hidden, SecurityKind, SecurityScheme, Way},
    slug,
};
use crate::{ConnectorsError, error::wording::short};

/// Operations of one document: a record each. The largest that is known, Microsoft Graph's, has 11,422.
const MAX_OPERATIONS: usize = 20_000;
const MAX_PARAMETERS: usize = 500;

/// Notes about one document.
const MAX_NOTES: usize = 1_000;

/// What `*/*` stands for.
const ANY: &str = "application/json";

/// Bytes of the schemas of one operation that are shown: people and models read them. Where there are very many operations
/// it is less, so that there is room for all.
const MAX_INPUT: usize = 32 << 10;
const MAX_OUTPUT: usize = 8 << 10;
const MIN_SHOWN: usize = 512;

/// What is said of a schema of which only a part is shown.
const PART_OF_INPUT: &str =
    "Only the nearest part of this schema is shown: arguments are checked by the whole of it.";
const PART_OF_OUTPUT: &str = "Only the nearest part of this schema is shown.";

/// Bytes of a schema that arguments are checked by, if that is more than what is shown, and of all of them together.
/// Beyond, what is shown is what is checked. The longest that is known, of DocuSign's envelopes, has 0.4 MB.
const MAX_CHECK: usize = 1 << 20;
const MAX_CHECKS: usize = 24 << 20;

/// Bytes of everything that is imported from one document: short documents can be long when each operation stands for
/// itself. Operations that find no room are left out.
const MAX_IMPORTED: usize = 64 << 20;

/// Of these, bytes of what is no schema to check by.
const MAX_SHOWN: usize = MAX_IMPORTED - MAX_CHECKS;

/// Values of the document that may be looked at, as often as they are. For GitHub's document it is a few million.
const MAX_WORK: usize = 50_000_000;

/// Characters of texts.
const MAX_TITLE: usize = 200;
const MAX_PLACE: usize = 300;
const MAX_DESCRIPTION: usize = 4_000;

/// Reads a document, for an API whose address is not known.
pub(super) fn import(document: &[u8]) -> Result<Api, ConnectorsError> {
    import_for(document, None)
}

/// Reads a document for an API at an address. Keys that stand in it are taken out.
pub(crate) fn import_for(document: &[u8], at: Option<&Url>) -> Result<Api, ConnectorsError> {
    let (mut root, remarks) = document::read(document)?;
    let newer = check_version(&root)?;
    let invalid = |message: String| ConnectorsError::invalid("/paths", message);
    reference::settle(&mut root).map_err(|message| invalid(message.into()))?;
    keys::redact(&mut root);
    let paths = root.get("paths").and_then(Value::as_object);
    let paths = paths.ok_or_else(|| invalid("an object of paths is expected here".into()))?;
    if let Err(broken) = follow(&root, &root["paths"]) {
        return Err(invalid(format!("what is expected here {broken}")));
    }
    let mut importer = Importer::new(&root);
    importer.at = at.cloned();
    importer.here = "document".into();
    remarks.into_texts().into_iter().chain(newer).for_each(|remark| importer.note(remark));
    importer.missing_files();
    importer.check_servers();
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    let is_operation = |item: &Value| {
        let item = follow(&root, item).ok().and_then(Value::as_object);
        item.map_or(0, |item| item.keys().filter(|name| verb(name, item).is_some()).count())
    };
    importer.left = reference::own_fields(paths).map(|(_, item)| is_operation(item)).sum();
    for (path, item) in reference::own_fields(paths) {
        let item = match importer.item(item) {
            Ok(item) => item,
            Err(reason) => {
                skipped.push(Skipped { operation: short(path, MAX_PLACE), reason });
                continue;
            }
        };
        for (name, member) in item {
            let Some(verb) = verb(name, item) else {
                skipped.extend(unserved(name, member, path));
                continue;
            };
            let identity = format!("{} {path}", verb.as_str());
            if let Some(reason) = importer.is_full(found.len()) {
                skipped.push(Skipped { operation: short(&identity, MAX_PLACE), reason });
                continue;
            }
            match importer.operation(verb, path, member, item) {
                Ok(operation) => found.push((identity, operation)),
                Err(reason) => skipped.push(Skipped { operation: short(&identity, MAX_PLACE), reason }),
            }
        }
    }
    if found.is_empty() {
        let reason = skipped.first().map(|first| format!(": {} cannot, {}", first.operation, first.reason));
        let message = format!("there is no operation that can be called{}", reason.unwrap_or_default());
        return Err(invalid(message));
    }
    let text = |pointer: &str| root.pointer(pointer).and_then(Value::as_str);
    let version = root.pointer("/info/version").map(|version| match version {
        Value::String(text) => text.clone(),
        // In YAML, 1.0 is a number.
        other => other.to_string(),
    });
    let servers = importer.servers.clone();
    let (ways, notes) = importer.finish();
    Ok(Api {
        title: short(text("/info/title").unwrap_or_default(), MAX_TITLE),
        description: text("/info/description").map(|text| short(text, MAX_DESCRIPTION)),
        version: short(&version.unwrap_or_default(), MAX_TITLE),
        servers,
        operations: name(found, &mut skipped),
        ways,
        skipped,
        notes,
    })
}

/// Whether a document can be read; a remark about one that is read as an older version.
fn check_version(root: &Value) -> Result<Option<String>, ConnectorsError> {
    let invalid = |message: String| Err(ConnectorsError::invalid("/openapi", message));
    let version = match root.get("openapi") {
        Some(Value::String(version)) => version.trim().to_owned(),
        Some(Value::Number(version)) => version.to_string(),
        _ if root.get("swagger").is_some() => {
            return invalid(
                "OpenAPI 3.0 and 3.1 can be imported, Swagger 2.0 cannot: convert the document first, for instance with \
                 `npx swagger2openapi FILE -o openapi.json`"
                    .into(),
            );
        }
        _ => return invalid("an OpenAPI document says its version here, such as 3.1.0".into()),
    };
    match version.strip_prefix("3") {
        Some("" | ".0" | ".1") => Ok(None),
        Some(minor) if minor.starts_with(".0.") || minor.starts_with(".1.") => Ok(None),
        // What is new in it is looked at where it stands.
        Some(minor) if minor.starts_with(".2") => {
            Ok(Some(format!("it is OpenAPI {}: what it shares with 3.1 is read", short(&version, 20))))
        }
        _ => invalid(format!(
            "OpenAPI 3.0 and 3.1 can be imported, {} cannot: convert the document first",
            short(&version, 20)
        )),
    }
}

/// The verb that a member of a path item stands for. Small letters are as it should be, and go before others.
fn verb(name: &str, item: &Map<String, Value>) -> Option<Verb> {
    let verb = Verb::parse(name)?;
    let proper = verb.as_str().to_ascii_lowercase();
    (name == proper || !item.contains_key(&proper)).then_some(verb)
}

/// What there is to say about a member of a path item that is no operation of ours.
fn unserved(name: &str, member: &Value, path: &str) -> Vec<Skipped> {
    let skipped = |name: &str, reason: &str| Skipped {
        operation: format!("{} {}", short(&name.to_ascii_uppercase(), 40), short(path, MAX_PLACE)),
        reason: reason.into(),
    };
    match name {
        "parameters" | "servers" | "summary" | "description" | "$ref" | "$comment" => Vec::new(),
        name if name.starts_with("x-") => Vec::new(),
        "additionalOperations" => {
            let more = member.as_object().into_iter().flatten();
            more.map(|(name, _)| skipped(name, "methods of one's own are not served")).collect()
        }
        name if name.eq_ignore_ascii_case("trace") => {
            vec![skipped(name, "a TRACE gives back the credential that was sent")]
        }
        name if Verb::parse(name).is_some() => vec![skipped(name, "the path has this method twice")],
        name if name.eq_ignore_ascii_case("query") => vec![skipped(name, "this method is not served")],
        name => vec![skipped(name, "there is no such method")],
    }
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
                skipped.push(Skipped { operation: short(&identity, MAX_PLACE), reason });
            } else {
                named.insert(operation.slug.clone(), operation);
            }
        }
    }
    named.into_values().collect()
}

/// Turns the operations of one document into ours.
pub(super) struct Importer<'a> {
    root: &'a Value,
    schemas: Schemas<'a>,
    schemes: Vec<SecurityScheme>,
    hidden: Hidden,
    servers: Vec<String>,
    /// Where the API is, if that is known.
    at: Option<Url>,
    /// Operations that are still to be read.
    left: usize,
    /// The sets of schemes that operations ask for, each once.
    alternatives: Vec<Vec<String>>,
    /// Of what notes are about.
    here: String,
    notes: Vec<Note>,
    /// Notes beyond the limit.
    more_notes: usize,
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
            servers: servers::servers(root),
            at: None,
            left: 1,
            alternatives: security::needs(root, &Value::Null, &[]).alternatives,
            here: String::new(),
            notes: Vec::new(),
            more_notes: 0,
            bytes: 0,
            checks: 0,
        }
    }

    /// Says something about what is being read.
    fn note(&mut self, reason: String) {
        match self.notes.len() < MAX_NOTES {
            true => self.notes.push(Note { place: self.here.clone(), reason }),
            false => self.more_notes += 1,
        }
    }

    /// What was guessed in other files, and those that were referred to and could not be had.
    fn missing_files(&mut self) {
        let remarks = self.root.get(reference::REMARKS).and_then(Value::as_array).into_iter().flatten();
        for remark in remarks.take(MAX_PARAMETERS).filter_map(Value::as_str) {
            self.note(short(remark, 400));
        }
        for (file, why) in reference::missing(self.root).take(100) {
            self.note(format!("the file {} is missing: {}", reference::address(file), short(why, 200)));
        }
        for file in reference::left_apart(self.root, 100) {
            self.note(format!(
                "the file {} is missing, since the document came alone: what is described there is left open. The command \
                 line sends files along",
                reference::address(file)
            ));
        }
    }

    fn item(&mut self, item: &'a Value) -> Result<&'a Map<String, Value>, String> {
        let found = follow(self.root, item).map_err(|broken| format!("it {broken}"))?;
        self.schemas.charge(values(found));
        found
            .as_object()
            .ok_or_else(|| format!("an object of operations is expected here, and it is {}", what(found)))
    }

    /// How one may authenticate, and everything that there is to say.
    fn finish(mut self) -> (Vec<Way>, Vec<Note>) {
        // What the document asks for everywhere is in its order, what operations ask for in an order that does not change
        // when a path is added.
        let everywhere = security::needs(self.root, &Value::Null, &[]).alternatives.len();
        self.alternatives[everywhere..].sort_by(|a, b| (a.len() > 1, a).cmp(&(b.len() > 1, b)));
        let (ways, notes) = security::ways(&self.schemes, &self.alternatives);
        self.notes.extend(notes);
        if self.more_notes > 0 {
            let reason = format!("there are {} more notes of such kinds", self.more_notes);
            self.notes.push(Note { place: "document".into(), reason });
        }
        (ways, self.notes)
    }

    /// One operation, or why it cannot be called. `item` holds what the operations of a path share.
    pub(super) fn operation(
        &mut self,
        verb: Verb,
        path: &str,
        source: &'a Value,
        item: &'a Map<String, Value>,
    ) -> Result<Operation, String> {
        self.here = format!("{} {}", verb.as_str(), short(path, MAX_PLACE));
        let noted = self.notes.len();
        self.left = self.left.saturating_sub(1);
        let read = self.read_operation(verb, path, source, item);
        if read.is_err() {
            // The reason says enough.
            self.notes.truncate(noted);
        }
        read
    }

    fn read_operation(
        &mut self,
        verb: Verb,
        path: &str,
        source: &'a Value,
        item: &'a Map<String, Value>,
    ) -> Result<Operation, String> {
        let source = self.follow(source).map_err(|broken| format!("it {broken}"))?;
        let Some(members) = source.as_object() else {
            return Err(format!("an object is expected here, and it is {}", what(source)));
        };
        request::check_template(path)?;
        let moved = self.own_server(members, item)?;
        let mut uses = Uses::new();
        let found = self.parameters(path, members, item, &mut uses)?;
        let mut needs = security::needs(self.root, source, &found.keys);
        if found.authorization && needs.alternatives.is_empty() {
            let token = self.undeclared(SecurityKind::Bearer, "Authorization");
            needs = security::needs(self.root, source, &[token]);
        }
        self.check_security(&needs)?;

        let mut properties = Map::new();
        let mut required = BTreeSet::new();
        let mut parameters = Vec::new();
        for Declared { mut parameter, schema } in found.kept {
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
        let body = match source.get("requestBody").filter(|body| !body.is_null()) {
            Some(body) => self.body(body, &mut properties, &mut required, &mut input, &mut uses)?,
            None => None,
        };
        input.insert("properties".into(), properties.into());
        if !required.is_empty() {
            input.insert("required".into(), required.into_iter().collect());
        }
        let mut shown = self.schemas.complete(&input, &uses, self.share(MAX_INPUT));
        let check = if shown.whole { None } else { self.check(&input, &uses) };
        if !shown.whole {
            shown.schema["description"] = PART_OF_INPUT.into();
        }
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
            moved,
            requires_auth: needs.requires_auth,
            scopes: needs.scopes,
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
        for names in needs.alternatives {
            if !self.alternatives.contains(&names) && self.alternatives.len() < MAX_PARAMETERS {
                self.alternatives.push(names);
            }
        }
        Ok(operation)
    }

    /// Bytes of a schema that is shown: all that is wanted, or what each of the operations that are left may have.
    fn share(&self, wanted: usize) -> usize {
        let shown = self.bytes - self.checks.min(self.bytes);
        let fair = MAX_SHOWN.saturating_sub(shown) / (self.left + 1);
        wanted.min((fair * wanted / (MAX_INPUT + MAX_OUTPUT)).max(MIN_SHOWN))
    }

    /// Why no further operation can be read, if so.
    fn is_full(&self, found: usize) -> Option<String> {
        let reason = if found >= MAX_OPERATIONS {
            format!("there is room for {MAX_OPERATIONS} operations")
        } else if self.bytes > MAX_IMPORTED {
            format!("the operations before it take {} MB, and there is no more room", MAX_IMPORTED >> 20)
        } else if self.schemas.work() > MAX_WORK {
            "the operations before it refer to long parts of the document too often to read on".to_owned()
        } else {
            return None;
        };
        Some(format!(
            "{reason}: import a document without the paths that you do not need, or list the operations that you need by \
             hand (`--operations`)"
        ))
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
    fn follow(&self, value: &'a Value) -> Result<&'a Value, Broken> {
        let found = follow(self.root, value)?;
        if !std::ptr::eq(found, value) {
            self.schemas.charge(values(found));
        }
        Ok(found)
    }

    /// Refuses an operation for which there can be no credential.
    fn check_security(&self, needs: &security::Needs) -> Result<(), String> {
        let mut first = None;
        for names in &needs.alternatives {
            match security::way(&self.schemes, names) {
                Ok(_) => return Ok(()),
                Err(reason) => first = first.or(Some(reason)),
            }
        }
        match first {
            Some(reason) if needs.requires_auth => Err(reason),
            _ => Ok(()),
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
        let response = match self.follow(response) {
            Ok(response) => response,
            Err(broken) => {
                self.note(format!("its answer {broken}: nothing is known of it"));
                return (None, None, None);
            }
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
                    let mut shown = self.schemas.complete(&schema, &uses, self.share(MAX_OUTPUT));
                    if !shown.whole {
                        let said = schema.get("description").and_then(Value::as_str);
                        let said =
                            said.map(|text| format!(" {}", short(text, MAX_TITLE))).unwrap_or_default();
                        shown.schema["description"] = format!("{PART_OF_OUTPUT}{said}").into();
                    }
                    Some(shown.schema)
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

/// What kind of value it is, for a message.
fn what(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
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
pub(super) mod mutated;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod variations;
