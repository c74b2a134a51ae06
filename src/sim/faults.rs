//! What goes wrong, when and for how long; and what persons ask for meanwhile.

use crate::core::{Request, Scope};
use crate::ids::GroupName;
use crate::sim::Mind;
use crate::sim::check::Failure;
use crate::sim::clock::nanos;
use crate::sim::cluster::Sim;
use crate::sim::happening::Happening;
use crate::sim::network::Cut;
use crate::sim::node::PauseKind;

/// One kind of trouble; a scenario has some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// One node does not hear another one.
    CutOneWay,
    /// Two nodes do not hear each other on one link.
    CutLink,
    /// The nodes fall apart into two sets.
    Partition,
    /// One node hears nobody, or nobody hears it.
    Isolate,
    /// A link loses and delays packets.
    Storm,
    /// A machine is off from one instant to the next, and boots again later.
    PowerCut,
    /// The same, and its disk is lost.
    StateLoss,
    /// The daemon dies, alone.
    DaemonCrash,
    /// The daemon stands still, alone.
    PauseDaemon,
    /// A whole machine stands still.
    PauseMachine,
    /// A resource of a running group ends.
    ResourceFailure,
    /// A person sends a node into standby.
    Standby,
    /// And back.
    Online,
    /// A person moves a group.
    Move,
    /// A person clears a group's failures.
    Clear,
    /// A person stops the daemon.
    Shutdown,
    /// The daemon dies, or its machine loses power, halfway through what its core wants done.
    CrashHalfway,
    /// Resources of all running groups end at once.
    FailEverywhere,
    /// Somebody starts a resource where its group does not run.
    ResourceAppears,
}

/// A crash halfway comes before one of so many outputs.
const OUTPUTS_MAX: usize = 5;

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::CutOneWay,
        Self::CutLink,
        Self::Partition,
        Self::Isolate,
        Self::Storm,
        Self::PowerCut,
        Self::StateLoss,
        Self::DaemonCrash,
        Self::PauseDaemon,
        Self::PauseMachine,
        Self::ResourceFailure,
        Self::Standby,
        Self::Online,
        Self::Move,
        Self::Clear,
        Self::Shutdown,
        Self::CrashHalfway,
        Self::FailEverywhere,
        Self::ResourceAppears,
    ];
}

impl<M: Mind> Sim<M> {
    /// Plans the first fault.
    pub(super) fn begin_faults(&mut self) {
        if self.scenario.faults.is_empty() {
            return;
        }
        let quiet = nanos(self.scenario.initdead) + 2 * nanos(self.scenario.deadtime);
        let first = if self.fault_random.chance(200) {
            1
        } else {
            self.fault_random.below(2 * quiet)
        };
        self.queue.push(first, Happening::Fault);
    }

    pub(super) fn on_fault(&mut self) -> Result<(), Failure> {
        if !self.watch.allows_faults() {
            return Ok(());
        }
        let gap = 1 + self.fault_random.below(2 * self.scenario.fault_gap);
        self.queue.push(self.now + gap, Happening::Fault);
        let node = self.fault_random.index(self.nodes.len());
        let other = self.fault_random.index(self.nodes.len());
        let Some(kind) = self.fault_random.pick(&self.scenario.faults).copied() else {
            return Ok(());
        };
        match kind {
            FaultKind::CutOneWay => self.cut(None, 1 << node, 1 << other, false),
            FaultKind::CutLink => {
                let link = self.fault_random.index(self.network.links());
                self.cut(Some(link), 1 << node, 1 << other, true);
            }
            FaultKind::Partition => {
                let side = self.fault_random.number();
                self.cut(None, side, !side, true);
            }
            FaultKind::Isolate => {
                let (one, rest) = (1 << node, !(1 << node));
                match self.fault_random.below(3) {
                    0 => self.cut(None, one, rest, false),
                    1 => self.cut(None, rest, one, false),
                    _ => self.cut(None, one, rest, true),
                }
            }
            FaultKind::Storm => self.storm(),
            FaultKind::PowerCut => self.power_cut_for_a_while(node, false),
            FaultKind::StateLoss => self.power_cut_for_a_while(node, true),
            FaultKind::DaemonCrash => self.crash_daemon(node),
            FaultKind::PauseDaemon => self.pause_for_a_while(node, PauseKind::Daemon),
            FaultKind::PauseMachine => self.pause_for_a_while(node, PauseKind::Machine),
            FaultKind::ResourceFailure => self.fail_resource(node)?,
            FaultKind::FailEverywhere => self.fail_everywhere()?,
            FaultKind::ResourceAppears => self.appear(node)?,
            FaultKind::Standby => {
                let scopes = [
                    Scope::All,
                    Scope::All,
                    Scope::Local,
                    Scope::Foreign,
                    Scope::Failback,
                ];
                let scope = self
                    .fault_random
                    .pick(&scopes)
                    .copied()
                    .unwrap_or(Scope::All);
                self.request(node, Request::Standby(scope))?;
            }
            FaultKind::Online => drop(self.request(node, Request::Online)?),
            FaultKind::Move => self.ask_random_move(node, other)?,
            FaultKind::Clear => {
                if let Some(group) = self.random_group() {
                    self.request(node, Request::Clear(group))?;
                }
            }
            FaultKind::Shutdown => self.shut_down(node)?,
            FaultKind::CrashHalfway => {
                let outputs = self.fault_random.index(OUTPUTS_MAX);
                if let Some(daemon) = self.nodes.get_mut(node).and_then(|n| n.daemon.as_mut()) {
                    daemon.dies_after = Some(outputs);
                }
            }
        }
        Ok(())
    }

