//! The operations of REST connectors: imported from an OpenAPI document or written by hand, stored one by one, and kept
//! in memory while they are used. A connector that is made from a template gets copies of the template's: what becomes of
//! the template afterwards changes no request of somebody else.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use airlock_engine::records::{Change, Records};
use chrono::Utc;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use super::{
    ApiSource, Connector, Protocol, Registry, With, check_server, headers,
    method::{Grant, HeaderSpec, Method, OAuth},
};
use crate::{
    ConnectorsError,
    egress::{
        Egress, Unanswered, Unfetched,
        address::Allowed,
        headers::check_header,
        secret::{KeyPlace, KeySpec},
    },
    oauth::Server,
    rest::{self, Catalogue, KeyIn, Note, OAuthFlow, Operation, Skipped, WayKind},
};

const TABLE: &str = "operations";

/// How long the files of a document may take together.
const FILES_LIMIT: Duration = Duration::from_secs(120);

/// The largest OpenAPI document, with all of its files.
pub const MAX_DOCUMENT: usize = 64 << 20;

/// The first server that an OpenAPI document names in full, for who registers it without saying where the API is.
///
/// # Errors
/// If the document cannot be read.
pub fn document_server(document: &[u8]) -> Result<Option<String>, ConnectorsError> {
    rest::server_of(document, None)
}

/// What an import has to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Operations that were left out, and why.
    pub(crate) skipped: Vec<Skipped>,
    /// Parts that were left out or guessed.
    pub(crate) notes: Vec<Note>,
}

impl Told {
    /// As much of it as is kept with the connector.
    fn kept(&self) -> Self {
        const MOST: usize = 500;
        let (skipped, notes) = (self.skipped.iter().take(MOST), self.notes.iter().take(MOST));
        Self { skipped: skipped.cloned().collect(), notes: notes.cloned().collect() }
    }

    /// Puts it into an answer.
    pub(crate) fn tell(&self, answer: &mut Value) {
        (answer["skipped"], answer["notes"]) = (json!(self.skipped), json!(self.notes));
    }
}

/// APIs in memory, by the connector that owns them.
#[derive(Default)]
pub(crate) struct Apis(Mutex<HashMap<String, Arc<Catalogue>>>);

impl Registry {
    /// The operations of a REST connector.
    pub(crate) fn api(
        &self,
        records: &dyn Records,
        connector: &Connector,
    ) -> Result<Arc<Catalogue>, ConnectorsError> {
        let owner = connector.api.as_ref().map_or(&connector.id, |api| &api.owner);
        if let Some(api) = self.apis.0.lock().get(owner) {
            return Ok(Arc::clone(api));
        }
        let mut operations = Vec::new();
        for (_, stored) in records.scan(TABLE, &format!("{owner}/"), None, usize::MAX)? {
            operations.push(serde_json::from_slice(&stored)?);
        }
        let api = Arc::new(Catalogue::new(operations));
        self.apis.0.lock().insert(owner.clone(), Arc::clone(&api));
        Ok(api)
    }

    /// Whether an operation can show that a credential is taken: the rule `check` names one that reads something and needs
    /// no arguments.
    pub(crate) fn check_rule(
        &self,
        records: &dyn Records,
        connector: &Connector,
        operation: &str,
    ) -> Result<(), ConnectorsError> {
        let refuse = |message: String| Err(ConnectorsError::invalid("/check", message));
        if connector.protocol != Protocol::Http {
            return refuse("MCP servers are asked for their tools: 'check' is for REST APIs".into());
        }
        let api = self.api(records, connector)?;
        let Ok(found) = api.operation(&connector.name, operation) else {
            return refuse(format!("connector '{}' has no operation '{operation}'", connector.name));
        };
        if !found.verb.is_safe() {
            return refuse(format!("'{operation}' may change something: name one with method GET"));
        }
        match api.check(&connector.name, operation, &Map::new()) {
            Ok(()) => Ok(()),
            Err(_) => refuse(format!("'{operation}' needs arguments: name one that needs none")),
        }
    }

