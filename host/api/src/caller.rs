//! Who is calling.

use std::sync::Arc;

use airlock_engine::Principal;
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION, request::Parts},
};
use serde_json::json;

use crate::{
    ApiState, Role,
    description::Description,
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

/// The header in which some clients send the key, beside `Authorization` or instead of it.
const X_API_KEY: &str = "x-api-key";

/// The one key that a request was sent with.
fn key_of(headers: &HeaderMap) -> Result<&str, &'static str> {
    let texts = |name| headers.get_all(name).into_iter().map(|value| value.to_str().unwrap_or("").trim());
    let given = texts(AUTHORIZATION.as_str())
        .filter_map(|value| {
            let (scheme, text) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(text.trim())
        })
        .chain(texts(X_API_KEY).filter(|text| !text.is_empty()));
    let mut key = None;
    for text in given {
        if key.is_some_and(|key| key != text) {
            return Err(
                "the request was sent with two different keys: send one, as `Authorization: Bearer KEY` or as \
                        `x-api-key: KEY`",
            );
        }
        key = Some(text);
    }
    key.ok_or(
        "this needs an API key: send it as `Authorization: Bearer KEY` (or `x-api-key: KEY`); the first one stands in \
         owner.key in the data folder",
    )
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let refuse = |detail: String| ApiError::Status(StatusCode::UNAUTHORIZED, detail);
        let text = key_of(&parts.headers).map_err(|detail| refuse(detail.into()))?;
        let key = state.keys.check(text).map_err(|why| refuse(why.to_string()))?;
        let visit = parts.extensions.get::<Arc<Visit>>().cloned().unwrap_or_else(|| Visit::alone(state));
        visit.is_of(&key.user)?;
        look_through(parts, &visit)?;
        Ok(Self { principal: key.principal(), key, visit })
    }
}

/// Names in the query that the operation does not know. Whoever sent one wished for something and does not get it.
fn look_through(parts: &Parts, visit: &Visit) -> ApiResult<()> {
    // What is not served yet takes everything.
    let Some(about) = parts.extensions.get::<&'static Description>() else { return Ok(()) };
    let takes = about.takes(parts.method.as_str());
    let strangers = takes.strangers(&parts.uri)?;
    if about.path.starts_with("/v1/airlock/") && !strangers.is_empty() {
        let place = |name: &String| (json!(["query", name]), takes.unknown(name));
        return Err(ApiError::Invalid(strangers.iter().map(place).collect()));
    }
    strangers.iter().for_each(|name| visit.ignored(&format!("?{name}")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_comes_in_either_header_and_never_two_of_them() {
        let key = |headers: &[(&'static str, &'static str)]| {
            let mut all = HeaderMap::new();
            for (name, value) in headers {
                all.append(*name, HeaderValue::from_static(value));
            }
            key_of(&all).map(str::to_owned)
        };
        for headers in [
            &[("authorization", "Bearer a")][..],
            &[("authorization", "bearer  a ")],
            &[("x-api-key", "a")],
            &[("x-api-key", "a"), ("authorization", "Bearer a")],
            &[("x-api-key", "a"), ("authorization", "Basic dTpw")],
            &[("x-api-key", ""), ("authorization", "Bearer a")],
        ] {
            assert_eq!(key(headers).as_deref(), Ok("a"), "{headers:?}");
        }
        for headers in [
            &[("x-api-key", "a"), ("authorization", "Bearer b")][..],
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
            &[("x-api-key", "a"), ("x-api-key", "b")],
        ] {
            assert!(key(headers).is_err_and(|why| why.contains("two different keys")), "{headers:?}");
        }
        for headers in [&[][..], &[("authorization", "Basic dTpw")], &[("authorization", "a")]] {
            assert!(key(headers).is_err_and(|why| why.contains("needs an API key")), "{headers:?}");
        }
    }
}
