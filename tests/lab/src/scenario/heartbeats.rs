//! How much the nodes say to each other while nothing happens.

use crate::cluster::{Cluster, Options, PORT};
use crate::{capture, clock};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

/// How many groups, of one address each, beside the one that all clusters have.
pub const GROUPS: usize = 500;
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 77, 4, 1);
/// So many groups take their time to start.
const PATIENCE: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_secs(5);

/// A cluster of two with that many groups, all started.
///
/// # Errors
/// One of them does not start.
pub fn form() -> Result<Cluster> {
    let mut options = Options::two().address_only();
    for (number, address) in (FIRST.to_bits()..).take(GROUPS).enumerate() {
        let address = Ipv4Addr::from_bits(address);
        let _ = write!(
            options.extra,
            "[[group]]\nname = \"{}\"\nresources = [{{ vip = \"{address}/16\", interface = \"eth0\" }}]\n",
            name(number)
        );
    }
    let cluster = Cluster::form(options)?;
    let started = clock::wait_for("all groups to be started", PATIENCE, || {
        for node in &cluster.nodes {
            let status = node.status()?;
            if (0..GROUPS).any(|number| status.group_state(&name(number)) != "started") {
                return Ok(None);
            }
        }
        Ok(Some(()))
    });
    started.map_err(|error| cluster.with_journals(error))?;
    Ok(cluster)
}

/// Bytes of each heartbeat that crosses one of the two networks while nothing happens for so long, of the node that says
/// most: the leader has more to say than the others.
///
/// # Errors
/// The network cannot be listened to.
pub fn at_rest(cluster: &Cluster, length: Duration) -> Result<Vec<usize>> {
    clock::sleep(REST);
    let recorder = capture::record(cluster.lab.network(), "eth1", PORT)?;
    clock::sleep(length);
    let mut senders: BTreeMap<Ipv4Addr, Vec<usize>> = BTreeMap::new();
    for frame in recorder.finish()? {
        if let (Some(sender), Some(bytes)) = (frame.sender(), frame.datagram_bytes()) {
            senders.entry(sender).or_default().push(bytes);
        }
    }
    let most = senders
        .into_values()
        .max_by_key(|bytes| bytes.iter().sum::<usize>());
    most.context("no heartbeat was seen")
}

fn name(number: usize) -> String {
    format!("group-{number}")
}
