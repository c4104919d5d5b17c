//! A session that lasts: when the server forgets it, another takes its place.
//!
//! A server says in many ways that it does not know a session any more (see [`Failure::lost`]). Each is told at once, the
//! session is given up, and the next call opens another. A call that surely did not reach its tool is made again in that, once.
//! A 401 in a session that worked is such a refusal: only if another session is refused as well is the credential to blame.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{
    LIST_LIMIT, Opening,
    open::{Failed, Open},
    patience::Patience,
    told::Told,
};
use crate::protocol::{
    service::{Answered, Call, Service, Verdict},
    tools::Tools,
    trouble::Trouble,
};

/// How long a list of tools is good for, and one of which only a part could be read.
const LIST_AGE: Duration = Duration::from_secs(300);
const PART_AGE: Duration = Duration::from_secs(30);

/// What is left of the time for a list, to say what there is.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The session for a connector and a credential.
pub(crate) struct Session {
    opening: Opening,
    /// The one that is open. One task opens it; others that want it wait for that.
    open: tokio::sync::Mutex<Option<Arc<Open>>>,
    tools: Mutex<Option<Known>>,
}

/// A list of tools that was read.
struct Known {
    at: Instant,
    tools: Arc<Tools>,
    is_whole: bool,
}

impl Known {
    fn is_old(&self) -> bool {
        self.at.elapsed() >= if self.is_whole { LIST_AGE } else { PART_AGE }
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
        let opened = Arc::new(Box::pin(Open::begin(&self.opening, &self.told())).await?);
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

    /// The tools, or as many of them as could be read, and why there are no more.
    async fn listed(&self, refresh: bool, part: &mut Option<Tools>) -> Result<Arc<Tools>, Trouble> {
        let until = tokio::time::Instant::now() + LIST_LIMIT - LAST_WORDS;
        let mut may_repeat = true;
        loop {
            let open = self.opened().await?;
            let changed = open.service.service().have_tools_changed();
            if let Some(known) = &*self.tools.lock()
                && !refresh
                && !changed
                && !known.is_old()
            {
                return Ok(Arc::clone(&known.tools));
            }
            let failed = match open.list(&self.told(), until).await {
                Ok((tools, None)) => return Ok(self.known(tools, true)),
                Ok((tools, Some(failed))) => {
                    *part = Some(tools);
                    failed
                }
                Err(failed) => failed,
            };
            self.gives_up(&open, &failed).await;
            // A list has no effect: it may be asked for twice.
            if failed.lost.is_none() || !std::mem::take(&mut may_repeat) {
                return Err(failed.trouble);
            }
        }
    }

    /// Remembers a list.
    fn known(&self, tools: Tools, is_whole: bool) -> Arc<Tools> {
        let tools = Arc::new(tools);
        let known = Known { at: Instant::now(), tools: Arc::clone(&tools), is_whole };
        *self.tools.lock() = Some(known);
        tools
    }
}

#[async_trait]
impl Service for Session {
    /// The tools, scrubbed. A list whose end cannot be read is as long as it was until then.
    async fn tools(&self, refresh: bool) -> Result<Arc<Tools>, Trouble> {
        let mut part = None;
        let listed = tokio::time::timeout(LIST_LIMIT, self.listed(refresh, &mut part)).await;
        match (listed, part) {
            (Ok(Ok(tools)), _) => Ok(tools),
            (_, Some(part)) => Ok(self.known(part, false)),
            (Ok(Err(trouble)), None) => Err(trouble),
            (Err(_), None) => Err(self.told().late(LIST_LIMIT)),
        }
    }

    async fn call(&self, call: &Call<'_>) -> Result<Answered, Trouble> {
        let (mut patience, mut may_repeat) = (Patience::new(call.limit), true);
        loop {
            let open = self.opened().await?;
            match open.call(&self.told(), call, &mut patience).await {
                Ok(mut value) => {
                    let redactions = self.opening.sender.scrub().scrubber.value(&mut value);
                    return Ok(Answered { value, redactions, credential: Verdict::Taken });
                }
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
