//! Why a request has no answer: what stood in the way, told apart as far as whoever can mend it is another.

use std::{error::Error, fmt, io};

use super::address::{NoAddress, NoName, Wall};

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// Nothing was sent.
    Unreachable(Obstacle),
    /// In the given time.
    Late,
    /// The connection broke.
    Broken,
    /// More bytes than the limit.
    TooLarge,
    /// To another origin.
    Redirected,
    /// Of the operator's rules about addresses.
    Forbidden(Wall),
    /// In a way that cannot be undone, so that nobody could look for secrets in it.
    Encoded,
}

/// Why no connection came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// The host's name leads to no address.
    Name,
    /// Nobody listens there.
    Refused,
    /// No way leads to the address.
    Route,
    /// Nobody answered in time.
    Late,
    /// The server's certificate is not trusted, not for this name or not any more.
    Certificate,
    /// TLS was not agreed on.
    Tls,
    /// It was closed before anything was said.
    Closed,
    /// Anything else.
    Other,
}

impl fmt::Display for Obstacle {
    /// What it is and what to look at, as it stands behind "cannot be reached: ".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "its name is not known (DNS): check the address, or the daemon's name servers",
            Self::Refused => {
                "the connection was refused: check that it is running, and that host and port are right"
            }
            Self::Route => "no network leads there: check the address and the daemon's network",
            Self::Late => "the connection was not answered in time: check the address, and firewalls on the way",
            Self::Certificate => {
                "its TLS certificate is not accepted: check that it is valid, for this host, and by an authority that \
                 this machine trusts"
            }
            Self::Tls => "no TLS connection came about: check that it speaks https:// on this port",
            Self::Closed => "it closed the connection at once: check that host and port are right",
            Self::Other => "the connection failed: check the address and the network",
        })
    }
}

/// What an error of the client is.
pub(super) fn unanswered(error: &reqwest::Error) -> Unanswered {
    let unanswered = match error {
        error if error.is_connect() => stopped(error),
        error if error.is_timeout() => Unanswered::Late,
        _ => Unanswered::Broken,
    };
    if let Unanswered::Unreachable(obstacle) = unanswered {
        tracing::debug!(?obstacle, reason = reason(error), "no connection came about");
    }
    unanswered
}

/// The innermost reason: it names no address and no query.
fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Why a connection did not come about, from what the errors are made of.
fn stopped(error: &reqwest::Error) -> Unanswered {
    let unreachable = Unanswered::Unreachable;
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(NoAddress(wall)) = cause.downcast_ref::<NoAddress>() {
            return Unanswered::Forbidden(*wall);
        }
        if cause.is::<NoName>() {
            return unreachable(Obstacle::Name);
        }
        if let Some(error) = cause.downcast_ref::<io::Error>()
            && let Some(obstacle) = of_io(error)
        {
            return unreachable(obstacle);
        }
        next = cause.source();
    }
    match error.is_timeout() {
        true => unreachable(Obstacle::Late),
        false => unreachable(Obstacle::Other),
    }
}

fn of_io(error: &io::Error) -> Option<Obstacle> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(Obstacle::Refused),
        io::ErrorKind::TimedOut => Some(Obstacle::Late),
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable => Some(Obstacle::Route),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected => Some(Obstacle::Closed),
        // Before anything is sent, only TLS reads: it puts its own errors into these.
        io::ErrorKind::UnexpectedEof => Some(Obstacle::Tls),
        io::ErrorKind::InvalidData => {
            let inner = error.get_ref().map(ToString::to_string).unwrap_or_default();
            let is_about_certificate = inner.contains("certificate") || inner.contains("Certificate");
            Some(if is_about_certificate { Obstacle::Certificate } else { Obstacle::Tls })
        }
        // One error of this kind may hold another, which is no source of it.
        _ => error.get_ref()?.downcast_ref::<io::Error>().and_then(of_io),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, sync::Arc};

    use http::Method;
    use url::Url;

    use super::*;
    use crate::egress::{Egress, Live, address::Allowed, secret::Secret};

    async fn message(url: &str, allowed: Allowed) -> Unanswered {
        let egress = Egress::new(allowed).expect("a client");
        let live = Live::new(Secret::default().render(&[], &[]).expect("renders"));
        let sender = egress.sender(&Url::parse(url).expect("an address"), Arc::clone(&live));
        match sender.message(Method::POST, http::HeaderMap::new(), None).await {
            Ok(answer) => panic!("{url} answered with {}", answer.status),
            Err(why) => why,
        }
    }

    #[tokio::test]
    async fn what_keeps_a_connection_from_coming_about_is_told_apart() {
        let here = Allowed { loopback: true, private_networks: false };
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let closed = format!("http://{}/mcp", free.local_addr().expect("an address"));
        drop(free);
        // It says something that is no TLS, and ends.
        let plain = TcpListener::bind("127.0.0.1:0").expect("a port");
        let no_tls = format!("https://{}/mcp", plain.local_addr().expect("an address"));
        let answering = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let (mut stream, _) = plain.accept().expect("a connection");
            let mut hello = [0; 16];
            let _ = stream.read(&mut hello);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let unreachable = Unanswered::Unreachable;
        for (url, expected) in [
            (closed.as_str(), unreachable(Obstacle::Refused)),
            ("http://no-such-host.invalid/mcp", unreachable(Obstacle::Name)),
            (no_tls.as_str(), unreachable(Obstacle::Tls)),
            ("http://10.0.0.1/mcp", Unanswered::Forbidden(Wall::Private)),
        ] {
            assert_eq!(message(url, here).await, expected, "{url}");
        }
        answering.join().expect("ends");
    }

    #[test]
    fn errors_of_tls_are_known_by_what_stands_in_them() {
        let invalid = |inner: &str| io::Error::new(io::ErrorKind::InvalidData, inner.to_owned());
        for (error, expected) in [
            (invalid("invalid peer certificate: UnknownIssuer"), Some(Obstacle::Certificate)),
            (invalid("invalid peer certificate: certificate expired"), Some(Obstacle::Certificate)),
            (invalid("received corrupt message of type InvalidContentType"), Some(Obstacle::Tls)),
            (io::ErrorKind::UnexpectedEof.into(), Some(Obstacle::Tls)),
            (io::ErrorKind::ConnectionRefused.into(), Some(Obstacle::Refused)),
            (io::ErrorKind::TimedOut.into(), Some(Obstacle::Late)),
            (io::ErrorKind::NetworkUnreachable.into(), Some(Obstacle::Route)),
            (io::Error::other(invalid("received corrupt message")), Some(Obstacle::Tls)),
            (io::Error::other(invalid("invalid peer certificate: Expired")), Some(Obstacle::Certificate)),
            (io::ErrorKind::Other.into(), None),
            (io::Error::other("something"), None),
        ] {
            assert_eq!(of_io(&error), expected, "{error}");
        }
    }

    #[test]
    fn every_obstacle_says_what_to_look_at() {
        for obstacle in [
            Obstacle::Name,
            Obstacle::Refused,
            Obstacle::Route,
            Obstacle::Late,
            Obstacle::Certificate,
            Obstacle::Tls,
            Obstacle::Closed,
            Obstacle::Other,
        ] {
            assert!(obstacle.to_string().contains(": check "), "{obstacle}");
        }
    }
}
