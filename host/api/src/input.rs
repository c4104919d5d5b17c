//! What callers hand to executions: inputs in both of their forms, messages, and numbers of seconds.

use std::time::Duration;

use airlock_engine::{Json as Text, engine::WaitFor, history::Message};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    caller::Caller,
    error::{ApiError, ApiResult},
};

/// `SignalInvocationBody`, `QueryInvocationBody`, `UpdateInvocationBody`, with ids of our own beside them.
#[derive(Deserialize)]
pub(crate) struct Invocation {
    pub(crate) name: String,
    input: Option<Box<RawValue>>,
    /// Ours: a signal with an id is heard once, however often it is sent.
    pub(crate) signal_id: Option<String>,
    /// Ours: an update with an id is carried out once, and its answer can be asked for.
    pub(crate) update_id: Option<String>,
    /// Ours: how far to wait for an update.
    pub(crate) wait_for: Option<Stage>,
    /// Ours: how long.
    pub(crate) timeout_seconds: Option<f64>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    Sent,
    Accepted,
    Completed,
}

impl From<Stage> for WaitFor {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Sent => Self::Sent,
            Stage::Accepted => Self::Accepted,
            Stage::Completed => Self::Completed,
        }
    }
}

impl Invocation {
    /// What the engine delivers.
    pub(crate) fn message(&self, caller: &Caller) -> ApiResult<Message> {
        Ok(Message {
            name: self.name.clone(),
            input: self.input.as_deref().map_or(Ok(Text::null()), decoded)?,
            sender: caller.principal.user.as_str().to_owned(),
        })
    }
}

/// An input is a JSON object, or one that is encoded (`NetworkEncodedInput`).
fn decoded(text: &RawValue) -> ApiResult<Text> {
    let plain =
        || Text::parse(text.get()).map_err(|error| ApiError::invalid(&["body", "input"], error.to_string()));
    match serde_json::from_str::<EncodedInput>(text.get()) {
        Ok(encoded) => input(None, Some(encoded)),
        Err(_) => plain(),
    }
}

/// `NetworkEncodedInput`: an empty list of options means plain base64 of the JSON.
#[derive(Deserialize)]
pub(crate) struct EncodedInput {
    b64payload: String,
    #[serde(default)]
    encoding_options: Option<Vec<String>>,
    #[serde(default)]
    empty: Option<bool>,
}

/// The input, sent in one way or the other.
pub(crate) fn input(plain: Option<Text>, encoded: Option<EncodedInput>) -> ApiResult<Text> {
    let place = ["body", "encoded_input"];
    let text = match (plain, encoded) {
        (Some(_), Some(_)) => return Err(ApiError::invalid(&place, "send either input or encoded_input")),
        (Some(plain), None) => return Ok(plain),
        (None, None) => return Ok(Text::null()),
        (None, Some(encoded)) if encoded.empty == Some(true) => return Ok(Text::null()),
        (None, Some(encoded)) => {
            if let Some(option) = encoded.encoding_options.iter().flatten().next() {
                let message = format!(
                    "the payload is '{option}' by the client, and this daemon runs the code itself: send it in clear, it is \
                     sealed at rest"
                );
                return Err(ApiError::invalid(&place, message));
            }
            let bytes = STANDARD
                .decode(&encoded.b64payload)
                .map_err(|error| ApiError::invalid(&place, format!("b64payload is not base64: {error}")))?;
            String::from_utf8(bytes)
                .map_err(|_| ApiError::invalid(&place, "b64payload does not hold UTF-8 text"))?
        }
    };
    Text::parse(text).map_err(|error| ApiError::invalid(&place, format!("the input is not JSON: {error}")))
}

/// A field of the body that holds seconds.
pub(crate) fn seconds(field: &str, value: Option<f64>) -> ApiResult<Option<Duration>> {
    let parse = |seconds| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| ApiError::invalid(&["body", field], "it must be a number of seconds from 0 on"))
    };
    value.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_input_is_taken_when_it_is_only_encoded() {
        let encoded = |text: &str, options: &[&str]| {
            let encoding_options = Some(options.iter().map(|&option| option.to_owned()).collect());
            input(None, Some(EncodedInput { b64payload: text.into(), encoding_options, empty: None }))
        };
        assert_eq!(encoded("eyJhIjoxfQ==", &[]).expect("is taken").as_str(), "{\"a\":1}");
        assert!(encoded("eyJhIjoxfQ==", &["encrypted"]).is_err());
        assert!(encoded("%%%", &[]).is_err());
        assert!(encoded("YWJj", &[]).is_err());
    }
}
