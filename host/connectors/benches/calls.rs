//! What a mediated call costs beside a plain one.
//!
//! `cargo bench -p airlock-connectors --bench calls --profile release`. A server on this machine answers with 1 KB of JSON
//! and counts its connections. The same request is made with a plain reqwest client and through a connector: credential,
//! rules, limits, argument check, scrubbing, audit entry and all. Both in one run, taking turns. Then a large answer is
//! cleared of ten secrets. The lines that begin with `figure` are for programs: `figure NAME VALUE UNIT`.

// Only the crate itself can make one.
#[allow(dead_code)]
#[allow(unused_imports, reason = "its tests are not compiled here")]
#[path = "../src/egress/scrub/mod.rs"]
mod scrub;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use airlock_connectors::{Connectors, ConnectorsConfig, Keyring, MasterKey, Save, Scope};
use airlock_engine::{OrganizationId, Principal, UserId, WorkspaceId, records::Records, tools::CallOptions};
use airlock_store::SqliteStore;
use axum::{Router, routing::post};
use serde_json::json;

/// The daemon's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Calls one after another, of each sort.
const CALLS: usize = 4_000;
/// Calls at once, and all of them.
const AT_ONCE: usize = 32;
const MANY: usize = 20_000;
/// Bytes of a large answer, and how often it is looked through; the best time counts.
const LARGE: usize = 10_000_000;
const LOOKS: usize = 7;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure());
    clear();
}

/// Looks for ten secrets in a large answer, none of which is in it.
fn clear() {
    let mut number = 0_u64;
    let mut random = move |length: usize| -> String {
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut letter = || {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(letters[(number >> 58) as usize])
        };
        (0..length).map(|_| letter()).collect()
    };
    for length in [8, 16, 40] {
        let mut scrubber = scrub::Scrubber::default();
        (0..10).for_each(|_| scrubber.add(&random(length)));
        let mut items = Vec::new();
        let mut bytes = 0;
        while bytes < LARGE {
            let item = json!({
                "id": items.len(), "name": random(items.len() % 40), "url": format!("https://api.example.com/{}", random(8)),
                "text": "The quick brown fox\njumps over \"the\" lazy dog; Zwölf Boxkämpfer jagen Viktor.", "open": true,
            });
            bytes += item.to_string().len();
            items.push(item);
        }
        let text = serde_json::Value::from(items).to_string();
        let rate = |look: &dyn Fn()| {
            let times = (0..LOOKS).map(|_| {
                let began = Instant::now();
                look();
                began.elapsed().as_secs_f64()
            });
            text.len() as f64 / times.fold(f64::MAX, f64::min) / 1e6
        };
        let as_text = rate(&|| assert!(matches!(scrubber.text(&text), std::borrow::Cow::Borrowed(_))));
        let as_json = rate(&|| assert!(scrubber.is_clean_json(text.as_bytes())));
        println!("figure scrub_text_{length}_byte_secrets {as_text:.0} MB/s");
        println!("figure scrub_json_{length}_byte_secrets {as_json:.0} MB/s");
    }
}

/// A server, its address, and how many connections it took.
async fn server() -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let connections = Arc::new(AtomicUsize::new(0));
    let body = json!({ "id": 7, "text": "x".repeat(1_000) }).to_string();
    let answer = move || {
        let body = body.clone();
        async move { ([("content-type", "application/json")], body) }
    };
    let router = Router::new().route("/things/{id}", post(answer));
    let counted = Arc::clone(&connections);
    let listener = axum::serve::ListenerExt::tap_io(listener, move |stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        stream.set_nodelay(true).expect("TCP_NODELAY");
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), connections)
}

