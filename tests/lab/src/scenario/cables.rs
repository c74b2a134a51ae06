//! Cables that are cut, mended, and bad.

use crate::cluster::{ADDRESS, Cluster, Options, PORT, Seen, node_address};
use crate::machine::Machine;
use crate::{Span, clock};
use anyhow::{Context, Result};
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

/// One step of [`in_turn`]: whose cable or power, and the longest time in which the clients had no answer.
#[derive(Debug)]
pub struct Turn {
    /// What was done.
    pub what: &'static str,
    /// Longest outage that the clients saw.
    pub outage: Duration,
}

/// Machines whose one cable carries everything.
pub fn one_cable() -> Options {
    let (alpha, beta) = (node_address(0, 0), node_address(0, 1));
    Options {
        links: Some(format!(
            "[[link]]\nucast = {{ alpha = \"{alpha}\", beta = \"{beta}\" }}\ninterface = \"eth0\"\nport = {PORT}\n"
        )),
        ..Options::two()
    }
}

/// The cable of the one node out and in again, then of the other, then the power of each, always of the one that serves.
///
/// A group that does not answer again is an outage that lasts as long as anybody looked, not an error.
///
/// # Errors
/// A machine does not boot, or a cable cannot be pulled.
pub fn in_turn(cluster: &Cluster) -> Result<Vec<Turn>> {
    let mut turns = Vec::new();
    for what in ["cable of A", "cable of B"] {
        let node = server(cluster)?;
        let seen = watch_outage(cluster, || node.cut("eth0"))?;
        turns.push(Turn { what, outage: seen });
        node.mend("eth0")?;
        settle(cluster);
    }
    for what in ["power of either", "power of the other"] {
        let node = server(cluster)?;
        let seen = watch_outage(cluster, || node.power_cut())?;
        turns.push(Turn { what, outage: seen });
        node.power_on()?;
        settle(cluster);
    }
    Ok(turns)
}

/// The machine that has the address; the first one if none has.
fn server(cluster: &Cluster) -> Result<Machine> {
    let address = ADDRESS.to_string();
    for node in &cluster.nodes {
        let shown = node.exec(&["ip", "-o", "addr", "show", "to", &address])?;
        if !shown.is_empty() {
            return Ok(node.clone());
        }
    }
    cluster.nodes.first().cloned().context("no machines")
}

/// Looks from before the fault until long after the other node should have taken over.
fn watch_outage(cluster: &Cluster, fault: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let seen = cluster.watch(|| {
        fault()?;
        clock::sleep(cluster.options.deadtime + Duration::from_millis(1_500));
        Ok(())
    })?;
    Ok(seen.address.longest_outage())
}

/// Time for both to find each other, and no more; that they do not is seen in the next step.
fn settle(cluster: &Cluster) {
    let _ = cluster.wait_formed();
    clock::sleep(Duration::from_secs(1));
}
