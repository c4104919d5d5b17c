//! What the API and the command line do with connectors: [`Connectors`], made of the rooms. Answers have the shapes of the
//! contract (§3, §11.1).

pub(crate) mod admin;
mod connectors;
mod consent;
mod credentials;
mod rules;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use airlock_engine::{
    Failure, Json, Principal, Slot,
    records::Records,
    tools::{
        AuthMoment, Authorization as Authorized, BindRequest, Binding, CallOptions, CallOrigin, Silence,
        ToolCall, Tools,
    },
};
use async_recursion::async_recursion as boxed;
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use url::Url;

use crate::{
    ConnectorsError, Keyring,
    audit::{AuditLog, Event, Kind},
    authorization::{Authorization, OAuthConfig},
    call::{CallRequest, Calls, slots::SlotState},
    channel::Lines,
    control::pins::Pins,
    credentials::Credentials,
    egress::{Egress, address::Allowed},
    mock::Mocks,
    registry::{Connector, Registry, With},
    vault::Vault,
};

/// What the operator says about connectors.
#[derive(Debug, Clone)]
pub struct ConnectorsConfig {
    /// Connectors may have servers on this machine.
    pub allow_loopback: bool,
    /// Connectors may have servers in private networks.
    pub allow_private_networks: bool,
    /// The folder of the audit log.
    pub audit: PathBuf,
    /// How long entries of the audit log are kept; absent: for ever.
    pub audit_retention: Option<Duration>,
    /// Authorisation through a browser.
    pub oauth: OAuthConfig,
}

impl ConnectorsConfig {
    /// Nothing inside is allowed, the audit log is in the data folder, and browsers come to `public_url`.
    pub fn new(data: &Path, public_url: &Url) -> Self {
        let page = |path: &str| {
            let mut url = public_url.clone();
            url.set_path(path);
            url
        };
        let document = page("/v1/airlock/oauth/client.json");
        Self {
            allow_loopback: false,
            allow_private_networks: false,
            audit: data.join("audit"),
            audit_retention: None,
            oauth: OAuthConfig {
                redirect_uri: page("/v1/airlock/oauth/callback"),
                client_document_url: Some(document).filter(|url| url.scheme() == "https"),
                return_origins: Vec::new(),
            },
        }
    }
}

/// All connectors with their credentials. Cheap to clone.
#[derive(Clone)]
pub struct Connectors(Arc<Rooms>);

struct Rooms {
    records: Arc<dyn Records>,
    vault: Vault,
    egress: Egress,
    registry: Arc<Registry>,
    credentials: Arc<Credentials>,
    lines: Arc<Lines>,
    authorization: Arc<Authorization>,
    calls: Calls,
    pins: Arc<Pins>,
    mocks: Arc<Mocks>,
    audit: Arc<AuditLog>,
}

impl Rooms {
    fn with(&self) -> With<'_> {
        With { records: &*self.records, vault: &self.vault, egress: &self.egress }
    }
}

impl Connectors {
    /// Reads what is stored. Nothing is called yet.
    pub fn open(
        records: Arc<dyn Records>,
        keyring: Arc<Keyring>,
        config: ConnectorsConfig,
    ) -> Result<Self, ConnectorsError> {
        let allowed =
            Allowed { loopback: config.allow_loopback, private_networks: config.allow_private_networks };
        let audit =
            Arc::new(AuditLog::open(&config.audit, &keyring.audit())?.keeping(config.audit_retention));
        audit.compare(&*records)?;
        let (egress, vault) = (Egress::new(allowed)?, Vault::new(keyring));
        let registry = Arc::new(Registry::open(&*records)?);
        let credentials = Arc::new(Credentials::open(&*records)?);
        let (pins, mocks) = (Arc::new(Pins::open(&*records)?), Arc::new(Mocks::open(&*records)?));
        let lines = Arc::new(Lines::new(
            Arc::clone(&records),
            vault.clone(),
            Arc::clone(&registry),
            egress.clone(),
            &config.oauth.redirect_uri,
        ));
        let authorization = Arc::new(Authorization::open(
            Arc::clone(&records),
            vault.clone(),
            Arc::clone(&registry),
            Arc::clone(&credentials),
            Arc::clone(&audit),
            Arc::clone(&lines),
            egress.clone(),
            config.oauth,
        )?);
        let calls = Calls::new(
            Arc::clone(&records),
            Arc::clone(&registry),
            Arc::clone(&credentials),
            Arc::clone(&authorization),
            Arc::clone(&lines),
            Arc::clone(&audit),
            Arc::clone(&mocks),
            Arc::clone(&pins),
        );
        Ok(Self(Arc::new(Rooms {
            records,
            vault,
            egress,
            registry,
            credentials,
            lines,
            authorization,
            calls,
            pins,
            mocks,
            audit,
        })))
    }