async fn measure() {
    let (url, connections) = server().await;
    let folder = tempfile::tempdir().expect("a folder");
    let keyring = Keyring::open(folder.path(), &MasterKey::from_bytes([1; 32]), None).expect("a keyring");
    let store = SqliteStore::open(folder.path(), &keyring.journal()).expect("a store");
    let records: Arc<dyn Records> = store;
    let public_url = "http://127.0.0.1:1".parse().expect("an address");
    let mut config = ConnectorsConfig::new(folder.path(), &public_url);
    config.allow_loopback = true;
    let connectors = Connectors::open(records, Arc::new(keyring), config).expect("opens");
    let who = Principal {
        organization: OrganizationId::new("default"),
        workspace: WorkspaceId::new("default"),
        user: UserId::new("bench"),
    };
    let schema = json!({ "type": "object", "properties": { "text": { "type": "string" } } });
    let connector = json!({
        "name": "things", "description": "", "protocol": "http", "server": url,
        "auth_methods": [{ "method_type": "bearer" }],
        "operations": [{ "name": "change-thing", "method": "POST", "path": "/things/{id}", "body": schema }],
    });
    connectors.create(&who, true, connector).await.expect("is registered");
    let secret =
        json!({ "name": "main", "credentials": { "bearer_token": "a-token-of-some-length-0123456789" } });
    connectors.save_credentials(&who, "things", Scope::User, secret, Save::Create).await.expect("is stored");

    let client = reqwest::Client::builder().tcp_nodelay(true).no_proxy().build().expect("a client");
    let address = format!("{url}/things/7");
    let plain = move || {
        let (client, address) = (client.clone(), address.clone());
        async move {
            let request = client.post(&address).bearer_auth("a-token-of-some-length-0123456789");
            let answer = request.json(&json!({ "text": "hello" })).send().await.expect("an answer");
            let answer: serde_json::Value = answer.json().await.expect("JSON");
            assert_eq!(answer["id"], 7);
        }
    };
    let caller = Arc::new((connectors, who, CallOptions::default()));
    let mediated = move || {
        let caller = Arc::clone(&caller);
        async move {
            let (connectors, who, options) = &*caller;
            let arguments = json!({ "id": 7, "text": "hello" });
            let answer = connectors.call_tool(who, "things", "change-thing", arguments, options).await;
            let answer = answer.expect("an answer");
            assert_eq!(answer["metadata"]["mcp_meta"]["structuredContent"]["data"]["id"], 7);
        }
    };
    for _ in 0..200 {
        plain().await;
        mediated().await;
    }
    let before = connections.load(Ordering::Relaxed);
    let (mut of_plain, mut of_mediated) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        let began = Instant::now();
        plain().await;
        of_plain.push(began.elapsed());
        let began = Instant::now();
        mediated().await;
        of_mediated.push(began.elapsed());
    }
    let opened = connections.load(Ordering::Relaxed) - before;
    let (plain_p50, plain_p99) = percentiles(&mut of_plain);
    let (mediated_p50, mediated_p99) = percentiles(&mut of_mediated);
    println!("one call, plain:     p50 {plain_p50:?}, p99 {plain_p99:?}");
    println!("one call, mediated:  p50 {mediated_p50:?}, p99 {mediated_p99:?}");
    println!("connections opened during {} calls: {opened}", 2 * CALLS);
    let overhead = mediated_p50.saturating_sub(plain_p50);
    println!("figure mediated_call_overhead_p50 {:.3} ms", overhead.as_secs_f64() * 1e3);
    println!(
        "figure mediated_call_overhead_ratio {:.2} x",
        mediated_p50.as_secs_f64() / plain_p50.as_secs_f64()
    );
    println!("figure mediated_call_connections {opened} connections");

    let baseline = rate(plain).await;
    let before = connections.load(Ordering::Relaxed);
    let through = rate(mediated).await;
    let opened = connections.load(Ordering::Relaxed) - before;
    println!("{AT_ONCE} at once, plain:    {baseline:.0} calls/s");
    println!(
        "{AT_ONCE} at once, mediated: {through:.0} calls/s with scrubbing and audit, {opened} connections opened"
    );
    println!("figure mediated_calls_per_second {through:.0} calls/s");
    println!("figure plain_calls_per_second {baseline:.0} calls/s");
    println!("figure mediated_calls_ratio {:.2} x", through / baseline);
    println!("figure connections_at_{AT_ONCE}_at_once {opened} connections");
}

/// Calls a second of so many callers, each a task of its own as in the daemon.
async fn rate<F: Future<Output = ()> + Send + 'static>(
    call: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> f64 {
    let began = Instant::now();
    let callers = (0..AT_ONCE).map(|_| {
        let call = call.clone();
        tokio::spawn(async move {
            for _ in 0..MANY / AT_ONCE {
                call().await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("a caller");
    }
    (MANY / AT_ONCE * AT_ONCE) as f64 / began.elapsed().as_secs_f64()
}

fn percentiles(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}
