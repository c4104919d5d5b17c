//! What the HTTP side may use up, and how long it waits for whom.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    time::Duration,
};

/// Bounds of the HTTP side. [`Default`] has those of a small machine; the daemon knows its machine and says otherwise.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address (of IPv6: one /64). This machine's own programs have three quarters of
    /// `connections`.
    pub connections_per_address: usize,
    /// Whose addresses stand for many people: for them only `connections` counts.
    pub trusted_proxies: Vec<Network>,
    /// How long the head of a request may take, from its first byte, and the first byte of a new connection.
    pub head_time: Duration,
    /// How long a connection may rest between two requests.
    pub idle_time: Duration,
    /// How long nothing of a body may come.
    pub body_pause: Duration,
    /// How long a whole body may take.
    pub body_time: Duration,
    /// How long a client may take no part of its answer, or too small a part of it.
    pub write_time: Duration,
    /// Bytes that bodies under way and answers being written hold together.
    pub bytes: usize,
}

impl Limits {
    /// A share of the machine's memory for [`Limits::bytes`]: an eighth, at least 128 and at most 512 MiB.
    pub fn bytes_of(memory: u64) -> usize {
        usize::try_from(memory / 8).unwrap_or(usize::MAX).clamp(128 << 20, 512 << 20)
    }

    /// [`Limits::connections`] for a process that may have so many descriptors: at least half of them, and at most 2,048,
    /// are kept back for the store, guests and calls to services.
    pub fn connections_of(descriptors: u64) -> usize {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let kept = (descriptors / 2).min(2_048);
        (descriptors - kept).clamp(16, 4_096)
    }

    /// [`Limits::connections_per_address`] for so many connections.
    pub fn per_address_of(connections: usize) -> usize {
        (connections / 4).max(16)
    }

    /// Requests of one user that are under way at once: streams and waiting calls count.
    pub(crate) fn requests_per_user(&self) -> usize {
        (self.connections / 2).max(8)
    }

    /// Connections of this machine's own programs.
    pub(crate) fn loopback(&self) -> usize {
        (self.connections / 4 * 3).max(self.connections_per_address)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_per_address: Self::per_address_of(512),
            trusted_proxies: Vec::new(),
            head_time: Duration::from_secs(10),
            // Longer than clients keep a connection for, so that none is closed under a request.
            idle_time: Duration::from_secs(120),
            body_pause: Duration::from_secs(10),
            body_time: Duration::from_secs(60),
            write_time: Duration::from_secs(30),
            bytes: 128 << 20,
        }
    }
}

/// Addresses with a common beginning, written `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give an address such as 10.0.0.7, or a network such as 10.0.0.0/8 or fd00::/8")]
pub struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| NoNetwork)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NoNetwork)?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(whole);
        if prefix > whole { Err(NoNetwork) } else { Ok(Self { address, prefix }) }
    }
}

impl Network {
    /// Whether the address is one of it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let common = |a: u128, b: u128, width: u32| {
            let other = width - u32::from(self.prefix);
            other >= width || (a ^ b).checked_shr(other).unwrap_or(0) == 0
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => common(v4(a), v4(b), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => common(v6(a), v6(b), 128),
            _ => false,
        }
    }
}

fn v4(address: Ipv4Addr) -> u128 {
    u128::from(u32::from(address))
}

fn v6(address: Ipv6Addr) -> u128 {
    u128::from(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_the_addresses_that_begin_like_it() {
        let holds = |network: &str, address: &str| {
            network.parse::<Network>().expect("a network").contains(address.parse().expect("an address"))
        };
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.0.0.7", "10.0.0.7") && !holds("10.0.0.7", "10.0.0.8"));
        assert!(holds("10.0.0.7", "::ffff:10.0.0.7"), "the same address on a socket for both families");
        assert!(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fd00::/8", "fd12::1") && !holds("fd00::/8", "fe80::1"));
        assert!(holds("::/0", "2001:db8::1") && holds("::1", "::1"));
        for bad in ["", "proxy", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0/8", "10.0.0.1/8/8"] {
            assert_eq!(bad.parse::<Network>(), Err(NoNetwork), "{bad}");
        }
    }

    #[test]
    fn descriptors_are_kept_back_whatever_their_number() {
        for descriptors in [64u64, 256, 1_024, 4_096, 20_000, 1_048_576, u64::MAX] {
            let connections = Limits::connections_of(descriptors) as u64;
            assert!((16..=4_096).contains(&connections), "{descriptors}: {connections}");
            assert!(
                connections + (descriptors / 2).min(2_048) <= descriptors,
                "{descriptors}: {connections}"
            );
        }
        assert_eq!(Limits::bytes_of(16 << 30), 512 << 20);
        assert_eq!(Limits::bytes_of(2 << 30), 256 << 20);
        assert_eq!(Limits::bytes_of(128 << 20), 128 << 20);
    }
}
