//! Formation, and moves that somebody asked for.

use crate::with_lab;
use anyhow::{Result, ensure};
use ha_node_lab::cluster::{GROUP, SERVICE, Seen};
use ha_node_lab::scenario::moves::{self, Moved};
use ha_node_lab::{Cluster, Options, install};

#[test]
fn a_cluster_forms_and_each_node_says_the_same_of_it() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let owner = cluster.owner()?;
        ensure!(
            owner.name() == "alpha",
            "the first node runs the group, not {}",
            owner.name()
        );
        for node in &cluster.nodes {
            let status = node.status()?;
            ensure!(
                status.owner(GROUP) == "alpha",
                "{} says {:?}",
                node.name(),
                status.0
            );
            ensure!(
                node.unit_runs(SERVICE) == (node.name() == "alpha"),
                "{SERVICE} runs once"
            );
            let events = node.journal("ha-node", None)?;
            ensure!(
                events
                    .iter()
                    .any(|entry| !entry.field("HA_EVENT").is_empty()
                        && !entry.field("MESSAGE_ID").is_empty()
                        && entry.field("HA_CLUSTER") == "lab"),
                "{} told no event in the journal",
                node.name()
            );
            ensure!(
                node.unit_state(install::UNIT)? == "active",
                "the daemon is up"
            );
        }
        Ok(())
    });
}

fn check(seen: &Seen<Moved>) -> Result<()> {
    seen.ensure_single_owner()?;
    ensure!(
        seen.owners.last_owner() == Some(seen.value.to.name()),
        "{:?}",
        seen.owners
    );
    ensure!(
        !seen.value.from.unit_runs(SERVICE),
        "{SERVICE} is stopped where it was"
    );
    Ok(())
}

#[test]
fn a_planned_move_goes_there_and_back_without_two_owners() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        for _ in 0..2 {
            let seen = moves::planned(&cluster)?;
            check(&seen)?;
            let page = seen
                .http
                .as_ref()
                .and_then(|http| http.answered_by.last().cloned());
            let served = page.map(|(_, name)| name);
            ensure!(
                served.as_deref() == Some(seen.value.to.name()),
                "served by {served:?}"
            );
        }
        Ok(())
    });
}

#[test]
fn a_node_in_standby_gives_its_group_away() {
    with_lab(|| {
        let cluster = Cluster::form(Options::three())?;
        check(&moves::standby(&cluster)?)
    });
}

#[test]
fn a_daemon_that_is_stopped_hands_over_before_it_ends() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let seen = moves::orderly_stop(&cluster)?;
        seen.ensure_single_owner()?;
        ensure!(
            seen.value.took < cluster.options.deadtime,
            "the others did not have to wait for its death: {:?}",
            seen.value.took
        );
        Ok(())
    });
}

#[test]
fn a_move_to_no_node_is_refused_and_changes_nothing() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let seen = cluster.watch(|| {
            let refused = cluster.owner()?.hactl(&["move", GROUP, "nobody"]);
            ensure!(refused.is_err(), "nobody is no node");
            Ok(())
        })?;
        ensure!(
            seen.owners.absences().is_empty(),
            "the group stayed: {:?}",
            seen.owners
        );
        Ok(())
    });
}
