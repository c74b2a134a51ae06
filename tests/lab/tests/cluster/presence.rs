//! What runs beside a group: units that are bound to its target, and units that run on every node.

use crate::with_lab;
use anyhow::{Context, Result, ensure};
use ha_node_lab::cluster::{GROUP, PATIENCE};
use ha_node_lab::{Cluster, Machine, Options, clock, install};

const TARGET: &str = "ha-group-web.target";

/// A person's own unit that runs where the group does.
const BOUND: &str = "[Unit]\nBindsTo=ha-group-web.target\nAfter=ha-group-web.target\n\
                     [Service]\nExecStart=/bin/sleep infinity\n\
                     [Install]\nWantedBy=ha-group-web.target\n";

/// A service that is kept running on every node.
const WARM: &str = "warm.service";
const WARM_UNIT: &str = "[Service]\nExecStart=/bin/sleep infinity\n";
const WARM_GROUP: &str = r#"
[[group]]
name = "warm"
nodes = ["alpha", "beta"]
resources = [
  { unit = "warm.service", standby = "started" },
  { vip = "10.77.0.202/24", interface = "eth0" },
]
"#;

fn wait_state(node: &Machine, unit: &str, state: &str) -> Result<()> {
    let what = format!("{unit} to be {state} on {}", node.name());
    clock::wait_for(&what, PATIENCE, || {
        Ok((node.unit_state(unit)? == state).then_some(()))
    })
}

fn ensure_present_only_on(cluster: &Cluster, owner: &Machine) -> Result<()> {
    for node in &cluster.nodes {
        let state = if node.name() == owner.name() {
            "active"
        } else {
            "inactive"
        };
        wait_state(node, TARGET, state)?;
        wait_state(node, "bound.service", state)?;
    }
    Ok(())
}

fn with_bound() -> Result<Cluster> {
    let cluster = Cluster::form(Options::two().address_only())?;
    for node in &cluster.nodes {
        node.write("/etc/systemd/system/bound.service", BOUND, 0o644)?;
        node.systemctl(&["enable", "bound.service"])?;
    }
    Ok(cluster)
}

#[test]
fn a_target_is_active_where_the_group_is_and_takes_along_what_is_bound_to_it() {
    with_lab(|| {
        let cluster = with_bound()?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        wait_state(&owner, TARGET, "active")?;
        wait_state(&other, TARGET, "inactive")?;
        owner.hactl(&["move", GROUP, other.name()])?;
        ensure_present_only_on(&cluster, &other)?;
        other.hactl(&["move", GROUP, owner.name()])?;
        ensure_present_only_on(&cluster, &owner)?;
        owner.systemctl(&["stop", install::UNIT])?;
        ensure_present_only_on(&cluster, &other)
    });
}

#[test]
fn a_daemon_that_dies_leaves_the_target_only_if_it_comes_back() {
    with_lab(|| {
        let cluster = with_bound()?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        owner.systemctl(&["restart", "bound.service"])?;
        let before = owner.main_pid("bound.service")?;
        let daemon = || owner.main_pid(install::UNIT);
        let first = daemon()?.context("the daemon runs")?;
        owner.kill(first, "KILL")?;
        let second = clock::wait_for("another daemon", PATIENCE, || {
            let pid = daemon()?.filter(|pid| *pid != first);
            Ok(pid.filter(|_| {
                owner
                    .status()
                    .is_ok_and(|it| it.group_state(GROUP) == "started")
            }))
        })?;
        ensure!(
            owner.main_pid("bound.service")? == before,
            "the daemon is back: nothing that is bound has noticed"
        );
        owner.shell(
            "mkdir -p /run/systemd/system/ha-node.service.d
             printf '[Service]\\nRestart=no\\n' > /run/systemd/system/ha-node.service.d/lab.conf
             systemctl daemon-reload",
        )?;
        owner.kill(second, "KILL")?;
        cluster.wait_owner(&other, &other)?;
        ensure_present_only_on(&cluster, &other)
    });
}

#[test]
fn only_the_cluster_says_where_the_target_is_active() {
    with_lab(|| {
        let cluster = with_bound()?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        let refused = other.attempt(&["systemctl", "start", "bound.service"])?;
        ensure!(!refused.success(), "the group is not there: {refused:?}");
        owner.systemctl(&["start", "bound.service"])?;
        ensure_present_only_on(&cluster, &owner)?;
        owner.systemctl(&["stop", TARGET])?;
        ensure_present_only_on(&cluster, &owner)?;
        let journal = owner.journal_text(install::UNIT);
        ensure!(journal.contains("starting it again"), "{journal}");
        Ok(())
    });
}

/// A service that starts another one of its group, which must not run in standby.
const NEEDY: &str =
    "[Unit]\nRequires=cold.service\nAfter=cold.service\n[Service]\nExecStart=/bin/sleep infinity\n";
