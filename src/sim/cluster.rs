//! All machines, the network between them, and what happens next.
//!
//! [`Sim::step`] takes one happening from the queue, lets the machine concerned act, and looks whether the
//! invariants hold. Each output of a core is carried out at once and in order, as the daemon does it.

use crate::core::{GroupOutcome, Input, Request, Scope};
use crate::ids::{GroupName, LinkId, RequestId};
use crate::sim::check::{self, Failure};
use crate::sim::clock::{Clock, Nanos, Queue, nanos};
use crate::sim::disk::Disk;
use crate::sim::drivers::{Answer, Manner};
use crate::sim::hands::Hands;
use crate::sim::happening::Happening;
use crate::sim::network::{Network, Recorded};
use crate::sim::node::{Node, PauseKind};
use crate::sim::random::Random;
use crate::sim::scenario::Scenario;
use crate::sim::skill::Skill;
use crate::sim::trace::{Trace, TraceMode};
use crate::sim::transport::{self, Packet};
use crate::sim::{Mind, settle::Watch};
use crate::wire::brief::Taken;
use crate::wire::status::Refusal;
use std::collections::BTreeMap;

/// Wake-ups without effect after which a core counts as busy with nothing.
const IDLE_WAKES_MAX: u32 = 1000;

/// A running cluster.
#[derive(Debug)]
pub struct Sim<M> {
    /// What it was made from.
    pub scenario: Scenario,
    /// True time.
    pub now: Nanos,
    /// The machines.
    pub nodes: Vec<Node<M>>,
    /// The cables.
    pub network: Network,
    /// The record.
    pub trace: Trace,
    /// Replies of the cores since the last look.
    pub replies: BTreeMap<RequestId, Result<(), Refusal>>,
    /// Steps taken.
    pub steps: u64,
    pub(super) queue: Queue<Happening>,
    pub(super) random: Random,
    pub(super) fault_random: Random,
    pub(super) trouble_random: Random,
    pub(super) watch: Watch,
    pub(super) stood_still: bool,
    pub(super) tokens: u64,
    pub(super) cleared_until: BTreeMap<GroupName, Nanos>,
    requests: u64,
    hands_changed: bool,
    doubles: bool,
}

impl<M: Mind> Sim<M> {
    /// The machines of a scenario, all still without power.
    pub fn new(scenario: Scenario, mode: TraceMode) -> Self {
        let mut random = Random::new(scenario.seed.rotate_left(32) ^ 0x5eed);
        let network = Network::new(&scenario, random.fork());
        let fault_random = random.fork();
        let trouble_random = Random::new(scenario.seed.rotate_left(16) ^ 0x70b1e);
        let mut sim = Self {
            now: 0,
            nodes: Vec::new(),
            network,
            trace: Trace::new(mode),
            replies: BTreeMap::new(),
            steps: 0,
            queue: Queue::default(),
            random,
            fault_random,
            trouble_random,
            watch: Watch::Faults,
            stood_still: false,
            tokens: 0,
            cleared_until: BTreeMap::new(),
            requests: 0,
            hands_changed: false,
            doubles: false,
            scenario,
        };
        for (index, name) in sim.scenario.nodes.iter().enumerate() {
            sim.nodes.push(Node {
                name: name.clone(),
                settings: sim.scenario.settings(name),
                clock: Clock::new(0, 0, 0),
                powered: false,
                boot: 0,
                daemon: None,
                disk: None,
                store: Disk::default(),
                links_down: false,
                manner: Manner::default(),
                record: None,
                memory: None,
                hands: Hands::new(sim.scenario.groups.keys(), Skill::of(&sim.scenario)),
                untold: BTreeMap::new(),
                pause: None,
                excused_until: 0,
                disturbed: 0,
                resumed: 0,
                stays_down: false,
            });
            let when = sim.scenario.boots.get(index).copied().unwrap_or(0);
            sim.queue.push(when, Happening::Boot { node: index });
        }
        sim
    }

    /// Runs up to a true time.
    ///
    /// # Errors
    /// The first invariant that did not hold.
    pub fn run_until(&mut self, end: Nanos) -> Result<(), Failure> {
        while self.queue.next_time().is_some_and(|next| next <= end) {
            self.step()?;
        }
        self.now = self.now.max(end);
        self.check_ownership()
    }

    fn check_ownership(&mut self) -> Result<(), Failure> {
        if !self.doubles {
            return Ok(());
        }
        self.excuse_what_nobody_knows();
        check::ownership(self.now, &self.scenario, &self.network, &self.nodes)
    }

    /// Lets the next thing happen.
    ///
    /// # Errors
    /// The invariant that did not hold after it.
    pub fn step(&mut self) -> Result<(), Failure> {
        let Some((when, what)) = self.queue.pop() else {
            return Ok(());
        };
        self.now = when;
        self.steps += 1;
        self.happen(what)?;
        if self.hands_changed {
            self.hands_changed = false;
            let held = |group| {
                self.nodes
                    .iter()
                    .filter(|node| node.hands.holds(group))
                    .count()
            };
            self.doubles = self.scenario.all_groups().any(|group| held(group) > 1);
        }
        self.check_ownership()
    }

