//! Finding the authorization server of a server for tools: protected resource metadata (RFC 9728), from a 401's challenge or
//! the well-known places, then the metadata of the authorization servers that they name (RFC 8414, OpenID), then the
//! assumptions of 2025-03-26.
//!
//! Promises: a place that fails is one place less, and the next is asked; all of it ends in time; what each place said is
//! remembered and told. Guarded is what counts: a document about another resource, an issuer that speaks for another, a
//! redirect or an address inside ends that place. A server for tools that names authorization servers is believed: if none
//! of them can be used, no other is made up.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use http::{HeaderMap, Request, Response, StatusCode, header};
use serde_json::json;
use url::Url;

use super::{
    Challenge, challenge,
    document::{Document, LeftOut, NoDocument},
    exchange::{Exchange, check_address, host, is_loopback},
    metadata::is_same_issuer,
    places,
    quote::quoted,
    redirect::Sent,
    resource::{NotOurs, Resource},
    server::{Server, Source},
    tried::{LATE, Outcome, Tried, failure},
};
use crate::{ConnectorsError, egress::address::Allowed};

/// How long a whole search takes at most.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How long one place is waited for at most, and the share of the whole that it may take.
const PATIENCE_FOR_ONE: Duration = Duration::from_secs(5);
const SHARE: u32 = 3;

/// Requests to one origin that may end without any answer before it is left alone.
const FAILURES: u8 = 2;

/// What is looked for.
pub(crate) struct Search<'a> {
    /// The address of the server for tools.
    pub(crate) server_url: &'a str,
    /// What it said when it refused somebody without a token.
    pub(crate) challenge: Option<&'a Challenge>,
    /// The issuer that metadata have to name, wherever they are: the operator's word for servers that publish under another
    /// name. Nothing else is accepted then.
    pub(crate) issuer: Option<&'a str>,
    pub(crate) patience: Duration,
}

/// What a search found, and on which way.
pub(crate) struct Found {
    pub(crate) server: Result<Server, ConnectorsError>,
    /// The places in the order in which they were asked.
    pub(crate) tried: Vec<Tried>,
    /// So many of them were asked for what the server for tools says about itself, the others about its authorization server.
    pub(crate) of_resource: usize,
    /// The issuers that the server for tools names, whether or not they could be asked; nothing where it says nothing.
    named: Option<Vec<String>>,
}

impl Found {
    /// How many authorization servers the server for tools names, if it says anything about itself.
    pub(crate) fn names(&self) -> Option<usize> {
        self.named.as_ref().map(Vec::len)
    }

    /// The authorization server, if the server for tools names some and none of them is this issuer.
    pub(crate) fn instead_of(self, issuer: &str) -> Result<Option<Server>, ConnectorsError> {
        let named = self.named.unwrap_or_default();
        let is_named = named.iter().any(|named| is_same_issuer(named, issuer));
        let found = self.server?;
        Ok(Some(found).filter(|found| !named.is_empty() && !is_named && !found.is_of(issuer)))
    }
}

impl Search<'_> {
    /// Looks everywhere until an authorization server is found that can be used.
    pub(crate) async fn run(&self, exchange: &dyn Exchange, allowed: Allowed) -> Found {
        let base = match self.base(allowed) {
            Ok(base) => base,
            Err(error) => {
                return Found { server: Err(error), tried: Vec::new(), of_resource: 0, named: None };
            }
        };
        let mut walk = Walk {
            exchange,
            allowed,
            base,
            issuer: self.issuer,
            began: Instant::now(),
            patience: self.patience,
            failures: HashMap::new(),
            tried: Vec::new(),
            of_resource: 0,
            named: None,
            is_described: false,
            is_spoilt: false,
            is_certain: true,
        };
        let server = walk.run(self.challenge).await;
        if let Err(error) = &server {
            tracing::debug!(%error, "no authorization server was found");
        }
        Found { server, tried: walk.tried, of_resource: walk.of_resource, named: walk.named }
    }

    fn base(&self, allowed: Allowed) -> Result<Url, ConnectorsError> {
        let mut url = Url::parse(self.server_url)
            .map_err(|error| ConnectorsError::invalid("/server", format!("it is not an address: {error}")))?;
        // A query may hold a key, and the address becomes part of what is shown and logged.
        url.set_query(None);
        url.set_fragment(None);
        check_address(&url, allowed).map_err(|message| {
            ConnectorsError::Upstream(format!("the authorization server cannot be looked for: {message}"))
        })?;
        Ok(url)
    }
}

