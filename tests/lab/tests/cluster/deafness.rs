//! A node whose own links are unusable knows nothing of its peers: it starts nothing that it does not run already, says
//! why, and takes its part again once it hears.
//!
//! All heartbeats cross one network, the addresses of the group another, so that a node that is wrong is seen.

use crate::with_lab;
use anyhow::{Result, ensure};
use ha_node_lab::cluster::{PORT, Seen, node_address};
use ha_node_lab::{Cluster, Machine, Options, clock, install};
use std::time::Duration;

/// The interface that the heartbeats cross.
const LINK: &str = "eth1";
/// What a takeover may last beyond deadtime: looking on, on a busy host.
const SLACK: Duration = Duration::from_millis(1_500);

fn options() -> Options {
    let (alpha, beta) = (node_address(1, 0), node_address(1, 1));
    let mut options = Options::two().timing(100, 1_000).address_only();
    options.initdead = Duration::from_millis(1_500);
    options.links = Some(format!(
        "[[link]]\nucast = {{ alpha = \"{alpha}\", beta = \"{beta}\" }}\ninterface = \"{LINK}\"\nport = {PORT}\n"
    ));
    options
}

/// Long enough for a node that cannot hear its peer to take it for dead, at its start too.
fn long(cluster: &Cluster) -> Duration {
    cluster.options.initdead + cluster.options.deadtime * 3
}

/// The owner, and the node that is made deaf.
fn pair(cluster: &Cluster) -> Result<(Machine, Machine)> {
    let owner = cluster.owner()?;
    let deaf = cluster.other(&owner)?;
    Ok((owner, deaf))
}

/// People who ask the deaf node are told that it is its own link.
fn ensure_told(deaf: &Machine) -> Result<()> {
    let shown = deaf.hactl(&["status"])?;
    ensure!(
        shown.contains("unusable") || shown.contains("not usable"),
        "status does not say why: {shown}"
    );
    Ok(())
}

fn ensure_nothing_moved<T>(seen: &Seen<T>, owner: &Machine) -> Result<()> {
    seen.ensure_single_owner()?;
    ensure!(
        seen.owners.absences().is_empty() && seen.owners.last_owner() == Some(owner.name()),
        "it stays where it runs: {:?}",
        seen.owners
    );
    Ok(())
}

/// A node that hears again is as good as before.
fn ensure_takes_over(cluster: &Cluster, owner: &Machine, by: &Machine) -> Result<()> {
    clock::sleep(cluster.options.deadtime * 2);
    let seen = cluster.watch(|| {
        owner.power_cut()?;
        clock::wait_for("a takeover", cluster.options.deadtime + SLACK, || {
            let shown = by.exec(&["ip", "-o", "addr", "show", "dev", "eth0"])?;
            let address = ha_node_lab::cluster::ADDRESS.to_string();
            Ok(shown.contains(&address).then_some(()))
        })
    })?;
    seen.ensure_single_owner()
}

/// The daemon of the node that does not own the group starts while its link is unusable.
fn starts_deaf(
    deafen: impl Fn(&Machine) -> Result<()>,
    mend: impl Fn(&Machine) -> Result<()>,
) -> Result<()> {
    let cluster = Cluster::form(options())?;
    let (owner, deaf) = pair(&cluster)?;
    deaf.systemctl(&["stop", install::UNIT])?;
    let seen = cluster.watch(|| {
        deafen(&deaf)?;
        deaf.start_daemon()?;
        clock::sleep(long(&cluster));
        let told = ensure_told(&deaf);
        mend(&deaf)?;
        cluster.wait_formed()?;
        Ok(told)
    })?;
    ensure_nothing_moved(&seen, &owner)?;
    seen.value?;
    ensure_takes_over(&cluster, &owner, &deaf)
}

/// The link of a running node that does not own the group becomes unusable for a while.
fn becomes_deaf(
    deafen: impl Fn(&Machine) -> Result<()>,
    mend: impl Fn(&Machine) -> Result<()>,
) -> Result<()> {
    let cluster = Cluster::form(options())?;
    let (owner, deaf) = pair(&cluster)?;
    let seen = cluster.watch(|| {
        deafen(&deaf)?;
        clock::sleep(long(&cluster));
        let told = ensure_told(&deaf);
        mend(&deaf)?;
        cluster.wait_formed()?;
        Ok(told)
    })?;
    ensure_nothing_moved(&seen, &owner)?;
    seen.value?;
    ensure_takes_over(&cluster, &owner, &deaf)
}

/// `ip addr` with the deaf node's own address on the link.
fn own_address(change: &'static str) -> impl Fn(&Machine) -> Result<()> {
    move |node| {
        let index = usize::from(node.name() != "alpha");
        let address = format!("{}/24", node_address(1, index));
        node.exec(&["ip", "addr", change, &address, "dev", LINK])
            .map(drop)
    }
}

fn set_link(state: &'static str) -> impl Fn(&Machine) -> Result<()> {
    move |node| node.exec(&["ip", "link", "set", LINK, state]).map(drop)
}

#[test]
fn a_node_that_starts_before_its_link_has_its_address_starts_nothing() {
    with_lab(|| starts_deaf(own_address("del"), own_address("add")));
}

#[test]
fn a_node_that_starts_without_carrier_starts_nothing() {
    with_lab(|| starts_deaf(|node| node.cut(LINK), |node| node.mend(LINK)));
}

#[test]
fn a_node_that_starts_before_its_interface_is_up_starts_nothing() {
    with_lab(|| starts_deaf(set_link("down"), set_link("up")));
}

#[test]
fn a_node_whose_port_another_program_has_starts_nothing() {
    let script = format!(
        "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((\"\", {PORT})); time.sleep(600)"
    );
    let occupy = move |node: &Machine| {
        let words = [
            "systemd-run",
            "--quiet",
            "--unit=occupant",
            "python3",
            "-c",
            &script,
        ];
        node.exec(&words)?;
        let bound = format!(":{PORT:04X} ");
        clock::wait_for("the port to be taken", Duration::from_secs(5), || {
            let sockets = node.exec(&["cat", "/proc/net/udp"])?;
            Ok(sockets.contains(&bound).then_some(()))
        })
    };
    with_lab(|| {
        starts_deaf(occupy, |node| {
            node.systemctl(&["stop", "occupant"]).map(drop)
        })
    });
}

#[test]
fn a_node_whose_own_cable_is_pulled_starts_nothing() {
    with_lab(|| becomes_deaf(|node| node.cut(LINK), |node| node.mend(LINK)));
}

#[test]
fn a_node_that_loses_its_own_address_starts_nothing() {
    with_lab(|| becomes_deaf(own_address("del"), own_address("add")));
}

#[test]
fn a_node_that_is_deaf_keeps_what_it_runs() {
    with_lab(|| {
        let cluster = Cluster::form(options())?;
        let (owner, _) = pair(&cluster)?;
        let seen = cluster.watch(|| {
            owner.cut(LINK)?;
            clock::sleep(long(&cluster));
            ensure_told(&owner)?;
            owner.mend(LINK)?;
            cluster.wait_formed()
        })?;
        let kept = seen.owners.owners.get(owner.name());
        let kept = kept.map_or(&[][..], Vec::as_slice);
        let long = long(&cluster);
        ensure!(
            kept.iter().any(|span| span.length() >= long),
            "it went on: {:?}",
            seen.owners
        );
        Ok(())
    });
}
