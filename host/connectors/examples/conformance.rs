//! What the client suite of `@modelcontextprotocol/conformance` starts: `conformance URL`, with the scenario's name and
//! values in `MCP_CONFORMANCE_SCENARIO` and `MCP_CONFORMANCE_CONTEXT`.
//!
//! It registers the address as a connector, authorises as often as the connector asks for it, and calls every tool that
//! is listed. All of that is the crate's; what stands here is the person: their browser, and their answers to questions.

use std::{env, sync::Arc, time::Duration};

use airlock_connectors::{Connectors, ConnectorsConfig, Keyring, MasterKey, Returned, Save, Scope};
use airlock_engine::{
    ExecutionId, Failure, Json, OrganizationId, Principal, Slot, UserId, WorkspaceId,
    tools::{
        AuthMoment, Authorization, BindRequest, Binding, CallOptions, CallOrigin, Conversation, Mocks,
        Question, ToolCall, Tools,
    },
};
use airlock_store::SqliteStore;
use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value, json};
use url::Url;

/// The person authorises so many times before they give up.
const PATIENCE: usize = 3;

/// The name of the connector.
const NAME: &str = "conformance";

type Failed = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::DEBUG).init();
    let url = env::args().nth(1).ok_or("give the address of a server")?;
    let scenario = env::var("MCP_CONFORMANCE_SCENARIO").unwrap_or_default();
    let context: Value = match env::var("MCP_CONFORMANCE_CONTEXT") {
        Ok(context) => serde_json::from_str(&context)?,
        Err(_) => Value::Null,
    };
    let folder = tempfile::tempdir()?;
    let wanted = context["toolCalls"].as_array().cloned().unwrap_or_default();
    let person = Person::new(folder.path(), wanted)?;
    let Person { connectors, who, .. } = &person;
    let (methods, credential) = methods(&scenario, &context);
    let mut body = json!({ "name": NAME, "description": "a server of the suite", "server": url });
    if let Some(method) = methods {
        body["auth_methods"] = json!([method]);
    }
    connectors.create(who, true, body).await?;
    if let Some(credential) = credential {
        connectors.save_credentials(who, NAME, Scope::User, credential, Save::Create).await?;
    }
    person.use_all_tools().await
}

/// How one authenticates in a scenario, where the address alone does not say it, and what is stored for it.
fn methods(scenario: &str, context: &Value) -> (Option<Value>, Option<Value>) {
    let client = |fields: Value| {
        let mut oauth = json!({ "grant_type": "client_credentials", "client_id": context["client_id"] });
        oauth
            .as_object_mut()
            .into_iter()
            .for_each(|oauth| oauth.extend(fields.as_object().cloned().unwrap_or_default()));
        Some(json!({ "name": "suite", "credentials": { "oauth": oauth } }))
    };
    let method = |auth: &str| {
        let (kind, grant) = ("oauth2", "client_credentials");
        Some(json!({ "method_type": kind, "grant_type": grant, "token_endpoint_auth_method": auth }))
    };
    match scenario {
        "auth/client-credentials-basic" => {
            let secret = client(json!({ "client_secret": context["client_secret"] }));
            (method("client_secret_basic"), secret)
        }
        "auth/client-credentials-jwt" => {
            let key = client(json!({ "client_private_key": context["private_key_pem"] }));
            (method("private_key_jwt"), key)
        }
        "auth/pre-registration" => {
            let data =
                json!({ "client_id": context["client_id"], "client_secret": context["client_secret"] });
            (Some(json!({ "method_type": "oauth2", "auth_data": data })), None)
        }
        // Nothing is published there, so somebody has to know that it is OAuth.
        "auth/2025-03-26-oauth-endpoint-fallback" => (Some(json!({ "method_type": "oauth2" })), None),
        _ => (None, None),
    }
}

/// Somebody with connectors and a browser.
struct Person {
    connectors: Connectors,
    who: Principal,
    browser: reqwest::Client,
    /// Calls that a scenario asks for: `{"name", "arguments"}`.
    wanted: Vec<Value>,
}

impl Person {
    fn new(folder: &std::path::Path, wanted: Vec<Value>) -> Result<Self, Failed> {
        let keyring = Arc::new(Keyring::open(folder, &MasterKey::from_bytes([7; 32]), None)?);
        let store = SqliteStore::open(folder, &keyring.journal())?;
        let mut config = ConnectorsConfig::new(folder, &Url::parse("http://127.0.0.1:7890")?);
        config.allow_loopback = true;
        // The suite wants to see this address, which leads nowhere.
        config.oauth.client_document_url =
            Some(Url::parse("https://conformance-test.local/client-metadata.json")?);
        let browser =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
        let who = Principal {
            user: UserId::new("person"),
            workspace: WorkspaceId::new("suite"),
            organization: OrganizationId::new("suite"),
        };
        Ok(Self { connectors: Connectors::open(store, keyring, config)?, who, browser, wanted })
    }

    async fn binding(&self) -> Result<Binding, Failure> {
        let slots = [Slot { connector: NAME.into(), auto_auth: true, credentials_name: None }];
        let request = BindRequest {
            principal: &self.who,
            slots: &slots,
            wishes: &[],
            on_behalf_of: true,
            mocks: &Mocks::None,
        };
        let bindings = self.connectors.bind(request).await?;
        bindings.into_iter().next().ok_or_else(|| failure("there is no binding"))
    }