/// A search under way.
struct Walk<'a> {
    exchange: &'a dyn Exchange,
    allowed: Allowed,
    base: Url,
    issuer: Option<&'a str>,
    began: Instant,
    patience: Duration,
    /// Requests without any answer, by origin.
    failures: HashMap<String, u8>,
    tried: Vec<Tried>,
    /// Those of them that were asked for what the server for tools says about itself.
    of_resource: usize,
    /// What that names, if there is such a thing.
    named: Option<Vec<String>>,
    /// The server for tools has a document about itself, of whatever worth.
    is_described: bool,
    /// Its own word about where that is was no good.
    is_spoilt: bool,
    /// Every place said for certain that there is nothing.
    is_certain: bool,
}

/// Whose word it is that there are metadata at a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    /// The server's own.
    Said,
    /// A standard's.
    Guessed,
}

impl Walk<'_> {
    async fn run(&mut self, challenge: Option<&Challenge>) -> Result<Server, ConnectorsError> {
        let resource = self.resource(challenge).await;
        self.of_resource = self.tried.len();
        let resource = resource.as_ref();
        // Without a document, what the server said of one may still be wrong: nothing would be bound to anything then.
        let is_spoilt = resource.is_none() && self.is_spoilt;
        let named = resource.map(|resource| &resource.servers[..]).unwrap_or_default();
        self.named = resource.map(|resource| resource.servers.clone());
        for issuer in named {
            if let Some(found) = self.named_server(issuer, resource).await {
                return Ok(found);
            }
        }
        // A server that names no other is its own authorization server.
        let is_its_own = named.is_empty() && !is_spoilt;
        if is_its_own
            && let places = places::of_issuer(&self.base)
            && let Some(found) = self.described(places, None, resource).await
        {
            return Ok(found);
        }
        if let Some(issuer) = self.issuer
            && let Ok(url) = Url::parse(issuer)
            && let Some(found) = self.described(places::of_issuer(&url), Some(issuer), resource).await
        {
            return Ok(found);
        }
        match is_its_own && self.is_certain && self.issuer.is_none() {
            true => self.assumed(resource),
            false => Err(failure(&self.base, self.issuer.is_some(), named.is_empty(), &self.tried)),
        }
    }

    /// The document of the server for tools about itself.
    async fn resource(&mut self, challenge: Option<&Challenge>) -> Option<Resource> {
        let mut asked: Vec<Url> = Vec::new();
        let mut said = challenge.map(|challenge| challenge.resource_metadata.clone()).unwrap_or_default();
        if let Some(found) = self.first_resource(&said, Word::Said, &mut asked).await {
            return Some(found);
        }
        // Without a challenge that helps, the server is asked for one.
        said = self.probe().await;
        if let Some(found) = self.first_resource(&said, Word::Said, &mut asked).await {
            return Some(found);
        }
        let guesses = places::of_resource(&self.base);
        self.first_resource(&guesses, Word::Guessed, &mut asked).await
    }

    async fn first_resource(&mut self, places: &[Url], word: Word, asked: &mut Vec<Url>) -> Option<Resource> {
        let mut rest: Vec<(Url, Word)> = places.iter().rev().map(|place| (place.clone(), word)).collect();
        while let Some((place, word)) = rest.pop() {
            if asked.contains(&place) {
                continue;
            }
            asked.push(place.clone());
            match self.resource_at(&place, word).await {
                Ok(found) => return Some(found),
                Err(pointers) => rest.extend(pointers.into_iter().rev().map(|place| (place, Word::Guessed))),
            }
        }
        None
    }

    /// The document at one place, or the places that it points to instead.
    async fn resource_at(&mut self, place: &Url, word: Word) -> Result<Resource, Vec<Url>> {
        let (name, began) = (places::named(place), Instant::now());
        let (read, outcome) = match self.ask(place).await {
            Ok(answer) if word == Word::Guessed && answer.status() == StatusCode::UNAUTHORIZED => {
                let pointers = self.pointers(answer.headers());
                let outcome = match pointers.is_empty() {
                    true => nothing(answer.status()),
                    false => Outcome::Pointer,
                };
                (Err(pointers), outcome)
            }
            Ok(answer) => {
                match document(&answer, place).and_then(|document| self.read_resource(document, word)) {
                    Ok(resource) => {
                        let outcome = Outcome::Used(resource.left_out.clone());
                        (Ok(resource), outcome)
                    }
                    Err(outcome) => (Err(Vec::new()), outcome),
                }
            }
            Err(outcome) => (Err(Vec::new()), outcome),
        };
        self.note(name, began, outcome);
        read
    }

    fn read_resource(&mut self, document: Document, word: Word) -> Result<Resource, Outcome> {
        self.is_described |= document.has("resource");
        Resource::read(document, &self.base).map_err(|why| {
            self.is_spoilt |= word == Word::Said;
            Outcome::OtherResource(match why {
                NotOurs::Other if word == Word::Guessed => {
                    return Outcome::Nothing("JSON that is no metadata of a protected resource".into());
                }
                NotOurs::Other => "it is no metadata of a protected resource".into(),
                NotOurs::Nameless(why) => format!("resource: {why}"),
                NotOurs::Foreign => "resource: it is not the address of the connector".into(),
            })
        })
    }

    /// Asks the server for tools itself, which may say where its metadata are when it refuses.
    async fn probe(&mut self) -> Vec<Url> {
        let (base, began) = (self.base.clone(), Instant::now());
        let mut pointers = Vec::new();
        let outcome = match self.ask(&base).await {
            Ok(answer) => {
                if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                    pointers = self.pointers(answer.headers());
                }
                match pointers.is_empty() {
                    true => nothing(answer.status()),
                    false => Outcome::Pointer,
                }
            }
            Err(outcome) => outcome,
        };
        // Nothing has to be there.
        let is_certain = self.is_certain;
        self.note(places::named(&base), began, outcome);
        self.is_certain = is_certain;
        pointers
    }

    fn pointers(&self, headers: &HeaderMap) -> Vec<Url> {
        challenge(&self.base, headers).map(|challenge| challenge.resource_metadata).unwrap_or_default()
    }

    /// An authorization server that the server for tools names.
    async fn named_server(&mut self, issuer: &str, resource: Option<&Resource>) -> Option<Server> {
        let Ok(url) = Url::parse(issuer) else {
            let outcome = Outcome::Refused("what names it is not an address".into());
            self.note("an authorization server".into(), Instant::now(), outcome);
            return None;
        };
        match places::is_document(&url) {
            true => self.described(vec![url], None, resource).await,
            false => self.described(places::of_issuer(&url), Some(issuer), resource).await,
        }
    }

    /// The first of some places with metadata of an authorization server that can be used.
    async fn described(
        &mut self,
        places: Vec<Url>,
        named: Option<&str>,
        resource: Option<&Resource>,
    ) -> Option<Server> {
        for place in places {
            let (name, began) = (places::named(&place), Instant::now());
            match self.server_at(&place, named, resource).await {
                Ok(mut server) => {
                    self.note(name, began, Outcome::Used(server.left_out().to_vec()));
                    let of_resource = resource.map(|resource| resource.left_out.clone()).unwrap_or_default();
                    server.leave_out(of_resource.into_iter().map(|LeftOut { what, reason }| LeftOut {
                        what: format!("{what} of the protected resource"),
                        reason,
                    }));
                    return Some(server);
                }
                Err(outcome) => self.note(name, began, outcome),
            }
        }
        None
    }

    async fn server_at(
        &mut self,
        place: &Url,
        named: Option<&str>,
        resource: Option<&Resource>,
    ) -> Result<Server, Outcome> {
        let answer = self.ask(place).await?;
        let mut document = document(&answer, place)?;
        if !["issuer", "token_endpoint", "authorization_endpoint"].iter().any(|name| document.has(name)) {
            return Err(Outcome::Nothing("JSON that is no metadata of an authorization server".into()));
        }
        // Before anything else is looked at: who speaks.
        if let Some(issuer) = document.text("issuer")
            && !self.may_speak(&issuer, place, named)
        {
            return Err(Outcome::OtherIssuer(quoted(&issuer, &[])));
        }
        let name = resource.map_or(self.base.as_str(), |resource| &resource.name);
        let scopes = resource.map(|resource| &resource.scopes[..]).unwrap_or_default();
        Server::found(document, name, scopes, Source::Discovered, self.allowed)
            .map_err(|flaw| Outcome::Unusable(flaw.published_by(&host(place)).to_string()))
    }

    /// Whether metadata at a place may be those of an issuer (RFC 8414 §3.3, THREATS row 11).
    fn may_speak(&self, issuer: &str, place: &Url, named: Option<&str>) -> bool {
        if let Some(wanted) = self.issuer {
            return is_same_issuer(issuer, wanted);
        }
        if let Some(named) = named {
            let normal = Url::parse(named).is_ok_and(|named| is_same_issuer(issuer, named.as_str()));
            return normal || is_same_issuer(issuer, named);
        }
        let Ok(url) = Url::parse(issuer) else { return false };
        // Metadata as MCP had them in 2025-03-26, before protected resource metadata: at the root of the server's own origin,
        // whatever path the issuer has. Such a document can speak for its own origin only.
        let is_legacy = !self.is_described && places::is_root_of(place, &self.base);
        match places::issuer_of(place) {
            Some(expected) => {
                is_same_issuer(issuer, &expected) || is_legacy && url.origin() == place.origin()
            }
            None => url.origin() == place.origin(),
        }
    }

    /// The endpoints that 2025-03-26 has clients assume.
    fn assumed(&mut self, resource: Option<&Resource>) -> Result<Server, ConnectorsError> {
        let origin = self.base.origin().ascii_serialization();
        let document = Document::of(&json!({
            "issuer": origin, "authorization_endpoint": format!("{origin}/authorize"),
            "token_endpoint": format!("{origin}/token"), "registration_endpoint": format!("{origin}/register"),
        }));
        let name = resource.map_or(self.base.as_str(), |resource| &resource.name);
        let scopes = resource.map(|resource| &resource.scopes[..]).unwrap_or_default();
        let document = document.map_err(|why| ConnectorsError::Upstream(why.to_string()))?;
        Server::found(document, name, scopes, Source::Assumed, self.allowed)
            .map_err(|flaw| flaw.published_by(&host(&self.base)))
    }

    /// The answer of a place, unless that says that there is nothing to read.
    async fn ask(&mut self, place: &Url) -> Result<Response<Vec<u8>>, Outcome> {
        check_address(place, self.allowed).map_err(Outcome::Refused)?;
        if is_loopback(place) && !is_loopback(&self.base) {
            return Err(Outcome::Refused("a server elsewhere does not lead to this machine".into()));
        }
        let origin = place.origin().ascii_serialization();
        if self.failures.get(&origin).is_some_and(|failures| *failures >= FAILURES) {
            return Err(Outcome::Skipped("its host did not answer before"));
        }
        let left = self.patience.saturating_sub(self.began.elapsed());
        if left.is_zero() {
            return Err(Outcome::Skipped(LATE));
        }
        let request = Request::get(place.as_str())
            .header(header::ACCEPT, "application/json")
            .body(Vec::new())
            .map_err(|_| Outcome::Refused("it cannot be requested".into()))?;
        let sent = Sent::of(&request);
        let patience = left.min(PATIENCE_FOR_ONE).min(self.patience / SHARE);
        let answered = tokio::time::timeout(patience, self.exchange.send(request)).await;
        let answer = answered.unwrap_or_else(|_| Err(ConnectorsError::Timeout(String::new())));
        let answer = answer.map_err(|error| {
            *self.failures.entry(origin).or_default() += 1;
            match error {
                ConnectorsError::Timeout(_) => Outcome::Late,
                error => Outcome::Failed(error.to_string()),
            }
        })?;
        let status = answer.status();
        // What is elsewhere is not here (THREATS row 3).
        if status.is_redirection() {
            let (status, to) = (status.as_u16(), sent.redirected(&answer));
            return Err(Outcome::Nothing(format!("a redirect ({status}) {to}, which is not followed")));
        }
        match status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
            true => Err(Outcome::Busy(status.as_u16())),
            false => Ok(answer),
        }
    }

    /// Remembers what a place said.
    fn note(&mut self, place: String, began: Instant, outcome: Outcome) {
        let took = began.elapsed();
        let detail = outcome.detail();
        tracing::debug!(place, %outcome, detail, ?took, "a place was asked for OAuth metadata");
        self.is_certain &= outcome.is_nothing();
        self.tried.push(Tried { place, outcome, took });
    }
}

