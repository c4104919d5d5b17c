//! Calls of tools and authorisation: what is the same in workflows and activities.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Error, Result, Slot, host};

/// The tools of the connector in slot `S`, for an activity that has a parameter of this type.
///
/// The host makes the call and adds the credential; the plugin sees neither it nor the service's address.
pub struct Tools<S: Slot>(PhantomData<S>);

impl<S: Slot> Tools<S> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }

    /// Calls a tool with arguments that make a JSON object. The answer is
    /// `{"content": […], "metadata": {"mcp_meta": {"isError", "structuredContent"?}}}`; see [`read_answer`].
    ///
    /// # Errors
    /// [`Error::TOOL_CALL`] if the tool reports an error, `ConnectorError` if there is no usable credential or the
    /// service does not answer, [`Error::TIMEOUT`] after 120 s.
    pub async fn call(&self, tool: &str, arguments: impl Serialize) -> Result<Value> {
        let arguments = serde_json::to_string(&arguments)?;
        parse(&host::call_tool(S::CONNECTOR, tool, &arguments).await?)
    }

    /// Calls a tool and reads its answer as `T`, see [`read_answer`].
    ///
    /// # Errors
    /// As [`Tools::call`] and [`read_answer`].
    pub async fn call_as<T: DeserializeOwned>(&self, tool: &str, arguments: impl Serialize) -> Result<T> {
        read_answer(&self.call(tool, arguments).await?)
    }

    /// The tools that the connector has: objects with `name`, `description`, `inputSchema`.
    ///
    /// # Errors
    /// As [`Tools::call`], with a limit of 30 s.
    pub async fn list(&self) -> Result<Vec<Value>> {
        parse(&host::list_tools(S::CONNECTOR).await?)
    }
}

impl<S: Slot> Clone for Tools<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Slot> Copy for Tools<S> {}

/// Waits in an activity until the caller is authorised for slot `S`: not at all if they are, else until their
/// credential arrives. In a workflow, use [`Workflow::await_auth`](crate::Workflow::await_auth).
///
/// # Errors
/// [`Error::AUTH_TIMEOUT`] after 10 minutes.
pub async fn await_auth<S: Slot>() -> Result<Authorised> {
    parse(&host::await_auth(S::CONNECTOR).await?)
}

/// Who is authorised and with what; never a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorised {
    /// The connector's name.
    pub connector_name: String,
    /// The connector's id.
    pub connector_id: String,
    /// The credential's name, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_name: Option<String>,
}

/// Reads a tool's answer as `T`: its `structuredContent` if there is one, else its first text as JSON, else, if that is
/// not JSON, the text as a string.
///
/// # Errors
/// [`Error::INVALID_OUTPUT`] if the answer is not a `T`.
pub fn read_answer<T: DeserializeOwned>(answer: &Value) -> Result<T> {
    let invalid = |error: serde_json::Error| {
        Error::new(
            Error::INVALID_OUTPUT,
            format!("the tool's answer is not what the plugin expects: {error}"),
        )
        .non_retryable()
    };
    if let Some(structured) =
        answer.pointer("/metadata/mcp_meta/structuredContent").filter(|value| !value.is_null())
    {
        return T::deserialize(structured).map_err(invalid);
    }
    let texts = answer.get("content").and_then(Value::as_array);
    let text = texts.and_then(|parts| parts.iter().find_map(|part| part.get("text")?.as_str()));
    match text {
        Some(text) => {
            serde_json::from_str(text).or_else(|_| T::deserialize(Value::from(text))).map_err(invalid)
        }
        None => T::deserialize(Value::Null).map_err(invalid),
    }
}

pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Error::new(Error::INVALID_OUTPUT, format!("the host's answer could not be read: {error}"))
            .non_retryable()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Issue {
        number: u32,
    }

    #[test]
    fn structured_content_wins_over_text() {
        let answer = json!({
            "content": [{"type": "text", "text": "{\"number\": 1}"}],
            "metadata": {"mcp_meta": {"isError": false, "structuredContent": {"number": 2}}}
        });
        assert_eq!(read_answer::<Issue>(&answer).unwrap(), Issue { number: 2 });
    }

    #[test]
    fn text_is_read_as_json_and_otherwise_as_a_string() {
        let answer = json!({"content": [{"type": "text", "text": "{\"number\": 1}"}], "metadata": {}});
        assert_eq!(read_answer::<Issue>(&answer).unwrap(), Issue { number: 1 });
        let answer = json!({"content": [{"type": "image"}, {"type": "text", "text": "done, or so"}]});
        assert_eq!(read_answer::<String>(&answer).unwrap(), "done, or so");
    }

    #[test]
    fn an_answer_of_another_shape_says_so() {
        let error = read_answer::<Issue>(&json!({"content": []})).unwrap_err();
        assert_eq!(error.kind(), "InvalidOutput");
    }
}
