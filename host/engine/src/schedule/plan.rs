//! The state of one schedule: what has been decided, what waits and what runs. No clock and no engine in it.
//!
//! The driver asks [`Plan::next`] what to do, does it, tells the outcome and saves the [`State`]. A start is always the
//! first thing that is decided after a saved state. So a process that dies between a start and the next save finds the
//! started execution under the id of one of the [`Plan::candidates`].
//!
//! | from | by | to |
//! | --- | --- | --- |
//! | a time comes, or a trigger or a backfill is asked for | nothing runs, or `allow all` | started |
//! | | something runs, by [`Overlap`] | waits, or skipped |
//! | | older than the catch-up window | missed |
//! | waits | what runs has ended | started |
//! | | another with `cancel other` or `terminate other`, a pause, or an update | skipped |
//! | started | the execution ends | done; paused if it failed and the policy says so |

use std::collections::VecDeque;

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};

use super::{After, Overlap, Spec, UnixSeconds, times::unix_ms};
use crate::{ExecutionId, history::UnixMs};

/// So many starts wait at most; more are dropped and counted as missed.
const LONGEST_QUEUE: usize = 1000;

/// A clock that was so many seconds ahead was wrong. What was started meanwhile is not started twice, since its id exists.
const CLOCK_WAS_WRONG: i64 = 60;

/// So many executions are remembered for clients.
const RECENT: usize = 10;

/// One execution that a schedule wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its time.
    pub time: UnixSeconds,
    /// Why it is wanted.
    pub kind: RunKind,
    /// What to do when another still runs.
    pub overlap: Overlap,
}

/// Why an execution is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Its time has come.
    Scheduled,
    /// Somebody asked for one now. The text is different for each.
    Trigger(String),
    /// Somebody asked for past times. The text is different for each request.
    Backfill(String),
}

/// Past times that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Backfill {
    /// Decided up to and with this time.
    handled: UnixSeconds,
    last: UnixSeconds,
    overlap: Overlap,
    token: String,
}

/// A backfill under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackfillView {
    /// Times up to and with this one are done with.
    pub handled: UnixSeconds,
    /// The last one.
    pub last: UnixSeconds,
    /// What it does when another execution still runs.
    pub overlap: Overlap,
}

/// A backfill has at most so many times.
pub(super) const MOST_AT_ONCE: usize = 10_000;

/// What has been made of times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Executions that were started.
    pub started: u64,
    /// Left out because of executions that still ran, of a pause or of an update.
    pub skipped: u64,
    /// Left out because nobody looked in time, or too many waited.
    pub missed: u64,
    /// Could not be started.
    pub failed: u64,
}

/// An execution that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// The time that it was for.
    pub scheduled_at: UnixSeconds,
    /// When it was started.
    pub started_at: UnixMs,
    /// Which one it is.
    pub execution_id: ExecutionId,
}

/// A start that did not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStart {
    /// The time that it was for.
    pub scheduled_at: UnixSeconds,
    /// When it was tried.
    pub failed_at: UnixMs,
    /// Why it did not work.
    pub reason: String,
}

/// A time, a trigger or a backfill's time that started nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The time that it was for.
    pub scheduled_at: UnixSeconds,
    /// Why.
    pub reason: String,
}

/// What is kept of a schedule beside its definition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Times pass by.
    pub paused: bool,
    /// Why, in the words of who paused or resumed it.
    pub note: Option<String>,
    /// How many more executions it may start by itself.
    pub remaining: Option<u64>,
    /// Decided up to and with this time.
    handled: UnixSeconds,
    /// Wait for the end of what runs, in this order.
    waiting: VecDeque<Run>,
    /// Asked for and not looked at yet.
    triggers: VecDeque<Run>,
    backfills: VecDeque<Backfill>,
    /// Started and, as far as is known, not ended.
    pub running: Vec<ExecutionId>,
    /// The last ones that were started, newest first.
    pub recent: VecDeque<Recent>,
    /// Times of the schedule.
    pub scheduled: Counters,
    /// Triggers and backfills.
    pub by_hand: Counters,
    /// The last start that did not work.
    pub last_failure: Option<FailedStart>,
    /// The last time, trigger or time of a backfill that was left out although the schedule was not paused.
    #[serde(default)]
    pub last_skipped: Option<LeftOut>,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Start this and call [`Plan::started`] or [`Plan::failed`].
    Start(Run),
    /// Stop what runs, so that this can start, and call [`Plan::stopping`]; or [`Plan::failed`], if it could not start then.
    Stop(Stop, Run),
    /// Something was decided that needs no doing; ask again.
    Decided,
    /// Nothing until this time, or until something happens.
    Wait(Option<UnixMs>),
}

