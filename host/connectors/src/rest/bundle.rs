//! A document in several files becomes one.
//!
//! Each file that a `$ref` names is put whole under [`FILES`] of the first, once, and the references lead there; circles of
//! files are circles of references. Nothing here reads a file or a socket: a [`Bundle`] says which file it wants next and is
//! given it, or the reason why not, so the command line reads beside the document and the daemon fetches from its origin.
//! Which files there may be is decided here: below a folder, or of one origin, so many, so many bytes, so far from the
//! first (THREATS rows 3, 8 and 22). What cannot be had is named under [`MISSING`], and the import says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use url::Url;

use super::{
    document::{self, MAX_BYTES},
    reference::{FILES, MISSING, REMARKS, address, fragment, step},
    schema::short,
};
use crate::ConnectorsError;

/// Files of one document.
const MAX_FILES: usize = 500;

/// Files that lead to files.
const MAX_HOPS: usize = 50;

/// Levels in a file: it stands two levels deeper in the whole.
const MAX_DEPTH: usize = document::MAX_DEPTH - 3;

/// Where the first file of a document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Its path in a folder, which no reference may leave. Segments are separated by `/`.
    Folder(String),
    /// Its address: references may lead anywhere at its origin.
    Address(Url),
}

/// Puts the files of a document together.
///
/// Ask what is [`wanted`](Bundle::wanted) and [`give`](Bundle::give) it until nothing is, then [`finish`](Bundle::finish).
pub struct Bundle {
    origin: Origin,
    first: String,
    root: Value,
    /// What the first file consisted of, to be left as it is when it refers to no other.
    original: Vec<u8>,
    files: BTreeMap<String, Value>,
    missing: BTreeMap<String, String>,
    queue: VecDeque<(String, usize)>,
    known: BTreeSet<String>,
    bytes: usize,
    /// What was guessed when they were read.
    remarks: Vec<Value>,
}

