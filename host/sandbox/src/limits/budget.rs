//! One budget of memory for all guests: what their linear memories and tables hold together.
//!
//! Each store takes what it grows by from the budget as it happens, and gives all of it back when it goes. When there is not
//! enough, workflow instances that wait are dropped ([`Relief`]): they are built again from their history. What is not
//! enough even then is refused for now. As long as others want memory, no user gets more than half of all.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use airlock_engine::guests::Relief;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Who was refused memory counts as waiting for it for so long.
const WANTS: Duration = Duration::from_secs(10);

/// How long an attempt of an activity waits for the memory that it begins with.
const PATIENCE: Duration = Duration::from_secs(10);

/// So much is always there, however small the machine.
const LEAST: u64 = 64 << 20;

/// Why a guest gets no more memory now. Later it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRoom {
    /// Others hold it.
    #[error(
        "no memory is left for another guest: all of them together hold {} MB, and {} MB is the limit; try again later, \
         or raise the limit (`--guest-memory`)", .held >> 20, .limit >> 20
    )]
    All { held: u64, limit: u64 },
    /// The user has a lot of it, and others wait.
    #[error(
        "the guests of this user hold {} MB, which with more would be over half of the {} MB for all, and others wait for \
         memory: try again later, or raise the limit (`--guest-memory`)", .held >> 20, .limit >> 20
    )]
    Share { held: u64, limit: u64 },
}

/// The budget.
pub(crate) struct Budget {
    limit: u64,
    ledger: Mutex<Ledger>,
    relief: Mutex<Option<Weak<dyn Relief>>>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Ledger {
    held: u64,
    by_user: HashMap<Arc<str>, u64>,
    /// Who was refused, and when.
    wanting: HashMap<Arc<str>, Instant>,
    refused: u64,
    relieved: u64,
}

/// The figures of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) held: u64,
    pub(crate) limit: u64,
    /// How often memory was refused.
    pub(crate) refused: u64,
    /// Bytes that waiting instances gave back for others.
    pub(crate) relieved: u64,
}

/// What would have to be freed first.
enum Lack {
    /// So much of what all hold.
    All(u64),
    /// So much of what the user holds.
    Share(u64),
}

impl Ledger {
    fn of(&self, user: &str) -> u64 {
        self.by_user.get(user).copied().unwrap_or(0)
    }

    fn others_want(&self, user: &Arc<str>, now: Instant) -> bool {
        self.wanting.iter().any(|(other, since)| other != user && now.duration_since(*since) < WANTS)
    }

    fn take(&mut self, user: &Arc<str>, bytes: u64, limit: u64, now: Instant) -> Result<(), Lack> {
        let (held, own) = (self.held.saturating_add(bytes), self.of(user).saturating_add(bytes));
        if own > limit / 2 && self.others_want(user, now) {
            return Err(Lack::Share(own - limit / 2));
        }
        if held > limit {
            return Err(Lack::All(held - limit));
        }
        self.held = held;
        self.by_user.insert(user.clone(), own);
        self.wanting.remove(user);
        Ok(())
    }

    fn give_back(&mut self, user: &Arc<str>, bytes: u64) {
        self.held = self.held.saturating_sub(bytes);
        if let Some(own) = self.by_user.get_mut(user) {
            *own = own.saturating_sub(bytes);
            if *own == 0 {
                self.by_user.remove(user);
            }
        }
    }
}

