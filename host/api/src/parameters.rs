//! Query parameters. What an operation takes is said once, as a type whose fields they are ([`parameters!`]): from it come
//! what the handler is given, what is refused with its place, which names nobody knows, and the API's own description.
//!
//! A parameter works or is refused (422, `["query", NAME]`): none that has a meaning is passed over in silence. Names that
//! the operation does not know are refused by routes of our own (`/v1/airlock/…`) and named in the answer's header
//! `airlock-ignored` by those of the contract, as members of bodies are (`ignored.rs`).

use std::{collections::HashMap, ops::Deref};

use airlock_engine::{ExecutionId, RunId, store::Status};
use axum::{
    extract::FromRequestParts,
    http::{Uri, request::Parts},
};
use chrono::DateTime;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::{ApiError, ApiResult};

/// A parameter as the description shows it.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) schema: fn() -> Value,
}

/// What an operation takes in its query.
#[derive(Clone, Copy)]
pub(crate) struct Takes {
    pub(crate) list: &'static [Parameter],
    /// Whatever else stands there has a meaning as well.
    pub(crate) anything: bool,
}

impl Takes {
    pub(crate) const NOTHING: Self = Self { list: &[], anything: false };

    pub(crate) const fn of<T: Parameters>() -> Self {
        Self { list: T::LIST, anything: T::ANYTHING }
    }

    /// The names in the query of this address that the operation does not know.
    pub(crate) fn strangers(&self, uri: &Uri) -> ApiResult<Vec<String>> {
        if self.anything || uri.query().is_none_or(str::is_empty) {
            return Ok(Vec::new());
        }
        let mut names: Vec<String> = Given::of(uri)?.0.into_keys().collect();
        names.retain(|name| self.list.iter().all(|known| known.name != name));
        names.sort_unstable();
        Ok(names)
    }

    /// Why there is no such parameter.
    pub(crate) fn unknown(&self, name: &str) -> String {
        match airlock_engine::problem::nearest(name, self.list.iter().map(|known| known.name)) {
            Some(meant) => format!("there is no parameter '{name}' here: '{meant}' is meant?"),
            None => format!("there is no parameter '{name}' here"),
        }
    }
}

/// The parameters of an operation, made by [`parameters!`].
pub(crate) trait Parameters: Sized + Send {
    const LIST: &'static [Parameter];
    const ANYTHING: bool;

    fn read(given: &Given) -> ApiResult<Self>;
}

