//! What OpenAPI means beyond JSON Schema.

use serde_json::{Value, json};

use super::super::{Direction, Schemas, Uses};
use crate::rest::schema::compile;

fn schema(root: &Value, direction: Direction) -> Value {
    let mut schemas = Schemas::new(root);
    let mut uses = Uses::new();
    match schemas.translate(&root["schema"], direction, &mut uses) {
        Value::Object(schema) => schemas.complete(&schema, &uses, 1 << 20).schema,
        other => other,
    }
}

fn accepts(root: &Value, value: Value) -> bool {
    compile(&schema(root, Direction::Sent)).expect("a schema").is_valid(&value)
}

/// `id` does not go to the service, `secret` does not come back.
fn cars() -> Value {
    let part = json!({ "type": "object", "properties": {
        "id": { "type": "string", "readOnly": true }, "name": { "type": "string" },
        "secret": { "type": "string", "writeOnly": true },
    } });
    json!({
        "Part": part, "Link": { "type": "string", "readOnly": true }, "Required": { "required": ["id", "name"] },
        "Flat": { "required": ["id", "name"], "allOf": [part] },
        "Deep": { "allOf": [{ "allOf": [{ "$ref": "#/components/schemas/Part" }] }, { "$ref": "#/components/schemas/Required" }] },
    })
}

fn with(schema: Value) -> Value {
    json!({ "openapi": "3.1.0", "schema": schema, "components": { "schemas": cars() } })
}

#[test]
fn what_is_read_only_is_required_by_no_request_at_any_depth() {
    let part = json!({ "$ref": "#/components/schemas/Part" });
    let demand = json!({ "required": ["id", "name"] });
    let link = json!({ "properties": { "id": { "$ref": "#/components/schemas/Link" } } });
    let all_of_link =
        json!({ "properties": { "id": { "allOf": [{ "$ref": "#/components/schemas/Link" }] } } });
    let optional = json!({ "properties": { "id": { "anyOf": [{ "$ref": "#/components/schemas/Link" }, { "type": "null" }] } } });
    for car in [
        json!({ "$ref": "#/components/schemas/Flat" }),
        json!({ "$ref": "#/components/schemas/Deep" }),
        json!({ "allOf": [part, demand] }),
        json!({ "allOf": [demand, { "allOf": [part] }] }),
        json!({ "required": ["id", "name"], "allOf": [part] }),
        json!({ "required": ["id", "name"], "$ref": "#/components/schemas/Part" }),
        json!({ "required": ["id", "name"], "anyOf": [part, { "properties": { "x": {} } }] }),
        json!({ "required": ["id", "name"], "oneOf": [part] }),
        json!({ "properties": part_of("Part"), "anyOf": [demand] }),
        json!({ "allOf": [{ "$ref": "#/components/schemas/Required" }, part] }),
        json!({ "allOf": [demand, link] }),
        json!({ "allOf": [demand, all_of_link] }),
        json!({ "allOf": [demand, optional] }),
        json!({ "dependentRequired": { "name": ["id"] }, "allOf": [part, { "required": ["name"] }] }),
    ] {
        for (around, within) in [
            (car.clone(), json!({ "name": "x" })),
            (json!({ "properties": { "car": car } }), json!({ "car": { "name": "x" } })),
            (json!({ "type": "array", "items": car }), json!([{ "name": "x" }])),
            (json!({ "anyOf": [{ "type": "null" }, car] }), json!({ "name": "x" })),
            (
                json!({ "additionalProperties": { "type": "array", "items": car } }),
                json!({ "a": [{ "name": "x" }] }),
            ),
        ] {
            let root = with(around);
            assert!(accepts(&root, within.clone()), "{within} by {}", root["schema"]);
            let without = serde_json::from_str(&within.to_string().replace("name", "nome")).expect("JSON");
            assert!(!accepts(&root, without), "'name' is still required by {}", root["schema"]);
        }
    }
}

fn part_of(name: &str) -> Value {
    cars()[name]["properties"].clone()
}

#[test]
fn what_is_write_only_is_required_by_no_answer() {
    let root =
        with(json!({ "allOf": [{ "$ref": "#/components/schemas/Part" }, { "required": ["id", "secret"] }] }));
    let check = compile(&schema(&root, Direction::Received)).expect("a schema");
    assert!(check.is_valid(&json!({ "id": "1" })) && !check.is_valid(&json!({ "secret": "x" })));
    assert!(!schema(&root, Direction::Received).to_string().contains("\"secret\":"));
}

