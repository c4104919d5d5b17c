//! The way to a connector's tokens, walked for whoever checks it: each place says what it says now. No client is registered
//! on the way, and no token is asked for.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    Authorization,
    server::{Reception, places},
};
use crate::{
    ConnectorsError,
    error::wording::count,
    oauth::{Found, Server, Source, Tried},
    protocol::steps::{Stage, Step},
    registry::{
        Connector, client,
        method::{Grant, Method, MethodKind, OAuth},
    },
};

/// How long the places may take that are asked for metadata. What the server itself says comes before.
const PATIENCE: Duration = Duration::from_secs(8);

impl Authorization {
    /// The steps of a connector with OAuth: what the server says about itself (RFC 9728), what its authorization server says
    /// (RFC 8414), and which client airlock is there. None for a connector without.
    pub(crate) async fn walk(&self, connector: &Connector) -> Vec<Step> {
        let Some(Method::Oauth2(oauth)) = connector.method(MethodKind::Oauth2) else { return Vec::new() };
        let (mut steps, server) = match oauth.server.as_ref().filter(|_| oauth.server_given) {
            Some(server) => {
                let message = format!("{} was given with the connector: no place is asked", server.issuer());
                let step = Step::since(Instant::now(), "issuer", Stage::NotTried, message);
                (vec![step.with("left_out", json!(server.left_out()))], Some(server.clone()))
            }
            None => self.look(connector, oauth).await,
        };
        steps.push(self.registration(connector, oauth, server.as_ref()));
        steps
    }

    /// Looks for the authorization server as if nothing were known of it, and says what came of that. The server that is
    /// used, whether or not it is found again.
    async fn look(&self, connector: &Connector, oauth: &OAuth) -> (Vec<Step>, Option<Server>) {
        let began = Instant::now();
        let challenge = match self.reception(connector).await {
            Reception::Challenged(challenge) => Some(challenge),
            Reception::Refused | Reception::Open | Reception::Unasked(_) => None,
        };
        let received = began.elapsed();
        let found = self.search(connector, oauth, challenge.as_ref(), PATIENCE).await;
        let resource = of_resource(&found, received);
        let took = spent(&found.tried[found.of_resource..]);
        let asked = places(&found.tried[found.of_resource..]);
        let step =
            |stage, message: String| Step::lasting(took, "issuer", stage, message).with("asked", asked);
        let known = oauth.server.as_ref();
        let (step, server) = match (found.server, known) {
            (Ok(server), Some(known)) if server.source() == Source::Assumed => {
                let message = format!(
                    "nothing is published about OAuth now: what was known before is used ({})",
                    known.issuer()
                );
                (step(Stage::NotTried, message), Some(known.clone()))
            }
            (Ok(server), Some(known)) if !known.is_of(server.issuer()) => {
                let message = format!(
                    "{} is named now, and tokens of {} are used until one of them is refused",
                    server.issuer(),
                    known.issuer()
                );
                (step(Stage::Ok, message), Some(known.clone()))
            }
            (Ok(server), _) => {
                let step = match server.source() {
                    Source::Assumed => step(
                        Stage::NotTried,
                        "nothing is published about OAuth: the places that 2025-03-26 has clients assume are used".into(),
                    ),
                    _ => step(Stage::Ok, format!("the metadata of {} are used", server.issuer())),
                };
                // As whoever authorises next would.
                if known.is_none()
                    && let Err(error) = self.keep(connector, &server, challenge)
                {
                    tracing::warn!(connector = connector.name, %error, "what was found is not remembered");
                }
                (step.with("left_out", json!(server.left_out())), Some(server))
            }
            (Err(error), Some(known)) => {
                let message = format!("what was known before is used ({}): {error}", known.issuer());
                (step(Stage::NotTried, message).with("code", error.code().into()), Some(known.clone()))
            }
            (Err(error), None) => {
                // Whoever has a credential of another method needs none of this.
                let is_needed = connector.methods.iter().all(|method| method.kind() == MethodKind::Oauth2);
                let stage = if is_needed { Stage::Failed } else { Stage::NotTried };
                (step(stage, error.to_string()).with("code", error.code().into()), None)
            }
        };
        (vec![resource, step], server.map(|server| oauth.with_word(server)))
    }

    /// Which client airlock is at the authorization server, or how it would become one.
    fn registration(&self, connector: &Connector, oauth: &OAuth, server: Option<&Server>) -> Step {
        let began = Instant::now();
        let step = |stage, message: String| Step::since(began, "registration", stage, message);
        if oauth.grant == Grant::ClientCredentials {
            return step(Stage::NotTried, "each credential brings a client of its own".into());
        }
        let Some(server) = server else {
            return step(Stage::NotTried, "there is no authorization server to be a client of".into());
        };
        let issuer = server.issuer();
        match self.stored_client(connector, server, &client::key(connector)) {
            Ok(Some(client)) if oauth.client_id.is_some() => step(
                Stage::Ok,
                format!("the client '{}' that was given with the connector is used", client.shown()),
            ),
            Ok(Some(client)) => {
                let until = client.secret_expires_at.map(|at| format!(", until {}", at.format("%Y-%m-%d")));
                let until = until.unwrap_or_default();
                step(
                    Stage::Ok,
                    format!("airlock is registered as client '{}' of {issuer}{until}", client.shown()),
                )
            }
            Ok(None) => match &self.config.client_document_url {
                Some(url) if server.takes_metadata_documents() => {
                    step(Stage::Ok, format!("{issuer} reads about airlock at {url}, and registers nothing"))
                }
                _ if server.registers() => {
                    step(Stage::Ok, format!("airlock registers at {issuer} when somebody authorises"))
                }
                _ => {
                    let error = ConnectorsError::Conflict(server.takes_no_clients(&self.config.redirect_uri));
                    Step::failed(began, "registration", &error)
                }
            },
            Err(error) => Step::failed(began, "registration", &error),
        }
    }
}

/// What the server for tools says about itself. `received` is how long it took to receive somebody without a credential.
fn of_resource(found: &Found, received: Duration) -> Step {
    let tried = &found.tried[..found.of_resource];
    let (stage, message) = match found.names() {
        _ if found.tried.is_empty() => (Stage::NotTried, "no place was asked".to_owned()),
        None => (
            Stage::NotTried,
            "the server publishes nothing about itself that can be used: it is taken for its own authorization server, \
             unless it has said otherwise"
                .to_owned(),
        ),
        Some(0) => (
            Stage::Ok,
            "the server's metadata name no authorization server: it is taken for its own".to_owned(),
        ),
        Some(named) => {
            (Stage::Ok, format!("the server's metadata name {}", count(named, "authorization server")))
        }
    };
    Step::lasting(received + spent(tried), "resource", stage, message).with("asked", places(tried))
}

fn spent(tried: &[Tried]) -> Duration {
    tried.iter().map(|tried| tried.took).sum()
}
