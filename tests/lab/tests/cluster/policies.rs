//! What failures lead to: restarts on the same node, moves, services that are done without, and what a person sees.

use crate::with_lab;
use anyhow::{Result, ensure};
use ha_node_lab::cluster::{GROUP, PATIENCE, SERVICE};
use ha_node_lab::unit::Entry;
use ha_node_lab::{Cluster, Machine, Options, clock};
use std::time::Duration;

/// A group of one service beside the web server's.
const JOB: &str = "job.service";

fn form(keys: &str) -> Result<Cluster> {
    Cluster::form(Options {
        service_keys: keys.to_owned(),
        ..Options::two()
    })
}

/// A cluster that has the unit on both nodes, and a group of it on alpha.
fn with_job(unit: &str, keys: &str) -> Result<Cluster> {
    let mut options = Options::two().address_only();
    options.extra = format!(
        "[[group]]\nname = \"job\"\nnodes = [\"alpha\", \"beta\"]\nresources = [{{ unit = \"{JOB}\"{keys} }}]\n"
    );
    let cluster = Cluster::prepare(options)?;
    for node in &cluster.nodes {
        node.write("/etc/systemd/system/job.service", unit, 0o644)?;
        node.systemctl(&["daemon-reload"])?;
    }
    cluster.start_all()?;
    wait_job(&cluster, "alpha", "started")?;
    Ok(cluster)
}

fn wait_job(cluster: &Cluster, owner: &str, state: &str) -> Result<()> {
    let what = format!("job to be {state} on {owner:?}");
    clock::wait_for(&what, PATIENCE, || {
        let status = cluster.node("alpha")?.status()?;
        let there = status.owner("job") == owner && status.group_state("job") == state;
        Ok(there.then_some(()))
    })
    .map_err(|error| cluster.with_journals(error))
}

/// Events of this kind that a node has told.
fn events(node: &Machine, event: &str) -> Result<Vec<Entry>> {
    let mut all = node.journal("ha-node", None)?;
    all.retain(|entry| entry.field("HA_EVENT") == event);
    Ok(all)
}

fn wait_event(cluster: &Cluster, node: &Machine, event: &str) -> Result<Entry> {
    clock::wait_for(event, PATIENCE, || Ok(events(node, event)?.pop()))
        .map_err(|error| cluster.with_journals(error))
}

/// Kills the service's main process, and waits until another one serves on this node.
fn kill_and_wait(node: &Machine, unit: &str) -> Result<()> {
    let before = node.main_pid(unit)?;
    node.systemctl(&["kill", "--signal=KILL", unit])?;
    let what = format!("{unit} to run again on {}", node.name());
    clock::wait_for(&what, PATIENCE, || {
        let pid = node.main_pid(unit)?;
        let again = pid.is_some() && pid != before && node.unit_state(unit)? == "active";
        Ok(again.then_some(()))
    })
}

#[test]
fn a_service_is_restarted_here_up_to_the_limit_and_its_address_stays() {
    with_lab(|| {
        let cluster = form(", restart_limit = 2")?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        let seen = cluster.watch(|| {
            kill_and_wait(&owner, SERVICE)?;
            kill_and_wait(&owner, SERVICE)
        })?;
        seen.ensure_single_owner()?;
        ensure!(
            seen.address.lost() == 0,
            "the address was never gone: {:?}",
            seen.address.outages()
        );
        ensure!(cluster.owner()?.name() == owner.name(), "it stayed");
        let restarts = events(&owner, "resource-restarting")?;
        let texts: Vec<&str> = restarts.iter().map(|e| e.message.as_str()).collect();
        ensure!(
            texts.len() == 2 && texts[0].contains("1 of 2") && texts[1].contains("2 of 2"),
            "{texts:?}"
        );
        let shown = owner.hactl(&["status"])?;
        let words = format!("2 times on {}", owner.name());
        ensure!(shown.contains(&words), "people see it: {shown}");

        owner.systemctl(&["restart", "ha-node.service"])?;
        let shown = owner.hactl(&["status"])?;
        ensure!(shown.contains(&words), "a new daemon knows: {shown}");
        cluster.wait_owner(&other, &owner)?;

        owner.systemctl(&["kill", "--signal=KILL", SERVICE])?;
        cluster.wait_owner(&other, &other)?;
        ensure!(owner.unit_state(SERVICE)? != "active", "it has left");
        let refused = other.hactl(&["move", GROUP, owner.name()]);
        ensure!(refused.is_err(), "it has failed there");
        other.hactl(&["clear", GROUP])?;
        other.hactl(&["move", GROUP, owner.name()])?;
        cluster.wait_owner(&owner, &owner)
    });
}

#[test]
fn a_service_that_somebody_stops_is_started_again() {
    with_lab(|| {
        let cluster = form("")?;
        let owner = cluster.owner()?;
        owner.systemctl(&["stop", SERVICE])?;
        let told = wait_event(&cluster, &owner, "resource-restarting")?;
        ensure!(
            told.field("HA_RESOURCE") == "unit:nginx.service",
            "{told:?}"
        );
        clock::wait_for("the service", PATIENCE, || {
            Ok((owner.unit_state(SERVICE)? == "active").then_some(()))
        })?;
        ensure!(cluster.owner()?.name() == owner.name(), "it stayed");
        Ok(())
    });
}

