//! A session that a server knows, as far as we know: how it begins, and its list of tools.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rmcp::{
    RoleClient,
    model::{
        CancelledNotificationParam, ClientRequest, ListToolsRequest, PaginatedRequestParams, ProtocolVersion,
        RequestId, ServerResult,
    },
    service::{ClientLifecycleMode, PeerRequestOptions, RunningService},
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    LIST_LIMIT, Opening,
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

/// How long a page behind the first is waited for.
const PAGE_LIMIT: Duration = Duration::from_secs(8);

/// So many requests of one session are under way at once; the operator's limits are elsewhere.
const MAX_AT_ONCE: usize = 256;

/// A session that the server knows.
pub(super) struct Open {
    pub(super) wire: Wire,
    pub(super) service: RunningService<RoleClient, Client>,
    /// It has given a result.
    worked: AtomicBool,
}

/// A request that failed, and whether the session is lost.
pub(super) struct Failed {
    pub(super) trouble: Trouble,
    pub(super) lost: Option<Lost>,
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        Self { trouble, lost: None }
    }
}

/// A request that is under way. One that nobody waits for any more is cancelled at the server.
pub(super) struct Awaited<'a> {
    open: &'a Open,
    id: RequestId,
    is_over: bool,
}

impl Awaited<'_> {
    /// It was answered.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.open.wire.take(&self.id);
        let (peer, id) = (self.open.service.peer().clone(), self.id.clone());
        tokio::spawn(async move {
            let cancelled = CancelledNotificationParam::new(Some(id), Some("given up".into()));
            // The session may be gone as well.
            let _ = peer.notify_cancelled(cancelled).await;
        });
    }
}

impl Open {
    pub(super) async fn begin(opening: &Opening, told: &Told<'_>) -> Result<Self, Trouble> {
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
                let trouble = match &failure {
                    Failure::Mute(what) if lost.is_some() => told.mute(what, question),
                    failure => told.failed(failure, question),
                };
                Err(Failed { trouble, lost })
            }
        }
    }

    /// The session ended under a request.
    pub(super) fn ended(&self, told: &Told<'_>) -> Failed {
        let lost = Some(Lost { unreached: false });
        Failed { trouble: told.failed(&Failure::Ended, "the request"), lost }
    }

    /// Notes that a request is waited for.
    pub(super) fn awaits(&self, id: &RequestId) -> Awaited<'_> {
        Awaited { open: self, id: id.clone(), is_over: false }
    }

    /// The list of tools. If what follows the first page cannot be read until some time, what there is until then and why
    /// there is no more.
    pub(super) async fn list(
        &self,
        told: &Told<'_>,
        until: Instant,
    ) -> Result<(Tools, Option<Failed>), Failed> {
        let (mut listing, mut cursor, mut kept) = (Listing::default(), None, HashSet::new());
        let (rendered, mut end) = (told.live.rendered(), None);
        for number in 1.. {
            let asked = self.list_page(told, cursor.take());
            let page = match number {
                1 => asked.await?,
                _ => {
                    let limit = until.min(Instant::now() + PAGE_LIMIT);
                    let late = || Err(told.late(PAGE_LIMIT).into());
                    match tokio::time::timeout_at(limit, asked).await.unwrap_or_else(|_| late()) {
                        Ok(page) => page,
                        // What there is is worth more than what went wrong later.
                        Err(failed) => {
                            let why = failed.trouble.error.to_string();
                            tracing::warn!(
                                connector = told.connector,
                                host = told.host,
                                page = number,
                                why,
                                "a list of tools ends before its last page"
                            );
                            listing.ends_early(format!("page {number} and what follows"), &why);
                            end = Some(failed);
                            break;
                        }
                    }
                }
            };
            let (page, names) = page;
            kept.extend(names);
            match listing.page(page, &rendered.scrubber) {
                Next::End => break,
                Next::Page(_) if number >= MAX_PAGES => {
                    listing.ends_early("the rest".into(), &format!("there are more than {MAX_PAGES} pages"));
                    break;
                }
                Next::Page(next) => cursor = Some(next),
            }
        }
        if self.wire.is_newest() {
            listing.without_wrong_headers(&kept);
        }
        let (list, left_out) = listing.end();
        let tools = Tools::listed(list, left_out);
        if let Some(first) = tools.left_out.first() {
            tracing::warn!(
                connector = told.connector,
                host = told.host,
                left_out = tools.left_out.len(),
                first = format!("{}: {}", first.what, first.reason),
                "not all that a server lists can be used"
            );
        }
        Ok((tools, end))
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
        let mut awaited = self.awaits(&id);
        let answered = handle.await_response().await;
        awaited.end();
        let kept = match answered {
            Ok(ServerResult::ListToolsResult(kept)) => kept.tools,
            _ => Vec::new(),
        };
        let page = self.outcome(told, &id, "tools/list")?;
        Ok((page, kept.into_iter().map(|tool| tool.name.into_owned()).collect()))
    }
}
