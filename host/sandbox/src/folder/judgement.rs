//! Reading one plugin and judging it. Takes as long as compiling does, so each has a task of its own.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use airlock_engine::Digest;

use super::stamp::Stamp;
use crate::{
    config::Limits,
    library::Library,
    plugin::{Plugin, Rejection, check_header},
    policy::Policy,
    storage::digest_of,
};

/// A policy file has at most so many bytes.
const POLICY_BYTES: u64 = 256 << 10;

/// What a policy file grants; none: there is no such file.
pub(super) type Granted = Result<Option<Arc<Policy>>, Rejection>;

/// What became of one version of a plugin.
pub(super) struct Judgement {
    pub(super) name: String,
    pub(super) stamp: Stamp,
    /// None: it changed meanwhile.
    pub(super) outcome: Option<Outcome>,
}

pub(super) struct Outcome {
    pub(super) digest: Digest,
    pub(super) verdict: Result<Candidate, Rejection>,
}

/// A version that passed by itself. Whether it serves depends on the other files.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) plugin: Arc<Plugin>,
    pub(super) policy: Option<Arc<Policy>>,
}

/// What is judged.
pub(super) struct Judging {
    pub(super) dir: PathBuf,
    pub(super) name: String,
    pub(super) stamp: Stamp,
    pub(super) limits: Arc<Limits>,
    pub(super) library: Arc<Library>,
}

impl Judging {
    pub(super) async fn run(self) -> Judgement {
        let outcome = self.outcome().await;
        Judgement { name: self.name, stamp: self.stamp, outcome }
    }

    async fn outcome(&self) -> Option<Outcome> {
        let (dir, name, stamp, limits) =
            (self.dir.clone(), self.name.clone(), self.stamp, self.limits.clone());
        let read = tokio::task::spawn_blocking(move || {
            let files = read(&dir, &name, stamp, &limits);
            let unchanged = Stamp::of(&dir, &name).ok().flatten() == Some(stamp);
            unchanged.then_some(files)
        });
        let unread = |rejection| Some(Outcome { digest: Digest([0; 32]), verdict: Err(rejection) });
        let Files { contents, digest, policy } = match read.await {
            Ok(None) => return None,
            Ok(Some(Ok(files))) => files,
            Ok(Some(Err(rejection))) => return unread(rejection),
            Err(error) => return unread(Rejection::Host(error.to_string())),
        };
        let verdict = async {
            check_header(&contents)?;
            let policy = policy?;
            let plugin = self.library.take_up(digest, &self.name, contents.clone()).await?;
            self.library.keep(digest, contents).await?;
            Ok(Candidate { plugin, policy })
        };
        Some(Outcome { digest, verdict: verdict.await })
    }
}

/// A plugin's files as they were read.
struct Files {
    contents: Arc<Vec<u8>>,
    digest: Digest,
    policy: Granted,
}

fn read(dir: &Path, name: &str, stamp: Stamp, limits: &Limits) -> Result<Files, Rejection> {
    let bytes = stamp.component.bytes;
    if bytes > limits.component_bytes {
        return Err(Rejection::TooLarge { bytes, limit: limits.component_bytes });
    }
    let contents = fs::read(dir.join(format!("{name}.wasm")))
        .map_err(|error| Rejection::Unreadable(error.to_string()))?;
    Ok(Files {
        digest: digest_of(&contents),
        contents: Arc::new(contents),
        policy: read_policy(dir, name, limits),
    })
}

/// What is granted to a plugin of this name.
pub(super) fn read_policy(dir: &Path, name: &str, limits: &Limits) -> Granted {
    let file = format!("{name}.toml");
    let opened = fs::File::open(dir.join(&file));
    let wrong = |reason: String| Rejection::Policy { file, reason };
    let opened = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened,
    };
    let mut text = String::new();
    let read = opened.and_then(|opened| opened.take(POLICY_BYTES + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes as u64 > POLICY_BYTES => {
            Err(wrong(format!("it has more than {POLICY_BYTES} bytes")))
        }
        Ok(_) => Policy::parse(&text, limits).map(|policy| Some(Arc::new(policy))).map_err(wrong),
        Err(error) => Err(wrong(format!("it cannot be read: {error}"))),
    }
}
