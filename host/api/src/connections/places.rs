//! Places for connections. When there are no more, those go first that nobody is known on and that do nothing, the oldest
//! of them first: half-open connections hold no place that somebody needs. Then those that rest. Requests of people with a
//! key are never ended by it.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Connection;
use crate::Limits;

/// All places.
pub(crate) struct Places {
    limits: Arc<Limits>,
    taken: Mutex<Taken>,
    refused: AtomicU64,
    evicted: AtomicU64,
}

#[derive(Default)]
struct Taken {
    next: u64,
    by_number: HashMap<u64, Occupant>,
    by_group: HashMap<Group, usize>,
}

struct Occupant {
    connection: Arc<Connection>,
    group: Group,
}

/// Whose connections are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Group {
    /// This machine's own programs.
    Loopback,
    /// A proxy that the operator trusts.
    Trusted,
    /// One address; of IPv6 one /64, which is what one household has.
    Address(IpAddr),
}

/// There is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turned {
    /// All are taken by requests under way.
    All,
    /// Those for this address are.
    Address,
}

/// A place that is taken; free again when this is dropped.
pub(crate) struct Seat {
    places: Arc<Places>,
    number: u64,
    pub(crate) connection: Arc<Connection>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.places.taken.lock().remove(self.number);
    }
}

impl Taken {
    fn remove(&mut self, number: u64) -> Option<Occupant> {
        let occupant = self.by_number.remove(&number)?;
        if let Some(count) = self.by_group.get_mut(&occupant.group) {
            *count -= 1;
            if *count == 0 {
                self.by_group.remove(&occupant.group);
            }
        }
        Some(occupant)
    }

    /// Makes room among those of a group, or among all. Looking through them costs something, so of those that nobody is
    /// known on a few go at once. How many went.
    fn evict(&mut self, group: Option<Group>) -> usize {
        let of_group = |occupant: &&Occupant| group.is_none_or(|group| occupant.group == group);
        let mut found: Vec<_> = self
            .by_number
            .iter()
            .filter(|(_, occupant)| of_group(occupant))
            .filter_map(|(number, occupant)| {
                let (class, since) = occupant.connection.dispensable()?;
                Some((class, since, *number))
            })
            .collect();
        let half_open = found.iter().filter(|(class, ..)| *class == 0).count();
        let count = (half_open / 64).max(1).min(found.len());
        if count == 0 {
            return 0;
        }
        found.select_nth_unstable(count - 1);
        for (_, _, number) in &found[..count] {
            if let Some(occupant) = self.remove(*number) {
                occupant.connection.evicted.cancel();
            }
        }
        count
    }
}

impl Places {
    pub(crate) fn new(limits: Arc<Limits>) -> Arc<Self> {
        Arc::new(Self {
            limits,
            taken: Mutex::default(),
            refused: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        })
    }

