//! JSON that is passed on as it was written.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{Error, Result, schema};

/// Any JSON, as the text that it was: nothing of it is lost.
///
/// A [`serde_json::Value`] holds a number as 64 bits: of `123456789012345678901234567890`, `1.10` or `1E5` it gives back
/// another text, and of the first another number. What a workflow only hands on (an amount, an id, the answer of a service)
/// stays what it was in this type, as an input, an output, a part of a struct, with activities, children and messages. Types
/// of Rust are read from it with [`Json::to`].
///
/// Inside of serde's untagged, internally tagged and flattened types there is no text any more, and it cannot be read.
///
/// Two are the same when their texts are.
///
/// ```
/// use airlock_sdk as airlock;
///
/// let amount: airlock::Json = serde_json::from_str("123456789012345678901234567890.10")?;
/// assert_eq!(amount.as_str(), "123456789012345678901234567890.10");
/// let price = airlock::Json::of(&7_u128)?;
/// assert_eq!(price.to::<u128>()?, 7);
/// # Ok::<(), airlock::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The JSON value `null`.
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    /// Takes a text that is one JSON value.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: impl Into<String>) -> Result<Self> {
        let parsed = RawValue::from_string(text.into()).map(Self);
        parsed.map_err(|error| Error::invalid_input(format!("it is not JSON: {error}")))
    }

    /// The JSON of a value.
    ///
    /// # Errors
    /// It cannot be written as JSON: a map whose keys are no texts, for instance.
    pub fn of(value: &(impl Serialize + ?Sized)) -> Result<Self> {
        schema::write_plain(value).and_then(Self::parse)
    }

    /// Reads it into a type.
    ///
    /// # Errors
    /// It does not fit; the error names the field.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        schema::read_plain(self.as_str())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl Default for Json {
    fn default() -> Self {
        Self::null()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl JsonSchema for Json {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AnyValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Texts that a tree of values does not keep.
    const NUMBERS: [&str; 7] = [
        "123456789012345678901234567890",
        "1.0",
        "1.10",
        "1E5",
        "-0",
        "1e400",
        "0.1000000000000000055511151231257827",
    ];

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    struct Order {
        amount: Json,
        notes: Vec<Json>,
        by_name: BTreeMap<String, Json>,
        maybe: Option<Json>,
    }

    #[test]
    fn numbers_stay_as_they_were_written_wherever_they_stand() {
        for number in NUMBERS {
            for text in [number.to_owned(), format!(r#"[{number}, {{ "a": {number} }}]"#)] {
                let json: Json = schema::read_plain(&text).unwrap();
                assert_eq!(json.as_str(), text);
                assert_eq!(schema::write_plain(&json).unwrap(), text);
                assert_eq!(Json::of(&json).unwrap(), json);
            }
            let text = format!(
                r#"{{"amount":{number},"notes":[{number},null],"by_name":{{"a":{number}}},"maybe":{number}}}"#
            );
            let order: Order = schema::read_plain(&text).unwrap();
            assert_eq!(order.amount.as_str(), number);
            assert_eq!(schema::write_plain(&order).unwrap(), text);
        }
    }

    #[test]
    fn what_it_holds_can_be_read_and_what_is_no_json_is_none() {
        assert_eq!(
            Json::parse(" 340282366920938463463374607431768211455 ").unwrap().to::<u128>().unwrap(),
            u128::MAX
        );
        let error = Json::parse(r#"{"n":"x"}"#).unwrap().to::<BTreeMap<String, u8>>().unwrap_err();
        assert!(error.message().starts_with("n: "), "{error}");
        for text in ["", "1 2", "{", "nul"] {
            assert!(Json::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Json::default(), Json::null());
        assert_eq!(format!("{} {:?}", Json::null(), Json::null()), "null null");
    }
}
