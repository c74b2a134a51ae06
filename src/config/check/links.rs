//! `[[link]]`: that every link reaches every node, and that no two links are the same.

use super::duplicate;
use crate::config::model::{Link, PORT_DEFAULT, Transport};
use crate::config::place::{Found, Origin};
use crate::config::problem::{Problems, Wrong};
use crate::config::raw::{Raw, RawLink, UcastEntry};
use crate::config::schema::nearest;
use crate::core::NodeSettings;
use crate::ids::NodeName;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Most links of a cluster.
const LINKS_MAX: usize = 64;

type Nodes = BTreeMap<NodeName, NodeSettings>;

/// All links, in the order of the files.
pub(crate) fn check(
    raw: &Raw,
    nodes: &Nodes,
    host: &NodeName,
    problems: &mut Problems,
) -> Vec<Link> {
    if raw.link.is_empty() && nodes.len() > 1 {
        let wrong = Wrong::new(format!(
            "there are {} nodes, but no link between them",
            nodes.len()
        ))
        .expected("at least one [[link]]")
        .hint("two links are better, on separate cables");
        problems.add_maybe_at(raw.node.first().map(|node| node.name.at), wrong);
    }
    if let Some(link) = raw.link.get(LINKS_MAX) {
        problems.add(
            link.at,
            Wrong::new("too many links").expected(format!("at most {LINKS_MAX}")),
        );
    }
    let mut all = Vec::new();
    let mut seen: Vec<(String, Origin)> = Vec::new();
    for link in &raw.link {
        let port = link.port.as_ref().map_or(PORT_DEFAULT, |port| port.value);
        let Some(transport) = transport(link, nodes, host, problems) else {
            continue;
        };
        let identity = identity(&transport, port);
        match seen.iter().find(|(other, _)| *other == identity) {
            Some((_, first)) => {
                duplicate(problems, &format!("a link on {identity}"), link.at, *first);
            }
            None => seen.push((identity, link.at)),
        }
        let direct = is_direct(link, nodes, problems);
        all.push(Link {
            transport,
            port,
            direct,
        });
    }
    all
}

/// A cable has two ends.
fn is_direct(link: &RawLink, nodes: &Nodes, problems: &mut Problems) -> bool {
    let Some(direct) = link.direct.as_ref().filter(|direct| direct.value) else {
        return false;
    };
    if nodes.len() > 2 {
        let wrong = Wrong::new(format!(
            "direct on a link of {} nodes: a cable joins two",
            nodes.len()
        ))
        .hint("remove it");
        problems.add(direct.at, wrong);
    }
    true
}

/// What two links must not share: they would take each other's packets.
fn identity(transport: &Transport, port: u16) -> String {
    match transport {
        Transport::Unicast { local, .. } => format!("{local} port {port}"),
        Transport::Broadcast { interface } => format!("{interface} (bcast) port {port}"),
        Transport::Multicast {
            interface, group, ..
        } => format!("{interface} ({group}) port {port}"),
    }
}

fn transport(
    link: &RawLink,
    nodes: &Nodes,
    host: &NodeName,
    problems: &mut Problems,
) -> Option<Transport> {
    let interface = link.interface.as_ref().map(|found| found.value.clone());
    if let Some(entries) = &link.ucast {
        return unicast(entries, interface, nodes, host, problems);
    }
    if let Some(bcast) = &link.bcast {
        let interface = bcast.value.clone();
        return Some(Transport::Broadcast { interface });
    }
    Some(Transport::Multicast {
        interface: interface?,
        group: link.mcast.as_ref()?.value,
        ttl: link.ttl.as_ref().map_or(1, |ttl| ttl.value),
    })
}

fn unicast(
    entries: &Found<Vec<UcastEntry>>,
    interface: Option<String>,
    nodes: &Nodes,
    host: &NodeName,
    problems: &mut Problems,
) -> Option<Transport> {
    everyone_is_listed(entries, nodes, problems);
    addresses_fit(&entries.value, interface.is_some(), problems);
    let mut peers = Vec::new();
    let mut local = None;
    for entry in &entries.value {
        if entry.node.value == *host {
            local = Some(entry.address.value);
        } else {
            peers.push((entry.node.value.clone(), entry.address.value));
        }
    }
    peers.sort();
    let local = local?;
    Some(Transport::Unicast {
        interface,
        local,
        peers,
    })
}

fn everyone_is_listed(entries: &Found<Vec<UcastEntry>>, nodes: &Nodes, problems: &mut Problems) {
    let mut listed: BTreeMap<&NodeName, Origin> = BTreeMap::new();
    for entry in &entries.value {
        let (name, at) = (&entry.node.value, entry.node.at);
        if let Some(first) = listed.insert(name, at) {
            duplicate(
                problems,
                &format!("node {:?} in ucast", name.as_str()),
                at,
                first,
            );
        }
        if !nodes.contains_key(name) {
            problems.add(at, super::groups::no_such_node("ucast", name, nodes));
        }
    }
    let missing: Vec<&str> = nodes
        .keys()
        .filter(|name| !listed.contains_key(name))
        .map(NodeName::as_str)
        .collect();
    if !missing.is_empty() {
        let wrong = Wrong::new(format!("ucast has no address of {}", missing.join(", ")))
            .expected("every node, this one too, with its address on this link");
        problems.add(entries.at, wrong);
    }
}

fn addresses_fit(entries: &[UcastEntry], has_interface: bool, problems: &mut Problems) {
    let mut seen: BTreeMap<IpAddr, Origin> = BTreeMap::new();
    let family = entries.first().map(|entry| entry.address.value.is_ipv4());
    for entry in entries {
        let Found { value: address, at } = entry.address;
        if let Some(first) = seen.insert(address, at) {
            duplicate(problems, &format!("address {address} in ucast"), at, first);
        }
        if Some(address.is_ipv4()) != family {
            let wrong = Wrong::new(format!("ucast mixes IPv4 and IPv6: {address}"))
                .expected("addresses of one family")
                .hint("use a [[link]] for each family");
            problems.add(at, wrong);
        }
        if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) && !has_interface {
            let wrong = Wrong::new(format!("{address} is valid on one interface only"))
                .expected("interface = \"eth1\" in this [[link]]");
            problems.add(at, wrong);
        }
    }
}

/// The name that is probably meant.
pub(super) fn nearest_node<'n>(name: &NodeName, nodes: &'n Nodes) -> Option<&'n str> {
    nearest(name.as_str(), nodes.keys().map(NodeName::as_str))
}
