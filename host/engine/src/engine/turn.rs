//! One turn of one execution: news in, records durable, effects out.

use std::{collections::VecDeque, sync::Arc};

use super::{
    Engine, ExecutionView, Progress,
    cell::{Cell, Live, Message},
    now_ms,
};
use crate::{
    Failure,
    guests::{Activation, GuestError, WorkflowInit, WorkflowInstance},
    history::{Record, Started, StoredRecord, UnixMs},
    machine::{Effect, Input, Machine},
    store::{Append, StoreError, Wake},
};

/// Turns after which a driver lets others have the thread.
const TURNS_IN_A_ROW: u32 = 32;

/// Records that are read at once when an execution is loaded.
const PAGE: usize = 1024;

/// A turn that left no trace and is to be repeated.
pub(super) struct Postponed {
    pub(super) messages: VecDeque<Message>,
    pub(super) why: StoreError,
}

/// Why an instance could not be built.
enum Rebuild {
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
    /// Lets an execution have turns as long as there is news, unless somebody else does that already.
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

    /// One turn. `born` is the state of an execution that is not in the store yet.
    pub(super) async fn turn(
        &self,
        cell: &Arc<Cell>,
        born: Option<Box<Live>>,
        mut messages: VecDeque<Message>,
    ) -> Result<(), Postponed> {
        match self.try_turn(cell, born, &mut messages).await {
            Ok(()) => {
                for message in messages {
                    if let Some(confirm) = message.confirm {
                        // Whoever asked may have gone.
                        let _ = confirm.send(Ok(()));
                    }
                }
                Ok(())
            }
            Err(why) => {
                // Callers that wait are told; what nobody waits for is kept for the next try.
                let mut kept = VecDeque::new();
                for message in messages {
                    match message.confirm {
                        Some(confirm) => {
                            let _ = confirm.send(Err(why.clone()));
                        }
                        None => kept.push_back(message),
                    }
                }
                Err(Postponed { messages: kept, why })
            }
        }
    }

    async fn try_turn(
        &self,
        cell: &Arc<Cell>,
        born: Option<Box<Live>>,
        messages: &mut VecDeque<Message>,
    ) -> Result<(), StoreError> {
        let is_new = born.is_some();
        let mut live = match born.or_else(|| cell.take_live()) {
            Some(live) => live,
            None => self.load(cell).await?,
        };
        let now = now_ms();
        let mut unblocked = false;
        for message in messages.iter() {
            unblocked |= live.machine.blocked().is_some() && matches!(message.input, Input::Unblock);
            live.machine.receive(message.input.clone(), now);
        }
        live.machine.receive(Input::Tick, now);
        let loaded_again = self.activate(cell, &mut live).await;
        if let Err(error) = loaded_again {
            self.loaded.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            return Err(error);
        }

        let records = live.machine.take_records();
        tracing::trace!(execution = %cell.row.id, news = messages.len(), records = records.len(), "a turn");
        if !records.is_empty() {
            let count = records.len() as u32;
            let wake = live.machine.wake();
            let append = Append {
                key: cell.key,
                index: live.index,
                at: live.machine.now(),
                records,
                start: is_new.then(|| Box::new(cell.row.clone())),
                end: live.machine.ended().then(|| (live.machine.status(), live.machine.now())),
                wake: (is_new || wake_matters(live.wake, wake)).then_some(wake),
            };
            if let Some(wake) = append.wake {
                live.wake = wake;
            }
            if let Err(error) = self.store.append(append).await {
                // The machine is ahead of the history: it is built again from there.
                self.loaded.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                return Err(error);
            }
            live.index += count;
        }
        let effects = live.machine.take_effects();
        let ended = live.machine.ended();
        if ended {
            self.finish(cell, &live);
        }
        cell.progress.send_replace(Progress { records: live.index, ended });
        if ended {
            cell.ended.send_replace(true);
        }
        self.carry_out(cell, &live.machine, effects);
        if let Some(at) = live.machine.next_time()
            && let Some(before) = cell.set_alarm(at, live.machine.now())
        {
            self.timers.remove(before, cell.key);
            self.timers.set(at, cell.key);
        }
        if ended || unblocked {
            self.loaded.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            if unblocked && !ended {
                // What happened while it was blocked was not kept: start from the history.
                cell.post(Input::Tick);
            }
        } else {
            cell.put_live(live);
        }
        Ok(())
    }

