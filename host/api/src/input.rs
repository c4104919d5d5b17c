//! What callers hand to executions: inputs in both of their forms, messages, and numbers of seconds.

use std::{collections::BTreeMap, time::Duration};

use airlock_engine::{Json as Text, engine::WaitFor, history::Message};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    caller::Caller,
    error::{ApiError, ApiResult, INPUT},
};

/// Where the encoded input of a start stands.
pub(crate) const ENCODED_INPUT: [&str; 2] = ["body", "encoded_input"];

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
        self.message_at(caller, &INPUT)
    }

    /// What the engine delivers, with an input that stands at this place.
    pub(crate) fn message_at(&self, caller: &Caller, place: &[&str]) -> ApiResult<Message> {
        Ok(Message {
            name: self.name.clone(),
            input: match &self.input {
                Some(text) => decoded(text, caller, place)?,
                None => Text::null(),
            },
            sender: caller.principal.user.as_str().to_owned(),
        })
    }
}

/// An input is a JSON object, or one that is encoded (`NetworkEncodedInput`). The answer says which one it was taken for.
fn decoded(text: &RawValue, caller: &Caller, place: &[&str]) -> ApiResult<Text> {
    match encoded(text.get()) {
        Some(encoded) => {
            caller.visit.decoded(&place[1..].join("."));
            encoded.text(place)
        }
        None => Text::parse(text.get()).map_err(|error| ApiError::invalid(place, error.to_string())),
    }
}

/// What stands where an input may stand, if it is an encoded one: `encoding_options` is a list, if only an empty one, and
/// nothing else is there. An object that has a member `b64payload` for reasons of its own is an input like any other.
pub(crate) fn encoded(text: &str) -> Option<EncodedInput> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    let known = |name: &String| ["b64payload", "encoding_options", "empty"].contains(&name.as_str());
    if !members.keys().all(known) {
        return None;
    }
    let encoded: EncodedInput = serde_json::from_str(text).ok()?;
    encoded.encoding_options.is_some().then_some(encoded)
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

impl EncodedInput {
    /// What is encoded. `place` is where it stands.
    pub(crate) fn text(self, place: &[&str]) -> ApiResult<Text> {
        if self.empty == Some(true) {
            return Ok(Text::null());
        }
        if let Some(option) = self.encoding_options.iter().flatten().next() {
            let message = format!(
                "the payload is '{option}' by the client, and this daemon runs the code itself: send it in clear, it is \
                 sealed at rest"
            );
            return Err(ApiError::invalid(&[place, &["encoding_options"]].concat(), message));
        }
        let wrong = |what: String| ApiError::invalid(&[place, &["b64payload"]].concat(), what);
        let bytes = STANDARD
            .decode(&self.b64payload)
            .map_err(|error| wrong(format!("b64payload is not base64: {error}")))?;
        let text =
            String::from_utf8(bytes).map_err(|_| wrong("b64payload does not hold UTF-8 text".into()))?;
        Text::parse(text).map_err(|error| wrong(format!("the input is not JSON: {error}")))
    }
}

/// The input of a start, sent in one way or the other.
pub(crate) fn input(plain: Option<Text>, encoded: Option<EncodedInput>) -> ApiResult<Text> {
    match (plain, encoded) {
        (Some(_), Some(_)) => Err(ApiError::invalid(&ENCODED_INPUT, "send either input or encoded_input")),
        (Some(plain), None) => Ok(plain),
        (None, None) => Ok(Text::null()),
        (None, Some(encoded)) => encoded.text(&ENCODED_INPUT),
    }
}

/// A field of the body, named with those around it by dots, that holds seconds.
pub(crate) fn seconds(field: &str, value: Option<f64>) -> ApiResult<Option<Duration>> {
    let parse = |seconds| {
        let place: Vec<&str> = std::iter::once("body").chain(field.split('.')).collect();
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| ApiError::invalid(&place, "it must be a number of seconds from 0 on"))
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

    #[test]
    fn an_object_that_happens_to_have_a_member_of_that_name_is_an_input() {
        for (text, is_encoded) in [
            (r#"{"b64payload":"e30=","encoding_options":[]}"#, true),
            (r#"{"b64payload":"e30=","encoding_options":["encrypted"],"empty":false}"#, true),
            (r#"{"b64payload":"e30="}"#, false),
            (r#"{"b64payload":"e30=","encoding_options":null}"#, false),
            (r#"{"b64payload":"e30=","encoding_options":[],"name":"report"}"#, false),
            (r#"{"b64payload":1,"encoding_options":[]}"#, false),
            (r#"["e30=",[]]"#, false),
            ("null", false),
        ] {
            assert_eq!(super::encoded(text).is_some(), is_encoded, "{text}");
        }
    }
}
