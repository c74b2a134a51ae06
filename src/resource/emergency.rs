//! Emergency stops: from when on force is used, so that a group is down before others may start it.
//!
//! The time counts from the end of the lease, whenever that was noticed, and on the clock that counts suspended time, as
//! the lease does. What force is for each kind of resource is the driver's.

use crate::core::time::Instant;
use crate::resource::guard::now;
use std::time::Duration;
use tokio::time::sleep;

/// Longest part of the margin that is kept for force: what systemd kills is down within some 20 ms, on a busy machine
/// some 100 ms.
const RESERVE_MAX: Duration = Duration::from_secs(1);

/// How much longer than the margin is waited for what was killed, before it is given up: the kernel holds it.
pub(super) const HELD_PATIENCE: Duration = Duration::from_secs(10);

/// Longest sleep: timers of the runtime stand still while the machine is suspended.
const SLICE: Duration = Duration::from_millis(50);

/// The times of one emergency stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Emergency {
    /// From here on what still runs is killed.
    pub force: Instant,
    /// From here on others may start the group.
    pub end: Instant,
}

impl Emergency {
    /// For a lease that ended at `ended`. Half of a short margin is kept for force, and of a long one what clocks of
    /// other machines may run ahead.
    pub fn new(ended: Instant, margin: Duration) -> Self {
        let drift = margin / 50;
        let reserve = (margin / 2).min(RESERVE_MAX + drift);
        Self {
            force: ended + (margin - reserve),
            end: ended + (margin - drift),
        }
    }

    /// How long a resource that takes `usual` in good order is waited for from now on.
    pub(super) fn patience(self, usual: Duration) -> Duration {
        usual.min(
            (self.end + HELD_PATIENCE)
                .since(now())
                .max(HELD_PATIENCE / 10),
        )
    }
}

/// Sleeps until this point of the clock that counts suspended time.
pub(super) async fn sleep_until(at: Instant) {
    loop {
        let remains = at.since(now());
        if remains.is_zero() {
            return;
        }
        sleep(remains.min(SLICE)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn force_begins_within_the_margin_and_leaves_itself_time(millis in 1_u64..600_000) {
            let margin = Duration::from_millis(millis);
            let ended = Instant::from_nanos(1_000_000_000);
            let Emergency { force, end } = Emergency::new(ended, margin);
            prop_assert!(ended < force && force < end && end < ended + margin);
            let kept = end.since(force);
            prop_assert!(kept >= (margin * 48 / 100).min(RESERVE_MAX), "{kept:?} of {margin:?}");
        }
    }

    #[test]
    fn who_was_asleep_for_longer_than_the_margin_uses_force_at_once() {
        let long_ago = Instant::from_nanos(1);
        let emergency = Emergency::new(long_ago, Duration::from_millis(250));
        assert!(emergency.end < now());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(sleep_until(emergency.force));
        let patience = emergency.patience(Duration::from_secs(300));
        assert_eq!(patience, HELD_PATIENCE / 10);
    }
}
