use std::time::Duration;

use airlock::{Error, Result, Workflow, testing::Test};
use airlock_sdk as airlock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[airlock::activity]
async fn notify(person: String) -> Result<()> {
    let _ = person;
    Ok(())
}

airlock::signal!(Decide(approved: bool) = "decide");

/// Who is to decide, one after the other.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Request {
    people: Vec<String>,
}

/// What was decided, and by whom.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Decision {
    approved: bool,
    by: String,
}

/// Asks one person after the other, each when those before have not decided for a day.
#[airlock::workflow(signals(Decide), execution_timeout = "30d")]
async fn escalate(ctx: Workflow, request: Request) -> Result<Decision> {
    for person in request.people {
        ctx.activity(notify, person).await?;
        if let Ok(sent) = ctx.timeout(Duration::from_secs(86_400), ctx.signal_sent::<Decide>()).await {
            // The host knows who it was: whoever was asked first may decide later.
            let sent = sent?;
            return Ok(Decision { approved: sent.value, by: sent.sender });
        }
    }
    Err(Error::new("Undecided", "nobody has decided").non_retryable())
}

airlock::plugin!(workflows: [escalate], activities: [notify]);

#[test]
fn the_next_one_is_asked_when_a_day_has_passed() {
    let input = json!({"people": ["ada", "bea", "cleo"]});
    let hour = Duration::from_secs(3600);
    let asked = |steps: &[String]| steps.iter().filter(|step| *step == "activity notify").count();
    let decided = Test::of(AirlockPlugin).signal_at::<Decide>(30 * hour, &true).crash_at_every_commit();
    let decided = decided.run("escalate", &input);
    assert!(decided.output_as::<Decision>().unwrap().approved);
    assert_eq!(asked(&decided.steps), 2);
    let silent = Test::of(AirlockPlugin).run("escalate", &input);
    assert_eq!(silent.output.unwrap_err().kind(), "Undecided");
    assert_eq!(asked(&silent.steps), 3);
}
