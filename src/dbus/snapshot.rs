//! What the daemon shows on the bus, as plain data: made by `node` once per loop turn, read by `model`.

use crate::core::time::Instant;
use crate::core::view::View;
use crate::ids::{ClusterName, GroupName, NodeName};
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything that the bus shows, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The core's view.
    pub view: View,
    /// Name of the cluster.
    pub cluster: ClusterName,
    /// Version of the daemon.
    pub version: String,
    /// Turns the view's points in time into wall-clock time.
    pub clock: ClockOffset,
    /// All links, in the order of the configuration: the position is the link's number.
    pub links: Vec<LinkSnapshot>,
    /// Why none of this node's links can be used, if so.
    pub deafness: Option<String>,
    /// Resources of each group on this node, in starting order.
    pub resources: BTreeMap<GroupName, Vec<ResourceSnapshot>>,
}

/// One link of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSnapshot {
    /// `ucast`, `bcast` or `mcast`.
    pub kind: &'static str,
    /// The interface that it is bound to, if any.
    pub interface: Option<String>,
    /// What people call it: see `config::model::Link::label`.
    pub label: String,
    /// Whether each peer is heard on it.
    pub peers: BTreeMap<NodeName, bool>,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams received, good or bad.
    pub received: u64,
    /// Datagrams dropped: not authentic, not for us, malformed, replayed.
    pub rejected: u64,
}

/// One resource on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceSnapshot {
    /// Unique within its group.
    pub id: String,
    /// Word for its kind, as in the configuration.
    pub kind: &'static str,
    /// Word for its state: `stopped`, `starting`, `started`, `stopping` or `failed`.
    pub state: &'static str,
}

/// `CLOCK_REALTIME` minus `CLOCK_BOOTTIME` in microseconds.
///
/// Kept through small corrections of the clock, so that a time that has not changed does not look changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockOffset(i128);

/// A difference up to this is slewing, and keeps the offset as it is.
const CLOCK_STEP_MIN: Duration = Duration::from_millis(100);

impl ClockOffset {
    /// From both clocks, read at the same moment; `realtime` counts from 1970.
    pub fn new(boottime: Instant, realtime: Duration) -> Self {
        let usec = |span: Duration| i128::try_from(span.as_micros()).unwrap_or(i128::MAX);
        Self(usec(realtime) - i128::from(boottime.as_nanos() / 1000))
    }

    /// The offset after both clocks were read again: a new one only if the wall clock was stepped.
    #[must_use]
    pub fn refreshed(self, boottime: Instant, realtime: Duration) -> Self {
        let fresh = Self::new(boottime, realtime);
        let stepped = (fresh.0 - self.0).unsigned_abs() > CLOCK_STEP_MIN.as_micros();
        if stepped { fresh } else { self }
    }

    /// Microseconds since 1970 of a point in time; 0 for what would be earlier.
    pub fn realtime_usec(self, point: Instant) -> u64 {
        u64::try_from(i128::from(point.as_nanos() / 1000) + self.0).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_keeps_its_wall_time_until_the_clock_is_stepped() {
        let point = Instant::from_nanos(5_000_000_000);
        let first = ClockOffset::new(point, Duration::from_secs(1000));
        assert_eq!(first.realtime_usec(point), 1_000_000_000);

        let later = point + Duration::from_secs(10);
        let slewed = first.refreshed(later, Duration::from_millis(1_010_020));
        assert_eq!(slewed.realtime_usec(point), 1_000_000_000);

        let stepped = first.refreshed(later, Duration::from_secs(2010));
        assert_eq!(stepped.realtime_usec(point), 2_000_000_000);
    }

    #[test]
    fn a_time_before_1970_is_shown_as_never() {
        let clock = ClockOffset::new(Instant::from_nanos(9_000_000_000), Duration::ZERO);
        assert_eq!(clock.realtime_usec(Instant::from_nanos(1)), 0);
    }
}
