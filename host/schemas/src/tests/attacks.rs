use serde_json::{Value, json};

use super::{chained, holds, nested};
use crate::{Bound, Dialect, Limits, Outcome, Refused, Schemas, Undecided, checked::Ready};

fn bound(outcome: Result<Outcome, Refused>) -> Bound {
    match outcome {
        Err(Refused::Over { bound, .. }) => bound,
        other => panic!("it is over a bound, not {other:?}"),
    }
}

fn is_chain(bound: &Bound) -> bool {
    matches!(bound, Bound::Chain(128) | Bound::Subschemas(_))
}

#[test]
fn a01_long_chains_of_references_are_refused_by_name() {
    for count in [200, 4_000] {
        let plain = chained(count, json!({ "type": "object" }), |next| next);
        assert!(matches!(bound(holds("plain chain", plain, json!({ "x": 1 }))), Bound::Chain(128)));
        let all = chained(count, json!({}), |next| json!({ "allOf": [next, { "minProperties": 0 }] }));
        assert!(is_chain(&bound(holds("allOf chain", all, json!({ "x": 1 })))));
        let not =
            chained(count, json!({}), |next| json!({ "properties": { "p": next }, "not": { "not": next } }));
        assert!(is_chain(&bound(holds("not chain", not, json!({ "p": {} })))));
    }
    for count in [6_000, 20_000] {
        for wrapped in [false, true] {
            let link = |next: Value| if wrapped { json!({ "allOf": [next] }) } else { next };
            let chain = chained(count, json!({ "type": "object" }), link);
            let refused = bound(holds("very long chain", chain, json!({ "x": 1 })));
            assert!(matches!(refused, Bound::Subschemas(_) | Bound::References(_) | Bound::Values(_)));
        }
    }
    // Through the value they are as deep as the value is.
    let down = chained(3_000, json!({}), |next| json!({ "properties": { "p": next } }));
    let value = nested(100, json!({}), |value| json!({ "p": value }));
    assert_eq!(holds("chain through the value", down, value), Ok(Outcome::Fits));
}

#[test]
fn a02_doubled_alternatives_are_refused_by_name() {
    let same = |next: Value, word: &str| json!({ word: [next, next] });
    for word in ["allOf", "anyOf", "oneOf"] {
        let schema = chained(31, json!({ "type": "object" }), |next| same(next, word));
        let refused = bound(holds(word, schema, json!({ "x": 1 })));
        assert!(matches!(refused, Bound::Expansion(_)));
        // Deeper than one value: each level of it is looked at twice as often.
        let schema = chained(
            31,
            json!({}),
            |next| json!({ word: [{ "properties": { "p": next } }, { "properties": { "p": next } }] }),
        );
        let value = nested(40, json!({}), |value| json!({ "p": value }));
        assert_eq!(
            holds("doubled through the value", schema, value),
            Ok(Outcome::Undecided(Undecided::Work))
        );
    }
    let inline = nested(12, json!({ "type": "object" }), |next| json!({ "allOf": [next, next] }));
    holds("doubled in the text", inline, json!({})).expect("it is within bounds");
    let inline = nested(14, json!({ "type": "object" }), |next| json!({ "allOf": [next, next] }));
    bound(holds("doubled in the text", inline, json!({})));
}

#[test]
fn circles_for_the_same_value_end() {
    let to_itself = json!({ "type": "object", "$ref": "#" });
    assert_eq!(holds("to itself", to_itself, json!({})), Ok(Outcome::Fits));
    let two = json!({
        "allOf": [{ "$ref": "#/$defs/a" }],
        "$defs": {
            "a": { "anyOf": [{ "$ref": "#/$defs/b" }, { "required": ["x"] }] },
            "b": { "anyOf": [{ "$ref": "#/$defs/a" }, { "required": ["y"] }] },
        },
    });
    holds("two", two, json!({ "x": 1 })).expect("a circle of two is within bounds");
    for count in [5, 12, 40] {
        for word in ["anyOf", "allOf", "oneOf"] {
            let all: Vec<Value> = (0..count).map(|i| json!({ "$ref": format!("#/$defs/a{i}") })).collect();
            let definitions: serde_json::Map<_, _> =
                (0..count).map(|i| (format!("a{i}"), json!({ word: all, "minimum": 5 }))).collect();
            let schema = json!({ word: all, "$defs": definitions });
            for value in [json!(1), json!({ "x": [1] })] {
                let _ = holds(&format!("each leads to each of {count}, {word}"), schema.clone(), value);
            }
        }
    }
    // As documents of others have it: the general leads to the special and back.
    let special = |name: &str| json!({ "allOf": [{ "$ref": "#/$defs/Pet" }, { "properties": { "kind": { "const": name } } }] });
    let pets = json!({
        "$ref": "#/$defs/Pet",
        "$defs": {
            "Pet": { "type": "object", "required": ["kind"], "anyOf": [{ "$ref": "#/$defs/Cat" }, { "$ref": "#/$defs/Dog" }] },
            "Cat": special("cat"),
            "Dog": special("dog"),
        },
    });
    assert_eq!(holds("pets", pets, json!({ "kind": "dog" })), Ok(Outcome::Fits));
}

