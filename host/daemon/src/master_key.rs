//! Where the master key comes from: the environment, a file that the operator names, or the data folder.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use airlock_connectors::MasterKey;
use anyhow::{Context as _, bail};
use rand::Rng as _;
use zeroize::Zeroizing;

/// The variable that may hold it.
const VARIABLE: &str = "AIRLOCK_MASTER_KEY";

/// Finds the master key; for a new data folder without one, makes it.
pub(crate) fn load(named: Option<&Path>, data: &Path) -> anyhow::Result<MasterKey> {
    if let Ok(text) = std::env::var(VARIABLE) {
        let text = Zeroizing::new(text);
        return MasterKey::from_hex(&text).with_context(|| format!("{VARIABLE} cannot be used"));
    }
    if let Some(file) = named {
        return read(file);
    }
    let file = data.join("master.key");
    if file.exists() {
        return read(&file);
    }
    if data.join("airlock.db").exists() {
        bail!(
            "the master key of the data folder is missing: put {} back, or name it with --master-key-file or {VARIABLE}",
            file.display()
        );
    }
    let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(rand::rng().random());
    write_private(&file, &Zeroizing::new(hex::encode(*bytes)))?;
    Ok(MasterKey::from_bytes(*bytes))
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

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = load(None, folder.path()).expect("is made");
        let again = load(None, folder.path()).expect("is read");
        assert_eq!(*first.derive("x"), *again.derive("x"));
        let file = folder.path().join("master.key");
        assert_eq!(fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("is changed");
        let error = load(None, folder.path()).err().expect("is refused").to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_lost_key_is_not_replaced_by_a_new_one() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("airlock.db"), "").expect("writes");
        let error = load(None, folder.path()).err().expect("is refused").to_string();
        assert!(error.contains("master key of the data folder is missing"), "{error}");
    }
}
