//! How a document says that one authenticates (OpenAPI 3.1 §4.8.27).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Note,
    reference::{follow, own_fields},
};
use crate::error::wording::short;

/// A security scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecurityScheme {
    /// Its name in the document.
    pub(super) name: String,
    pub(super) kind: SecurityKind,
}

/// What a security scheme asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SecurityKind {
    Bearer,
    Basic,
    /// A scheme of HTTP whose value is the same for each request: the whole header is what one has.
    Header {
        scheme: String,
    },
    Key {
        place: KeyIn,
        name: String,
    },
    OAuth2 {
        flows: Vec<OAuthFlow>,
    },
    OpenIdConnect,
    /// Client certificates, schemes with challenges: it cannot be used.
    Unsupported {
        what: String,
    },
}

/// Where a key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyIn {
    Header,
    Query,
    Cookie,
}

/// A key that a request carries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Key {
    /// The scheme's name in the document.
    pub(crate) scheme: String,
    pub(crate) place: KeyIn,
    pub(crate) name: String,
}

/// What one credential is made of: a proposal for a connector's method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Way {
    /// The schemes that it fulfils.
    pub(crate) schemes: Vec<String>,
    pub(crate) kind: WayKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WayKind {
    /// A token, or headers, or both.
    Bearer {
        headers: Vec<String>,
    },
    Basic,
    Keys(Vec<Key>),
    OAuth2 {
        flows: Vec<OAuthFlow>,
    },
}

/// A flow of OAuth 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OAuthFlow {
    /// The document's word: `authorizationCode`, `clientCredentials`, `implicit`, `password`.
    pub(crate) grant: String,
    pub(crate) authorization_url: Option<String>,
    pub(crate) token_url: Option<String>,
    pub(crate) refresh_url: Option<String>,
    /// What each scope is for.
    pub(crate) scopes: BTreeMap<String, String>,
}

/// What guests must not see and not set, because the credential goes there.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    /// In lower case.
    headers: BTreeSet<String>,
    queries: BTreeSet<String>,
    cookies: BTreeSet<String>,
}

impl Hidden {
    pub(super) fn by(schemes: &[SecurityScheme]) -> Self {
        let mut hidden = Self::default();
        for scheme in schemes {
            if let SecurityKind::Key { place, name } = &scheme.kind {
                match place {
                    KeyIn::Header => hidden.headers.insert(name.to_ascii_lowercase()),
                    KeyIn::Query => hidden.queries.insert(name.clone()),
                    KeyIn::Cookie => hidden.cookies.insert(name.clone()),
                };
            }
        }
        hidden
    }

    pub(super) fn header(&self, name: &str) -> bool {
        self.headers.contains(&name.to_ascii_lowercase())
    }

    pub(super) fn query(&self, name: &str) -> bool {
        self.queries.contains(name)
    }

    pub(super) fn cookie(&self, name: &str) -> bool {
        self.cookies.contains(name)
    }

    pub(super) fn queries(&self) -> Vec<String> {
        self.queries.iter().cloned().collect()
    }
}

/// The schemes of a document, by name.
pub(super) fn schemes(root: &Value) -> Vec<SecurityScheme> {
    let all = root.pointer("/components/securitySchemes").and_then(Value::as_object);
    let known = all.into_iter().flat_map(own_fields).map(|(name, scheme)| SecurityScheme {
        name: name.clone(),
        kind: match follow(root, scheme) {
            Ok(scheme) => kind(scheme),
            Err(broken) => SecurityKind::Unsupported { what: format!("a scheme that {broken}") },
        },
    });
    let mut known: Vec<_> = known.collect();
    known.sort_by(|a, b| a.name.cmp(&b.name));
    known
}

/// Schemes of HTTP whose value depends on the request or on what the server says first.
const CHALLENGES: [&str; 8] =
    ["digest", "negotiate", "ntlm", "mutual", "scram-sha-1", "scram-sha-256", "hoba", "dpop"];