#[test]
fn recursive_schemas_meet_deep_values() {
    let tree = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "anyOf": [
        { "type": "array", "items": { "$ref": "#/$defs/a" } },
        { "type": "object", "additionalProperties": { "$ref": "#/$defs/a" } },
        { "type": "number" },
    ] } } });
    let deep = |levels| nested(levels, json!(0), |value| json!([value]));
    assert_eq!(holds("deep", tree.clone(), deep(120)), Ok(Outcome::Fits));
    assert_eq!(holds("deeper", tree.clone(), deep(200)), Ok(Outcome::Undecided(Undecided::Depth)));
    let wrapped = |times| {
        let one =
            json!({ "anyOf": [{ "type": "array", "items": { "$ref": "#/$defs/a" } }, { "type": "number" }] });
        json!({ "$ref": "#/$defs/a", "$defs": { "a": nested(times, one, |schema| json!({ "allOf": [schema] })) } })
    };
    // As many calls in calls as there may be.
    for times in [1, 20, 40, 55] {
        let _ = holds(&format!("wrapped {times} times"), wrapped(times), deep(127));
        let wrong = nested(126, json!("no"), |value| json!([value]));
        let _ = holds(&format!("wrong, wrapped {times} times"), wrapped(times), wrong);
    }
    let twice = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "allOf": [
        { "items": { "$ref": "#/$defs/a" } }, { "items": { "$ref": "#/$defs/a" } },
    ] } } });
    assert_eq!(holds("doubled", twice, deep(100)), Ok(Outcome::Undecided(Undecided::Work)));
}

