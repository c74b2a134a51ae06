//! After the faults: everything heals, and must run where it should within a bound, and then stay.

use crate::core::Request;
use crate::core::event::Event;
use crate::core::view::View;
use crate::ids::GroupName;
use crate::sim::Mind;
use crate::sim::check::{self, Failure};
use crate::sim::clock::{Nanos, nanos};
use crate::sim::cluster::Sim;
use crate::sim::hands::HandState;
use crate::sim::happening::Happening;
use crate::wire::status::Phase;
use std::collections::BTreeMap;

/// Every request is answered within this, if only by saying that it takes too long.
const REPLY_MAX: Nanos = 121_000_000_000;

/// A node takes so many requests before it has to answer some.
const REQUESTS_AT_ONCE: usize = 8;

/// What the run expects at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Anything may go wrong.
    Faults,
    /// Nothing goes wrong any more, and the cluster sorts itself out.
    Settling,
    /// Nothing may move.
    Steady,
    /// Only what a person asks for may move.
    Asked,
}

impl Watch {
    /// Whether faults are still wanted.
    pub fn allows_faults(self) -> bool {
        self == Self::Faults
    }
}

impl<M: Mind> Sim<M> {
    /// Changes what is expected from now on.
    pub fn expect(&mut self, watch: Watch) {
        self.note("phase", format_args!("{watch:?}"));
        self.watch = watch;
    }

    pub(super) fn watch_hands(&self, group: &GroupName) -> Result<(), Failure> {
        match self.watch {
            Watch::Steady => self.fail("stability", format!("group {group} moves without a cause")),
            Watch::Faults | Watch::Settling | Watch::Asked => Ok(()),
        }
    }

    pub(super) fn watch_event(&self, node: usize, event: &Event) -> Result<(), Failure> {
        let steady = matches!(self.watch, Watch::Steady | Watch::Asked);
        let moved = matches!(event, Event::Leader { .. })
            || (self.watch == Watch::Steady && matches!(event, Event::GroupPlanned { .. }));
        if steady && moved {
            return self.fail(
                "stability",
                format!("node {node} says {event:?} without a cause"),
            );
        }
        if check::is_unexpected(event, &self.scenario, steady, self.stood_still) {
            return self.fail(
                "event",
                format!("node {node} says {event:?} without a cause"),
            );
        }
        Ok(())
    }

    /// Ends all faults, and brings back all nodes but some that stay down.
    ///
    /// # Errors
    /// An invariant that did not hold.
    pub fn heal(&mut self) -> Result<(), Failure> {
        self.expect(Watch::Settling);
        self.network.heal(self.now);
        self.choose_who_stays_down();
        self.bring_all_back()?;
        self.people_tidy_up()
    }

    /// All machines but those that stay down come back, and work well from now on.
    ///
    /// # Errors
    /// An invariant that did not hold.
    pub(super) fn bring_all_back(&mut self) -> Result<(), Failure> {
        let skill = self.skill();
        for node in 0..self.nodes.len() {
            self.mend_disk(node);
            self.mend_drivers(node)?;
            self.set_own_links(node, true)?;
            self.take_newest_file(node);
            let Some(machine) = self.nodes.get_mut(node) else {
                continue;
            };
            machine.hands.set_skill(skill);
            if let Some(daemon) = &mut machine.daemon {
                daemon.dies_after = None;
            }
            if machine.stays_down {
                self.power_cut(node);
                continue;
            }
            self.bring_back(node);
        }
        Ok(())
    }

    fn choose_who_stays_down(&mut self) {
        let count = self.nodes.len();
        let spare = match self.scenario.policy {
            crate::core::Policy::Majority => count.saturating_sub(1) / 2,
            crate::core::Policy::Ignore => count.saturating_sub(1),
        };
        if self.random.chance(600) {
            return;
        }
        for _ in 0..self.random.below(spare as u64 + 1) {
            let victim = self.random.index(count);
            if let Some(machine) = self.nodes.get_mut(victim) {
                machine.stays_down = true;
            }
        }
    }

    fn bring_back(&mut self, node: usize) {
        let soon = self.now + self.random.below(nanos(self.scenario.deadtime));
        let Some(machine) = self.nodes.get_mut(node) else {
            return;
        };
        if let Some(token) = machine.pause.as_ref().map(|pause| pause.token) {
            self.on_resume(node, token);
        }
        self.hurry(node);
        let Some(machine) = self.nodes.get(node) else {
            return;
        };
        let outdated = machine
            .daemon
            .as_ref()
            .is_some_and(|it| it.settings != machine.settings);
        if !machine.powered {
            self.queue.push(soon, Happening::Boot { node });
        } else if outdated || machine.daemon.as_ref().is_some_and(|daemon| daemon.leaving) {
            self.daemon_dies(node, false);
            self.start_daemon_at(node, soon);
        } else if machine.daemon.is_none() {
            self.start_daemon_at(node, soon);
        }
    }

    fn hurry(&mut self, node: usize) {
        let latest = self.now + self.scenario.stop_max.max(self.scenario.start_max);
        let Some(machine) = self.nodes.get_mut(node) else {
            return;
        };
        for (group, work) in machine.hands.hurry(latest) {
            self.plan_work(node, &group, work);
        }
    }

