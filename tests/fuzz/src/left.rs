//! The input under way in a file, for when the process dies on it.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The file of a target, `fuzz/NAME` in the target directory. Where there can be none, nothing is left.
#[derive(Clone)]
pub(crate) struct Left {
    place: PathBuf,
    found: Option<Vec<u8>>,
    file: Option<Arc<File>>,
}

impl Left {
    pub(crate) fn at(name: &str) -> Self {
        // The program is in `PROFILE/deps`.
        let folder = std::env::current_exe().ok();
        let folder = folder.as_deref().and_then(Path::parent).and_then(Path::parent);
        let place = folder.unwrap_or(Path::new(".")).join("fuzz").join(name);
        let found = fs::read(&place).ok();
        let made = place.parent().is_some_and(|folder| fs::create_dir_all(folder).is_ok());
        let file = made.then(|| File::create(&place).ok()).flatten().map(Arc::new);
        Self { place, found, file }
    }

    /// What a run of before has left.
    pub(crate) fn found(&self) -> Option<Vec<u8>> {
        self.found.clone()
    }

    pub(crate) fn write(&self, input: &[u8]) {
        if let Some(file) = &self.file {
            // Without it, less is known of a process that dies.
            let _ = file.set_len(input.len() as u64).and_then(|()| file.write_all_at(input, 0));
        }
    }

    /// Leaves a failing input there, and says where.
    pub(crate) fn keep(&self, input: &[u8]) -> Option<PathBuf> {
        fs::write(&self.place, input).ok().map(|()| self.place.clone())
    }

    /// Nothing failed.
    pub(crate) fn clear(&self) {
        let _ = fs::remove_file(&self.place);
    }
}
