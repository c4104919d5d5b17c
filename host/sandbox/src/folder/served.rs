//! What the rest of the sandbox sees of the folder: an unchanging picture, replaced as a whole.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use airlock_engine::{Digest, guests::PluginStatus};

use crate::policy::Policy;

/// The folder at one moment.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// Every file, sorted by name.
    pub(crate) statuses: Vec<PluginStatus>,
    /// The code behind each workflow.
    pub(crate) workflows: HashMap<String, Digest>,
    /// Whatever serves.
    pub(crate) digests: HashSet<Digest>,
    /// The policy of each plugin that has a valid policy file.
    pub(crate) policies: HashMap<Arc<str>, Arc<Policy>>,
    /// Plugins whose policy file is wrong, with the reason, and that have no earlier policy.
    pub(crate) broken_policies: HashMap<Arc<str>, String>,
}
