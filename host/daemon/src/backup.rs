//! `airlock backup` and `airlock restore`: copies of a data folder, also while its daemon works.

use std::path::{Path, PathBuf};

use airlock_store::backup::{self, BackupError, BackupReport, Trust};
use anyhow::Context as _;
use zeroize::Zeroizing;

use crate::{ended::Ended, master_key, output::Output, settings::MasterKeyPlace};

/// What to copy, and where to.
#[derive(clap::Args)]
pub(crate) struct Backup {
    /// The folder for the backup; it must be empty or not be there.
    destination: PathBuf,
    /// The data folder [default: data].
    #[arg(long, env = "AIRLOCK_DATA")]
    data: Option<PathBuf>,
    /// Only check a backup that is there.
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    key: Key,
}

/// The master key, which seals a backup's manifest. Default: AIRLOCK_MASTER_KEY, or master.key in the data folder.
#[derive(clap::Args)]
struct Key {
    /// A file with the master key.
    #[arg(long, env = "AIRLOCK_MASTER_KEY_FILE")]
    master_key_file: Option<PathBuf>,
    /// A command that prints the master key.
    #[arg(long, env = "AIRLOCK_MASTER_KEY_COMMAND", conflicts_with = "master_key_file")]
    master_key_command: Option<String>,
    /// Check no seal: for backups of before they had one, kept in a place that you trust.
    #[arg(long)]
    unsealed: bool,
}

impl Key {
    fn find(&self, data: &Path) -> anyhow::Result<Option<Zeroizing<[u8; 32]>>> {
        let (file, command) = (self.master_key_file.clone(), self.master_key_command.clone());
        let key = master_key::present(&MasterKeyPlace { file, command }, data)?;
        Ok(key.map(|key| master_key::of_backups(&key)))
    }

    /// Checks or restores with the key, if it is here.
    fn trusting<T>(
        &self,
        data: &Path,
        work: impl FnOnce(Trust<'_>) -> Result<T, BackupError>,
    ) -> anyhow::Result<T> {
        if self.unsealed {
            return Ok(work(Trust::Unsealed)?);
        }
        if let Some(key) = self.find(data)? {
            return Ok(work(Trust::Key(&key))?);
        }
        let done = work(Trust::Later)?;
        eprintln!(
            "airlock: the seal of the backup was NOT checked, because the master key is not here: who edited the backup could \
             have written its digests anew. Name the key with --master-key-file, --master-key-command or \
             AIRLOCK_MASTER_KEY. A daemon checks the seal before it opens what was restored."
        );
        Ok(done)
    }
}

/// What to bring back, and where to.
#[derive(clap::Args)]
pub(crate) struct Restore {
    /// The folder with the backup.
    backup: PathBuf,
    /// The data folder; it must be empty or not be there [default: data].
    #[arg(long, env = "AIRLOCK_DATA")]
    data: Option<PathBuf>,
    #[command(flatten)]
    key: Key,
}

pub(crate) async fn main(arguments: Backup, output: Output) -> anyhow::Result<Ended> {
    let Backup { destination, data, verify, key } = arguments;
    let data = data.unwrap_or_else(|| "data".into());
    let work = move || {
        if verify {
            return key.trusting(&data, |trust| backup::verify(&destination, trust));
        }
        let key = key.find(&data)?.with_context(|| {
            format!(
                "the master key is needed to seal the manifest: name it with --master-key-file, --master-key-command or \
                 AIRLOCK_MASTER_KEY, as for the daemon of {}",
                data.display()
            )
        })?;
        Ok(backup::backup(&data, &destination, &key)?)
    };
    show(&blocking(work).await?, output)
}

pub(crate) async fn restore(arguments: Restore, output: Output) -> anyhow::Result<Ended> {
    let Restore { backup: folder, data, key } = arguments;
    let data = data.unwrap_or_else(|| "data".into());
    let work = move || key.trusting(&data, |trust| backup::restore(&folder, &data, trust));
    show(&blocking(work).await?, output)
}

async fn blocking(
    work: impl FnOnce() -> anyhow::Result<BackupReport> + Send + 'static,
) -> anyhow::Result<BackupReport> {
    tokio::task::spawn_blocking(work).await.context("the copy was given up")?
}

fn show(report: &BackupReport, output: Output) -> anyhow::Result<Ended> {
    let value = serde_json::to_value(report)?;
    output.value(&value, || print!("{report}"));
    Ok(Ended::Well)
}
