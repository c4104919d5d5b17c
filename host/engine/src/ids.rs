//! Names of things. Each is parsed once, where it enters, and cannot be mixed up with another afterwards.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text is not a valid id; the message says what is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(String);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// The id of an execution, as clients see it: 1 to 256 characters of `[A-Za-z0-9_-]`.
    ExecutionId
}

impl ExecutionId {
    /// A new id, ordered by time.
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string().into())
    }

    /// The id of an operation of a run of this execution, unlike that of any other operation there is. It is what services
    /// get as the idempotency key, and clients as the id of an activity.
    pub fn operation(&self, run: RunId, number: u32) -> String {
        format!("{self}:{}:{number}", run.0.simple())
    }
}

impl FromStr for ExecutionId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let valid = (1..=256).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId(
                "an execution id has 1 to 256 characters, letters, digits, '_' and '-' only".into(),
            ))
        }
    }
}

macro_rules! owner_id {
    ($(#[$doc:meta])* $name:ident) => {
        text_id! { $(#[$doc])* $name }

        impl $name {
            /// An id that the host itself gave.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }
        }
    };
}

owner_id! {
    /// A person or a program with an identity of its own.
    UserId
}
owner_id! {
    /// A group of users who share connectors and executions.
    WorkspaceId
}
owner_id! {
    /// The whole installation's or customer's boundary.
    OrganizationId
}

/// On whose behalf something runs. It comes from the caller's API key and is kept with the execution; never from a guest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Principal {
    /// The caller.
    pub user: UserId,
    /// The workspace of the caller.
    pub workspace: WorkspaceId,
    /// The organisation of the workspace.
    pub organization: OrganizationId,
}

impl Principal {
    /// The user of workflows that do not run on behalf of their caller. No key belongs to it, so it has no credentials
    /// of its own.
    pub const DEPLOYMENT: &str = "@deployment";
}

/// One run of an execution. Continue-as-new starts another run under the same execution id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl RunId {
    /// A new id, ordered by time.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number under which a store keeps an execution. Given in the order of starts, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExecutionKey(pub i64);

/// SHA-256 of a component's bytes: which code this is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId("a digest has 64 hexadecimal digits".into());
        if text.len() != 64 || !text.is_ascii() {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_id_takes_only_its_alphabet() {
        assert!("a-B_9".parse::<ExecutionId>().is_ok());
        for bad in ["", "a b", "a/b", "é", &"x".repeat(257)] {
            assert!(bad.parse::<ExecutionId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_digest_reads_what_it_prints() {
        let digest = Digest(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("zz".parse::<Digest>().is_err());
    }
}
