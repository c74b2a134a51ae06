//! What a node lacked and has again: told also by a daemon that did not see it go, and not at every flap.

use crate::with_lab;
use anyhow::{Result, ensure};
use ha_node_lab::cluster::PATIENCE;
use ha_node_lab::{Cluster, Machine, Options, clock, install};
use std::time::Duration;

const GROUP: &str = "inner";
/// An interface that carries no heartbeats and can be taken away.
const INTERFACE: &str = "svc0";
const ADDRESS: &str = "10.88.0.200";
/// Shorter than the first pause before a trial: what is started by then was told to be over.
const SOON: Duration = Duration::from_secs(4);

fn form() -> Result<Cluster> {
    let mut options = Options::two().timing(100, 1_000).address_only();
    options.extra = format!(
        "[[group]]\nname = \"{GROUP}\"\nnodes = [\"alpha\", \"beta\"]\n\
         resources = [{{ vip = \"{ADDRESS}/24\", interface = \"{INTERFACE}\", restart_window = \"20m\" }}]\n"
    );
    let cluster = Cluster::prepare(options)?;
    cluster.nodes.iter().try_for_each(add_interface)?;
    cluster.start_all()?;
    cluster.wait_formed()?;
    Ok(cluster)
}

fn add_interface(node: &Machine) -> Result<()> {
    node.shell(&format!(
        "ip link add {INTERFACE} type veth peer name far
         ip link set far up; ip link set {INTERFACE} up"
    ))
    .map(drop)
}

fn set_carrier(node: &Machine, state: &str) -> Result<()> {
    node.exec(&["ip", "link", "set", "far", state]).map(drop)
}

fn wait_held(cluster: &Cluster, node: &Machine, limit: Duration) -> Result<()> {
    clock::wait_for(
        &format!("{} to hold it", node.name()),
        limit,
        || -> Result<Option<()>> {
            let shown = node.exec(&["ip", "-o", "addr", "show", "to", ADDRESS])?;
            Ok((!shown.is_empty()).then_some(()))
        },
    )
    .map_err(|error| cluster.with_journals(error))
}

#[test]
fn a_daemon_that_was_restarted_meanwhile_sees_an_interface_come_back() {
    with_lab(|| {
        let cluster = form()?;
        let [alpha, beta] = [cluster.node("alpha")?, cluster.node("beta")?];
        wait_held(&cluster, &alpha, PATIENCE)?;
        alpha.exec(&["ip", "link", "del", INTERFACE])?;
        wait_held(&cluster, &beta, PATIENCE)?;
        alpha.systemctl(&["restart", install::UNIT])?;
        cluster.wait_formed()?;
        add_interface(&alpha)?;
        clock::sleep(Duration::from_secs(2));
        beta.power_cut()?;
        wait_held(&cluster, &alpha, SOON)
    });
}

#[test]
fn a_port_that_flaps_on_the_last_node_does_not_take_the_group_along_each_time() {
    with_lab(|| {
        let cluster = form()?;
        let [alpha, beta] = [cluster.node("alpha")?, cluster.node("beta")?];
        wait_held(&cluster, &alpha, PATIENCE)?;
        beta.power_cut()?;
        let starts = |node: &Machine| -> Result<usize> {
            let words = format!("Group {GROUP}: started in");
            Ok(node.journal_text(install::UNIT).matches(&words).count())
        };
        let before = starts(&alpha)?;
        for _ in 0..6 {
            set_carrier(&alpha, "down")?;
            clock::sleep(Duration::from_millis(1_500));
            set_carrier(&alpha, "up")?;
            clock::sleep(Duration::from_millis(1_500));
        }
        let flapping = starts(&alpha)? - before;
        ensure!(flapping <= 3, "started {flapping} times while it flapped");
        wait_held(&cluster, &alpha, SOON * 2)
    });
}
