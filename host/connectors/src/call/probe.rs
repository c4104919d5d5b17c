//! Whether a REST API takes a credential, asked with a harmless operation: there is no list to ask it for.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use airlock_engine::{
    Principal,
    tools::{CallOptions, Silence},
};
use parking_lot::Mutex;
use serde_json::json;

use super::{CallRequest, Calls};
use crate::{ConnectorsError, channel::Resolved, registry::Connector};

/// How long an answer is good for, as the list of an MCP server is.
const AGE: Duration = Duration::from_secs(300);

/// When which credential was last taken, by connector and credential with their versions.
#[derive(Default)]
pub(super) struct Proofs(Mutex<HashMap<Key, Instant>>);

type Key = (String, u32, Option<(String, u32)>);

impl Proofs {
    fn holds(&self, key: &Key) -> bool {
        self.0.lock().get(key).is_some_and(|at| at.elapsed() < AGE)
    }

    fn note(&self, key: Key) {
        let mut all = self.0.lock();
        all.retain(|_, at| at.elapsed() < AGE);
        all.insert(key, Instant::now());
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probed {
    /// The server answered.
    Taken,
    /// The operator marked no operation for it, or the rules do not let it be called without a person.
    NotTried,
}

impl Calls {
    /// Calls the operation that the connector's rules name for it (`check`), unless that was done lately.
    pub(super) async fn probe(
        &self,
        connector: &Connector,
        who: &Principal,
        resolved: &Resolved,
        anew: bool,
    ) -> Result<Probed, ConnectorsError> {
        let Some(tool) = connector.control.check.as_deref() else { return Ok(Probed::NotTried) };
        // A document that was imported since may not go by it any more.
        if let Err(error) = self.registry.check_rule(&*self.records, connector, tool) {
            return Err(ConnectorsError::Conflict(format!(
                "the rule 'check' of connector '{0}' does not work any more: {error}. Its operator changes it with `airlock \
                 connectors control {0} --set RULES`",
                connector.name
            )));
        }
        let credential =
            resolved.as_ref().map(|(_, credential)| (credential.id.to_string(), credential.version));
        let key = (connector.id.clone(), connector.version, credential);
        if !anew && self.proofs.holds(&key) {
            return Ok(Probed::Taken);
        }
        let name = resolved.as_ref().map(|(_, credential)| credential.name.clone());
        let request = CallRequest {
            who,
            connector: self.registry.still(who, &connector.id, Some(&connector.name), "meanwhile")?,
            tool,
            arguments: json!({}),
            credentials_name: name.as_deref(),
            options: &CallOptions::default(),
            mock: false,
            origin: None,
            conversation: &Silence,
            may_authorize: false,
        };
        match self.perform(request).await {
            Ok(answer) => {
                let data = &answer["metadata"]["mcp_meta"]["structuredContent"];
                match data["metadata"]["status"].as_u64() {
                    Some(200..=299) => {
                        self.proofs.note(key);
                        Ok(Probed::Taken)
                    }
                    // The service has trouble of its own, which says nothing about the credential.
                    _ => Ok(Probed::NotTried),
                }
            }
            // Rules that want a person, or none of this, say nothing about the credential.
            Err(ConnectorsError::Denied(_)) => Ok(Probed::NotTried),
            Err(error) => Err(error),
        }
    }
}
