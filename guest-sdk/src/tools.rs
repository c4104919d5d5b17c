//! Calls of tools and authorisation: what is the same in workflows and activities.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Error, Result, Slot, host, schema,
    workflow::{operation::Operation, protocol::Request, shared::Shared},
};

/// The tools of the connector in slot `S`, for an activity that has a parameter of this type.
///
/// The host makes the call and adds the credential; the plugin sees neither it nor the service's address.
pub struct Tools<S: Slot>(PhantomData<S>);

impl<S: Slot> Tools<S> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }

    /// Calls a tool with arguments that make a JSON object: `github.call("star", arguments).retries(2).await?`. The answer
    /// is `{"content": […], "metadata": {"mcp_meta": {"isError", "structuredContent"?}}}`; [`ToolCall::read`] and
    /// [`ToolCall::data`] make a type of it.
    ///
    /// # Errors
    /// [`Error::TOOL_CALL`] if the tool reports an error, [`Error::CONNECTOR`] if there is no usable credential or the
    /// service does not answer, [`Error::TIMEOUT`] after 120 s or [`ToolCall::timeout`], [`Error::INVALID_INPUT`] if an
    /// option is out of its bounds.
    pub fn call(&self, tool: &str, arguments: impl Serialize) -> ToolCall {
        let call = ToolRequest::new(S::CONNECTOR, tool, &arguments);
        ToolCall(Inner::InActivity(Stage::New(call)))
    }

    /// Calls a tool and reads its answer as `T`, see [`read_answer`].
    ///
    /// # Errors
    /// As [`Tools::call`] and [`read_answer`].
    pub async fn call_as<T: DeserializeOwned>(&self, tool: &str, arguments: impl Serialize) -> Result<T> {
        self.call(tool, arguments).read().await
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

/// What is to be otherwise than usual for one call of a tool. What is `None` stays as the connector and the execution say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallOptions {
    /// For one try, from 1 ms to 120 s. The host's default is 120 s.
    pub timeout: Option<Duration>,
    /// How often a call that failed for no fault of its own is tried again inside the call, from 0 to 10.
    pub retries: Option<u32>,
    /// The caller's credential of this name. Refused if the caller bound one for the execution.
    pub credentials_name: Option<String>,
    /// Whether to answer from a mock and call nothing.
    pub use_mock: Option<bool>,
}

/// What is asked of the host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToolRequest {
    pub(crate) slot: &'static str,
    pub(crate) tool: String,
    /// JSON text.
    pub(crate) arguments: String,
    pub(crate) options: CallOptions,
}

impl ToolRequest {
    fn new(slot: &'static str, tool: &str, arguments: &impl Serialize) -> Result<Self> {
        let (tool, arguments) = (tool.to_owned(), schema::write_plain(arguments)?);
        Ok(Self { slot, tool, arguments, options: CallOptions::default() })
    }
}

/// A call of a tool: options may be set until it is awaited.
#[must_use = "a tool is called when the call is awaited"]
pub struct ToolCall(Inner);

enum Inner {
    InActivity(Stage),
    InWorkflow(Operation),
}

enum Stage {
    New(Result<ToolRequest>),
    Begun(Pin<Box<dyn Future<Output = Result<String>>>>),
    Ended,
}

impl ToolCall {
    /// As a step of a workflow.
    pub(crate) fn step<S: Slot>(shared: Rc<Shared>, tool: &str, arguments: &impl Serialize) -> Self {
        let request = ToolRequest::new(S::CONNECTOR, tool, arguments).map(Request::Tool);
        Self(Inner::InWorkflow(Operation::new(shared, request)))
    }

    /// Sets all options.
    pub fn options(mut self, options: CallOptions) -> Self {
        if let Some(place) = self.place() {
            *place = options;
        }
        self
    }

    /// Limits one try, without the time that people take: at most 120 s, which is also the host's default.
    pub fn timeout(mut self, limit: Duration) -> Self {
        if let Some(options) = self.place() {
            options.timeout = Some(limit);
        }
        self
    }

    /// Tries a call that failed for no fault of its own (no connection, a busy service) so often again, at most 10 times.
    pub fn retries(mut self, retries: u32) -> Self {
        if let Some(options) = self.place() {
            options.retries = Some(retries);
        }
        self
    }

