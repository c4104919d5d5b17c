//! What is wrong with a keyword costs that keyword and nothing else.

use serde_json::{Value, json};

use super::super::{Direction, Schemas, Uses};
use crate::rest::schema::compile;

fn accepts(schema: &Value, value: &Value) -> bool {
    let root = json!({ "schema": schema, "components": { "schemas": { "Text": { "type": "string", "minLength": 1 } } } });
    let mut schemas = Schemas::new(&root);
    let mut uses = Uses::new();
    let whole = match schemas.translate(&root["schema"], Direction::Sent, &mut uses) {
        Value::Object(schema) => schemas.complete(&schema, &uses, 1 << 20).schema,
        other => other,
    };
    compile(&whole).expect("a schema").is_valid(value)
}

/// Schemas with a value that they refuse, for each keyword, because of that keyword alone.
fn refusing() -> Vec<(&'static str, Value, Value)> {
    vec![
        ("type", json!("string"), json!(1)),
        ("enum", json!(["a"]), json!("b")),
        ("const", json!("a"), json!("b")),
        ("required", json!(["b"]), json!({ "a": 1 })),
        ("properties", json!({ "a": { "type": "string" } }), json!({ "a": 1 })),
        ("patternProperties", json!({ "^a": { "type": "string" } }), json!({ "a": 1 })),
        ("additionalProperties", json!({ "type": "string" }), json!({ "a": 1 })),
        ("unevaluatedProperties", json!(false), json!({ "a": 1 })),
        ("propertyNames", json!({ "maxLength": 0 }), json!({ "a": 1 })),
        ("dependentRequired", json!({ "a": ["b"] }), json!({ "a": 1 })),
        ("dependentSchemas", json!({ "a": { "required": ["b"] } }), json!({ "a": 1 })),
        ("minProperties", json!(2), json!({ "a": 1 })),
        ("maxProperties", json!(0), json!({ "a": 1 })),
        ("items", json!({ "type": "string" }), json!([1])),
        ("prefixItems", json!([{ "type": "string" }]), json!([1])),
        ("unevaluatedItems", json!(false), json!([1])),
        ("contains", json!({ "type": "string" }), json!([1])),
        ("minItems", json!(2), json!([1])),
        ("maxItems", json!(0), json!([1])),
        ("uniqueItems", json!(true), json!([1, 1])),
        ("minLength", json!(2), json!("a")),
        ("maxLength", json!(0), json!("a")),
        ("pattern", json!("^b"), json!("a")),
        ("minimum", json!(2), json!(1)),
        ("maximum", json!(0), json!(1)),
        ("exclusiveMinimum", json!(1), json!(1)),
        ("exclusiveMaximum", json!(1), json!(1)),
        ("multipleOf", json!(2), json!(1)),
        ("not", json!({ "type": "integer" }), json!(1)),
        ("allOf", json!([{ "type": "string" }]), json!(1)),
        ("anyOf", json!([{ "type": "string" }, { "type": "null" }]), json!(1)),
        ("oneOf", json!([{ "type": "string" }, { "type": "null" }]), json!(1)),
        ("$ref", json!("#/components/schemas/Text"), json!(1)),
    ]
}

fn broken(word: &str) -> Vec<Value> {
    let huge = "x".repeat(100_000);
    let mut values = vec![
        json!(null),
        json!(7),
        json!(-1),
        json!(0.5),
        json!(1e300),
        json!("("),
        json!(huge),
        json!([]),
        json!({}),
        json!([7]),
        json!([null]),
        json!([{}]),
        json!({ "a": 7 }),
        json!({ "a": null }),
        json!({ huge: 7 }),
        json!({ "(": {} }),
        json!([[]]),
        json!({ "$ref": 7 }),
        json!("#/nowhere"),
        json!("other.yaml#/A"),
        json!(true),
    ];
    // Where these say something they are not broken.
    values.retain(|value| match word {
        "enum" => !value.is_array(),
        "const" => false,
        "minProperties" | "maxProperties" | "minItems" | "maxItems" | "minLength" | "maxLength"
        | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
            !value.is_number()
        }
        _ => true,
    });
    values
}

#[test]
fn each_keyword_refuses_what_it_is_for() {
    for (word, right, value) in refusing() {
        assert!(!accepts(&json!({ word: right }), &value), "{word}");
        assert!(accepts(&json!({}), &value));
    }
}

#[test]
fn a_keyword_of_another_kind_refuses_nothing_and_the_others_stay() {
    for (word, _, value) in refusing() {
        for wrong in broken(word) {
            // Some of these are right for some words; what they must not do is refuse everything else.
            let schema = json!({ "properties": { "x": { word: wrong }, "y": { "type": "string" } } });
            assert!(accepts(&schema, &json!({ "y": "a" })), "{word}: {wrong}");
            assert!(!accepts(&schema, &json!({ "y": 1 })), "{word}: {wrong}");
            let is_meant = match word {
                "pattern" => wrong.is_string(),
                "required" | "allOf" | "anyOf" | "oneOf" | "prefixItems" => wrong.is_array(),
                "items" => wrong.is_array() || wrong.is_object() || wrong.is_boolean(),
                "uniqueItems" => wrong.is_boolean(),
                "contains"
                | "additionalProperties"
                | "unevaluatedProperties"
                | "unevaluatedItems"
                | "propertyNames"
                | "not" => wrong.is_object() || wrong.is_boolean(),
                _ => false,
            };
            if !is_meant {
                assert!(accepts(&json!({ word: wrong }), &value), "{word}: {wrong} refuses {value}");
            }
        }
    }
}

#[test]
fn what_is_written_twice_counts_as_written_last() {
    let text = r#"{ "type": "string", "type": "integer", "minimum": 5, "minimum": 1 }"#;
    let schema = serde_json::from_str(text).expect("JSON");
    assert!(accepts(&schema, &json!(2)) && !accepts(&schema, &json!("a")));
}

#[test]
fn schemas_inside_schemas_to_every_depth_are_read() {
    for word in
        ["not", "allOf", "anyOf", "oneOf", "items", "if", "contains", "additionalProperties", "properties"]
    {
        let deep = (0..100).fold(json!({ "type": "string" }), |inner, _| match word {
            "allOf" | "anyOf" | "oneOf" => json!({ word: [inner] }),
            "properties" => json!({ word: { "a": inner } }),
            _ => json!({ word: inner, "maxContains": 1 }),
        });
        accepts(&deep, &json!("a"));
    }
    // One that refers to itself where it would have to be written out.
    let root = json!({ "schema": { "not": { "$ref": "#/a" } }, "a": { "not": { "$ref": "#/a" }, "items": { "$ref": "#/a" } } });
    let mut uses = Uses::new();
    Schemas::new(&root).translate(&root["schema"], Direction::Sent, &mut uses);
}
