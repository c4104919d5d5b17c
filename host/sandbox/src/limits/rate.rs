//! How often something may happen.

use std::time::Instant;

/// A bucket of tokens: `per_second` come in each second, five times that fit into it.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: f64,
    tokens: f64,
    /// None until the first use, so that a guest that never asks pays nothing.
    last: Option<Instant>,
}

impl Rate {
    /// A full bucket.
    pub(crate) fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, tokens: per_second * 5.0, last: None }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&mut self, now: Instant) -> bool {
        if let Some(last) = self.last {
            let gained = now.duration_since(last).as_secs_f64() * self.per_second;
            self.tokens = (self.tokens + gained).min(self.per_second * 5.0);
        }
        self.last = Some(now);
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_only_the_rate() {
        let start = Instant::now();
        let mut rate = Rate::new(10);
        assert_eq!((0..100).filter(|_| rate.take_at(start)).count(), 50);
        let later = start + Duration::from_millis(500);
        assert_eq!((0..100).filter(|_| rate.take_at(later)).count(), 5);
    }
}
