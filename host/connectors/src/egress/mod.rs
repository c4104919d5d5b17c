//! The only code that sends, and the only code that puts a secret into a request.
//!
//! One client for all connectors: no redirects of its own (THREATS row 3), no proxies from the environment, no cookies,
//! names resolved by [`address`], connections reused. A [`Sender`] is that client together with one connector's
//! credential; MCP messages, REST calls and OAuth requests go through it, and none of them can choose another host or
//! another header. It knows neither protocol: an MCP message is bytes with headers, and so is its answer.

pub(crate) mod address;
mod channels;
mod codings;
pub(crate) mod headers;
mod opening;
mod parts;
pub(crate) mod scrub;
pub(crate) mod secret;
mod unanswered;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use parking_lot::{Mutex, RwLock};
use reqwest::redirect;
use secrecy::ExposeSecret;
use url::Url;

pub(crate) use self::channels::{Channels, Key};
#[cfg(test)]
pub(crate) use self::unanswered::Obstacle;
pub(crate) use self::unanswered::Unanswered;
use self::{
    address::Wall,
    opening::{Gate, Origins, Traffic},
    secret::Rendered,
    unanswered::unanswered,
};
use crate::ConnectorsError;

/// How long a document may take.
const FETCH_LIMIT: Duration = Duration::from_secs(60);

/// So many redirects inside an origin are followed.
const MAX_REDIRECTS: usize = 5;

/// The client, and where it may go.
#[derive(Clone)]
pub(crate) struct Egress {
    client: reqwest::Client,
    allowed: address::Allowed,
    origins: Origins,
}

impl Egress {
    /// A client that reaches only what the operator allows.
    pub(crate) fn new(allowed: address::Allowed) -> Result<Self, ConnectorsError> {
        let client = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(address::resolver(allowed))
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(130))
            .pool_idle_timeout(Duration::from_secs(90))
            .tcp_nodelay(true)
            .connector_layer(Gate)
            .user_agent(concat!("airlock/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ConnectorsError::Store(format!("the HTTP client cannot be set up: {error}")))?;
        Ok(Self { client, allowed, origins: Origins::default() })
    }

    pub(crate) fn allowed(&self) -> address::Allowed {
        self.allowed
    }

    /// Sends a request of the OAuth protocol as it is, and reads the answer up to a limit if its headers are those of one.
    /// A redirect is an answer like another.
    pub(crate) async fn exchange(
        &self,
        request: http::Request<Vec<u8>>,
        timeout: Duration,
        max_bytes: usize,
        wants_body: impl Fn(&HeaderMap) -> bool,
    ) -> Result<Answer, Unanswered> {
        let request = reqwest::Request::try_from(request).map_err(|error| unanswered(&error))?;
        let exchanged = async {
            let answer = self.client.execute(request).await.map_err(|error| unanswered(&error))?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let body = if wants_body(&headers) { read(answer, max_bytes).await? } else { Vec::new() };
            Ok(Answer { status, headers, body })
        };
        tokio::time::timeout(timeout, exchanged).await.unwrap_or(Err(Unanswered::Late))
    }

    /// Gets a public document, without any credential.
    pub(crate) async fn fetch(&self, url: &Url, max_bytes: usize) -> Result<Vec<u8>, Unfetched> {
        let fetching = async {
            let answer = self.client.get(url.clone()).send().await;
            let answer = answer.map_err(|error| Unfetched::Unanswered(unanswered(&error)))?;
            match answer.status() {
                StatusCode::OK => read(answer, max_bytes).await.map_err(Unfetched::Unanswered),
                status => Err(Unfetched::Status(status.as_u16())),
            }
        };
        let fetched = tokio::time::timeout(FETCH_LIMIT, fetching).await;
        fetched.unwrap_or(Err(Unfetched::Unanswered(Unanswered::Late)))
    }

    /// A sender for one server with one credential.
    pub(crate) fn sender(&self, server: &Url, live: Arc<Live>) -> Sender {
        let traffic = self.origins.of(server);
        let host = server.host_str().unwrap_or_default().to_owned();
        let inner = Inner { egress: self.clone(), server: server.clone(), host, traffic, live };
        Sender { inner: Arc::new(inner) }
    }
}

/// Why a document could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfetched {
    /// There was an answer, with this status.
    Status(u16),
    /// There was none.
    Unanswered(Unanswered),
}

/// A credential as it is now: refreshed tokens take the place of older ones under open sessions.
pub(crate) struct Live {
    rendered: RwLock<Arc<Rendered>>,
    /// What the server last said about authorisation (`WWW-Authenticate`).
    challenge: Mutex<Option<Refusal>>,
}

