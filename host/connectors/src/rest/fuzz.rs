//! The target of fuzzing: documents of OpenAPI, in one file and in several.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use airlock_fuzz::{Fuzz, Judged, promised};
use proptest::prelude::*;
use serde_json::json;
use url::Url;

use super::{
    bundle::{Bundle, Origin},
    openapi::mutated::{CORPUS, faulty, is_read_or_refused},
};

/// Before each file but the first, with its name behind it.
const FILE: &str = "\n=== ";

/// Files that one document may ask for.
const MOST_ASKED: usize = 502;

/// A document, and files that stand beside it.
fn judged(input: &[u8]) -> Judged {
    let at = |from: usize| input[from..].windows(FILE.len()).position(|found| found == FILE.as_bytes());
    let Some(end) = at(0) else { return is_read_or_refused(input) };
    let (first, mut rest) = input.split_at(end);
    let mut files = BTreeMap::new();
    while !rest.is_empty() {
        rest = &rest[FILE.len()..];
        let end = rest.windows(FILE.len()).position(|found| found == FILE.as_bytes()).unwrap_or(rest.len());
        let (file, behind) = rest.split_at(end);
        let line = file.iter().position(|byte| *byte == b'\n').unwrap_or(file.len());
        let (name, text) = file.split_at(line);
        files.insert(String::from_utf8_lossy(name).into_owned(), text.to_vec());
        rest = behind;
    }
    in_files(first, &files, &Origin::Folder("api/openapi.yaml".into()), |name| {
        let is_below = !name.starts_with('/') && !name.split('/').any(|part| part == ".." || part.is_empty());
        is_below && !name.contains(['\\', '\0', ':'])
    })?;
    let address = Url::parse("https://docs.example/api/openapi.yaml").expect("an address");
    in_files(first, &files, &Origin::Address(address), |name| name.starts_with("https://docs.example/"))
}

/// Puts a document together and reads it; it asks for nothing that it may not have, and for nothing twice.
fn in_files(
    first: &[u8],
    files: &BTreeMap<String, Vec<u8>>,
    origin: &Origin,
    may_be: impl Fn(&str) -> bool,
) -> Judged {
    let mut bundle = match Bundle::new(first.to_vec(), origin.clone()) {
        Ok(bundle) => bundle,
        Err(_) => return is_read_or_refused(first),
    };
    let mut asked = BTreeSet::new();
    while let Some((name, _)) = bundle.wanted() {
        promised!(may_be(name), "it asks for {name}");
        promised!(
            asked.insert(name.to_owned()) && asked.len() <= MOST_ASKED,
            "it asks for {name} and others again"
        );
        let short = name.strip_prefix("https://docs.example/").unwrap_or(name);
        let file = files.get(short).cloned();
        bundle.give(file.ok_or_else(|| "there is no such file".to_owned()));
    }
    let (whole, names) = bundle.finish().map_err(|error| format!("it cannot be written: {error}"))?;
    promised!(names.iter().all(|name| asked.contains(name)), "{names:?} were not all asked for");
    is_read_or_refused(&whole)
}

/// A document whose paths are in another file, whose schemas are in a third.
fn in_several() -> impl Strategy<Value = Vec<u8>> {
    (faulty(), faulty()).prop_map(|(mut first, other)| {
        if let Some(fields) = first.as_object_mut() {
            let path = json!({ "$ref": "paths.yaml#/paths/~1a" });
            fields.insert("paths".into(), json!({ "/a": path, "/b": { "$ref": "../b.json" } }));
        }
        format!("{first}{FILE}api/paths.yaml\n{other}{FILE}b.json\n{{\"get\": {{}}}}").into_bytes()
    })
}

#[test]
fn fuzz_a_document_of_openapi_is_read_left_out_or_refused_with_reasons() {
    Fuzz::new("openapi", env!("CARGO_MANIFEST_DIR"))
        .base(CORPUS.map(|(_, text)| text))
        .grammar(
            || prop_oneof![4 => faulty().prop_map(|root| root.to_string().into_bytes()), 1 => in_several()],
        )
        .words([
            "$ref: '#/",
            "\"$ref\":\"#/",
            "openapi: 3.1.0\n",
            "paths:",
            "get:",
            "parameters:",
            "- name: id\n",
            "in: query",
            "schema:",
            "oneOf:",
            "allOf:",
            "{id}",
            "/../",
            "*a",
            "&a ",
            "<<: *a",
            "!!binary ",
            "? ",
            "- ",
            "|\n",
            ">-\n",
            "#/components/schemas/",
            "multipart/form-data",
            "readOnly: true",
            "security:",
            "\n=== api/paths.yaml\n",
            "x-airlock-files",
            "discriminator:",
            "\t",
            "%YAML 1.2\n---\n",
        ])
        .longest(24 << 10)
        .time(Duration::from_secs(1))
        .memory(256 << 20)
        .run(judged);
}
