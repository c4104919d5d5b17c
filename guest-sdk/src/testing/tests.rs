//! The host of tests against plugins of its own.

use std::{cell::RefCell, rc::Rc, time::Duration};

use serde_json::{Value, json};

use super::Test;
use crate::{self as airlock, CallOptions, Error, Result, Sent, Workflow};

airlock::signal!(Approve(approved: bool) = "approve");
airlock::query!(Count() -> u32 = "count");
airlock::update!(Rename(name: String) -> String = "rename");

#[airlock::activity(retry(attempts = 3))]
async fn flaky(context: airlock::ActivityContext) -> Result<u32> {
    let before: u32 = context.heartbeat_details().unwrap_or_default();
    context.heartbeat_with(before + 1)?;
    if before < 2 { Err(Error::new("Again", "not yet")) } else { Ok(before) }
}

#[airlock::workflow(signals(Approve), queries(Count), updates(Rename))]
async fn approval(ctx: Workflow) -> Result<Value> {
    let name = Rc::new(RefCell::new("unnamed".to_owned()));
    let (shown, renamed) = (name.clone(), name.clone());
    ctx.on_query::<Count>(move |()| Ok(shown.borrow().len() as u32));
    ctx.on_valid_update::<Rename, _>(
        |sent: &Sent<String>| {
            if sent.value.is_empty() { Err(Error::new("Empty", "a name, please")) } else { Ok(()) }
        },
        move |sent| {
            let before = renamed.replace(sent.value);
            async move { Ok(before) }
        },
    );
    let approved = ctx.timeout(Duration::from_secs(60), ctx.signal::<Approve>()).await??;
    let attempts = ctx.activity(flaky, ()).await?;
    let name = name.borrow().clone();
    Ok(json!({"approved": approved, "attempts": attempts, "name": name}))
}

#[airlock::workflow(name = "counter")]
async fn counter(ctx: Workflow, n: u32) -> Result<u32> {
    ctx.sleep(Duration::from_secs(1)).await?;
    if n < 3 { ctx.continue_as_new(n + 1) } else { Ok(n) }
}

#[airlock::workflow(name = "parent")]
async fn parent(ctx: Workflow) -> Result<u32> {
    let doubled: u32 = ctx.child_named("elsewhere", json!({"n": 2})).await?;
    Ok(ctx.child(counter, 1).await? + doubled)
}

#[airlock::workflow(name = "again", retry(attempts = 2))]
async fn again(ctx: Workflow) -> Result<u32> {
    if ctx.attempt() == 1 { Err(Error::new("First", "fails")) } else { Ok(ctx.attempt()) }
}

airlock::connector!(Crm = "crm");

#[derive(serde::Deserialize)]
struct Contact {
    name: String,
}

#[airlock::activity]
async fn contact(id: String, crm: airlock::Tools<Crm>) -> Result<String> {
    let call = crm.call("get_contact", json!({"id": id})).retries(3);
    Ok(call.data::<Contact>().await?.name)
}

#[airlock::workflow(connectors(Crm))]
async fn contacts(ctx: Workflow) -> Result<Vec<String>> {
    let first = ctx.activity(contact, "ada".to_owned()).await?;
    let call = ctx.call_tool::<Crm>("get_contact", json!({"id": "bea"})).credentials("work");
    Ok(vec![first, call.data::<Contact>().await?.name])
}

crate::plugin!(workflows: [approval, counter, parent, again, contacts], activities: [flaky, contact]);

#[test]
fn messages_come_at_their_moment_and_crashes_change_nothing() {
    let test = || {
        Test::of(AirlockPlugin)
            .update_at::<Rename>(Duration::from_secs(1), &String::new())
            .update_at::<Rename>(Duration::from_secs(2), &"ada".to_owned())
            .signal_at::<Approve>(Duration::from_secs(30), &true)
    };
    let ended = test().run("approval", json!({}));
    assert_eq!(ended.output.as_ref().unwrap(), &json!({"approved": true, "attempts": 2, "name": "ada"}));
    assert_eq!(ended.updates.len(), 2);
    assert_eq!(ended.updates[0].as_ref().unwrap_err().kind(), "Empty");
    assert_eq!(ended.updates[1].as_ref().unwrap(), "unnamed");
    assert_eq!(ended.query::<Count>(&()).unwrap(), 3);
    let crashed = test().crash_at_every_commit().run("approval", json!({}));
    assert_eq!(crashed.output.unwrap(), ended.output.unwrap());
}

