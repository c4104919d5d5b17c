//! What a caller gives for an operation.
//!
//! Arguments are flat: one property for each parameter, by its name, and beside them the fields of the body. A name that
//! stands in several places belongs to the path, then the query, then the header; the others are called `query_NAME`,
//! `header_NAME`. A body that is not a plain object, or one with a field that is called like a parameter, is the argument
//! `body` (`request_body` if there is a parameter of that name). When the body's schema lets fields through that it does
//! not name, every argument that is no parameter is such a field. Where the body may be of several media types, the
//! argument `content_type` chooses one (`request_content_type` if that name is taken).
//!
//! The grouped form is accepted as well: `{"path": {…}, "query": {…}, "header": {…}, "body": …}`, with `content_type`
//! beside them. Arguments are grouped when all of their keys are among these four and at least one of them is no argument of the operation. So
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
        let chooser = self.body.as_ref().and_then(|body| body.chooser.as_deref());
        let is_group = |key: &String| GROUPS.contains(&key.as_str());
        let is_grouped = !arguments.is_empty()
            && arguments.keys().all(|key| is_group(key) || chooser == Some(key))
            && arguments.keys().any(|key| is_group(key) && !self.has_argument(key));
        if !is_grouped {
            return Ok(Cow::Borrowed(arguments));
        }
        let mut flat = Map::new();
        if let Some((name, value)) = chooser.and_then(|chooser| arguments.get_key_value(chooser)) {
            flat.insert(name.clone(), value.clone());
        }
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
                    if chooser == Some(name)
                        || self.parameters.iter().any(|parameter| parameter.argument == *name)
                    {
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
            || self.body.as_ref().is_some_and(|body| {
                body.chooser.as_deref() == Some(name)
                    || match &body.given {
                        Given::Whole(argument) => argument == name,
                        Given::Fields { names, .. } => names.contains(name),
                    }
            })
    }

    /// Refuses arguments that the operation does not have.
    pub(super) fn check_names(&self, arguments: &Map<String, Value>) -> Result<(), ConnectorsError> {
        let open =
            self.body.as_ref().is_some_and(|body| matches!(body.given, Given::Fields { open: true, .. }));
        match arguments.keys().find(|name| !open && !self.has_argument(name)) {
            None => Ok(()),
            Some(name) => {
                let message = format!(
                    "'{}' has no argument of this name in the API's document{}. airlock checked this by itself and sent \
                     nothing",
                    self.slug,
                    listed(self.names())
                );
                Err(invalid(&[name], message))
            }
        }
    }

    /// The names of all arguments.
    fn names(&self) -> Vec<&str> {
        let fields = self.body.iter().flat_map(|body| match &body.given {
            Given::Whole(argument) => vec![argument.as_str()],
            Given::Fields { names, .. } => names.iter().map(String::as_str).collect(),
        });
        self.parameters.iter().map(|parameter| parameter.argument.as_str()).chain(fields).collect()
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
        listed(names.map(|parameter| parameter.name.as_str()).collect())
    }
}

fn listed(names: Vec<&str>) -> String {
    match names.len() {
        0 => String::new(),
        1..=20 => format!("; it has {}", names.join(", ")),
        more => format!("; it has {} and {} more", names[..20].join(", "), more - 20),
    }
}

/// Something is wrong with an argument.
pub(super) fn invalid(steps: &[&str], message: impl Into<String>) -> ConnectorsError {
    let place: String = steps.iter().map(|name| format!("/{}", step(name))).collect();
    ConnectorsError::invalid(&format!("/arguments{place}"), message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::rest::tests::{crm, operation, pets, prepare, refused};

    #[test]
    fn both_forms_of_arguments_give_the_same_request() {
        let api = crm();
        let patch = operation(&api, "patch-contacts-contact-id");
        let flat =
            prepare(patch, json!({ "contact-id": "a b", "If-Match": "v1", "name": "Ada", "nick": "A" }));
        let grouped = prepare(
            patch,
            json!({
                "path": { "contact-id": "a b" }, "header": { "if-match": "v1" }, "query": null,
                "body": { "name": "Ada", "nick": "A" },
            }),
        );
        assert_eq!(flat.url.as_str(), "https://api.example/v1/contacts/a%20b");
        assert_eq!(flat.headers.len(), 2);
        assert_eq!((flat.url, flat.headers, flat.body), (grouped.url, grouped.headers, grouped.body));
    }

    #[test]
    fn arguments_are_flat_when_the_operation_has_all_their_names() {
        let api = crm();
        let put = operation(&api, "put-file");
        // `path` is a parameter, and the body has a field called `body`: so the whole body is an argument.
        let flat = prepare(put, json!({ "path": "a.txt", "body": { "message": "m", "body": "b" } }));
        let flat_again = prepare(put, json!({ "path": "a.txt", "message": "m", "body": "b" }));
        assert_eq!(flat.url.as_str(), "https://api.example/v1/files/a.txt");
        assert!(flat.body != flat_again.body);
        let search = prepare(operation(&api, "search"), json!({ "body": "text" }));
        assert_eq!(search.body.expect("a body").1, b"\"text\"");
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused_where_they_stand() {
        let (pets, crm) = (pets(), crm());
        for (api, slug, arguments, pointer, reason) in [
            (&pets, "list-pets", json!({ "limt": 1 }), "/arguments/limt", "no argument of this name"),
            (&pets, "list-pets", json!({ "a/b": 1 }), "/arguments/a~1b", "no argument of this name"),
            (
                &pets,
                "list-pets",
                json!({ "query": { "limt": 1 } }),
                "/arguments/query/limt",
                "it has filter, ids",
            ),
            (&pets, "list-pets", json!({ "query": 7 }), "/arguments/query", "an object of query parameters"),
            (&pets, "list-pets", json!({ "body": {} }), "/arguments/body", "has no body"),
            (&pets, "get-pet-by-id", json!({}), "/arguments/id", "the path parameter 'id' is required"),
            (&pets, "get-pet-by-id", json!({ "id": null }), "/arguments/id", "is required"),
            (&pets, "list-pets", json!({ "header": { "x": 1 } }), "/arguments/header/x", "it has X-Trace"),
            (&pets, "create-order", json!({ "body": [] }), "/arguments/body", "an object is expected"),
            (&pets, "create-order", json!({ "other": 1 }), "/arguments/other", "no argument of this name"),
            (&pets, "replace-pet", json!({ "id": 1 }), "/arguments/body", "needs a body"),
            (
                &crm,
                "patch-contacts-contact-id",
                json!({ "path": { "contact-id": 1 }, "body": { "contact-id": 1 } }),
                "/arguments/body/contact-id",
                "a parameter of this name",
            ),
        ] {
            let (at, message) = refused(operation(api, slug), arguments.clone());
            assert!(at == pointer && message.contains(reason), "{slug} {arguments}: {at}: {message}");
        }
    }
}
