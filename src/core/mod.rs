//! The cluster's mind: membership, leadership, leases, placement. Pure: no clock, no socket, no randomness.
//!
//! Each file is one concern of [`Core`]: `membership` (who is heard), `words` (what they say of us and of third ones),
//! `agreement` (whose configuration differs), `election` (whose plan counts), `leader`, `accounts`, `condemned` and
//! `plan` (who shall run what), `lease` (may we run anything), `duty` (what runs here), `outcome` and `failure` (what
//! becomes of it), `request` (what a person wants), `report` (what we tell the others), `view` (what we show).

pub mod event;
pub mod io;
pub mod rules;
pub mod settings;
pub mod time;
pub mod view;

mod accounts;
mod agreement;
mod condemned;
mod duty;
mod election;
mod failure;
mod group;
mod leader;
mod lease;
mod membership;
mod memory;
mod outcome;
mod peer;
mod plan;
mod report;
mod request;
mod sent;
mod words;

pub use failure::Failures;
pub(crate) use failure::{TRIALS_MAX, pause};
pub use io::{
    GroupOutcome, Holding, Inheritance, Input, Lease, Output, Persistent, Request, Scope, Urgency,
};
pub use rules::BrokenRule;
pub use settings::{FailurePolicy, GroupSettings, NodeSettings, Policy, Reaction, Settings};
pub use time::Instant;

use crate::core::event::Event;
use crate::core::group::LocalGroup;
use crate::core::leader::Leadership;
use crate::core::memory::Memory;
use crate::core::peer::{Freshness, Peer};
use crate::core::request::Requests;
use crate::core::sent::SentLog;
use crate::core::view::Watched;
use crate::ids::{Generation, GroupName, MessageId, NodeName, RequestId, Sequence, Term};
use crate::wire::status::{Phase, Plan, Profile, Status};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Most rounds of planning and acting in one turn; a plan settles in two or three.
const ROUNDS_MAX: usize = 8;

/// One node's mind, as a state machine without input and output of its own.
///
/// [`Core::handle`] takes one input and returns all that is to be done about it, in order; carry out the whole list
/// before the next call. `now` must not go back (an earlier one is taken as the latest seen). Call it with
/// [`Input::Tick`] at [`Core::next_deadline`]; a late call is safe: what a node that stood still must give up, it
/// gives up first. [`Core::view`], [`Core::lease`] and [`Core::next_deadline`] are mere getters. No call has an
/// effect outside, none fails and none panics on what comes from outside.
#[derive(Debug, Clone)]
pub struct Core {
    settings: Settings,
    /// What of the settings votes and promises rest on.
    profile: Profile,
    /// The longest deadtime for which this node, or an earlier life, may have promised something that still holds.
    promised: Duration,
    generation: Generation,
    standby: bool,
    started: Instant,
    /// It knows all that the life before it has promised.
    remembers: bool,
    now: Instant,
    phase: Phase,
    peers: BTreeMap<NodeName, Peer>,
    term: Option<Term>,
    /// Highest term number seen, so that a new one is higher.
    term_seen: u64,
    /// The latest term that this life has followed: it follows no earlier one again.
    floor: Option<Term>,
    /// When this node last began a term because somebody followed a later one.
    escalated: Option<Instant>,
    /// When this node last gave up a term that nobody had elected it in.
    resigned: Option<Instant>,
    /// Since when another node that could lead is better connected than this one, which leads.
    outranked: Option<Instant>,
    /// The plan of `term` that this node follows.
    plan: Option<Plan>,
    /// The leader that people were told of.
    leader_told: Option<Term>,
    leadership: Option<Leadership>,
    groups: BTreeMap<GroupName, LocalGroup>,
    /// Failed stops that others reported: where a group may still run.
    blocked_elsewhere: BTreeSet<(GroupName, NodeName)>,
    /// Those that a person has cleared, or that were resolved, since.
    cleared: BTreeSet<(GroupName, NodeName)>,
    /// In which life of each node that was heard.
    lives: BTreeMap<NodeName, MessageId>,
    /// The lease of the earlier life.
    inherited: Lease,
    lease: Lease,
    sequence: Sequence,
    sent: SentLog,
    last_sent: Option<(Instant, Box<Status>)>,
    /// A peer needs to hear from us before the next heartbeat is due.
    answer_now: bool,
    /// When this node last sent a question for a state, or the answer to one, out of turn.
    answered: Option<Instant>,
    next_order: RequestId,
    requests: Requests,
    leaving: Option<Leaving>,
    /// Whether any link of this node's own can be used.
    own_links: OwnLinks,
    /// Groups that run here and there, of which people were told.
    doubles: BTreeSet<(GroupName, NodeName)>,
    watched: BTreeMap<GroupName, Watched>,
    broken: BTreeSet<BrokenRule>,
    outputs: Vec<Output>,
}

