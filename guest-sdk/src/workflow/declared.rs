//! What a workflow said of itself, beside what it uses while it runs.
//!
//! The host asks no instance: it knows the definition, and refuses what is not in it. So does a plugin's own test.

use crate::{Activity, Error, WorkflowFn};

/// The names of the handlers that a workflow's attribute lists.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Declared {
    pub(crate) signals: &'static [&'static str],
    pub(crate) queries: &'static [&'static str],
    pub(crate) updates: &'static [&'static str],
}

/// A sort of handlers, by the option that declares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Signal,
    Query,
    Update,
}

impl Declared {
    pub(crate) fn of<W: WorkflowFn>() -> Self {
        Self { signals: W::SIGNALS, queries: W::QUERIES, updates: W::UPDATES }
    }

    fn names(&self, kind: Kind) -> &'static [&'static str] {
        match kind {
            Kind::Signal => self.signals,
            Kind::Query => self.queries,
            Kind::Update => self.updates,
        }
    }

    /// Refuses a handler that is not declared.
    pub(crate) fn check(&self, workflow: &str, kind: Kind, name: &str) -> Result<(), Error> {
        kind.check(self.names(kind), workflow, name)
    }
}

impl Kind {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Signal => ("signal", "signals"),
            Self::Query => ("query", "queries"),
            Self::Update => ("update", "updates"),
        }
    }

    /// Refuses a name that is not among those declared, in the words of the host.
    pub(crate) fn check(self, names: &[&str], workflow: &str, name: &str) -> Result<(), Error> {
        // Those of the SDK's own are not declared.
        if names.contains(&name) || name.starts_with("__") {
            return Ok(());
        }
        let (word, option) = self.words();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let message = format!(
            "the workflow '{workflow}' has no {word} '{name}': it has {known}. Name it in the workflow's `{option}(…)`"
        );
        Err(Error::new(Error::NOT_FOUND, message).non_retryable())
    }
}

/// A connector that the workflow's definition does not name, in the words of the host.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn unresolved(slot: &str) -> Error {
    let message = format!(
        "Connector '{slot}' is not resolved for this workflow. Add it to the workflow's `connectors(…)` so that it is \
         checked before the workflow starts."
    );
    Error::new(Error::CONNECTOR, message).non_retryable()
}

/// Whether a list has a name. Attributes ask while a plugin is compiled:
///
/// ```
/// # use airlock_sdk as airlock;
/// airlock::query!(Total() -> u32 = "total");
///
/// #[airlock::workflow(queries(Total))]
/// async fn order(ctx: airlock::Workflow) -> airlock::Result<()> {
///     let inner = ctx.clone();
///     inner.on_query::<Total>(|()| Ok(1));
///     Ok(())
/// }
/// ```
///
/// ```compile_fail
/// # use airlock_sdk as airlock;
/// airlock::query!(Total() -> u32 = "total");
///
/// #[airlock::workflow]
/// async fn order(ctx: airlock::Workflow) -> airlock::Result<()> {
///     let inner = ctx.clone();
///     inner.on_query::<Total>(|()| Ok(1));
///     Ok(())
/// }
/// ```
pub const fn declares(names: &[&str], name: &str) -> bool {
    let mut place = 0;
    while place < names.len() {
        if is_same(names[place].as_bytes(), name.as_bytes()) {
            return true;
        }
        place += 1;
    }
    false
}

/// Whether a list has all of these names: the connectors of an activity that a workflow runs.
///
/// ```
/// # use airlock_sdk as airlock;
/// # airlock::connector!(Crm = "crm");
/// # #[airlock::activity]
/// # async fn look(crm: airlock::Tools<Crm>) -> airlock::Result<()> { crm.list().await.map(drop) }
/// #[airlock::workflow(connectors(Crm))]
/// async fn order(ctx: airlock::Workflow) -> airlock::Result<()> {
///     airlock::try_join!(ctx.activity(look, ()), ctx.activity(look, ())).map(drop)
/// }
/// ```
///
/// ```compile_fail
/// # use airlock_sdk as airlock;
/// # airlock::connector!(Crm = "crm");
/// # #[airlock::activity]
/// # async fn look(crm: airlock::Tools<Crm>) -> airlock::Result<()> { crm.list().await.map(drop) }
/// #[airlock::workflow]
/// async fn order(ctx: airlock::Workflow) -> airlock::Result<()> {
///     airlock::try_join!(ctx.activity(look, ()), ctx.activity(look, ())).map(drop)
/// }
/// ```
pub const fn declares_all(names: &[&str], wanted: &[&str]) -> bool {
    let mut place = 0;
    while place < wanted.len() {
        if !declares(names, wanted[place]) {
            return false;
        }
        place += 1;
    }
    true
}

/// Whether each of these names is in some of the lists: the connectors of an activity, and those of all workflows. Without
/// lists there is nobody to ask.
///
/// ```
/// # mod plugin {
/// # use airlock_sdk as airlock;
/// # airlock::connector!(Crm = "crm");
/// # #[airlock::activity]
/// # async fn look(crm: airlock::Tools<Crm>) -> airlock::Result<()> { crm.list().await.map(drop) }
/// #[airlock::workflow(connectors(Crm))]
/// async fn order(ctx: airlock::Workflow) -> airlock::Result<()> {
///     // Functions are not looked into.
///     step(&ctx).await
/// }
/// # async fn step(ctx: &airlock::Workflow) -> airlock::Result<()> { ctx.activity(look, ()).await }
///
/// airlock::plugin!(workflows: [order], activities: [look]);
/// # }
/// ```
///
/// ```compile_fail
/// # mod plugin {
/// # use airlock_sdk as airlock;
/// # airlock::connector!(Crm = "crm");
/// # #[airlock::activity]
/// # async fn look(crm: airlock::Tools<Crm>) -> airlock::Result<()> { crm.list().await.map(drop) }
/// #[airlock::workflow]
/// async fn order(ctx: airlock::Workflow) -> airlock::Result<()> {
///     // Functions are not looked into.
///     step(&ctx).await
/// }
/// # async fn step(ctx: &airlock::Workflow) -> airlock::Result<()> { ctx.activity(look, ()).await }
///
/// airlock::plugin!(workflows: [order], activities: [look]);
/// # }
/// ```
pub const fn some_declare(lists: &[&[&str]], wanted: &[&str]) -> bool {
    let mut place = 0;
    while place < wanted.len() {
        let (mut list, mut found) = (0, lists.is_empty());
        while list < lists.len() {
            found |= declares(lists[list], wanted[place]);
            list += 1;
        }
        if !found {
            return false;
        }
        place += 1;
    }
    true
}

/// The connectors of the activity that a function names.
pub const fn connectors_of<A: Activity>(_: fn() -> A) -> &'static [&'static str] {
    A::CONNECTORS
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut place = 0;
    while place < one.len() {
        if one[place] != other[place] {
            return false;
        }
        place += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_whole() {
        assert!(declares(&["crm", "github"], "github"));
        assert!(!declares(&["crm", "github"], "git"));
        assert!(declares_all(&["a", "b"], &["b"]) && declares_all(&[], &[]));
        assert!(!declares_all(&["a"], &["a", "b"]));
        assert!(some_declare(&[&["a"], &["b"]], &["a", "b"]) && some_declare(&[], &["a"]));
        assert!(!some_declare(&[&["a"]], &["b"]));
    }
}