#[test]
fn what_is_read_only_is_not_shown_and_not_refused_where_others_are() {
    let closed =
        with(json!({ "additionalProperties": false, "properties": part_of("Part"), "required": ["id"] }));
    assert!(accepts(&closed, json!({ "name": "x" })) && accepts(&closed, json!({ "id": 7, "name": "x" })));
    assert!(!accepts(&closed, json!({ "other": 7 })));
    let open = with(json!({ "properties": part_of("Part") }));
    assert!(!schema(&open, Direction::Sent).to_string().contains("\"id\""));
}

#[test]
fn a_part_that_is_closed_does_not_forbid_what_another_part_allows() {
    let shut = json!({ "type": "object", "additionalProperties": false, "properties": { "a": { "type": "string" } } });
    let texts = json!({ "additionalProperties": { "type": "string" }, "properties": { "a": {} } });
    let late = json!({ "unevaluatedProperties": false, "properties": { "a": { "type": "string" } } });
    for shut in [shut.clone(), texts, late] {
        for whole in [
            json!({ "allOf": [{ "$ref": "#/components/schemas/Shut" }, { "properties": { "b": { "type": "integer" } } }] }),
            json!({ "allOf": [shut, { "properties": { "b": { "type": "integer" } } }] }),
            json!({ "properties": { "b": { "type": "integer" } }, "allOf": [{ "allOf": [{ "$ref": "#/components/schemas/Shut" }] }] }),
            json!({ "properties": { "b": { "type": "integer" } }, "oneOf": [{ "$ref": "#/components/schemas/Shut" }] }),
            json!({ "properties": { "b": { "type": "integer" } }, "$ref": "#/components/schemas/Shut" }),
            json!({ "properties": { "b": { "type": "integer" } }, "additionalProperties": false, "allOf": [shut] }),
        ] {
            let root = json!({ "schema": { "properties": { "car": whole } }, "components": { "schemas": { "Shut": shut } } });
            assert!(accepts(&root, json!({ "car": { "a": "x", "b": 1 } })), "{root}");
            assert!(!accepts(&root, json!({ "car": { "a": "x", "b": "x" } })), "{root}");
        }
        // Alone it stays closed, and where it is used alone elsewhere as well.
        let alone = json!({ "schema": { "allOf": [{ "$ref": "#/components/schemas/Shut" }] }, "components": { "schemas": { "Shut": shut } } });
        assert!(
            accepts(&alone, json!({ "a": "x" })) && !accepts(&alone, json!({ "a": "x", "b": 1 })),
            "{alone}"
        );
    }
}

#[test]
fn null_is_accepted_wherever_a_document_says_so() {
    for nullable in [
        json!({ "type": "string", "nullable": true }),
        json!({ "$ref": "#/text", "nullable": true }),
        json!({ "allOf": [{ "$ref": "#/text" }], "nullable": true }),
        json!({ "allOf": [{ "$ref": "#/text" }, { "nullable": true }] }),
        json!({ "anyOf": [{ "$ref": "#/text" }], "nullable": true }),
        json!({ "type": "string", "enum": ["a"], "nullable": true }),
        json!({ "enum": ["a"], "nullable": true }),
        json!({ "type": "string", "const": "a", "nullable": true }),
        json!({ "type": ["string", "null"] }),
        json!({ "type": ["string", "null"], "enum": ["a"] }),
        json!({ "type": ["null", "string"], "allOf": [{ "$ref": "#/text" }] }),
        json!({ "oneOf": [{ "type": "null" }, { "$ref": "#/text" }] }),
    ] {
        let root = json!({ "schema": { "properties": { "x": nullable } }, "text": { "type": "string" } });
        assert!(accepts(&root, json!({ "x": null })) && accepts(&root, json!({ "x": "a" })), "{nullable}");
        assert!(!accepts(&root, json!({ "x": 1 })), "{nullable}");
    }
}

#[test]
fn beside_a_reference_of_3_0_only_null_has_a_meaning() {
    let schema =
        json!({ "$ref": "#/text", "type": "integer", "maxLength": 0, "nullable": true, "description": "d" });
    let old = json!({ "openapi": "3.0.3", "schema": schema, "text": { "type": "string" } });
    assert!(accepts(&old, json!("a")) && accepts(&old, json!(null)) && !accepts(&old, json!(1)));
    let new = json!({ "openapi": "3.1.0", "schema": { "$ref": "#/text", "maxLength": 0 }, "text": { "type": "string" } });
    assert!(!accepts(&new, json!("a")));
}

