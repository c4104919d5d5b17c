//! The engine's things in the client's shapes (contract §11).

use std::time::SystemTime;

use airlock_engine::{Digest, engine::ExecutionView, guests::Guests, store::ExecutionRow};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{deployed::Deployments, part::Part};

/// For ids that follow from names, so that they are the same on every start.
const NAMESPACE: Uuid = Uuid::from_u128(0x6169_726c_6f63_6b00_8000_7065_7273_6973);

/// The client wants a namespace; there is one.
pub(crate) const WORKSPACE: &str = "default";

pub(crate) fn time(ms: u64) -> String {
    let time = DateTime::<Utc>::from_timestamp_millis(ms as i64).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

pub(crate) fn workflow_id(name: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

pub(crate) fn deployment_id(name: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("deployment {name}").as_bytes())
}

pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

pub(crate) fn registration_id(name: &str, digest: &Digest) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{name}@{digest}").as_bytes())
}

/// `WorkflowExecutionWithoutResultResponse`.
pub(crate) fn row(row: &ExecutionRow, deployments: &Deployments) -> Value {
    let total = row.ended_at.map(|ended| ended.saturating_sub(row.started_at));
    json!({
        "workflow_name": row.workflow,
        "execution_id": row.id,
        "root_execution_id": row.root,
        "status": row.status,
        "start_time": time(row.started_at),
        "end_time": row.ended_at.map(time),
        "workflow_id": workflow_id(&row.workflow),
        "deployment_name": deployments.of(row),
        "parent_execution_id": row.parent.as_ref().map(|parent| &parent.id),
        "run_id": row.run_id.to_string(),
        "user_id": row.principal.user,
        "total_duration_ms": total,
        "schedule_id": row.schedule,
    })
}

/// `WorkflowExecutionResponse`, with `failure`, `blocked`, `paused` and `digest` beside what the client
/// knows.
pub(crate) fn execution(view: &ExecutionView, guests: &dyn Guests) -> Part {
    let failure = view.failure.as_ref().map_or(Part::Value(Value::Null), |failure| {
        let words = json!({ "kind": failure.kind, "message": failure.message });
        Part::with(words, [("details", failure.details.as_ref().into())])
    });
    let mut value = row(&view.row, &Deployments::now(guests));
    value["blocked"] = json!(view.blocked);
    value["paused"] = json!(view.paused);
    value["digest"] = json!(view.row.digest.to_string());
    Part::with(value, [("result", view.result.as_ref().into()), ("failure", failure)])
}
