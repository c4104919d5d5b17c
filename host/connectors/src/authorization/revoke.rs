//! Giving tokens back.

use super::{Authorization, server::FINDING_OUT};
use crate::{
    ConnectorsError,
    credentials::Credential,
    egress::secret::Secret,
    oauth::{self, Client, Hint},
    registry::{
        Connector,
        method::{Method, MethodKind},
    },
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
        credential.grant.as_ref()?;
        let tokens = secret.tokens?;
        let revoked = async {
            let server = self.server(connector).await?;
            let client = match &secret.client {
                Some(own) => {
                    let auth = match connector.method(MethodKind::Oauth2) {
                        Some(Method::Oauth2(oauth)) => oauth.client_auth.clone(),
                        _ => None,
                    };
                    let auth = auth.as_deref().unwrap_or("client_secret_post");
                    Client::for_programs(auth, &own.id, own.secret.clone(), own.private_key.clone())?
                }
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
