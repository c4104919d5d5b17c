//! The one way in which bodies of requests are read: bounded in size, in time as a whole and without progress, charged for
//! while they are held, and parsed off the threads that serve others when they are large. A test sees to it that no handler
//! reads one in another way.

use std::sync::Arc;

use airlock_engine::json::{MOST_VALUES, values};
use axum::{
    body::{Body, Bytes, HttpBody as _},
    extract::{FromRequest, Request},
    http::{StatusCode, header},
};
use futures::future::poll_fn;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use tokio::time::{Instant, timeout_at};

use crate::{
    ApiState,
    budget::{Charge, FREE},
    error::{ApiError, ApiResult},
    ignored::Parsed,
    visit::Visit,
    wrong,
};

/// A JSON body may be so big; inputs of executions have a limit of their own.
pub(crate) const JSON_LIMIT: usize = 16 << 20;

/// Each value of a [`Tree`] takes a hundred bytes or so.
const VALUE_BYTES: usize = 100;

/// A whole body, charged for as long as this is there.
pub(crate) struct Whole {
    bytes: Vec<u8>,
    charge: Charge,
}

impl Whole {
    /// The bytes, and the charge to keep as long as they are needed.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Charge) {
        (self.bytes, self.charge)
    }
}

/// Reads the body of a request, `most` bytes of it.
pub(crate) async fn read(request: Request<Body>, state: &ApiState, most: usize) -> ApiResult<Whole> {
    let visit = request.extensions().get::<Arc<Visit>>().cloned().unwrap_or_else(|| Visit::alone(state));
    let mut charge = visit.charge();
    let too_large = || {
        let detail = format!("the body is larger than {most} bytes");
        ApiError::Status(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let named = request.headers().get(header::CONTENT_LENGTH);
    let named: Option<usize> = named.and_then(|text| text.to_str().ok()?.parse().ok());
    if named.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    let limits = &state.limits;
    let end = Instant::now() + limits.body_time;
    let (mut body, mut bytes) = (request.into_body(), Vec::new());
    loop {
        let pause = Instant::now() + limits.body_pause;
        let frame = timeout_at(pause.min(end), poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)));
        let frame = match frame.await {
            Ok(None) => return Ok(Whole { bytes, charge }),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => {
                let detail =
                    "the body ended before its end: the connection was lost, or its framing is wrong";
                return Err(ApiError::Status(StatusCode::BAD_REQUEST, detail.into()));
            }
            Err(_) => {
                let detail = match Instant::now() >= end {
                    true => format!("the body did not come within {:?}", limits.body_time),
                    false => format!("nothing of the body came for {:?}", limits.body_pause),
                };
                return Err(ApiError::Status(StatusCode::REQUEST_TIMEOUT, detail));
            }
        };
        // Trailers say nothing here.
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > most {
            return Err(too_large());
        }
        hold(&mut bytes, &data, named, &mut charge)?;
    }
}

/// Appends, after it has been asked whether there is room.
fn hold(bytes: &mut Vec<u8>, data: &Bytes, named: Option<usize>, charge: &mut Charge) -> ApiResult<()> {
    let needed = bytes.len() + data.len();
    if needed > bytes.capacity() {
        // What is named is believed once half of it is there.
        let doubled = (2 * needed).max(4 << 10);
        let capacity = named.filter(|named| (needed..=doubled).contains(named)).unwrap_or(doubled);
        charge.set(capacity).map_err(ApiError::no_room_for_body)?;
        bytes.reserve_exact(capacity - bytes.len());
    }
    bytes.extend_from_slice(data);
    Ok(())
}

