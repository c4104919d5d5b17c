//! The tools of a service, with what checks their arguments and what was left out of its list.

use std::collections::HashMap;

use airlock_schemas::{Checked, Dialect, Outcome, Refused, Schemas};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::ConnectorsError;

/// The tools of a server, with what checks their arguments.
pub(crate) struct Tools {
    pub(crate) list: Vec<Value>,
    /// What the service lists and cannot be used, or not as it was listed.
    pub(crate) left_out: Vec<LeftOut>,
    /// When it came from the service.
    pub(crate) listed_at: DateTime<Utc>,
    /// Where each stands in the list.
    places: HashMap<String, usize>,
    definitions: Box<dyn Definitions>,
    /// For which versions of which connectors they were compared with the pins.
    reviewed: Mutex<HashMap<String, u32>>,
}

/// What a protocol knows of its tools beside what it lists.
#[async_trait]
pub(crate) trait Definitions: Send + Sync {
    /// Checks the arguments of a call before anything is sent.
    async fn check(&self, tool: &str, described: &Value, arguments: &Value) -> Result<(), ConnectorsError>;

    /// Whether a tool gives something to everybody, without a credential.
    fn is_public(&self, tool: &str) -> bool;

    /// The answer that stands as an example with a tool.
    fn example(&self, connector: &str, tool: &str) -> Option<Value>;
}

/// The schemas that a server lists with its tools, compiled when they are first used.
#[derive(Default)]
struct Listed(Mutex<HashMap<String, Option<Checked>>>);

/// Something that a service listed and that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// The tool or operation, with the member where it is only a part; scrubbed and cut.
    pub(crate) what: String,
    pub(crate) reason: String,
}

impl LeftOut {
    /// `{"what", "reason"}`.
    pub(crate) fn wire(&self) -> Value {
        json!({ "what": self.what, "reason": self.reason })
    }
}

impl Tools {
    /// Tools that are known by what their server lists.
    pub(crate) fn listed(list: Vec<Value>, left_out: Vec<LeftOut>) -> Self {
        Self::new(list, left_out, Box::new(Listed::default()))
    }

    /// The same with what else is known of them.
    pub(crate) fn new(list: Vec<Value>, left_out: Vec<LeftOut>, definitions: Box<dyn Definitions>) -> Self {
        let mut places = HashMap::with_capacity(list.len());
        for (place, described) in list.iter().enumerate() {
            // Of two of one name the first counts.
            if let Some(name) = described["name"].as_str() {
                places.entry(name.to_owned()).or_insert(place);
            }
        }
        Self { list, left_out, listed_at: Utc::now(), places, definitions, reviewed: Mutex::default() }
    }

    /// Reviews the list, once for each version of a connector and never for one that is past.
    pub(crate) fn once(
        &self,
        connector_id: &str,
        version: u32,
        review: impl FnOnce() -> Result<(), ConnectorsError>,
    ) -> Result<(), ConnectorsError> {
        let mut reviewed = self.reviewed.lock();
        if reviewed.get(connector_id).is_none_or(|past| *past < version) {
            review()?;
            reviewed.insert(connector_id.to_owned(), version);
        }
        Ok(())
    }

    /// The definition of a tool.
    pub(crate) fn get(&self, connector: &str, tool: &str) -> Result<&Value, ConnectorsError> {
        self.places.get(tool).map(|place| &self.list[*place]).ok_or_else(|| {
            ConnectorsError::NotFound(format!(
                "connector '{connector}' has no tool '{tool}': see `airlock connectors tools {connector}` for those it has"
            ))
        })
    }

    /// Checks a call before anything is sent.
    pub(crate) async fn check(
        &self,
        connector: &str,
        tool: &str,
        arguments: &Value,
    ) -> Result<(), ConnectorsError> {
        self.definitions.check(tool, self.get(connector, tool)?, arguments).await
    }

    /// Whether a tool gives something to everybody, without a credential.
    pub(crate) fn is_public(&self, tool: &str) -> bool {
        self.definitions.is_public(tool)
    }

    /// The answer that stands as an example with a tool.
    pub(crate) fn example(&self, connector: &str, tool: &str) -> Option<Value> {
        self.definitions.example(connector, tool)
    }
}

impl Listed {
    /// What checks a tool's arguments; nothing if its schema is broken or over a bound: its server checks by itself.
    async fn checked(&self, tool: &str, described: &Value) -> Option<Checked> {
        if let Some(known) = self.0.lock().get(tool) {
            return known.clone();
        }
        // Formats are words to people.
        let checked = match Schemas::of_process()
            .compile(&described["inputSchema"], Dialect::WithoutFormats)
            .await
        {
            Ok(checked) => Some(checked),
            // Another time it may.
            Err(Refused::NotNow(_)) => return None,
            Err(refused) => {
                tracing::warn!(tool, reason = %refused, "the arguments of a tool are not checked by its schema");
                None
            }
        };
        self.0.lock().insert(tool.to_owned(), checked.clone());
        checked
    }
}

#[async_trait]
impl Definitions for Listed {
    async fn check(&self, tool: &str, described: &Value, arguments: &Value) -> Result<(), ConnectorsError> {
        let Some(checked) = self.checked(tool, described).await else { return Ok(()) };
        let Outcome::Differs(differences) = checked.check(arguments).await else { return Ok(()) };
        let first = differences.into_iter().next();
        let (place, reason) = first.map(|first| (first.instance, first.message)).unwrap_or_default();
        let message = format!(
            "the arguments of '{tool}' do not match the schema that its server lists: {place} {reason}. airlock checked this \
             by itself and sent nothing"
        );
        Err(ConnectorsError::Invalid { pointer: format!("/arguments{place}"), message })
    }

    /// A server that wants no credential is a connector without one.
    fn is_public(&self, _: &str) -> bool {
        false
    }

    fn example(&self, _: &str, _: &str) -> Option<Value> {
        None
    }
}
