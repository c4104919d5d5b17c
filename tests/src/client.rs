//! A plain HTTP client with a key.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{LIMIT, eventually};

/// Calls a daemon on behalf of one user.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    /// The API key.
    pub key: String,
}

impl Client {
    /// A client with a key.
    pub fn new(url: &str, key: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().expect("a client");
        Self { http, url: url.into(), key: key.into() }
    }

    /// The daemon's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a request; the body of the answer is `null` when it is empty, and text when it is not JSON.
    pub async fn try_call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> reqwest::Result<(StatusCode, Value)> {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        let body = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        };
        Ok((status, body))
    }

    /// The same, for a daemon that is there.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        self.try_call(method, path, body).await.expect("the daemon answers")
    }

    /// GET that must succeed.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, None).await;
        assert!(status.is_success(), "GET {path}: {status} {body}");
        body
    }

    /// GET of a stream, to its end.
    pub async fn get_text(&self, path: &str) -> String {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.key);
        let response = request.send().await.expect("the daemon answers");
        response.text().await.expect("the stream ends")
    }

    /// POST of a text as it is; the answer as the text that it is.
    pub async fn post_text(&self, path: &str, body: String) -> (StatusCode, String) {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(&self.key);
        let request = request.header("content-type", "application/json").body(body);
        let response = request.send().await.expect("the daemon answers");
        (response.status(), response.text().await.expect("the answer ends"))
    }

    /// POST that must succeed.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call(Method::POST, path, Some(body)).await;
        assert!(status.is_success(), "POST {path}: {status} {answer}");
        answer
    }

    /// Starts an execution and returns its id.
    pub async fn start(&self, workflow: &str, input: Value) -> String {
        let answer =
            self.post(&format!("/v1/workflows/{workflow}/execute"), &json!({ "input": input })).await;
        answer["execution_id"].as_str().expect("an execution id").to_owned()
    }

    /// Runs a workflow to its end and returns its result.
    pub async fn execute(&self, workflow: &str, input: Value) -> Value {
        let body = json!({ "input": input, "wait_for_result": true });
        self.post(&format!("/v1/workflows/{workflow}/execute"), &body).await["result"].clone()
    }

    /// An execution as it is now.
    pub async fn execution(&self, id: &str) -> Value {
        self.get(&format!("/v1/workflows/executions/{id}")).await
    }

    /// An execution after its end.
    pub async fn ended(&self, id: &str, limit: Duration) -> Value {
        eventually(limit, &format!("execution {id} ends"), async || {
            let execution = self.execution(id).await;
            (execution["status"] != "RUNNING").then_some(execution)
        })
        .await
    }

    /// All stored events of an execution.
    pub async fn events(&self, id: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/workflows/events/list?root_workflow_exec_id={id}&limit=1000{cursor}");
            let page = self.get(&path).await;
            events.extend(page["events"].as_array().expect("events").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return events,
            }
        }
    }

    /// The types of all stored events of an execution.
    pub async fn event_types(&self, id: &str) -> Vec<String> {
        let events = self.events(id).await;
        events.iter().map(|event| event["event_type"].as_str().expect("a type").to_owned()).collect()
    }

    /// Registers an MCP server on this machine as a connector.
    pub async fn add_connector(&self, name: &str, server: &str, method: &str) {
        let body = json!({
            "name": name, "description": "for tests", "server": server, "protocol": "mcp",
            "visibility": "shared_org", "auth_methods": [{ "method_type": method }],
        });
        self.post("/v1/connectors", &body).await;
    }

    /// Stores a bearer token for this user.
    pub async fn add_credential(&self, connector: &str, name: &str, token: &str) {
        let body = json!({ "name": name, "credentials": { "bearer_token": token } });
        self.post(&format!("/v1/connectors/{connector}/user/credentials"), &body).await;
    }
}
