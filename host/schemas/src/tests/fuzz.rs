use std::time::Duration;

use airlock_fuzz::{Fuzz, Judged, Verdict, promised};
use proptest::prelude::*;
use serde_json::Value;

use super::{
    PROMISED,
    generated::{document, value},
};
use crate::{Dialect, Limits, Outcome, checked::Ready, outline};

/// Between schema and value.
const NEXT: &str = "\n--\n";

/// Marks what must not be told of a value.
const CANARY: &str = "canary";

/// Whether a member of a value is named by the mark.
fn has_name(value: &Value) -> bool {
    match value {
        Value::Object(members) => {
            members.iter().any(|(name, member)| name.contains(CANARY) || has_name(member))
        }
        Value::Array(items) => items.iter().any(has_name),
        _ => false,
    }
}

/// A schema and a value, as two texts: both within the bounds, or something is said instead.
fn judged(input: &[u8]) -> Judged {
    let text = String::from_utf8_lossy(input);
    let (schema, value) = text.split_once(NEXT).unwrap_or((&text, "null"));
    let (schema, value): (Value, Value) = match (serde_json::from_str(schema), serde_json::from_str(value)) {
        (Ok(schema), Ok(value)) => (schema, value),
        (Err(error), _) | (_, Err(error)) => return Ok(Verdict::Refused(format!("no JSON: {error}"))),
    };
    let limits = Limits::default();
    let dialect = match input.len() % 3 {
        0 => Dialect::Input,
        1 => Dialect::WithoutFormats,
        _ => Dialect::Draft202012,
    };
    let read = outline::is_bounded(&schema, &limits).and_then(|()| Ready::new(&schema, dialect, &limits));
    let ready = match read {
        Ok(ready) => ready,
        Err(refused) => return Ok(Verdict::Refused(refused.to_string())),
    };
    let outcome = ready.cost(&value).map_or_else(Outcome::Undecided, |cost| ready.check(&value, cost));
    match outcome {
        Outcome::Fits => Ok(Verdict::Used),
        Outcome::Undecided(why) => Ok(Verdict::LeftOut(why.to_string())),
        Outcome::Differs(found) => {
            promised!((1..=20).contains(&found.len()), "{} differences", found.len());
            for difference in found {
                let place = value.pointer(&difference.instance);
                promised!(place.is_some(), "there is no {}", difference.instance);
                // Names may be told.
                let quotes = difference.message.contains(CANARY) && !has_name(&value);
                let of_schema = schema.to_string().contains(CANARY);
                promised!(of_schema || !quotes, "a value is told: {}", difference.message);
            }
            Ok(Verdict::Used)
        }
    }
}

#[test]
fn fuzz_whatever_schema_and_value_are_checked_within_bounds_or_not_checked_with_a_reason() {
    let text = |(schema, value): (Value, Value)| format!("{schema}{NEXT}{value}").into_bytes();
    Fuzz::new("schemas", env!("CARGO_MANIFEST_DIR"))
        .grammar(move || (document(), value()).prop_map(text))
        .words([
            "$ref",
            "$defs",
            "$id",
            "$anchor",
            "$dynamicRef",
            "$recursiveRef",
            "$schema",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "if",
            "properties",
            "patternProperties",
            "additionalProperties",
            "unevaluatedProperties",
            "items",
            "prefixItems",
            "enum",
            "const",
            "uniqueItems",
            "contains",
            "minContains",
            "multipleOf",
            "format",
            "pattern",
            "(a*)*$",
            "[a-z]{1,1000}",
            "\"#\"",
            "#/$defs/a",
            "http://json-schema.org/draft-07/schema#",
            "dependentSchemas",
            "propertyNames",
            "canary",
        ])
        // What is compiled and what is checked is promised each.
        .time(2 * PROMISED + Duration::from_millis(20))
        .memory(256 << 20)
        .stack(Limits::default().stack_bytes)
        .run(judged);
}
