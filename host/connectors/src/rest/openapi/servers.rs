//! Where a document says that its API is.

use serde_json::{Map, Value};
use url::Url;

use super::{Importer, check_version, document, what};
use crate::ConnectorsError;

/// Base addresses. Variables have their defaults and no other values: nobody who calls chooses a host (THREATS row 4).
pub(super) fn servers(of: &Value) -> Vec<String> {
    let Some(servers) = of.get("servers").and_then(Value::as_array).filter(|servers| !servers.is_empty())
    else {
        return vec!["/".into()];
    };
    servers.iter().filter_map(address).collect()
}

fn address(server: &Value) -> Option<String> {
    let mut url = server.get("url")?.as_str()?.to_owned();
    for (name, variable) in server.get("variables").and_then(Value::as_object).into_iter().flatten() {
        let first = || variable.get("enum")?.as_array()?.first();
        let default = match variable.get("default").or_else(first) {
            Some(Value::String(text)) => text.clone(),
            // In YAML, a port is a number.
            Some(number @ Value::Number(_)) => number.to_string(),
            _ => continue,
        };
        url = url.replace(&format!("{{{name}}}"), &default);
    }
    (!url.contains(['{', '}'])).then_some(url)
}

/// The first base address that a document names, in full. `at` is the document's own address, if it has one.
pub(crate) fn server_of(document: &[u8], at: Option<&Url>) -> Result<Option<String>, ConnectorsError> {
    let (root, _) = document::read(document)?;
    check_version(&root)?;
    let whole = |server: &String| match at {
        Some(at) => at.join(server).ok().map(String::from),
        None => Url::parse(server).is_ok().then(|| server.clone()),
    };
    Ok(servers(&root).iter().find_map(whole))
}

impl Importer<'_> {
    /// Says which of the document's servers cannot be read.
    pub(super) fn check_servers(&mut self) {
        match self.root.get("servers") {
            None | Some(Value::Null) => {}
            Some(Value::Array(listed)) => {
                let unread = listed.iter().filter(|server| address(server).is_none()).count();
                if unread > 0 {
                    self.note(format!("{unread} of its servers have no address that is known beforehand"));
                }
            }
            Some(other) => {
                self.note(format!("its servers are no list but {}, and are passed over", what(other)))
            }
        }
    }

    /// Refuses an operation that is somewhere else.
    pub(super) fn check_own_servers(
        &self,
        source: &Map<String, Value>,
        item: &Map<String, Value>,
    ) -> Result<(), String> {
        let own = [source, item].into_iter().find_map(|of| match of.get("servers") {
            None | Some(Value::Null) => None,
            Some(Value::Array(listed)) if listed.is_empty() => None,
            Some(servers) => Some((of, servers)),
        });
        match own {
            None => Ok(()),
            Some((_, other)) if !other.is_array() => {
                Err(format!("its servers are no list but {}", what(other)))
            }
            Some((_, Value::Array(listed)))
                if listed.iter().filter_map(address).any(|server| self.servers.contains(&server)) =>
            {
                Ok(())
            }
            Some(_) => Err("it has a server of its own: register that as a connector of its own".into()),
        }
    }
}
