//! What is translated, cut or shown accepts whatever the document's schema accepts.

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use super::super::{Direction, Schemas, Uses, fits, size};
use crate::rest::schema::compile;

/// Names are few, so that schemas and values meet.
const NAMES: [&str; 4] = ["a", "b", "c", "aa"];
const DEFINITIONS: [&str; 4] = ["One", "Two", "Three", "Four"];

fn scalar() -> impl Strategy<Value = Value> {
    select(vec![
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(2.5),
        json!("a"),
        json!("1"),
        json!("aa"),
        json!("true"),
    ])
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec((select(&NAMES[..]), inner), 0..4).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

/// A keyword that holds no schema.
fn assertion() -> impl Strategy<Value = (&'static str, Value)> {
    let kinds = ["null", "boolean", "object", "array", "number", "string", "integer"];
    prop_oneof![
        4 => select(kinds.to_vec()).prop_map(|kind| ("type", json!(kind))),
        1 => vec(select(kinds.to_vec()), 1..3).prop_map(|mut kinds| {
            kinds.sort_unstable();
            kinds.dedup();
            ("type", json!(kinds))
        }),
        2 => vec(select(&NAMES[..]), 0..3).prop_map(|mut names| {
            names.sort_unstable();
            names.dedup();
            ("required", json!(names))
        }),
        1 => vec(scalar(), 1..3).prop_map(|values| ("enum", json!(values))),
        1 => scalar().prop_map(|value| ("const", value)),
        1 => (0..3_u8).prop_map(|least| ("minimum", json!(least))),
        1 => (0..3_u8).prop_map(|most| ("exclusiveMaximum", json!(most))),
        1 => (0..3_u8).prop_map(|most| ("maxLength", json!(most))),
        1 => (0..3_u8).prop_map(|most| ("maxItems", json!(most))),
        1 => (0..3_u8).prop_map(|most| ("maxProperties", json!(most))),
        1 => (0..2_u8).prop_map(|most| ("maxContains", json!(most))),
        1 => (0..2_u8).prop_map(|least| ("minContains", json!(least))),
        1 => Just(("uniqueItems", json!(true))),
        1 => Just(("pattern", json!("^a"))),
        1 => Just(("dependentRequired", json!({ "a": ["b"], "c": ["a"] }))),
        1 => Just(("readOnly", json!(true))),
        1 => Just(("format", json!("date-time"))),
        1 => Just(("description", json!("It is long. ".repeat(10)))),
        1 => Just(("enum", json!(["x".repeat(400), "a", 1]))),
    ]
}

/// A keyword that holds schemas.
fn applicator(
    inner: impl Strategy<Value = Value> + Clone + 'static,
) -> impl Strategy<Value = (&'static str, Value)> {
    let map = |inner: BoxedStrategy<Value>| {
        vec((select(&NAMES[..]), inner), 1..4).prop_map(|fields| {
            Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
        })
    };
    let inner = inner.boxed();
    let single = [
        "items",
        "additionalProperties",
        "unevaluatedProperties",
        "unevaluatedItems",
        "propertyNames",
        "contains",
        "not",
        "if",
        "then",
        "else",
    ];
    prop_oneof![
        4 => map(inner.clone()).prop_map(|fields| ("properties", fields)),
        1 => map(inner.clone()).prop_map(|fields| ("dependentSchemas", fields)),
        1 => (inner.clone(), inner.clone()).prop_map(|(one, two)| ("patternProperties", json!({ "^a": one, "(?=b)": two }))),
        5 => (select(single.to_vec()), inner.clone()),
        2 => select(vec!["additionalProperties", "unevaluatedProperties", "unevaluatedItems", "items"])
            .prop_map(|word| (word, json!(false))),
        4 => (select(vec!["allOf", "anyOf", "oneOf", "prefixItems"]), vec(inner, 1..4))
            .prop_map(|(word, parts)| (word, json!(parts))),
    ]
}

fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => vec(assertion(), 0..3).prop_map(of_keywords),
        3 => select(&DEFINITIONS[..]).prop_map(|name| json!({ "$ref": format!("#/components/schemas/{name}") })),
        1 => any::<bool>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let reference = option::weighted(0.1, select(&DEFINITIONS[..]));
        (vec(assertion(), 0..3), vec(applicator(inner), 1..4), reference).prop_map(
            |(some, more, reference)| {
                let mut schema = of_keywords(some.into_iter().chain(more).collect());
                if let Some(name) = reference {
                    schema["$ref"] = json!(format!("#/components/schemas/{name}"));
                }
                schema
            },
        )
    })
}

