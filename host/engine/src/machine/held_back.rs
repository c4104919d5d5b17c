//! What a run says that is held back after crashes.

use super::Operation;
use crate::witness::Step;

/// Why a run is blocked whose step crashed the process so often, and what can be done.
pub(super) fn sentence(step: &Step, operation: Option<&Operation>, crashes: u32) -> String {
    let what = match step {
        Step::Operation { seq: 0, .. } => "its preflight, which looks for its connectors".to_owned(),
        Step::Operation { seq, attempt, .. } => match operation {
            Some(Operation::Activity { activity, .. }) => {
                format!("its activity '{activity}' (operation {seq}, attempt {attempt})")
            }
            Some(Operation::Tool { slot, tool, .. }) => {
                format!("its call of the tool '{tool}' of '{slot}' (operation {seq})")
            }
            Some(Operation::ToolList { slot }) => {
                format!("its list of the tools of '{slot}' (operation {seq})")
            }
            Some(Operation::Auth { slot, .. }) => {
                format!("its wait for authorisation for '{slot}' (operation {seq})")
            }
            Some(Operation::Child { child, .. }) => {
                format!("its start of the child '{}' (operation {seq})", child.workflow)
            }
            Some(Operation::External { execution_id, .. }) => {
                format!("its message to the execution '{execution_id}' (operation {seq})")
            }
            _ => format!("its operation {seq}"),
        },
        Step::Load(_) => "the reading of its history".to_owned(),
        _ => "a turn of its workflow".to_owned(),
    };
    format!(
        "Held back: the daemon crashed {crashes} times in a row while it ran {what}. Nothing is lost; the log of the daemon \
         says what crashed. When the cause is gone, unblock the execution and it is tried again, or terminate it"
    )
}
