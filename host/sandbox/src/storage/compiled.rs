//! Compiled code on disk, so that a component is compiled once for each version of the engine.
//!
//! `compiled/HEX-COMPATIBILITY.cwasm` is the code, `….sha256` the digest of that file. The code is machine code that the
//! process will run, so it is used only if the digest is right, and lies in a folder that the daemon's user alone can enter.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use airlock_engine::Digest;
use wasmtime::{Engine, component::Component};

use super::{
    components::{digest_of, digest_of_file},
    durable, precompiled,
};
use crate::plugin::Rejection;

/// The folder of compiled code, for one engine.
#[derive(Debug)]
pub(crate) struct CompiledCode {
    dir: PathBuf,
    compatibility: String,
    compiles: AtomicU64,
}

impl CompiledCode {
    /// Opens the folder, and makes it if it is not there.
    pub(crate) fn open(data_dir: &Path, compatibility: &str) -> io::Result<Self> {
        let dir = data_dir.join("compiled");
        durable::private_dir(&dir)?;
        durable::sweep(&dir)?;
        Ok(Self { dir, compatibility: compatibility.to_owned(), compiles: AtomicU64::new(0) })
    }

    /// How often something was compiled since the start.
    pub(crate) fn compiles(&self) -> u64 {
        self.compiles.load(Ordering::Relaxed)
    }

    fn path(&self, digest: &Digest, extension: &str) -> PathBuf {
        self.dir.join(format!("{digest}-{}.{extension}", self.compatibility))
    }

    /// The code of a component: from disk if it is there and whole, else compiled from the bytes and kept. Blocks for as long as that takes.
    pub(crate) fn get(&self, engine: &Engine, digest: &Digest, bytes: &[u8]) -> Result<Component, Rejection> {
        let path = self.path(digest, "cwasm");
        if self.is_whole(digest) {
            match precompiled::load(engine, &path) {
                Ok(component) => return Ok(component),
                Err(error) => {
                    tracing::warn!(%digest, error = %error.root_cause(), "compiled code is not usable and is made anew");
                }
            }
        }
        self.compiles.fetch_add(1, Ordering::Relaxed);
        let code = engine
            .precompile_component(bytes)
            .map_err(|error| Rejection::Malformed(error.root_cause().to_string()))?;
        let kept = durable::write(&path, &code).and_then(|()| {
            durable::write(&self.path(digest, "sha256"), digest_of(&code).to_string().as_bytes())
        });
        if let Err(error) = kept {
            return Err(Rejection::Host(format!(
                "its compiled code cannot be written to the data folder: {error}"
            )));
        }
        precompiled::load(engine, &path).map_err(|error| Rejection::Host(error.root_cause().to_string()))
    }

    fn is_whole(&self, digest: &Digest) -> bool {
        let Ok(expected) = fs::read_to_string(self.path(digest, "sha256")) else { return false };
        match digest_of_file(&self.path(digest, "cwasm")) {
            Ok(actual) if actual.to_string() == expected => true,
            Ok(_) => {
                tracing::warn!(%digest, "compiled code is damaged and is made anew");
                false
            }
            Err(_) => false,
        }
    }

    /// Removes the code of all components but those that are wanted, and all code for other engines.
    pub(crate) fn retain(&self, wanted: impl Fn(&Digest) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let stays = stem.split_once('-').is_some_and(|(digest, compatibility)| {
                compatibility == self.compatibility && digest.parse().is_ok_and(|digest| wanted(&digest))
            });
            let ours =
                path.extension().is_some_and(|extension| extension == "cwasm" || extension == "sha256");
            if ours && !stays {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}
