//! What others may send, and what it costs.

mod attacks;
mod formats;
mod fuzz;
mod generated;
mod ordinary;
mod rooms;

use std::{
    thread,
    time::{Duration, Instant},
};

use cpu_time::ThreadTime;
use serde_json::{Value, json};

use crate::{Dialect, Limits, Outcome, Refused, checked::Ready, outline};

/// What a side thread may spend, and how much slower the tests' build and machine may be.
const PROMISED: Duration = Duration::from_millis(50);
const SLOWER: u32 = if cfg!(debug_assertions) { 20 } else { 3 };

/// Compiles and checks on a thread like those of the room, and measures what the thread spent.
fn spent(schema: Value, value: Value) -> (Result<Outcome, Refused>, Duration, Duration) {
    let limits = Limits::default();
    let stack = limits.stack_bytes;
    let work = move || {
        let begun = ThreadTime::now();
        if let Err(refused) = outline::is_bounded(&schema, &limits) {
            return (Err(refused), begun.elapsed(), Duration::ZERO);
        }
        let ready = Ready::new(&schema, Dialect::Input, &limits);
        let compiled = begun.elapsed();
        let begun = ThreadTime::now();
        let outcome = ready.map(|ready| match ready.cost(&value) {
            Ok(cost) => ready.check(&value, cost),
            Err(undecided) => Outcome::Undecided(undecided),
        });
        (outcome, compiled, begun.elapsed())
    };
    thread::Builder::new().stack_size(stack).spawn(work).expect("a thread").join().expect("no panic")
}

/// That what a thread spends is as promised, whatever comes of it.
fn holds(what: &str, schema: Value, value: Value) -> Result<Outcome, Refused> {
    let begun = Instant::now();
    let (outcome, compiled, checked) = spent(schema, value);
    let said = match &outcome {
        Ok(Outcome::Differs(found)) => format!("differs in {}", found.len()),
        Ok(other) => format!("{other:?}"),
        Err(refused) => refused.to_string(),
    };
    eprintln!(
        "{what}: compiled in {compiled:?}, checked in {checked:?}, {:?} in all: {said}",
        begun.elapsed()
    );
    assert!(compiled <= PROMISED * SLOWER, "{what}: compiling took {compiled:?} and gave {said}");
    assert!(checked <= PROMISED * SLOWER, "{what}: checking took {checked:?} and gave {said}");
    outcome
}

fn nested(levels: usize, inner: Value, wrap: impl Fn(Value) -> Value) -> Value {
    (0..levels).fold(inner, |value, _| wrap(value))
}

/// Definitions `a0` to `an`, each made of the reference to the next.
fn chained(count: usize, last: Value, link: impl Fn(Value) -> Value) -> Value {
    let mut definitions = serde_json::Map::new();
    for index in 0..count {
        let next = json!({ "$ref": format!("#/$defs/a{}", index + 1) });
        definitions.insert(format!("a{index}"), link(next));
    }
    definitions.insert(format!("a{count}"), last);
    json!({ "type": "object", "allOf": [{ "$ref": "#/$defs/a0" }], "$defs": definitions })
}