    /// Replaces the operations of a REST connector by those of a document, JSON or YAML.
    pub(crate) async fn import(
        &self,
        with: With<'_>,
        found: &Connector,
        document: &[u8],
        source: Option<&str>,
    ) -> Result<(Arc<Connector>, Told), ConnectorsError> {
        let mut new = found.clone();
        let is_template = new.api.as_ref().map(|api| api.is_template);
        let (changes, told) = imported(with, &mut new, document, source, is_template).await?;
        let changed = self.change(with.records, &found.id, |changed| {
            (changed.api, changed.methods) = (new.api, new.methods);
            changed.modified_at = Utc::now();
            changed.version += 1;
            // Secret headers are sealed for a version.
            let headers = headers::open(with.records, with.vault, found)?;
            let mut changes = changes;
            changes.extend(headers::seal(with.vault, changed, headers)?);
            Ok(changes)
        })?;
        self.apis.0.lock().remove(&changed.id);
        Ok((changed, told))
    }

    /// The changes that remove the operations of a connector, unless they are its template's.
    pub(crate) fn forget_api(
        &self,
        records: &dyn Records,
        connector: &Connector,
    ) -> Result<Vec<Change>, ConnectorsError> {
        self.apis.0.lock().remove(&connector.id);
        let stored = records.scan(TABLE, &format!("{}/", connector.id), None, usize::MAX)?;
        Ok(stored.into_iter().map(|(key, _)| Change::Delete { table: TABLE, key }).collect())
    }
}

/// Reads a document for a connector, and gives the changes that store its operations, and those that it left out.
pub(super) async fn imported(
    with: With<'_>,
    connector: &mut Connector,
    document: &[u8],
    source: Option<&str>,
    is_template: Option<bool>,
) -> Result<(Vec<Change>, Told), ConnectorsError> {
    must_speak_http(connector)?;
    let document = document.to_vec();
    let at = Url::parse(&connector.server).ok();
    let read = tokio::task::spawn_blocking(move || rest::import_for(&document, at.as_ref())).await;
    let api = read.map_err(|_| ConnectorsError::invalid("/openapi", "the document cannot be read"))??;
    if !connector.methods_given {
        let before = std::mem::take(&mut connector.methods);
        connector.methods = with_word(methods(&api, with.egress.allowed()), before);
    }
    let changes = with_operations(with.records, connector, &api.operations, source, is_template)?;
    let told = Told { skipped: api.skipped, notes: api.notes };
    if let Some(api) = &mut connector.api {
        api.told = Arc::new(told.kept());
    }
    tracing::info!(
        connector = connector.name,
        operations = api.operations.len(),
        left_out = told.skipped.len(),
        notes = told.notes.len(),
        "a document was read"
    );
    for skipped in &told.skipped {
        tracing::debug!(
            connector = connector.name,
            operation = skipped.operation,
            reason = skipped.reason,
            "an operation was left out"
        );
    }
    Ok((changes, told))
}

/// The same for operations that are written by hand.
pub(super) fn by_hand(
    records: &dyn Records,
    connector: &mut Connector,
    operations: &Value,
    is_template: Option<bool>,
) -> Result<Vec<Change>, ConnectorsError> {
    let operations = rest::by_hand(operations)?;
    if !connector.methods_given {
        let methods = match operations.iter().any(|operation| operation.requires_auth) {
            true => vec![Method::Bearer { headers: Vec::new() }],
            false => vec![Method::None, Method::Bearer { headers: Vec::new() }],
        };
        connector.methods = with_word(methods, std::mem::take(&mut connector.methods));
    }
    with_operations(records, connector, &operations, None, is_template)
}

/// The changes that give a connector copies of a template's operations.
pub(super) fn copied(
    records: &dyn Records,
    template: &Connector,
    connector: &mut Connector,
) -> Result<Vec<Change>, ConnectorsError> {
    let Some(api) = &template.api else { return Ok(Vec::new()) };
    let of_template = format!("{}/", api.owner);
    connector.api = Some(ApiSource { owner: connector.id.clone(), is_template: false, ..api.clone() });
    let stored = records.scan(TABLE, &of_template, None, usize::MAX)?;
    let copy = |(key, value): (String, Vec<u8>)| {
        let slug = key.strip_prefix(&of_template)?;
        Some(Change::Put { table: TABLE, key: format!("{}/{slug}", connector.id), value })
    };
    Ok(stored.into_iter().filter_map(copy).collect())
}

