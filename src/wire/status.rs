//! What a node says in each heartbeat: its whole state, so that any one message can stand for all before it.
//!
//! The types only; `codec` maps them to Heartbeat's fields and back, and `brief` leaves out of a message what the
//! receiver has already.

use crate::ids::{
    ClusterName, Generation, GroupName, MessageId, NodeName, PlanVersion, RequestId, Sequence, Term,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Cluster of the sender.
    pub cluster: ClusterName,
    /// Sender.
    pub node: NodeName,
    /// The sender's life.
    pub generation: Generation,
    /// Position among the messages of that life.
    pub sequence: Sequence,
    /// How far the sender's life has come (Heartbeat's `st`).
    pub phase: Phase,
    /// The sender's own deadtime: how long each of its acknowledgements binds it (Heartbeat's `dt`).
    pub deadtime: Duration,
    /// Newest heartbeat that the sender heard from each peer.
    pub heard: BTreeMap<NodeName, Heard>,
    /// Peers whose last message did not carry their state, and who shall say it.
    #[serde(skip)]
    pub asks: BTreeSet<NodeName>,
    /// The term that the sender follows, with the leader it votes for; none before the first election.
    pub term: Option<Term>,
    /// The latest term that the sender has ever followed in this life: it follows no earlier one again.
    pub floor: Option<Term>,
    /// Whether the sender is in contact with enough voters to lead.
    pub electable: bool,
    /// How many other nodes the sender hears and is heard by.
    #[serde(default)]
    pub reach: u32,
    /// Whether the sender follows a leader that is there: it elects nobody else meanwhile.
    #[serde(default)]
    pub led: bool,
    /// Whether the sender's daemon is being restarted and leaves its groups running.
    pub returning: bool,
    /// Whether the sender's vote counts: false while it may have forgotten promises of an earlier life.
    pub voting: bool,
    /// What the sender runs, made under `term` and `report.version`.
    pub report: Report,
    /// The leader's decisions; only the leader of `term` sends one.
    #[serde(skip)]
    pub plan: Option<Plan>,
    /// A person's request that the sender wants the leader to carry out, until it is answered.
    #[serde(skip)]
    pub request: Option<ForwardedRequest>,
    /// Digest of the part of the configuration that must be equal on all nodes.
    pub config_hash: u64,
    /// What of the sender's configuration votes and promises rest on.
    #[serde(default)]
    pub profile: Profile,
}

/// What of a node's configuration its votes and promises rest on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Profile {
    /// What it takes to run groups.
    pub policy: Policy,
    /// Between heartbeats: how long an emergency stop may take at least.
    pub keepalive: Duration,
    /// All members, each with whether it only votes.
    pub members: BTreeMap<NodeName, bool>,
    /// Digest of all groups with the nodes that may run them and their stop margins.
    pub groups: u64,
    /// The longest time that an emergency stop of a group may take.
    pub stop_margin: Duration,
}

impl Profile {
    /// Whether votes and promises pass between nodes with these two: majorities of lists that differ by more than one
    /// member need not have a node in common.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.policy == other.policy
            && (self.members == other.members || self.is_one_step_from(other))
    }

    /// Whether the lists of members differ by one at most, and in no role.
    fn is_one_step_from(&self, other: &Self) -> bool {
        let names: BTreeSet<_> = self.members.keys().chain(other.members.keys()).collect();
        let common = names.iter().filter_map(|name| {
            let (one, another) = (self.members.get(*name)?, other.members.get(*name)?);
            Some(one == another)
        });
        let common: Vec<bool> = common.collect();
        names.len() <= common.len() + 1 && common.into_iter().all(|same| same)
    }

    /// Votes that make a majority of these members.
    pub fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }
}

/// What it takes to run groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Policy {
    /// A majority of all votes must hear this node.
    #[default]
    Majority,
    /// Nothing: each partition runs what it can (Heartbeat's rule).
    Ignore,
}

/// How many messages a daemon may have sent that whoever speaks for it after its death does not know of.
const UNKNOWN_MESSAGES_MAX: u64 = 1000;

/// What is said for a daemon that has died, once everything that it ran is stopped but `unreleased`: the last words of
/// its life.
pub fn last_words(newest: Status, unreleased: &BTreeSet<GroupName>) -> Status {
    let blocked = GroupReport {
        state: GroupState::Blocked,
        ..GroupReport::default()
    };
    let mut claims = newest.report.blocked;
    claims.retain(|(_, node)| *node != newest.node);
    claims.extend(
        unreleased
            .iter()
            .map(|group| (group.clone(), newest.node.clone())),
    );
    let heard = newest.heard.into_iter().map(|(peer, heard)| {
        let promise = false;
        (peer, Heard { promise, ..heard })
    });
    Status {
        sequence: Sequence(newest.sequence.0.saturating_add(UNKNOWN_MESSAGES_MAX)),
        phase: Phase::Gone,
        heard: heard.collect(),
        asks: BTreeSet::new(),
        voting: false,
        electable: false,
        returning: false,
        report: Report {
            version: newest.report.version,
            groups: unreleased
                .iter()
                .map(|group| (group.clone(), blocked))
                .collect(),
            blocked: claims,
            ..Report::default()
        },
        plan: None,
        request: None,
        ..newest
    }
}

