//! A person's consent in a browser: the link they are given, where it leads, and what they come back with.

use std::sync::Arc;

use airlock_engine::Principal;
use chrono::Utc;
use http::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use url::Url;

use super::{
    Authorization,
    flows::{Ask, Claimed, FlowCredential, FlowError},
    words::{expires_at, no_oauth},
};
use crate::{
    ConnectorsError,
    credentials::{Credential, Draft, Granted, Save, State, check_credential_name},
    egress::secret::{Secret, Tokens},
    oauth::{self, Outcome, Server},
    registry::{Connector, method::MethodKind, scope::Scope},
};

/// The name of a credential for which nobody chose one.
const NAME: &str = "default";

/// What somebody is told who came to a server with a client that it has forgotten.
const REGISTERED_ANEW: &str =
    "The authorization server had forgotten airlock, which has registered there anew: authorise again";

/// What somebody wants to be authorised for.
#[derive(Debug, Clone, Default)]
pub struct Wanted<'a> {
    /// Under which name to store the credential; absent: the default one's, which is authorised again.
    pub credentials_name: Option<&'a str>,
    /// What to show for it.
    pub credentials_title: Option<&'a str>,
    /// Where to send the browser afterwards; its origin must be allowed.
    pub app_return_url: Option<&'a str>,
    /// A method, if the connector has several.
    pub method_type: Option<&'a str>,
    /// Only GitHub's own servers have such links.
    pub github_installation_link: bool,
}

/// Where to send a browser that opened a link.
pub struct Departure {
    /// To the authorization server.
    pub location: HeaderValue,
    /// `Set-Cookie`: the browser that comes back must be this one.
    pub cookie: HeaderValue,
}

/// What a link is for, for a page.
#[derive(Debug, Clone)]
pub struct Purpose {
    /// The connector's name.
    pub connector: String,
    /// The credential's name.
    pub credential: String,
    /// The airlock user who gets it.
    pub user: String,
    /// The host where one signs in.
    pub server: String,
    /// The host that the credential will be sent to.
    pub reaches: String,
}

/// What became of a browser that came back.
pub struct Arrival {
    /// What it was for, if that is known.
    pub purpose: Option<Purpose>,
    /// What went wrong, if something did.
    pub problem: Option<Problem>,
    /// Where the application wants the browser.
    pub return_to: Option<Url>,
    /// `Set-Cookie`: the browser forgets the flow.
    pub clear_cookie: Option<HeaderValue>,
}

/// Why an account was not connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The link or the answer belongs to nothing that is known.
    Unknown,
    /// It took longer than ten minutes.
    Expired,
    /// It was finished before.
    Used,
    /// It was begun elsewhere.
    OtherBrowser,
    /// The person, or the server, did not agree: what the server said.
    Denied(String),
    /// Something else, in one sentence without secrets.
    Failed(String),
}

/// The parameters that an authorization server sends a browser back with.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub struct Returned {
    /// The authorization code.
    pub code: Option<String>,
    /// What the browser was sent away with.
    pub state: Option<String>,
    /// Who answers (RFC 9207).
    pub iss: Option<String>,
    /// An error's code.
    pub error: Option<String>,
    /// What the server says about it.
    pub error_description: Option<String>,
}

impl Authorization {
    /// `AuthURLResponse`: a link that lets the caller authorise in a browser, good for ten minutes.
    pub(crate) async fn auth_url(
        &self,
        who: &Principal,
        connector: &Connector,
        wanted: Wanted<'_>,
    ) -> Result<Value, ConnectorsError> {
        if let Some(method) = wanted.method_type.filter(|method| *method != "oauth2") {
            let message = format!("method '{method}' has no authorisation in a browser: use oauth2");
            return Err(ConnectorsError::invalid("/method_type", message));
        }
        if wanted.github_installation_link {
            return Err(ConnectorsError::Unsupported(
                "links that install a GitHub app are not served: install the app at GitHub, then authorise"
                    .into(),
            ));
        }
        let url = self.link(who, connector, &wanted).await?;
        Ok(json!({ "auth_url": url, "ttl": 600 }))
    }

