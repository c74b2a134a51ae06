//! The lease is lost: what does not end in good order within its stop margin is ended by force, before others start it.

use crate::with_lab;
use anyhow::{Context, Result, ensure};
use ha_node_lab::cluster::{PATIENCE, SERVICE, Seen};
use ha_node_lab::network::Direction;
use ha_node_lab::{Cluster, Machine, Options, Span, clock};
use std::time::Duration;

/// The web server ignores what would end it, and so does what comes after it.
const STUBBORN: &str = "[Service]\nExecStop=\nExecStop=/bin/sleep 100\nKillSignal=SIGCONT\nTimeoutStopSec=100s\n\
                        ExecStopPost=/bin/sleep 100\nRestart=always\n";

/// A script whose program ignores SIGTERM, and whose stop does not end while there is something to stop.
const SCRIPT: &str = r#"#!/bin/sh
case "$1" in
start) touch /run/stubborn; (trap '' TERM; exec sleep 1000000) & ;;
stop) [ -e /run/stubborn ] || exit 0; trap '' TERM; sleep 100 ;;
status) exit 3 ;;
esac
"#;

const GROUPS: &str = "[[group]]\nname = \"programs\"\n\
                      resources = [{ script = \"/usr/local/sbin/stubborn\", id = \"stubborn\" }]\n";
const HOLDER: &str = "ha-programs-stubborn-run.service";

fn override_service(cluster: &Cluster, settings: &str) -> Result<()> {
    for node in &cluster.nodes {
        let path = format!("/etc/systemd/system/{SERVICE}.d/test.conf");
        node.write(&path, settings, 0o644)?;
        node.systemctl(&["daemon-reload"])?;
    }
    Ok(())
}

/// Nobody hears the node any more; its cables stay, so that nothing but its lease is lost.
fn silence(node: &Machine) -> Result<()> {
    let block = |interface: &str| node.block(interface, Some(Direction::Outgoing));
    node.interfaces().into_iter().try_for_each(block)
}

/// Cuts the owner off from the others until they run the group.
fn cut_owner_off(cluster: &Cluster, owner: &Machine) -> Result<Seen<Machine>> {
    let others: Vec<&Machine> = cluster
        .nodes
        .iter()
        .filter(|it| it.name() != owner.name())
        .collect();
    cluster.watch(|| {
        silence(owner)?;
        cluster.wait_agreed(&others)
    })
}

/// When the node told that it has lost its lease.
fn lost_at(owner: &Machine, span: Span) -> Result<Duration> {
    let journal = owner.journal("ha-node", Some(span))?;
    let lost = journal
        .iter()
        .find(|it| it.field("HA_EVENT") == "quorum-lost");
    Ok(lost.context("the lease was lost")?.at)
}

#[test]
fn what_ignores_its_stop_is_down_within_the_margin_and_before_others_start_it() {
    with_lab(|| {
        let cluster = Cluster::prepare(Options {
            extra: GROUPS.to_owned(),
            ..Options::three()
        })?;
        for node in &cluster.nodes {
            node.write("/usr/local/sbin/stubborn", SCRIPT, 0o755)?;
        }
        cluster.start_all()?;
        cluster.wait_formed()?;
        let owner = cluster.owner()?;
        clock::wait_for("the program to run", PATIENCE, || {
            Ok(owner.unit_runs(HOLDER).then_some(()))
        })?;
        override_service(&cluster, STUBBORN)?;
        let checked = owner.attempt(&["hactl", "check"])?;
        ensure!(
            checked.stderr.contains("asks for 100s to stop"),
            "check names what needs longer: {checked:?}"
        );
        let seen = cut_owner_off(&cluster, &owner)?;
        seen.ensure_single_owner()?;
        ensure!(!owner.unit_runs(HOLDER), "the program is down, too");
        let lost = lost_at(&owner, seen.span)?;
        let service = seen.service.as_ref().context("it was watched")?;
        let end = |seen: &ha_node_lab::probe::owner::Ownership| {
            let spans = seen.owners.get(owner.name());
            spans.and_then(|spans| spans.last()).map(|span| span.to)
        };
        let down = end(service).context("it ran there")?;
        let gone = end(&seen.owners).context("it had the address")?;
        let took = down.saturating_sub(lost);
        eprintln!(
            "down {took:?} after the lease was lost, the address {:?}",
            gone.saturating_sub(lost)
        );
        ensure!(gone < down, "the address first");
        ensure!(
            took < cluster.options.keepalive,
            "within the margin: {took:?}"
        );
        ensure!(
            took > cluster.options.keepalive / 4,
            "not without a chance: {took:?}"
        );
        Ok(())
    });
}

#[test]
fn what_must_not_be_cut_short_has_the_time_that_its_group_asks_for() {
    with_lab(|| {
        let cluster = Cluster::form(Options {
            group_keys: "stop_margin = \"8s\"\n".to_owned(),
            ..Options::three()
        })?;
        let owner = cluster.owner()?;
        let slow = "[Service]\nExecStop=\nExecStop=/bin/sleep 3\nTimeoutStopSec=100s\n\
                    ExecStopPost=/bin/sh -c 'echo $SERVICE_RESULT > /var/lib/result'\n";
        override_service(&cluster, slow)?;
        cluster.watch(|| {
            silence(&owner)?;
            clock::wait_for("the service to end", PATIENCE, || {
                Ok((!owner.unit_runs(SERVICE)).then_some(()))
            })
        })?;
        owner.wait_unit(SERVICE, "inactive")?;
        let result = owner.read("/var/lib/result")?;
        ensure!(result == "success\n", "it ended in good order: {result:?}");
        Ok(())
    });
}
