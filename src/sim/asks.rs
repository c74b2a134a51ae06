//! In a settled cluster, what persons ask for happens within a bound, and never leaves a group down.

use crate::core::{Request, Scope};
use crate::ids::{GroupName, RequestId};
use crate::sim::Mind;
use crate::sim::check::Failure;
use crate::sim::clock::nanos;
use crate::sim::cluster::Sim;
use crate::sim::settle::Watch;

impl<M: Mind> Sim<M> {
    /// Persons ask for one thing or another, and everything is as it was again; a daemon that is stopped stays so.
    ///
    /// # Errors
    /// An invariant that did not hold.
    pub fn ask_something(&mut self) -> Result<(), Failure> {
        match self.random.below(4) {
            0 => self.ask_move(false)?,
            1 => self.ask_move(true)?,
            2 => self.ask_standby()?,
            _ => return self.ask_shutdown(),
        }
        self.stay(nanos(self.scenario.deadtime))
    }

    /// A person moves a group, perhaps to a node on which it does not start.
    ///
    /// # Errors
    /// An invariant that did not hold.
    pub fn ask_move(&mut self, target_fails: bool) -> Result<(), Failure> {
        let views = self.views();
        let groups: Vec<GroupName> = self.scenario.groups.keys().cloned().collect();
        let Some(group) = self.random.pick(&groups).cloned() else {
            return Ok(());
        };
        let able = self.able(&group, &views);
        let others: Vec<usize> = able
            .into_iter()
            .filter(|node| !self.holds(*node, &group))
            .collect();
        let askers: Vec<usize> = views.keys().copied().collect();
        let (Some(target), Some(asker)) = (
            self.random.pick(&others).copied(),
            self.random.pick(&askers).copied(),
        ) else {
            return Ok(());
        };
        let Some(name) = self.scenario.nodes.get(target).cloned() else {
            return Ok(());
        };
        self.expect(Watch::Asked);
        if target_fails && let Some(machine) = self.nodes.get_mut(target) {
            machine.hands.fail_next_start(Some(group.clone()));
        }
        let id = self.request(
            asker,
            Request::Move {
                group: group.clone(),
                node: name,
            },
        )?;
        let accepted = self.await_reply(id)?;
        self.settle(self.scenario.move_time(), "move")?;
        if accepted == target_fails || self.holds(target, &group) == target_fails {
            let text = format!(
                "move of {group} to node {target} (fails: {target_fails}) was answered {accepted}, \
                 and it runs there: {}",
                self.holds(target, &group)
            );
            return self.fail("move", text);
        }
        if let Some(machine) = self.nodes.get_mut(target) {
            machine.hands.fail_next_start(None);
        }
        if target_fails {
            self.request(target, Request::Clear(group))?;
        }
        self.run_until(self.now + self.scenario.move_time())?;
        self.settle(self.scenario.move_time(), "move").map(drop)
    }

    /// A person sends a node into standby, and back.
    ///
    /// # Errors
    /// An invariant that did not hold.
    pub fn ask_standby(&mut self) -> Result<(), Failure> {
        let nodes: Vec<usize> = self.views().into_keys().collect();
        let Some(node) = self.random.pick(&nodes).copied() else {
            return Ok(());
        };
        self.expect(Watch::Asked);
        let others_can = self.scenario.groups.keys().all(|group| {
            let able = self.able(group, &self.views());
            !self.holds(node, group) || able.iter().any(|other| *other != node)
        });
        let id = self.request(node, Request::Standby(Scope::All))?;
        let accepted = self.await_reply(id)?;
        if others_can && !accepted {
            return self.fail("standby", format!("standby of node {node} was refused"));
        }
        self.settle(self.scenario.move_time(), "standby")?;
        let id = self.request(node, Request::Online)?;
        if !self.await_reply(id)? {
            return self.fail("standby", format!("online of node {node} was refused"));
        }
        self.run_until(self.now + self.scenario.move_time())?;
        self.settle(self.scenario.move_time(), "standby").map(drop)
    }

    /// A person stops a daemon: it hands over and leaves, and the rest goes on.
    ///
    /// # Errors
    /// An invariant that did not hold.
    pub fn ask_shutdown(&mut self) -> Result<(), Failure> {
        let nodes: Vec<usize> = self.views().into_keys().collect();
        let left = nodes.len().saturating_sub(1);
        let enough = match self.scenario.policy {
            crate::core::Policy::Majority => left > self.nodes.len() / 2,
            crate::core::Policy::Ignore => left > 0,
        };
        let Some(node) = self.random.pick(&nodes).copied().filter(|_| enough) else {
            return Ok(());
        };
        self.expect(Watch::Settling);
        if let Some(machine) = self.nodes.get_mut(node) {
            machine.stays_down = true;
        }
        self.shut_down(node)?;
        let bound = self.scenario.move_time() + 2 * nanos(self.scenario.deadtime);
        let end = self.now + bound;
        while self
            .nodes
            .get(node)
            .is_some_and(|node| node.daemon.is_some())
        {
            if self.now > end {
                return self.fail("shutdown", format!("node {node} does not leave"));
            }
            self.run_until(self.now + nanos(self.scenario.keepalive))?;
        }
        self.settle(bound, "shutdown").map(drop)
    }

    fn holds(&self, node: usize, group: &GroupName) -> bool {
        self.nodes
            .get(node)
            .is_some_and(|node| node.hands.holds(group))
    }

    /// Whether a request was granted, once it is answered.
    fn await_reply(&mut self, id: Option<RequestId>) -> Result<bool, Failure> {
        let Some(id) = id else { return Ok(false) };
        let end = self.now + self.scenario.move_time();
        loop {
            if let Some(result) = self.replies.remove(&id) {
                return Ok(result.is_ok());
            }
            if self.now > end {
                return self.fail("reply", format!("request {} is not answered in time", id.0));
            }
            self.run_until(self.now + nanos(self.scenario.keepalive))?;
        }
    }
}
