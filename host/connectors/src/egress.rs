//! The only code that sends, and the only code that puts a secret into a request.
//!
//! One client for all connectors: no redirects (THREATS row 3), no proxies from the environment, no cookies, names resolved
//! by [`crate::address`], connections reused. A [`Sender`] is that client together with one credential; rmcp speaks MCP
//! through it and cannot choose another host or another header.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::stream::BoxStream;
use http::{HeaderName, HeaderValue};
use reqwest::redirect;
use rmcp::{
    model::ClientJsonRpcMessage,
    transport::streamable_http_client::{
        HttpStatusError, SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
    },
};
use secrecy::{ExposeSecret, SecretString};
use sse_stream::Sse;

use crate::{ConnectorsError, address, credentials::Secret, scrub::Scrubber};

/// Bytes of one server-sent event, and so of one streamed answer.
const MAX_EVENT: usize = 16 << 20;

/// A client that reaches only what the operator allows.
pub(crate) fn client(allowed: address::Allowed) -> Result<reqwest::Client, ConnectorsError> {
    reqwest::Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .dns_resolver(address::resolver(allowed))
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(130))
        .pool_idle_timeout(Duration::from_secs(90))
        .tcp_nodelay(true)
        .user_agent(concat!("airlock/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| ConnectorsError::Store(format!("the HTTP client cannot be set up: {error}")))
}

/// Sends MCP messages to one server with one credential.
#[derive(Clone)]
pub(crate) struct Sender(Arc<Inner>);

struct Inner {
    client: reqwest::Client,
    server: Arc<str>,
    bearer: Option<SecretString>,
    headers: HashMap<HeaderName, HeaderValue>,
}

impl Sender {
    /// A sender, and what takes its secrets out of answers. `headers` go with every request, secret or not.
    pub(crate) fn new(
        client: reqwest::Client,
        server: &str,
        secret: Secret,
        common: &[(String, SecretString, bool)],
    ) -> Result<(Self, Scrubber), ConnectorsError> {
        let mut scrubber = Scrubber::default();
        secret.values().for_each(|value| scrubber.add(value));
        let mut headers = HashMap::new();
        let common = common.iter().map(|(name, value, is_secret)| (name, value, *is_secret));
        let own = secret.headers.iter().map(|(name, value)| (name, value, true));
        for (name, value, is_secret) in common.chain(own) {
            let invalid = || ConnectorsError::Store(format!("the stored header '{name}' cannot be sent"));
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
            let mut typed = HeaderValue::from_str(value.expose_secret()).map_err(|_| invalid())?;
            typed.set_sensitive(is_secret);
            if is_secret {
                scrubber.add(value.expose_secret());
            }
            headers.insert(parsed, typed);
        }
        let inner = Inner { client, server: server.into(), bearer: secret.bearer, headers };
        Ok((Self(Arc::new(inner)), scrubber))
    }

    fn bearer(&self) -> Option<String> {
        self.0.bearer.as_ref().map(|token| token.expose_secret().to_owned())
    }

    /// What rmcp wants to send along (protocol headers), and over it what is ours: the credential is set last.
    fn headers(&self, mut wanted: HashMap<HeaderName, HeaderValue>) -> HashMap<HeaderName, HeaderValue> {
        wanted.remove(&http::header::AUTHORIZATION);
        wanted.extend(self.0.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        wanted
    }
}

type Failure = StreamableHttpError<reqwest::Error>;

/// Leaves of a failure what may be told: a kind, a status. rmcp's errors hold addresses and bodies, and go to its log before
/// anybody here could scrub them (THREATS rows 2 and 18).
fn bare(failure: Failure) -> Failure {
    match failure {
        StreamableHttpError::Client(error) => StreamableHttpError::Client(error.without_url()),
        StreamableHttpError::AuthRequired(_) => status(401),
        StreamableHttpError::InsufficientScope(_) => status(403),
        StreamableHttpError::UnexpectedServerResponse(text) => {
            // "HTTP 400 Bad Request: BODY"
            let code =
                text.strip_prefix("HTTP ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
            code.map_or(StreamableHttpError::UnexpectedServerResponse("not as expected".into()), status)
        }
        StreamableHttpError::UnexpectedContentType(_) => StreamableHttpError::UnexpectedContentType(None),
        StreamableHttpError::Deserialize(_) => {
            StreamableHttpError::UnexpectedServerResponse("not a JSON-RPC message".into())
        }
        other => other,
    }
}

fn status(code: u16) -> Failure {
    StreamableHttpError::HttpStatus(HttpStatusError::new(code, None))
}

impl StreamableHttpClient for Sender {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        _: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        let (client, server) = (&self.0.client, Arc::clone(&self.0.server));
        client
            .post_message_with_max_sse_event_size(
                server,
                message,
                session,
                self.bearer(),
                self.headers(headers),
                MAX_EVENT,
            )
            .await
            .map_err(bare)
    }

    async fn delete_session(
        &self,
        _: Arc<str>,
        session: Arc<str>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Failure> {
        let server = Arc::clone(&self.0.server);
        self.0
            .client
            .delete_session(server, session, self.bearer(), self.headers(headers))
            .await
            .map_err(bare)
    }

    async fn get_stream(
        &self,
        _: Arc<str>,
        session: Option<Arc<str>>,
        last_event_id: Option<String>,
        _: Option<String>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Failure> {
        let (client, server) = (&self.0.client, Arc::clone(&self.0.server));
        client
            .get_stream_with_max_sse_event_size(
                server,
                session,
                last_event_id,
                self.bearer(),
                self.headers(headers),
                MAX_EVENT,
            )
            .await
            .map_err(bare)
    }
}
