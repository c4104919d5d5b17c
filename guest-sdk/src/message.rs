//! Messages that a workflow takes while it runs, as types to name them by.

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::schema;

/// Something that may be said to a workflow. Declared with [`signal!`](crate::signal).
pub trait Signal: 'static {
    /// Its name.
    const NAME: &'static str;
    /// For people.
    const DESCRIPTION: Option<&'static str>;
    /// The name of what it carries; none if it carries nothing.
    const PARAMETER: Option<&'static str>;
    /// What it carries.
    type Input: Serialize + DeserializeOwned + JsonSchema + 'static;
}

/// Something that a workflow may be asked, in any state. Declared with [`query!`](crate::query).
pub trait Query: 'static {
    /// Its name.
    const NAME: &'static str;
    /// For people.
    const DESCRIPTION: Option<&'static str>;
    /// The name of what it carries; none if it carries nothing.
    const PARAMETER: Option<&'static str>;
    /// What it carries.
    type Input: Serialize + DeserializeOwned + JsonSchema + 'static;
    /// The answer.
    type Output: Serialize + DeserializeOwned + JsonSchema + 'static;
}

/// Something that a workflow may be told to do, with an answer. Declared with [`update!`](crate::update).
pub trait Update: 'static {
    /// Its name.
    const NAME: &'static str;
    /// For people.
    const DESCRIPTION: Option<&'static str>;
    /// The name of what it carries; none if it carries nothing.
    const PARAMETER: Option<&'static str>;
    /// What it carries.
    type Input: Serialize + DeserializeOwned + JsonSchema + 'static;
    /// The answer.
    type Output: Serialize + DeserializeOwned + JsonSchema + 'static;
}

/// A message with who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent<T> {
    /// What it carries.
    pub value: T,
    /// Who sent it, as the host knows: a user's id, or `execution:` and the id of an execution.
    pub sender: String,
}

/// A handler, as the host sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct HandlerDefinition {
    /// Unique among the workflow's handlers of its sort.
    pub name: &'static str,
    /// For people.
    pub description: Option<&'static str>,
    /// JSON Schema of the input.
    pub input_schema: String,
    /// JSON Schema of the answer; a signal has none.
    pub output_schema: Option<String>,
}

impl HandlerDefinition {
    /// Of a signal.
    pub fn signal<S: Signal>() -> Self {
        Self {
            name: S::NAME,
            description: S::DESCRIPTION,
            input_schema: schema::workflow_input::<S::Input>(S::PARAMETER),
            output_schema: None,
        }
    }

    /// Of a query.
    pub fn query<Q: Query>() -> Self {
        Self {
            name: Q::NAME,
            description: Q::DESCRIPTION,
            input_schema: schema::workflow_input::<Q::Input>(Q::PARAMETER),
            output_schema: schema::plain_output::<Q::Output>(),
        }
    }

    /// Of an update.
    pub fn update<U: Update>() -> Self {
        Self {
            name: U::NAME,
            description: U::DESCRIPTION,
            input_schema: schema::workflow_input::<U::Input>(U::PARAMETER),
            output_schema: schema::plain_output::<U::Output>(),
        }
    }
}

/// Declares a signal, as a type to name it by:
///
/// ```
/// use airlock_sdk as airlock;
/// airlock::signal!(
///     /// Somebody decides about the order.
///     pub Approve(approved: bool) = "approve"
/// );
/// airlock::signal!(Stop() = "stop");
/// ```
#[macro_export]
macro_rules! signal {
    ($(#[doc = $doc:literal])* $vis:vis $name:ident($($parameter:ident: $input:ty)?) = $wire:literal $(,)?) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy)]
        $vis struct $name;

        impl $crate::Signal for $name {
            const NAME: &'static str = $wire;
            const DESCRIPTION: ::core::option::Option<&'static str> = $crate::__description!($($doc)*);
            const PARAMETER: ::core::option::Option<&'static str> = $crate::__parameter!($($parameter)?);
            type Input = $crate::__or_unit!($($input)?);
        }
    };
}

/// Declares a query, as a type to name it by:
///
/// ```
/// use airlock_sdk as airlock;
/// airlock::query!(
///     /// How far it is.
///     pub Progress() -> u32 = "progress"
/// );
/// ```
#[macro_export]
macro_rules! query {
    ($(#[doc = $doc:literal])* $vis:vis $name:ident($($parameter:ident: $input:ty)?) -> $output:ty = $wire:literal $(,)?) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy)]
        $vis struct $name;

        impl $crate::Query for $name {
            const NAME: &'static str = $wire;
            const DESCRIPTION: ::core::option::Option<&'static str> = $crate::__description!($($doc)*);
            const PARAMETER: ::core::option::Option<&'static str> = $crate::__parameter!($($parameter)?);
            type Input = $crate::__or_unit!($($input)?);
            type Output = $output;
        }
    };
}

/// Declares an update, as a type to name it by:
///
/// ```
/// use airlock_sdk as airlock;
/// airlock::update!(
///     /// Changes the limit and gives the one before.
///     pub SetLimit(limit: u32) -> u32 = "set_limit"
/// );
/// ```
#[macro_export]
macro_rules! update {
    ($(#[doc = $doc:literal])* $vis:vis $name:ident($($parameter:ident: $input:ty)?) -> $output:ty = $wire:literal $(,)?) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy)]
        $vis struct $name;

        impl $crate::Update for $name {
            const NAME: &'static str = $wire;
            const DESCRIPTION: ::core::option::Option<&'static str> = $crate::__description!($($doc)*);
            const PARAMETER: ::core::option::Option<&'static str> = $crate::__parameter!($($parameter)?);
            type Input = $crate::__or_unit!($($input)?);
            type Output = $output;
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __description {
    () => { ::core::option::Option::None };
    ($($doc:literal)+) => { ::core::option::Option::Some(::core::concat!($($doc),+).trim_ascii()) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __parameter {
    () => {
        ::core::option::Option::None
    };
    ($parameter:ident) => {
        ::core::option::Option::Some(::core::stringify!($parameter))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __or_unit {
    () => {
        ()
    };
    ($ty:ty) => {
        $ty
    };
}
