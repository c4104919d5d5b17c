//! The host of a plugin's own tests: tools are closures, and nothing waits.

use std::{cell::RefCell, rc::Rc};

use serde_json::Value;

use crate::{Error, Result, TaskEvent, log::Level, tools::ToolRequest};

/// What answers an activity in a test.
pub(crate) trait StandIn {
    fn call_tool(&self, call: ToolRequest) -> Result<Value>;
    fn list_tools(&self, slot: &str) -> Result<Value>;
    fn await_auth(&self, slot: &str) -> Result<Value>;
    fn emit(&self, event: TaskEvent);
    fn heartbeat(&self, details: Option<String>);
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<dyn StandIn>>> = const { RefCell::new(None) };
}

/// Puts a stand-in in place until the guard is dropped.
pub(crate) fn install(host: Rc<dyn StandIn>) -> Installed {
    Installed(CURRENT.replace(Some(host)))
}

pub(crate) struct Installed(Option<Rc<dyn StandIn>>);

impl Drop for Installed {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

fn current() -> Result<Rc<dyn StandIn>> {
    CURRENT.with_borrow(Clone::clone).ok_or_else(|| {
        Error::new(Error::DEFAULT_KIND, "there is no host here: run the workflow with airlock::testing::Test")
            .non_retryable()
    })
}

pub(crate) async fn call_tool(call: ToolRequest) -> Result<String> {
    Ok(current()?.call_tool(call)?.to_string())
}

pub(crate) async fn list_tools(slot: &str) -> Result<String> {
    Ok(current()?.list_tools(slot)?.to_string())
}

pub(crate) async fn await_auth(slot: &str) -> Result<String> {
    Ok(current()?.await_auth(slot)?.to_string())
}

pub(crate) fn heartbeat(details: Option<String>) {
    if let Ok(host) = current() {
        host.heartbeat(details);
    }
}

pub(crate) fn is_cancelled() -> bool {
    false
}

pub(crate) fn cancelled() -> std::future::Pending<()> {
    std::future::pending()
}

pub(crate) fn emit(event: TaskEvent) -> Result<()> {
    current()?.emit(event);
    Ok(())
}

pub(crate) fn log(level: Level, message: &str) {
    // Where a test shows it.
    eprintln!("[{level:?}] {message}");
}
