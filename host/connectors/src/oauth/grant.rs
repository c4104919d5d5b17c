//! What a token endpoint gave.

use std::time::Duration;

use secrecy::SecretString;

/// The tokens of one answer. They cannot be printed.
pub(crate) struct Tokens {
    pub(crate) access: SecretString,
    pub(crate) refresh: Option<SecretString>,
    /// From the moment of the answer on.
    pub(crate) expires_in: Option<Duration>,
    /// What was granted: what was asked for, where the server does not say otherwise (RFC 6749 §5.1).
    pub(crate) scopes: Vec<String>,
}

#[cfg(test)]
impl Tokens {
    /// What must not come back from anywhere.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        [Some(&self.access), self.refresh.as_ref()]
            .into_iter()
            .flatten()
            .map(secrecy::ExposeSecret::expose_secret)
    }
}
