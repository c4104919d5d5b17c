//! Finding the authorization server of a server for tools: protected resource metadata (RFC 9728), from a 401's challenge or
//! the well-known places, then the metadata of the authorization server (RFC 8414, OpenID), then the assumptions of 2025-03-26.
//!
//! The search is rmcp's; what it sends goes through [`Exchange`], and what it finds is validated as all metadata are.

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};
use parking_lot::Mutex;
use rmcp::transport::{
    AuthError, AuthorizationManager,
    auth::{OAuthHttpClient, OAuthHttpClientFuture, OAuthHttpRequest},
};
use serde_json::Value;
use url::Url;

use super::{
    exchange::{Exchange, check_address, host},
    server::{Server, Source},
};
use crate::{ConnectorsError, egress::address::Allowed};

impl Server {
    /// From the address of a server for tools, and the `WWW-Authenticate` header of its 401 if there was one.
    ///
    /// Where nothing is published, the answer is a server with assumed endpoints ([`Source::Assumed`]).
    pub(crate) async fn discovered(
        server_url: &str,
        challenge: Option<&str>,
        exchange: &Arc<dyn Exchange>,
        allowed: Allowed,
    ) -> Result<Self, ConnectorsError> {
        let mut url = Url::parse(server_url)
            .map_err(|error| ConnectorsError::invalid("/server", format!("it is not an address: {error}")))?;
        // A query may hold a key, and the address becomes part of what is shown and logged.
        url.set_query(None);
        url.set_fragment(None);
        check_address(&url, allowed).map_err(|message| {
            ConnectorsError::Upstream(format!("the authorization server cannot be looked for: {message}"))
        })?;
        let host = host(&url);
        let search = Arc::new(Search {
            exchange: Arc::clone(exchange),
            resources: Mutex::default(),
            described: Mutex::default(),
        });
        let failed = |error| failure(error, &host);
        let client = Arc::clone(&search) as Arc<dyn OAuthHttpClient>;
        let mut manager =
            AuthorizationManager::new_with_oauth_http_client(url.as_str(), client).await.map_err(failed)?;
        let found = match manager.resolve_metadata_from_challenge(challenge).await {
            Err(AuthError::AuthorizationServerMismatch { .. })
                if let Some(document) = search.at_the_root_of(&url) =>
            {
                return Self::found(document, url.as_str(), &[], Source::Discovered, allowed)
                    .map_err(|flaw| flaw.published_by(&host));
            }
            found => found.map_err(failed)?,
        };
        let source = if found.source.is_discovered() { Source::Discovered } else { Source::Assumed };
        let mut document = serde_json::to_value(&found.metadata)?;
        if source == Source::Assumed {
            document["issuer"] = url.origin().ascii_serialization().into();
        }
        // Validated before rmcp makes an address of it.
        Self::found(document.clone(), url.as_str(), &[], source, allowed)
            .map_err(|flaw| flaw.published_by(&host))?;
        manager.set_metadata(found.metadata);
        let resource = resource(&mut manager).await.map_err(failed)?.unwrap_or_else(|| url.to_string());
        let scopes = search.scopes_of(&resource);
        Self::found(document, &resource, &scopes, source, allowed).map_err(|flaw| flaw.published_by(&host))
    }
}

/// The resource that rmcp found. It tells it only inside the address for a browser.
async fn resource(manager: &mut AuthorizationManager) -> Result<Option<String>, AuthError> {
    manager.configure_client_id("airlock")?;
    let url = Url::parse(&manager.get_authorization_url(&[]).await?)?;
    let resource = url.query_pairs().find(|(name, _)| name == "resource");
    Ok(resource.map(|(_, resource)| resource.into_owned()))
}

/// What rmcp sends by, and the protected resource metadata that went through it.
struct Search {
    exchange: Arc<dyn Exchange>,
    resources: Mutex<Vec<Value>>,
    /// The newest document about an authorization server, with its address.
    described: Mutex<Option<(String, Value)>>,
}

impl Search {
    /// Metadata as MCP had them in 2025-03-26, before protected resource metadata: at the root of the server's own origin,
    /// whatever path the issuer has. Such a document can speak for its own origin only.
    fn at_the_root_of(&self, server: &Url) -> Option<Value> {
        let root = server.join("/.well-known/oauth-authorization-server").ok()?;
        let (at, document) = self.described.lock().clone()?;
        let issuer = Url::parse(document["issuer"].as_str()?).ok()?;
        let is_legacy = self.resources.lock().is_empty() && at == root.as_str();
        (is_legacy && issuer.origin() == server.origin()).then_some(document)
    }

    /// The scopes in the newest document about a resource.
    fn scopes_of(&self, resource: &str) -> Vec<String> {
        let resources = self.resources.lock();
        let about = resources.iter().rfind(|document| document["resource"] == resource);
        let scopes = about.and_then(|document| document["scopes_supported"].as_array());
        scopes.into_iter().flatten().filter_map(|scope| scope.as_str().map(str::to_owned)).collect()
    }
}

