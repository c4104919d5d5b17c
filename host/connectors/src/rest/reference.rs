//! References of a document (JSON Reference; OpenAPI 3.1 §4.8.23): followed, or told why not.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    fmt,
};

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::document::MAX_VALUES;
use crate::error::wording::short;

/// References to references.
const MAX_HOPS: usize = 16;

/// Where the parts of a document that came from other files stand ([`super::bundle`]).
pub(super) const FILES: &str = "x-airlock-files";

/// The files that could not be had, with the reasons.
pub(super) const MISSING: &str = "x-airlock-missing";

/// What was guessed when the files were read.
pub(super) const REMARKS: &str = "x-airlock-remarks";

/// Why a reference leads to nothing. It is said of something: "its body …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Broken {
    Elsewhere(String),
    Nowhere(String),
    Circle,
    /// A reference is a text.
    NoText,
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elsewhere(file) => write!(formatter, "is described in another file ({file})"),
            Self::Nowhere(place) => write!(formatter, "is described nowhere: there is no {place}"),
            Self::Circle => write!(formatter, "refers to itself"),
            Self::NoText => write!(formatter, "has a reference (`$ref`) that is no text"),
        }
    }
}

/// Follows a reference, and those it leads to.
pub(super) fn follow<'a>(root: &'a Value, value: &'a Value) -> Result<&'a Value, Broken> {
    let mut value = value;
    for _ in 0..MAX_HOPS {
        match value.get("$ref") {
            Some(Value::String(reference)) => {
                let place = local(root, reference)?;
                value = root.pointer(&place).ok_or_else(|| broken(root, &place, reference))?;
            }
            // A field of that name is described by an object.
            None | Some(Value::Object(_)) => return Ok(value),
            Some(_) => return Err(Broken::NoText),
        }
    }
    Err(Broken::Circle)
}

/// The same without the reason.
pub(super) fn resolve<'a>(root: &'a Value, value: &'a Value) -> Option<&'a Value> {
    follow(root, value).ok()
}

/// The JSON pointer of a reference into the same document (RFC 6901 §6).
pub(super) fn pointer(reference: &str) -> Option<Cow<'_, str>> {
    let fragment = reference.strip_prefix('#').filter(|fragment| fragment.starts_with('/'))?;
    percent_decode_str(fragment).decode_utf8().ok()
}

/// One step of a JSON pointer.
pub(super) fn step(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn nowhere(reference: &str) -> Broken {
    Broken::Nowhere(short(reference, 100))
}

fn local<'a>(root: &Value, reference: &'a str) -> Result<Cow<'a, str>, Broken> {
    if let Some(place) = pointer(reference) {
        return Ok(place);
    }
    if reference.starts_with('#') {
        return Err(nowhere(reference));
    }
    Err(elsewhere(root, reference.split('#').next().unwrap_or_default()))
}

/// Why there is nothing at a place.
fn broken(root: &Value, place: &str, reference: &str) -> Broken {
    let file = place
        .strip_prefix('/')
        .and_then(|rest| rest.strip_prefix(FILES))
        .and_then(|rest| rest.strip_prefix('/'));
    let Some(file) = file else { return nowhere(reference) };
    let (file, inside) = file.split_once('/').unwrap_or((file, ""));
    let file = file.replace("~1", "/").replace("~0", "~");
    match root.get(FILES).is_some_and(|files| files.get(&file).is_some()) {
        true => Broken::Nowhere(format!("#/{} in {}", short(inside, 100), address(&file))),
        false => elsewhere(root, &file),
    }
}

fn elsewhere(root: &Value, file: &str) -> Broken {
    let why = missing(root).find(|(name, _)| *name == file || *name == address(file));
    let why = why.map(|(_, why)| format!(": {}", short(why, 200))).unwrap_or_default();
    Broken::Elsewhere(format!("{}{why}", address(file)))
}

/// The files that could not be had, with the reasons.
pub(super) fn missing(root: &Value) -> impl Iterator<Item = (&str, &str)> {
    let pairs = root.get(MISSING).and_then(Value::as_array).into_iter().flatten();
    pairs.filter_map(|pair| Some((pair.get(0)?.as_str()?, pair.get(1)?.as_str()?)))
}

