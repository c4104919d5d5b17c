//! Who is calling.

use std::sync::Arc;

use airlock_engine::Principal;
use axum::{
    extract::FromRequestParts,
    http::{StatusCode, header::AUTHORIZATION, request::Parts},
};

use crate::{
    ApiState, Role,
    error::{ApiError, ApiResult},
    keys::Key,
    visit::Visit,
};

/// The holder of a valid API key.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    pub(crate) key: Key,
    pub(crate) visit: Arc<Visit>,
}

impl Caller {
    pub(crate) fn is_owner(&self) -> bool {
        self.key.role == Role::Owner
    }

    pub(crate) fn must_be_owner(&self) -> ApiResult<()> {
        match self.is_owner() {
            true => Ok(()),
            false => Err(ApiError::forbidden("this needs a key with the role 'owner'")),
        }
    }
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let refuse = |detail: String| ApiError::Status(StatusCode::UNAUTHORIZED, detail);
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let text = header.and_then(|value| {
            let (scheme, text) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(text.trim())
        });
        let Some(text) = text else {
            return Err(refuse(
                "this needs an API key: send it as `Authorization: Bearer KEY`; the first one stands in owner.key in \
                 the data folder"
                    .into(),
            ));
        };
        let key = state.keys.check(text).map_err(|why| refuse(why.to_string()))?;
        let visit = parts.extensions.get::<Arc<Visit>>().cloned().unwrap_or_else(|| Visit::alone(state));
        visit.is_of(&key.user)?;
        Ok(Self { principal: key.principal(), key, visit })
    }
}