#[test]
fn a_signal_that_comes_too_late_is_a_timeout() {
    let ended = Test::of(AirlockPlugin)
        .signal_at::<Approve>(Duration::from_secs(61), &true)
        .run("approval", json!({}));
    assert_eq!(ended.output.unwrap_err().kind(), Error::TIMEOUT);
}

#[test]
fn activities_and_children_can_be_mocked_or_real() {
    let ended = Test::of(AirlockPlugin)
        .child("elsewhere", |input| Ok(json!({"result": input["n"].as_u64().unwrap() * 2})))
        .run("parent", json!({}));
    assert_eq!(ended.output.unwrap(), json!({"result": 7}));
    assert_eq!(ended.steps.iter().filter(|step| *step == "continue as new").count(), 2);
    let ended = Test::of(AirlockPlugin)
        .activity(flaky, |()| Ok(9))
        .signal_after::<Approve>(0, &false)
        .run("approval", json!({}));
    assert_eq!(ended.output.unwrap()["attempts"], 9);
}

#[test]
fn mocked_tools_see_the_options_of_a_call() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let noted = seen.clone();
    let ended = Test::of(AirlockPlugin)
        .tool_with_options::<Crm>("get_contact", move |arguments, options| {
            noted.borrow_mut().push(options.clone());
            let envelope = json!({"success": true, "data": {"name": arguments["id"]}, "metadata": {}});
            Ok(json!({"content": [], "metadata": {"mcp_meta": {"structuredContent": envelope}}}))
        })
        .run("contacts", json!({}));
    assert_eq!(ended.output.unwrap(), json!({"result": ["ada", "bea"]}));
    let options = CallOptions { retries: Some(3), ..CallOptions::default() };
    let work = CallOptions { credentials_name: Some("work".into()), ..CallOptions::default() };
    assert_eq!(*seen.borrow(), [options, work]);
}

#[test]
fn a_workflow_is_tried_again_as_its_policy_says() {
    let ended = Test::of(AirlockPlugin).run("again", json!({}));
    assert_eq!(ended.output.unwrap(), json!({"result": 2}));
    assert_eq!(ended.steps, ["retry"]);
}

#[test]
fn a_downloaded_history_is_repeated_and_the_first_difference_named() {
    let history = |milliseconds: u64| {
        json!({"execution_id": "e", "events": [
            {"event_id": 1, "at_ms": 1000, "record": {"Started": {
                "run_id": "r", "workflow": "counter", "input": {"n": 3}, "seed": 1, "attempt": 1, "parent": null}}},
            {"event_id": 2, "at_ms": 1000, "record": {"Activation": {"jobs": ["Started"], "commands": [
                {"StartTimer": {"seq": 1, "duration": {"secs": milliseconds / 1000, "nanos": 0}}}]}}},
            {"event_id": 4, "at_ms": 2000, "record": {"Activation": {"jobs": [{"TimerFired": {"seq": 1}}],
                "commands": [{"Complete": {"result": {"result": 3}}}]}}},
        ]})
        .to_string()
    };
    Test::of(AirlockPlugin).replay(&history(1000)).unwrap();
    let error = Test::of(AirlockPlugin).replay(&history(9000)).unwrap_err();
    assert!(error.message().starts_with("event 3 of the history is"), "{error}");
    assert!(Test::of(AirlockPlugin).replay("{}").is_err());
}

mod undeclared {
    //! What a plugin uses and does not declare, where the compiler does not see it.

    use super::*;

