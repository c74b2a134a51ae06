//! What the core needs to know of the configuration, checked by whoever made it.

use crate::ids::{ClusterName, GroupName, NodeName};
pub use crate::wire::status::Policy;
use crate::wire::status::Profile;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Largest number of nodes in a cluster.
pub const NODES_MAX: usize = 32;

/// The cluster as configured, for one of its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the cluster.
    pub cluster: ClusterName,
    /// This node; one of `nodes`.
    pub local: NodeName,
    /// All members, 1 to [`NODES_MAX`].
    pub nodes: BTreeMap<NodeName, NodeSettings>,
    /// All groups.
    pub groups: BTreeMap<GroupName, GroupSettings>,
    /// What it takes to run groups.
    pub policy: Policy,
    /// Between heartbeats.
    pub keepalive: Duration,
    /// A gap that is worth a warning.
    pub warntime: Duration,
    /// Silence after which a peer is dead.
    pub deadtime: Duration,
    /// The same, from start until a peer was first heard; at least `deadtime`.
    pub initdead: Duration,
    /// Digest of all of this that must be equal on all nodes.
    pub config_hash: u64,
}

impl Settings {
    /// Votes that make a majority.
    pub fn majority(&self) -> usize {
        self.nodes.len() / 2 + 1
    }

    /// What of this votes and promises rest on.
    pub fn profile(&self) -> Profile {
        Profile {
            policy: self.policy,
            keepalive: self.keepalive,
            members: (self.nodes.iter())
                .map(|(name, node)| (name.clone(), node.witness))
                .collect(),
            groups: self.groups_digest(),
            stop_margin: (self.groups.keys())
                .map(|group| self.stop_margin(group))
                .fold(self.keepalive, Duration::max),
        }
    }

    /// FNV-1a over the names of the groups, of the nodes that may run them, and their stop margins.
    fn groups_digest(&self) -> u64 {
        let bytes = self.groups.iter().flat_map(|(name, group)| {
            let nodes = group.nodes.iter().map(NodeName::as_str);
            let names = std::iter::once(name.as_str()).chain(nodes);
            let margin = group.stop_margin.map(|margin| margin.as_millis());
            let margin = margin.into_iter().flat_map(u128::to_le_bytes);
            names.flat_map(|name| name.bytes().chain([0])).chain(margin)
        });
        bytes.fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
            (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// Whether this is a cluster of one.
    pub fn standalone(&self) -> bool {
        self.nodes.len() == 1
    }

    /// How long an emergency stop of this group may take after the end of a lease, before others may start it.
    pub fn stop_margin(&self, group: &GroupName) -> Duration {
        let own = self.groups.get(group).and_then(|group| group.stop_margin);
        own.unwrap_or(self.keepalive)
    }
}

/// One member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeSettings {
    /// Votes, never runs a group.
    pub witness: bool,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// Who may run it, preferred first; never a witness.
    pub nodes: Vec<NodeName>,
    /// Whether it returns to a preferred node that came back.
    pub auto_failback: bool,
    /// How long an emergency stop may take before what is left is killed; one keepalive if none.
    pub stop_margin: Option<Duration>,
    /// What a failure of a resource leads to, by its identifier.
    pub policies: BTreeMap<String, FailurePolicy>,
}

impl GroupSettings {
    /// What a failure of a resource leads to.
    pub fn policy(&self, resource: &str) -> FailurePolicy {
        self.policies.get(resource).copied().unwrap_or_default()
    }
}

/// Restarts here before the group moves, by default.
pub const RESTART_LIMIT: u32 = 3;

/// Largest limit of restarts.
pub const RESTART_LIMIT_MAX: u32 = 100;

/// How long a failure counts, by default.
pub const RESTART_WINDOW: Duration = Duration::from_secs(600);

/// What failures of one resource lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailurePolicy {
    /// The answer to one that ran and does not any more.
    pub reaction: Reaction,
    /// How long a failure counts.
    pub window: Duration,
}

/// The answer to a resource that ran and does not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reaction {
    /// It is started again here, at most so often (0 to [`RESTART_LIMIT_MAX`]) within the window; then the group moves.
    Restart {
        /// So often.
        limit: u32,
    },
    /// People are told, and the group goes on without it.
    Ignore,
}

impl FailurePolicy {
    /// Whether the group goes on without the resource.
    pub fn is_lenient(&self) -> bool {
        self.reaction == Reaction::Ignore
    }

    /// How often it is started again within the window.
    pub fn restarts(&self) -> u32 {
        match self.reaction {
            Reaction::Restart { limit } => limit,
            Reaction::Ignore => 0,
        }
    }
}

impl Default for FailurePolicy {
    fn default() -> Self {
        Self {
            reaction: Reaction::Restart {
                limit: RESTART_LIMIT,
            },
            window: RESTART_WINDOW,
        }
    }
}
