//! Following trees of executions that grow: whoever reads the events of a tree, in one piece or in many, gets every event
//! once and in order, also of children that nobody had heard of.

#![allow(unreachable_pub, reason = "the modules are the test's own")]

mod house;
mod play;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use airlock_engine::{
    history::{Command, Continuation, Record},
    store::Status,
};
use airlock_patience::LIMIT;
use axum::http::{Method, StatusCode};
use futures::future::join_all;
use house::House;
use play::{Random, plan};
use serde_json::{Value, json};
use tokio::time::timeout;

/// Reads a scope until the tree is over, with breaks at random, and asserts that numbers grow. Gives all it got.
async fn reader(house: House, scope: String, root: String, seed: u64, longest: u64) -> Vec<(u64, Value)> {
    let mut random = Random(seed);
    let mut got: Vec<(u64, Value)> = Vec::new();
    let slow = random.one_in(3);
    loop {
        let was_over = house.is_over(&root);
        let last = got.last().map(|(number, _)| *number);
        let path = format!("/v1/workflows/events/stream?{scope}");
        let mut stream = match (last, random.below(3)) {
            (None, _) => house.stream(&house.owner, &path, None).await,
            (Some(last), 0) => house.stream(&house.owner, &path, Some(last)).await,
            (Some(last), 1) => {
                house.stream(&house.owner, &format!("{path}&last_event_id={last}"), None).await
            }
            (Some(last), _) => {
                house.stream(&house.owner, &format!("{path}&start_seq={}", last + 1), None).await
            }
        };
        // Broken off after so many events, or not.
        let most = if random.one_in(3) { u64::MAX } else { random.below(longest) };
        let mut count = 0;
        let ended = loop {
            if count == most {
                break false;
            }
            let Some((number, event)) = stream.next().await else { break true };
            assert!(got.last().is_none_or(|(last, _)| *last < number), "{scope}: {number} is out of order");
            got.push((number, event));
            count += 1;
            if slow && random.one_in(8) {
                tokio::time::sleep(Duration::from_millis(random.below(6))).await;
            }
        };
        if ended && was_over {
            return got;
        }
        tokio::time::sleep(Duration::from_millis(random.below(10))).await;
    }
}

/// Pages through a tree while it grows, a few events at a time.
async fn pager(house: House, scope: String, root: String, seed: u64) -> Vec<Value> {
    let mut random = Random(seed);
    let (mut got, mut from) = (Vec::<Value>::new(), 0);
    loop {
        let was_over = house.is_over(&root);
        let (events, next) = house.page(&scope, 1 + random.below(60), from).await;
        let last = events.last().map(number_of);
        got.extend(events);
        from = match (next, last) {
            (Some(next), _) => next,
            (None, _) if was_over => return got,
            (None, Some(last)) => last + 1,
            (None, None) => from,
        };
        if next.is_none() {
            tokio::time::sleep(Duration::from_millis(random.below(10))).await;
        }
    }
}

fn number_of(event: &Value) -> u64 {
    event["event_id"]
        .as_str()
        .and_then(|id| id.strip_prefix("evt-"))
        .expect("an id")
        .parse()
        .expect("a number")
}

/// What the list must hold, from the histories themselves.
#[derive(Default)]
struct Written {
    /// How often a run began.
    starts: usize,
    /// How many events were shown.
    shown: usize,
    /// Runs that failed and are not tried again.
    failed: usize,
    /// Runs that continued as new.
    continued: usize,
    /// Names of operations, by run and task.
    names: HashMap<(String, String), String>,
}

fn written(house: &House, root: &str) -> Written {
    let mut written = Written::default();
    for row in house.runs(root) {
        let history = house.engine.history(row.key, 0, 100_000).expect("reads");
        written.failed += usize::from(row.status == Status::Failed);
        for stored in history {
            match stored.record {
                Record::Started(_) => written.starts += 1,
                Record::Emitted { .. } => written.shown += 1,
                Record::Continued { reason: Continuation::Retry, .. } => written.failed -= 1,
                Record::Continued { reason: Continuation::AsNew, .. } => written.continued += 1,
                Record::Activation { commands, .. } => {
                    for command in commands {
                        let (seq, name) = match command {
                            Command::EmitEvent { .. } => {
                                written.shown += 1;
                                continue;
                            }
                            Command::ScheduleActivity { seq, activity, .. } => (seq, activity),
                            Command::StartChild { seq, .. } => (seq, "__internal__execute_workflow".into()),
                            _ => continue,
                        };
                        let place = (row.run_id.to_string(), row.id.operation(row.run_id, seq));
                        written.names.insert(place, name);
                    }
                }
                _ => {}
            }
        }
    }
    written
}

