//! Strangers and members who want the daemon to themselves, against the real binary (more, with short times, stands in
//! `host/api/tests/bounds.rs`).

use std::{
    io::Write as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use airlock_tests::{LIMIT, Setup, guest};
use reqwest::Method;
use serde_json::json;

/// So many connections, as far as the system of the test lets it, which may be fewer.
fn half_open(address: &str, count: usize, beginning: &str) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        let Ok(mut stream) = TcpStream::connect(address) else { break };
        if stream.write_all(beginning.as_bytes()).is_ok() {
            held.push(stream);
        }
    }
    assert!(held.len() > 500, "{} connections", held.len());
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn a03_eleven_hundred_half_open_connections_do_not_stop_the_service() {
    let arguments = ["--max-connections", "200", "--header-timeout", "3s"];
    let daemon = Setup::new(&[guest("hello")]).with(&arguments).start().await;
    let address = daemon.url().trim_start_matches("http://").to_owned();
    // Whoever comes in the middle of it may have to come again; whoever is known is served.
    assert_eq!(
        daemon.client.execute("hello", json!({ "name": "Al" })).await,
        json!({ "result": "Hello, Al!" })
    );
    for beginning in
        ["", "GET /health HTTP/1.1\r\nhost: x\r\nx-a: ", "POST /v1/workflows/hello/execute HTTP/1.1\r\n"]
    {
        let held = tokio::task::spawn_blocking({
            let address = address.clone();
            move || half_open(&address, 1_100, beginning)
        });
        let mut held = Some(held);
        let began = Instant::now();
        loop {
            let asked = Instant::now();
            let result = daemon.client.execute("hello", json!({ "name": "Ada" })).await;
            assert_eq!(result, json!({ "result": "Hello, Ada!" }));
            assert!(asked.elapsed() < LIMIT, "{:?}", asked.elapsed());
            if held.as_ref().is_some_and(|held| held.is_finished()) {
                break;
            }
            assert!(began.elapsed() < LIMIT);
        }
        let held = held.take().expect("is there").await.expect("opens");
        let result = daemon.client.execute("hello", json!({ "name": "Bea" })).await;
        assert_eq!(result, json!({ "result": "Hello, Bea!" }), "with {} held", held.len());
    }
    let status = daemon.client.get("/v1/airlock/status").await;
    let open = status["http"]["connections"]["open"].as_u64().expect("a number");
    assert!(open <= 200, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a05_eight_reads_of_a_large_history_are_bounded_and_give_it_whole() {
    let daemon = Setup::new(&[guest("hello")]).start().await;
    let memory = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).expect("the system says");
        let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("a line");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a number") >> 10
    };
    let id = daemon.client.start("hello", json!({ "name": "Ada".repeat(2_500_000) })).await;
    daemon.client.ended(&id, LIMIT).await;
    let before = memory();
    let path = format!("/v1/workflows/executions/{id}/history");
    let reads = (0..8).map(|_| daemon.client.get_text(&path));
    for text in futures::future::join_all(reads).await {
        assert!(text.len() > 6_000_000 && text.ends_with("]}"), "{} bytes", text.len());
    }
    let after = memory();
    // Each is in memory about twice, and for each record by itself: sealed and as text, then as text and as an answer.
    assert!(after < before + 400, "{before} MB before, {after} MB after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a24_a_stream_ends_when_its_key_is_revoked() {
    let daemon = Setup::new(&[guest("hello")]).start().await;
    let key = daemon.client.post("/v1/airlock/keys", &json!({ "user": "ada", "role": "owner" })).await;
    let text = |name: &str| key[name].as_str().expect("a text").to_owned();
    let url = format!("{}/v1/airlock/audit/follow", daemon.url());
    let stream = reqwest::Client::new().get(url).bearer_auth(text("key")).send().await.expect("is asked");
    assert!(stream.status().is_success());
    let path = format!("/v1/airlock/keys/{}", text("id"));
    daemon.client.call(Method::DELETE, &path, None).await;
    let all = tokio::time::timeout(LIMIT.max(Duration::from_secs(1)), stream.text()).await;
    assert!(all.expect("it ends in time").expect("in order").contains("revoked"));
}
