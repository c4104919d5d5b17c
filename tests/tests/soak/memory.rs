//! What processes hold.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

/// The most that was seen, in megabytes of resident memory.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// By the process itself.
    pub daemon: u64,
    /// By it and the processes that it started, at one moment.
    pub together: u64,
}

/// Looks at a process and its children until the end.
pub struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Held>,
}

impl Watch {
    /// Begins to look.
    pub fn of(process: u32) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let thread = {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let (daemon, together) = (AtomicU64::new(0), AtomicU64::new(0));
                while !over.load(Relaxed) {
                    let own = resident(process);
                    daemon.fetch_max(own, Relaxed);
                    together.fetch_max(own + children(process).map(resident).sum::<u64>(), Relaxed);
                    std::thread::sleep(Duration::from_millis(100));
                }
                Held { daemon: daemon.into_inner() >> 10, together: together.into_inner() >> 10 }
            })
        };
        Self { over, thread }
    }

    /// What was seen.
    pub fn end(self) -> Held {
        self.over.store(true, Relaxed);
        self.thread.join().expect("it looks on to the end")
    }
}

/// In kilobytes; nothing of a process that has ended.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

fn children(process: u32) -> impl Iterator<Item = u32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let of_thread =
        |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).unwrap_or_default();
    let all: Vec<u32> = threads
        .flat_map(|thread| {
            of_thread(thread).split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()
        })
        .collect();
    all.into_iter()
}
