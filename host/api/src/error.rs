//! Errors as clients see them (contract §1.8): `{"detail": "…"}`, and a list for 422.

use std::time::Duration;

use airlock_connectors::ConnectorsError;
use airlock_engine::{
    engine::{ControlError, InputProblem, MessageError, SignalWithStartError, StartError},
    guests::GuestError,
    records::RecordsError,
    store::StoreError,
};
use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::budget::Full;

/// An answer that is not the one that was asked for.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// Anything but 422, with a sentence.
    Status(StatusCode, String),
    /// 429, with a sentence, and when to come back.
    Busy(String, Duration),
    /// 503, with a sentence: there is no room now, and in a moment there may be.
    Full(String),
    /// 422: places in the request, each with a sentence.
    Invalid(Vec<(Value, String)>),
}

/// Where an input mostly stands, and where that of a signal does that comes with a start.
pub(crate) const INPUT: [&str; 2] = ["body", "input"];
pub(crate) const SIGNAL_INPUT: [&str; 3] = ["body", "signal", "input"];

pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::Status(StatusCode::NOT_FOUND, detail.into())
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::Status(StatusCode::CONFLICT, detail.into())
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::Status(StatusCode::FORBIDDEN, detail.into())
    }

    /// One place in the body or query, as a path of keys.
    pub(crate) fn invalid(place: &[&str], message: impl Into<String>) -> Self {
        Self::Invalid(vec![(json!(place), message.into())])
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Status(status, detail) => (status, Json(json!({ "detail": detail }))).into_response(),
            Self::Busy(detail, wait) => {
                let seconds = wait.as_millis().div_ceil(1000).to_string();
                let headers = [(header::RETRY_AFTER, seconds)];
                (StatusCode::TOO_MANY_REQUESTS, headers, Json(json!({ "detail": detail }))).into_response()
            }
            Self::Full(detail) => {
                let headers = [(header::RETRY_AFTER, "2")];
                (StatusCode::SERVICE_UNAVAILABLE, headers, Json(json!({ "detail": detail }))).into_response()
            }
            Self::Invalid(places) => {
                let problem =
                    |(place, message)| json!({ "loc": place, "msg": message, "type": "value_error" });
                let detail: Vec<Value> = places.into_iter().map(problem).collect();
                (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "detail": detail }))).into_response()
            }
        }
    }
}

impl ApiError {
    /// A body does not fit.
    pub(crate) fn no_room_for_body(full: Full) -> Self {
        match full {
            Full::All | Full::User => Self::Full(full.to_string()),
            // Trying again would change nothing.
            Full::Alone => Self::Status(StatusCode::PAYLOAD_TOO_LARGE, full.to_string()),
        }
    }

