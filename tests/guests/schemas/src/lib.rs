//! A plugin that nobody should take: the schema of its input is a chain of thousands of references with doubled
//! alternatives at its end.

use std::borrow::Cow;

use airlock::{Result, Workflow};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[derive(Serialize, Deserialize)]
struct Costly {
    x: u32,
}

/// References one after the other, and how many of the last ones are doubled.
const LENGTH: usize = 9_000;
const DOUBLED: usize = 30;

impl JsonSchema for Costly {
    fn schema_name() -> Cow<'static, str> {
        "Costly".into()
    }

    // Its references are to its own definitions.
    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut definitions = Map::new();
        for n in 0..LENGTH {
            let next = json!({ "$ref": format!("#/$defs/a{}", n + 1) });
            let link = if n + DOUBLED < LENGTH {
                json!({ "allOf": [next, { "minProperties": 0 }] })
            } else {
                json!({ "anyOf": [next, next] })
            };
            definitions.insert(format!("a{n}"), link);
        }
        definitions.insert(format!("a{LENGTH}"), json!({ "type": "object" }));
        json_schema!({
            "type": "object", "allOf": [{ "$ref": "#/$defs/a0" }], "$defs": Value::Object(definitions),
        })
    }
}

/// Takes what nobody can check.
#[airlock::workflow(name = "costly")]
async fn costly(_ctx: Workflow, input: Costly) -> Result<u32> {
    Ok(input.x)
}

airlock::plugin!(workflows: [costly], activities: []);
