//! One turn of one run: news in, records durable, effects out.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use super::{
    Engine, ExecutionView, Progress,
    cell::{Cell, Live, Message, Refused, Unanswered},
    messages, now_ms,
    succession::Successor,
};
use crate::{
    Digest, ExecutionKey, Failure, Json,
    difference::without_values,
    guests::{Activation, GuestError, WorkflowInit, WorkflowInstance},
    history::{HistorySize, Outcome, Record, Started, StoredRecord, UnixMs},
    machine::{Effect, Input, Machine, ends::Closing},
    replay::{Repetition, ReplayError},
    store::{Append, Start, StoreError, Wake},
    witness::Step,
};

/// Turns after which a driver lets others have the thread.
const TURNS_IN_A_ROW: u32 = 32;

/// Records that are read at once when a run is loaded.
const PAGE: usize = 1024;

/// What to do about an open execution whose code does not repeat its history.
const BLOCKED_ADVICE: &str = "Put back the component this execution started on and unblock it, or upgrade it to one that \
     repeats the history";

/// A turn that left no trace and is to be repeated.
pub(super) struct Postponed {
    pub(super) messages: VecDeque<Message>,
    pub(super) why: StoreError,
}

/// A run that is not in the store yet.
pub(super) struct Newborn {
    pub(super) live: Box<Live>,
    pub(super) start: Start,
}

/// Why an instance could not be built.
pub(super) enum Rebuild {
    /// None of its code has run.
    NotBegun,
    Diverged(String),
    Guest(GuestError),
    Store(StoreError),
}

impl From<StoreError> for Rebuild {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Engine {
    /// Lets a run have turns as long as there is news, unless somebody else does that already.
    pub(super) async fn drive(&self, cell: &Arc<Cell>) {
        if cell.seize() {
            // Before anything is loaded, so that a crowd does not fill the memory. The semaphore is never closed.
            let _permit = self.turn_permits.acquire().await;
            self.drive_on(cell).await;
        }
    }

    /// The same, for who is the driver already.
    pub(super) async fn drive_on(&self, cell: &Arc<Cell>) {
        let _under_way = UnderWay::new(&self.turns);
        let mut turns = 0;
        loop {
            let messages = cell.take_messages();
            if messages.is_empty() {
                break;
            }
            if *cell.ended.borrow() {
                messages.into_iter().for_each(refuse_ended);
                continue;
            }
            if let Err(postponed) = self.turn(cell, None, messages).await {
                tracing::warn!(execution = %cell.row.id, error = %postponed.why, "a turn has to be repeated");
                self.timers.set(now_ms() + self.config.retry_pause.as_millis() as u64, cell.key);
                cell.give_back(postponed.messages);
                return;
            }
            turns += 1;
            if turns % TURNS_IN_A_ROW == 0 {
                tokio::task::yield_now().await;
            }
        }
        if !cell.progress.borrow().ended {
            self.rest(cell);
        }
    }

    /// One turn. `born` is the state of a run that is not in the store yet.
    pub(super) async fn turn(
        &self,
        cell: &Arc<Cell>,
        born: Option<Newborn>,
        mut messages: VecDeque<Message>,
    ) -> Result<(), Postponed> {
        match self.try_turn(cell, born, &mut messages).await {
            Ok(()) => Ok(()),
            Err(why) => {
                // Callers that wait are told; what nobody waits for is kept for the next try.
                let mut kept = VecDeque::new();
                for message in messages {
                    match message {
                        Message::News { confirm: None, .. } => kept.push_back(message),
                        other => refuse(other, &why),
                    }
                }
                Err(Postponed { messages: kept, why })
            }
        }
    }

