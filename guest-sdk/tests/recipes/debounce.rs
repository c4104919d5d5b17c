use std::time::Duration;

use airlock::{Result, Workflow, testing::Test};
use airlock_sdk as airlock;
use serde_json::json;

#[airlock::activity]
async fn publish(draft: String) -> Result<()> {
    let _ = draft;
    Ok(())
}

airlock::signal!(Changed(draft: String) = "changed");

/// Publishes the newest draft as soon as nobody has changed it for a minute.
#[airlock::workflow(signals(Changed), execution_timeout = "1d")]
async fn publish_when_quiet(ctx: Workflow) -> Result<String> {
    let mut newest = ctx.signal::<Changed>().await?;
    while let Ok(changed) = ctx.timeout(Duration::from_secs(60), ctx.signal::<Changed>()).await {
        newest = changed?;
    }
    ctx.activity(publish, newest.clone()).await?;
    Ok(newest)
}

airlock::plugin!(workflows: [publish_when_quiet], activities: [publish]);

#[test]
fn many_changes_are_published_once() {
    let second = Duration::from_secs(1);
    let mut test = Test::of(AirlockPlugin).crash_at_every_commit();
    for (at, draft) in [(1, "one"), (50, "two"), (100, "three"), (200, "too late")] {
        test = test.signal_at::<Changed>(at * second, &draft.to_owned());
    }
    let ended = test.run("publish_when_quiet", json!({}));
    assert_eq!(ended.output.unwrap(), json!({"result": "three"}));
    assert_eq!(ended.steps.iter().filter(|step| *step == "activity publish").count(), 1);
}
