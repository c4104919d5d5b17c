//! Where a document says that its API is.

use serde_json::{Map, Value};
use url::Url;

use super::{super::Moved, Importer, check_version, document, reference, what};
use crate::{ConnectorsError, error::wording::short};

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

    /// Where an operation stands, if not where the others do. One of another origin is refused: a connector has one, and its
    /// credentials go nowhere else.
    pub(super) fn own_server(
        &mut self,
        source: &Map<String, Value>,
        item: &Map<String, Value>,
    ) -> Result<Option<Moved>, String> {
        let own = [source, item].into_iter().find_map(|of| match of.get("servers") {
            None | Some(Value::Null) => None,
            Some(Value::Array(listed)) if listed.is_empty() => None,
            Some(servers) => Some(servers),
        });
        let listed = match own {
            None => return Ok(None),
            Some(Value::Array(listed)) => listed,
            Some(other) => return Err(format!("its servers are no list but {}", what(other))),
        };
        let own: Vec<String> = listed.iter().filter_map(address).collect();
        let homes = self.homes();
        // The origin at which the API is, and, when it was given another address than the document's, the document's.
        for (home, from) in &homes {
            if let Some(moved) = own.iter().find_map(|server| moved(home, from, server)) {
                return Ok(Some(moved).filter(|moved| moved.from != moved.to));
            }
        }
        let at = own.first().map(|server| format!(" ({})", short(reference::address(server).as_str(), 100)));
        Err(format!(
            "it has a server of its own{}: register that as a connector of its own",
            at.unwrap_or_default()
        ))
    }

    /// The addresses that the operations without servers of their own have, each with its path.
    fn homes(&self) -> Vec<(Url, String)> {
        let named: Vec<Url> = self.servers.iter().filter_map(|server| Url::parse(server).ok()).collect();
        // Nobody has this origin.
        let nowhere = Url::parse("https://relative.invalid/").ok();
        let relative = |server: &String| {
            Url::parse(server).is_err().then(|| nowhere.as_ref()?.join(server).ok()).flatten()
        };
        let of_document = || named.first().cloned().or_else(|| self.servers.iter().find_map(relative));
        let homes = match &self.at {
            // The address is one that the document names, so that others of it are others.
            Some(at) if named.iter().any(|server| server.origin() == at.origin()) => vec![at.clone()],
            Some(at) => [Some(at.clone()), of_document()].into_iter().flatten().collect(),
            None => of_document().or(nowhere.clone()).into_iter().collect(),
        };
        homes.into_iter().map(|home| (home.clone(), path(&home))).collect()
    }
}

/// A server of the same origin as a home.
fn moved(home: &Url, from: &str, server: &str) -> Option<Moved> {
    let mut root = home.clone();
    root.set_path("/");
    root.set_query(None);
    let own = root.join(server).ok()?;
    let is_plain = own.query().is_none() && own.fragment().is_none() && own.username().is_empty();
    let is_here = own.origin() == home.origin() && own.password().is_none() && is_plain;
    is_here.then(|| Moved { from: from.to_owned(), to: path(&own) })
}

fn path(url: &Url) -> String {
    url.path().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests;
