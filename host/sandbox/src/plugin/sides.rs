//! The two sides of a component. An instance is of one of them and looks up its exports alone: to look one up is to compare
//! its whole type, and that of the workflows' side took a twelfth of an activity that does nothing. When a plugin is
//! described everything is compared once.

use wasmtime::{Result, Store, component::InstancePre};

use crate::{
    activity::state::ActivityState,
    bindings::exports::airlock::plugin::{activities, workflows},
    workflow::state::WorkflowState,
};

/// A component linked for activities.
pub(crate) struct Activities {
    component: InstancePre<ActivityState>,
    exports: activities::GuestIndices,
}

impl Activities {
    pub(super) fn new(component: InstancePre<ActivityState>) -> Result<Self> {
        let exports = activities::GuestIndices::new(&component)?;
        Ok(Self { component, exports })
    }

    pub(crate) async fn instantiate(&self, store: &mut Store<ActivityState>) -> Result<activities::Guest> {
        let instance = self.component.instantiate_async(&mut *store).await?;
        self.exports.load(store, &instance)
    }
}

/// A component linked for workflows.
pub(crate) struct Workflows {
    component: InstancePre<WorkflowState>,
    exports: workflows::GuestIndices,
}

impl Workflows {
    pub(super) fn new(component: InstancePre<WorkflowState>) -> Result<Self> {
        let exports = workflows::GuestIndices::new(&component)?;
        Ok(Self { component, exports })
    }

    pub(crate) async fn instantiate(&self, store: &mut Store<WorkflowState>) -> Result<workflows::Guest> {
        let instance = self.component.instantiate_async(&mut *store).await?;
        self.exports.load(store, &instance)
    }
}
