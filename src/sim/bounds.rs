//! Within what time a cluster must have done what, as a scenario's parameters allow.

use crate::sim::clock::{Nanos, nanos};
use crate::sim::scenario::Scenario;

impl Scenario {
    /// How long an emergency stop takes at most: less than the margin that the peers leave, which is a keepalive.
    pub fn emergency_stop_max(&self) -> Nanos {
        self.emergency_stop_max_of(self.keepalive)
    }

    /// The same, and what a timer may be late.
    pub fn stop_margin_max(&self) -> Nanos {
        self.stop_margin().max(self.emergency_stop_max()) + self.lateness
    }

    /// From the end of a lease, all must be released within this.
    pub fn stop_margin(&self) -> Nanos {
        (nanos(self.keepalive) * 9 / 10).max(self.emergency_stop_max())
    }

    /// Longest way of a packet while all is well.
    pub fn delay_max(&self) -> Nanos {
        self.delay + self.jitter
    }

    /// After the last fault, who stays down is dead to all within this, and people can clear what it left blocked.
    pub fn grieving_time(&self) -> Nanos {
        nanos(self.initdead) + 2 * nanos(self.deadtime) + self.extras.slack
    }

    /// After the last fault, everything must run within this.
    pub fn settle_time(&self) -> Nanos {
        let once = self.grieving_time()
            + 6 * nanos(self.deadtime)
            + 20 * (nanos(self.keepalive) + self.delay_max())
            + 3 * (self.start_max + self.stop_max);
        if self.drift_beyond { 2 * once } else { once }
    }

    /// A planned move must be done within this, a failing start and the way back included.
    pub fn move_time(&self) -> Nanos {
        10 * (nanos(self.keepalive) + self.delay_max())
            + nanos(self.deadtime)
            + 2 * (self.start_max + self.stop_max)
    }
}
