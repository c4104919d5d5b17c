//! One look through the folder: has judged what is new, takes up what was judged well, drops what is gone.
//!
//! Each file is judged in a task of its own, so that what takes long, or never ends, makes no other file wait.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use airlock_engine::{
    Digest,
    guests::{PluginState, PluginStatus},
};
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet},
};

use super::{
    judgement::{Candidate, Granted, Judgement, Judging, Outcome, read_policy},
    served::Served,
    stamp::{self, Stamp},
};
use crate::{config::Limits, library::Library, plugin::Rejection};

/// A file that does not parse may still be growing: it is rejected only when it has stood still this long.
const UNFINISHED: Duration = Duration::from_millis(700);

/// What a file that is gone served goes on serving for so long at most, while a new file is judged: it may be the same one
/// under another name.
const RENAMED: Duration = Duration::from_secs(5);

/// The folder, file by file.
pub(crate) struct Folder {
    dir: PathBuf,
    settle_time: Duration,
    limits: Arc<Limits>,
    entries: BTreeMap<String, Entry>,
    judging: JoinSet<Judgement>,
    /// Told when a judgement is there.
    news: Arc<Notify>,
    /// Every file that was there at the beginning has been judged once.
    looked_through: bool,
}

/// A file.
struct Entry {
    seen: Stamp,
    /// Since when it looks like that.
    since: Instant,
    /// What is being judged, and the task that does.
    judging: Option<(Stamp, AbortHandle)>,
    /// What was judged last.
    judged: Option<Stamp>,
    serving: Option<Serving>,
    rejected: Option<Rejected>,
    /// As it was when the file was seen first: it holds until the file was judged.
    first_policy: Granted,
    first_seen: SystemTime,
    /// Since when there is no such file.
    gone: Option<Instant>,
}

/// A version that serves.
struct Serving {
    candidate: Candidate,
    bytes: u64,
    at: SystemTime,
}

/// The latest version, if it does not serve.
struct Rejected {
    rejection: Rejection,
    /// It would serve if other files did not.
    candidate: Option<Candidate>,
    digest: Digest,
    bytes: u64,
    at: SystemTime,
}

/// What a look through the folder came to.
pub(crate) struct Scanned {
    /// There is something new to publish.
    pub(crate) changed: bool,
    /// Look again after this time: a file is still being written.
    pub(crate) again: Option<Duration>,
}

impl Folder {
    pub(crate) fn new(dir: PathBuf, settle_time: Duration, limits: Arc<Limits>) -> Self {
        Self {
            dir,
            settle_time,
            limits,
            entries: BTreeMap::new(),
            judging: JoinSet::new(),
            news: Arc::default(),
            looked_through: false,
        }
    }

    /// Told when there is a reason to look again.
    pub(crate) fn news(&self) -> &Arc<Notify> {
        &self.news
    }

    /// Whether a file has not been judged as it is now.
    pub(crate) fn is_busy(&self) -> bool {
        self.entries.values().any(|entry| entry.gone.is_none() && entry.judged != Some(entry.seen))
    }

    /// Looks through the folder. Fails when it cannot be read; everything stays as it was then.
    pub(crate) async fn scan(&mut self, library: &Arc<Library>) -> io::Result<Scanned> {
        let listed = stamp::list(&self.dir)?;
        let mut scanned = Scanned { changed: self.miss(&listed), again: None };
        for (name, stamp) in listed {
            scanned.changed |= self.see(&name, stamp).await;
        }
        while let Some(judged) = self.judging.try_join_next() {
            match judged {
                Ok(judgement) => self.hear(library, judgement, &mut scanned).await,
                // One that was stopped is of a file that is gone or has changed.
                Err(error) if error.is_cancelled() => {}
                Err(error) => {
                    tracing::error!(%error, "a plugin could not be judged; trying again");
                    self.forget_lost();
                }
            }
        }
        for (name, entry) in &mut self.entries {
            let stamp = entry.seen;
            let under_way = entry.judging.as_ref().is_some_and(|(judging, _)| *judging == stamp);
            if entry.judged == Some(stamp) || under_way || entry.gone.is_some() {
                continue;
            }
            let age = entry.since.elapsed();
            if age < self.settle_time {
                scanned.again = earlier(scanned.again, self.settle_time - age);
                continue;
            }
            if let Some((_, task)) = entry.judging.take() {
                task.abort();
            }
            let judging = Judging {
                dir: self.dir.clone(),
                name: name.clone(),
                stamp,
                limits: self.limits.clone(),
                library: library.clone(),
            };
            let news = self.news.clone();
            let task = self.judging.spawn(async move {
                let judgement = judging.run().await;
                news.notify_one();
                judgement
            });
            entry.judging = Some((stamp, task));
        }
        scanned.changed |= self.drop_gone();
        if scanned.changed {
            self.retry_duplicates(library).await;
        }
        self.looked_through |= !self.is_busy();
        Ok(scanned)
    }