/// How to stop what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ask it to.
    Cancel,
    /// End it.
    Terminate,
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Completed,
    /// It failed or took too long.
    Failed,
    /// Somebody stopped it.
    Stopped,
}

/// A schedule's times and its state.
#[derive(Debug, Clone)]
pub struct Plan {
    id: String,
    spec: Spec,
    state: State,
    /// What follows `state.handled`, and when it is due.
    upcoming: Option<(UnixSeconds, After, UnixMs)>,
    /// What runs was told to stop for the first one that waits.
    stopping: bool,
    /// The times that were shown last.
    shown: Option<Shown>,
}

/// Times of the future that were looked for, and as long as they are the answer.
#[derive(Debug, Clone)]
struct Shown {
    from: UnixSeconds,
    until: UnixSeconds,
    count: usize,
    times: Vec<UnixSeconds>,
}

/// Where nothing was found nobody looks again for so many seconds.
const LOOK_AGAIN: i64 = 60;

/// So much looking it is worth to count times that passed by.
const COUNTING: u32 = 200_000;

impl Plan {
    /// The plan of a new schedule: times after `now` count.
    pub fn new(id: String, spec: Spec, now: UnixMs) -> Self {
        let state = State { handled: seconds(now), remaining: spec.max_executions(), ..State::default() };
        Self::restored(id, spec, state)
    }

    /// A plan whose state was saved.
    pub fn restored(id: String, spec: Spec, state: State) -> Self {
        Self { id, spec, state, upcoming: None, stopping: false, shown: None }
    }

    /// What is to be saved.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Its times.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The id of the execution for a run: always the same for the same run.
    pub fn execution_id(&self, run: &Run) -> String {
        let time = DateTime::from_timestamp(run.time, 0).unwrap_or_default();
        let time = time.to_rfc3339_opts(SecondsFormat::Secs, true).replace(':', "-");
        match &run.kind {
            RunKind::Scheduled => format!("{}-{time}", self.id),
            RunKind::Trigger(token) => format!("{}-{time}-t{token}", self.id),
            RunKind::Backfill(token) => format!("{}-{time}-b{token}", self.id),
        }
    }

    /// The next times at which it fires by itself. Asked again before the first of them, it has the answer.
    pub fn future(&mut self, now: UnixMs, count: usize) -> Vec<UnixSeconds> {
        if self.state.paused {
            return Vec::new();
        }
        let count =
            self.state.remaining.map_or(count, |left| usize::try_from(left).unwrap_or(count).min(count));
        let from = self.state.handled.max(seconds(now));
        if let Some(shown) = &self.shown
            && shown.count == count
            && (shown.from..shown.until).contains(&from)
        {
            return shown.times.clone();
        }
        let times = self.spec.upcoming(from, count);
        let until = times.first().copied().unwrap_or(from.saturating_add(LOOK_AGAIN));
        self.shown = Some(Shown { from, until, count, times: times.clone() });
        times
    }

