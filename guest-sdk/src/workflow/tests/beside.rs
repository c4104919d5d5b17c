//! What goes on beside a wait: tasks, races, reminders.

use super::*;

#[test]
fn an_aborted_task_gives_up_what_it_waits_for_and_says_nothing_more() {
    let mut run = workflow!(|ctx| {
        let inner = ctx.clone();
        let reminder = ctx.spawn(async move {
            loop {
                if inner.sleep(Duration::from_secs(60)).await.is_err() {
                    return;
                }
                // Another reminder even if this one fails.
                drop(inner.activity(double, 1).await);
            }
        });
        let n = ctx.signal::<Add>().await?;
        assert!(!reminder.is_finished());
        reminder.abort();
        Ok(json!(ctx.activity(double, n).await?))
    });
    assert_eq!(step(&mut run, [Job::Started]), ["1 timer 60000"]);
    assert_eq!(step(&mut run, [Job::Resolved(1, Ok(String::new()))]), ["2 activity double 1"]);
    let signalled = step(&mut run, [Job::Signal(say("add", json!({"n": 4})))]);
    assert_eq!(signalled, ["cancel 2", "3 activity double 4"]);
    assert_eq!(step(&mut run, [ok(2, json!(2)), ok(3, json!(8))]), [r#"complete {"result":8}"#]);
}

#[test]
fn a_task_that_has_ended_or_aborts_itself_is_left_alone() {
    let mut run = workflow!(|ctx| {
        let ended = ctx.spawn(async { 1 });
        let own: std::rc::Rc<Cell<Option<airlock::JoinHandle<Result<()>>>>> = std::rc::Rc::default();
        let (inner, handle) = (ctx.clone(), own.clone());
        own.set(Some(ctx.spawn(async move {
            inner.activity(double, 1).await?;
            if let Some(handle) = handle.take() {
                handle.abort();
            }
            inner.activity(double, 2).await.map(drop)
        })));
        ctx.activity(double, 3).await?;
        let finished = ended.is_finished();
        ended.abort();
        Ok(json!(finished))
    });
    assert_eq!(step(&mut run, [Job::Started]), ["1 activity double 3", "2 activity double 1"]);
    // It goes as far as its next wait, which is not kept.
    assert_eq!(step(&mut run, [ok(2, json!(2))]), ["3 activity double 2", "cancel 3"]);
    assert_eq!(step(&mut run, [ok(1, json!(6))]), [r#"complete {"result":true}"#]);
}

#[test]
fn a_race_is_won_by_the_first_to_end_and_the_other_is_given_up() {
    let race = || {
        workflow!(|ctx| {
            let first = ctx.race(ctx.signal::<Add>(), ctx.sleep(Duration::from_secs(1))).await;
            Ok(match first {
                airlock::Either::Left(n) => json!(n?),
                airlock::Either::Right(slept) => {
                    slept?;
                    json!("late")
                }
            })
        })
    };
    let mut run = race();
    assert_eq!(step(&mut run, [Job::Started]), ["1 timer 1000"]);
    let signalled = step(&mut run, [Job::Signal(say("add", json!({"n": 4})))]);
    assert_eq!(signalled, ["cancel 1", r#"complete {"result":4}"#]);
    let mut run = race();
    step(&mut run, [Job::Started]);
    assert_eq!(step(&mut run, [Job::Resolved(1, Ok(String::new()))]), [r#"complete {"result":"late"}"#]);
    // Both in one turn: the first one that is written.
    let mut run = race();
    step(&mut run, [Job::Started]);
    let both =
        step(&mut run, [Job::Resolved(1, Ok(String::new())), Job::Signal(say("add", json!({"n": 4})))]);
    assert_eq!(both, [r#"complete {"result":4}"#]);
}

#[test]
fn one_side_of_a_race_can_go_on() {
    let mut run = workflow!(|ctx| {
        let mut work = ctx.activity(double, 1);
        let mut rounds = 0;
        let n = loop {
            match ctx.race(&mut work, ctx.sleep(Duration::from_secs(1))).await {
                airlock::Either::Left(n) => break n?,
                airlock::Either::Right(slept) => slept?,
            }
            rounds += 1;
        };
        Ok(json!([n, rounds]))
    });
    assert_eq!(step(&mut run, [Job::Started]), ["1 activity double 1", "2 timer 1000"]);
    assert_eq!(step(&mut run, [Job::Resolved(2, Ok(String::new()))]), ["3 timer 1000"]);
    assert_eq!(step(&mut run, [ok(1, json!(2))]), ["cancel 3", r#"complete {"result":[2,1]}"#]);
}

#[test]
fn reminders_go_on_until_there_is_an_answer_whether_they_succeed_or_not() {
    let mut run = workflow!(|ctx| {
        let wait = ctx.wait_for_input::<u32>().label("How many?").timeout(Duration::from_secs(600));
        let n = wait.remind_every(Duration::from_secs(60), async || ctx.activity(double, 1).await.map(drop));
        Ok(json!(n.get().await?))
    });
    let asked = step(&mut run, [Job::Started]);
    assert_eq!(asked[2..], ["1 timer 60000", "2 timer 600000"], "{asked:?}");
    assert_eq!(step(&mut run, [Job::Resolved(1, Ok(String::new()))]), ["3 activity double 1"]);
    let failed = Job::Resolved(3, Err(Error::new("Mail", "no server")));
    assert_eq!(step(&mut run, [failed]), ["4 timer 60000"]);
    let pending: Value = serde_json::from_str(&run.query("__get_pending_inputs", "{}").unwrap()).unwrap();
    let task = pending["pending_inputs"][0]["task_id"].clone();
    let answer = say("__submit_input", json!({"task_id": task, "input": 3}));
    let done = step(&mut run, [Job::Update("a".into(), answer)]);
    assert!(done.contains(&"cancel 4".to_owned()) && done.contains(&"cancel 2".to_owned()), "{done:?}");
    assert_eq!(done.last().unwrap(), r#"complete {"result":3}"#);
}

#[test]
fn a_wait_with_reminders_ends_when_the_execution_is_cancelled() {
    let mut run = workflow!(|ctx| {
        let wait = ctx.wait_for_input::<u32>();
        Ok(json!(wait.remind_every(Duration::from_secs(60), async || Ok(())).get().await?))
    });
    step(&mut run, [Job::Started]);
    assert_eq!(step(&mut run, [cancel()]).last().unwrap(), "cancelled");
}
