//! Nodes and daemons that die, and come back.

use crate::cluster::{Cluster, PATIENCE, SERVICE, Seen};
use crate::machine::Machine;
use crate::{clock, install};
use anyhow::{Context, Result};
use std::time::Duration;

/// Who died, and who took over.
#[derive(Debug)]
pub struct Taken {
    /// Who had the group and is dead.
    pub dead: Machine,
    /// Who has it now.
    pub by: Machine,
    /// When it died, on the lab's clock.
    pub at: Duration,
}

/// Cuts the power of the owner; it stays off.
///
/// # Errors
/// No other node takes over.
pub fn power_cut(cluster: &Cluster) -> Result<Seen<Taken>> {
    let dead = cluster.owner()?;
    cluster.watch(|| {
        let at = clock::now();
        dead.power_cut()?;
        let living: Vec<&Machine> = cluster.nodes.iter().filter(|node| node.is_on()).collect();
        let by = cluster.wait_agreed(&living)?;
        Ok(Taken { dead, by, at })
    })
}

/// Switches a dead machine on again; its daemon starts with the machine.
///
/// # Errors
/// The cluster does not form again.
pub fn come_back(cluster: &Cluster, dead: &Machine) -> Result<Seen<Machine>> {
    cluster.watch(|| {
        dead.power_on()?;
        let all: Vec<&Machine> = cluster.nodes.iter().collect();
        cluster.wait_agreed(&all)
    })
}

/// What a daemon's death is compared by: the life of the service that it had started.
///
/// # Errors
/// The machine is off.
pub fn invocation(node: &Machine) -> Result<String> {
    node.systemctl(&["show", "--property=InvocationID", "--value", SERVICE])
}

/// Does something to the owner's daemon that ends it; the daemon comes back and the cluster with it.
///
/// # Errors
/// It does not come back, or the cluster does not form again.
pub fn end_daemon(
    cluster: &Cluster,
    how: impl FnOnce(&Machine, u32) -> Result<()>,
) -> Result<Seen<Machine>> {
    let victim = cluster.owner()?;
    let before = victim
        .main_pid(install::UNIT)?
        .context("no daemon to end")?;
    cluster.watch(|| {
        how(&victim, before)?;
        clock::wait_for("the daemon to be started again", PATIENCE, || {
            let now = victim.main_pid(install::UNIT)?;
            Ok(now.filter(|pid| *pid != before))
        })?;
        cluster.wait_formed()?;
        Ok(victim)
    })
}

/// Does something to the owner, then ends its daemon with SIGKILL; it cannot come back.
///
/// # Errors
/// No other node takes over.
pub fn end_daemon_for_good(
    cluster: &Cluster,
    before: impl FnOnce(&Machine) -> Result<()>,
) -> Result<Seen<Taken>> {
    let dead = cluster.owner()?;
    before(&dead)?;
    let pid = dead.main_pid(install::UNIT)?.context("no daemon to kill")?;
    cluster.watch(|| {
        let at = clock::now();
        dead.kill(pid, "KILL")?;
        let others: Vec<&Machine> = cluster
            .nodes
            .iter()
            .filter(|node| node.name() != dead.name())
            .collect();
        let by = cluster.wait_agreed(&others)?;
        Ok(Taken { dead, by, at })
    })
}

/// Ends the owner's daemon alone with SIGKILL; systemd starts it again.
///
/// # Errors
/// The daemon does not come back, or the cluster does not form again.
pub fn kill_daemon(cluster: &Cluster) -> Result<Seen<Machine>> {
    end_daemon(cluster, |victim, pid| victim.kill(pid, "KILL"))
}

/// The same, where systemd may not start it again: the unit's stop commands must release everything.
///
/// # Errors
/// No other node takes over.
pub fn kill_daemon_for_good(cluster: &Cluster) -> Result<Seen<Taken>> {
    end_daemon_for_good(cluster, |dead| {
        let drop_in = format!("/etc/systemd/system/{}.d/no-restart.conf", install::UNIT);
        dead.write(&drop_in, "[Service]\nRestart=no\n", 0o644)?;
        dead.systemctl(&["daemon-reload"]).map(drop)
    })
}