/// How far a node's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Just started: bound by promises that it may have forgotten.
    Init,
    /// Hears and is heard, follows no plan yet.
    Up,
    /// Follows a plan.
    Active,
    /// Has stopped everything and leaves: the last words of this life.
    Gone,
}

/// The newest heartbeat of one peer that a node has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The peer's life.
    pub generation: Generation,
    /// Position in it.
    pub sequence: Sequence,
    /// Whether this is also the promise not to take part in declaring the peer dead for the sender's deadtime.
    pub promise: bool,
}

/// What a node runs and knows, for its leader.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The plan of the current term that the node has followed up to now.
    pub version: PlanVersion,
    /// The groups that it knows and may run, and any other of which something runs or has failed there.
    pub groups: BTreeMap<GroupName, GroupReport>,
    /// Peers that it has declared dead and acknowledges no more.
    pub dead: BTreeMap<NodeName, DeadReport>,
    /// A person asked this node to run nothing.
    pub standby: bool,
    /// The node is about to leave and must hand over its groups.
    pub leaving: bool,
    /// Groups whose stop has failed, with the node where they may still run.
    pub blocked: BTreeSet<(GroupName, NodeName)>,
    /// Those of nodes that were away when a person cleared them: what others remember of them is void.
    #[serde(default)]
    pub cleared: BTreeSet<(GroupName, NodeName)>,
    /// Up to which message of each of these nodes that is known.
    #[serde(default)]
    pub lives: BTreeMap<NodeName, MessageId>,
}

/// Up to which message of a node claims about it hold that are made by who knows so much, and has heard this from it.
pub fn claims_up_to(
    node: &NodeName,
    lives: &BTreeMap<NodeName, MessageId>,
    newest: Option<Heard>,
) -> MessageId {
    // A claim of unknown age cannot be void.
    let unknown = (Generation(u64::MAX), Sequence(u64::MAX));
    let known = lives.get(node).copied().unwrap_or(unknown);
    let newest = newest.map(|heard| (heard.generation, heard.sequence));
    newest
        .filter(|it| it.0 == known.0)
        .map_or(known, |it| it.max(known))
}

impl Report {
    /// Whether a claim that a group is blocked on a node, made up to some message of that node, is known to be void:
    /// whoever knows of a later life, or has seen it cleared after that message, does not make it any more.
    pub fn voids(&self, claim: &(GroupName, NodeName), claimed_at: MessageId) -> bool {
        let knows_better = |known: &MessageId| {
            claimed_at.0 < known.0 || (claimed_at <= *known && self.cleared.contains(claim))
        };
        !self.blocked.contains(claim) && self.lives.get(&claim.1).is_some_and(knows_better)
    }
}

/// One group on the reporting node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GroupReport {
    /// Its state there.
    pub state: GroupState,
    /// How often it failed there; failures are cleared by a person, or expire.
    pub failures: u32,
    /// Whether it may run there after that.
    pub fitness: Fitness,
    /// It runs there by a person's wish, which failback respects.
    pub pinned: bool,
}

/// Whether a node may run a group, after the failures that it had there.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize,
)]
pub enum Fitness {
    /// Yes.
    #[default]
    Fit,
    /// Only where no other node can: it has failed there before.
    Doubtful,
    /// No: it has failed there.
    Unfit,
}

/// State of a group on one node.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize,
)]
pub enum GroupState {
    /// Nothing of it runs there.
    #[default]
    Stopped,
    /// Resources are being started, left to right.
    Starting,
    /// All its resources run.
    Started,
    /// Resources are being stopped, right to left.
    Stopping,
    /// A stop failed: it may still run there, and nobody else may run it.
    Blocked,
}

/// How one node sees a peer that it declared dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadReport {
    /// The life that was declared dead.
    pub generation: Generation,
    /// It is heard again, and waits for readmission.
    pub heard_again: bool,
}

/// The decisions of a leader, valid in its term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Counts up within the term, from 1.
    pub version: PlanVersion,
    /// The members, each with the version that admitted it last.
    pub members: BTreeMap<NodeName, PlanVersion>,
    /// What each group shall do. Nothing is decided about a group that is not listed: where it runs it goes on, and
    /// nobody starts it.
    pub groups: BTreeMap<GroupName, Assignment>,
    /// Nodes that the leader is out of contact with: whoever follows it promises them nothing any more.
    pub expelled: BTreeSet<NodeName>,
    /// Answers to the newest request of each node.
    pub answers: BTreeMap<NodeName, Answer>,
}

/// Where a group shall run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// The node that runs it may go on, but must not start it: others may not have stopped it yet.
    Keep(NodeName),
    /// The node shall run it; every other node is known to have stopped it.
    Run {
        /// The owner.
        node: NodeName,
        /// By a person's wish, which failback respects.
        pinned: bool,
    },
    /// Whoever runs it shall stop it.
    Nobody,
}