/// The files that a document refers to and that nobody read beside it, as it came alone; at most so many.
pub(super) fn left_apart(root: &Value, most: usize) -> BTreeSet<&str> {
    let mut files = BTreeSet::new();
    if root.get(FILES).is_some() || root.get(MISSING).is_some() {
        return files;
    }
    let mut all = vec![root];
    while let Some(value) = all.pop() {
        match value {
            Value::Array(items) => all.extend(items),
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("$ref") {
                    let file = reference.split('#').next().unwrap_or_default();
                    if !file.is_empty() && files.len() < most {
                        files.insert(file);
                    }
                }
                // What is data and not a description may have such a member as well.
                let described = members.iter().filter(|(name, _)| {
                    !name.starts_with("x-")
                        && !["example", "examples", "default", "enum", "const"].contains(&name.as_str())
                });
                all.extend(described.map(|(_, value)| value));
            }
            _ => {}
        }
    }
    files
}

/// A file's name as it may be told: a query may hold keys.
pub(super) fn address(file: &str) -> String {
    short(file.split('?').next().unwrap_or_default(), 200)
}

/// Prepares a document, so that everything else can take it as it is: the parts that hold others stand where they are
/// referred to, references that lead through other references lead where those lead, and what stands beside the reference
/// of a path or an operation is part of it.
pub(super) fn settle(root: &mut Value) -> Result<(), &'static str> {
    let mut budget = MAX_VALUES;
    let mut containers: Vec<String> =
        ["/info", "/servers", "/security", "/paths", "/components"].map(Into::into).into();
    let mut next = 0;
    while let Some(place) = containers.get(next).cloned() {
        unfold(root, &place, &mut budget)?;
        if place == "/components" {
            let parts = root.pointer(&place).and_then(Value::as_object).into_iter().flatten();
            containers.extend(parts.map(|(name, _)| format!("/components/{}", step(name))));
        }
        next += 1;
    }
    let mut near = Vec::new();
    nearby(root, root, "", &mut Vec::new(), &mut near);
    for (place, target) in near {
        if let Some(reference) = root.pointer_mut(&place) {
            *reference = target.into();
        }
    }
    straighten(root);
    let paths = root.get("paths").and_then(Value::as_object).into_iter().flatten();
    let paths: Vec<String> = paths.map(|(path, _)| format!("/paths/{}", step(path))).collect();
    for path in paths {
        if root.pointer(&path).is_some_and(has_siblings) {
            unfold(root, &path, &mut budget)?;
        }
        let Some(item) = root.pointer(&path).and_then(Value::as_object) else { continue };
        let operations = item.iter().filter(|(_, operation)| has_siblings(operation));
        let operations: Vec<String> = operations.map(|(verb, _)| format!("{path}/{}", step(verb))).collect();
        for operation in operations {
            unfold(root, &operation, &mut budget)?;
        }
    }
    Ok(())
}

/// References such as `#/$defs/A` that lead nowhere in the document, and somewhere in the schema around them: generators write
/// the schema as if it stood alone. With what each is meant to be.
fn nearby(
    root: &Value,
    value: &Value,
    place: &str,
    around: &mut Vec<String>,
    found: &mut Vec<(String, String)>,
) {
    const WORDS: [&str; 2] = ["$defs", "definitions"];
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref")
                && WORDS.iter().any(|word| reference.starts_with(&format!("#/{word}/")))
                && let Some(own) = pointer(reference).filter(|own| root.pointer(own).is_none())
            {
                let mut inner = around.iter().rev().map(|around| format!("{around}{own}"));
                let target = inner.find(|target| root.pointer(target).is_some());
                found.extend(
                    target.map(|target| (format!("{place}/$ref"), format!("#{}", fragment(&target)))),
                );
            }
            let is_around = !place.is_empty() && WORDS.iter().any(|word| fields.contains_key(*word));
            if is_around {
                around.push(place.to_owned());
            }
            for (name, field) in fields.iter().filter(|(_, field)| field.is_object() || field.is_array()) {
                nearby(root, field, &format!("{place}/{}", step(name)), around, found);
            }
            if is_around {
                around.pop();
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                nearby(root, item, &format!("{place}/{index}"), around, found);
            }
        }
        _ => {}
    }
}

fn is_reference(value: &Value) -> bool {
    value.get("$ref").is_some_and(Value::is_string)
}

