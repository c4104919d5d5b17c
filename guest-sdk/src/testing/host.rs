//! The host of a test's activities: tools are closures, and nothing waits.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use serde_json::{Value, json};

use super::Tool;
use crate::{
    Error, Result, TaskEvent, host::stand_in::StandIn, tools::ToolRequest, workflow::declared::unresolved,
};

/// Nothing of the stand-in waits, so a future that waits and was not woken waits for ever.
pub(super) fn poll_to_end(body: impl Future<Output = Result<String>>) -> Result<String> {
    let mut body = pin!(body);
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(woken.clone());
    while woken.0.swap(false, Ordering::Relaxed) {
        if let Poll::Ready(outcome) = body.as_mut().poll(&mut Context::from_waker(&waker)) {
            return outcome;
        }
    }
    Err(Error::new(Error::DEFAULT_KIND, "the activity waits for something that no test brings about")
        .non_retryable())
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
pub(super) struct Host {
    pub(super) tools: BTreeMap<(String, String), Tool>,
    pub(super) events: RefCell<Vec<TaskEvent>>,
    pub(super) heartbeat: RefCell<Option<String>>,
    /// The connectors of the workflow at work.
    pub(super) slots: RefCell<Vec<&'static str>>,
}

impl Host {
    fn resolve(&self, slot: &str) -> Result<()> {
        if self.slots.borrow().contains(&slot) { Ok(()) } else { Err(unresolved(slot)) }
    }
}

impl StandIn for Host {
    fn call_tool(&self, call: ToolRequest) -> Result<Value> {
        let ToolRequest { slot, tool, arguments, options } = call;
        self.resolve(slot)?;
        match self.tools.get(&(slot.to_owned(), tool.clone())) {
            Some(answer) => answer(serde_json::from_str(&arguments)?, &options),
            None => Err(Error::new(
                "ConnectorError",
                format!("the test has no tool `{tool}` in slot `{slot}`: add .tool::<Slot>({tool:?}, |arguments| …)"),
            )
            .non_retryable()),
        }
    }

    fn list_tools(&self, slot: &str) -> Result<Value> {
        self.resolve(slot)?;
        let names = self.tools.keys().filter(|(connector, _)| connector == slot);
        Ok(names.map(|(_, name)| json!({"name": name, "inputSchema": {"type": "object"}})).collect())
    }

    fn await_auth(&self, slot: &str) -> Result<Value> {
        self.resolve(slot)?;
        Ok(json!({"connector_name": slot, "connector_id": slot}))
    }

    fn emit(&self, event: TaskEvent) {
        self.events.borrow_mut().push(event);
    }

    fn heartbeat(&self, details: Option<String>) {
        if details.is_some() {
            self.heartbeat.replace(details);
        }
    }
}
