//! One group on this node: what was ordered, what became of it.

use crate::core::failure::{Failures, Stint};
use crate::core::io::{Holding, Urgency};
use crate::core::time::Instant;
use crate::ids::RequestId;
use crate::wire::status::{Fitness, GroupReport, GroupState};

/// State of a group here, with the data that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    /// Found at start: an earlier life may have left something behind; a stop is to be ordered first.
    Leftover,
    /// Found at start: an earlier life has left it running, and it is to go on.
    Inherited,
    /// Nothing runs.
    Stopped,
    /// A start was ordered.
    Starting { order: RequestId, since: Instant },
    /// The same for what runs already.
    Adopting { order: RequestId },
    /// Everything runs.
    Started { since: Instant },
    /// A stop was ordered.
    Stopping {
        order: RequestId,
        since: Instant,
        urgency: Urgency,
    },
    /// A stop failed.
    Blocked,
}

impl Activity {
    /// Runs by order, or is on its way there.
    pub(super) fn is_up(self) -> bool {
        match self {
            Self::Starting { .. } | Self::Adopting { .. } | Self::Started { .. } => true,
            Self::Leftover
            | Self::Inherited
            | Self::Stopped
            | Self::Stopping { .. }
            | Self::Blocked => false,
        }
    }
}

/// One group on this node.
#[derive(Debug, Clone)]
pub(super) struct LocalGroup {
    pub(super) activity: Activity,
    pub(super) failures: Failures,
    pub(super) pinned: bool,
}

impl LocalGroup {
    /// As it is when a life begins.
    pub(super) fn at_start(
        held: Option<&Holding>,
        blocked: bool,
        listed: bool,
        failures: Option<&Failures>,
    ) -> Self {
        let activity = if blocked {
            Activity::Blocked
        } else if held.is_some() {
            Activity::Inherited
        } else if listed {
            Activity::Leftover
        } else {
            // What else runs there under such a name is no business of the cluster.
            Activity::Stopped
        };
        Self {
            activity,
            failures: failures.cloned().unwrap_or_default(),
            pinned: held.is_some_and(|held| held.pinned),
        }
    }

    /// Forgets failures that are past. Answers whether the group may run here again.
    pub(super) fn forget_failures(&mut self, now: Instant) -> bool {
        self.failures.expire(now, self.stint())
    }

    /// When failures are past.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.failures.next_deadline(self.stint())
    }

    fn stint(&self) -> Stint {
        match self.activity {
            Activity::Started { since } => Stint::Since(since),
            Activity::Starting { .. } | Activity::Adopting { .. } => Stint::Beginning,
            Activity::Leftover
            | Activity::Inherited
            | Activity::Stopped
            | Activity::Stopping { .. }
            | Activity::Blocked => Stint::None,
        }
    }

    /// Since when all of it runs here.
    pub(super) fn runs_since(&self) -> Option<Instant> {
        match self.stint() {
            Stint::Since(since) => Some(since),
            Stint::None | Stint::Beginning => None,
        }
    }

    /// What of it may run here.
    pub(super) fn holding(&self) -> Option<Holding> {
        let up = match self.activity {
            Activity::Stopped => return None,
            Activity::Leftover | Activity::Stopping { .. } | Activity::Blocked => false,
            Activity::Inherited
            | Activity::Starting { .. }
            | Activity::Adopting { .. }
            | Activity::Started { .. } => true,
        };
        Some(Holding {
            up,
            pinned: self.pinned,
        })
    }

    /// Its state in the words of a report.
    pub(super) fn state(&self) -> GroupState {
        match self.activity {
            Activity::Leftover | Activity::Stopping { .. } => GroupState::Stopping,
            Activity::Stopped => GroupState::Stopped,
            Activity::Starting { .. } => GroupState::Starting,
            Activity::Inherited | Activity::Adopting { .. } | Activity::Started { .. } => {
                GroupState::Started
            }
            Activity::Blocked => GroupState::Blocked,
        }
    }

    /// What the leader is told; `listed`: the group may run here as far as this node knows.
    pub(super) fn report(&self, listed: bool) -> GroupReport {
        let fitness = match listed {
            true => self.failures.fitness(),
            false => Fitness::Unfit,
        };
        GroupReport {
            state: self.state(),
            failures: self.failures.count(),
            fitness,
            pinned: self.pinned,
        }
    }

    /// Whether `order` is the one that is under way.
    pub(super) fn awaits(&self, answered: Option<RequestId>) -> bool {
        match self.activity {
            Activity::Starting { order, .. }
            | Activity::Adopting { order }
            | Activity::Stopping { order, .. } => answered == Some(order),
            Activity::Leftover
            | Activity::Inherited
            | Activity::Stopped
            | Activity::Started { .. }
            | Activity::Blocked => false,
        }
    }
}
