//! An authorization server as far as it is known: its metadata (RFC 8414), validated.

use http::{Request, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::{
    document::{Document, LeftOut, told},
    exchange::{self, Exchange, check_address, host},
    metadata::{Flaw, Metadata, is_same_issuer},
};
use crate::{ConnectorsError, egress::address::Allowed};

/// Where provided metadata stand in a request.
const POINTER: &str = "/oauth2_server_metadata";

/// An authorization server whose endpoints may be called and shown. Every way to make one validates it (THREATS row 9),
/// and its stored form is read back as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(super) metadata: Metadata,
    source: Source,
    /// What it publishes that could not be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<LeftOut>,
}

/// Where metadata came from, and so who answers for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// The operator gave them with the connector.
    Provided,
    /// The server published them, at an address that the operator gave.
    Fetched,
    /// The server published them, and they were found from the address of the connector's server.
    Discovered,
    /// Nothing was published: the endpoints are those that the MCP revision of 2025-03-26 has clients assume. It is not
    /// known whether there is an authorization server at all.
    Assumed,
}

impl Source {
    /// In the contract's words.
    fn wire(self) -> &'static str {
        match self {
            Self::Provided | Self::Fetched => "provided",
            Self::Discovered | Self::Assumed => "autodiscovery",
        }
    }
}

impl Server {
    /// From `ExtendedOAuthServerMetadata` in a request. Whoever wrote it is told what is wrong with it: nothing is left out.
    pub(crate) fn provided(metadata: &Value, allowed: Allowed) -> Result<Self, ConnectorsError> {
        let document = Document::of(metadata).map_err(|why| Flaw::whole(&why.to_string()));
        document
            .and_then(|document| Self::new(document, Source::Provided, allowed))
            .map_err(|flaw| ConnectorsError::invalid(&format!("{POINTER}{}", flaw.field), flaw.message))
    }

    /// From the document at an address (RFC 8414 §3, OpenID Connect Discovery §4). The operator may say which issuer it has
    /// to name, whatever its address is.
    pub(crate) async fn fetched_as(
        url: &str,
        issuer: Option<&str>,
        exchange: &dyn Exchange,
        allowed: Allowed,
    ) -> Result<Self, ConnectorsError> {
        let invalid = |message: String| ConnectorsError::invalid("/oauth2_server_metadata_url", message);
        let url = Url::parse(url).map_err(|error| invalid(format!("it is not an address: {error}")))?;
        check_address(&url, allowed).map_err(invalid)?;
        let host = host(&url);
        let unusable = |what: String| {
            ConnectorsError::Upstream(format!("the OAuth metadata of {host} cannot be read: {what}"))
        };
        let request = Request::get(url.as_str())
            .header(header::ACCEPT, "application/json")
            .body(Vec::new())
            .map_err(|_| invalid("it cannot be requested".into()))?;
        let answer = exchange::send(exchange, request).await?;
        if answer.status() != StatusCode::OK {
            return Err(unusable(format!("status {}", answer.status().as_u16())));
        }
        let document = Document::read(answer.body()).map_err(|what| unusable(format!("it is {what}")))?;
        let server = Self::published(document, Source::Fetched, allowed);
        let server = server.map_err(|flaw| flaw.published_by(&host))?;
        let (is_named, message) = match issuer {
            Some(issuer) => (
                is_same_issuer(server.issuer(), issuer),
                "it is not the one that oauth_issuer (--oauth-issuer) names",
            ),
            None => (
                server.may_be_described_at(&url),
                "it is not the issuer that this address belongs to. If that is right, name the issuer with oauth_issuer \
                 (--oauth-issuer)",
            ),
        };
        match is_named {
            true => Ok(server),
            false => Err(Flaw::new("issuer", message).published_by(&host)),
        }
    }

    /// From what a server published about itself.
    pub(super) fn published(mut document: Document, source: Source, allowed: Allowed) -> Result<Self, Flaw> {
        // What tokens are for is the contract's extension, and not for an authorization server to say (THREATS row 11).
        document.forget("x_");
        let server = Self::new(document, source, allowed)?;
        if !server.left_out.is_empty() {
            let left_out = told(&server.left_out);
            tracing::debug!(host = server.host(), left_out, "parts of OAuth metadata were not used");
        }
        Ok(server)
    }

