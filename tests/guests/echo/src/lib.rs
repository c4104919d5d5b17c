//! Calls any tool of the connector `reflector`, from an activity and from a workflow.

use std::time::Duration;

use airlock::{Authorised, CallOptions, Result, Tools, Workflow, join};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

airlock::connector!(Reflector = "reflector");
airlock::connector!(
    /// The same, but nobody checks beforehand.
    Late = "reflector",
    auto_auth = false
);

/// A call to make.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct ToolCall {
    tool: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

/// A call with options.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct OptionalCall {
    #[serde(flatten)]
    call: ToolCall,
    timeout_ms: Option<u64>,
    retries: Option<u32>,
    credentials_name: Option<String>,
    use_mock: Option<bool>,
}

impl OptionalCall {
    fn options(&self) -> CallOptions {
        CallOptions {
            timeout: self.timeout_ms.map(Duration::from_millis),
            retries: self.retries,
            credentials_name: self.credentials_name.clone(),
            use_mock: self.use_mock,
        }
    }
}

/// The connector that is authorised.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Who {
    connector_name: String,
    connector_id: String,
    credentials_name: Option<String>,
}

impl From<Authorised> for Who {
    fn from(who: Authorised) -> Self {
        Self {
            connector_name: who.connector_name,
            connector_id: who.connector_id,
            credentials_name: who.credentials_name,
        }
    }
}

/// Calls a tool and gives its whole answer.
#[airlock::activity(name = "call-tool", retry(attempts = 1))]
async fn call_tool(call: ToolCall, reflector: Tools<Reflector>) -> Result<Value> {
    reflector.call(&call.tool, &call.arguments).await
}

/// Calls a tool with options and gives its data.
#[airlock::activity(name = "call-tool-with-options", retry(attempts = 1))]
async fn call_tool_with_options(wanted: OptionalCall, reflector: Tools<Reflector>) -> Result<Value> {
    let ToolCall { tool, arguments } = &wanted.call;
    reflector.call(tool, arguments).options(wanted.options()).data().await
}

/// Calls a tool twice at once.
#[airlock::activity(name = "call-tool-twice", retry(attempts = 1))]
async fn call_tool_twice(call: ToolCall, reflector: Tools<Reflector>) -> Result<Vec<Value>> {
    let (a, b) =
        join!(reflector.call(&call.tool, &call.arguments), reflector.call(&call.tool, &call.arguments));
    Ok(vec![a?, b?])
}

/// Lists the tools.
#[airlock::activity(name = "list-tools", retry(attempts = 1))]
async fn list_tools(reflector: Tools<Reflector>) -> Result<Vec<Value>> {
    reflector.list().await
}

/// Waits for authorisation.
#[airlock::activity(name = "authorise", connectors(Late), retry(attempts = 1))]
async fn authorise() -> Result<Who> {
    Ok(airlock::await_auth::<Late>().await?.into())
}

/// Calls a tool in an activity.
#[airlock::workflow(name = "echo", on_behalf_of, connectors(Reflector))]
async fn echo(ctx: Workflow, call: ToolCall) -> Result<Value> {
    ctx.activity(call_tool, call).await
}

/// Calls a tool twice at once in an activity.
#[airlock::workflow(name = "echo-twice", on_behalf_of, connectors(Reflector))]
async fn echo_twice(ctx: Workflow, call: ToolCall) -> Result<Vec<Value>> {
    ctx.activity(call_tool_twice, call).await
}

/// Calls a tool as a step of the workflow.
#[airlock::workflow(name = "echo-in-workflow", on_behalf_of, connectors(Reflector))]
async fn echo_in_workflow(ctx: Workflow, call: ToolCall) -> Result<Value> {
    ctx.call_tool::<Reflector>(&call.tool, &call.arguments).await
}

/// Calls a tool on behalf of nobody, as schedules do.
#[airlock::workflow(name = "echo-alone", connectors(Reflector))]
async fn echo_alone(ctx: Workflow, call: ToolCall) -> Result<Value> {
    ctx.call_tool::<Reflector>(&call.tool, &call.arguments).await
}

/// Calls a tool of a REST connector with options in an activity.
#[airlock::workflow(name = "data", on_behalf_of, connectors(Reflector))]
async fn data(ctx: Workflow, wanted: OptionalCall) -> Result<Value> {
    ctx.activity(call_tool_with_options, wanted).await
}

/// Calls a tool of a REST connector with options as a step of the workflow.
#[airlock::workflow(name = "data-in-workflow", on_behalf_of, connectors(Reflector))]
async fn data_in_workflow(ctx: Workflow, wanted: OptionalCall) -> Result<Value> {
    let ToolCall { tool, arguments } = &wanted.call;
    ctx.call_tool::<Reflector>(tool, arguments).options(wanted.options()).data().await
}

/// Lists the tools in an activity and in the workflow.
#[airlock::workflow(name = "echo-list", on_behalf_of, connectors(Reflector))]
async fn echo_list(ctx: Workflow) -> Result<Vec<Vec<Value>>> {
    let (a, b) = join!(ctx.activity(list_tools, ()), ctx.list_tools::<Reflector>());
    Ok(vec![a?, b?])
}

/// Waits for authorisation in an activity.
#[airlock::workflow(name = "authorise", on_behalf_of, connectors(Late))]
async fn authorise_in_activity(ctx: Workflow) -> Result<Who> {
    ctx.activity(authorise, ()).await
}

/// Waits for authorisation in the workflow.
#[airlock::workflow(name = "authorise-in-workflow", on_behalf_of, connectors(Late))]
async fn authorise_in_workflow(ctx: Workflow) -> Result<Who> {
    Ok(ctx.await_auth::<Late>().await?.into())
}

airlock::plugin!(
    workflows: [
        echo,
        echo_twice,
        echo_in_workflow,
        echo_alone,
        data,
        data_in_workflow,
        echo_list,
        authorise_in_activity,
        authorise_in_workflow
    ],
    activities: [call_tool, call_tool_with_options, call_tool_twice, list_tools, authorise],
);
