//! The status as `hactl` prints it: made of the objects on the bus, serialized as the contract's JSON.

use crate::dbus::model::{GROUP, LINK, NODE};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use zbus::OwnedVariant;

/// The contract's object; what it does not name comes after what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "each field is the JSON key and the D-Bus property of that name"
)]
pub struct Status {
    pub cluster: String,
    pub local_node: String,
    pub leader: Option<String>,
    pub quorate: bool,
    pub maintenance: bool,
    pub nodes: Vec<NodeStatus>,
    pub groups: Vec<GroupStatus>,
    pub state: String,
    pub version: String,
    pub generation: u64,
    pub protection: String,
    pub link_trouble: String,
    pub links: Vec<LinkStatus>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "each field is the JSON key and the D-Bus property of that name"
)]
pub struct NodeStatus {
    pub name: String,
    pub state: String,
    pub role: String,
    pub generation: u64,
    pub standby: bool,
    /// `up` or `dead` by the link's label; empty for the local node.
    pub links: BTreeMap<String, &'static str>,
    /// Microseconds since 1970; none if never.
    pub last_heard_usec: Option<u64>,
    pub config_hash: String,
    /// Sections of the configuration that differ from the local node's.
    pub differs: Vec<String>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "each field is the JSON key and the D-Bus property of that name"
)]
pub struct GroupStatus {
    pub name: String,
    pub state: String,
    pub owner: Option<String>,
    pub preferred: Vec<String>,
    pub resources: Vec<ResourceStatus>,
    pub failures: BTreeMap<String, u32>,
    /// Microseconds since 1970.
    pub since_usec: u64,
    pub reason: String,
    pub local_state: String,
}

/// One resource, on the local node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "each field is the JSON key and the D-Bus property of that name"
)]
pub struct ResourceStatus {
    pub id: String,
    pub kind: String,
    pub state: String,
}

/// One link of the local node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "each field is the JSON key and the D-Bus property of that name"
)]
pub struct LinkStatus {
    pub kind: String,
    pub interface: String,
    pub label: String,
    pub peers: BTreeMap<String, bool>,
    pub sent: u64,
    pub received: u64,
    pub rejected: u64,
}

/// The properties of one object; what is missing or of another type reads as empty, so that this client
/// also serves next to an older or newer daemon.
#[derive(Debug, Default)]
pub struct Properties(pub HashMap<String, OwnedVariant>);

impl Properties {
    fn read<T: TryFrom<OwnedVariant> + Default>(&self, name: &str) -> T {
        (self.0.get(name))
            .and_then(|value| T::try_from(value.try_clone().ok()?).ok())
            .unwrap_or_default()
    }

    fn read_name(&self, name: &str) -> Option<String> {
        Some(self.read::<String>(name)).filter(|text| !text.is_empty())
    }
}

impl Status {
    /// Puts the status together from the root object and all others, each with its interface.
    pub fn from_objects(
        cluster: &Properties,
        others: impl Iterator<Item = (String, Properties)>,
    ) -> Self {
        let (mut nodes, mut groups, mut links) = (Vec::new(), Vec::new(), Vec::new());
        for (interface, properties) in others {
            match interface.as_str() {
                NODE => nodes.push(NodeStatus::new(&properties)),
                GROUP => groups.push(GroupStatus::new(&properties)),
                LINK => links.push(LinkStatus::new(&properties)),
                _ => {}
            }
        }
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        links.sort_by(|a, b| a.label.cmp(&b.label));
        for node in &mut nodes {
            node.links = links_of(&node.name, &links);
        }
        Self {
            cluster: cluster.read("Name"),
            local_node: cluster.read("LocalNode"),
            leader: cluster.read_name("Leader"),
            quorate: cluster.read("Quorate"),
            maintenance: cluster.read("Maintenance"),
            nodes,
            groups,
            state: cluster.read("State"),
            version: cluster.read("Version"),
            generation: cluster.read("Generation"),
            protection: cluster.read("Protection"),
            link_trouble: cluster.read("LinkTrouble"),
            links,
        }
    }
}

/// Of several links with the same label, the later ones carry a number.
fn links_of(node: &str, links: &[LinkStatus]) -> BTreeMap<String, &'static str> {
    let mut states = BTreeMap::new();
    for link in links {
        let Some(up) = link.peers.get(node) else {
            continue;
        };
        let mut label = link.label.clone();
        let mut number = 2;
        while states.contains_key(&label) {
            label = format!("{}#{number}", link.label);
            number += 1;
        }
        states.insert(label, if *up { "up" } else { "dead" });
    }
    states
}

impl NodeStatus {
    fn new(properties: &Properties) -> Self {
        Self {
            name: properties.read("Name"),
            state: properties.read("State"),
            role: properties.read("Role"),
            generation: properties.read("Generation"),
            standby: properties.read("Standby"),
            links: BTreeMap::new(),
            last_heard_usec: Some(properties.read("LastHeard")).filter(|usec| *usec > 0),
            config_hash: properties.read("ConfigHash"),
            differs: properties.read("Differs"),
        }
    }
}

impl GroupStatus {
    fn new(properties: &Properties) -> Self {
        let resources: Vec<(String, String, String)> = properties.read("Resources");
        let failures: HashMap<String, u32> = properties.read("Failures");
        Self {
            name: properties.read("Name"),
            state: properties.read("State"),
            owner: properties.read_name("Owner"),
            preferred: properties.read("Preferred"),
            resources: (resources.into_iter())
                .map(|(id, kind, state)| ResourceStatus { id, kind, state })
                .collect(),
            failures: failures.into_iter().collect(),
            since_usec: properties.read("Since"),
            reason: properties.read("Reason"),
            local_state: properties.read("LocalState"),
        }
    }
}

impl LinkStatus {
    fn new(properties: &Properties) -> Self {
        let peers: HashMap<String, bool> = properties.read("Peers");
        Self {
            kind: properties.read("Kind"),
            interface: properties.read("Interface"),
            label: properties.read("Label"),
            peers: peers.into_iter().collect(),
            sent: properties.read("Sent"),
            received: properties.read("Received"),
            rejected: properties.read("Rejected"),
        }
    }
}
