//! `[[group]]`: names, who may run them, and that no address or unit belongs to two of them.

use super::addresses;
use super::duplicate;
use super::links::nearest_node;
use crate::config::model::{Group, Resource, ResourceKind};
use crate::config::place::{Found, Origin};
use crate::config::problem::{Problems, Wrong};
use crate::config::raw::{Raw, RawGroup, RawResource};
use crate::core::{GroupSettings, NodeSettings};
use crate::ids::{GroupName, NodeName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// Most groups of a cluster: a heartbeat names each of them, and must fit in one datagram.
pub(crate) const GROUPS_MAX: usize = 512;

/// Most resources of one group.
pub(crate) const RESOURCES_MAX: usize = 1000;

/// Bytes of groups in a heartbeat from which on a datagram may get too small (it holds 65,507).
const HEARTBEAT_BYTES_WARN: usize = 48 * 1024;

/// What a group costs in a heartbeat besides names: state, failures, separators, in report and plan.
const GROUP_BYTES: usize = 40;

/// Default of the time-outs of an address.
pub(crate) const ADDRESS_TIMEOUT: Duration = Duration::from_secs(10);

/// Default of the time-outs of a unit, as systemd's own.
pub(crate) const UNIT_TIMEOUT: Duration = Duration::from_secs(90);

type Nodes = BTreeMap<NodeName, NodeSettings>;

/// The checked groups, for the core and for the drivers.
#[derive(Default)]
pub(crate) struct Groups {
    pub(crate) settings: BTreeMap<GroupName, GroupSettings>,
    pub(crate) resources: Vec<Group>,
}

/// What is in use already, with its first place.
#[derive(Default)]
struct Taken {
    names: BTreeMap<GroupName, Origin>,
    addresses: BTreeMap<IpAddr, Origin>,
    units: BTreeMap<String, Origin>,
}

/// Checks all groups.
pub(crate) fn check(raw: &Raw, nodes: &Nodes, problems: &mut Problems) -> Groups {
    let mut taken = Taken::default();
    let mut groups = Groups::default();
    let node_addresses = node_addresses(raw);
    for group in &raw.group {
        let name = &group.name.value;
        if let Some(first) = taken.names.get(name) {
            duplicate(
                problems,
                &format!("group {:?}", name.as_str()),
                group.name.at,
                *first,
            );
            continue;
        }
        taken.names.insert(name.clone(), group.name.at);
        let settings = GroupSettings {
            nodes: candidates(raw, group, nodes, problems),
            auto_failback: auto_failback(raw, group),
        };
        groups.settings.insert(name.clone(), settings);
        groups.resources.push(Group {
            name: name.clone(),
            resources: resources(group, &node_addresses, &mut taken, problems),
        });
    }
    sizes(raw, nodes, problems);
    groups
}

/// The error for a node that is not in the files, with the one that is probably meant.
pub(super) fn no_such_node(key: &str, name: &NodeName, nodes: &Nodes) -> Wrong {
    let list: Vec<&str> = nodes.keys().map(NodeName::as_str).collect();
    Wrong::new(format!("{key}: there is no node {:?}", name.as_str()))
        .expected(format!("one of {}", list.join(", ")))
        .did_you_mean(nearest_node(name, nodes))
}

fn auto_failback(raw: &Raw, group: &RawGroup) -> bool {
    let own = group.auto_failback.as_ref();
    let common = raw.cluster.auto_failback.as_ref();
    own.or(common).is_none_or(|found| found.value)
}

/// Who may run the group: as listed, or every member in the order of the files.
fn candidates(
    raw: &Raw,
    group: &RawGroup,
    nodes: &Nodes,
    problems: &mut Problems,
) -> Vec<NodeName> {
    let Some(listed) = &group.nodes else {
        return every_member(raw, group, nodes, problems);
    };
    if listed.value.is_empty() {
        let wrong = Wrong::new("nodes: an empty list").expected("at least one node");
        problems.add(
            listed.at,
            wrong.hint("without the key every node may run the group"),
        );
    }
    let mut names = Vec::new();
    let mut seen: BTreeMap<&NodeName, Origin> = BTreeMap::new();
    for Found { value: name, at } in &listed.value {
        if let Some(first) = seen.insert(name, *at) {
            duplicate(
                problems,
                &format!("node {:?} in nodes", name.as_str()),
                *at,
                first,
            );
            continue;
        }
        match nodes.get(name) {
            None => problems.add(*at, no_such_node("nodes", name, nodes)),
            Some(NodeSettings { witness: true }) => {
                let found = format!("nodes: {:?} is a witness", name.as_str());
                problems.add(*at, Wrong::new(found).expected("nodes that may run groups"));
            }
            Some(NodeSettings { witness: false }) => names.push(name.clone()),
        }
    }
    names
}

fn every_member(
    raw: &Raw,
    group: &RawGroup,
    nodes: &Nodes,
    problems: &mut Problems,
) -> Vec<NodeName> {
    let mut names: Vec<NodeName> = Vec::new();
    for node in &raw.node {
        if !node.witness && !names.contains(&node.name.value) {
            names.push(node.name.value.clone());
        }
    }
    if raw.node.is_empty() {
        names.extend(nodes.keys().cloned());
    }
    if names.is_empty() {
        let found = format!(
            "group {:?}: all nodes are witnesses",
            group.name.value.as_str()
        );
        problems.add(
            group.name.at,
            Wrong::new(found).expected("a node that may run it"),
        );
    }
    names
}

/// The nodes' own addresses on unicast links.
fn node_addresses(raw: &Raw) -> BTreeMap<IpAddr, Origin> {
    raw.link
        .iter()
        .filter_map(|link| link.ucast.as_ref())
        .flat_map(|ucast| &ucast.value)
        .map(|entry| (entry.address.value, entry.address.at))
        .collect()
}

fn resources(
    group: &RawGroup,
    node_addresses: &BTreeMap<IpAddr, Origin>,
    taken: &mut Taken,
    problems: &mut Problems,
) -> Vec<Resource> {
    let mut ids: BTreeSet<String> = BTreeSet::new();
    let mut all = Vec::new();
    for raw in &group.resources {
        once_only(raw, node_addresses, taken, problems);
        let Some(resource) = resource(raw) else {
            continue;
        };
        if !ids.insert(resource.id.clone()) {
            let found = format!("id {:?} is already used in this group", resource.id);
            let at = raw.id.as_ref().map_or(raw.at, |id| id.at);
            problems.add(
                at,
                Wrong::new(found).expected("an id of its own for each resource"),
            );
        }
        all.push(resource);
    }
    all
}

/// An address or a unit must not be in two places, and an address must not be a node's own.
fn once_only(
    raw: &RawResource,
    node_addresses: &BTreeMap<IpAddr, Origin>,
    taken: &mut Taken,
    problems: &mut Problems,
) {
    addresses::once_only(raw, node_addresses, &mut taken.addresses, problems);
    if let Some(unit) = &raw.unit {
        match taken.units.get(&unit.value) {
            Some(first) => duplicate(problems, &format!("unit {:?}", unit.value), unit.at, *first),
            None => drop(taken.units.insert(unit.value.clone(), unit.at)),
        }
    }
}

fn resource(raw: &RawResource) -> Option<Resource> {
    let (kind, argument, timeout) = if let Some(vip) = &raw.vip {
        let kind = ResourceKind::Address(addresses::set(raw)?);
        let first = vip.value.first()?.value;
        (kind, first.to_string(), ADDRESS_TIMEOUT)
    } else {
        let name = raw.unit.as_ref()?.value.clone();
        (
            ResourceKind::Unit { name: name.clone() },
            name,
            UNIT_TIMEOUT,
        )
    };
    let id = match &raw.id {
        Some(id) => id.value.clone(),
        None => format!("{}:{argument}", kind.as_str()),
    };
    let or = |found: &Option<Found<Duration>>| found.as_ref().map_or(timeout, |found| found.value);
    Some(Resource {
        id,
        kind,
        start_timeout: or(&raw.start_timeout),
        stop_timeout: or(&raw.stop_timeout),
    })
}

/// A heartbeat carries every group and must fit in a datagram.
fn sizes(raw: &Raw, nodes: &Nodes, problems: &mut Problems) {
    if let Some(group) = raw.group.get(GROUPS_MAX) {
        let found = format!("{} groups", raw.group.len());
        let wrong = Wrong::new(found).expected(format!("at most {GROUPS_MAX}"));
        problems.add(group.name.at, wrong);
    }
    for group in &raw.group {
        if let Some(resource) = group.resources.get(RESOURCES_MAX) {
            let wrong = Wrong::new(format!("{} resources in a group", group.resources.len()))
                .expected(format!("at most {RESOURCES_MAX}"));
            problems.add(resource.at, wrong);
        }
    }
    let longest_node = nodes
        .keys()
        .map(|name| name.as_str().len())
        .max()
        .unwrap_or(0);
    let bytes: usize = raw
        .group
        .iter()
        .map(|group| 2 * group.name.value.as_str().len() + longest_node + GROUP_BYTES)
        .sum();
    if bytes > HEARTBEAT_BYTES_WARN {
        problems.warn(
            None,
            format!(
                "{} groups with such long names make a heartbeat of about {bytes} bytes, and it must fit in a \
                 datagram of 65507; use shorter names",
                raw.group.len()
            ),
        );
    }
}
