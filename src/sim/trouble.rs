//! Troubles of the second set: what goes wrong, when and for how long. They have a stream of chance of their own.

use crate::core::{GroupOutcome, Input, Request};
use crate::ids::GroupName;
use crate::sim::Mind;
use crate::sim::check::Failure;
use crate::sim::clock::nanos;
use crate::sim::cluster::Sim;
use crate::sim::drivers::Answer;
use crate::sim::happening::Happening;
use crate::sim::network::Cut;

/// One kind of trouble of the second set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleKind {
    /// A machine and its clock stand still, as a virtual machine that is paused.
    Freeze,
    /// People change the configuration, one node after the other.
    Rollout,
    /// A person restarts the daemon; what runs goes on.
    Restart,
    /// The next release of what a dead daemon has left fails in part.
    ReleaseFails,
    /// A machine's drivers misbehave for a while.
    Drivers,
    /// A machine's state is lost, and its clock is set back.
    ClockSetBack,
    /// A machine comes back with the state of an earlier life.
    Snapshot,
    /// A machine comes back with the state of another one.
    Clone,
    /// Nothing is stored on one machine for a while.
    DiskFull,
    /// Or only later.
    SlowDisk,
    /// A power cut leaves half of what was written.
    HalfWritten,
    /// Packets of any earlier life come again.
    OldPackets,
    /// None of a machine's own links can be used, which it is told.
    LinksDown,
    /// What kept a resource from running is seen to be over.
    Recovery,
    /// People move and clear everything everywhere.
    People,
}

impl TroubleKind {
    /// Those after which a machine may not know its newest generation.
    pub const OLD_STATES: [Self; 5] = [
        Self::ClockSetBack,
        Self::Snapshot,
        Self::Clone,
        Self::DiskFull,
        Self::HalfWritten,
    ];

    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Freeze,
        Self::Rollout,
        Self::Restart,
        Self::ReleaseFails,
        Self::Drivers,
        Self::ClockSetBack,
        Self::Snapshot,
        Self::Clone,
        Self::DiskFull,
        Self::SlowDisk,
        Self::HalfWritten,
        Self::OldPackets,
        Self::LinksDown,
        Self::Recovery,
        Self::People,
    ];
}

impl<M: Mind> Sim<M> {
    pub(super) fn begin_troubles(&mut self) {
        if !self.scenario.extras.troubles.is_empty() {
            let first = self.trouble_random.below(3 * nanos(self.scenario.initdead));
            self.queue.push(first, Happening::Trouble);
        }
    }

    pub(super) fn on_trouble(&mut self) -> Result<(), Failure> {
        if !self.watch.allows_faults() {
            return Ok(());
        }
        let gap = 1 + self.trouble_random.below(2 * self.scenario.extras.gap);
        self.queue.push(self.now + gap, Happening::Trouble);
        let node = self.trouble_random.index(self.nodes.len());
        let other = self.trouble_random.index(self.nodes.len());
        let kinds = &self.scenario.extras.troubles;
        let Some(kind) = self.trouble_random.pick(kinds).copied() else {
            return Ok(());
        };
        match kind {
            TroubleKind::Freeze => self.freeze(node),
            TroubleKind::Rollout if !self.scenario.demands.rollouts => {}
            TroubleKind::Rollout => self.begin_rollout(),
            TroubleKind::Restart => self.restart_daemon(node)?,
            TroubleKind::ReleaseFails => self.set_manner(node, |it| it.release_fails = true),
            TroubleKind::Drivers => self.spoil_drivers(node),
            TroubleKind::ClockSetBack => self.lose_power_and(node, Self::set_clock_back),
            TroubleKind::Snapshot => self.lose_power_and(node, Self::restore_snapshot),
            TroubleKind::Clone => {
                let disk = self.nodes.get(other).and_then(|it| it.disk.clone());
                self.lose_power_and(node, |_, machine| machine.disk = disk);
            }
            TroubleKind::DiskFull => self.spoil_disk(node, |disk| disk.full = true),
            TroubleKind::SlowDisk => self.spoil_disk(node, |disk| disk.slow = true),
            TroubleKind::HalfWritten => self.spoil_disk(node, |disk| disk.halves = true),
            TroubleKind::OldPackets => self.send_old_packets(node),
            TroubleKind::LinksDown => self.take_links_down(node)?,
            TroubleKind::Recovery => self.recover(node)?,
            TroubleKind::People => self.people_are_busy(node)?,
        }
        Ok(())
    }

    /// No packet leaves a machine or comes in, and its daemon knows why.
    fn take_links_down(&mut self, node: usize) -> Result<(), Failure> {
        self.tokens += 1;
        let (id, link) = (self.tokens, None);
        let (one, rest) = (1 << node, !(1 << node));
        for (from, to) in [(one, rest), (rest, one)] {
            self.network.cut(self.now, Cut { id, link, from, to });
        }
        let deadtime = nanos(self.scenario.deadtime);
        let end = self.now + self.trouble_random.between(deadtime / 8, 5 * deadtime);
        self.queue.push(end, Happening::Mend { id });
        self.queue.push(end, Happening::LinksUp { node });
        self.set_own_links(node, false)
    }

    /// A daemon is told whether any link of its own can be used, as it is told at its start.
    ///
    /// # Errors
    /// An invariant that did not hold.
    pub fn set_own_links(&mut self, node: usize, usable: bool) -> Result<(), Failure> {
        let Some(machine) = self
            .nodes
            .get_mut(node)
            .filter(|it| it.links_down == usable)
        else {
            return Ok(());
        };
        machine.links_down = !usable;
        self.note_node(node, format_args!("own links usable: {usable}"));
        self.turn(node, Input::Links { usable })
    }

    fn recover(&mut self, node: usize) -> Result<(), Failure> {
        let groups: Vec<GroupName> = self.scenario.groups.keys().cloned().collect();
        let awake = self.nodes.get(node).is_some_and(|it| it.is_awake());
        let Some(group) = self.trouble_random.pick(&groups).filter(|_| awake).cloned() else {
            return Ok(());
        };
        self.note_node(node, format_args!("what kept {group} from running is over"));
        let (order, resource) = (None, String::from("unit"));
        let outcome = GroupOutcome::Recovered { resource };
        let answer = Answer {
            order,
            group,
            outcome,
        };
        self.deliver(node, answer)
    }

    /// Several requests at once, each on some node.
    fn people_are_busy(&mut self, first: usize) -> Result<(), Failure> {
        let mut node = first;
        for _ in 0..1 + self.trouble_random.below(5) {
            let groups: Vec<GroupName> = self.scenario.groups.keys().cloned().collect();
            let group = self.trouble_random.pick(&groups).cloned();
            let target = self.trouble_random.pick(&self.scenario.nodes).cloned();
            let (Some(group), Some(target)) = (group, target) else {
                return Ok(());
            };
            let request = match self.trouble_random.below(5) {
                0 | 1 => Request::Move {
                    group,
                    node: target,
                },
                2 | 3 => Request::Clear(group),
                _ => Request::Online,
            };
            self.request(node, request)?;
            node = self.trouble_random.index(self.nodes.len());
        }
        Ok(())
    }
}
