//! Who shall see a connector.

use super::Visibility;

/// Who shall see a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody in the workspace.
    Workspace,
    /// Everybody in the organisation.
    Organization,
    /// Its creator, no longer the workspace.
    NotInWorkspace,
    /// Its creator, no longer the organisation.
    NotInOrganization,
}

pub(crate) fn word(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::SharedOrg => "shared in the organisation",
        Visibility::SharedWorkspace => "shared in the workspace",
        Visibility::Private => "private",
    }
}
