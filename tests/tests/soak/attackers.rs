//! The attackers. Each goes round and round until it is over, and notes what it was told.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use airlock_tests::{Client, Daemon, LIMIT, Service, conditions, eventually, guest, marked, text_result};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::documents::{chain, doubled, never, of_tool, openapi};

/// What an attacker was told, and how often it came round.
#[derive(Debug, Default, Clone)]
pub struct Heard {
    /// The last sentence.
    pub sentence: String,
    /// Rounds.
    pub rounds: usize,
    /// How often each status was answered; 0 is a connection that was closed without one.
    pub statuses: BTreeMap<u16, usize>,
}

impl std::fmt::Display for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short: String = self.sentence.chars().take(180).collect();
        write!(f, "{} rounds, {:?}: {short}", self.rounds, self.statuses)
    }
}

/// Where one attacker notes it.
#[derive(Clone)]
struct Ear(&'static str, Arc<Mutex<BTreeMap<&'static str, Heard>>>);

impl Ear {
    fn note(&self, note: impl FnOnce(&mut Heard)) {
        note(self.1.lock().unwrap_or_else(PoisonError::into_inner).entry(self.0).or_default());
    }

    fn round(&self) {
        self.note(|heard| heard.rounds += 1);
    }

    fn sentence(&self, text: &str) {
        self.note(|heard| heard.sentence = text.to_owned());
    }

    /// An answer; what is refused says why.
    fn answer(&self, status: u16, body: &Value) {
        self.note(|heard| *heard.statuses.entry(status).or_default() += 1);
        if status >= 400 {
            // What documents describe is called at an address where nobody is.
            let is_called = status == 502 && self.0.ends_with("-in-a-document");
            assert!(is_called || (status != 500 && status != 502), "{}: {status} {body}", self.0);
            let detail = match &body["detail"] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            self.sentence(&detail);
        }
    }

    /// What was written on a connection before it was closed.
    fn closed(&self, text: &str) {
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        self.note(|heard| *heard.statuses.entry(status).or_default() += 1);
        if status >= 400 {
            self.sentence(body);
        }
    }
}

/// All of them.
pub struct Attack {
    heard: Arc<Mutex<BTreeMap<&'static str, Heard>>>,
    tasks: Vec<JoinHandle<()>>,
    // They end with the attack.
    _servers: Vec<Service>,
}

