//! What the operator grants to a plugin: `NAME.toml` beside `NAME.wasm`. Without the file, nothing.
//!
//! ```toml
//! [env]
//! REGION = "eu-1"
//!
//! [[dirs]]
//! host = "/srv/reports"
//! guest = "/reports"
//! mode = "rw"
//!
//! [limits]
//! memory_mb = 512
//! activity_cpu_ms = 60000
//! ```
//!
//! The grants are for activities; a workflow has none whatever the file says. The limits hold for both.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::config::Limits;

/// The grants and limits of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) env: Vec<(String, String)>,
    pub(crate) dirs: Vec<Dir>,
    pub(crate) memory_bytes: usize,
    pub(crate) activity_cpu: Duration,
}

/// A folder of the host that activities see.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dir {
    /// Where it is; absolute.
    pub(crate) host: PathBuf,
    /// Where the guest sees it; absolute.
    pub(crate) guest: String,
    pub(crate) mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Mode {
    #[serde(rename = "ro")]
    ReadOnly,
    #[serde(rename = "rw")]
    ReadWrite,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    dirs: Vec<Dir>,
    #[serde(default)]
    limits: FileLimits,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLimits {
    memory_mb: Option<u64>,
    activity_cpu_ms: Option<u64>,
}

impl Policy {
    /// What a plugin without a policy file has.
    pub(crate) fn none(limits: &Limits) -> Self {
        Self {
            env: Vec::new(),
            dirs: Vec::new(),
            memory_bytes: limits.memory_bytes,
            activity_cpu: limits.activity_cpu,
        }
    }

    /// Reads the text of a policy file. The error says what is wrong and where, without the file's name.
    pub(crate) fn parse(text: &str, limits: &Limits) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let mut policy = Self::none(limits);
        for (name, value) in file.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(format!(
                    "env.{name:?}: a name has no '=' and neither it nor its value has a NUL byte"
                ));
            }
            policy.env.push((name, value));
        }
        for dir in &file.dirs {
            check_dir(dir)?;
        }
        policy.dirs = file.dirs;
        if let Some(mb) = file.limits.memory_mb {
            let ceiling_mb = (limits.memory_ceiling_bytes >> 20) as u64;
            if !(1..=ceiling_mb).contains(&mb) {
                return Err(format!("limits.memory_mb is {mb}; it can be 1 to {ceiling_mb}"));
            }
            policy.memory_bytes = (mb as usize) << 20;
        }
        match file.limits.activity_cpu_ms {
            Some(0) => return Err("limits.activity_cpu_ms is 0; it must be at least 1".to_owned()),
            Some(ms) => policy.activity_cpu = Duration::from_millis(ms),
            None => {}
        }
        Ok(policy)
    }
}

fn check_dir(dir: &Dir) -> Result<(), String> {
    if !dir.host.is_absolute() {
        return Err(format!("dirs: the host folder {:?} must be an absolute path", dir.host));
    }
    if !dir.guest.starts_with('/') || dir.guest.split('/').any(|part| part == "..") {
        return Err(format!("dirs: the guest folder {:?} must be an absolute path without '..'", dir.guest));
    }
    match std::fs::metadata(&dir.host) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(format!("dirs: {:?} is not a folder", dir.host)),
        Err(error) => Err(format!("dirs: the host folder {:?} cannot be used: {error}", dir.host)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policy, String> {
        Policy::parse(text, &Limits::default())
    }

    #[test]
    fn an_empty_file_grants_nothing() {
        assert_eq!(parse("").unwrap(), Policy::none(&Limits::default()));
    }

    #[test]
    fn every_field_is_read() {
        let policy = parse(
            "[env]\nA = 'b'\n[[dirs]]\nhost = '/'\nguest = '/data'\nmode = 'ro'\n[limits]\nmemory_mb = 64\nactivity_cpu_ms = 1500",
        )
        .unwrap();
        assert_eq!(policy.env, [("A".to_owned(), "b".to_owned())]);
        assert_eq!(policy.dirs[0].mode, Mode::ReadOnly);
        assert_eq!(policy.memory_bytes, 64 << 20);
        assert_eq!(policy.activity_cpu, Duration::from_millis(1500));
    }

    #[test]
    fn each_mistake_has_its_message() {
        for (text, message) in [
            ("outbound = 1", "unknown field `outbound`"),
            ("[env]\nA = 1", "expected a string"),
            ("[env]\n'A=B' = 'c'", "has no '='"),
            ("[[dirs]]\nhost = 'x'\nguest = '/x'\nmode = 'ro'", "must be an absolute path"),
            ("[[dirs]]\nhost = '/'\nguest = '../x'\nmode = 'ro'", "without '..'"),
            ("[[dirs]]\nhost = '/'\nguest = '/x'\nmode = 'rwx'", "unknown variant `rwx`"),
            ("[[dirs]]\nhost = '/no-such-folder'\nguest = '/x'\nmode = 'ro'", "cannot be used"),
            ("[limits]\nmemory_mb = 0", "it can be 1 to 2048"),
            ("[limits]\nmemory_mb = 9999", "it can be 1 to 2048"),
            ("[limits]\nactivity_cpu_ms = 0", "at least 1"),
            ("[limits", "TOML parse error"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(message), "{text:?} gave {error:?}");
        }
    }
}
