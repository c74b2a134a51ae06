//! Virtual time: one true time that nobody in the cluster can read, and a drifting clock for each machine.

use crate::core::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// True time of a run in nanoseconds, from 0.
pub type Nanos = u64;

/// A span in nanoseconds; no scenario comes near the limit of 584 years.
pub fn nanos(span: Duration) -> Nanos {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// One machine's monotonic clock, from its boot on.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    booted: Nanos,
    at_boot: u64,
    drift_ppm: i64,
}

impl Clock {
    /// A machine that boots at the true time `booted`, showing `at_boot`, and gains `drift_ppm` parts per million.
    pub fn new(booted: Nanos, at_boot: u64, drift_ppm: i64) -> Self {
        Self {
            booted,
            at_boot,
            drift_ppm,
        }
    }

    /// The clock has stood still for so long, up to now.
    pub fn lose(&mut self, span: Nanos) {
        self.booted += span;
    }

    /// What the machine believes at a true time, its boot or later.
    pub fn local(&self, now: Nanos) -> Instant {
        let elapsed = i128::from(now.saturating_sub(self.booted));
        let shown = elapsed + elapsed * i128::from(self.drift_ppm) / 1_000_000;
        Instant::from_nanos(self.at_boot + u64::try_from(shown).unwrap_or(0))
    }

    /// The first true time at which the machine believes that `local` has come.
    pub fn reaches(&self, local: Instant) -> Nanos {
        let shown = i128::from(local.as_nanos().saturating_sub(self.at_boot));
        let rate = 1_000_000 + i128::from(self.drift_ppm);
        let elapsed = shown * 1_000_000 / rate;
        let mut now = self
            .booted
            .saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX));
        while self.local(now) < local && now < u64::MAX {
            now += 1;
        }
        now
    }
}

/// What will happen, by true time and, at one time, in the order in which it was put in.
#[derive(Debug)]
pub struct Queue<T> {
    entries: BTreeMap<(Nanos, u64), T>,
    counter: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            counter: 0,
        }
    }
}

impl<T> Queue<T> {
    /// Puts something in for a true time.
    pub fn push(&mut self, when: Nanos, what: T) {
        self.counter += 1;
        self.entries.insert((when, self.counter), what);
    }

    /// When the next thing happens.
    pub fn next_time(&self) -> Option<Nanos> {
        self.entries.first_key_value().map(|((when, _), _)| *when)
    }

    /// Takes out the next thing.
    pub fn pop(&mut self) -> Option<(Nanos, T)> {
        self.entries
            .pop_first()
            .map(|((when, _), what)| (when, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reaches_each_point_exactly_once() {
        for drift in [-5000, -1, 0, 1, 5000, 200_000] {
            let clock = Clock::new(1000, 77, drift);
            for wanted in [77, 78, 1077, 1_000_000_007, 3_600_000_000_000] {
                let when = clock.reaches(Instant::from_nanos(wanted));
                assert!(clock.local(when).as_nanos() >= wanted);
                assert!(when == 1000 || clock.local(when - 1).as_nanos() < wanted);
            }
        }
    }

    #[test]
    fn what_is_due_at_one_time_keeps_its_order() {
        let mut queue = Queue::default();
        queue.push(5, "b");
        queue.push(5, "c");
        queue.push(1, "a");
        let order: Vec<_> = std::iter::from_fn(|| queue.pop())
            .map(|(_, what)| what)
            .collect();
        assert_eq!(order, ["a", "b", "c"]);
    }
}