    /// On all nodes, people repair what failed, clear it, and mostly end standby.
    ///
    /// # Errors
    /// An invariant that did not hold.
    pub fn people_tidy_up(&mut self) -> Result<(), Failure> {
        let groups: Vec<GroupName> = self.scenario.groups.keys().cloned().collect();
        let online = !self.scenario.seed.is_multiple_of(5);
        for (turn, some) in groups.chunks(REQUESTS_AT_ONCE).enumerate() {
            if turn > 0 {
                let beat = nanos(self.scenario.keepalive) + self.scenario.delay_max();
                self.run_until(self.now + 4 * beat)?;
            }
            for node in 0..self.nodes.len() {
                for group in some {
                    self.request(node, Request::Clear(group.clone()))?;
                }
                if online {
                    self.request(node, Request::Online)?;
                }
            }
        }
        Ok(())
    }

    /// Waits until everything is as it should be; returns how long that took after people's requests were carried out.
    ///
    /// # Errors
    /// An invariant that did not hold, or why it is not settled within `bound`.
    pub fn settle(&mut self, bound: Nanos, invariant: &'static str) -> Result<Nanos, Failure> {
        let (mut begin, step) = (self.now, nanos(self.scenario.keepalive));
        let latest = begin + REPLY_MAX;
        loop {
            self.run_until(self.now + step)?;
            match self.settled() {
                Ok(()) => return Ok(self.now - begin),
                Err(_) if self.hands_over() && self.now < latest => begin = self.now,
                Err(reason) if self.now >= begin + bound => return self.fail(invariant, reason),
                Err(_) => {}
            }
        }
    }

    /// Waits for people's requests that move groups.
    ///
    /// # Errors
    /// An invariant that did not hold.
    pub(super) fn await_hand_overs(&mut self) -> Result<(), Failure> {
        let (step, latest) = (nanos(self.scenario.keepalive), self.now + REPLY_MAX);
        while self.hands_over() && self.now < latest {
            self.run_until(self.now + step)?;
        }
        Ok(())
    }

    /// Whether a person's request still moves one group after another.
    fn hands_over(&self) -> bool {
        let mut daemons = self.nodes.iter().filter_map(|node| node.daemon.as_ref());
        daemons.any(|daemon| !daemon.handing_over.is_empty())
    }

    /// Nodes whose daemon runs, and what each of them shows.
    pub(super) fn views(&self) -> BTreeMap<usize, View> {
        let view = |(index, node): (usize, &super::node::Node<M>)| {
            let daemon = node.daemon.as_ref()?;
            Some((index, daemon.mind.view(node.clock.local(self.now))))
        };
        std::iter::zip(0.., &self.nodes).filter_map(view).collect()
    }

    /// Whether one leader is known to all, and each group runs once where it can.
    ///
    /// # Errors
    /// What is not so yet.
    pub fn settled(&self) -> Result<(), String> {
        let views = self.views();
        let expected = self.nodes.iter().filter(|node| !node.stays_down).count();
        if views.len() < expected {
            return Err(format!("only {} of {expected} daemons run", views.len()));
        }
        if self.hands_over() {
            return Err(String::from("a person's request still moves groups"));
        }
        let term = views.values().find_map(|view| view.term.clone());
        for view in views.values() {
            let name = &view.local_node;
            if !view.has_leader || view.term != term {
                return Err(format!("{name} follows {:?}, others {term:?}", view.term));
            }
            if view.phase != Phase::Active {
                return Err(format!("{name} is {:?}", view.phase));
            }
        }
        self.scenario
            .groups
            .keys()
            .try_for_each(|group| self.group_settled(group, &views))
    }

    fn group_settled(
        &self,
        group: &GroupName,
        views: &BTreeMap<usize, View>,
    ) -> Result<(), String> {
        let able = self.able(group, views);
        let holders = self.holders(group);
        match holders.as_slice() {
            [] if able.is_empty() => Ok(()),
            [holder] if able.contains(holder) => {
                let state = self.nodes.get(*holder).map(|node| node.hands.state(group));
                if state == Some(HandState::Running) {
                    Ok(())
                } else {
                    Err(format!("group {group} is {state:?} on node {holder}"))
                }
            }
            _ => Err(format!(
                "group {group} is held by nodes {holders:?}, able are {able:?}"
            )),
        }
    }

    /// Nodes that run and can run a group.
    pub(super) fn able(&self, group: &GroupName, views: &BTreeMap<usize, View>) -> Vec<usize> {
        let Some(settings) = self.scenario.groups.get(group) else {
            return Vec::new();
        };
        let can = |view: &View| {
            let standby = view
                .nodes
                .get(&view.local_node)
                .is_some_and(|node| node.standby);
            !standby && settings.nodes.contains(&view.local_node)
        };
        views
            .iter()
            .filter(|(_, view)| can(view))
            .map(|(index, _)| *index)
            .collect()
    }

    /// For a while nothing may move; and by its end no person may wait for an answer.
    ///
    /// # Errors
    /// What moved, or who waits.
    pub fn stay(&mut self, time: Nanos) -> Result<(), Failure> {
        self.expect(Watch::Steady);
        self.run_until(self.now + time)?;
        if let Err(reason) = self.settled() {
            return self.fail("stability", reason);
        }
        let overdue = |since: &Nanos| self.now - since > REPLY_MAX;
        for node in &self.nodes {
            let pending = node.daemon.iter().flat_map(|daemon| &daemon.pending);
            if let Some((id, _)) = pending.into_iter().find(|(_, since)| overdue(since)) {
                let text = format!("{} never answered request {}", node.name, id.0);
                return self.fail("reply", text);
            }
        }
        Ok(())
    }
}
