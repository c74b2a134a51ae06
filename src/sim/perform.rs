//! The daemon's part: what a core wants done is carried out at once and in order.

use crate::core::{Output, Urgency};
use crate::ids::{GroupName, NodeName, RequestId, Term};
use crate::sim::Mind;
use crate::sim::check::Failure;
use crate::sim::clock::nanos;
use crate::sim::cluster::Sim;
use crate::sim::hands::{HandState, Work};
use crate::sim::happening::Happening;
use crate::sim::node::Daemon;
use crate::sim::transport::{self, Packet};
use crate::wire::status::Status;

/// What one datagram can carry.
const DATAGRAM_MAX: usize = 65_507;

impl<M: Mind> Sim<M> {
    pub(super) fn perform(&mut self, node: usize, output: Output) -> Result<(), Failure> {
        match output {
            Output::Send(status) => self.send(node, &status)?,
            Output::StartGroup { group, order } => self.start_group(node, &group, order)?,
            Output::RestartGroup { group, order, .. } => {
                self.restart_group(node, &group, order)?;
            }
            Output::StopGroup {
                group,
                order,
                urgency,
            } => {
                self.stop_group(node, &group, order, urgency)?;
            }
            Output::Announce(group) => self.note_node(node, format_args!("announce {group}")),
            Output::Event(event) => {
                self.note_node(node, format_args!("{event:?}"));
                self.watch_event(node, &event)?;
            }
            Output::Persist(persistent) => self.store(node, persistent),
            Output::Reply { id, result } => {
                self.note_node(node, format_args!("reply {} {result:?}", id.0));
                let daemon = self
                    .nodes
                    .get_mut(node)
                    .and_then(|node| node.daemon.as_mut());
                let is_answered = |daemon: &mut Daemon<M>| {
                    daemon.handing_over.remove(&id);
                    daemon.pending.remove(&id).is_none()
                };
                if daemon.is_some_and(is_answered) {
                    return self.fail("reply", format!("request {} was answered twice", id.0));
                }
                self.replies.insert(id, result);
            }
            Output::Exit => self.on_exit(node)?,
        }
        Ok(())
    }

    fn send(&mut self, node: usize, status: &Status) -> Result<(), Failure> {
        let Some(machine) = self.nodes.get_mut(node) else {
            return Ok(());
        };
        let mut packet = None;
        if let Some(daemon) = machine.daemon.as_mut() {
            let again = status.generation == daemon.generation;
            if again && status.sequence <= daemon.sequence {
                let text = format!("{} sent sequence {} again", machine.name, status.sequence);
                return self.fail("sequence", text);
            }
            (daemon.generation, daemon.sequence) = (status.generation, status.sequence);
            packet = Some(transport::pack_as(&mut daemon.exchange, status));
            let words = Box::new(status.clone());
            machine.memory = Some(words.clone());
            machine.record = Some((daemon.mind.inheritance(), words));
        }
        if let Some(packet) = packet {
            if packet.length() > DATAGRAM_MAX {
                let text = format!("node {node} has {} bytes to send at once", packet.length());
                return self.fail("size", text);
            }
            self.note_words(node, status);
            self.send_packet(node, &packet);
        }
        Ok(())
    }

    /// For a daemon that is no more.
    pub(super) fn send_last_words(&mut self, node: usize, status: &Status) {
        self.note_words(node, status);
        self.send_packet(node, &transport::pack(status));
    }

    /// On all links.
    fn send_packet(&mut self, node: usize, packet: &Packet) {
        for link in 0..self.network.links() {
            self.network.record(link, packet);
            for to in (0..self.nodes.len()).filter(|to| *to != node) {
                for when in self
                    .network
                    .arrivals(self.now, link, (node, to), packet.length())
                    .into_iter()
                    .flatten()
                {
                    let packet = packet.clone();
                    self.queue.push(
                        when,
                        Happening::Arrive {
                            node: to,
                            link,
                            packet,
                        },
                    );
                }
            }
        }
    }

    fn note_words(&mut self, node: usize, status: &Status) {
        if !self.trace.wants_lines() {
            return;
        }
        let heard: Vec<String> = status
            .heard
            .iter()
            .map(|(peer, heard)| {
                format!(
                    "{peer}:{}{}",
                    heard.sequence,
                    if heard.promise { "!" } else { "" }
                )
            })
            .collect();
        let term = status
            .term
            .as_ref()
            .map_or(String::from("none"), Term::to_string);
        let groups: Vec<String> = status
            .report
            .groups
            .iter()
            .map(|(group, report)| format!("{group}={:?}", report.state))
            .collect();
        let dead: Vec<&NodeName> = status.report.dead.keys().collect();
        let plan = status
            .plan
            .as_ref()
            .map(|plan| (plan.version.0, &plan.groups));
        self.note_node(
            node,
            format_args!(
                "says #{} {:?} term {term} votes {} heard {heard:?} at {} runs {groups:?} dead {dead:?} \
                 plan {plan:?}",
                status.sequence, status.phase, status.voting, status.report.version
            ),
        );
    }

