//! Whom something is for: a user, a workspace or an organisation.

use std::str::FromStr;

use airlock_engine::Principal;
use serde::{Deserialize, Serialize};

use crate::ConnectorsError;

/// Whose credential it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One user's.
    User,
    /// Everybody's in a workspace.
    Workspace,
    /// Everybody's in an organisation.
    Organization,
}

impl FromStr for Scope {
    type Err = ConnectorsError;

    fn from_str(text: &str) -> Result<Self, ConnectorsError> {
        match text {
            "user" => Ok(Self::User),
            "workspace" => Ok(Self::Workspace),
            "organization" => Ok(Self::Organization),
            other => Err(ConnectorsError::NotFound(format!(
                "'{other}' is not a scope: use user, workspace or organization"
            ))),
        }
    }
}

impl Scope {
    /// In the order in which a call looks for a credential.
    pub(crate) const ORDER: [Self; 3] = [Self::User, Self::Workspace, Self::Organization];

    /// The scope with its owner. Owners' ids hold no slash.
    pub(crate) fn key(self, who: &Principal) -> String {
        match self {
            Self::User => format!("user/{}", who.user),
            Self::Workspace => format!("workspace/{}", who.workspace),
            Self::Organization => format!("organization/{}", who.organization),
        }
    }

    /// The word in answers, which is not always the one in paths (contract §11.1).
    pub(crate) fn wire(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Workspace => "workspace",
            Self::Organization => "org",
        }
    }
}
