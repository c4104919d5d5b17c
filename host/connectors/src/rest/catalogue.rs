//! The operations of one API, as they are called: by name, as tools, with what checks their arguments.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::{Checks, Example, Operation, Terms, answer};
use crate::{
    ConnectorsError,
    egress::scrub::Scrubber,
    protocol::{
        definition::Definition,
        tools::{Definitions, Tools},
    },
};

/// The operations of one API.
pub(crate) struct Catalogue {
    operations: Arc<Operations>,
    /// The same as tools, by name.
    pub(crate) tools: Arc<Tools>,
}

struct Operations {
    by_slug: HashMap<String, Operation>,
    checks: Checks,
    /// The definitions of those that were called, each with the terms that it is of: an operation never changes here, and
    /// each call asks for one.
    defined: Mutex<HashMap<String, (Terms, Arc<Definition>)>>,
}

impl Catalogue {
    pub(crate) fn new(operations: Vec<Operation>) -> Self {
        let mut list: Vec<Value> = operations.iter().map(Operation::tool).collect();
        list.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
        let by_slug = operations.into_iter().map(|operation| (operation.slug.clone(), operation)).collect();
        let operations =
            Arc::new(Operations { by_slug, checks: Checks::default(), defined: Mutex::default() });
        let tools = Tools::new(list, Vec::new(), Box::new(Arc::clone(&operations)));
        Self { operations, tools: Arc::new(tools) }
    }

    pub(crate) fn operation(&self, connector: &str, slug: &str) -> Result<&Operation, ConnectorsError> {
        self.operations.by_slug.get(slug).ok_or_else(|| {
            ConnectorsError::NotFound(format!(
                "connector '{connector}' has no operation '{slug}': see `airlock connectors tools {connector}` for those \
                 it has"
            ))
        })
    }

    /// What is approved of an operation.
    pub(super) fn definition(&self, slug: &str, terms: &Terms) -> Option<Arc<Definition>> {
        let operation = self.operations.by_slug.get(slug)?;
        let known = self.operations.defined.lock().get(slug).cloned();
        if let Some((of, definition)) = known
            && of == *terms
        {
            return Some(definition);
        }
        let definition = Arc::new(operation.definition(terms));
        let kept = (terms.clone(), Arc::clone(&definition));
        self.operations.defined.lock().insert(slug.to_owned(), kept);
        Some(definition)
    }

    /// The definitions of all operations, by name.
    pub(crate) fn definitions(&self, terms: &Terms) -> BTreeMap<String, Definition> {
        let operations = self.operations.by_slug.values();
        operations.map(|operation| (operation.slug.clone(), operation.definition(terms))).collect()
    }

    /// Checks the arguments of a call, flat or grouped by place, before anything is sent.
    pub(crate) fn check(
        &self,
        connector: &str,
        slug: &str,
        arguments: &Map<String, Value>,
    ) -> Result<(), ConnectorsError> {
        self.operations.checks.check_blocking(self.operation(connector, slug)?, arguments)
    }
}

#[async_trait]
impl Definitions for Arc<Operations> {
    async fn check(&self, tool: &str, _: &Value, arguments: &Value) -> Result<(), ConnectorsError> {
        let empty = Map::new();
        match self.by_slug.get(tool) {
            Some(operation) => self.checks.check(operation, arguments.as_object().unwrap_or(&empty)).await,
            None => Ok(()),
        }
    }

    fn is_public(&self, tool: &str) -> bool {
        self.by_slug.get(tool).is_some_and(|operation| !operation.requires_auth)
    }

    fn example(&self, connector: &str, tool: &str) -> Option<Value> {
        let operation = self.by_slug.get(tool)?;
        let Example { status, content_type, body } = operation.example()?;
        let mut headers = HeaderMap::new();
        if let Some(kind) = content_type.as_ref().and_then(|kind| HeaderValue::from_str(kind).ok()) {
            headers.insert(CONTENT_TYPE, kind);
        }
        let nothing = Scrubber::default();
        Some(answer(connector, operation, *status, &headers, body.as_bytes(), &nothing).value)
    }
}
