//! What the core shows of itself: plain data for the bus, the client and the status line.

use crate::core::Core;
use crate::core::event::Section;
use crate::core::group::LocalGroup;
use crate::core::peer::Contact;
use crate::core::settings::Policy;
use crate::core::time::Instant;
use crate::ids::{Generation, GroupName, LinkId, NodeName, Term};
use crate::wire::status::{Fitness, GroupReport, GroupState, Phase};
use std::collections::{BTreeMap, BTreeSet};

/// The cluster as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// This node.
    pub local_node: NodeName,
    /// This life.
    pub generation: Generation,
    /// How far this life has come.
    pub phase: Phase,
    /// The current term; its leader counts as such only if `has_leader`.
    pub term: Option<Term>,
    /// Whether the leader of `term` is in contact and elected, as far as this node can tell.
    pub has_leader: bool,
    /// Whether this node may run groups now.
    pub quorate: bool,
    /// What keeps two nodes from running the same group.
    pub protection: Protection,
    /// All nodes of the configuration, this one too.
    pub nodes: BTreeMap<NodeName, NodeView>,
    /// All groups of the configuration.
    pub groups: BTreeMap<GroupName, GroupView>,
}

/// What keeps two nodes from running the same group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// There is only one node.
    Standalone,
    /// A majority must hear whoever runs a group.
    Majority,
    /// Silence for deadtime is taken as death: a partition can lead to two owners until it heals.
    DeadtimeOnly,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// As it is now.
    pub state: NodeState,
    /// Its newest life, if one was ever heard.
    pub generation: Option<Generation>,
    /// Asked to run nothing.
    pub standby: bool,
    /// Digest of its configuration, if it was ever heard.
    pub config_hash: Option<u64>,
    /// In what its configuration differs from ours.
    pub differs: BTreeSet<Section>,
    /// When it was last heard, if ever; the present for this node.
    pub last_heard: Option<Instant>,
    /// On which links it is heard.
    pub links: BTreeMap<LinkId, bool>,
    /// Votes only.
    pub witness: bool,
}

/// State of a node as people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// Not heard since this node started.
    Unknown,
    /// Started a moment ago.
    Init,
    /// In contact, not yet a member.
    Up,
    /// A member that follows the plan.
    Active,
    /// Handing over its groups.
    Leaving,
    /// Left in good order.
    Gone,
    /// Silent for deadtime.
    Dead,
}

impl NodeState {
    /// The word for it, on the bus and in the client.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Init => "init",
            Self::Up => "up",
            Self::Active => "active",
            Self::Leaving => "leaving",
            Self::Gone => "gone",
            Self::Dead => "dead",
        }
    }
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// As it is now, over all nodes.
    pub state: GroupCondition,
    /// Who runs it, or is starting or stopping it.
    pub owner: Option<NodeName>,
    /// Since when its state and owner are as they are.
    pub since: Instant,
    /// Why it is where it is, in a few words.
    pub reason: String,
    /// Nodes that may run it, preferred first.
    pub preferred: Vec<NodeName>,
    /// State on this node.
    pub local: GroupState,
    /// How often it failed, by node.
    pub failures: BTreeMap<NodeName, u32>,
}

/// State of a group as people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupCondition {
    /// Runs nowhere.
    Stopped,
    /// Being started.
    Starting,
    /// Runs.
    Started,
    /// Being stopped.
    Stopping,
    /// Runs nowhere, since it failed wherever it may run.
    Failed,
    /// A stop failed.
    Blocked,
}

impl GroupCondition {
    /// The word for it, on the bus and in the client.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
            Self::Blocked => "blocked",
        }
    }
}

/// What is remembered of a group between turns, to tell since when it is as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watched {
    state: GroupCondition,
    owner: Option<NodeName>,
    since: Instant,
    /// The node that had it last.
    pub(super) last_owner: Option<NodeName>,
}

impl Core {
    /// The cluster as this node sees it at `now`.
    pub fn view(&self, now: Instant) -> View {
        View {
            local_node: self.settings.local.clone(),
            generation: self.generation,
            phase: self.phase,
            term: self.term.clone(),
            has_leader: self.leader_counts(),
            quorate: self.lease.holds(now),
            protection: self.protection(),
            nodes: self
                .settings
                .nodes
                .keys()
                .map(|n| (n.clone(), self.node_view(n, now)))
                .collect(),
            groups: self
                .settings
                .groups
                .keys()
                .map(|g| (g.clone(), self.group_view(g)))
                .collect(),
        }
    }

    fn protection(&self) -> Protection {
        match self.settings.policy {
            _ if self.settings.standalone() => Protection::Standalone,
            Policy::Majority => Protection::Majority,
            Policy::Ignore => Protection::DeadtimeOnly,
        }
    }

    fn node_view(&self, name: &NodeName, now: Instant) -> NodeView {
        let witness = self.settings.nodes.get(name).is_some_and(|n| n.witness);
        let Some(peer) = self.peers.get(name) else {
            return NodeView {
                state: state_of(self.phase, self.leaving.is_some()),
                generation: Some(self.generation),
                standby: self.standby,
                config_hash: Some(self.settings.config_hash),
                differs: BTreeSet::new(),
                last_heard: Some(now),
                links: BTreeMap::new(),
                witness,
            };
        };
        let status = peer.status.as_deref();
        let state = match (&peer.contact, status) {
            (Contact::Unheard, _) | (Contact::Alive, None) => NodeState::Unknown,
            (Contact::Dead(death), Some(s)) if death.heard_again => {
                state_of(s.phase, s.report.leaving)
            }
            (Contact::Dead(_), _) => NodeState::Dead,
            (Contact::Left(_), _) => NodeState::Gone,
            (Contact::Alive, Some(s)) => state_of(s.phase, s.report.leaving),
        };
        NodeView {
            state,
            generation: peer.newest_generation(),
            standby: status.is_some_and(|s| s.report.standby),
            config_hash: status.map(|s| s.config_hash),
            differs: status.map(|s| self.differences(s)).unwrap_or_default(),
            last_heard: peer.last_heard,
            links: peer.links.iter().map(|(id, link)| (*id, link.up)).collect(),
            witness,
        }
    }