/// A JSON body. An empty one stands for `{}`, because clients send none where everything is optional.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<ApiState> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, state: &ApiState) -> Result<Self, ApiError> {
        let is_own = request.uri().path().starts_with("/v1/airlock/");
        let visit = request.extensions().get::<Arc<Visit>>().cloned();
        let mut whole = read(request, state, JSON_LIMIT).await?;
        if whole.bytes.len() <= FREE {
            return parsed(&whole.bytes)?.known(is_own, visit.as_deref()).map(Self);
        }
        let parse = move || {
            let trees = values(&whole.bytes).min(MOST_VALUES) * VALUE_BYTES;
            let held = whole.bytes.capacity() + whole.bytes.len() + trees;
            whole.charge.set(held).map_err(ApiError::no_room_for_body)?;
            parsed(&whole.bytes)
        };
        let parsed = tokio::task::spawn_blocking(parse).await;
        let parsed = parsed.unwrap_or_else(|_| Err(crate::unserved::panicked()))?;
        parsed.known(is_own, visit.as_deref()).map(Self)
    }
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> ApiResult<Parsed<T>> {
    let text = if bytes.iter().all(u8::is_ascii_whitespace) { b"{}" } else { bytes };
    // The one reader of documents from outside comes first: what it refuses, serde_json would take for something else.
    let read = airlock_engine::json::check_bytes(text).and_then(|_| Parsed::read(text));
    read.map_err(|error| wrong::body::<T>(text, &error))
}

/// Any JSON, which has to become a tree of values. A tree takes many times the memory of its text, so it has bounds of its
/// own.
#[derive(Debug)]
pub(crate) struct Tree(pub(crate) Value);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let count = values(text.get().as_bytes());
        if count > MOST_VALUES {
            let message = format!("{count} values stand where at most {MOST_VALUES} are possible");
            return Err(serde::de::Error::custom(message));
        }
        airlock_engine::json::value(text.get()).map(Self).map_err(serde::de::Error::custom)
    }
}

/// How many bytes a tree holds, and its text beside it while that is written.
pub(crate) fn tree_bytes(value: &Value) -> usize {
    let within = match value {
        Value::String(text) => 2 * text.len(),
        Value::Array(items) => items.iter().map(tree_bytes).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| VALUE_BYTES + 2 * name.len() + tree_bytes(member)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    VALUE_BYTES + within
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_whole(bytes: &[u8]) -> ApiResult<Tree> {
        parsed::<Tree>(bytes)?.known(true, None)
    }

    fn nodes(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(nodes).sum::<usize>(),
            Value::Object(fields) => 1 + fields.values().map(|value| 1 + nodes(value)).sum::<usize>(),
            _ => 1,
        }
    }

    #[test]
    fn a05_values_are_counted_without_a_tree_and_never_too_few() {
        let mut texts: Vec<String> = [
            json!(null),
            json!([]),
            json!({}),
            json!({ "a,[{:\\\"": "b,[{:\\\\\"" }),
            json!([[[], {}], "x\\"]),
        ]
        .map(|value| value.to_string())
        .to_vec();
        let mut random = 11u32;
        let mut next = move |below: u32| {
            random = random.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            (random >> 16) % below
        };
        fn any(next: &mut dyn FnMut(u32) -> u32, depth: u32) -> Value {
            match next(if depth == 0 { 3 } else { 5 }) {
                0 => json!(next(100)),
                1 => json!(",\"\\[{:".repeat(next(4) as usize)),
                2 => json!(null),
                3 => (0..next(4)).map(|_| any(next, depth - 1)).collect(),
                _ => (0..next(4))
                    .map(|n| (format!("k,{n}\""), any(next, depth - 1)))
                    .collect::<serde_json::Map<_, _>>()
                    .into(),
            }
        }
        texts.extend((0..2_000).map(|_| any(&mut next, 5).to_string()));
        for text in texts {
            let (counted, real) =
                (values(text.as_bytes()), nodes(&serde_json::from_str(&text).expect("JSON")));
            assert!((real..=2 * real + 1).contains(&counted), "{counted} of {real}: {text}");
        }
    }

    #[test]
    fn a05_a_tree_has_a_bound_and_text_that_stays_text_has_none() {
        let many = format!("[{}0]", "0,".repeat(MOST_VALUES));
        let error = read_whole(many.as_bytes()).expect_err("is refused");
        assert!(
            matches!(&error, ApiError::Invalid(places) if places[0].1.contains("at most 500000")),
            "{error:?}"
        );
        assert!(parsed::<Box<RawValue>>(many.as_bytes()).is_ok());
        assert_eq!(read_whole(b" {\"a\": [1]} ").expect("is read").0, json!({ "a": [1] }));
        assert_eq!(read_whole(b"  ").expect("is read").0, json!({}));
    }
}