    /// What to do at this moment.
    pub fn next(&mut self, now: UnixMs) -> Next {
        if let Some(first) = self.state.waiting.front() {
            if self.state.running.is_empty() {
                return Next::Start(first.clone());
            }
            let stop = match first.overlap {
                Overlap::CancelOther => Some(Stop::Cancel),
                Overlap::TerminateOther => Some(Stop::Terminate),
                _ => None,
            };
            if let Some(stop) = stop.filter(|_| !self.stopping) {
                return Next::Stop(stop, first.clone());
            }
        }
        if let Some(run) = self.state.triggers.front().cloned() {
            return self.place(run);
        }
        let mut wake = None;
        if !self.state.paused && self.state.remaining != Some(0) {
            let (after, due) = self.upcoming();
            match after {
                // Those that wait have the rest of the limit. If one of them does not start, a later time may.
                After::At(time) if due <= now && !self.may_fire() => {
                    self.state.scheduled.skipped += 1;
                    self.leave_out(
                        time,
                        "those that wait to be started have the rest of max_executions".into(),
                    );
                    self.state.handled = time;
                    return Next::Decided;
                }
                After::At(time) if due <= now => {
                    let window = self.spec.policy().catchup_window;
                    if u128::from(now - due) > window.as_millis() {
                        self.state.scheduled.missed += 1;
                        let reason =
                            format!("nobody looked for longer than its catchup window of {window:?}");
                        self.leave_out(time, reason);
                        self.state.handled = time;
                        return Next::Decided;
                    }
                    let overlap = self.spec.policy().overlap;
                    return self.place(Run { time, kind: RunKind::Scheduled, overlap });
                }
                After::At(_) => wake = Some(due),
                After::NothingUntil(time) if unix_ms(time) <= now => {
                    self.state.handled = time;
                    return Next::Decided;
                }
                After::NothingUntil(time) => wake = Some(unix_ms(time)),
                After::Never => {}
            }
        }
        if let Some(backfill) = self.state.backfills.front() {
            let queues = matches!(backfill.overlap, Overlap::BufferOne | Overlap::BufferAll);
            match self.spec.after(backfill.handled) {
                // The list of times is its queue.
                After::At(time) if time <= backfill.last && !(queues && self.is_busy()) => {
                    let (overlap, kind) = (backfill.overlap, RunKind::Backfill(backfill.token.clone()));
                    return self.place(Run { time, kind, overlap });
                }
                After::At(time) if time <= backfill.last => {}
                After::NothingUntil(time) if time < backfill.last => {
                    if let Some(backfill) = self.state.backfills.front_mut() {
                        backfill.handled = time;
                    }
                    return Next::Decided;
                }
                _ => {
                    self.state.backfills.pop_front();
                    return Next::Decided;
                }
            }
        }
        Next::Wait(wake)
    }

    fn upcoming(&mut self) -> (After, UnixMs) {
        let handled = self.state.handled;
        match self.upcoming {
            Some((of, after, due)) if of == handled => (after, due),
            _ => {
                let after = self.spec.after(handled);
                let due = match after {
                    After::At(time) => self.spec.due(&self.id, time),
                    _ => UnixMs::MAX,
                };
                self.upcoming = Some((handled, after, due));
                (after, due)
            }
        }
    }

    /// Whether its own times count. Those that wait have their share of the limit already.
    fn may_fire(&self) -> bool {
        let waiting =
            || self.state.waiting.iter().filter(|run| run.kind == RunKind::Scheduled).count() as u64;
        !self.state.paused && self.state.remaining.is_none_or(|left| left > waiting())
    }

    fn is_busy(&self) -> bool {
        !self.state.running.is_empty() || !self.state.waiting.is_empty()
    }

    fn leave_out(&mut self, scheduled_at: UnixSeconds, reason: String) {
        self.state.last_skipped = Some(LeftOut { scheduled_at, reason });
    }

    /// Why nothing comes of a run, now that others run or wait.
    fn hindrance(&self, run: &Run) -> Option<String> {
        let waiting = self.state.waiting.len();
        let other = match self.state.running.first() {
            Some(running) => format!("the execution {running} still runs"),
            None => "another start waits for its turn".to_owned(),
        };
        match run.overlap {
            _ if !self.is_busy() => None,
            Overlap::Skip => Some(format!("{other}, and the overlap policy is 'skip'")),
            Overlap::BufferOne if waiting > 0 => {
                Some(format!("{other}, one start waits already, and the overlap policy is 'buffer one'"))
            }
            Overlap::BufferAll if waiting >= LONGEST_QUEUE => {
                Some(format!("{other}, and {waiting} starts wait already, which is the most"))
            }
            _ => None,
        }
    }

    /// Counts a run of which nothing comes.
    fn forgo(&mut self, run: &Run, reason: String) {
        let counters = self.counters(&run.kind);
        match run.overlap {
            Overlap::BufferAll => counters.missed += 1,
            _ => counters.skipped += 1,
        }
        self.leave_out(run.time, reason);
    }

    /// Decides what becomes of a run whose turn it is.
    fn place(&mut self, run: Run) -> Next {
        if run.overlap == Overlap::AllowAll || !self.is_busy() {
            return Next::Start(run);
        }
        self.take(&run);
        if let Some(reason) = self.hindrance(&run) {
            self.forgo(&run, reason);
            return Next::Decided;
        }
        match run.overlap {
            Overlap::Skip | Overlap::BufferOne | Overlap::BufferAll => self.state.waiting.push_back(run),
            Overlap::CancelOther | Overlap::TerminateOther => {
                self.drop_waiting(|_| true);
                self.stopping = false;
                self.state.waiting.push_back(run);
            }
            // Starts at once, above.
            Overlap::AllowAll => {}
        }
        Next::Decided
    }

