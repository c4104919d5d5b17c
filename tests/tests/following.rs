//! Following a tree of some thousand executions with the real binary: connections break, the daemon is killed, and still
//! whoever follows gets every event once and in order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use airlock_tests::{Daemon, LIMIT, eventually, guest};
use futures::StreamExt as _;
use serde_json::{Value, json};

/// Children that are in flight at once: more than were ever followed together before.
const CHILDREN: usize = 2_400;

/// What a follower has seen, in this order: numbers, and the execution and type of each event.
#[derive(Default)]
struct Seen {
    events: Vec<(u64, String, String)>,
    connections: usize,
}

fn text(event: &Value, key: &str) -> String {
    event[key].as_str().expect("a text").to_owned()
}

/// Follows a tree to its end from as many connections as it takes: each is given up after `most` events, if not before.
async fn follow(daemon: (String, String), id: String, most: usize, so_far: Arc<AtomicUsize>) -> Seen {
    let (url, key) = daemon;
    let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().expect("a client");
    let mut seen = Seen::default();
    let begin = Instant::now();
    loop {
        assert!(begin.elapsed() < LIMIT, "the stream has no end: {} events", seen.events.len());
        let mut request = http
            .get(format!("{url}/v1/workflows/events/stream?root_workflow_exec_id={id}"))
            .bearer_auth(&key);
        if let Some((last, ..)) = seen.events.last() {
            request = request.header("last-event-id", last.to_string());
        }
        // There is no daemon for a while.
        let Ok(response) = request.send().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        assert!(response.status().is_success(), "{}", response.status());
        seen.connections += 1;
        let (mut body, mut pending, mut count) = (response.bytes_stream(), Vec::new(), 0);
        let ended = 'connection: loop {
            match body.next().await {
                None => break true,
                // It was killed.
                Some(Err(_)) => break false,
                Some(Ok(part)) => pending.extend_from_slice(&part),
            }
            while let Some(end) = pending.windows(2).position(|two| two == b"\n\n") {
                let frame: Vec<u8> = pending.drain(..end + 2).collect();
                let frame = std::str::from_utf8(&frame).expect("text");
                let Some(data) = frame.lines().find_map(|line| line.strip_prefix("data: ")) else { continue };
                let frame: Value = serde_json::from_str(data).expect("JSON");
                let (number, event) = (frame["broker_sequence"].as_u64().expect("a number"), &frame["data"]);
                let before = seen.events.last().map_or(0, |(last, ..)| *last);
                assert!(number > before, "{number} comes after {before}");
                seen.events.push((number, text(event, "workflow_exec_id"), text(event, "event_type")));
                so_far.fetch_max(seen.events.len(), Ordering::Relaxed);
                count += 1;
                if count == most {
                    break 'connection false;
                }
            }
        };
        if ended {
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_follow_a_tree_of_thousands_over_broken_connections_and_a_kill_see_the_same() {
    let mut daemon = Daemon::with(&[guest("durable")]).await;
    let id = daemon.client.start("squares", json!({ "children": CHILDREN, "at_once": CHILDREN })).await;
    let so_far = Arc::new(AtomicUsize::new(0));
    let followers: Vec<_> = [usize::MAX, 1_500, 211, 4_000]
        .map(|most| {
            let whom = (daemon.url(), daemon.client.key.clone());
            tokio::spawn(follow(whom, id.clone(), most, Arc::clone(&so_far)))
        })
        .into();
    eventually(LIMIT, "a part is told", async || {
        (so_far.load(Ordering::Relaxed) > 2 * CHILDREN).then_some(())
    })
    .await;
    daemon.kill();
    daemon.restart().await;
    let killed_at = so_far.load(Ordering::Relaxed);
    let whom = (daemon.url(), daemon.client.key.clone());
    // One that comes late.
    let late = tokio::spawn(follow(whom, id.clone(), usize::MAX, Arc::clone(&so_far)));

    let execution = daemon.client.ended(&id, LIMIT).await;
    assert_eq!(execution["status"], "COMPLETED", "{execution}");
    let stored = daemon.client.events(&id).await;
    let number = |event: &Value| -> u64 {
        text(event, "event_id").strip_prefix("evt-").expect("an id").parse().expect("a number")
    };
    let stored: Vec<_> = stored
        .iter()
        .map(|event| (number(event), text(event, "workflow_exec_id"), text(event, "event_type")))
        .collect();
    let of = |kind: &str| stored.iter().filter(|(.., it)| it == kind).count();
    assert_eq!(of("WORKFLOW_EXECUTION_STARTED"), CHILDREN + 1);
    // One of them is out of luck.
    assert_eq!((of("WORKFLOW_EXECUTION_COMPLETED"), of("WORKFLOW_EXECUTION_FAILED")), (CHILDREN, 1));
    assert!(killed_at < stored.len(), "it was killed in the middle: {killed_at} of {}", stored.len());
    for follower in followers.into_iter().chain([late]) {
        let seen = follower.await.expect("follows");
        let different = seen.events.iter().zip(&stored).position(|(seen, stored)| seen != stored);
        if let Some(at) = different {
            panic!("event {at} is {:?} and should be {:?}", seen.events[at], stored[at]);
        }
        assert_eq!(seen.events.len(), stored.len());
        println!("{} events in {} connections", seen.events.len(), seen.connections);
    }
}
