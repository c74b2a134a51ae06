//! Nodes that start all at once, one long after the other, or alone.

use crate::with_lab;
use anyhow::ensure;
use ha_node_lab::cluster::{GROUP, PATIENCE};
use ha_node_lab::scenario::boots;
use ha_node_lab::{Cluster, Options, clock, install};

#[test]
fn three_nodes_that_start_at_once_run_the_group_once() {
    with_lab(|| {
        let cluster = Cluster::prepare(Options::three())?;
        let seen = cluster.watch(|| {
            cluster.start_all()?;
            cluster.wait_formed()
        })?;
        seen.ensure_single_owner()
    });
}

#[test]
fn machines_that_get_their_power_back_at_once_run_the_group_once() {
    with_lab(|| {
        let cluster = Cluster::form(Options::three())?;
        for node in &cluster.nodes {
            node.power_cut()?;
        }
        let seen = cluster.watch(|| {
            std::thread::scope(|scope| {
                let boots: Vec<_> = cluster
                    .nodes
                    .iter()
                    .map(|node| scope.spawn(|| node.power_on()))
                    .collect();
                boots
                    .into_iter()
                    .try_for_each(|boot| boot.join().unwrap_or_else(|_| anyhow::bail!("panic")))
            })?;
            cluster.wait_formed()
        })?;
        seen.ensure_single_owner()
    });
}

#[test]
fn a_node_that_starts_long_after_the_other_joins_it() {
    with_lab(|| {
        let (cluster, seen) = boots::one_long_before(Options::two())?;
        seen.ensure_single_owner()?;
        ensure!(
            cluster.owner()?.name() == seen.value.name(),
            "the group stays where it is"
        );
        let absences = seen.owners.absences();
        ensure!(
            absences.len() == 1,
            "down only before its first start: {absences:?}"
        );
        Ok(())
    });
}

#[test]
fn one_of_two_that_starts_alone_runs_the_group() {
    with_lab(|| {
        let (_cluster, seen) = boots::one_alone(Options::two())?;
        ensure!(
            seen.owners.last_owner() == Some(seen.value.name()),
            "{:?}",
            seen.owners
        );
        Ok(())
    });
}

#[test]
fn one_of_three_that_starts_alone_runs_nothing() {
    with_lab(|| {
        let (_cluster, seen) = boots::one_alone(Options::three())?;
        let ran = seen.owners.owners.values().any(|spans| !spans.is_empty());
        ensure!(!ran, "without a majority nothing runs: {:?}", seen.owners);
        let status = seen.value.status()?;
        ensure!(
            !status.quorate() && status.owner(GROUP).is_empty(),
            "{:?}",
            status.0
        );
        Ok(())
    });
}

#[test]
fn without_a_configuration_there_is_a_cluster_of_one() {
    with_lab(|| {
        let cluster = Cluster::prepare(Options {
            nodes: 1,
            ..Options::default()
        })?;
        let node = cluster
            .nodes
            .first()
            .ok_or_else(|| anyhow::anyhow!("one node"))?;
        node.shell(&format!("rm -f {} {}", install::CONFIG, install::KEYS))?;
        node.start_daemon()?;
        clock::wait_for("the lone node to be active", PATIENCE, || {
            let state = node.status()?.node_state(node.name());
            Ok((state == "active").then_some(()))
        })?;
        node.systemctl(&["stop", install::UNIT]).map(drop)
    });
}
