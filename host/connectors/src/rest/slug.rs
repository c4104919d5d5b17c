//! Names of tools: stable, URL-safe, unique in their API.
//!
//! A slug comes from what identifies an operation (its `operationId`, else method and path) and from nothing that people
//! reword, such as its summary. Where the documents' order could matter it does not: operations whose slugs would be the
//! same all get a digest of their method and path.

use heck::ToKebabCase;
use sha2::{Digest, Sha256};

const MAX: usize = 64;

/// Hexadecimal digits of a digest.
const DIGITS: usize = 8;

/// The slug for an identifier; empty if there is nothing in it that can stand in a slug.
pub(super) fn of(identifier: &str) -> String {
    let spaced: String =
        identifier.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { ' ' }).collect();
    spaced.to_kebab_case()
}

/// The slug for a method and a path.
pub(super) fn of_path(method: &str, path: &str) -> String {
    of(&format!("{} {path}", method.to_ascii_lowercase()))
}

/// Shortens a slug that is too long. `identity` is what makes two such slugs differ.
pub(super) fn fit(slug: String, identity: &str) -> String {
    if slug.len() > MAX { distinct(&slug, identity) } else { slug }
}

/// The slug with a digest of what it stands for.
pub(super) fn distinct(slug: &str, identity: &str) -> String {
    let start = &slug[..slug.len().min(MAX - DIGITS - 1)];
    format!("{}-{}", start.trim_end_matches('-'), digest(identity))
}

/// Eight hexadecimal digits that stand for a text.
pub(super) fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))[..DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_and_paths_become_slugs() {
        for (identifier, slug) in [
            ("issues/list-for-repo", "issues-list-for-repo"),
            ("getPetById", "get-pet-by-id"),
            ("get_pets_v2", "get-pets-v2"),
            ("HTTPServer.listAll", "http-server-list-all"),
            ("criar Usuário!", "criar-usu-rio"),
            ("日本", ""),
        ] {
            assert_eq!(of(identifier), slug, "{identifier}");
        }
        assert_eq!(of_path("GET", "/clientes/{id}/pedidos/{pedidoId}"), "get-clientes-id-pedidos-pedido-id");
        assert_eq!(of_path("GET", "/"), "get");
    }

    #[test]
    fn long_slugs_stay_distinct_and_short() {
        let long = of(&"word ".repeat(40));
        let (a, b) = (fit(long.clone(), "GET /a"), fit(long, "GET /b"));
        assert!(a != b && a.len() <= MAX && b.len() <= MAX && !a.contains("--"), "{a} {b}");
        assert_eq!(fit("short".into(), "GET /a"), "short");
    }
}
