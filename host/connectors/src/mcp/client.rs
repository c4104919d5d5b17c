//! Our side of a session: what a server asks or tells by itself, handed to the call that it belongs to.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use airlock_engine::{
    Json,
    tools::{Conversation, Question},
};
use parking_lot::Mutex;
use rmcp::{
    ClientHandler, ErrorData, RoleClient,
    model::{
        ClientConfig, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationCapability,
        FormElicitationCapability, Implementation, ProgressNotificationParam, RequestId,
        UrlElicitationCapability,
    },
    service::{InboundStreamOrigin, NotificationContext, RequestContext},
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::handshake::LEGACY;
use crate::egress::{Live, address::for_browser};

/// What a server wants in the middle of a call.
pub(super) enum Ask {
    Elicit(Box<ElicitRequestParams>, oneshot::Sender<ElicitResult>),
    Progress(Value),
}

/// Our side of a session: it passes on what belongs to a call under way, and declines the rest.
#[derive(Clone, Default)]
pub(super) struct Client {
    pub(super) calls: Arc<Mutex<HashMap<RequestId, mpsc::UnboundedSender<Ask>>>>,
    /// The server's list of tools has changed.
    tools_changed: Arc<AtomicBool>,
}

/// A server can ask before the task that sent the call has noted its number.
const REGISTRATION: Duration = Duration::from_secs(2);

impl Client {
    /// Whether the server's list has changed since this was asked.
    pub(super) fn have_tools_changed(&self) -> bool {
        self.tools_changed.swap(false, Ordering::Relaxed)
    }

    /// The call that a request of the server belongs to. One that did not come on a call's own stream belongs to the
    /// only call under way; if there are several, nobody can say whose it is.
    async fn call_of(&self, origin: &InboundStreamOrigin) -> Option<mpsc::UnboundedSender<Ask>> {
        let find = |calls: &HashMap<RequestId, mpsc::UnboundedSender<Ask>>| match origin {
            InboundStreamOrigin::OutboundRequest(id) => calls.get(id).cloned(),
            _ => {
                let first = calls.values().next()?;
                calls.values().all(|other| other.same_channel(first)).then(|| first.clone())
            }
        };
        let until = Instant::now() + REGISTRATION;
        loop {
            let found = find(&self.calls.lock());
            if found.is_some() {
                return found;
            }
            if Instant::now() > until {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl ClientHandler for Client {
    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let declined = || Ok(ElicitResult::new(ElicitationAction::Decline));
        let origin = context.extensions.get().unwrap_or(&InboundStreamOrigin::Unassociated);
        let Some(call) = self.call_of(origin).await else { return declined() };
        let (answer, answered) = oneshot::channel();
        if call.send(Ask::Elicit(Box::new(request), answer)).is_err() {
            return declined();
        }
        answered.await.or_else(|_| declined())
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        let token = &progress.progress_token.0;
        let call = self.calls.lock().get(token).cloned();
        if let Some(call) = call {
            let state = json!({
                "progress": progress.progress, "total": progress.total, "message": progress.message,
            });
            // The call may have ended.
            let _ = call.send(Ask::Progress(state));
        }
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.tools_changed.store(true, Ordering::Relaxed);
    }

    fn get_info(&self) -> ClientConfig {
        let mut info = ClientConfig::default();
        info.protocol_version = LEGACY;
        info.client_info = Implementation::new("airlock", env!("CARGO_PKG_VERSION"));
        let elicitation = ElicitationCapability::new()
            .with_form(FormElicitationCapability::default())
            .with_url(UrlElicitationCapability::default());
        info.capabilities.elicitation = Some(elicitation);
        info
    }
}

/// Puts a server's question to the people who follow the execution.
pub(super) async fn elicit(
    connector: &str,
    host: &str,
    live: &Live,
    request: ElicitRequestParams,
    conversation: &dyn Conversation,
) -> ElicitResult {
    let rendered = live.rendered();
    let (message, content, url) = match request {
        ElicitRequestParams::FormElicitationParams { message, requested_schema, .. } => {
            (message, serde_json::to_value(requested_schema).unwrap_or_default(), Value::Null)
        }
        ElicitRequestParams::UrlElicitationParams { message, url, .. } => {
            match for_browser(&url, host) {
                Ok(url) => (message, Value::Null, Value::from(String::from(url))),
                // Nobody is shown it.
                Err(reason) => {
                    tracing::warn!(
                        connector,
                        host,
                        reason,
                        "a server wants an address opened that is none for people: it is told that nobody did"
                    );
                    return ElicitResult::new(ElicitationAction::Decline);
                }
            }
        }
        _ => return ElicitResult::new(ElicitationAction::Decline),
    };
    let mut schema = json!({
        "type": "object", "required": ["action"], "additionalProperties": false,
        "properties": { "action": { "enum": ["accept", "decline", "cancel"] } },
    });
    if content.is_object() {
        schema["properties"]["content"] = content;
    }
    let mut about = json!({
        "connector_name": connector, "asked_by": "server", "message": message,
    });
    if !url.is_null() {
        about["url"] = url;
    }
    rendered.scrubber.value(&mut schema);
    rendered.scrubber.value(&mut about);
    let label = format!("{}: {}", connector, rendered.scrubber.text(&message));
    let question =
        Question { label, input_schema: Json::from(schema), about: Json::from(about), expires_after: None };
    let Ok(answer) = conversation.ask(question).await else {
        return ElicitResult::new(ElicitationAction::Decline);
    };
    let mut answer = answer.value();
    let mut result = ElicitResult::new(match answer["action"].as_str() {
        Some("accept") => ElicitationAction::Accept,
        Some("cancel") => ElicitationAction::Cancel,
        _ => ElicitationAction::Decline,
    });
    if result.action == ElicitationAction::Accept {
        result.content = Some(answer["content"].take()).filter(|content| !content.is_null());
    }
    result
}
