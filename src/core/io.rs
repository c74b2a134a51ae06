//! What goes into the core and what comes out of it.

use crate::core::event::Event;
use crate::core::failure::Failures;
use crate::core::time::Instant;
use crate::ids::{Generation, GroupName, LinkId, MessageId, NodeName, RequestId};
use crate::wire::status::{Refusal, Status};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The deadline that the core named has come, or the node had nothing else to say.
    Tick,
    /// A heartbeat that has passed authentication.
    Message {
        /// On which link it came.
        link: LinkId,
        /// What it says.
        status: Box<Status>,
    },
    /// The same without its groups, failed stops and plan: they have changed, and nobody here knows to what.
    Brief {
        /// On which link it came.
        link: LinkId,
        /// The rest of what it says.
        status: Box<Status>,
    },
    /// A driver has finished, or found on its own, something about a group.
    Group {
        /// Which group.
        group: GroupName,
        /// The order that this answers; `None` for what happened by itself.
        order: Option<RequestId>,
        /// What happened.
        outcome: GroupOutcome,
    },
    /// A person asks for something; answered by [`Output::Reply`] with the same id.
    Request {
        /// Chosen by the caller, unique in this life.
        id: RequestId,
        /// What is asked for.
        request: Request,
    },
    /// The daemon was asked to stop (SIGTERM): hand over, then leave.
    Shutdown,
    /// The same, but it is started again at once: what runs goes on.
    Restart,
    /// Whether any link of this node's own can be used; so from the start until this says otherwise.
    Links {
        /// One at least can.
        usable: bool,
    },
}

/// How an order about a group ended, or what became of a group by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupOutcome {
    /// All resources run.
    Started,
    /// A resource did not start; what had been started was stopped again.
    StartFailed {
        /// Identifier of the resource.
        resource: String,
        /// What the driver said.
        reason: String,
    },
    /// A driver did not start anything, since there was no lease; what had been started was stopped again.
    StartRefused,
    /// Nothing of the group runs here any more.
    Stopped,
    /// A resource did not stop: parts of the group may still run.
    StopFailed {
        /// Identifier of the resource.
        resource: String,
        /// What the driver said.
        reason: String,
    },
    /// A resource of a started group has ended or vanished by itself, or one that is ignored did not start. The rest
    /// still runs.
    Failed {
        /// Identifier of the resource.
        resource: String,
        /// What the driver said.
        reason: String,
    },
    /// A resource of a stopped group runs: somebody else has started it.
    Appeared {
        /// Identifier of the resource.
        resource: String,
    },
    /// What kept a resource from running here is seen to be over: a carrier is back, an interface is there again.
    Recovered {
        /// Identifier of the resource.
        resource: String,
    },
}

/// What a person can ask of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Give up groups of this node.
    Standby(Scope),
    /// Take part again.
    Online,
    /// Run a group on a given node.
    Move {
        /// Which group.
        group: GroupName,
        /// Its new owner.
        node: NodeName,
    },
    /// Forget failures and a failed stop of a group on this node; a person has repaired it.
    Clear(GroupName),
}

/// Which groups of this node a standby gives up, as Heartbeat's `hb_standby` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything, and nothing comes back before `Online`.
    All,
    /// Once: the groups that prefer this node.
    Local,
    /// Once: the groups that prefer another node.
    Foreign,
    /// Once: the groups that prefer another node (Heartbeat's name for it after a failback was held back).
    Failback,
}

/// What the core wants done, in this order.
#[derive(Debug, Clone)]
pub enum Output {
    /// Send this on all links.
    Send(Box<Status>),
    /// Start a group: left to right.
    StartGroup {
        /// Which group.
        group: GroupName,
        /// Repeated in the driver's answer.
        order: RequestId,
    },
    /// Stop one resource of a running group and all to the right of it, and start them again.
    RestartGroup {
        /// Which group.
        group: GroupName,
        /// Repeated in the driver's answer, which is that of a start.
        order: RequestId,
        /// Identifier of the resource.
        resource: String,
    },
    /// Stop a group: right to left. Also ends a start that is under way.
    StopGroup {
        /// Which group.
        group: GroupName,
        /// Repeated in the driver's answer.
        order: RequestId,
        /// How much haste.
        urgency: Urgency,
    },
    /// Tell the neighbours once more where the group's addresses are.
    Announce(GroupName),
    /// Tell people.
    Event(Event),
    /// Store this before anything that follows.
    Persist(Persistent),
    /// A person's request is done, or refused.
    Reply {
        /// Whose.
        id: RequestId,
        /// Done, or why not.
        result: Result<(), Refusal>,
    },
    /// This life has ended: everything is stopped and the peers were told.
    Exit,
}

/// How much haste a stop needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// In order, each resource in its own time.
    Orderly,
    /// The lease has run out: addresses first, and at once, then the rest.
    LeaseLost,
}

/// What survives a restart of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Persistent {
    /// The life that stored it.
    pub generation: Generation,
    /// A person asked this node to run nothing.
    pub standby: bool,
    /// Failed stops that others reported: where a group may still run.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub blocked: BTreeSet<(GroupName, NodeName)>,
    /// Those of nodes that were away when a person cleared them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cleared: BTreeSet<(GroupName, NodeName)>,
    /// Up to which message of each node that is known.
    #[serde(default, rename = "known", skip_serializing_if = "BTreeMap::is_empty")]
    pub lives: BTreeMap<NodeName, MessageId>,
    /// Deadtime for which this node may have promised something last: a new life keeps silent for as long.
    #[serde(default)]
    pub promised: Duration,
}

impl Persistent {
    /// What a first life starts from.
    pub fn first(generation: Generation) -> Self {
        Self {
            generation,
            standby: false,
            blocked: BTreeSet::new(),
            cleared: BTreeSet::new(),
            lives: BTreeMap::new(),
            promised: Duration::ZERO,
        }
    }
}

/// What a daemon finds running that its earlier life has started, and may go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inheritance {
    /// Up to when nobody else runs the groups, as the earlier life knew.
    pub until: Lease,
    /// The groups that run here.
    pub groups: BTreeMap<GroupName, Holding>,
    /// Groups of which something else may still run here: it could not be stopped.
    pub blocked: BTreeSet<GroupName>,
    /// What failed here since the machine's boot, and is not past or cleared.
    pub failures: BTreeMap<GroupName, Failures>,
    /// The last heartbeat of the earlier life, if none was sent after it for sure.
    pub words: Option<Box<Status>>,
}

impl Default for Inheritance {
    fn default() -> Self {
        Self {
            until: Lease::None,
            groups: BTreeMap::new(),
            blocked: BTreeSet::new(),
            failures: BTreeMap::new(),
            words: None,
        }
    }
}

/// A group of which something may run here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holding {
    /// It runs, or is being started: not on its way down.
    pub up: bool,
    /// By a person's wish.
    pub pinned: bool,
}

/// Up to when this node may run groups.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum Lease {
    /// Not at all now.
    None,
    /// Up to this point.
    Until(Instant),
    /// As long as it likes: a cluster of one.
    Unlimited,
}

impl Lease {
    /// Whether groups may run at `now`.
    pub fn holds(self, now: Instant) -> bool {
        match self {
            Self::None => false,
            Self::Until(end) => now < end,
            Self::Unlimited => true,
        }
    }
}
