//! One virtual machine: its clock, its disk, its resources, and the daemon's present life, if there is one.

use crate::core::{Inheritance, Input, Lease, Persistent, Settings};
use crate::ids::{Generation, GroupName, NodeName, RequestId, Sequence};
use crate::sim::Mind;
use crate::sim::clock::{Clock, Nanos};
use crate::sim::disk::Disk;
use crate::sim::drivers::{Answer, Manner};
use crate::sim::failures::Attempts;
use crate::sim::hands::Hands;
use crate::sim::happening::Happening;
use crate::sim::network::Recorded;
use crate::sim::untold::Untold;
use crate::wire::brief::Exchange;
use crate::wire::status::Status;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Packets that wait at most for a daemon that stands still; later ones are lost, as in a full socket buffer.
const INBOX_MAX: usize = 64;

/// Packets of this life that are remembered for replays.
const SEEN_MAX: usize = 32;

/// First reading of the virtual wall clock, in microseconds since 1970.
const WALL_CLOCK_BASE_USEC: u64 = 1_700_000_000_000_000;

/// What stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseKind {
    /// Only the daemon; its resources go on.
    Daemon,
    /// The whole machine.
    Machine,
    /// The same, and its clock does not count that time.
    Frozen,
}

/// A machine or daemon that stands still.
#[derive(Debug)]
pub struct Pause {
    /// Which of the two.
    pub kind: PauseKind,
    /// Since when.
    pub since: Nanos,
    /// Distinguishes this pause from others.
    pub token: u64,
    /// What waits for its end.
    pub inbox: VecDeque<Happening>,
    packets: usize,
}

impl Pause {
    /// Begins now.
    pub fn new(kind: PauseKind, since: Nanos, token: u64) -> Self {
        Self {
            kind,
            since,
            token,
            inbox: VecDeque::new(),
            packets: 0,
        }
    }

    /// Keeps something for the end of the pause, if there is room.
    pub fn keep(&mut self, what: Happening) {
        if matches!(what, Happening::Arrive { .. }) {
            self.packets += 1;
            if self.packets > INBOX_MAX {
                return;
            }
        }
        self.inbox.push_back(what);
    }
}

/// One life of the daemon.
#[derive(Debug)]
pub struct Daemon<M> {
    /// The real core, or what stands in for it.
    pub mind: M,
    /// Distinguishes this life from all others of the run.
    pub life: u64,
    /// When the next wake-up is planned for, on the machine's clock.
    pub wake: Option<u64>,
    /// Makes wake-ups void that were planned before.
    pub wake_token: u64,
    /// Wake-ups in a row that moved no deadline.
    pub idle_wakes: u32,
    /// What it need not say again, and what others have said.
    pub exchange: Exchange,
    /// What it has received, for replays.
    pub seen: VecDeque<Recorded>,
    /// Requests without a reply, and since when.
    pub pending: BTreeMap<RequestId, Nanos>,
    /// Those of them that move one group after another.
    pub handing_over: BTreeSet<RequestId>,
    /// What it has tried in vain.
    pub attempts: Attempts,
    /// Of the last heartbeat that it sent.
    pub sequence: Sequence,
    /// It was asked to stop.
    pub leaving: bool,
    /// It was asked to stop because it is started again at once.
    pub restarting: bool,
    /// What it was told at its start.
    pub settings: Settings,
    /// What its drivers have failed to say.
    pub lost_answers: Vec<Answer>,
    /// Which life the last heartbeat named.
    pub generation: Generation,
    /// It dies in the first turn that has more outputs than this, having carried out so many.
    pub dies_after: Option<usize>,
}

impl<M> Daemon<M> {
    /// Remembers a received packet.
    pub fn saw(&mut self, recorded: Recorded) {
        if self.seen.len() == SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(recorded);
    }
}

/// One machine.
#[derive(Debug)]
pub struct Node<M> {
    /// Its name in the cluster.
    pub name: NodeName,
    /// What its core is told at each start.
    pub settings: Settings,
    /// Its own idea of time.
    pub clock: Clock,
    /// Whether it has power.
    pub powered: bool,
    /// Counts boots, so that what was planned for an earlier one is void.
    pub boot: u64,
    /// The present life of the daemon.
    pub daemon: Option<Daemon<M>>,
    /// What survives on disk.
    pub disk: Option<Persistent>,
    /// How well it does so.
    pub store: Disk,
    /// None of its own links can be used, and it knows.
    pub links_down: bool,
    /// How its drivers behave.
    pub manner: Manner,
    /// What survives in memory as long as the machine has power: what a dead daemon held, and its newest words.
    pub record: Option<(Inheritance, Box<Status>)>,
    /// The newest heartbeat of any daemon since the boot.
    pub memory: Option<Box<Status>>,
    /// Its resources.
    pub hands: Hands,
    /// Those that a release could not stop, and who knows of them.
    pub untold: BTreeMap<GroupName, Untold>,
    /// Whether it stands still.
    pub pause: Option<Pause>,
    /// Up to when it may hold what its lease no longer covers, since it stood still.
    pub excused_until: Nanos,
    /// Last time it started, died, paused or resumed.
    pub disturbed: Nanos,
    /// Last time it resumed.
    pub resumed: Nanos,
    /// It stays off whatever was planned for it.
    pub stays_down: bool,
}

