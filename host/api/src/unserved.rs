//! Routes that clients know and this version does not serve: 501 with a reason, not 404.

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
