//! What a backup's manifest says: every file with its digest, under a seal made with a key that is not in the backup.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{BackupError, BackupReport, at, files, sha256, write};

const MANIFEST: &str = "backup.json";
/// The manifest in a data folder that was restored from it, until its seal was checked.
const RESTORED: &str = "restored.json";
/// Version of the manifest. The first one named the database alone, and had no seal.
pub(super) const FORMAT: u32 = 2;

/// What a backup is checked with.
#[derive(Clone, Copy)]
pub enum Trust<'a> {
    /// The key that the backup was sealed with.
    Key(&'a [u8; 32]),
    /// The key is elsewhere: every digest is checked, and the seal when the daemon starts on what was restored.
    Later,
    /// Nothing: whoever can write to the backup could have changed anything in it. For backups of earlier versions, and for
    /// those whose key is gone.
    Unsealed,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    bytes: u64,
    sha256: String,
}

/// The content of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    #[serde(flatten)]
    pub(super) report: BackupReport,
    /// All files but this one, by path.
    #[serde(default)]
    files: BTreeMap<String, Note>,
    /// HMAC-SHA-256 over all of it, in hexadecimal.
    #[serde(default)]
    seal: String,
}

impl Manifest {
    /// Notes every file of a folder, and writes the manifest there.
    pub(super) fn write(folder: &Path, report: &BackupReport, key: &[u8; 32]) -> Result<(), BackupError> {
        let (report, files) = (report.clone(), notes(folder)?);
        let mut manifest = Self { report, files, seal: String::new() };
        manifest.seal = hex::encode(manifest.mac(key)?.finalize().into_bytes());
        let text = serde_json::to_vec_pretty(&manifest).map_err(|error| damaged(error.to_string()))?;
        write(&folder.join(MANIFEST), &text)
    }

    /// Reads the manifest of a backup. Its seal is checked before anything that it says is believed.
    pub(super) fn read(backup: &Path, trust: Trust<'_>) -> Result<Self, BackupError> {
        let path = backup.join(MANIFEST);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(BackupError::NoManifest(backup.into()))
            }
            read => Self::parse(&read.map_err(at(&path))?, trust),
        }
    }

    fn parse(text: &[u8], trust: Trust<'_>) -> Result<Self, BackupError> {
        let manifest: Self = serde_json::from_slice(text)
            .map_err(|error| damaged(format!("{MANIFEST} cannot be read: {error}")))?;
        match (manifest.report.format, trust) {
            (0, _) | (FORMAT.., _) if manifest.report.format != FORMAT => {
                let found = manifest.report.format;
                return Err(damaged(format!("{MANIFEST} has format {found}, this airlock reads {FORMAT}")));
            }
            (FORMAT, Trust::Key(key)) => {
                let seal = hex::decode(&manifest.seal).unwrap_or_default();
                manifest.mac(key)?.verify_slice(&seal).map_err(|_| BackupError::Seal)?;
            }
            (FORMAT, Trust::Later) | (_, Trust::Unsealed) => {}
            // No seal: somebody may have taken it away.
            (_, Trust::Key(_) | Trust::Later) => return Err(BackupError::Earlier),
        }
        Ok(manifest)
    }

    /// Leaves the manifest in a folder that was restored without its seal being checked, for [`admit`].
    pub(super) fn leave(&self, data: &Path) -> Result<(), BackupError> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| damaged(error.to_string()))?;
        write(&data.join(RESTORED), &text)
    }

    /// Checks that a folder holds nothing but the files of the manifest, and what may be there `besides`, and that they are
    /// what they were.
    pub(super) fn check(&self, folder: &Path, besides: &[&str]) -> Result<(), BackupError> {
        if self.report.format != FORMAT {
            return Ok(());
        }
        let mut found = paths(folder)?;
        found.retain(|path| path != MANIFEST && !besides.contains(&path.as_str()));
        if let Some(path) = found.iter().find(|path| !self.files.contains_key(*path)) {
            return Err(damaged(format!("{path} was added")));
        }
        self.check_listed(folder)
    }

    fn check_listed(&self, folder: &Path) -> Result<(), BackupError> {
        for (path, note) in &self.files {
            if !folder.join(path).exists() {
                return Err(damaged(format!("{path} is missing")));
            }
            if Note::of(&folder.join(path))? != *note {
                return Err(damaged(format!("{path} was changed after the backup was taken")));
            }
        }
        Ok(())
    }

    fn mac(&self, key: &[u8; 32]) -> Result<Hmac<Sha256>, BackupError> {
        let covered = Self { seal: String::new(), ..self.clone() };
        let text = serde_json::to_vec(&covered).map_err(|error| damaged(error.to_string()))?;
        // HMAC takes keys of any length.
        let mac = Hmac::<Sha256>::new_from_slice(key).map_err(|error| damaged(error.to_string()))?;
        Ok(mac.chain_update(b"airlock backup\n").chain_update(text))
    }
}

/// Before a daemon opens a data folder: if it was restored by somebody who did not have the key, its seal is checked now.
pub fn admit(data: &Path, key: &[u8; 32]) -> Result<(), BackupError> {
    let file = data.join(RESTORED);
    let text = match fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(at(&file))?,
    };
    Manifest::parse(&text, Trust::Key(key))?.check_listed(data)?;
    fs::remove_file(&file).map_err(at(&file))
}

impl Note {
    fn of(file: &Path) -> Result<Self, BackupError> {
        let metadata = fs::symlink_metadata(file).map_err(at(file))?;
        if !metadata.is_file() {
            return Err(damaged(format!("{} is no file", file.display())));
        }
        Ok(Self { bytes: metadata.len(), sha256: sha256(file)? })
    }
}

fn notes(folder: &Path) -> Result<BTreeMap<String, Note>, BackupError> {
    let noted = |path: String| {
        let note = Note::of(&folder.join(&path))?;
        Ok((path, note))
    };
    paths(folder)?.into_iter().map(noted).collect()
}

/// All files below a folder, as paths within it.
fn paths(folder: &Path) -> Result<BTreeSet<String>, BackupError> {
    let within = |file: std::path::PathBuf| {
        let path = file.strip_prefix(folder).ok().and_then(Path::to_str).map(str::to_owned);
        path.ok_or_else(|| damaged(format!("{} has no name that is text", file.display())))
    };
    files(folder)?.into_iter().map(within).collect()
}

fn damaged(problem: String) -> BackupError {
    BackupError::Damaged(problem)
}
