//! What people get wrong, and what they are told.

use std::{fs, net::TcpListener, path::PathBuf, time::Duration};

use airlock_tests::{Client, Daemon, LIMIT, Setup, guest};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// The message of an error body.
fn detail(body: &Value) -> String {
    match &body["detail"] {
        Value::String(text) => text.clone(),
        Value::Array(places) => {
            places.iter().map(|place| place["msg"].as_str().expect("a message")).collect()
        }
        _ => String::new(),
    }
}

async fn refused(client: &Client, method: Method, path: &str, body: Option<Value>, status: u16, says: &str) {
    let wrong = not_refused(client, method, path, body, status, says).await;
    assert_eq!(wrong, None);
}

/// What is wrong with a refusal, if something is.
async fn not_refused(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<Value>,
    status: u16,
    says: &str,
) -> Option<String> {
    let (got, answer) = client.call(method.clone(), path, body.as_ref()).await;
    let is_right = got.as_u16() == status && detail(&answer).contains(says);
    (!is_right).then(|| format!("{method} {path}: {status} {says:?} is expected, {got}: {answer}\n"))
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_with_a_reason() {
    let daemon = Daemon::with(&[guest("hello"), guest("github-issues"), guest("echo")]).await;
    let client = &daemon.client;
    let execute = "/v1/workflows/hello/execute";
    let (post, get) = (Method::POST, Method::GET);
    let cases: Vec<(Method, &str, Option<Value>, u16, &str)> = vec![
        (
            post.clone(),
            "/v1/workflows/nobody/execute",
            Some(json!({ "input": {} })),
            404,
            "no workflow is called 'nobody'",
        ),
        (post.clone(), execute, Some(json!({ "input": {} })), 422, "name"),
        (post.clone(), execute, Some(json!({ "input": { "name": 7 } })), 422, "name: "),
        (
            post.clone(),
            execute,
            Some(json!({ "input": { "name": "A" }, "execution_id": "a b" })),
            422,
            "1 to 256 characters",
        ),
        (
            post.clone(),
            execute,
            Some(json!({ "input": { "name": "A" }, "wait_for_result": "yes" })),
            422,
            "expected a boolean",
        ),
        (
            post.clone(),
            execute,
            Some(json!({ "input": { "name": "A" }, "timeout_seconds": -1 })),
            422,
            "number of seconds",
        ),
        (post.clone(), execute, Some(json!(["id", {}])), 422, "a list, where an object is expected"),
        (
            post.clone(),
            execute,
            Some(json!({ "input": { "name": "x".repeat(15_100_000) } })),
            413,
            "the limit is 15000000",
        ),
        (
            post.clone(),
            execute,
            Some(json!({ "encoded_input": { "b64payload": "eA==", "encoding_options": ["encrypted"] } })),
            422,
            "send it in clear",
        ),
        (
            post.clone(),
            execute,
            Some(
                json!({ "input": { "name": "A" }, "extensions": { "mistralai": { "connectors": { "bindings": 7 } } } }),
            ),
            422,
            "Malformed runtime connector extension bindings",
        ),
        (get.clone(), "/v1/workflows/executions/nobody", None, 404, "no execution has the id 'nobody'"),
        (post.clone(), "/v1/workflows/executions/nobody/cancel", None, 404, "no execution has the id"),
        (get.clone(), "/v1/workflows?limit=0", None, 422, "1 to 1000"),
        (get.clone(), "/v1/workflows/runs?status=DONE", None, 422, "'DONE' is none of RUNNING"),
        (get.clone(), "/v1/workflows/events/stream", None, 400, "root_workflow_exec_id"),
        (get.clone(), "/v1/workflows/executions/x/logs", None, 501, "is not served by airlock"),
        (get.clone(), "/v1/nowhere", None, 404, "there is no GET /v1/nowhere"),
        (get.clone(), "/v1/connectors/nobody/tools", None, 404, "no connector is called 'nobody'"),
        (
            post.clone(),
            "/v1/connectors",
            Some(json!({ "name": "a b", "description": "", "server": "https://e.example" })),
            422,
            "1 to 64 characters",
        ),
        (
            post.clone(),
            "/v1/connectors",
            Some(json!({ "name": "a", "description": "", "server": "ftp://e.example" })),
            422,
            "https://",
        ),
        (
            post.clone(),
            "/v1/connectors",
            Some(json!({ "name": "a", "description": "", "server": "https://u:p@e.example" })),
            422,
            "no user or password",
        ),
        (
            post.clone(),
            "/v1/connectors",
            Some(json!({ "name": "a", "description": "", "server": "http://10.0.0.1/" })),
            422,
            "not a public address",
        ),
        (
            post.clone(),
            "/v1/airlock/keys",
            Some(json!({ "user": "a/b" })),
            422,
            "a user has 1 to 64 characters",
        ),
    ];
    for (method, path, body, status, says) in cases {
        refused(client, method, path, body, status, says).await;
    }
    let url = format!("{}{execute}", daemon.url());
    let not_json =
        reqwest::Client::new().post(url).bearer_auth(&client.key).body("{").send().await.expect("an answer");
    assert_eq!(not_json.status(), StatusCode::UNPROCESSABLE_ENTITY);
    // Nothing of all this disturbed the daemon.
    assert_eq!(client.execute("hello", json!({ "name": "Ada" })).await["result"], "Hello, Ada!");
}

#[tokio::test]
async fn a_refused_body_is_told_by_its_place() {
    let daemon = Daemon::with(&[guest("echo")]).await;
    for (body, place) in [
        (r#"{"input":{"tool":[0,1e400]}}"#, json!(["body", "input", "tool", 1])),
        (r#"{"input":{"tool":"\ud800"}}"#, json!(["body", "input", "tool"])),
        (r#"{"wait_for_result":3}"#, json!(["body", "wait_for_result"])),
        (r#"{"encoded_input":{"b64payload":3}}"#, json!(["body", "encoded_input", "b64payload"])),
        (r#"{"encoded_input":{}}"#, json!(["body", "encoded_input", "b64payload"])),
        (r#"{"retry":{"maximum_attempts":-1}}"#, json!(["body", "retry", "maximum_attempts"])),
        (
            r#"{"retry":{"initial_interval_seconds":-1}}"#,
            json!(["body", "retry", "initial_interval_seconds"]),
        ),
        (r#"{"id_reuse_policy":"x"}"#, json!(["body", "id_reuse_policy"])),
        (r#"{"input":"#, json!(["body", "input"])),
    ] {
        let (status, answer) = daemon.client.post_text("/v1/workflows/echo/execute", body.to_owned()).await;
        assert_eq!(status.as_u16(), 422, "{body}: {answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["detail"][0]["loc"], place, "{body}: {answer}");
    }
}

#[tokio::test]
async fn connectors_that_make_no_sense_are_refused_with_a_reason() {
    let daemon = Daemon::with(&[]).await;
    let client = &daemon.client;
    let mut wrong: Vec<String> = Vec::new();
    let base = || json!({ "name": "a", "description": "", "server": "https://e.example" });
    let with = |fields: Value| {
        let mut body = base();
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        body
    };
    let method = |method: Value| with(json!({ "auth_methods": [method] }));
    let metadata = |field: &str, value: &str| {
        let mut metadata = json!({
            "issuer": "https://as.example", "authorization_endpoint": "https://as.example/a",
            "token_endpoint": "https://as.example/t",
        });
        metadata[field] = value.into();
        with(json!({ "oauth2_server_metadata": metadata }))
    };
    let http = |fields: Value| {
        let mut body = with(json!({ "protocol": "http" }));
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        body
    };
    for (body, status, says) in [
        (with(json!({ "protocol": "grpc" })), 422, "expected `mcp` or `http`"),
        (method(json!({ "method_type": "kerberos" })), 501, "use none, bearer, basic, api_key or oauth2"),
        (method(json!({ "method_type": "api_key" })), 422, "name of the header or query parameter"),
        (
            method(json!({ "method_type": "api_key", "name": "k", "in": "body" })),
            422,
            "header, query or cookie",
        ),
        (method(json!({ "method_type": "api_key", "name": "Host" })), 422, "set by the host alone"),
        (method(json!({ "method_type": "oauth2", "grant_type": "implicit" })), 422, "authorization_code or"),
        (
            with(json!({ "auth_methods": [{ "method_type": "none" }, { "method_type": "none" }] })),
            422,
            "listed twice",
        ),
        (metadata("authorization_endpoint", "javascript:alert(1)"), 422, "https://"),
        (metadata("token_endpoint", "http://as.example/t"), 422, "https"),
        (metadata("token_endpoint", "https://u:p@as.example/t"), 422, "no user or password"),
        (
            with(json!({ "oauth2_server_metadata": {}, "oauth2_server_metadata_url": "https://as.example" })),
            422,
            "not both",
        ),
        (with(json!({ "headers": { "Cookie": "a=b" } })), 422, "set by the host alone"),
        (with(json!({ "connection_secrets": { "a": 1 } })), 501, "give headers, or store a credential"),
        (with(json!({ "control": { "retries": 99 } })), 422, "from 0 to 10"),
        (with(json!({ "control": { "nonsense": 1 } })), 422, "nonsense"),
        (with(json!({ "operations": [] })), 422, "protocol 'http'"),
        (http(json!({ "operations": [{ "name": "x" }] })), 422, "is expected here"),
        (http(json!({ "openapi_url": "http://10.0.0.1/openapi.json" })), 422, "not a public address"),
        (with(json!({ "template": "nothing" })), 404, "no connector is called 'nothing'"),
    ] {
        wrong.extend(not_refused(client, Method::POST, "/v1/connectors", Some(body), status, says).await);
    }
    client.post("/v1/connectors", &with(json!({ "auth_methods": [{ "method_type": "bearer" }] }))).await;
    let (get, post, put, patch) = (Method::GET, Method::POST, Method::PUT, Method::PATCH);
    let own = "/v1/airlock/connectors/a";
    for (method, path, body, status, says) in [
        (get.clone(), "/v1/connectors/a/auth_url".to_owned(), None, 409, "no OAuth that a person"),
        (get.clone(), "/v1/connectors/a/auth_url?method_type=bearer".into(), None, 422, "use oauth2"),
        (patch, "/v1/connectors/a".into(), Some(json!({ "protocol": "http" })), 409, "does not change"),
        (post.clone(), "/v1/connectors".into(), Some(base()), 409, "exists already"),
        (put.clone(), "/v1/connectors/a/workspace/share".into(), None, 404, "organization/share"),
        (
            put.clone(),
            format!("{own}/control"),
            Some(json!({ "default": "maybe" })),
            422,
            "'allow', 'ask' or 'deny'",
        ),
        (put.clone(), format!("{own}/mocks"), Some(json!({})), 422, "'mocks' is missing"),
        (put.clone(), format!("{own}/mocks"), Some(json!({ "mocks": [{}] })), 422, "tool"),
        (put, format!("{own}/openapi"), Some(json!({})), 409, "speaks MCP"),
        (
            post.clone(),
            format!("{own}/pins/approve"),
            Some(json!({ "tool": "x" })),
            404,
            "never listed a tool 'x'",
        ),
        (get.clone(), "/v1/airlock/audit?kind=nonsense".into(), None, 422, "not a kind of audit entry"),
        (
            post.clone(),
            "/v1/connectors/a/tools/x/call".into(),
            Some(json!({ "options": { "timeout_ms": 0 } })),
            422,
            "1 to 120000 ms",
        ),
        (
            post,
            "/v1/connectors/a/tools/x/call".into(),
            Some(json!({ "options": { "retries": 99 } })),
            422,
            "at most 10 times",
        ),
    ] {
        wrong.extend(not_refused(client, method, &path, body, status, says).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
    let browser = reqwest::get(format!("{}/v1/airlock/oauth/start/unknown", daemon.url())).await;
    let browser = browser.expect("an answer");
    assert_eq!(browser.status(), StatusCode::BAD_REQUEST);
    assert!(browser.text().await.expect("a page").contains("This link is not known"));
}

#[tokio::test]
async fn a_missing_unknown_expired_or_revoked_key_opens_nothing_and_is_told_why() {
    let daemon = Daemon::with(&[]).await;
    let path = "/v1/workflows";
    let no_key = reqwest::get(format!("{}{path}", daemon.url())).await.expect("an answer");
    assert_eq!(no_key.status(), StatusCode::UNAUTHORIZED);
    let unknown = Client::new(&daemon.url(), "al_unknown");
    refused(&unknown, Method::GET, path, None, 401, "is not known").await;
    let body = json!({ "user": "ada", "expires_in_seconds": 0 });
    let expired = daemon.client.post("/v1/airlock/keys", &body).await;
    let expired = Client::new(&daemon.url(), expired["key"].as_str().expect("the key is shown once"));
    refused(&expired, Method::GET, path, None, 401, "has expired").await;

    let ada = daemon.user("ada").await;
    ada.get(path).await;
    refused(&ada, Method::GET, "/v1/airlock/keys", None, 403, "role 'owner'").await;
    let keys = daemon.client.get("/v1/airlock/keys").await;
    assert!(!keys.to_string().contains("al_") && !keys.to_string().contains("hash"), "{keys}");
    for key in keys["keys"].as_array().expect("keys").iter().filter(|key| key["user"] == "ada") {
        let path = format!("/v1/airlock/keys/{}", key["id"].as_str().expect("an id"));
        daemon.client.call(Method::DELETE, &path, None).await;
    }
    refused(&ada, Method::GET, path, None, 401, "was revoked").await;
    let database = fs::read(daemon.setup.data().join("airlock.db")).expect("reads");
    let text = ada.key.as_bytes();
    assert!(!database.windows(text.len()).any(|window| window == text), "keys are stored as hashes");
}

#[tokio::test]
async fn an_id_is_given_once_and_other_peoples_executions_are_not_seen() {
    let daemon = Daemon::with(&[guest("hello")]).await;
    let body = json!({ "input": { "name": "Ada" }, "execution_id": "mine" });
    let execute = "/v1/workflows/hello/execute";
    daemon.client.post(execute, &body).await;
    refused(&daemon.client, Method::POST, execute, Some(body), 409, "exists already").await;
    let ada = daemon.user("ada").await;
    refused(&ada, Method::GET, "/v1/workflows/executions/mine", None, 404, "no execution has the id 'mine'")
        .await;
    assert_eq!(ada.get("/v1/workflows/runs").await["executions"], json!([]));
}

#[tokio::test]
async fn a_failed_workflow_tells_a_waiting_caller_why() {
    let daemon = Daemon::with(&[guest("order-saga")]).await;
    let body = json!({ "input": { "delay_ms": 0, "fail_at": "charge" }, "wait_for_result": true });
    let (status, answer) =
        daemon.client.call(Method::POST, "/v1/workflows/order-saga/execute", Some(&body)).await;
    assert_eq!(status, StatusCode::FAILED_DEPENDENCY, "{answer}");
    assert!(detail(&answer).contains("CardDeclined: the card was declined"), "{answer}");
    assert_eq!(answer["execution"]["status"], "FAILED");
    // What was done has been undone.
    let id = answer["execution"]["execution_id"].as_str().expect("an id");
    let events = Value::from(daemon.client.events(id).await).to_string();
    assert_eq!(
        events.matches("\"ACTIVITY_TASK_COMPLETED\"").count(),
        6,
        "three reservations and three releases"
    );
}

#[tokio::test]
async fn the_rules_about_default_credentials_hold() {
    let daemon = Daemon::with(&[]).await;
    let client = &daemon.client;
    client.add_connector("service", "http://127.0.0.1:9/mcp", "bearer").await;
    let path = "/v1/connectors/service/user/credentials";
    let body = |name: &str, default: Option<bool>| {
        let mut body = json!({ "name": name, "credentials": { "bearer_token": "some-token" } });
        default.iter().for_each(|default| body["is_default"] = (*default).into());
        body
    };
    let defaults = async || -> Vec<String> {
        let list = client.get(path).await;
        let all = list["credentials"].as_array().expect("credentials").clone();
        all.iter()
            .filter(|c| c["is_default"] == true)
            .map(|c| c["name"].as_str().expect("a name").into())
            .collect()
    };
    refused(
        client,
        Method::POST,
        path,
        Some(body("one", Some(false))),
        409,
        "the first credential is the default",
    )
    .await;
    client.post(path, &body("one", None)).await;
    client.post(path, &body("two", None)).await;
    assert_eq!(defaults().await, ["one"]);
    refused(
        client,
        Method::PATCH,
        path,
        Some(json!({ "name": "one", "is_default": false })),
        409,
        "cannot be demoted",
    )
    .await;
    let (status, _) =
        client.call(Method::PATCH, path, Some(&json!({ "name": "two", "is_default": true }))).await;
    assert_eq!((status, defaults().await), (StatusCode::OK, vec!["two".to_owned()]));
    client.call(Method::DELETE, &format!("{path}/two"), None).await;
    assert_eq!(defaults().await, ["one"], "somebody has to be the default");
    refused(client, Method::DELETE, &format!("{path}/two"), None, 404, "Credential 'two' not found").await;
    refused(
        client,
        Method::POST,
        path,
        Some(json!({ "name": "a/b", "credentials": { "bearer_token": "t" } })),
        422,
        "no '/'",
    )
    .await;
    for (secret, says) in [
        (json!({ "bearer_token": " " }), "blank"),
        (json!({ "bearer_token": "line\r\nbreak: yes" }), "line break"),
        (json!({ "headers": { "Host": "evil" } }), "set by the host alone"),
        (json!({ "headers": { "X-Forwarded-For": "1.1.1.1" } }), "set by the host alone"),
        (json!({ "headers": { "X-Key": "a\r\nb: c" } }), "cannot stand in a header"),
        (json!({}), "bearer_token, headers, basic, api_key or oauth"),
        (json!({ "bearer_token": "token-1", "api_key": "key-1" }), "one method only"),
    ] {
        let body = json!({ "name": "bad", "credentials": secret });
        refused(client, Method::POST, path, Some(body), 422, says).await;
    }
}

/// A start that cannot work ends with status 1 and says why at the end.
async fn gives_up(setup: &Setup, says: &str) {
    let (status, log) = setup.fails().await;
    assert_eq!(status.code(), Some(1), "{log}");
    let (_, why) = log.rsplit_once("airlock: ").expect("it says why");
    assert!(why.contains(says), "{why}");
}

#[tokio::test]
async fn a_daemon_that_cannot_start_says_why() {
    let taken = Setup::new(&[]);
    let _holder = TcpListener::bind(("127.0.0.1", taken.port)).expect("the port is free");
    gives_up(&taken, "is another daemon running?").await;

    let daemon = Daemon::with(&[]).await;
    let data = daemon.setup.data();
    let mut second = Setup::new(&[]);
    second.arguments = vec!["--data".into(), data.display().to_string()];
    let mut command = second.command();
    // The harness names its own data folder before; the daemon takes no option twice.
    command = {
        let mut again = std::process::Command::new(command.get_program());
        let arguments: Vec<_> = command.get_args().map(PathBuf::from).collect();
        let own = arguments.iter().position(|argument| argument.as_os_str() == "--data").expect("is there");
        let kept = arguments.iter().enumerate().filter(|(at, _)| *at != own && *at != own + 1);
        again.args(kept.map(|(_, argument)| argument));
        again
    };
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("another airlock daemon is using the data folder"),
        "{said}"
    );

    let config = Setup::new(&[]);
    let file = config.folder.path().join("bad.toml");
    fs::write(&file, "plugin_folder = \"x\"").expect("writes");
    gives_up(&config.with(&["--config", file.to_str().expect("a path")]), "plugin_folder").await;

    let misspelt = Setup::new(&[]);
    fs::remove_dir(misspelt.plugins()).expect("is removed");
    gives_up(&misspelt, "is not there: make it, or name another one with --plugins").await;
    assert!(!misspelt.plugins().exists() && !misspelt.data().exists(), "nothing was made");

    let no_folder = Setup::new(&[]);
    fs::remove_dir(no_folder.plugins()).expect("is removed");
    fs::write(no_folder.plugins(), "a file").expect("writes");
    gives_up(&no_folder, "plugins").await;

    let mut wrong_key = Daemon::with(&[]).await;
    wrong_key.stop().await;
    wrong_key.setup.environment.push(("AIRLOCK_MASTER_KEY".into(), "07".repeat(32)));
    gives_up(&wrong_key.setup, "the master key does not fit").await;
    wrong_key.setup.environment[0].1 = "short".into();
    gives_up(&wrong_key.setup, "64 hexadecimal digits").await;
}

#[tokio::test]
async fn a_start_says_where_keys_and_data_are() {
    let daemon = Daemon::with(&[]).await;
    let said = airlock_tests::eventually(LIMIT, "it is ready", async || {
        Some(daemon.setup.log()).filter(|log| log.contains("airlock is ready on "))
    })
    .await;
    let data = daemon.setup.data();
    for (what, place) in [
        ("plugins", daemon.setup.plugins()),
        ("data", data.clone()),
        ("API key", data.join("owner.key")),
        ("master key", data.join("master.key")),
    ] {
        let line = said.lines().find(|line| line.starts_with(&format!("{what:<13}")));
        assert_eq!(
            line.map(|line| line[13..].to_owned()),
            Some(place.display().to_string()),
            "{what}: {said}"
        );
    }
    let key = fs::read_to_string(data.join("owner.key")).expect("is there");
    assert!(!said.contains(key.trim()), "a key is not told");
}

#[tokio::test]
async fn a_read_only_data_folder_is_refused() {
    let mut setup = Setup::new(&[]);
    fs::create_dir(setup.data()).expect("is made");
    setup.mounts = Some(format!("mount -t tmpfs -o ro tmpfs '{}'", setup.data().display()));
    gives_up(&setup, "data").await;
}

#[tokio::test]
async fn a_full_disk_refuses_new_work_loses_nothing_and_is_over_when_there_is_space_again() {
    let mut setup = Setup::new(&[guest("bench")]);
    fs::create_dir(setup.data()).expect("is made");
    setup.mounts = Some(format!("mount -t tmpfs -o size=24m tmpfs '{}'", setup.data().display()));
    let daemon = setup.start().await;
    let client = &daemon.client;
    let sleeper = client.start("sleeper", json!({ "ms": 1_500 })).await;
    let filler = daemon.inside(&daemon.setup.data()).join("filler");
    let mut file = fs::File::create(&filler).expect("the folder is seen from here: this test needs root");
    let chunk = vec![0; 64 << 10];
    while std::io::Write::write_all(&mut file, &chunk).is_ok() {}

    // What is left of the log's pages may take a few.
    let refused = airlock_tests::eventually(LIMIT, "the full disk is noticed", async || {
        let body = json!({ "input": { "steps": 50 } });
        let (status, body) = client.call(Method::POST, "/v1/workflows/sequence/execute", Some(&body)).await;
        (status == StatusCode::INSUFFICIENT_STORAGE).then_some(body)
    })
    .await;
    assert!(detail(&refused).contains("disk of the data folder is full"), "{refused}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(client.execution(&sleeper).await["status"], "RUNNING", "it cannot be recorded that it woke");
    fs::remove_file(&filler).expect("is removed");
    drop(file);
    assert_eq!(client.ended(&sleeper, LIMIT).await["status"], "COMPLETED");
    client.execute("sequence", json!({ "steps": 5 })).await;
}