impl Attack {
    /// Everybody begins.
    pub async fn begin(daemon: &Daemon) -> Self {
        let heard = Arc::default();
        let mut attack = Self { heard, tasks: Vec::new(), _servers: Vec::new() };
        let address = daemon.url().trim_start_matches("http://").to_owned();
        let plugins = daemon.setup.plugins();

        for (name, definitions) in [
            ("a01-chain-of-a-server", chain(9_000, "#/$defs/")),
            ("a02-doubled-of-a-server", doubled(30, "#/$defs/")),
        ] {
            let schema = of_tool(definitions);
            let server = Service::mcp(move |method, _, _| match method {
                "tools/list" => Ok(json!({ "tools": [{ "name": "t", "inputSchema": schema }] })),
                _ => Ok(text_result("it was called")),
            })
            .await;
            let body = json!({
                "name": name, "description": "d", "server": server.url("/mcp"), "protocol": "mcp",
                "auth_methods": [{ "method_type": "none" }],
            });
            let user = daemon.user(name).await;
            user.post("/v1/connectors", &body).await;
            attack._servers.push(server);
            attack.join(name, move |ear| tools_of_a_server(ear, user, name));
        }
        for (name, definitions) in [
            ("a01-chain-in-a-document", chain(9_000, "#/components/schemas/")),
            ("a02-doubled-in-a-document", doubled(30, "#/components/schemas/")),
        ] {
            let body = json!({
                "name": name, "description": "d", "server": "http://127.0.0.1:9", "protocol": "http",
                "auth_methods": [{ "method_type": "none" }],
            });
            let user = daemon.user(name).await;
            user.post("/v1/connectors", &body).await;
            let document = openapi("http://127.0.0.1:9", definitions);
            attack.join(name, move |ear| documents(ear, user, name, document));
        }
        let (owner, folder) = (daemon.client.clone(), plugins.clone());
        attack.join("a01-chain-in-a-plugin", move |ear| {
            let plugin = fs::read(guest("schemas")).expect("the guest is there");
            components(ear, owner, folder, "a01", Duration::from_secs(4), move |mark| marked(&plugin, mark))
        });

        let there = address.clone();
        attack.join("a03-half-open", move |ear| half_open(ear, there));
        let user = daemon.user("hoarder").await;
        attack.join("a04-memory-of-guests", move |ear| hoard(ear, user));
        for kind in ["text", "numbers"] {
            let (user, key) =
                (daemon.user(kind).await, if kind == "text" { "a05-text" } else { "a05-numbers" });
            attack.join(key, move |ear| large_inputs(ear, user, kind));
        }

        let (owner, folder) = (daemon.client.clone(), plugins.clone());
        attack.join("a13-one-big-function", move |ear| {
            components(ear, owner, folder, "a13big", Duration::from_secs(2), |mark| {
                marked(&conditions(1, 57_000), mark)
            })
        });
        let owner = daemon.client.clone();
        attack.join("a13-many-functions", move |ear| {
            components(ear, owner, plugins, "a13many", Duration::ZERO, |mark| {
                marked(&conditions(60, 19_000), mark)
            })
        });

        let user = daemon.user("endless").await;
        let there = address.clone();
        attack.join("a26-body-without-an-end", move |ear| {
            let head = format!(
                "POST /v1/workflows/hello/execute HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
                 transfer-encoding: chunked\r\n\r\n",
                user.key
            );
            slow_bodies(ear, there, head, "4\r\n    \r\n")
        });
        let user = daemon.user("importer").await;
        attack.join("a26-slow-import", move |ear| {
            let head = format!(
                "PUT /v1/airlock/connectors/x/openapi HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
                 content-length: 1000000\r\n\r\n{{",
                user.key
            );
            slow_bodies(ear, address, head, " ")
        });
        let user = daemon.user("scheduler").await;
        attack.join("a26-schedules-that-never-come", move |ear| schedules(ear, user));
        attack
    }

    fn join<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        name: &'static str,
        attacker: impl FnOnce(Ear) -> F,
    ) {
        let ear = Ear(name, Arc::clone(&self.heard));
        ear.note(|_| {});
        self.tasks.push(tokio::spawn(attacker(ear)));
    }

    /// Everybody stops; what each was told.
    pub async fn end(self, daemon: &Daemon) -> BTreeMap<&'static str, Heard> {
        for task in self.tasks {
            if task.is_finished() {
                task.await.expect("no attacker was answered what nobody should be");
            } else {
                task.abort();
            }
        }
        for entry in fs::read_dir(daemon.setup.plugins()).expect("the folder is there").flatten() {
            if entry.file_name().to_string_lossy().starts_with('a') {
                fs::remove_file(entry.path()).expect("it can be removed");
            }
        }
        let open = daemon.client.get("/v1/workflows/runs?status=RUNNING&page_size=100").await;
        for run in open["executions"].as_array().into_iter().flatten() {
            end(&daemon.client, &run["execution_id"]).await;
        }
        calm(daemon).await;
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn end(client: &Client, id: &Value) {
    let path = format!("/v1/workflows/executions/{}/terminate", id.as_str().unwrap_or_default());
    // It may have ended by itself.
    let _ = client.try_call(Method::POST, &path, None).await;
}

/// An answer of the daemon; it may be too busy to take the connection, which is an answer too.
async fn ask(ear: &Ear, client: &Client, method: Method, path: &str, body: Option<&Value>) -> Value {
    match client.try_call(method, path, body).await {
        Ok((status, body)) => {
            ear.answer(status.as_u16(), &body);
            body
        }
        Err(_) => {
            ear.note(|heard| *heard.statuses.entry(0).or_default() += 1);
            Value::Null
        }
    }
}

/// Lists and calls a tool whose schema costs a lot.
async fn tools_of_a_server(ear: Ear, user: Client, connector: &'static str) {
    loop {
        ask(&ear, &user, Method::GET, &format!("/v1/connectors/{connector}/tools?refresh=true"), None).await;
        let arguments = json!({ "arguments": { "x": 1 } });
        let path = format!("/v1/connectors/{connector}/tools/t/call");
        let answer = ask(&ear, &user, Method::POST, &path, Some(&arguments)).await;
        if answer.to_string().contains("it was called") {
            // It is the server's to say what it thinks of its tool's arguments.
            ear.sentence("it was called");
        }
        ear.round();
        sleep(Duration::from_millis(300)).await;
    }
}

/// Imports a document whose schemas cost a lot.
async fn documents(ear: Ear, user: Client, connector: &'static str, document: Value) {
    loop {
        let path = format!("/v1/airlock/connectors/{connector}/openapi");
        ask(&ear, &user, Method::PUT, &path, Some(&document)).await;
        let arguments = json!({ "arguments": { "a": { "q": 1 } } });
        let path = format!("/v1/connectors/{connector}/tools/x/call");
        ask(&ear, &user, Method::POST, &path, Some(&arguments)).await;
        ear.round();
        sleep(Duration::from_millis(500)).await;
    }
}

/// Drops components into the plugin folder, each another one, and takes them out when they were judged.
async fn components(
    ear: Ear,
    owner: Client,
    folder: std::path::PathBuf,
    name: &'static str,
    pause: Duration,
    make: impl Fn(&str) -> Vec<u8> + Send + 'static,
) {
    for number in 0.. {
        let file = folder.join(format!("{name}.wasm"));
        fs::write(&file, make(&format!("{name} {number}"))).expect("the plugin can be dropped");
        let until = Instant::now() + Duration::from_secs(40);
        while Instant::now() < until {
            sleep(Duration::from_millis(400)).await;
            let Ok((status, all)) = owner.try_call(Method::GET, "/v1/airlock/plugins", None).await else {
                continue;
            };
            ear.note(|heard| *heard.statuses.entry(status.as_u16()).or_default() += 1);
            let judged =
                all["plugins"].as_array().into_iter().flatten().find(|plugin| plugin["name"] == name);
            if let Some(error) = judged.and_then(|plugin| plugin["error"].as_str()) {
                ear.sentence(error);
                break;
            }
        }
        fs::remove_file(&file).expect("it is there");
        ear.round();
        sleep(pause + Duration::from_millis(500)).await;
    }
}

/// Holds connections that say nothing, or begin a head and never end it.
async fn half_open(ear: Ear, address: String) {
    let mut held: VecDeque<TcpStream> = VecDeque::new();
    let beginnings =
        ["", "GET /health HTTP/1.1\r\nhost: x\r\nx-a: ", "POST /v1/workflows/hello/execute HTTP/1.1\r\n"];
    for number in 0.. {
        if let Ok(Ok(mut stream)) = timeout(Duration::from_secs(5), TcpStream::connect(&address)).await
            && stream.write_all(beginnings[number % beginnings.len()].as_bytes()).await.is_ok()
        {
            held.push_back(stream);
        }
        if held.len() > 400
            && let Some(mut oldest) = held.pop_front()
        {
            let mut text = String::new();
            if timeout(Duration::from_secs(15), oldest.read_to_string(&mut text)).await.is_ok() {
                ear.closed(&text);
            }
        }
        if number % 100 == 99 {
            ear.round();
        }
        sleep(Duration::from_millis(15)).await;
    }
}

/// Workflows that wait with much memory, and activities that take all they may have.
async fn hoard(ear: Ear, user: Client) {
    loop {
        let mut ids = Vec::new();
        for _ in 0..6 {
            let start = json!({ "input": { "plot": "hoard" } });
            let path = "/v1/workflows/hostile-workflow/execute";
            ids.push(ask(&ear, &user, Method::POST, path, Some(&start)).await["execution_id"].clone());
        }
        for deed in ["hoard", "hoard", "memory"] {
            let start = json!({ "input": { "deed": deed } });
            let path = "/v1/workflows/hostile/execute";
            ids.push(ask(&ear, &user, Method::POST, path, Some(&start)).await["execution_id"].clone());
        }
        sleep(Duration::from_secs(14)).await;
        for id in &ids {
            let path = format!("/v1/workflows/executions/{}", id.as_str().unwrap_or_default());
            let ended = ask(&ear, &user, Method::GET, &path, None).await;
            if let Some(message) = ended["failure"]["message"].as_str() {
                ear.sentence(message);
            }
            end(&user, id).await;
        }
        ear.round();
    }
}

/// Inputs of 14 MB, and their histories again and again over eight connections.
async fn large_inputs(ear: Ear, user: Client, kind: &'static str) {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let input = match kind {
        "text" => format!("{{\"input\":{{\"name\":\"{}\"}}}}", "x".repeat(14_000_000)),
        _ => format!("{{\"input\":{{\"name\":\"x\",\"more\":[{}0]}}}}", "0,".repeat(7_000_000)),
    };
    let (input, base) = (axum::body::Bytes::from(input), user.url().to_owned());
    loop {
        let start = || {
            let url = format!("{base}/v1/workflows/hello/execute");
            let request = http.post(url).bearer_auth(&user.key).header("content-type", "application/json");
            request.body(input.clone()).send()
        };
        let mut ids = Vec::new();
        for answer in futures::future::join_all((0..3).map(|_| start())).await.into_iter().flatten() {
            let status = answer.status().as_u16();
            let body: Value = answer.json().await.unwrap_or_default();
            ear.answer(status, &body);
            ids.extend(body["execution_id"].as_str().map(str::to_owned));
        }
        let until = Instant::now() + Duration::from_secs(12);
        let reads = (0..8).map(|number| {
            let (ear, http, base, key) = (ear.clone(), http.clone(), base.clone(), user.key.clone());
            let id = ids.get(number % ids.len().max(1)).cloned().unwrap_or_default();
            async move {
                while Instant::now() < until {
                    let what = ["history", "history", ""][number % 3];
                    let url = format!("{base}/v1/workflows/executions/{id}/{what}");
                    let url = url.trim_end_matches('/');
                    let Ok(mut answer) = http.get(url).bearer_auth(&key).send().await else { continue };
                    let status = answer.status().as_u16();
                    if status >= 400 {
                        ear.answer(status, &answer.json().await.unwrap_or_default());
                    } else {
                        ear.answer(status, &Value::Null);
                        // An answer that begins well and has no room for its rest is cut.
                        while let Ok(Some(_)) = answer.chunk().await {}
                    }
                    sleep(Duration::from_millis(300)).await;
                }
            }
        });
        futures::future::join_all(reads).await;
        for id in ids {
            end(&user, &id.into()).await;
        }
        ear.round();
    }
}

/// Bodies that come a little at a time and never end, eight at once.
async fn slow_bodies(ear: Ear, address: String, head: String, piece: &'static str) {
    loop {
        let bodies = (0..8).map(|_| async {
            let connected = timeout(Duration::from_secs(5), TcpStream::connect(&address)).await;
            let Ok(Ok(mut stream)) = connected else { return };
            if stream.write_all(head.as_bytes()).await.is_err() {
                return;
            }
            let (mut reader, mut writer) = stream.split();
            let mut text = String::new();
            let feed = async {
                while writer.write_all(piece.as_bytes()).await.is_ok() {
                    sleep(Duration::from_millis(500)).await;
                }
                std::future::pending::<()>().await
            };
            tokio::select! {
                read = timeout(Duration::from_secs(60), reader.read_to_string(&mut text)) => {
                    if read.is_ok() {
                        ear.closed(&text);
                    }
                }
                () = feed => {}
            }
        });
        futures::future::join_all(bodies).await;
        ear.round();
    }
}

/// Schedules of which no time ever comes: made, looked at, removed.
async fn schedules(ear: Ear, user: Client) {
    loop {
        for _ in 0..4 {
            let body = json!({ "workflow_identifier": "hello", "schedule": never() });
            let made = ask(&ear, &user, Method::POST, "/v1/workflows/schedules", Some(&body)).await;
            if let Some(warning) = made["warnings"][0].as_str() {
                ear.sentence(warning);
            }
        }
        let all = ask(&ear, &user, Method::GET, "/v1/workflows/schedules", None).await;
        for schedule in all["schedules"].as_array().into_iter().flatten() {
            let path =
                format!("/v1/workflows/schedules/{}", schedule["schedule_id"].as_str().unwrap_or_default());
            ask(&ear, &user, Method::DELETE, &path, None).await;
        }
        ear.round();
        sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until nothing is being compiled any more.
async fn calm(daemon: &Daemon) {
    eventually(LIMIT, "nothing is compiled any more", async || {
        (daemon.client.get("/v1/airlock/status").await["sandbox"]["loading"] == false).then_some(())
    })
    .await;
}
