use std::{fs, path::Path, time::Instant};

use serde_json::{Value, json};

use super::{holds, nested};
use crate::{Dialect, Outcome, Refused, Schemas};

fn schemas() -> Vec<(Value, Value, Value)> {
    vec![
        (json!({}), json!(1), Value::Null),
        (json!(true), json!(1), Value::Null),
        (
            json!({ "type": "object", "properties": { "to": { "type": "string" }, "count": { "type": "integer", "minimum": 1 } },
                    "required": ["to"], "additionalProperties": false }),
            json!({ "to": "x", "count": 2 }),
            json!({ "count": 0, "other": 1 }),
        ),
        // What zod writes.
        (
            json!({ "$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
                    "properties": { "when": { "type": "string", "format": "date-time", "pattern": "^(?:(?:\\d\\d[2468][048]|\\d\\d[13579][26])-02-29|\\d{4}-(?:0[13578]|1[02])-\\d{2})T(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d+)?(?:Z)$" },
                                    "id": { "type": "string", "pattern": "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-8][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12})$" } },
                    "required": ["id"] }),
            json!({ "id": "123e4567-e89b-12d3-a456-426614174000" }),
            json!({ "id": "5" }),
        ),
        // What pydantic writes.
        (
            json!({ "$defs": { "Node": { "type": "object", "title": "Node", "properties": {
                        "name": { "type": "string", "title": "Name" },
                        "children": { "type": "array", "items": { "$ref": "#/$defs/Node" }, "default": [] },
                        "parent": { "anyOf": [{ "$ref": "#/$defs/Node" }, { "type": "null" }], "default": null } },
                        "required": ["name"] } },
                    "properties": { "root": { "$ref": "#/$defs/Node" } }, "required": ["root"], "type": "object" }),
            json!({ "root": { "name": "a", "children": [{ "name": "b" }, { "name": "c", "parent": null }] } }),
            json!({ "root": { "name": "a", "children": [{ "name": 5 }] } }),
        ),
        // What schemars writes.
        (
            json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Input",
                    "oneOf": [
                        { "type": "object", "properties": { "kind": { "const": "a" }, "n": { "type": "integer", "format": "uint32", "minimum": 0 } }, "required": ["kind", "n"] },
                        { "type": "object", "properties": { "kind": { "const": "b" } }, "required": ["kind"], "unevaluatedProperties": false },
                        { "type": "string", "enum": ["c", "d"] }] }),
            json!({ "kind": "b" }),
            json!({ "kind": "b", "n": 1 }),
        ),
        (
            json!({ "$id": "https://example.com/order", "properties": { "to": { "$ref": "#address" }, "via": { "$ref": "address" } },
                    "$defs": { "a": { "$id": "address", "$anchor": "address", "type": "object", "required": ["street"] } } }),
            json!({ "via": { "street": "x" } }),
            json!({ "via": {} }),
        ),
    ]
}

#[test]
fn ordinary_schemas_are_checked() {
    let all = Schemas::default();
    for (schema, fits, differs) in schemas() {
        // An anchor belongs to the resource that it is in.
        let is_embedded = schema.get("$id").is_some();
        let mut schema = schema;
        if is_embedded {
            schema["properties"].as_object_mut().expect("an object").remove("to");
        }
        let checked = all.compile_blocking(&schema, Dialect::Declared).expect("a schema");
        assert_eq!(checked.check_blocking(&fits), Outcome::Fits, "{schema}");
        if !differs.is_null() {
            let Outcome::Differs(found) = checked.check_blocking(&differs) else { panic!("{schema}") };
            let plain = jsonschema::validator_for(&schema).expect("a schema");
            let told: Vec<String> = plain
                .iter_errors(&differs)
                .map(|e| format!("{} {}", e.instance_path(), e.masked()))
                .collect();
            let ours: Vec<String> = found.iter().map(|d| format!("{} {}", d.instance, d.message)).collect();
            assert_eq!(ours, told, "{schema}");
        }
    }
}