/// How far a node that leaves has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leaving {
    since: Instant,
    /// Since when it runs nothing any more.
    empty_since: Option<Instant>,
}

/// Whether any link of this node's own can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnLinks {
    /// One at least; whoever lives was heard by `from`, so silence means something from then on.
    Usable { from: Instant },
    /// None: silence says nothing of others.
    Unusable,
}

impl Core {
    /// A node at the start of a life. `persistent.generation` is the one of this life, stored already. What the earlier
    /// life has left is stopped first.
    pub fn new(settings: Settings, persistent: Persistent, now: Instant) -> Self {
        Self::heir(settings, persistent, Inheritance::default(), now)
    }

    /// The same for a node that goes on with what the earlier life has left, as far as that may still run.
    pub fn heir(
        settings: Settings,
        persistent: Persistent,
        inheritance: Inheritance,
        now: Instant,
    ) -> Self {
        let mut peers = unheard_peers(&settings, now);
        let memory = Memory::of(inheritance.words.as_deref(), &settings, &persistent);
        if let Some(memory) = &memory {
            memory.bury(&mut peers);
        }
        let floor = memory.as_ref().and_then(Memory::floor);
        let groups = groups_at_start(&settings, &inheritance);
        // What the configuration no longer knows cannot be cleared by anybody.
        let known = |(group, node): &(GroupName, NodeName)| {
            settings.groups.contains_key(group) && settings.nodes.contains_key(node)
        };
        let blocked_elsewhere = persistent.blocked.into_iter().filter(known).collect();
        let cleared = persistent.cleared.into_iter().filter(known).collect();
        let mut lives = persistent.lives;
        lives.retain(|node, _| settings.nodes.contains_key(node));
        Self {
            profile: settings.profile(),
            promised: persistent.promised,
            generation: persistent.generation,
            standby: persistent.standby,
            started: now,
            now,
            phase: Phase::Init,
            peers,
            term: None,
            term_seen: floor.as_ref().map_or(0, |term| term.number),
            remembers: memory.is_some(),
            floor,
            escalated: None,
            resigned: None,
            outranked: None,
            plan: None,
            leader_told: None,
            leadership: None,
            groups,
            blocked_elsewhere,
            cleared,
            lives,
            inherited: inheritance.until,
            lease: inheritance.until,
            sequence: Sequence(0),
            sent: SentLog::default(),
            last_sent: None,
            answer_now: false,
            answered: None,
            next_order: RequestId(0),
            requests: Requests::default(),
            leaving: None,
            own_links: OwnLinks::Usable { from: now },
            doubles: BTreeSet::new(),
            watched: BTreeMap::new(),
            broken: BTreeSet::new(),
            outputs: Vec::new(),
            settings,
        }
    }

    /// Takes one input and says what is to be done.
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Output> {
        if self.phase == Phase::Gone {
            return Vec::new();
        }
        let before = self.now;
        self.now = now.max(before);
        // What a driver has done is so, whatever must be given up since; other inputs meet a node that knows.
        let outcome = matches!(input, Input::Group { .. });
        let whole = matches!(input, Input::Message { .. });
        if !outcome {
            self.notice_absence(before);
        }
        match input {
            Input::Tick => {}
            Input::Message { link, status } | Input::Brief { link, status } => {
                let freshness = self.handle_message(link, status, whole);
                // Each link brings its own copy: only the first one gives cause to think anything over.
                if freshness == Freshness::Stale && !self.is_due(before) {
                    return std::mem::take(&mut self.outputs);
                }
            }
            Input::Group {
                group,
                order,
                outcome,
            } => self.handle_outcome(&group, order, outcome),
            Input::Request { id, request } => self.handle_request(id, request),
            Input::Shutdown => self.handle_shutdown(),
            Input::Links { usable } => self.handle_links(usable),
            Input::Restart => {
                self.handle_restart();
                return std::mem::take(&mut self.outputs);
            }
        }
        if outcome {
            self.notice_absence(before);
        }
        self.settle();
        std::mem::take(&mut self.outputs)
    }

    /// Gives up at once what the time since the turn at `before` has cost.
    fn notice_absence(&mut self, before: Instant) {
        self.notice_pause(before);
        self.notice_lapse();
        self.notice_lost_election();
    }

    /// Brings everything in line with what is known now; each step looks at the state only, never at the input.
    fn settle(&mut self) {
        self.note_promised();
        self.expire();
        self.forget_failures();
        self.elect();
        self.renew_lease();
        for _ in 0..ROUNDS_MAX {
            let planned = self.lead();
            let followed = self.follow();
            self.do_duty();
            if !planned && !followed {
                break;
            }
        }
        self.progress_requests();
        self.advance_phase();
        self.watch_groups();
        self.send_if_due();
        self.leave_if_done();
    }

