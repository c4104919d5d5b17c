//! Bytes that bodies under way and answers being written hold together, and how many requests of one user there are.
//!
//! Whoever is about to hold many bytes says so first. What does not fit is refused; nothing waits with memory in its hands.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// So many bytes cost nothing: small requests pass while large ones hold everything. Their number is that of connections.
pub(crate) const FREE: usize = 64 << 10;

/// Bytes for all.
pub(crate) struct Budget {
    most: usize,
    /// One user has at most so many, unless it is for one request alone.
    share: usize,
    used: Mutex<Used>,
    freed: Notify,
    refused: AtomicU64,
}

#[derive(Default)]
struct Used {
    all: usize,
    by_user: HashMap<Arc<str>, usize>,
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// All together hold too much.
    #[error("requests and answers under way hold as much memory as they may: try again in a moment")]
    All,
    /// The user does.
    #[error(
        "your requests and answers under way hold as much memory as one user's may: let some of them end first"
    )]
    User,
    /// It would not fit even if nothing else were there.
    #[error("it needs more memory than all requests and answers may hold together (request_memory)")]
    Alone,
}

/// What one holds of a [`Budget`]; given back when it is dropped.
pub(crate) struct Charge {
    budget: Arc<Budget>,
    user: Arc<str>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            share: most / 2,
            used: Mutex::default(),
            freed: Notify::new(),
            refused: AtomicU64::new(0),
        })
    }

    /// A charge that holds nothing yet.
    pub(crate) fn nothing(self: &Arc<Self>, user: Arc<str>) -> Charge {
        Charge { budget: Arc::clone(self), user, bytes: 0 }
    }

    /// Bytes that are held, at most to be held, and how often somebody was refused.
    pub(crate) fn figures(&self) -> (usize, usize, u64) {
        (self.used.lock().all, self.most, self.refused.load(Ordering::Relaxed))
    }

    fn take(&self, user: &Arc<str>, own: usize, more: usize) -> Result<(), Full> {
        let mut used = self.used.lock();
        if own + more > self.most {
            return Err(Full::Alone);
        }
        if used.all + more > self.most {
            return Err(Full::All);
        }
        let of_user = used.by_user.get(user).copied().unwrap_or(0);
        if of_user > own && of_user + more > self.share {
            return Err(Full::User);
        }
        used.all += more;
        *used.by_user.entry(Arc::clone(user)).or_default() += more;
        Ok(())
    }

    fn give(&self, user: &Arc<str>, less: usize) {
        let mut used = self.used.lock();
        used.all = used.all.saturating_sub(less);
        if let Some(of_user) = used.by_user.get_mut(user) {
            *of_user = of_user.saturating_sub(less);
            if *of_user == 0 {
                used.by_user.remove(user);
            }
        }
        drop(used);
        self.freed.notify_waiters();
    }
}

impl Charge {
    /// The charge, to go along with the work that it is for; what stays holds nothing.
    pub(crate) fn take(&mut self) -> Self {
        let rest = self.budget.nothing(Arc::clone(&self.user));
        std::mem::replace(self, rest)
    }

    /// As many bytes as that, or all that there are: what is larger than everything has to be alone.
    pub(crate) fn at_most(&self, bytes: usize) -> usize {
        bytes.min(self.budget.most)
    }

