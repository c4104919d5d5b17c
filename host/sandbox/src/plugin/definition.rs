//! What `describe` returned, checked and turned into the engine's form.

use std::{collections::HashSet, time::Duration};

use airlock_engine::{ActivityDefinition, Handler, Json, PluginDefinition, Slot, WorkflowDefinition};
use airlock_schemas::{Dialect, Schemas};

use super::rejection::Rejection;
use crate::{bindings::exports::airlock::plugin::definitions as wit, config::Limits, wire};

/// A name has at most this many characters.
const NAME_CHARACTERS: usize = 128;

/// One schema, or one description, has at most this many bytes.
const TEXT_BYTES: usize = 1 << 20;

/// A plugin has at most this many workflows, and as many activities.
const PARTS: usize = 1000;

/// Checks names, schemas, slots and options. The error names the part that is wrong.
pub(super) fn check(
    described: wit::PluginDefinition,
    limits: &Limits,
) -> Result<PluginDefinition, Rejection> {
    if described.workflows.is_empty() && described.activities.is_empty() {
        return Err(wrong("it holds no workflow and no activity: list them in the plugin's declaration"));
    }
    if described.workflows.len().max(described.activities.len()) > PARTS {
        return Err(wrong(format!(
            "it holds more than {PARTS} workflows or activities: split it into several plugins"
        )));
    }
    unique("workflow", described.workflows.iter().map(|workflow| workflow.name.as_str()))?;
    unique("activity", described.activities.iter().map(|activity| activity.name.as_str()))?;
    Ok(PluginDefinition {
        workflows: described
            .workflows
            .into_iter()
            .map(|it| workflow(it, limits))
            .collect::<Result<_, _>>()?,
        activities: described
            .activities
            .into_iter()
            .map(|it| activity(it, limits))
            .collect::<Result<_, _>>()?,
    })
}

fn wrong(text: impl Into<String>) -> Rejection {
    Rejection::Definition(text.into())
}

fn unique<'a>(kind: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Rejection> {
    let mut seen = HashSet::new();
    for name in names {
        let valid = (1..=NAME_CHARACTERS).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if !valid {
            return Err(wrong(format!(
                "the {kind} name {name:?} is not valid: 1 to {NAME_CHARACTERS} letters, digits, '_' and '-'"
            )));
        }
        if !seen.insert(name) {
            return Err(wrong(format!("it holds two definitions of the {kind} {name:?}: rename one")));
        }
    }
    Ok(())
}

fn workflow(it: wit::WorkflowDefinition, limits: &Limits) -> Result<WorkflowDefinition, Rejection> {
    let who = format!("workflow {:?}", it.name);
    if it.execution_timeout_ms == Some(0) {
        return Err(wrong(format!("{who}: its execution timeout is 0; leave it out or make it longer")));
    }
    Ok(WorkflowDefinition {
        display_name: text(&who, "display name", it.display_name)?,
        description: text(&who, "description", it.description)?,
        input_schema: schema(&who, "input", it.input_schema, limits)?,
        output_schema: it.output_schema.map(|text| schema(&who, "output", text, limits)).transpose()?,
        on_behalf_of: it.on_behalf_of,
        execution_timeout: it.execution_timeout_ms.map(Duration::from_millis),
        slots: slots(&who, it.slots)?,
        signals: handlers(&who, "signal", it.signals, limits)?,
        queries: handlers(&who, "query", it.queries, limits)?,
        updates: handlers(&who, "update", it.updates, limits)?,
        retry: it
            .retry
            .map(wire::retry_policy)
            .transpose()
            .map_err(|error| wrong(format!("{who}: {error}")))?,
        search_keys: search_keys(&who, it.search_keys)?,
        name: it.name,
    })
}

fn handlers(
    who: &str,
    kind: &str,
    handlers: Vec<wit::Handler>,
    limits: &Limits,
) -> Result<Vec<Handler>, Rejection> {
    unique(kind, handlers.iter().map(|handler| handler.name.as_str()))?;
    let handler = |it: wit::Handler| {
        let who = format!("{who}: {kind} {:?}", it.name);
        if it.name.starts_with(Handler::RESERVED) {
            return Err(wrong(format!("{who}: names that begin with {:?} are reserved", Handler::RESERVED)));
        }
        Ok(Handler {
            description: text(&who, "description", it.description)?,
            input_schema: schema(&who, "input", it.input_schema, limits)?,
            output_schema: it.output_schema.map(|text| schema(&who, "output", text, limits)).transpose()?,
            name: it.name,
        })
    };
    handlers.into_iter().map(handler).collect()
}