    async fn try_turn(
        &self,
        cell: &Arc<Cell>,
        born: Option<Newborn>,
        messages: &mut VecDeque<Message>,
    ) -> Result<(), StoreError> {
        let (mut live, start) = match born {
            Some(Newborn { live, start }) => (live, Some(start)),
            None => match cell.take_live() {
                Some(live) => (live, None),
                None => {
                    let _running = self.crashes.begin(Step::Load(cell.row.run_id));
                    (self.load(cell).await?, None)
                }
            },
        };
        if start.is_none() && live.machine.ended() {
            // It ended while somebody made this cell for it.
            self.loaded.fetch_sub(1, Ordering::Relaxed);
            self.drop_cell(cell);
            cell.progress.send_replace(Progress { records: live.index, ended: true });
            cell.ended.send_replace(true);
            messages.drain(..).for_each(refuse_ended);
            return Ok(());
        }
        let now = now_ms();
        let (mut unblocked, mut taken) = (false, Vec::with_capacity(messages.len()));
        for message in messages.iter() {
            taken.push(match message {
                Message::News { input, .. } => {
                    unblocked |= live.machine.blocked().is_some() && matches!(input, Input::Unblock);
                    live.machine.receive(input.clone(), now)
                }
                _ => true,
            });
        }
        live.machine.receive(Input::Tick, now);
        let done = async {
            self.activate(cell, &mut live).await?;
            self.commit(cell, &mut live, start, None).await
        };
        if let Err(error) = done.await {
            // The machine is ahead of the history: it is built again from there.
            self.loaded.fetch_sub(1, Ordering::Relaxed);
            return Err(error);
        }

        let mut reload = unblocked;
        for (message, taken) in messages.drain(..).zip(taken) {
            match message {
                Message::News { confirm, .. } => {
                    if let Some(confirm) = confirm {
                        // Whoever asked may have gone.
                        let _ = confirm.send(if taken { Ok(()) } else { Err(Refused::Ended) });
                    }
                }
                ended if live.machine.ended() => refuse_ended(ended),
                Message::Query { name, input, reply } => {
                    let _ = reply.send(self.ask(cell, &mut live, &name, &input).await);
                }
                Message::Upgrade { digest, trial, reply } => {
                    let outcome = self.upgrade_run(cell, &mut live, digest, trial).await;
                    reload |= !trial && matches!(outcome, Ok(Ok(())));
                    let _ = reply.send(outcome.map_err(Refused::Store));
                }
                Message::Reset { request, reply } => {
                    let outcome = self.reset_run(cell, &mut live, &request).await;
                    let _ = reply.send(outcome);
                }
            }
        }
        let ended = live.machine.ended();
        if ended || reload {
            self.loaded.fetch_sub(1, Ordering::Relaxed);
            if reload && !ended {
                // The state in memory is of before: start from the history.
                cell.post(Input::Tick);
            }
        } else {
            cell.put_live(live);
        }
        Ok(())
    }

    /// Makes what the machine recorded durable, and carries out what it asks for.
    pub(super) async fn commit(
        &self,
        cell: &Arc<Cell>,
        live: &mut Box<Live>,
        start: Option<Start>,
        successor: Option<Successor>,
    ) -> Result<(), StoreError> {
        let is_new = start.is_some();
        let successor = match successor {
            Some(successor) => Some(successor),
            None => self.successor(cell, &mut live.machine).await?,
        };
        let records = live.machine.take_records();
        tracing::trace!(execution = %cell.row.id, records = records.len(), "a turn");
        let mut next_row = None;
        if !records.is_empty() {
            let count = records.len() as u32;
            let wake = live.machine.wake();
            let wake = (is_new || wake_matters(live.wake, wake)).then_some(wake);
            let answers = messages::answers(&records);
            let digest = records.iter().rev().find_map(|record| match record {
                Record::Upgraded { digest } => Some(*digest),
                _ => None,
            });
            let mut search_keys = live.machine.take_search_keys();
            if is_new {
                search_keys.splice(0..0, initial_keys(live.machine.started()));
            }
            let append = Append {
                start: start.map(Box::new),
                end: live.machine.ended().then(|| (live.machine.status(), live.machine.now())),
                wake,
                digest,
                search_keys,
                successor: successor.map(|successor| {
                    next_row = Some((successor.row, successor.wake));
                    successor.append
                }),
                ..Append::records(cell.key, live.index, live.machine.now(), records)
            };
            if let Some(wake) = append.wake {
                live.wake = wake;
            }
            self.store.append(append).await?;
            live.index += count;
            cell.updates.tell(answers);
        }
        let effects = live.machine.take_effects();
        let ended = live.machine.ended();
        // What is under way is stopped before anybody looks for children: one that is being started is found or hears of it.
        self.carry_out(cell, &live.machine, effects);
        if ended {
            self.finish(cell, live, next_row);
        }
        cell.progress.send_replace(Progress { records: live.index, ended });
        if ended {
            cell.ended.send_replace(true);
        } else {
            self.warn(cell, live);
        }
        if let Some(at) = live.machine.next_time()
            && let Some(before) = cell.set_alarm(at, live.machine.now())
        {
            self.timers.remove(before, cell.key);
            self.timers.set(at, cell.key);
        }
        Ok(())
    }

