//! Giving tokens back.

use super::{Authorization, server::FINDING_OUT};
use crate::{
    ConnectorsError,
    credentials::Credential,
    egress::secret::Secret,
    oauth::{self, Hint},
    registry::Connector,
};

impl Authorization {
    /// Takes the tokens of a credential back at their server (THREATS row 26). Says what came of it, if there was anything
    /// to take back.
    pub(crate) async fn revoke(
        &self,
        connector: &Connector,
        credential: &Credential,
        secret: Secret,
    ) -> Option<String> {
        let grant = credential.grant.as_ref()?;
        let tokens = secret.tokens?;
        let revoked = async {
            let server = self.server(connector).await?;
            // A token goes to the server that gave it and no other (THREATS row 10).
            if !server.is_of(&grant.issuer) {
                return Err(ConnectorsError::Conflict(format!(
                    "they are of {}, and the connector is authorised at {} now",
                    grant.issuer,
                    server.issuer()
                )));
            }
            let client = match &secret.client {
                Some(own) => self.program(connector, &server, own)?,
                None => self.client(connector, &server).await?,
            };
            let exchange = &self.egress;
            let mut done = false;
            if let Some(token) = &tokens.refresh {
                done |= oauth::revoke(&server, &client, token, Hint::Refresh, exchange).await?;
            }
            done |= oauth::revoke(&server, &client, &tokens.access, Hint::Access, exchange).await?;
            Ok::<bool, ConnectorsError>(done)
        };
        Some(match tokio::time::timeout(FINDING_OUT, revoked).await {
            Ok(Ok(true)) => "its tokens were revoked at the server".into(),
            Ok(Ok(false)) => "the server has no way to revoke tokens: they end when they expire".into(),
            Ok(Err(error)) => {
                tracing::warn!(connector = connector.name, %error, "tokens could not be revoked");
                format!("its tokens could not be revoked at the server ({error}): revoke them there")
            }
            Err(_) => "the server did not answer: revoke the tokens there".into(),
        })
    }
}