/// A 401 or 403 with what the server said about it.
#[derive(Clone)]
pub(crate) struct Refusal {
    /// All `WWW-Authenticate` fields, in their order (RFC 9110 §11.6.1: any of them may be the one that is meant).
    pub(crate) challenges: Vec<HeaderValue>,
}

impl Live {
    pub(crate) fn new(rendered: Rendered) -> Arc<Self> {
        Arc::new(Self { rendered: RwLock::new(Arc::new(rendered)), challenge: Mutex::default() })
    }

    /// Puts another secret in place. The one before may still come back, so it is still scrubbed.
    pub(crate) fn replace(&self, mut rendered: Rendered) {
        let mut now = self.rendered.write();
        rendered.scrubber.remember(&now.scrubber);
        *now = Arc::new(rendered);
        *self.challenge.lock() = None;
    }

    pub(crate) fn rendered(&self) -> Arc<Rendered> {
        Arc::clone(&self.rendered.read())
    }

    /// What the last 401 or 403 said.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.challenge.lock().clone()
    }

    fn refused(&self, headers: &HeaderMap) {
        let challenges = headers.get_all(header::WWW_AUTHENTICATE).iter().cloned().collect();
        *self.challenge.lock() = Some(Refusal { challenges });
    }
}

/// Sends to one server with one credential.
#[derive(Clone)]
pub(crate) struct Sender {
    inner: Arc<Inner>,
}

struct Inner {
    egress: Egress,
    server: Url,
    /// For messages.
    host: String,
    traffic: Arc<Traffic>,
    live: Arc<Live>,
}

/// A request without its credential.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Content type and bytes.
    pub(crate) body: Option<(HeaderValue, Vec<u8>)>,
}

/// What a service answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// The beginning of an answer whose body is still to come.
pub(crate) struct Streamed {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Where the server points to, if that was not followed: origin and path.
    pub(crate) redirect: Option<String>,
    pub(crate) body: BoxStream<'static, Result<Bytes, Unanswered>>,
}

impl Sender {
    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.inner.live
    }

    pub(crate) fn server(&self) -> &Url {
        &self.inner.server
    }

    /// The server's host, for messages.
    pub(crate) fn host(&self) -> &str {
        &self.inner.host
    }

    pub(crate) fn scrub(&self) -> Arc<Rendered> {
        self.inner.live.rendered()
    }

    /// The address of the server with the query values of the credential.
    fn with_query(rendered: &Rendered, url: &Url) -> Url {
        let mut url = url.clone();
        if !rendered.query.is_empty() {
            without(&mut url, rendered);
            let mut pairs = url.query_pairs_mut();
            for (name, value) in &rendered.query {
                pairs.append_pair(name, value.expose_secret());
            }
        }
        url
    }

    /// Sends a REST request and reads the answer, decoded, up to a limit. Redirects are followed inside the origin only.
    pub(crate) async fn send(
        &self,
        prepared: Prepared,
        idempotency_key: Option<&str>,
        timeout: Duration,
        max_bytes: usize,
    ) -> Result<Answer, Unanswered> {
        let sending = self.send_following(prepared, idempotency_key, max_bytes);
        tokio::time::timeout(timeout, sending).await.unwrap_or(Err(Unanswered::Late))
    }

    async fn send_following(
        &self,
        prepared: Prepared,
        idempotency_key: Option<&str>,
        max_bytes: usize,
    ) -> Result<Answer, Unanswered> {
        let Prepared { mut method, mut url, headers, mut body } = prepared;
        let under_way = self.inner.traffic.begin();
        for _ in 0..=MAX_REDIRECTS {
            if !same_origin(&url, &self.inner.server) {
                return Err(Unanswered::Forbidden(Wall::Elsewhere));
            }
            if let Some(wall) = self.inner.egress.allowed.wall(&url) {
                return Err(Unanswered::Forbidden(wall));
            }
            let rendered = self.inner.live.rendered();
            let mut request =
                self.inner.egress.client.request(method.clone(), Self::with_query(&rendered, &url));
            for (name, value) in &headers {
                request = request.header(name, value);
            }
            if let Some((kind, bytes)) = &body {
                request = request.header(header::CONTENT_TYPE, kind).body(bytes.clone());
            }
            if let Some(key) = idempotency_key.filter(|_| matches!(method, Method::POST | Method::PATCH)) {
                request = request.header("idempotency-key", key);
            }
            // Last, so that nothing takes its place.
            request = request.headers(rendered.headers.clone());
            let answer = under_way.sending(request.send()).await.map_err(|error| unanswered(&error))?;
            let status = answer.status();
            if let Some(location) = redirected(status, answer.headers(), &url) {
                if !same_origin(&location, &self.inner.server) {
                    return Err(Unanswered::Redirected);
                }
                if matches!(status, StatusCode::SEE_OTHER | StatusCode::FOUND | StatusCode::MOVED_PERMANENTLY)
                    && !matches!(method, Method::GET | Method::HEAD)
                {
                    (method, body) = (Method::GET, None);
                }
                url = location;
                continue;
            }
            if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                self.inner.live.refused(answer.headers());
            }
            let headers = answer.headers().clone();
            let body = codings::undone(&headers, read(answer, max_bytes).await?, max_bytes)?;
            return Ok(Answer { status, headers, body });
        }
        Err(Unanswered::Redirected)
    }

    /// Sends a message to the server's own address and gives the answer as it begins. `headers` are those of the protocol;
    /// the credential is set last. A redirect that keeps method and body (307, 308) is followed inside the origin; any
    /// other is handed back with where it points.
    pub(crate) async fn message(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Streamed, Unanswered> {
        let mut url = self.inner.server.clone();
        let mut hops = 0;
        let under_way = self.inner.traffic.begin();
        loop {
            if let Some(wall) = self.inner.egress.allowed.wall(&url) {
                return Err(Unanswered::Forbidden(wall));
            }
            let rendered = self.inner.live.rendered();
            let mut headers = headers.clone();
            headers.remove(header::AUTHORIZATION);
            let mut request = self
                .inner
                .egress
                .client
                .request(method.clone(), Self::with_query(&rendered, &url))
                .headers(headers)
                .headers(rendered.headers.clone());
            if let Some(body) = &body {
                request = request.body(body.clone());
            }
            let answer = under_way.sending(request.send()).await.map_err(|error| unanswered(&error))?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            if !codings::is_plain(&headers) {
                return Err(Unanswered::Encoded);
            }
            let location = redirected(status, &headers, &url);
            if let Some(next) = &location
                && matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT)
                && same_origin(next, &self.inner.server)
                && hops < MAX_REDIRECTS
            {
                (url, hops) = (next.clone(), hops + 1);
                continue;
            }
            if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                self.inner.live.refused(&headers);
            }
            let redirect =
                location.map(|url| format!("{}{}", url.origin().ascii_serialization(), url.path()));
            // It is under way until its answer has been read.
            let chunks = answer.bytes_stream().map(move |chunk| {
                let _held = &under_way;
                chunk.map_err(|error| unanswered(&error))
            });
            let body = chunks.boxed();
            return Ok(Streamed { status, headers, redirect, body });
        }
    }
}