const NEEDY_GROUP: &str = r#"
[[group]]
name = "warm"
nodes = ["alpha", "beta"]
resources = [{ unit = "cold.service" }, { unit = "warm.service", standby = "started" }]
"#;

#[test]
fn a_warm_unit_that_would_start_a_cold_one_is_not_kept_in_standby() {
    with_lab(|| {
        let mut options = Options::two().address_only();
        options.extra = NEEDY_GROUP.to_owned();
        let cluster = Cluster::prepare(options)?;
        for node in &cluster.nodes {
            node.write("/etc/systemd/system/warm.service", NEEDY, 0o644)?;
            node.write("/etc/systemd/system/cold.service", WARM_UNIT, 0o644)?;
            node.systemctl(&["daemon-reload"])?;
        }
        cluster.start_all()?;
        wait_warm(&cluster, "alpha")?;
        let beta = cluster.node("beta")?;
        clock::wait_for("the note", PATIENCE, || {
            let journal = beta.journal_text(install::UNIT);
            Ok(journal
                .contains("it would start cold.service")
                .then_some(()))
        })
        .map_err(|error| cluster.with_journals(error))?;
        let ran = beta.journal_text("cold.service").contains("Started");
        ensure!(!ran && !beta.unit_runs(WARM), "neither runs in standby");
        cluster.node("alpha")?.hactl(&["move", "warm", "beta"])?;
        wait_warm(&cluster, "beta")
    });
}

fn form_warm() -> Result<Cluster> {
    let mut options = Options::two().address_only();
    options.extra = WARM_GROUP.to_owned();
    let cluster = Cluster::prepare(options)?;
    for node in &cluster.nodes {
        node.write("/etc/systemd/system/warm.service", WARM_UNIT, 0o644)?;
        node.systemctl(&["daemon-reload"])?;
    }
    cluster.start_all()?;
    wait_warm(&cluster, "alpha")?;
    for node in &cluster.nodes {
        wait_state(node, WARM, "active")?;
    }
    Ok(cluster)
}

fn wait_warm(cluster: &Cluster, owner: &str) -> Result<()> {
    let what = format!("warm to run on {owner}");
    clock::wait_for(&what, PATIENCE, || {
        let status = cluster.node(owner)?.status()?;
        let there = status.owner("warm") == owner && status.group_state("warm") == "started";
        Ok(there.then_some(()))
    })
    .map_err(|error| cluster.with_journals(error))
}

#[test]
fn a_warm_unit_runs_everywhere_and_a_move_touches_the_address_only() {
    with_lab(|| {
        let cluster = form_warm()?;
        let (alpha, beta) = (cluster.node("alpha")?, cluster.node("beta")?);
        let pids = || -> Result<_> { Ok((alpha.main_pid(WARM)?, beta.main_pid(WARM)?)) };
        let before = pids()?;
        alpha.hactl(&["move", "warm", "beta"])?;
        wait_warm(&cluster, "beta")?;
        ensure!(pids()? == before, "neither was started or stopped");
        beta.shell("ip -o addr show dev eth0 | grep -q 10.77.0.202/24")?;
        let gone = alpha.attempt(&["sh", "-c", "ip -o addr show | grep -q 10.77.0.202"])?;
        ensure!(!gone.success(), "the address has moved");
        let state = alpha.status()?.resource_state("warm", "unit:warm.service");
        ensure!(state == "started", "in standby it is shown as {state}");

        // Restarts and deaths of the daemon leave it alone, too.
        alpha.systemctl(&["restart", install::UNIT])?;
        let pid = beta.main_pid(install::UNIT)?.context("the daemon runs")?;
        beta.kill(pid, "KILL")?;
        wait_warm(&cluster, "beta")?;
        ensure!(pids()? == before, "neither was started or stopped");
        Ok(())
    });
}

#[test]
fn a_warm_unit_that_ends_is_started_again_wherever_that_is() {
    with_lab(|| {
        let cluster = form_warm()?;
        for name in ["beta", "alpha"] {
            let node = cluster.node(name)?;
            let before = node.main_pid(WARM)?;
            node.systemctl(&["kill", "--signal=KILL", WARM])?;
            clock::wait_for("the warm unit", PATIENCE, || {
                let pid = node.main_pid(WARM)?;
                Ok((pid.is_some() && pid != before).then_some(()))
            })
            .map_err(|error| cluster.with_journals(error))?;
        }
        wait_warm(&cluster, "alpha")?;
        let beta = cluster.node("beta")?;
        beta.systemctl(&["stop", install::UNIT])?;
        ensure!(!beta.unit_runs(WARM), "it is stopped with the daemon");
        Ok(())
    });
}
