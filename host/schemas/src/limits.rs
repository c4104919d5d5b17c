//! How much a schema, a value and a check may be.

use std::time::Duration;

/// The bounds of all checks of a [`Schemas`](crate::Schemas).
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a schema's text.
    pub schema_bytes: usize,
    /// JSON values that a schema is made of.
    pub schema_values: usize,
    /// Objects and truth values in a schema that may be schemas themselves.
    pub subschemas: usize,
    /// Levels of a schema, and of a value that is checked. `serde_json` reads 128 levels.
    pub depth: usize,
    /// `$ref`s of all kinds.
    pub references: usize,
    /// Schemas one behind the other that look at the same value: `$ref` to `$ref`, `allOf` in `allOf`.
    pub chain: usize,
    /// Times that one value is looked at when all schemas that apply to it are written out.
    pub expansion: u64,
    /// Bytes of all places of a schema, written as pointers. Compiled schemas hold each of them.
    pub location_bytes: usize,
    /// Characters of a regular expression.
    pub pattern_length: usize,
    /// Characters of all regular expressions of a schema.
    pub pattern_bytes: usize,
    /// Bytes that all regular expressions of a schema are compiled to.
    pub pattern_memory: usize,

    /// What a check may cost, in units of some 10 ns. It is known before the check runs.
    pub work: u64,
    /// What is checked on the caller's thread.
    pub work_at_once: u64,
    /// Pairs of a schema and a value that are looked at to know what a check costs.
    pub steps: u64,
    /// Calls within calls of a check, on the threads of the room.
    pub levels: u32,

    /// Bytes that compiled schemas take which are kept, roughly.
    pub kept_bytes: usize,
    /// Threads that compile and check.
    pub threads: usize,
    /// What one of them may use for calls.
    pub stack_bytes: usize,
    /// Compilations and checks that wait.
    pub queue: usize,
    /// When a caller is told that there is no answer.
    pub deadline: Duration,
    /// When a thread that runs is given up and replaced. Nothing known takes that long.
    pub lost_after: Duration,
    /// Threads that may be given up before all that is not checked at once is left undecided.
    pub lost_threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            schema_bytes: 1 << 20,
            schema_values: 50_000,
            subschemas: 10_000,
            depth: 128,
            references: 5_000,
            chain: 128,
            expansion: 100_000,
            location_bytes: 4 << 20,
            pattern_length: 2_000,
            pattern_bytes: 64 << 10,
            pattern_memory: 128 << 10,
            work: 4_000_000,
            work_at_once: 200_000,
            steps: 150_000,
            levels: 6_000,
            kept_bytes: 64 << 20,
            threads: 2,
            stack_bytes: 64 << 20,
            queue: 64,
            deadline: Duration::from_secs(2),
            lost_after: Duration::from_secs(5),
            lost_threads: 4,
        }
    }
}
