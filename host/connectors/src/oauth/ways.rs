//! The ways in which a client may prove that it is that client (RFC 6749 §2.3, RFC 7591 §2), and their order.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A method by its name in metadata and registrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    None,
    Post,
    Basic,
    PrivateKeyJwt,
}

/// What was said of the method, by a registration's answer or by the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing: what the server advertises counts.
    Nothing,
    /// This one; a server that refuses it may take another that it advertises.
    First(Method),
    /// This one and no other.
    Only(Method),
}

/// A method as a request has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    /// Nothing but the client's id.
    None,
    /// The secret in the body.
    Post,
    /// Both in the header (RFC 6749 §2.3.1), and nothing in the body: some servers refuse a client that is named twice.
    Basic,
    /// The same with the client's id in the body: others look for it there before they look at the header.
    BasicNamed,
    /// A signature (RFC 7523 §2.2).
    PrivateKeyJwt,
}

impl Method {
    pub(super) fn named(name: &str) -> Option<Self> {
        let all = [Self::None, Self::Post, Self::Basic, Self::PrivateKeyJwt];
        all.into_iter().find(|method| method.as_str() == name)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Post => "client_secret_post",
            Self::Basic => "client_secret_basic",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }

    /// What to register with where a server lists what it takes: with a secret if it can be, in the way that it names
    /// first.
    pub(super) fn wanted(advertised: &[String]) -> Option<Self> {
        of_secret(Said::Nothing, advertised).next()
    }

    fn ways(self) -> &'static [Way] {
        match self {
            Self::None => &[Way::None],
            Self::Post => &[Way::Post],
            Self::Basic => &[Way::Basic, Way::BasicNamed],
            Self::PrivateKeyJwt => &[Way::PrivateKeyJwt],
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Post => "client_secret_post",
            Self::Basic => "client_secret_basic",
            Self::BasicNamed => "client_secret_basic with client_id in the body",
            Self::PrivateKeyJwt => "private_key_jwt",
        })
    }
}

/// The ways for a client with a secret, each once: what was said, then what the server advertises, in its order and without
/// a proof last. A server that advertises nothing that a secret is good for is tried with both ways to send one: it takes
/// Basic, unless it says otherwise (RFC 8414 §2), or forgot to.
pub(super) fn for_secret(said: Said, advertised: Option<&[String]>) -> Vec<Way> {
    let mut methods: Vec<Method> = of_secret(said, advertised.unwrap_or_default()).collect();
    let is_silent = advertised.is_none() || methods.is_empty();
    if is_silent && !matches!(said, Said::Only(_)) {
        methods.extend([Method::Basic, Method::Post]);
    }
    let mut ways = Vec::new();
    for way in methods.iter().flat_map(|method| method.ways()) {
        if !ways.contains(way) {
            ways.push(*way);
        }
    }
    ways
}

fn of_secret(said: Said, advertised: &[String]) -> impl Iterator<Item = Method> {
    let (first, advertised) = match said {
        Said::Nothing => (None, advertised),
        Said::First(method) => (Some(method), advertised),
        Said::Only(method) => (Some(method), &[][..]),
    };
    let named = || advertised.iter().filter_map(|name| Method::named(name));
    let with_secret = named().filter(|method| matches!(method, Method::Post | Method::Basic));
    let without = named().filter(|method| *method == Method::None);
    first.into_iter().chain(with_secret).chain(without)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_comes_first_then_what_is_advertised_and_no_proof_last() {
        let ways = |said, advertised: Option<&[&str]>| {
            let advertised: Option<Vec<String>> =
                advertised.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            for_secret(said, advertised.as_deref())
        };
        let (post, basic, none) = ("client_secret_post", "client_secret_basic", "none");
        let both = [Way::Basic, Way::BasicNamed];
        for (said, advertised, expected) in [
            (Said::Nothing, None, vec![both[0], both[1], Way::Post]),
            (Said::Nothing, Some(&[none, post, basic][..]), vec![Way::Post, both[0], both[1], Way::None]),
            (Said::Nothing, Some(&[basic]), both.to_vec()),
            (Said::Nothing, Some(&[none]), vec![Way::None]),
            (Said::Nothing, Some(&["private_key_jwt"]), vec![both[0], both[1], Way::Post]),
            (Said::Nothing, Some(&[]), vec![both[0], both[1], Way::Post]),
            (Said::First(Method::Post), Some(&[basic, post]), vec![Way::Post, both[0], both[1]]),
            (Said::First(Method::None), Some(&[post]), vec![Way::None, Way::Post]),
            (Said::First(Method::Post), None, vec![Way::Post, both[0], both[1]]),
            (Said::Only(Method::Post), Some(&[basic, none]), vec![Way::Post]),
            (Said::Only(Method::Basic), None, both.to_vec()),
        ] {
            assert_eq!(ways(said, advertised), expected, "{said:?} {advertised:?}");
        }
    }

    #[test]
    fn a_client_is_registered_for_the_secret_that_the_server_names_first() {
        let wanted = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Method::wanted(&names).map(Method::as_str)
        };
        assert_eq!(wanted(&["client_secret_post", "client_secret_basic"]), Some("client_secret_post"));
        assert_eq!(wanted(&["none", "client_secret_basic"]), Some("client_secret_basic"));
        assert_eq!(wanted(&["private_key_jwt", "none"]), Some("none"));
        assert_eq!(wanted(&["private_key_jwt"]), None);
    }
}
