//! The one question that every driver asks before it takes something: may this node still run groups? And since when it
//! may not, which is what an emergency stop is measured by.

use crate::core::io::Lease;
use crate::core::time::Instant;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a driver says that did not ask for anything, since the guard did not hold.
pub const NO_LEASE: &str = "this node may not run groups now: its lease has run out";

/// The same where the message bus has no room for the call.
pub const NO_ROOM: &str = "systemd's message bus had no room for the call";

/// What a driver adds where a start did not get so far that there could be anything to undo.
pub const NEVER_ASKED: &str = "it was never asked for";

/// Whether a driver's words say that this is no failure of what was to be started, whatever stands around them.
pub fn is_refusal(reason: &str) -> bool {
    reason.contains(NO_LEASE) || reason.contains(NO_ROOM)
}

/// Whether they say that nothing was begun.
pub fn was_never_asked(reason: &str) -> bool {
    reason.contains(NEVER_ASKED)
}

/// The core's last word on the lease, shared with the drivers. A clone looks at the same word.
///
/// A new guard does not hold: nothing is acquired before the core has spoken.
#[derive(Debug, Clone, Default)]
pub struct Guard(Arc<Words>);

/// Points in time, in nanoseconds.
#[derive(Debug, Default)]
struct Words {
    /// Up to when the lease lasts; 0 for none, the largest number for one without end.
    lease: AtomicU64,
    /// When the last one ended; 0 if there never was one.
    end: AtomicU64,
}

impl Guard {
    /// Stores what the core said last.
    pub fn set(&self, lease: Lease) {
        let end = match lease {
            Lease::None => 0,
            Lease::Until(end) => end.as_nanos().min(u64::MAX - 1),
            Lease::Unlimited => u64::MAX,
        };
        let before = self.0.lease.swap(end, Ordering::AcqRel);
        if end == 0 && before != 0 {
            let ended = before.min(now().as_nanos());
            self.0.end.store(ended, Ordering::Release);
        }
    }

    /// Notes when an earlier life's lease ends, or has ended, before there is one in this life.
    pub fn note_end(&self, lease: Lease) {
        if let Lease::Until(end) = lease {
            self.0.end.store(end.as_nanos(), Ordering::Release);
        }
    }

    /// When the lease that is no more has ended. None where there never was one, or it has no end.
    pub fn ended(&self) -> Option<Instant> {
        let end = match self.0.lease.load(Ordering::Acquire) {
            0 => self.0.end.load(Ordering::Acquire),
            u64::MAX => 0,
            lasting => lasting.min(now().as_nanos()),
        };
        (end != 0).then(|| Instant::from_nanos(end))
    }

    /// Whether this node may acquire a resource now, by `CLOCK_BOOTTIME`.
    pub fn holds(&self) -> bool {
        match self.0.lease.load(Ordering::Acquire) {
            0 => false,
            u64::MAX => true,
            end => now() < Instant::from_nanos(end),
        }
    }
}

/// Now, by `CLOCK_BOOTTIME`.
pub(super) fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_guard_holds_only_within_the_lease() {
        let guard = Guard::default();
        assert!(!guard.holds());
        guard.set(Lease::Until(now() + Duration::from_secs(3600)));
        assert!(guard.clone().holds());
        guard.set(Lease::Until(now()));
        assert!(!guard.holds());
        guard.set(Lease::Unlimited);
        assert!(guard.holds());
        guard.set(Lease::None);
        assert!(!guard.holds());
    }

    #[test]
    fn the_end_of_a_lease_is_when_it_ran_out_and_not_when_that_was_noticed() {
        let guard = Guard::default();
        assert_eq!(guard.ended(), None, "there never was one");
        let before = now();
        let past = Instant::from_nanos(before.as_nanos() - 1_000_000);
        guard.set(Lease::Until(past));
        guard.set(Lease::None);
        assert_eq!(guard.clone().ended(), Some(past));
        guard.set(Lease::None);
        assert_eq!(guard.ended(), Some(past), "said twice");
        // One that is withdrawn before its end has ended then.
        guard.set(Lease::Until(before + Duration::from_secs(3600)));
        guard.set(Lease::None);
        let ended = guard.ended().unwrap();
        assert!(before <= ended && ended <= now(), "{ended:?}");
        guard.set(Lease::Unlimited);
        assert_eq!(guard.ended(), None);
        let heir = Guard::default();
        heir.note_end(Lease::Until(past));
        assert_eq!(heir.ended(), Some(past));
    }
}