#[test]
fn alternatives_that_overlap_are_no_trouble() {
    for (alternatives, value) in [
        (json!([{ "type": "integer" }, { "type": "number" }]), json!(1)),
        (
            json!([{ "type": "string", "format": "date" }, { "type": "string", "format": "date-time" }]),
            json!("2026-01-01"),
        ),
        (json!([{ "properties": { "a": {} } }, { "properties": { "a": {}, "b": {} } }]), json!({ "a": 1 })),
        (json!([{ "required": ["a"] }, { "required": ["b"] }]), json!({ "a": 1, "b": 1 })),
        (json!([{}, { "type": "string" }]), json!("a")),
    ] {
        let root = json!({ "schema": { "oneOf": alternatives } });
        assert!(accepts(&root, value.clone()), "{alternatives}");
        let beside =
            json!({ "schema": { "oneOf": alternatives, "anyOf": [{ "type": "boolean" }], "allOf": [{}] } });
        assert!(!accepts(&beside, value), "{alternatives}");
    }
    // Under `not` the difference would refuse more, so all of it is left to the service, or nothing changes.
    let root = json!({ "schema": { "not": { "oneOf": [{ "type": "integer" }, { "type": "number" }] } } });
    assert!(accepts(&root, json!(1)) && accepts(&root, json!("a")));
}

fn pets(discriminator: Value, dog: Value, cat: Value) -> Value {
    json!({
        "openapi": "3.1.0",
        "schema": { "discriminator": discriminator, "oneOf": [
            { "$ref": "#/components/schemas/Dog" }, { "$ref": "#/components/schemas/Cat" },
        ] },
        "components": { "schemas": { "Dog": dog, "Cat": cat } },
    })
}

#[test]
fn a_discriminator_chooses_the_alternative() {
    let animal =
        |field: &str| json!({ "properties": { "kind": { "type": "string" }, field: { "type": "integer" } } });
    let mapped = json!({ "propertyName": "kind", "mapping": { "dog": "#/components/schemas/Dog", "puppy": "Dog", "cat": "Cat" } });
    let root = pets(mapped, animal("barks"), animal("purrs"));
    for (value, expected) in [
        (json!({ "kind": "dog", "barks": 1 }), true),
        (json!({ "kind": "puppy", "barks": 1 }), true),
        (json!({ "kind": "cat", "purrs": 1 }), true),
        // It would fit the other alternative, which was not chosen.
        (json!({ "kind": "dog", "barks": "x" }), false),
        (json!({ "kind": "cat", "purrs": "x" }), false),
        // The names of the schemas are values as well.
        (json!({ "kind": "Cat", "purrs": "x" }), false),
        // A value that nobody knows is the service's business.
        (json!({ "kind": "bird", "barks": "x" }), true),
        (json!({ "barks": 1 }), true),
        (json!("dog"), true),
    ] {
        assert_eq!(accepts(&root, value.clone()), expected, "{value}");
    }
    let implicit = pets(json!({ "propertyName": "kind" }), animal("barks"), animal("purrs"));
    assert!(!accepts(&implicit, json!({ "kind": "Dog", "barks": "x" })));
    assert!(accepts(&implicit, json!({ "kind": "dog", "barks": "x" })));
}

#[test]
fn alternatives_that_say_their_own_values_are_closed() {
    let animal = |kind: Value| json!({ "required": ["kind"], "properties": { "kind": kind, "n": { "type": "integer" } } });
    for kind in [json!({ "const": "dog" }), json!({ "enum": ["dog", "puppy"] })] {
        let root = pets(json!({ "propertyName": "kind" }), animal(kind), animal(json!({ "const": "cat" })));
        assert!(
            accepts(&root, json!({ "kind": "dog", "n": 1 }))
                && !accepts(&root, json!({ "kind": "dog", "n": "x" }))
        );
        assert!(!accepts(&root, json!({ "kind": "bird", "n": 1 })));
    }
    // A mapping to an alternative that refuses its own value is wrong, and then nothing is known about that value.
    let mapping =
        json!({ "propertyName": "kind", "mapping": { "DOG": "Dog", "gone": "Gone", "file": "x.yaml" } });
    let root = pets(mapping, animal(json!({ "const": "dog" })), animal(json!({ "const": "cat" })));
    for value in [json!({ "kind": "DOG" }), json!({ "kind": "gone" }), json!({ "kind": "file", "n": "x" })] {
        assert!(accepts(&root, value.clone()), "{value}");
    }
    assert!(!accepts(&root, json!({ "kind": "dog", "n": "x" })));
    for broken in [
        json!(7),
        json!({}),
        json!({ "propertyName": 7 }),
        json!({ "propertyName": "kind", "mapping": [1] }),
        json!(null),
    ] {
        let root = pets(broken, json!({ "type": "integer" }), json!({ "type": "string" }));
        assert!(accepts(&root, json!(1)) && !accepts(&root, json!(true)));
    }
}

