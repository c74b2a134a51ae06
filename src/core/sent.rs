//! When this node sent which heartbeat, so that an acknowledgement can be turned into a time.

use crate::core::time::Instant;
use crate::ids::Sequence;
use std::collections::VecDeque;

/// Most heartbeats remembered; beyond it the oldest is forgotten, and an acknowledgement of it counts for nothing.
const ENTRIES_MAX: usize = 4096;

/// The heartbeats sent lately, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct SentLog(VecDeque<(Sequence, Instant)>);

impl SentLog {
    /// Notes that `sequence` was sent at `at`, and forgets what was sent before `horizon`.
    pub(super) fn push(&mut self, sequence: Sequence, at: Instant, horizon: Instant) {
        self.0.push_back((sequence, at));
        while self.0.len() > ENTRIES_MAX || self.0.front().is_some_and(|(_, t)| *t < horizon) {
            self.0.pop_front();
        }
    }

    /// When `sequence` was sent, if it is remembered.
    pub(super) fn time_of(&self, sequence: Sequence) -> Option<Instant> {
        let at = self.0.binary_search_by_key(&sequence, |(s, _)| *s).ok()?;
        self.0.get(at).map(|(_, t)| *t)
    }

    /// Forgets everything: a new life begins.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_what_is_younger_than_the_horizon() {
        let at = Instant::from_nanos;
        let mut log = SentLog::default();
        for n in 1..=10 {
            log.push(Sequence(n), at(n * 10), at((n * 10).saturating_sub(35)));
        }
        assert_eq!(log.time_of(Sequence(10)), Some(at(100)));
        assert_eq!(log.time_of(Sequence(7)), Some(at(70)));
        assert_eq!(log.time_of(Sequence(6)), None);
        assert_eq!(log.time_of(Sequence(11)), None);
    }
}
