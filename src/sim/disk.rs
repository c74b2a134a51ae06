//! A machine's disk: writes that come late, get lost or are half done; and what an earlier life or another machine wrote.

use crate::core::Persistent;
use crate::sim::Mind;
use crate::sim::clock::{Nanos, nanos};
use crate::sim::cluster::Sim;
use crate::sim::happening::Happening;
use crate::sim::node::Node;

/// What earlier lives have stored, kept for a machine that goes back to it.
const ALBUM_MAX: usize = 8;

/// What is on a machine's disk beside the present state, and how well it writes.
#[derive(Debug, Default)]
pub struct Disk {
    pub(super) full: bool,
    pub(super) slow: bool,
    /// A power cut leaves nothing that can be read.
    pub(super) halves: bool,
    /// The last write that is under way ends then.
    busy_until: Nanos,
    /// States of earlier lives, oldest first.
    album: Vec<Persistent>,
    /// The wall clock goes behind by so much, in microseconds.
    pub(super) set_back_usec: u64,
}

impl Disk {
    /// Remembers a state for a snapshot.
    pub fn remember(&mut self, state: &Persistent) {
        if self.album.len() < ALBUM_MAX {
            self.album.push(state.clone());
        }
    }
}

impl<M: Mind> Sim<M> {
    /// The core wants something stored: a new generation at once, all else in the background.
    pub(super) fn store(&mut self, node: usize, state: Persistent) {
        let (now, slowest) = (self.now, nanos(self.scenario.deadtime));
        let faults = self.watch.allows_faults();
        let Some(life) = self.life(node) else { return };
        let Some(machine) = self.nodes.get_mut(node) else {
            return;
        };
        if machine.store.full && faults {
            return;
        }
        let same = |known: &Persistent| known.generation == state.generation;
        if machine.store.slow && faults && machine.disk.as_ref().is_some_and(same) {
            let start = machine.store.busy_until.max(now);
            let when = start + 1 + self.trouble_random.below(slowest);
            machine.store.busy_until = when;
            let stored = Happening::Stored { node, life, state };
            self.queue.push(when, stored);
        } else {
            machine.disk = Some(state);
        }
    }

    pub(super) fn on_stored(&mut self, node: usize, life: u64, state: Persistent) {
        if self.life(node) == Some(life)
            && let Some(machine) = self.nodes.get_mut(node)
        {
            machine.disk = Some(state);
        }
    }

    /// Changes how a machine's disk behaves, which was all well before.
    pub(super) fn spoil_disk(&mut self, node: usize, change: impl FnOnce(&mut Disk)) {
        self.mend_disk(node);
        if let Some(machine) = self.nodes.get_mut(node) {
            change(&mut machine.store);
            self.note_node(node, format_args!("the disk does not write well"));
        }
    }

    pub(super) fn mend_disk(&mut self, node: usize) {
        if let Some(machine) = self.nodes.get_mut(node) {
            let store = &mut machine.store;
            (store.full, store.slow, store.halves) = (false, false, false);
        }
    }

    /// A power cut, after which the machine comes back in another condition.
    pub(super) fn lose_power_and(
        &mut self,
        node: usize,
        change: impl FnOnce(&mut Self, &mut Node<M>),
    ) {
        if !self.nodes.get(node).is_some_and(|node| node.powered) {
            return;
        }
        self.power_cut(node);
        let back = self.trouble_random.below(4 * nanos(self.scenario.deadtime));
        self.queue.push(self.now + back, Happening::Boot { node });
        let Some(mut machine) = (node < self.nodes.len()).then(|| self.nodes.swap_remove(node))
        else {
            return;
        };
        change(self, &mut machine);
        let state = machine.disk.as_ref().map(|disk| disk.generation.0);
        let last = self.nodes.len();
        self.nodes.push(machine);
        self.nodes.swap(node, last);
        self.note_node(
            node,
            format_args!("will come back with generation {state:?}"),
        );
    }

    /// The state is lost, and the wall clock shows a time before earlier lives began.
    pub(super) fn set_clock_back(&mut self, machine: &mut Node<M>) {
        machine.disk = None;
        machine.store.set_back_usec = self.trouble_random.below(2 * self.now / 1000 + 10);
    }

    pub(super) fn restore_snapshot(&mut self, machine: &mut Node<M>) {
        if let Some(state) = self.trouble_random.pick(&machine.store.album) {
            machine.disk = Some(state.clone());
        }
    }
}
