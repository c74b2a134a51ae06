//! Services that end, and that do not start.

use crate::with_lab;
use anyhow::ensure;
use ha_node_lab::cluster::{GROUP, SERVICE};
use ha_node_lab::{Cluster, Options};

/// Makes the web server fail to start on one machine.
const BROKEN: &str = "[Service]\nExecStartPre=/bin/false\n";
const DROP_IN: &str = "/etc/systemd/system/nginx.service.d/broken.conf";

#[test]
fn a_service_that_is_killed_runs_again_on_another_node_where_that_is_asked_for() {
    with_lab(|| {
        let cluster = Cluster::form(Options {
            service_keys: ", on_failure = \"failover\"".to_owned(),
            ..Options::two()
        })?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        let seen = cluster.watch(|| {
            owner.systemctl(&["kill", "--signal=KILL", SERVICE])?;
            cluster.wait_owner(&other, &other)
        })?;
        seen.ensure_single_owner()?;
        let journal = owner.journal("ha-node", Some(seen.span))?;
        let failed = journal
            .iter()
            .find(|entry| entry.field("HA_EVENT") == "group-failed");
        let text = failed.map_or("", |entry| entry.message.as_str());
        ensure!(text.contains(SERVICE), "it says what failed: {text:?}");
        ensure!(
            owner.unit_state(SERVICE)? != "active",
            "it is not left half started"
        );
        Ok(())
    });
}

#[test]
fn a_group_that_does_not_start_at_its_target_goes_back() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        other.write(DROP_IN, BROKEN, 0o644)?;
        other.systemctl(&["daemon-reload"])?;
        let seen = cluster.watch(|| {
            let moved = owner.attempt(&["hactl", "move", GROUP, other.name()])?;
            cluster.wait_owner(&owner, &owner)?;
            Ok(moved)
        })?;
        seen.ensure_single_owner()?;
        let moved = &seen.value;
        ensure!(moved.code == 1, "the move failed: {moved:?}");
        ensure!(
            moved.stderr.contains("did not start"),
            "and says so: {moved:?}"
        );
        let states = [owner.unit_state(SERVICE)?, other.unit_state(SERVICE)?];
        ensure!(states[0] == "active" && states[1] != "active", "{states:?}");
        Ok(())
    });
}
