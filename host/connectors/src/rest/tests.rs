//! What the tests of this module share.

use serde_json::{Map, Value};
use url::Url;

use super::{Api, Operation, import};
use crate::egress::Prepared;

pub(super) fn pets() -> Api {
    import(include_bytes!("fixtures/pets-3.0.yaml")).expect("a document")
}

pub(super) fn crm() -> Api {
    import(include_bytes!("fixtures/crm-3.1.json")).expect("a document")
}

pub(super) fn operation<'a>(api: &'a Api, slug: &str) -> &'a Operation {
    api.operations.iter().find(|operation| operation.slug == slug).expect("an operation")
}

pub(super) fn arguments(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => panic!("{other} is no object"),
    }
}

pub(super) fn base() -> Url {
    Url::parse("https://api.example/v1/").expect("an address")
}

pub(super) fn prepare(operation: &Operation, value: Value) -> Prepared {
    operation.request(&base(), &arguments(value)).expect("a request")
}

/// Where and why arguments are refused.
pub(super) fn refused(operation: &Operation, value: Value) -> (String, String) {
    match operation.request(&base(), &arguments(value)) {
        Err(crate::ConnectorsError::Invalid { pointer, message }) => (pointer, message),
        other => panic!("{other:?}"),
    }
}