    fn start_group(
        &mut self,
        node: usize,
        group: &GroupName,
        order: RequestId,
    ) -> Result<(), Failure> {
        self.note_node(node, format_args!("start {group} (order {})", order.0));
        self.note_order(node, group, order);
        self.judge_attempt(node, group, false)?;
        let Some(machine) = self.nodes.get_mut(node) else {
            return Ok(());
        };
        let name = machine.name.clone();
        let daemon = machine.daemon.as_ref();
        let known = daemon.and_then(|it| it.settings.groups.get(group));
        let allowed = known.is_some_and(|known| known.nodes.contains(&name));
        if !allowed {
            return self.fail(
                "placement",
                format!("{name} starts {group}, which it must not run"),
            );
        }
        machine.untold.remove(group);
        let afresh = machine.hands.state(group) == HandState::Stopped;
        if machine.links_down && afresh && self.scenario.nodes.len() > 1 {
            let text = format!("{name} starts {group} and has no link of its own");
            return self.fail("own-links", text);
        }
        match machine
            .hands
            .start(self.now, group, order, &mut self.random)
        {
            Ok(work) => self.plan_work_or_hang(node, group, work),
            Err(reason) => return self.fail("orders", format!("{reason}: {group} on {name}")),
        }
        self.hands_changed();
        self.watch_hands(group)
    }

    fn restart_group(
        &mut self,
        node: usize,
        group: &GroupName,
        order: RequestId,
    ) -> Result<(), Failure> {
        self.note_node(node, format_args!("restart {group} (order {})", order.0));
        self.note_order(node, group, order);
        self.judge_attempt(node, group, true)?;
        let Some(machine) = self.nodes.get_mut(node) else {
            return Ok(());
        };
        let name = machine.name.clone();
        match (machine.hands).restart(self.now, group, order, &mut self.random) {
            Ok(work) => self.plan_work(node, group, work),
            Err(reason) => return self.fail("orders", format!("{reason}: {group} on {name}")),
        }
        self.hands_changed();
        self.watch_hands(group)
    }

    fn stop_group(
        &mut self,
        node: usize,
        group: &GroupName,
        order: RequestId,
        urgency: Urgency,
    ) -> Result<(), Failure> {
        self.note_node(
            node,
            format_args!("stop {group} {urgency:?} (order {})", order.0),
        );
        self.note_order(node, group, order);
        let Some(machine) = self.nodes.get_mut(node) else {
            return Ok(());
        };
        let held = machine.hands.holds(group);
        let work = machine
            .hands
            .stop(self.now, group, order, urgency, &mut self.random);
        if self.scenario.watchdog && urgency == Urgency::LeaseLost && held {
            let boot = machine.boot;
            let when =
                self.now + self.scenario.emergency_stop_max_for(group) + self.scenario.lateness;
            self.queue
                .push(when, Happening::ResetUnstopped { node, boot });
        }
        match (work, urgency) {
            (Some(work), Urgency::Orderly) if held => self.plan_work_or_hang(node, group, work),
            (Some(work), Urgency::Orderly | Urgency::LeaseLost) => {
                self.plan_work(node, group, work);
            }
            (None, _) => {}
        }
        if held {
            self.watch_hands(group)
        } else {
            Ok(())
        }
    }

    /// Some drivers never come to an end.
    fn plan_work_or_hang(&mut self, node: usize, group: &GroupName, work: Work) {
        let manner = self.manner(node);
        if self.trouble_random_chance(manner.hangs) {
            self.note_node(node, format_args!("the work on {group} hangs"));
            if let Some(machine) = self.nodes.get_mut(node) {
                machine.hands.hang(group);
            }
        } else {
            self.plan_work(node, group, work);
        }
    }

    pub(super) fn plan_work(&mut self, node: usize, group: &GroupName, work: Work) {
        let boot = self.nodes.get(node).map_or(0, |node| node.boot);
        let (group, token) = (group.clone(), work.token);
        self.queue.push(
            work.ends,
            Happening::Work {
                node,
                boot,
                group,
                token,
            },
        );
    }

    fn on_exit(&mut self, node: usize) -> Result<(), Failure> {
        self.note_node(node, format_args!("exit"));
        let Some(machine) = self.nodes.get(node) else {
            return Ok(());
        };
        let restarting = machine.daemon.as_ref().is_some_and(|it| it.restarting);
        if restarting {
            self.daemon_dies(node, true);
            let soon = self.trouble_random.below(nanos(self.scenario.deadtime) / 4);
            self.start_daemon_at(node, self.now + 1 + soon);
            return Ok(());
        }
        if let Some((group, state)) = machine
            .hands
            .states()
            .find(|(_, state)| !state.may_be_left())
        {
            let text = format!("{} left while {group} was {state:?}", machine.name);
            return self.fail("exit", text);
        }
        let was_asked = machine.daemon.as_ref().is_some_and(|daemon| daemon.leaving);
        if !was_asked {
            return self.fail("exit", format!("node {node} left without being asked"));
        }
        self.end_daemon(node);
        let boot = self.nodes.get(node).map_or(0, |node| node.boot);
        self.queue
            .push(self.now + 1, Happening::Release { node, boot });
        let back = self.now + self.random.below(4 * nanos(self.scenario.deadtime));
        self.start_daemon_at(node, back);
        Ok(())
    }
}