/// Fields with a sentence about each. Those that the contract has and that are the same here whatever they are stand under
/// `without effect`: they are checked. With `and anything`, other names have a meaning too.
macro_rules! parameters {
    (
        $(#[$about:meta])*
        $visibility:vis struct $name:ident $(and $anything:ident)? {
            $($(#[doc = $text:literal])+ $field:ident: $kind:ty,)*
        }
        $(without effect { $($(#[doc = $idle_text:literal])+ $idle:ident: $idle_kind:ty,)+ })?
    ) => {
        $(#[$about])*
        $visibility struct $name {
            $($(#[doc = $text])+ pub(crate) $field: $kind,)*
        }

        impl $crate::parameters::Parameters for $name {
            const LIST: &'static [$crate::parameters::Parameter] = &[$($crate::parameters::Parameter {
                name: stringify!($field),
                about: concat!($($text),+),
                schema: <$kind as $crate::parameters::Field>::schema,
            },)* $($($crate::parameters::Parameter {
                name: stringify!($idle),
                about: concat!($($idle_text),+),
                schema: <$idle_kind as $crate::parameters::Field>::schema,
            },)+)?];
            const ANYTHING: bool = $crate::parameters::parameters!(@anything $($anything)?);

            fn read(given: &$crate::parameters::Given) -> $crate::error::ApiResult<Self> {
                $($(<$idle_kind as $crate::parameters::Field>::read(stringify!($idle), given)?;)+)?
                Ok(Self { $($field: $crate::parameters::Field::read(stringify!($field), given)?),* })
            }
        }
    };
    (@anything) => { false };
    (@anything anything) => { true };
}
pub(crate) use parameters;

/// A closed set of words.
macro_rules! words {
    ($(#[$about:meta])* $visibility:vis enum $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visibility enum $name {
            $($(#[$of])* $variant),+
        }

        impl $crate::parameters::FromText for $name {
            fn schema() -> serde_json::Value {
                serde_json::json!({ "type": "string", "enum": [$($word),+] })
            }

            fn from_text(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::parameters::none_of(text, &[$($word),+])),
                }
            }
        }
    };
}
pub(crate) use words;

/// What is said of a word that is none of these.
pub(crate) fn none_of(text: &str, words: &[&str]) -> String {
    format!("'{text}' is none of {}", words.join(", "))
}

/// The parameters of a request.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: Parameters, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        T::read(&Given::of(&parts.uri)?).map(Self)
    }
}

/// A query as it was sent, with every value of every name.
#[derive(Default)]
pub(crate) struct Given(HashMap<String, Vec<String>>);

impl<S: Sync> FromRequestParts<S> for Given {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::of(&parts.uri)
    }
}

impl Given {
    pub(crate) fn of(uri: &Uri) -> ApiResult<Self> {
        if uri.query().is_none() {
            return Ok(Self::default());
        }
        let axum::extract::Query(pairs) = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| ApiError::invalid(&["query"], error.to_string()))?;
        let mut values: HashMap<String, Vec<String>> = HashMap::new();
        for (name, value) in pairs {
            values.entry(name).or_default().push(value);
        }
        Ok(Self(values))
    }

    /// The first value of a name.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str)
    }

    fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The value of a name that may stand once.
    fn one(&self, name: &str) -> ApiResult<Option<&str>> {
        match self.all(name) {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => Err(invalid(name, "it stands there more than once")),
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// A parameter cannot have this value.
pub(crate) fn invalid(name: &str, message: impl Into<String>) -> ApiError {
    ApiError::invalid(&["query", name], message)
}

/// What a field of [`parameters!`] may be.
pub(crate) trait Field: Sized {
    fn schema() -> Value;
    fn read(name: &'static str, given: &Given) -> ApiResult<Self>;
}

/// What one value may be.
pub(crate) trait FromText: Sized {
    /// Nothing, and `*`, stand for no wish at all.
    const MAY_BE_BLANK: bool = true;

    fn schema() -> Value;
    fn from_text(text: &str) -> Result<Self, String>;
}

fn is_wish<T: FromText>(text: &str) -> bool {
    !T::MAY_BE_BLANK || !(text.is_empty() || text == "*")
}

impl<T: FromText> Field for Option<T> {
    fn schema() -> Value {
        T::schema()
    }

    fn read(name: &'static str, given: &Given) -> ApiResult<Self> {
        let wish = given.one(name)?.filter(|text| is_wish::<T>(text));
        wish.map(|text| T::from_text(text).map_err(|message| invalid(name, message))).transpose()
    }
}

/// It may be repeated.
impl<T: FromText> Field for Vec<T> {
    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
    }

    fn read(name: &'static str, given: &Given) -> ApiResult<Self> {
        let wishes = given.all(name).iter().filter(|text| is_wish::<T>(text));
        wishes.map(|text| T::from_text(text).map_err(|message| invalid(name, message))).collect()
    }
}

/// Yes or no, with what it is when nothing is said.
pub(crate) struct Flag<const DEFAULT: bool>(bool);

impl<const DEFAULT: bool> Deref for Flag<DEFAULT> {
    type Target = bool;

    fn deref(&self) -> &bool {
        &self.0
    }
}

impl<const DEFAULT: bool> Field for Flag<DEFAULT> {
    fn schema() -> Value {
        json!({ "type": "boolean", "default": DEFAULT })
    }

    fn read(name: &'static str, given: &Given) -> ApiResult<Self> {
        Ok(Self(Option::<bool>::read(name, given)?.unwrap_or(DEFAULT)))
    }
}

/// How many entries a page has: 1 to 1,000. Never clamped: clients take a short page for the last one.
pub(crate) struct PageSize<const DEFAULT: usize>(usize);

/// No page has more entries.
pub(crate) const LARGEST_PAGE: usize = 1_000;

impl<const DEFAULT: usize> Deref for PageSize<DEFAULT> {
    type Target = usize;

    fn deref(&self) -> &usize {
        &self.0
    }
}

impl<const DEFAULT: usize> Field for PageSize<DEFAULT> {
    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": DEFAULT })
    }

    fn read(name: &'static str, given: &Given) -> ApiResult<Self> {
        match Option::<u64>::read(name, given)?.map_or(Ok(DEFAULT), usize::try_from) {
            Ok(size @ 1..=LARGEST_PAGE) => Ok(Self(size)),
            _ => Err(invalid(name, format!("a page has 1 to {LARGEST_PAGE} entries"))),
        }
    }
}

/// How many entries a page has, where everything comes at once unless somebody says otherwise (nothing, or 0).
pub(crate) struct PageOrAll(pub(crate) Option<usize>);

impl Field for PageOrAll {
    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 0, "maximum": LARGEST_PAGE, "default": 0 })
    }

    fn read(name: &'static str, given: &Given) -> ApiResult<Self> {
        match given.one(name)? {
            None | Some("" | "0") => Ok(Self(None)),
            Some(_) => PageSize::<1>::read(name, given).map(|PageSize(size)| Self(Some(size))),
        }
    }
}

impl FromText for String {
    fn schema() -> Value {
        json!({ "type": "string" })
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl FromText for bool {
    const MAY_BE_BLANK: bool = false;

    fn schema() -> Value {
        json!({ "type": "boolean" })
    }

    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => Err(format!("'{other}' is neither true nor false")),
        }
    }
}

macro_rules! numbers {
    ($($number:ty, $schema:expr;)+) => {$(
        impl FromText for $number {
            const MAY_BE_BLANK: bool = false;

            fn schema() -> Value {
                $schema
            }

            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("'{text}' is not a number in the valid range"))
            }
        }
    )+};
}

