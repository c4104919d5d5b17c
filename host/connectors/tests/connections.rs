//! Calls at once to one origin open no more connections than there are calls in flight, and later ones use them again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use airlock_connectors::{Connectors, ConnectorsConfig, Keyring, MasterKey, Save, Scope};
use airlock_engine::{OrganizationId, Principal, UserId, WorkspaceId, records::Records, tools::CallOptions};
use airlock_store::SqliteStore;
use axum::{
    Json, Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::sync::Barrier;

const AT_ONCE: usize = 32;
const ROUNDS: usize = 8;

/// Serves a REST API and an MCP server, and counts its connections. With a barrier no call is answered before all have
/// come.
async fn server(barrier: Option<Arc<Barrier>>) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let wait = move || {
        let barrier = barrier.clone();
        async move {
            if let Some(barrier) = barrier {
                barrier.wait().await;
            }
        }
    };
    let waiting = wait.clone();
    let rest = move || async move {
        waiting().await;
        Json(json!({ "text": "x".repeat(1_000) }))
    };
    let mcp = move |Json(message): Json<Value>| async move {
        let result = match message["method"].as_str().unwrap_or_default() {
            "initialize" => json!({
                "protocolVersion": message["params"]["protocolVersion"], "capabilities": { "tools": {} },
                "serverInfo": { "name": "counter", "version": "1" },
            }),
            "tools/list" => json!({ "tools": [{ "name": "call", "inputSchema": { "type": "object" } }] }),
            "tools/call" => {
                wait().await;
                json!({ "content": [{ "type": "text", "text": "x".repeat(1_000) }] })
            }
            _ if message["id"].is_null() => return StatusCode::ACCEPTED.into_response(),
            _ => {
                let error = json!({ "code": -32601, "message": "no such method" });
                return Json(json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }))
                    .into_response();
            }
        };
        Json(json!({ "jsonrpc": "2.0", "id": message["id"], "result": result })).into_response() as Response
    };
    let router = Router::new().route("/api/call", post(rest)).route("/mcp", post(mcp));
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let listener = axum::serve::ListenerExt::tap_io(listener, move |stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        stream.set_nodelay(true).expect("TCP_NODELAY");
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), connections)
}

/// Makes [`ROUNDS`] times [`AT_ONCE`] calls and says how many connections there were after the first round and after all.
async fn opened(protocol: &str, barrier: Option<Arc<Barrier>>) -> (usize, usize) {
    let (url, connections) = server(barrier).await;
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
        user: UserId::new("ada"),
    };
    let mut connector = json!({
        "name": "counter", "description": "", "protocol": protocol, "server": format!("{url}/{protocol}"),
        "auth_methods": [{ "method_type": "bearer" }],
    });
    if protocol == "http" {
        connector["server"] = format!("{url}/api").into();
        connector["operations"] = json!([{ "name": "call", "method": "POST", "path": "/call" }]);
    }
    connectors.create(&who, true, connector).await.expect("is registered");
    let secret = json!({ "name": "main", "credentials": { "bearer_token": "a-token-of-some-length" } });
    connectors.save_credentials(&who, "counter", Scope::User, secret, Save::Create).await.expect("is stored");
    let mut first = 0;
    for round in 0..ROUNDS {
        let calls = (0..AT_ONCE).map(|_| {
            let (connectors, who) = (connectors.clone(), who.clone());
            tokio::spawn(async move {
                let options = CallOptions::default();
                connectors.call_tool(&who, "counter", "call", json!({}), &options).await.expect("an answer")
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.expect("ends");
        }
        if round == 0 {
            first = connections.load(Ordering::Relaxed);
        }
    }
    (first, connections.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_once_open_no_more_connections_than_there_are_calls() {
    for protocol in ["http", "mcp"] {
        let (_, all) = opened(protocol, None).await;
        assert!((1..=AT_ONCE).contains(&all), "{protocol}: {all} connections for {AT_ONCE} calls at once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_for_each_other_use_the_connections_of_those_before() {
    for protocol in ["http", "mcp"] {
        let barrier = Arc::new(Barrier::new(AT_ONCE));
        let (first, all) = opened(protocol, Some(barrier)).await;
        assert_eq!((first, all), (AT_ONCE, AT_ONCE), "{protocol}");
    }
}
