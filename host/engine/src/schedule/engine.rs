//! Schedules start executions of the engine. The only place here that knows it.

use std::{sync::Arc, time::Duration};

use airlock_schemas::{Dialect, Outcome, Schemas};
use async_trait::async_trait;
use futures::future::BoxFuture;

use super::{Executions, Outcome as Ended, OwnExecution, Problem, Refusal, ScheduleStart, StartFailed};
use crate::{
    Engine, ExecutionId, Extensions, Json,
    engine::{Address, StartError, StartRequest},
    guests::GuestError,
    store::{Status, StoreError},
};

/// How long to wait before the store is asked again for the end of an execution.
const PAUSE: Duration = Duration::from_secs(1);

impl OwnExecution {
    /// Whom to speak to: nobody but this one, whoever has its id by now.
    fn address(&self) -> Address<'_> {
        Address::of_schedule(&self.execution_id, &self.owner, &self.schedule_id)
    }
}

#[async_trait]
impl Executions for Arc<Engine> {
    async fn check(&self, workflow: &str, input: &Json, extensions: &Extensions) -> Result<(), Refusal> {
        let unknown = || Refusal::UnknownWorkflow(workflow.into());
        let digest = self.serving(workflow).await.ok_or_else(unknown)?;
        let definition =
            self.guests().definition(&digest).await.map_err(|error| Refusal::Unusable(error.to_string()))?;
        let definition = definition.workflow(workflow).ok_or_else(unknown)?;
        if definition.on_behalf_of {
            return Err(Refusal::OnBehalfOf(workflow.into()));
        }
        extensions.check_scheduled(definition).map_err(|problem| {
            Refusal::Extensions(Problem::new(format!("/extensions{}", problem.pointer), problem.message))
        })?;
        let (bytes, limit) = (input.as_str().len(), self.config().max_input_bytes);
        if bytes > limit {
            let message = format!(
                "the input has {bytes} bytes, the limit is {limit}: pass a reference to the data instead"
            );
            return Err(Refusal::Input(vec![Problem::new("/input", message)]));
        }
        let compiled = Schemas::of_process().compile(&definition.input_schema.value(), Dialect::Input).await;
        let checked = compiled.map_err(|refused| {
            Refusal::Unusable(format!("the input schema of '{workflow}' cannot be used: {refused}"))
        })?;
        let input = if input.is_null() { serde_json::json!({}) } else { input.value() };
        let at = |place: &str, message: String| Problem::new(format!("/input{place}"), message);
        match checked.check(&input).await {
            Outcome::Fits => Ok(()),
            Outcome::Differs(differences) => Err(Refusal::Input(
                differences
                    .into_iter()
                    .map(|difference| at(&difference.instance, difference.message))
                    .collect(),
            )),
            Outcome::Undecided(undecided) => Err(Refusal::Input(vec![at("", undecided.to_string())])),
        }
    }

    async fn may_start(&self, start: &ScheduleStart) -> Result<(), StartFailed> {
        still_allowed(self, start).await?;
        Engine::may_start(self, &request(start.clone())).await.map_err(failed)?;
        match self.get(&start.execution_id) {
            Ok(Some(found)) if !own(start).address().reaches(&found.row) => {
                Err(StartFailed::ForGood(not_ours(&start.execution_id)))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(StartFailed::ForNow(error.to_string())),
        }
    }

    async fn start(&self, start: ScheduleStart) -> Result<(), StartFailed> {
        // A schedule makes up for what was missed: a start that crashes the process would come at every start.
        let _running = match self.starting(&start.execution_id) {
            Ok(running) => running,
            Err(held) => return Err(StartFailed::ForGood(format!("the start is {held}"))),
        };
        still_allowed(self, &start).await?;
        let own = own(&start);
        match Engine::start(self, request(start)).await {
            Ok(_) => Ok(()),
            Err(StartError::AlreadyExists(id)) => match self.get(&id) {
                // From before a crash.
                Ok(Some(found)) if own.address().reaches(&found.row) => Ok(()),
                Ok(Some(_)) => Err(StartFailed::ForGood(not_ours(&id))),
                // Somebody is about to begin under the id, and it is not known yet who.
                Ok(None) => Err(StartFailed::ForNow(format!("the id '{id}' is being taken"))),
                Err(error) => Err(StartFailed::ForNow(error.to_string())),
            },
            Err(error) => Err(failed(error)),
        }
    }

    fn has_started(&self, which: &OwnExecution) -> Result<bool, String> {
        let found = self.get(&which.execution_id).map_err(|error| error.to_string())?;
        Ok(found.is_some_and(|found| which.address().reaches(&found.row)))
    }

    async fn cancel(&self, which: &OwnExecution, reason: String) {
        if let Err(error) = Engine::cancel(self, which.address(), reason).await {
            tracing::warn!(id = %which.execution_id, %error, "a schedule cannot cancel its execution");
        }
    }

    async fn terminate(&self, which: &OwnExecution, reason: String) {
        if let Err(error) = Engine::terminate(self, which.address(), reason).await {
            tracing::warn!(id = %which.execution_id, %error, "a schedule cannot end its execution");
        }
    }

    fn ended(&self, which: &OwnExecution) -> BoxFuture<'static, Option<Ended>> {
        let (engine, which) = (Self::clone(self), which.clone());
        Box::pin(async move {
            loop {
                match engine.wait(which.address(), None).await {
                    Ok(None) => return None,
                    Ok(Some(view)) => match view.row.status {
                        Status::Running => {}
                        Status::Completed => return Some(Ended::Completed),
                        Status::Failed | Status::TimedOut => return Some(Ended::Failed),
                        _ => return Some(Ended::Stopped),
                    },
                    Err(error) => {
                        let id = &which.execution_id;
                        tracing::warn!(%id, %error, "the end of an execution cannot be read; trying again");
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        })
    }
}

/// What the workflow says of itself may have changed since the schedule was made.
async fn still_allowed(engine: &Arc<Engine>, start: &ScheduleStart) -> Result<(), StartFailed> {
    match engine.check(&start.workflow, &start.input, &start.extensions).await {
        Err(refusal @ (Refusal::OnBehalfOf(_) | Refusal::Extensions(_))) => {
            Err(StartFailed::ForGood(refusal.to_string()))
        }
        _ => Ok(()),
    }
}

/// The execution that a start makes.
fn own(start: &ScheduleStart) -> OwnExecution {
    OwnExecution {
        execution_id: start.execution_id.clone(),
        schedule_id: start.schedule_id.clone(),
        owner: start.principal.clone(),
    }
}

fn not_ours(id: &ExecutionId) -> String {
    format!("the id '{id}' belongs to an execution that this schedule did not start: this time is left out")
}

/// What is asked of the engine.
fn request(start: ScheduleStart) -> StartRequest {
    let Extensions { mocks, wishes } = start.extensions;
    StartRequest {
        execution_id: Some(start.execution_id),
        schedule: Some(start.schedule_id),
        mocks,
        wishes,
        ..StartRequest::new(start.workflow, start.input, start.principal)
    }
}

/// What becomes of a time whose execution was refused.
fn failed(error: StartError) -> StartFailed {
    match error {
        StartError::Archived(_) => StartFailed::Skipped(error.to_string()),
        StartError::ShuttingDown
        | StartError::Store(StoreError::Full | StoreError::ReadOnly(_) | StoreError::Failed(_))
        | StartError::Guest(GuestError::Host(_)) => StartFailed::ForNow(error.to_string()),
        error => StartFailed::ForGood(error.to_string()),
    }
}
