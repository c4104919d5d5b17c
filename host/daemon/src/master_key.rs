//! Where the master key comes from: the environment, a command, a file that the operator names, or the data folder; and
//! where the next one goes.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use airlock_connectors::{MasterKey, MasterKeySource};
use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use rand::Rng as _;
use zeroize::Zeroizing;

use crate::settings::MasterKeyPlace;

/// The variable that may hold it.
const VARIABLE: &str = "AIRLOCK_MASTER_KEY";

/// The variable that may hold the one before.
const PREVIOUS: &str = "AIRLOCK_PREVIOUS_MASTER_KEY";

/// Where the master key is.
pub(crate) enum Source {
    /// In [`VARIABLE`].
    Environment,
    /// What a command prints.
    Command(String),
    /// In a file; the next one waits to be written there.
    File(PathBuf, Mutex<Option<Zeroizing<String>>>),
}

impl Source {
    /// The file that it is in, if it is in one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(file, _) => Some(file),
            Self::Environment | Self::Command(_) => None,
        }
    }

    /// Where it is, without what stands there: a command may hold secrets of its own.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Self::Environment => "in the variable AIRLOCK_MASTER_KEY",
            Self::Command(_) => "what the master key command prints",
            Self::File(..) => "in a file",
        }
    }
}

/// The master key, if it can be found.
pub(crate) fn present(place: &MasterKeyPlace, data: &Path) -> anyhow::Result<Option<MasterKey>> {
    Ok(find(place, data)?.map(|(key, _)| key))
}

/// What seals the manifests of backups.
pub(crate) fn of_backups(master: &MasterKey) -> Zeroizing<[u8; 32]> {
    master.derive("airlock backup 1")
}

/// Finds the master key; for a new data folder without one, makes it.
pub(crate) fn load(place: &MasterKeyPlace, data: &Path) -> anyhow::Result<(MasterKey, Source)> {
    if let Some(found) = find(place, data)? {
        return Ok(found);
    }
    let file = data.join("master.key");
    if data.join("airlock.db").exists() {
        bail!(
            "the master key of the data folder is missing: put {} back, or name it with --master-key-file, \
             --master-key-command or {VARIABLE}",
            file.display()
        );
    }
    let (key, text) = random();
    write_private(&file, &text)?;
    Ok((key, Source::File(file, Mutex::default())))
}

fn find(place: &MasterKeyPlace, data: &Path) -> anyhow::Result<Option<(MasterKey, Source)>> {
    if let Ok(text) = std::env::var(VARIABLE) {
        let text = Zeroizing::new(text);
        let key = MasterKey::from_hex(&text).with_context(|| format!("{VARIABLE} cannot be used"))?;
        return Ok(Some((key, Source::Environment)));
    }
    if let Some(command) = &place.command {
        return Ok(Some((from_command(command)?, Source::Command(command.clone()))));
    }
    let source = |file: &Path| Source::File(file.to_owned(), Mutex::default());
    if let Some(file) = &place.file {
        return Ok(Some((read(file)?, source(file))));
    }
    let file = data.join("master.key");
    if file.exists() { Ok(Some((read(&file)?, source(&file)))) } else { Ok(None) }
}

/// The key before the present one, if the operator names it.
pub(crate) fn previous(file: Option<&Path>) -> anyhow::Result<Option<MasterKey>> {
    if let Ok(text) = std::env::var(PREVIOUS) {
        let text = Zeroizing::new(text);
        return Ok(Some(MasterKey::from_hex(&text).with_context(|| format!("{PREVIOUS} cannot be used"))?));
    }
    file.map(read).transpose()
}

fn random() -> (MasterKey, Zeroizing<String>) {
    let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(rand::rng().random());
    (MasterKey::from_bytes(*bytes), Zeroizing::new(hex::encode(*bytes)))
}

