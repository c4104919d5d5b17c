//! Notes of what runs, for the case that the process crashes.
//!
//! Three small files in the data folder. `running` holds a line for each step that runs, in a place of its own: one write
//! without a sync when it begins and one when it ends, a few microseconds, since the notes have to outlive the process and
//! not the machine. `crashed` gets a byte when the process aborts (a stack that overflows, memory that cannot be had, a
//! panic within a panic, `abort` in a library), by a handler of SIGABRT. `suspects` counts, for each step that was running
//! in a crash, in how many in a row.
//!
//! A process that somebody kills has not crashed: nothing is counted then, and nothing is forgotten.

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
        let crashed = fs::metadata(folder.join(CRASHED)).is_ok_and(|file| file.len() > 0);
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

/// Notes in the folder when this process aborts. Called once, by the daemon, after the store was opened.
pub fn watch(folder: &Path) -> io::Result<()> {
    let crashed = File::options().append(true).create(true).mode(0o600).open(folder.join(CRASHED))?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGABRT, crashed)?;
    // Whoever sends the signal from outside wants the process to end, as it does without a handler.
    let end = Arc::new(AtomicBool::new(true));
    signal_hook::flag::register_conditional_default(signal_hook::consts::SIGABRT, end)?;
    Ok(())
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
    fn files_of_any_content_are_read() {
        for length in 0..700 {
            let bytes: Vec<u8> = (0..length).map(|at: usize| (at * 37 % 251) as u8).collect();
            assert!(running(&bytes).len() < 3 && counted(&bytes).len() < 3);
        }
    }
}