fn nothing(status: StatusCode) -> Outcome {
    Outcome::Nothing(format!("status {}", status.as_u16()))
}

/// The JSON of an answer that has some.
fn document(answer: &Response<Vec<u8>>, place: &Url) -> Result<Document, Outcome> {
    if answer.status() != StatusCode::OK {
        return Err(nothing(answer.status()));
    }
    Document::read(answer.body()).map_err(|what| match what {
        // There is something, and it may be what counts.
        NoDocument::Broken(_) => {
            let message = format!(
                "{} publishes OAuth metadata that cannot be used: {what}. Ask its operator, or register the connector with \
                 oauth2_server_metadata",
                host(place)
            );
            Outcome::Unusable(message)
        }
        what => Outcome::Nothing(what.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use http::HeaderValue;
    use parking_lot::Mutex;
    use serde_json::Value;

    use super::*;
    use crate::oauth::fixture::{Fixture, LOOPBACK, merged, wire};

    async fn discover(fixture: &Fixture, challenge: Option<&str>) -> Result<Server, ConnectorsError> {
        let challenge = challenge.and_then(|text| read(&fixture.url("/mcp"), text));
        let server_url = &*fixture.url("/mcp?key=1");
        let search = Search { server_url, challenge: challenge.as_ref(), issuer: None, patience: PATIENCE };
        search.run(&*wire(), LOOPBACK).await.server
    }

    fn read(server_url: &str, text: &str) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_str(text).expect("a header"));
        challenge(&Url::parse(server_url).expect("an address"), &headers)
    }

    fn resource(fixture: &Fixture, servers: &[String]) -> String {
        json!({
            "resource": fixture.url("/mcp"), "authorization_servers": servers, "scopes_supported": ["read", "write"],
        })
        .to_string()
    }

    #[tokio::test]
    async fn row_11_metadata_at_the_root_may_have_an_issuer_with_a_path_but_only_of_their_own_origin() {
        let (tools, other) = (Fixture::start().await, Fixture::start().await);
        let issuer = |issuer: String| merged(tools.metadata(), json!({ "issuer": issuer })).to_string();
        let root = "GET /.well-known/oauth-authorization-server";
        tools.on(root, 200, issuer(tools.url("/oauth")));
        let server = discover(&tools, None).await.expect("a server");
        assert_eq!((server.issuer(), server.source()), (tools.url("/oauth").as_str(), Source::Discovered));
        assert_eq!(server.resource(), Some(tools.url("/mcp").as_str()));
        tools.on(root, 200, issuer(other.url("/oauth")));
        assert!(discover(&tools, None).await.is_err());
    }

    #[tokio::test]
    async fn row_10_an_issuer_has_moved_only_if_it_is_named_no_more() {
        let (tools, old, new) = (Fixture::start().await, Fixture::start().await, Fixture::start().await);
        for issuer in [&old, &new] {
            issuer.on("GET /.well-known/oauth-authorization-server", 200, issuer.metadata().to_string());
        }
        let place = "GET /.well-known/oauth-protected-resource/mcp";
        let instead = async || {
            let server_url = &*tools.url("/mcp");
            let search = Search { server_url, challenge: None, issuer: None, patience: PATIENCE };
            let found = search.run(&*wire(), LOOPBACK).await.instead_of(&old.origin);
            found.ok().flatten().map(|server| server.issuer().to_owned())
        };
        let origins = |all: &[&Fixture]| all.iter().map(|issuer| issuer.origin.clone()).collect::<Vec<_>>();
        for (named, expected) in
            [(vec![&new], Some(&new)), (vec![&new, &old], None), (vec![&old, &new], None), (vec![&old], None)]
        {
            tools.on(place, 200, resource(&tools, &origins(&named)));
            let expected = expected.map(|issuer| issuer.origin.clone());
            assert_eq!(instead().await, expected, "{:?}", origins(&named));
        }
        // It cannot be asked at the moment, or the server says nothing of anybody: that is no word about where to go.
        old.on("GET /.well-known/oauth-authorization-server", 503, "");
        tools.on(place, 200, resource(&tools, &origins(&[&old, &new])));
        assert_eq!(instead().await, None);
        tools.on(place, 503, "");
        tools.on("GET /.well-known/oauth-authorization-server", 200, tools.metadata().to_string());
        assert_eq!(instead().await, None);
    }

    #[tokio::test]
    async fn an_authorization_server_that_is_named_by_a_path_is_one_of_the_same_origin() {
        let tools = Fixture::start().await;
        let named =
            |servers: Value| json!({ "resource": "/mcp", "authorization_servers": servers }).to_string();
        let place = "GET /.well-known/oauth-protected-resource/mcp";
        tools.on(place, 200, named(json!(["//evil.example/oauth", "/oauth"])));
        let issuer = json!({ "issuer": tools.url("/oauth") });
        let metadata = merged(tools.metadata(), issuer).to_string();
        tools.on("GET /.well-known/oauth-authorization-server/oauth", 200, metadata);
        let server = discover(&tools, None).await.expect("a server");
        assert_eq!((server.issuer(), server.resource()), (&*tools.url("/oauth"), Some(&*tools.url("/mcp"))));
        let left_out = server.left_out().first().expect("something was left out").to_string();
        assert!(left_out.starts_with("authorization_servers of the protected resource: it is not a whole"));
        // If none is left, the server is no authorization server itself.
        tools.on(place, 200, named(json!(["//evil.example/oauth"])));
        tools.on("GET /.well-known/oauth-authorization-server", 200, tools.metadata().to_string());
        let error = discover(&tools, None).await.expect_err("no server").to_string();
        assert!(error.contains("none of the authorization servers that it names"), "{error}");
    }

    #[tokio::test]
    async fn row_03_a_redirected_document_counts_as_missing() {
        let (tools, second) = (Fixture::start().await, Fixture::start().await);
        for path in
            ["/mcp", "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"]
        {
            tools.redirect(&format!("GET {path}"), 307, &second.url(path));
            // rmcp by itself would follow a redirect inside the origin.
            second.redirect(&format!("GET {path}"), 307, "/inside");
        }
        assert_eq!(discover(&tools, None).await.expect("a server").source(), Source::Assumed);
        assert_eq!(second.seen().len(), 0);
        assert_eq!(discover(&second, None).await.expect("a server").source(), Source::Assumed);
        assert!(second.seen().iter().all(|seen| seen.what != "GET /inside"));
    }

    #[tokio::test]
    async fn row_09_hostile_published_metadata_are_refused() {
        for (field, address) in [
            ("authorization_endpoint", "javascript:alert(1)"),
            ("token_endpoint", "http://as.example/token"),
            ("registration_endpoint", "file:///etc/passwd"),
            ("revocation_endpoint", "https://user:word@as.example/"),
        ] {
            let tools = Fixture::start().await;
            let document = merged(tools.metadata(), json!({ field: address })).to_string();
            tools.on("GET /.well-known/oauth-authorization-server", 200, document);
            let error = discover(&tools, None).await.expect_err(field).to_string();
            assert!(error.contains(field) && !error.contains(address), "{error}");
        }
    }

    #[tokio::test]
    async fn row_11_a_document_about_another_resource_or_issuer_is_refused() {
        let (tools, issuer) = (Fixture::start().await, Fixture::start().await);
        let challenge = format!("Bearer resource_metadata=\"{}\"", tools.url("/elsewhere"));
        let foreign =
            json!({ "resource": "https://other.example/mcp", "authorization_servers": [issuer.origin] });
        tools.on("GET /elsewhere", 200, foreign.to_string());
        let error = discover(&tools, Some(&challenge)).await.expect_err("another resource").to_string();
        assert!(error.contains("not about this server"), "{error}");
        tools.on("GET /elsewhere", 200, resource(&tools, std::slice::from_ref(&issuer.origin)));
        let document = merged(issuer.metadata(), json!({ "issuer": "https://as.example" })).to_string();
        issuer.on("GET /.well-known/oauth-authorization-server", 200, document);
        let error = discover(&tools, Some(&challenge)).await.expect_err("another issuer").to_string();
        assert!(error.contains("name another issuer"), "{error}");
        assert!(!error.contains("as.example"), "{error}");
    }

    /// Answers as a hostile server for tools would, and remembers which hosts are asked.
    struct Hostile(Mutex<Vec<String>>);

    #[async_trait]
    impl Exchange for Hostile {
        async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ConnectorsError> {
            self.0.lock().push(request.uri().host().unwrap_or_default().to_owned());
            let inside =
                ["https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/", "http://10.0.0.1/"];
            let document =
                json!({ "resource": "https://tools.example/mcp", "authorization_servers": inside });
            Ok(Response::new(document.to_string().into_bytes()))
        }
    }

    #[tokio::test]
    async fn row_08_neither_a_challenge_nor_a_document_sends_discovery_inside() {
        let hostile = Hostile(Mutex::default());
        let pointer = "Bearer resource_metadata=\"https://127.0.0.1/secret\"";
        let challenge = read("https://tools.example/mcp", pointer);
        for challenge in [None, challenge.as_ref()] {
            let server_url = "https://tools.example/mcp";
            let search = Search { server_url, challenge, issuer: None, patience: PATIENCE };
            let found = search.run(&hostile, Allowed::default()).await;
            found.server.expect_err("no authorization server outside");
        }
        assert!(hostile.0.lock().iter().all(|host| host == "tools.example"), "{:?}", hostile.0.lock());
    }
}
