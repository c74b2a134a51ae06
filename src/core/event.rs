//! What the cluster tells people: one closed list, each with what the journal, the bus and the client need.
//!
//! Identifiers, levels and texts are in `journal`; this is only what happened.

use crate::ids::{Generation, GroupName, LinkId, NodeName, Term};
use crate::wire::status::Phase;
use std::collections::BTreeSet;
use std::time::Duration;

/// What of two nodes' configurations can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// The members or their roles.
    Nodes,
    /// What it takes to run groups.
    Policy,
    /// Deadtime or keepalive.
    Timing,
    /// The groups or the nodes that may run them.
    Groups,
    /// Something else that must be equal.
    Rest,
}

impl Section {
    /// As it stands in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nodes => "[[node]]",
            Self::Policy => "[quorum]",
            Self::Timing => "[timing]",
            Self::Groups => "[[group]]",
            Self::Rest => "the rest",
        }
    }
}

/// One thing that people should know about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The daemon takes part now, in this life.
    Starting {
        /// Of this life.
        generation: Generation,
    },
    /// Own phase changed.
    LocalStatus {
        /// The new one.
        phase: Phase,
    },
    /// Groups rest on deadtime alone: no quorum, no fencing (told once at start).
    SharedDataNotProtected,
    /// A peer is heard on a link, for the first time or again.
    LinkUp {
        /// Whom.
        peer: NodeName,
        /// Where.
        link: LinkId,
    },
    /// A peer has not been heard on a link for deadtime.
    LinkDead {
        /// Whom.
        peer: NodeName,
        /// Where.
        link: LinkId,
    },
    /// A peer's phase changed.
    PeerStatus {
        /// Whose.
        peer: NodeName,
        /// The new one.
        phase: Phase,
    },
    /// The gap between two heartbeats was longer than warntime.
    LateHeartbeat {
        /// Whose.
        peer: NodeName,
        /// The gap.
        interval: Duration,
        /// It was also longer than deadtime.
        beyond_deadtime: bool,
    },
    /// A peer was silent on all links for deadtime.
    PeerDead {
        /// Who.
        peer: NodeName,
        /// The life that ended, if one was ever heard.
        generation: Option<Generation>,
    },
    /// A peer that is still heard is promised nothing any more, and counts as dead: it does not hear this node, or the
    /// leader is out of contact with it.
    PeerGivenUp {
        /// Who.
        peer: NodeName,
    },
    /// A peer is back with a new life.
    PeerRestarted {
        /// Who.
        peer: NodeName,
        /// The new life.
        generation: Generation,
    },
    /// A peer that was dead is back in the same life: both sides may have run the same groups.
    PeerReturnedAfterPartition {
        /// Who.
        peer: NodeName,
        /// Its life, unchanged.
        generation: Generation,
        /// How long it was not heard.
        silence: Duration,
    },
    /// A peer has stopped its groups and left.
    PeerLeft {
        /// Who.
        peer: NodeName,
    },
    /// We hear a peer that does not hear us.
    NotHeardBy {
        /// Who does not hear us.
        peer: NodeName,
    },
    /// A peer's configuration differs from ours in what must be equal.
    ConfigDiffers {
        /// Whose.
        peer: NodeName,
        /// In what.
        sections: BTreeSet<Section>,
        /// So much that neither counts on the other.
        apart: bool,
    },
    /// A peer that had promised not to has declared this node dead: the clock of this machine stood still with it.
    ClockStoodStill {
        /// Which peer.
        peer: NodeName,
    },
    /// A peer's daemon is being restarted and leaves its groups running.
    PeerReturning {
        /// Which one.
        peer: NodeName,
    },
    /// This daemon is being restarted and leaves its groups running.
    RestartStarted,
    /// A peer runs with a generation of ours that is newer than this life: our state was lost or copied.
    GenerationStale {
        /// Who remembers it.
        peer: NodeName,
        /// What it remembers.
        remembered: Generation,
    },
    /// Who leads has changed.
    Leader {
        /// The new term; none while there is no leader.
        term: Option<Term>,
    },
    /// The cluster has a majority again, as far as this node can tell.
    QuorumGained,
    /// It has not.
    QuorumLost,
    /// This node's lease has run out while it ran groups: it stops them at once.
    LeaseLost,
    /// This node stood still for longer than its lease.
    StoodStill {
        /// For how long.
        pause: Duration,
    },
    /// A node's groups are being taken over.
    TakingOver {
        /// Whose.
        peer: NodeName,
        /// Which group.
        group: GroupName,
    },
    /// A group that the daemon's earlier life has left running goes on here.
    GroupAdopted {
        /// Which group.
        group: GroupName,
    },
    /// A start of a group begins here.
    GroupStarting {
        /// Which group.
        group: GroupName,
    },
    /// A group runs here now.
    GroupStarted {
        /// Which group.
        group: GroupName,
        /// How long the start took.
        duration: Duration,
    },
    /// A stop of a group begins here.
    GroupStopping {
        /// Which group.
        group: GroupName,
    },
    /// A group is stopped here now.
    GroupStopped {
        /// Which group.
        group: GroupName,
        /// How long the stop took.
        duration: Duration,
    },
    /// A resource has failed and is started again here.
    ResourceRestarting {
        /// Its group.
        group: GroupName,
        /// Which.
        resource: String,
        /// What the driver said.
        reason: String,
        /// The how manieth time within its window, from 1.
        attempt: u32,
        /// How often that is done before the group moves.
        limit: u32,
    },
    /// A resource has failed, and the group goes on without it, as configured.
    ResourceFailureIgnored {
        /// Its group.
        group: GroupName,
        /// Which.
        resource: String,
        /// What the driver said.
        reason: String,
    },
    /// A resource runs here, though its group does not: somebody has started it.
    ResourceAppeared {
        /// Its group.
        group: GroupName,
        /// Which.
        resource: String,
    },
    /// A group has failed here at every trial: only a person lets it run here again.
    GroupGivenUp {
        /// Which group.
        group: GroupName,
    },
    /// A group that had failed here may run here again, where no other node is left.
    FailuresExpired {
        /// Which group.
        group: GroupName,
    },
    /// A group did not start here, or failed while it ran and is not started here again.
    GroupFailed {
        /// Which group.
        group: GroupName,
        /// Which of its resources.
        resource: String,
        /// What the driver said.
        reason: String,
    },
    /// A stop failed here: the group runs nowhere else until a person has cleared it.
    GroupBlocked {
        /// Which group.
        group: GroupName,
        /// Which of its resources.
        resource: String,
        /// What the driver said.
        reason: String,
    },
    /// A driver survived something that people should know about; the core never says so itself.
    ResourceNoted {
        /// Which group.
        group: GroupName,
        /// Which of its resources.
        resource: String,
        /// What happened and what was done about it.
        text: String,
    },
    /// No member can run a group.
    GroupHasNoNode {
        /// Which group.
        group: GroupName,
    },
    /// Two nodes ran a group at the same time; this one goes on with it.
    DoubleOwner {
        /// Which group.
        group: GroupName,
        /// Who keeps it.
        kept_by: NodeName,
        /// Who must stop it.
        stopped_on: NodeName,
    },
    /// The leader gave a group a new owner.
    GroupPlanned {
        /// Which group.
        group: GroupName,
        /// Its owner; none while it must run nowhere.
        owner: Option<NodeName>,
        /// Why there.
        reason: &'static str,
    },
    /// A node was asked to run nothing.
    StandbyEntered {
        /// Which node.
        node: NodeName,
    },
    /// A node takes part again.
    StandbyLeft {
        /// Which node.
        node: NodeName,
    },
    /// A person's move of a group was accepted.
    MoveRequested {
        /// Which group.
        group: GroupName,
        /// Where to.
        node: NodeName,
    },
    /// The daemon hands over its groups to leave.
    ShutdownStarted,
    /// Everything is stopped here.
    ShutdownComplete,
}