    /// Tells the workflow what happened, if anything did.
    async fn activate(&self, cell: &Cell, live: &mut Live) -> Result<(), StoreError> {
        let mut trapped = false;
        while !live.machine.jobs().is_empty() {
            if live.instance.is_none() {
                match self.rebuild(cell, &live.machine, live.index).await {
                    Ok(instance) => live.instance = Some(instance),
                    Err(Rebuild::Diverged(difference)) => {
                        tracing::error!(execution = %cell.row.id, difference, "the code does not repeat its history");
                        live.machine.receive(Input::Diverged(difference), live.machine.now());
                        return Ok(());
                    }
                    Err(Rebuild::Store(error)) => return Err(error),
                    Err(Rebuild::Guest(GuestError::Trapped(message) | GuestError::Invalid(message))) => {
                        self.trapped(live, message);
                        return Ok(());
                    }
                    Err(Rebuild::Guest(error)) => return Err(StoreError::Failed(error.to_string())),
                }
            }
            let Some(instance) = live.instance.as_mut() else { return Ok(()) };
            let activation =
                Activation { now_ms: live.machine.now(), replaying: false, jobs: live.machine.jobs() };
            match instance.activate(activation).await {
                Ok(commands) => {
                    if let Err(problem) = live.machine.commands(commands) {
                        self.trapped(live, problem);
                    }
                    if live.machine.ended() {
                        live.instance = None;
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
                    self.trapped(live, message);
                    return Ok(());
                }
                Err(error) => return Err(StoreError::Failed(error.to_string())),
            }
        }
        Ok(())
    }

    fn trapped(&self, live: &mut Live, message: String) {
        live.instance = None;
        let now = live.machine.now();
        live.machine.receive(Input::Trapped(Failure::permanent(Failure::TRAP, message)), now);
    }

    /// Builds an instance by repeating the history. The commands must be the same.
    async fn rebuild(
        &self,
        cell: &Cell,
        machine: &Machine,
        records: u32,
    ) -> Result<Box<dyn WorkflowInstance>, Rebuild> {
        let started = machine.started();
        let init = init(cell, started, machine.started_at());
        let mut instance = self.guests.create(&started.digest, init).await.map_err(Rebuild::Guest)?;
        let mut index = 0;
        let mut event = 0u64;
        while index < records {
            let page = self.store.history(cell.key, index, PAGE)?;
            if page.is_empty() {
                break;
            }
            for StoredRecord { at, record, .. } in &page {
                index += 1;
                if let Record::Activation { jobs, commands } = record {
                    let activation = Activation { now_ms: *at, replaying: true, jobs };
                    let produced = instance.activate(activation).await.map_err(Rebuild::Guest)?;
                    if let Some(difference) = first_difference(event + jobs.len() as u64, commands, &produced)
                    {
                        return Err(Rebuild::Diverged(difference));
                    }
                }
                event += record.event_count();
            }
        }
        Ok(instance)
    }

    /// Reads an execution's state from its history.
    async fn load(&self, cell: &Arc<Cell>) -> Result<Box<Live>, StoreError> {
        let mut machine: Option<Machine> = None;
        let mut index = 0;
        loop {
            let page = self.store.history(cell.key, index, PAGE)?;
            if page.is_empty() {
                break;
            }
            for StoredRecord { at, record, .. } in page {
                index += 1;
                match (&mut machine, record) {
                    (None, Record::Started(started)) => {
                        let definition = self
                            .guests
                            .definition(&started.digest)
                            .await
                            .map_err(|error| StoreError::Failed(error.to_string()))?;
                        machine = Some(Machine::read(definition, *started, at));
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
        let wake = machine.wake();
        self.loaded.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(Box::new(Live { machine, instance: None, index, wake }))
    }

    fn finish(&self, cell: &Cell, live: &Live) {
        let machine = &live.machine;
        let mut row = cell.row.clone();
        row.status = machine.status();
        row.ended_at = Some(machine.now());
        let view = ExecutionView {
            row,
            result: machine.result().cloned(),
            failure: machine.failure().cloned(),
            blocked: None,
        };
        // An execution ends once; a second value would be the same.
        let _ = cell.outcome.set(view);
        self.open.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        self.timers.remove(cell.alarm.load(std::sync::atomic::Ordering::Relaxed), cell.key);
        self.drop_cell(cell);
    }

    fn carry_out(&self, cell: &Arc<Cell>, machine: &Machine, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Preflight => self.preflight(cell, machine),
                Effect::RunActivity { seq, attempt } => self.run_activity(cell, machine, seq, attempt),
                Effect::CallTool { seq } => self.call_tool(cell, machine, seq),
                Effect::AwaitAuth { seq } => self.await_auth(cell, machine, seq),
                Effect::Stop { seq } => {
                    if let Some(token) = cell.running.lock().get(&seq) {
                        token.cancel();
                    }
                }
                Effect::Finish => {
                    for token in cell.running.lock().values() {
                        token.cancel();
                    }
                }
            }
        }
    }
}

/// Counts a driver in, and out again however it leaves.
pub(super) struct UnderWay<'a>(&'a tokio::sync::watch::Sender<usize>);

impl<'a> UnderWay<'a> {
    pub(super) fn new(turns: &'a tokio::sync::watch::Sender<usize>) -> Self {
        turns.send_modify(|turns| *turns += 1);
        Self(turns)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|turns| *turns -= 1);
    }
}

pub(super) fn init(cell: &Cell, started: &Started, started_at: UnixMs) -> WorkflowInit {
    WorkflowInit {
        workflow: started.workflow.clone(),
        execution_id: cell.row.id.clone(),
        run_id: started.run_id,
        input: started.input.clone(),
        seed: started.seed,
        started_at_ms: started_at,
    }
}

/// Whether the store has to know of a new time: a look too early costs a look, one too late loses time.
fn wake_matters(known: Wake, new: Wake) -> bool {
    match (known, new) {
        (Wake::Now, Wake::At(_)) | (_, Wake::Never) => known != new,
        _ => new < known,
    }
}

/// The first command that is not as it was, as a sentence.
fn first_difference(
    first_event: u64,
    recorded: &[crate::history::Command],
    produced: &[crate::history::Command],
) -> Option<String> {
    let length = recorded.len().max(produced.len());
    let position = (0..length).find(|&i| recorded.get(i) != produced.get(i))?;
    let show = |command: Option<&crate::history::Command>| match command {
        Some(command) => command.to_string(),
        None => "nothing".into(),
    };
    Some(format!(
        "event {} of the history is {}, but the code now wants {}. Put back the component this execution started on \
         and unblock it",
        first_event + position as u64 + 1,
        show(recorded.get(position)),
        show(produced.get(position)),
    ))
}