    /// An answer does not fit.
    pub(crate) fn no_room_for_answer(full: Full) -> Self {
        match full {
            Full::All | Full::User => Self::Full(full.to_string()),
            Full::Alone => Self::Status(StatusCode::INSUFFICIENT_STORAGE, full.to_string()),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::Full | StoreError::ReadOnly(_) => StatusCode::INSUFFICIENT_STORAGE,
            StoreError::Conflict => StatusCode::CONFLICT,
            StoreError::Corrupt(_) | StoreError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            StoreError::Guests(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::Status(status, error.to_string())
    }
}

impl From<RecordsError> for ApiError {
    fn from(error: RecordsError) -> Self {
        let status = match error {
            RecordsError::Conflict => StatusCode::CONFLICT,
            RecordsError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::Status(status, error.to_string())
    }
}

impl From<GuestError> for ApiError {
    fn from(error: GuestError) -> Self {
        Self::Status(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Unknown(_) => Self::not_found(error.to_string()),
            ControlError::Ended(_) | ControlError::Blocked(_) => Self::conflict(error.to_string()),
            ControlError::WrongCode(_) => Self::conflict(error.to_string()),
            ControlError::NoSuchEvent { .. } => Self::invalid(&["body", "event_id"], error.to_string()),
            ControlError::Store(error) => error.into(),
        }
    }
}

impl From<StartError> for ApiError {
    fn from(error: StartError) -> Self {
        let detail = error.to_string();
        match error {
            StartError::UnknownWorkflow(_) => Self::not_found(detail),
            StartError::AlreadyExists(_) | StartError::Archived(_) => Self::conflict(detail),
            StartError::NotOnBehalf(_) => Self::forbidden(detail),
            StartError::TooLarge { .. } => Self::Status(StatusCode::PAYLOAD_TOO_LARGE, detail),
            StartError::ShuttingDown => Self::Status(StatusCode::SERVICE_UNAVAILABLE, detail),
            StartError::InvalidInput(problems) => of_input(&INPUT, problems),
            StartError::Guest(error) => error.into(),
            StartError::Store(error) => error.into(),
        }
    }
}

impl From<MessageError> for ApiError {
    fn from(error: MessageError) -> Self {
        let detail = error.to_string();
        match error {
            MessageError::Control(error) => error.into(),
            MessageError::UnknownHandler { .. } => Self::not_found(detail),
            MessageError::InvalidInput { problems, .. } => of_input(&INPUT, problems),
            MessageError::TooLarge { .. } => Self::Status(StatusCode::PAYLOAD_TOO_LARGE, detail),
            // The workflow's own answer, and nothing that trying again would change.
            MessageError::Failed(_) => Self::Status(StatusCode::BAD_REQUEST, detail),
            MessageError::NotStarted(_) | MessageError::CodeGone { .. } => Self::conflict(detail),
            MessageError::Guest(error) => error.into(),
        }
    }
}

impl From<SignalWithStartError> for ApiError {
    fn from(error: SignalWithStartError) -> Self {
        match error {
            SignalWithStartError::Start(error) => error.into(),
            SignalWithStartError::Signal(MessageError::InvalidInput { problems, .. }) => {
                of_input(&SIGNAL_INPUT, problems)
            }
            SignalWithStartError::Signal(error) => error.into(),
        }
    }
}

/// Where something stands in a request: the steps to a place, and from there a JSON pointer (RFC 6901), as the client's
/// list of keys.
pub(crate) fn steps(place: &[&str], pointer: &str) -> Value {
    let below = pointer.split('/').skip(1).map(|key| match key.parse::<usize>() {
        Ok(index) => json!(index),
        Err(_) => json!(key.replace("~1", "/").replace("~0", "~")),
    });
    place.iter().map(|step| json!(step)).chain(below).collect()
}

/// What is wrong with an input that stands at a place.
pub(crate) fn of_input(place: &[&str], problems: Vec<InputProblem>) -> ApiError {
    let problem = |InputProblem { pointer, message }: InputProblem| {
        let message = match pointer.as_str() {
            "" => message,
            pointer => format!("{}: {message}", &pointer[1..]),
        };
        (steps(place, &pointer), message)
    };
    ApiError::Invalid(problems.into_iter().map(problem).collect())
}

impl From<ConnectorsError> for ApiError {
    fn from(error: ConnectorsError) -> Self {
        let detail = error.to_string();
        match error {
            ConnectorsError::NotFound(_) => Self::not_found(detail),
            ConnectorsError::Conflict(_) => Self::conflict(detail),
            ConnectorsError::Invalid { pointer, message } => {
                Self::Invalid(vec![(steps(&["body"], &pointer), message)])
            }
            ConnectorsError::Unsupported(_) => Self::Status(StatusCode::NOT_IMPLEMENTED, detail),
            // 401 would say that the API key is wrong.
            ConnectorsError::Forbidden(_) | ConnectorsError::Unauthorized(_) | ConnectorsError::Denied(_) => {
                Self::forbidden(detail)
            }
            ConnectorsError::NotCalled { error, .. } => Self::from(*error),
            // Nobody could be asked.
            ConnectorsError::Failed(_) => Self::conflict(detail),
            ConnectorsError::RateLimited { retry_after, .. } => Self::Busy(detail, retry_after),
            ConnectorsError::TooLarge(_) => Self::Status(StatusCode::BAD_GATEWAY, detail),
            ConnectorsError::Upstream(_) | ConnectorsError::Answered(_) => {
                Self::Status(StatusCode::BAD_GATEWAY, detail)
            }
            ConnectorsError::Timeout(_) => Self::Status(StatusCode::GATEWAY_TIMEOUT, detail),
            ConnectorsError::Store(_) => Self::Status(StatusCode::INTERNAL_SERVER_ERROR, detail),
        }
    }
}
