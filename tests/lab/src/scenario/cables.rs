//! Cables that are cut, mended, and bad.

use crate::cluster::{Cluster, Seen};
use crate::machine::Machine;
use crate::{Span, clock};
use anyhow::Result;
use std::time::Duration;

/// A node that was cut off for a while.
#[derive(Debug)]
pub struct CutOff {
    /// Which one: it had the group.
    pub node: Machine,
    /// When it was cut off.
    pub cut: Span,
    /// Who had the group in the end.
    pub owner: Machine,
    /// When all agreed on that.
    pub agreed: Duration,
}

/// Pulls all cables of the owner for a while, then mends them.
///
/// # Errors
/// The cluster does not form again.
pub fn cut_and_mend(cluster: &Cluster, length: Duration) -> Result<Seen<CutOff>> {
    let node = cluster.owner()?;
    cluster.watch(|| {
        let from = clock::now();
        node.cut_all()?;
        clock::sleep_until(from + length);
        node.mend_all()?;
        let cut = Span::new(from, clock::now());
        let all: Vec<&Machine> = cluster.nodes.iter().collect();
        let owner = cluster.wait_agreed(&all)?;
        let agreed = clock::now();
        // What the winner does for its clients, and a late change of mind, are to be seen too.
        clock::sleep(Duration::from_millis(1_500));
        Ok(CutOff {
            node,
            cut,
            owner,
            agreed,
        })
    })
}

/// Pulls one of the owner's two cables, the one that only carries heartbeats, and mends it.
///
/// # Errors
/// The cluster does not agree afterwards.
pub fn one_of_two(cluster: &Cluster, length: Duration) -> Result<Seen<Machine>> {
    let node = cluster.owner()?;
    cluster.watch(|| {
        node.cut("eth1")?;
        clock::sleep(length);
        cluster.wait_formed()?;
        node.mend("eth1")?;
        clock::sleep(length);
        cluster.wait_formed()?;
        Ok(node)
    })
}

/// Loses a share of what every node sends, on all cables, for a while.
///
/// # Errors
/// The cluster does not agree afterwards.
pub fn bad_cables(cluster: &Cluster, percent: u32, time: Duration) -> Result<Seen<Machine>> {
    let owner = cluster.owner()?;
    cluster.watch(|| {
        cluster
            .nodes
            .iter()
            .try_for_each(|node| node.lose(percent))?;
        clock::sleep(time);
        cluster.nodes.iter().try_for_each(|node| node.lose(0))?;
        cluster.wait_formed()?;
        Ok(owner)
    })
}

/// Keeps the host's cores busy from every node for a while.
///
/// # Errors
/// The cluster does not agree afterwards.
pub fn busy_cores(cluster: &Cluster, loops: usize, time: Duration) -> Result<Seen<Machine>> {
    let owner = cluster.owner()?;
    cluster.watch(|| {
        cluster
            .nodes
            .iter()
            .try_for_each(|node| node.be_busy(loops))?;
        clock::sleep(time);
        cluster.nodes.iter().try_for_each(Machine::rest)?;
        cluster.wait_formed()?;
        Ok(owner)
    })
}
