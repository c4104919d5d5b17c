//! How schemas are read.

/// How a schema is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// As its `$schema` says, 2020-12 if it says nothing, with formats where its draft asserts them.
    Declared,
    /// The same, but formats are asserted in every draft, as widely as the types behind forms read them; those of numbers are
    /// bounds.
    Input,
    /// The same, but formats are words to people.
    WithoutFormats,
    /// As 2020-12, whatever it says, and formats are words to people.
    Draft202012,
}