fn kind(scheme: &Value) -> SecurityKind {
    let text = |name: &str| scheme.get(name).and_then(Value::as_str).unwrap_or_default().trim().to_owned();
    let lower = |name: &str| text(name).to_ascii_lowercase();
    let unsupported = |what: String| SecurityKind::Unsupported { what };
    match (lower("type").as_str(), lower("scheme").as_str(), lower("in").as_str()) {
        ("http", "bearer", _) => SecurityKind::Bearer,
        ("http", "basic", _) | ("basic", ..) => SecurityKind::Basic,
        ("http", "", _) => unsupported("HTTP authentication without the name of its scheme".into()),
        ("http", other, _) if CHALLENGES.contains(&other) => unsupported(format!("HTTP {other}")),
        ("http", ..) => SecurityKind::Header { scheme: text("scheme") },
        ("apikey", _, "header") if lower("name") == "authorization" => SecurityKind::Bearer,
        ("apikey", _, place @ ("header" | "query" | "cookie")) => {
            let place = match place {
                "header" => KeyIn::Header,
                "query" => KeyIn::Query,
                _ => KeyIn::Cookie,
            };
            match check_key(place, &text("name")) {
                Ok(()) => SecurityKind::Key { place, name: text("name") },
                Err(why) => unsupported(why),
            }
        }
        ("apikey", _, "") => unsupported("a key without a place".into()),
        ("apikey", _, place) => unsupported(format!("a key in '{}'", short(place, 40))),
        ("oauth2", ..) => SecurityKind::OAuth2 { flows: flows(&scheme["flows"]) },
        ("openidconnect", ..) => SecurityKind::OpenIdConnect,
        ("mutualtls", ..) => unsupported("a client certificate (mutualTLS)".into()),
        ("", ..) => unsupported("a scheme without a type".into()),
        (other, ..) => unsupported(format!("a scheme of type '{}'", short(other, 40))),
    }
}

/// Whether a key can go where it is to go.
fn check_key(place: KeyIn, name: &str) -> Result<(), String> {
    let is_token = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
    match place {
        _ if name.is_empty() => Err("a key without a name".into()),
        KeyIn::Header if !is_token => Err("a key in a header whose name is none".into()),
        KeyIn::Header if super::request::is_reserved(name) => {
            Err(format!("a key in the header '{name}', which is set by the host alone"))
        }
        KeyIn::Cookie if !is_token => Err("a key in a cookie whose name is none".into()),
        _ => Ok(()),
    }
}

fn flows(flows: &Value) -> Vec<OAuthFlow> {
    let flows = flows.as_object().into_iter().flatten().filter(|(grant, _)| !grant.starts_with("x-"));
    let mut flows: Vec<_> = flows
        .map(|(grant, flow)| {
            let text = |name: &str| flow.get(name).and_then(Value::as_str).map(str::to_owned);
            let scopes = flow.get("scopes").and_then(Value::as_object).into_iter().flatten();
            OAuthFlow {
                grant: grant.clone(),
                authorization_url: text("authorizationUrl"),
                token_url: text("tokenUrl"),
                refresh_url: text("refreshUrl"),
                scopes: scopes
                    .map(|(scope, about)| (scope.clone(), about.as_str().unwrap_or_default().to_owned()))
                    .collect(),
            }
        })
        .collect();
    flows.sort_by(|a, b| a.grant.cmp(&b.grant));
    flows
}

/// What an operation asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// It does not work without a credential.
    pub(super) requires_auth: bool,
    /// Of the first alternative that names some.
    pub(super) scopes: Vec<String>,
    /// The names of schemes that are needed together, one of these sets.
    pub(super) alternatives: Vec<Vec<String>>,
}

