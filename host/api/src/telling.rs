//! The events of many runs in the order of the store, a page at a time, from any number on.
//!
//! Only what is told is read, page by page, off the threads that serve others, and charged for before. Beyond that it
//! holds the place of the next record of each run and what it remembers of runs, of which there is a limit: a name that
//! was forgotten, or that stands before the number to begin with, is looked up in the records before.

use std::{collections::HashMap, sync::Arc};

use airlock_engine::{
    Engine, ExecutionKey,
    history::{Continuation, Record, Seq, StoredRecord},
    store::{Merge, Page, Place, Runs, Scope, StoreError, Upto},
};

use crate::{
    ApiState,
    budget::Charge,
    caller::Caller,
    events::{Event, FAILED, Next, Run, next_of},
    pages::{self, FIRST, MOST, PAGE, PATIENCE, Unread, next_size},
};

/// Runs, and names of operations, that are remembered at most.
const RUNS: usize = 2_048;
const NAMES: usize = 8_192;

/// About so many bytes of memory belong to a run, and to a name.
const RUN_BYTES: usize = 768;
const NAME_BYTES: usize = 96;

/// Records that are looked through at first for a name, the nearest ones.
const NEAR: u32 = 8;

/// An event's number and text.
pub(crate) type Told = (u64, Vec<u8>);

/// The text of an event, if it is wanted.
pub(crate) type Render = dyn Fn(&Run, &Event) -> Option<Vec<u8>> + Send + Sync;

/// In which runs to look.
pub(crate) enum Wanted {
    /// All of a scope.
    In(Arc<Scope>),
    /// These.
    These(Vec<ExecutionKey>),
}

/// Tells events.
pub(crate) struct Telling {
    engine: Arc<Engine>,
    render: Arc<Render>,
    /// Elsewhere while something is read.
    work: Option<Box<Work>>,
    upto: u64,
    size: usize,
    charge: Charge,
}

/// What is at work off the threads that serve others.
struct Work {
    engine: Arc<Engine>,
    /// Where to look, from which number on, before anything else is read.
    look: Option<(Wanted, u64)>,
    merge: Merge,
    runs: HashMap<ExecutionKey, Run>,
    /// The end of a run that failed, unless the next record says that it is none.
    withheld: Option<(ExecutionKey, Told)>,
    /// What the last record says of the next run.
    next: Option<(ExecutionKey, Next)>,
}

/// Records of a page, in their order, and what has to be looked up to tell them.
#[derive(Default)]
struct Read {
    records: Vec<(Place, StoredRecord)>,
    unknown: Vec<Unknown>,
}

/// What stands somewhere before a record.
struct Unknown {
    key: ExecutionKey,
    /// The records from this one on were looked through.
    index: u32,
    /// Operations whose names are wanted.
    names: Vec<Seq>,
    /// What the record just before says of the next run is wanted.
    next: bool,
}

impl Telling {
    /// Pages of about so many records at first.
    pub(crate) fn new(state: &ApiState, caller: &Caller, size: usize, render: Arc<Render>) -> Self {
        let engine = Arc::clone(&state.engine);
        let work = Work {
            engine: Arc::clone(&engine),
            look: None,
            merge: Merge::default(),
            runs: HashMap::new(),
            withheld: None,
            next: None,
        };
        let size = size.clamp(FIRST, MOST);
        Self { engine, render, work: Some(Box::new(work)), upto: 0, size, charge: caller.visit.charge() }
    }

    /// Goes through the events of these runs whose numbers are `from` at least and `upto` at most. Everything up to there
    /// has to be committed, and whole commits.
    pub(crate) fn look(&mut self, wanted: Wanted, from: u64, upto: u64) {
        self.upto = upto;
        if let Some(work) = &mut self.work {
            work.look = Some((wanted, from));
        }
    }

    /// The next events, perhaps none of those that were read; `None` when there are no more. Those before are no longer
    /// charged for.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Told>>, Unread> {
        let upto = Upto { event: self.upto, records: self.size, bytes: PAGE };
        let Page { places, bytes } = self.aside(0, move |work| work.page(upto)).await??;
        if places.is_empty() {
            let last = self.work.as_mut().and_then(|work| work.end());
            return Ok(last.map(|last| vec![last]));
        }
        let Read { records, unknown } = self.aside(bytes, move |work| work.read(&places)).await??;
        for unknown in unknown {
            self.look_back(unknown, bytes).await?;
        }
        let render = Arc::clone(&self.render);
        let told = self.aside(bytes, move |work| work.tell(&records, &*render)).await?;
        let text = told.iter().map(|(_, text)| text.capacity()).sum();
        // It is less than what was charged for, but for small things that become larger as text.
        self.charge.set_within(self.held() + text, PATIENCE).await?;
        self.size = next_size(self.size, text);
        Ok(Some(told))
    }

    /// Bytes that are held between pages.
    fn held(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.bytes())
    }

    /// Does a piece of the work, for which so many bytes are read.
    async fn aside<T: Send + 'static>(
        &mut self,
        bytes: u64,
        work: impl FnOnce(&mut Work) -> T + Send + 'static,
    ) -> Result<T, Unread> {
        let bytes = bytes + self.held() as u64;
        let mut own = self.work.take().ok_or(Unread::Gone)?;
        let done = pages::aside(&mut self.charge, bytes, move || {
            let made = work(&mut own);
            (own, made)
        });
        let (own, made) = done.await?;
        self.work = Some(own);
        Ok(made)
    }

    /// Looks through the records before one until everything is found, from the nearest on. The page of the record, which
    /// has so many bytes, is held meanwhile.
    async fn look_back(&mut self, mut unknown: Unknown, page: u64) -> Result<(), Unread> {
        let mut count = NEAR;
        while !unknown.is_found() {
            let from = unknown.index.saturating_sub(count);
            let wanted = (unknown.index - from) as usize;
            let sizes = self.engine.sizes(unknown.key, from, wanted)?;
            // There are none before the first one, and those of a run that was removed are gone.
            if wanted == 0 || sizes.len() < wanted {
                break;
            }
            let (mut fit, mut bytes) = (0, 0);
            for size in sizes.iter().rev() {
                if fit > 0 && bytes + size > PAGE {
                    break;
                }
                (fit, bytes) = (fit + 1, bytes + size);
            }
            unknown = self.aside(page + bytes, move |work| work.find(unknown, fit)).await??;
            count = count.saturating_mul(2);
        }
        if let Some(run) = self.work.as_mut().and_then(|work| work.runs.get_mut(&unknown.key)) {
            unknown.names.into_iter().for_each(|seq| run.is_nameless(seq));
        }
        Ok(())
    }
}