    fn warn(&self, cell: &Cell, live: &mut Live) {
        let size = live.machine.size();
        if !live.warned && size.reaches(&HistorySize::SUGGEST) {
            live.warned = true;
            let HistorySize { events, bytes } = size;
            tracing::warn!(
                execution = %cell.row.id, workflow = cell.row.workflow, events, bytes,
                "the history grows long: the workflow should continue as new; the execution ends at {} events or {} bytes",
                HistorySize::LIMIT.events, HistorySize::LIMIT.bytes
            );
        }
    }

    /// Tells the workflow what happened, if anything did.
    async fn activate(&self, cell: &Cell, live: &mut Live) -> Result<(), StoreError> {
        if live.machine.jobs().is_empty() {
            return Ok(());
        }
        let _running = self.crashes.begin(Step::Turn(cell.row.run_id));
        let mut trapped = false;
        while !live.machine.jobs().is_empty() {
            if !self.has_instance(cell, live).await? {
                return Ok(());
            }
            let Some(instance) = live.instance.as_mut() else { return Ok(()) };
            let activation = Activation {
                now_ms: live.machine.now(),
                replaying: false,
                jobs: live.machine.jobs(),
                patches: &[],
                history: live.machine.size(),
            };
            match instance.activate(activation).await {
                Ok(commands) => {
                    if let Err(problem) = live.machine.commands(commands) {
                        trapped_for_good(live, problem);
                    }
                    return Ok(());
                }
                // A limit may have been met because the machine was busy: once more with a fresh instance.
                Err(GuestError::Trapped(message)) if !trapped => {
                    tracing::warn!(execution = %cell.row.id, message, "a workflow trapped; it is tried once more");
                    trapped = true;
                    live.instance = None;
                }
                Err(GuestError::Trapped(message) | GuestError::Invalid(message)) => {
                    trapped_for_good(live, message);
                    return Ok(());
                }
                Err(error) => return Err(StoreError::Guests(error.to_string())),
            }
        }
        Ok(())
    }

    /// Makes sure that there is an instance. Whether there is one: without, the machine knows why.
    async fn has_instance(&self, cell: &Cell, live: &mut Live) -> Result<bool, StoreError> {
        if live.instance.is_some() {
            return Ok(true);
        }
        match self.rebuild(cell, &live.machine, live.machine.digest(), live.index).await {
            Ok(instance) => {
                live.instance = Some(instance);
                return Ok(true);
            }
            Err(Rebuild::Diverged(difference)) => {
                let in_clear = without_values(&difference);
                tracing::error!(execution = %cell.row.id, difference = in_clear, "the code does not repeat its history");
                let difference = format!("{difference}. {BLOCKED_ADVICE}");
                live.machine.receive(Input::Diverged(difference), live.machine.now());
            }
            Err(Rebuild::Store(error)) => return Err(error),
            // Only the whole of a history can lack its beginning.
            Err(Rebuild::NotBegun) => return Err(StoreError::Failed("the history has no turn".into())),
            Err(Rebuild::Guest(GuestError::Trapped(message) | GuestError::Invalid(message))) => {
                trapped_for_good(live, message);
            }
            Err(Rebuild::Guest(error)) => return Err(StoreError::Guests(error.to_string())),
        }
        Ok(false)
    }

    /// Puts a question to the workflow.
    async fn ask(
        &self,
        cell: &Cell,
        live: &mut Live,
        name: &str,
        input: &Json,
    ) -> Result<Outcome, Unanswered> {
        if live.machine.blocked().is_some() {
            return Err(Unanswered::Blocked);
        }
        if !live.machine.activated() {
            return Err(Unanswered::NotStarted);
        }
        let _running = self.crashes.begin(Step::Turn(cell.row.run_id));
        let mut instance = match live.instance.take() {
            Some(instance) => instance,
            None => match self.rebuild(cell, &live.machine, live.machine.digest(), live.index).await {
                Ok(instance) => instance,
                // It is blocked at its next turn, if not before.
                Err(Rebuild::Diverged(_)) => return Err(Unanswered::Blocked),
                Err(error) => return Err(error.into()),
            },
        };
        // One that went wrong is not used again.
        let answer = instance.query(name, input).await.map_err(Unanswered::Guest)?;
        live.instance = Some(instance);
        Ok(answer)
    }