    /// From what discovery found, with the resource that it was found for.
    pub(super) fn found(
        document: Document,
        resource: &str,
        scopes: &[String],
        source: Source,
        allowed: Allowed,
    ) -> Result<Self, Flaw> {
        let mut server = Self::published(document, source, allowed)?;
        server.metadata.check_people()?;
        server.metadata.x_resource_url = Some(resource.to_owned());
        server.metadata.x_scope = Some(scopes.join(" ")).filter(|scopes| !scopes.is_empty());
        server.metadata.check_resource()?;
        Ok(server)
    }

    fn new(mut document: Document, source: Source, allowed: Allowed) -> Result<Self, Flaw> {
        let mut metadata = Metadata::read(&mut document)?;
        metadata.x_source = Some(source.wire().into());
        metadata.check(&mut document, allowed)?;
        if source == Source::Provided
            && let Some(LeftOut { what, reason }) = document.first_left_out()
        {
            return Err(Flaw::new(what, reason.clone()));
        }
        metadata.drop_pages(&mut document);
        Ok(Self { metadata, source, left_out: document.left_out() })
    }

    /// What the server publishes that could not be used, with reasons.
    pub(crate) fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Remembers more of it.
    pub(super) fn leave_out(&mut self, more: impl IntoIterator<Item = LeftOut>) {
        self.left_out.extend(more);
    }

    /// For other tokens than those for the server that it was found for: the operator's word.
    pub(crate) fn for_resource(mut self, resource: Option<&str>) -> Self {
        self.metadata.x_resource_url = resource.map(str::to_owned);
        self
    }

