//! Where one authorises for a connector, and how its server says that.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Authorization, words::no_oauth};
use crate::{
    ConnectorsError,
    oauth::{self, Found, PATIENCE, Search, Server, Source},
    protocol::{
        steps::{Stage, Step},
        trouble::Trouble,
    },
    registry::{
        Connector, Protocol,
        method::{Method, MethodKind, found_out},
    },
};

/// How a server receives somebody without a credential.
enum Reception {
    /// It says what tokens it wants.
    Challenged(oauth::Challenge),
    /// It wants a credential, and does not say which.
    Refused,
    /// It lets everybody in, or cannot be asked.
    Unclear,
}

/// How long a server may take to say how one authenticates.
pub(super) const FINDING_OUT: Duration = Duration::from_secs(10);

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
            Reception::Refused | Reception::Unclear => None,
        };
        let search = Search {
            server_url: &connector.server,
            challenge: challenge.as_ref(),
            issuer: oauth.issuer.as_deref(),
            patience: PATIENCE,
        };
        let found = search.run(&self.egress, self.egress.allowed()).await.server?;
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
        Ok(oauth.with_word(found))
    }

    /// What a server says to somebody without a credential who wants to see its tools.
    async fn reception(&self, connector: &Connector) -> Reception {
        if connector.protocol != Protocol::Mcp {
            return Reception::Unclear;
        }
        let asked = async {
            // Some let everybody in and ask for a credential only at the door behind.
            let refused = match self.lines.service(connector, &None).await {
                Ok(service) => service.tools(true).await.err(),
                Err(trouble) => Some(trouble),
            };
            matches!(refused, Some(Trouble { error: ConnectorsError::Unauthorized(_), .. }))
        };
        if !tokio::time::timeout(FINDING_OUT, asked).await.unwrap_or(false) {
            return Reception::Unclear;
        }
        let challenge = self.lines.challenge(connector, &None);
        challenge.map_or(Reception::Refused, Reception::Challenged)
    }

    /// Asks a server how one authenticates there, for a connector about which nobody said it. A server that cannot be
    /// reached is asked again when the connector is used.
    ///
    /// Says what was found out on the way.
    pub(crate) async fn find_out_methods(&self, connector: &Arc<Connector>) -> (Arc<Connector>, Vec<Step>) {
        let began = Instant::now();
        let asked = tokio::time::timeout(FINDING_OUT, self.ask_for_methods(connector)).await;
        let (methods, step) = match asked {
            Ok(asked) => asked,
            Err(_) => {
                let message = format!("the server did not say it within {} s", FINDING_OUT.as_secs());
                (None, Step::since(began, "discovery", Stage::NotTried, message))
            }
        };
        let Some(methods) = methods else { return (Arc::clone(connector), vec![step]) };
        let changed = self.registry.change(&*self.records, &connector.id, |changed| {
            if !changed.methods_given {
                changed.methods = methods;
            }
            Ok(Vec::new())
        });
        match changed {
            Ok(changed) => {
                tracing::info!(connector = changed.name, methods = ?changed.kinds(), "a server said how to authenticate");
                (changed, vec![step])
            }
            Err(_) => (Arc::clone(connector), vec![step]),
        }
    }

    /// `None` where the server does not say; and why.
    async fn ask_for_methods(&self, connector: &Connector) -> (Option<Vec<Method>>, Step) {
        let began = Instant::now();
        let challenge = match self.reception(connector).await {
            Reception::Challenged(challenge) => Some(challenge),
            Reception::Refused => None,
            Reception::Unclear => {
                let message = "the server asked for no credential, or could not be asked";
                return (None, Step::since(began, "discovery", Stage::NotTried, message));
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
        let tried = told(&found);
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
        (methods, step.with("asked", tried))
    }
}

/// The places that were asked: `{"place", "outcome", "duration_ms"}`. What is for the operator's eyes alone stays in the
/// log.
fn told(found: &Found) -> Value {
    let tried = found.tried.iter().map(|tried| {
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
