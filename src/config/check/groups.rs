//! `[[group]]`: names, who may run them, and that no address or unit belongs to two of them.

use super::addresses;
use super::duplicate;
use super::links::nearest_node;
use crate::config::failure;
use crate::config::health::{CHECKS_MAX, HealthCheck};
use crate::config::kinds::{RawKind, mount_unit};
use crate::config::model::{Group, Resource, ResourceKind, Standby};
use crate::config::place::{Found, Origin};
use crate::config::problem::{Problems, Wrong};
use crate::config::raw::{Raw, RawGroup, RawResource};
use crate::config::value::show_duration;
use crate::core::{GroupSettings, NodeSettings};
use crate::ids::{GroupName, NodeName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// Most groups of a cluster: a heartbeat names each of them, and must fit in one datagram.
pub const GROUPS_MAX: usize = 512;

/// Most resources of one group.
pub(crate) const RESOURCES_MAX: usize = 1000;

/// Default of the time-outs of an address.
pub(crate) const ADDRESS_TIMEOUT: Duration = Duration::from_secs(10);

/// Default of the time between two monitor actions of an OCF agent.
pub(crate) const MONITOR_INTERVAL: Duration = Duration::from_secs(10);

/// Longest time-out that an OCF agent can advise for itself.
pub(crate) const AGENT_TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// Default of a unit's time to start, as systemd's own, and of the time-outs of all that is run by one.
pub(crate) const UNIT_START_TIMEOUT: Duration = Duration::from_secs(90);

/// Default of a unit's time to stop: longer than systemd takes to end one by force, which is up to three times 90 s.
pub(crate) const UNIT_STOP_TIMEOUT: Duration = Duration::from_secs(300);

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
pub(crate) fn check(
    raw: &Raw,
    nodes: &Nodes,
    local: &NodeName,
    keepalive: Duration,
    problems: &mut Problems,
) -> Groups {
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
        let candidates = candidates(raw, group, nodes, problems);
        let here = candidates.contains(local);
        let resources = resources(group, &node_addresses, &mut taken, problems);
        let policies = resources.iter().map(|it| (it.id.clone(), it.policy));
        let stop_margin = stop_margin(group, keepalive, problems);
        let settings = GroupSettings {
            nodes: candidates,
            auto_failback: auto_failback(raw, group),
            stop_margin,
            policies: policies.collect(),
        };
        groups.settings.insert(name.clone(), settings);
        groups.resources.push(Group {
            name: name.clone(),
            resources,
            checks: health_checks(&group.checks),
            here,
            stop_margin: stop_margin.unwrap_or(keepalive),
        });
    }
    sizes(raw, problems);
    check_count(raw, problems);
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

/// None where it is one keepalive, written or not: nodes that differ in that alone agree.
fn stop_margin(group: &RawGroup, keepalive: Duration, problems: &mut Problems) -> Option<Duration> {
    let found = group.stop_margin.as_ref()?;
    if found.value < keepalive {
        let (margin, keepalive) = (show_duration(found.value), show_duration(keepalive));
        let wrong = Wrong::new(format!(
            "stop_margin = {margin} with keepalive = {keepalive}"
        ));
        let expected = "stop_margin to be at least as long as keepalive";
        problems.add(
            found.at,
            wrong
                .expected(expected)
                .hint("without the key it is one keepalive"),
        );
    }
    Some(found.value).filter(|margin| *margin != keepalive)
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
        failure::check(&raw.failure, problems);
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
    if let Some(RawKind::Mount(mount)) = &raw.kind {
        let directory = &mount.directory;
        let unit = mount_unit(&directory.value);
        match taken.units.get(&unit) {
            Some(first) => duplicate(
                problems,
                &format!("mount {:?}", directory.value),
                directory.at,
                *first,
            ),
            None => drop(taken.units.insert(unit, directory.at)),
        }
    }
}

fn resource(raw: &RawResource) -> Option<Resource> {
    let (kind, argument, start_timeout, stop_timeout) = if let Some(vip) = &raw.vip {
        let kind = ResourceKind::Address(addresses::set(raw)?);
        let first = vip.value.first()?.value;
        (kind, first.to_string(), ADDRESS_TIMEOUT, ADDRESS_TIMEOUT)
    } else if let Some(kind) = &raw.kind {
        let (kind, argument) = other_kind(kind, raw);
        let timeout = match kind {
            ResourceKind::Ocf { .. } => AGENT_TIMEOUT_MAX,
            ResourceKind::Address(_)
            | ResourceKind::Unit { .. }
            | ResourceKind::Mount { .. }
            | ResourceKind::Script { .. } => UNIT_START_TIMEOUT,
        };
        (kind, argument, timeout, timeout)
    } else {
        let name = raw.unit.as_ref()?.value.clone();
        (
            ResourceKind::Unit {
                name: name.clone(),
                standby: (raw.standby.as_ref()).map_or(Standby::Stopped, |found| found.value),
            },
            name,
            UNIT_START_TIMEOUT,
            UNIT_STOP_TIMEOUT,
        )
    };
    let id = match &raw.id {
        Some(id) => id.value.clone(),
        None => format!("{}:{argument}", kind.as_str()),
    };
    let or = |found: &Option<Found<Duration>>, default| found.as_ref().map_or(default, |f| f.value);
    Some(Resource {
        id,
        kind,
        start_timeout: or(&raw.start_timeout, start_timeout),
        stop_timeout: or(&raw.stop_timeout, stop_timeout),
        policy: raw.failure.policy(raw.vip.is_some()),
        checks: health_checks(&raw.checks),
    })
}

fn health_checks(found: &[Found<HealthCheck>]) -> Vec<HealthCheck> {
    found.iter().map(|check| check.value.clone()).collect()
}

/// Each check is work that must never hold up a heartbeat.
fn check_count(raw: &Raw, problems: &mut Problems) {
    let mut all = raw.group.iter().flat_map(|group| {
        let of_resources = group.resources.iter().flat_map(|resource| &resource.checks);
        of_resources.chain(&group.checks)
    });
    if let Some(check) = all.nth(CHECKS_MAX) {
        let found = format!("more than {CHECKS_MAX} checks in all groups");
        let expected = format!("at most {CHECKS_MAX}");
        problems.add(check.at, Wrong::new(found).expected(expected));
    }
}

/// A resource that is neither an address nor a unit, and what its identifier is made from.
fn other_kind(kind: &RawKind, raw: &RawResource) -> (ResourceKind, String) {
    let configured = |found: &Option<Found<Duration>>| found.as_ref().map(|found| found.value);
    match kind {
        RawKind::Mount(mount) => {
            let kind = ResourceKind::Mount {
                directory: mount.directory.value.clone(),
                unit: mount_unit(&mount.directory.value),
                device: mount.device.clone(),
                fstype: mount.fstype.clone(),
                options: mount.options.clone(),
            };
            (kind, mount.directory.value.clone())
        }
        RawKind::Script(script) => {
            let kind = ResourceKind::Script {
                path: script.path.clone(),
                arguments: script.arguments.clone(),
                monitor_interval: script.monitor_interval,
            };
            (kind, script.path.clone())
        }
        RawKind::Ocf(ocf) => {
            let kind = ResourceKind::Ocf {
                provider: ocf.provider.clone(),
                agent: ocf.agent.clone(),
                parameters: ocf.parameters.clone(),
                monitor_interval: ocf.monitor_interval.unwrap_or(MONITOR_INTERVAL),
                start_timeout: configured(&raw.start_timeout),
                stop_timeout: configured(&raw.stop_timeout),
            };
            (kind, format!("{}:{}", ocf.provider, ocf.agent))
        }
    }
}

/// How many there may be; whether a heartbeat has room for all of them is judged by its real length.
fn sizes(raw: &Raw, problems: &mut Problems) {
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
}