    /// Notes which files are gone. Whether there are such.
    fn miss(&mut self, listed: &BTreeMap<String, Stamp>) -> bool {
        let mut changed = false;
        for (name, entry) in &mut self.entries {
            if listed.contains_key(name) {
                changed |= entry.gone.take().is_some();
            } else if entry.gone.is_none() {
                changed = true;
                entry.gone = Some(Instant::now());
                tracing::info!(plugin = %name, "plugin removed; executions that run on it go on");
                if let Some((_, task)) = entry.judging.take() {
                    task.abort();
                }
            }
        }
        changed
    }

    /// Drops what is gone. Whether there was such.
    fn drop_gone(&mut self) -> bool {
        let before = self.entries.len();
        let new = self.entries.values().any(|entry| entry.gone.is_none() && entry.judged.is_none());
        self.entries.retain(|_, entry| entry.gone.is_none_or(|since| new && since.elapsed() < RENAMED));
        before != self.entries.len()
    }

    /// Notes how a file looks now. Whether it is a new one.
    async fn see(&mut self, name: &str, stamp: Stamp) -> bool {
        let now = Instant::now();
        // A file that was written long before it was first seen has stood still all the time.
        let since = now.checked_sub(stamp.age()).unwrap_or(now);
        if let Some(entry) = self.entries.get_mut(name) {
            if entry.seen != stamp {
                (entry.seen, entry.since) = (stamp, since);
            }
            return false;
        }
        let (dir, owned, limits) = (self.dir.clone(), name.to_owned(), self.limits.clone());
        let read = tokio::task::spawn_blocking(move || read_policy(&dir, &owned, &limits)).await;
        let entry = Entry {
            seen: stamp,
            since,
            judging: None,
            judged: None,
            serving: None,
            rejected: None,
            first_policy: read.unwrap_or_else(|error| Err(Rejection::Host(error.to_string()))),
            first_seen: SystemTime::now(),
            gone: None,
        };
        self.entries.insert(name.to_owned(), entry);
        true
    }

    /// Files whose task is gone without a judgement are judged again.
    fn forget_lost(&mut self) {
        for entry in self.entries.values_mut() {
            if entry.judging.as_ref().is_some_and(|(_, task)| task.is_finished()) {
                entry.judging = None;
            }
        }
    }

    /// A file was judged.
    async fn hear(&mut self, library: &Arc<Library>, judgement: Judgement, scanned: &mut Scanned) {
        let Judgement { name, stamp, outcome } = judgement;
        let Some(entry) = self.entries.get_mut(&name) else { return };
        if entry.judging.as_ref().is_none_or(|(judging, _)| *judging != stamp) {
            return;
        }
        entry.judging = None;
        let age = entry.since.elapsed();
        match outcome {
            None => scanned.again = earlier(scanned.again, self.settle_time),
            Some(outcome) if is_unfinished(&outcome) && age < UNFINISHED => {
                scanned.again = earlier(scanned.again, UNFINISHED - age);
            }
            Some(outcome) => {
                entry.judged = Some(stamp);
                scanned.changed = true;
                let Outcome { digest, verdict } = outcome;
                let bytes = stamp.component.bytes;
                match verdict {
                    Ok(candidate) => self.place(library, &name, candidate, bytes).await,
                    Err(rejection) => self.reject(&name, rejection, None, digest, bytes),
                }
            }
        }
    }

    /// Lets a version serve, unless another file serves one of its workflows.
    async fn place(&mut self, library: &Arc<Library>, name: &str, candidate: Candidate, bytes: u64) {
        while let Some((workflow, other)) = self.conflict(name, &candidate) {
            if self.entries.get(&other).is_some_and(|entry| entry.gone.is_some()) {
                self.entries.remove(&other);
                continue;
            }
            // While the folder is looked through for the first time, which one was judged first is chance: names decide.
            let displaced = match self.entries.get_mut(&other) {
                Some(entry) if !self.looked_through && other.as_str() > name => entry.serving.take(),
                _ => None,
            };
            let duplicate = |other: String| Rejection::Duplicate { workflow: workflow.clone(), other };
            let Some(displaced) = displaced else {
                let digest = candidate.plugin.digest();
                return self.reject(name, duplicate(other), Some(candidate), digest, bytes);
            };
            let digest = displaced.candidate.plugin.digest();
            let rejection = duplicate(name.to_owned());
            self.reject(&other, rejection, Some(displaced.candidate), digest, displaced.bytes);
        }
        let digest = candidate.plugin.digest();
        if let Err(rejection) = library.rename(&candidate.plugin, name).await {
            return self.reject(name, rejection, None, digest, bytes);
        }
        let Some(entry) = self.entries.get_mut(name) else { return };
        let definition = candidate.plugin.definition();
        tracing::info!(
            plugin = name, %digest,
            workflows = definition.workflows.len(), activities = definition.activities.len(),
            "plugin ready",
        );
        entry.rejected = None;
        entry.serving = Some(Serving { candidate, bytes, at: SystemTime::now() });
    }

