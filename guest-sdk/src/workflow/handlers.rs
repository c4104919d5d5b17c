//! What takes messages: signals, queries and updates.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::Waker,
};

use super::protocol::Message;
use crate::{Error, Result};

type OnSignal = Rc<dyn Fn(Message)>;
type OnQuery = Rc<dyn Fn(&str) -> Result<String>>;
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<String>>>>;
/// Refuses an update, or gives the future that carries it out.
pub(crate) type OnUpdate = Rc<dyn Fn(Message) -> Result<Answer>>;

#[derive(Default)]
pub(crate) struct Handlers(RefCell<Inner>);

#[derive(Default)]
struct Inner {
    on_signal: BTreeMap<&'static str, OnSignal>,
    on_query: BTreeMap<&'static str, OnQuery>,
    on_update: BTreeMap<&'static str, OnUpdate>,
    /// Signals that nobody has taken yet, in the order in which they came.
    signals: BTreeMap<String, VecDeque<Message>>,
    waiting: BTreeMap<&'static str, Vec<Waker>>,
    updates: VecDeque<(String, Message)>,
}

impl Handlers {
    /// A signal has come.
    pub(crate) fn signal(&self, message: Message) {
        let mut inner = self.0.borrow_mut();
        if let Some(handler) = inner.on_signal.get(message.name.as_str()).cloned() {
            drop(inner);
            handler(message);
            return;
        }
        let waiting = inner.waiting.get_mut(message.name.as_str()).map(std::mem::take).unwrap_or_default();
        inner.signals.entry(message.name.clone()).or_default().push_back(message);
        drop(inner);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The next signal of a name that nobody has taken.
    pub(crate) fn take_signal(&self, name: &str) -> Option<Message> {
        self.0.borrow_mut().signals.get_mut(name)?.pop_front()
    }

    pub(crate) fn await_signal(&self, name: &'static str, waker: &Waker) {
        let mut inner = self.0.borrow_mut();
        let waiting = inner.waiting.entry(name).or_default();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    /// Puts a handler in place; it hears at once of what came before.
    pub(crate) fn on_signal(&self, name: &'static str, handler: OnSignal) {
        let before = {
            let mut inner = self.0.borrow_mut();
            inner.on_signal.insert(name, handler.clone());
            inner.signals.remove(name).unwrap_or_default()
        };
        before.into_iter().for_each(|message| handler(message));
    }

    pub(crate) fn on_query(&self, name: &'static str, handler: OnQuery) {
        self.0.borrow_mut().on_query.insert(name, handler);
    }

    pub(crate) fn query(&self, name: &str, input: &str) -> Result<String> {
        let handler = self.0.borrow().on_query.get(name).cloned();
        match handler {
            Some(handler) => handler(input),
            None => Err(Error::new(
                Error::NOT_FOUND,
                format!("the workflow has put no handler in place for the query `{name}`"),
            )
            .non_retryable()),
        }
    }

    pub(crate) fn on_update(&self, name: &'static str, handler: OnUpdate) {
        self.0.borrow_mut().on_update.insert(name, handler);
    }

    pub(crate) fn keep_update(&self, id: String, message: Message) {
        self.0.borrow_mut().updates.push_back((id, message));
    }

    /// The updates that nobody has handled yet.
    pub(crate) fn take_updates(&self) -> VecDeque<(String, Message)> {
        std::mem::take(&mut self.0.borrow_mut().updates)
    }

    /// What carries out the update of a name.
    pub(crate) fn update_handler(&self, name: &str) -> Option<OnUpdate> {
        self.0.borrow().on_update.get(name).cloned()
    }

    /// Lets go of everything. Queries are answered no more either.
    pub(crate) fn clear(&self) {
        drop(self.0.take());
    }
}