    /// Whether metadata of this issuer may stand at an address: no server may speak for another (RFC 8414 §3.3).
    fn may_be_described_at(&self, url: &Url) -> bool {
        let Ok(issuer) = Url::parse(&self.metadata.issuer) else { return false };
        if issuer.origin() != url.origin() {
            return false;
        }
        let path = url.path();
        let well_known = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];
        let expected = well_known.iter().find_map(|well_known| {
            let (before, after) = path.split_once(well_known)?;
            // The name goes between the host and the issuer's path, or behind both.
            Some(if before.is_empty() { after } else { before })
        });
        // At an address of its own choice, a server can still only speak for its own origin.
        expected.is_none_or(|expected| expected.trim_end_matches('/') == issuer.path().trim_end_matches('/'))
    }

    /// `ExtendedOAuthServerMetadata`, which holds no secret.
    pub(crate) fn wire(&self) -> Value {
        let mut wire = serde_json::to_value(&self.metadata).unwrap_or_default();
        if let Value::Object(members) = &mut wire {
            members.retain(|_, value| !value.is_null());
        }
        wire
    }

    /// Who gives the tokens.
    pub(crate) fn issuer(&self) -> &str {
        &self.metadata.issuer
    }

    /// Whether it is this one that gives the tokens.
    pub(crate) fn is_of(&self, issuer: &str) -> bool {
        is_same_issuer(self.issuer(), issuer)
    }

    /// What tokens are asked for (RFC 8707), if the server's tokens name what they are for.
    pub(crate) fn resource(&self) -> Option<&str> {
        self.metadata.x_resource_url.as_deref()
    }

    /// The scopes that the protected resource asks for.
    pub(crate) fn resource_scopes(&self) -> impl Iterator<Item = &str> {
        self.metadata.x_scope.iter().flat_map(|scopes| scopes.split_whitespace())
    }

    pub(crate) fn source(&self) -> Source {
        self.source
    }

    /// A client's id may be the address of a document about it.
    pub(crate) fn takes_metadata_documents(&self) -> bool {
        self.metadata.client_id_metadata_document_supported == Some(true)
    }

    /// Whoever asks may become a client (RFC 7591).
    pub(crate) fn registers(&self) -> bool {
        self.metadata.registration_endpoint.is_some()
    }

    /// What there is to do where nobody may register by asking.
    pub(crate) fn takes_no_clients(&self, redirect_uri: &Url) -> String {
        format!(
            "{} takes no registrations of clients: register airlock there by hand with the redirect address {redirect_uri}, \
             and give the connector auth_data with the client_id",
            self.host()
        )
    }

    /// It says who it is when it sends the browser back (RFC 9207).
    pub(super) fn names_itself(&self) -> bool {
        self.metadata.authorization_response_iss_parameter_supported == Some(true)
    }

    /// How clients may prove who they are; `None` where the server does not say.
    pub(super) fn auth_methods(&self) -> Option<&[String]> {
        self.metadata.token_endpoint_auth_methods_supported.as_deref()
    }

    /// The same for revocations; where it says nothing of them, they are as tokens.
    pub(super) fn revocation_auth_methods(&self) -> Option<&[String]> {
        let listed = self.metadata.revocation_endpoint_auth_methods_supported.as_deref();
        listed.or_else(|| self.auth_methods())
    }

    /// The host of the token endpoint, for messages.
    pub(crate) fn host(&self) -> String {
        host(&self.metadata.token_endpoint)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oauth::fixture::{Fixture, LOOPBACK, merged, wire};

    fn good() -> Value {
        json!({
            "issuer": "https://as.example/tenant",
            "authorization_endpoint": "https://as.example/authorize?audience=x",
            "token_endpoint": "https://as.example/token",
            "registration_endpoint": "https://as.example/register",
            "revocation_endpoint": "https://as.example/revoke",
            "introspection_endpoint": "https://as.example/introspect",
        })
    }

    #[test]
    fn provided_metadata_come_back_as_they_were_given() {
        let given = merged(
            good(),
            json!({
                "scopes_supported": ["a", "offline_access"], "op_tos_uri": "https://as.example/tos",
                "authorization_response_iss_parameter_supported": true, "x_scope": "a b",
                "x_resource_url": "https://mcp.example/mcp", "jwks_uri": "https://as.example/keys",
            }),
        );
        let server = Server::provided(&given, Allowed::default()).expect("valid metadata");
        let mut expected = merged(given, json!({ "x_source": "provided" }));
        expected.as_object_mut().expect("an object").remove("jwks_uri");
        assert_eq!(server.wire(), expected);
        assert_eq!(server.resource(), Some("https://mcp.example/mcp"));
        assert_eq!(server.resource_scopes().collect::<Vec<_>>(), ["a", "b"]);
        let stored = serde_json::to_vec(&server).expect("a record");
        assert_eq!(serde_json::from_slice::<Server>(&stored).expect("a server"), server);
        let plain = Server::provided(&good(), Allowed::default()).expect("valid metadata");
        assert_eq!(plain.resource(), None);
    }

    #[test]
    fn row_09_hostile_metadata_are_refused_by_the_name_of_the_member() {
        let endpoints = [
            "authorization_endpoint",
            "token_endpoint",
            "registration_endpoint",
            "revocation_endpoint",
            "introspection_endpoint",
            "issuer",
        ];
        let addresses = [
            "javascript:alert(document.domain)",
            "data:text/html,<script>",
            "file:///etc/passwd",
            "http://as.example/plain",
            "https://user:word@as.example/",
            "https://as.example/#fragment",
            "https://169.254.169.254/latest",
            "https://127.0.0.1/",
            "https://[::ffff:127.0.0.1]/",
            "//as.example/",
            "not an address",
        ];
        for field in endpoints {
            for address in addresses {
                let hostile = merged(good(), json!({ field: address }));
                let error = Server::provided(&hostile, Allowed::default()).expect_err(address);
                let ConnectorsError::Invalid { pointer, .. } = &error else { panic!("{error:?}") };
                assert_eq!(*pointer, format!("/oauth2_server_metadata/{field}"), "{address}");
            }
        }
        let others = [
            ("authorization_endpoint", json!("https://as.example/authorize?response_type=token")),
            ("authorization_endpoint", json!("https://as.example/authorize?state=known")),
            (
                "authorization_endpoint",
                json!("https://as.example/authorize?redirect_uri=https://evil.example"),
            ),
            ("issuer", json!("https://as.example/?tenant=1")),
            ("response_types_supported", json!(["token"])),
            ("code_challenge_methods_supported", json!(["plain"])),
            ("code_challenge_methods_supported", json!([])),
            ("x_resource_url", json!("javascript:alert(1)")),
            ("x_resource_url", json!("https://mcp.example/#x")),
            ("token_endpoint", json!(null)),
            ("token_endpoint", json!("")),
            ("scopes_supported", json!(7)),
            ("issuer", json!(7)),
            ("issuer", json!("")),
        ];
        for (field, value) in others {
            let hostile = merged(good(), json!({ field: value }));
            let error = Server::provided(&hostile, Allowed::default()).expect_err(field);
            let ConnectorsError::Invalid { pointer, .. } = &error else { panic!("{error:?}") };
            assert_eq!(*pointer, format!("/oauth2_server_metadata/{field}"), "{value}");
        }
    }

    #[test]
    fn what_is_missing_or_deep_inside_is_named() {
        let flaw = |metadata: &Value| match Server::provided(metadata, Allowed::default()) {
            Err(ConnectorsError::Invalid { pointer, message }) => (pointer, message),
            other => panic!("{other:?}"),
        };
        let (pointer, message) = flaw(&json!({ "issuer": "https://as.example" }));
        assert_eq!((&*pointer, &*message), ("/oauth2_server_metadata/token_endpoint", "it is missing"));
        let (pointer, _) = flaw(&merged(good(), json!({ "scopes_supported": ["a", 7] })));
        assert_eq!(pointer, "/oauth2_server_metadata/scopes_supported/1");
        assert_eq!(flaw(&json!("text")).0, POINTER);
    }

    #[test]
    fn row_09_pages_about_the_server_are_dropped_if_they_cannot_be_shown() {
        let hostile = merged(
            good(),
            json!({ "op_tos_uri": "javascript:alert(1)", "op_policy_uri": "https://as.example/policy" }),
        );
        let wire = Server::provided(&hostile, Allowed::default()).expect("valid metadata").wire();
        assert_eq!(
            (wire.get("op_tos_uri"), &wire["op_policy_uri"]),
            (None, &json!("https://as.example/policy"))
        );
    }

    #[test]
    fn a_server_for_programs_only_needs_no_pkce() {
        let machines = json!({
            "grant_types_supported": ["client_credentials"], "response_types_supported": [],
            "code_challenge_methods_supported": ["plain"],
        });
        Server::provided(&merged(good(), machines), Allowed::default()).expect("valid metadata");
    }

    #[tokio::test]
    async fn a_document_by_its_address_speaks_only_for_its_own_issuer() {
        let server = Fixture::start().await;
        let wire = wire();
        let cases = [
            ("/.well-known/oauth-authorization-server", "", true),
            ("/.well-known/oauth-authorization-server", "/", true),
            ("/.well-known/oauth-authorization-server/tenant", "/tenant", true),
            ("/.well-known/openid-configuration/tenant", "/tenant", true),
            ("/tenant/.well-known/openid-configuration", "/tenant/", true),
            ("/own/place.json", "/anything", true),
            ("/.well-known/oauth-authorization-server", "/tenant", false),
            ("/tenant/.well-known/openid-configuration", "/other", false),
            ("/.well-known/oauth-authorization-server/tenant", "", false),
        ];
        for (path, issuer, is_good) in cases {
            let document = merged(server.metadata(), json!({ "issuer": server.url(issuer) }));
            server.on(&format!("GET {path}"), 200, document.to_string());
            let fetched = Server::fetched_as(&server.url(path), None, &*wire, LOOPBACK).await;
            assert_eq!(fetched.is_ok(), is_good, "{path} {issuer}");
        }
        let foreign = merged(server.metadata(), json!({ "issuer": "https://as.example" }));
        server.on("GET /foreign", 200, foreign.to_string());
        let error =
            Server::fetched_as(&server.url("/foreign"), None, &*wire, LOOPBACK).await.expect_err("foreign");
        assert_eq!(
            error.to_string(),
            "127.0.0.1 publishes OAuth metadata that cannot be used: issuer: it is not the issuer that this address belongs \
             to. If that is right, name the issuer with oauth_issuer (--oauth-issuer). Ask its operator, or register the \
             connector with oauth2_server_metadata"
        );
        let fetch =
            async |issuer| Server::fetched_as(&server.url("/foreign"), Some(issuer), &*wire, LOOPBACK).await;
        assert_eq!(fetch("https://as.example").await.expect("a server").issuer(), "https://as.example");
        for other in ["https://as.example/tenant", "https://evil.example", "as.example", ""] {
            fetch(other).await.expect_err("another issuer");
        }
    }

    #[tokio::test]
    async fn row_11_a_published_document_does_not_say_what_tokens_are_for() {
        let server = Fixture::start().await;
        let document = merged(
            server.metadata(),
            json!({ "x_resource_url": "https://other.example/", "x_scope": "all", "x_source": "autodiscovery" }),
        );
        server.on("GET /metadata", 200, document.to_string());
        let fetched =
            Server::fetched_as(&server.url("/metadata"), None, &*wire(), LOOPBACK).await.expect("metadata");
        assert_eq!((fetched.resource(), fetched.resource_scopes().count()), (None, 0));
        assert_eq!((fetched.source(), &fetched.wire()["x_source"]), (Source::Fetched, &json!("provided")));
    }

    #[tokio::test]
    async fn row_03_a_document_behind_a_redirect_is_not_read() {
        let (server, second) = (Fixture::start().await, Fixture::start().await);
        server.redirect("GET /metadata", 302, &second.url("/metadata"));
        Server::fetched_as(&server.url("/metadata"), None, &*wire(), LOOPBACK).await.expect_err("a redirect");
        assert_eq!(second.seen().len(), 0);
    }
}