#[test]
fn values_that_a_type_would_never_let_through_are_taken_for_what_they_say() {
    for (schema, good, bad) in [
        (json!({ "type": "string", "enum": [1, 2] }), json!("1"), json!("3")),
        (json!({ "type": "integer", "enum": ["1", "2"] }), json!(1), json!(3)),
        (json!({ "type": "boolean", "enum": ["true"] }), json!(true), json!(false)),
        (json!({ "type": "string", "const": true }), json!("true"), json!("false")),
        (json!({ "type": ["string", "null"], "enum": [1.5, null] }), json!("1.5"), json!("2")),
    ] {
        let root = json!({ "schema": { "properties": { "x": schema } } });
        assert!(accepts(&root, json!({ "x": good })) && !accepts(&root, json!({ "x": bad })), "{schema}");
    }
    let as_is = json!({ "schema": { "enum": ["open"] } });
    assert!(!accepts(&as_is, json!("OPEN")));
}

#[test]
fn formats_are_words_and_expressions_that_cannot_be_used_refuse_nothing() {
    for (schema, value) in [
        (json!({ "type": "string", "format": "date-time" }), json!("yesterday")),
        (json!({ "type": "string", "format": "ipv4", "contentEncoding": "base64" }), json!("%")),
        (json!({ "pattern": "(?<![a-z])x$" }), json!("ax")),
        (json!({ "pattern": "[" }), json!("a")),
        (json!({ "pattern": "/^[a-z]+$/i" }), json!("abc")),
        (json!({ "pattern": format!("^{}$", "x".repeat(2_000)) }), json!("a")),
        (json!({ "pattern": "^((a{1000}){1000}){1000}$" }), json!("a")),
        (
            json!({ "patternProperties": { "^(?=a)": false }, "additionalProperties": false }),
            json!({ "a": 1 }),
        ),
        (json!({ "multipleOf": 0.01 }), json!(19.99)),
        (json!({ "multipleOf": 0.1 }), json!(0.3)),
        (json!({ "minimum": 5, "exclusiveMinimum": false }), json!(5)),
        (json!({ "items": [{ "type": "string" }] }), json!(["a", 1])),
        (json!({ "prefixItems": 7, "items": false }), json!([1])),
    ] {
        assert!(accepts(&json!({ "schema": schema }), value.clone()), "{schema} refuses {value}");
    }
    let bound = json!({ "schema": { "minimum": 5, "exclusiveMinimum": true, "maximum": 9, "exclusiveMaximum": true } });
    assert!(accepts(&bound, json!(6)) && !accepts(&bound, json!(5)) && !accepts(&bound, json!(9)));
}

#[test]
fn where_more_would_mean_less_only_what_is_exact_is_kept() {
    let closed =
        json!({ "type": "object", "properties": { "id": { "readOnly": true } }, "required": ["id", "x"] });
    for (schema, value) in [
        (json!({ "not": { "$ref": "#/closed" } }), json!({ "x": 1 })),
        (json!({ "not": { "pattern": "(?=a)" } }), json!("b")),
        (json!({ "not": { "$ref": "elsewhere.yaml" } }), json!(1)),
        (json!({ "if": { "unknown": 1 }, "then": false }), json!(1)),
        (json!({ "contains": { "pattern": "(?=a)" }, "maxContains": 1 }), json!(["b", "b"])),
    ] {
        assert!(accepts(&json!({ "schema": schema, "closed": closed }), value), "{schema}");
    }
    for (schema, value) in [
        (json!({ "not": { "$ref": "#/text" } }), json!("a")),
        (json!({ "not": { "not": { "$ref": "#/text" } } }), json!(1)),
        (json!({ "if": { "$ref": "#/text" }, "then": { "maxLength": 1 } }), json!("aa")),
        (json!({ "contains": { "$ref": "#/text" }, "maxContains": 1 }), json!(["b", "b"])),
        (json!({ "unevaluatedProperties": false, "allOf": [{ "$ref": "#/named" }] }), json!({ "b": 1 })),
    ] {
        let root =
            json!({ "schema": schema, "text": { "type": "string" }, "named": { "properties": { "a": {} } } });
        assert!(!accepts(&root, value), "{schema}");
    }
}
