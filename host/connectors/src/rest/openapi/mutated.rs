//! Every member of a few documents is changed: absent, null, of another kind, long. The outcome is an operation, a reason, or a
//! refusal with one, and what was not touched stays as it was.

use std::collections::{BTreeMap, BTreeSet};

use airlock_fuzz::{Judged, Verdict, promised};
use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::{Value, json};

use super::*;
use crate::rest::reference::pointer;

pub(in crate::rest) const CORPUS: [(&str, &[u8]); 6] = [
    ("cluster", include_bytes!("../../../tests/corpus/openapi/cluster.json")),
    ("models", include_bytes!("../../../tests/corpus/openapi/models.yaml")),
    ("metrics", include_bytes!("../../../tests/corpus/openapi/metrics.yaml")),
    ("droplets", include_bytes!("../../../tests/corpus/openapi/droplets.yaml")),
    ("pets", include_bytes!("../fixtures/pets-3.0.yaml")),
    ("crm", include_bytes!("../fixtures/crm-3.1.json")),
];

fn places(value: &Value, place: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, field)| (step(name), field)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect()
        }
        _ => Vec::new(),
    };
    for (name, child) in children {
        let place = format!("{place}/{name}");
        found.push(place.clone());
        places(child, &place, found);
    }
}

/// The document with something else at a place; none is absent.
fn changed(root: &Value, place: &str, other: Option<Value>) -> Value {
    let mut root = root.clone();
    match other {
        Some(other) => *root.pointer_mut(place).expect("it is there") = other,
        None => {
            let (parent, name) = place.rsplit_once('/').expect("a pointer");
            match root.pointer_mut(parent).expect("it is there") {
                Value::Object(fields) => {
                    fields.remove(&name.replace("~1", "/").replace("~0", "~"));
                }
                Value::Array(items) => {
                    items.remove(name.parse().expect("a number"));
                }
                other => panic!("{other} has no members"),
            }
        }
    }
    root
}

/// The places that an operation is made of, by its method and path.
fn made_of(root: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for (path, item) in root["paths"].as_object().expect("paths") {
        let at = format!("/paths/{}", step(path));
        let mut shared = BTreeSet::new();
        reach(root, &item["$ref"], &mut shared);
        for name in ["$ref", "parameters", "servers"].into_iter().filter(|name| item.get(*name).is_some()) {
            shared.insert(format!("{at}/{name}"));
            reach(root, &item[name], &mut shared);
        }
        let target = reference::resolve(root, item).cloned().unwrap_or_default();
        for verb in Verb::ALL {
            let name = verb.as_str().to_ascii_lowercase();
            if let Some(source) = item.get(&name).or_else(|| target.get(&name)) {
                let mut places = shared.clone();
                places.insert(format!("{at}/{name}"));
                reach(root, source, &mut places);
                all.insert(format!("{} {path}", verb.as_str()), places);
            }
        }
    }
    all
}

fn reach(root: &Value, value: &Value, places: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            if let Some(place) = pointer(text).filter(|place| root.pointer(place).is_some())
                && places.insert(place.to_string())
            {
                reach(root, root.pointer(&place).expect("it is there"), places);
            }
        }
        Value::Object(fields) => fields.values().for_each(|field| reach(root, field, places)),
        Value::Array(items) => items.iter().for_each(|item| reach(root, item, places)),
        _ => {}
    }
}

/// Operations as they are stored, by method and path. How one authenticates is looked at apart from it.
fn stored(api: &Api) -> BTreeMap<String, Value> {
    let operations = api.operations.iter();
    operations
        .map(|operation| {
            let mut value = serde_json::to_value(operation).expect("JSON");
            // An operation that is gone leaves its name to another.
            for field in ["requires_auth", "scopes", "hidden", "slug"] {
                value.as_object_mut().expect("an object").remove(field);
            }
            (format!("{} {}", operation.verb.as_str(), operation.path), value)
        })
        .collect()
}

