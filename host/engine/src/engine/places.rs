//! Places for attempts at work, shared out so that nobody takes them all.
//!
//! Promises: no more attempts have a place than there are places. Attempts of one workflow for one user may have
//! [`PER_WORKFLOW`] times as many as are left free, those of one user [`PER_USER`] times as many (a dynamic threshold, as
//! switches use for their buffers), and the last ones, a [`LAST`]th of all, go only to who has none: a dozen who each take
//! what they can get leave a place for the next. Of those who wait, who has the fewest places comes first, then who has
//! waited longest. It knows nothing of what is done in a place.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::UserId;

/// Alone, attempts of a workflow for a user take nearly four fifths of the places.
const PER_WORKFLOW: usize = 4;
/// Alone, attempts of a user take nearly eight ninths of the places.
const PER_USER: usize = 8;
/// The part of the places that only those get who have none. Few places have no such part.
const LAST: usize = 32;

/// Whom an attempt is for, as far as sharing goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Share {
    pub(super) user: UserId,
    pub(super) workflow: Arc<str>,
}

/// All places.
pub(super) struct Pool(Mutex<State>);

struct State {
    free: usize,
    /// The last free ones are for those who have none.
    last: usize,
    arrivals: u64,
    shares: HashMap<Share, Taken>,
    users: HashMap<UserId, usize>,
    /// Those for whom somebody waits, by the places they have and the arrival of who waited longest.
    order: BTreeMap<(usize, u64), Share>,
}

/// What attempts of one share have and wait for.
#[derive(Default)]
struct Taken {
    held: usize,
    waiting: BTreeMap<u64, oneshot::Sender<Place>>,
}

impl Taken {
    /// Where it is in the order, if somebody waits.
    fn rank(&self) -> Option<(usize, u64)> {
        self.waiting.keys().next().map(|first| (self.held, *first))
    }
}

/// One place. It is free again when this is dropped.
pub(super) struct Place {
    pool: Arc<Pool>,
    /// Taken out when the place is given back.
    share: Option<Share>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(share) = self.share.take() {
            let mut state = self.pool.0.lock();
            state.give_back(&share);
            state.serve(&self.pool);
        }
    }
}

/// Somebody in line. Leaves it when this is dropped.
struct InLine<'a> {
    pool: &'a Pool,
    share: &'a Share,
    arrival: u64,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.0.lock();
        state.change(self.share, |taken| drop(taken.waiting.remove(&self.arrival)));
    }
}

