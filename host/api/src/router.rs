//! Which request goes where. One table serves the router and the API's own description.

use std::{future::Ready, time::Instant};

use axum::{
    Extension, Json, Router,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, delete, get, post, put},
};
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    ApiState, audit, connector_rules as rules, connectors as c, deployments as d,
    description::{Description, Operation, document},
    execute, executions as x, messages as m, oauth, own,
    parameters::Takes,
    questions as q, runs, schedules as s, stream, unserved,
    visit::attend,
    workflow_lists as wl, workflows as w,
};

/// A path, and what answers.
struct Route {
    about: Description,
    handler: fn() -> MethodRouter<ApiState>,
}

macro_rules! routes {
    ($($path:literal $($public:ident)? [$($method:literal $(($query:ty))? $about:literal),+] $handler:expr;)*) => {
        &[$(Route {
            about: Description {
                path: $path,
                methods: &[$(Operation {
                    method: $method,
                    about: $about,
                    query: routes!(@query $($query)?),
                }),+],
                public: routes!(@public $($public)?),
            },
            handler: || $handler,
        }),*]
    };
    (@query) => { Takes::NOTHING };
    (@query $query:ty) => { Takes::of::<$query>() };
    (@public) => { false };
    (@public public) => { true };
}

/// Every route that is served. What a method takes in its query stands before what it is about.
static ROUTES: &[Route] = routes! {
    "/health" public ["get" "Whether the daemon answers"] get(own::health);
    "/v1/airlock/openapi.json" public ["get" "This document"] get(description);
    "/v1/airlock/status" ["get" "Version, executions, sandbox"] get(own::status);
    "/v1/airlock/plugins" ["get" "The files in the plugin folder, what became of them, and what their connector slots find"]
        get(own::plugins);
    "/v1/airlock/plugins/{name}" ["get" (own::PluginQuery) "One of them; with check=true the servers of its connectors are asked"] get(own::plugin);
    "/v1/airlock/keys" ["get" "All API keys, without their text", "post" "Make an API key"]
        get(own::keys).post(own::create_key);
    "/v1/airlock/keys/{id}" ["delete" "Revoke an API key"] delete(own::revoke_key);
    "/v1/airlock/executions/upgrade" ["post" "Move open executions to newer code, or only try"] post(x::upgrade);
    "/v1/airlock/executions/{execution_id}/pause" ["post" "Let it rest"] post(x::pause);
    "/v1/airlock/executions/{execution_id}/resume" ["post" "Let it go on"] post(x::resume);
    "/v1/airlock/executions/{execution_id}/questions" ["get" "What it asks people"] get(q::list);
    "/v1/airlock/executions/{execution_id}/questions/{task_id}" ["post" "Answer a question"] post(q::answer);
    "/v1/airlock/executions/{execution_id}/updates" ["post" "Update it, and wait as far as wanted"]
        post(m::update_state);
    "/v1/airlock/executions/{execution_id}/updates/{update_id}" ["get" "How far an update has come"]
        get(m::get_update);
    "/v1/airlock/workflows/{workflow}/signal-with-start" ["post" "Signal an execution, starting it if need be"]
        post(m::signal_with_start);
    "/v1/airlock/executions/{execution_id}/unblock" ["post" "Try a blocked execution again"] post(x::unblock);
    "/v1/whoami" ["get" "Who the caller is"] get(own::whoami);
    "/v1/users/me" ["get" "Who the caller is"] get(own::identity);

    "/v1/workflows" ["get" (wl::ListQuery) "Workflows that are served"] get(wl::list);
    "/v1/workflows/archive" ["put" "Archive workflows"] put(w::archive_many);
    "/v1/workflows/unarchive" ["put" "Unarchive workflows"] put(w::unarchive_many);
    "/v1/workflows/registrations" ["get" (wl::RegistrationsQuery) "Workflows with their schemas"] get(wl::registrations);
    "/v1/workflows/registrations/{id}" ["get" (w::RegistrationQuery) "One of them"] get(w::registration);
    "/v1/workflows/registrations/{id}/execute" ["post" "Start an execution"] post(execute::execute_registration);
    "/v1/workflows/workers/whoami" ["get" "The namespace of payloads"] get(own::worker_whoami);
    "/v1/workflows/events/stream" ["get" (stream::EventsQuery) "Events as they happen (server-sent events)"] get(stream::events);
    "/v1/workflows/events/list" ["get" (stream::ListQuery) "Stored events"] get(stream::list);
    "/v1/workflows/runs" ["get" (runs::ListQuery) "Executions, newest first"] get(runs::list);
    "/v1/workflows/runs/{run_id}" ["get" "One run"] get(runs::get);
    "/v1/workflows/runs/{run_id}/history" ["get" (x::HistoryQuery) "Its history"] get(runs::history);
    "/v1/workflows/executions/cancel" ["post" "Ask executions to stop"] post(x::cancel_many);
    "/v1/workflows/executions/terminate" ["post" "End executions"] post(x::terminate_many);
    "/v1/workflows/executions/{execution_id}" ["get" (x::GetQuery) "One execution"] get(x::get);
    "/v1/workflows/executions/{execution_id}/history" ["get" (x::HistoryQuery) "Its history"] get(x::history);
    "/v1/workflows/executions/{execution_id}/stream" ["get" (stream::ExecutionQuery) "Its events (server-sent events)"] get(stream::execution);
    "/v1/workflows/executions/{execution_id}/cancel" ["post" "Ask it to stop"] post(x::cancel);
    "/v1/workflows/executions/{execution_id}/terminate" ["post" "End it"] post(x::terminate);
    "/v1/workflows/executions/{execution_id}/signals" ["post" "Send a signal"] post(m::signal);
    "/v1/workflows/executions/{execution_id}/queries" ["post" "Ask it something"] post(m::query);
    "/v1/workflows/executions/{execution_id}/updates" ["post" "Update it and wait for the answer"] post(m::update);
    "/v1/workflows/executions/{execution_id}/reset" ["post" "Start it again from an event"] post(x::reset);
    "/v1/workflows/deployments"
        ["get" (d::ListQuery) "The files in the plugin folder, as deployments", "post" "Refused: nothing is built here"]
        get(d::list).post(d::create);
    "/v1/workflows/deployments/{name}"
        ["get" (d::GetQuery) "One of them with its worker", "patch" "Refused: it is not managed by the API",
            "delete" "Refused: it is not managed by the API"]
        get(d::get).patch(d::manage).delete(d::manage);
    "/v1/workflows/deployments/{name}/workers" ["get" (d::WorkersQuery) "What runs it: the daemon"] get(d::workers);
    "/v1/workflows/deployments/{name}/start" ["post" "Refused: it is not managed by the API"] post(d::manage);
    "/v1/workflows/deployments/{name}/stop" ["post" "Refused: it is not managed by the API"] post(d::manage);
    "/v1/workflows/deployments/{name}/restart" ["post" "Refused: it is not managed by the API"] post(d::manage);
    "/v1/workflows/deployments/{name}/unharden" ["post" "Refused: none is hardened"] post(d::unharden);
    "/v1/workflows/deployments/{name}/archive" ["get" "Not there: it was not built from an archive"] get(d::archive);
    "/v1/workflows/schedules" ["get" (s::ListQuery) "Schedules", "post" "Make a schedule"] get(s::list).post(s::create);
    "/v1/workflows/schedules/{schedule_id}"
        ["get" "One schedule", "patch" "Change what is given", "delete" "Remove it; its executions go on"]
        get(s::get).patch(s::update).delete(s::delete);
    "/v1/workflows/schedules/{schedule_id}/pause" ["post" "Let times pass by"] post(s::pause);
    "/v1/workflows/schedules/{schedule_id}/resume" ["post" "Let times count again"] post(s::resume);
    "/v1/workflows/schedules/{schedule_id}/trigger" ["post" "Start an execution now"] post(s::trigger);
    "/v1/airlock/schedules/{schedule_id}/backfill" ["post" "Start executions for past times"] post(s::backfill);
    "/v1/workflows/{workflow}" ["get" "One workflow", "put" "Change its title, tags …"] get(w::get).put(w::update);
    "/v1/workflows/{workflow}/execute" ["post" "Start an execution"] post(execute::execute);
    "/v1/workflows/{workflow}/archive" ["put" "Archive it"] put(w::archive);
    "/v1/workflows/{workflow}/unarchive" ["put" "Unarchive it"] put(w::unarchive);
    "/v1/workflows/{workflow}/tags" ["post" "Add tags"] post(w::add_tags);

    "/v1/connectors" ["get" (c::ListQuery) "Connectors that the caller sees", "post" "Register one"] get(c::list).post(c::create);
    "/v1/connectors/{connector}" ["get" (c::GetQuery) "One connector", "patch" (c::Approval) "Change it", "delete" "Remove it"]
        get(c::get).patch(c::update).delete(c::delete);
    "/v1/connectors/{connector}/tools" ["get" (c::ToolsQuery) "Its tools"] get(c::tools);
    "/v1/connectors/{connector}/tools/{tool}/call" ["post" (c::CallQuery) "Call a tool"] post(c::call);
    "/v1/connectors/{connector}/auth_url" ["get" (c::AuthUrlQuery) "A link to authorise in a browser"] get(c::auth_url);
    "/v1/connectors/{connector}/share" ["put" "Share it in the workspace", "delete" "Make it private again"]
        put(c::share).delete(c::unshare);
    "/v1/connectors/{connector}/{scope}/share"
        ["put" "Share it in the organisation", "delete" "Make it private again"]
        put(c::share_to_organization).delete(c::unshare_from_organization);
    "/v1/airlock/connectors/{connector}/control" ["get" "What it may do", "put" "Say what it may do"]
        get(rules::control).put(rules::set_control);
    "/v1/airlock/connectors/{connector}/check" ["post" "Try it step by step"] post(rules::check);
    "/v1/airlock/connectors/{connector}/pins" ["get" "Its pinned tools"] get(rules::pins);
    "/v1/airlock/connectors/{connector}/pins/approve" ["post" "Approve a changed tool, or all"] post(rules::approve);
    "/v1/airlock/connectors/{connector}/mocks" ["get" "Its mocks", "put" "Write its mocks", "post" "Add one", "delete" "Remove them"]
        get(rules::mocks).put(rules::set_mocks).post(rules::add_mock).delete(rules::clear_mocks);
    "/v1/airlock/connectors/{connector}/openapi" ["put" (rules::ImportQuery) "Import an OpenAPI document"] put(rules::import);
    "/v1/airlock/audit" ["get" (audit::ListQuery) "The audit log"] get(audit::list);
    "/v1/airlock/audit/follow" ["get" (audit::FollowQuery) "The audit log as it grows (server-sent events)"] get(audit::follow);
    "/v1/airlock/audit/export" ["get" (audit::ExportQuery) "The audit log as JSON lines"] get(audit::export);
    "/v1/airlock/audit/verify" ["post" "Check the chain of the audit log"] post(audit::verify);
    "/v1/airlock/audit/accept" ["post" "Accept that the audit log is not whole"] post(audit::accept);
    "/v1/airlock/audit/head" ["get" "Where the audit log ends, to be kept elsewhere"] get(audit::head);
    "/v1/airlock/vault/verify" ["post" "Open everything that is sealed"] post(audit::verify_vault);
    "/v1/airlock/vault/rotate" ["post" "Change the master key"] post(audit::rotate);
    "/v1/airlock/oauth/start/{id}" public ["get" "Where an authorisation link leads", "post" "After its page"]
        get(oauth::start).post(oauth::agreed);
    "/v1/airlock/oauth/callback" public ["get" "Where authorization servers send browsers back to"]
        get(oauth::callback);
    "/v1/airlock/oauth/client.json" public ["get" "airlock as an OAuth client"] get(oauth::client);
    "/v1/connectors/{connector}/authentication_methods" ["get" "How one authenticates"] get(c::methods);
    "/v1/connectors/{connector}/{scope}/credentials"
        ["get" (c::CredentialsQuery) "Credentials, without secrets", "post" "Store one", "patch" "Change one", "delete" "Delete the user's"]
        get(c::credentials).post(c::create_credentials).patch(c::update_credentials).delete(c::delete_all_credentials);
    "/v1/connectors/{connector}/{scope}/credentials/{name}" ["delete" "Delete a credential"]
        delete(c::delete_credentials);
    "/v1/connectors/{connector}/{scope}/activate" ["post" "Activate it for a scope"] post(c::activate);
    "/v1/connectors/{connector}/{scope}/deactivate" ["post" "Deactivate it for a scope"] post(c::deactivate);
};

