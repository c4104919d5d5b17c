//! Answers for tools without a server (THREATS row 23).
//!
//! A mock says: when this tool is called with such arguments, this is the answer. It was written by somebody, recorded
//! from a live call, or taken from an example in an API's document. Nothing here opens a socket or knows a credential, and
//! who asks here and finds nothing gets an error, not the live service.
//!
//! Of the mocks that match a call, those that ask for the most go first; among those, written before recorded before
//! examples; and among several that are still equal, one is chosen by the arguments, the same each time.

mod answer;
mod matching;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use airlock_engine::{
    problem::with_nearest,
    records::{Change, Records},
};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) use self::answer::Shape;
use crate::{
    ConnectorsError,
    error::{pointer, wording::word},
};

/// The key is `connector/tool/number`; ids of connectors hold no slash, numbers grow.
const TABLE: &str = "mocks";

/// Lists of tools, by the connector's id.
const TOOLS_TABLE: &str = "mock_tools";

const MAX_ENTRIES: usize = 10_000;
const MAX_RECORDED: usize = 100;
const MAX_ANSWER: usize = 1 << 20;
const MAX_RECORDED_ANSWER: usize = 256 << 10;
const MAX_DELAY_MS: u64 = 120_000;

/// All mocks, in memory and in the store.
pub(crate) struct Mocks(RwLock<HashMap<String, OfConnector>>);

#[derive(Default)]
struct OfConnector {
    entries: BTreeMap<Place, Arc<MockEntry>>,
    tools: Option<Arc<Vec<Value>>>,
}

/// The tool's name and the entry's number.
type Place = (String, u64);

/// One mock, as it is written and stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MockEntry {
    /// The tool's name.
    pub(crate) tool: String,
    /// What the arguments of the call have to contain: each key that is given, at any depth, with an equal value. Absent:
    /// any arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) arguments: Option<Value>,
    /// The answer: `ConnectorToolCallResponse`, or shorter `{"data": …}`, `{"text": "…"}` or `{"error": "…"}`, with a
    /// `status` if the connector is a REST API.
    pub(crate) answer: Value,
    /// Whose answer it is, if it was recorded: nobody else sees it or gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// Where it comes from. Who writes mocks need not say it.
    #[serde(default)]
    pub(crate) source: Source,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    /// How long the answer takes, in milliseconds, up to 120,000. Default: no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) delay_ms: Option<u64>,
}

/// Where a mock comes from. In the order in which they are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// Somebody wrote it.
    #[default]
    Written,
    /// It is the answer to a live call, scrubbed.
    Recorded,
    /// It is an example in an API's document.
    Example,
}

/// An answer that was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    /// `ConnectorToolCallResponse` (contract §11.1).
    pub(crate) answer: Value,
    /// How long the caller should take to give it.
    pub(crate) delay: Duration,
}

impl MockEntry {
    /// Reads a mock that somebody sent; `at` is its place in what was sent.
    fn parse(value: Value, at: &str, source: Source) -> Result<Self, ConnectorsError> {
        let refuse = |field: &str, message: &str| ConnectorsError::invalid(&format!("{at}{field}"), message);
        if !value.is_object() {
            return Err(refuse("", "expected an object with 'tool' and 'answer'"));
        }
        let entry: Self = serde_path_to_error::deserialize(value)
            .map_err(|error| refuse(&pointer(error.path()), &with_nearest(&error.inner().to_string())))?;
        if !(1..=256).contains(&entry.tool.len()) {
            return Err(refuse("/tool", "expected the name of a tool"));
        }
        if !entry.arguments.as_ref().is_none_or(Value::is_object) {
            return Err(refuse("/arguments", "expected an object, or nothing for any arguments"));
        }
        if entry.delay_ms.is_some_and(|delay| delay > MAX_DELAY_MS) {
            return Err(refuse("/delay_ms", &format!("expected a whole number from 0 to {MAX_DELAY_MS}")));
        }
        answer::check(&entry.answer).map_err(|message| refuse("/answer", &message))?;
        if entry.answer.to_string().len() > MAX_ANSWER {
            return Err(refuse("/answer", &format!("expected at most {MAX_ANSWER} bytes")));
        }
        Ok(Self { source, user: None, ..entry })
    }

