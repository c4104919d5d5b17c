//! The birth of an execution: what is checked before, and the first turn.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
};

use parking_lot::Mutex;

use super::{
    Engine, ExecutionView,
    cell::{Cell, Live},
    now_ms, turn,
};
use crate::{
    Digest, ExecutionId, Json, Principal, RunId, WorkflowDefinition,
    guests::GuestError,
    history::Started,
    machine::Machine,
    store::{ExecutionRow, Status, StoreError, Wake},
    tools::BindingWish,
};

/// What a caller wants to run.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// Name of the workflow.
    pub workflow: String,
    /// An id of the caller's choice; it must be new.
    pub execution_id: Option<ExecutionId>,
    /// The input; `null` stands for an empty object.
    pub input: Json,
    /// On whose behalf.
    pub principal: Principal,
    /// Credentials for the slots.
    pub wishes: Vec<BindingWish>,
}

/// An execution could not be started.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// No plugin serves this workflow.
    #[error(
        "no workflow is called '{0}': see GET /v1/workflows or `airlock plugins list` for those that are served"
    )]
    UnknownWorkflow(String),
    /// The input does not match the workflow's schema.
    #[error("the input does not match the workflow's schema: {}", .0.first().map_or("", |problem| &problem.message))]
    InvalidInput(Vec<InputProblem>),
    /// The execution id is taken.
    #[error("an execution with the id '{0}' exists already: choose another id or leave it out")]
    AlreadyExists(ExecutionId),
    /// The input is too big.
    #[error("the input has {bytes} bytes, the limit is {limit}: pass a reference to the data instead")]
    TooLarge {
        /// What was sent.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The plugin cannot be used.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The start cannot be recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The daemon is about to stop.
    #[error("the daemon is shutting down: try again in a moment")]
    ShuttingDown,
}

/// A place where an input does not match.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct InputProblem {
    /// JSON pointer (RFC 6901) into the input; empty for the whole.
    pub pointer: String,
    /// What is expected there.
    pub message: String,
}

/// Compiled schemas, by component and workflow.
#[derive(Default)]
pub(super) struct Validators(Mutex<HashMap<(Digest, String), Arc<jsonschema::Validator>>>);

/// Versions come and go while a daemon runs for months.
const VALIDATORS_KEPT: usize = 512;

impl Validators {
    fn check(&self, digest: Digest, workflow: &WorkflowDefinition, input: &Json) -> Result<(), StartError> {
        let key = (digest, workflow.name.clone());
        let known = self.0.lock().get(&key).cloned();
        let validator = match known {
            Some(validator) => validator,
            None => {
                let schema = workflow.input_schema.value();
                let validator = jsonschema::validator_for(&schema).map_err(|error| {
                    GuestError::Invalid(format!(
                        "the input schema of '{}' is not valid: {error}",
                        workflow.name
                    ))
                })?;
                let validator = Arc::new(validator);
                let mut kept = self.0.lock();
                if kept.len() >= VALIDATORS_KEPT {
                    kept.clear();
                }
                kept.insert(key, Arc::clone(&validator));
                validator
            }
        };
        let input = input.value();
        if validator.is_valid(&input) {
            return Ok(());
        }
        let problems = validator
            .iter_errors(&input)
            .take(20)
            .map(|error| InputProblem {
                pointer: error.instance_path().to_string(),
                message: error.masked().to_string(),
            })
            .collect();
        Err(StartError::InvalidInput(problems))
    }
}

impl Engine {
    /// Starts an execution. It is durable when this returns; the workflow has had its first turn by then.
    pub async fn start(&self, request: StartRequest) -> Result<ExecutionView, StartError> {
        if self.closing.load(Ordering::SeqCst) {
            return Err(StartError::ShuttingDown);
        }
        let bytes = request.input.as_str().len();
        let limit = self.config.max_input_bytes;
        if bytes > limit {
            return Err(StartError::TooLarge { bytes, limit });
        }
        let unknown = || StartError::UnknownWorkflow(request.workflow.clone());
        let digest = self.guests.serving(&request.workflow).ok_or_else(unknown)?;
        let definition = self.guests.definition(&digest).await?;
        let workflow = definition.workflow(&request.workflow).ok_or_else(unknown)?;
        let input = if request.input.is_null() { Json::from(serde_json::json!({})) } else { request.input };
        self.validators.check(digest, workflow, &input)?;

        let _permit = self.turn_permits.acquire().await;
        let now = now_ms();
        let started = Started {
            run_id: RunId::generate(),
            workflow: request.workflow.clone(),
            digest,
            input,
            principal: request.principal.clone(),
            wishes: request.wishes,
            seed: rand::random(),
            execution_timeout: workflow
                .execution_timeout
                .unwrap_or(WorkflowDefinition::DEFAULT_EXECUTION_TIMEOUT),
        };
        let row = ExecutionRow {
            key: self.store.allocate(),
            id: request.execution_id.unwrap_or_else(ExecutionId::generate),
            run_id: started.run_id,
            workflow: request.workflow,
            digest,
            principal: request.principal,
            status: Status::Running,
            started_at: now,
            ended_at: None,
        };
        let cell = self.born(row)?;
        let instance = match self.guests.create(&digest, turn::init(&cell, &started, now)).await {
            Ok(instance) => Some(instance),
            // The first turn tries again and records the failure.
            Err(GuestError::Trapped(_)) => None,
            Err(error) => {
                self.drop_cell(&cell);
                return Err(error.into());
            }
        };
        let machine = Machine::start(definition, started, now);
        let live = Box::new(Live { machine, instance, index: 0, wake: Wake::Now });
        self.open.fetch_add(1, Ordering::Relaxed);
        self.loaded.fetch_add(1, Ordering::Relaxed);
        let _under_way = turn::UnderWay::new(&self.turns);
        if let Err(postponed) = self.turn(&cell, Some(live), VecDeque::new()).await {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.drop_cell(&cell);
            return Err(match postponed.why {
                StoreError::Conflict => StartError::AlreadyExists(cell.row.id.clone()),
                other => other.into(),
            });
        }
        self.drive_on(&cell).await;
        let view = cell.outcome.get().cloned();
        Ok(view.unwrap_or_else(|| ExecutionView {
            row: cell.row.clone(),
            result: None,
            failure: None,
            blocked: None,
        }))
    }

    /// A cell for a new execution, driven by the caller.
    fn born(&self, row: ExecutionRow) -> Result<Arc<Cell>, StartError> {
        let mut cells = self.cells.lock();
        if cells.by_id.contains_key(&row.id) {
            return Err(StartError::AlreadyExists(row.id));
        }
        let cell = Arc::new(Cell::driven(row));
        cells.by_id.insert(cell.row.id.clone(), cell.key);
        cells.by_key.insert(cell.key, Arc::clone(&cell));
        Ok(cell)
    }
}
