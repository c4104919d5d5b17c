//! Schedules: executions that start by the clock.
//!
//! A [`Definition`] is what a client wrote. A [`Spec`] is the same, understood and checked: it says which times come
//! after another, with no clock in it. A [`Plan`] is the state of one schedule: it takes the time and what happened,
//! and says what to do next, with no clock and no engine in it. The [`Scheduler`] drives all plans: it sleeps until
//! something is due, starts executions through [`Executions`], and keeps every plan in the store.
//!
//! Promises: each time of a schedule is decided exactly once, also when the process is killed at any moment, because
//! the id of an execution follows from the schedule and the time, and an id can be started only once. A start counts when
//! the schedule itself started it; an id that somebody else has is a failure, which is shown. Nothing starts early. What is
//! not started is counted.

mod clock;
mod definition;
mod duration;
mod engine;
mod plan;
mod policy;
mod scheduler;
mod spec;
mod times;

pub use crate::problem::Problem;
pub use definition::{Calendar, Definition, Interval, Members, PolicyWire, Range};
pub use plan::{BackfillView, Counters, FailedStart, Next, Outcome, Plan, Recent, Run, RunKind, State, Stop};
pub use policy::{Overlap, Policy};
pub use scheduler::{
    BackfillRequest, Executions, NewSchedule, OwnExecution, Refusal, ScheduleError, ScheduleStart,
    ScheduleView, Scheduler, StartFailed,
};
pub use spec::Spec;
pub use times::After;

/// Seconds since the Unix epoch. The times of schedules are whole seconds.
pub type UnixSeconds = i64;
