//! What is deployed: each file in the plugins folder is a deployment under its name. Which one runs an execution, and whether
//! the one that somebody wants can.

use airlock_engine::{
    guests::{Guests, PluginState, PluginStatus},
    store::ExecutionRow,
};

use crate::error::{ApiError, ApiResult};

/// What is deployed at a moment.
pub(crate) struct Deployments(Vec<PluginStatus>);

impl Deployments {
    pub(crate) fn now(guests: &dyn Guests) -> Self {
        Self(guests.plugins())
    }

    /// The one whose code a run has. A run that has older code is of the one that serves its workflow now.
    pub(crate) fn of(&self, row: &ExecutionRow) -> Option<&str> {
        let pinned = self.0.iter().find(|deployed| deployed.digest == row.digest);
        pinned.or_else(|| self.serving(&row.workflow)).map(|deployed| deployed.name.as_str())
    }

    /// The one that serves a workflow now.
    pub(crate) fn serving(&self, workflow: &str) -> Option<&PluginStatus> {
        self.0.iter().find(|deployed| has(deployed, workflow))
    }

    /// Checks the wish that a workflow runs in a deployment. `field` is where it stands in the body.
    pub(crate) fn check(
        guests: &dyn Guests,
        field: &str,
        wanted: Option<&str>,
        workflow: &str,
    ) -> ApiResult<()> {
        let Some(wanted) = wanted else { return Ok(()) };
        let deployments = Self::now(guests);
        let refused = |why: String| Err(ApiError::invalid(&["body", field], why));
        match deployments.0.iter().find(|deployed| deployed.name == wanted) {
            Some(deployed) if has(deployed, workflow) => Ok(()),
            Some(_) => {
                let by = deployments.serving(workflow).map_or_else(
                    || "none serves it now".to_owned(),
                    |serving| format!("'{}' serves it", serving.name),
                );
                refused(format!("the deployment '{wanted}' does not serve the workflow '{workflow}': {by}"))
            }
            None => refused(format!(
                "no deployment is called '{wanted}': see GET /v1/workflows/deployments or `airlock plugins list`"
            )),
        }
    }
}

/// Whether it serves a workflow.
pub(crate) fn has(deployed: &PluginStatus, workflow: &str) -> bool {
    matches!(&deployed.state, PluginState::Ready { definition } if definition.workflow(workflow).is_some())
}

/// Whether it serves anything.
pub(crate) fn is_active(deployed: &PluginStatus) -> bool {
    matches!(deployed.state, PluginState::Ready { .. })
}