/// Whether two addresses have the same scheme, host and port (RFC 6454 §4), without writing them down as [`Url::origin`] does.
/// Only http and https have origins here.
pub(crate) fn same_origin(one: &Url, other: &Url) -> bool {
    matches!(one.scheme(), "http" | "https")
        && one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Takes what a credential adds to an address out of it: a redirect may bring it back.
fn without(url: &mut Url, rendered: &Rendered) {
    let is_ours = |name: &str| rendered.query.iter().any(|(ours, _)| ours == name);
    if !url.query_pairs().any(|(name, _)| is_ours(&name)) {
        return;
    }
    let others: Vec<_> = url.query_pairs().into_owned().filter(|(name, _)| !is_ours(name)).collect();
    url.query_pairs_mut().clear().extend_pairs(others);
}

/// Reads a body up to a limit.
async fn read(answer: reqwest::Response, max_bytes: usize) -> Result<Vec<u8>, Unanswered> {
    let mut body = Vec::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| unanswered(&error))?;
        if body.len() + chunk.len() > max_bytes {
            return Err(Unanswered::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Where a redirect leads.
fn redirected(status: StatusCode, headers: &HeaderMap, from: &Url) -> Option<Url> {
    let codes = [301, 302, 303, 307, 308];
    let location = headers.get(header::LOCATION).filter(|_| codes.contains(&status.as_u16()))?;
    from.join(location.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_03_origins_are_the_same_when_the_url_standard_says_so() {
        let mut urls = Vec::new();
        for scheme in ["http", "https", "HTTPS", "ftp", "data", "unix"] {
            for host in [
                "a.example",
                "A.example",
                "b.example",
                "127.0.0.1",
                "0x7f.1",
                "[::1]",
                "u:p@a.example",
                "a.example.",
            ] {
                for port in ["", ":80", ":443", ":8080"] {
                    urls.extend(Url::parse(&format!("{scheme}://{host}{port}/x?y#z")).ok());
                }
            }
        }
        urls.extend(Url::parse("data:text/plain,x"));
        assert!(urls.len() > 150, "{}", urls.len());
        for one in &urls {
            for other in &urls {
                let is_web = matches!(one.scheme(), "http" | "https");
                assert_eq!(
                    same_origin(one, other),
                    is_web && one.origin() == other.origin(),
                    "{one} {other}"
                );
            }
        }
    }
}