    fn happen(&mut self, what: Happening) -> Result<(), Failure> {
        if let Some(what) = self.unless_paused(what) {
            match what {
                Happening::Wake { node, life, token } => self.on_wake(node, life, token)?,
                Happening::Arrive { node, link, packet } => self.on_arrive(node, link, packet)?,
                Happening::Work {
                    node,
                    boot,
                    group,
                    token,
                } => {
                    self.on_work(node, boot, &group, token)?;
                }
                Happening::Release { node, boot } => self.on_release(node, boot),
                Happening::Boot { node } => self.on_boot(node)?,
                Happening::StartDaemon { node, boot } => self.on_start_daemon(node, boot)?,
                Happening::Resume { node, token } => self.on_resume(node, token),
                Happening::KillPaused { node, token } => self.on_kill_paused(node, token),
                Happening::ResetPaused { node, token } => self.on_reset_paused(node, token),
                Happening::ResetUnstopped { node, boot } => self.on_reset_unstopped(node, boot),
                Happening::Flap { node, group } => self.on_flap(node, group)?,
                Happening::Answer { node, life, answer } => self.on_answer(node, life, answer)?,
                Happening::Stored { node, life, state } => self.on_stored(node, life, state),
                Happening::Edit { node } => self.on_edit(node)?,
                Happening::LinksUp { node } => self.set_own_links(node, true)?,
                Happening::Fault => self.on_fault()?,
                Happening::Trouble => self.on_trouble()?,
                Happening::Mend { id } => {
                    self.note("network", format_args!("mend {id}"));
                    self.network.mend(self.now, id);
                }
            }
        }
        Ok(())
    }

    /// Keeps back what a machine or daemon that stands still cannot notice.
    fn unless_paused(&mut self, what: Happening) -> Option<Happening> {
        let (node, by_machine_only) = match &what {
            Happening::Wake { node, .. }
            | Happening::Arrive { node, .. }
            | Happening::Answer { node, .. } => (*node, false),
            Happening::Work { node, group, .. } => {
                let emergency = self
                    .nodes
                    .get(*node)
                    .is_some_and(|n| n.hands.is_emergency(group));
                (*node, emergency)
            }
            Happening::Release { node, .. }
            | Happening::StartDaemon { node, .. }
            | Happening::Stored { node, .. } => (*node, true),
            Happening::Boot { .. }
            | Happening::Resume { .. }
            | Happening::KillPaused { .. }
            | Happening::ResetPaused { .. }
            | Happening::ResetUnstopped { .. }
            | Happening::Flap { .. }
            | Happening::Edit { .. }
            | Happening::LinksUp { .. }
            | Happening::Fault
            | Happening::Trouble
            | Happening::Mend { .. } => return Some(what),
        };
        match self
            .nodes
            .get_mut(node)
            .and_then(|node| node.pause.as_mut())
        {
            Some(pause) if !by_machine_only || pause.kind != PauseKind::Daemon => {
                pause.keep(what);
                None
            }
            _ => Some(what),
        }
    }

    /// A line in the record.
    pub(super) fn note(&mut self, who: &str, text: std::fmt::Arguments<'_>) {
        self.trace.line(self.now, who, text);
    }

    pub(super) fn note_node(&mut self, node: usize, text: std::fmt::Arguments<'_>) {
        if self.trace.wants_lines()
            && let Some(name) = self.nodes.get(node).map(|node| node.name.clone())
        {
            self.trace.line(self.now, name.as_str(), text);
        }
    }

    pub(super) fn fail<T>(&self, invariant: &'static str, text: String) -> Result<T, Failure> {
        Err(Failure {
            invariant,
            text,
            at: self.now,
        })
    }

    pub(super) fn hands_changed(&mut self) {
        self.hands_changed = true;
    }

    fn on_wake(&mut self, node: usize, life: u64, token: u64) -> Result<(), Failure> {
        let current = self
            .nodes
            .get_mut(node)
            .and_then(|node| node.daemon.as_mut());
        match current.filter(|daemon| daemon.life == life && daemon.wake_token == token) {
            Some(daemon) => daemon.wake = None,
            None => return Ok(()),
        }
        self.turn(node, Input::Tick)
    }

    fn on_arrive(&mut self, node: usize, link: usize, packet: Packet) -> Result<(), Failure> {
        let Some(daemon) = self
            .nodes
            .get_mut(node)
            .and_then(|node| node.daemon.as_mut())
        else {
            return Ok(());
        };
        let Some(heartbeat) = transport::unpack(&packet) else {
            return Ok(());
        };
        let taken = daemon.exchange.take(heartbeat);
        daemon.saw(Recorded { link, packet });
        if let Taken::Whole(status) = &taken {
            self.hear_of_stuck(node, status);
        }
        self.turn(node, input(link, taken))?;
        self.maybe_replay(node)
    }