    /// A place for a connection from this address, somebody else's if need be.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Seat, Turned> {
        let group = self.group(address);
        let of_group = match group {
            Group::Trusted => usize::MAX,
            Group::Loopback => self.limits.loopback(),
            Group::Address(_) => self.limits.connections_per_address,
        };
        let mut taken = self.taken.lock();
        if taken.by_group.get(&group).is_some_and(|count| *count >= of_group) {
            self.make_room(&mut taken, Some(group)).ok_or(Turned::Address)?;
        }
        if taken.by_number.len() >= self.limits.connections {
            self.make_room(&mut taken, None).ok_or(Turned::All)?;
        }
        let connection = Arc::new(Connection::new());
        let number = taken.next;
        taken.next += 1;
        *taken.by_group.entry(group).or_default() += 1;
        taken.by_number.insert(number, Occupant { connection: Arc::clone(&connection), group });
        Ok(Seat { places: Arc::clone(self), number, connection })
    }

    fn make_room(&self, taken: &mut Taken, group: Option<Group>) -> Option<()> {
        match taken.evict(group) {
            0 => {
                self.refused.fetch_add(1, Relaxed);
                None
            }
            count => {
                self.evicted.fetch_add(count as u64, Relaxed);
                Some(())
            }
        }
    }

    /// The system has no descriptors left: some connections that nobody needs go.
    pub(crate) fn relieve(&self) {
        let count = self.taken.lock().evict(None);
        self.evicted.fetch_add(count as u64, Relaxed);
    }

    fn group(&self, address: IpAddr) -> Group {
        let address = address.to_canonical();
        if self.limits.trusted_proxies.iter().any(|network| network.contains(address)) {
            return Group::Trusted;
        }
        match address {
            address if address.is_loopback() => Group::Loopback,
            IpAddr::V6(address) => {
                let first = u128::from(address) >> 64 << 64;
                Group::Address(Ipv6Addr::from(first).into())
            }
            address => Group::Address(address),
        }
    }

    /// What the status shows.
    pub(crate) fn figures(&self) -> Value {
        json!({
            "open": self.taken.lock().by_number.len(), "most": self.limits.connections,
            "per_address": self.limits.connections_per_address,
            "refused": self.refused.load(Relaxed), "closed_for_others": self.evicted.load(Relaxed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(connections: usize, per_address: usize, trusted: &[&str]) -> Arc<Places> {
        let trusted_proxies = trusted.iter().map(|text| text.parse().expect("a network")).collect();
        let limits = Limits {
            connections,
            connections_per_address: per_address,
            trusted_proxies,
            ..Limits::default()
        };
        Places::new(Arc::new(limits))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn gone(seat: &Seat) -> bool {
        seat.connection.evicted.is_cancelled()
    }

    #[test]
    fn a03_half_open_connections_hold_no_place_that_somebody_needs() {
        let places = places(100, 1_000, &[]);
        let at_work = places.admit(ip("203.0.113.1")).unwrap_or_else(|_| panic!("room"));
        at_work.connection.begins();
        at_work.connection.is_known();
        let mut seats = Vec::new();
        for n in 0..5_000u32 {
            let address = IpAddr::from((0xC000_0000 + n).to_be_bytes());
            seats.push(places.admit(address).unwrap_or_else(|why| panic!("{n}: {why:?}")));
        }
        assert!(!gone(&at_work), "who has a key and works stays");
        assert!(!gone(&seats[4_999]) && gone(&seats[0]), "the oldest go");
        assert_eq!(places.figures()["open"], 100);
        drop(seats);
        assert_eq!(places.figures()["open"], 1);
        drop(at_work);
        assert!(places.taken.lock().by_group.is_empty());
    }

    #[test]
    fn a03_those_without_a_key_go_first_then_those_that_rest_and_never_those_at_work() {
        let places = places(3, 10, &[]);
        let admit = |address: &str| places.admit(ip(address));
        let room = |address: &str| admit(address).unwrap_or_else(|_| panic!("room"));
        let (at_work, resting, stranger) = (room("192.0.2.1"), room("192.0.2.2"), room("192.0.2.3"));
        at_work.connection.is_known();
        at_work.connection.begins();
        resting.connection.is_known();
        let next = room("192.0.2.4");
        assert!(gone(&stranger) && !gone(&resting));
        next.connection.is_known();
        next.connection.begins();
        let last = room("192.0.2.5");
        assert!(gone(&resting) && !gone(&at_work) && !gone(&next));
        last.connection.is_known();
        last.connection.begins();
        assert_eq!(admit("192.0.2.6").err(), Some(Turned::All));
        assert_eq!(places.figures()["refused"], 1);
        last.connection.ends();
        assert!(admit("192.0.2.6").is_ok());
    }

    #[test]
    fn a03_one_address_has_its_share_a_trusted_proxy_has_all_and_this_machine_has_most() {
        let places = places(100, 10, &["10.9.0.0/16"]);
        let known = |address: IpAddr| {
            let seat = places.admit(address)?;
            seat.connection.is_known();
            seat.connection.begins();
            Ok::<_, Turned>(seat)
        };
        let fill = |address: &dyn Fn(u16) -> IpAddr| -> (Vec<Seat>, Option<Turned>) {
            let mut seats = Vec::new();
            for n in 0..200 {
                match known(address(n)) {
                    Ok(seat) => seats.push(seat),
                    Err(why) => return (seats, Some(why)),
                }
            }
            (seats, None)
        };
        let one = |text: &str| {
            let address = ip(text);
            let (seats, why) = fill(&|_| address);
            (seats.len(), why)
        };
        assert_eq!(one("198.51.100.7"), (10, Some(Turned::Address)));
        assert_eq!(one("::ffff:198.51.100.7"), (10, Some(Turned::Address)));
        assert_eq!(one("127.0.0.1"), (75, Some(Turned::Address)), "generous, and not everything");
        assert_eq!(one("10.9.1.1"), (100, Some(Turned::All)));
        let (seats, why) = fill(&|n| ip(&format!("2001:db8:1:2::{n:x}")));
        assert_eq!((seats.len(), why), (10, Some(Turned::Address)), "one /64 is one household");
        drop(seats);
        let (seats, why) = fill(&|n| ip(&format!("2001:db8:1:{n:x}::1")));
        assert_eq!((seats.len(), why), (100, Some(Turned::All)));
    }
}
