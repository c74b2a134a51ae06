//! What a dead daemon has left is released, in part or as a whole, and a daemon that is back goes on with no part of it.

use crate::with_lab;
use anyhow::{Context, Result, ensure};
use ha_node_lab::cluster::{GROUP, PATIENCE};
use ha_node_lab::{Cluster, Machine, Options, clock, install};
use std::time::Duration;

/// A group beside the address, of one unit that nobody may stop by a job, and that force does not end either: there is
/// nothing to kill.
const STUCK: &str = "[[group]]\nname = \"stuck\"\nresources = [{ unit = \"stuck.service\" }]\n";
const STUCK_UNIT: &str =
    "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n[Unit]\n";

fn drop_in(node: &Machine, settings: &str) -> Result<()> {
    let path = format!("/etc/systemd/system/{}.d/test.conf", install::UNIT);
    node.write(&path, &format!("[Service]\n{settings}"), 0o644)?;
    node.systemctl(&["daemon-reload"]).map(drop)
}

#[test]
fn what_a_release_has_stopped_and_told_is_not_gone_on_with_by_a_daemon_that_is_back_within_its_tenure()
 {
    with_lab(|| {
        let cluster = Cluster::prepare(Options {
            extra: STUCK.to_owned(),
            initdead: Duration::from_secs(4),
            ..Options::two().timing(250, 4000).address_only()
        })?;
        for node in &cluster.nodes {
            node.write("/etc/systemd/system/stuck.service", STUCK_UNIT, 0o644)?;
            node.systemctl(&["daemon-reload"])?;
        }
        cluster.start_all()?;
        cluster.wait_formed()?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        clock::wait_for("the stuck group to run there, too", PATIENCE, || {
            let status = owner.status()?;
            let there = status.owner("stuck") == owner.name();
            Ok((there && status.group_state("stuck") == "started").then_some(()))
        })?;
        let refuses = format!("{STUCK_UNIT}RefuseManualStop=yes\n");
        owner.write("/etc/systemd/system/stuck.service", &refuses, 0o644)?;
        // The release comes after half of deadtime; the daemon half a second later, long before the tenure is over.
        drop_in(&owner, "RestartSec=2500ms\n")?;
        let before = owner.main_pid(install::UNIT)?.context("the daemon runs")?;
        let seen = cluster.watch(|| {
            owner.kill(before, "KILL")?;
            clock::wait_for("the daemon to be back", PATIENCE, || {
                let now = owner.main_pid(install::UNIT)?;
                Ok(now.filter(|pid| *pid != before))
            })?;
            clock::wait_for("the stuck group to be blocked", PATIENCE, || {
                let status = other.status()?;
                Ok((status.group_state("stuck") == "blocked").then_some(()))
            })?;
            cluster.wait_owner(&other, &other)?;
            // Past the end of the tenure, and of what an heir would have held by it.
            clock::sleep(cluster.options.deadtime);
            Ok(())
        })?;
        seen.ensure_single_owner()?;
        let release = owner.journal_text("ha-node-release.service");
        ensure!(release.contains("stuck"), "it failed in part: {release}");
        let told = other.journal_text(install::UNIT);
        ensure!(!told.contains("is dead"), "the peer was told: {told}");
        let journal = owner.journal_text(install::UNIT);
        ensure!(!journal.contains("goes on here"), "{journal}");
        let ids = "sed -n 's/.*\"name\":\"\\([a-z]*\\)\".*/\\1/p' /run/ha-node/held.json";
        let held = owner.shell(ids)?;
        ensure!(
            !held.contains(GROUP),
            "the record has only the rest: {held}"
        );
        Ok(())
    });
}

/// The first time it dies while it is watched: after the timer has rung, and long before the tenure is over. From then on
/// it hangs. In both it has the daemon's lock.
const TWICE: &str = r#"#!/bin/sh
lives=$(cat /run/lives 2>/dev/null || echo 0)
echo $((lives + 1)) > /run/lives
if [ "$lives" = 0 ]; then exec flock /var/lib/ha-node/lock sleep 2.3; fi
exec flock /var/lib/ha-node/lock sleep 60
"#;

#[test]
fn a_second_death_within_the_tenure_before_a_start_that_hangs_leaves_nothing_behind() {
    with_lab(|| {
        let cluster = Cluster::form(Options {
            initdead: Duration::from_secs(4),
            ..Options::two().timing(250, 4000)
        })?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        owner.write("/usr/local/sbin/twice", TWICE, 0o755)?;
        drop_in(&owner, "ExecStart=\nExecStart=/usr/local/sbin/twice\n")?;
        let pid = owner.main_pid(install::UNIT)?.context("the daemon runs")?;
        let seen = cluster.watch(|| {
            owner.kill(pid, "KILL")?;
            cluster.wait_owner(&other, &other)
        })?;
        seen.ensure_single_owner()?;
        ensure!(!owner.unit_runs("nginx.service"), "nothing runs there");
        Ok(())
    });
}

#[test]
fn the_peers_are_told_before_anything_waits_for_the_message_bus() {
    with_lab(|| {
        let respawned = "[[respawn]]\nuser = \"root\"\ncommand = [\"/bin/sleep\", \"1000000\"]\n";
        let cluster = Cluster::form(Options {
            extra: respawned.to_owned(),
            initdead: Duration::from_secs(6),
            ..Options::two().timing(250, 6000).address_only()
        })?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        drop_in(&owner, "Restart=no\n")?;
        let pid = owner.main_pid(install::UNIT)?.context("the daemon runs")?;
        let seen = cluster.watch(|| {
            // The sockets, too, or the bus is started again by whoever asks for it.
            owner.shell("systemctl stop dbus.socket dbus.service 2>/dev/null; true")?;
            let at = clock::now();
            owner.shell(&format!("kill -KILL {pid}"))?;
            cluster.wait_owner(&other, &other)?;
            Ok(clock::now() - at)
        })?;
        seen.ensure_single_owner()?;
        let took = seen.value;
        ensure!(
            took < Duration::from_secs(4),
            "told and not waited for: {took:?}"
        );
        let told = other.journal_text(install::UNIT);
        ensure!(!told.contains("is dead"), "the peer was told: {told}");
        Ok(())
    });
}
