//! A cable from machine to machine, without a switch: both ends lose their carrier with the power of either.

use crate::with_lab;
use anyhow::{Result, ensure};
use ha_node_lab::cluster::{ADDRESS, PORT, node_address};
use ha_node_lab::{Cluster, Machine, Options, clock};
use std::time::Duration;

/// The interface at the end of the cable.
const LINK: &str = "eth1";
const SLACK: Duration = Duration::from_millis(1_500);

fn options(direct: bool) -> Options {
    let (alpha, beta) = (node_address(1, 0), node_address(1, 1));
    let mut options = Options::two().timing(100, 1_000).address_only();
    options.links = Some(format!(
        "[[link]]\nucast = {{ alpha = \"{alpha}\", beta = \"{beta}\" }}\ninterface = \"{LINK}\"\nport = {PORT}\n\
         direct = {direct}\n"
    ));
    options
}

fn holds(node: &Machine) -> Result<bool> {
    let shown = node.exec(&["ip", "-o", "addr", "show", "to", &ADDRESS.to_string()])?;
    Ok(!shown.is_empty())
}

/// The owner's power and the carrier of the other node go at the same time.
fn lose_the_owner(cluster: &Cluster) -> Result<Machine> {
    let owner = cluster.owner()?;
    let other = cluster.other(&owner)?;
    other.cut(LINK)?;
    owner.power_cut()?;
    Ok(other)
}

#[test]
fn the_death_of_a_node_at_the_other_end_of_a_direct_cable_is_seen() {
    with_lab(|| {
        let cluster = Cluster::form(options(true))?;
        let other = lose_the_owner(&cluster)?;
        clock::wait_for("a takeover", cluster.options.deadtime + SLACK, || {
            Ok(holds(&other)?.then_some(()))
        })
        .map_err(|error| cluster.with_journals(error))
    });
}

#[test]
fn behind_a_switch_a_missing_carrier_is_taken_for_ones_own_deafness() {
    with_lab(|| {
        let cluster = Cluster::form(options(false))?;
        let other = lose_the_owner(&cluster)?;
        clock::sleep(cluster.options.deadtime * 4);
        ensure!(!holds(&other)?, "it cannot know that the other one is dead");
        let shown = other.hactl(&["status"])?;
        ensure!(
            shown.contains("no usable link of its own") && shown.contains("has no carrier"),
            "it does not say why: {shown}"
        );
        other.mend(LINK)?;
        let limit = cluster.options.deadtime * 2 + SLACK;
        clock::wait_for("a takeover", limit, || Ok(holds(&other)?.then_some(())))
            .map_err(|error| cluster.with_journals(error))
    });
}
