//! How requests of the OAuth protocol go out, and what is checked of every address and answer before anybody looks at it.

use std::{net::IpAddr, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use url::{Host, Url};

use super::redirect::{LONGEST_HOST, Sent};
use crate::{
    ConnectorsError,
    egress::address::Allowed,
    egress::{Answer, Egress, Unanswered},
    error::wording::short,
};

/// Bytes of an answer: the documents and tokens of OAuth are small.
const MAX_ANSWER: usize = 1 << 20;

/// For a whole request, its answer included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends one request of the OAuth protocol: no redirects, a limit of 1 MiB and 30 s, addresses filtered.
#[async_trait]
pub(crate) trait Exchange: Send + Sync {
    /// The answer whatever its status; a redirect is an answer like another and is not followed.
    async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ConnectorsError>;
}

#[async_trait]
impl Exchange for Egress {
    async fn send(&self, mut request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ConnectorsError> {
        let url = Url::parse(&request.uri().to_string())
            .map_err(|_| ConnectorsError::Upstream("an OAuth request has no valid address".into()))?;
        check_address(&url, self.allowed()).map_err(ConnectorsError::Upstream)?;
        let host = host(&url);
        if let Some(authorization) = request.headers_mut().get_mut(header::AUTHORIZATION) {
            authorization.set_sensitive(true);
        }
        // A server for tools may answer the probe of discovery with a stream that never ends.
        let wants_body = |headers: &HeaderMap| !is_event_stream(headers.get(header::CONTENT_TYPE));
        let answer = self.exchange(request, PATIENCE, MAX_ANSWER, wants_body).await;
        let Answer { status, headers, body } = answer.map_err(|why| match why {
            Unanswered::Late => too_slow(&host),
            Unanswered::TooLarge => {
                ConnectorsError::Upstream(format!("{host} answered an OAuth request with more than 1 MiB"))
            }
            Unanswered::Unreachable(why) => ConnectorsError::Upstream(format!(
                "the authorization server at {host} cannot be reached: {why}"
            )),
            Unanswered::Forbidden(wall) => {
                ConnectorsError::Upstream(format!("the authorization server at {host} is not called: {wall}"))
            }
            Unanswered::Encoded => ConnectorsError::Upstream(format!(
                "the authorization server at {host} answered in a content encoding that is not known: gzip, deflate and \
                 br are"
            )),
            Unanswered::Broken | Unanswered::Redirected => ConnectorsError::Upstream(format!(
                "the authorization server at {host} broke the connection off: try again"
            )),
        })?;
        let mut whole = Response::new(body);
        *whole.status_mut() = status;
        *whole.headers_mut() = headers;
        Ok(whole)
    }
}

fn too_slow(host: &str) -> ConnectorsError {
    ConnectorsError::Timeout(format!("{host} took too long to answer an OAuth request: try again later"))
}

fn is_event_stream(content_type: Option<&HeaderValue>) -> bool {
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

/// Sends, and takes no answer that is a redirect (THREATS row 3) or says that the server cannot answer now.
pub(crate) async fn send(
    exchange: &dyn Exchange,
    request: Request<Vec<u8>>,
) -> Result<Response<Vec<u8>>, ConnectorsError> {
    let host = named(request.uri().host());
    let answer = send_directly(exchange, request).await?;
    match is_busy(answer.status()) {
        true => Err(ConnectorsError::Upstream(busy(&host, answer.status()))),
        false => Ok(answer),
    }
}

/// Whether a status says that the server cannot answer now.
pub(super) fn is_busy(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

pub(super) fn busy(host: &str, status: StatusCode) -> String {
    format!("{host} answered an OAuth request with status {}: try again later", status.as_u16())
}

/// Sends, and takes no answer that is a redirect (THREATS row 3).
pub(super) async fn send_directly(
    exchange: &dyn Exchange,
    request: Request<Vec<u8>>,
) -> Result<Response<Vec<u8>>, ConnectorsError> {
    let host = named(request.uri().host());
    let sent = Sent::of(&request);
    let answer = exchange.send(request).await?;
    let status = answer.status();
    if status.is_redirection() {
        return Err(ConnectorsError::Upstream(format!(
            "{host} answered an OAuth request with a redirect ({}) {}, and redirects are not followed: give the address of \
             the endpoint itself",
            status.as_u16(),
            sent.redirected(&answer)
        )));
    }
    Ok(answer)
}

/// Why an address cannot be used for OAuth, if it cannot: it has to be https, or http on this machine where that is
/// allowed, hold no user and no fragment, and lead somewhere that may be called (THREATS rows 8 and 9).
pub(crate) fn check_address(url: &Url, allowed: Allowed) -> Result<(), String> {
    match url.scheme() {
        "https" => {}
        "http" if allowed.loopback && is_loopback(url) => {}
        "http" => return Err(format!("{} must be called with https", host(url))),
        _ => return Err("the address must begin with https://".into()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("the address of {} must hold no user or password", host(url)));
    }
    if url.fragment().is_some() {
        return Err(format!("the address of {} must hold no '#'", host(url)));
    }
    allowed.check(url)
}

/// Whether an address is none that a server would give by mistake.
pub(super) fn is_forged(url: &Url) -> bool {
    !matches!(url.scheme(), "http" | "https")
        || !url.username().is_empty()
        || url.password().is_some()
        || url.fragment().is_some()
}

/// Whether an address names this machine without asking a name server.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

/// The host for messages.
pub(crate) fn host(url: &Url) -> String {
    named(url.host_str())
}

/// A host's name, which others choose and which may have any length.
fn named(host: Option<&str>) -> String {
    short(host.unwrap_or_default(), LONGEST_HOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::fixture::{Fixture, LOOPBACK, wire};

    fn get(url: &str) -> Request<Vec<u8>> {
        Request::get(url).body(Vec::new()).expect("a request")
    }

    #[tokio::test]
    async fn row_03_a_redirect_is_refused_and_its_target_is_never_asked() {
        let (first, second) = (Fixture::start().await, Fixture::start().await);
        for status in [301, 302, 303, 307, 308] {
            first.redirect("GET /token", status, &second.url("/taken"));
            let error = send(&*wire(), get(&first.url("/token"))).await.expect_err("a redirect");
            assert_eq!(
                error.to_string(),
                format!(
                    "127.0.0.1 answered an OAuth request with a redirect ({status}) to {} without https, and redirects are \
                     not followed: give the address of the endpoint itself",
                    &second.origin["http://".len()..]
                )
            );
        }
        assert_eq!(second.seen().len(), 0);
    }

    #[tokio::test]
    async fn a_redirect_that_leads_nowhere_or_round_is_told_as_that_after_one_request() {
        for (location, expected) in [
            ("", "(308) without an address"),
            ("http://[", "(308) with an address that cannot be read"),
            ("/token", "(308) to itself"),
            ("token", "(308) to itself"),
            ("/token/", "(308) to the same address with a slash at its end"),
            ("/other", "(308) to another place of the same host"),
        ] {
            let server = Fixture::start().await;
            server.redirect("POST /token", 308, location);
            let request = Request::post(server.url("/token")).body(b"code=x".to_vec()).expect("a request");
            let error = send(&*wire(), request).await.expect_err("a redirect").to_string();
            assert!(error.starts_with("127.0.0.1 ") && error.contains(expected), "{error}");
            assert_eq!(server.seen().len(), 1);
        }
    }

    #[tokio::test]
    async fn row_22_a_huge_answer_is_cut_off_and_an_endless_stream_is_not_read() {
        let server = Fixture::start().await;
        server.on("GET /huge", 200, "x".repeat(MAX_ANSWER + 1));
        let error = wire().send(get(&server.url("/huge"))).await.expect_err("too much");
        assert!(error.to_string().ends_with("more than 1 MiB"), "{error}");
        server.endless_events("GET /stream");
        let answer = wire().send(get(&server.url("/stream"))).await.expect("an answer");
        assert_eq!(answer.body().len(), 0);
    }

    #[tokio::test]
    async fn row_08_an_address_inside_is_not_called() {
        let server = Fixture::start().await;
        let wire = Egress::new(Allowed::default()).expect("a client");
        for url in [server.url("/token"), server.url("/token").replace("http:", "https:")] {
            wire.send(get(&url)).await.expect_err("loopback is not allowed");
        }
        assert_eq!(server.seen().len(), 0);
    }

    #[test]
    fn row_09_an_address_of_an_endpoint_is_https_or_on_this_machine() {
        let check = |url: &str, allowed| check_address(&Url::parse(url).expect("an address"), allowed);
        let inside = Allowed { loopback: true, private_networks: true };
        for good in ["https://a.example/token", "https://a.example:8443/token?tenant=1"] {
            assert_eq!(check(good, Allowed::default()), Ok(()), "{good}");
        }
        for local in ["http://127.0.0.1:1/token", "http://localhost/token", "http://[::1]/token"] {
            assert_eq!(check(local, LOOPBACK), Ok(()), "{local}");
            assert!(check(local, Allowed::default()).is_err(), "{local}");
        }
        for bad in [
            "javascript:alert(1)",
            "file:///etc/passwd",
            "data:text/html,x",
            "ftp://a.example/token",
            "http://a.example/token",
            "http://10.0.0.1/token",
            "https://user@a.example/token",
            "https://user:word@a.example/token",
            "https://a.example/token#part",
            "https://169.254.169.254/token",
        ] {
            assert!(check(bad, inside).is_err(), "{bad}");
        }
    }
}