    airlock::connector!(Mail = "mail");
    airlock::signal!(Go() = "go");

    #[airlock::activity]
    async fn send(mail: airlock::Tools<Mail>) -> Result<()> {
        mail.call("send", json!({})).await.map(drop)
    }

    #[airlock::activity]
    async fn unlisted() -> Result<()> {
        Ok(())
    }

    /// Declares the connector, so that the plugin has somebody who does.
    #[airlock::workflow(connectors(Mail))]
    async fn sender(ctx: Workflow) -> Result<()> {
        ctx.activity(send, ()).await
    }

    async fn help(ctx: &Workflow, what: &str) -> Result<()> {
        match what {
            "activity" => ctx.activity(send, ()).await,
            "tool" => ctx.call_tool::<Mail>("send", json!({})).await.map(drop),
            "list" => ctx.list_tools::<Mail>().await.map(drop),
            "auth" => ctx.await_auth::<Mail>().await.map(drop),
            "unlisted" => ctx.activity(unlisted, ()).await,
            "child" => ctx.child(personal, ()).await,
            "signal" => ctx.signal::<Go>().await,
            "query" => {
                ctx.on_query::<Count>(|()| Ok(1));
                Ok(())
            }
            _ => {
                ctx.on_update::<Rename, _>(|sent| async { Ok(sent.value) });
                Ok(())
            }
        }
    }

    #[airlock::workflow(on_behalf_of)]
    async fn personal(ctx: Workflow) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    #[airlock::workflow]
    async fn careless(ctx: Workflow, what: String) -> Result<()> {
        help(&ctx, &what).await
    }

    crate::plugin!(workflows: [sender, careless, personal], activities: [send]);

    fn test() -> Test<AirlockPlugin> {
        Test::of(AirlockPlugin)
            .tool::<Mail>("send", |_| Ok(json!({"content": [], "metadata": {}})))
            .activity(send, |()| Ok(()))
            .activity(unlisted, |()| Ok(()))
    }

    #[test]
    fn a_connector_is_refused_as_the_daemon_refuses_it_even_behind_a_mock() {
        for what in ["activity", "tool", "list", "auth"] {
            let error = test().run("careless", json!({"what": what})).output.unwrap_err();
            assert_eq!(error.kind(), Error::CONNECTOR, "{what}");
            assert!(error.message().contains("'mail' is not resolved for this workflow"), "{what}: {error}");
        }
        test().run("sender", json!({})).output.unwrap();
    }

    #[test]
    fn an_activity_that_is_not_listed_is_refused_even_behind_a_mock() {
        let error = test().run("careless", json!({"what": "unlisted"})).output.unwrap_err();
        assert_eq!(error.kind(), Error::NOT_FOUND);
        assert!(error.message().contains("list it in plugin!"), "{error}");
    }

    #[test]
    fn a_child_that_acts_for_the_caller_wants_a_parent_that_does() {
        let error = test().run("careless", json!({"what": "child"})).output.unwrap_err();
        assert_eq!(error.kind(), "NotOnBehalfOf");
    }

    #[test]
    #[should_panic(expected = "the daemon takes objects as inputs, not \"a\"")]
    fn an_input_that_is_no_object_fails_the_test() {
        test().run("careless", "a");
    }

    #[test]
    #[should_panic(expected = "has no query 'count': it has none. Name it in the workflow's `queries(…)`")]
    fn a_query_that_nobody_could_ask_fails_the_test() {
        test().run("careless", json!({"what": "query"}));
    }

    #[test]
    #[should_panic(expected = "has no update 'rename'")]
    fn an_update_that_nobody_could_send_fails_the_test() {
        test().run("careless", json!({"what": "update"}));
    }

    #[test]
    #[should_panic(expected = "has no signal 'go'")]
    fn a_signal_that_nobody_could_send_fails_the_test() {
        test().run("careless", json!({"what": "signal"}));
    }

