//! What a start, or a schedule, asks for besides its input: `extensions` on the wire (contract §6, §11.1).
//!
//! Read in one place, whoever sends it. What is ours and is not understood is refused: who asks for mocks counts on it that
//! nothing is called.

use serde_json::Value;

use crate::{
    WorkflowDefinition,
    problem::Problem,
    tools::{BindingWish, Mocks},
};

/// What was asked for, understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extensions {
    /// `airlock.mocks`: `true` for all connectors, or a list of slots.
    pub mocks: Mocks,
    /// `mistralai.connectors.bindings`: credentials for slots.
    pub wishes: Vec<BindingWish>,
}

/// Where mocks and credentials stand.
const MOCKS: &str = "/airlock/mocks";
const BINDINGS: &str = "/mistralai/connectors/bindings";

const MALFORMED: &str = "Malformed runtime connector extension bindings; expected a list of objects with optional \
     'connector_name' and 'credentials_name'. Connector identity is interceptor-owned and must come from \
     @uses_connectors(...).";

impl Extensions {
    /// Reads `extensions`. A problem names the place in it.
    pub fn read(extensions: Option<&Value>) -> Result<Self, Problem> {
        Ok(Self { mocks: mocks(extensions)?, wishes: wishes(extensions)? })
    }

    /// Whether the workflow has the slots that are to be mocked: a name that it does not have may be misspelt, and then
    /// the service would be called.
    pub fn check(&self, workflow: &WorkflowDefinition) -> Result<(), Problem> {
        let Mocks::Connectors(names) = &self.mocks else { return Ok(()) };
        let slots: Vec<&str> = workflow.slots.iter().map(|slot| slot.connector.as_str()).collect();
        let Some(name) = names.iter().find(|name| !slots.contains(&name.as_str())) else { return Ok(()) };
        let known = if slots.is_empty() { "none".to_owned() } else { slots.join(", ") };
        let message = format!(
            "the workflow '{}' has no connector '{name}', it has {known}; `true` mocks all, also those of its children",
            workflow.name
        );
        Err(Problem::new(MOCKS, message))
    }

    /// The same for a schedule, whose executions have no caller whose credentials could be chosen.
    pub(crate) fn check_scheduled(&self, workflow: &WorkflowDefinition) -> Result<(), Problem> {
        self.check(workflow)?;
        if self.wishes.is_empty() {
            return Ok(());
        }
        let message = "credentials can be chosen only for a workflow that runs on behalf of its caller, and a scheduled \
                       run has no caller: it uses the credential that the plugin names, or else the default of the \
                       workspace or the organisation (`airlock credentials set CONNECTOR NAME --scope workspace`)";
        Err(Problem::new(BINDINGS, message))
    }
}

fn wishes(extensions: Option<&Value>) -> Result<Vec<BindingWish>, Problem> {
    let malformed = || Problem::new(BINDINGS, MALFORMED);
    for around in ["/mistralai", "/mistralai/connectors"] {
        let found = extensions.and_then(|value| value.pointer(around));
        if found.is_some_and(|value| !value.is_null() && !value.is_object()) {
            return Err(Problem::new(around, "it must be an object: {\"connectors\": {\"bindings\"?}}"));
        }
    }
    let list = match extensions.and_then(|value| value.pointer(BINDINGS)) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(malformed()),
    };
    let text = |value: Option<&Value>| match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.clone())),
        Some(_) => Err(malformed()),
    };
    list.iter()
        .map(|binding| match binding {
            Value::Object(fields) => Ok(BindingWish {
                connector_name: text(fields.get("connector_name"))?,
                credentials_name: text(fields.get("credentials_name"))?,
            }),
            _ => Err(malformed()),
        })
        .collect()
}

fn mocks(extensions: Option<&Value>) -> Result<Mocks, Problem> {
    match extensions {
        None | Some(Value::Null | Value::Object(_)) => {}
        Some(_) => {
            return Err(Problem::new(
                "",
                "it must be an object: {\"airlock\": {\"mocks\"?}, \"mistralai\"?}",
            ));
        }
    }
    let fields = match extensions.and_then(|value| value.get("airlock")) {
        None | Some(Value::Null) => return Ok(Mocks::None),
        Some(Value::Object(fields)) => fields,
        Some(_) => return Err(Problem::new("/airlock", "it must be an object: {\"mocks\"?}")),
    };
    if let Some(unknown) = fields.keys().find(|key| *key != "mocks") {
        let place = format!("/airlock/{}", unknown.replace('~', "~0").replace('/', "~1"));
        return Err(Problem::new(place, "there is no such extension: `mocks` is the only one"));
    }
    match fields.get("mocks") {
        None | Some(Value::Null | Value::Bool(false)) => Ok(Mocks::None),
        Some(Value::Bool(true)) => Ok(Mocks::All),
        Some(Value::Array(names)) => {
            let name = |(index, name): (usize, &Value)| match name.as_str() {
                Some(name) if !name.trim().is_empty() => Ok(name.to_owned()),
                _ => Err(Problem::new(format!("{MOCKS}/{index}"), "it must be the name of a connector")),
            };
            Ok(Mocks::Connectors(names.iter().enumerate().map(name).collect::<Result<_, _>>()?))
        }
        Some(_) => Err(Problem::new(MOCKS, "it must be true, or a list of connectors")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bindings_are_read_and_everything_else_is_malformed() {
        let read = |bindings: Value| {
            wishes(Some(&json!({ "mistralai": { "connectors": { "bindings": bindings } } }))).ok()
        };
        let wish = |connector: Option<&str>, credentials: Option<&str>| BindingWish {
            connector_name: connector.map(Into::into),
            credentials_name: credentials.map(Into::into),
        };
        let bindings = json!([{ "connector_name": "a", "credentials_name": "b", "user": "eve" }, {}]);
        assert_eq!(read(bindings), Some(vec![wish(Some("a"), Some("b")), wish(None, None)]));
        assert_eq!(read(Value::Null), Some(vec![]));
        for bad in [
            json!("a"),
            json!({}),
            json!(["a"]),
            json!([{ "connector_name": " " }]),
            json!([{ "connector_name": 1 }]),
        ] {
            assert_eq!(read(bad.clone()), None, "{bad}");
        }
    }

    #[test]
    fn mocks_are_all_or_some_and_what_is_not_understood_is_refused() {
        let read = |value: Value| mocks(Some(&json!({ "airlock": value }))).ok();
        let some = Mocks::Connectors(vec!["a".into(), "b".into()]);
        assert_eq!(read(json!({ "mocks": ["a", "b"] })), Some(some));
        assert_eq!(read(json!({ "mocks": true })), Some(Mocks::All));
        for none in [json!({ "mocks": false }), json!({ "mocks": null }), json!({}), Value::Null] {
            assert_eq!(read(none), Some(Mocks::None));
        }
        for bad in [json!(true), json!({ "mocks": "a" }), json!({ "mock": true }), json!({ "mocks": [" "] })]
        {
            assert_eq!(read(bad.clone()), None, "{bad}");
        }
        for bad in [json!(true), json!("mocks"), json!([{ "airlock": { "mocks": true } }])] {
            assert_eq!(Extensions::read(Some(&bad)).expect_err("is refused").pointer, "", "{bad}");
        }
        let problem =
            mocks(Some(&json!({ "airlock": { "mocks": ["a", 1] } }))).expect_err("a number is no name");
        assert_eq!(problem.pointer, "/airlock/mocks/1");
    }
}
