//! Connectors and credentials (contract §3).

use std::time::Duration;

use airlock_connectors::{Save, Scope, Sharing, Wanted};
use airlock_engine::tools::CallOptions;
use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    ApiState,
    body::{JsonBody, Tree, tree_bytes},
    budget::Charge,
    caller::Caller,
    client::Client,
    cursor,
    error::{ApiError, ApiResult},
    parameters::{Flag, PageSize, Query, invalid, parameters},
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
    client: Client,
    JsonBody(Tree(body)): JsonBody<Tree>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let created = state.connectors.create(&caller.principal, caller.is_owner(), body).await?;
    Ok((StatusCode::CREATED, client.shown(created)))
}

parameters! {
    /// Of `GET /v1/connectors`.
    pub(crate) struct ListQuery {
        /// Those that speak MCP, or the others.
        supports_mcp: Option<bool>,
        /// Those that are active for the caller, or the others.
        active: Option<bool>,
        /// `pagination.next_cursor` of the page before.
        cursor: Option<String>,
        /// How many a page has.
        page_size: PageSize<100>,
    }
}

/// The name of the list in its cursors.
const CONNECTORS: &str = "connectors";

/// `GET /v1/connectors`
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    client: Client,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<Value>> {
    let after = query.cursor.map(|token| cursor::key(CONNECTORS, &token)).transpose();
    let after = after.map_err(|message| invalid("cursor", message))?;
    let (size, mcp, active) = (*query.page_size, query.supports_mcp, query.active);
    let mut page = state.connectors.list(&caller.principal, after.as_deref(), size, mcp, active)?;
    let next = &mut page["pagination"]["next_cursor"];
    if let Some(name) = next.as_str() {
        *next = cursor::after(CONNECTORS, name).into();
    }
    page["items"].as_array_mut().into_iter().flatten().for_each(|connector| client.adapt(connector));
    Ok(Json(page))
}

parameters! {
    /// Of `GET /v1/connectors/{connector_id_or_name}`.
    pub(crate) struct GetQuery {
        /// With the caller's credentials.
        fetch_user_data: Flag<false>,
        /// The same, as older clients call it.
        fetch_customer_data: Flag<false>,
    }
}

/// `GET /v1/connectors/{connector_id_or_name}`
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    client: Client,
    Query(query): Query<GetQuery>,
) -> ApiResult<Json<Value>> {
    let fetch = *query.fetch_user_data || *query.fetch_customer_data;
    Ok(client.shown(state.connectors.get(&caller.principal, &connector, fetch)?))
}

parameters! {
    /// Of `PATCH /v1/connectors/{connector_id}`.
    pub(crate) struct Approval {
        /// Approve the operations that this changes.
        approve: Flag<false>,
    }
}

/// `PATCH /v1/connectors/{connector_id}`; with `?approve=true` operations that it changes are approved.
pub(crate) async fn update(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    client: Client,
    Query(query): Query<Approval>,
    JsonBody(Tree(body)): JsonBody<Tree>,
) -> ApiResult<Json<Value>> {
    let (who, is_owner) = (&caller.principal, caller.is_owner());
    let updated = state.connectors.update(who, is_owner, &connector, body, *query.approve).await?;
    Ok(client.shown(updated))
}

/// `DELETE /v1/connectors/{connector_id}`
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
) -> ApiResult<Json<Value>> {
    Ok(Json(state.connectors.delete(&caller.principal, caller.is_owner(), &connector).await?))
}

parameters! {
    /// Of `GET /v1/connectors/{connector_id_or_name}/tools`.
    pub(crate) struct ToolsQuery {
        /// Which page, from 1 on: the first if nothing is said. A page behind the last is empty.
        page: Option<u64>,
        /// How many tools a page has; without it and `page` all. `airlock-total` in the answer says how many there are.
        page_size: Option<u64>,
        /// Ask the server even if it was asked lately.
        refresh: Flag<false>,
        /// Less about each.
        pretty: Flag<false>,
        /// With the credential of this name.
        credentials_name: Option<String>,
        /// For owners: also those that cannot be called.
        all: Flag<false>,
    }
}

/// The header of an answer with a page of tools: how many there are in all.
const TOTAL: HeaderName = HeaderName::from_static("airlock-total");