    fn on_work(
        &mut self,
        node: usize,
        boot: u64,
        group: &GroupName,
        token: u64,
    ) -> Result<(), Failure> {
        let Some(machine) = self.nodes.get_mut(node).filter(|node| node.boot == boot) else {
            return Ok(());
        };
        let before = machine.hands.state(group);
        let answers = machine.hands.finish(group, token);
        let after = machine.hands.state(group);
        self.hands_changed = true;
        if before != after {
            self.note_node(node, format_args!("hands {group}: {before:?} -> {after:?}"));
            self.watch_hands(group)?;
        }
        let has_lease = self
            .nodes
            .get(node)
            .is_some_and(|it| it.lease_holds(self.now));
        for (order, mut outcome) in answers {
            // Without a lease some drivers do not even try.
            let failed = matches!(outcome, GroupOutcome::StartFailed { .. });
            if failed && !has_lease && self.random.chance(500) {
                outcome = GroupOutcome::StartRefused;
            }
            let (order, group) = (Some(order), group.clone());
            let answer = Answer {
                order,
                group,
                outcome,
            };
            self.answer(node, answer)?;
        }
        Ok(())
    }

    /// One turn of a daemon: an input, then all that its core wants done.
    ///
    /// # Errors
    /// An invariant that did not hold.
    pub fn turn(&mut self, node: usize, input: Input) -> Result<(), Failure> {
        let Some(machine) = self
            .nodes
            .get_mut(node)
            .filter(|node| node.daemon.is_some())
        else {
            return Ok(());
        };
        let outputs = machine.handle(self.now, input);
        let busy = !outputs.is_empty();
        // Written before anything is taken.
        if let (Some(daemon), Some((left, _))) = (&machine.daemon, machine.record.as_mut()) {
            let inheritance = daemon.mind.inheritance();
            left.groups = inheritance.groups;
            left.failures = inheritance.failures;
        }
        for (done, output) in outputs.into_iter().enumerate() {
            if self.crashes_halfway(node, done) {
                return Ok(());
            }
            self.perform(node, output)?;
        }
        self.set_timer(node, busy)?;
        self.nodes
            .get(node)
            .filter(|node| node.daemon.is_some())
            .map_or(Ok(()), |machine| check::lease(self.now, machine))
    }

    fn set_timer(&mut self, node: usize, busy: bool) -> Result<(), Failure> {
        let late = self.random.below(self.scenario.lateness + 1);
        let Some(machine) = self.nodes.get_mut(node) else {
            return Ok(());
        };
        let local = machine.clock.local(self.now);
        let Some(daemon) = machine.daemon.as_mut() else {
            return Ok(());
        };
        let Some(deadline) = daemon.mind.next_deadline() else {
            daemon.wake = None;
            daemon.wake_token += 1;
            return Ok(());
        };
        let idle = deadline <= local && !busy;
        daemon.idle_wakes = if idle { daemon.idle_wakes + 1 } else { 0 };
        if daemon.idle_wakes > IDLE_WAKES_MAX {
            return self.fail(
                "progress",
                format!("node {node} wakes up for nothing, again and again"),
            );
        }
        if daemon.wake == Some(deadline.as_nanos()) {
            return Ok(());
        }
        daemon.wake = Some(deadline.as_nanos());
        daemon.wake_token += 1;
        let when = machine.clock.reaches(deadline).max(self.now) + 1 + late;
        let (life, token) = (daemon.life, daemon.wake_token);
        self.queue.push(when, Happening::Wake { node, life, token });
        Ok(())
    }

    /// A person has repaired a group everywhere; the word of it may travel for as long as any packet.
    fn on_clear(&mut self, group: &GroupName) {
        for machine in &mut self.nodes {
            machine.hands.repair(group);
            machine.untold.remove(group);
        }
        let until = self.now + 5 * nanos(self.scenario.deadtime);
        self.cleared_until.insert(group.clone(), until);
    }

    /// A person asks a node for something; returns the request's number, or none where no daemon listens.
    ///
    /// # Errors
    /// An invariant that did not hold.
    pub fn request(&mut self, node: usize, request: Request) -> Result<Option<RequestId>, Failure> {
        self.requests += 1;
        let id = RequestId(self.requests);
        let now = self.now;
        if !self.nodes.get(node).is_some_and(|node| node.is_awake()) {
            return Ok(None);
        }
        if let Request::Clear(group) = &request {
            self.on_clear(group);
        }
        let daemon = self
            .nodes
            .get_mut(node)
            .and_then(|node| node.daemon.as_mut());
        let Some(daemon) = daemon else {
            return Ok(None);
        };
        daemon.pending.insert(id, now);
        if matches!(request, Request::Standby(scope) if scope != Scope::All) {
            daemon.handing_over.insert(id);
        }
        self.hands_changed = true;
        self.note_node(node, format_args!("request {} {request:?}", id.0));
        self.turn(node, Input::Request { id, request })?;
        Ok(Some(id))
    }
}

/// What a core is told of a heartbeat.
pub(super) fn input(link: usize, taken: Taken) -> Input {
    let link = link_id(link);
    match taken {
        Taken::Whole(status) => Input::Message { link, status },
        Taken::Brief(status) => Input::Brief { link, status },
    }
}

/// A link's number as the core knows it.
fn link_id(link: usize) -> LinkId {
    LinkId(u16::try_from(link).unwrap_or(u16::MAX))
}