    /// Takes a run from where it was decided.
    fn take(&mut self, run: &Run) {
        if self.state.waiting.front() == Some(run) {
            self.state.waiting.pop_front();
            self.stopping = false;
            return;
        }
        match &run.kind {
            RunKind::Scheduled => self.state.handled = self.state.handled.max(run.time),
            RunKind::Trigger(_) => self.state.triggers.retain(|trigger| trigger != run),
            RunKind::Backfill(token) => {
                let backfill = self.state.backfills.iter_mut().find(|backfill| backfill.token == *token);
                if let Some(backfill) = backfill {
                    backfill.handled = backfill.handled.max(run.time);
                }
            }
        }
    }

    fn counters(&mut self, kind: &RunKind) -> &mut Counters {
        match kind {
            RunKind::Scheduled => &mut self.state.scheduled,
            RunKind::Trigger(_) | RunKind::Backfill(_) => &mut self.state.by_hand,
        }
    }

    fn drop_waiting(&mut self, which: impl Fn(&Run) -> bool) {
        let waiting = std::mem::take(&mut self.state.waiting);
        let (dropped, kept): (VecDeque<Run>, VecDeque<Run>) = waiting.into_iter().partition(which);
        self.state.waiting = kept;
        for run in dropped {
            self.counters(&run.kind).skipped += 1;
        }
    }

    /// A run was started, or had been before.
    pub fn started(&mut self, run: &Run, execution_id: ExecutionId, now: UnixMs) {
        self.take(run);
        self.counters(&run.kind).started += 1;
        if run.kind == RunKind::Scheduled {
            self.state.remaining = self.state.remaining.map(|left| left.saturating_sub(1));
        }
        if !self.state.running.contains(&execution_id) {
            self.state.running.push(execution_id.clone());
        }
        self.state.recent.push_front(Recent { scheduled_at: run.time, started_at: now, execution_id });
        self.state.recent.truncate(RECENT);
    }

    /// A run cannot be started, now or later.
    pub fn failed(&mut self, run: &Run, reason: String, now: UnixMs) {
        self.take(run);
        self.counters(&run.kind).failed += 1;
        self.state.last_failure = Some(FailedStart { scheduled_at: run.time, failed_at: now, reason });
    }

    /// Nothing is to come of a run.
    pub fn skip(&mut self, run: &Run, reason: String) {
        self.take(run);
        self.counters(&run.kind).skipped += 1;
        self.leave_out(run.time, reason);
    }

    /// What runs was told to stop.
    pub fn stopping(&mut self) {
        self.stopping = true;
    }

    /// An execution has ended. Whether that changed anything.
    pub fn ended(&mut self, execution_id: &ExecutionId, outcome: Outcome, now: UnixMs) -> bool {
        let before = self.state.running.len();
        self.state.running.retain(|running| running != execution_id);
        if self.state.running.len() == before {
            return false;
        }
        if outcome == Outcome::Failed && self.spec.policy().pause_on_failure && !self.state.paused {
            self.pause(Some(format!("paused because the execution {execution_id} failed")), now);
        }
        true
    }

    /// From now on times pass by. Triggers go on; backfills under way end, and one that is asked for later does its work.
    pub fn pause(&mut self, note: Option<String>, now: UnixMs) {
        for backfill in std::mem::take(&mut self.state.backfills) {
            self.state.by_hand.skipped += self.count(backfill.handled, backfill.last) as u64;
        }
        self.drop_waiting(|run| matches!(run.kind, RunKind::Backfill(_)));
        if !self.state.paused {
            self.pass_by(now);
            self.drop_waiting(|run| run.kind == RunKind::Scheduled);
        }
        self.state.paused = true;
        self.state.note = note;
    }

    /// From now on times count again; those that passed by are not made up for.
    pub fn resume(&mut self, note: Option<String>, now: UnixMs) {
        if self.state.paused {
            self.begin_at(now);
        }
        self.state.paused = false;
        self.state.note = note;
    }

