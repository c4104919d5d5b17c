//! What the daemon looks for in a plugin's definition before it takes it up (`host/sandbox/src/plugin/definition.rs`).

use std::{collections::BTreeSet, time::Duration};

use crate::{
    ActivityDefinition, Error, HandlerDefinition, PluginDefinition, RetryPolicy, SlotDefinition,
    WorkflowDefinition,
};

/// The longest name.
const NAME: usize = 128;

/// The most search keys of a workflow.
const SEARCH_KEYS: usize = 20;

/// The names of slots.
pub(super) fn connectors(slots: &[SlotDefinition]) -> Vec<&'static str> {
    slots.iter().map(|slot| slot.connector).collect()
}

/// A workflow that acts for its caller was started by one that does not.
pub(super) fn not_on_behalf(workflow: &str) -> Error {
    let message = format!(
        "the workflow '{workflow}' acts on behalf of its caller, and the workflow that starts it does not: add \
         `on_behalf_of` to that one too"
    );
    Error::new("NotOnBehalfOf", message).non_retryable()
}

/// Says what the daemon would refuse.
pub(super) fn check(plugin: &PluginDefinition) -> Result<(), String> {
    if plugin.workflows.is_empty() && plugin.activities.is_empty() {
        return Err("it holds no workflow and no activity: list them in plugin!(…)".to_owned());
    }
    names("workflow", plugin.workflows.iter().map(|workflow| workflow.name))?;
    names("activity", plugin.activities.iter().map(|activity| activity.name))?;
    plugin.workflows.iter().try_for_each(workflow)?;
    plugin.activities.iter().try_for_each(activity)
}

fn names(kind: &str, names: impl Iterator<Item = &'static str>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for name in names {
        let valid = (1..=NAME).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if !valid {
            return Err(format!(
                "the {kind} name {name:?} is not valid: 1 to {NAME} letters, digits, '_' and '-'"
            ));
        }
        if !seen.insert(name) {
            return Err(format!(
                "it holds two definitions of the {kind} {name:?}: rename one, or list it once"
            ));
        }
    }
    Ok(())
}

fn workflow(it: &WorkflowDefinition) -> Result<(), String> {
    let who = format!("workflow {:?}", it.name);
    limit(&who, "execution", it.execution_timeout)?;
    slots(&who, &it.slots)?;
    for (kind, handlers) in [("signal", &it.signals), ("query", &it.queries), ("update", &it.updates)] {
        self::handlers(&who, kind, handlers)?;
    }
    retry(&who, it.retry.as_ref())?;
    if it.search_keys.len() > SEARCH_KEYS {
        let count = it.search_keys.len();
        return Err(format!("{who}: it declares {count} search keys; the limit is {SEARCH_KEYS}"));
    }
    match it.search_keys.iter().find(|key| !crate::workflow::is_search_key(key)) {
        Some(key) => Err(format!("{who}: {key:?} cannot be a search key")),
        None => Ok(()),
    }
}

fn handlers(who: &str, kind: &str, handlers: &[HandlerDefinition]) -> Result<(), String> {
    names(kind, handlers.iter().map(|handler| handler.name)).map_err(|wrong| format!("{who}: {wrong}"))?;
    match handlers.iter().find(|handler| handler.name.starts_with("__")) {
        Some(handler) => {
            Err(format!("{who}: {kind} {:?}: names that begin with \"__\" are reserved", handler.name))
        }
        None => Ok(()),
    }
}

fn activity(it: &ActivityDefinition) -> Result<(), String> {
    let who = format!("activity {:?}", it.name);
    limit(&who, "schedule-to-start", it.options.schedule_to_start)?;
    limit(&who, "start-to-close", it.options.start_to_close)?;
    limit(&who, "schedule-to-close", it.options.schedule_to_close)?;
    limit(&who, "heartbeat", it.options.heartbeat)?;
    retry(&who, it.options.retry.as_ref())?;
    slots(&who, &it.slots)
}

fn limit(who: &str, what: &str, limit: Option<Duration>) -> Result<(), String> {
    match limit {
        Some(limit) if limit < Duration::from_millis(1) => {
            Err(format!("{who}: its {what} timeout is 0; leave it out or make it longer"))
        }
        _ => Ok(()),
    }
}

fn retry(who: &str, policy: Option<&RetryPolicy>) -> Result<(), String> {
    match policy {
        Some(policy) if !(policy.backoff.is_finite() && policy.backoff >= 1.0) => Err(format!(
            "{who}: the backoff of its retry policy is {}; it must be at least 1",
            policy.backoff
        )),
        _ => Ok(()),
    }
}

fn slots(who: &str, slots: &[SlotDefinition]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for SlotDefinition { connector, .. } in slots {
        if connector.is_empty() || connector.len() > NAME {
            return Err(format!(
                "{who}: the connector slot {connector:?} is not valid: its name has 1 to {NAME} characters"
            ));
        }
        if !seen.insert(connector) {
            return Err(format!("{who}: the connector slot {connector:?} is declared twice: remove one"));
        }
    }
    Ok(())
}
