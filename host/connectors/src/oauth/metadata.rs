//! What an authorization server says of itself (RFC 8414, OpenID Connect Discovery), member by member: what is needed and
//! what guards is checked strictly, the rest costs itself if it is odd.

use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    document::Document,
    exchange::{check_address, is_forged},
};
use crate::{ConnectorsError, egress::address::Allowed};

/// Parameters that airlock itself puts into the address that the browser is sent to. An authorization endpoint that has
/// one of them already could change what is asked for.
const OURS: &[&str] = &[
    "response_type",
    "response_mode",
    "client_id",
    "redirect_uri",
    "state",
    "scope",
    "resource",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
    "nonce",
];

/// `ExtendedOAuthServerMetadata` (contract §11.1). What else a server publishes is not kept. Read from outside by
/// [`Metadata::read`]; the derived form is the stored one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Metadata {
    pub(super) issuer: String,
    pub(super) token_endpoint: Url,
    pub(super) authorization_endpoint: Option<Url>,
    pub(super) registration_endpoint: Option<Url>,
    pub(super) scopes_supported: Option<Vec<String>>,
    response_types_supported: Option<Vec<String>>,
    response_modes_supported: Option<Vec<String>>,
    pub(super) grant_types_supported: Option<Vec<String>>,
    pub(super) token_endpoint_auth_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    service_documentation: Option<String>,
    ui_locales_supported: Option<Vec<String>>,
    op_policy_uri: Option<String>,
    op_tos_uri: Option<String>,
    pub(super) revocation_endpoint: Option<Url>,
    pub(super) revocation_endpoint_auth_methods_supported: Option<Vec<String>>,
    revocation_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    introspection_endpoint: Option<Url>,
    introspection_endpoint_auth_methods_supported: Option<Vec<String>>,
    introspection_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
    pub(super) client_id_metadata_document_supported: Option<bool>,
    pub(super) authorization_response_iss_parameter_supported: Option<bool>,
    authorization_grant_profiles_supported: Option<Vec<String>>,
    pub(super) x_source: Option<String>,
    pub(super) x_resource_url: Option<String>,
    pub(super) x_scope: Option<String>,
}

/// What a resource has to be.
const NO_RESOURCE: &str = "it must be an address with https:// and without '#' (RFC 8707)";

/// Whether tokens can be asked for something of this name (RFC 8707 §2).
pub(crate) fn is_resource(resource: &str) -> bool {
    Url::parse(resource).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.fragment().is_none()
    })
}

/// What is wrong with metadata.
pub(super) struct Flaw {
    /// The member, as the end of a JSON pointer; empty for the whole.
    pub(super) field: String,
    pub(super) message: String,
}

impl Flaw {
    pub(super) fn whole(message: &str) -> Self {
        Self { field: String::new(), message: message.to_owned() }
    }

    pub(super) fn new(field: &str, message: impl Into<String>) -> Self {
        Self { field: format!("/{field}"), message: message.into() }
    }

    /// Of metadata that the server at `host` published.
    pub(super) fn published_by(self, host: &str) -> ConnectorsError {
        let Self { field, message } = self;
        ConnectorsError::Upstream(format!(
            "{host} publishes OAuth metadata that cannot be used: {}{message}. Ask its operator, or register the connector \
             with oauth2_server_metadata",
            field.strip_prefix('/').map(|field| format!("{field}: ")).unwrap_or_default()
        ))
    }
}

/// Whether two issuers are one. The slash of an empty path makes no difference, any other character does (RFC 8414 §3.3).
pub(super) fn is_same_issuer(one: &str, other: &str) -> bool {
    let bare = |issuer: &str| match Url::parse(issuer) {
        Ok(url) if url.path() == "/" && url.query().is_none() => issuer.trim_end_matches('/').to_owned(),
        _ => issuer.to_owned(),
    };
    one == other || bare(one) == bare(other)
}

