//! Operations of REST APIs are called as they were approved or not at all (A8): whoever brings another document, another
//! address or another template hears what waits, and nothing of it is sent before somebody who may has approved it.

use std::sync::{Arc, Mutex};

use airlock_connectors::{AuditFilter, Connectors, ConnectorsConfig, ConnectorsError, Keyring, MasterKey};
use airlock_engine::{
    OrganizationId, Principal, UserId, WorkspaceId,
    records::{Change, Records},
    tools::CallOptions,
};
use airlock_store::SqliteStore;
use axum::{Json, Router, extract::Request};
use serde_json::{Value, json};

struct World {
    folder: tempfile::TempDir,
    keyring: Arc<Keyring>,
    records: Arc<dyn Records>,
    connectors: Connectors,
    who: Principal,
    /// Where the service is, and what it was sent.
    origin: String,
    seen: Arc<Mutex<Vec<String>>>,
}

fn open(folder: &tempfile::TempDir, records: &Arc<dyn Records>, keyring: &Arc<Keyring>) -> Connectors {
    let public_url = "http://127.0.0.1:1".parse().expect("an address");
    let mut config = ConnectorsConfig::new(folder.path(), &public_url);
    config.allow_loopback = true;
    Connectors::open(Arc::clone(records), Arc::clone(keyring), config).expect("opens")
}

/// A service that notes what it is sent.
async fn service(seen: &Arc<Mutex<Vec<String>>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    let noted = Arc::clone(seen);
    let router = Router::new().fallback(move |request: Request| {
        noted.lock().expect("no panic").push(format!("{} {}", request.method(), request.uri()));
        async { Json(json!({ "ok": true })) }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    origin
}

/// A document with these operations: names, methods and paths.
fn document(operations: &[(&str, &str, &str)]) -> Vec<u8> {
    let mut paths = json!({});
    for (name, verb, path) in operations {
        paths[*path][*verb] = json!({ "operationId": name, "responses": {} });
    }
    json!({ "openapi": "3.1.0", "info": {}, "paths": paths }).to_string().into_bytes()
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keyring = Keyring::open(folder.path(), &MasterKey::from_bytes([1; 32]), None).expect("a keyring");
        let keyring = Arc::new(keyring);
        let records: Arc<dyn Records> =
            SqliteStore::open(folder.path(), &keyring.journal()).expect("a store");
        let connectors = open(&folder, &records, &keyring);
        let who = Principal {
            organization: OrganizationId::new("default"),
            workspace: WorkspaceId::new("default"),
            user: UserId::new("ada"),
        };
        let seen = Arc::default();
        let origin = service(&seen).await;
        Self { folder, keyring, records, connectors, who, origin, seen }
    }

    async fn add(&self, name: &str, more: Value) -> Value {
        let mut body = json!({ "name": name, "description": "", "server": self.origin, "protocol": "http",
            "auth_methods": [{ "method_type": "none" }] });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.connectors.create(&self.who, true, body).await.expect("is registered")
    }

    async fn import(
        &self,
        name: &str,
        is_owner: bool,
        operations: &[(&str, &str, &str)],
        approve: bool,
    ) -> Result<Value, ConnectorsError> {
        let document = document(operations);
        self.connectors.import(&self.who, is_owner, name, document, Some("api.json"), approve).await
    }

    /// The names of the tools that are shown, and the reasons for which others are not.
    async fn tools(&self, name: &str) -> (Vec<String>, Vec<String>) {
        let all = self.connectors.list_tools(&self.who, name, None, false, false, true).await.expect("lists");
        let shown =
            self.connectors.list_tools(&self.who, name, None, false, false, false).await.expect("lists");
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let names = shown.as_array().expect("a list").iter().filter_map(|tool| text(&tool["name"]));
        let reasons =
            all.as_array().expect("a list").iter().filter_map(|tool| text(&tool["airlock"]["reason"]));
        (names.collect(), reasons.collect())
    }

    async fn call(&self, name: &str, tool: &str) -> Result<Value, ConnectorsError> {
        self.connectors.call_tool(&self.who, name, tool, json!({}), &CallOptions::default()).await
    }

    /// What the service was sent since this was asked last.
    fn sent(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().expect("no panic"))
    }

    /// The tools that were approved, as the audit log has them.
    fn approvals(&self) -> Vec<String> {
        let filter = AuditFilter { kind: Some("pin_approved".into()), ..AuditFilter::default() };
        let entries = self.connectors.audit_entries(Some(0), 1_000, filter).expect("is read");
        let entries = entries["entries"].as_array().expect("a list").iter();
        entries.map(|entry| entry["tool"].as_str().expect("a tool").to_owned()).collect()
    }
}

