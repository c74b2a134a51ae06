//! Addresses that somebody removes behind ha-node's back.

use crate::cluster::{ADDRESS, Cluster, Seen};
use crate::machine::Machine;
use crate::{Span, clock, span};
use anyhow::Result;
use std::time::Duration;

/// Between two removals: longer than any put-back should take, and too seldom for a fight over the address.
const PAUSE: Duration = Duration::from_millis(250);

/// `ip addr del` of the cluster's address on its owner, so many times, each once it is there again.
///
/// # Errors
/// It does not come back before the next removal.
pub fn by_hand(cluster: &Cluster, times: usize) -> Result<Seen<Machine>> {
    let owner = cluster.owner()?;
    let address = format!("{ADDRESS}/24");
    cluster.watch(|| {
        for _ in 0..times {
            owner.exec(&["ip", "addr", "del", &address, "dev", "eth0"])?;
            clock::sleep(PAUSE);
        }
        Ok(owner)
    })
}

/// How long its owner was without the address each time, by the kernel's messages: no removal is too short.
pub fn absences(seen: &Seen<Machine>) -> Vec<Duration> {
    let spans = seen.owners.owners.get(seen.value.name());
    let had = spans.map_or(&[][..], Vec::as_slice);
    let gaps: Vec<Span> = span::gaps(seen.owners.observed, had);
    gaps.iter().map(Span::length).collect()
}