fn search_keys(who: &str, keys: Vec<String>) -> Result<Vec<String>, Rejection> {
    let limit = airlock_engine::machine::SEARCH_KEYS;
    if keys.len() > limit {
        return Err(wrong(format!("{who}: it declares {} search keys; the limit is {limit}", keys.len())));
    }
    for key in &keys {
        wire::search_key_name(key).map_err(|error| wrong(format!("{who}: {error}")))?;
    }
    Ok(keys)
}

fn activity(it: wit::ActivityDefinition, limits: &Limits) -> Result<ActivityDefinition, Rejection> {
    let who = format!("activity {:?}", it.name);
    let options = it.options;
    for (what, ms) in [
        ("schedule-to-start", options.schedule_to_start_ms),
        ("start-to-close", options.start_to_close_ms),
        ("schedule-to-close", options.schedule_to_close_ms),
        ("heartbeat", options.heartbeat_ms),
    ] {
        if ms == Some(0) {
            return Err(wrong(format!("{who}: its {what} timeout is 0; leave it out or make it longer")));
        }
    }
    Ok(ActivityDefinition {
        description: text(&who, "description", it.description)?,
        input_schema: schema(&who, "input", it.input_schema, limits)?,
        output_schema: it.output_schema.map(|text| schema(&who, "output", text, limits)).transpose()?,
        options: wire::activity_options(options).map_err(|error| wrong(format!("{who}: {error}")))?,
        slots: slots(&who, it.slots)?,
        name: it.name,
    })
}

fn text(who: &str, what: &str, text: Option<String>) -> Result<Option<String>, Rejection> {
    match &text {
        Some(long) if long.len() > TEXT_BYTES => {
            Err(wrong(format!("{who}: its {what} has {} bytes; the limit is {TEXT_BYTES}", long.len())))
        }
        _ => Ok(text),
    }
}

fn schema(who: &str, what: &str, text: String, limits: &Limits) -> Result<Json, Rejection> {
    let what = format!("{who}: its {what} schema");
    if text.len() > TEXT_BYTES {
        return Err(wrong(format!("{what} has {} bytes; the limit is {TEXT_BYTES}", text.len())));
    }
    let schema = wire::json(&what, text, limits).map_err(|error| wrong(error.0))?;
    match Schemas::of_process().compile_blocking(&schema.value(), Dialect::Input) {
        Ok(_) => Ok(schema),
        Err(refused) => Err(wrong(format!("{what} cannot be used: {refused}"))),
    }
}

