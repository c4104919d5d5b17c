//! Notes of what runs, for the case that the process crashes.
//!
//! Four small files in the data folder. `running` holds a line for each step that runs, in a place of its own: one write
//! without a sync when it begins and one when it ends, a few microseconds, since the notes have to outlive the process and
//! not the machine. `crashed` gets a byte when the process aborts (a stack that overflows, memory that cannot be had, a
//! panic within a panic, `abort` in a library), by a handler of SIGABRT. `suspects` counts, for each step that was running
//! in a crash, in how many in a row. `alive` says since when the process runs, by the system's own count of processes that
//! it ended for want of memory; it is removed when the process ends in order.
//!
//! A process that the system ends for want of memory gets a signal that no handler sees. It has crashed if it ended without
//! a word and the system says that it ended processes meanwhile. One that somebody kills has not, however often: nothing of
//! what it ran is the cause of that, so nothing is counted then, and nothing is forgotten.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use airlock_engine::witness::{Step, Witness};
use parking_lot::Mutex;

const RUNNING: &str = "running";
const CRASHED: &str = "crashed";
const SUSPECTS: &str = "suspects";
const ALIVE: &str = "alive";

/// A place in `running`: the length of the text in one byte pair, then the text. The longest step is the start of an
/// execution with an id of 256 characters.
const PLACE: usize = 320;

/// The notes of one data folder, which is locked by whoever opens them.
pub(crate) struct Crashes {
    folder: PathBuf,
    running: File,
    places: Mutex<Places>,
    suspects: Mutex<HashMap<Step, u32>>,
}

#[derive(Default)]
struct Places {
    free: Vec<u32>,
    next: u32,
}

impl Crashes {
    /// Reads what the process before left, and begins anew.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        Self::open_at(folder, Moment::now())
    }

    fn open_at(folder: &Path, now: Option<Moment>) -> io::Result<Self> {
        let aborted = fs::metadata(folder.join(CRASHED)).is_ok_and(|file| file.len() > 0);
        let since = Moment::parse(&String::from_utf8_lossy(&read(&folder.join(ALIVE))?));
        let short_of_memory = now.as_ref().zip(since).is_some_and(|(now, since)| now.killed_since(&since));
        if short_of_memory {
            tracing::warn!(
                "the process before ended without a word after the system had ended processes for want of memory"
            );
        }
        let crashed = aborted || short_of_memory;
        let mut suspects = counted(&read(&folder.join(SUSPECTS))?);
        if crashed {
            let before = std::mem::take(&mut suspects);
            let count = |step: Step| {
                let count = before.get(&step).unwrap_or(&0) + 1;
                (step, count)
            };
            suspects = running(&read(&folder.join(RUNNING))?).into_iter().map(count).collect();
        }
        // The counts first: a process that dies in between counts a crash twice rather than not at all.
        write(folder, &suspects)?;
        match fs::remove_file(folder.join(ALIVE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        options.open(folder.join(CRASHED))?;
        Ok(Self {
            folder: folder.to_owned(),
            running: options.open(folder.join(RUNNING))?,
            places: Mutex::default(),
            suspects: Mutex::new(suspects),
        })
    }
}

/// A moment in the life of a machine, by what it has done for want of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Moment {
    /// Differs after each start of the machine.
    boot: String,
    /// Processes that the system has ended since, in all control groups.
    killed: u64,
}

impl Moment {
    /// As the system says. None where it does not say.
    fn now() -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let counts = fs::read_to_string("/proc/vmstat").ok()?;
        let killed = counts.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
        Some(Self { boot: boot.trim().to_owned(), killed: killed.trim().parse().ok()? })
    }

    fn parse(text: &str) -> Option<Self> {
        let (boot, killed) = text.split_once(' ')?;
        Some(Self { boot: boot.to_owned(), killed: killed.parse().ok()? })
    }

    fn killed_since(&self, before: &Self) -> bool {
        self.boot == before.boot && self.killed > before.killed
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.boot, self.killed)
    }
}

impl Witness for Crashes {
    fn begin(&self, step: &Step) -> u32 {
        let place = {
            let mut places = self.places.lock();
            places.free.pop().unwrap_or_else(|| {
                places.next += 1;
                places.next - 1
            })
        };
        let text = step.to_string();
        let mut line = Vec::with_capacity(2 + text.len());
        line.extend((text.len() as u16).to_le_bytes());
        line.extend(text.as_bytes());
        // What cannot be noted is not held back; it runs all the same.
        if line.len() <= PLACE {
            let _ = self.running.write_all_at(&line, u64::from(place) * PLACE as u64);
        }
        place
    }

    fn end(&self, note: u32) {
        let _ = self.running.write_all_at(&[0, 0], u64::from(note) * PLACE as u64);
        self.places.lock().free.push(note);
    }

    fn suspects(&self) -> Vec<(Step, u32)> {
        let mut suspects: Vec<_> =
            self.suspects.lock().iter().map(|(step, count)| (step.clone(), *count)).collect();
        suspects.sort_by_key(|(step, count)| (*count, step.to_string()));
        suspects
    }

    fn clear(&self, step: &Step) {
        let mut suspects = self.suspects.lock();
        if suspects.remove(step).is_some()
            && let Err(error) = write(&self.folder, &suspects)
        {
            tracing::warn!(%error, "what crashed before cannot be noted");
        }
    }
}

/// That the end of this process is watched; its drop is an end in order.
#[derive(Debug)]
pub struct Watch {
    alive: PathBuf,
}

