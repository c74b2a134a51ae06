//! The properties of all objects as plain values, and what differs between two moments.
//!
//! Pure. `interfaces` reads the values for `Get`, `serve` sends the differences as PropertiesChanged; the
//! lists here name the properties of the contract once, with their D-Bus names.

use crate::core::view::{GroupCondition, GroupView, NodeView, Protection, View};
use crate::dbus::path;
use crate::dbus::snapshot::{ClockOffset, LinkSnapshot, Snapshot};
use crate::ids::{GroupName, LinkId, NodeName};
use crate::wire::status::{GroupState, Phase};
use std::collections::BTreeMap;

/// Interface of the root object.
pub const CLUSTER: &str = "org.linuxha.Cluster";
/// Interface of a node.
pub const NODE: &str = "org.linuxha.Cluster.Node";
/// Interface of a group.
pub const GROUP: &str = "org.linuxha.Cluster.Group";
/// Interface of a link.
pub const LINK: &str = "org.linuxha.Cluster.Link";

/// A property's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `s`
    Text(String),
    /// `t`
    Number(u64),
    /// `b`
    Flag(bool),
    /// `ao`
    Paths(Vec<String>),
    /// `as`
    Texts(Vec<String>),
    /// `a(sss)`
    Triples(Vec<(String, String, String)>),
    /// `a{su}`
    Counts(BTreeMap<String, u32>),
    /// `a{sb}`
    Flags(BTreeMap<String, bool>),
}

