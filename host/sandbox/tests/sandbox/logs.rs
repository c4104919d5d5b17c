//! What guests write ends in the daemon's log.

use std::{fmt::Write, sync::Arc};

use airlock_engine::{guests::Guests, history::Job};
use parking_lot::Mutex;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::room::{hostile, init, run, turn};

/// Keeps the lines of guests.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "airlock::guest"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                write!(self.0, " {}={value:?}", field.name()).unwrap();
            }
        }
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        self.0.lock().push(text.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn printed_lines_carry_plugin_and_execution() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let (_room, sandbox, digest) = hostile().await;
    run(&sandbox, &digest, "print", "null").await.unwrap();
    assert_eq!(
        *lines.0.lock(),
        [
            "INFO message=to standard output plugin=hostile execution=execution part=print",
            "WARN message=to standard error, without an end plugin=hostile execution=execution part=print",
        ]
    );
}

#[tokio::test]
async fn a_flood_is_dropped_and_the_drop_is_told() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let (_room, sandbox, digest) = hostile().await;
    run(&sandbox, &digest, "flood-log", "null").await.unwrap();
    let written = lines.0.lock().len();
    // A burst of five seconds' worth, and what came in while the flood lasted.
    assert!((1000..20_000).contains(&written), "{written}");
    assert!(lines.0.lock().iter().all(|line| line.len() < 9000));
    // Not always the last line: one of the flood may have come just when the rate allowed it again.
    let told = |line: &String| line.contains("log lines were dropped") && line.contains("dropped=");
    assert!(lines.0.lock().iter().any(told), "nobody is told of the drop");
}

#[tokio::test]
async fn a_workflow_is_silent_while_it_is_replayed() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let (_room, sandbox, digest) = hostile().await;
    let mut instance = sandbox.create(&digest, init("log")).await.unwrap();
    let repeated = |replaying| turn(1, replaying, &[Job::Started]);
    instance.activate(repeated(true)).await.unwrap();
    assert!(lines.0.lock().is_empty());
    instance.activate(repeated(false)).await.unwrap();
    assert_eq!(
        *lines.0.lock(),
        [
            "INFO message=from a workflow plugin=hostile execution=execution part=log",
            "INFO message=printed by a workflow plugin=hostile execution=execution part=log",
        ]
    );
}
