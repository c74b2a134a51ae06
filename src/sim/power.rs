//! Machines and daemons come and go: boots, power cuts, crashes, pauses, watchdogs.

use crate::core::{Inheritance, Input};
use crate::ids::GroupName;
use crate::sim::Mind;
use crate::sim::check::Failure;
use crate::sim::clock::{Clock, Nanos, nanos};
use crate::sim::cluster::Sim;
use crate::sim::hands::Hands;
use crate::sim::happening::Happening;
use crate::sim::network::Contact;
use crate::sim::node::{Node, Pause, PauseKind};
use crate::sim::skill::Skill;
use crate::wire::status::last_words;
use std::collections::BTreeSet;

/// A machine's clock shows at most this when the daemon could first start.
const BOOT_CLOCK_MAX: Nanos = 20_000_000_000;

impl<M: Mind> Sim<M> {
    pub(super) fn on_boot(&mut self, node: usize) -> Result<(), Failure> {
        let at_boot = self.random.below(BOOT_CLOCK_MAX);
        let drift = self.scenario.drift_ppm.get(node).copied().unwrap_or(0);
        let Some(machine) = self
            .nodes
            .get_mut(node)
            .filter(|node| !node.powered && !node.stays_down)
        else {
            return Ok(());
        };
        machine.powered = true;
        machine.boot += 1;
        machine.clock = Clock::new(self.now, at_boot, drift);
        let boot = machine.boot;
        if machine.store.halves {
            machine.disk = None;
        }
        self.note_node(node, format_args!("boots"));
        self.on_start_daemon(node, boot)
    }

    pub(super) fn on_start_daemon(&mut self, node: usize, boot: u64) -> Result<(), Failure> {
        self.tokens += 1;
        let (now, life, broken) = (self.now, self.tokens, self.scenario.broken);
        let Some(machine) = self.nodes.get_mut(node) else {
            return Ok(());
        };
        if !machine.powered
            || machine.boot != boot
            || machine.daemon.is_some()
            || machine.stays_down
        {
            return Ok(());
        }
        let known = &machine.settings.groups;
        let local = machine.clock.local(now);
        let inherited = |group: &GroupName| {
            let left = machine.record.as_ref().map(|(left, _)| left);
            let left = left.filter(|left| left.until.holds(local));
            left.and_then(|left| left.groups.get(group))
                .is_some_and(|held| held.up)
        };
        machine.hands.release_all_but(|group| {
            let settings = known.get(group);
            settings.is_some_and(|it| it.nodes.contains(&machine.name) || inherited(group))
        });
        machine.hands.know(known.keys());
        let (scenario, keepalive) = (&self.scenario, machine.settings.keepalive);
        let usual = scenario.emergency_stop_max_of(keepalive);
        machine.hands.set_emergency_max(usual, |group| {
            let margin = known.get(group)?.stop_margin?;
            Some(scenario.emergency_stop_max_of(margin.max(keepalive)))
        });
        let generation = machine.start_daemon(now, life);
        if let (Some(rule), Some(daemon)) = (broken, machine.daemon.as_mut()) {
            daemon.mind.break_rule(rule);
        }
        let usable = !machine.links_down;
        self.note_node(node, format_args!("daemon starts, generation {generation}"));
        self.turn(node, Input::Tick)?;
        if usable {
            return Ok(());
        }
        self.turn(node, Input::Links { usable })
    }

    /// A machine with power starts its daemon then, if none runs.
    pub fn start_daemon_at(&mut self, node: usize, when: Nanos) {
        let boot = self.nodes.get(node).map_or(0, |node| node.boot);
        self.queue.push(when, Happening::StartDaemon { node, boot });
    }

    /// Everything on a machine is gone at this instant.
    pub fn power_cut(&mut self, node: usize) {
        let (now, skill) = (self.now, self.skill());
        let Some(machine) = self.nodes.get_mut(node).filter(|node| node.powered) else {
            return;
        };
        machine.powered = false;
        machine.boot += 1;
        machine.daemon = None;
        machine.record = None;
        machine.memory = None;
        machine.pause = None;
        machine.hands = Hands::new(self.scenario.groups.keys(), skill);
        machine.untold.clear();
        machine.excused_until = 0;
        machine.disturbed = now;
        self.hands_changed();
        self.note_node(node, format_args!("power cut"));
    }

    /// How well hands work in the present phase.
    pub(super) fn skill(&self) -> Skill {
        let skill = Skill::of(&self.scenario);
        if self.watch.allows_faults() {
            skill
        } else {
            skill.perfect()
        }
    }