    /// A workflow of the candidate that another file serves, and that file.
    fn conflict(&self, name: &str, candidate: &Candidate) -> Option<(String, String)> {
        self.entries.iter().filter(|(other, _)| *other != name).find_map(|(other, entry)| {
            let served = entry.serving.as_ref()?.candidate.plugin.definition();
            let workflows = &candidate.plugin.definition().workflows;
            let both = workflows.iter().find(|workflow| served.workflow(&workflow.name).is_some())?;
            Some((both.name.clone(), other.clone()))
        })
    }

    fn reject(
        &mut self,
        name: &str,
        rejection: Rejection,
        candidate: Option<Candidate>,
        digest: Digest,
        bytes: u64,
    ) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        tracing::error!(plugin = name, error = %rejection, earlier_version_serves = entry.serving.is_some(), "plugin rejected");
        entry.rejected = Some(Rejected { rejection, candidate, digest, bytes, at: SystemTime::now() });
    }

    /// What was rejected because another file served its workflow may be free now.
    async fn retry_duplicates(&mut self, library: &Arc<Library>) {
        let waiting: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.gone.is_none())
            .filter(|(_, entry)| entry.rejected.as_ref().is_some_and(|it| it.candidate.is_some()))
            .map(|(name, _)| name.clone())
            .collect();
        for name in waiting {
            let rejected = self.entries.get(&name).and_then(|entry| entry.rejected.as_ref());
            let Some((candidate, bytes)) = rejected.and_then(|it| Some((it.candidate.clone()?, it.bytes)))
            else {
                continue;
            };
            let other = self.conflict(&name, &candidate).and_then(|(_, other)| self.entries.get(&other));
            if other.is_none_or(|entry| entry.gone.is_some()) {
                self.place(library, &name, candidate, bytes).await;
            }
        }
    }

    /// The picture for everybody else.
    pub(crate) fn picture(&self) -> Served {
        let mut served = Served::default();
        for (name, entry) in &self.entries {
            if entry.gone.is_none() {
                served.statuses.push(entry.status(name));
            }
            let key: Arc<str> = name.as_str().into();
            let mut grant = |granted: &Granted| match granted {
                Ok(Some(policy)) => drop(served.policies.insert(key.clone(), policy.clone())),
                Ok(None) => {}
                Err(broken) => drop(served.broken_policies.insert(key.clone(), broken.to_string())),
            };
            match (&entry.serving, &entry.rejected) {
                (Some(serving), _) => grant(&Ok(serving.candidate.policy.clone())),
                (None, None) => grant(&entry.first_policy),
                (None, Some(Rejected { candidate: Some(candidate), .. })) => {
                    grant(&Ok(candidate.policy.clone()))
                }
                (None, Some(Rejected { rejection: rejection @ Rejection::Policy { .. }, .. })) => {
                    grant(&Err(rejection.clone()));
                }
                (None, Some(_)) => {}
            }
            let waiting = entry.rejected.as_ref().and_then(|rejected| rejected.candidate.as_ref());
            served.digests.extend(waiting.map(|candidate| candidate.plugin.digest()));
            if let Some(serving) = &entry.serving {
                let plugin = &serving.candidate.plugin;
                served.digests.insert(plugin.digest());
                let names = plugin.definition().workflows.iter().map(|workflow| workflow.name.clone());
                served.workflows.extend(names.map(|workflow| (workflow, plugin.digest())));
            }
        }
        served
    }
}

fn is_unfinished(outcome: &Outcome) -> bool {
    outcome.verdict.as_ref().is_err_and(Rejection::may_be_unfinished)
}

fn earlier(a: Option<Duration>, b: Duration) -> Option<Duration> {
    Some(a.map_or(b, |a| a.min(b)))
}

impl Entry {
    fn status(&self, name: &str) -> PluginStatus {
        let status = |digest, bytes, loaded_at, state| PluginStatus {
            name: name.to_owned(),
            digest,
            bytes,
            loaded_at,
            state,
        };
        match (&self.rejected, &self.serving) {
            (Some(rejected), serving) => {
                let earlier =
                    if serving.is_some() { " (the earlier version of the file goes on serving)" } else { "" };
                let error = format!("{}{earlier}", rejected.rejection);
                status(rejected.digest, rejected.bytes, rejected.at, PluginState::Rejected { error })
            }
            (None, Some(serving)) => {
                let plugin = &serving.candidate.plugin;
                let definition = plugin.definition().clone();
                status(plugin.digest(), serving.bytes, serving.at, PluginState::Ready { definition })
            }
            (None, None) => {
                status(Digest([0; 32]), self.seen.component.bytes, self.first_seen, PluginState::Loading)
            }
        }
    }
}
