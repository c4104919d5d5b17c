//! Which addresses may be called (THREATS row 8). Names are resolved by one resolver that drops forbidden addresses, and
//! the connection goes to an address that passed; addresses written as numbers are checked when they are registered and
//! before every request.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// What the operator allows beyond public addresses.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Allowed {
    pub(crate) loopback: bool,
    pub(crate) private_networks: bool,
}

/// Why an address may not be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wall {
    /// It is on this machine, and the operator does not allow that.
    Loopback,
    /// It is in a private network, and the operator does not allow that.
    Private,
    /// No connector has any business there.
    Never,
    /// It is another server than the connector's.
    Elsewhere,
}

impl fmt::Display for Wall {
    /// What it is, and what the operator can do about it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => {
                "that is this machine, and the daemon calls no servers there: its operator can start it with \
                 --allow-loopback"
            }
            Self::Private => {
                "that is in a private network, and the daemon calls no servers there: its operator can start it with \
                 --allow-private-networks"
            }
            Self::Never => {
                "link-local, multicast and reserved addresses are never called: give the server's own address"
            }
            Self::Elsewhere => "that is another server than the connector's",
        })
    }
}

impl Allowed {
    /// Whether an address may be called.
    #[cfg(test)]
    pub(crate) fn permits(self, address: IpAddr) -> bool {
        self.before(address).is_none()
    }

    /// What stands before an address.
    fn before(self, address: IpAddr) -> Option<Wall> {
        let address = match address {
            // ::ffff:127.0.0.1 is 127.0.0.1 in disguise, and so are the NAT64 and 6to4 forms.
            IpAddr::V6(v6) => embedded(v6).map_or(address, IpAddr::V4),
            v4 => v4,
        };
        match class(address) {
            Class::Public => None,
            Class::Loopback => (!self.loopback).then_some(Wall::Loopback),
            Class::Private => (!self.private_networks).then_some(Wall::Private),
            Class::Never => Some(Wall::Never),
        }
    }

    /// What stands before the address of a server, as far as it is written in numbers. Names are looked at when they are
    /// resolved.
    pub(crate) fn wall(self, url: &Url) -> Option<Wall> {
        let literal = match url.host() {
            None => return Some(Wall::Never),
            Some(Host::Domain(name)) if name.eq_ignore_ascii_case("localhost") => {
                Some(IpAddr::V4(Ipv4Addr::LOCALHOST))
            }
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(v4)) => Some(IpAddr::V4(v4)),
            Some(Host::Ipv6(v6)) => Some(IpAddr::V6(v6)),
        };
        literal.and_then(|address| self.before(address))
    }

    /// Why an address of a server cannot be used, if it cannot.
    pub(crate) fn check(self, url: &Url) -> Result<(), String> {
        let host = url.host().ok_or("the address names no host")?;
        match self.wall(url) {
            Some(wall) => Err(format!("{host} is not a public address: {wall}")),
            None => Ok(()),
        }
    }
}

/// An address that a server wants a person to open in a browser: https, or http on this machine for a server that is there
/// as well; no user in it, no script and no file (THREATS row 9). `server` is the host of the server that asks.
pub(crate) fn for_browser(address: &str, server: &str) -> Result<Url, String> {
    let url = Url::parse(address).map_err(|_| "it is no address")?;
    let is_loopback = |host: &str| {
        let literal: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        host.eq_ignore_ascii_case("localhost") || literal.is_some_and(|address| address.is_loopback())
    };
    let host = url.host_str().ok_or("it names no host")?;
    let is_here = is_loopback(server);
    match url.scheme() {
        "https" => {}
        "http" if is_here && is_loopback(host) => {}
        _ => return Err("it does not begin with https://".into()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user or a password".into());
    }
    if host != server {
        Allowed { loopback: is_here, private_networks: false }.check(&url)?;
    }
    Ok(url)
}

enum Class {
    Public,
    Loopback,
    /// Inside an organisation.
    Private,
    /// Nothing that a connector has any business with: link-local (cloud metadata), multicast, reserved.
    Never,
}

fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            match (a, b, c) {
                (127, ..) => Class::Loopback,
                (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => Class::Private,
                (0, ..)
                | (169, 254, _)
                | (192, 0, 0 | 2)
                | (198, 18..=19, _)
                | (198, 51, 100)
                | (203, 0, 113) => Class::Never,
                (224.., ..) => Class::Never,
                _ => Class::Public,
            }
        }
        IpAddr::V6(v6) => match v6.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
            [0xfc00..=0xfdff, ..] => Class::Private,
            // Global unicast, without documentation and Teredo.
            [0x2001, 0 | 0xdb8, ..] => Class::Never,
            [0x2000..=0x3fff, ..] => Class::Public,
            _ => Class::Never,
        },
    }
}

/// The IPv4 address that an IPv6 address stands for.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => join(high, low),
        [0x2002, high, low, ..] => join(high, low),
        _ => None,
    }
}

