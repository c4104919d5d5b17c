mod meaning;
mod mutations;
mod polarity;
mod read_only;

use serde_json::{Map, Value, json};

use super::{Direction, Schemas, Uses, Way, dialect::name, size};

fn translated(root: &Value, limit: usize) -> Value {
    let mut schemas = Schemas::new(root);
    let mut uses = Uses::new();
    match schemas.translate(&root["schema"], Direction::Received, &mut uses) {
        Value::Object(schema) => schemas.complete(&schema, &uses, limit).schema,
        other => other,
    }
}

#[test]
fn keywords_of_the_wrong_kind_are_left_out() {
    let root = json!({ "schema": {
        "type": "any", "minLength": -1, "maximum": "7", "required": "a", "enum": [], "items": 7, "anyOf": [],
        "pattern": "(", "patternProperties": { "(": {}, "^a": { "type": "null" } }, "uniqueItems": 1,
        "dependentRequired": { "a": ["b"], "c": 7 }, "multipleOf": 0, "format": "date", "discriminator": {},
        "additionalProperties": false, "not": false, "xml": {}, "x-more": 1, "const": null,
    } });
    let expected = json!({
        "patternProperties": { "^a": { "type": "null" } }, "dependentRequired": { "a": ["b"] }, "format": "date",
        "not": false, "const": null,
    });
    assert_eq!(translated(&root, 10_000), expected);
}

#[test]
fn null_is_accepted_where_the_older_dialect_says_so() {
    for (schema, is_nullable) in [
        (json!({ "type": "string", "nullable": true }), true),
        (json!({ "type": "string", "nullable": false }), false),
        (json!({ "type": "string", "enum": ["a"], "nullable": true }), true),
        (json!({ "$ref": "#/text", "nullable": true }), true),
        (json!({ "type": "string", "oneOf": [{ "$ref": "#/text" }], "nullable": true }), true),
        (json!({ "enum": ["a"], "nullable": true }), true),
    ] {
        let root = json!({ "schema": schema, "text": { "type": "string" } });
        let validator = jsonschema::validator_for(&translated(&root, 10_000)).expect("a schema");
        assert_eq!(validator.is_valid(&Value::Null), is_nullable, "{schema}");
        assert!(validator.is_valid(&json!("a")) && !validator.is_valid(&json!(1)), "{schema}");
    }
}

#[test]
fn row_22_a_schema_has_a_limit_and_what_is_beyond_it_accepts_everything() {
    let level = |level: u32| {
        json!({ "type": "object", "description": "x".repeat(400), "anyOf": [{ "$ref": "#/text" }, {}],
            "additionalProperties": { "$ref": "#/text" }, "properties": {
            "next": { "$ref": format!("#/levels/{}", level + 1) }, "number": { "type": "integer", "description": "y" },
        } })
    };
    let levels: Vec<_> = (0..100).map(level).collect();
    let root = json!({ "schema": { "$ref": "#/levels/0" }, "levels": levels });
    let schema = translated(&root, 2_000);
    assert!(size(&schema) <= 2_100, "{}", size(&schema));
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    assert!(!validator.is_valid(&json!({ "next": { "number": "x" } })));
    assert!(
        validator
            .is_valid(&json!({ "next": { "next": { "next": { "next": { "next": { "number": "x" } } } } } }))
    );
    // One that is too long by itself keeps the names and kinds of its properties.
    let fields: Map<_, _> = (0..20).map(|number| (format!("f{number}"), level(number))).collect();
    let wide = translated(&json!({ "schema": { "type": "object", "properties": fields } }), 2_000);
    assert_eq!(wide["properties"]["f0"]["type"], "object");
    assert!(wide["properties"]["f0"].get("properties").is_none() && size(&wide) <= 2_000);
}

#[test]
fn names_of_definitions_depend_on_nothing_but_their_place() {
    let name = |pointer: &str| name(&(pointer.to_owned(), Way::plain(Direction::Sent)));
    assert_eq!(name("/components/schemas/Pet.v2"), "Pet.v2");
    let (one, other) = (name("/components/schemas/a~1b"), name("/components/schemas/a b"));
    assert!(one != other && one.contains(':') && !one.contains('/'), "{one} {other}");
}

#[test]
fn only_plain_objects_give_their_fields() {
    let part = json!({ "type": "object", "properties": { "b": {} }, "required": ["b"] });
    let fields = |schema: &Value| {
        let root = json!({ "schema": schema, "part": part });
        let fields = Schemas::new(&root).fields(&root["schema"], Direction::Sent)?;
        let names = fields.properties.keys().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Some((names, fields.required.len()))
    };
    let a = json!({ "properties": { "a": {} } });
    for plain in [
        json!({ "allOf": [a, { "$ref": "#/part" }] }),
        json!({ "required": ["a", "gone"], "type": ["object", "null"], "properties": { "a": {}, "b": {} }, "additionalProperties": false }),
        json!({ "properties": { "a": {}, "b": {}, "c": { "readOnly": true } }, "required": ["a", "c"], "anyOf": [{ "required": ["a"] }] }),
    ] {
        assert_eq!(fields(&plain), Some((vec!["a".to_owned(), "b".to_owned()], 1)), "{plain}");
    }
    for other in [
        json!({ "type": "object" }),
        json!({ "type": "string" }),
        json!({ "oneOf": [a, a] }),
        json!({ "properties": { "a": {} }, "minProperties": 1 }),
        json!({ "allOf": [a, { "properties": { "a": { "type": "string" } } }] }),
        json!({ "allOf": [a, { "properties": { "b": {} }, "additionalProperties": false }] }),
        json!({ "$ref": "elsewhere.json" }),
    ] {
        assert_eq!(fields(&other), None, "{other}");
    }
}