    /// Builds an instance by repeating the history. The commands must be the same.
    async fn rebuild(
        &self,
        cell: &Cell,
        machine: &Machine,
        digest: Digest,
        records: u32,
    ) -> Result<Box<dyn WorkflowInstance>, Rebuild> {
        let init = init(&cell.row.id, machine.started(), machine.started_at());
        self.repeat(cell.key, &digest, init, records).await
    }

    /// The same, for a history of which nothing is in memory.
    pub(super) async fn repeat(
        &self,
        key: ExecutionKey,
        digest: &Digest,
        init: WorkflowInit,
        records: u32,
    ) -> Result<Box<dyn WorkflowInstance>, Rebuild> {
        let mut instance = self.guests.create(digest, init).await.map_err(Rebuild::Guest)?;
        let mut repetition = Repetition::default();
        let mut index = 0;
        while index < records {
            let page = self.history(key, index, PAGE)?;
            if page.is_empty() {
                break;
            }
            for StoredRecord { at, record, .. } in &page {
                index += 1;
                repetition.record(&mut *instance, *at, record).await.map_err(|error| match error {
                    ReplayError::Diverged(difference) => Rebuild::Diverged(difference.to_string()),
                    ReplayError::Guest(error) => Rebuild::Guest(error),
                })?;
            }
        }
        if records == u32::MAX && !repetition.begun() {
            return Err(Rebuild::NotBegun);
        }
        Ok(instance)
    }

    /// Reads a run's state from its history.
    async fn load(&self, cell: &Arc<Cell>) -> Result<Box<Live>, StoreError> {
        let digest = match self.store.row(cell.key)? {
            Some(row) => row.digest,
            None => return Err(StoreError::Failed("the execution was removed".into())),
        };
        let mut machine: Option<Machine> = None;
        let mut index = 0;
        loop {
            let page = self.history(cell.key, index, PAGE)?;
            if page.is_empty() {
                break;
            }
            for StoredRecord { at, record, .. } in page {
                index += 1;
                match (&mut machine, record) {
                    (None, Record::Started(started)) => {
                        let definition = self
                            .guests
                            .definition(&digest)
                            .await
                            .map_err(|error| StoreError::Guests(error.to_string()))?;
                        machine = Some(Machine::read(definition, digest, cell.row.run_id, *started, at));
                    }
                    (Some(machine), record) => machine
                        .replay(at, &record)
                        .map_err(|nonsense| StoreError::Failed(nonsense.to_string()))?,
                    (None, _) => {
                        return Err(StoreError::Failed("the history does not begin with a start".into()));
                    }
                }
            }
        }
        let mut machine = machine.ok_or_else(|| StoreError::Failed("the history is empty".into()))?;
        machine.resume();
        let may_have = machine.has_children() || machine.started().continued_from.is_some();
        if may_have && !machine.ended() {
            self.cancel_unwanted_children(cell, &machine)?;
        }
        let wake = machine.wake();
        self.loaded.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Live { machine, instance: None, index, wake, warned: false }))
    }

    /// The run is over, and that is durable.
    fn finish(&self, cell: &Cell, live: &Live, next: Option<(crate::store::ExecutionRow, Wake)>) {
        let machine = &live.machine;
        let mut row = cell.row.clone();
        row.status = machine.status();
        row.ended_at = Some(machine.now());
        row.digest = machine.digest();
        let view = ExecutionView {
            row,
            result: machine.result().cloned(),
            failure: machine.failure().cloned(),
            blocked: None,
            paused: None,
            continued: next.as_ref().map(|(row, _)| row.run_id),
        };
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.timers.remove(cell.alarm.load(Ordering::Relaxed), cell.key);
        self.drop_cell(cell);
        cell.updates.end();
        let closing = machine.closing();
        let may_have = machine.has_children() || machine.started().continued_from.is_some();
        if next.is_none() {
            self.tell_parent(&view);
        }
        match (next, self.arc()) {
            // A next run begins when the children of this one have been told.
            (next, Some(engine)) if may_have && closing != Closing::Left => {
                let (key, id) = (cell.key, cell.row.id.clone());
                tokio::spawn(async move {
                    engine.close_children(&id, key, closing).await;
                    if let Some((row, wake)) = next {
                        engine.take_over(&row, wake);
                    }
                });
            }
            (Some((row, wake)), _) => self.take_over(&row, wake),
            (None, _) => {}
        }
        // A run ends once; a second value would be the same.
        let _ = cell.outcome.set(view);
    }

    fn carry_out(&self, cell: &Arc<Cell>, machine: &Machine, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Preflight => self.preflight(cell, machine),
                Effect::RunActivity { seq, attempt } => self.run_activity(cell, machine, seq, attempt),
                Effect::CallTool { seq } => self.call_tool(cell, machine, seq),
                Effect::AwaitAuth { seq } => self.await_auth(cell, machine, seq),
                Effect::StartChild { seq, id, child } => self.start_child(cell, machine, seq, id, &child),
                Effect::Tell { seq } => self.tell_external(cell, machine, seq),
                Effect::CancelChild { seq, id } => self.cancel_child(cell, seq, id),
                Effect::Stop { seq } => drop(cell.operations.give_up(seq)),
                Effect::Hold => cell.operations.hold(),
                Effect::Finish => cell.operations.end(machine.closing()),
            }
        }
    }
}

