//! A session that lasts: when the server forgets it, another takes its place.
//!
//! A server says in many ways that it does not know a session any more (see [`Failure::lost`]). Each is told at once, the
//! session is given up, and the next call opens another. A call that surely did not reach its tool is made again in that, once.
//! A 401 in a session that worked is such a refusal: only if another session is refused as well is the credential to blame.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rmcp::{
    RoleClient,
    model::{
        ClientRequest, ListToolsRequest, PaginatedRequestParams, ProtocolVersion, RequestId, ServerResult,
    },
    service::{ClientLifecycleMode, PeerRequestOptions, RunningService},
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::Value;

use super::{
    LIST_LIMIT, Opening,
    call::{Call, Patience},
    client::Client,
    failure::{Failure, Lost},
    handshake::LEGACY,
    listing::{Listing, Next},
    told::Told,
    transport::Wire,
};
use crate::protocol::{
    tools::Tools,
    trouble::{Again, Trouble},
};

/// A server may list its tools on so many pages (THREATS row 22).
const MAX_PAGES: usize = 50;

/// How long a list of tools is good for.
const LIST_AGE: Duration = Duration::from_secs(300);

/// So many requests of one session are under way at once; the operator's limits are elsewhere.
const MAX_AT_ONCE: usize = 256;

/// The session for a connector and a credential.
pub(crate) struct Session {
    opening: Opening,
    /// The one that is open. One task opens it; others that want it wait for that.
    open: tokio::sync::Mutex<Option<Arc<Open>>>,
    tools: Mutex<Option<(Instant, Arc<Tools>)>>,
}

/// A session that the server knows, as far as we know.
pub(super) struct Open {
    pub(super) wire: Wire,
    pub(super) service: RunningService<RoleClient, Client>,
    /// It has given a result.
    worked: AtomicBool,
}

/// A request that failed, and whether the session is lost.
pub(super) struct Failed {
    trouble: Trouble,
    lost: Option<Lost>,
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        Self { trouble, lost: None }
    }
}

impl Session {
    pub(super) fn new(opening: Opening) -> Self {
        Self { opening, open: tokio::sync::Mutex::default(), tools: Mutex::default() }
    }

    fn told(&self) -> Told<'_> {
        let Opening { connector, host, credential, sender } = &self.opening;
        Told { connector, host, credential: credential.as_ref(), live: sender.live() }
    }

    /// Makes sure that it is open.
    pub(super) async fn begin(&self) -> Result<(), Trouble> {
        self.opened().await.map(drop)
    }

    async fn opened(&self) -> Result<Arc<Open>, Trouble> {
        let mut open = self.open.lock().await;
        if let Some(open) = open.as_ref().filter(|open| !open.service.is_closed()) {
            return Ok(Arc::clone(open));
        }
        let opened = Arc::new(Open::begin(&self.opening, &self.told()).await?);
        *open = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Gives up a session that is lost. Whether it makes sense to ask again in another.
    async fn gives_up(&self, used: &Arc<Open>, failed: &Failed) -> bool {
        let Some(lost) = failed.lost else { return false };
        let mut open = self.open.lock().await;
        if open.as_ref().is_some_and(|open| Arc::ptr_eq(open, used)) {
            let (connector, host) = (&self.opening.connector, &self.opening.host);
            tracing::info!(connector, host, again = lost.unreached, "a server has forgotten its session");
            *open = None;
        }
        lost.unreached
    }

    /// The tools, scrubbed; from memory unless they are old, have changed or `refresh` is set.
    pub(crate) async fn tools(&self, refresh: bool) -> Result<Arc<Tools>, Trouble> {
        let listing = async {
            let mut may_repeat = true;
            loop {
                let open = self.opened().await?;
                let changed = open.service.service().have_tools_changed();
                if let Some((at, tools)) = &*self.tools.lock()
                    && !refresh
                    && !changed
                    && at.elapsed() < LIST_AGE
                {
                    return Ok(Arc::clone(tools));
                }
                match open.list(&self.told()).await {
                    Ok(tools) => return Ok(Arc::new(tools)),
                    Err(failed) => {
                        self.gives_up(&open, &failed).await;
                        // A list has no effect: it may be asked for twice.
                        if failed.lost.is_none() || !std::mem::take(&mut may_repeat) {
                            return Err(failed.trouble);
                        }
                    }
                }
            }
        };
        let listed = tokio::time::timeout(LIST_LIMIT, listing).await;
        let tools = listed.map_err(|_| self.told().late(LIST_LIMIT))??;
        *self.tools.lock() = Some((Instant::now(), Arc::clone(&tools)));
        Ok(tools)
    }

    /// Calls a tool and gives its answer as `{content, metadata}` (contract: `ConnectorToolCallResponse`), not scrubbed.
    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Value, Trouble> {
        let (mut patience, mut may_repeat) = (Patience::new(call.limit), true);
        loop {
            let open = self.opened().await?;
            match open.call(&self.told(), &call, &mut patience).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => {
                    let again = self.gives_up(&open, &failed).await;
                    if !again || !std::mem::take(&mut may_repeat) {
                        return Err(failed.trouble);
                    }
                }
            }
        }
    }
}

