//! `airlock backup` and `airlock restore`: copies of a data folder, also while its daemon works.

use std::path::PathBuf;

use airlock_store::backup::{self, BackupError, BackupReport};
use anyhow::Context as _;

use crate::{ended::Ended, output::Output};

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
}

/// What to bring back, and where to.
#[derive(clap::Args)]
pub(crate) struct Restore {
    /// The folder with the backup.
    backup: PathBuf,
    /// The data folder; it must be empty or not be there [default: data].
    #[arg(long, env = "AIRLOCK_DATA")]
    data: Option<PathBuf>,
}

pub(crate) async fn main(arguments: Backup, output: Output) -> anyhow::Result<Ended> {
    let Backup { destination, data, verify } = arguments;
    let data = data.unwrap_or_else(|| "data".into());
    let report =
        blocking(
            move || {
                if verify { backup::verify(&destination) } else { backup::backup(&data, &destination) }
            },
        );
    show(&report.await?, output)
}

pub(crate) async fn restore(arguments: Restore, output: Output) -> anyhow::Result<Ended> {
    let Restore { backup: folder, data } = arguments;
    let data = data.unwrap_or_else(|| "data".into());
    show(&blocking(move || backup::restore(&folder, &data)).await?, output)
}

async fn blocking(
    work: impl FnOnce() -> Result<BackupReport, BackupError> + Send + 'static,
) -> anyhow::Result<BackupReport> {
    Ok(tokio::task::spawn_blocking(work).await.context("the copy was given up")??)
}

fn show(report: &BackupReport, output: Output) -> anyhow::Result<Ended> {
    let value = serde_json::to_value(report)?;
    output.value(&value, || print!("{report}"));
    Ok(Ended::Well)
}
