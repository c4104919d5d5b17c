//! Inputs that people are asked for.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use serde_json::{Value, value::RawValue};

use crate::Result;

/// What people are asked for, by task.
pub(crate) type Pending = Rc<RefCell<BTreeMap<String, Wanted>>>;

/// One of them.
pub(crate) struct Wanted {
    pub(super) schema: Value,
    pub(super) label: Option<String>,
    pub(super) check: fn(&str) -> Result<()>,
    /// When nobody waits for it any more, in milliseconds since the Unix epoch.
    pub(super) expires_at_ms: Option<u64>,
    pub(super) given: Option<Box<RawValue>>,
}