impl Metadata {
    /// Takes what is needed and what is useful; what is odd and not needed is left out.
    pub(super) fn read(document: &mut Document) -> Result<Self, Flaw> {
        let needed = |document: &Document, name: &str| {
            Flaw::new(name, document.reason(name).unwrap_or("it is missing").to_owned())
        };
        let Some(issuer) = document.text("issuer") else { return Err(needed(document, "issuer")) };
        let Some(token_endpoint) = document.address("token_endpoint") else {
            return Err(needed(document, "token_endpoint"));
        };
        let d = document;
        Ok(Self {
            issuer,
            token_endpoint,
            authorization_endpoint: d.address("authorization_endpoint"),
            registration_endpoint: d.address("registration_endpoint"),
            scopes_supported: d.list("scopes_supported"),
            response_types_supported: d.list("response_types_supported"),
            response_modes_supported: d.list("response_modes_supported"),
            grant_types_supported: d.list("grant_types_supported"),
            token_endpoint_auth_methods_supported: d.list("token_endpoint_auth_methods_supported"),
            token_endpoint_auth_signing_alg_values_supported: d
                .list("token_endpoint_auth_signing_alg_values_supported"),
            service_documentation: d.text("service_documentation"),
            ui_locales_supported: d.list("ui_locales_supported"),
            op_policy_uri: d.text("op_policy_uri"),
            op_tos_uri: d.text("op_tos_uri"),
            revocation_endpoint: d.address("revocation_endpoint"),
            revocation_endpoint_auth_methods_supported: d.list("revocation_endpoint_auth_methods_supported"),
            revocation_endpoint_auth_signing_alg_values_supported: d
                .list("revocation_endpoint_auth_signing_alg_values_supported"),
            introspection_endpoint: d.address("introspection_endpoint"),
            introspection_endpoint_auth_methods_supported: d
                .list("introspection_endpoint_auth_methods_supported"),
            introspection_endpoint_auth_signing_alg_values_supported: d
                .list("introspection_endpoint_auth_signing_alg_values_supported"),
            code_challenge_methods_supported: d.list("code_challenge_methods_supported"),
            client_id_metadata_document_supported: d.flag("client_id_metadata_document_supported"),
            authorization_response_iss_parameter_supported: d
                .flag("authorization_response_iss_parameter_supported"),
            authorization_grant_profiles_supported: d.list("authorization_grant_profiles_supported"),
            x_source: None,
            x_resource_url: d.text("x_resource_url"),
            x_scope: d.list("x_scope").map(|scopes| scopes.join(" ")),
        })
    }

    /// Every address that is kept may be called (THREATS row 9). One that is forged spoils the whole; one that is not needed
    /// and only cannot be called is left out.
    pub(super) fn check(&mut self, document: &mut Document, allowed: Allowed) -> Result<(), Flaw> {
        let issuer = Url::parse(&self.issuer)
            .map_err(|error| Flaw::new("issuer", format!("it is not an address: {error}")))?;
        check_address(&issuer, allowed).map_err(|message| Flaw::new("issuer", message))?;
        if issuer.query().is_some() {
            return Err(Flaw::new("issuer", "it must have no query"));
        }
        check_address(&self.token_endpoint, allowed)
            .map_err(|message| Flaw::new("token_endpoint", message))?;
        if let Some(endpoint) = &self.authorization_endpoint {
            check_address(endpoint, allowed)
                .map_err(|message| Flaw::new("authorization_endpoint", message))?;
        }
        for (field, endpoint) in [
            ("registration_endpoint", &mut self.registration_endpoint),
            ("revocation_endpoint", &mut self.revocation_endpoint),
            ("introspection_endpoint", &mut self.introspection_endpoint),
        ] {
            let Some(url) = &*endpoint else { continue };
            let Err(message) = check_address(url, allowed) else { continue };
            if is_forged(url) {
                return Err(Flaw::new(field, message));
            }
            document.leave_out(field, message);
            *endpoint = None;
        }
        if let Some(endpoint) = &self.authorization_endpoint {
            self.check_code_flow(endpoint)?;
        }
        self.check_resource()
    }