#[test]
fn big_ordinary_values_are_checked() {
    let record = json!({ "type": "object", "properties": {
        "id": { "type": "integer" }, "name": { "type": "string", "maxLength": 200 },
        "tags": { "type": "array", "items": { "type": "string" } }, "price": { "type": "number", "minimum": 0 } },
        "required": ["id", "name"], "additionalProperties": false });
    let one = |i: i32| json!({ "id": i, "name": "a name", "tags": ["x", "y"], "price": 5.5 });
    let records: Vec<Value> = (0..3_000).map(one).collect();
    let schema =
        json!({ "type": "object", "properties": { "records": { "type": "array", "items": record } } });
    assert_eq!(holds("records", schema.clone(), json!({ "records": records })), Ok(Outcome::Fits));
    let mut wrong = records;
    wrong[2_000]["id"] = "x".into();
    let Ok(Outcome::Differs(found)) = holds("a wrong record", schema, json!({ "records": wrong })) else {
        panic!()
    };
    assert_eq!(found[0].instance, "/records/2000/id");
    let numbers = json!({ "type": "array", "items": { "type": "number" } });
    assert_eq!(holds("numbers", numbers, json!(vec![1.5; 100_000])), Ok(Outcome::Fits));
    let text = json!({ "properties": { "file": { "type": "string", "pattern": "^[A-Za-z0-9+/]*={0,2}$" } } });
    assert_eq!(holds("a file", text, json!({ "file": "abcd".repeat(500_000) })), Ok(Outcome::Fits));
    let anything = json!({ "type": "object", "properties": { "data": {} } });
    let tree = nested(16, json!([1, "x"]), |value| json!([value, value]));
    assert_eq!(holds("anything", anything, json!({ "data": tree })), Ok(Outcome::Fits));
}

/// Schemas of packages that the tests of the product install; none where they are not installed.
#[test]
fn schemas_of_real_packages_are_not_refused() {
    fn look(folder: &Path, found: &mut Vec<(String, Value)>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() && found.len() < 60 {
                look(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                let Ok(text) = fs::read_to_string(&path) else { continue };
                if text.len() > 500_000 || !text.contains("json-schema.org/draft") {
                    continue;
                }
                let Ok(value) = serde_json::from_str::<Value>(&text) else { continue };
                if value["$schema"].as_str().is_some_and(|schema| schema.contains("json-schema.org/draft")) {
                    found.push((path.display().to_string(), value));
                }
            }
        }
    }
    let mut found = Vec::new();
    look(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-deps"), &mut found);
    let schemas = Schemas::default();
    for (path, schema) in found {
        if jsonschema::options().offline().build(&schema).is_err() {
            continue;
        }
        match schemas.compile_blocking(&schema, Dialect::WithoutFormats) {
            Ok(checked) => {
                let plain = jsonschema::validator_for(&schema).expect("a schema").is_valid(&schema);
                let ours = checked.check_blocking(&schema);
                assert!(
                    plain == (ours == Outcome::Fits) && !matches!(ours, Outcome::Undecided(_)),
                    "{path}: {ours:?}"
                );
            }
            // A schema of all schemas is not fetched.
            Err(Refused::Broken { message, .. }) if message.contains("not in it") => {}
            Err(refused) => panic!("{path}: {refused}"),
        }
    }
}

#[test]
fn a_small_check_costs_little_more_than_without_bounds() {
    let (schema, value, _) = schemas().swap_remove(2);
    let checked = Schemas::default().compile_blocking(&schema, Dialect::Declared).expect("a schema");
    let plain = jsonschema::validator_for(&schema).expect("a schema");
    let times = 2_000;
    let measured = |check: &dyn Fn() -> bool| {
        let begun = cpu_time::ThreadTime::now();
        assert!((0..times).all(|_| check()));
        begun.elapsed() / times
    };
    let begun = Instant::now();
    let (ours, theirs) =
        (measured(&|| checked.check_blocking(&value) == Outcome::Fits), measured(&|| plain.is_valid(&value)));
    eprintln!("ours {ours:?}, theirs {theirs:?}, {:?} in all", begun.elapsed());
    assert!((ours - theirs).as_micros() < 20 * u128::from(super::SLOWER), "{ours:?} and {theirs:?}");
}
