//! A guest that does what a guest should not. Written against `wit/` itself, not the SDK, so that nothing gets in its way.

mod activities;
mod workflows;

wit_bindgen::generate!({ path: "../../../../../wit", world: "plugin", generate_all });

use exports::airlock::plugin::definitions::{
    ActivityDefinition, Guest, PluginDefinition, Slot, WorkflowDefinition,
};

struct Plugin;

export!(Plugin);

impl Guest for Plugin {
    fn describe() -> PluginDefinition {
        let workflow = |name: &str| WorkflowDefinition {
            name: name.into(),
            display_name: None,
            description: Some(if cfg!(feature = "second") { "second" } else { "first" }.into()),
            input_schema: "true".into(),
            output_schema: None,
            on_behalf_of: false,
            execution_timeout_ms: None,
            slots: vec![Slot { connector: "github".into(), auto_auth: true, credentials_name: None }],
            signals: vec![],
            queries: vec![],
            updates: vec![],
            retry: None,
            search_keys: vec![],
        };
        let activity = |name: &str| ActivityDefinition {
            name: name.into(),
            description: None,
            input_schema: "true".into(),
            output_schema: None,
            options: activities::no_options(),
            slots: vec![],
        };
        PluginDefinition {
            workflows: workflows::NAMES.iter().map(|name| workflow(name)).collect(),
            activities: activities::NAMES.iter().map(|name| activity(name)).collect(),
        }
    }
}

/// A recursion that the compiler cannot turn into a loop.
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    if depth == u64::MAX { 0 } else { std::hint::black_box(recurse(std::hint::black_box(depth + 1))) + 1 }
}
