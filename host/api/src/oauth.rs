//! What browsers see of an authorisation: the link, and the page that they come back to. No API key is wanted here: the
//! link's id, the state and a cookie say whose it is.

use airlock_connectors::{Arrival, Departure, Problem, Purpose, Returned};
use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Request, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use uuid::Uuid;

use crate::{
    ApiState, body,
    oauth_pages::{self, confirm, connected},
    parameters::Given,
};

/// What the page's own form sends back, which no other page knows.
const TOKEN: &str = "airlock_oauth_page";

/// Bytes of the page's form.
const FORM: usize = 4 << 10;

/// `GET /v1/airlock/oauth/start/{id}`: a page that says who will be able to use what, and asks. Nobody is sent on to sign in
/// for somebody else without having seen it.
pub(crate) async fn start(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let purpose = match state.connectors.purpose(&id) {
        Ok(purpose) => purpose,
        Err(problem) => return failed(&problem, ""),
    };
    let action = format!("/v1/airlock/oauth/start/{id}");
    // Of several windows none makes the others useless.
    let token = token(&headers).map_or_else(|| format!("{0:x}{1:x}", random(), random()), str::to_owned);
    let secure = if state.connectors.are_pages_secure() { "; Secure" } else { "" };
    let cookie = format!("{TOKEN}={token}; Path={action}; Max-Age=600; HttpOnly; SameSite=Strict{secure}");
    let mut page = confirm(&purpose, &token, &action).into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        page.headers_mut().append(header::SET_COOKIE, cookie);
    }
    page
}

fn random() -> u128 {
    Uuid::new_v4().as_u128()
}

/// The token that a browser was given.
fn token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, token) = pairs.find(|(name, _)| *name == TOKEN)?;
    (token.len() >= 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(token)
}

/// `POST /v1/airlock/oauth/start/{id}`: the person agreed.
pub(crate) async fn agreed(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Response {
    let headers = request.headers().clone();
    let form = match body::read(request, &state, FORM).await {
        Ok(form) => String::from_utf8(form.into_parts().0).unwrap_or_default(),
        Err(error) => return error.into_response(),
    };
    // A form on somebody else's page would skip ours. Browsers say where a form stands (the origin is hidden by our own
    // referrer policy), and only our page knows what the browser was given with it.
    let from_elsewhere = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin");
    let sent = form.split('&').find_map(|pair| pair.strip_prefix("token="));
    let is_ours = sent.is_some() && sent == token(&headers);
    match from_elsewhere || !is_ours {
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
pub(crate) async fn callback(State(state): State<ApiState>, headers: HeaderMap, given: Given) -> Response {
    let parameter = |name: &str| given.first(name).map(str::to_owned);
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
