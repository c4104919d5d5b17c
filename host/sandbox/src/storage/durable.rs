//! Files that are there whole or not at all, also after a power cut.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Makes a folder that its owner alone can enter, with its parents.
pub(super) fn private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700))
}

/// Writes a file beside its place, syncs it, and moves it there.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(dir) = path.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let draft = Draft::new(dir)?;
    draft.file()?.write_all(bytes)?;
    draft.place(path)
}

/// A file that is being written beside its place. It goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    file: File,
}

impl Draft {
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!(".{}-{number}.part", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { path, file })
    }

    /// Where it is now.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, empty, for who writes into it.
    pub(crate) fn file(&self) -> io::Result<File> {
        self.file.set_len(0)?;
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        Ok(file)
    }

    /// Syncs it and moves it to its place, both in the same folder.
    pub(super) fn place(self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, path)?;
        let Some(dir) = path.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
        File::open(dir)?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It is not there any more when it was moved; nothing is lost if it stays.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes what a crash left half-written.
pub(super) fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "part") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