impl Budget {
    /// A budget of so many bytes.
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit: limit.max(LEAST),
            ledger: Mutex::default(),
            relief: Mutex::new(None),
            freed: Notify::new(),
        })
    }

    /// Who drops instances when memory is needed.
    pub(crate) fn relieved_by(&self, relief: Weak<dyn Relief>) {
        *self.relief.lock() = Some(relief);
    }

    /// The most that one guest may have.
    pub(crate) fn largest_guest(&self) -> usize {
        usize::try_from(self.limit / 2).unwrap_or(usize::MAX)
    }

    pub(crate) fn figures(&self) -> Figures {
        let ledger = self.ledger.lock();
        let Ledger { held, refused, relieved, .. } = *ledger;
        Figures { held, limit: self.limit, refused, relieved }
    }

    fn take(&self, user: &Arc<str>, bytes: u64) -> Result<(), NoRoom> {
        // The first look tells what is lacking; relief for it may show that something else is lacking as well.
        for _ in 0..3 {
            let lack = match self.ledger.lock().take(user, bytes, self.limit, Instant::now()) {
                Ok(()) => return Ok(()),
                Err(lack) => lack,
            };
            let freed = self.relieve(user, &lack);
            self.ledger.lock().relieved += freed;
            if freed == 0 {
                break;
            }
        }
        let now = Instant::now();
        let mut ledger = self.ledger.lock();
        let Err(lack) = ledger.take(user, bytes, self.limit, now) else { return Ok(()) };
        ledger.refused += 1;
        ledger.wanting.retain(|_, since| now.duration_since(*since) < WANTS);
        let limit = self.limit;
        Err(match lack {
            Lack::All(_) => {
                ledger.wanting.insert(user.clone(), now);
                NoRoom::All { held: ledger.held, limit }
            }
            // It has its share: it is not one for whom others have to hold back.
            Lack::Share(_) => NoRoom::Share { held: ledger.of(user), limit },
        })
    }

    /// Has instances dropped. The ledger is not locked meanwhile: what is dropped gives back.
    fn relieve(&self, user: &Arc<str>, lack: &Lack) -> u64 {
        let relief = self.relief.lock().as_ref().and_then(Weak::upgrade);
        let Some(relief) = relief else { return 0 };
        match lack {
            Lack::Share(bytes) => relief.relieve(*bytes, Some(user)),
            Lack::All(bytes) => {
                // Who has more than half goes first.
                let rich = {
                    let ledger = self.ledger.lock();
                    ledger
                        .by_user
                        .iter()
                        .find(|(_, held)| **held > self.limit / 2)
                        .map(|(user, _)| user.clone())
                };
                let freed = rich.map_or(0, |rich| relief.relieve(*bytes, Some(&rich)));
                if freed >= *bytes { freed } else { freed + relief.relieve(*bytes - freed, None) }
            }
        }
    }

    /// What a store of this user holds: nothing yet.
    pub(crate) fn share(self: &Arc<Self>, user: &str) -> Share {
        Share { budget: self.clone(), user: user.into(), held: 0, ahead: 0 }
    }

    /// The same with so many bytes to begin with; waits for them for a while.
    pub(crate) async fn admit(self: &Arc<Self>, user: &str, bytes: u64) -> Result<Share, NoRoom> {
        let mut share = self.share(user);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            // Before it looks, so that nothing is freed unnoticed in between.
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            match share.grow(bytes) {
                Ok(()) => {
                    share.ahead = bytes;
                    return Ok(share);
                }
                Err(refused) => {
                    // A share also becomes free when nobody else waits any more, which nobody tells.
                    let look = tokio::time::Instant::now() + Duration::from_secs(1);
                    let waited = tokio::time::timeout_at(deadline.min(look), freed).await;
                    if waited.is_err() && tokio::time::Instant::now() >= deadline {
                        return Err(refused);
                    }
                }
            }
        }
    }
}