impl Open {
    async fn begin(opening: &Opening, told: &Told<'_>) -> Result<Self, Trouble> {
        let wire = Wire::new(opening.sender.clone());
        let lifecycle = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(LEGACY),
        };
        // The sender knows the address; what rmcp is given is a name for its log lines.
        let name = format!("connector:{}", opening.connector);
        let config = StreamableHttpClientTransportConfig::with_uri(name).max_concurrent_requests(MAX_AT_ONCE);
        let transport = StreamableHttpClientTransport::with_client(wire.clone(), config);
        let serving = async {
            let serving =
                rmcp::service::serve_client_with_lifecycle(Client::default(), transport, lifecycle).await;
            if serving.is_ok() {
                wire.hears().await;
            }
            serving
        };
        match tokio::time::timeout(LIST_LIMIT, serving).await {
            Ok(Ok(service)) => Ok(Self { wire, service, worked: AtomicBool::default() }),
            Ok(Err(error)) => {
                let refused = wire.refused().unwrap_or_else(|| {
                    tracing::debug!(connector = opening.connector, %error, "a session could not be opened");
                    Failure::Unreadable("messages that do not begin a session".into())
                });
                let trouble = told.failed(&refused, "initialize");
                // Nothing has been done yet.
                let again = match trouble.again {
                    Again::IfIdempotent => Again::Always,
                    again => again,
                };
                Err(Trouble { again, ..trouble })
            }
            Err(_) => Err(told.late(LIST_LIMIT)),
        }
    }

    /// What a request was answered with.
    pub(super) fn outcome(&self, told: &Told<'_>, id: &RequestId, question: &str) -> Result<Value, Failed> {
        let Some(outcome) = self.wire.take(id) else { return Err(self.ended(told)) };
        match outcome.result {
            Ok(result) => {
                self.worked.store(true, Ordering::Relaxed);
                Ok(result)
            }
            Err(failure) => {
                let worked = self.worked.load(Ordering::Relaxed);
                let lost = failure.lost(outcome.in_session, worked);
                Err(Failed { trouble: told.failed(&failure, question), lost })
            }
        }
    }

    /// The session ended under a request.
    pub(super) fn ended(&self, told: &Told<'_>) -> Failed {
        let lost = Some(Lost { unreached: false });
        Failed { trouble: told.failed(&Failure::Ended, "the request"), lost }
    }

    async fn list(&self, told: &Told<'_>) -> Result<Tools, Failed> {
        let (mut listing, mut cursor, mut kept) = (Listing::default(), None, HashSet::new());
        let rendered = told.live.rendered();
        for number in 1.. {
            let page = match self.list_page(told, cursor.take()).await {
                // What there is is worth more than what went wrong later.
                Err(Failed { trouble, lost: None }) if number > 1 => {
                    listing.note(format!("page {number}"), &trouble.error.to_string());
                    break;
                }
                Err(failed) => return Err(failed),
                Ok((page, names)) => {
                    kept.extend(names);
                    page
                }
            };
            match listing.page(page, &rendered.scrubber) {
                Next::End => break,
                Next::Page(_) if number >= MAX_PAGES => {
                    listing.note("the rest".into(), &format!("there are more than {MAX_PAGES} pages"));
                    break;
                }
                Next::Page(next) => cursor = Some(next),
            }
        }
        if self.wire.is_newest() {
            listing.without_wrong_headers(&kept);
        }
        let (list, left_out) = listing.end();
        let tools = Tools::without(list, left_out);
        if let Some(first) = tools.left_out.first() {
            tracing::warn!(
                connector = told.connector,
                host = told.host,
                left_out = tools.left_out.len(),
                first = format!("{}: {}", first.what, first.reason),
                "not all that a server lists can be used"
            );
        }
        Ok(tools)
    }

    /// A page of the list, and the names of the tools that rmcp can make requests for.
    async fn list_page(
        &self,
        told: &Told<'_>,
        cursor: Option<String>,
    ) -> Result<(Value, Vec<String>), Failed> {
        let parameters = PaginatedRequestParams::default().with_cursor(cursor);
        let request = ClientRequest::ListToolsRequest(ListToolsRequest::with_param(parameters));
        let peer = self.service.peer();
        let sent = peer.send_request_with_option(request, PeerRequestOptions::no_options()).await;
        let handle = sent.map_err(|_| self.ended(told))?;
        let id = handle.id.clone();
        let kept = match handle.await_response().await {
            Ok(ServerResult::ListToolsResult(kept)) => kept.tools,
            _ => Vec::new(),
        };
        let page = self.outcome(told, &id, "tools/list")?;
        Ok((page, kept.into_iter().map(|tool| tool.name.into_owned()).collect()))
    }
}
