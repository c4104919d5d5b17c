//! One look through the folder: takes up what is new, drops what is gone, rejects what is wrong.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use airlock_engine::{
    Digest,
    guests::{PluginState, PluginStatus},
};

use super::{
    served::Served,
    stamp::{self, Stamp},
};
use crate::{
    config::Limits,
    library::Library,
    plugin::{Plugin, Rejection, check_header},
    policy::Policy,
    storage::digest_of,
};

/// A file that does not parse may still be growing: it is rejected only when it has stood still this long.
const UNFINISHED: Duration = Duration::from_millis(700);

/// The folder, file by file.
pub(crate) struct Folder {
    dir: PathBuf,
    settle_time: Duration,
    limits: Arc<Limits>,
    entries: BTreeMap<String, Entry>,
}

/// A file.
struct Entry {
    seen: Stamp,
    /// Since when it looks like that.
    since: Instant,
    /// What was judged last.
    judged: Option<Stamp>,
    serving: Option<Serving>,
    rejected: Option<Rejected>,
}

/// A version that passed.
struct Serving {
    plugin: Arc<Plugin>,
    policy: Option<Arc<Policy>>,
    bytes: u64,
    at: SystemTime,
}

/// The latest version, if it did not.
struct Rejected {
    rejection: Rejection,
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

struct Judgement {
    digest: Digest,
    verdict: Result<(Arc<Plugin>, Option<Arc<Policy>>), Rejection>,
}

impl Folder {
    pub(crate) fn new(dir: PathBuf, settle_time: Duration, limits: Arc<Limits>) -> Self {
        Self { dir, settle_time, limits, entries: BTreeMap::new() }
    }

    /// Looks through the folder. Fails when it cannot be read; everything stays as it was then.
    pub(crate) async fn scan(&mut self, library: &Arc<Library>) -> io::Result<Scanned> {
        let listed = stamp::list(&self.dir)?;
        let mut changed = self.drop_missing(&listed);
        let mut again: Option<Duration> = None;
        for (name, stamp) in listed {
            let age = self.see(&name, stamp);
            // Seen above; a name that is not there any more needs no judgement.
            let Some(entry) = self.entries.get(&name) else { continue };
            if entry.judged == Some(stamp) {
                continue;
            }
            if age < self.settle_time {
                again = earlier(again, self.settle_time - age);
                continue;
            }
            match self.judge(library, &name, stamp).await {
                Some(judgement) if is_unfinished(&judgement) && age < UNFINISHED => {
                    again = earlier(again, UNFINISHED - age);
                }
                Some(judgement) => {
                    self.accept(&name, stamp, judgement);
                    changed = true;
                }
                None => again = earlier(again, self.settle_time),
            }
        }
        if changed {
            self.retry_duplicates(library).await;
        }
        Ok(Scanned { changed, again })
    }

    fn drop_missing(&mut self, listed: &BTreeMap<String, Stamp>) -> bool {
        let before = self.entries.len();
        self.entries.retain(|name, _| {
            let stays = listed.contains_key(name);
            if !stays {
                tracing::info!(plugin = %name, "plugin removed; executions that run on it go on");
            }
            stays
        });
        before != self.entries.len()
    }

    /// Notes how a file looks now, and says since when.
    fn see(&mut self, name: &str, stamp: Stamp) -> Duration {
        let now = Instant::now();
        // A file that was written long before it was first seen has stood still all the time.
        let since = now.checked_sub(stamp.age()).unwrap_or(now);
        let entry = self.entries.entry(name.to_owned()).or_insert_with(|| Entry {
            seen: stamp,
            since,
            judged: None,
            serving: None,
            rejected: None,
        });
        if entry.seen != stamp {
            (entry.seen, entry.since) = (stamp, since);
        }
        now.duration_since(entry.since)
    }

    /// Reads and loads a file; none if it changed meanwhile.
    async fn judge(&self, library: &Arc<Library>, name: &str, stamp: Stamp) -> Option<Judgement> {
        let (dir, owned, limits) = (self.dir.clone(), name.to_owned(), self.limits.clone());
        let read = tokio::task::spawn_blocking(move || {
            let files = read(&dir, &owned, stamp, &limits);
            let unchanged = Stamp::of(&dir, &owned).ok().flatten() == Some(stamp);
            unchanged.then_some(files)
        });
        let unread = |rejection| Some(Judgement { digest: Digest([0; 32]), verdict: Err(rejection) });
        let Files { contents, digest, policy } = match read.await {
            Ok(None) => return None,
            Ok(Some(Ok(files))) => files,
            Ok(Some(Err(rejection))) => return unread(rejection),
            Err(error) => return unread(Rejection::Host(error.to_string())),
        };
        let verdict = async {
            check_header(&contents)?;
            let policy = policy?;
            let plugin = library.take_up(digest, name, contents.clone()).await?;
            self.check_duplicates(name, &plugin)?;
            library.keep(&plugin, name, contents).await?;
            Ok((plugin, policy))
        };
        Some(Judgement { digest, verdict: verdict.await })
    }

