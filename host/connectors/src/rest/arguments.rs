//! What a caller gives for an operation.
//!
//! Arguments are flat: one property for each parameter, by its name, and beside them the fields of the body. A name that
//! stands in several places belongs to the path, then the query, then the header; the others are called `query_NAME`,
//! `header_NAME`. A body that is not a plain object, or one with a field that is called like a parameter, is the argument
//! `body` (`request_body` if there is a parameter of that name).
//!
//! The grouped form is accepted as well: `{"path": {…}, "query": {…}, "header": {…}, "body": …}`. Arguments are grouped
//! when all of their keys are among these four and at least one of them is no argument of the operation. So
//! `{"path": {"id": 1}}` is grouped, and for an operation with a parameter called `path` it is not.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{Given, Operation, Place, document::step};
use crate::ConnectorsError;

const GROUPS: [&str; 4] = ["path", "query", "header", "body"];

impl Operation {
    /// The flat form of arguments, which is what [`Operation::input_schema`] describes.
    pub(crate) fn flat<'a>(
        &self,
        arguments: &'a Map<String, Value>,
    ) -> Result<Cow<'a, Map<String, Value>>, ConnectorsError> {
        let is_grouped = !arguments.is_empty()
            && arguments.keys().all(|key| GROUPS.contains(&key.as_str()))
            && arguments.keys().any(|key| !self.has_argument(key));
        if !is_grouped {
            return Ok(Cow::Borrowed(arguments));
        }
        let mut flat = Map::new();
        for place in [Place::Path, Place::Query, Place::Header] {
            let group = place.as_str();
            let values = match arguments.get(group) {
                None | Some(Value::Null) => continue,
                Some(Value::Object(values)) => values,
                Some(_) => {
                    return Err(invalid(
                        &[group],
                        format!("an object of {group} parameters is expected here"),
                    ));
                }
            };
            for (name, value) in values {
                let argument = self.argument(place, name).ok_or_else(|| {
                    let message =
                        format!("'{}' has no {group} parameter of this name{}", self.slug, self.known(place));
                    invalid(&[group, name], message)
                })?;
                flat.insert(argument.to_owned(), value.clone());
            }
        }
        match (arguments.get("body"), self.body.as_ref().map(|body| &body.given)) {
            (None, _) | (Some(Value::Null), None | Some(Given::Fields { .. })) => {}
            (Some(body), Some(Given::Whole(argument))) => {
                flat.insert(argument.clone(), body.clone());
            }
            (Some(Value::Object(fields)), Some(Given::Fields { .. })) => {
                for (name, value) in fields {
                    if self.parameters.iter().any(|parameter| parameter.argument == *name) {
                        let message = "the body has no such field, and there is a parameter of this name";
                        return Err(invalid(&["body", name], message));
                    }
                    flat.insert(name.clone(), value.clone());
                }
            }
            (Some(_), Some(Given::Fields { .. })) => {
                return Err(invalid(&["body"], "an object is expected here"));
            }
            (Some(_), None) => return Err(invalid(&["body"], format!("'{}' has no body", self.slug))),
        }
        Ok(Cow::Owned(flat))
    }

    fn has_argument(&self, name: &str) -> bool {
        self.parameters.iter().any(|parameter| parameter.argument == name)
            || self.body.as_ref().is_some_and(|body| match &body.given {
                Given::Whole(argument) => argument == name,
                Given::Fields { names, .. } => names.contains(name),
            })
    }

    /// Refuses arguments that the operation does not have.
    pub(super) fn check_names(&self, arguments: &Map<String, Value>) -> Result<(), ConnectorsError> {
        let open =
            self.body.as_ref().is_some_and(|body| matches!(body.given, Given::Fields { open: true, .. }));
        match arguments.keys().find(|name| !open && !self.has_argument(name)) {
            None => Ok(()),
            Some(name) => {
                let message = format!("'{}' has no argument of this name", self.slug);
                Err(invalid(&[name], message))
            }
        }
    }

    fn argument(&self, place: Place, name: &str) -> Option<&str> {
        let is_named = |known: &str| match place {
            Place::Header => known.eq_ignore_ascii_case(name),
            _ => known == name,
        };
        let mut parameters = self.parameters.iter().filter(|parameter| parameter.place == place);
        parameters.find(|parameter| is_named(&parameter.name)).map(|parameter| parameter.argument.as_str())
    }

    /// The names in a place, for a message.
    fn known(&self, place: Place) -> String {
        let names = self.parameters.iter().filter(|parameter| parameter.place == place);
        let names: Vec<_> = names.take(20).map(|parameter| parameter.name.as_str()).collect();
        if names.is_empty() { String::new() } else { format!("; it has {}", names.join(", ")) }
    }
}

/// Something is wrong with an argument.
pub(super) fn invalid(steps: &[&str], message: impl Into<String>) -> ConnectorsError {
    let place: String = steps.iter().map(|name| format!("/{}", step(name))).collect();
    ConnectorsError::invalid(&format!("/arguments{place}"), message)
}