    /// Uses the caller's credential of this name instead of their default one. Refused if the caller bound one for the
    /// execution.
    pub fn credentials(mut self, name: impl Into<String>) -> Self {
        if let Some(options) = self.place() {
            options.credentials_name = Some(name.into());
        }
        self
    }

    /// Answers from a mock and calls nothing. `false` is the default, and no way out of an execution that runs with mocks.
    pub fn mock(mut self, mock: bool) -> Self {
        if let Some(options) = self.place() {
            options.use_mock = Some(mock);
        }
        self
    }

    /// Calls and reads the answer as `T`, see [`read_answer`].
    ///
    /// # Errors
    /// As [`Tools::call`] and [`read_answer`].
    pub async fn read<T: DeserializeOwned>(self) -> Result<T> {
        read_answer(&self.await?)
    }

    /// Calls a tool of a REST connector and reads what the service said, see [`read_data`]:
    /// `crm.call("get_contact", arguments).data::<Contact>().await?`.
    ///
    /// # Errors
    /// As [`Tools::call`] and [`read_data`].
    pub async fn data<T: DeserializeOwned>(self) -> Result<T> {
        read_data(&self.await?)
    }

    fn place(&mut self) -> Option<&mut CallOptions> {
        match &mut self.0 {
            Inner::InActivity(Stage::New(Ok(call))) => Some(&mut call.options),
            Inner::InWorkflow(operation) => match operation.request() {
                Some(Request::Tool(call)) => Some(&mut call.options),
                _ => None,
            },
            Inner::InActivity(_) => None,
        }
    }
}

impl Future for ToolCall {
    type Output = Result<Value>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Value>> {
        let stage = match &mut self.0 {
            Inner::InWorkflow(operation) => {
                return Pin::new(operation).poll(cx).map(|outcome| parse(&outcome?));
            }
            Inner::InActivity(stage) => stage,
        };
        let mut call = match std::mem::replace(stage, Stage::Ended) {
            Stage::New(Ok(call)) => Box::pin(host::call_tool(call)),
            Stage::New(Err(error)) => return Poll::Ready(Err(error)),
            Stage::Begun(call) => call,
            Stage::Ended => return Poll::Pending,
        };
        let polled = call.as_mut().poll(cx).map(|outcome| parse(&outcome?));
        if polled.is_pending() {
            *stage = Stage::Begun(call);
        }
        polled
    }
}

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

/// Reads what a REST service said as `T`: the `data` of the answer's `{"success", "data", "metadata"}`.
///
/// # Errors
/// [`Error::INVALID_OUTPUT`] if the answer is not from a tool of a REST connector, or its data is not a `T`.
pub fn read_data<T: DeserializeOwned>(answer: &Value) -> Result<T> {
    let Some(data) = answer.pointer("/metadata/mcp_meta/structuredContent/data") else {
        return Err(Error::new(
            Error::INVALID_OUTPUT,
            "the tool's answer has no `data`: only tools of REST connectors answer {success, data, metadata}; read \
             others with `read`",
        )
        .non_retryable());
    };
    T::deserialize(data).map_err(|error| {
        Error::new(
            Error::INVALID_OUTPUT,
            format!("the service's data is not what the plugin expects: {error}"),
        )
        .non_retryable()
    })
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
    fn the_data_of_a_rest_service_is_read_in_one_step() {
        let answer = |data: Value| {
            let envelope = json!({"success": true, "data": data, "metadata": {"status_code": 200}});
            json!({"content": [], "metadata": {"mcp_meta": {"isError": false, "structuredContent": envelope}}})
        };
        assert_eq!(read_data::<Issue>(&answer(json!({"number": 3}))).unwrap(), Issue { number: 3 });
        assert_eq!(read_data::<Option<Issue>>(&answer(Value::Null)).unwrap(), None);
        let error = read_data::<Issue>(&answer(json!("?"))).unwrap_err();
        assert!(error.message().starts_with("the service's data is not what the plugin expects"), "{error}");
        let error = read_data::<Issue>(&json!({"content": []})).unwrap_err();
        assert!(error.message().contains("has no `data`"), "{error}");
    }

    #[test]
    fn an_answer_of_another_shape_says_so() {
        let error = read_answer::<Issue>(&json!({"content": []})).unwrap_err();
        assert_eq!(error.kind(), "InvalidOutput");
    }
}
