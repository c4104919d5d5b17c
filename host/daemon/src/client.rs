//! Speaking to a daemon.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use futures::{Stream, StreamExt as _};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde_json::Value;

use crate::{ended::Ended, output::plain};

/// Where the daemon is and who is asking.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The daemon's address.
    #[arg(long, global = true, env = "AIRLOCK_URL", default_value = "http://127.0.0.1:7700")]
    url: String,
    /// The data folder of a daemon on this machine: owner.key is read from it when AIRLOCK_API_KEY is not set.
    #[arg(id = "data_dir", long = "data-dir", global = true, env = "AIRLOCK_DATA", default_value = "data")]
    data: PathBuf,
}

/// Why the daemon did not do what was asked.
#[derive(Debug)]
pub(crate) enum Problem {
    /// It cannot be reached.
    Unreachable(String),
    /// It refused.
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// Why.
        detail: String,
        /// All that it said.
        body: Value,
    },
}

/// A daemon, spoken to with an API key.
#[derive(Clone)]
pub(crate) struct Daemon {
    http: reqwest::Client,
    url: String,
    key: String,
}

impl Problem {
    pub(crate) fn ended(&self) -> Ended {
        match self {
            Self::Unreachable(_) => Ended::Unreachable,
            Self::Refused { status, .. }
                if status.is_client_error() && *status != StatusCode::FAILED_DEPENDENCY =>
            {
                Ended::BadInput
            }
            Self::Refused { .. } => Ended::Failed,
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(url) => write!(
                f,
                "no daemon answers at {url}: start one with `airlock serve`, or say where it is with --url or AIRLOCK_URL"
            ),
            Self::Refused { detail, .. } => f.write_str(detail),
        }
    }
}

impl std::error::Error for Problem {}

