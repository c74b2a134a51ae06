//! A group of many addresses that changes its owner.

use crate::cluster::{Cluster, Options, PATIENCE};
use crate::machine::Machine;
use crate::probe::crowd::{self, Crowd};
use crate::{clock, run};
use anyhow::Result;
use std::net::Ipv4Addr;
use std::time::Duration;

/// The group.
pub const GROUP: &str = "many";
/// Its addresses: the first, and how many there are.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 77, 4, 1);
/// How many addresses the group has.
pub const COUNT: usize = 500;
/// The client's own address among them.
const CLIENT: &str = "10.77.9.100/16";
/// Time in which the client asks all of them, so that it knows where they are.
const WARM_UP: Duration = Duration::from_millis(300);

/// A cluster of two with that group beside the one that all have.
///
/// # Errors
/// It does not form.
pub fn form() -> Result<Cluster> {
    let last = addresses().last().copied().unwrap_or(FIRST);
    let mut options = Options::two().timing(250, 2_000).address_only();
    options.extra = format!(
        "[[group]]\nname = \"{GROUP}\"\nresources = [{{ vip = \"{FIRST}-{last}/16\", interface = \"eth0\" }}]\n"
    );
    let cluster = Cluster::form(options)?;
    let client = cluster.lab.client();
    run::run(&["ip", "-n", &client, "addr", "add", CLIENT, "dev", "eth0"])?;
    Ok(cluster)
}

/// `hactl move` of the group to the other node.
///
/// # Errors
/// It is refused, or does not get there.
pub fn planned(cluster: &Cluster) -> Result<Crowd> {
    let from = wait_owner(cluster, None)?;
    let to = cluster.other(&from)?;
    watch(cluster, &from, || {
        from.hactl(&["move", GROUP, to.name()]).map(drop)
    })
}

/// Cuts the power of the group's owner, which is switched on again when the other node has it.
///
/// # Errors
/// The other node does not take over, or the cluster does not form again.
pub fn power_cut(cluster: &Cluster) -> Result<Crowd> {
    let dead = wait_owner(cluster, None)?;
    let by = cluster.other(&dead)?;
    let seen = watch(cluster, &dead, || {
        dead.power_cut()?;
        // Nothing is asked of the machines meanwhile: it would only cost them time.
        clock::sleep(cluster.options.deadtime + cluster.options.keepalive);
        wait_owner(cluster, Some(&by)).map(drop)
    })?;
    dead.power_on()?;
    cluster.wait_formed()?;
    Ok(seen)
}

fn watch(cluster: &Cluster, old: &Machine, action: impl FnOnce() -> Result<()>) -> Result<Crowd> {
    let old = old.hardware_address("eth0");
    let probe = crowd::start(&cluster.lab.client(), "eth0", addresses(), old)?;
    clock::sleep(WARM_UP);
    let done = action();
    clock::sleep(Duration::from_millis(500));
    let seen = probe.finish();
    done.map_err(|error| cluster.with_journals(error))?;
    seen
}

/// Waits until the group is started, on that node if one is named.
fn wait_owner(cluster: &Cluster, wanted: Option<&Machine>) -> Result<Machine> {
    let result = clock::wait_for("the many addresses to be started", PATIENCE, || {
        let asked = cluster.nodes.iter().find(|node| node.is_on());
        let Some(asked) = asked else { return Ok(None) };
        let status = asked.status()?;
        if status.group_state(GROUP) != "started" {
            return Ok(None);
        }
        let owner = cluster.node(&status.owner(GROUP))?;
        let there = owner.is_on() && wanted.is_none_or(|node| node.name() == owner.name());
        Ok(there.then_some(owner))
    });
    result.map_err(|error| cluster.with_journals(error))
}

fn addresses() -> Vec<Ipv4Addr> {
    (FIRST.to_bits()..)
        .take(COUNT)
        .map(Ipv4Addr::from_bits)
        .collect()
}
