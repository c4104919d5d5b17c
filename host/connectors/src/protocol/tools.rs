//! The tools of a service, with what checks their arguments and what was left out of its list.

use std::{collections::HashMap, sync::Arc};

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
    validators: Mutex<HashMap<String, Arc<jsonschema::Validator>>>,
    /// They were compared with the pins.
    reviewed: Mutex<bool>,
}

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
    pub(crate) fn new(list: Vec<Value>) -> Self {
        Self {
            list,
            left_out: Vec::new(),
            listed_at: Utc::now(),
            validators: Mutex::default(),
            reviewed: Mutex::default(),
        }
    }

    /// The same, with what was left out of the list.
    pub(crate) fn without(list: Vec<Value>, left_out: Vec<LeftOut>) -> Self {
        Self { left_out, ..Self::new(list) }
    }

    /// Reviews the list, once.
    pub(crate) fn once(
        &self,
        review: impl FnOnce() -> Result<(), ConnectorsError>,
    ) -> Result<(), ConnectorsError> {
        let mut reviewed = self.reviewed.lock();
        if !*reviewed {
            review()?;
            *reviewed = true;
        }
        Ok(())
    }

    /// The definition of a tool.
    pub(crate) fn get(&self, connector: &str, tool: &str) -> Result<&Value, ConnectorsError> {
        self.list.iter().find(|described| described["name"] == tool).ok_or_else(|| {
            ConnectorsError::NotFound(format!(
                "connector '{connector}' has no tool '{tool}': see `airlock connectors tools {connector}` for those it has"
            ))
        })
    }

    /// Checks a call before anything is sent.
    pub(crate) fn check(
        &self,
        connector: &str,
        tool: &str,
        arguments: &Value,
    ) -> Result<(), ConnectorsError> {
        let described = self.get(connector, tool)?;
        let known = self.validators.lock().get(tool).cloned();
        let validator = match known {
            Some(validator) => validator,
            // A server whose schema is broken checks by itself.
            // Formats are words to people.
            None => {
                match jsonschema::options().should_validate_formats(false).build(&described["inputSchema"]) {
                    Ok(validator) => {
                        let validator = Arc::new(validator);
                        self.validators.lock().insert(tool.to_owned(), Arc::clone(&validator));
                        validator
                    }
                    Err(_) => return Ok(()),
                }
            }
        };
        match validator.iter_errors(arguments).next() {
            None => Ok(()),
            Some(problem) => {
                let place = problem.instance_path().to_string();
                let message = format!(
                    "the arguments of '{tool}' do not match the schema that its server lists: {place} {}. airlock checked \
                     this by itself and sent nothing",
                    problem.masked()
                );
                Err(ConnectorsError::Invalid { pointer: format!("/arguments{place}"), message })
            }
        }
    }
}