    /// When [`Core::handle`] wants to be called at the latest; none after the end of this life.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadline_after(self.now)
    }

    /// Whether a deadline has come since the turn at `before`.
    fn is_due(&self, before: Instant) -> bool {
        !self.outputs.is_empty() || self.deadline_after(before).is_some_and(|t| t <= self.now)
    }

    fn deadline_after(&self, start: Instant) -> Option<Instant> {
        if self.phase == Phase::Gone {
            return None;
        }
        let deadtime = self.settings.deadtime;
        let heartbeat = self
            .last_sent
            .as_ref()
            .map_or(start, |(at, _)| *at + self.shortest_keepalive());
        let peers = self.peers.values();
        let deaths = peers.clone().filter_map(|peer| peer.death_due(deadtime));
        let deaths = deaths.filter(|t| *t > start).min();
        let deaf = peers.filter_map(|peer| peer.deaf_due(deadtime));
        let deaf = deaf.filter(|t| *t > start).min();
        let outranked = self.outranked.map(|t| t + deadtime);
        let lease = match self.lease {
            Lease::Until(end) => Some(end),
            Lease::None | Lease::Unlimited => None,
        };
        let certain = self.next_certainty(start);
        let voting = Some(self.votes_from());
        let forgotten = (self.groups.values())
            .filter_map(LocalGroup::next_deadline)
            .min();
        let listens = match self.own_links {
            OwnLinks::Usable { from } => Some(from),
            OwnLinks::Unusable => None,
        };
        [
            Some(heartbeat),
            deaths.filter(|_| listens.is_some()),
            deaf,
            outranked,
            lease,
            certain,
            voting,
            forgotten,
            listens,
        ]
        .into_iter()
        .flatten()
        .filter(|t| *t > start)
        .min()
    }

    /// Up to when this node may run groups. Drivers look at it before each step that acquires something.
    pub fn lease(&self) -> Lease {
        self.lease
    }

    /// Up to when nobody else runs what runs here, by what was sent and heard up to now.
    pub fn tenure(&self) -> Lease {
        self.compute_lease()
    }

    /// The groups of which something may run here.
    pub fn holdings(&self) -> BTreeMap<GroupName, Holding> {
        let held = self.groups.iter().filter_map(|(name, group)| {
            let holding = group.holding()?;
            Some((name.clone(), holding))
        });
        held.collect()
    }

    /// The failures that are remembered here, of groups that have any.
    pub fn failures(&self) -> BTreeMap<GroupName, Failures> {
        let all = self.groups.iter();
        all.filter(|(_, group)| !group.failures.is_empty())
            .map(|(name, group)| (name.clone(), group.failures.clone()))
            .collect()
    }

    /// This life.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Test only: breaks a safety rule from now on, so that a test can show that the rule is needed.
    pub fn break_rule(&mut self, rule: BrokenRule) {
        self.broken.insert(rule);
    }

    fn broken(&self, rule: BrokenRule) -> bool {
        self.broken.contains(&rule)
    }

    fn event(&mut self, event: Event) {
        self.outputs.push(Output::Event(event));
    }

    fn events(&mut self, events: Vec<Event>) {
        self.outputs.extend(events.into_iter().map(Output::Event));
    }

    fn persist(&mut self) {
        self.outputs.push(Output::Persist(Persistent {
            generation: self.generation,
            standby: self.standby,
            blocked: self.blocked_elsewhere.clone(),
            cleared: self.cleared.clone(),
            lives: self.lives.clone(),
            promised: self.promised,
        }));
    }

    fn order(&mut self) -> RequestId {
        self.next_order = RequestId(self.next_order.0.saturating_add(1));
        self.next_order
    }
}

/// All others, of whom nothing is known yet.
fn unheard_peers(settings: &Settings, now: Instant) -> BTreeMap<NodeName, Peer> {
    let grace = now + settings.initdead;
    let others = (settings.nodes.keys()).filter(|name| **name != settings.local);
    others
        .map(|name| (name.clone(), Peer::unheard(grace)))
        .collect()
}

/// The groups as an earlier life has left them.
fn groups_at_start(
    settings: &Settings,
    inheritance: &Inheritance,
) -> BTreeMap<GroupName, LocalGroup> {
    settings
        .groups
        .iter()
        .map(|(name, of_group)| {
            let held = inheritance.groups.get(name).filter(|held| held.up);
            let blocked = inheritance.blocked.contains(name);
            let listed = of_group.nodes.contains(&settings.local);
            (
                name.clone(),
                LocalGroup::at_start(held, blocked, listed, inheritance.failures.get(name)),
            )
        })
        .collect()
}
