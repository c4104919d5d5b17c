//! What does not go a way is required by nothing, counted by nothing and refused by nothing, wherever a document says so.

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use super::super::{Direction, Schemas, Uses, compile};

const NAMES: [&str; 6] = ["id", "a", "b", "ro_1", "ro_2", "rest"];

/// A schema that is translated at a limit.
fn translated(root: &Value, limit: usize) -> Value {
    let mut schemas = Schemas::new(root);
    let mut uses = Uses::new();
    match schemas.translate(&root["schema"], Direction::Sent, &mut uses) {
        Value::Object(schema) => schemas.complete(&schema, &uses, limit).schema,
        other => other,
    }
}

fn accepts(schema: &Value, value: &Value) -> bool {
    let root = json!({ "schema": schema, "components": { "schemas": { "Mark": { "readOnly": "True" } } } });
    compile(&translated(&root, 1 << 20)).expect("a schema").is_valid(value)
}

#[test]
fn a_mark_may_be_a_text() {
    for mark in [json!(true), json!("true"), json!(" True ")] {
        let id = json!({ "type": "string", "readOnly": mark });
        let schema =
            json!({ "required": ["id"], "properties": { "id": id, "a": {} }, "additionalProperties": false });
        assert!(accepts(&schema, &json!({ "a": 1 })) && accepts(&schema, &json!({ "id": 7 })), "{mark}");
    }
    for mark in [json!(false), json!("false"), json!("yes"), json!(1), json!(null)] {
        let schema = json!({ "required": ["id"], "properties": { "id": { "readOnly": mark } } });
        assert!(!accepts(&schema, &json!({})), "{mark}");
    }
    assert!(accepts(&json!({ "type": "string", "nullable": "true" }), &json!(null)));
}

#[test]
fn what_is_counted_goes() {
    let (id, mark) = (json!({ "readOnly": true }), json!({ "$ref": "#/components/schemas/Mark" }));
    for (schema, good, bad) in [
        (
            json!({ "minProperties": 2, "properties": { "id": id, "a": {} } }),
            json!([{ "a": 1 }, { "id": 1, "a": 1 }]),
            json!([{}]),
        ),
        (
            json!({ "maxProperties": 1, "properties": { "id": mark, "a": {} } }),
            json!([{ "a": 1 }, { "id": 1, "a": 1 }]),
            json!([{ "id": 1, "a": 1, "b": 1 }]),
        ),
        (
            json!({ "minProperties": 3, "patternProperties": { "^ro_": id } }),
            json!([{}, { "ro_1": 1 }]),
            json!([]),
        ),
        (
            json!({ "minProperties": 3, "additionalProperties": id, "properties": { "a": {} } }),
            json!([{ "a": 1 }]),
            json!([]),
        ),
        (
            json!({ "allOf": [{ "minProperties": 2 }, { "properties": { "id": id } }] }),
            json!([{ "a": 1 }]),
            json!([{}]),
        ),
        (
            json!({ "required": ["ro_1", "a"], "patternProperties": { "^ro_": mark } }),
            json!([{ "a": 1 }]),
            json!([{ "ro_1": 1 }]),
        ),
        (
            json!({ "required": ["x", "a"], "properties": { "a": {} }, "additionalProperties": id }),
            json!([{ "a": 1 }]),
            json!([{ "x": 1 }]),
        ),
        (
            json!({ "allOf": [{ "required": ["ro_1", "a"] }, { "patternProperties": { "^ro_": id } }] }),
            json!([{ "a": 1 }]),
            json!([{}]),
        ),
        (json!({ "patternProperties": { "(?=x)": id }, "required": ["x"] }), json!([{}]), json!([])),
        (json!({ "type": "array", "minItems": 2, "items": id }), json!([[], [1]]), json!([{}])),
        (json!({ "type": "array", "minItems": 1, "prefixItems": [id, {}] }), json!([[]]), json!([{}])),
        (json!({ "contains": id, "minContains": 3 }), json!([[1]]), json!([])),
        (json!({ "minItems": 2, "items": {} }), json!([[1, 2]]), json!([[1]])),
        (
            json!({ "dependentRequired": { "a": ["id"] }, "properties": { "id": id } }),
            json!([{ "a": 1 }]),
            json!([]),
        ),
    ] {
        for value in good.as_array().expect("a list") {
            assert!(accepts(&schema, value), "{schema} refuses {value}");
        }
        for value in bad.as_array().expect("a list") {
            assert!(!accepts(&schema, value), "{schema} takes {value}");
        }
    }
}