#[test]
fn a_service_that_somebody_starts_on_another_node_is_stopped_there() {
    with_lab(|| {
        let cluster = form("")?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        let before = owner.main_pid(SERVICE)?;
        // It is told that its job was cancelled, if the cluster is faster.
        other.attempt(&["systemctl", "start", SERVICE])?;
        wait_event(&cluster, &other, "resource-appeared")?;
        clock::wait_for("the service to stop", PATIENCE, || {
            Ok((other.unit_state(SERVICE)? == "inactive").then_some(()))
        })?;
        ensure!(
            owner.main_pid(SERVICE)? == before,
            "the owner is left alone"
        );
        ensure!(cluster.owner()?.name() == owner.name(), "it stayed");
        Ok(())
    });
}

#[test]
fn a_group_goes_on_without_a_service_whose_failure_is_ignored() {
    with_lab(|| {
        let cluster = form(", on_failure = \"ignore\"")?;
        let owner = cluster.owner()?;
        owner.systemctl(&["kill", "--signal=KILL", SERVICE])?;
        wait_event(&cluster, &owner, "resource-failure-ignored")?;
        clock::sleep(Duration::from_millis(500));
        let status = owner.status()?;
        ensure!(status.group_state(GROUP) == "started", "it goes on");
        ensure!(status.owner(GROUP) == owner.name(), "where it was");
        ensure!(owner.unit_state(SERVICE)? == "failed", "nobody starts it");
        let seen = events(&owner, "resource-failure-ignored")?;
        ensure!(seen.len() == 1, "told once, not {}", seen.len());
        owner.systemctl(&["start", SERVICE])?;
        cluster.node("alpha")?.hactl(&["move", GROUP, "beta"])?;
        Ok(())
    });
}

#[test]
fn a_service_that_restarts_by_itself_is_left_to_systemd() {
    with_lab(|| {
        let unit = "[Service]\nExecStart=/bin/sleep infinity\nRestart=always\nRestartSec=1s\n";
        let cluster = with_job(unit, "")?;
        let alpha = cluster.node("alpha")?;
        kill_and_wait(&alpha, JOB)?;
        clock::sleep(Duration::from_millis(500));
        ensure!(events(&alpha, "resource-restarting")?.is_empty());
        ensure!(events(&alpha, "group-failed")?.is_empty());
        Ok(())
    });
}

/// Does not end when it is asked to.
const DEAF: &str = "[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'\n";

#[test]
fn a_service_that_ignores_its_stop_is_ended_by_systemd_and_moves() {
    with_lab(|| {
        let cluster = with_job(&format!("{DEAF}TimeoutStopSec=1s\n"), "")?;
        let alpha = cluster.node("alpha")?;
        alpha.hactl(&["move", "job", "beta"])?;
        wait_job(&cluster, "beta", "started")?;
        ensure!(!alpha.unit_runs(JOB), "nothing of it is left");
        Ok(())
    });
}

#[test]
fn a_service_that_cannot_be_stopped_blocks_its_group_until_it_is_cleared() {
    with_lab(|| {
        let stop = "ExecStop=/bin/sh -c 'while test -e /var/lib/deaf; do sleep 0.1; done'\n";
        let unit =
            format!("[Service]\nExecStart=/bin/sleep infinity\n{stop}TimeoutStopSec=infinity\n");
        let cluster = with_job(&unit, ", stop_timeout = \"1s\"")?;
        let alpha = cluster.node("alpha")?;
        alpha.write("/var/lib/deaf", "", 0o644)?;
        let moved = alpha.attempt(&["hactl", "move", "job", "beta"])?;
        ensure!(moved.code == 1, "it did not move: {moved:?}");
        wait_job(&cluster, "alpha", "blocked")?;
        ensure!(!cluster.node("beta")?.unit_runs(JOB), "nobody else runs it");
        alpha.shell("rm /var/lib/deaf")?;
        alpha.hactl(&["clear", "job"])?;
        clock::wait_for("job to run once", PATIENCE, || {
            let status = alpha.status()?;
            Ok((status.group_state("job") == "started").then_some(()))
        })
        .map_err(|error| cluster.with_journals(error))
    });
}

#[test]
fn a_service_that_starts_nowhere_stays_down_and_runs_again_once_it_is_cleared() {
    with_lab(|| {
        let unit = "[Service]\nExecStartPre=/bin/sh -c 'test ! -e /var/lib/broken'\nExecStart=/bin/sleep infinity\n";
        let cluster = with_job(unit, ", restart_limit = 1")?;
        for node in &cluster.nodes {
            node.write("/var/lib/broken", "", 0o644)?;
        }
        let alpha = cluster.node("alpha")?;
        alpha.systemctl(&["kill", "--signal=KILL", JOB])?;
        wait_job(&cluster, "", "failed")?;
        let starts = |node: &Machine| -> Result<usize> {
            let journal = node.journal_text(JOB);
            Ok(journal
                .lines()
                .filter(|line| line.contains("Failed to start"))
                .count())
        };
        let before = (starts(&alpha)?, starts(&cluster.node("beta")?)?);
        ensure!(before == (1, 1), "one try on each node, not {before:?}");
        clock::sleep(Duration::from_secs(3));
        let after = (starts(&alpha)?, starts(&cluster.node("beta")?)?);
        ensure!(after == before, "and no more: {after:?}");
        for node in &cluster.nodes {
            node.shell("rm /var/lib/broken")?;
        }
        alpha.hactl(&["clear", "job"])?;
        clock::wait_for("job to run", PATIENCE, || {
            let status = alpha.status()?;
            Ok((status.group_state("job") == "started").then_some(()))
        })
        .map_err(|error| cluster.with_journals(error))
    });
}