#[test]
fn what_is_unevaluated_is_bounded_as_well() {
    for word in ["unevaluatedProperties", "unevaluatedItems"] {
        let doubled =
            chained(31, json!({ "type": "object" }), |next| json!({ "allOf": [next, next], word: false }));
        bound(holds(word, doubled, json!({})));
        let each = |levels| {
            nested(
                levels,
                json!({}),
                |next| json!({ "allOf": [next, { "anyOf": [{}, {}] }], word: { "type": "string" } }),
            )
        };
        for levels in [5, 15, 30] {
            let _ =
                holds(&format!("{word} within each other"), each(levels), json!({ "a": 1, "b": [1, 2, 3] }));
        }
        let through = chained(
            60,
            json!({}),
            |next| json!({ "properties": { "p": next }, "anyOf": [next, {}], word: { "not": {} } }),
        );
        let _ = holds(
            &format!("{word} through values"),
            through,
            nested(60, json!({}), |value| json!({ "p": value })),
        );
        let circle = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "anyOf": [{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/b" }], word: false }, "b": { "allOf": [{ "$ref": "#/$defs/a" }], word: true } } });
        let _ = holds(&format!("{word} in a circle"), circle, json!({ "x": { "y": 1 } }));
    }
}

#[test]
fn what_tells_alternatives_apart_is_looked_for_within_bounds() {
    let wide = chained(
        14,
        json!({ "required": ["k"], "properties": { "k": { "const": "x" } } }),
        |next| json!({ "allOf": [next, next, next] }),
    );
    let mut schema =
        json!({ "anyOf": [{ "$ref": "#/$defs/a0" }, { "$ref": "#/$defs/a1" }, { "$ref": "#/$defs/a2" }] });
    schema["$defs"] = wide["$defs"].clone();
    bound(holds("dispatch", schema, json!({ "k": "y" })));
}

#[test]
fn regular_expressions_are_linear_or_left_out() {
    let schema = json!({ "type": "string", "pattern": "^(a+)+$" });
    assert!(matches!(
        holds("nested repetition", schema, json!("a".repeat(50_000) + "!")),
        Ok(Outcome::Differs(_))
    ));
    let huge = json!({ "pattern": "((a{1,1000}){1,1000}){1,1000}" });
    assert_eq!(holds("repeated", huge, json!("a")), Ok(Outcome::Fits));
    let many: Vec<Value> = (0..500).map(|i| json!({ "pattern": format!("(\\p{{L}}|{i}){{20}}") })).collect();
    let _ = holds("many classes", json!({ "allOf": many }), json!("a"));
    let many: Vec<Value> =
        (0..800).map(|i| json!({ "pattern": format!("([^{i}x]{{30}}|.{{20}})*{i}") })).collect();
    let _ = holds("many automata", json!({ "allOf": many }), json!("abcdef".repeat(20)));
    let exponential = json!({ "pattern": "(a|b)*a(a|b){200}c" });
    let _ = holds("exponential automaton", exponential.clone(), json!("ab".repeat(100_000)));
    let _ = holds("exponential automaton", exponential, json!("ab".repeat(3_000)));
    bound(holds("control escapes", json!({ "pattern": "\\cA".repeat(600) }), json!("a")));
    bound(holds(
        "in what is not a schema",
        json!({ "$defs": { "x": { "pattern": "a".repeat(100_000) } } }),
        json!("a"),
    ));
    let keys = json!({ "patternProperties": { "(a|b)*a(a|b){100}": {}, "^x": {} } });
    let value: serde_json::Map<_, _> = (0..2_000).map(|i| (format!("{i:0100}"), json!(1))).collect();
    let _ = holds("names", keys, value.into());
}

#[test]
fn an_expression_that_looks_around_is_left_out_where_nothing_else_is_refused_for_it() {
    let around = "^(?!\\.)(?!.*\\.\\.)[a-z.]+$";
    let ready = |schema: Value| Ready::new(&schema, Dialect::Declared, &Limits::default());
    let schemas = Schemas::default();
    let checked = |schema: &Value| schemas.compile_blocking(schema, Dialect::Declared);
    let simple = checked(&json!({ "properties": { "mail": { "type": "string", "pattern": around } } }));
    let simple = simple.expect("it is left out");
    assert_eq!(simple.unchecked(), ["/properties/mail/pattern"]);
    assert_eq!(simple.check_blocking(&json!({ "mail": "..a" })), Outcome::Fits);
    assert!(matches!(simple.check_blocking(&json!({ "mail": 5 })), Outcome::Differs(_)));
    let named = checked(&json!({
        "properties": { "id": {} },
        "patternProperties": { around: { "type": "integer" } },
        "additionalProperties": false,
    }));
    assert_eq!(named.expect("it is left out").check_blocking(&json!({ "abc": "x" })), Outcome::Fits);
    let referred = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "pattern": around } } });
    assert_eq!(checked(&referred).expect("it is left out").check_blocking(&json!("..")), Outcome::Fits);
    for strict in [
        json!({ "not": { "pattern": around } }),
        json!({ "oneOf": [{ "$ref": "#/$defs/a" }, {}], "$defs": { "a": { "items": { "pattern": around } } } }),
        json!({ "if": { "properties": { "a": { "pattern": around } } }, "then": false }),
        json!({ "contains": { "pattern": around }, "maxContains": 1 }),
        json!({ "patternProperties": { around: {} }, "unevaluatedProperties": false }),
    ] {
        assert!(matches!(ready(strict), Err(Refused::Over { bound: Bound::Pattern, .. })));
    }
}

#[test]
fn big_comparisons_are_bounded() {
    let unique = json!({ "uniqueItems": true, "items": { "uniqueItems": true } });
    for count in [10, 15, 1_000, 100_000] {
        let items: Vec<Value> = (0..count).map(|i| json!([i, "same ".repeat(10)])).collect();
        let _ = holds(&format!("unique of {count}"), unique.clone(), items.into());
    }
    let big = |last: u64| -> Value { (0..1_000).chain([last]).collect::<Vec<u64>>().into() };
    let many: Vec<Value> = (0..30).map(|i| big(i + 5_000)).collect();
    let listed = json!({ "items": { "enum": many } });
    let values: Vec<Value> = (0..1_000).map(|_| big(1)).collect();
    let _ = holds("enum of lists", listed, values.into());
    let texts: Vec<String> = (0..5_000).map(|i| format!("{}{i}", "x".repeat(100))).collect();
    let values: Vec<String> = (0..20_000).map(|i| format!("{}{i}", "x".repeat(100))).collect();
    let _ = holds("enum of texts", json!({ "items": { "enum": texts } }), json!(values));
    let numbers: Vec<Value> = (0..100_000).map(|i| json!(f64::from(i) * 1e300)).collect();
    let _ = holds("multiples", json!({ "items": { "multipleOf": 1e-300 } }), numbers.into());
}

