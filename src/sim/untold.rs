//! What a dead daemon's release could not stop, and who has heard of it.
//!
//! Without a watchdog or a fence nobody can know of such a group while its machine is not heard: then a majority may
//! start it elsewhere. Whoever could know must not.

use crate::ids::NodeName;
use crate::sim::Mind;
use crate::sim::clock::{Nanos, nanos};
use crate::sim::cluster::Sim;
use crate::wire::status::{GroupState, Status};
use std::collections::BTreeMap;

/// Who knows of one stuck group of one machine.
#[derive(Debug, Default)]
pub struct Untold {
    /// Lives of daemons that have heard of it, and since when.
    heard: BTreeMap<u64, Nanos>,
    /// It was started elsewhere by nodes that could not know.
    taken: bool,
}

impl Untold {
    /// Whether it was started elsewhere by nodes that could not know.
    pub fn is_taken(&self) -> bool {
        self.taken
    }
}

impl<M: Mind> Sim<M> {
    /// A message has come to a node.
    pub(super) fn hear_of_stuck(&mut self, node: usize, status: &Status) {
        let Some(life) = self.life(node) else { return };
        let now = self.now;
        let mut senders = self.nodes.iter_mut();
        let Some(sender) = senders.find(|it| it.name == status.node && !it.untold.is_empty())
        else {
            return;
        };
        for (group, untold) in &mut sender.untold {
            let report = status.report.groups.get(group);
            if report.is_some_and(|it| it.state == GroupState::Blocked) {
                untold.heard.entry(life).or_insert(now);
            }
        }
    }

    /// Looks which stuck groups were started by nodes that could not know of them; those do not count as held any more.
    pub(super) fn excuse_what_nobody_knows(&mut self) {
        if self.nodes.iter().all(|node| node.untold.is_empty()) {
            return;
        }
        let mut taken = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            for (group, untold) in &node.untold {
                let mut holders = self.holders(group).into_iter();
                if !untold.taken && holders.any(|it| it != index && !self.could_know(it, untold)) {
                    taken.push((index, group.clone()));
                }
            }
        }
        for (index, group) in taken {
            self.note_node(
                index,
                format_args!("nobody can know that {group} is stuck here"),
            );
            let node = self.nodes.get_mut(index);
            if let Some(untold) = node.and_then(|it| it.untold.get_mut(&group)) {
                untold.taken = true;
            }
        }
    }

    /// Whether a node that starts a group, its leader, or someone in every majority has known for long enough.
    fn could_know(&self, starter: usize, untold: &Untold) -> bool {
        let beat =
            nanos(self.scenario.keepalive) + self.scenario.delay_max() + self.scenario.lateness;
        let knows = |node: usize| {
            let since = self.life(node).and_then(|life| untold.heard.get(&life));
            since.is_some_and(|since| since + 2 * beat <= self.now)
        };
        let leader = self.leader_of(starter);
        let leads = |name: &NodeName| self.nodes.iter().position(|it| it.name == *name);
        let count = self.nodes.len();
        knows(starter)
            || leader.as_ref().and_then(leads).is_some_and(knows)
            || (0..count).filter(|node| knows(*node)).count() >= count - count / 2
    }

    fn leader_of(&self, node: usize) -> Option<NodeName> {
        let machine = self.nodes.get(node)?;
        let daemon = machine.daemon.as_ref()?;
        let view = daemon.mind.view(machine.clock.local(self.now));
        view.term.map(|term| term.leader)
    }
}