/// What an operation asks for: its own list, else the document's. An empty list or an empty alternative means that it
/// works without. `parameters` are schemes that it needs beside, because it has them among its parameters.
pub(super) fn needs(root: &Value, operation: &Value, parameters: &[String]) -> Needs {
    let listed =
        [operation, root].into_iter().find_map(|of| of.get("security").filter(|listed| !listed.is_null()));
    let listed: Vec<&Map<String, Value>> = match listed {
        Some(Value::Array(listed)) => listed.iter().filter_map(Value::as_object).collect(),
        // Some forget the list.
        Some(Value::Object(one)) => vec![one],
        _ => Vec::new(),
    };
    let scopes = listed.iter().map(|schemes| {
        let scopes = schemes.values().filter_map(Value::as_array).flatten();
        scopes.filter_map(|scope| scope.as_str().map(str::to_owned)).collect::<Vec<_>>()
    });
    let mut scopes = scopes.into_iter().find(|scopes| !scopes.is_empty()).unwrap_or_default();
    scopes.sort();
    scopes.dedup();
    let with = |schemes: Vec<String>| {
        let more = parameters.iter().filter(|name| !schemes.contains(name)).cloned().collect::<Vec<_>>();
        [schemes, more].concat()
    };
    let mut alternatives: Vec<_> =
        listed.iter().map(|schemes| with(schemes.keys().cloned().collect())).collect();
    if alternatives.is_empty() {
        alternatives.push(with(Vec::new()));
    }
    let requires_auth = alternatives.iter().all(|schemes| !schemes.is_empty());
    alternatives.retain(|schemes| !schemes.is_empty());
    Needs { requires_auth, scopes, alternatives }
}

/// The credential that fulfils schemes together, what there is to say about it, or why there is none.
pub(super) fn way(schemes: &[SecurityScheme], names: &[String]) -> Result<(Way, Option<String>), String> {
    let (mut token, mut flows, mut basic, mut whole, mut keys) = (false, None, false, None, Vec::new());
    let mut note = None;
    for name in names {
        match schemes.iter().find(|scheme| scheme.name == *name).map(|scheme| &scheme.kind) {
            Some(SecurityKind::Bearer) => token = true,
            Some(SecurityKind::OpenIdConnect) => {
                token = true;
                note = Some(format!(
                    "'{}' is OpenID Connect: store a token that you have as a bearer credential, or register the \
                     connector with oauth2",
                    short(name, 60)
                ));
            }
            Some(SecurityKind::OAuth2 { flows: listed }) => {
                flows.get_or_insert_with(Vec::new).extend(listed.iter().cloned());
            }
            Some(SecurityKind::Basic) => basic = true,
            Some(SecurityKind::Header { scheme }) => {
                whole = Some(scheme.as_str());
                note = Some(format!(
                    "'{}' is HTTP {}: store the whole header Authorization",
                    short(name, 60),
                    short(scheme, 40)
                ));
            }
            Some(SecurityKind::Key { place, name: key }) => {
                keys.push(Key { scheme: name.clone(), place: *place, name: key.clone() });
            }
            Some(SecurityKind::Unsupported { what }) => {
                return Err(format!("it wants {what}, which is not served"));
            }
            None => {
                token = true;
                note = Some(format!(
                    "the security scheme '{}' is not described: it is taken for a bearer token",
                    short(name, 60)
                ));
            }
        }
    }
    if let Some(flows) =
        flows.as_deref().filter(|flows: &&[OAuthFlow]| !token && !flows.iter().any(OAuthFlow::is_usable))
    {
        let grants: Vec<_> = flows.iter().map(|flow| short(&flow.grant, 40)).collect();
        note = Some(format!(
            "OAuth has no flow here that is served, with the address of its tokens (it has: {}): give the connector its \
             server, or store a token that you have as a bearer credential",
            grants.join(", ")
        ));
    }
    let together =
        names.iter().map(|name| format!("'{}'", short(name, 60))).collect::<Vec<_>>().join(" and ");
    if [token || flows.is_some(), basic, whole.is_some()].into_iter().filter(|&one| one).count() > 1 {
        return Err(format!("it wants {together} together, which have one place, the header Authorization"));
    }
    let beside = !keys.is_empty() && (token || flows.is_some() || basic || whole.is_some());
    if beside && keys.iter().any(|key| key.place != KeyIn::Header) {
        return Err(format!(
            "it wants {together} together, and only headers can go beside a token or a password"
        ));
    }
    let headers: Vec<String> = keys.iter().map(|key| key.name.clone()).collect();
    if beside && (flows.is_some() || basic) {
        note = Some(format!(
            "{together} are needed together: give the connector {} as a header of every request (global_headers)",
            headers.join(", ")
        ));
    }
    let kind = match (flows, token) {
        (Some(flows), is_token) if !is_token || flows.iter().any(OAuthFlow::is_usable) => {
            WayKind::OAuth2 { flows }
        }
        _ if basic => WayKind::Basic,
        _ if whole.is_some() => {
            WayKind::Bearer { headers: [vec!["Authorization".to_owned()], headers].concat() }
        }
        (_, true) => WayKind::Bearer { headers },
        _ => WayKind::Keys(keys),
    };
    Ok((Way { schemes: names.to_vec(), kind }, note))
}

