//! A person is asked whether a call may be made.

use airlock_engine::{Json, tools::Question};
use serde_json::json;

use super::CallRequest;
use crate::ConnectorsError;

/// So much of a call's arguments is shown to the person who is asked about it.
const MAX_SHOWN: usize = 8 << 10;

/// Asks the people who follow the execution whether a call may be made.
pub(super) async fn ask(call: &CallRequest<'_>) -> Result<(), ConnectorsError> {
    let connector = &call.connector.name;
    if call.origin.is_none() {
        return Err(ConnectorsError::Denied(format!(
            "a person has to be asked before '{}' of connector '{connector}' is called: call it from a workflow, and \
             answer the question of its execution",
            call.tool
        )));
    }
    let mut shown = call.arguments.clone();
    if shown.to_string().len() > MAX_SHOWN {
        shown = json!(format!("{}…", shown.to_string().chars().take(MAX_SHOWN).collect::<String>()));
    }
    let question = Question {
        label: format!("May '{}' of connector '{connector}' be called?", call.tool),
        input_schema: Json::from(json!({
            "type": "object", "required": ["approve"], "additionalProperties": false,
            "properties": { "approve": { "type": "boolean" }, "reason": { "type": "string" } },
        })),
        about: Json::from(json!({
            "asked_by": "policy", "connector_name": connector, "tool_name": call.tool, "arguments": shown,
        })),
        expires_after: call.connector.control.ask_timeout(),
    };
    let answer = call.conversation.ask(question).await.map_err(ConnectorsError::Failed)?.value();
    if answer["approve"] == true {
        return Ok(());
    }
    let reason = answer["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
    let message = format!("the call of '{}' of connector '{connector}' was not approved{reason}", call.tool);
    Err(ConnectorsError::Denied(message))
}