    fn trouble_time(&mut self) -> u64 {
        let deadtime = nanos(self.scenario.deadtime);
        self.fault_random.between(deadtime / 8, 5 * deadtime)
    }

    fn cut(&mut self, link: Option<usize>, from: u64, to: u64, both_ways: bool) {
        self.tokens += 1;
        let id = self.tokens;
        let mask = (1_u64 << self.nodes.len()) - 1;
        self.note(
            "network",
            format_args!(
                "cut {id}: {:b} -> {:b} link {link:?} both ways {both_ways}",
                from & mask,
                to & mask
            ),
        );
        self.network.cut(self.now, Cut { id, link, from, to });
        if both_ways {
            self.network.cut(
                self.now,
                Cut {
                    id,
                    link,
                    from: to,
                    to: from,
                },
            );
        }
        let end = self.now + self.trouble_time();
        self.queue.push(end, Happening::Mend { id });
    }

    fn storm(&mut self) {
        self.tokens += 1;
        let id = self.tokens;
        let link = self.fault_random.index(self.network.links());
        self.note("network", format_args!("storm {id} on link {link}"));
        self.network.storm(self.now, link, id);
        let end = self.now + self.trouble_time();
        self.queue.push(end, Happening::Mend { id });
    }

    fn power_cut_for_a_while(&mut self, node: usize, lose_state: bool) {
        if !self.nodes.get(node).is_some_and(|node| node.powered) {
            return;
        }
        self.power_cut(node);
        if lose_state && let Some(machine) = self.nodes.get_mut(node) {
            machine.disk = None;
        }
        let back = self.now + self.fault_random.below(4 * nanos(self.scenario.deadtime));
        self.queue.push(back, Happening::Boot { node });
    }

    /// Whether a daemon ends here, with `done` outputs of its turn carried out and others not.
    pub(super) fn crashes_halfway(&mut self, node: usize, done: usize) -> bool {
        // What stands still cannot die, and is told of its links all the same.
        let awake = self.nodes.get(node).filter(|it| it.is_awake());
        let daemon = awake.and_then(|it| it.daemon.as_ref());
        let crashes = daemon.is_some_and(|daemon| daemon.dies_after == Some(done));
        if crashes && self.fault_random.chance(500) {
            self.power_cut_for_a_while(node, false);
        } else if crashes {
            self.crash_daemon(node);
        }
        crashes
    }

    fn crash_daemon(&mut self, node: usize) {
        if !self.nodes.get(node).is_some_and(|node| node.is_awake()) {
            return;
        }
        let deadtime = nanos(self.scenario.deadtime);
        let at_once = self.fault_random.chance(500);
        let back = if at_once {
            nanos(self.scenario.keepalive) / 4
        } else {
            4 * deadtime
        };
        let back = self.now + self.fault_random.below(back);
        self.daemon_dies(node, at_once);
        self.start_daemon_at(node, back);
    }

    fn pause_for_a_while(&mut self, node: usize, kind: PauseKind) {
        let (keepalive, deadtime) = (
            nanos(self.scenario.keepalive),
            nanos(self.scenario.deadtime),
        );
        let Some(machine) = self
            .nodes
            .get(node)
            .filter(|node| node.powered && node.pause.is_none())
        else {
            return;
        };
        let just_resumed = self.now < machine.resumed + 2 * keepalive;
        if just_resumed || (kind == PauseKind::Daemon && machine.daemon.is_none()) {
            return;
        }
        let length = match self.fault_random.below(3) {
            0 => self.fault_random.below(keepalive * 4 / 10),
            1 => self.fault_random.below(deadtime / 2),
            _ => self.fault_random.below(4 * deadtime),
        };
        self.pause(node, kind, length);
    }

    fn random_group(&mut self) -> Option<GroupName> {
        let groups: Vec<GroupName> = self.scenario.groups.keys().cloned().collect();
        self.fault_random.pick(&groups).cloned()
    }

    fn ask_random_move(&mut self, asker: usize, target: usize) -> Result<(), Failure> {
        let target = self.scenario.nodes.get(target).cloned();
        if let (Some(group), Some(node)) = (self.random_group(), target) {
            self.request(asker, Request::Move { group, node })?;
        }
        Ok(())
    }
}