fn has_siblings(value: &Value) -> bool {
    is_reference(value)
        && value
            .as_object()
            .is_some_and(|fields| fields.keys().any(|name| !name.starts_with("x-") && name != "$ref"))
}

/// Puts in the place of a reference what it leads to, under what stands beside it.
fn unfold(root: &mut Value, place: &str, budget: &mut usize) -> Result<(), &'static str> {
    const TOO_OFTEN: &str = "the operations refer to long parts of the document too often";
    let Some(value) = root.pointer(place).filter(|value| is_reference(value)) else { return Ok(()) };
    // A broken one stays, and whoever needs it says so.
    let Ok(found) = follow(root, value) else { return Ok(()) };
    *budget = budget.checked_sub(super::schema::values(found)).ok_or(TOO_OFTEN)?;
    let mut whole = found.clone();
    if let (Value::Object(whole), Value::Object(own)) = (&mut whole, value.clone()) {
        for (name, field) in own.into_iter().filter(|(name, _)| name != "$ref") {
            match (name.as_str(), whole.get_mut(&name), field) {
                // Both lists hold: of two parameters with one name the later counts.
                ("parameters", Some(Value::Array(listed)), Value::Array(more)) => listed.extend(more),
                (_, _, field) => {
                    whole.insert(name, field);
                }
            }
        }
    }
    if let Some(value) = root.pointer_mut(place) {
        *value = whole;
    }
    Ok(())
}

/// Rewrites references that lead through other references.
fn straighten(root: &mut Value) {
    let mut crooked = HashMap::new();
    collect(root, root, &mut crooked);
    crooked.retain(|_, place: &mut Option<String>| place.is_some());
    if !crooked.is_empty() {
        rewrite(root, &crooked);
    }
}

fn collect(root: &Value, value: &Value, crooked: &mut HashMap<String, Option<String>>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref")
                && !crooked.contains_key(reference)
            {
                let place = pointer(reference);
                let bent = place.filter(|place| root.pointer(place).is_none());
                let found = bent.and_then(|place| through(root, &place, &mut 0));
                crooked.insert(reference.clone(), found.map(|(place, _)| format!("#{}", fragment(&place))));
            }
            fields.values().for_each(|field| collect(root, field, crooked));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(root, item, crooked)),
        _ => {}
    }
}

fn rewrite(value: &mut Value, crooked: &HashMap<String, Option<String>>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get_mut("$ref")
                && let Some(Some(place)) = crooked.get(reference)
            {
                *reference = place.clone();
            }
            fields.values_mut().for_each(|field| rewrite(field, crooked));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rewrite(item, crooked)),
        _ => {}
    }
}

/// Where a pointer leads when references on its way are followed.
fn through<'a>(root: &'a Value, place: &str, hops: &mut usize) -> Option<(String, &'a Value)> {
    let (mut at, mut value) = (String::new(), root);
    for token in place.split('/').skip(1) {
        let name = token.replace("~1", "/").replace("~0", "~");
        loop {
            let child = match value {
                Value::Object(fields) => fields.get(&name),
                Value::Array(items) => name.parse::<usize>().ok().and_then(|index| items.get(index)),
                _ => None,
            };
            if let Some(child) = child {
                (at, value) = (format!("{at}/{token}"), child);
                break;
            }
            *hops += 1;
            if *hops > MAX_HOPS {
                return None;
            }
            let reference = value.get("$ref")?.as_str()?;
            (at, value) = through(root, &pointer(reference)?, hops)?;
        }
    }
    Some((at, value))
}

/// A pointer as it stands in a fragment.
pub(super) fn fragment(place: &str) -> String {
    place.replace('%', "%25").replace(' ', "%20")
}

