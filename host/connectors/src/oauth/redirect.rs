//! Where a redirect leads, in words (THREATS row 3: none is followed). Nothing of a path or a query is told, which may hold
//! what was sent.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, Response, header};
use url::Url;

use crate::error::wording::short;

/// Shorter words of a host's name are no secrets.
const SHORTEST: usize = 8;

/// Characters of a host's name in a message.
pub(super) const LONGEST_HOST: usize = 100;

/// A request, as far as it must not come back in a host's name.
pub(super) struct Sent {
    url: Option<Url>,
    text: String,
}

impl Sent {
    pub(super) fn of(request: &Request<Vec<u8>>) -> Self {
        let uri = request.uri().to_string();
        let authorization = request.headers().get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
        let basic = authorization.and_then(|value| value.strip_prefix(b"Basic "));
        let pair = basic.and_then(|pair| STANDARD.decode(pair).ok()).unwrap_or_default();
        let parts = [uri.as_bytes(), request.body(), authorization.unwrap_or_default(), &pair];
        let parts = parts.map(|part| String::from_utf8_lossy(part).to_ascii_lowercase());
        Self { url: Url::parse(&uri).ok(), text: parts.join("\n") }
    }

    /// Where the answer leads: `to …` or `without …`.
    pub(super) fn redirected(&self, answer: &Response<Vec<u8>>) -> String {
        let location = answer.headers().get(header::LOCATION).map(http::HeaderValue::as_bytes);
        let location = location.map(|location| location.trim_ascii()).filter(|location| !location.is_empty());
        let Some(location) = location else { return "without an address".into() };
        let target = std::str::from_utf8(location).ok().and_then(|location| match &self.url {
            Some(from) => from.join(location).ok(),
            None => Url::parse(location).ok(),
        });
        match (&self.url, target) {
            (_, None) => "with an address that cannot be read".into(),
            (Some(from), Some(to)) => self.leads(from, &to),
            (None, Some(to)) => self.to_host(&to),
        }
    }

    fn leads(&self, from: &Url, to: &Url) -> String {
        let bare = |url: &Url| {
            let mut url = url.clone();
            url.set_fragment(None);
            url
        };
        let (from, to) = (bare(from), bare(to));
        if from == to {
            return "to itself".into();
        }
        if from.origin() != to.origin() {
            return self.to_host(&to);
        }
        match (from.path(), to.path()) {
            (from, to) if to.strip_suffix('/') == Some(from) => {
                "to the same address with a slash at its end".into()
            }
            (from, to) if from.strip_suffix('/') == Some(to) => {
                "to the same address without the slash at its end".into()
            }
            _ => "to another place of the same host".into(),
        }
    }

    fn to_host(&self, to: &Url) -> String {
        let Some(host) = to.host_str().filter(|_| matches!(to.scheme(), "http" | "https")) else {
            return "to something that is no address of a server".into();
        };
        let same = self.url.as_ref().is_some_and(|from| from.host_str() == Some(host));
        let repeats = |word: &str| word.len() >= SHORTEST && self.text.contains(&word.to_ascii_lowercase());
        if !same && host.split(['.', '-']).chain(host.split('.')).any(repeats) {
            return "to another host".into();
        }
        let port = to.port().map(|port| format!(":{port}")).unwrap_or_default();
        let plain = if to.scheme() == "http" { " without https" } else { "" };
        format!("to {}{port}{plain}", short(host, LONGEST_HOST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_told_by_where_it_leads() {
        let request = Request::post("https://as.example/token?x=1")
            .header("authorization", format!("Basic {}", STANDARD.encode("id:Secret-of-client")))
            .body(b"code=The-Code-12345".to_vec())
            .expect("a request");
        let sent = Sent::of(&request);
        let told = |location: Option<&[u8]>| {
            let mut answer = Response::builder().status(307);
            if let Some(location) = location {
                answer = answer.header("location", location);
            }
            sent.redirected(&answer.body(Vec::new()).expect("an answer"))
        };
        assert_eq!(told(None), "without an address");
        for (location, expected) in [
            ("", "without an address"),
            ("  ", "without an address"),
            ("http://[", "with an address that cannot be read"),
            ("https://as.example/token?x=1", "to itself"),
            ("?x=1", "to itself"),
            ("#here", "to itself"),
            ("/token/", "to the same address with a slash at its end"),
            ("/s3cret?s3cret", "to another place of the same host"),
            ("http://as.example/token", "to as.example without https"),
            ("https://as.example:8443/s3cret", "to as.example:8443"),
            ("//login.example/s3cret", "to login.example"),
            ("https://the-code-12345.evil.example/", "to another host"),
            ("https://evil.example.secret-of-client/", "to another host"),
            ("javascript:s3cret", "to something that is no address of a server"),
            ("data:text/html,s3cret", "to something that is no address of a server"),
        ] {
            assert_eq!(told(Some(location.as_bytes())), expected, "{location}");
        }
        assert_eq!(told(Some(b"\xff\xfe")), "with an address that cannot be read");
    }
}