    /// Holds so many bytes from now on, or as many as before if they are not there.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), Full> {
        self.try_set(bytes).inspect_err(|_| {
            self.budget.refused.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn try_set(&mut self, bytes: usize) -> Result<(), Full> {
        let bytes = if bytes <= FREE { 0 } else { bytes };
        if bytes > self.bytes {
            self.budget.take(&self.user, self.bytes, bytes - self.bytes)?;
        } else if bytes < self.bytes {
            self.budget.give(&self.user, self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// The same for somebody who is in the middle of something: waits for others a little.
    pub(crate) async fn set_within(&mut self, bytes: usize, limit: Duration) -> Result<(), Full> {
        let until = Instant::now() + limit;
        loop {
            let budget = Arc::clone(&self.budget);
            let freed = budget.freed.notified();
            tokio::pin!(freed);
            // From here on nothing that is given back is missed.
            freed.as_mut().enable();
            match self.try_set(bytes) {
                Err(Full::All | Full::User) if Instant::now() < until => {
                    let _ = tokio::time::timeout_at(until, freed).await;
                }
                Err(_) => return self.set(bytes),
                Ok(()) => return Ok(()),
            }
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give(&self.user, self.bytes);
        }
    }
}

/// How many requests of each user are under way.
pub(crate) struct Turns {
    most: usize,
    by_user: Mutex<HashMap<Arc<str>, usize>>,
}

/// One request under way.
pub(crate) struct Turn {
    turns: Arc<Turns>,
    user: Arc<str>,
}

impl Turns {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, by_user: Mutex::default() })
    }

    /// One more of this user's; the error is how many there are already.
    pub(crate) fn begin(self: &Arc<Self>, user: &Arc<str>) -> Result<Turn, usize> {
        let mut by_user = self.by_user.lock();
        let count = by_user.entry(Arc::clone(user)).or_default();
        if *count >= self.most {
            return Err(*count);
        }
        *count += 1;
        Ok(Turn { turns: Arc::clone(self), user: Arc::clone(user) })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut by_user = self.turns.by_user.lock();
        if let Some(count) = by_user.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn a05_what_is_held_never_exceeds_the_budget_and_comes_back_whatever_happens() {
        let budget = Budget::new(10 * MIB);
        let users: Vec<Arc<str>> = ["ada", "bea", "cid"].map(Arc::from).to_vec();
        let mut random = 7u64;
        let mut next = move |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        let mut charges: Vec<Charge> = Vec::new();
        for _ in 0..20_000 {
            match next(3) {
                0 => charges.push(budget.nothing(Arc::clone(&users[next(3)]))),
                1 if !charges.is_empty() => drop(charges.swap_remove(next(charges.len()))),
                _ if !charges.is_empty() => {
                    let at = next(charges.len());
                    let _ = charges[at].set(next(12 * MIB));
                }
                _ => {}
            }
            let held: usize = charges.iter().map(|charge| charge.bytes).sum();
            assert_eq!(budget.figures().0, held);
            assert!(held <= 10 * MIB);
            for user in &users {
                let own = charges.iter().filter(|charge| charge.user == *user && charge.bytes > 0);
                let (count, sum) = own.fold((0, 0), |(n, sum), charge| (n + 1, sum + charge.bytes));
                assert!(count <= 1 || sum <= 5 * MIB, "{user} holds {sum}");
            }
        }
        charges.clear();
        assert_eq!(budget.figures().0, 0);
        assert!(budget.used.lock().by_user.is_empty());
    }

    #[test]
    fn a05_one_user_leaves_half_of_the_budget_to_others_and_small_things_cost_nothing() {
        let budget = Budget::new(10 * MIB);
        let (ada, bea): (Arc<str>, Arc<str>) = ("ada".into(), "bea".into());
        let mut held = Vec::new();
        loop {
            let mut charge = budget.nothing(Arc::clone(&ada));
            if let Err(why) = charge.set(MIB) {
                assert_eq!(why, Full::User);
                break;
            }
            held.push(charge);
        }
        assert_eq!(held.len(), 5);
        let mut other = budget.nothing(Arc::clone(&bea));
        assert_eq!(other.set(5 * MIB), Ok(()));
        let mut third = budget.nothing("cid".into());
        assert_eq!(third.set(MIB), Err(Full::All));
        assert_eq!(third.set(FREE), Ok(()), "small things pass");
        assert_eq!(third.set(11 * MIB), Err(Full::Alone));
        drop((held, other));
        assert_eq!(third.set(9 * MIB), Ok(()), "one request alone may be larger than a share");
    }

    #[tokio::test]
    async fn whoever_is_in_the_middle_of_something_waits_for_others_a_little() {
        let budget = Budget::new(2 * MIB);
        let (mut first, mut second) = (budget.nothing("ada".into()), budget.nothing("bea".into()));
        first.set(2 * MIB).expect("there is room");
        assert_eq!(second.set_within(MIB, Duration::from_millis(20)).await, Err(Full::All));
        let waits = tokio::spawn(async move {
            let set = second.set_within(MIB, airlock_patience::LIMIT).await;
            (second, set)
        });
        tokio::task::yield_now().await;
        drop(first);
        let (second, set) = waits.await.expect("ends");
        assert_eq!((set, second.bytes), (Ok(()), MIB));
    }

    #[test]
    fn a03_requests_of_one_user_are_bounded_and_end_with_their_turns() {
        let turns = Turns::new(3);
        let (ada, bea): (Arc<str>, Arc<str>) = ("ada".into(), "bea".into());
        let mut held: Vec<Turn> =
            (0..3).map(|_| turns.begin(&ada).unwrap_or_else(|_| panic!("room"))).collect();
        assert_eq!(turns.begin(&ada).err(), Some(3));
        assert!(turns.begin(&bea).is_ok());
        held.pop();
        assert!(turns.begin(&ada).is_ok());
        held.clear();
        assert!(turns.by_user.lock().is_empty());
    }
}