#[test]
fn row_22_patterns_of_names_that_do_not_go_are_compiled_so_often_and_no_more() {
    let patterns: Map<_, _> =
        (0..5_000).map(|number| (format!("^{number}$"), json!({ "readOnly": true }))).collect();
    let names: Vec<_> = (0..5_000).map(|number| number.to_string()).collect();
    let schema = json!({ "required": names, "patternProperties": patterns });
    assert!(accepts(&schema, &json!({})));
}

/// One of several schemas that an object is combined of. What it says of values is nothing, so that whatever is refused is
/// refused for a name or a number.
fn part() -> impl Strategy<Value = Value> {
    let marked =
        || select(vec![json!({}), json!({}), json!({ "readOnly": true }), json!({ "readOnly": "true" })]);
    (
        vec((select(&NAMES[..]), marked()), 0..4),
        vec(select(&NAMES[..]), 0..4),
        option::weighted(0.2, marked()),
        option::weighted(0.2, marked()),
        option::weighted(0.3, 0..5_u8),
        option::weighted(0.3, 0..5_u8),
    )
        .prop_map(|(properties, mut required, pattern, others, least, most)| {
            required.sort_unstable();
            required.dedup();
            let properties: Map<_, _> =
                properties.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
            let mut part = Map::from_iter([("properties".to_owned(), properties.into())]);
            part.insert("required".into(), json!(required));
            let more = [
                ("patternProperties", pattern.map(|schema| json!({ "^ro_": schema }))),
                ("additionalProperties", others),
                ("minProperties", least.map(Value::from)),
                ("maxProperties", most.map(Value::from)),
            ];
            part.extend(more.into_iter().filter_map(|(word, value)| Some((word.to_owned(), value?))));
            part.into()
        })
}

/// Whether one of the parts says that a name does not go.
fn is_withheld(parts: &[Value], name: &str) -> bool {
    let is_marked = |schema: Option<&Value>| schema.is_some_and(|schema| schema.get("readOnly").is_some());
    parts.iter().any(|part| {
        let own = part["properties"].get(name);
        let pattern = part.pointer("/patternProperties/^ro_").filter(|_| name.starts_with("ro_"));
        is_marked(own)
            || is_marked(pattern)
            || own.is_none() && pattern.is_none() && is_marked(part.get("additionalProperties"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, max_global_rejects: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// An object that the document takes as an answer may be sent back, whole and without what does not go.
    #[test]
    fn what_does_not_go_is_missed_by_nothing(parts in vec(part(), 1..4), names in vec(select(&NAMES[..]), 0..6), deep in 0..3_u8) {
        let required = parts.iter().flat_map(|part| part["required"].as_array()).flatten().filter_map(Value::as_str);
        let object: Map<_, _> = required.chain(names).map(|name| (name.to_owned(), json!(1))).collect();
        let combined = match parts.as_slice() {
            [only] => only.clone(),
            [first, rest @ ..] => {
                let mut whole = first.clone();
                whole["allOf"] = rest.iter().enumerate().map(|(index, _)| json!({ "$ref": format!("#/parts/{}", index + 1) })).collect();
                whole
            }
            [] => json!({}),
        };
        let root = |schema: Value| json!({ "openapi": "3.1.0", "schema": schema, "parts": parts });
        // By the letter a mark is no text.
        let marked = json!({ "allOf": [combined], "parts": parts }).to_string();
        let marked = marked.replace(r#""readOnly":"true""#, r#""readOnly":true"#);
        let full = compile(&serde_json::from_str(&marked).expect("JSON")).expect("a schema");
        prop_assume!(full.is_valid(&Value::Object(object.clone())));
        let going: Map<_, _> = object.clone().into_iter().filter(|(name, _)| !is_withheld(&parts, name)).collect();
        let (schema, wrap): (Value, fn(Value) -> Value) = match deep {
            0 => (combined, |value| value),
            1 => (json!({ "type": "array", "items": combined }), |value| json!([value])),
            _ => (json!({ "properties": { "in": { "oneOf": [combined, { "type": "null" }] } } }), |value| json!({ "in": value })),
        };
        for limit in [60, 200, 100_000] {
            let translated = translated(&root(schema.clone()), limit);
            let check = compile(&translated).expect("a schema");
            for value in [&object, &going] {
                let value = wrap(value.clone().into());
                prop_assert!(check.is_valid(&value), "at {}: {} is refused by {}", limit, value, translated);
            }
        }
    }
}
