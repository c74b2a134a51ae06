//! The one question that every driver asks before it takes something: may this node still run groups?

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
pub struct Guard(Arc<AtomicU64>);

impl Guard {
    /// Stores what the core said last.
    pub fn set(&self, lease: Lease) {
        let end = match lease {
            Lease::None => 0,
            Lease::Until(end) => end.as_nanos().min(u64::MAX - 1),
            Lease::Unlimited => u64::MAX,
        };
        self.0.store(end, Ordering::Release);
    }

    /// Whether this node may acquire a resource now, by `CLOCK_BOOTTIME`.
    pub fn holds(&self) -> bool {
        match self.0.load(Ordering::Acquire) {
            0 => false,
            u64::MAX => true,
            end => now() < Instant::from_nanos(end),
        }
    }
}

fn now() -> Instant {
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
}
