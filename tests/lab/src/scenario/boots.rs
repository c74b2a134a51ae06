//! Nodes that start at different times.

use crate::clock;
use crate::cluster::{Cluster, Options, PATIENCE, Seen};
use crate::machine::Machine;
use anyhow::{Context, Result};
use std::time::Duration;

/// Starts the first node alone, and the others long after it has given them up.
///
/// # Errors
/// The first does not start the group, or the cluster does not form.
pub fn one_long_before(options: Options) -> Result<(Cluster, Seen<Machine>)> {
    let cluster = Cluster::prepare(options)?;
    let seen = cluster.watch(|| {
        let first = cluster.nodes.first().context("no nodes")?;
        first.start_daemon()?;
        let owner = cluster.wait_agreed(&[first])?;
        clock::sleep(Duration::from_secs(1));
        cluster.start_all()?;
        cluster.wait_formed()?;
        Ok(owner)
    })?;
    Ok((cluster, seen))
}

/// Starts the first node alone for good, and gives it more time than it should need.
///
/// # Errors
/// It does not start at all.
pub fn one_alone(options: Options) -> Result<(Cluster, Seen<Machine>)> {
    let cluster = Cluster::prepare(options)?;
    let seen = cluster.watch(|| {
        let first = cluster.nodes.first().context("no nodes")?;
        first.start_daemon()?;
        clock::sleep(cluster.options.initdead + cluster.options.deadtime * 2);
        clock::wait_for("the lone daemon to answer", PATIENCE, || {
            first.status().map(Some)
        })?;
        Ok(first.clone())
    })?;
    Ok((cluster, seen))
}