fn check(
    name: &str,
    root: &Value,
    before: &BTreeMap<String, Value>,
    made_of: &BTreeMap<String, BTreeSet<String>>,
    place: &str,
    other: Option<Value>,
) {
    let what = format!(
        "{name}{place} = {}",
        other.as_ref().map_or("absent".to_owned(), |value| short(&value.to_string(), 60))
    );
    let document = changed(root, place, other).to_string();
    let api = match import(document.as_bytes()) {
        Ok(api) => api,
        Err(error) => {
            // Without these there is nothing to read; all operations may need what was changed.
            let error = error.to_string();
            let is_needed = ["/openapi", "/paths"].contains(&place);
            assert!(
                is_needed && error.len() > 20 || error.contains("no operation that can be called: "),
                "{what}: {error}"
            );
            return;
        }
    };
    for reason in
        api.skipped.iter().map(|skipped| &skipped.reason).chain(api.notes.iter().map(|note| &note.reason))
    {
        assert!(reason.len() > 10 && reason.len() < 1_000, "{what}: {reason}");
    }
    let after = stored(&api);
    // What authenticates decides which parameters there are.
    let is_about_keys = place.starts_with("/components/securitySchemes") || place == "/components";
    for (operation, places) in made_of {
        let is_touched = places.iter().any(|own| {
            let inside =
                |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
            inside(place, own) || inside(own, place)
        });
        let (was, is) = (before.get(operation), after.get(operation));
        if !is_touched && !is_about_keys && place != "/servers" && !place.starts_with("/servers/") {
            assert_eq!(was, is, "{what}: {operation}");
        }
        let path = operation.split_once(' ').expect("a verb").1;
        let is_named = || {
            api.skipped.iter().any(|skipped| skipped.operation == *operation || skipped.operation == path)
                || place.starts_with(&format!("/paths/{}", step(path))) && root.pointer(place).is_some_and(Value::is_object) && place.matches('/').count() <= 3
                || place == "/paths"
                // A path item or its reference that is gone took its operations with it.
                || place.matches('/').count() <= 3 && (place.starts_with("/x-") || place.ends_with("/$ref"))
        };
        assert!(
            was.is_none() || is.is_some() || is_named(),
            "{what}: {operation} is lost without a word: {:?}",
            api.skipped
        );
    }
}

#[test]
fn every_member_of_a_document_may_be_anything() {
    let others =
        [None, Some(json!(null)), Some(json!(7)), Some(json!("text")), Some(json!([])), Some(json!({}))];
    let in_turn = [
        json!({ "$ref": "#/nowhere" }),
        json!(true),
        json!("x".repeat(20_000)),
        json!({ "$ref": "other.yaml" }),
        json!([null]),
        Value::from(vec![json!({ "name": "x".repeat(50), "in": "query" }); 600]),
        json!([{ "$ref": "#/nowhere" }]),
    ];
    for (name, text) in CORPUS {
        let (root, _) = document::read(text).expect("a document");
        let before = stored(&import(text).expect("a document"));
        let made_of = made_of(&root);
        let mut all = Vec::new();
        places(&root, "", &mut all);
        for (place, more) in all.iter().zip(in_turn.iter().cycle()) {
            for other in others.iter().cloned().chain([Some(more.clone())]) {
                check(name, &root, &before, &made_of, place, other);
            }
        }
    }
}

