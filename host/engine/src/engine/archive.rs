//! Workflows that are not to be started any more. What runs goes on, with everything that it starts.

use std::collections::HashSet;

use parking_lot::RwLock;

use super::Engine;

/// The names of workflows that are archived. Whoever lets people archive keeps them over restarts.
#[derive(Default)]
pub(super) struct Archive(RwLock<HashSet<String>>);

impl Archive {
    pub(super) fn holds(&self, workflow: &str) -> bool {
        self.0.read().contains(workflow)
    }
}

impl Engine {
    /// Whether clients and schedules may not start this workflow.
    pub fn is_archived(&self, workflow: &str) -> bool {
        self.archive.holds(workflow)
    }

    /// From now on clients and schedules start no executions of this workflow, or start them again.
    pub fn set_archived(&self, workflow: &str, archived: bool) {
        let mut names = self.archive.0.write();
        match archived {
            true => names.insert(workflow.to_owned()),
            false => names.remove(workflow),
        };
    }
}
