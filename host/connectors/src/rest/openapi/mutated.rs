//! Every member of a few documents is changed: absent, null, of another kind, long. The outcome is an operation, a reason, or a
//! refusal with one, and what was not touched stays as it was.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;
use crate::rest::reference::pointer;

const CORPUS: [(&str, &[u8]); 6] = [
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