/// The ways of a document: those that operations ask for in their order, then those that it describes besides. A connector
/// has one method of a kind: of two where one wants more it is that one, else the first, and the other is noted.
pub(super) fn ways(schemes: &[SecurityScheme], alternatives: &[Vec<String>]) -> (Vec<Way>, Vec<Note>) {
    let (mut ways, mut notes): (Vec<Way>, Vec<Note>) = (Vec::new(), Vec::new());
    let described = schemes.iter().map(|scheme| vec![scheme.name.clone()]);
    let asked = alternatives.len();
    for (number, names) in alternatives.iter().cloned().chain(described).enumerate() {
        let is_asked = number < asked;
        if !is_asked && alternatives.iter().any(|asked| asked.contains(&names[0])) {
            continue;
        }
        let place = format!("security {}", short(&names.join(" + "), 100));
        let (way, note) = match way(schemes, &names) {
            Ok(found) => found,
            Err(reason) => {
                notes.push(Note { place, reason });
                continue;
            }
        };
        let same = ways
            .iter_mut()
            .find(|other| std::mem::discriminant(&other.kind) == std::mem::discriminant(&way.kind));
        match same {
            None => ways.push(way),
            Some(other) if other.covers(&way) => {}
            Some(other) if is_asked && way.covers(other) => *other = way,
            Some(other) => {
                let reason = format!(
                    "the connector takes {} instead, because it has one method of a kind: register another connector for \
                     this one",
                    short(&other.schemes.join(" + "), 100)
                );
                notes.push(Note { place, reason });
                continue;
            }
        }
        notes.extend(note.map(|reason| Note { place, reason }));
    }
    (ways, notes)
}

impl Way {
    /// Whether a credential of this way is one of the other as well.
    fn covers(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (WayKind::Keys(own), WayKind::Keys(others)) => {
                let has =
                    |wanted: &Key| own.iter().any(|key| key.place == wanted.place && key.name == wanted.name);
                others.iter().all(has)
            }
            (WayKind::Bearer { headers: own }, WayKind::Bearer { headers: others }) => {
                others.iter().all(|name| own.iter().any(|own| own.eq_ignore_ascii_case(name)))
            }
            (WayKind::Basic, WayKind::Basic) => true,
            (WayKind::OAuth2 { flows: own }, WayKind::OAuth2 { flows: others }) => {
                // Whichever has one that can be used is as good.
                own == others
                    || own.iter().any(OAuthFlow::is_usable)
                    || !others.iter().any(OAuthFlow::is_usable)
            }
            _ => false,
        }
    }
}

impl OAuthFlow {
    fn is_usable(&self) -> bool {
        let is_whole = |url: &String| url::Url::parse(url).is_ok();
        matches!(self.grant.as_str(), "authorizationCode" | "clientCredentials")
            && self.token_url.as_ref().is_some_and(is_whole)
    }
}

#[cfg(test)]
mod tests;
