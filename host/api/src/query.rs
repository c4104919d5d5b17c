//! Query parameters, which may repeat.

use std::collections::HashMap;

use axum::{extract::FromRequestParts, http::request::Parts};

use crate::error::{ApiError, ApiResult};

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