fn of_keywords(keywords: Vec<(&'static str, Value)>) -> Value {
    Value::Object(keywords.into_iter().map(|(keyword, value)| (keyword.to_owned(), value)).collect())
}

/// The translated schema with what it uses, to be shown and to check by, at a limit.
fn translated(root: &Value, limit: usize) -> Vec<Value> {
    let mut schemas = Schemas::new(root);
    let mut uses = Uses::new();
    let schema = match schemas.translate(&root["schema"], Direction::Sent, &mut uses) {
        Value::Object(schema) => schema,
        other => return vec![other],
    };
    let shown = schemas.complete(&schema, &uses, limit).schema;
    assert!(schema.len() < 2 || fits(&shown, limit + 1_000), "{} bytes of {limit}", size(&shown));
    [Some(shown), schemas.assertions(&schema, &uses, limit)].into_iter().flatten().collect()
}

/// Whether a schema is combined of a definition, directly or not.
fn leads_to(root: &Value, name: &str, schema: &Value, level: usize) -> bool {
    let Some(fields) = schema.as_object() else { return false };
    level > 20
        || fields.iter().any(|(keyword, value)| match keyword.as_str() {
            "$ref" => {
                let target = value.as_str().and_then(|target| target.rsplit('/').next()).unwrap_or_default();
                target == name || leads_to(root, name, &root["components"]["schemas"][target], level + 1)
            }
            "not" | "if" | "then" | "else" => leads_to(root, name, value, level),
            "allOf" | "anyOf" | "oneOf" | "dependentSchemas" => {
                let listed = value.as_array().into_iter().flatten();
                let named = value.as_object().into_iter().flat_map(Map::values);
                listed.chain(named).any(|part| leads_to(root, name, part, level))
            }
            _ => false,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, max_shrink_iters: 20_000, max_global_rejects: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_document_accepts_is_accepted_at_every_limit(
        of in schema(), definitions in vec(schema(), DEFINITIONS.len()), values in vec(value(), 1..30),
    ) {
        let named: Map<_, _> = DEFINITIONS.iter().map(|name| (*name).to_owned()).zip(definitions).collect();
        let root = json!({ "openapi": "3.1.0", "schema": of, "components": { "schemas": named } });
        let whole = json!({ "$ref": "#/schema", "schema": of, "components": root["components"] });
        // A definition that is made of itself has no meaning that could be compared.
        prop_assume!(DEFINITIONS.iter().all(|name| !leads_to(&root, name, &root["components"]["schemas"][*name], 0)));
        let Ok(full) = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).build(&whole) else {
            return Ok(());
        };
        let accepted: Vec<_> = values.iter().filter(|value| full.is_valid(value)).collect();
        for limit in [0, 20, 60, 120, 200, 300, 500, 800, 1_200, 2_000, 100_000] {
            for schema in translated(&root, limit) {
                let check = compile(&schema).expect("a schema");
                for value in &accepted {
                    prop_assert!(check.is_valid(value), "at {} {} is refused by {}", limit, value, schema);
                }
            }
        }
    }

    /// Discriminators choose, and what chooses may be cut off: then nothing is chosen.
    #[test]
    fn what_is_accepted_whole_is_accepted_cut_also_where_a_discriminator_chooses(
        word in select(vec!["oneOf", "anyOf"]), definitions in vec(schema(), DEFINITIONS.len()),
        kinds in vec(option::of(select(vec![json!({ "const": "a" }), json!({ "enum": ["aa", "1"] }), json!({}), json!({ "readOnly": true })])), 4),
        mapping in vec((select(vec!["a", "aa", "1", "true"]), select(&DEFINITIONS[..])), 0..4), values in vec(value(), 1..20),
    ) {
        let mapping: Map<_, _> = mapping.into_iter()
            .map(|(value, name)| (value.to_owned(), json!(format!("#/components/schemas/{name}")))).collect();
        let named: Map<_, _> = DEFINITIONS.iter().zip(definitions).zip(kinds).map(|((name, schema), kind)| {
            let mut schema = match schema { Value::Object(schema) => schema, _ => Map::new() };
            if let Some(kind) = kind {
                schema.insert("properties".into(), json!({ "a": kind }));
            }
            ((*name).to_owned(), Value::Object(schema))
        }).collect();
        let parts: Vec<_> = DEFINITIONS.iter().map(|name| json!({ "$ref": format!("#/components/schemas/{name}") })).collect();
        let of = json!({ word: parts, "discriminator": { "propertyName": "a", "mapping": mapping } });
        let root = json!({ "openapi": "3.1.0", "schema": { "items": of, "properties": { "b": of }, "anyOf": [of, true] }, "components": { "schemas": named } });
        prop_assume!(DEFINITIONS.iter().all(|name| !leads_to(&root, name, &root["components"]["schemas"][*name], 0)));
        let whole = translated(&root, 1_000_000).pop().expect("a schema");
        let whole = compile(&whole).expect("a schema");
        let accepted: Vec<_> = values.iter().chain([&json!([{ "a": "a" }]), &json!({ "b": { "a": "aa", "b": 1 } })])
            .filter(|value| whole.is_valid(value)).cloned().collect();
        for limit in [0, 60, 120, 200, 300, 500, 800, 1_200, 2_000] {
            for schema in translated(&root, limit) {
                let check = compile(&schema).expect("a schema");
                for value in &accepted {
                    prop_assert!(check.is_valid(value), "at {} {} is refused by {}", limit, value, schema);
                }
            }
        }
    }
}