    /// The daemon dies alone. What it ran goes on until nobody waits for it any more: then, `late` in that time or not,
    /// the unit's stop commands release it, unless the daemon is back.
    pub fn daemon_dies(&mut self, node: usize, late: bool) {
        self.note_node(node, format_args!("daemon dies"));
        let margin = self.scenario.stop_margin_max();
        let now = self.now;
        if let Some(machine) = self.nodes.get_mut(node)
            && machine.is_excused(now)
        {
            // Whatever releases its groups goes by its clock, which may have stood still as well.
            machine.excused_until = machine.record_end(now).unwrap_or(now) + margin;
        }
        self.end_daemon(node);
        let end = self.nodes.get(node).and_then(|node| node.record_end(now));
        let left = end.map_or(margin, |end| end - now);
        let wait = if late {
            left
        } else {
            self.random.below(left + 1)
        };
        let boot = self.nodes.get(node).map_or(0, |node| node.boot);
        self.queue
            .push(now + wait, Happening::Release { node, boot });
    }

    /// No daemon from here on, for whatever reason.
    pub(super) fn end_daemon(&mut self, node: usize) {
        let now = self.now;
        if let Some(machine) = self.nodes.get_mut(node) {
            machine.daemon = None;
            machine.pause = None;
            machine.disturbed = now;
            machine.hands.orphan();
        }
        self.hands_changed();
    }

    pub(super) fn on_release(&mut self, node: usize, boot: u64) {
        let idle = |node: &Node<M>| node.boot == boot && node.daemon.is_none();
        if !self.nodes.get(node).is_some_and(idle) {
            return;
        }
        let stuck = self.stuck_in_release(node);
        let Some(machine) = self.nodes.get_mut(node) else {
            return;
        };
        machine.hands.release_leftovers();
        let record = machine.record.take();
        self.hands_changed();
        self.note_node(node, format_args!("leftovers are released but {stuck:?}"));
        let Some((left, words)) = record.filter(|(left, _)| !left.groups.is_empty()) else {
            return;
        };
        let last = last_words((*words).clone(), &stuck);
        if !stuck.is_empty()
            && let Some(machine) = self.nodes.get_mut(node)
        {
            let rest = Inheritance {
                blocked: stuck,
                failures: left.failures,
                ..Inheritance::default()
            };
            machine.record = Some((rest, Box::new(last.clone())));
        }
        self.send_last_words(node, &last);
    }

    /// What of the leftovers does not stop.
    fn stuck_in_release(&mut self, node: usize) -> BTreeSet<GroupName> {
        let fails = self.manner(node).release_fails;
        self.set_manner(node, |it| it.release_fails = false);
        let left = self.nodes.get(node).map(|it| it.hands.leftovers());
        let mut stuck = BTreeSet::new();
        for group in left.unwrap_or_default() {
            if fails && self.trouble_random.chance(500) {
                if let Some(machine) = self.nodes.get_mut(node) {
                    machine.hands.get_stuck(&group);
                    machine.untold.entry(group.clone()).or_default();
                }
                stuck.insert(group);
            }
        }
        stuck
    }

    /// A machine stands still for a while, together with its clock.
    pub(super) fn freeze(&mut self, node: usize) {
        let deadtime = nanos(self.scenario.deadtime);
        let machine = self.nodes.get(node);
        if machine.is_some_and(|it| it.powered && it.pause.is_none()) {
            let length = match self.trouble_random.below(2) {
                0 => self.trouble_random.below(deadtime),
                _ => self.trouble_random.below(6 * deadtime),
            };
            self.pause(node, PauseKind::Frozen, length);
        }
    }

    /// A person restarts the daemon, which says so and leaves everything as it is.
    pub(super) fn restart_daemon(&mut self, node: usize) -> Result<(), Failure> {
        let Some(machine) = self.nodes.get_mut(node).filter(|it| it.is_awake()) else {
            return Ok(());
        };
        if let Some(daemon) = machine.daemon.as_mut() {
            daemon.restarting = true;
        }
        self.note_node(node, format_args!("is asked to restart"));
        self.turn(node, Input::Restart)
    }

