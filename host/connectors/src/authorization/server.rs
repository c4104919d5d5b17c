//! Where one authorises for a connector, and how its server says that.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Authorization, words::no_oauth};
use crate::{
    ConnectorsError,
    channel::Resolved,
    oauth::{self, Found, PATIENCE, Search, Server, Source, Tried},
    protocol::{
        steps::{Stage, Step},
        trouble::Trouble,
    },
    registry::{
        Connector, Protocol,
        method::{Grant, Method, MethodKind, OAuth, found_out},
    },
};

/// How a server receives somebody without a credential.
pub(super) enum Reception {
    /// It says what tokens it wants.
    Challenged(oauth::Challenge),
    /// It wants a credential, and does not say which.
    Refused,
    /// It lets everybody in.
    Open,
    /// It did not say, or could not be asked.
    Unasked(ConnectorsError),
}

/// What was found out about how one authenticates.
pub(crate) struct FoundOut {
    pub(crate) connector: Arc<Connector>,
    pub(crate) steps: Vec<Step>,
    /// Whether the server answered; `None`: it was not asked.
    pub(crate) answered: Option<bool>,
}

/// How long a server may take to say how one authenticates.
pub(super) const FINDING_OUT: Duration = Duration::from_secs(10);

/// How much of that its first answer may take: there are places to be asked after it.
const FIRST_ANSWER: Duration = Duration::from_secs(9);

impl Authorization {
    /// Where one authorises for a connector. What is discovered is kept with the connector.
    pub(crate) async fn server(&self, connector: &Connector) -> Result<Server, ConnectorsError> {
        let Some(Method::Oauth2(oauth)) = connector.method(MethodKind::Oauth2) else {
            return Err(no_oauth(connector));
        };
        if let Some(server) = oauth.authorization_server() {
            return Ok(server);
        }
        let challenge = match self.reception(connector).await {
            Reception::Challenged(challenge) => Some(challenge),
            Reception::Refused | Reception::Open | Reception::Unasked(_) => None,
        };
        let found = self.search(connector, oauth, challenge.as_ref(), PATIENCE).await.server?;
        self.keep(connector, &found, challenge)?;
        Ok(oauth.with_word(found))
    }

    /// Looks for where one authorises.
    pub(super) async fn search(
        &self,
        connector: &Connector,
        oauth: &OAuth,
        challenge: Option<&oauth::Challenge>,
        patience: Duration,
    ) -> Found {
        let issuer = oauth.issuer.as_deref();
        let search = Search { server_url: &connector.server, challenge, issuer, patience };
        search.run(&self.egress, self.egress.allowed()).await
    }

    /// Keeps what was found with the connector.
    pub(super) fn keep(
        &self,
        connector: &Connector,
        found: &Server,
        challenge: Option<oauth::Challenge>,
    ) -> Result<(), ConnectorsError> {
        let challenged = challenge.map(|challenge| challenge.scopes).unwrap_or_default();
        self.registry.change(&*self.records, &connector.id, |changed| {
            // It may have another address by now.
            if changed.server != connector.server {
                return Ok(Vec::new());
            }
            for method in &mut changed.methods {
                if let Method::Oauth2(oauth) = method {
                    (oauth.server, oauth.challenged) = (Some(found.clone()), challenged.clone());
                }
            }
            Ok(Vec::new())
        })?;
        Ok(())
    }

