//! Connectors and credentials (contract §3).

use std::time::Duration;

use airlock_connectors::{Save, Scope, Sharing, Wanted};
use airlock_engine::tools::CallOptions;
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    ApiState,
    body::{JsonBody, Tree, tree_bytes},
    budget::Charge,
    caller::Caller,
    error::{ApiError, ApiResult},
    query::Query,
};

fn scope(text: &str) -> ApiResult<Scope> {
    text.parse().map_err(|_| {
        ApiError::not_found(format!("'{text}' is not a scope: use user, workspace or organization"))
    })
}

/// `POST /v1/connectors`
pub(crate) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(Tree(body)): JsonBody<Tree>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    Ok((
        StatusCode::CREATED,
        Json(state.connectors.create(&caller.principal, caller.is_owner(), body).await?),
    ))
}

/// `GET /v1/connectors`
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    query: Query,
) -> ApiResult<Json<Value>> {
    let size = query.page_size("page_size", 100)?;
    let (mcp, active) = (query.flag("supports_mcp")?, query.flag("active")?);
    Ok(Json(state.connectors.list(&caller.principal, query.filter("cursor"), size, mcp, active)?))
}

/// `GET /v1/connectors/{connector_id_or_name}`
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    query: Query,
) -> ApiResult<Json<Value>> {
    let fetch = query.flag("fetch_user_data")?.unwrap_or(false);
    Ok(Json(state.connectors.get(&caller.principal, &connector, fetch)?))
}

/// `PATCH /v1/connectors/{connector_id}`; with `?approve=true` operations that it changes are approved.
pub(crate) async fn update(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    query: Query,
    JsonBody(Tree(body)): JsonBody<Tree>,
) -> ApiResult<Json<Value>> {
    let (who, is_owner) = (&caller.principal, caller.is_owner());
    let approve = query.flag("approve")?.unwrap_or(false);
    Ok(Json(state.connectors.update(who, is_owner, &connector, body, approve).await?))
}

/// `DELETE /v1/connectors/{connector_id}`
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    Ok(Json(state.connectors.delete(&caller.principal, caller.is_owner(), &connector).await?))
}

/// `GET /v1/connectors/{connector_id_or_name}/tools`, with `all` of our own: an owner sees what cannot be called as well.
pub(crate) async fn tools(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    query: Query,
) -> ApiResult<Held> {
    let (refresh, pretty) = (query.flag("refresh")?.unwrap_or(false), query.flag("pretty")?.unwrap_or(false));
    let (name, all) = (query.filter("credentials_name"), query.flag("all")?.unwrap_or(false));
    if all && !caller.is_owner() {
        let detail = "tools that cannot be called are shown to keys with the role 'owner'".to_owned();
        return Err(ApiError::Status(StatusCode::FORBIDDEN, detail));
    }
    let tools =
        state.connectors.list_tools(&caller.principal, &connector, name, refresh, pretty, all).await?;
    Held::new(&caller, tools)
}

/// `ConnectorCallToolRequest`, with options of our own.
#[derive(Deserialize)]
pub(crate) struct Call {
    arguments: Option<Tree>,
    #[serde(default)]
    options: Options,
}

/// What a caller may want otherwise than usual.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    timeout_ms: Option<u64>,
    retries: Option<u32>,
    credentials_name: Option<String>,
    use_mock: Option<bool>,
}

/// The largest values of options.
const LONGEST_CALL_MS: u64 = 120_000;
const MOST_RETRIES: u32 = 10;

impl Options {
    fn check(self, credentials_name: Option<&str>) -> ApiResult<CallOptions> {
        let invalid =
            |field: &str, message: String| Err(ApiError::invalid(&["body", "options", field], message));
        if self.timeout_ms.is_some_and(|timeout| !(1..=LONGEST_CALL_MS).contains(&timeout)) {
            return invalid("timeout_ms", format!("a call may take 1 to {LONGEST_CALL_MS} ms"));
        }
        if self.retries.is_some_and(|retries| retries > MOST_RETRIES) {
            return invalid("retries", format!("a call is tried again at most {MOST_RETRIES} times"));
        }
        Ok(CallOptions {
            timeout: self.timeout_ms.map(Duration::from_millis),
            retries: self.retries,
            credentials_name: self.credentials_name.or(credentials_name.map(str::to_owned)),
            use_mock: self.use_mock,
        })
    }
}