impl Unknown {
    fn is_found(&self) -> bool {
        self.names.is_empty() && !self.next
    }
}

impl Work {
    fn bytes(&self) -> usize {
        let names: usize = self.runs.values().map(Run::remembered).sum();
        let withheld = self.withheld.as_ref().map_or(0, |(_, (_, text))| text.capacity());
        let next = self.next.as_ref().map_or(0, |(_, (_, input))| input.as_str().len());
        self.merge.bytes() + RUN_BYTES * self.runs.len() + NAME_BYTES * names + withheld + next
    }

    /// The places of the next page.
    fn page(&mut self, upto: Upto) -> Result<Page, StoreError> {
        if let Some((wanted, from)) = self.look.take() {
            let runs = match &wanted {
                Wanted::In(scope) => Runs::In(scope),
                Wanted::These(keys) => Runs::These(keys),
            };
            self.merge = self.engine.seek(runs, from)?;
        }
        if self.runs.len() > RUNS || self.runs.values().map(Run::remembered).sum::<usize>() > NAMES {
            self.runs.clear();
        }
        self.engine.merged(&mut self.merge, upto)
    }

    fn read(&mut self, places: &[Place]) -> Result<Read, StoreError> {
        let mut read = Read::default();
        let records = self.engine.records(places)?;
        for (place, stored) in places.iter().zip(records) {
            let Some(stored) = stored else { continue };
            if !self.runs.contains_key(&place.key) {
                let Some(row) = self.engine.row_at(place.key)? else { continue };
                self.runs.insert(place.key, Run::new(row));
            }
            if let Some(run) = self.runs.get_mut(&place.key) {
                run.learn(&stored.record);
            }
            read.records.push((*place, stored));
        }
        // A record that wants to know of the one before stands directly behind it, in the order of the store as well.
        let mut said = self.next.as_ref().map(|(key, _)| *key);
        let mut wanted: HashMap<ExecutionKey, usize> = HashMap::new();
        for (place, stored) in &read.records {
            let as_new = matches!(&stored.record, Record::Continued { reason: Continuation::AsNew, .. });
            let next = as_new && said != Some(place.key);
            said = next_of(&stored.record).map(|_| place.key);
            let names = self.runs.get(&place.key).map(|run| run.unknown(&stored.record)).unwrap_or_default();
            if names.is_empty() && !next {
                continue;
            }
            // What a run wants to know is looked up once, before its first record of the page.
            let at = *wanted.entry(place.key).or_insert_with(|| {
                let index = place.index;
                read.unknown.push(Unknown { key: place.key, index, names: Vec::new(), next: false });
                read.unknown.len() - 1
            });
            if let Some(unknown) = read.unknown.get_mut(at) {
                unknown.next |= next;
                unknown.names.extend(names);
            }
        }
        for unknown in &mut read.unknown {
            unknown.names.sort_unstable();
            unknown.names.dedup();
        }
        Ok(read)
    }

    /// Looks for what is unknown in the `count` records before.
    fn find(&mut self, mut unknown: Unknown, count: u32) -> Result<Unknown, StoreError> {
        let from = unknown.index.saturating_sub(count);
        let records = self.engine.history(unknown.key, from, count as usize)?;
        if unknown.next {
            // It is in the last one, or nowhere.
            let next = records.last().and_then(|stored| next_of(&stored.record));
            self.next = next.map(|next| (unknown.key, next));
            unknown.next = false;
        }
        if let Some(run) = self.runs.get_mut(&unknown.key) {
            for stored in &records {
                run.find(&stored.record, &mut unknown.names);
            }
        }
        unknown.index = from;
        Ok(unknown)
    }

    fn tell(&mut self, records: &[(Place, StoredRecord)], render: &Render) -> Vec<Told> {
        let mut told = Vec::new();
        for (place, stored) in records {
            let is_retried = matches!(&stored.record, Record::Continued { reason: Continuation::Retry, .. });
            let withheld = self.withheld.take();
            told.extend(withheld.filter(|(key, _)| !(is_retried && *key == place.key)).map(|(_, told)| told));
            let next = self.next.take().filter(|(key, _)| *key == place.key);
            self.next = next_of(&stored.record).map(|next| (place.key, next));
            let Some(run) = self.runs.get_mut(&place.key) else { continue };
            for event in run.events(stored, next.as_ref().map(|(_, next)| next)) {
                let Some(text) = render(run, &event) else { continue };
                match event.kind {
                    FAILED => self.withheld = Some((place.key, (event.number, text))),
                    _ => told.push((event.number, text)),
                }
            }
        }
        told
    }

    /// What was held back because of what might have followed: nothing did.
    fn end(&mut self) -> Option<Told> {
        self.withheld.take().map(|(_, told)| told)
    }
}
