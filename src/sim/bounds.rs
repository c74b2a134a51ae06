//! Within what time a cluster must have done what, as a scenario's parameters allow.

use crate::ids::GroupName;
use crate::sim::clock::{Nanos, nanos};
use crate::sim::scenario::Scenario;

impl Scenario {
    /// How long an emergency stop takes at most: less than the margin that the peers leave, which is a keepalive.
    pub fn emergency_stop_max(&self) -> Nanos {
        self.emergency_stop_max_of(self.keepalive)
    }

    /// The same for one group, which may have a margin of its own.
    pub fn emergency_stop_max_for(&self, group: &GroupName) -> Nanos {
        let own = self.groups.get(group).and_then(|it| it.stop_margin);
        self.emergency_stop_max_of(own.unwrap_or_default().max(self.keepalive))
    }

    /// From the end of a lease, all must be released within this, whatever margins groups have.
    pub fn stop_margin_max(&self) -> Nanos {
        let longest = self.groups.values().filter_map(|it| it.stop_margin).max();
        let longest = longest.map_or(0, |it| self.emergency_stop_max_of(it));
        longest.max(self.stop_margin()) + self.lateness
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
            + 3 * (self.start_max + self.stop_max)
            + 4 * (self.stop_margin_max() - self.stop_margin());
        if self.drift_beyond { 2 * once } else { once }
    }

    /// A planned move must be done within this, a failing start and the way back included.
    pub fn move_time(&self) -> Nanos {
        10 * (nanos(self.keepalive) + self.delay_max())
            + nanos(self.deadtime)
            + 2 * (self.start_max + self.stop_max)
    }
}