fn slots(who: &str, slots: Vec<wit::Slot>) -> Result<Vec<Slot>, Rejection> {
    let mut seen = HashSet::new();
    for slot in &slots {
        if slot.connector.is_empty() || slot.connector.len() > NAME_CHARACTERS {
            return Err(wrong(format!(
                "{who}: the connector slot {:?} is not valid: its name has 1 to {NAME_CHARACTERS} characters",
                slot.connector
            )));
        }
        if !seen.insert(slot.connector.as_str()) {
            return Err(wrong(format!(
                "{who}: the connector slot {:?} is declared twice: remove one",
                slot.connector
            )));
        }
    }
    let slot = |it: wit::Slot| Slot {
        connector: it.connector,
        auto_auth: it.auto_auth,
        credentials_name: it.credentials_name,
    };
    Ok(slots.into_iter().map(slot).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::airlock::plugin::types as shared;

    fn a_workflow() -> wit::WorkflowDefinition {
        wit::WorkflowDefinition {
            name: "w".into(),
            display_name: None,
            description: None,
            input_schema: "true".into(),
            output_schema: None,
            on_behalf_of: false,
            execution_timeout_ms: None,
            slots: vec![],
            signals: vec![],
            queries: vec![],
            updates: vec![],
            retry: None,
            search_keys: vec![],
        }
    }

    fn an_activity() -> wit::ActivityDefinition {
        wit::ActivityDefinition {
            name: "a".into(),
            description: None,
            input_schema: "{}".into(),
            output_schema: None,
            options: shared::ActivityOptions {
                schedule_to_start_ms: None,
                start_to_close_ms: None,
                schedule_to_close_ms: None,
                heartbeat_ms: None,
                retry: None,
            },
            slots: vec![],
        }
    }

    fn slot(connector: &str) -> wit::Slot {
        wit::Slot { connector: connector.into(), auto_auth: true, credentials_name: None }
    }

    fn message(workflows: Vec<wit::WorkflowDefinition>, activities: Vec<wit::ActivityDefinition>) -> String {
        let described = wit::PluginDefinition { workflows, activities };
        check(described, &Limits::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_plain_definition_passes() {
        let described =
            wit::PluginDefinition { workflows: vec![a_workflow()], activities: vec![an_activity()] };
        let definition = check(described, &Limits::default()).unwrap();
        assert!(definition.workflow("w").is_some() && definition.activity("a").is_some());
    }

    #[test]
    fn an_empty_plugin_is_named_as_such() {
        assert!(message(vec![], vec![]).contains("no workflow and no activity"));
    }

    #[test]
    fn names_are_checked() {
        for bad in ["", "a b", "é", &"x".repeat(129)] {
            let workflow = wit::WorkflowDefinition { name: bad.into(), ..a_workflow() };
            assert!(message(vec![workflow], vec![]).contains("is not valid: 1 to 128 letters"), "{bad:?}");
        }
        assert!(
            message(vec![a_workflow(), a_workflow()], vec![])
                .contains("two definitions of the workflow \"w\"")
        );
        assert!(
            message(vec![], vec![an_activity(), an_activity()])
                .contains("two definitions of the activity \"a\"")
        );
    }

    #[test]
    fn schemas_are_checked() {
        for (schema, expected) in [
            ("{", "workflow \"w\": its input schema is not JSON"),
            (r#"{"type": "strin"}"#, "workflow \"w\": its input schema cannot be used: not a JSON Schema"),
            ("3", "workflow \"w\": its input schema cannot be used: not a JSON Schema"),
        ] {
            let workflow = wit::WorkflowDefinition { input_schema: schema.into(), ..a_workflow() };
            let message = message(vec![workflow], vec![]);
            assert!(message.contains(expected), "{schema} gave {message}");
        }
    }

    #[test]
    fn slots_are_checked() {
        let workflow = wit::WorkflowDefinition { slots: vec![slot("x"), slot("x")], ..a_workflow() };
        assert!(message(vec![workflow], vec![]).contains("the connector slot \"x\" is declared twice"));
        let activity = wit::ActivityDefinition { slots: vec![slot("")], ..an_activity() };
        assert!(message(vec![], vec![activity]).contains("the connector slot \"\" is not valid"));
    }

    #[test]
    fn handlers_and_search_keys_are_checked() {
        let handler = |name: &str| wit::Handler {
            name: name.into(),
            description: None,
            input_schema: "true".into(),
            output_schema: None,
        };
        let twice = wit::WorkflowDefinition { signals: vec![handler("s"), handler("s")], ..a_workflow() };
        assert!(message(vec![twice], vec![]).contains("two definitions of the signal \"s\""));
        let reserved = wit::WorkflowDefinition { queries: vec![handler("__q")], ..a_workflow() };
        assert!(message(vec![reserved], vec![]).contains("are reserved"));
        for key in ["", "a:b", " a", "a=", "internal.x"] {
            let workflow = wit::WorkflowDefinition { search_keys: vec![key.into()], ..a_workflow() };
            assert!(message(vec![workflow], vec![]).contains("cannot be a search key"), "{key:?}");
        }
        let many = wit::WorkflowDefinition { search_keys: vec!["k".into(); 21], ..a_workflow() };
        assert!(message(vec![many], vec![]).contains("it declares 21 search keys"));
    }

    #[test]
    fn timeouts_are_checked() {
        let workflow = wit::WorkflowDefinition { execution_timeout_ms: Some(0), ..a_workflow() };
        assert!(message(vec![workflow], vec![]).contains("its execution timeout is 0"));
        let mut activity = an_activity();
        activity.options.heartbeat_ms = Some(0);
        assert!(message(vec![], vec![activity]).contains("its heartbeat timeout is 0"));
    }
}
