//! Moves that somebody asked for.

use crate::cluster::{Cluster, GROUP, Seen};
use crate::machine::Machine;
use crate::{clock, install};
use anyhow::Result;
use std::time::Duration;

/// From where to where a group went.
#[derive(Debug)]
pub struct Moved {
    /// Who had it.
    pub from: Machine,
    /// Who has it.
    pub to: Machine,
    /// How long the request took to return.
    pub took: Duration,
}

/// `hactl move` to the other node.
///
/// # Errors
/// It is refused, or does not get there.
pub fn planned(cluster: &Cluster) -> Result<Seen<Moved>> {
    let from = cluster.owner()?;
    let to = cluster.other(&from)?;
    cluster.watch(|| {
        let begin = clock::now();
        from.hactl(&["move", GROUP, to.name()])?;
        let took = clock::now() - begin;
        cluster.wait_owner(&to, &to)?;
        Ok(Moved { from, to, took })
    })
}

/// `hactl standby` on the owner, then `hactl online`.
///
/// # Errors
/// It is refused, or the group does not go to another node.
pub fn standby(cluster: &Cluster) -> Result<Seen<Moved>> {
    let from = cluster.owner()?;
    let to = cluster.other(&from)?;
    cluster.watch(|| {
        let begin = clock::now();
        from.hactl(&["standby"])?;
        let took = clock::now() - begin;
        cluster.wait_owner(&to, &to)?;
        from.hactl(&["online"])?;
        Ok(Moved { from, to, took })
    })
}

/// `systemctl stop ha-node` on the owner: it hands over before that returns; then it is started again.
///
/// # Errors
/// The group does not go to another node, or the cluster does not form again.
pub fn orderly_stop(cluster: &Cluster) -> Result<Seen<Moved>> {
    let from = cluster.owner()?;
    let to = cluster.other(&from)?;
    cluster.watch(|| {
        let begin = clock::now();
        from.systemctl(&["stop", install::UNIT])?;
        let took = clock::now() - begin;
        cluster.wait_owner(&to, &to)?;
        from.start_daemon()?;
        cluster.wait_formed()?;
        Ok(Moved { from, to, took })
    })
}