fn waiting(answer: &Value) -> Vec<String> {
    let waiting = answer["waiting"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
    waiting
        .map(|one| format!("{} {} {}", one["tool"], one["state"], one["fields"]).replace('"', ""))
        .collect()
}

#[tokio::test]
async fn a08_what_another_document_changes_is_neither_shown_nor_called_until_it_is_approved() {
    let mut world = World::new().await;
    let made = world.add("api", json!({})).await;
    assert_eq!(made["waiting"], json!([]), "{made}");
    let first = [("read", "get", "/a"), ("write", "post", "/b")];
    let second = [("read", "get", "/evil"), ("write", "post", "/b"), ("more", "get", "/c")];
    let answer = world.import("api", true, &first, false).await.expect("is imported");
    assert_eq!(
        (&answer["message"], &answer["waiting"]),
        (&json!("connector 'api' has 2 operations"), &json!([]))
    );
    world.call("api", "read").await.expect("is called");
    assert_eq!(world.sent(), ["GET /a"]);

    let answer = world.import("api", true, &second, false).await.expect("is imported");
    assert_eq!(answer["message"], "connector 'api' has 3 operations, of which 1 waits for approval");
    assert_eq!(waiting(&answer), ["read changed [path]"]);
    for restarted in [false, true] {
        if restarted {
            world.connectors = open(&world.folder, &world.records, &world.keyring);
        }
        let (names, reasons) = world.tools("api").await;
        assert_eq!(names, ["more", "write"]);
        assert!(reasons[0].starts_with("its definition has changed (path) since "), "{reasons:?}");
        assert!(
            reasons[0].ends_with("waits for approval: `airlock connectors approve api read`"),
            "{reasons:?}"
        );
        let refused = world.call("api", "read").await.expect_err("is refused");
        assert!(matches!(refused, ConnectorsError::Denied(_)), "{refused:?}");
        assert_eq!(world.sent(), Vec::<String>::new());
        let state = world.connectors.pins(&world.who, "api").expect("are there");
        assert_eq!(state["pins"][1]["state"], "changed", "{state}");
        let steps = world.connectors.check(&world.who, "api", None, true).await.expect("is checked");
        assert!(
            steps.to_string().contains("1 wait for approval: look with `airlock connectors tools api --all`")
        );
    }
    world.call("api", "more").await.expect("what is new is taken as it comes");

    // A change back leaves nothing to approve.
    let answer = world.import("api", true, &first, false).await.expect("is imported");
    assert_eq!(answer["waiting"], json!([]));
    world.call("api", "read").await.expect("is what it was");
    assert_eq!((world.sent(), world.approvals()), (vec!["GET /c".to_owned(), "GET /a".into()], vec![]));

    // One step for whoever brings it, or two.
    let answer = world.import("api", true, &second, true).await.expect("is imported");
    assert_eq!((&answer["approved"], &answer["waiting"]), (&json!(["read"]), &json!([])));
    world.call("api", "read").await.expect("is approved");
    world.import("api", true, &first, false).await.expect("is imported");
    assert!(world.call("api", "read").await.is_err(), "what was approved before is another one now");
    let approved = world.connectors.approve(&world.who, true, "api", None).expect("are approved");
    assert_eq!(approved["approved"], json!(["read"]));
    world.call("api", "read").await.expect("is approved");
    assert_eq!(world.sent(), ["GET /evil", "GET /a"]);
    assert_eq!(world.approvals(), ["read", "read"]);
}

#[tokio::test]
async fn a08_another_address_makes_all_operations_wait_and_its_approval_is_for_nothing_else() {
    let world = World::new().await;
    world.add("api", json!({})).await;
    world
        .import("api", true, &[("read", "get", "/a"), ("write", "post", "/b")], false)
        .await
        .expect("is imported");
    world
        .import("api", true, &[("read", "get", "/a"), ("write", "post", "/evil")], false)
        .await
        .expect("is imported");
    let other = Arc::default();
    let server = json!({ "server": service(&other).await });
    let update =
        |body: &Value, approve: bool| world.connectors.update(&world.who, true, "api", body.clone(), approve);
    let answer = update(&server, false).await.expect("is changed");
    assert_eq!(waiting(&answer), ["read changed [server]", "write changed [path,server]"]);
    for tool in ["read", "write"] {
        assert!(world.call("api", tool).await.is_err());
    }
    let back = json!({ "server": world.origin });
    assert_eq!(waiting(&update(&back, false).await.expect("is changed")), ["write changed [path]"]);
    world.call("api", "read").await.expect("is what it was");
    let answer = update(&server, true).await.expect("is changed");
    assert_eq!(
        (&answer["approved"], waiting(&answer)),
        (&json!(["read"]), vec!["write changed [path,server]".to_owned()])
    );
    world.call("api", "read").await.expect("is approved");
    assert!(world.call("api", "write").await.is_err(), "what waited before was not looked at");
    assert_eq!(world.sent(), ["GET /a"]);
    assert_eq!(*other.lock().expect("no panic"), ["GET /a"]);
    // What people read of the connector, and who sees it, changes no operation.
    let harmless = json!({ "title": "An API", "description": "Other words", "visibility": "shared_org" });
    assert_eq!(
        waiting(&update(&harmless, false).await.expect("is changed")),
        ["write changed [path,server]"]
    );
}

#[tokio::test]
async fn a08_who_may_change_a_shared_connector_is_not_who_may_approve_it_unless_an_owner() {
    let world = World::new().await;
    let (first, second) = ([("read", "get", "/a")], [("read", "get", "/evil")]);
    for (name, visibility) in [("shared", "shared_workspace"), ("own", "private")] {
        world.add(name, json!({ "visibility": visibility })).await;
        world.import(name, true, &first, false).await.expect("is imported");
    }
    // Its creator, with a key that is no owner's.
    let refused = world.import("shared", false, &second, true).await.expect_err("is refused").to_string();
    assert!(refused.contains("connector 'shared' is shared") && refused.contains("'owner'"), "{refused}");
    let changed = world.connectors.update(&world.who, false, "shared", json!({ "title": "x" }), true).await;
    assert!(matches!(changed, Err(ConnectorsError::Forbidden(_))));
    world.call("shared", "read").await.expect("nothing was changed");
    world.import("shared", false, &second, false).await.expect("is imported");
    let approved = world.connectors.approve(&world.who, false, "shared", None);
    assert!(matches!(approved, Err(ConnectorsError::Forbidden(_))), "{approved:?}");
    assert!(world.call("shared", "read").await.is_err());
    world.connectors.approve(&world.who, true, "shared", None).expect("is approved by an owner");
    // What is private is its creator's.
    world.import("own", false, &second, false).await.expect("is imported");
    world.connectors.approve(&world.who, false, "own", None).expect("is approved");
    world.import("own", false, &first, true).await.expect("is imported and approved");
    world.call("own", "read").await.expect("is called");
    assert_eq!(world.sent(), ["GET /a", "GET /a"]);
}

#[tokio::test]
async fn a08_a_connector_that_is_made_from_a_template_has_no_way_around_what_waits_there() {
    let world = World::new().await;
    let first = [("read", "get", "/a"), ("write", "post", "/b")];
    let second = [("read", "get", "/evil"), ("write", "post", "/b")];
    let operations = json!([{ "name": "read", "method": "get", "path": "/a" }, { "name": "write", "method": "post", "path": "/b" }]);
    world.add("template", json!({ "is_template": true, "operations": operations })).await;
    world.add("before", json!({ "template": "template" })).await;
    let answer = world.import("template", true, &second, false).await.expect("is imported");
    let read = answer["waiting"].as_array().expect("a list").iter().find(|one| one["tool"] == "read");
    assert!(
        read.expect("it waits")["fields"].as_array().expect("fields").contains(&json!("path")),
        "{answer}"
    );
    world.connectors.approve(&world.who, true, "template", Some("write")).expect("is approved");
    let made = world.add("after", json!({ "template": "template" })).await;
    assert_eq!(waiting(&made).len(), 1, "{made}");
    assert!(waiting(&made)[0].starts_with("read new"), "{made}");
    for (connector, tool, goes) in [
        ("before", "read", true),
        ("after", "read", false),
        ("after", "write", true),
        ("template", "read", false),
    ] {
        assert_eq!(world.call(connector, tool).await.is_ok(), goes, "{connector} {tool}");
    }
    assert_eq!(world.sent(), ["GET /a", "POST /b"]);
    world.import("template", true, &first, true).await.expect("is imported");
    world.call("before", "read").await.expect("is what it was");
}

#[tokio::test]
async fn a08_first_definitions_wait_as_well_where_tools_are_reviewed() {
    let world = World::new().await;
    world.add("api", json!({ "control": { "review": true } })).await;
    let document = [("read", "get", "/a"), ("write", "post", "/b")];
    let answer = world.import("api", true, &document, false).await.expect("is imported");
    assert_eq!(answer["message"], "connector 'api' has 2 operations, of which 2 wait for approval");
    let refused = world.call("api", "read").await.expect_err("waits").to_string();
    assert!(
        refused.starts_with("tool 'read' cannot be called before somebody has looked at it"),
        "{refused}"
    );
    world.connectors.approve(&world.who, true, "api", Some("read")).expect("is approved");
    world.call("api", "read").await.expect("is called");
    // Without pins nothing waits.
    world.connectors.control(&world.who, true, "api", Some(json!({ "pin": false }))).expect("is set");
    world.call("api", "write").await.expect("is called");
    let answer = world.import("api", true, &[("read", "get", "/c")], false).await.expect("is imported");
    assert_eq!(answer["waiting"], json!([]));
    world.call("api", "read").await.expect("is called");
    assert_eq!(world.sent(), ["GET /a", "POST /b", "GET /c"]);
}

#[tokio::test]
async fn a08_operations_of_a_store_that_knows_no_pins_are_approved_as_they_stand_there() {
    let mut world = World::new().await;
    world.add("api", json!({})).await;
    world.import("api", true, &[("read", "get", "/a")], false).await.expect("is imported");
    let pins = world.records.scan("tool_pins", "", None, usize::MAX).expect("are read");
    assert_eq!(pins.len(), 1);
    let deletions: Vec<_> =
        pins.into_iter().map(|(key, _)| Change::Delete { table: "tool_pins", key }).collect();
    world.records.write(&deletions).expect("are removed");
    world.connectors = open(&world.folder, &world.records, &world.keyring);
    let answer = world.import("api", true, &[("read", "get", "/evil")], false).await.expect("is imported");
    assert_eq!(waiting(&answer), ["read changed [path]"]);
    assert!(world.call("api", "read").await.is_err());
    assert_eq!(world.sent(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a08_a_call_that_meets_an_import_sends_what_was_approved_or_nothing() {
    let world = Arc::new(World::new().await);
    world.add("api", json!({})).await;
    let (first, second) = ([("read", "get", "/a")], [("read", "get", "/evil")]);
    world.import("api", true, &first, false).await.expect("is imported");
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let mut answered = 0;
                for _ in 0..40 {
                    answered += u32::from(world.call("api", "read").await.is_ok());
                }
                answered
            })
        })
        .collect();
    for _ in 0..20 {
        world.import("api", true, &second, false).await.expect("is imported");
        tokio::task::yield_now().await;
        world.import("api", true, &first, false).await.expect("is imported");
    }
    let mut answered = 0;
    for caller in callers {
        answered += caller.await.expect("ends");
    }
    let sent = world.sent();
    assert!(sent.len() >= answered as usize, "{} for {answered}", sent.len());
    assert!(sent.iter().all(|line| line == "GET /a"), "{sent:?}");
    world.call("api", "read").await.expect("is what it was");
}