impl Pool {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            free: places,
            last: places / LAST,
            arrivals: 0,
            shares: HashMap::new(),
            users: HashMap::new(),
            order: BTreeMap::new(),
        })))
    }

    /// Waits for a place.
    pub(super) async fn take(self: &Arc<Self>, share: &Share) -> Place {
        loop {
            let (arrival, place) = {
                let mut state = self.0.lock();
                let taken = state.shares.get(share);
                let first = taken.is_none_or(|taken| taken.waiting.is_empty());
                if first && state.allows(share, taken.map_or(0, |taken| taken.held)) {
                    return state.hand_out(self, share);
                }
                state.arrivals += 1;
                let (arrival, (sender, place)) = (state.arrivals, oneshot::channel());
                state.change(share, |taken| drop(taken.waiting.insert(arrival, sender)));
                (arrival, place)
            };
            let _line = InLine { pool: self, share, arrival };
            // A sender leaves the line by handing a place out; nobody else drops it.
            if let Ok(place) = place.await {
                return place;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.0.lock().free
    }
}

impl State {
    /// Whether who holds so many places may have one more, of `times` as many as are left.
    fn leaves(&self, held: usize, times: usize) -> bool {
        self.free > 0 && (held == 0 || held < times.saturating_mul(self.free.saturating_sub(self.last)))
    }

    /// Whether a share that holds so many places may have one more.
    fn allows(&self, share: &Share, held: usize) -> bool {
        let of_user = self.users.get(&share.user).copied().unwrap_or(0);
        self.leaves(held, PER_WORKFLOW) && self.leaves(of_user, PER_USER)
    }

    /// Changes what a share has or waits for, and its rank with that.
    fn change(&mut self, share: &Share, change: impl FnOnce(&mut Taken)) {
        let taken = self.shares.entry(share.clone()).or_default();
        let before = taken.rank();
        change(taken);
        let after = taken.rank();
        if taken.held == 0 && after.is_none() {
            self.shares.remove(share);
        }
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&before);
        }
        if let Some(after) = after {
            self.order.insert(after, share.clone());
        }
    }

    fn hand_out(&mut self, pool: &Arc<Pool>, share: &Share) -> Place {
        self.free -= 1;
        *self.users.entry(share.user.clone()).or_default() += 1;
        self.change(share, |taken| taken.held += 1);
        Place { pool: Arc::clone(pool), share: Some(share.clone()) }
    }

    fn give_back(&mut self, share: &Share) {
        self.free += 1;
        if let Some(held) = self.users.get_mut(&share.user) {
            *held -= 1;
            if *held == 0 {
                self.users.remove(&share.user);
            }
        }
        self.change(share, |taken| taken.held -= 1);
    }

    /// Hands out what is free to those who wait and may have it.
    fn serve(&mut self, pool: &Arc<Pool>) {
        while let Some(share) = self.next() {
            let mut sender = None;
            self.change(&share, |taken| sender = taken.waiting.pop_first());
            let Some((_, sender)) = sender else { return };
            let place = self.hand_out(pool, &share);
            // Who gave up at this very moment: its place goes to the next.
            if let Err(mut place) = sender.send(place) {
                place.share = None;
                self.give_back(&share);
            }
        }
    }

    fn next(&self) -> Option<Share> {
        // Whoever comes later in the order has as many places or more.
        let few = self.order.iter().take_while(|((held, _), _)| self.leaves(*held, PER_WORKFLOW));
        few.map(|((held, _), share)| (held, share))
            .find(|(held, share)| self.allows(share, **held))
            .map(|(_, share)| share.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::Pin};

    use futures::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn share(user: u32, workflow: u32) -> Share {
        Share { user: UserId::new(format!("u{user}")), workflow: format!("w{workflow}").into() }
    }

    /// Takes as many as there are at once.
    fn fill(pool: &Arc<Pool>, share: &Share) -> Vec<Place> {
        std::iter::from_fn(|| pool.take(share).now_or_never()).collect()
    }

    #[test]
    fn whoever_takes_what_there_is_leaves_places_for_others() {
        let pool = Pool::new(256);
        let greedy: Vec<_> = (0..11).map(|n| fill(&pool, &share(n, 0))).collect();
        assert_eq!(greedy[0].len(), 199, "nearly four fifths");
        assert!(greedy.iter().all(|places| !places.is_empty()));
        assert!(pool.take(&share(99, 0)).now_or_never().is_some());
        // One user with many workflows is still one.
        let pool = Pool::new(256);
        let all: usize =
            (0..100).map(|n| fill(&pool, &share(0, n)).into_iter().map(std::mem::forget).count()).sum();
        assert_eq!(all, 221, "nearly eight ninths");
        assert!(pool.take(&share(1, 0)).now_or_never().is_some());
    }

    #[test]
    fn few_places_are_all_used() {
        for places in 1..=4 {
            assert_eq!(fill(&Pool::new(places), &share(0, 0)).len(), places);
        }
    }

    #[test]
    fn who_has_the_fewest_places_comes_first() {
        let pool = Pool::new(4);
        let (busy, idle) = (share(0, 0), share(1, 0));
        let mut held = fill(&pool, &busy);
        let mut early = Box::pin(pool.take(&busy));
        let mut late = Box::pin(pool.take(&idle));
        assert!(early.as_mut().now_or_never().is_none() && late.as_mut().now_or_never().is_none());
        held.pop();
        assert!(early.as_mut().now_or_never().is_none());
        assert!(late.as_mut().now_or_never().is_some());
    }

    /// Somebody in line.
    type Waiting<'a> = (usize, Pin<Box<dyn Future<Output = Place> + 'a>>);

    proptest! {
        #[test]
        fn places_are_neither_lost_nor_made_and_nobody_waits_while_it_may_have_one(
            places in 1usize..20,
            steps in prop::collection::vec((0usize..6, 0u8..4, any::<prop::sample::Index>()), 1..200),
        ) {
            let shares: Vec<_> = (0..6).map(|n| share(n / 2, n)).collect();
            let pool = Pool::new(places);
            let mut held: Vec<(usize, Place)> = Vec::new();
            let mut waiting: Vec<Waiting<'_>> = Vec::new();
            for (who, what, index) in steps {
                match what {
                    0 | 1 => {
                        let mut line = Box::pin(pool.take(&shares[who]));
                        match line.as_mut().now_or_never() {
                            Some(place) => held.push((who, place)),
                            None => waiting.push((who, line)),
                        }
                    }
                    2 if !held.is_empty() => drop(held.swap_remove(index.index(held.len()))),
                    3 if !waiting.is_empty() => drop(waiting.swap_remove(index.index(waiting.len()))),
                    _ => {}
                }
                let mut still = Vec::new();
                for (who, mut line) in waiting {
                    match line.as_mut().now_or_never() {
                        Some(place) => held.push((who, place)),
                        None => still.push((who, line)),
                    }
                }
                waiting = still;
                // A model of its own: what is held is counted anew.
                let free = places - held.len();
                prop_assert_eq!(pool.free(), free);
                for (who, _) in &waiting {
                    let of_share = held.iter().filter(|(other, _)| other == who).count();
                    let of_user = held.iter().filter(|(other, _)| other / 2 == who / 2).count();
                    prop_assert!(of_share >= 4 * free || of_user >= 8 * free);
                }
            }
            // When all is given back, everybody in line is served in the end.
            while !held.is_empty() || !waiting.is_empty() {
                prop_assert!(!held.is_empty(), "somebody waits for nobody");
                held.pop();
                let mut still = Vec::new();
                for (who, mut line) in waiting {
                    match line.as_mut().now_or_never() {
                        Some(place) => held.push((who, place)),
                        None => still.push((who, line)),
                    }
                }
                waiting = still;
            }
            prop_assert_eq!(pool.free(), places);
            let state = pool.0.lock();
            prop_assert!(state.shares.is_empty() && state.users.is_empty() && state.order.is_empty());
        }
    }
}