impl Watch {
    fn begin(folder: &Path, now: Option<Moment>) -> io::Result<Self> {
        let alive = folder.join(ALIVE);
        fs::write(&alive, now.map(|now| now.to_string()).unwrap_or_default())?;
        Ok(Self { alive })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // If it stays it says what an end without a word says, which is counted only when memory was short as well.
        let _ = fs::remove_file(&self.alive);
    }
}

/// Notes in the folder when this process aborts, and that it runs as long as what this gives is there. Called once, by the
/// daemon, after the store was opened.
pub fn watch(folder: &Path) -> io::Result<Watch> {
    let crashed = File::options().append(true).create(true).mode(0o600).open(folder.join(CRASHED))?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGABRT, crashed)?;
    // Whoever sends the signal from outside wants the process to end, as it does without a handler.
    let end = Arc::new(AtomicBool::new(true));
    signal_hook::flag::register_conditional_default(signal_hook::consts::SIGABRT, end)?;
    Watch::begin(folder, Moment::now())
}

/// The bytes of a file; none if it is not there.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// The steps in a file of places. What makes no sense, as after a loss of power, is nothing.
fn running(bytes: &[u8]) -> Vec<Step> {
    let step = |place: &[u8]| {
        let (length, text) = place.split_first_chunk::<2>()?;
        let text = text.get(..usize::from(u16::from_le_bytes(*length)))?;
        std::str::from_utf8(text).ok()?.parse().ok()
    };
    bytes.chunks(PLACE).filter_map(step).collect()
}

/// Lines of a count and a step.
fn counted(bytes: &[u8]) -> HashMap<Step, u32> {
    let text = String::from_utf8_lossy(bytes);
    let line = |line: &str| {
        let (count, step) = line.split_once(' ')?;
        Some((step.parse().ok()?, count.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

fn write(folder: &Path, suspects: &HashMap<Step, u32>) -> io::Result<()> {
    let text: String = suspects.iter().map(|(step, count)| format!("{count} {step}\n")).collect();
    let part = folder.join("suspects.part");
    fs::write(&part, text)?;
    fs::rename(part, folder.join(SUSPECTS))
}

#[cfg(test)]
mod tests {
    use airlock_engine::RunId;

    use super::*;

    fn steps() -> Vec<Step> {
        let run = RunId::generate();
        vec![
            Step::Turn(run),
            Step::Operation { run, seq: 7, attempt: 3 },
            Step::Query(run),
            Step::Start("x".repeat(256).parse().expect("an id")),
        ]
    }

    fn crash(folder: &Path) {
        fs::write(folder.join(CRASHED), "X").expect("writes");
    }

    #[test]
    fn only_what_ran_in_each_crash_is_counted_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let steps = steps();
        let open = || Crashes::open(folder.path()).expect("opens");
        let first = open();
        let notes: Vec<_> = steps.iter().map(|step| first.begin(step)).collect();
        first.end(notes[1]);
        // Somebody killed it: nothing is known.
        let second = open();
        assert_eq!(second.suspects(), []);
        steps.iter().for_each(|step| {
            second.begin(step);
        });
        crash(folder.path());
        let third = open();
        let mut suspects = third.suspects();
        suspects.sort_by_key(|(step, _)| steps.iter().position(|known| known == step));
        assert_eq!(suspects, steps.iter().map(|step| (step.clone(), 1)).collect::<Vec<_>>());
        // A crash without some of them, and one of which an end is known.
        third.begin(&steps[0]);
        third.begin(&steps[3]);
        let ended = third.begin(&steps[2]);
        third.end(ended);
        crash(folder.path());
        let fourth = open();
        assert_eq!(fourth.suspects().iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2, 2]);
        fourth.clear(&steps[3]);
        // A kill in between forgets nothing.
        assert_eq!(open().suspects(), [(steps[0].clone(), 2)]);
    }

    #[test]
    fn an_end_without_a_word_is_a_crash_if_the_system_was_short_of_memory_and_nothing_else_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let step = steps().remove(0);
        let moment = |boot: &str, killed| Some(Moment { boot: boot.into(), killed });
        let begin = |now: Option<Moment>| {
            let crashes = Crashes::open_at(folder.path(), now.clone()).expect("opens");
            crashes.begin(&step);
            let counted = crashes.suspects().first().map_or(0, |(_, count)| *count);
            (counted, Watch::begin(folder.path(), now).expect("is noted"))
        };
        // What a process leaves that is killed: it has no end.
        let run = |now| {
            let (counted, watch) = begin(now);
            std::mem::forget(watch);
            counted
        };
        assert_eq!(run(moment("a", 3)), 0);
        assert_eq!(run(moment("a", 3)), 0, "somebody killed it");
        assert_eq!(run(moment("a", 3)), 0, "again and again");
        assert_eq!(run(moment("a", 4)), 1, "the system ended a process meanwhile");
        assert_eq!(run(moment("b", 0)), 1, "the machine was started anew");
        assert_eq!(run(moment("b", 2)), 2);
        assert_eq!(run(None), 2, "the system does not say");
        assert_eq!(run(moment("b", 9)), 2, "it did not say then");
        assert_eq!(run(moment("b", 10)), 3);
        drop(begin(moment("b", 10)));
        assert_eq!(run(moment("b", 11)), 3, "it ended in order, whatever became of others");
    }

    #[test]
    fn the_system_says_how_many_processes_it_ended_for_want_of_memory() {
        let now = Moment::now().expect("Linux says");
        assert_eq!(Moment::parse(&now.to_string()), Some(now));
    }

    #[test]
    fn files_of_any_content_are_read() {
        for length in 0..700 {
            let bytes: Vec<u8> = (0..length).map(|at: usize| (at * 37 % 251) as u8).collect();
            assert!(running(&bytes).len() < 3 && counted(&bytes).len() < 3);
        }
    }
}