    /// Whether somebody may see it and be answered by it: what was recorded is for the user whose call it was.
    fn is_for(&self, user: &str) -> bool {
        self.source != Source::Recorded || self.user.as_deref() == Some(user)
    }
}

impl OfConnector {
    /// The number for the next entry of a tool: greater than any that it has.
    fn next(&self, tool: &str) -> u64 {
        let last = self.entries.range((tool.to_owned(), 0)..=(tool.to_owned(), u64::MAX)).next_back();
        last.map_or(1, |((_, number), _)| number + 1)
    }

    fn of_tool(&self, tool: &str) -> impl Iterator<Item = (&Place, &Arc<MockEntry>)> {
        self.entries.range((tool.to_owned(), 0)..=(tool.to_owned(), u64::MAX))
    }
}

impl Mocks {
    /// Reads what is stored.
    pub(crate) fn open(records: &dyn Records) -> Result<Self, ConnectorsError> {
        let mut all: HashMap<String, OfConnector> = HashMap::new();
        for (key, value) in records.scan(TABLE, "", None, usize::MAX)? {
            let Some((connector_id, rest)) = key.split_once('/') else { continue };
            let Some((tool, number)) = rest.rsplit_once('/') else { continue };
            let Ok(number) = number.parse() else { continue };
            let entry = Arc::new(serde_json::from_slice(&value)?);
            all.entry(connector_id.into()).or_default().entries.insert((tool.into(), number), entry);
        }
        for (connector_id, value) in records.scan(TOOLS_TABLE, "", None, usize::MAX)? {
            all.entry(connector_id).or_default().tools = Some(Arc::new(serde_json::from_slice(&value)?));
        }
        Ok(Self(RwLock::new(all)))
    }

    /// The answer to a call, in the shape of the connector's answers; none if nothing matches, which is
    /// [`Self::missing`].
    pub(crate) fn find(
        &self,
        connector_id: &str,
        user: &str,
        tool: &str,
        arguments: &Value,
        shape: Shape<'_>,
    ) -> Option<Found> {
        let all = self.0.read();
        let visible = all.get(connector_id)?.of_tool(tool).filter(|(_, entry)| entry.is_for(user));
        let matching = visible.filter_map(|(_, entry)| {
            let asked = entry.arguments.as_ref();
            let weight = asked.map_or(0, matching::weight);
            let matches = asked.is_none_or(|asked| matching::contains(arguments, asked));
            matches.then_some((weight, std::cmp::Reverse(entry.source), entry))
        });
        let mut best: Vec<&Arc<MockEntry>> = Vec::new();
        let mut rank = None;
        for (weight, source, entry) in matching {
            let this = Some((weight, source));
            if this > rank {
                (rank, best) = (this, Vec::new());
            }
            if this == rank {
                best.push(entry);
            }
        }
        let entry = best.get(matching::choice(arguments, best.len())?)?;
        let delay = Duration::from_millis(entry.delay_ms.unwrap_or_default());
        Some(Found { answer: answer::expand(&entry.answer, tool, shape), delay })
    }

    /// Says that there is no answer, and how to write one. `connector` is the connector's name.
    pub(crate) fn missing(
        &self,
        connector: &str,
        connector_id: &str,
        user: &str,
        tool: &str,
    ) -> ConnectorsError {
        let all = self.0.read();
        let has = all
            .get(connector_id)
            .is_some_and(|mocks| mocks.of_tool(tool).any(|(_, entry)| entry.is_for(user)));
        let what = if has { "none of its mocks matches these arguments" } else { "it has no mock" };
        ConnectorsError::NotFound(format!(
            "tool '{tool}' of connector '{connector}' is mocked and {what}: write one with `airlock connectors mock \
             {connector} {} --answer '{{\"text\": \"…\"}}'`",
            word(tool)
        ))
    }