    /// Asks for an execution now, whether or not the schedule is paused or exhausted. Where it is known at once that nothing
    /// comes of it, it says why.
    pub fn trigger(&mut self, token: String, overlap: Option<Overlap>, now: UnixMs) -> Option<String> {
        let overlap = overlap.unwrap_or(self.spec.policy().overlap);
        let run = Run { time: seconds(now), kind: RunKind::Trigger(token), overlap };
        // Those before it may change what stands in its way.
        if let Some(reason) = self.hindrance(&run).filter(|_| self.state.triggers.is_empty()) {
            self.forgo(&run, reason.clone());
            return Some(reason);
        }
        self.state.triggers.push_back(run);
        None
    }

    /// Asks for executions for all times from `first` to `last`.
    pub fn backfill(&mut self, token: String, first: UnixSeconds, last: UnixSeconds, overlap: Overlap) {
        self.state.backfills.push_back(Backfill { handled: first.saturating_sub(1), last, overlap, token });
    }

    /// Other times from now on. `remaining` is given when the limit is to be counted anew.
    pub fn update(&mut self, spec: Spec, remaining: Option<Option<u64>>, now: UnixMs) {
        if !self.state.paused {
            self.pass_by(now);
        }
        self.begin_at(now);
        self.spec = spec;
        self.upcoming = None;
        self.shown = None;
        if let Some(remaining) = remaining {
            self.state.remaining = remaining;
        }
    }

    /// Times after now count.
    fn begin_at(&mut self, now: UnixMs) {
        let now = seconds(now);
        // Decided far into the future: the clock was wrong and has been put right.
        if self.state.handled > now + CLOCK_WAS_WRONG {
            self.state.handled = now;
        }
        self.state.handled = self.state.handled.max(now);
    }

    /// Times up to now that nobody looked at are skipped.
    fn pass_by(&mut self, now: UnixMs) {
        // A bounded number is counted one by one.
        let mut patience = COUNTING;
        while patience > 0 {
            match self.spec.after_within(self.state.handled, &mut patience) {
                After::At(time) if unix_ms(time) <= now && self.state.remaining != Some(0) => {
                    self.state.scheduled.skipped += 1;
                    self.state.handled = time;
                }
                _ => break,
            }
        }
        self.state.handled = self.state.handled.max(seconds(now));
    }

    /// The runs that may have been started after the state was saved.
    pub fn candidates(&self) -> Vec<Run> {
        let mut runs: Vec<Run> =
            self.state.waiting.front().into_iter().chain(self.state.triggers.front()).cloned().collect();
        if self.may_fire()
            && let After::At(time) = self.spec.after(self.state.handled)
        {
            runs.push(Run { time, kind: RunKind::Scheduled, overlap: self.spec.policy().overlap });
        }
        if let Some(backfill) = self.state.backfills.front()
            && let After::At(time) = self.spec.after(backfill.handled)
            && time <= backfill.last
        {
            let (overlap, kind) = (backfill.overlap, RunKind::Backfill(backfill.token.clone()));
            runs.push(Run { time, kind, overlap });
        }
        runs
    }

    /// Whether a past period has more times than may be asked for at once.
    pub fn has_too_many(&self, first: UnixSeconds, last: UnixSeconds) -> bool {
        self.count(first.saturating_sub(1), last) > MOST_AT_ONCE
    }

    /// How many times come after one and up to another; one more than may be asked for stands for all that are more.
    fn count(&self, mut handled: UnixSeconds, last: UnixSeconds) -> usize {
        let mut count = 0;
        while count <= MOST_AT_ONCE {
            match self.spec.after(handled) {
                After::At(time) if time <= last => (handled, count) = (time, count + 1),
                After::NothingUntil(time) if time < last => handled = time,
                _ => break,
            }
        }
        count
    }

    /// The backfills under way, in their order.
    pub fn backfills(&self) -> impl Iterator<Item = BackfillView> {
        self.state.backfills.iter().map(|backfill| BackfillView {
            handled: backfill.handled,
            last: backfill.last,
            overlap: backfill.overlap,
        })
    }

    /// Times that were decided to wait.
    pub fn waiting(&self) -> usize {
        self.state.waiting.len()
    }
}

/// The whole seconds of a time.
pub(super) fn seconds(time: UnixMs) -> UnixSeconds {
    i64::try_from(time / 1000).unwrap_or(i64::MAX)
}