    #[test]
    #[should_panic(expected = "has no signal 'go'")]
    fn a_signal_that_the_daemon_would_refuse_cannot_be_planned() {
        test().signal_after::<Go>(0, &()).run("sender", json!({}));
    }
}

mod definitions {
    //! What the daemon would not take up.

    use super::*;
    use crate::{PluginDefinition, testing::declarations::check};

    airlock::connector!(Crm = "crm");
    airlock::query!(Hidden() -> u32 = "__hidden");

    #[airlock::activity(connectors(Crm))]
    async fn twice(crm: airlock::Tools<Crm>) -> Result<()> {
        crm.list().await.map(drop)
    }

    #[airlock::workflow(connectors(Crm), search_keys("a"))]
    async fn fine(ctx: Workflow) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    #[airlock::workflow(queries(Hidden))]
    async fn reserved(ctx: Workflow) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    #[airlock::workflow(search_keys("a:b"))]
    async fn keyed(ctx: Workflow) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    #[test]
    fn what_the_daemon_refuses_is_named() {
        let plugin = |workflows: Vec<airlock::WorkflowDefinition>| PluginDefinition {
            workflows,
            ..PluginDefinition::default()
        };
        let fine = <fine as airlock::WorkflowFn>::definition;
        check(&plugin(vec![fine()])).unwrap();
        let wrong = |plugin: &PluginDefinition| check(plugin).unwrap_err();
        assert!(wrong(&plugin(vec![])).contains("no workflow and no activity"));
        assert!(wrong(&plugin(vec![fine(), fine()])).contains("two definitions of the workflow \"fine\""));
        let reserved = <reserved as airlock::WorkflowFn>::definition();
        assert!(wrong(&plugin(vec![reserved])).contains("\"__\" are reserved"));
        let keyed = <keyed as airlock::WorkflowFn>::definition();
        assert!(wrong(&plugin(vec![keyed])).contains("\"a:b\" cannot be a search key"));
        let mut never = fine();
        never.execution_timeout = Some(Duration::ZERO);
        assert!(wrong(&plugin(vec![never])).contains("its execution timeout is 0"));
        let twice = <twice as airlock::Activity>::definition();
        let activities = PluginDefinition { activities: vec![twice], ..PluginDefinition::default() };
        assert!(wrong(&activities).contains("\"crm\" is declared twice"));
    }
}

mod numbers {
    //! A history that was downloaded holds numbers that only their text keeps.

    use super::*;

    #[airlock::workflow(name = "wide")]
    async fn wide(ctx: Workflow, n: u128) -> Result<u128> {
        ctx.sleep(Duration::from_secs(1)).await?;
        if n == u128::MAX { Ok(n) } else { Err(Error::new("Changed", n.to_string())) }
    }

    crate::plugin!(workflows: [wide]);

    #[test]
    fn a_history_with_wide_numbers_is_repeated() {
        let n = u128::MAX;
        let history = format!(
            r#"{{"execution_id": "e", "events": [
                {{"event_id": 1, "at_ms": 1000, "record": {{"Started": {{
                    "run_id": "r", "workflow": "wide", "input": {{"n": {n}}}, "seed": 1, "attempt": 1, "parent": null}}}}}},
                {{"event_id": 2, "at_ms": 1000, "record": {{"Activation": {{"jobs": ["Started"], "commands": [
                    {{"StartTimer": {{"seq": 1, "duration": {{"secs": 1, "nanos": 0}}}}}}]}}}}}},
                {{"event_id": 4, "at_ms": 2000, "record": {{"Activation": {{"jobs": [{{"TimerFired": {{"seq": 1}}}}],
                    "commands": [{{"Complete": {{"result": {{"result": {n}}}}}}}]}}}}}},
                {{"event_id": 6, "at_ms": 2000, "record": "Closed"}}
            ]}}"#
        );
        Test::of(AirlockPlugin).replay(&history).unwrap();
        let ended = Test::of(AirlockPlugin).run("wide", std::collections::BTreeMap::from([("n", n)]));
        assert_eq!(ended.output_as::<u128>().unwrap(), n);
    }
}