    /// Replaces all mocks of a connector that come from `source` with these.
    pub(crate) fn set(
        &self,
        records: &dyn Records,
        connector_id: &str,
        source: Source,
        entries: Vec<Value>,
    ) -> Result<(), ConnectorsError> {
        let parse = |(index, value)| MockEntry::parse(value, &format!("/{index}"), source);
        let entries = entries.into_iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
        self.change(records, connector_id, |known| {
            let old = known.entries.iter().filter(|(_, entry)| entry.source == source);
            (old.map(|(place, _)| place.clone()).collect(), entries)
        })
    }

    /// Adds a mock that somebody wrote.
    pub(crate) fn add(
        &self,
        records: &dyn Records,
        connector_id: &str,
        entry: Value,
    ) -> Result<(), ConnectorsError> {
        let entry = MockEntry::parse(entry, "", Source::Written)?;
        self.change(records, connector_id, |_| (Vec::new(), vec![entry]))
    }

    /// Keeps the answer of a user's live call, which has been scrubbed, in place of one of theirs with the same arguments. Only
    /// their last 100 of a tool are kept, and none that is longer than 256 KiB. Says whether it was kept.
    pub(crate) fn record(
        &self,
        records: &dyn Records,
        connector_id: &str,
        user: &str,
        tool: &str,
        arguments: &Value,
        answer: &Value,
    ) -> Result<bool, ConnectorsError> {
        let entry = MockEntry {
            tool: tool.into(),
            arguments: Some(arguments.clone()),
            answer: answer.clone(),
            user: Some(user.into()),
            source: Source::Recorded,
            description: None,
            delay_ms: None,
        };
        let is_known = |mocks: &OfConnector| mocks.of_tool(tool).any(|(_, known)| **known == entry);
        if self.0.read().get(connector_id).is_some_and(is_known) {
            return Ok(true);
        }
        if serde_json::to_vec(&entry)?.len() > MAX_RECORDED_ANSWER {
            tracing::debug!(connector_id, tool, "an answer is too long to be recorded");
            return Ok(false);
        }
        // Of a call that was made nobody wants to hear that its answer found no place.
        if self.0.read().get(connector_id).is_some_and(|mocks| mocks.entries.len() >= MAX_ENTRIES) {
            tracing::debug!(connector_id, tool, "a connector has as many mocks as it may have");
            return Ok(false);
        }
        self.change(records, connector_id, |known| {
            let recorded = known
                .of_tool(tool)
                .filter(|(_, entry)| entry.source == Source::Recorded && entry.is_for(user));
            let (same, others): (Vec<_>, Vec<_>) =
                recorded.partition(|(_, known)| known.arguments == entry.arguments);
            let surplus = (others.len() + 1).saturating_sub(MAX_RECORDED);
            let old = same.into_iter().chain(others.into_iter().take(surplus));
            (old.map(|(place, _)| place.clone()).collect(), vec![entry])
        })?;
        Ok(true)
    }

    /// The mocks of a connector that a user sees, by tool, as they can be sent to [`Self::set`] again.
    pub(crate) fn list(&self, connector_id: &str, user: &str) -> Result<Vec<Value>, ConnectorsError> {
        let all = self.0.read();
        let entries = all.get(connector_id).into_iter().flat_map(|mocks| mocks.entries.values());
        let entries = entries.filter(|entry| entry.is_for(user));
        Ok(entries.map(|entry| serde_json::to_value(&**entry)).collect::<Result<_, _>>()?)
    }

    /// Removes the mocks of a connector that a user sees, or those from one source, and says how many there were.
    pub(crate) fn clear(
        &self,
        records: &dyn Records,
        connector_id: &str,
        user: &str,
        source: Option<Source>,
    ) -> Result<usize, ConnectorsError> {
        let mut count = 0;
        self.change(records, connector_id, |known| {
            let old = known.entries.iter().filter(|(_, entry)| {
                entry.is_for(user) && source.is_none_or(|source| entry.source == source)
            });
            let old: Vec<_> = old.map(|(place, _)| place.clone()).collect();
            count = old.len();
            (old, Vec::new())
        })?;
        Ok(count)
    }