fn with_operations(
    records: &dyn Records,
    connector: &mut Connector,
    operations: &[Operation],
    source: Option<&str>,
    is_template: Option<bool>,
) -> Result<Vec<Change>, ConnectorsError> {
    must_speak_http(connector)?;
    let key = |slug: &str| format!("{}/{slug}", connector.id);
    let mut changes = Vec::with_capacity(operations.len());
    let new: HashSet<String> = operations.iter().map(|operation| key(&operation.slug)).collect();
    for (old, _) in records.scan(TABLE, &key(""), None, usize::MAX)? {
        if !new.contains(&old) {
            changes.push(Change::Delete { table: TABLE, key: old });
        }
    }
    for operation in operations {
        let value = serde_json::to_vec(operation)?;
        changes.push(Change::Put { table: TABLE, key: key(&operation.slug), value });
    }
    connector.api = Some(ApiSource {
        owner: connector.id.clone(),
        source: source.map(str::to_owned),
        operations: operations.len(),
        is_template: is_template.unwrap_or(false),
        told: Arc::default(),
    });
    Ok(changes)
}

/// Gets an OpenAPI document, without any credential, and the files of its origin that it refers to.
pub(super) async fn fetch(egress: &Egress, url: &str) -> Result<Vec<u8>, ConnectorsError> {
    let at = |message: String| ConnectorsError::invalid("/openapi_url", message);
    check_server(url, egress.allowed()).map_err(|error| at(error.to_string()))?;
    let url = Url::parse(url).map_err(|error| at(error.to_string()))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let document = egress
        .fetch(&url, MAX_DOCUMENT)
        .await
        .map_err(|why| at(format!("the document cannot be had from {host}: {}", unfetched(why))))?;
    with_files(egress, url, document).await
}

/// A document with the files that it refers to. One that cannot be read is handed on, for the import to say so.
async fn with_files(egress: &Egress, url: Url, document: Vec<u8>) -> Result<Vec<u8>, ConnectorsError> {
    let until = Instant::now() + FILES_LIMIT;
    let unread = |_| ConnectorsError::invalid("/openapi_url", "the document cannot be read");
    // Reading takes as long as the files are large.
    let begun = move || match rest::Bundle::new(document.clone(), rest::Origin::Address(url)) {
        Ok(bundle) => Ok(bundle),
        Err(_) => Err(document),
    };
    let mut bundle = match tokio::task::spawn_blocking(begun).await.map_err(unread)? {
        Ok(bundle) => bundle,
        Err(document) => return Ok(document),
    };
    while let Some((file, most)) = bundle.wanted() {
        let part = match Url::parse(file) {
            _ if Instant::now() >= until => Err("there was no more time to fetch it".to_owned()),
            Err(_) => Err("it is no address".to_owned()),
            Ok(file) => egress.fetch(&file, most).await.map_err(unfetched),
        };
        let given = move || {
            bundle.give(part);
            bundle
        };
        bundle = tokio::task::spawn_blocking(given).await.map_err(unread)?;
    }
    Ok(tokio::task::spawn_blocking(move || bundle.finish()).await.map_err(unread)??.0)
}

/// Why a document, or a file of it, could not be had.
fn unfetched(why: Unfetched) -> String {
    match why {
        Unfetched::Status(status) => format!("HTTP status {status}"),
        Unfetched::Unanswered(Unanswered::Unreachable(why)) => why.to_string(),
        Unfetched::Unanswered(Unanswered::Forbidden(wall)) => wall.to_string(),
        Unfetched::Unanswered(Unanswered::Late) => "it did not come in time".into(),
        Unfetched::Unanswered(Unanswered::TooLarge) => "it is too large: 64 MiB with all its files".into(),
        Unfetched::Unanswered(Unanswered::Encoded) => {
            "it came in a content encoding that is not known: gzip, deflate and br are".into()
        }
        Unfetched::Unanswered(Unanswered::Broken | Unanswered::Redirected) => {
            "the connection broke: try again".into()
        }
    }
}