impl OAuthHttpClient for Search {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(async move {
            let mut request = request.request;
            let json = HeaderValue::from_static("application/json");
            let at = request.uri().to_string();
            request.headers_mut().entry(header::ACCEPT).or_insert(json);
            let mut answer = self.exchange.send(request).await?;
            if answer.status().is_redirection() {
                // rmcp would follow it: what is elsewhere is not here (THREATS row 3).
                answer = Response::new(Vec::new());
                *answer.status_mut() = StatusCode::NOT_FOUND;
            }
            if answer.status() == StatusCode::OK
                && let Ok(document) = serde_json::from_slice::<Value>(answer.body())
            {
                if document["resource"].is_string() {
                    self.resources.lock().push(document);
                } else if document["issuer"].is_string() {
                    *self.described.lock() = Some((at, document));
                }
            }
            Ok(answer)
        })
    }
}

/// rmcp's errors hold addresses: only their kind is told.
fn failure(error: AuthError, host: &str) -> ConnectorsError {
    let what = match error {
        AuthError::DiscoveryRequestFailed { source, .. } => match source.downcast::<ConnectorsError>() {
            Ok(error) => return *error,
            Err(_) => "a request for metadata failed: try again later",
        },
        AuthError::ProtectedResourceMetadataInvalid { .. } => {
            "its protected resource metadata are not about this server: check the address of the connector"
        }
        AuthError::AuthorizationServersUnavailable { .. } => {
            "none of the authorization servers that it names publishes metadata that may be read"
        }
        AuthError::AuthorizationServerMismatch { .. } => {
            "the metadata of its authorization server name another issuer"
        }
        AuthError::AuthorizationServerMissingIssuer { .. } => {
            "the metadata of its authorization server name no issuer"
        }
        _ => "what it publishes cannot be used",
    };
    ConnectorsError::Upstream(format!("the authorization server of {host} was not found: {what}"))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use http::Request;
    use serde_json::json;

    use super::*;
    use crate::oauth::fixture::{Fixture, LOOPBACK, merged, wire};

    async fn discover(fixture: &Fixture, challenge: Option<&str>) -> Result<Server, ConnectorsError> {
        Server::discovered(&fixture.url("/mcp?key=1"), challenge, &wire(), LOOPBACK).await
    }

    fn resource(fixture: &Fixture, servers: &[String]) -> String {
        json!({
            "resource": fixture.url("/mcp"), "authorization_servers": servers, "scopes_supported": ["read", "write"],
        })
        .to_string()
    }

    #[tokio::test]
    async fn the_document_for_the_path_of_the_server_is_found_with_its_resource_and_scopes() {
        let (tools, issuer) = (Fixture::start().await, Fixture::start().await);
        tools.on(
            "GET /.well-known/oauth-protected-resource/mcp",
            200,
            resource(&tools, &[issuer.url("/tenant")]),
        );
        let document = merged(issuer.metadata(), json!({ "issuer": issuer.url("/tenant") })).to_string();
        issuer.on("GET /.well-known/oauth-authorization-server/tenant", 200, document);
        let server = discover(&tools, None).await.expect("a server");
        assert_eq!(server.issuer(), issuer.url("/tenant"));
        assert_eq!(server.resource(), Some(tools.url("/mcp").as_str()));
        assert_eq!(server.resource_scopes().collect::<Vec<_>>(), ["read", "write"]);
        assert_eq!(server.source(), Source::Discovered);
        assert_eq!(server.wire()["x_scope"], "read write");
        assert_eq!(server.wire()["x_source"], "autodiscovery");
    }

    #[tokio::test]
    async fn the_challenge_of_a_401_leads_to_the_document() {
        let (tools, issuer) = (Fixture::start().await, Fixture::start().await);
        tools.on("GET /elsewhere", 200, resource(&tools, std::slice::from_ref(&issuer.origin)));
        issuer.on("GET /.well-known/openid-configuration", 200, issuer.metadata().to_string());
        let challenge = format!("Bearer resource_metadata=\"{}\", scope=\"read\"", tools.url("/elsewhere"));
        let server = discover(&tools, Some(&challenge)).await.expect("a server");
        assert_eq!(server.issuer(), issuer.origin);
        assert!(tools.seen().iter().all(|seen| seen.what == "GET /elsewhere"), "{:?}", tools.seen());
        // The same without a challenge at hand: the server is asked for one.
        tools.challenge("GET /mcp", 401, &challenge);
        assert_eq!(discover(&tools, None).await.expect("a server"), server);
    }

    #[tokio::test]
    async fn a_server_that_is_its_own_authorization_server_is_found() {
        let tools = Fixture::start().await;
        tools.on("GET /.well-known/oauth-authorization-server", 200, tools.metadata().to_string());
        let server = discover(&tools, None).await.expect("a server");
        assert_eq!(
            (server.issuer(), server.resource()),
            (tools.origin.as_str(), Some(tools.url("/mcp").as_str()))
        );
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
    async fn where_nothing_is_published_the_endpoints_are_assumed() {
        let tools = Fixture::start().await;
        let server = discover(&tools, None).await.expect("a server");
        assert_eq!(server.source(), Source::Assumed);
        assert_eq!(server.issuer(), tools.origin);
        assert_eq!(server.wire()["registration_endpoint"], tools.url("/register"));
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
        let hostile = Arc::new(Hostile(Mutex::default()));
        let exchange = Arc::clone(&hostile) as Arc<dyn Exchange>;
        let pointer = "Bearer resource_metadata=\"https://127.0.0.1/secret\"";
        for challenge in [None, Some(pointer)] {
            Server::discovered("https://tools.example/mcp", challenge, &exchange, Allowed::default())
                .await
                .expect_err("no authorization server outside");
        }
        assert!(hostile.0.lock().iter().all(|host| host == "tools.example"), "{:?}", hostile.0.lock());
    }
}