    /// A daemon, or its machine, stands still.
    pub fn pause(&mut self, node: usize, kind: PauseKind, length: Nanos) {
        self.tokens += 1;
        let (now, token) = (self.now, self.tokens);
        self.note_node(
            node,
            format_args!("{kind:?} stands still for {:.6} s", length as f64 / 1e9),
        );
        let Some(machine) = self.nodes.get_mut(node) else {
            return;
        };
        machine.pause = Some(Pause::new(kind, now, token));
        machine.disturbed = now;
        self.stood_still = true;
        let lease_end = machine.lease_end(now);
        self.queue
            .push(now + length, Happening::Resume { node, token });
        let kill = nanos(self.scenario.deadtime) / 2;
        if kind == PauseKind::Daemon && length > kill {
            self.queue
                .push(now + kill, Happening::KillPaused { node, token });
        }
        if self.scenario.watchdog
            && kind != PauseKind::Frozen
            && let Some(lease_end) = lease_end
        {
            let reset = lease_end + self.scenario.emergency_stop_max();
            self.queue
                .push(reset, Happening::ResetPaused { node, token });
        }
    }

    pub(super) fn on_resume(&mut self, node: usize, token: u64) {
        let margin = self.scenario.stop_margin_max();
        let now = self.now;
        let Some(machine) = self.nodes.get_mut(node) else {
            return;
        };
        let Some(pause) = machine.pause.take_if(|pause| pause.token == token) else {
            return;
        };
        let short = pause.kind == PauseKind::Daemon
            && now - pause.since <= nanos(self.scenario.keepalive) * 4 / 10;
        if pause.kind == PauseKind::Frozen {
            machine.clock.lose(now - pause.since);
        } else if !short && !machine.lease_holds(now) {
            machine.excused_until = now + margin;
        }
        machine.disturbed = now;
        machine.resumed = now;
        if pause.kind == PauseKind::Frozen {
            self.excuse_frozen(node);
        }
        self.note_node(node, format_args!("goes on"));
        for what in pause.inbox {
            let when = now + 1 + self.random.below(self.scenario.lateness.min(1_000_000) + 1);
            self.queue.push(when, what);
        }
    }

    /// A machine whose clock stood still learns of it from those that hear it and have declared it dead.
    fn excuse_frozen(&mut self, node: usize) {
        let (now, margin) = (self.now, self.scenario.stop_margin_max());
        let tells = |other: usize| {
            let awake = self.nodes.get(other).is_some_and(Node::is_awake);
            other != node && awake && self.network.contact(node, other).0 == Contact::Clean
        };
        let told = (0..self.nodes.len()).all(|other| other == node || tells(other));
        let beat = nanos(self.scenario.keepalive) + self.scenario.delay_max();
        let span = if told && self.scenario.demands.frozen {
            2 * (beat + self.scenario.lateness)
        } else {
            4 * nanos(self.scenario.deadtime) + 8 * self.scenario.stop_max
        };
        if let Some(machine) = self.nodes.get_mut(node) {
            machine.excused_until = machine.excused_until.max(now + span + margin);
        }
    }

    pub(super) fn on_kill_paused(&mut self, node: usize, token: u64) {
        let paused = self.nodes.get(node).and_then(|node| node.pause.as_ref());
        if paused.is_some_and(|pause| pause.token == token) {
            self.daemon_dies(node, false);
            let back = self.now + self.random.below(nanos(self.scenario.deadtime));
            self.start_daemon_at(node, back);
        }
    }

    pub(super) fn on_reset_paused(&mut self, node: usize, token: u64) {
        let paused = self.nodes.get(node).filter(|node| node.hands.holds_any());
        if paused
            .and_then(|node| node.pause.as_ref())
            .is_some_and(|pause| pause.token == token)
        {
            self.reset(node);
        }
    }

    pub(super) fn on_reset_unstopped(&mut self, node: usize, boot: u64) {
        let unstopped = self.nodes.get(node).filter(|node| node.boot == boot);
        if unstopped.is_some_and(|node| node.hands.has_unstopped_emergency()) {
            self.reset(node);
        }
    }

    fn reset(&mut self, node: usize) {
        self.note_node(node, format_args!("watchdog resets the machine"));
        self.power_cut(node);
        let boot_takes = self.random.below(4 * nanos(self.scenario.deadtime));
        // Once faults are over, all machines are back within a deadtime.
        let longest = if self.watch.allows_faults() { 4 } else { 1 };
        let back = self.now + boot_takes * longest / 4;
        self.queue.push(back, Happening::Boot { node });
    }

    /// A person stops the daemon.
    ///
    /// # Errors
    /// An invariant that did not hold.
    pub fn shut_down(&mut self, node: usize) -> Result<(), Failure> {
        if !self.nodes.get(node).is_some_and(|node| node.is_awake()) {
            return Ok(());
        }
        self.note_node(node, format_args!("is asked to stop"));
        if let Some(daemon) = self
            .nodes
            .get_mut(node)
            .and_then(|node| node.daemon.as_mut())
        {
            daemon.leaving = true;
        }
        self.turn(node, Input::Shutdown)
    }
}