    /// A link for a principal who has to authorise.
    pub(crate) async fn link(
        &self,
        who: &Principal,
        connector: &Connector,
        wanted: &Wanted<'_>,
    ) -> Result<String, ConnectorsError> {
        connector.interactive().ok_or_else(|| no_oauth(connector))?;
        let app_return_url = match wanted.app_return_url {
            None => None,
            Some(url) => Some(oauth::return_url(&self.config.return_origins, url)?),
        };
        let before = self.before(who, connector, wanted.credentials_name);
        let name = match (&wanted.credentials_name, &before) {
            (Some(name), _) => (*name).to_owned(),
            (None, Some(credential)) => credential.name.clone(),
            (None, None) => NAME.to_owned(),
        };
        check_credential_name(&name)?;
        let server = self.server(connector).await?;
        // With what was learned about the server just now.
        let connector = &*self.registry.still(who, &connector.id, Some(&connector.name), "meanwhile")?;
        let mut client = self.client(connector, &server).await?;
        if self.was_lost(who, connector, &server, &client).await
            && self.replaces(connector, &server, &client).await?
        {
            client = self.client(connector, &server).await?;
        }
        let scopes = scopes(connector, &server, before.as_ref());
        let begun = oauth::begin(&server, &client, &self.config.redirect_uri, &scopes)?;
        let ask = Ask {
            principal: who.clone(),
            connector_id: connector.id.clone(),
            credential: FlowCredential {
                scope: Scope::User,
                name,
                title: wanted.credentials_title.map(str::to_owned),
            },
            app_return_url,
        };
        let id = self.flows.create(&*self.records, &self.vault, Utc::now(), ask, begun)?;
        let mut link = self.config.redirect_uri.clone();
        link.set_path(&format!("/v1/airlock/oauth/start/{id}"));
        Ok(link.into())
    }

    /// The caller's own credential that an authorisation would take the place of.
    fn before(&self, who: &Principal, connector: &Connector, name: Option<&str>) -> Option<Credential> {
        let own = self.credentials.of(connector, Scope::User, who);
        own.into_iter().find(|credential| {
            credential.method == MethodKind::Oauth2
                && name.map_or(credential.is_default, |name| credential.name == name)
        })
    }

    /// What a link is for.
    pub(crate) fn purpose(&self, id: &str) -> Result<Purpose, Problem> {
        let ask = self.flows.peek(Utc::now(), id).map_err(|error| told(&error))?;
        Ok(self.purpose_of(&ask))
    }

    fn purpose_of(&self, ask: &Ask) -> Purpose {
        let connector = self.registry.by_id(&ask.connector_id);
        let server = connector.as_ref().and_then(|connector| connector.interactive()?.server.clone());
        let server = server.map(|server| server.host()).unwrap_or_default();
        let reaches = connector.as_ref().map(|connector| connector.host()).unwrap_or_default();
        Purpose {
            reaches,
            connector: connector.map_or_else(|| "deleted".into(), |connector| connector.name.clone()),
            credential: ask.credential.name.clone(),
            user: ask.principal.user.to_string(),
            server,
        }
    }

    /// airlock as an OAuth client, if authorization servers can read about it.
    pub(crate) fn client_document(&self) -> Option<Value> {
        let config = &self.config;
        let url = config.client_document_url.as_ref()?;
        Some(oauth::client_metadata_document(url, &config.redirect_uri))
    }

    /// Opens a link in a browser.
    pub(crate) fn depart(&self, id: &str, headers: &HeaderMap) -> Result<Departure, Problem> {
        let started =
            self.flows.start(&*self.records, &self.vault, Utc::now(), id, headers, self.is_secure());
        let started = started.map_err(|error| told(&error))?;
        let mut location = HeaderValue::from_str(started.authorization_url.expose_secret())
            .map_err(|_| Problem::Failed("the authorization server's address cannot be sent".into()))?;
        location.set_sensitive(true);
        Ok(Departure { location, cookie: started.cookie })
    }