    /// Authorises until the connector is satisfied.
    async fn authorize(&self, binding: &Binding) -> Result<(), Failure> {
        for _ in 0..=PATIENCE {
            let state = match self.connectors.authorize(&self.who, binding, AuthMoment::Preflight).await? {
                Authorization::Ready(_) => return Ok(()),
                Authorization::Needed(needed) => needed.state.value(),
            };
            let link = state["auth_url"].as_str().ok_or_else(|| failure("there is no link"))?;
            self.browse(link).await.map_err(|error| failure(&error.to_string()))?;
        }
        Err(failure("authorising does not help"))
    }

    /// What a browser does with a link.
    async fn browse(&self, link: &str) -> Result<(), Failed> {
        let id = link.rsplit('/').next().ok_or("the link has no id")?;
        let departure =
            self.connectors.depart(id, &HeaderMap::new()).map_err(|problem| format!("{problem:?}"))?;
        let answer = self.browser.get(departure.location.to_str()?).send().await?;
        let location =
            answer.headers().get(header::LOCATION).ok_or("the server did not send the browser back")?;
        let back = Url::parse(location.to_str()?)?;
        let get = |wanted: &str| {
            back.query_pairs().find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
        };
        let returned = Returned {
            code: get("code"),
            state: get("state"),
            iss: get("iss"),
            error: get("error"),
            error_description: get("error_description"),
        };
        let cookie = departure.cookie.to_str()?.split(';').next().unwrap_or_default();
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_str(cookie)?);
        match self.connectors.arrive(returned, &headers).await.problem {
            None => Ok(()),
            Some(problem) => Err(format!("{problem:?}").into()),
        }
    }

    async fn use_all_tools(&self) -> Result<(), Failed> {
        let binding = self.binding().await.map_err(told)?;
        self.authorize(&binding).await.map_err(told)?;
        let origin = CallOrigin {
            principal: self.who.clone(),
            execution: ExecutionId::generate(),
            idempotency_key: "suite/1".into(),
        };
        let listed = match Tools::list_tools(&self.connectors, &origin, &binding).await {
            Ok(listed) => listed,
            // What was granted is refused by now: the person authorises again.
            Err(failure) => {
                eprintln!("the tools cannot be listed: {}", failure.message);
                self.authorize(&binding).await.map_err(told)?;
                Tools::list_tools(&self.connectors, &origin, &binding).await.map_err(told)?
            }
        };
        let listed = listed.value();
        for tool in listed.as_array().into_iter().flatten() {
            let wanted = self.wanted.iter().find(|call| call["name"] == tool["name"]);
            let arguments = wanted.map_or_else(
                || arguments(&tool["inputSchema"], &listed).into(),
                |call| given(&call["arguments"]),
            );
            let arguments = Json::from(arguments);
            let call = ToolCall {
                origin: &origin,
                binding: &binding,
                tool: tool["name"].as_str().unwrap_or_default(),
                arguments: &arguments,
                options: &CallOptions { timeout: Some(Duration::from_secs(20)), ..CallOptions::default() },
                conversation: &Attentive { person: self, binding: &binding },
            };
            match Tools::call_tool(&self.connectors, call).await {
                Ok(answer) => println!("{}", answer.value()),
                // What was made up for a tool need not be what it takes.
                Err(failure) if wanted.is_none() && failure.message.contains("do not match the schema") => {
                    eprintln!("not called: {}", failure.message);
                }
                Err(failure) => return Err(told(failure)),
            }
        }
        Ok(())
    }
}

/// Arguments without those that are null: nothing was given for them.
fn given(arguments: &Value) -> Value {
    let members = arguments.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    members.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>().into()
}

/// A person who is there while a call is under way.
struct Attentive<'a> {
    person: &'a Person,
    binding: &'a Binding,
}

#[async_trait]
impl Conversation for Attentive<'_> {
    async fn authorized(&self) -> Result<(), Failure> {
        self.person.authorize(self.binding).await
    }

    /// Says yes to everything, with what stands in the form already.
    async fn ask(&self, question: Question) -> Result<Json, Failure> {
        let schema = question.input_schema.value();
        let mut content = Map::new();
        for (name, field) in schema["properties"]["content"]["properties"].as_object().into_iter().flatten() {
            if !field["default"].is_null() {
                content.insert(name.clone(), field["default"].clone());
            }
        }
        Ok(json!({ "action": "accept", "content": content }).into())
    }

    fn progress(&self, _: Json) {}
}

/// Arguments that a schema takes. What is asked for as an object is the schema of the first tool, as it was listed.
fn arguments(schema: &Value, listed: &Value) -> Map<String, Value> {
    let mut arguments = Map::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let value = match field["type"].as_str() {
            Some("number" | "integer") => json!(5),
            Some("boolean") => json!(true),
            Some("object") => listed[0]["inputSchema"].clone(),
            _ => json!("text"),
        };
        arguments.insert(name.clone(), value);
    }
    arguments
}

fn told(failure: Failure) -> Failed {
    failure.message.into()
}

fn failure(message: &str) -> Failure {
    Failure::permanent(Failure::CONNECTOR, message)
}