/// A property with its value.
pub type Property = (&'static str, Value);

/// The root object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the property of the same name")]
pub struct ClusterProperties {
    pub name: String,
    pub local_node: String,
    pub state: String,
    pub version: String,
    pub generation: u64,
    pub leader: String,
    pub quorate: bool,
    pub protection: String,
    pub link_trouble: String,
    pub nodes: Vec<String>,
    pub groups: Vec<String>,
    pub links: Vec<String>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the property of the same name")]
pub struct NodeProperties {
    pub name: String,
    pub state: String,
    pub role: String,
    pub generation: u64,
    pub standby: bool,
    pub last_heard: u64,
    pub config_hash: String,
    pub differs: Vec<String>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the property of the same name")]
pub struct GroupProperties {
    pub name: String,
    pub state: String,
    pub owner: String,
    pub since: u64,
    pub reason: String,
    pub local_state: String,
    pub preferred: Vec<String>,
    pub resources: Vec<(String, String, String)>,
    pub failures: BTreeMap<String, u32>,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the property of the same name")]
pub struct LinkProperties {
    pub kind: String,
    pub interface: String,
    pub label: String,
    pub peers: BTreeMap<String, bool>,
    pub sent: u64,
    pub received: u64,
    pub rejected: u64,
}

/// All objects with all their properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The root object.
    pub cluster: ClusterProperties,
    /// All nodes.
    pub nodes: BTreeMap<NodeName, NodeProperties>,
    /// All groups.
    pub groups: BTreeMap<GroupName, GroupProperties>,
    /// All links.
    pub links: BTreeMap<LinkId, LinkProperties>,
}

/// What PropertiesChanged says of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The object.
    pub path: String,
    /// Its interface.
    pub interface: &'static str,
    /// Its properties that differ, with their new values.
    pub changed: Vec<Property>,
}

impl Model {
    /// The properties at the moment of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let links: BTreeMap<LinkId, LinkProperties> = (0..)
            .map(LinkId)
            .zip(snapshot.links.iter().map(link_properties))
            .collect();
        Self {
            cluster: cluster_properties(snapshot, links.keys()),
            nodes: (snapshot.view.nodes.iter())
                .map(|(name, node)| (name.clone(), node_properties(name, node, snapshot.clock)))
                .collect(),
            groups: (snapshot.view.groups.iter())
                .map(|(name, group)| (name.clone(), group_properties(name, group, snapshot)))
                .collect(),
            links,
        }
    }

    /// Every object: path, interface, properties.
    pub fn objects(&self) -> BTreeMap<(String, &'static str), Vec<Property>> {
        let nodes = self
            .nodes
            .iter()
            .map(|(name, it)| ((path::node(name), NODE), it.list()));
        let groups = self
            .groups
            .iter()
            .map(|(name, it)| ((path::group(name), GROUP), it.list()));
        let links = self
            .links
            .iter()
            .map(|(id, it)| ((path::link(*id), LINK), it.list()));
        std::iter::once(((path::ROOT.to_owned(), CLUSTER), self.cluster.list()))
            .chain(nodes)
            .chain(groups)
            .chain(links)
            .collect()
    }

    /// This model with the counters of `older`, as clients know them.
    #[must_use]
    pub fn with_counters_of(mut self, older: &Self) -> Self {
        for (name, node) in &mut self.nodes {
            if let Some(old) = older.nodes.get(name) {
                node.last_heard = old.last_heard;
            }
        }
        for (id, link) in &mut self.links {
            if let Some(old) = older.links.get(id) {
                (link.sent, link.received, link.rejected) = (old.sent, old.received, old.rejected);
            }
        }
        self
    }

    /// What differs from `older` in the objects that both have, in the order of their paths.
    pub fn changes_since(&self, older: &Self) -> Vec<Change> {
        let before = older.objects();
        (self.objects().into_iter())
            .filter_map(|((path, interface), now)| {
                let old = before.get(&(path.clone(), interface))?;
                let changed: Vec<Property> = now
                    .into_iter()
                    .filter(|property| !old.contains(property))
                    .collect();
                (!changed.is_empty()).then_some(Change {
                    path,
                    interface,
                    changed,
                })
            })
            .collect()
    }
}

impl ClusterProperties {
    /// All properties, by name.
    pub fn list(&self) -> Vec<Property> {
        vec![
            ("Name", Value::Text(self.name.clone())),
            ("LocalNode", Value::Text(self.local_node.clone())),
            ("State", Value::Text(self.state.clone())),
            ("Version", Value::Text(self.version.clone())),
            ("Generation", Value::Number(self.generation)),
            ("Leader", Value::Text(self.leader.clone())),
            ("Quorate", Value::Flag(self.quorate)),
            ("Maintenance", Value::Flag(false)),
            ("Protection", Value::Text(self.protection.clone())),
            ("LinkTrouble", Value::Text(self.link_trouble.clone())),
            ("Nodes", Value::Paths(self.nodes.clone())),
            ("Groups", Value::Paths(self.groups.clone())),
            ("Links", Value::Paths(self.links.clone())),
        ]
    }
}

impl NodeProperties {
    /// All properties, by name.
    pub fn list(&self) -> Vec<Property> {
        vec![
            ("Name", Value::Text(self.name.clone())),
            ("State", Value::Text(self.state.clone())),
            ("Role", Value::Text(self.role.clone())),
            ("Generation", Value::Number(self.generation)),
            ("Standby", Value::Flag(self.standby)),
            ("LastHeard", Value::Number(self.last_heard)),
            ("ConfigHash", Value::Text(self.config_hash.clone())),
            ("Differs", Value::Texts(self.differs.clone())),
        ]
    }
}

impl GroupProperties {
    /// All properties, by name.
    pub fn list(&self) -> Vec<Property> {
        vec![
            ("Name", Value::Text(self.name.clone())),
            ("State", Value::Text(self.state.clone())),
            ("Owner", Value::Text(self.owner.clone())),
            ("Since", Value::Number(self.since)),
            ("Reason", Value::Text(self.reason.clone())),
            ("LocalState", Value::Text(self.local_state.clone())),
            ("Preferred", Value::Texts(self.preferred.clone())),
            ("Resources", Value::Triples(self.resources.clone())),
            ("Failures", Value::Counts(self.failures.clone())),
        ]
    }
}

impl LinkProperties {
    /// All properties, by name.
    pub fn list(&self) -> Vec<Property> {
        vec![
            ("Kind", Value::Text(self.kind.clone())),
            ("Interface", Value::Text(self.interface.clone())),
            ("Label", Value::Text(self.label.clone())),
            ("Peers", Value::Flags(self.peers.clone())),
            ("Sent", Value::Number(self.sent)),
            ("Received", Value::Number(self.received)),
            ("Rejected", Value::Number(self.rejected)),
        ]
    }
}

fn cluster_properties<'a>(
    snapshot: &Snapshot,
    links: impl Iterator<Item = &'a LinkId>,
) -> ClusterProperties {
    let view = &snapshot.view;
    let leader = view
        .term
        .as_ref()
        .filter(|_| view.has_leader)
        .map(|term| &term.leader);
    ClusterProperties {
        name: snapshot.cluster.to_string(),
        local_node: view.local_node.to_string(),
        state: cluster_state(view).to_owned(),
        version: snapshot.version.clone(),
        generation: view.generation.0,
        leader: leader.map(ToString::to_string).unwrap_or_default(),
        quorate: view.quorate,
        protection: protection_word(view.protection).to_owned(),
        link_trouble: snapshot.deafness.clone().unwrap_or_default(),
        nodes: view.nodes.keys().map(path::node).collect(),
        groups: view.groups.keys().map(path::group).collect(),
        links: links.copied().map(path::link).collect(),
    }
}