/// `GET /v1/airlock/openapi.json`
fn description() -> Ready<Json<Value>> {
    std::future::ready(document(ROUTES.iter().map(|route| &route.about)))
}

/// All routes on the given state.
pub fn router(state: ApiState) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.about.path, (route.handler)().layer(Extension(&route.about)));
    }
    let not_yet = || axum::routing::any(unserved::not_yet);
    router
        .route("/v1/workflows/executions/{id}/logs", not_yet())
        .route("/v1/workflows/executions/{id}/logs/stream", not_yet())
        .route("/v1/workflows/executions/{id}/trace/{what}", not_yet())
        .route("/v1/workflows/{workflow}/metrics", not_yet())
        .route("/v1/workflows/deployments/{name}/logs", not_yet())
        .route("/v1/workflows/deployments/{name}/logs/stream", not_yet())
        .route("/v1/connectors-gateway/{*rest}", not_yet())
        .fallback(unserved::unknown)
        .method_not_allowed_fallback(unserved::wrong_method)
        .layer(CatchPanicLayer::custom(|_| unserved::panicked().into_response()))
        .layer(middleware::from_fn_with_state(state.clone(), attend))
        .layer(middleware::from_fn(trace))
        .with_state(state)
}

/// One line a request in the log at debug. The query stays out: it is free text of the caller's.
async fn trace(request: Request, next: Next) -> Response {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return next.run(request).await;
    }
    let (method, path, began) = (request.method().clone(), request.uri().path().to_owned(), Instant::now());
    let response = next.run(request).await;
    tracing::debug!(%method, path, status = response.status().as_u16(), took = ?began.elapsed(), "request");
    response
}