fn from_command(command: &str) -> anyhow::Result<MasterKey> {
    let context = "the master key command failed";
    let output = Command::new("sh").args(["-c", command]).stderr(std::process::Stdio::inherit()).output();
    let output = output.context(context)?;
    let text = Zeroizing::new(output.stdout);
    if !output.status.success() {
        bail!("{context}: it ended with {}", output.status);
    }
    let text = std::str::from_utf8(&text).context("the master key command printed no text")?;
    MasterKey::from_hex(text).context("the master key command printed something else")
}

impl MasterKeySource for Source {
    fn next(&self) -> Result<MasterKey, String> {
        match self {
            Self::Environment => Err(format!(
                "the master key stands in {VARIABLE}, which a running daemon cannot change: start it again with the new \
                 key there and the present one in {PREVIOUS}"
            )),
            Self::Command(command) => from_command(command).map_err(|error| format!("{error:#}")),
            Self::File(_, next) => {
                let (key, text) = random();
                *next.lock() = Some(text);
                Ok(key)
            }
        }
    }

    fn commit(&self) -> Result<(), String> {
        let Self::File(file, next) = self else { return Ok(()) };
        let Some(text) = next.lock().take() else { return Ok(()) };
        let replace = || {
            let temporary = file.with_extension("next");
            if temporary.exists() {
                fs::remove_file(&temporary)?;
            }
            write_private(&temporary, &text)?;
            fs::rename(&temporary, file)?;
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
            Ok::<(), anyhow::Error>(())
        };
        replace()
            .map_err(|error| format!("the new master key cannot be written to {}: {error:#}", file.display()))
    }
}

fn read(file: &Path) -> anyhow::Result<MasterKey> {
    let context = || format!("the master key in {} cannot be used", file.display());
    let mode = fs::metadata(file).with_context(context)?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("{} can be read by others: `chmod 600` it", file.display());
    }
    let text = Zeroizing::new(fs::read_to_string(file).with_context(context)?);
    MasterKey::from_hex(&text).with_context(context)
}

/// Writes a new file that only its owner can read.
pub(crate) fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    let context = || format!("{} cannot be written", file.display());
    let mut open =
        fs::File::options().write(true).create_new(true).mode(0o600).open(file).with_context(context)?;
    writeln!(open, "{text}").with_context(context)?;
    open.sync_all().with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_folder(folder: &Path) -> anyhow::Result<(MasterKey, Source)> {
        load(&MasterKeyPlace::default(), folder)
    }

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, _) = in_folder(folder.path()).expect("is made");
        let (again, _) = in_folder(folder.path()).expect("is read");
        assert_eq!(*first.derive("x"), *again.derive("x"));
        let file = folder.path().join("master.key");
        assert_eq!(fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("is changed");
        let error = in_folder(folder.path()).err().expect("is refused").to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_lost_key_is_not_replaced_by_a_new_one() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("airlock.db"), "").expect("writes");
        let error = in_folder(folder.path()).err().expect("is refused").to_string();
        assert!(error.contains("master key of the data folder is missing"), "{error}");
    }

    #[test]
    fn the_next_key_takes_the_place_of_the_one_in_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, source) = in_folder(folder.path()).expect("is made");
        let next = source.next().expect("is made");
        assert_eq!(*in_folder(folder.path()).expect("is read").0.derive("x"), *first.derive("x"));
        source.commit().expect("is written");
        assert_eq!(*in_folder(folder.path()).expect("is read").0.derive("x"), *next.derive("x"));
    }

    #[test]
    fn a_command_gives_the_key_or_an_error_without_it() {
        let place = |command: &str| MasterKeyPlace { file: None, command: Some(command.into()) };
        let folder = tempfile::tempdir().expect("a folder");
        let text = "0a".repeat(32);
        let (key, _) = load(&place(&format!("echo {text}")), folder.path()).expect("is read");
        assert_eq!(*key.derive("x"), *MasterKey::from_bytes([10; 32]).derive("x"));
        for (command, named) in [("exit 3", "exit status: 3"), ("echo secret-but-no-key", "something else")] {
            let error = load(&place(command), folder.path()).err().expect("is refused");
            let error = format!("{error:#}");
            assert!(error.contains(named) && !error.contains("secret-but-no-key"), "{error}");
        }
    }
}