    fn group_view(&self, name: &GroupName) -> GroupView {
        let (state, owner) = self.condition(name);
        let since = self.watched.get(name).map_or(self.started, |w| w.since);
        let preferred = self
            .settings
            .groups
            .get(name)
            .map(|g| g.nodes.clone())
            .unwrap_or_default();
        GroupView {
            state,
            reason: self.reason(name, state, owner.as_ref(), &preferred),
            owner,
            since,
            preferred,
            local: self
                .groups
                .get(name)
                .map(LocalGroup::state)
                .unwrap_or_default(),
            failures: self
                .reports_of(name)
                .filter(|(_, r)| r.failures > 0)
                .map(|(n, r)| (n.clone(), r.failures))
                .collect(),
        }
    }

    /// What is known of a group, node by node; nothing of nodes that are dead or gone.
    fn reports_of<'a>(
        &'a self,
        name: &'a GroupName,
    ) -> impl Iterator<Item = (&'a NodeName, GroupReport)> {
        let local = self
            .groups
            .get(name)
            .map(|g| (&self.settings.local, g.report(true)));
        let heard = self.peers.iter().filter(|(_, p)| match &p.contact {
            Contact::Alive => true,
            Contact::Dead(death) => death.heard_again,
            Contact::Unheard | Contact::Left(_) => false,
        });
        let peers = heard.filter_map(move |(node, peer)| {
            peer.current()?
                .report
                .groups
                .get(name)
                .map(|report| (node, *report))
        });
        local.into_iter().chain(peers)
    }

    /// State over all nodes, and who has it: what counts most comes first.
    fn condition(&self, name: &GroupName) -> (GroupCondition, Option<NodeName>) {
        let ranks = [
            (GroupState::Started, GroupCondition::Started),
            (GroupState::Blocked, GroupCondition::Blocked),
            (GroupState::Starting, GroupCondition::Starting),
            (GroupState::Stopping, GroupCondition::Stopping),
        ];
        let reports: BTreeMap<_, _> = self.reports_of(name).collect();
        for (state, condition) in ranks {
            let mut holders = reports
                .iter()
                .filter(|(_, r)| r.state == state)
                .map(|(n, _)| (*n).clone());
            let planned = self
                .planned_owner(name)
                .filter(|n| reports.get(n).is_some_and(|r| r.state == state));
            if let Some(owner) = planned.cloned().or_else(|| holders.next()) {
                return (condition, Some(owner));
            }
        }
        if let Some((_, node)) = self
            .blocked_elsewhere
            .iter()
            .find(|(group, _)| group == name)
        {
            return (GroupCondition::Blocked, Some(node.clone()));
        }
        let unfit = reports.values().any(|r| r.fitness == Fitness::Unfit);
        let failed = unfit && self.planned_owner(name).is_none();
        (
            if failed {
                GroupCondition::Failed
            } else {
                GroupCondition::Stopped
            },
            None,
        )
    }

    fn reason(
        &self,
        name: &GroupName,
        state: GroupCondition,
        owner: Option<&NodeName>,
        preferred: &[NodeName],
    ) -> String {
        let planned = self
            .leadership
            .as_ref()
            .filter(|_| self.elected())
            .and_then(|l| l.reason(name));
        if let Some(reason) = planned {
            return reason.to_owned();
        }
        let pinned = self.reports_of(name).any(|(_, r)| r.pinned);
        let words = match (state, owner) {
            (GroupCondition::Blocked, _) => "a stop has failed",
            (GroupCondition::Failed, _) => "failed wherever it may run",
            (_, Some(_)) if pinned => "a person moved it there",
            (_, Some(owner)) if preferred.first() == Some(owner) => "preferred node",
            (_, Some(_)) => "first node that can run it",
            (_, None) if !self.lease.holds(self.now) => "this node has no quorum",
            (_, None) if !self.leader_counts() => "no leader yet",
            (_, None) => "the leader has not placed it",
        };
        words.to_owned()
    }

    /// Notes what has changed since the last turn, for `since` and for the word of a take-over.
    pub(super) fn watch_groups(&mut self) {
        let names: Vec<GroupName> = self.settings.groups.keys().cloned().collect();
        for name in names {
            let (state, owner) = self.condition(&name);
            let before = self.watched.get(&name);
            if before.is_some_and(|w| w.state == state && w.owner == owner) {
                continue;
            }
            let last_owner = owner
                .clone()
                .or_else(|| before.and_then(|w| w.last_owner.clone()));
            self.watched.insert(
                name,
                Watched {
                    state,
                    owner,
                    since: self.now,
                    last_owner,
                },
            );
        }
    }
}

fn state_of(phase: Phase, leaving: bool) -> NodeState {
    match phase {
        Phase::Gone => NodeState::Gone,
        Phase::Init | Phase::Up | Phase::Active if leaving => NodeState::Leaving,
        Phase::Init => NodeState::Init,
        Phase::Up => NodeState::Up,
        Phase::Active => NodeState::Active,
    }
}
