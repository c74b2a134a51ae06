//! Somebody on the wire who has no key, or only old packets.

use crate::with_lab;
use anyhow::{Context, Result, ensure};
use ha_node_lab::cluster::{GROUP, PORT};
use ha_node_lab::scenario::{deaths, moves};
use ha_node_lab::{Cluster, Machine, Options, capture, clock, install};
use std::time::Duration;

/// Rejected packets, summed over a node's links.
fn rejected(node: &Machine) -> Result<u64> {
    let mut sum = 0;
    for link in 0..2 {
        let path = format!("/org/linuxha/Cluster/link/{link}");
        let words = [
            "busctl",
            "get-property",
            "org.linuxha.Cluster",
            &path,
            "org.linuxha.Cluster.Link",
            "Rejected",
        ];
        let text = node.exec(&words)?;
        let number = text
            .split_whitespace()
            .nth(1)
            .context("busctl printed no number")?;
        sum += number.parse::<u64>()?;
    }
    Ok(sum)
}

/// Waits until a node shows at least this many rejected packets: on the bus a counter may be two seconds old.
fn wait_rejected(node: &Machine, at_least: u64) -> Result<()> {
    let what = format!("{} to show {at_least} rejected packets", node.name());
    clock::wait_for(&what, Duration::from_secs(5), || {
        Ok((rejected(node)? >= at_least).then_some(()))
    })
}

#[test]
fn a_node_with_the_wrong_key_is_no_member() {
    with_lab(|| {
        let cluster = Cluster::prepare(Options::three())?;
        let [alpha, beta, gamma] = cluster.nodes.as_slice() else {
            anyhow::bail!("three nodes");
        };
        gamma.write(install::KEYS, "auth 1\n1 sha256 another key\n", 0o600)?;
        cluster.start_all()?;
        let seen = cluster.watch(|| {
            cluster.wait_agreed(&[alpha, beta])?;
            clock::sleep(cluster.options.initdead + cluster.options.deadtime);
            Ok(())
        })?;
        seen.ensure_single_owner()?;
        let gamma_had = seen
            .owners
            .owners
            .get("gamma")
            .is_some_and(|spans| !spans.is_empty());
        ensure!(!gamma_had, "a stranger never runs anything");
        ensure!(
            !gamma.status()?.quorate(),
            "nor thinks that it is in a majority"
        );
        ensure!(
            alpha.status()?.node_state("gamma") != "active",
            "nor is counted"
        );
        wait_rejected(alpha, 1)?;
        moves::planned(&cluster)?.ensure_single_owner()
    });
}

#[test]
fn replayed_packets_change_nothing_but_a_counter() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let network = cluster.lab.network();
        let recorder = capture::record(network, "eth1", PORT)?;
        moves::planned(&cluster)?;
        clock::sleep(Duration::from_secs(2));
        let frames = recorder.finish()?;
        ensure!(
            frames.len() > 10,
            "heartbeats were recorded: {}",
            frames.len()
        );

        let owner = cluster.owner()?;
        let before = rejected(&owner)?;
        let seen = cluster.watch(|| {
            for _ in 0..3 {
                capture::replay(network, "eth1", &frames, Duration::from_millis(5))?;
            }
            cluster.wait_formed()
        })?;
        seen.ensure_single_owner()?;
        ensure!(
            seen.owners.absences().is_empty(),
            "the group stayed: {:?}",
            seen.owners
        );
        // Each frame was sent three times, and about half of them are for the owner.
        wait_rejected(&owner, before + u64::try_from(frames.len())?)?;

        let taken = deaths::power_cut(&cluster)?;
        let seen = cluster.watch(|| {
            for _ in 0..3 {
                capture::replay(network, "eth1", &frames, Duration::from_millis(5))?;
            }
            taken.value.by.status()
        })?;
        let state = seen.value.node_state(taken.value.dead.name());
        ensure!(state == "dead", "old packets bring nobody back: {state}");
        ensure!(
            seen.value.owner(GROUP) == taken.value.by.name(),
            "nor move anything"
        );
        ensure!(seen.owners.absences().is_empty(), "not even for an instant");
        Ok(())
    });
}