numbers! {
    u64, json!({ "type": "integer", "minimum": 0 });
    i64, json!({ "type": "integer" });
}

/// Milliseconds since the Unix epoch.
pub(crate) struct Time(pub(crate) u64);

impl FromText for Time {
    fn schema() -> Value {
        json!({ "type": "string", "format": "date-time" })
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let time = DateTime::parse_from_rfc3339(text)
            .map_err(|error| format!("'{text}' is not a time such as 2026-01-31T08:00:00Z: {error}"))?;
        Ok(Self(u64::try_from(time.timestamp_millis()).unwrap_or(0)))
    }
}

impl FromText for ExecutionId {
    fn schema() -> Value {
        json!({ "type": "string" })
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error| format!("'{text}' is not an execution id: {error}"))
    }
}

impl FromText for RunId {
    fn schema() -> Value {
        json!({ "type": "string", "format": "uuid" })
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| format!("'{text}' is not the id of a run, which is a UUID"))
    }
}

/// A status of executions; `None` for one that the contract knows and that nothing ever has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WantedStatus(pub(crate) Option<Status>);

/// Deprecated by the contract (§10).
const RETRYING: &str = "RETRYING_AFTER_ERROR";

impl FromText for WantedStatus {
    fn schema() -> Value {
        let known = Status::ALL.iter().map(|status| status.as_str());
        json!({ "type": "string", "enum": known.chain([RETRYING]).collect::<Vec<_>>() })
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let found = Status::ALL.into_iter().find(|status| status.as_str() == text);
        match found {
            None if text != RETRYING => {
                let known: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
                Err(none_of(text, &known))
            }
            found => Ok(Self(found)),
        }
    }
}

