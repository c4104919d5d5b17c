use airlock::{Error, Result, Workflow, testing::Test};
use airlock_sdk as airlock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[airlock::activity(retry(attempts = 2))]
async fn resize(photo: String) -> Result<String> {
    if photo == "broken" { Err(Error::new("NoPhoto", "it is none")) } else { Ok(format!("{photo}-small")) }
}

/// What became of a batch.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
struct Report {
    done: Vec<String>,
    /// The photo, and why not.
    failed: Vec<(String, String)>,
}

/// Resizes all photos, ten at a time; one that cannot be resized is noted, and the others go on.
#[airlock::workflow]
async fn resize_all(ctx: Workflow, photos: Vec<String>) -> Result<Report> {
    let work = |photo: String| async {
        match ctx.activity(resize, photo.clone()).await {
            // Nobody wants the rest any more.
            Err(error) if error.is_cancelled() => Err(error),
            outcome => Ok((photo, outcome)),
        }
    };
    let mut report = Report::default();
    for (photo, outcome) in ctx.parallel(photos, 10, work).await? {
        match outcome {
            Ok(small) => report.done.push(small),
            Err(error) => report.failed.push((photo, error.message().to_owned())),
        }
    }
    Ok(report)
}

airlock::plugin!(workflows: [resize_all], activities: [resize]);

#[test]
fn what_fails_is_noted_and_the_others_are_done() {
    let mut photos: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    photos[7] = "broken".into();
    let ended = Test::of(AirlockPlugin).crash_at_every_commit().run("resize_all", json!({"photos": photos}));
    let report: Report = ended.output_as().unwrap();
    assert_eq!(report.done.len(), 19);
    assert_eq!(report.failed, [("broken".to_owned(), "it is none".to_owned())]);
}

#[test]
fn a_cancelled_batch_ends() {
    let photos: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let ended =
        Test::of(AirlockPlugin).cancel_after(3, "enough").run("resize_all", json!({"photos": photos}));
    assert!(ended.output.unwrap_err().is_cancelled());
}