fn must_speak_http(connector: &Connector) -> Result<(), ConnectorsError> {
    match connector.protocol {
        Protocol::Http => Ok(()),
        Protocol::Mcp => Err(ConnectorsError::Conflict(format!(
            "connector '{}' speaks MCP: operations belong to connectors with protocol 'http'",
            connector.name
        ))),
    }
}

/// How one authenticates, by an API's document: nothing, if no operation wants anything.
fn methods(api: &rest::Api, allowed: Allowed) -> Vec<Method> {
    if !api.operations.iter().any(|operation| operation.requires_auth) {
        return vec![Method::None, Method::Bearer { headers: Vec::new() }];
    }
    let mut methods: Vec<Method> = api.ways.iter().filter_map(|way| method(&way.kind, allowed)).collect();
    // A token that one has anyway can stand for what the document describes otherwise.
    if methods.iter().all(|method| matches!(method, Method::Oauth2(_))) {
        methods.push(Method::Bearer { headers: Vec::new() });
    }
    methods
}

/// A document's methods with what the operator said of OAuth, which stays when a document is read again. A document that
/// knows of no OAuth is believed of its own methods, and OAuth comes before them.
pub(super) fn with_word(mut of_document: Vec<Method>, before: Vec<Method>) -> Vec<Method> {
    let said = before.into_iter().find_map(|method| match method {
        Method::Oauth2(oauth) if oauth.issuer.is_some() || oauth.resource.is_some() => Some(oauth),
        _ => None,
    });
    let Some(said) = said else { return of_document };
    let own = of_document.iter_mut().find_map(|method| match method {
        Method::Oauth2(own) => Some(own),
        _ => None,
    });
    match own {
        Some(own) => {
            // The document names endpoints and no issuer: where another one is meant, they are looked for.
            if said.issuer.is_some() {
                (own.server, own.server_given) = (said.server, said.server_given);
            }
            (own.issuer, own.resource) = (said.issuer, said.resource);
        }
        None => of_document.insert(0, Method::Oauth2(said)),
    }
    of_document
}

fn method(way: &WayKind, allowed: Allowed) -> Option<Method> {
    match way {
        WayKind::Bearer { headers } => {
            let header = |name: &String| {
                let name = check_header(name, "x").is_ok().then(|| name.clone())?;
                Some(HeaderSpec { name, is_required: true, is_secret: true })
            };
            Some(Method::Bearer { headers: headers.iter().map(header).collect::<Option<_>>()? })
        }
        WayKind::Basic => Some(Method::Basic),
        WayKind::Keys(keys) => {
            let mut keys = keys.iter().map(|key| {
                let place = match key.place {
                    KeyIn::Header => KeyPlace::Header,
                    KeyIn::Query => KeyPlace::Query,
                    KeyIn::Cookie => KeyPlace::Cookie,
                };
                KeySpec { scheme: Some(key.scheme.clone()), place, name: key.name.clone() }
            });
            let first = keys.next()?;
            let more: Vec<KeySpec> = keys.collect();
            let is_good = |key: &KeySpec| key.check().is_ok();
            (is_good(&first) && more.iter().all(is_good)).then_some(Method::ApiKey { first, more })
        }
        WayKind::OAuth2 { flows } => flows.iter().find_map(|flow| oauth(flow, allowed)),
    }
}

fn oauth(flow: &OAuthFlow, allowed: Allowed) -> Option<Method> {
    let grant = match flow.grant.as_str() {
        "authorizationCode" => Grant::AuthorizationCode,
        "clientCredentials" => Grant::ClientCredentials,
        _ => return None,
    };
    let token = Url::parse(flow.token_url.as_deref()?).ok()?;
    let server = Server::provided(
        &json!({
            "issuer": token.origin().ascii_serialization(), "token_endpoint": token,
            "authorization_endpoint": flow.authorization_url,
        }),
        allowed,
    );
    Some(Method::Oauth2(Box::new(OAuth {
        grant,
        server: Some(server.ok()?),
        server_given: true,
        client_id: None,
        scopes: flow.scopes.keys().cloned().collect(),
        challenged: Vec::new(),
        client_auth: None,
        issuer: None,
        resource: None,
        proven: None,
        replacement: None,
    })))
}