/// A person's request on its way to the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardedRequest {
    /// Counts up within the sender's generation, from 1.
    pub id: RequestId,
    /// What the person asked for.
    pub wish: Wish,
}

/// What a person can ask of the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Run `group` on `node`.
    Move {
        /// Which group.
        group: GroupName,
        /// Its new owner.
        node: NodeName,
    },
    /// Every node that hears this forgets failures and a failed stop of `group`.
    Clear {
        /// Which group.
        group: GroupName,
    },
}

/// The leader's answer to a forwarded request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The asker's life.
    pub generation: Generation,
    /// The request of that life.
    pub id: RequestId,
    /// Accepted and planned, or why not.
    pub refusal: Option<Refusal>,
}

/// Why a person's request was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The configuration has no such group.
    #[error("there is no group \"{0}\" in this cluster; `hactl status` lists the groups")]
    NoSuchGroup(GroupName),
    /// The configuration has no such node.
    #[error("there is no node \"{0}\" in this cluster; `hactl status` lists the nodes")]
    NoSuchNode(NodeName),
    /// The group's `nodes` do not list the node, or it is a witness.
    #[error(
        "group \"{group}\" may not run on \"{node}\": its `nodes` do not list it, or it is a witness"
    )]
    NotAllowedThere {
        /// Which group.
        group: GroupName,
        /// Where it was to run.
        node: NodeName,
    },
    /// The node is dead, leaving or not yet a member.
    #[error(
        "node \"{0}\" is not an active member now; wait until `hactl status` shows it as active"
    )]
    NodeNotActive(NodeName),
    /// The node is in standby.
    #[error("node \"{0}\" is in standby; run `hactl online` there first")]
    NodeInStandby(NodeName),
    /// The group failed on the node before.
    #[error(
        "group \"{group}\" has failed on \"{node}\"; repair it and run `hactl clear {group}` first"
    )]
    FailedThere {
        /// Which group.
        group: GroupName,
        /// Where it failed.
        node: NodeName,
    },
    /// A stop failed, so the group may run in two places if it were started elsewhere.
    #[error(
        "group \"{group}\" is blocked: stopping it on \"{node}\" failed; stop it there by hand, then run `hactl clear {group}`"
    )]
    Blocked {
        /// Which group.
        group: GroupName,
        /// Where it may still run.
        node: NodeName,
    },
    /// No leader within the time allowed: no quorum, or the network is cut.
    #[error(
        "no leader answered: this node has no quorum or is cut off; `hactl status` shows whom it hears"
    )]
    NoLeader,
    /// No other node could take the groups.
    #[error(
        "no other node can take group \"{0}\", so it would stop; stop ha-node instead if that is what you want"
    )]
    NowhereToGo(GroupName),
    /// The group was started at the target and failed, and went elsewhere.
    #[error(
        "group \"{group}\" did not start on \"{node}\": it runs where it could; see `journalctl -u ha-node` on \"{node}\""
    )]
    StartFailed {
        /// Which group.
        group: GroupName,
        /// Where it failed.
        node: NodeName,
    },
    /// The leader had accepted it, but could not carry it out.
    #[error(
        "group \"{group}\" did not move to \"{node}\": that node, or the one that runs the group, was out of reach meanwhile; try again when `hactl status` shows both as active"
    )]
    Overtaken {
        /// Which group.
        group: GroupName,
        /// Where it was to run.
        node: NodeName,
    },
    /// The cluster did not get there in time; it goes on trying.
    #[error(
        "not finished in time; the cluster goes on with it, `hactl status` shows how far it is"
    )]
    TimedOut,
    /// It holds now, but would not survive a restart of the daemon.
    #[error(
        "it is done, but could not be stored in /var/lib/ha-node: a restart of ha-node will not know of it; make room on the disk and ask again"
    )]
    NotStored,
    /// The daemon is stopping.
    #[error("this node is stopping")]
    ShuttingDown,
    /// Too many requests wait already.
    #[error("too many requests are waiting on this node; try again in a moment")]
    Busy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_void_where_a_later_life_or_a_person_has_ended_it_and_nobody_there_makes_it() {
        let node = NodeName::new("a").unwrap();
        let claim = (GroupName::new("g").unwrap(), node.clone());
        let at = |life, sequence| (Generation(life), Sequence(sequence));
        let knows = |life| Report {
            lives: [(node.clone(), at(life, 7))].into(),
            ..Report::default()
        };
        assert!(!Report::default().voids(&claim, at(5, 7)));
        assert!(!knows(5).voids(&claim, at(5, 7)), "of the same life");
        assert!(knows(6).voids(&claim, at(5, 7)), "of a life that is past");
        let cleared = Report {
            cleared: [claim.clone()].into(),
            ..knows(5)
        };
        assert!(cleared.voids(&claim, at(5, 7)));
        assert!(!cleared.voids(&claim, at(5, 8)), "blocked anew since");
        assert!(!cleared.voids(&claim, at(6, 7)), "of a later life");
        let still = Report {
            blocked: [claim.clone()].into(),
            ..knows(6)
        };
        assert!(
            !still.voids(&claim, at(5, 7)),
            "the later life says so, too"
        );
    }
}