#[test]
fn telling_of_differences_is_bounded() {
    let count = 30_000;
    let items: Vec<Value> = (0..count).map(|i| json!({ "a": i, "b": i })).collect();
    let text = json!({ "type": "string", "minLength": 5, "enum": ["a", "b"] });
    let schema = json!({ "items": { "properties": { "a": text, "b": text }, "required": ["c", "d"] } });
    assert!(!matches!(holds("many differences", schema, items.into()), Ok(Outcome::Fits)));
    let name = "n".repeat(900_000);
    let long = json!({ "additionalProperties": { "items": { "type": "string" } } });
    let _ = holds("long names", long, json!({ name: vec![0; 50_000] }));
    let name = "n".repeat(20_000);
    let schemas: serde_json::Map<_, _> =
        (0..3_000).map(|i| (i.to_string(), json!({ "type": "string" }))).collect();
    let schema = json!({ "properties": { name.clone(): { "properties": schemas } } });
    bound(holds("long places", schema, json!({ name: {} })));
    let big: Vec<Value> = (0..40_000).map(Value::from).collect();
    let schema = json!({ "items": { "not": { "not": { "enum": big } } } });
    let _ = holds("not", schema, json!(vec![1; 10_000]));
    let missing: Vec<String> = (0..40_000).map(|i| i.to_string()).collect();
    let _ = holds("missing", json!({ "items": { "required": missing } }), json!(vec![json!({}); 1_000]));
}

#[test]
fn big_and_deep_schemas_are_bounded() {
    // Made without a copy for each level, which would take this thread's own stack.
    let deep = nested(5_000, json!({}), |schema| {
        Value::Object([("items".to_owned(), schema)].into_iter().collect())
    });
    assert!(matches!(bound(holds("deep", deep, json!([]))), Bound::Depth(128)));
    let properties: serde_json::Map<_, _> =
        (0..9_900).map(|i| (format!("p{i}"), json!({ "type": "string", "maxLength": i }))).collect();
    let value = json!({ "p5": "x" });
    let _ = holds("wide", json!({ "properties": properties }), value.clone());
    let broken: serde_json::Map<_, _> = (0..9_900).map(|i| (format!("p{i}"), json!({ "type": 5 }))).collect();
    assert!(matches!(holds("broken", json!({ "properties": broken }), value), Err(Refused::Broken { .. })));
    // References to each level of what lies in itself.
    let mut nestling = nested(60, json!({}), |schema| json!({ "properties": { "a": schema } }));
    let references: Vec<Value> =
        (0..60).map(|level| json!({ "$ref": format!("#{}", "/properties/a".repeat(level)) })).collect();
    nestling["properties"]["b"] = json!({ "items": { "anyOf": references } });
    let _ = holds("overlapping", nestling, json!({ "b": [{ "a": { "a": {} } }] }));
    let not =
        nested(60, json!({ "enum": (0..40_000).collect::<Vec<_>>() }), |schema| json!({ "not": schema }));
    bound(holds("copies", not, json!(1)));
    let invalid = nested(60, json!({ "type": 5 }), |schema| json!({ "anyOf": [schema, { "items": [5] }] }));
    let _ = holds("invalid and deep", invalid, json!(1));
}

#[test]
fn many_resources_are_bounded() {
    let resource = |name: usize| -> Value {
        let to: Vec<Value> =
            (0..6).map(|to| json!({ "$ref": format!("r{}#/$defs/x{name}", (name + to) % 12) })).collect();
        let definitions: serde_json::Map<_, _> =
            (0..12).map(|i| (format!("x{i}"), json!({ "anyOf": to }))).collect();
        json!({ "$id": format!("https://example.com/r{name}"), "$defs": definitions })
    };
    let all: serde_json::Map<_, _> = (0..12).map(|i| (format!("r{i}"), resource(i))).collect();
    let schema = json!({ "$id": "https://example.com/root", "$ref": "r0#/$defs/x1", "$defs": all });
    assert!(matches!(bound(holds("resources", schema, json!({}))), Bound::Resources(_)));
    let dynamic = json!({
        "$id": "https://example.com/tree", "$dynamicAnchor": "node",
        "properties": { "children": { "type": "array", "items": { "$dynamicRef": "#node" } } },
    });
    let value = nested(40, json!({ "children": [] }), |value| json!({ "children": [value, value.get("x")] }));
    let _ = holds("dynamic", dynamic, value);
    let recursive = json!({
        "$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveAnchor": true,
        "anyOf": [{ "additionalProperties": { "$recursiveRef": "#" } }, { "type": "number" }],
        "unevaluatedProperties": { "$recursiveRef": "#" },
    });
    let _ = holds("recursive", recursive, nested(40, json!(1), |value| json!({ "a": value })));
}

#[test]
fn nothing_is_fetched() {
    for reference in [
        "http://127.0.0.1:9/x.json",
        "https://json-schema.org/draft/2020-12/schema",
        "file:///etc/passwd",
        "other.json",
    ] {
        let refused = holds("remote", json!({ "properties": { "a": { "$ref": reference } } }), json!({}));
        assert!(matches!(refused, Err(Refused::Broken { .. })), "{reference}: {refused:?}");
    }
    let unused = json!({ "$defs": { "a": { "$ref": "http://127.0.0.1:9/x.json" } } });
    let _ = holds("remote and unused", unused, json!({}));
}
