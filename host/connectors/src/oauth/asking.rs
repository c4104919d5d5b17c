//! A form that is posted until the server knows the client: in the way that was said or advertised first, then in the others.
//!
//! Promises: each way is taken once, and no other than those that are [known](super::ways) of this client and server; an
//! answer about anything else than the client is the last. So a secret goes to no other place than it would anyway.
//!
//! A server looks at the client before it looks at what the client brings (RFC 6749 §4.1.3), so a code is good still when
//! the client was not known (`invalid_client`, §5.2). One that counts it as used says `invalid_grant` to the next request,
//! which tells as well that it knows the client: the way is remembered, and the next authorisation begins with it.

use http::{Response, StatusCode};
use url::Url;
use zeroize::Zeroizing;

use super::{
    Client, Server,
    answer::Refused,
    error_answer::ErrorAnswer,
    exchange::{self, Exchange, is_busy},
    post::{Post, post},
    ways::Way,
};

/// What came of a form.
pub(super) struct Answered {
    /// To the last request.
    pub(super) answer: Response<Vec<u8>>,
    /// How the client proved itself, in this order.
    tried: Vec<Way>,
    /// The last way was refused as well.
    is_unknown: bool,
    /// What was signed, which must not come back.
    pub(super) assertion: Option<Zeroizing<String>>,
}

/// What an answer says of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The server does not know it, or not like this.
    Unknown,
    /// It says what only a client is told that it knows.
    Known,
    Unclear,
}

/// Posts a form of a client. `advertised` is what the server says of this endpoint.
pub(super) async fn ask(
    endpoint: &Url,
    server: &Server,
    client: &Client,
    advertised: Option<&[String]>,
    fields: &[(&str, &str)],
    exchange: &dyn Exchange,
) -> Result<Answered, Refused> {
    let mut ways = client.ways(advertised).into_iter().peekable();
    let mut tried = Vec::new();
    loop {
        // A client has at least one way, and the last ends the loop.
        let way = ways.next().unwrap_or(Way::None);
        let Post { request, assertion } =
            post(endpoint, server, client, way, fields).map_err(Refused::Unsent)?;
        let answer = exchange::send_directly(exchange, request).await.map_err(Refused::Failed)?;
        tried.push(way);
        let verdict = verdict(&answer);
        if verdict == Verdict::Unknown && ways.peek().is_some() {
            let status = answer.status().as_u16();
            tracing::debug!(host = server.host(), %way, status, "a server does not know the client like this");
            continue;
        }
        if verdict == Verdict::Known && tried.len() > 1 {
            client.settle(way);
        }
        let is_forgotten = || ErrorAnswer::read(answer.body()).is_some_and(|error| error.names_no_client());
        if !is_busy(answer.status()) && is_forgotten() {
            client.forget();
        }
        return Ok(Answered { answer, tried, is_unknown: verdict == Verdict::Unknown, assertion });
    }
}

impl Answered {
    /// What is to be said of the client behind what the server said, if it matters.
    pub(super) fn about_client(&self) -> String {
        let listed = |ways: &[Way]| ways.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match &self.tried[..] {
            tried if self.is_unknown => format!(
                ". Tried: {}. Check the client's id and secret, and which of these methods it may use there",
                listed(tried)
            ),
            [refused @ .., taken] if !refused.is_empty() => format!(
                ". Before that it did not know the client by {}; by {taken} it does, and is asked so from now on: try again, \
                 or authorise again",
                listed(refused)
            ),
            _ => String::new(),
        }
    }
}

fn verdict(answer: &Response<Vec<u8>>) -> Verdict {
    let status = answer.status();
    let is_unauthorized = status == StatusCode::UNAUTHORIZED;
    if is_busy(status) {
        return Verdict::Unclear;
    }
    let Some(error) = ErrorAnswer::read(answer.body()) else {
        return match () {
            () if is_unauthorized => Verdict::Unknown,
            () if status.is_success() => Verdict::Known,
            () => Verdict::Unclear,
        };
    };
    let description = error.error_description.unwrap_or_default().to_ascii_lowercase();
    match error.error.to_ascii_lowercase().as_str() {
        // The second is GitHub's.
        "invalid_client" | "incorrect_client_credentials" => Verdict::Unknown,
        "invalid_grant" | "invalid_scope" | "invalid_target" | "unsupported_grant_type" => Verdict::Known,
        // A parameter that it looks for elsewhere than the client put it.
        "invalid_request" if description.contains("client_id") || description.contains("client_secret") => {
            Verdict::Unknown
        }
        _ if is_unauthorized => Verdict::Unknown,
        _ => Verdict::Unclear,
    }
}
