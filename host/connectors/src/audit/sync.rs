//! Brings what was written to the disk, in a thread of its own: nobody who records an entry waits for it.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Instant,
};

use parking_lot::{Condvar, Mutex};

use super::{SYNC_EVERY, Writer};

/// Stops, after a last sync, when it is dropped.
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    folder: PathBuf,
    writer: Arc<Mutex<Writer>>,
    todo: Mutex<Todo>,
    wake: Condvar,
    /// One sync at a time, so that who waits for one knows that those before have ended. The number of the last file whose
    /// name is on the disk.
    turn: Mutex<Option<u64>>,
}

#[derive(Default)]
struct Todo {
    dirty: bool,
    stop: bool,
}

impl Syncer {
    pub(super) fn start(folder: &Path, writer: &Arc<Mutex<Writer>>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            folder: folder.into(),
            writer: Arc::clone(writer),
            // The file may be new, and its name has to be on the disk as well.
            todo: Mutex::new(Todo { dirty: true, ..Todo::default() }),
            wake: Condvar::new(),
            turn: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("airlock-audit".into()).spawn(move || own.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Something was written.
    pub(super) fn wake(&self) {
        let mut todo = self.shared.todo.lock();
        if !todo.dirty {
            todo.dirty = true;
            self.shared.wake.notify_one();
        }
    }

    /// Syncs now and waits for it.
    pub(super) fn sync_now(&self) -> io::Result<()> {
        self.shared.sync()
    }

    /// Whether everything is on the disk.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        let _turn = self.shared.turn.lock();
        !self.shared.todo.lock().dirty
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.todo.lock().stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // It ends by itself; a panic in it was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let mut todo = self.todo.lock();
            self.wake.wait_while(&mut todo, |todo| !todo.dirty && !todo.stop);
            if todo.stop && !todo.dirty {
                return;
            }
            drop(todo);
            let begun = Instant::now();
            if let Err(problem) = self.sync() {
                self.writer.lock().fails(&problem);
            }
            // What is written meanwhile is taken together.
            let mut todo = self.todo.lock();
            self.wake.wait_while_until(&mut todo, |todo| !todo.stop, begun + SYNC_EVERY);
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut named = self.turn.lock();
        // Before the file is asked for, so that what is written from now on is synced another time.
        self.todo.lock().dirty = false;
        let writer = self.writer.lock();
        let (file, number) = (Arc::clone(&writer.file), writer.number);
        drop(writer);
        file.sync_data()?;
        if *named != Some(number) {
            // A new file's name stands in the folder.
            File::open(&self.folder)?.sync_all()?;
            *named = Some(number);
        }
        Ok(())
    }
}