/// The cluster in one word: what keeps it from being `stable`, the gravest first.
fn cluster_state(view: &View) -> &'static str {
    let moving = (view.groups.values()).any(|group| {
        matches!(
            group.state,
            GroupCondition::Starting | GroupCondition::Stopping
        )
    });
    if view.phase == Phase::Init {
        "starting"
    } else if !view.quorate {
        "no-quorum"
    } else if !view.has_leader {
        "no-leader"
    } else if view.phase == Phase::Up {
        "starting"
    } else if moving {
        "transition"
    } else {
        "stable"
    }
}

fn protection_word(protection: Protection) -> &'static str {
    match protection {
        Protection::Standalone => "standalone",
        Protection::Majority => "majority",
        Protection::DeadtimeOnly => "deadtime",
    }
}

fn node_properties(name: &NodeName, node: &NodeView, clock: ClockOffset) -> NodeProperties {
    NodeProperties {
        name: name.to_string(),
        state: node.state.as_str().to_owned(),
        role: if node.witness { "witness" } else { "member" }.to_owned(),
        generation: node.generation.map_or(0, |generation| generation.0),
        standby: node.standby,
        last_heard: node
            .last_heard
            .map_or(0, |point| clock.realtime_usec(point)),
        config_hash: node
            .config_hash
            .map(|hash| format!("{hash:016x}"))
            .unwrap_or_default(),
        differs: (node.differs.iter())
            .map(|section| section.as_str().to_owned())
            .collect(),
    }
}

fn group_properties(name: &GroupName, group: &GroupView, snapshot: &Snapshot) -> GroupProperties {
    let resources = snapshot.resources.get(name).into_iter().flatten();
    GroupProperties {
        name: name.to_string(),
        state: group.state.as_str().to_owned(),
        owner: group
            .owner
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        since: snapshot.clock.realtime_usec(group.since),
        reason: group.reason.clone(),
        local_state: local_state_word(group.local).to_owned(),
        preferred: group.preferred.iter().map(ToString::to_string).collect(),
        resources: resources
            .map(|it| (it.id.clone(), it.kind.to_owned(), it.state.to_owned()))
            .collect(),
        failures: (group.failures.iter())
            .map(|(node, count)| (node.to_string(), *count))
            .collect(),
    }
}

fn local_state_word(state: GroupState) -> &'static str {
    match state {
        GroupState::Stopped => "stopped",
        GroupState::Starting => "starting",
        GroupState::Started => "started",
        GroupState::Stopping => "stopping",
        GroupState::Blocked => "blocked",
    }
}

fn link_properties(link: &LinkSnapshot) -> LinkProperties {
    LinkProperties {
        kind: link.kind.to_owned(),
        interface: link.interface.clone().unwrap_or_default(),
        label: link.label.clone(),
        peers: link
            .peers
            .iter()
            .map(|(node, up)| (node.to_string(), *up))
            .collect(),
        sent: link.sent,
        received: link.received,
        rejected: link.rejected,
    }
}

#[cfg(test)]
pub(crate) mod tests;