impl<M: Mind> Node<M> {
    /// Whether the daemon runs and does not stand still.
    pub fn is_awake(&self) -> bool {
        self.daemon.is_some() && self.pause.is_none()
    }

    /// Begins a life of the daemon: one generation higher than the disk says, or the wall clock where it says nothing.
    pub fn start_daemon(&mut self, now: Nanos, life: u64) -> Generation {
        let persistent = match &self.disk {
            Some(stored) => Persistent {
                generation: stored.generation.next(),
                ..stored.clone()
            },
            None => Persistent::first(Generation(
                (WALL_CLOCK_BASE_USEC + now / 1000).saturating_sub(self.store.set_back_usec),
            )),
        };
        self.disk = Some(persistent.clone());
        self.store.remember(&persistent);
        let generation = persistent.generation;
        let local = self.clock.local(now);
        let left = match &self.record {
            Some((left, _)) if left.until.holds(local) => left.clone(),
            Some((left, _)) => Inheritance {
                blocked: left.blocked.clone(),
                ..Inheritance::default()
            },
            None => Inheritance::default(),
        };
        let inheritance = Inheritance {
            words: self.memory.clone(),
            ..left
        };
        let mind = M::heir(self.settings.clone(), persistent, inheritance, local);
        self.disturbed = now;
        self.daemon = Some(Daemon {
            mind,
            life,
            wake: None,
            wake_token: 0,
            idle_wakes: 0,
            exchange: Exchange::default(),
            seen: VecDeque::new(),
            pending: BTreeMap::new(),
            handing_over: BTreeSet::new(),
            attempts: Attempts::default(),
            sequence: Sequence(0),
            leaving: false,
            restarting: false,
            settings: self.settings.clone(),
            lost_answers: Vec::new(),
            generation,
            dies_after: None,
        });
        generation
    }

    /// Whether its lease covers this moment, as its core last said.
    pub fn lease_holds(&self, now: Nanos) -> bool {
        let local = self.clock.local(now);
        self.daemon
            .as_ref()
            .is_some_and(|daemon| daemon.mind.lease().holds(local))
    }

    /// True time up to which nobody else takes what a dead daemon has left here; none where it left nothing.
    pub fn record_end(&self, now: Nanos) -> Option<Nanos> {
        let (left, _) = self
            .record
            .as_ref()
            .filter(|(left, _)| !left.groups.is_empty())?;
        match left.until {
            Lease::None => Some(now),
            Lease::Until(end) => Some(self.clock.reaches(end).max(now)),
            Lease::Unlimited => None,
        }
    }

    /// True time at which its lease ends, as its core last said; none for an unlimited one.
    pub fn lease_end(&self, now: Nanos) -> Option<Nanos> {
        match self.daemon.as_ref().map(|daemon| daemon.mind.lease()) {
            None | Some(Lease::None) => Some(now),
            Some(Lease::Until(end)) => Some(self.clock.reaches(end).max(now)),
            Some(Lease::Unlimited) => None,
        }
    }

    /// Whether it may hold something without a lease: it stands still, or has only just woken up.
    pub fn is_excused(&self, now: Nanos) -> bool {
        let stands = |pause: &Pause| pause.kind == PauseKind::Frozen || !self.lease_holds(now);
        now < self.excused_until || self.pause.as_ref().is_some_and(stands)
    }

    /// Whether a group that is stuck here was started elsewhere by nodes that could not know.
    pub fn is_taken_unknowingly(&self, group: &GroupName) -> bool {
        self.untold.get(group).is_some_and(Untold::is_taken)
    }

    /// Hands an input to the core.
    pub fn handle(&mut self, now: Nanos, input: Input) -> Vec<crate::core::Output> {
        let local = self.clock.local(now);
        self.daemon
            .as_mut()
            .map_or_else(Vec::new, |daemon| daemon.mind.handle(local, input))
    }
}
