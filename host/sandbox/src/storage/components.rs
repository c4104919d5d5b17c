//! Components by digest, in `components/HEX.wasm`, each with the name of the plugin that it belongs to in `HEX.name`.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use airlock_engine::Digest;
use sha2::{Digest as _, Sha256};

use super::durable;

/// The digest of a component's bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// The digest of a file, read piece by piece.
pub(super) fn digest_of_file(path: &Path) -> io::Result<Digest> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(Digest(hash.finalize().into())),
            read => hash.update(&piece[..read]),
        }
    }
}

/// The folder of kept components.
#[derive(Debug)]
pub(crate) struct Components {
    dir: PathBuf,
}

impl Components {
    /// Opens the folder, and makes it if it is not there.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let dir = data_dir.join("components");
        durable::private_dir(&dir)?;
        durable::sweep(&dir)?;
        Ok(Self { dir })
    }

    fn bytes_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{digest}.wasm"))
    }

    fn name_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{digest}.name"))
    }

    /// Keeps a component.
    pub(crate) fn keep(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.bytes_path(digest);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == bytes.len() as u64 => Ok(()),
            _ => durable::write(&path, bytes),
        }
    }

    /// Notes that the plugin has this name now.
    pub(crate) fn rename(&self, digest: &Digest, name: &str) -> io::Result<()> {
        match self.name(digest) {
            Some(noted) if noted == name => Ok(()),
            _ => durable::write(&self.name_path(digest), name.as_bytes()),
        }
    }

    /// The name that the plugin had last.
    pub(crate) fn name(&self, digest: &Digest) -> Option<String> {
        fs::read_to_string(self.name_path(digest)).ok()
    }

    /// The bytes, if they are there and whole.
    pub(crate) fn bytes(&self, digest: &Digest) -> io::Result<Option<Vec<u8>>> {
        let bytes = match fs::read(self.bytes_path(digest)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if digest_of(&bytes) != *digest {
            tracing::error!(%digest, "a kept component is damaged and is not used");
            return Ok(None);
        }
        Ok(Some(bytes))
    }

    /// Every digest that is kept.
    pub(crate) fn digests(&self) -> io::Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if let Some(digest) = stem.and_then(|stem| stem.parse().ok())
                && path.extension().is_some_and(|extension| extension == "wasm")
            {
                digests.push(digest);
            }
        }
        Ok(digests)
    }

    /// Forgets a component.
    pub(crate) fn remove(&self, digest: &Digest) -> io::Result<()> {
        for path in [self.bytes_path(digest), self.name_path(digest)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