/// The fields of an object that is none of the document's own extensions.
pub(super) fn own_fields(fields: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    fields.iter().filter(|(name, _)| !name.starts_with("x-"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_that_a_document_alone_refers_to_are_told_wherever_it_does() {
        let root = json!({
            "paths": { "/a": { "post": { "requestBody": { "content": { "x": { "schema": { "$ref": "s.json" } } } } } } },
            "components": { "schemas": {
                "A": { "properties": { "b": { "$ref": "s.json#/B" }, "c": { "$ref": "#/components/schemas/A" } } },
                "B": { "allOf": [{ "$ref": "https://other.test/t.yaml?key=1#/T" }] },
            } },
            "example": { "$ref": "data.json" }, "x-own": { "$ref": "own.json" },
        });
        let told = |root: &Value| left_apart(root, 100).into_iter().map(address).collect::<Vec<_>>();
        assert_eq!(told(&root), ["https://other.test/t.yaml", "s.json"]);
        assert_eq!(left_apart(&root, 1).len(), 1);
        let mut read = root;
        read[FILES] = json!({});
        assert!(told(&read).is_empty(), "the files were read, or are told as missing");
    }

    #[test]
    fn references_are_followed_unless_they_lead_in_a_circle_or_out() {
        let root = json!({
            "a": { "$ref": "#/b~1c/d%20e" }, "b/c": { "d e": 7 }, "loop": { "$ref": "#/loop" },
            "out": { "$ref": "other.yaml#/a" }, "nowhere": { "$ref": "#/x" }, "named": { "$ref": "#Pet" },
            "gone": { "$ref": "gone.yaml?key=1" }, MISSING: [["gone.yaml", "there is no such file"]],
        });
        assert_eq!(follow(&root, &root["a"]), Ok(&json!(7)));
        for (name, why) in [
            ("loop", "refers to itself"),
            ("out", "is described in another file (other.yaml)"),
            ("nowhere", "is described nowhere: there is no #/x"),
            ("named", "is described nowhere: there is no #Pet"),
            ("gone", "is described in another file (gone.yaml: there is no such file)"),
        ] {
            let broken = follow(&root, &root[name]).expect_err("it is broken");
            assert_eq!(broken.to_string(), why);
            assert_eq!(resolve(&root, &root[name]), None);
        }
    }

    #[test]
    fn a_document_is_settled() {
        let mut root = json!({
            "paths": { "$ref": "#/x-paths" },
            "x-paths": {
                "/a": { "$ref": "#/x-a", "parameters": [{ "name": "own", "in": "query" }], "summary": "own" },
                "/b": { "get": { "$ref": "#/x-a/get", "security": [] } },
                "/c": { "$ref": "#/x-a" }, "/d": { "$ref": "gone.yaml", "get": {} },
            },
            "x-a": { "get": { "operationId": "a" }, "parameters": [{ "name": "shared", "in": "query" }] },
            "components": { "$ref": "#/x-components" },
            "x-components": { "schemas": { "$ref": "#/x-schemas" } },
            "x-schemas": { "Pet": { "$ref": "#/x-more/Pet" } }, "x-more": { "$ref": "#/x-most" },
            "x-most": { "Pet": { "type": "object" } },
            "crooked": { "$ref": "#/x-more/Pet/type" }, "circle": { "$ref": "#/x-circle/a" },
            "x-circle": { "$ref": "#/x-circle" },
        });
        settle(&mut root).expect("a short document");
        let paths = &root["paths"];
        assert_eq!(
            paths["/a"]["parameters"],
            json!([{ "name": "shared", "in": "query" }, { "name": "own", "in": "query" }])
        );
        assert_eq!(
            (&paths["/a"]["get"]["operationId"], &paths["/a"]["summary"]),
            (&json!("a"), &json!("own"))
        );
        assert_eq!(paths["/b"]["get"], json!({ "operationId": "a", "security": [] }));
        assert_eq!(paths["/c"], json!({ "$ref": "#/x-a" }));
        assert_eq!(paths["/d"], json!({ "$ref": "gone.yaml", "get": {} }));
        assert_eq!(root.pointer("/components/schemas/Pet"), Some(&json!({ "$ref": "#/x-most/Pet" })));
        assert_eq!(root["crooked"], json!({ "$ref": "#/x-most/Pet/type" }));
        assert_eq!(root["circle"], json!({ "$ref": "#/x-circle/a" }));
    }

    #[test]
    fn row_22_parts_beside_references_cannot_multiply_a_document() {
        let long: Vec<u8> = vec![0; 100_000];
        let paths: Map<_, _> = (0..1_000)
            .map(|number| (format!("/{number}"), serde_json::json!({ "$ref": "#/x-long", "summary": "s" })))
            .collect();
        let mut root = json!({ "paths": paths, "x-long": { "get": { "x-values": long } } });
        assert!(settle(&mut root).expect_err("it would be long").contains("too often"));
    }
}
