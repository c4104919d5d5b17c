//! The component's imports as futures, and the executor that waits for several of them at once.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use crate::{
    Error, Result, TaskEvent,
    component::{
        bindings::{
            airlock::plugin::{activity_context, auth, events, log as logging, tools},
            wasi::io::poll::{self, Pollable},
        },
        convert,
    },
    log::Level,
    tools::ToolRequest,
};

pub(crate) fn call_tool(call: ToolRequest) -> Answer {
    let ToolRequest { slot, tool, arguments, options } = call;
    let pending = tools::call_tool(slot, &tool, &arguments, &convert::call_options(options));
    Answer { wait: None, pending }
}

pub(crate) fn list_tools(slot: &str) -> Answer {
    Answer { wait: None, pending: tools::list_tools(slot) }
}

pub(crate) fn await_auth(slot: &str) -> Answer {
    Answer { wait: None, pending: auth::await_auth(slot) }
}

pub(crate) fn heartbeat(details: Option<String>) {
    activity_context::heartbeat(details.as_deref());
}

pub(crate) fn is_cancelled() -> bool {
    activity_context::is_cancelled()
}

pub(crate) fn cancelled() -> Cancellation {
    Cancellation { wait: None }
}

pub(crate) fn emit(event: TaskEvent) -> Result<()> {
    events::emit_event(&convert::task_event(event)).map_err(convert::error)
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => logging::Level::Trace,
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
    };
    logging::log(level, message);
}

/// The answer to a call under way. Dropping it gives up on it. The pollable is a child of the call and is dropped first.
pub(crate) struct Answer {
    wait: Option<Wait>,
    pending: tools::Pending,
}

impl Future for Answer {
    type Output = Result<String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<String>> {
        if let Some(answer) = self.pending.get() {
            self.wait = None;
            return Poll::Ready(answer.map_err(convert::error));
        }
        match &self.wait {
            Some(wait) => wait.renew(cx.waker()),
            None => self.wait = Some(Wait::new(self.pending.subscribe(), cx.waker())),
        }
        Poll::Pending
    }
}

/// Ready when the activity is cancelled.
pub(crate) struct Cancellation {
    wait: Option<Wait>,
}

impl Future for Cancellation {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if activity_context::is_cancelled() {
            self.wait = None;
            return Poll::Ready(());
        }
        match &self.wait {
            Some(wait) => wait.renew(cx.waker()),
            None => self.wait = Some(Wait::new(activity_context::cancelled(), cx.waker())),
        }
        Poll::Pending
    }
}

thread_local! {
    static WAITING: RefCell<Waiting> = const { RefCell::new(Waiting { next: 0, entries: BTreeMap::new() }) };
}

struct Waiting {
    next: u64,
    entries: BTreeMap<u64, Entry>,
}

struct Entry {
    pollable: Rc<Pollable>,
    /// None: it was woken and was not polled since.
    waker: Option<Waker>,
}

/// Something that somebody waits for, for as long as they do.
struct Wait(u64);

impl Wait {
    fn new(pollable: Pollable, waker: &Waker) -> Self {
        WAITING.with_borrow_mut(|waiting| {
            waiting.next += 1;
            let entry = Entry { pollable: Rc::new(pollable), waker: Some(waker.clone()) };
            waiting.entries.insert(waiting.next, entry);
            Self(waiting.next)
        })
    }

    fn renew(&self, waker: &Waker) {
        WAITING.with_borrow_mut(|waiting| {
            if let Some(entry) = waiting.entries.get_mut(&self.0) {
                entry.waker = Some(waker.clone());
            }
        });
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        drop(WAITING.with_borrow_mut(|waiting| waiting.entries.remove(&self.0)));
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a future to its end and sleeps in the host while it waits.
///
/// # Errors
/// It waits for something that is not the host's: it would never end.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let mut future = pin!(future);
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(flag.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        while !flag.0.swap(false, Ordering::Relaxed) {
            let waits: Vec<(u64, Rc<Pollable>)> = WAITING.with_borrow(|waiting| {
                let armed = waiting.entries.iter().filter(|(_, entry)| entry.waker.is_some());
                armed.map(|(id, entry)| (*id, entry.pollable.clone())).collect()
            });
            if waits.is_empty() {
                return Err(Error::new(
                    Error::DEFAULT_KIND,
                    "the activity waits for something that nothing can bring about",
                )
                .non_retryable());
            }
            let pollables: Vec<&Pollable> = waits.iter().map(|(_, pollable)| &**pollable).collect();
            for index in poll::poll(&pollables) {
                let id = waits.get(index as usize).map(|(id, _)| *id);
                let waker = WAITING.with_borrow_mut(|waiting| waiting.entries.get_mut(&id?)?.waker.take());
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
    }
}