/// Tells whoever waits for a message that the store failed.
fn refuse(message: Message, why: &StoreError) {
    // Whoever asked may have gone.
    match message {
        Message::News { confirm, .. } => {
            let _ = confirm.map(|confirm| confirm.send(Err(Refused::Store(why.clone()))));
        }
        Message::Query { reply, .. } => drop(reply.send(Err(Unanswered::Store(why.clone())))),
        Message::Upgrade { reply, .. } => drop(reply.send(Err(Refused::Store(why.clone())))),
        Message::Reset { reply, .. } => drop(reply.send(Err(why.clone().into()))),
    }
}

/// Tells whoever waits for a message that the run has ended.
fn refuse_ended(message: Message) {
    match message {
        Message::News { confirm, .. } => {
            let _ = confirm.map(|confirm| confirm.send(Err(Refused::Ended)));
        }
        Message::Query { reply, .. } => drop(reply.send(Err(Unanswered::Ended))),
        Message::Upgrade { reply, .. } => drop(reply.send(Err(Refused::Ended))),
        // It is repeated on the history of a run that has ended.
        Message::Reset { reply, .. } => drop(reply),
    }
}

fn trapped_for_good(live: &mut Live, message: String) {
    live.instance = None;
    let now = live.machine.now();
    live.machine.receive(Input::Trapped(Failure::permanent(Failure::TRAP, message)), now);
}

/// Counts a driver in, and out again however it leaves.
pub(super) struct UnderWay<'a>(&'a tokio::sync::watch::Sender<usize>);

impl<'a> UnderWay<'a> {
    pub(super) fn new(turns: &'a tokio::sync::watch::Sender<usize>) -> Self {
        // Only whoever waits for the last one to end listens.
        turns.send_if_modified(|turns| {
            *turns += 1;
            false
        });
        Self(turns)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.send_if_modified(|turns| {
            *turns -= 1;
            *turns == 0
        });
    }
}

pub(super) fn init(id: &crate::ExecutionId, started: &Started, started_at: UnixMs) -> WorkflowInit {
    WorkflowInit {
        workflow: started.workflow.clone(),
        execution_id: id.clone(),
        run_id: started.run_id,
        input: started.input.clone(),
        holder: started.principal.user.to_string(),
        seed: started.seed,
        started_at_ms: started_at,
        parent: started.parent.as_ref().map(|parent| parent.id.clone()),
        attempt: started.attempt,
    }
}

/// The search keys that a run begins with, as changes.
pub(super) fn initial_keys(started: &Started) -> Vec<(String, crate::history::SearchValue)> {
    use crate::history::SearchValue;
    let change = |value: &Option<String>| match value {
        Some(text) => SearchValue::Text(text.clone()),
        None => SearchValue::Null,
    };
    started.search_keys.iter().map(|(name, value)| (name.clone(), change(value))).collect()
}

/// Whether the store has to know of a new time: a look too early costs a look, one too late loses time.
fn wake_matters(known: Wake, new: Wake) -> bool {
    match (known, new) {
        (Wake::Now, Wake::At(_)) | (_, Wake::Never) => known != new,
        _ => new < known,
    }
}

impl From<Rebuild> for Unanswered {
    fn from(error: Rebuild) -> Self {
        match error {
            Rebuild::NotBegun => Self::NotStarted,
            Rebuild::Diverged(difference) => Self::Diverged(difference),
            Rebuild::Guest(error) => Self::Guest(error),
            Rebuild::Store(error) => Self::Store(error),
        }
    }
}
