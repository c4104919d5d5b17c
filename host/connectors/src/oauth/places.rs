//! Where metadata may be: the places that RFC 9728, RFC 8414 and OpenID Connect Discovery have for it, in the order in which
//! they are asked.

use url::Url;

use super::exchange::host;

/// Metadata of a protected resource (RFC 9728 §3.1).
const RESOURCE: &str = "/.well-known/oauth-protected-resource";

/// Metadata of an authorization server (RFC 8414 §3.1).
const SERVER: &str = "/.well-known/oauth-authorization-server";

/// The same, of an OpenID provider (OpenID Connect Discovery §4).
const PROVIDER: &str = "/.well-known/openid-configuration";

/// Where a protected resource may publish: for its path between host and path, or behind it, and for the whole host.
pub(super) fn of_resource(resource: &Url) -> Vec<Url> {
    let path = resource.path().trim_matches('/');
    let paths = match path.is_empty() {
        true => vec![RESOURCE.to_owned()],
        false => vec![format!("{RESOURCE}/{path}"), format!("/{path}{RESOURCE}"), RESOURCE.to_owned()],
    };
    at(resource, paths)
}

/// Where an authorization server of this issuer may publish. The forms of the RFCs come first; the root last, as servers of
/// before 2025-06-18 have it.
pub(super) fn of_issuer(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_matches('/');
    let paths = match path.is_empty() {
        true => vec![SERVER.to_owned(), PROVIDER.to_owned()],
        false => vec![
            format!("{SERVER}/{path}"),
            format!("{PROVIDER}/{path}"),
            format!("/{path}{PROVIDER}"),
            format!("/{path}{SERVER}"),
            SERVER.to_owned(),
            PROVIDER.to_owned(),
        ],
    };
    at(issuer, paths)
}

fn at(url: &Url, paths: Vec<String>) -> Vec<Url> {
    let with = |path: String| {
        let mut place = url.clone();
        place.set_query(None);
        place.set_fragment(None);
        place.set_path(&path);
        place
    };
    paths.into_iter().map(with).collect()
}

/// The issuer that metadata at a place belong to; `None` where a place tells nothing about it.
pub(super) fn issuer_of(place: &Url) -> Option<String> {
    let path = place.path();
    let path = [SERVER, PROVIDER].iter().find_map(|name| {
        let (before, after) = path.split_once(name)?;
        match (before, after) {
            ("", "") => Some(""),
            ("", after) => after.starts_with('/').then_some(after),
            (before, "") => Some(before),
            _ => None,
        }
    })?;
    Some(format!("{}{path}", place.origin().ascii_serialization()))
}

/// Whether a place is where the server for tools itself publishes for all of its host.
pub(super) fn is_root_of(place: &Url, server: &Url) -> bool {
    place.origin() == server.origin() && matches!(place.path(), SERVER | PROVIDER)
}

/// Whether an address is that of a document and not an issuer.
pub(super) fn is_document(url: &Url) -> bool {
    url.path().contains("/.well-known/")
}

/// A place for messages: its host and its well-known name. What else its path holds may be a key.
pub(super) fn named(place: &Url) -> String {
    let host = match place.port() {
        Some(port) => format!("{}:{port}", host(place)),
        None => host(place),
    };
    let path = place.path();
    let name =
        [RESOURCE, SERVER, PROVIDER].iter().find_map(|name| path.split_once(*name).map(|cut| (cut, name)));
    match name {
        Some((("", ""), name)) => format!("{host}{name}"),
        Some((("", _), name)) => format!("{host}{name}/…"),
        Some(((_, _), name)) => format!("{host}/…{name}"),
        None => format!("{host}/…"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("an address")
    }

    fn paths(places: Vec<Url>) -> Vec<String> {
        places.iter().map(|place| place.path().to_owned()).collect()
    }

    #[test]
    fn the_places_are_those_of_the_rfcs() {
        assert_eq!(paths(of_resource(&url("https://a.example"))), [RESOURCE]);
        assert_eq!(
            paths(of_resource(&url("https://a.example/mcp/?key=1"))),
            [
                "/.well-known/oauth-protected-resource/mcp",
                "/mcp/.well-known/oauth-protected-resource",
                "/.well-known/oauth-protected-resource",
            ]
        );
        assert_eq!(paths(of_issuer(&url("https://a.example/"))), [SERVER, PROVIDER]);
        assert_eq!(
            paths(of_issuer(&url("https://a.example/realms/x"))),
            [
                "/.well-known/oauth-authorization-server/realms/x",
                "/.well-known/openid-configuration/realms/x",
                "/realms/x/.well-known/openid-configuration",
                "/realms/x/.well-known/oauth-authorization-server",
                "/.well-known/oauth-authorization-server",
                "/.well-known/openid-configuration",
            ]
        );
        assert!(of_resource(&url("https://a.example/mcp?key=1")).iter().all(|place| place.query().is_none()));
    }

    #[test]
    fn a_place_belongs_to_one_issuer() {
        for place in of_issuer(&url("https://a.example:8443/realms/x")) {
            let expected = match place.path() {
                SERVER | PROVIDER => "https://a.example:8443",
                _ => "https://a.example:8443/realms/x",
            };
            assert_eq!(issuer_of(&place).as_deref(), Some(expected), "{place}");
        }
        for place in ["https://a.example/own.json", "https://a.example/x/.well-known/openid-configuration/y"]
        {
            assert_eq!(issuer_of(&url(place)), None, "{place}");
        }
    }

    #[test]
    fn the_name_of_a_place_tells_nothing_of_its_path() {
        for place in of_resource(&url("https://a.example/s3cret/mcp"))
            .into_iter()
            .chain(of_issuer(&url("https://a.example:8443/s3cret")))
            .chain([url("https://a.example/s3cret?key=s3cret")])
        {
            let name = named(&place);
            assert!(name.starts_with("a.example") && !name.contains("s3cret"), "{name}");
        }
    }
}