    fn check_duplicates(&self, name: &str, plugin: &Plugin) -> Result<(), Rejection> {
        for (other, entry) in self.entries.iter().filter(|(other, _)| *other != name) {
            let Some(serving) = &entry.serving else { continue };
            for workflow in &plugin.definition().workflows {
                if serving.plugin.definition().workflow(&workflow.name).is_some() {
                    return Err(Rejection::Duplicate {
                        workflow: workflow.name.clone(),
                        other: other.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, name: &str, stamp: Stamp, judgement: Judgement) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let (at, bytes, digest) = (SystemTime::now(), stamp.component.bytes, judgement.digest);
        entry.judged = Some(stamp);
        match judgement.verdict {
            Ok((plugin, policy)) => {
                let definition = plugin.definition();
                tracing::info!(
                    plugin = name, %digest,
                    workflows = definition.workflows.len(), activities = definition.activities.len(),
                    "plugin ready",
                );
                entry.rejected = None;
                entry.serving = Some(Serving { plugin, policy, bytes, at });
            }
            Err(rejection) => {
                tracing::error!(plugin = name, error = %rejection, earlier_version_serves = entry.serving.is_some(), "plugin rejected");
                entry.rejected = Some(Rejected { rejection, digest, bytes, at });
            }
        }
    }

    /// What was rejected because another file served its workflow may be free now.
    async fn retry_duplicates(&mut self, library: &Arc<Library>) {
        let waiting: Vec<(String, Stamp)> = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                entry.rejected.as_ref().is_some_and(|it| matches!(it.rejection, Rejection::Duplicate { .. }))
            })
            .filter_map(|(name, entry)| Some((name.clone(), entry.judged?)))
            .collect();
        for (name, stamp) in waiting {
            if let Some(judgement) = self.judge(library, &name, stamp).await
                && judgement.verdict.is_ok()
            {
                self.accept(&name, stamp, judgement);
            }
        }
    }

    /// The picture for everybody else.
    pub(crate) fn picture(&self) -> Served {
        let mut served = Served::default();
        for (name, entry) in &self.entries {
            served.statuses.extend(entry.status(name));
            let broken = match &entry.rejected {
                Some(Rejected { rejection: Rejection::Policy { .. }, .. }) => entry.rejected.as_ref(),
                _ => None,
            };
            if let Some(serving) = &entry.serving {
                let digest = serving.plugin.digest();
                served.digests.insert(digest);
                let workflows = &serving.plugin.definition().workflows;
                served.workflows.extend(workflows.iter().map(|workflow| (workflow.name.clone(), digest)));
                if let Some(policy) = &serving.policy {
                    served.policies.insert(name.as_str().into(), policy.clone());
                }
            } else if let Some(broken) = broken {
                served.broken_policies.insert(name.as_str().into(), broken.rejection.to_string());
            }
        }
        served
    }
}

/// A plugin's files as they were read.
struct Files {
    contents: Arc<Vec<u8>>,
    digest: Digest,
    policy: Result<Option<Arc<Policy>>, Rejection>,
}

fn read(dir: &Path, name: &str, stamp: Stamp, limits: &Limits) -> Result<Files, Rejection> {
    let bytes = stamp.component.bytes;
    if bytes > limits.component_bytes {
        return Err(Rejection::TooLarge { bytes, limit: limits.component_bytes });
    }
    let contents = fs::read(dir.join(format!("{name}.wasm")))
        .map_err(|error| Rejection::Unreadable(error.to_string()))?;
    Ok(Files {
        digest: digest_of(&contents),
        contents: Arc::new(contents),
        policy: read_policy(dir, name, limits),
    })
}

fn read_policy(dir: &Path, name: &str, limits: &Limits) -> Result<Option<Arc<Policy>>, Rejection> {
    let file = format!("{name}.toml");
    let path = dir.join(&file);
    let wrong = |reason: String| Rejection::Policy { file, reason };
    match fs::read_to_string(path) {
        Ok(text) => Policy::parse(&text, limits).map(|policy| Some(Arc::new(policy))).map_err(wrong),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(format!("it cannot be read: {error}"))),
    }
}

fn is_unfinished(judgement: &Judgement) -> bool {
    judgement.verdict.as_ref().is_err_and(Rejection::may_be_unfinished)
}

fn earlier(a: Option<Duration>, b: Duration) -> Option<Duration> {
    Some(a.map_or(b, |a| a.min(b)))
}

impl Entry {
    /// None while it was never judged.
    fn status(&self, name: &str) -> Option<PluginStatus> {
        match (&self.rejected, &self.serving) {
            (Some(rejected), serving) => {
                let earlier =
                    if serving.is_some() { " (the earlier version of the file goes on serving)" } else { "" };
                Some(PluginStatus {
                    name: name.to_owned(),
                    digest: rejected.digest,
                    bytes: rejected.bytes,
                    loaded_at: rejected.at,
                    state: PluginState::Rejected { error: format!("{}{earlier}", rejected.rejection) },
                })
            }
            (None, Some(serving)) => Some(PluginStatus {
                name: name.to_owned(),
                digest: serving.plugin.digest(),
                bytes: serving.bytes,
                loaded_at: serving.at,
                state: PluginState::Ready { definition: serving.plugin.definition().clone() },
            }),
            (None, None) => None,
        }
    }
}
