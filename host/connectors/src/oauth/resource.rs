//! What a server for tools says of itself (RFC 9728): which authorization servers it takes tokens of, and for which resource.

use url::Url;

use super::document::{Document, LeftOut};

/// Authorization servers that are asked.
const MOST: usize = 8;

/// Metadata of a protected resource, as far as they are needed.
#[derive(Debug)]
pub(super) struct Resource {
    /// What tokens are asked for, as it stands there; the whole address, where only its end stands there.
    pub(super) name: String,
    /// The issuers, in the order of the document.
    pub(super) servers: Vec<String>,
    pub(super) scopes: Vec<String>,
    pub(super) left_out: Vec<LeftOut>,
}

/// Why a document is not that of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotOurs {
    /// It is about something else altogether.
    Other,
    /// Its `resource` is missing or odd.
    Nameless(String),
    /// Its `resource` is not the server.
    Foreign,
}

impl Resource {
    /// Reads the document about `server`. The name of the resource guards: the server's own address, or the beginning of it
    /// up to a slash (RFC 9728 §3.3, THREATS row 11).
    pub(super) fn read(mut document: Document, server: &Url) -> Result<Self, NotOurs> {
        if !["resource", "authorization_server", "authorization_servers"]
            .iter()
            .any(|name| document.has(name))
        {
            return Err(NotOurs::Other);
        }
        let Some(name) = document.text("resource") else {
            return Err(NotOurs::Nameless(document.reason("resource").unwrap_or("it is missing").to_owned()));
        };
        let name = whole(&name, server).map_err(|why| NotOurs::Nameless(why.to_owned()))?;
        let url =
            Url::parse(&name).map_err(|error| NotOurs::Nameless(format!("it is not an address: {error}")))?;
        if url.fragment().is_some() {
            return Err(NotOurs::Nameless("it must hold no '#'".into()));
        }
        if !covers(&url, server) {
            return Err(NotOurs::Foreign);
        }
        // The singular is a draft's.
        let single = document.text("authorization_server");
        let listed = document.list("authorization_servers").unwrap_or_default();
        let mut servers: Vec<String> = Vec::new();
        for named in single.into_iter().chain(listed) {
            // One that leads nowhere stays: a server that names others is believed that it is none itself.
            let server = whole(&named, &url).unwrap_or_else(|why| {
                document.leave_out("authorization_servers", why);
                named
            });
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        if servers.len() > MOST {
            let reason = format!("it names {} servers, of which the first {MOST} are asked", servers.len());
            document.leave_out("authorization_servers", reason);
            servers.truncate(MOST);
        }
        let scopes = document.list("scopes_supported").unwrap_or_default();
        Ok(Self { name, servers, scopes, left_out: document.left_out() })
    }
}

/// An address of which perhaps only the end stands in the document, as a part of that of the resource (RFC 3986 §5). So no
/// server is named by accident that is not of the same origin.
fn whole(text: &str, base: &Url) -> Result<String, &'static str> {
    let Err(url::ParseError::RelativeUrlWithoutBase) = Url::parse(text) else { return Ok(text.to_owned()) };
    if text.contains(char::is_whitespace) {
        return Err("it is not an address");
    }
    let is_plain = |url: &Url| url.username().is_empty() && url.password().is_none();
    match base.join(text) {
        Ok(url) if url.origin() == base.origin() && is_plain(&url) => Ok(url.into()),
        _ => Err("it is not a whole address, and leads to another origin"),
    }
}

