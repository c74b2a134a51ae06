//! People change the configuration on a running cluster: a file on one node after the other, each of which is restarted
//! then, or restarts by itself and takes the new file, too.

use crate::core::Settings;
use crate::ids::{GroupName, NodeName};
use crate::sim::Mind;
use crate::sim::check::Failure;
use crate::sim::clock::nanos;
use crate::sim::cluster::Sim;
use crate::sim::faults::FaultKind;
use crate::sim::happening::Happening;
use crate::sim::scenario::Scenario;
use crate::sim::trouble::TroubleKind;
use std::time::Duration;

impl Scenario {
    /// What the core of each node is told by the newest files.
    pub(super) fn revise(&mut self, random: &mut crate::sim::random::Random) {
        self.revision += 1;
        let (before, initdead) = (self.deadtime, self.initdead);
        // Whose state is lost has forgotten for how long it has promised: people who lose disks change no times.
        let forgets =
            self.faults.contains(&FaultKind::StateLoss) || self.has(&TroubleKind::OLD_STATES);
        let first = if forgets { 2 } else { 0 };
        match random.between(first, 5) {
            0 => {
                let beats = u32::try_from(random.between(3, 12)).unwrap_or(3);
                self.deadtime = beats * self.keepalive;
            }
            1 => {
                let keepalives = [10, 20, 50, 100, 250].map(Duration::from_millis);
                let wanted = |it: &Duration| 3 * *it <= self.deadtime && *it * 12 >= self.deadtime;
                let fitting: Vec<Duration> = keepalives.into_iter().filter(wanted).collect();
                self.keepalive = *random.pick(&fitting).unwrap_or(&self.keepalive);
            }
            2 => self.revise_roles(random),
            3 => self.add_some_group(random),
            4 => {
                let names: Vec<GroupName> = self.groups.keys().cloned().collect();
                if let Some(name) = random.pick(&names).filter(|_| names.len() > 1) {
                    self.groups.remove(name);
                    self.extras.former_groups.insert(name.clone());
                }
            }
            _ => self.revise_lists(random),
        }
        self.warntime = self.deadtime / 2;
        self.initdead = self.initdead.max(self.deadtime);
        // Promises of before bind for as long as they were given for, over restarts.
        let longest = before.max(initdead).max(self.deadtime);
        self.extras.slack = self.extras.slack.max(4 * nanos(longest));
    }

    fn revise_roles(&mut self, random: &mut crate::sim::random::Random) {
        let index = random.index(self.nodes.len());
        let others = self.witnesses.iter().enumerate();
        let able = others.filter(|(it, witness)| *it != index && !**witness);
        if able.count() == 0 {
            return;
        }
        let Some(name) = self.nodes.get(index).cloned() else {
            return;
        };
        let Some(witness) = self.witnesses.get_mut(index) else {
            return;
        };
        *witness = !*witness;
        let first = std::iter::zip(&self.nodes, &self.witnesses).find(|(_, witness)| !**witness);
        let Some(first) = first.map(|(name, _)| name.clone()) else {
            return;
        };
        for group in self.groups.values_mut() {
            group.nodes.retain(|it| *it != name);
            if group.nodes.is_empty() {
                group.nodes.push(first.clone());
            }
        }
    }

    fn able_nodes(&self) -> Vec<NodeName> {
        let able = std::iter::zip(&self.nodes, &self.witnesses).filter(|(_, witness)| !**witness);
        able.map(|(name, _)| name.clone()).collect()
    }

    fn add_some_group(&mut self, random: &mut crate::sim::random::Random) {
        let index = 3 + random.index(3);
        let mut nodes = self.able_nodes();
        let shift = random.index(nodes.len());
        nodes.rotate_left(shift);
        self.add_group(index, nodes, random.chance(500));
        let groups = &self.groups;
        self.extras
            .former_groups
            .retain(|it| !groups.contains_key(it));
    }

    fn revise_lists(&mut self, random: &mut crate::sim::random::Random) {
        let able = self.able_nodes();
        for group in self.groups.values_mut() {
            let mut nodes = able.clone();
            let shift = random.index(nodes.len());
            nodes.rotate_left(shift);
            let kept = 1 + random.index(nodes.len());
            nodes.truncate(kept);
            group.nodes = nodes;
        }
    }
}

impl<M: Mind> Sim<M> {
    /// People have decided on another configuration, and begin with some node, unless they still have an earlier one to
    /// bring everywhere.
    pub(super) fn begin_rollout(&mut self) {
        if self
            .nodes
            .iter()
            .any(|it| it.settings != self.newest_settings(&it.name))
        {
            return;
        }
        self.scenario.revise(&mut self.trouble_random);
        let pause = nanos(self.scenario.deadtime);
        let text = self.scenario.to_string();
        self.note("people", format_args!("roll out {text}"));
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        let mut when = self.now;
        while !order.is_empty() {
            let node = order.swap_remove(self.trouble_random.index(order.len()));
            when += 1 + self.trouble_random.below(3 * pause);
            self.queue.push(when, Happening::Edit { node });
        }
    }

    fn newest_settings(&self, name: &NodeName) -> Settings {
        self.scenario.settings(name)
    }

    /// One node has the newest file, and is restarted one way or the other.
    pub(super) fn on_edit(&mut self, node: usize) -> Result<(), Failure> {
        if !self.watch.allows_faults() || !self.take_newest_file(node) {
            return Ok(());
        }
        match self.trouble_random.below(4) {
            0 => self.shut_down(node),
            1 => {
                self.daemon_dies(node, false);
                let soon = self.trouble_random.below(nanos(self.scenario.deadtime));
                self.start_daemon_at(node, self.now + soon);
                Ok(())
            }
            _ => self.restart_daemon(node),
        }
    }

    /// Answers whether the node's daemon has to be restarted for it.
    pub(super) fn take_newest_file(&mut self, node: usize) -> bool {
        let Some(name) = self.nodes.get(node).map(|it| it.name.clone()) else {
            return false;
        };
        let newest = self.newest_settings(&name);
        let Some(machine) = self.nodes.get_mut(node).filter(|it| it.settings != newest) else {
            return false;
        };
        machine.settings = newest;
        let awake = machine.is_awake();
        self.note_node(node, format_args!("has the newest file"));
        awake
    }
}
