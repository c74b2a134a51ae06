//! A ban ends with its cause: where the cause is seen to be over, where no other node is left, and where it never was the
//! node's own failure. In each test two nodes fail one after the other, and then one of them has to run the group.

use crate::with_lab;
use anyhow::{Result, ensure};
use ha_node_lab::cluster::{ADDRESS, GROUP, PATIENCE, SERVICE};
use ha_node_lab::{Cluster, Machine, Options, clock, install, run};
use std::time::Duration;

/// What a takeover may last beyond deadtime: looking on, on a busy host.
const SLACK: Duration = Duration::from_millis(1_500);
/// How soon a node tries again where nobody else is left and nothing tells it that the cause is over.
const SOON: Duration = Duration::from_secs(10);
/// An interface of each machine that carries no heartbeats and can be taken away.
const SERVICE_INTERFACE: &str = "svc0";

fn quick() -> Options {
    Options::two().timing(100, 1_000)
}

/// A cluster whose web group is an address alone, with another group of this resource beside it.
fn with_group(name: &str, resource: &str) -> Options {
    let mut options = quick().address_only();
    options.extra = format!(
        "[[group]]\nname = \"{name}\"\nnodes = [\"alpha\", \"beta\"]\nresources = [{{ {resource} }}]\n"
    );
    options
}

fn wait_started(cluster: &Cluster, group: &str, on: &Machine, limit: Duration) -> Result<()> {
    let what = format!("{group} to run on {}", on.name());
    clock::wait_for(&what, limit, || {
        let status = on.status()?;
        let there = status.owner(group) == on.name() && status.group_state(group) == "started";
        Ok(there.then_some(()))
    })
    .map_err(|error| cluster.with_journals(error))
}

/// How long a group takes to go where nothing keeps it from going: an interface is given up after a second.
fn at_once(cluster: &Cluster) -> Duration {
    Duration::from_secs(1) + cluster.options.deadtime + SLACK
}

/// Cuts the power of the one; the other must have the group as soon as a death can be known.
fn other_takes_over(cluster: &Cluster, group: &str, dead: &Machine, by: &Machine) -> Result<()> {
    dead.power_cut()?;
    wait_started(cluster, group, by, cluster.options.deadtime + SLACK)
}

/// Something is done to the owner for a while, until the other node has the group, then to that one; then either of them
/// must run it, and if one loses its power, the other.
fn first_one_then_the_other(
    cluster: &Cluster,
    group: &str,
    begin: impl Fn(&Machine) -> Result<()>,
    end: impl Fn(&Machine) -> Result<()>,
) -> Result<()> {
    let [alpha, beta] = [cluster.node("alpha")?, cluster.node("beta")?];
    wait_started(cluster, group, &alpha, PATIENCE)?;
    for (from, to) in [(&alpha, &beta), (&beta, &alpha)] {
        begin(from)?;
        wait_started(cluster, group, to, at_once(cluster))?;
        end(from)?;
        // The ban of before must be over when the next fault comes, and nothing else.
        clock::sleep(cluster.options.deadtime * 2);
        wait_started(cluster, group, to, at_once(cluster))?;
    }
    other_takes_over(cluster, group, &alpha, &beta)
}

#[test]
fn a_cable_that_was_out_and_is_in_again_bans_nobody() {
    with_lab(|| {
        let cluster = Cluster::form(quick())?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        let seen = cluster.watch(|| {
            owner.cut_all()?;
            clock::sleep(cluster.options.deadtime * 3);
            owner.mend_all()?;
            cluster.wait_formed()
        })?;
        let now = cluster.owner()?;
        ensure!(seen.owners.last_owner() == Some(now.name()), "one has it");
        clock::sleep(cluster.options.deadtime * 2);
        let [dead, by] = if now.name() == owner.name() {
            [owner, other]
        } else {
            [other, owner]
        };
        other_takes_over(&cluster, GROUP, &dead, &by)
    });
}

#[test]
fn carriers_that_were_away_on_both_nodes_in_turn_ban_nobody() {
    with_lab(|| {
        let cluster = Cluster::form(quick())?;
        let cut = |node: &Machine| node.cut("eth0");
        let mend = |node: &Machine| node.mend("eth0");
        first_one_then_the_other(&cluster, GROUP, cut, mend)
    });
}