/// Resolves names and keeps only addresses that may be called.
#[derive(Clone)]
pub(crate) struct Resolver(pub(crate) Allowed);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(NoName)?;
            let (mut permitted, mut wall): (Vec<SocketAddr>, _) = (Vec::new(), None);
            for address in found {
                match allowed.before(address.ip()) {
                    None => permitted.push(address),
                    before => wall = wall.or(before),
                }
            }
            match (permitted.is_empty(), wall) {
                (false, _) => Ok(Box::new(permitted.into_iter()) as Addrs),
                (true, Some(wall)) => Err(NoAddress(wall).into()),
                (true, None) => Err(NoName(std::io::ErrorKind::NotFound.into()).into()),
            }
        })
    }
}

/// A name led to no address that may be called.
#[derive(Debug, thiserror::Error)]
#[error("the name leads to no address that may be called: {0}")]
pub(crate) struct NoAddress(pub(crate) Wall);

/// A name led to nothing.
#[derive(Debug, thiserror::Error)]
#[error("the name is not known: {0}")]
pub(crate) struct NoName(std::io::Error);

/// For the client's builder.
pub(crate) fn resolver(allowed: Allowed) -> Arc<Resolver> {
    Arc::new(Resolver(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_08_addresses_inside_are_refused_in_every_disguise() {
        let nothing = Allowed::default();
        for inside in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!nothing.permits(inside.parse().expect("an address")), "{inside}");
        }
        for outside in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(nothing.permits(outside.parse().expect("an address")), "{outside}");
        }
    }

    #[test]
    fn row_08_what_the_operator_allows_opens_no_more_than_that() {
        let loopback = Allowed { loopback: true, private_networks: false };
        let private = Allowed { loopback: false, private_networks: true };
        let permits = |allowed: Allowed, text: &str| allowed.permits(text.parse().expect("an address"));
        assert!(permits(loopback, "127.0.0.1") && permits(loopback, "::1") && !permits(loopback, "10.0.0.1"));
        assert!(
            permits(private, "10.0.0.1") && permits(private, "fd00::1") && !permits(private, "127.0.0.1")
        );
        for allowed in [loopback, private] {
            assert!(!permits(allowed, "169.254.169.254") && !permits(allowed, "fe80::1"));
        }
    }

    #[test]
    fn a_refusal_names_the_flag_that_would_help_and_no_other() {
        let said = |address: &str| {
            let url = Url::parse(&format!("http://{address}/mcp")).expect("an address");
            Allowed::default().check(&url).expect_err("is refused")
        };
        for (address, flag) in [
            ("127.0.0.1", Some("--allow-loopback")),
            ("localhost", Some("--allow-loopback")),
            ("[::1]", Some("--allow-loopback")),
            ("[::ffff:127.0.0.1]", Some("--allow-loopback")),
            ("10.0.0.1", Some("--allow-private-networks")),
            ("172.16.0.1", Some("--allow-private-networks")),
            ("192.168.1.1", Some("--allow-private-networks")),
            ("100.64.0.1", Some("--allow-private-networks")),
            ("[fd00::1]", Some("--allow-private-networks")),
            ("169.254.169.254", None),
            ("0.0.0.0", None),
            ("224.0.0.1", None),
            ("[fe80::1]", None),
        ] {
            let said = said(address);
            for known in ["--allow-loopback", "--allow-private-networks"] {
                assert_eq!(said.contains(known), flag == Some(known), "{address}: {said}");
            }
        }
    }

    #[test]
    fn a16_what_a_person_shall_open_is_a_page_and_nothing_else() {
        for (address, server) in [
            ("https://login.example/go?x=1", "mcp.example"),
            ("https://10.0.0.7/go", "10.0.0.7"),
            ("http://localhost:8080/go", "127.0.0.1"),
            ("http://[::1]:8080/go", "localhost"),
        ] {
            assert!(for_browser(address, server).is_ok(), "{address} of {server}");
        }
        for (address, server) in [
            ("javascript:alert(1)", "mcp.example"),
            ("JaVaScRiPt://login.example/%0aalert(1)", "mcp.example"),
            (" javascript:alert(1)", "mcp.example"),
            ("java\tscript:alert(1)", "mcp.example"),
            ("data:text/html,hello", "mcp.example"),
            ("file:///etc/passwd", "mcp.example"),
            ("blob:https://login.example/1", "mcp.example"),
            ("view-source:https://login.example", "mcp.example"),
            ("vscode://file/x", "mcp.example"),
            ("http://login.example/", "mcp.example"),
            ("http://localhost:8080/go", "mcp.example"),
            ("https://127.0.0.1/", "mcp.example"),
            ("https://192.168.1.1/", "mcp.example"),
            ("https://login.example@evil.example/", "mcp.example"),
            ("https://user:word@login.example/", "mcp.example"),
            ("//login.example", "mcp.example"),
            ("/go", "mcp.example"),
            ("", "mcp.example"),
        ] {
            assert!(for_browser(address, server).is_err(), "{address} of {server}");
        }
    }

    #[tokio::test]
    async fn row_08_a_name_that_leads_inside_resolves_to_nothing() {
        let name = || "localhost".parse().expect("a name");
        let refused = resolver(Allowed::default()).resolve(name()).await.err().expect("leads inside");
        assert_eq!(refused.downcast_ref::<NoAddress>().expect("an address").0, Wall::Loopback);
        let allowed = Allowed { loopback: true, private_networks: false };
        assert!(resolver(allowed).resolve(name()).await.is_ok());
    }
}