    pub(super) fn check_resource(&self) -> Result<(), Flaw> {
        let Some(resource) = &self.x_resource_url else { return Ok(()) };
        match is_resource(resource) {
            true => Ok(()),
            false => Err(Flaw::new("x_resource_url", NO_RESOURCE)),
        }
    }

    /// That people can sign in, unless the server says that it is for programs only.
    pub(super) fn check_people(&self) -> Result<(), Flaw> {
        let grants = self.grant_types_supported.as_ref();
        let for_programs = grants.is_some_and(|grants| {
            let has = |wanted: &str| grants.iter().any(|grant| grant == wanted);
            has("client_credentials") && !has("authorization_code")
        });
        match self.authorization_endpoint.is_some() || for_programs {
            true => Ok(()),
            false => Err(Flaw::new("authorization_endpoint", "it is missing, so nobody can sign in there")),
        }
    }

    /// Addresses that a person may be shown and click on, and that nothing depends on.
    pub(super) fn drop_pages(&mut self, document: &mut Document) {
        for (field, page) in [
            ("service_documentation", &mut self.service_documentation),
            ("op_policy_uri", &mut self.op_policy_uri),
            ("op_tos_uri", &mut self.op_tos_uri),
        ] {
            let is_odd = |page: &mut String| {
                !Url::parse(page).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
            };
            if page.take_if(is_odd).is_some() {
                document.leave_out(field, "it is not the address of a page");
            }
        }
    }

