//! Compiled code on disk, so that a component is compiled once for each version of the engine.
//!
//! `compiled/HEX-COMPATIBILITY.cwasm` is the code, `….sha256` the digest of that file. The code is machine code that the
//! process will run, so it is used only if the digest is right, and lies in a folder that the daemon's user alone can enter.
//! `….refused` says why a component cannot be compiled, so that nobody tries again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use airlock_engine::Digest;
use serde::{Deserialize, Serialize};
use wasmtime::{Engine, component::Component};

use super::{
    components::digest_of_file,
    durable::{self, Draft},
    precompiled,
};
use crate::compiler::NotCompiled;

/// So many refusals are remembered.
const REFUSALS: usize = 1000;

/// The folder of compiled code, for one engine.
#[derive(Debug)]
pub(crate) struct CompiledCode {
    dir: PathBuf,
    compatibility: String,
    compiles: AtomicU64,
}

/// A refusal as it is written down.
#[derive(Serialize, Deserialize)]
struct Note {
    /// Under which limits.
    limits: String,
    why: NotCompiled,
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

    /// The code of a component, if it is there and whole.
    pub(crate) fn find(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        if !self.is_whole(digest) {
            return None;
        }
        let loaded = precompiled::load(engine, &self.path(digest, "cwasm")).inspect_err(|error| {
            tracing::warn!(%digest, error = %error.root_cause(), "compiled code is not usable and is made anew");
        });
        loaded.ok()
    }

    /// A file that code is to be written into. It is there for nobody until [`CompiledCode::keep`].
    pub(crate) fn draft(&self) -> io::Result<Draft> {
        self.compiles.fetch_add(1, Ordering::Relaxed);
        Draft::new(&self.dir)
    }

    /// Notes what the compiler has written, and loads it.
    ///
    /// The compiler must have ended: from here on nobody writes to the file any more.
    pub(crate) fn keep(&self, engine: &Engine, digest: &Digest, draft: Draft) -> io::Result<Component> {
        let path = self.path(digest, "cwasm");
        let written = digest_of_file(draft.path())?;
        draft.place(&path)?;
        durable::write(&self.path(digest, "sha256"), written.to_string().as_bytes())?;
        // What lies there now is what was written and noted.
        precompiled::load(engine, &path).map_err(|error| io::Error::other(error.root_cause().to_string()))
    }

    /// Remembers that a component cannot be compiled, if that will be so again.
    pub(crate) fn refuse(&self, digest: &Digest, limits: &str, why: &NotCompiled) {
        if matches!(why, NotCompiled::Host(_)) {
            return;
        }
        let note = Note { limits: limits.to_owned(), why: why.clone() };
        let written = serde_json::to_vec(&note)
            .map_err(io::Error::from)
            .and_then(|note| durable::write(&self.path(digest, "refused"), &note));
        if let Err(error) = written {
            tracing::warn!(%digest, %error, "that a component cannot be compiled is not remembered");
        }
    }

    /// Why a component cannot be compiled, if that is known.
    pub(crate) fn refused(&self, digest: &Digest, limits: &str) -> Option<NotCompiled> {
        let note: Note = serde_json::from_slice(&fs::read(self.path(digest, "refused")).ok()?).ok()?;
        let holds = note.limits == limits || matches!(note.why, NotCompiled::Invalid(_));
        holds.then_some(note.why)
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
        let mut refusals = 0;
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let of_this_engine = stem
                .split_once('-')
                .filter(|(_, compatibility)| *compatibility == self.compatibility)
                .and_then(|(digest, _)| digest.parse().ok());
            let stays = match path.extension().and_then(|extension| extension.to_str()) {
                Some("cwasm" | "sha256") => of_this_engine.is_some_and(|digest| wanted(&digest)),
                // They are small, and of components that nobody wants.
                Some("refused") => {
                    refusals += 1;
                    of_this_engine.is_some() && refusals <= REFUSALS
                }
                _ => true,
            };
            if !stays {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a13_a_refusal_is_remembered_over_restarts_as_long_as_the_limits_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let open = |compatibility: &str| CompiledCode::open(folder.path(), compatibility).unwrap();
        let [invalid, demanding, host] = [1, 2, 3].map(|n| Digest([n; 32]));
        let why = |digest: &Digest| {
            let text = "because".to_owned();
            match digest.0[0] {
                1 => NotCompiled::Invalid(text),
                2 => NotCompiled::TooDemanding(text),
                _ => NotCompiled::Host(text),
            }
        };
        let code = open("ab");
        for digest in [invalid, demanding, host] {
            assert_eq!(code.refused(&digest, "1 2"), None);
            code.refuse(&digest, "1 2", &why(&digest));
        }
        code.retain(|_| false).unwrap();
        let again = open("ab");
        assert_eq!(again.refused(&invalid, "1 2"), Some(why(&invalid)));
        assert_eq!(again.refused(&demanding, "1 2"), Some(why(&demanding)));
        assert_eq!(again.refused(&host, "1 2"), None);
        // More memory or time may be enough; what is not valid stays so.
        assert_eq!(again.refused(&demanding, "1 3"), None);
        assert_eq!(again.refused(&invalid, "1 3"), Some(why(&invalid)));
        // Another engine may see it otherwise.
        assert_eq!(open("cd").refused(&invalid, "1 2"), None);
        open("cd").retain(|_| false).unwrap();
        assert_eq!(open("ab").refused(&invalid, "1 2"), None);
    }
}
