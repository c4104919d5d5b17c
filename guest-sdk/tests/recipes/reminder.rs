use std::time::Duration;

use airlock::{Error, Result, Workflow, testing::Test};
use airlock_sdk as airlock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Purchase {
    item: String,
    amount: u64,
}

const DAY: Duration = Duration::from_secs(86_400);

#[airlock::activity(retry(attempts = 1))]
async fn remind(purchase: Purchase) -> Result<()> {
    if purchase.amount == 0 { Err(Error::new("Mail", "the server is down")) } else { Ok(()) }
}

/// Asks a person, and reminds them once a day.
#[airlock::workflow(execution_timeout = "30d")]
async fn ask(ctx: Workflow, purchase: Purchase) -> Result<bool> {
    ctx.wait_for_input::<bool>()
        .label(format!("Buy {}?", purchase.item))
        .remind_every(DAY, || ctx.activity(remind, purchase.clone()))
        .get()
        .await
}

airlock::signal!(Approve(approved: bool) = "approve");

/// The same beside any other wait.
#[airlock::workflow(signals(Approve), execution_timeout = "30d")]
async fn approval(ctx: Workflow, purchase: Purchase) -> Result<bool> {
    let inner = ctx.clone();
    let reminders = ctx.spawn(async move {
        while inner.sleep(DAY).await.is_ok() {
            // One that fails is no reason to stop.
            let _ = inner.activity(remind, purchase.clone()).await;
        }
    });
    let approved = ctx.signal::<Approve>().await?;
    reminders.abort();
    Ok(approved)
}

airlock::plugin!(workflows: [ask, approval], activities: [remind]);

fn reminders(steps: &[String]) -> usize {
    steps.iter().filter(|step| *step == "activity remind").count()
}

#[test]
fn somebody_is_reminded_each_day_until_they_answer() {
    for amount in [7, 0] {
        let input = json!({"item": "chair", "amount": amount});
        let asked =
            Test::of(AirlockPlugin).input_at(DAY * 5 / 2, true).crash_at_every_commit().run("ask", &input);
        assert_eq!((asked.output.unwrap(), reminders(&asked.steps)), (json!({"result": true}), 2));
        let told = Test::of(AirlockPlugin).signal_at::<Approve>(DAY * 7 / 2, &false).crash_at_every_commit();
        let told = told.run("approval", &input);
        assert_eq!((told.output.unwrap(), reminders(&told.steps)), (json!({"result": false}), 3));
    }
}

#[test]
fn a_cancelled_wait_reminds_nobody() {
    let input = json!({"item": "chair", "amount": 1});
    for workflow in ["ask", "approval"] {
        let ended = Test::of(AirlockPlugin).cancel_at(DAY / 2, "no more").run(workflow, &input);
        assert!(ended.output.unwrap_err().is_cancelled());
        assert_eq!(reminders(&ended.steps), 0);
    }
}