    /// What has to hold where a browser is sent to the authorization endpoint.
    fn check_code_flow(&self, endpoint: &Url) -> Result<(), Flaw> {
        if let Some((ours, _)) = endpoint.query_pairs().find(|(name, _)| OURS.contains(&name.as_ref())) {
            let message = format!("it must not have the parameter '{ours}', which airlock sets");
            return Err(Flaw::new("authorization_endpoint", message));
        }
        let lacks = |list: &Option<Vec<String>>, wanted: &str| {
            list.as_ref().is_some_and(|list| !list.iter().any(|item| item == wanted))
        };
        if lacks(&self.grant_types_supported, "authorization_code") {
            return Ok(());
        }
        if lacks(&self.response_types_supported, "code") {
            let message = "the server does not give authorization codes ('code')";
            return Err(Flaw::new("response_types_supported", message));
        }
        if lacks(&self.code_challenge_methods_supported, "S256") {
            let message = "the server does not support PKCE with S256, which airlock always uses";
            return Err(Flaw::new("code_challenge_methods_supported", message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::oauth::{
        mutations::{Kind, mutations},
        server::{Server, Source},
    };

    fn good() -> Value {
        let at = |path: &str| format!("https://as.example/{path}");
        json!({
            "issuer": "https://as.example", "authorization_endpoint": at("authorize"), "token_endpoint": at("token"),
            "registration_endpoint": at("register"), "scopes_supported": ["a", "b"],
            "response_types_supported": ["code"], "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["none"],
            "token_endpoint_auth_signing_alg_values_supported": ["ES256"], "service_documentation": at("docs"),
            "ui_locales_supported": ["en"], "op_policy_uri": at("policy"), "op_tos_uri": at("tos"),
            "revocation_endpoint": at("revoke"), "revocation_endpoint_auth_methods_supported": ["none"],
            "revocation_endpoint_auth_signing_alg_values_supported": ["ES256"],
            "introspection_endpoint": at("introspect"), "introspection_endpoint_auth_methods_supported": ["none"],
            "introspection_endpoint_auth_signing_alg_values_supported": ["ES256"],
            "code_challenge_methods_supported": ["S256"], "client_id_metadata_document_supported": true,
            "authorization_response_iss_parameter_supported": true,
            "authorization_grant_profiles_supported": ["x"], "jwks_uri": at("keys"), "unknown": [{ "deep": [1] }],
        })
    }

    /// Without these there is nothing to go on with, or no protection.
    const GUARDS: [&str; 6] = [
        "issuer",
        "token_endpoint",
        "authorization_endpoint",
        "response_types_supported",
        "code_challenge_methods_supported",
        "grant_types_supported",
    ];

    #[test]
    fn one_odd_member_is_used_or_left_out_with_a_reason_or_costs_what_depends_on_it() {
        let all = mutations(&good());
        assert!(all.len() > 500);
        for mutation in &all {
            let (member, text) = (&*mutation.member, &mutation.text[..mutation.text.len().min(300)]);
            let document = Document::read(mutation.text.as_bytes()).expect("a document");
            let published = Server::published(document, Source::Discovered, Allowed::default());
            let is_needed = matches!(member, "issuer" | "token_endpoint");
            match (published, mutation.kind) {
                (Ok(server), kind) => {
                    let wire = server.wire();
                    let named = |what: &str| what.split('/').next() == Some(member);
                    let is_named = server.left_out().iter().any(|left_out| named(&left_out.what));
                    let is_used = !wire[member].is_null();
                    let is_ours = !matches!(member, "jwks_uri" | "unknown");
                    let is_told = is_used
                        || is_named
                        || kind == Kind::Absent
                        || !is_ours
                        || is_empty(&mutation.text, member);
                    assert!(is_told, "{member}: {text}");
                    assert!(!is_needed || is_used, "{member}: {text}");
                    for other in
                        good().as_object().expect("an object").keys().filter(|other| *other != member)
                    {
                        let kept = !wire[other].is_null() || matches!(&**other, "jwks_uri" | "unknown");
                        assert!(kept, "{member} costs {other}: {text}");
                    }
                }
                (Err(flaw), kind) => {
                    assert!(kind != Kind::Repeated && GUARDS.contains(&member), "{member}: {text}");
                    let message = flaw.published_by("as.example").to_string();
                    assert!(message.contains(member) && message.len() < 500, "{message}");
                }
            }
        }
    }

    /// Whether the odd value of a member says as little as nothing.
    fn is_empty(text: &str, member: &str) -> bool {
        ["[]", "{}"].iter().any(|empty| text.contains(&format!("\"{member}\": {empty}")))
    }

    #[test]
    fn what_is_given_with_a_connector_is_refused_where_published_metadata_are_read_without_it() {
        for mutation in mutations(&good()).iter().filter(|mutation| mutation.kind != Kind::Odd) {
            let document: Value = serde_json::from_str(&mutation.text).expect("JSON");
            let provided = Server::provided(&document, Allowed::default());
            let is_needed = matches!(&*mutation.member, "issuer" | "token_endpoint");
            assert_eq!(
                provided.is_ok(),
                mutation.kind == Kind::Repeated || !is_needed,
                "{}",
                mutation.member
            );
        }
        let odd = json!({ "ui_locales_supported": 7, "issuer": "https://as.example", "token_endpoint": "https://as.example/t" });
        let error = Server::provided(&odd, Allowed::default()).expect_err("an odd member");
        let ConnectorsError::Invalid { pointer, .. } = error else { panic!("{error}") };
        assert_eq!(pointer, "/oauth2_server_metadata/ui_locales_supported");
    }

    #[test]
    fn row_11_two_issuers_are_one_only_if_nothing_but_the_slash_of_the_root_differs() {
        for (one, other, is_same) in [
            ("https://a.example", "https://a.example/", true),
            ("https://a.example/x", "https://a.example/x", true),
            ("https://a.example/x", "https://a.example/x/", false),
            ("https://a.example", "https://A.example", false),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://a.example:8443", false),
            ("https://a.example", "https://a.example.evil.example", false),
            ("https://a.example/", "https://a.example//", false),
            ("", "", true),
            ("a", "", false),
        ] {
            assert_eq!(is_same_issuer(one, other), is_same, "{one} {other}");
            assert_eq!(is_same_issuer(other, one), is_same, "{other} {one}");
        }
    }
}
