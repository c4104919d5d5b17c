//! What comes of a compilation and of a check.

use std::fmt;

/// A value was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is as the schema says.
    Fits,
    /// It is not. At most 20 places, at least one.
    Differs(Vec<Difference>),
    /// It was not checked; nothing is said about the value.
    Undecided(Undecided),
}

/// Where a value is not as its schema says. What stands there is not repeated; names of members are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// JSON pointer into the value.
    pub instance: String,
    /// JSON pointer into the schema.
    pub schema: String,
    /// What is expected.
    pub message: String,
}

/// Why a value was not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// The schema would look at this value too often.
    #[error("to check this value by its schema would take too much work")]
    Work,
    /// The value, or the schema with the value, is too deep.
    #[error("the value has too many levels to be checked by its schema")]
    Depth,
    /// Too many others wait.
    #[error("too many checks wait; try again")]
    Busy,
    /// No answer came in time.
    #[error("the check did not end in time; try again")]
    Late,
    /// The check itself broke.
    #[error("the check of the value broke off; this is a fault of the host, which has logged it")]
    Broke,
}

/// A schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no JSON Schema, or refers to what is not in it.
    #[error("not a JSON Schema: {message}{}", Place(at))]
    Broken {
        /// JSON pointer into the schema.
        at: String,
        /// What is wrong.
        message: String,
    },
    /// It is over a bound.
    #[error("{bound}{}", Place(at))]
    Over {
        /// Which.
        bound: Bound,
        /// JSON pointer into the schema.
        at: String,
    },
    /// It was not looked at; another time it may be used.
    #[error("the schema was not compiled: {0}")]
    NotNow(Undecided),
}

struct Place<'a>(&'a str);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " (at {})", self.0) }
    }
}

/// A bound that a schema is over, with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bound {
    /// [`Limits::schema_bytes`](crate::Limits::schema_bytes).
    #[error("the schema has more than {0} bytes")]
    Bytes(usize),
    /// [`Limits::schema_values`](crate::Limits::schema_values).
    #[error("the schema is made of more than {0} values, counted again where they are referred to")]
    Values(usize),
    /// [`Limits::subschemas`](crate::Limits::subschemas).
    #[error("the schema has more than {0} schemas in it")]
    Subschemas(usize),
    /// [`Limits::depth`](crate::Limits::depth).
    #[error("the schema has more than {0} levels")]
    Depth(usize),
    /// [`Limits::references`](crate::Limits::references).
    #[error("the schema has more than {0} references")]
    References(usize),
    /// [`Limits::chain`](crate::Limits::chain).
    #[error("more than {0} schemas stand one behind the other for the same value")]
    Chain(usize),
    /// [`Limits::expansion`](crate::Limits::expansion).
    #[error("written out, its references and alternatives look at the same value more than {0} times")]
    Expansion(u64),
    /// [`Limits::location_bytes`](crate::Limits::location_bytes).
    #[error("the pointers to its places have more than {0} bytes together: shorten its names")]
    Locations(usize),
    /// References between resources with `$id`s of their own.
    #[error("more than {0} references lead from one `$id` in it to another")]
    Resources(usize),
    /// [`Limits::pattern_length`](crate::Limits::pattern_length) and its like.
    #[error(
        "a regular expression is too long, too costly, or looks around or back where it cannot be left out"
    )]
    Pattern,
}
