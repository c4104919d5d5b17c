//! Whatever schema and whatever value: no more than promised, and the process lives.

use proptest::{prelude::*, test_runner::Config};
use serde_json::{Map, Value, json};

use super::holds;
use crate::{Dialect, Limits, Outcome, checked::Ready};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const DEFINITIONS: usize = 6;

fn reference() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => (0..DEFINITIONS).prop_map(|i| json!({ "$ref": format!("#/$defs/d{i}") })),
        1 => Just(json!({ "$ref": "#" })),
        1 => Just(json!({ "$dynamicRef": "#dyn" })),
        1 => (0..DEFINITIONS).prop_map(|i| json!({ "$ref": format!("#/$defs/d{i}/x") })),
    ]
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(true)),
        Just(json!(false)),
        prop::sample::select(vec!["object", "array", "string", "number", "null"])
            .prop_map(|kind| json!({ "type": kind })),
        prop::sample::subsequence(NAMES.to_vec(), 0..=4).prop_map(|names| json!({ "required": names })),
        Just(json!({ "enum": [1, "x", {}, [1, [2]]] })),
        Just(json!({ "uniqueItems": true, "maxItems": 3 })),
        Just(json!({ "pattern": "^(a|b)*a(a|b){30}$", "minLength": 2 })),
        Just(json!({ "pattern": "(?=x)y" })),
        Just(json!({ "multipleOf": 0.01 })),
        reference(),
        reference(),
        reference(),
    ]
}

fn schema() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(5, 40, 4, |inner| {
        let several = || prop::collection::vec(inner.clone(), 1..5);
        let named = || prop::collection::btree_map(prop::sample::select(NAMES.to_vec()), inner.clone(), 1..4);
        let word = prop::sample::select(vec!["allOf", "anyOf", "oneOf", "prefixItems"]);
        let single = prop::sample::select(vec![
            "not", "items", "contains", "additionalProperties", "propertyNames", "unevaluatedProperties", "unevaluatedItems", "if",
        ]);
        let many = prop::sample::select(vec!["properties", "dependentSchemas", "patternProperties"]);
        prop_oneof![
            4 => (word, several()).prop_map(|(word, all)| json!({ word: all })),
            3 => (single, inner.clone(), inner.clone()).prop_map(|(word, schema, then)| json!({ word: schema, "then": then })),
            3 => (many, named()).prop_map(|(word, all)| json!({ word: all })),
            2 => (several(), named(), inner.clone()).prop_map(|(any, properties, rest)| {
                json!({ "anyOf": any, "properties": properties, "unevaluatedProperties": rest.clone(), "items": rest })
            }),
        ]
    })
}

pub(super) fn document() -> impl Strategy<Value = Value> {
    (schema(), prop::collection::vec(schema(), DEFINITIONS), prop::sample::select(vec!["", "7", "2019"])).prop_map(
        |(root, all, draft)| {
            let mut definitions: Map<String, Value> =
                all.into_iter().enumerate().map(|(i, schema)| (format!("d{i}"), schema)).collect();
            definitions.insert("dyn".into(), json!({ "$dynamicAnchor": "dyn", "anyOf": [{ "$ref": "#/$defs/d0" }, { "items": { "$ref": "#/$defs/d1" } }] }));
            for i in 0..DEFINITIONS {
                if let Some(fields) = definitions.get_mut(&format!("d{i}")).and_then(Value::as_object_mut) {
                    fields.insert("x".into(), json!({ "allOf": [{ "$ref": format!("#/$defs/d{}", (i + 1) % DEFINITIONS) }] }));
                }
            }
            let mut document = json!({ "allOf": [root], "$defs": definitions });
            match draft {
                "7" => document["$schema"] = "http://json-schema.org/draft-07/schema#".into(),
                "2019" => document["$schema"] = "https://json-schema.org/draft/2019-09/schema".into(),
                _ => {}
            }
            document
        },
    )
}

pub(super) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ab]{0,60}".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 60, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(NAMES.to_vec()), inner, 0..4)
                .prop_map(|fields| json!(fields)),
        ]
    })
}

/// One value below itself: as deep as a value may be.
fn deep(value: Value, levels: usize) -> Value {
    (0..levels).fold(value, |value, level| match level % 3 {
        0 => json!([value]),
        1 => json!({ "a": value }),
        _ => json!({ "b": value, "c": 1 }),
    })
}

proptest! {
    #![proptest_config(Config { cases: 300, failure_persistence: None, max_shrink_iters: 200, ..Config::default() })]

    #[test]
    fn whatever_schema_and_value_take_no_more_than_promised(schema in document(), value in value(), levels in 0..100_usize) {
        let _ = holds("generated", schema.clone(), value.clone());
        let _ = holds("generated and deep", schema, deep(value, levels));
    }

    #[test]
    fn what_is_decided_is_what_the_crate_says_without_bounds(schema in document(), value in value()) {
        // Without expressions, of which some are left out.
        let schema: Value = serde_json::from_str(&schema.to_string().replace("(?=x)y", "xy")).expect("JSON");
        let limits = Limits::default();
        if let Ok(ready) = Ready::new(&schema, Dialect::Declared, &limits)
            && let Ok(cost) = ready.cost(&value)
        {
            let plain = jsonschema::validator_for(&schema).expect("a schema").is_valid(&value);
            match ready.check(&value, cost) {
                Outcome::Fits => prop_assert!(plain),
                Outcome::Differs(_) => prop_assert!(!plain),
                Outcome::Undecided(_) => {}
            }
        }
    }
}
