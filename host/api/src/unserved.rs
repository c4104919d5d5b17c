//! Routes that clients know and this version does not serve: 501 with a reason, not 404. And requests that no route takes.

use axum::http::{Method, StatusCode, Uri};

use crate::{caller::Caller, error::ApiError};

/// Part of the contract, not served by this version.
pub(crate) async fn not_yet(_: Caller, method: Method, uri: Uri) -> ApiError {
    let detail = format!("{method} {} is not served by airlock {}", uri.path(), env!("CARGO_PKG_VERSION"));
    ApiError::Status(StatusCode::NOT_IMPLEMENTED, detail)
}

/// No such route.
pub(crate) async fn unknown(method: Method, uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is no {method} {}: see /v1/airlock/openapi.json", uri.path()))
}

/// There is such a route, for other methods.
pub(crate) async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let detail = format!("{} is not there for {method}: see /v1/airlock/openapi.json", uri.path());
    ApiError::Status(StatusCode::METHOD_NOT_ALLOWED, detail)
}

/// A handler panicked. What it said went to standard error and may hold anything, so the answer does not repeat it.
pub(crate) fn panicked() -> ApiError {
    let detail = "the daemon made a mistake while it answered: its log says more";
    ApiError::Status(StatusCode::INTERNAL_SERVER_ERROR, detail.into())
}