    /// Whether browsers reach the pages over TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.config.redirect_uri.scheme() == "https"
    }

    /// Takes a browser that came back: exchanges its code, and stores the credential under the name that was asked for.
    pub(crate) async fn arrive(self: &Arc<Self>, returned: Returned, headers: &HeaderMap) -> Arrival {
        let lost = |problem: Problem| Arrival {
            purpose: None,
            problem: Some(problem),
            return_to: None,
            clear_cookie: None,
        };
        let Some(state) = &returned.state else { return lost(Problem::Unknown) };
        let claimed =
            self.flows.claim(&*self.records, &self.vault, Utc::now(), state, headers, self.is_secure());
        let Claimed { id, ask, pending, clear_cookie } = match claimed {
            Ok(claimed) => claimed,
            Err(error) => return lost(told(&error)),
        };
        let purpose = self.purpose_of(&ask);
        // What was begun is finished, even if the browser goes away: the code cannot be used twice.
        let (authorization, for_task) = (Arc::clone(self), ask.clone());
        let finished = tokio::spawn(async move { authorization.finish(&for_task, pending, &returned).await });
        let problem = match finished.await {
            Ok(Ok(())) => None,
            Ok(Err(problem)) => Some(problem),
            Err(_) => Some(Problem::Failed("the daemon could not finish the authorisation".into())),
        };
        if let Some(problem) = &problem {
            tracing::warn!(
                connector = purpose.connector,
                user = purpose.user,
                ?problem,
                "an authorisation failed"
            );
        }
        let outcome = if problem.is_none() { Outcome::Success } else { Outcome::Error };
        Arrival {
            purpose: Some(purpose),
            problem,
            return_to: ask.app_return_url.map(|url| oauth::with_outcome(url, outcome, &id)),
            clear_cookie: Some(clear_cookie),
        }
    }

    async fn finish(&self, ask: &Ask, pending: oauth::Pending, returned: &Returned) -> Result<(), Problem> {
        let failed = |error: ConnectorsError| Problem::Failed(error.to_string());
        pending.facts.check_issuer(returned.iss.as_deref()).map_err(failed)?;
        if let Some(error) = &returned.error {
            let error = oauth::ErrorAnswer {
                error: error.clone(),
                error_description: returned.error_description.clone(),
            };
            if error.names_no_client() {
                // Anybody can send a browser here with such a word: the server is asked.
                let asked = self.verify_client(ask, &pending).await.map_err(failed)?;
                if asked {
                    return Err(Problem::Failed(format!("{}. {REGISTERED_ANEW}", error.quoted(&[]))));
                }
            }
            return Err(Problem::Denied(error.quoted(&[])));
        }
        let Some(code) = &returned.code else {
            return Err(Problem::Failed("the authorization server sent no code".into()));
        };
        self.exchange(ask, &pending, code, returned.iss.as_deref()).await.map_err(failed)
    }

    /// Whether the server says itself that it does not know the client that somebody came to it with, and knows another now.
    async fn verify_client(&self, ask: &Ask, pending: &oauth::Pending) -> Result<bool, ConnectorsError> {
        let who = &ask.principal;
        let when = "while the account was being connected";
        let connector = self.registry.still(who, &ask.connector_id, None, when)?;
        let server = self.server(&connector).await?;
        let client = self.client(&connector, &server).await?;
        if client.id != pending.facts.client_id {
            return Ok(true);
        }
        Ok(self.is_denied(&server, &client).await && self.replaces(&connector, &server, &client).await?)
    }

    async fn exchange(
        &self,
        ask: &Ask,
        pending: &oauth::Pending,
        code: &str,
        iss: Option<&str>,
    ) -> Result<(), ConnectorsError> {
        let who = &ask.principal;
        let when = "while the account was being connected";
        let connector = self.registry.still(who, &ask.connector_id, None, when)?;
        let server = self.server(&connector).await?;
        let client = self.client(&connector, &server).await?;
        let tokens = oauth::finish(&server, &client, pending, code, iss, &self.egress).await;
        self.learn(&connector, &server, &client);
        let tokens = match tokens {
            Ok(tokens) => tokens,
            Err(error) if self.replaces(&connector, &server, &client).await? => {
                return Err(ConnectorsError::Unauthorized(format!("{error}. {REGISTERED_ANEW}")));
            }
            Err(error) => return Err(error),
        };
        self.takes(&connector, &client);
        let grant = Granted {
            issuer: server.issuer().to_owned(),
            expires_at: expires_at(tokens.expires_in),
            renewable: tokens.refresh.is_some(),
            scopes: tokens.scopes,
        };
        let tokens = Tokens { access: tokens.access, refresh: tokens.refresh };
        let secret = Secret { tokens: Some(tokens), ..Secret::default() };
        let FlowCredential { scope, name, title } = ask.credential.clone();
        let draft = Draft {
            name,
            title,
            is_default: None,
            secret: Some((MethodKind::Oauth2, secret)),
            grant: Some(grant),
        };
        let (records, vault) = (&*self.records, &self.vault);
        let key = self.credentials.save(records, vault, &connector, scope, who, draft, Save::Create)?;
        self.stored(who, &connector, &key)
    }
}

/// Scopes for an authorisation: for one that takes another's place, what that had and what it lacked.
fn scopes(connector: &Connector, server: &Server, before: Option<&Credential>) -> Vec<String> {
    // The scopes of one server are no words of another.
    let before =
        before.filter(|before| before.grant.as_ref().is_none_or(|grant| server.is_of(&grant.issuer)));
    let granted = before.and_then(|credential| credential.grant.as_ref()).map(|grant| grant.scopes.clone());
    let mut granted = granted.unwrap_or_default();
    if let Some(Credential { state: State::NeedsScopes(missing), .. }) = before {
        granted.extend(missing.iter().cloned());
    }
    let (challenged, configured) = match connector.interactive() {
        Some(oauth) => (&oauth.challenged[..], &oauth.scopes[..]),
        None => (&[][..], &[][..]),
    };
    oauth::wanted_scopes(server, challenged, configured, &granted)
}

/// What a page may say of an error.
fn told(error: &FlowError) -> Problem {
    match error {
        FlowError::Unknown => Problem::Unknown,
        FlowError::Expired => Problem::Expired,
        FlowError::Used => Problem::Used,
        FlowError::OtherBrowser => Problem::OtherBrowser,
        FlowError::Store(error) => {
            tracing::error!(%error, "an authorisation could not be stored");
            Problem::Failed("the daemon cannot store the authorisation: tell its operator".into())
        }
    }
}