#[test]
fn interfaces_that_were_down_on_both_nodes_in_turn_ban_nobody() {
    with_lab(|| {
        let cluster = Cluster::form(quick())?;
        let set = |state: &'static str| {
            move |node: &Machine| node.exec(&["ip", "link", "set", "eth0", state]).map(drop)
        };
        first_one_then_the_other(&cluster, GROUP, set("down"), set("up"))
    });
}

/// Makes the service interface, or makes it again.
fn add_interface(node: &Machine) -> Result<()> {
    node.shell(&format!(
        "ip link add {SERVICE_INTERFACE} type veth peer name far
         ip link set far up; ip link set {SERVICE_INTERFACE} up"
    ))
    .map(drop)
}

#[test]
fn interfaces_that_were_deleted_and_made_again_on_both_nodes_in_turn_ban_nobody() {
    with_lab(|| {
        let resource = format!("vip = \"10.88.0.200/24\", interface = \"{SERVICE_INTERFACE}\"");
        let cluster = Cluster::prepare(with_group("inner", &resource))?;
        cluster.nodes.iter().try_for_each(add_interface)?;
        cluster.start_all()?;
        cluster.wait_formed()?;
        let delete = |node: &Machine| {
            let words = ["ip", "link", "del", SERVICE_INTERFACE];
            node.exec(&words).map(drop)
        };
        first_one_then_the_other(&cluster, "inner", delete, add_interface)
    });
}

#[test]
fn a_conflict_that_is_over_bans_nobody() {
    with_lab(|| {
        let resource = "vip = \"10.77.0.210/24\", interface = \"eth0\", on_conflict = \"refuse\"";
        let cluster = Cluster::form(with_group("polite", resource))?;
        let [alpha, beta] = [cluster.node("alpha")?, cluster.node("beta")?];
        wait_started(&cluster, "polite", &alpha, PATIENCE)?;
        // The nodes do not hear each other, and yet each answers for its addresses.
        for node in &cluster.nodes {
            node.shell(
                "nft add table inet silence
                 nft add chain inet silence input '{ type filter hook input priority 0; }'
                 nft add rule inet silence input udp dport 694 drop",
            )?;
        }
        clock::sleep(cluster.options.deadtime * 3);
        let refused = beta.exec(&["ip", "-o", "addr", "show", "to", "10.77.0.210"])?;
        ensure!(refused.is_empty(), "beta has refused: {refused}");
        for node in &cluster.nodes {
            node.shell("nft delete table inet silence")?;
        }
        cluster.wait_formed()?;
        clock::sleep(cluster.options.deadtime * 2);
        wait_started(&cluster, "polite", &alpha, PATIENCE)?;
        other_takes_over(&cluster, "polite", &alpha, &beta)
    });
}

#[test]
fn an_address_of_somebody_else_that_is_gone_again_keeps_nobody_from_starting() {
    with_lab(|| {
        let address = "10.77.0.210/24";
        let resource =
            format!("vip = \"{address}\", interface = \"eth0\", on_conflict = \"refuse\"");
        let cluster = Cluster::prepare(with_group("polite", &resource))?;
        let client = cluster.lab.client();
        let foreign =
            |change: &str| run::run(&["ip", "-n", &client, "addr", change, address, "dev", "eth0"]);
        foreign("add")?;
        cluster.start_all()?;
        cluster.wait_formed()?;
        clock::sleep(Duration::from_secs(2));
        for node in &cluster.nodes {
            let has = node.exec(&["ip", "-o", "addr", "show", "to", "10.77.0.210"])?;
            ensure!(has.is_empty(), "{} has refused: {has}", node.name());
        }
        foreign("del")?;
        wait_started(&cluster, "polite", &cluster.node("alpha")?, SOON).or_else(|error| {
            wait_started(&cluster, "polite", &cluster.node("beta")?, Duration::ZERO)
                .map_err(|_| error)
        })
    });
}

#[test]
fn a_mistake_in_the_configuration_that_is_mended_bans_nobody() {
    with_lab(|| {
        let resource = |interface| format!("vip = \"10.77.0.210/24\", interface = \"{interface}\"");
        let cluster = Cluster::form(with_group("typo", &resource("eht0")))?;
        let alpha = cluster.node("alpha")?;
        clock::wait_for("the group to be failed", PATIENCE, || {
            Ok((alpha.status()?.group_state("typo") == "failed").then_some(()))
        })
        .map_err(|error| cluster.with_journals(error))?;
        let mended = with_group("typo", &resource("eth0"));
        for node in &cluster.nodes {
            node.configure(&mended.config(), &mended.keys())?;
        }
        for node in &cluster.nodes {
            node.systemctl(&["restart", install::UNIT])?;
        }
        cluster.wait_formed()?;
        wait_started(&cluster, "typo", &alpha, at_once(&cluster))
    });
}