    /// The tools of a connector: `MCPTool`s, or with `pretty` only what people read. Those that the operator does not
    /// allow, and those whose definition has changed, are left out. With `all`, an owner sees them too, with the reason.
    #[boxed]
    pub async fn list_tools(
        &self,
        who: &Principal,
        connector: &str,
        credentials_name: Option<&str>,
        refresh: bool,
        pretty: bool,
        all: bool,
    ) -> Result<Value, ConnectorsError> {
        let connector = self.0.registry.find(who, connector)?;
        let tools = self.0.calls.tools_of(&connector, who, credentials_name, refresh, false, all).await?;
        if !pretty {
            return Ok(tools.into());
        }
        let keys = ["name", "description", "annotations", "inputSchema", "airlock"];
        let trimmed = tools.iter().map(|tool| {
            let fields = keys.iter().filter(|key| !tool[**key].is_null());
            fields.map(|key| ((*key).to_owned(), tool[*key].clone())).collect::<Map<_, _>>().into()
        });
        Ok(trimmed.collect::<Vec<Value>>().into())
    }

    /// Calls a tool; the answer is a `ConnectorToolCallResponse`. A tool that fails says so in the answer. Nobody can be
    /// asked here: a tool that needs a person's consent is refused.
    #[boxed]
    pub async fn call_tool(
        &self,
        who: &Principal,
        connector: &str,
        tool: &str,
        arguments: Value,
        options: &CallOptions,
    ) -> Result<Value, ConnectorsError> {
        if !arguments.is_object() {
            return Err(ConnectorsError::invalid("/arguments", "the arguments of a tool are a JSON object"));
        }
        self.0
            .calls
            .perform(CallRequest {
                who,
                connector: self.0.registry.find(who, connector)?,
                tool,
                arguments,
                credentials_name: None,
                options,
                mock: false,
                origin: None,
                conversation: &Silence,
                may_authorize: false,
            })
            .await
    }

    /// The slot of a workflow that this caller starts. `on_behalf_of`: it acts for the caller; otherwise for nobody, and
    /// finds only what the workspace or the organisation has. Nobody is asked.
    pub fn slot(&self, caller: &Principal, on_behalf_of: bool, slot: &Slot) -> SlotState {
        self.0.calls.slot(caller, on_behalf_of, slot)
    }

    /// The same, with a question to the server, if there is a harmless one, for so long at most.
    #[boxed]
    pub async fn slot_asked(
        &self,
        caller: &Principal,
        on_behalf_of: bool,
        slot: &Slot,
        limit: Duration,
    ) -> SlotState {
        self.0.calls.slot_asked(caller, on_behalf_of, slot, limit).await
    }

    /// Writes down what somebody did with a connector.
    fn note(&self, who: &Principal, kind: Kind, connector: &Connector) -> Result<(), ConnectorsError> {
        self.0.audit.note(Event {
            connector_id: Some(connector.id.clone()),
            connector: Some(connector.name.clone()),
            // Ways round what is strictly right are written down with every change.
            note: connector.switched(),
            ..Event::by(kind, who)
        })
    }
}

/// What executions do with connectors.
#[async_trait]
impl Tools for Connectors {
    async fn bind(&self, request: BindRequest<'_>) -> Result<Vec<Binding>, Failure> {
        self.0.calls.bind(request).await
    }

    async fn authorize(
        &self,
        principal: &Principal,
        binding: &Binding,
        moment: AuthMoment,
    ) -> Result<Authorized, Failure> {
        self.0.calls.authorize(principal, binding, moment).await
    }

    async fn call_tool(&self, call: ToolCall<'_>) -> Result<Json, Failure> {
        self.0.calls.call_tool(call).await
    }

    async fn list_tools(&self, origin: &CallOrigin, binding: &Binding) -> Result<Json, Failure> {
        self.0.calls.list_tools(origin, binding).await
    }
}

fn message(text: String) -> Value {
    json!({ "message": text })
}