/// `GET /v1/connectors/{connector_id_or_name}/tools`, with `all` of our own: an owner sees what cannot be called as well.
pub(crate) async fn tools(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    Query(query): Query<ToolsQuery>,
) -> ApiResult<Response> {
    if *query.all && !caller.is_owner() {
        let detail = "tools that cannot be called are shown to keys with the role 'owner'".to_owned();
        return Err(ApiError::Status(StatusCode::FORBIDDEN, detail));
    }
    let page = Page::of(query.page, query.page_size)?;
    let (name, who) = (query.credentials_name.as_deref(), &caller.principal);
    let listed =
        state.connectors.list_tools(who, &connector, name, *query.refresh, *query.pretty, *query.all);
    let mut tools = listed.await?;
    let total = tools.as_array().map_or(0, Vec::len);
    if let Value::Array(tools) = &mut tools {
        page.cut(tools);
    }
    let total = [(TOTAL, HeaderValue::from(total))];
    Ok((total, Held::new(&caller, tools)?).into_response())
}

/// A part of a list.
struct Page {
    skipped: usize,
    size: usize,
}

impl Page {
    fn of(page: Option<u64>, size: Option<u64>) -> ApiResult<Self> {
        let number = |name: &str, value: Option<u64>, default: usize| match value.map(usize::try_from) {
            None => Ok(default),
            Some(Ok(value)) if value > 0 => Ok(value),
            Some(_) => Err(invalid(name, "it is a number from 1 on")),
        };
        // Who pages without a size pages as the oldest client does.
        let all = if page.is_some() { 100 } else { usize::MAX };
        let (page, size) = (number("page", page, 1)?, number("page_size", size, all)?);
        Ok(Self { skipped: (page - 1).saturating_mul(size), size })
    }

    fn cut<T>(&self, list: &mut Vec<T>) {
        list.drain(..self.skipped.min(list.len()));
        list.truncate(self.size);
    }
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

parameters! {
    /// Of `POST /v1/connectors/{connector_id_or_name}/tools/{tool_name}/call`.
    pub(crate) struct CallQuery {
        /// With the credential of this name.
        credentials_name: Option<String>,
    }
}

/// `POST /v1/connectors/{connector_id_or_name}/tools/{tool_name}/call`
pub(crate) async fn call(
    State(state): State<ApiState>,
    Path((connector, tool)): Path<(String, String)>,
    caller: Caller,
    Query(query): Query<CallQuery>,
    JsonBody(body): JsonBody<Call>,
) -> ApiResult<Held> {
    let arguments = match body.arguments {
        None | Some(Tree(Value::Null)) => Value::Object(Map::new()),
        Some(Tree(arguments @ Value::Object(_))) => arguments,
        Some(_) => return Err(ApiError::invalid(&["body", "arguments"], "arguments are a JSON object")),
    };
    let options = body.options.check(query.credentials_name.as_deref())?;
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

parameters! {
    /// Of `GET /v1/connectors/{connector_id_or_name}/auth_url`.
    pub(crate) struct AuthUrlQuery {
        /// Where the browser is sent afterwards.
        app_return_url: Option<String>,
        /// Which of several methods.
        method_type: Option<String>,
        /// The name of the credential that comes of it.
        credentials_name: Option<String>,
        /// Its title.
        credentials_title: Option<String>,
        /// A link to install a GitHub app. There is none here.
        github_installation_link: Flag<false>,
    }
}

/// `GET /v1/connectors/{connector_id_or_name}/auth_url`
pub(crate) async fn auth_url(
    State(state): State<ApiState>,
    Path(connector): Path<String>,
    caller: Caller,
    Query(query): Query<AuthUrlQuery>,
) -> ApiResult<Json<Value>> {
    let wanted = Wanted {
        credentials_name: query.credentials_name.as_deref(),
        credentials_title: query.credentials_title.as_deref(),
        app_return_url: query.app_return_url.as_deref(),
        method_type: query.method_type.as_deref(),
        github_installation_link: *query.github_installation_link,
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

parameters! {
    /// Of `GET /v1/connectors/{connector_id_or_name}/{consumer_scope}/credentials`.
    pub(crate) struct CredentialsQuery {
        /// Those of this method.
        auth_type: Option<String>,
        /// Only the default ones.
        fetch_default: Flag<false>,
    }
}

/// `GET /v1/connectors/{connector_id_or_name}/{consumer_scope}/credentials`
pub(crate) async fn credentials(
    State(state): State<ApiState>,
    Path((connector, at)): Path<(String, String)>,
    caller: Caller,
    Query(query): Query<CredentialsQuery>,
) -> ApiResult<Json<Value>> {
    let (fetch, kind) = (*query.fetch_default, query.auth_type.as_deref());
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