/// `POST /v1/connectors/{connector_id_or_name}/tools/{tool_name}/call`
pub(crate) async fn call(
    State(state): State<ApiState>,
    Path((connector, tool)): Path<(String, String)>,
    caller: Caller,
    query: Query,
    JsonBody(body): JsonBody<Call>,
) -> ApiResult<Held> {
    let arguments = match body.arguments {
        None | Some(Tree(Value::Null)) => Value::Object(Map::new()),
        Some(Tree(arguments @ Value::Object(_))) => arguments,
        Some(_) => return Err(ApiError::invalid(&["body", "arguments"], "arguments are a JSON object")),
    };
    let options = body.options.check(query.filter("credentials_name"))?;
    let answer =
        state.connectors.call_tool(&caller.principal, &connector, &tool, arguments, &options).await?;
    Held::new(&caller, answer)
}

/// What a service said, charged for from the moment in which it is there, until it is written. The call was made and is
/// in the audit log, whether or not there is room for its answer.
pub(crate) struct Held {
    answer: Value,
    _charge: Charge,
}

impl Held {
    fn new(caller: &Caller, answer: Value) -> ApiResult<Self> {
        let mut charge = caller.visit.charge();
        charge.set(tree_bytes(&answer)).map_err(ApiError::no_room_for_answer)?;
        Ok(Self { answer, _charge: charge })
    }
}

impl IntoResponse for Held {
    fn into_response(self) -> Response {
        Json(self.answer).into_response()
    }
}

/// `GET /v1/connectors/{connector_id_or_name}/auth_url`
pub(crate) async fn auth_url(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    query: Query,
) -> ApiResult<Json<Value>> {
    let wanted = Wanted {
        credentials_name: query.filter("credentials_name"),
        credentials_title: query.filter("credentials_title"),
        app_return_url: query.filter("app_return_url"),
        method_type: query.filter("method_type"),
        github_installation_link: query.flag("github_installation_link")?.unwrap_or(false),
    };
    Ok(Json(state.connectors.auth_url(&caller.principal, &connector, wanted).await?))
}

async fn sharing(
    state: &ApiState,
    caller: &Caller,
    connector: &str,
    sharing: Sharing,
) -> ApiResult<Json<Value>> {
    Ok(Json(state.connectors.share(&caller.principal, caller.is_owner(), connector, sharing).await?))
}

/// `PUT /v1/connectors/{connector_id}/share`
pub(crate) async fn share(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    sharing(&state, &caller, &connector, Sharing::Workspace).await
}

/// `DELETE /v1/connectors/{connector_id}/share`
pub(crate) async fn unshare(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    sharing(&state, &caller, &connector, Sharing::NotInWorkspace).await
}

/// `PUT /v1/connectors/{connector_id}/organization/share`
pub(crate) async fn share_to_organization(
    State(state): State<ApiState>,
    Path((connector, at)): Path<(String, String)>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    only_organization(&at)?;
    caller.must_be_owner()?;
    sharing(&state, &caller, &connector, Sharing::Organization).await
}

/// `DELETE /v1/connectors/{connector_id}/organization/share`
pub(crate) async fn unshare_from_organization(
    State(state): State<ApiState>,
    Path((connector, at)): Path<(String, String)>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    only_organization(&at)?;
    sharing(&state, &caller, &connector, Sharing::NotInOrganization).await
}

fn only_organization(at: &str) -> ApiResult<()> {
    match scope(at)? {
        Scope::Organization => Ok(()),
        _ => Err(ApiError::not_found("a connector is shared with …/share or …/organization/share")),
    }
}

/// `GET /v1/connectors/{connector_id_or_name}/authentication_methods`
pub(crate) async fn methods(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    Ok(Json(state.connectors.authentication_methods(&caller.principal, &connector)?))
}

