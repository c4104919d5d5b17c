//! Which version of a file this is, told without reading it.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

/// A plugin's files: component and policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) component: FileStamp,
    pub(super) policy: Option<FileStamp>,
}

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStamp {
    pub(super) bytes: u64,
    modified: SystemTime,
    inode: u64,
}

impl FileStamp {
    /// None if there is no such file.
    fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(Self {
                bytes: metadata.len(),
                modified: metadata.modified()?,
                inode: metadata.ino(),
            })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Stamp {
    /// The stamp of a plugin now; none if its component is not there.
    pub(super) fn of(dir: &Path, name: &str) -> io::Result<Option<Self>> {
        let Some(component) = FileStamp::of(&dir.join(format!("{name}.wasm")))? else { return Ok(None) };
        Ok(Some(Self { component, policy: FileStamp::of(&dir.join(format!("{name}.toml")))? }))
    }

    /// How long ago the files were changed last, as far as the clock can tell.
    pub(super) fn age(&self) -> Duration {
        let modified = self
            .policy
            .map_or(self.component.modified, |policy| policy.modified.max(self.component.modified));
        modified.elapsed().unwrap_or_default()
    }
}

/// The plugins in a folder. Hidden files are left alone: tools write them before they rename them.
pub(super) fn list(dir: &Path) -> io::Result<BTreeMap<String, Stamp>> {
    let mut plugins = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let file = entry?.file_name();
        let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".wasm")) else { continue };
        if name.is_empty() || name.starts_with('.') {
            continue;
        }
        // A file that vanished since, or whose link leads nowhere, is not there.
        if let Ok(Some(stamp)) = Stamp::of(dir, name) {
            plugins.insert(name.to_owned(), stamp);
        }
    }
    Ok(plugins)
}