/// The statuses that are wanted, where none means any; `None` if nothing can have them.
pub(crate) fn statuses(wanted: &[WantedStatus]) -> Option<Vec<Status>> {
    let found: Vec<Status> = wanted.iter().filter_map(|WantedStatus(status)| *status).collect();
    (found.is_empty() == wanted.is_empty()).then_some(found)
}

words! {
    /// The order of a list.
    pub(crate) enum Order {
        Asc = "asc",
        Desc = "desc",
    }
}

words! {
    /// Whether something is at work.
    pub(crate) enum Activity {
        Active = "active",
        Inactive = "inactive",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    parameters! {
        struct Some_ {
            /// Names.
            tags: Vec<String>,
            /// Whether.
            archived: Option<bool>,
            /// By
            /// what.
            order: Option<Order>,
            /// How many.
            limit: PageSize<50>,
            /// All at once.
            page_size: PageOrAll,
            /// Shared.
            shared: Flag<true>,
            /// How it stands.
            status: Vec<WantedStatus>,
            /// When.
            after: Option<Time>,
        }
    }

    parameters! {
        struct Open and anything {
        } without effect {
            /// A number.
            seq: Option<i64>,
        }
    }

    fn read(query: &str) -> ApiResult<Some_> {
        Some_::read(&Given::of(&format!("/?{query}").parse().expect("a URI"))?)
    }

    #[test]
    fn what_is_given_becomes_what_is_wanted() {
        let all = read("tags=a&tags=b%20c&archived=false&order=desc&limit=1000&page_size=7&shared=0")
            .expect("is read");
        assert_eq!(
            (all.tags.as_slice(), all.archived),
            (["a".to_owned(), "b c".into()].as_slice(), Some(false))
        );
        assert_eq!(
            (all.order, *all.limit, all.page_size.0, *all.shared),
            (Some(Order::Desc), 1000, Some(7), false)
        );
        let none = read("tags=&order=*&page_size=0").expect("is read");
        assert_eq!((none.tags.len(), none.archived, none.order), (0, None, None));
        assert_eq!((*none.limit, none.page_size.0, *none.shared), (50, None, true));
        let time =
            read("after=1970-01-01T00:00:01Z&status=FAILED&status=RETRYING_AFTER_ERROR").expect("is read");
        assert_eq!(time.after.map(|Time(ms)| ms), Some(1_000));
        assert_eq!(statuses(&time.status), Some(vec![Status::Failed]));
        assert_eq!(statuses(&time.status[1..]), None, "nothing ever has it");
        assert_eq!(statuses(&[]), Some(vec![]));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_name() {
        for (query, name) in [
            ("archived=maybe", "archived"),
            ("archived=", "archived"),
            ("order=up", "order"),
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=", "limit"),
            ("limit=-1", "limit"),
            ("limit=1&limit=2", "limit"),
            ("page_size=x", "page_size"),
            ("status=DONE", "status"),
            ("after=yesterday", "after"),
        ] {
            let Err(ApiError::Invalid(places)) = read(query) else { panic!("{query}") };
            assert_eq!(places[0].0, json!(["query", name]), "{query}");
        }
    }

    #[test]
    fn names_that_nobody_knows_are_found_unless_anything_has_a_meaning() {
        let uri: Uri = "/?limit=1&ordr=asc&b=1&b=2".parse().expect("a URI");
        let takes = Takes::of::<Some_>();
        assert_eq!(takes.strangers(&uri).expect("is read"), ["b", "ordr"]);
        assert!(takes.unknown("ordr").contains("'order' is meant"));
        assert!(Takes::of::<Open>().strangers(&uri).expect("is read").is_empty());
        assert_eq!(Takes::NOTHING.strangers(&uri).expect("is read").len(), 3);
        let about = |name: &str| takes.list.iter().find(|known| known.name == name).expect("is there").about;
        assert_eq!(about("order").trim(), "By what.");
    }
}