    /// The tools of a connector as far as they are known without its server, `MCPTool`s: the list that was stored, else
    /// what its mocks tell; none if there is neither.
    pub(crate) fn tools(&self, connector_id: &str, user: &str) -> Option<Arc<Vec<Value>>> {
        let all = self.0.read();
        let mocks = all.get(connector_id)?;
        if let Some(tools) = &mocks.tools {
            return Some(Arc::clone(tools));
        }
        let visible = mocks.entries.iter().filter(|(_, entry)| entry.is_for(user));
        let mut names: Vec<&String> = visible.map(|((tool, _), _)| tool).collect();
        names.dedup();
        let tools =
            names.into_iter().map(|name| json!({ "name": name, "inputSchema": { "type": "object" } }));
        Some(tools.collect()).filter(|tools: &Vec<Value>| !tools.is_empty()).map(Arc::new)
    }

    /// Stores the list of a connector's tools, `MCPTool`s, for when its server is not asked.
    pub(crate) fn set_tools(
        &self,
        records: &dyn Records,
        connector_id: &str,
        tools: &[Value],
    ) -> Result<(), ConnectorsError> {
        for (index, tool) in tools.iter().enumerate() {
            if !tool["name"].is_string() || !tool["inputSchema"].is_object() {
                let message = "expected a tool with a 'name' and an 'inputSchema'";
                return Err(ConnectorsError::invalid(&format!("/{index}"), message));
            }
        }
        let mut all = self.0.write();
        let known = all.get(connector_id).and_then(|mocks| mocks.tools.as_ref());
        if known.is_some_and(|known| **known == tools) {
            return Ok(());
        }
        let value = serde_json::to_vec(tools)?;
        records.write(&[Change::Put { table: TOOLS_TABLE, key: connector_id.into(), value }])?;
        all.entry(connector_id.into()).or_default().tools = Some(Arc::new(tools.to_vec()));
        Ok(())
    }

    /// What removes everything of a connector from the store. [`Self::forget`] follows when that is written.
    pub(crate) fn deletion(&self, connector_id: &str) -> Vec<Change> {
        let all = self.0.read();
        let Some(mocks) = all.get(connector_id) else { return Vec::new() };
        let entries = mocks.entries.keys().map(|place| delete(connector_id, place));
        let tools = Change::Delete { table: TOOLS_TABLE, key: connector_id.into() };
        entries.chain([tools]).collect()
    }

    /// Forgets a connector that was deleted.
    pub(crate) fn forget(&self, connector_id: &str) {
        self.0.write().remove(connector_id);
    }

    /// Takes some entries away and adds others, in the store and then in memory. One writer at a time.
    fn change(
        &self,
        records: &dyn Records,
        connector_id: &str,
        decide: impl FnOnce(&OfConnector) -> (Vec<Place>, Vec<MockEntry>),
    ) -> Result<(), ConnectorsError> {
        let mut all = self.0.write();
        let known = all.entry(connector_id.into()).or_default();
        let (old, new) = decide(known);
        if known.entries.len() - old.len() + new.len() > MAX_ENTRIES {
            let message = format!("a connector has at most {MAX_ENTRIES} mocks");
            return Err(ConnectorsError::invalid("", message));
        }
        let mut changes: Vec<Change> = old.iter().map(|place| delete(connector_id, place)).collect();
        let mut added: Vec<(Place, Arc<MockEntry>)> = Vec::new();
        let mut numbers: HashMap<String, u64> = HashMap::new();
        for entry in new {
            let number = numbers.entry(entry.tool.clone()).or_insert_with(|| known.next(&entry.tool));
            let place = (entry.tool.clone(), *number);
            *number += 1;
            let (key, value) = (key(connector_id, &place), serde_json::to_vec(&entry)?);
            changes.push(Change::Put { table: TABLE, key, value });
            added.push((place, Arc::new(entry)));
        }
        if !changes.is_empty() {
            records.write(&changes)?;
        }
        old.iter().for_each(|place| drop(known.entries.remove(place)));
        known.entries.extend(added);
        Ok(())
    }
}

fn key(connector_id: &str, (tool, number): &Place) -> String {
    format!("{connector_id}/{tool}/{number:010}")
}

fn delete(connector_id: &str, place: &Place) -> Change {
    Change::Delete { table: TABLE, key: key(connector_id, place) }
}

#[cfg(test)]
mod tests;
