//! Nodes and daemons that die, and come back.

use crate::with_lab;
use anyhow::ensure;
use ha_node_lab::cluster::GROUP;
use ha_node_lab::scenario::deaths;
use ha_node_lab::{Cluster, Options};

#[test]
fn a_power_cut_is_survived_and_the_dead_node_comes_back() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let seen = deaths::power_cut(&cluster)?;
        seen.ensure_single_owner()?;
        let taken = &seen.value;
        ensure!(taken.dead.name() != taken.by.name(), "another node has it");
        ensure!(
            taken.by.status()?.node_state(taken.dead.name()) == "dead",
            "it is known as dead"
        );

        let back = deaths::come_back(&cluster, &taken.dead)?;
        back.ensure_single_owner()?;
        ensure!(
            back.value.name() == taken.by.name(),
            "no failback without being asked"
        );
        ensure!(
            back.owners.absences().is_empty(),
            "its return disturbs nobody: {:?}",
            back.owners
        );
        ensure!(
            back.address.longest_outage() < cluster.options.deadtime,
            "nor the clients"
        );
        Ok(())
    });
}

#[test]
fn with_failback_the_group_returns_to_its_first_node() {
    with_lab(|| {
        let cluster = Cluster::form(Options {
            failback: true,
            ..Options::three()
        })?;
        let seen = deaths::power_cut(&cluster)?;
        seen.ensure_single_owner()?;
        let back = deaths::come_back(&cluster, &seen.value.dead)?;
        back.ensure_single_owner()?;
        cluster.wait_owner(&seen.value.dead, &seen.value.dead)
    });
}

#[test]
fn a_killed_daemon_leaves_the_address_on_one_machine() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        for _ in 0..3 {
            deaths::kill_daemon(&cluster)?.ensure_single_owner()?;
        }
        Ok(())
    });
}

#[test]
fn a_daemon_that_stays_dead_releases_everything_before_another_takes_over() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let seen = deaths::kill_daemon_for_good(&cluster)?;
        seen.ensure_single_owner()?;
        let owner = seen.value.by.status()?.owner(GROUP);
        ensure!(owner == seen.value.by.name(), "{owner} has it");
        Ok(())
    });
}