impl Daemon {
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        let key = match std::env::var("AIRLOCK_API_KEY") {
            Ok(key) if !key.trim().is_empty() => key,
            _ => {
                let file = options.data.join("owner.key");
                std::fs::read_to_string(&file).with_context(|| {
                    format!(
                        "there is no API key: set AIRLOCK_API_KEY, or name the data folder of a daemon on this machine with \
                         --data-dir (looked for {})",
                        file.display()
                    )
                })?
            }
        };
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .build()?;
        Ok(Self { http, url: options.url.trim_end_matches('/').to_owned(), key: key.trim().to_owned() })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> anyhow::Result<reqwest::Response> {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|_| Problem::Unreachable(self.url.clone()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.json().await.unwrap_or(Value::Null);
        Err(Problem::Refused { status, detail: detail(status, &body), body }.into())
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        read(&self.ask(method, path, body).await?)
    }

    /// The answer as the text that it is, for those who show what is in it. What is sent may hold [`airlock_engine::Json`],
    /// which is sent as it was given.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> anyhow::Result<String> {
        let response = self.send(method, path, body).await?;
        response.text().await.map_err(|_| Problem::Unreachable(self.url.clone()).into())
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Asks for something that is answered without a body; gives what a header of the answer says.
    pub(crate) async fn post_for_header(
        &self,
        path: &str,
        body: &Value,
        header: &str,
    ) -> anyhow::Result<Option<String>> {
        let response = self.send(Method::POST, path, Some(body)).await?;
        let said = response.headers().get(header).and_then(|text| text.to_str().ok());
        Ok(said.map(str::to_owned))
    }

    /// Sends bytes as they are.
    pub(crate) async fn put_bytes(&self, path: &str, bytes: Vec<u8>) -> anyhow::Result<Value> {
        let request = self.http.put(format!("{}{path}", self.url)).bearer_auth(&self.key).body(bytes);
        let response = request.send().await.map_err(|_| Problem::Unreachable(self.url.clone()))?;
        let status = response.status();
        let body: Value = response.json().await.unwrap_or_default();
        match status.is_success() {
            true => Ok(body),
            false => Err(Problem::Refused { status, detail: detail(status, &body), body }.into()),
        }
    }

    /// The body of an answer as text.
    pub(crate) async fn text(&self, path: &str) -> anyhow::Result<String> {
        self.ask(Method::GET, path, None::<&Value>).await
    }

    /// The frames of an event stream, each a JSON text, until it ends or breaks.
    pub(crate) async fn events(&self, path: &str) -> anyhow::Result<impl Stream<Item = String> + Unpin> {
        let response = self.send(Method::GET, path, None::<&Value>).await?;
        let mut frames = Frames::default();
        let chunks = response.bytes_stream().take_while(|chunk| std::future::ready(chunk.is_ok()));
        Ok(Box::pin(chunks.flat_map(move |chunk| {
            futures::stream::iter(chunk.map(|chunk| frames.push(&chunk)).unwrap_or_default())
        })))
    }
}

/// The text of an answer as a tree; null where there is nothing to say.
pub(crate) fn read(answer: &str) -> anyhow::Result<Value> {
    match answer.is_empty() {
        true => Ok(Value::Null),
        false => serde_json::from_str(answer).context("the daemon's answer is not JSON"),
    }
}

/// What an error body says, as one line or a list.
fn detail(status: StatusCode, body: &Value) -> String {
    match &body["detail"] {
        Value::String(text) => plain(text),
        Value::Array(places) => places.iter().map(problem).collect::<Vec<_>>().join("\n         "),
        _ => format!("the daemon answered with status {status}"),
    }
}

/// What is wrong at one place. Messages about inputs name the place themselves.
fn problem(place: &Value) -> String {
    let message = plain(place["msg"].as_str().unwrap_or_default());
    let keys = place["loc"].as_array().into_iter().flatten().skip(1);
    let keys: Vec<String> =
        keys.map(|key| key.as_str().map_or_else(|| key.to_string(), str::to_owned)).collect();
    match keys.first().map(String::as_str) {
        None | Some("input") => message,
        Some(_) => format!("{}: {message}", plain(&keys.join("."))),
    }
}

/// Takes the data out of server-sent events as bytes come in.
#[derive(Default)]
struct Frames(Vec<u8>);

impl Frames {
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(bytes);
        let mut found = Vec::new();
        while let Some(end) = self.0.windows(2).position(|pair| pair == b"\n\n") {
            let frame: Vec<u8> = self.0.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&frame);
            let data: Vec<&str> =
                text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim_start).collect();
            if !data.is_empty() {
                found.push(data.join("\n"));
            }
        }
        found
    }
}

/// A path segment with everything encoded that could be mistaken for something else.
pub(crate) fn segment(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn frames_are_put_together_from_pieces() {
        let mut frames = Frames::default();
        assert_eq!(frames.push(b": keep-alive\n\nid: 1\nda"), Vec::<String>::new());
        assert_eq!(frames.push(b"ta: {\"a\":1}\n\ndata: 2\n\ndata: 3"), [r#"{"a":1}"#, "2"]);
        assert_eq!(frames.push(b"\n\n"), ["3"]);
    }

    #[test]
    fn problems_have_exit_codes_and_all_their_messages() {
        let refused = |status| Problem::Refused { status, detail: String::new(), body: Value::Null }.ended();
        assert_eq!(refused(StatusCode::NOT_FOUND), Ended::BadInput);
        assert_eq!(refused(StatusCode::BAD_GATEWAY), Ended::Failed);
        assert_eq!(Problem::Unreachable(String::new()).ended(), Ended::Unreachable);
        let list = json!({ "detail": [{ "msg": "a" }, { "msg": "b" }] });
        assert_eq!(detail(StatusCode::UNPROCESSABLE_ENTITY, &list), "a\n         b");
        let list = json!({ "detail": [{ "loc": ["body", "rate", 0, "per"], "msg": "expected 'user'" }] });
        assert_eq!(detail(StatusCode::UNPROCESSABLE_ENTITY, &list), "rate.0.per: expected 'user'");
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(segment("a b/../c"), "a%20b%2F..%2Fc");
    }
}