#[test]
fn every_member_may_stand_twice() {
    for (name, text) in CORPUS {
        let (root, _) = document::read(text).expect("a document");
        let before = stored(&import(text).expect("a document"));
        let mut all = Vec::new();
        places(&root, "", &mut all);
        for place in all {
            let (parent, member) = place.rsplit_once('/').expect("a pointer");
            let Some(Value::Object(fields)) = root.pointer(parent) else { continue };
            let member = member.replace("~1", "/").replace("~0", "~");
            // The first of two is written before the object's other members.
            let marked = changed(&root, parent, Some(json!({ "@": "here" }))).to_string();
            let parent = Value::Object(fields.clone()).to_string();
            let twice = format!("{{{}:7,{}", json!(member), &parent[1..]);
            if parent.len() < 3 || !marked.contains(r#"{"@":"here"}"#) {
                continue;
            }
            let api = import(marked.replace(r#"{"@":"here"}"#, &twice).as_bytes()).expect("a document");
            assert_eq!(stored(&api), before, "{name}{place}");
            let said = format!("'{member}' stands twice in one object: the last one counts");
            let is_said = |note: &Note| note.reason == said || note.reason.contains("a name stands twice");
            assert!(api.notes.iter().any(is_said), "{name}{place}: {:?}", api.notes);
        }
    }
}

/// What a member becomes; some of it is taken from elsewhere in the document.
#[derive(Debug, Clone)]
enum Mutation {
    Absent,
    Other(Value),
    /// What stands at another place.
    Moved(Index),
    /// Itself, so deep in lists or objects.
    Deep(usize, bool),
    /// A reference to another place, which may lead in a circle.
    Referred(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let word = proptest::sample::select(vec![
        "get",
        "DELETE",
        "$ref",
        "#/paths",
        "{id}",
        "/..",
        "true",
        "multipart/form-data",
        "",
        "\u{0}",
        "readOnly",
        "é",
    ]);
    let value = prop_oneof![
        Just(json!(null)),
        Just(json!([])),
        Just(json!({})),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.prop_map(Value::from),
        (0..200_000_usize).prop_map(|length| "x".repeat(length).into()),
        (0..3_000_usize).prop_map(|items| vec![json!({ "name": "n", "in": "query" }); items].into()),
    ];
    prop_oneof![
        2 => Just(Mutation::Absent),
        4 => value.prop_map(Mutation::Other),
        4 => any::<Index>().prop_map(Mutation::Moved),
        1 => (1..90_usize, any::<bool>()).prop_map(|(levels, in_lists)| Mutation::Deep(levels, in_lists)),
        2 => any::<Index>().prop_map(Mutation::Referred),
    ]
}

fn mutated(root: &Value, place: &str, all: &[String], mutation: Mutation) -> Value {
    let here = root.pointer(place).cloned().unwrap_or_default();
    let other = match mutation {
        Mutation::Absent => return changed(root, place, None),
        Mutation::Other(value) => value,
        Mutation::Moved(from) => root.pointer(&all[from.index(all.len())]).cloned().unwrap_or_default(),
        Mutation::Deep(levels, true) => (0..levels).fold(here, |inner, _| json!([inner])),
        Mutation::Deep(levels, false) => {
            (0..levels).fold(here, |inner, _| json!({ "allOf": [], "items": inner }))
        }
        Mutation::Referred(to) => json!({ "$ref": format!("#{}", all[to.index(all.len())]) }),
    };
    changed(root, place, Some(other))
}

/// A document of the corpus with some faults, one after the other.
fn with_faults(which: usize, faults: Vec<(Index, Mutation)>) -> Value {
    let (mut root, _) = document::read(CORPUS[which].1).expect("a document");
    for (at, fault) in faults {
        let mut all = Vec::new();
        places(&root, "", &mut all);
        if all.is_empty() || root.to_string().len() > 2_000_000 {
            break;
        }
        root = mutated(&root, &all[at.index(all.len())], &all, fault);
    }
    root
}

/// Documents of the corpus with faults.
pub(in crate::rest) fn faulty() -> impl Strategy<Value = Value> {
    (0..CORPUS.len(), vec((any::<Index>(), mutation()), 0..6))
        .prop_map(|(which, faults)| with_faults(which, faults))
}

/// The operations that a document names, as a reader who follows references would say.
fn named(root: &Value) -> BTreeSet<(String, String)> {
    let mut root = root.clone();
    let _ = reference::settle(&mut root);
    let mut found = BTreeSet::new();
    for (path, item) in root["paths"].as_object().into_iter().flatten() {
        let item = follow(&root, item).ok().and_then(Value::as_object).into_iter().flatten();
        found.extend(item.map(|(verb, _)| (verb.to_ascii_uppercase(), path.clone())));
    }
    found
}

/// That a document is read, left out or refused with reasons, and that what is read can be listed, checked and called.
pub(in crate::rest) fn is_read_or_refused(document: &[u8]) -> Judged {
    let api = match import(document) {
        Ok(api) => api,
        Err(error) => {
            let message = error.to_string();
            promised!(message.len() > 20 && message.len() < 3_000, "refused with: {message}");
            return Ok(Verdict::Refused(message));
        }
    };
    let skipped = api.skipped.iter().map(|skipped| &skipped.reason);
    let reasons: Vec<&String> = skipped.chain(api.notes.iter().map(|note| &note.reason)).collect();
    for reason in &reasons {
        promised!(reason.len() > 10 && reason.len() < 1_500, "left out with: {reason}");
    }
    let (root, _) = document::read(document).map_err(|error| format!("it was read before: {error}"))?;
    let named = named(&root);
    let base = url::Url::parse("https://api.example/v1").expect("an address");
    for operation in &api.operations {
        let own = (operation.verb.as_str().to_owned(), operation.path.clone());
        promised!(named.contains(&own), "{own:?} stands nowhere");
        // It can be listed, checked, and called as it says or not at all.
        let tool = operation.tool();
        promised!(tool["inputSchema"]["type"] == "object", "{tool}");
        let schema = operation.check_schema.as_ref().unwrap_or(&operation.input_schema);
        let schema: Value =
            serde_json::from_str(schema.get()).map_err(|error| format!("{schema}: {error}"))?;
        promised!(crate::rest::schema::compile(&schema).is_some(), "no schema: {schema}");
        let given = schema["properties"].as_object().into_iter().flatten();
        let given: Map<_, _> = given.map(|(name, _)| (name.clone(), json!("a"))).collect();
        let Ok(prepared) = operation.request(&base, &given) else { continue };
        promised!(prepared.method.as_str() == own.0, "{} for {own:?}", prepared.method);
        promised!(prepared.url.origin() == base.origin(), "{} for {own:?}", prepared.url);
        let segments: Vec<_> = prepared.url.path_segments().expect("segments").collect();
        let expected: Vec<_> = operation.path.split('/').skip(1).collect();
        promised!(segments.len() >= expected.len(), "{} for {}", prepared.url, operation.path);
        for (is, was) in segments[segments.len() - expected.len()..].iter().zip(&expected) {
            promised!(was.contains('{') || is == was, "{} for {}", prepared.url, operation.path);
        }
    }
    Ok(match reasons.first() {
        None => Verdict::Used,
        Some(reason) => Verdict::LeftOut((*reason).clone()),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_document_with_many_faults_is_read_left_out_or_refused_with_reasons(
        which in 0..CORPUS.len(), faults in vec((any::<Index>(), mutation()), 1..6),
    ) {
        let root = with_faults(which, faults);
        is_read_or_refused(root.to_string().as_bytes()).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_text_that_is_damaged_is_read_or_refused(
        which in 0..CORPUS.len(), damage in vec((any::<Index>(), vec(any::<u8>(), 0..4), 0..40_usize), 1..4),
    ) {
        let mut text = CORPUS[which].1.to_vec();
        for (at, put, gone) in damage {
            let at = at.index(text.len());
            let end = (at + gone).min(text.len());
            text.splice(at..end, put);
            if text.is_empty() {
                break;
            }
        }
        if let Err(error) = import(&text) {
            prop_assert!(error.to_string().len() > 10);
        }
    }
}

#[test]
fn an_operation_that_is_a_reference_is_what_it_refers_to_or_is_left_out() {
    let (_, text) = CORPUS[3];
    let api = import(text).expect("a document");
    let found: Vec<_> = api.operations.iter().map(|operation| operation.slug.as_str()).collect();
    assert_eq!(found, ["again", "destroy-by-tag", "list-inner"]);
    let schema = |slug: usize| api.operations[slug].input_schema();
    assert_eq!(schema(1)["required"], json!(["tag_name"]));
    assert!(schema(2)["properties"].get("page").is_some() && schema(0)["properties"].get("more").is_some());
    assert!(api.operations.iter().all(|operation| operation.requires_auth));
    let skipped: Vec<_> =
        api.skipped.iter().map(|skipped| (skipped.operation.as_str(), skipped.reason.as_str())).collect();
    let expected = [
        ("POST /droplets", "it is described in another file (resources/droplets_create.yml)"),
        ("/whole", "it is described in another file (paths/whole.yml)"),
    ];
    assert_eq!(skipped, expected);
}

#[test]
fn what_stands_in_the_place_of_an_operation_is_named() {
    let document = json!({ "openapi": "3.2.0", "paths": {
        "/a": { "get": null, "put": [], "POST": { "operationId": "post" }, "query": {}, "additionalOperations": { "COPY": {} },
            "x-more": {}, "summary": "s", "fetch": {}, "delete": { "$ref": "#/paths/~1a/delete" } },
        "/b": null, "/c": [], "/d": { "get": {}, "GET": {} }, "/e": { "get": { "servers": null } },
        "/f": { "get": { "servers": {} } }, "/g": { "$ref": "#/paths/~1d" },
    } });
    let api = import(document.to_string().as_bytes()).expect("a document");
    let found: Vec<_> = api.operations.iter().map(|operation| operation.slug.as_str()).collect();
    assert_eq!(found, ["get-d", "get-e", "get-g", "post"]);
    let skipped: BTreeMap<_, _> =
        api.skipped.iter().map(|skipped| (skipped.operation.as_str(), skipped.reason.as_str())).collect();
    let expected = [
        ("/b", "an object of operations is expected here, and it is nothing"),
        ("/c", "an object of operations is expected here, and it is a list"),
        ("COPY /a", "methods of one's own are not served"),
        ("DELETE /a", "it refers to itself"),
        ("FETCH /a", "there is no such method"),
        ("GET /a", "an object is expected here, and it is nothing"),
        ("GET /d", "the path has this method twice"),
        ("GET /f", "its servers are no list but an object"),
        ("GET /g", "the path has this method twice"),
        ("PUT /a", "an object is expected here, and it is a list"),
        ("QUERY /a", "this method is not served"),
    ];
    assert_eq!(skipped, BTreeMap::from(expected));
    assert_eq!(api.notes[0].reason, "it is OpenAPI 3.2.0: what it shares with 3.1 is read");
}

/// For a person: `AIRLOCK_DOCUMENTS=FOLDER cargo test -p airlock-connectors --lib -- --ignored --nocapture documents_of_a_folder`
#[test]
#[ignore = "needs documents that are not ours"]
fn the_documents_of_a_folder_are_read() {
    let folder = std::env::var("AIRLOCK_DOCUMENTS").expect("AIRLOCK_DOCUMENTS names a folder");
    let mut folders = vec![std::path::PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let place = entry.expect("an entry").path();
            let is_document =
                place.extension().is_some_and(|end| end == "json" || end == "yaml" || end == "yml");
            match std::fs::read(&place) {
                _ if place.is_dir() => folders.push(place),
                Ok(text) if is_document => {
                    let begin = std::time::Instant::now();
                    match import(&text) {
                        Err(error) => println!("{}: {error}", place.display()),
                        Ok(api) => {
                            let (operations, skipped) = (api.operations.len(), api.skipped.len());
                            println!(
                                "{}: {operations} operations, {skipped} left out, {} notes, {:?}",
                                place.display(),
                                api.notes.len(),
                                begin.elapsed()
                            );
                            let skipped =
                                api.skipped.iter().map(|skipped| (&skipped.operation, &skipped.reason));
                            let notes = api.notes.iter().map(|note| (&note.place, &note.reason));
                            for (place, reason) in skipped.take(3).chain(notes.take(3)) {
                                println!("    {place}: {reason}");
                            }
                        }
                    }
                }
                _ => {}
            }
        }
    }
}
