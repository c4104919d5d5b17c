//! A client that was registered by asking (RFC 7591), and that its authorization server has forgotten: servers lose them when
//! they are set up anew, and some let them end. Another takes its place, once, and what was granted to the old one has to be
//! granted again.
//!
//! Only the server's own word at its token endpoint counts, and never that of a browser. A client that the operator gave, or
//! that is the address of a document, is not replaced. Nor is a replacement that the server has never taken: a server that
//! knows nobody would get a registration with every request.

use std::time::Duration;

use airlock_engine::Principal;
use chrono::Utc;

use super::Authorization;
use crate::{
    ConnectorsError,
    audit::{Event, Kind},
    credentials::{Credential, State},
    oauth::{self, Client, Server},
    registry::{
        Connector, client,
        method::{Method, MethodKind, OAuth},
    },
};

/// How long a server may take to say whether it knows a client.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the audit log says of it.
const NOTE: &str =
    "the authorization server does not know the client any more: airlock has registered there anew";

impl Authorization {
    /// Registers airlock anew, if the server has said of this client that it does not know it. Whether there is another one
    /// now; asked after every request that the client could have been refused in.
    pub(super) async fn replaces(
        &self,
        connector: &Connector,
        server: &Server,
        client: &Client,
    ) -> Result<bool, ConnectorsError> {
        if !client.is_forgotten() {
            return Ok(false);
        }
        let key = client::key(connector);
        let lock = self.refreshing.lock(&key);
        let _alone = lock.lock().await;
        // As it is now: somebody may have given it a client meanwhile.
        let Some(connector) = self.registry.by_id(&connector.id) else { return Ok(false) };
        let Some(oauth) = connector.interactive().filter(|oauth| oauth.client_id.is_none()) else {
            return Ok(false);
        };
        match self.stored_client(&connector, server, &key)? {
            Some(now) if now.id == client.id => {}
            Some(_) => return Ok(true),
            None => return Ok(false),
        }
        let (name, issuer, shown) = (&connector.name, server.issuer(), client.shown());
        if oauth.replacement.as_ref() == Some(&client.id) {
            tracing::warn!(
                connector = name,
                issuer,
                client = shown,
                "an authorization server does not know the client that was registered in place of one that it had \
                 forgotten: no other is registered"
            );
            return Ok(false);
        }
        // What is granted from now on is granted to the other.
        let granted = self.credentials.all();
        let new = match self.register(&connector, server, &key, true).await {
            Ok(new) => new,
            Err(error) => {
                tracing::warn!(
                    connector = name,
                    issuer,
                    client = shown,
                    %error,
                    "an authorization server has forgotten the client, and takes no other"
                );
                return Ok(false);
            }
        };
        tracing::warn!(
            connector = name,
            issuer,
            forgotten = shown,
            client = new.shown(),
            "an authorization server had forgotten the client: airlock was registered anew, and whoever had authorised has to \
             do so again"
        );
        self.audit.note(Event {
            connector_id: Some(connector.id.clone()),
            connector: Some(connector.name.clone()),
            note: Some(NOTE.into()),
            ..Event::host(Kind::ClientReplaced)
        })?;
        self.orphan(&connector, server, granted)?;
        Ok(true)
    }

    /// Marks what the server had granted to the client that it has forgotten.
    fn orphan(
        &self,
        connector: &Connector,
        server: &Server,
        granted: Vec<(String, Credential)>,
    ) -> Result<(), ConnectorsError> {
        let prefix = format!("{}/", connector.id);
        for (key, credential) in granted {
            let is_of_server = credential.grant.as_ref().is_some_and(|grant| server.is_of(&grant.issuer));
            if !key.starts_with(&prefix)
                || credential.method != MethodKind::Oauth2
                || !is_of_server
                || credential.needs_somebody(Utc::now())
            {
                continue;
            }
            // A program's own client is none of ours. What does not open is of another address, and says so itself.
            let secret = credential.open(&*self.records, &self.vault, connector, &key);
            if secret.is_ok_and(|secret| secret.client.is_none()) {
                self.mark(connector, &Some((key, credential)), State::Orphaned)?;
            }
        }
        Ok(())
    }

    /// The server has given a token to this client: if it is one that was registered in place of another, it may be
    /// replaced as well, some day.
    pub(super) fn takes(&self, connector: &Connector, client: &Client) {
        let connector = self.registry.by_id(&connector.id);
        let is_replacement = |oauth: &OAuth| oauth.replacement.as_ref() == Some(&client.id);
        let Some(connector) =
            connector.filter(|connector| connector.interactive().is_some_and(is_replacement))
        else {
            return;
        };
        let changed = self.registry.change(&*self.records, &connector.id, |changed| {
            for method in &mut changed.methods {
                if let Method::Oauth2(oauth) = method
                    && is_replacement(oauth)
                {
                    oauth.replacement = None;
                }
            }
            Ok(Vec::new())
        });
        if let Err(error) = changed {
            // It must not cost the token that there is now.
            tracing::warn!(connector = connector.name, %error, "that a server takes the client is not remembered");
        }
    }

    /// Whether somebody went to the server with this client and did not come back, and the server says that it does not know
    /// it: such a server has shown them a page, and told nobody else.
    pub(super) async fn was_lost(
        &self,
        who: &Principal,
        connector: &Connector,
        server: &Server,
        client: &Client,
    ) -> bool {
        let is_ours = connector.interactive().is_some_and(|oauth| oauth.client_id.is_none());
        is_ours && self.flows.is_left(who, &connector.id, &client.id) && self.is_denied(server, client).await
    }

    /// Whether the server says, when it is asked, that it does not know a client. Nobody waits long for that.
    pub(super) async fn is_denied(&self, server: &Server, client: &Client) -> bool {
        let asked = oauth::has_forgotten(server, client, &self.config.redirect_uri, &self.egress);
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_default()
    }
}