/// Compares a list of all events of a tree with what was written.
fn hold(stored: &[Value], written: &Written) {
    assert!(stored.is_sorted_by_key(number_of));
    let of = |kind: &str| stored.iter().filter(|event| event["event_type"] == kind).count();
    assert_eq!(of("WORKFLOW_EXECUTION_STARTED"), written.starts);
    assert_eq!(of("CUSTOM_TASK_IN_PROGRESS"), written.shown);
    assert_eq!(of("WORKFLOW_EXECUTION_FAILED"), written.failed);
    assert_eq!(of("WORKFLOW_EXECUTION_CONTINUED_AS_NEW"), written.continued);
    for event in stored {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let attributes = &event["attributes"];
        match text(&event["event_type"]).as_str() {
            kind if kind.starts_with("ACTIVITY") => {
                let place = (text(&event["workflow_run_id"]), text(&attributes["task_id"]));
                assert_eq!(attributes["activity_name"], written.names[&place].as_str(), "{event}");
            }
            "WORKFLOW_EXECUTION_CONTINUED_AS_NEW" => {
                assert!(attributes["input"]["value"]["stages"].is_array(), "{event}");
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_follower_of_a_tree_that_grows_gets_all_of_its_events_once_and_in_order() {
    let house = House::new().await;
    let (runs, events) = (AtomicU64::new(0), AtomicU64::new(0));
    for seed in 1..=4 {
        let mut random = Random(seed);
        let root = format!("tree-{seed}");
        let mut room = 60;
        let mut plan = plan(&mut random, 3, &mut room);
        // There are children of all kinds at the top, whatever else.
        let child = |close: &str, wait: &str, plan: Value| json!({ "op": "child", "close": close, "wait": wait, "plan": plan });
        let longer = json!({ "stages": [[{ "op": "timer", "ms": 300 }], [{ "op": "activity", "input": { "shows": 3 } }]], "cleanup": 30 });
        let stages = plan["stages"].as_array_mut().expect("stages");
        stages.push(json!([
            child("abandon", "start", longer.clone()),
            child("cancel", "start", longer.clone()),
            child("terminate", "start", longer),
        ]));
        plan["fails"] = json!(0);
        house.start(&root, &plan).await;
        // Another tree beside it, of which nobody is told.
        house.start(&format!("beside-{seed}"), &play::plan(&mut random, 2, &mut 20)).await;

        let (tree, children, top) = (
            format!("root_workflow_exec_id={root}"),
            format!("parent_workflow_exec_id={root}"),
            format!("workflow_exec_id={root}"),
        );
        let mut readers = Vec::new();
        for number in 0..8 {
            let scope = [&tree, &tree, &tree, &tree, &tree, &tree, &children, &top][number].clone();
            let longest = [3, 20, 200, 2_000][number % 4];
            let at = random.below(400) * number as u64 / 8;
            let (house, root, seed) = (house.clone(), root.clone(), 1_000 * seed + number as u64);
            readers.push(tokio::spawn(async move {
                // Some come late.
                tokio::time::sleep(Duration::from_millis(at)).await;
                (scope.clone(), reader(house, scope, root, seed, longest).await)
            }));
        }
        let pagers: Vec<_> = (0..2)
            .map(|number| tokio::spawn(pager(house.clone(), tree.clone(), root.clone(), 7 * seed + number)))
            .collect();
        house.is_quiet(&root).await;

        let stored = house.stored(&tree).await;
        let written = written(&house, &root);
        hold(&stored, &written);
        assert_eq!(written.starts, house.runs(&root).len());
        // Each run by itself gives the same as all together.
        let mut apart = Vec::new();
        for row in house.runs(&root) {
            apart.extend(house.stored(&format!("{tree}&workflow_run_id={}", row.run_id)).await);
        }
        apart.sort_by_key(number_of);
        assert!(apart == stored, "the runs one by one: {} instead of {}", apart.len(), stored.len());

        for reader in join_all(readers).await {
            let (scope, got) = reader.expect("reads");
            let got: Vec<Value> = got.into_iter().map(|(_, event)| event).collect();
            let expected = if scope == tree { stored.clone() } else { house.stored_by_hand(&scope, &stored) };
            same(&got, &expected, &format!("seed {seed}, {scope}"));
        }
        for pager in join_all(pagers).await {
            same(&pager.expect("pages"), &stored, &format!("seed {seed}, pages"));
        }
        runs.fetch_add(written.starts as u64, Ordering::Relaxed);
        events.fetch_add(stored.len() as u64, Ordering::Relaxed);
    }
    let (runs, events) = (runs.into_inner(), events.into_inner());
    println!("{runs} runs, {events} events");
    assert!(runs > 150 && events > 1_000, "there is something to follow: {runs} runs, {events} events");
}

impl House {
    /// The events of children or of one execution among those of a tree.
    fn stored_by_hand(&self, scope: &str, stored: &[Value]) -> Vec<Value> {
        let (key, id) = scope.split_once('=').expect("a scope");
        let wanted = |event: &&Value| match key {
            "parent_workflow_exec_id" => event["parent_workflow_exec_id"] == id,
            _ => event["workflow_exec_id"] == id,
        };
        stored.iter().filter(wanted).cloned().collect()
    }
}

fn same(got: &[Value], expected: &[Value], what: &str) {
    let different = got.iter().zip(expected).position(|(got, expected)| got != expected);
    if let Some(at) = different {
        panic!("{what}: event {at} is {} and should be {}", got[at], expected[at]);
    }
    assert_eq!(got.len(), expected.len(), "{what}");
}

/// What is told of each execution: its kinds of events, by its id.
fn kinds(told: &[(u64, Value)]) -> HashMap<String, Vec<String>> {
    let mut kinds: HashMap<String, Vec<String>> = HashMap::new();
    for (_, event) in told {
        let text = |key: &str| event[key].as_str().expect("a text").to_owned();
        let kind = text("event_type").replace("WORKFLOW_EXECUTION_", "");
        kinds.entry(text("workflow_exec_id")).or_default().push(kind);
    }
    kinds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_the_children_that_clean_up_and_leaves_those_that_were_abandoned_to_themselves() {
    let house = House::new().await;
    let hour = json!([{ "op": "timer", "ms": 3_600_000 }]);
    let waits = |more: Value| json!({ "stages": [more, hour], "cleanup": 150 });
    let child = |id: &str, close: &str, plan: Value| json!({ "op": "child", "id": id, "close": close, "wait": "start", "plan": plan });
    let below = waits(json!([child("below", "cancel", waits(json!([])))]));
    let plan = json!({ "stages": [[
        child("cleans-up", "cancel", waits(json!([child("nested", "cancel", waits(json!([])))]))),
        child("abandoned", "abandon", below),
        child("killed", "terminate", waits(json!([]))),
    ], [{ "op": "timer", "ms": 200 }]] });
    house.start("top", &plan).await;
    let streams = ["root", "parent"].map(|of| {
        let (house, path) = (house.clone(), format!("/v1/workflows/events/stream?{of}_workflow_exec_id=top"));
        async move { house.stream(&house.owner, &path, None).await.rest().await }
    });
    let [tree, children]: [Vec<_>; 2] =
        timeout(LIMIT, join_all(streams)).await.expect("they end").try_into().expect("two");
    assert!(!house.is_over("top"), "the abandoned one goes on");
    let (tree, children) = (kinds(&tree), kinds(&children));
    for kinds in [&tree, &children] {
        assert_eq!(kinds["cleans-up"].last().expect("events"), "CANCELED", "{kinds:?}");
        assert_eq!(kinds["abandoned"][0], "STARTED", "{kinds:?}");
        assert_eq!(kinds["killed"], ["STARTED"], "{kinds:?}");
    }
    assert_eq!(tree["top"].last().expect("events"), "COMPLETED");
    assert_eq!(tree["nested"].last().expect("events"), "CANCELED", "{tree:?}");
    assert_eq!(tree["below"], ["STARTED"]);
    assert!(!children.contains_key("top") && !children.contains_key("nested"), "{children:?}");
    // Its own stream goes on to its end, and so does what it started.
    let path = "/v1/workflows/events/stream?workflow_exec_id=abandoned";
    let mut own = house.stream(&house.owner, path, None).await;
    assert_eq!(own.next().await.expect("an event").1["event_type"], "WORKFLOW_EXECUTION_STARTED");
    let (status, _) =
        house.json(&house.owner, Method::POST, "/v1/workflows/executions/abandoned/cancel", &json!({})).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let rest = own.rest().await;
    assert_eq!(rest.last().expect("events").1["event_type"], "WORKFLOW_EXECUTION_CANCELED");
    house.is_quiet("top").await;
    // Whoever comes back gets what came after, and no more.
    let all = house.stored("root_workflow_exec_id=top").await;
    let last = number_of(&all[all.len() / 2]);
    let path = "/v1/workflows/events/stream?root_workflow_exec_id=top";
    let later = house.stream(&house.owner, path, Some(last)).await.rest().await;
    let later: Vec<Value> = later.into_iter().map(|(_, event)| event).collect();
    same(&later, &all[all.len() / 2 + 1..], "the rest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_from_the_middle_of_a_long_history_names_what_began_long_before() {
    let house = House::new().await;
    // One child that lasts, begun first; then many short steps.
    let lasts = json!({ "op": "child", "close": "cancel", "wait": "end", "id": "lasts", "plan": { "stages": [[{ "op": "timer", "ms": 400 }]] } });
    let step = json!([{ "op": "activity", "input": { "shows": 1 } }]);
    let inner = json!({ "stages": vec![step; 120] });
    let steps = json!({ "op": "child", "close": "cancel", "wait": "end", "plan": inner, "id": "steps" });
    let first: Vec<Value> =
        std::iter::once(lasts).chain(std::iter::repeat_n(json!({ "op": "emit" }), 900)).collect();
    let plan = json!({ "stages": [first.into_iter().chain([steps]).collect::<Vec<_>>()] });
    house.start("long", &plan).await;
    house.is_quiet("long").await;
    for scope in ["root_workflow_exec_id=long", "workflow_exec_id=long", "workflow_exec_id=steps"] {
        let all = house.stored(scope).await;
        for event in
            all.iter().filter(|it| it["event_type"].as_str().expect("a kind").starts_with("ACTIVITY"))
        {
            assert!(event["attributes"]["activity_name"].is_string(), "{event}");
        }
        // From any event on, everything is as it is in one piece.
        for at in (0..all.len()).step_by(41).chain([all.len() - 1]) {
            let (page, _) = house.page(scope, 20, number_of(&all[at])).await;
            same(&page, &all[at..all.len().min(at + 20)], &format!("{scope} from {at}"));
        }
    }
}

#[tokio::test]
async fn a_member_hears_of_no_run_of_somebody_else_whatever_it_asks_for() {
    let house = House::new().await;
    let key = {
        let (status, key) =
            house.json(&house.owner, Method::POST, "/v1/airlock/keys", &json!({ "user": "bea" })).await;
        assert_eq!(status, StatusCode::CREATED, "{key}");
        key["key"].as_str().expect("a key").to_owned()
    };
    let child = json!({ "op": "child", "close": "cancel", "wait": "end", "plan": { "stages": [] }, "id": "of-owner" });
    house.start("owners", &json!({ "stages": [[child]] })).await;
    let body = json!({ "execution_id": "of-bea", "input": { "stages": [] } });
    let (status, answer) = house.json(&key, Method::POST, "/v1/workflows/play/execute", &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    house.is_quiet("owners").await;
    for query in
        ["root_workflow_exec_id=owners", "parent_workflow_exec_id=owners", "workflow_exec_id=of-owner"]
    {
        for kind in ["stream", "list"] {
            let path = format!("/v1/workflows/events/{kind}?{query}");
            let (status, _) = house.json(&key, Method::GET, &path, &Value::Null).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        }
    }
    // The id that is looked at first is her own, the others are not.
    let path = "/v1/workflows/events/stream?root_workflow_exec_id=of-bea&workflow_exec_id=of-owner";
    assert_eq!(house.stream(&key, path, None).await.rest().await, []);
    let own = house.stream(&key, "/v1/workflows/events/stream?root_workflow_exec_id=of-bea", None).await;
    assert_eq!(own.rest().await.len(), 2);
}
