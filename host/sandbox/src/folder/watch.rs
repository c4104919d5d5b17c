//! Notices that the folder changed.

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{sync::Notify, time::timeout};

/// How long reports of changes are gathered before the folder is looked through.
const GATHER: Duration = Duration::from_millis(20);

/// What looking through the folder gives: when to look again if a file is still being written.
type Looked = io::Result<Option<Duration>>;

/// Looks through the folder after every change, and now and then without one, as long as there is somebody who looks.
///
/// `changes` is told of changes by others as well.
pub(crate) async fn watch<F>(
    look: impl Fn() -> F,
    dir: PathBuf,
    rescan_interval: Duration,
    mut again: Option<Duration>,
    changes: Arc<Notify>,
) where
    F: Future<Output = Option<Looked>>,
{
    let mut watcher = start(&dir, &changes);
    let mut readable = true;
    loop {
        let wait = again.map_or(rescan_interval, |again| again.min(rescan_interval));
        if timeout(wait, changes.notified()).await.is_ok() {
            tokio::time::sleep(GATHER).await;
        }
        let Some(looked) = look().await else { return };
        match looked {
            Ok(next) => {
                if !readable {
                    tracing::info!(folder = %dir.display(), "the plugin folder can be read again");
                    // The folder may be another one of the same name, which the old watch does not see.
                    watcher = start(&dir, &changes);
                }
                (readable, again) = (true, next);
            }
            Err(error) => {
                if readable {
                    tracing::error!(folder = %dir.display(), %error, "the plugin folder cannot be read; what is loaded goes on serving");
                }
                (readable, again) = (false, None);
            }
        }
        // Without a watcher the interval alone finds changes.
        if watcher.is_none() {
            watcher = start(&dir, &changes);
        }
    }
}

fn start(dir: &Path, changes: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let notify = changes.clone();
    let on_event = move |event: notify::Result<notify::Event>| {
        // Reading a file is no change; the scan itself reads.
        if !matches!(event, Ok(notify::Event { kind: EventKind::Access(_), .. })) {
            notify.notify_one();
        }
    };
    let started = notify::recommended_watcher(on_event)
        .and_then(|mut watcher| watcher.watch(dir, RecursiveMode::NonRecursive).map(|()| watcher));
    started
        .inspect_err(|error| {
            tracing::debug!(folder = %dir.display(), %error, "changes of the plugin folder are not reported; it is looked through in intervals");
        })
        .ok()
}
