//! Whether the input under way comes to an end.

use std::{
    fs,
    path::PathBuf,
    sync::Mutex,
    time::{Duration, Instant},
};

/// An input that is over its bound by so much is not waited for: what only takes too long ends before and is told with its
/// time.
const TIMES: u32 = 4;

#[derive(Default)]
pub(crate) struct Watch(Mutex<State>);

#[derive(Default)]
struct State {
    /// What the system says of the thread.
    stat: Option<PathBuf>,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    input: Vec<u8>,
    begun: Instant,
    /// The thread's time when it was first seen.
    before: Option<Duration>,
}

impl Watch {
    /// Watches the thread that calls this.
    pub(crate) fn enter(&self) {
        let thread = fs::read_link("/proc/thread-self").ok();
        self.locked().stat = thread.map(|thread| PathBuf::from("/proc").join(thread).join("stat"));
    }

    pub(crate) fn begin(&self, input: &[u8]) {
        self.locked().under_way =
            Some(UnderWay { input: input.to_vec(), begun: Instant::now(), before: None });
    }

    pub(crate) fn end(&self) {
        self.locked().under_way = None;
    }

    /// The input under way, if it takes much more processor time than it may, or stands still.
    pub(crate) fn beyond(&self, limit: Duration) -> Option<Vec<u8>> {
        let mut state = self.locked();
        let now = state.stat.as_ref().and_then(|stat| processor_time(&fs::read_to_string(stat).ok()?));
        let under_way = state.under_way.as_mut()?;
        let before = *under_way.before.get_or_insert(now.unwrap_or_default());
        let spent = now.unwrap_or_default().saturating_sub(before);
        let is_beyond = spent > TIMES * limit || under_way.begun.elapsed() > airlock_patience::LIMIT;
        is_beyond.then(|| under_way.input.clone())
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// proc(5): what a thread used, in hundredths of a second, is in the fields 14 and 15; the second one may hold anything.
fn processor_time(stat: &str) -> Option<Duration> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(Duration::from_millis(10 * (user + system)))
}
