//! What browsers see of an authorisation: the link, and the page that they come back to. No API key is wanted here: the
//! link's id, the state and a cookie say whose it is.

use airlock_connectors::{Arrival, Departure, Problem, Purpose, Returned};
use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use crate::{
    ApiState,
    oauth_pages::{self, confirm, connected},
    query::Query,
};

/// `GET /v1/airlock/oauth/start/{id}`: on to the authorization server, or first to a page that asks.
pub(crate) async fn start(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    if !state.connectors.asks_before_departure() {
        return depart(&state, &id, &headers, StatusCode::FOUND);
    }
    match state.connectors.purpose(&id) {
        Ok(Purpose { connector, user, server, .. }) => {
            let action = format!("/v1/airlock/oauth/start/{id}");
            confirm(&connector, &server, &user, &action).into_response()
        }
        Err(problem) => failed(&problem, ""),
    }
}

/// `POST /v1/airlock/oauth/start/{id}`: the person agreed.
pub(crate) async fn agreed(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    // A form on somebody else's page would skip ours. Browsers say where a form stands; the origin is hidden by our own
    // referrer policy.
    let from_elsewhere = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin");
    match from_elsewhere {
        true => failed(&Problem::OtherBrowser, ""),
        false => depart(&state, &id, &headers, StatusCode::SEE_OTHER),
    }
}

fn depart(state: &ApiState, id: &str, headers: &HeaderMap, status: StatusCode) -> Response {
    match state.connectors.depart(id, headers) {
        Ok(Departure { location, cookie }) => {
            let sent = [
                (header::LOCATION, location),
                (header::SET_COOKIE, cookie),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
                (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            ];
            (status, sent).into_response()
        }
        Err(problem) => failed(&problem, ""),
    }
}

fn failed(problem: &Problem, connector: &str) -> Response {
    let problem = match problem {
        Problem::Unknown => oauth_pages::Problem::Unknown,
        Problem::Expired => oauth_pages::Problem::Expired,
        Problem::Used => oauth_pages::Problem::Used,
        Problem::OtherBrowser => oauth_pages::Problem::OtherBrowser,
        Problem::Denied(reason) => oauth_pages::Problem::Denied { connector, reason },
        Problem::Failed(reason) => oauth_pages::Problem::Failed { connector, reason },
    };
    (StatusCode::BAD_REQUEST, oauth_pages::problem(problem)).into_response()
}

/// `GET /v1/airlock/oauth/callback`: where authorization servers send browsers back to.
pub(crate) async fn callback(State(state): State<ApiState>, headers: HeaderMap, query: Query) -> Response {
    let parameter = |name: &str| query.get(name).map(str::to_owned);
    let returned = Returned {
        code: parameter("code"),
        state: parameter("state"),
        iss: parameter("iss"),
        error: parameter("error"),
        error_description: parameter("error_description"),
    };
    let Arrival { purpose, problem, return_to, clear_cookie } =
        state.connectors.arrive(returned, &headers).await;
    let mut answer = match (return_to.map(String::from).map(HeaderValue::try_from), purpose, problem) {
        (Some(Ok(location)), ..) => {
            let sent = [
                (header::LOCATION, location),
                (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ];
            (StatusCode::FOUND, sent).into_response()
        }
        (_, purpose, Some(problem)) => {
            failed(&problem, purpose.as_ref().map_or("", |purpose| &purpose.connector))
        }
        (_, Some(Purpose { connector, credential, user, .. }), None) => {
            connected(&connector, &credential, &user).into_response()
        }
        (_, None, None) => failed(&Problem::Unknown, ""),
    };
    if let Some(cookie) = clear_cookie {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    answer
}

/// `GET /v1/airlock/oauth/client.json`: airlock as a client (OAuth Client ID Metadata Document).
pub(crate) async fn client(State(state): State<ApiState>) -> Response {
    match state.connectors.client_document() {
        Some(document) => axum::Json(document).into_response(),
        None => {
            let detail = "the daemon has no public https address: see public_url";
            (StatusCode::NOT_FOUND, axum::Json(serde_json::json!({ "detail": detail }))).into_response()
        }
    }
}