fn covers(resource: &Url, server: &Url) -> bool {
    if resource.origin() != server.origin() || !matches!(resource.scheme(), "http" | "https") {
        return false;
    }
    let (wide, narrow) = (resource.path(), server.path());
    wide == narrow
        || narrow.strip_prefix(wide).is_some_and(|rest| wide.ends_with('/') || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::oauth::mutations::{Kind, mutations};

    fn read(document: Value) -> Result<Resource, NotOurs> {
        let server = Url::parse("https://tools.example/mcp/v1").expect("an address");
        Resource::read(Document::of(&document).expect("a document"), &server)
    }

    #[test]
    fn row_11_the_resource_is_the_server_or_the_beginning_of_its_address() {
        for (resource, is_ours) in [
            ("https://tools.example/mcp/v1", true),
            ("https://tools.example/mcp/v1?hint=1", true),
            ("https://tools.example:443/mcp", true),
            ("https://tools.example/mcp/", true),
            ("https://tools.example", true),
            ("https://tools.example/mcp/v", false),
            ("https://tools.example/mcp/v1/", false),
            ("https://tools.example/other", false),
            ("https://tools.example:8443/mcp/v1", false),
            ("http://tools.example/mcp/v1", false),
            ("https://other.example/mcp/v1", false),
            ("data:text/plain,x", false),
        ] {
            let read = read(json!({ "resource": resource }));
            assert_eq!(read.is_ok(), is_ours, "{resource}");
        }
        let nameless = |document| matches!(read(document), Err(NotOurs::Nameless(_)));
        assert!(nameless(json!({ "authorization_servers": ["https://as.example"] })));
        assert!(nameless(json!({ "resource": ["https://tools.example"] })));
        assert!(nameless(json!({ "resource": "https://tools.example/#x" })));
        assert_eq!(read(json!({ "message": "hello" })).err(), Some(NotOurs::Other));
    }

    #[test]
    fn row_11_an_address_of_which_only_the_end_is_there_is_one_of_the_same_origin() {
        let origin = "https://tools.example";
        for (named, expected) in [
            ("/oauth", Some("/oauth")),
            ("/", Some("/")),
            ("oauth", Some("/oauth")),
            ("./x/../oauth", Some("/oauth")),
            ("../../oauth", Some("/oauth")),
            ("//tools.example/oauth", Some("/oauth")),
            ("//tools.example:443/oauth", Some("/oauth")),
            ("//evil.example/oauth", None),
            ("\\\\evil.example/oauth", None),
            ("/\\evil.example", None),
            ("//tools.example:8443/oauth", None),
            ("//user@tools.example/oauth", None),
            ("//", None),
            ("not an address", None),
        ] {
            let resource =
                json!({ "resource": "https://tools.example/mcp", "authorization_servers": [named] });
            let resource = read(resource).expect("metadata");
            match expected {
                Some(path) => {
                    assert_eq!(
                        (resource.servers, resource.left_out.len()),
                        (vec![format!("{origin}{path}")], 0)
                    );
                }
                // It is asked for nothing, and nobody stands in for it.
                None => {
                    assert_eq!(
                        (&resource.servers[..], resource.left_out.len()),
                        (&[named.to_owned()][..], 1)
                    );
                    assert!(Url::parse(&resource.servers[0]).is_err(), "{named}");
                }
            }
        }
        for (resource, expected) in
            [("/mcp", Some("https://tools.example/mcp")), ("/", Some("https://tools.example/"))]
        {
            let read = read(json!({ "resource": resource })).ok();
            assert_eq!(read.map(|resource| resource.name).as_deref(), expected, "{resource}");
        }
        for other in ["//evil.example/mcp", "/other"] {
            assert!(read(json!({ "resource": other })).is_err(), "{other}");
        }
        // A whole address is as it was.
        let elsewhere = json!({ "resource": origin, "authorization_servers": ["https://as.example", "x:y"] });
        assert_eq!(read(elsewhere).expect("metadata").servers, ["https://as.example", "x:y"]);
    }

    #[test]
    fn one_odd_member_costs_nothing_but_itself() {
        let good = json!({
            "resource": "https://tools.example/mcp", "authorization_servers": ["https://as.example"],
            "scopes_supported": ["a"], "bearer_methods_supported": ["header"], "resource_name": "Tools",
        });
        let server = Url::parse("https://tools.example/mcp/v1").expect("an address");
        for mutation in &mutations(&good) {
            let (member, text) = (&*mutation.member, &mutation.text[..mutation.text.len().min(300)]);
            let document = Document::read(mutation.text.as_bytes()).expect("a document");
            match Resource::read(document, &server) {
                Ok(resource) => {
                    assert!(member != "resource" || mutation.kind == Kind::Repeated, "{text}");
                    assert!(resource.servers == ["https://as.example"] || member == "authorization_servers");
                    assert!(resource.scopes == ["a"] || member == "scopes_supported", "{text}");
                    assert!(resource.servers.len() <= MOST);
                }
                Err(why) => assert!(member == "resource" && why != NotOurs::Other, "{member}: {text}"),
            }
        }
    }

    #[test]
    fn all_servers_are_named_once_in_their_order() {
        let resource = read(json!({
            "resource": "https://tools.example/mcp", "authorization_server": "https://b.example",
            "authorization_servers": ["https://a.example", "https://b.example", 7], "scopes_supported": "read write",
        }))
        .expect("metadata");
        assert_eq!(resource.servers, ["https://b.example", "https://a.example"]);
        assert_eq!(resource.scopes, ["read", "write"]);
        assert_eq!(resource.left_out.len(), 1);
        let text = read(
            json!({ "resource": "https://tools.example", "authorization_servers": "https://a.example" }),
        );
        assert_eq!(text.expect("metadata").servers, ["https://a.example"]);
        let many: Vec<String> = (0..50).map(|number| format!("https://a{number}.example")).collect();
        let many = read(json!({ "resource": "https://tools.example", "authorization_servers": many }));
        let many = many.expect("metadata");
        assert_eq!((many.servers.len(), many.left_out.len()), (MOST, 1));
    }
}
