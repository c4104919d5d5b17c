use std::{cell::Cell, time::Duration};

use airlock::{Error, Result, Workflow, testing::Test};
use airlock_sdk as airlock;
use serde_json::json;

/// The report, if it is there by now.
#[airlock::activity]
async fn fetch_report(id: String) -> Result<Option<String>> {
    Ok((id == "there").then_some(id))
}

const SECOND: Duration = Duration::from_secs(1);

/// Looks until the report is there, less and less often, for a day at most.
#[airlock::workflow(execution_timeout = "2d")]
async fn await_report(ctx: Workflow, id: String) -> Result<String> {
    let polling = async {
        let mut pause = 5 * SECOND;
        loop {
            if let Some(report) = ctx.activity(fetch_report, id.clone()).await? {
                return Ok(report);
            }
            ctx.sleep(pause).await?;
            pause = (pause * 2).min(600 * SECOND);
        }
    };
    ctx.timeout(86_400 * SECOND, polling).await?
}

airlock::plugin!(workflows: [await_report], activities: [fetch_report]);

#[test]
fn it_looks_again_until_there_is_something() {
    let looks = Cell::new(0);
    let ended = Test::of(AirlockPlugin)
        .activity(fetch_report, move |id| {
            looks.set(looks.get() + 1);
            Ok((looks.get() == 4).then_some(id))
        })
        .crash_at_every_commit()
        .run("await_report", json!({"id": "r7"}));
    assert_eq!(ended.output.unwrap(), json!({"result": "r7"}));
    let pauses: Vec<&String> = ended.steps.iter().filter(|step| step.starts_with("timer")).collect();
    assert_eq!(pauses, ["timer 86400000 ms", "timer 5000 ms", "timer 10000 ms", "timer 20000 ms"]);
}

#[test]
fn it_gives_up_after_a_day() {
    let ended = Test::of(AirlockPlugin).run("await_report", json!({"id": "never"}));
    assert_eq!(ended.output.unwrap_err().kind(), Error::TIMEOUT);
}