impl Bundle {
    /// Begins with the first file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn new(document: Vec<u8>, origin: Origin) -> Result<Self, ConnectorsError> {
        let (root, remarks) = document::read(&document)?;
        let first = match &origin {
            Origin::Folder(path) => path.clone(),
            Origin::Address(url) => without_fragment(url),
        };
        let mut bundle = Self {
            origin,
            known: BTreeSet::from([first.clone()]),
            first: first.clone(),
            bytes: document.len(),
            original: document,
            root: Value::Null,
            files: BTreeMap::new(),
            missing: BTreeMap::new(),
            queue: VecDeque::new(),
            remarks: remarks.into_texts().into_iter().map(Value::from).collect(),
        };
        bundle.root = bundle.taken_in(root, &first, 0);
        Ok(bundle)
    }

    /// The next file that is wanted, and how many bytes it may have: its path in the folder, or its address.
    pub fn wanted(&self) -> Option<(&str, usize)> {
        self.queue.front().map(|(name, _)| (name.as_str(), MAX_BYTES.saturating_sub(self.bytes)))
    }

    /// Gives what was wanted, or says why it cannot be had.
    pub fn give(&mut self, file: Result<Vec<u8>, String>) {
        let Some((name, hops)) = self.queue.pop_front() else { return };
        match file.and_then(|bytes| self.read(&name, bytes)) {
            Ok(value) => {
                let value = self.taken_in(value, &name, hops);
                self.files.insert(name, value);
            }
            Err(reason) => {
                self.missing.insert(name, reason);
            }
        }
    }

    fn read(&mut self, name: &str, bytes: Vec<u8>) -> Result<Value, String> {
        if self.bytes.saturating_add(bytes.len()) > MAX_BYTES {
            return Err(format!("with it the files would have more than {} MB", MAX_BYTES >> 20));
        }
        self.bytes += bytes.len();
        let (value, remarks) = document::read(&bytes).map_err(|error| match error {
            ConnectorsError::Invalid { message, .. } => message,
            other => other.to_string(),
        })?;
        match depth(&value) > MAX_DEPTH {
            true => Err("it is nested too deep".into()),
            false => {
                let told =
                    remarks.into_texts().into_iter().map(|remark| format!("{}: {remark}", address(name)));
                let left = MAX_FILES.saturating_sub(self.remarks.len());
                self.remarks.extend(told.take(left).map(Value::from));
                Ok(value)
            }
        }
    }

    /// The whole document, and the names of the files that it now holds. One that refers to no other file stays as it was
    /// written.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self) -> Result<(Vec<u8>, Vec<String>), ConnectorsError> {
        let Self { mut root, original, files, missing, remarks, .. } = self;
        let names = files.keys().cloned().collect();
        if files.is_empty() && missing.is_empty() {
            return Ok((original, names));
        }
        if let Value::Object(root) = &mut root {
            let missing = missing.into_iter().map(|(name, reason)| (name, reason.into()));
            root.insert(FILES.into(), Value::Object(files.into_iter().collect()));
            root.insert(MISSING.into(), Value::Object(missing.collect::<Map<_, _>>()));
            root.insert(REMARKS.into(), remarks.into());
        }
        Ok((serde_json::to_vec(&root)?, names))
    }

    /// Makes the references of a file lead into the whole, and puts the files that they name on the list.
    fn taken_in(&mut self, mut value: Value, name: &str, hops: usize) -> Value {
        self.references(&mut value, name, hops);
        value
    }

    fn references(&mut self, value: &mut Value, name: &str, hops: usize) {
        match value {
            Value::Object(fields) => {
                for (member, field) in fields.iter_mut() {
                    match field {
                        Value::String(reference) if member == "$ref" => {
                            *reference = self.reference(reference, name, hops);
                        }
                        Value::Object(about) if member == "discriminator" => {
                            let mapping = about.get_mut("mapping").and_then(Value::as_object_mut);
                            for reference in mapping.into_iter().flat_map(Map::values_mut) {
                                if let Value::String(reference) = reference
                                    && is_place(reference)
                                {
                                    *reference = self.reference(reference, name, hops);
                                }
                            }
                        }
                        other => self.references(other, name, hops),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.references(item, name, hops)),
            _ => {}
        }
    }

    /// A reference as it has to be in the whole.
    fn reference(&mut self, reference: &str, from: &str, hops: usize) -> String {
        let (file, place) = match reference.split_once('#') {
            Some((file, place)) => (file, place),
            None => (reference, ""),
        };
        let target = match file.is_empty() {
            true => Ok(from.to_owned()),
            false => self.origin.join(from, file),
        };
        let target = match target {
            Ok(target) => target,
            Err(reason) => {
                let name = short(file.split('?').next().unwrap_or_default(), 200);
                self.miss(name.clone(), reason);
                return format!("{name}#{place}");
            }
        };
        if target == self.first {
            return format!("#{place}");
        }
        if !place.is_empty() && !place.starts_with('/') {
            // The name of an anchor.
            return format!("{target}#{place}");
        }
        if !self.known.contains(&target) {
            if self.known.len() > MAX_FILES || hops >= MAX_HOPS {
                self.miss(target.clone(), "there are too many files".into());
                return format!("{target}#{place}");
            }
            self.known.insert(target.clone());
            self.queue.push_back((target.clone(), hops + 1));
        }
        format!("#/{FILES}/{}{place}", fragment(&step(&target)))
    }

    fn miss(&mut self, name: String, reason: String) {
        if self.missing.len() <= MAX_FILES {
            self.missing.insert(name, reason);
        }
    }
}

impl Origin {
    /// The name of a file that another one refers to.
    fn join(&self, from: &str, reference: &str) -> Result<String, String> {
        match self {
            Self::Folder(_) => {
                if Url::parse(reference).is_ok() || reference.starts_with("//") {
                    return Err("only files beside the document are read".into());
                }
                let path = percent_decode_str(reference.split('?').next().unwrap_or_default())
                    .decode_utf8()
                    .map_err(|_| "its name is no text".to_owned())?;
                let mut segments: Vec<&str> = from.split('/').collect();
                segments.pop();
                if path.starts_with(['/', '\\']) || path.contains(['\0', '\\', ':']) {
                    return Err("only files below the document's folder are read".into());
                }
                for segment in path.split('/') {
                    match segment {
                        "" | "." => {}
                        ".." => {
                            segments.pop().ok_or(
                                "only files below the document's folder are read: --ref-dir names a folder above it",
                            )?;
                        }
                        name => segments.push(name),
                    }
                }
                match segments.is_empty() {
                    true => Err("it is no file".into()),
                    false => Ok(segments.join("/")),
                }
            }
            Self::Address(first) => {
                let target = Url::parse(from).and_then(|from| from.join(reference));
                let target = target.map_err(|_| "it is no address".to_owned())?;
                let is_plain = target.username().is_empty() && target.password().is_none();
                match target.origin() == first.origin() && target.has_host() && is_plain {
                    true => Ok(without_fragment(&target)),
                    false => Err("only files of the document's own origin are fetched".into()),
                }
            }
        }
    }
}

fn without_fragment(url: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    url.into()
}

/// Whether a value of a discriminator's mapping is a place, and not the name of a schema.
fn is_place(reference: &str) -> bool {
    reference.contains(['#', '/']) || [".json", ".yaml", ".yml"].iter().any(|end| reference.ends_with(end))
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(depth).max().unwrap_or_default() + 1,
        Value::Object(fields) => fields.values().map(depth).max().unwrap_or_default() + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use serde_json::json;

    use super::*;
    use crate::rest::{Api, import};

    fn folder(path: &str) -> Origin {
        Origin::Folder(path.into())
    }

    fn address(url: &str) -> Origin {
        Origin::Address(Url::parse(url).expect("an address"))
    }

    /// Puts files together; gives what was asked for as well.
    fn bundled(origin: Origin, first: &Value, files: &BTreeMap<String, String>) -> (Vec<u8>, Vec<String>) {
        let mut bundle = Bundle::new(first.to_string().into_bytes(), origin).expect("a document");
        let mut asked = Vec::new();
        while let Some((name, _)) = bundle.wanted() {
            asked.push(name.to_owned());
            let file = files.get(name).map(|text| text.clone().into_bytes());
            bundle.give(file.ok_or_else(|| "there is no such file".to_owned()));
        }
        (bundle.finish().expect("JSON").0, asked)
    }

    fn files<const N: usize>(files: [(&str, Value); N]) -> BTreeMap<String, String> {
        files.into_iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect()
    }

    fn described(api: &Api) -> Vec<Value> {
        let operations = api.operations.iter();
        operations.map(|operation| serde_json::to_value(operation).expect("JSON")).collect()
    }

    #[test]
    fn files_beside_a_document_are_part_of_it() {
        let first = json!({
            "openapi": "3.1.0", "paths": {
                "/a": { "$ref": "paths/a.yaml" },
                "/b": { "get": { "$ref": "./paths/b.yaml#/get" }, "post": { "$ref": "paths/gone.yaml" } },
                "/c": { "get": { "operationId": "c", "parameters": [{ "$ref": "../shared.yaml#/x" }] } },
            },
            "components": { "schemas": { "Own": { "type": "string", "enum": ["own"] } } },
        });
        let mut parts = files([
            (
                "api/paths/b.yaml",
                json!({ "get": { "operationId": "b", "parameters": [{ "$ref": "../more/p q.yaml" }] } }),
            ),
            (
                "api/more/p q.yaml",
                json!({ "name": "p", "in": "query", "schema": { "$ref": "../openapi.yaml#/components/schemas/Own" } }),
            ),
            (
                "shared.yaml",
                json!({ "x": { "name": "x", "in": "query", "schema": { "$ref": "#/y" } }, "y": { "enum": ["y"] } }),
            ),
            (
                "api/schemas/tree.yaml",
                json!({ "Tree": { "properties": { "next": { "$ref": "tree.yaml#/Tree" }, "back": { "$ref": "../paths/a.yaml#/x-any" } } } }),
            ),
        ]);
        parts.insert(
            "api/paths/a.yaml".into(),
            "post:\n  operationId: a\n  requestBody:\n    required: true\n    content:\n      application/json:\n        \
             schema: { $ref: '../schemas/tree.yaml#/Tree' }\nx-any: { enum: [1] }\n"
                .into(),
        );
        parts.insert("api/more/p%20q.yaml".into(), "wrong".into());
        let (whole, asked) = bundled(folder("api/openapi.yaml"), &first, &parts);
        assert_eq!(asked.len(), 6, "{asked:?}");
        let api = import(&whole).expect("a document");
        let slugs: Vec<_> = api.operations.iter().map(|operation| operation.slug.as_str()).collect();
        assert_eq!(slugs, ["a", "b", "c"]);
        let accepts = |slug: usize, arguments: Value| {
            jsonschema::validator_for(&api.operations[slug].input_schema())
                .expect("a schema")
                .is_valid(&arguments)
        };
        assert!(
            accepts(0, json!({ "next": { "next": { "back": 1 } } }))
                && !accepts(0, json!({ "next": { "next": { "back": 2 } } }))
        );
        assert!(accepts(1, json!({ "p": "own" })) && !accepts(1, json!({ "p": "other" })));
        assert!(accepts(2, json!({ "x": "y" })) && !accepts(2, json!({ "x": "z" })));
        assert_eq!(api.skipped.len(), 1);
        assert_eq!(api.skipped[0].operation, "POST /b");
        assert_eq!(
            api.skipped[0].reason,
            "it is described in another file (api/paths/gone.yaml: there is no such file)"
        );
        assert!(
            api.notes.iter().any(|note| note.reason.contains("api/paths/gone.yaml is missing")),
            "{:?}",
            api.notes
        );
    }

    #[test]
    fn a_document_without_other_files_stays_as_it_is() {
        let text = b"openapi: 3.1.0 # kept\npaths: {}\n".to_vec();
        let bundle = Bundle::new(text.clone(), folder("a.yaml")).expect("a document");
        assert!(bundle.wanted().is_none());
        assert_eq!(bundle.finish().expect("it is there").0, text);
    }

    #[test]
    fn rows_03_08_no_reference_leads_out_of_the_folder_or_the_origin() {
        let reference = |reference: &str| json!({ "openapi": "3.1.0", "paths": { "/a": { "get": { "$ref": reference } }, "/b": { "get": {} } } });
        for escape in [
            "../secret.yaml",
            "a/../../secret.yaml",
            "/etc/passwd",
            "%2e%2e/secret.yaml",
            "..%2fsecret.yaml",
            "%2fetc/passwd",
            "file:///etc/passwd",
            "https://evil.example/a.yaml",
            "//evil.example/a.yaml",
            "\\\\evil\\a",
            "C:\\a.yaml",
            "c:/a.yaml",
            "..\\secret.yaml",
            "a/./../../x",
            "..",
        ] {
            let (whole, asked) = bundled(folder("openapi.yaml"), &reference(escape), &BTreeMap::new());
            assert!(asked.is_empty(), "{escape}: {asked:?}");
            let api = import(&whole).expect("a document");
            assert!(api.skipped[0].reason.contains("only files"), "{escape}: {:?}", api.skipped);
        }
        for escape in [
            "https://evil.example/a.yaml",
            "//evil.example/a.yaml",
            "http://docs.example/a.yaml",
            "file:///etc/passwd",
            "https://docs.example:8443/a.yaml",
            "https://user@docs.example/a.yaml",
            "https:\\\\evil.example/a",
            "\\\\evil.example/a",
            "data:application/json,{}",
        ] {
            let (_, asked) = bundled(
                address("https://docs.example/v1/openapi.yaml"),
                &reference(escape),
                &BTreeMap::new(),
            );
            assert!(asked.is_empty(), "{escape}: {asked:?}");
        }
        for (inside, expected) in [
            ("a.yaml#/x", "https://docs.example/v1/a.yaml"),
            ("../a.yaml", "https://docs.example/a.yaml"),
            ("/a.yaml", "https://docs.example/a.yaml"),
            ("https://docs.example/b?x=1#/y", "https://docs.example/b?x=1"),
        ] {
            let (_, asked) = bundled(
                address("https://docs.example/v1/openapi.yaml"),
                &reference(inside),
                &BTreeMap::new(),
            );
            assert_eq!(asked, [expected]);
        }
    }

    #[test]
    fn row_22_files_have_limits() {
        // Each leads to the next.
        let mut bundle = Bundle::new(br#"{"$ref": "0"}"#.to_vec(), folder("a")).expect("a document");
        let mut number = 0;
        while bundle.wanted().is_some() {
            number += 1;
            bundle.give(Ok(format!("{{\"$ref\": \"{number}\"}}").into_bytes()));
        }
        assert_eq!(number, MAX_HOPS);
        // Very many.
        let many: Vec<_> = (0..2_000).map(|number| json!({ "$ref": format!("f{number}") })).collect();
        let mut bundle =
            Bundle::new(json!({ "x": many }).to_string().into_bytes(), folder("a")).expect("a document");
        let mut number = 0;
        while let Some((_, bytes)) = bundle.wanted() {
            assert!(bytes < MAX_BYTES);
            number += 1;
            bundle.give(Ok(b"{}".to_vec()));
        }
        assert_eq!(number, MAX_FILES);
        // Long and deep ones.
        let two = json!({ "x": [{ "$ref": "long" }, { "$ref": "deep" }, { "$ref": "broken" }] });
        let mut bundle = Bundle::new(two.to_string().into_bytes(), folder("a")).expect("a document");
        bundle.give(Ok(vec![b' '; MAX_BYTES]));
        bundle.give(Ok(format!("{}{}", "[".repeat(127), "]".repeat(127)).into_bytes()));
        bundle.give(Ok(b"{\"a\": [hunter2".to_vec()));
        let (whole, _) = bundle.finish().expect("JSON");
        let whole: Value = serde_json::from_slice(&whole).expect("JSON");
        let missing = &whole[MISSING];
        assert!(missing["long"].as_str().expect("a reason").contains("more than 64 MB"), "{missing}");
        assert_eq!(missing["deep"], "it is nested too deep");
        assert!(
            missing["broken"].as_str().is_some_and(|why| why.contains("line 1") && !why.contains("hunter2")),
            "{missing}"
        );
    }

    #[test]
    fn the_mapping_of_a_discriminator_leads_where_its_references_do() {
        let first = json!({ "x": { "discriminator": { "propertyName": "kind", "mapping": {
            "cat": "cat.yaml", "dog": "#/components/schemas/Dog", "bird": "Bird",
        } } } });
        let (whole, _) =
            bundled(folder("a.yaml"), &first, &files([("cat.yaml", json!({ "type": "object" }))]));
        let whole: Value = serde_json::from_slice(&whole).expect("JSON");
        let mapping = &whole["x"]["discriminator"]["mapping"];
        let expected =
            json!({ "cat": "#/x-airlock-files/cat.yaml", "dog": "#/components/schemas/Dog", "bird": "Bird" });
        assert_eq!(mapping, &expected);
    }

    /// Every object below some places, by its pointer.
    fn objects(value: &Value, place: &str, found: &mut Vec<String>) {
        if let Value::Object(fields) = value {
            let depth = place.matches('/').count();
            if depth >= 2 && !fields.contains_key("$ref") {
                found.push(place.to_owned());
            }
            for (name, field) in fields {
                // What is no reference object may not be one: media types by name, examples, mappings.
                if !["example", "examples", "scopes", "variables", "encoding", "default"]
                    .contains(&name.as_str())
                {
                    objects(field, &format!("{place}/{}", step(name)), found);
                }
            }
        }
        if let Value::Array(items) = value {
            for (index, item) in items.iter().enumerate() {
                objects(item, &format!("{place}/{index}"), found);
            }
        }
    }

    /// Whether a reference may stand here and be followed.
    fn may_be_a_reference(place: &str) -> bool {
        let steps: Vec<&str> = place.split('/').skip(1).collect();
        match steps.as_slice() {
            ["paths", _] | ["paths", _, "get" | "post" | "put" | "patch" | "delete"] => true,
            ["components", kind, _] => *kind != "securitySchemes" || steps.len() == 3,
            ["components", "schemas", .., "properties", _] => true,
            [.., "requestBody"]
            | [.., "parameters", _]
            | [.., "responses", _]
            | [.., "schema"]
            | [.., "items"] => true,
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_document_that_is_cut_into_files_is_the_same(
            cuts in vec((any::<prop::sample::Index>(), 0..3_usize, any::<bool>()), 1..12),
            is_crm in any::<bool>(),
        ) {
            let text: &[u8] = match is_crm {
                true => include_bytes!("fixtures/crm-3.1.json"),
                false => include_bytes!("fixtures/pets-3.0.yaml"),
            };
            let (mut root, _) = document::read(text).expect("a document");
            let whole = import(text).expect("a document");
            let mut parts: BTreeMap<String, Value> = BTreeMap::new();
            for (number, (index, level, has_pointer)) in cuts.into_iter().enumerate() {
                let mut places = Vec::new();
                objects(&root, "", &mut places);
                places.retain(|place| may_be_a_reference(place));
                let place = index.get(&places).clone();
                let target = root.pointer_mut(&place).expect("it is there");
                let mut part = target.clone();
                let name = format!("{}part {number}.yaml", ["", "a/", "a/b/"][level]);
                let (reference, up) = (name.clone(), "../".repeat(level));
                *target = json!({ "$ref": if has_pointer { format!("./{reference}#/in~1side/0") } else { reference } });
                // In the part, references lead back to the first file, and those to other parts start elsewhere.
                relative(&mut part, &up);
                parts.insert(name, if has_pointer { json!({ "in/side": [part] }) } else { part });
            }
            let parts: BTreeMap<String, String> = parts.into_iter().map(|(name, part)| (name, part.to_string())).collect();
            let (again, asked) = bundled(folder("first.yaml"), &root, &parts);
            let again = import(&again).expect("a document");
            prop_assert!(asked.len() <= parts.len());
            prop_assert_eq!(requests(&again), requests(&whole));
            prop_assert_eq!(described(&again).len(), described(&whole).len());
            // A part that nothing refers to any more is none that is missing.
            prop_assert_eq!(again.skipped.len(), whole.skipped.len());
        }
    }

    fn relative(part: &mut Value, up: &str) {
        match part {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get_mut("$ref") {
                    *reference = match reference.strip_prefix('#') {
                        Some(place) => format!("{up}first.yaml#{place}"),
                        None => format!("{up}{}", reference.trim_start_matches("./")),
                    };
                }
                fields.values_mut().for_each(|field| relative(field, up));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| relative(item, up)),
            _ => {}
        }
    }

    /// What is sent does not depend on the names of definitions.
    fn requests(api: &Api) -> Vec<Value> {
        described(api)
            .into_iter()
            .map(|mut operation| {
                let fields = operation.as_object_mut().expect("an object");
                let names = |schema: Option<Value>| -> Vec<String> {
                    let schema = schema.unwrap_or_default();
                    let properties =
                        schema.get("properties").and_then(Value::as_object).into_iter().flatten();
                    properties.map(|(name, _)| name.clone()).collect()
                };
                let input = fields.remove("input_schema");
                fields.remove("output_schema");
                fields.remove("example");
                json!({ "operation": operation, "arguments": names(input) })
            })
            .collect()
    }
}