/// How many groups stop at once in the test of a bus that refuses, and how many answers it keeps outstanding.
const JOBS: usize = 12;
const REPLIES: usize = 3;

/// Groups of one service each.
fn with_jobs() -> Options {
    let mut options = quick().address_only();
    options.extra = (0..JOBS)
        .map(|job| {
            format!(
                "[[group]]\nname = \"job-{job}\"\nnodes = [\"alpha\", \"beta\"]\n\
                 resources = [{{ unit = \"job@{job}.service\" }}]\n"
            )
        })
        .collect();
    options
}

#[test]
fn a_job_that_the_bus_had_no_room_for_blocks_nothing_and_bans_nobody() {
    with_lab(|| {
        let cluster = Cluster::prepare(with_jobs())?;
        for node in &cluster.nodes {
            let unit = "[Service]\nExecStart=/bin/sleep infinity\n";
            node.write("/etc/systemd/system/job@.service", unit, 0o644)?;
            node.systemctl(&["daemon-reload"])?;
        }
        cluster.start_all()?;
        cluster.wait_formed()?;
        let [alpha, beta] = [cluster.node("alpha")?, cluster.node("beta")?];
        let all_on = |node: &Machine| {
            (0..JOBS)
                .try_for_each(|job| wait_started(&cluster, &format!("job-{job}"), node, PATIENCE))
        };
        all_on(&alpha)?;
        let limit = format!(
            "<busconfig><limit name=\"max_replies_per_connection\">{REPLIES}</limit></busconfig>\n"
        );
        alpha.write("/etc/dbus-1/system.d/small.conf", &limit, 0o644)?;
        alpha.systemctl(&["reload", "dbus.service"])?;
        alpha.attempt(&["hactl", "standby"])?;
        all_on(&beta)?;
        alpha.shell("rm /etc/dbus-1/system.d/small.conf; systemctl reload dbus.service")?;
        alpha.hactl(&["online"])?;
        beta.power_cut()?;
        all_on(&alpha)
    });
}

const BROKEN: &str = "[Service]\nExecStartPre=/bin/false\n";
const DROP_IN: &str = "/etc/systemd/system/nginx.service.d/broken.conf";

fn break_service(node: &Machine, broken: bool) -> Result<()> {
    if broken {
        node.write(DROP_IN, BROKEN, 0o644)?;
    } else {
        node.exec(&["rm", DROP_IN])?;
    }
    node.systemctl(&["daemon-reload"]).map(drop)
}

#[test]
fn where_no_other_node_is_left_one_that_is_banned_tries_again_soon() {
    with_lab(|| {
        let cluster = Cluster::form(quick())?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        break_service(&other, true)?;
        let moved = owner.attempt(&["hactl", "move", GROUP, other.name()])?;
        ensure!(moved.code == 1, "it does not start there: {moved:?}");
        cluster.wait_owner(&owner, &owner)?;
        break_service(&other, false)?;
        owner.power_cut()?;
        wait_started(&cluster, GROUP, &other, cluster.options.deadtime + SOON)
    });
}

#[test]
fn where_it_still_fails_the_tries_become_seldom_and_the_next_one_after_the_mend_succeeds() {
    with_lab(|| {
        // The pauses grow with the window.
        let cluster = Cluster::form(Options {
            service_keys: ", restart_window = \"1m\"".to_owned(),
            ..quick()
        })?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        break_service(&other, true)?;
        owner.power_cut()?;
        clock::sleep(SOON);
        let journal = other.journal_text(SERVICE);
        let tries = journal.matches("Failed to start").count();
        ensure!(
            (2..=8).contains(&tries),
            "{tries} tries in {SOON:?}: {journal}"
        );
        let held = other.exec(&["ip", "-o", "addr", "show", "to", &ADDRESS.to_string()])?;
        ensure!(held.is_empty(), "nothing is kept of a failed start: {held}");
        break_service(&other, false)?;
        wait_started(&cluster, GROUP, &other, SOON * 2)
    });
}