/// What one store holds of the budget. Given back when it goes.
pub(crate) struct Share {
    budget: Arc<Budget>,
    user: Arc<str>,
    held: u64,
    /// Of that, what was taken before the guest grew by it.
    ahead: u64,
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Share").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Share {
    /// Takes so much more.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), NoRoom> {
        let from_ahead = bytes.min(self.ahead);
        let rest = bytes - from_ahead;
        if rest > 0 {
            self.budget.take(&self.user, rest)?;
        }
        self.ahead -= from_ahead;
        self.held += rest;
        Ok(())
    }

    /// Bytes that it holds.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.held > 0 {
            self.budget.ledger.lock().give_back(&self.user, self.held);
            self.budget.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    /// Instances that wait, oldest first.
    #[derive(Default)]
    struct Idle(Mutex<Vec<(&'static str, Share)>>);

    impl Relief for Idle {
        fn relieve(&self, bytes: u64, of: Option<&str>) -> u64 {
            let mut freed = 0;
            let mut gone = Vec::new();
            let mut idle = self.0.lock();
            while freed < bytes {
                let Some(at) = idle.iter().position(|(user, _)| of.is_none_or(|of| of == *user)) else {
                    break;
                };
                let (_, share) = idle.remove(at);
                freed += share.held();
                gone.push(share);
            }
            freed
        }
    }

    fn with_idle(budget: &Arc<Budget>) -> Arc<Idle> {
        let idle = Arc::new(Idle::default());
        let weak: Weak<Idle> = Arc::downgrade(&idle);
        budget.relieved_by(weak);
        idle
    }

    fn holding(budget: &Arc<Budget>, user: &str, bytes: u64) -> Result<Share, NoRoom> {
        let mut share = budget.share(user);
        share.grow(bytes).map(|()| share)
    }

    #[test]
    fn a04_all_guests_together_hold_no_more_than_the_budget() {
        let budget = Budget::new(1000 * MB);
        let mut held: Vec<Share> = (0..10).map(|_| holding(&budget, "a", 100 * MB).unwrap()).collect();
        let refused = holding(&budget, "a", 1).unwrap_err();
        assert_eq!(refused, NoRoom::All { held: 1000 * MB, limit: 1000 * MB });
        assert!(refused.to_string().contains("hold 1000 MB, and 1000 MB is the limit; try again later"));
        held.pop();
        assert!(holding(&budget, "a", 100 * MB).is_ok());
        drop(held);
        assert_eq!((budget.figures().held, budget.figures().refused), (0, 1));
        assert!(budget.ledger.lock().by_user.is_empty());
    }

    #[test]
    fn a04_waiting_instances_go_for_what_runs_the_oldest_and_the_greedy_first() {
        let budget = Budget::new(1000 * MB);
        let idle = with_idle(&budget);
        idle.0.lock().push(("poor", holding(&budget, "poor", 100 * MB).unwrap()));
        for _ in 0..9 {
            idle.0.lock().push(("greedy", holding(&budget, "greedy", 100 * MB).unwrap()));
        }
        let running = holding(&budget, "third", 250 * MB).unwrap();
        let left: Vec<_> = idle.0.lock().iter().map(|(user, _)| *user).collect();
        assert_eq!(left, ["poor", "greedy", "greedy", "greedy", "greedy", "greedy", "greedy"]);
        assert_eq!((budget.figures().held, budget.figures().relieved), (950 * MB, 300 * MB));
        drop(running);
    }

    #[test]
    fn a04_while_others_wait_nobody_gets_more_than_half() {
        let budget = Budget::new(1000 * MB);
        // Alone, one may have everything.
        let mut greedy: Vec<Share> = (0..10).map(|_| holding(&budget, "greedy", 100 * MB).unwrap()).collect();
        assert!(matches!(holding(&budget, "other", 100 * MB), Err(NoRoom::All { .. })));
        // What is given back is for the other one, not for whoever asks first.
        greedy.truncate(9);
        let refused = holding(&budget, "greedy", 100 * MB).unwrap_err();
        assert_eq!(refused, NoRoom::Share { held: 900 * MB, limit: 1000 * MB });
        let other = holding(&budget, "other", 100 * MB).unwrap();
        // Nobody waits any more.
        greedy.truncate(8);
        assert!(holding(&budget, "greedy", 100 * MB).is_ok());
        drop(other);
    }

    #[test]
    fn a04_whoever_is_over_their_share_gives_up_their_own_instances_first() {
        let budget = Budget::new(1000 * MB);
        let idle = with_idle(&budget);
        let other = holding(&budget, "other", 400 * MB).unwrap();
        for _ in 0..6 {
            idle.0.lock().push(("greedy", holding(&budget, "greedy", 100 * MB).unwrap()));
        }
        budget.ledger.lock().wanting.insert("third".into(), Instant::now());
        assert!(holding(&budget, "greedy", 100 * MB).is_ok());
        // 600 and 100 are over 500 by 200.
        assert_eq!(idle.0.lock().len(), 4);
        drop(other);
    }

    #[tokio::test(start_paused = true)]
    async fn a04_an_attempt_waits_for_its_memory_and_is_refused_in_the_end() {
        let budget = Budget::new(1000 * MB);
        let first = budget.admit("a", 700 * MB).await.unwrap();
        let (second, ()) = tokio::join!(budget.admit("b", 500 * MB), async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(first);
        });
        let mut second = second.unwrap();
        assert_eq!(budget.figures().held, 500 * MB);
        // What it was admitted with is what it grows by first.
        second.grow(500 * MB).unwrap();
        assert_eq!(second.held(), 500 * MB);
        second.grow(MB).unwrap();
        assert_eq!(budget.figures().held, 501 * MB);
        let start = tokio::time::Instant::now();
        let refused = budget.admit("c", 600 * MB).await.unwrap_err();
        assert!(matches!(refused, NoRoom::All { .. }) && start.elapsed() >= PATIENCE, "{refused}");
    }

    #[test]
    fn a04_nothing_is_lost_or_counted_twice_whatever_the_order() {
        use rand::{Rng, SeedableRng};
        for seed in 0..50 {
            let mut random = rand::rngs::StdRng::seed_from_u64(seed);
            let budget = Budget::new(100 * MB);
            let idle = with_idle(&budget);
            let mut running: Vec<(&str, Share)> = Vec::new();
            for _ in 0..300 {
                let user = ["a", "b", "c"][random.random_range(0..3)];
                match random.random_range(0..4) {
                    0 => {
                        if let Ok(share) = holding(&budget, user, random.random_range(0..40) * MB) {
                            running.push((user, share));
                        }
                    }
                    1 if !running.is_empty() => {
                        let at = random.random_range(0..running.len());
                        // Refused or not, what it holds stays what it was or grows by exactly that.
                        let (before, bytes) = (running[at].1.held(), random.random_range(0..10) * MB);
                        let grown = running[at].1.grow(bytes).is_ok();
                        assert_eq!(running[at].1.held(), before + if grown { bytes } else { 0 });
                    }
                    2 if !running.is_empty() => {
                        let at = random.random_range(0..running.len());
                        idle.0.lock().push(running.swap_remove(at));
                    }
                    _ => drop(running.pop()),
                }
                let sum: u64 =
                    running.iter().chain(idle.0.lock().iter()).map(|(_, share)| share.held()).sum();
                assert_eq!(budget.figures().held, sum);
                assert!(sum <= 100 * MB);
                let by_user: u64 = budget.ledger.lock().by_user.values().sum();
                assert_eq!(by_user, sum);
            }
            drop((running, std::mem::take(&mut *idle.0.lock())));
            assert_eq!(budget.figures().held, 0);
        }
    }
}