    /// Whether a server that has refused a token names another authorization server by now than the one that gave it. That
    /// one is kept with the connector: it is asked for a client of its own, and the person authorises there. Nothing that
    /// was used at the one goes to the other (THREATS rows 10 and 11), so where the client is the operator's, they have to
    /// say what comes next.
    pub(super) async fn has_moved(
        &self,
        connector: &Connector,
        resolved: &Resolved,
    ) -> Result<bool, ConnectorsError> {
        let grant = resolved.as_ref().and_then(|(_, credential)| credential.grant.as_ref());
        let (Some(Method::Oauth2(oauth)), Some(grant)) = (connector.method(MethodKind::Oauth2), grant) else {
            return Ok(false);
        };
        let known = oauth.server.as_ref().filter(|_| !oauth.server_given);
        let Some(known) = known.filter(|known| known.source() == Source::Discovered) else {
            return Ok(false);
        };
        if !known.is_of(&grant.issuer) {
            return Ok(true);
        }
        let challenge = self.lines.challenge(connector, resolved);
        let found = self.search(connector, oauth, challenge.as_ref(), FINDING_OUT / 2).await;
        let found = match found.instead_of(known.issuer()) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(false),
            Err(error) => {
                tracing::debug!(connector = connector.name, %error, "whether a server has moved is not known");
                return Ok(false);
            }
        };
        let (before, now) = (known.issuer(), found.issuer());
        tracing::warn!(
            connector = connector.name,
            before,
            now,
            "a server names another authorization server"
        );
        if oauth.client_id.is_some() || oauth.grant == Grant::ClientCredentials {
            return Err(ConnectorsError::Conflict(format!(
                "the server of connector '{}' ({}) takes tokens of {now} now, and no more of {before}: the client that was \
                 registered at {before} is sent to no other. Register one at {now}, and give it to the connector with \
                 `airlock connectors update {} --auth oauth2`",
                connector.name,
                connector.host(),
                connector.name
            )));
        }
        self.keep(connector, &found, challenge)?;
        Ok(true)
    }

    /// What an MCP server says to somebody without a credential who wants to see its tools.
    pub(super) async fn reception(&self, connector: &Connector) -> Reception {
        if connector.protocol != Protocol::Mcp {
            return Reception::Unasked(ConnectorsError::Unsupported(
                "a REST API has no list to ask for".into(),
            ));
        }
        let asked = async {
            // Some let everybody in and ask for a credential only at the door behind.
            self.lines.service(connector, &None).await?.tools(true).await
        };
        match tokio::time::timeout(FIRST_ANSWER, asked).await {
            Ok(Ok(_)) => Reception::Open,
            Ok(Err(Trouble { error: ConnectorsError::Unauthorized(_), .. })) => {
                let challenge = self.lines.challenge(connector, &None);
                challenge.map_or(Reception::Refused, Reception::Challenged)
            }
            Ok(Err(trouble)) => Reception::Unasked(trouble.error),
            Err(_) => Reception::Unasked(late(connector)),
        }
    }

    /// Asks a server how one authenticates there, for a connector about which nobody said it. A server that cannot be
    /// reached is asked again when the connector is used.
    ///
    /// Says what was found out on the way.
    pub(crate) async fn find_out_methods(&self, connector: &Arc<Connector>) -> FoundOut {
        let began = Instant::now();
        let asked = tokio::time::timeout(FINDING_OUT, self.ask_for_methods(connector)).await;
        let (methods, step, answered) = asked.unwrap_or_else(|_| {
            let step = Step::since(began, "discovery", Stage::NotTried, late(connector).to_string());
            (None, step.with("code", late(connector).code().into()), None)
        });
        let found = |connector: &Arc<Connector>| FoundOut {
            connector: Arc::clone(connector),
            steps: vec![step],
            answered,
        };
        let Some(methods) = methods else { return found(connector) };
        let changed = self.registry.change(&*self.records, &connector.id, |changed| {
            if !changed.methods_given {
                changed.methods = methods;
            }
            Ok(Vec::new())
        });
        match changed {
            Ok(changed) => {
                tracing::info!(connector = changed.name, methods = ?changed.kinds(), "a server said how to authenticate");
                found(&changed)
            }
            Err(_) => found(connector),
        }
    }

    /// `None` where the server does not say; why; and whether it answered.
    async fn ask_for_methods(&self, connector: &Connector) -> (Option<Vec<Method>>, Step, Option<bool>) {
        let began = Instant::now();
        let challenge = match self.reception(connector).await {
            Reception::Challenged(challenge) => Some(challenge),
            Reception::Refused => None,
            Reception::Open => {
                let message = "the server lets everybody in; a credential is used if there is one";
                return (None, Step::since(began, "discovery", Stage::Ok, message), Some(true));
            }
            Reception::Unasked(error) => {
                let answered = match &error {
                    ConnectorsError::Upstream(_) | ConnectorsError::Timeout(_) => Some(false),
                    ConnectorsError::Answered(_) => Some(true),
                    _ => None,
                };
                let message = format!(
                    "how one authenticates is not known yet, and is asked again when the connector is used: {error}"
                );
                let step = Step::since(began, "discovery", Stage::NotTried, message);
                return (None, step.with("code", error.code().into()), answered);
            }
        };
        let search = Search {
            server_url: &connector.server,
            challenge: challenge.as_ref(),
            issuer: None,
            // It has to end with its reasons before the caller gives up.
            patience: FINDING_OUT / 2,
        };
        let found = search.run(&self.egress, self.egress.allowed()).await;
        let tried = places(&found.tried);
        let challenged = challenge.map(|challenge| challenge.scopes).unwrap_or_default();
        let (methods, step) = match found.server {
            // Endpoints that nobody published are no sign of an authorization server.
            Ok(server) if server.source() == Source::Assumed => {
                let message = "the server wants a credential and publishes nothing about OAuth: bearer tokens are assumed";
                let methods = vec![Method::Bearer { headers: Vec::new() }];
                (Some(methods), Step::since(began, "discovery", Stage::NotTried, message))
            }
            Ok(server) => {
                let message = format!("the metadata of {} are used", server.issuer());
                let step = Step::since(began, "discovery", Stage::Ok, message);
                let step = step.with("left_out", json!(server.left_out()));
                (Some(found_out(server, challenged)), step)
            }
            Err(error) => {
                tracing::warn!(connector = connector.name, %error, "no authorization server was found");
                (None, Step::failed(began, "discovery", &error))
            }
        };
        (methods, step.with("asked", tried), Some(true))
    }
}

/// The server did not say in time how one authenticates.
fn late(connector: &Connector) -> ConnectorsError {
    ConnectorsError::Timeout(format!(
        "the server of connector '{}' ({}) did not say within {} s how one authenticates",
        connector.name,
        connector.host(),
        FINDING_OUT.as_secs()
    ))
}

/// The places that were asked: `{"place", "outcome", "duration_ms"}`. What is for the operator's eyes alone stays in the
/// log.
pub(super) fn places(tried: &[Tried]) -> Value {
    let tried = tried.iter().map(|tried| {
        if let Some(detail) = tried.outcome.detail() {
            tracing::debug!(place = tried.place, outcome = %tried.outcome, detail, "a place was asked for metadata");
        }
        json!({
            "place": tried.place, "outcome": tried.outcome.to_string(),
            "duration_ms": tried.took.as_millis() as u64,
        })
    });
    tried.collect::<Vec<_>>().into()
}
