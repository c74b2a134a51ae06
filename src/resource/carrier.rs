//! When the loss of an interface's carrier is a fault of what is held on it.
//!
//! A loss that lasts moves the group, since its clients cannot reach it here. But a switch that dies takes the
//! carrier of every node, and a group must not use up its nodes by moving from one to the next. So only an
//! interface that worked before can fail: where a start found no carrier, or the carrier has come back only
//! lately, the addresses stay and wait for it. When the switch is back, so is the group.

use std::time::Duration;
use tokio::time::Instant;

/// A loss that is shorter is a flap: it is told, and the addresses are announced again.
pub(super) const DEBOUNCE: Duration = Duration::from_secs(1);

/// A carrier that was missing counts as one that works after so long: ports of a switch that boots come and go.
pub(super) const STEADY: Duration = Duration::from_secs(30);

/// The carrier of an interface, down counting as without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// It works.
    Steady,
    /// It is back since then, after it was missing.
    Back(Instant),
    /// It is missing since then.
    Lost {
        since: Instant,
        /// It worked before.
        counts: bool,
    },
}

/// What a change means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Lost,
    Regained,
}

impl Carrier {
    /// As a start finds it.
    pub(super) fn found(carrier: bool, now: Instant) -> Self {
        if carrier {
            Self::Steady
        } else {
            Self::Lost {
                since: now,
                counts: false,
            }
        }
    }

    /// Takes in what the kernel says; none if that is nothing new.
    pub(super) fn update(&mut self, carrier: bool, now: Instant) -> Option<Change> {
        let (next, change) = match (*self, carrier) {
            (Self::Steady | Self::Back(_), true) | (Self::Lost { .. }, false) => return None,
            (Self::Steady, false) => (Self::lost(now, true), Change::Lost),
            (Self::Back(since), false) => {
                let counts = now.duration_since(since) >= STEADY;
                (Self::lost(now, counts), Change::Lost)
            }
            (Self::Lost { counts: true, .. }, true) => (Self::Steady, Change::Regained),
            (Self::Lost { counts: false, .. }, true) => (Self::Back(now), Change::Regained),
        };
        *self = next;
        Some(change)
    }

    fn lost(since: Instant, counts: bool) -> Self {
        Self::Lost { since, counts }
    }

    /// Whether it is missing.
    pub(super) fn is_lost(self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// When the loss will be a fault, unless the carrier is back before.
    pub(super) fn fails_at(self) -> Option<Instant> {
        match self {
            Self::Lost {
                since,
                counts: true,
            } => Some(since + DEBOUNCE),
            Self::Lost { counts: false, .. } | Self::Steady | Self::Back(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carrier_that_worked_fails_after_a_second_without() {
        let start = Instant::now();
        let mut carrier = Carrier::found(true, start);
        assert_eq!(carrier.update(true, start), None);
        assert_eq!(carrier.update(false, start), Some(Change::Lost));
        assert_eq!(carrier.update(false, start + DEBOUNCE / 2), None);
        assert_eq!(carrier.fails_at(), Some(start + DEBOUNCE));
        assert_eq!(
            carrier.update(true, start + DEBOUNCE / 2),
            Some(Change::Regained)
        );
        assert_eq!((carrier, carrier.fails_at()), (Carrier::Steady, None));
    }

    #[test]
    fn a_carrier_that_was_never_there_or_comes_and_goes_does_not_fail() {
        let start = Instant::now();
        let mut carrier = Carrier::found(false, start);
        assert!(carrier.is_lost());
        assert_eq!(carrier.fails_at(), None);
        assert_eq!(carrier.update(true, start), Some(Change::Regained));
        assert_eq!(
            carrier.update(false, start + STEADY / 2),
            Some(Change::Lost)
        );
        assert_eq!(carrier.fails_at(), None);
        assert_eq!(carrier.update(true, start + STEADY), Some(Change::Regained));
        carrier.update(false, start + STEADY * 2);
        assert_eq!(carrier.fails_at(), Some(start + STEADY * 2 + DEBOUNCE));
    }
}
