//! A component that passed every check: its definition, and its code ready to be instantiated.

mod definition;
mod load;
mod rejection;
mod shape;
mod sides;

use std::sync::Arc;

use airlock_engine::{Digest, PluginDefinition};
use parking_lot::RwLock;

use self::sides::{Activities, Workflows};

pub(crate) use {load::load, rejection::Rejection, shape::check_header};

/// Loaded code.
pub(crate) struct Plugin {
    digest: Digest,
    /// The name of the file that it has, or had last. It says whose policy holds.
    name: RwLock<Arc<str>>,
    definition: Arc<PluginDefinition>,
    /// What an instance holds when it begins.
    initial_bytes: u64,
    activities: Activities,
    workflows: Workflows,
}

impl Plugin {
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn name(&self) -> Arc<str> {
        self.name.read().clone()
    }

    pub(crate) fn rename(&self, name: &str) {
        *self.name.write() = name.into();
    }

    pub(crate) fn definition(&self) -> &Arc<PluginDefinition> {
        &self.definition
    }

    pub(crate) fn initial_bytes(&self) -> u64 {
        self.initial_bytes
    }

    pub(crate) fn activities(&self) -> &Activities {
        &self.activities
    }

    pub(crate) fn workflows(&self) -> &Workflows {
        &self.workflows
    }
}
