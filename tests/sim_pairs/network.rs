//! The network: what is under way, lost, held back.

use crate::cluster::{Cluster, Flight, MESSAGE};
use crate::fault::Slot;
use ha_node::wire::status::Status;
use std::sync::Arc;

impl Cluster {
    /// Loses what is sent from one to the other, as long as any fault wants that.
    pub fn cut(&mut self, from: usize, to: usize, slot: Slot) {
        self.cuts[from][to] |= slot.bit();
    }

    pub fn mend(&mut self, from: usize, to: usize, slot: Slot) {
        self.cuts[from][to] &= !slot.bit();
    }

    /// Whether each of two hears what the other says.
    pub fn are_joined(&self, one: usize, other: usize) -> bool {
        self.cuts[one][other] == 0 && self.cuts[other][one] == 0
    }

    /// Whether nothing is cut.
    pub fn is_whole(&self) -> bool {
        self.cuts.iter().flatten().all(|by| *by == 0)
    }

    /// The next message in this direction stays under way until it is let go.
    pub fn hold(&mut self, from: usize, to: usize, slot: Slot) {
        self.holds.push((from, to, slot));
    }

    pub fn let_go(&mut self, slot: Slot) {
        self.holds.retain(|h| h.2 != slot);
        let held = std::mem::take(&mut self.held);
        let (mine, others) = held.into_iter().partition(|h| h.2 == slot);
        self.held = others;
        for (_, to, _, status) in mine {
            let at = self.now + 1;
            self.flights.push(Flight { at, to, status });
        }
    }

    pub fn send(&mut self, from: usize, status: Box<Status>) {
        let status: Arc<Status> = Arc::from(status);
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            let cut_by = self.cuts[from][to];
            if cut_by != 0 {
                // The lowest bit alone: what the first fault loses, the second one cannot.
                self.effects |= cut_by & cut_by.wrapping_neg();
                continue;
            }
            let held = self.holds.iter().position(|h| (h.0, h.1) == (from, to));
            if let Some(place) = held {
                let (_, _, slot) = self.holds.remove(place);
                self.effects |= slot.bit();
                self.held.push((from, to, slot, status.clone()));
                continue;
            }
            let at = self.now + MESSAGE;
            let status = status.clone();
            self.flights.push(Flight { at, to, status });
        }
    }
}
