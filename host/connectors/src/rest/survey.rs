//! What would be imported from a document, for who wonders about one. Nothing is stored or sent.

use std::time::{Duration, Instant};

use airlock_schemas::{Dialect, Schemas};

use super::import;
use crate::ConnectorsError;

/// What there is in a document.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Operations that can be called.
    pub operations: usize,
    /// Those that are left out, such as `GET /pets/{id}`, and why.
    pub left_out: Vec<(String, String)>,
    /// Bytes of all operations, as they are stored.
    pub bytes: usize,
    /// Operations of whose schema only the nearest part is shown.
    pub shortened: usize,
    /// Bytes of the longest schema that arguments are checked by.
    pub longest: usize,
    /// Operations that are checked by less than their whole schema.
    pub cut: usize,
    /// How long the import took.
    pub import: Duration,
    /// How long the checks of all operations took to prepare. A daemon prepares each when it is first called.
    pub checks: Duration,
    /// The longest of these.
    pub slowest: Duration,
}

/// Reads a document as an import does.
///
/// # Errors
/// If it cannot be imported.
pub fn survey(document: &[u8]) -> Result<Survey, ConnectorsError> {
    let begin = Instant::now();
    let api = import(document)?;
    let import = begin.elapsed();
    let (mut longest, mut checks, mut slowest) = (0, Duration::ZERO, Duration::ZERO);
    for operation in &api.operations {
        let schema = operation.check_schema.as_ref().unwrap_or(&operation.input_schema);
        longest = longest.max(schema.get().len());
        let begin = Instant::now();
        let compiled = serde_json::from_str(schema.get())
            .ok()
            .and_then(|schema| Schemas::of_process().compile_blocking(&schema, Dialect::Draft202012).ok());
        let took = begin.elapsed();
        drop(compiled);
        (checks, slowest) = (checks + took, slowest.max(took));
    }
    Ok(Survey {
        operations: api.operations.len(),
        left_out: api.skipped.into_iter().map(|skipped| (skipped.operation, skipped.reason)).collect(),
        bytes: api.operations.iter().map(super::schema::size).sum(),
        shortened: api.operations.iter().filter(|operation| operation.check_schema.is_some()).count(),
        longest,
        cut: api.operations.iter().filter(|operation| operation.is_cut).count(),
        import,
        checks,
        slowest,
    })
}
