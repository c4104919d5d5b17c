use std::time::Duration;

use airlock::{Error, Result, Workflow, testing::Test};
use airlock_sdk as airlock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
enum Plan {
    Basic,
    Full,
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Asks which plan it is to be; without an answer within a week it is the basic one.
#[airlock::workflow(execution_timeout = "8d")]
async fn choose_plan(ctx: Workflow) -> Result<Plan> {
    match ctx.wait_for_input().label("Which plan?").timeout(WEEK).get().await {
        Err(error) if error.kind() == Error::TIMEOUT => Ok(Plan::Basic),
        answer => answer,
    }
}

airlock::signal!(Chosen(plan: Plan) = "chosen");

/// The same with a signal.
#[airlock::workflow(signals(Chosen), execution_timeout = "8d")]
async fn await_plan(ctx: Workflow) -> Result<Plan> {
    match ctx.timeout(WEEK, ctx.signal::<Chosen>()).await {
        Ok(chosen) => chosen, // an error here is not about time: the execution was cancelled
        Err(_) => Ok(Plan::Basic),
    }
}

airlock::plugin!(workflows: [choose_plan, await_plan]);

#[test]
fn an_answer_in_time_counts_and_otherwise_the_default() {
    for (at, plan) in [(WEEK / 2, "Full"), (WEEK * 2, "Basic")] {
        let asked = Test::of(AirlockPlugin).input_at(at, "Full").crash_at_every_commit();
        assert_eq!(asked.run("choose_plan", json!({})).output.unwrap(), json!({"result": plan}));
        let told = Test::of(AirlockPlugin).signal_at::<Chosen>(at, &Plan::Full).crash_at_every_commit();
        assert_eq!(told.run("await_plan", json!({})).output.unwrap(), json!({"result": plan}));
    }
}

#[test]
fn a_cancelled_wait_has_no_default() {
    for workflow in ["choose_plan", "await_plan"] {
        let ended = Test::of(AirlockPlugin).cancel_at(WEEK / 2, "no more").run(workflow, json!({}));
        assert!(ended.output.unwrap_err().is_cancelled(), "{workflow}");
    }
}
