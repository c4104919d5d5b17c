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

/// What a bundle says that it lacks.
fn missing(whole: &Value) -> Value {
    let pairs = whole[MISSING].as_array().expect("a list").iter();
    Value::Object(pairs.map(|pair| (pair[0].as_str().expect("a name").to_owned(), pair[1].clone())).collect())
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
        let (_, asked) =
            bundled(address("https://docs.example/v1/openapi.yaml"), &reference(escape), &BTreeMap::new());
        assert!(asked.is_empty(), "{escape}: {asked:?}");
    }
    for (inside, expected) in [
        ("a.yaml#/x", "https://docs.example/v1/a.yaml"),
        ("../a.yaml", "https://docs.example/a.yaml"),
        ("/a.yaml", "https://docs.example/a.yaml"),
        ("https://docs.example/b?x=1#/y", "https://docs.example/b?x=1"),
    ] {
        let (_, asked) =
            bundled(address("https://docs.example/v1/openapi.yaml"), &reference(inside), &BTreeMap::new());
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
    let missing = missing(&whole);
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
    let (whole, _) = bundled(folder("a.yaml"), &first, &files([("cat.yaml", json!({ "type": "object" }))]));
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
            if !["example", "examples", "scopes", "variables", "encoding", "default"].contains(&name.as_str())
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
            true => include_bytes!("../fixtures/crm-3.1.json"),
            false => include_bytes!("../fixtures/pets-3.0.yaml"),
        };
        let (mut root, _) = document::read(text).expect("a document");
        let whole = import(text).expect("a document");
        let mut parts: BTreeMap<String, Value> = BTreeMap::new();
        for (number, (index, level, has_pointer)) in cuts.into_iter().enumerate() {
            let mut places = Vec::new();
            objects(&root, "", &mut places);
            places.retain(|place| may_be_a_reference(place));
            // Little is left of a small document once the large places are cut out.
            if places.is_empty() {
                break;
            }
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
        // One that is missing is named by the fixture.
        prop_assert!(asked.len() <= parts.len() + 1);
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
                let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
                properties.map(|(name, _)| name.clone()).collect()
            };
            let input = fields.remove("input_schema");
            fields.remove("output_schema");
            fields.remove("example");
            json!({ "operation": operation, "arguments": names(input) })
        })
        .collect()
}
