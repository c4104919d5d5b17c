//! Reading requests: bodies as JSON, query parameters that may repeat.

use std::{collections::HashMap, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{FromRequest, FromRequestParts, Request},
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;

use crate::error::{ApiError, ApiResult};

/// A body may be so big; inputs of executions have a limit of their own.
pub(crate) const BODY_LIMIT: usize = 16 << 20;

/// How long a request's body may take to come.
const BODY_TIME: Duration = Duration::from_secs(60);

/// A JSON body. An empty one stands for `{}`, because clients send none where everything is optional.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, ApiError> {
        let read = tokio::time::timeout(BODY_TIME, to_bytes(request.into_body(), BODY_LIMIT)).await;
        let read = read.map_err(|_| {
            let detail = format!("the body did not come within {BODY_TIME:?}");
            ApiError::Status(StatusCode::REQUEST_TIMEOUT, detail)
        })?;
        let bytes = read.map_err(|_| {
            let detail = format!("the body is larger than {BODY_LIMIT} bytes");
            ApiError::Status(StatusCode::PAYLOAD_TOO_LARGE, detail)
        })?;
        let text = if bytes.iter().all(u8::is_ascii_whitespace) { b"{}" } else { &bytes[..] };
        match serde_json::from_slice(text) {
            Ok(value) => Ok(Self(value)),
            Err(error) => Err(ApiError::invalid(&["body"], format!("the body is not as expected: {error}"))),
        }
    }
}

/// The query, with every value of every key.
pub(crate) struct Query(HashMap<String, Vec<String>>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::of(&parts.uri)
    }
}

impl Query {
    pub(crate) fn of(uri: &axum::http::Uri) -> ApiResult<Self> {
        let axum::extract::Query(pairs) = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| ApiError::invalid(&["query"], error.to_string()))?;
        let mut values: HashMap<String, Vec<String>> = HashMap::new();
        for (key, value) in pairs {
            values.entry(key).or_default().push(value);
        }
        Ok(Self(values))
    }

    /// The first value of a key; `*` and nothing mean no filter.
    pub(crate) fn filter(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty() && *value != "*")
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.first().map(String::as_str)
    }

    pub(crate) fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn flag(&self, key: &str) -> ApiResult<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => {
                Err(ApiError::invalid(&["query", key], format!("'{other}' is neither true nor false")))
            }
        }
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> ApiResult<Option<T>> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                ApiError::invalid(&["query", key], format!("'{text}' is not a number in the valid range"))
            })
        };
        self.get(key).map(parse).transpose()
    }

    /// A page size: at least 1, at most 1,000. Never clamped: clients take a short page for the last one.
    pub(crate) fn page_size(&self, key: &str, default: usize) -> ApiResult<usize> {
        match self.number(key)?.unwrap_or(default) {
            size @ 1..=1000 => Ok(size),
            _ => Err(ApiError::invalid(&["query", key], "a page has 1 to 1000 entries")),
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