/// `GET /v1/connectors/{connector_id_or_name}/{consumer_scope}/credentials`
pub(crate) async fn credentials(
    State(state): State<ApiState>,
    Path((connector, at)): Path<(String, String)>,
    caller: Caller,
    query: Query,
) -> ApiResult<Json<Value>> {
    let fetch = query.flag("fetch_default")?.unwrap_or(false);
    let kind = query.filter("auth_type");
    Ok(Json(state.connectors.list_credentials(&caller.principal, &connector, scope(&at)?, kind, fetch)?))
}

/// `POST /v1/connectors/{connector_id_or_name}/{consumer_scope}/credentials`
pub(crate) async fn create_credentials(
    State(state): State<ApiState>,
    Path((connector, at)): Path<(String, String)>,
    caller: Caller,
    JsonBody(Tree(body)): JsonBody<Tree>,
) -> ApiResult<Json<Value>> {
    save(&state, &caller, &connector, &at, body, Save::Create).await
}

/// `PATCH /v1/connectors/{connector_id_or_name}/{consumer_scope}/credentials`
pub(crate) async fn update_credentials(
    State(state): State<ApiState>,
    Path((connector, at)): Path<(String, String)>,
    caller: Caller,
    JsonBody(Tree(body)): JsonBody<Tree>,
) -> ApiResult<Json<Value>> {
    save(&state, &caller, &connector, &at, body, Save::Update).await
}

async fn save(
    state: &ApiState,
    caller: &Caller,
    connector: &str,
    at: &str,
    body: Value,
    mode: Save,
) -> ApiResult<Json<Value>> {
    let scope = scope(at)?;
    shared_needs_owner(caller, &scope)?;
    Ok(Json(state.connectors.save_credentials(&caller.principal, connector, scope, body, mode).await?))
}

/// What everybody's executions would use is the owner's to set.
fn shared_needs_owner(caller: &Caller, scope: &Scope) -> ApiResult<()> {
    match scope {
        Scope::User => Ok(()),
        Scope::Workspace | Scope::Organization => caller.must_be_owner(),
    }
}

/// `DELETE /v1/connectors/{connector_id_or_name}/{consumer_scope}/credentials/{credentials_name}`
pub(crate) async fn delete_credentials(
    State(state): State<ApiState>,
    Path((connector, at, name)): Path<(String, String, String)>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    let scope = scope(&at)?;
    shared_needs_owner(&caller, &scope)?;
    Ok(Json(state.connectors.delete_credentials(&caller.principal, &connector, scope, &name).await?))
}

/// `DELETE /v1/connectors/{connector_id_or_name}/user/credentials`
pub(crate) async fn delete_all_credentials(
    State(state): State<ApiState>,
    Path((connector, at)): Path<(String, String)>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    match scope(&at)? {
        Scope::User => {
            Ok(Json(state.connectors.delete_all_credentials(&caller.principal, &connector).await?))
        }
        _ => Err(ApiError::not_found("only a user's credentials are deleted all at once")),
    }
}

/// `POST /v1/connectors/{connector_id}/{consumer_scope}/activate`. Older clients may send which tools it is about: to leave
/// that out silently would allow what the caller wanted to be asked about.
pub(crate) async fn activate(
    State(state): State<ApiState>,
    Path((connector, at)): Path<(String, String)>,
    caller: Caller,
    JsonBody(Tree(configuration)): JsonBody<Tree>,
) -> ApiResult<Json<Value>> {
    if configuration.as_object().is_none_or(|given| given.values().any(|value| !value.is_null())) {
        let detail = format!(
            "which tools are left out or need consent is not said with the activation: see `airlock connectors control \
             {connector}`"
        );
        return Err(ApiError::Status(StatusCode::NOT_IMPLEMENTED, detail));
    }
    set_active(&state, &caller, &connector, &at, true)
}

/// `POST /v1/connectors/{connector_id}/{consumer_scope}/deactivate`
pub(crate) async fn deactivate(
    State(state): State<ApiState>,
    Path((connector, at)): Path<(String, String)>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    set_active(&state, &caller, &connector, &at, false)
}

fn set_active(
    state: &ApiState,
    caller: &Caller,
    connector: &str,
    at: &str,
    active: bool,
) -> ApiResult<Json<Value>> {
    let scope = scope(at)?;
    shared_needs_owner(caller, &scope)?;
    Ok(Json(state.connectors.set_active(&caller.principal, connector, scope, active)?))
}
