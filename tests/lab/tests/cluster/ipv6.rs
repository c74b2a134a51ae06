//! A cluster whose nodes speak by broadcast and by IPv6 multicast, and that keeps an IPv6 address.

use crate::with_lab;
use anyhow::{Result, ensure};
use ha_node_lab::{Cluster, Machine, Options, clock};

const LINKS: &str =
    "[[link]]\nbcast = \"eth0\"\n[[link]]\nmcast = \"ff02::42\"\ninterface = \"eth1\"\n";
const SIX: &str =
    "[[group]]\nname = \"six\"\nresources = [{ vip = \"fd77::200/64\", interface = \"eth0\" }]\n";

fn has_address(node: &Machine) -> Result<bool> {
    Ok(node
        .exec(&["ip", "-6", "addr", "show", "dev", "eth0"])?
        .contains("fd77::200/64"))
}

#[test]
fn broadcast_and_multicast_carry_a_cluster_with_an_ipv6_address() {
    with_lab(|| {
        let cluster = Cluster::form(Options {
            links: Some(LINKS.to_owned()),
            extra: SIX.to_owned(),
            ..Options::two()
        })?;
        let [alpha, beta] = cluster.nodes.as_slice() else {
            anyhow::bail!("two nodes");
        };
        for target in [beta, alpha] {
            alpha.hactl(&["move", "six", target.name()])?;
            for node in [alpha, beta] {
                let wanted = node.name() == target.name();
                ensure!(has_address(node)? == wanted, "on {} only", target.name());
            }
        }
        // Each link alone keeps them together.
        for interface in ["eth1", "eth0"] {
            let network = cluster.lab.network();
            network.block(
                beta.name(),
                interface,
                Some(ha_node_lab::network::Direction::Outgoing),
            )?;
            clock::sleep(cluster.options.deadtime * 2);
            cluster.wait_formed()?;
            network.block(beta.name(), interface, None)?;
            clock::sleep(cluster.options.keepalive * 4);
        }
        Ok(())
    });
}
