//! What persons want: each request is answered once, when the cluster has done it or with the reason why not.

use crate::core::Core;
use crate::core::event::Event;
use crate::core::io::{Output, Request, Scope};
use crate::core::time::Instant;
use crate::ids::{GroupName, NodeName, RequestId, Term};
use crate::wire::status::{
    Answer, Assignment, Fitness, ForwardedRequest, GroupState, Phase, Refusal, Status, Wish,
};
use std::collections::VecDeque;
use std::time::Duration;

/// Most requests that wait at a time; one more is refused as [`Refusal::Busy`].
const PENDING_MAX: usize = 16;

/// After this a request is answered with [`Refusal::TimedOut`]; what was planned goes on.
const REQUEST_MAX: Duration = Duration::from_secs(120);

/// All requests that wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Requests {
    pending: VecDeque<Pending>,
    last_forwarded: RequestId,
}

#[derive(Debug, Clone)]
struct Pending {
    id: RequestId,
    since: Instant,
    task: Task,
}

#[derive(Debug, Clone)]
enum Task {
    /// Until these groups run elsewhere.
    Leave(Vec<GroupName>),
    /// One move after the other.
    Move {
        current: Step,
        rest: VecDeque<(GroupName, NodeName)>,
    },
    /// Until everybody has heard it.
    Clear {
        forwarded: ForwardedRequest,
        /// Since when our heartbeats carry it.
        sent_since: Option<Instant>,
    },
}

#[derive(Debug, Clone)]
struct Step {
    group: GroupName,
    node: NodeName,
    forwarded: ForwardedRequest,
    accepted_in: Option<Term>,
}

/// What became of a task in this turn.
enum Progress {
    Waits,
    Ends(Result<(), Refusal>),
}

impl Core {
    pub(super) fn handle_request(&mut self, id: RequestId, request: Request) {
        let refused = if self.leaving.is_some() {
            Err(Refusal::ShuttingDown)
        } else if self.requests.pending.len() >= PENDING_MAX {
            Err(Refusal::Busy)
        } else {
            self.take_up(request)
        };
        match refused {
            Ok(None) => self.outputs.push(Output::Reply { id, result: Ok(()) }),
            Ok(Some(task)) => self.requests.pending.push_back(Pending {
                id,
                since: self.now,
                task,
            }),
            Err(refusal) => self.outputs.push(Output::Reply {
                id,
                result: Err(refusal),
            }),
        }
    }

    /// A task to wait for, or none where nothing is left to do.
    fn take_up(&mut self, request: Request) -> Result<Option<Task>, Refusal> {
        match request {
            Request::Online => {
                self.set_standby(false);
                Ok(None)
            }
            Request::Standby(Scope::All) => self.enter_standby().map(Some),
            Request::Standby(Scope::Local) => self.give_up(true),
            Request::Standby(Scope::Foreign | Scope::Failback) => self.give_up(false),
            Request::Move { group, node } => {
                self.check_move(&group, &node)?;
                Ok(self.move_task(VecDeque::from([(group, node)])))
            }
            Request::Clear(group) => {
                if !self.settings.groups.contains_key(&group) {
                    return Err(Refusal::NoSuchGroup(group));
                }
                self.clear(&group);
                let forwarded = self.forward(Wish::Clear { group });
                Ok(Some(Task::Clear {
                    forwarded,
                    sent_since: None,
                }))
            }
        }
    }

    fn set_standby(&mut self, standby: bool) {
        if self.standby == standby {
            return;
        }
        self.standby = standby;
        self.persist();
        let node = self.settings.local.clone();
        self.event(if standby {
            Event::StandbyEntered { node }
        } else {
            Event::StandbyLeft { node }
        });
    }

    fn enter_standby(&mut self) -> Result<Task, Refusal> {
        let groups = self.groups_here();
        if let Some(stuck) = groups.iter().find(|g| self.takers(g).next().is_none()) {
            return Err(Refusal::NowhereToGo(stuck.clone()));
        }
        self.set_standby(true);
        Ok(Task::Leave(groups))
    }

    /// One move for each group here that prefers this node, or another.
    fn give_up(&mut self, local: bool) -> Result<Option<Task>, Refusal> {
        let mut moves = VecDeque::new();
        for group in self.groups_here() {
            let settings = self.settings.groups.get(&group);
            let preferred = settings.and_then(|s| s.nodes.first()) == Some(&self.settings.local);
            if preferred == local {
                let taker = self.takers(&group).next().cloned();
                moves.push_back((group.clone(), taker.ok_or(Refusal::NowhereToGo(group))?));
            }
        }
        Ok(self.move_task(moves))
    }

    fn groups_here(&self) -> Vec<GroupName> {
        let here = self.groups.iter().filter(|(_, g)| match g.state() {
            GroupState::Starting | GroupState::Started => true,
            GroupState::Stopped | GroupState::Stopping | GroupState::Blocked => false,
        });
        here.map(|(name, _)| name.clone()).collect()
    }

    fn move_task(&mut self, mut moves: VecDeque<(GroupName, NodeName)>) -> Option<Task> {
        let (group, node) = moves.pop_front()?;
        let forwarded = self.forward(Wish::Move {
            group: group.clone(),
            node: node.clone(),
        });
        let current = Step {
            group,
            node,
            forwarded,
            accepted_in: None,
        };
        Some(Task::Move {
            current,
            rest: moves,
        })
    }

    fn forward(&mut self, wish: Wish) -> ForwardedRequest {
        self.requests.last_forwarded = RequestId(self.requests.last_forwarded.0.saturating_add(1));
        ForwardedRequest {
            id: self.requests.last_forwarded,
            wish,
        }
    }

    /// The request that is on its way to the leader: one at a time.
    pub(super) fn forwarded(&self) -> Option<&ForwardedRequest> {
        self.requests
            .pending
            .iter()
            .find_map(|pending| match &pending.task {
                Task::Leave(_) => None,
                Task::Move { current, .. } => {
                    current.accepted_in.is_none().then_some(&current.forwarded)
                }
                Task::Clear { forwarded, .. } => Some(forwarded),
            })
    }

    /// Whether the leader would accept a move, as far as this node can tell.
    pub(super) fn check_move(&self, group: &GroupName, node: &NodeName) -> Result<(), Refusal> {
        let settings = self
            .settings
            .groups
            .get(group)
            .ok_or_else(|| Refusal::NoSuchGroup(group.clone()))?;
        if !self.settings.nodes.contains_key(node) {
            return Err(Refusal::NoSuchNode(node.clone()));
        }
        if !settings.nodes.contains(node) {
            return Err(Refusal::NotAllowedThere {
                group: group.clone(),
                node: node.clone(),
            });
        }
        self.check_taker(group, node)
    }

    /// Whether a listed node can run a group now.
    pub(super) fn check_taker(&self, group: &GroupName, node: &NodeName) -> Result<(), Refusal> {
        let blocked = self.report().blocked.into_iter().find(|(g, _)| g == group);
        if let Some((group, node)) = blocked {
            return Err(Refusal::Blocked { group, node });
        }
        let local = *node == self.settings.local;
        let report = match self.peers.get(node) {
            Some(peer) if peer.in_contact(self.now, self.settings.deadtime) => peer
                .current()
                .filter(|s| s.phase != Phase::Gone)
                .map(|s| s.report.clone()),
            Some(_) => None,
            None => local.then(|| self.report()),
        };
        let report = report.ok_or_else(|| Refusal::NodeNotActive(node.clone()))?;
        if report.leaving {
            return Err(Refusal::NodeNotActive(node.clone()));
        }
        if report.standby {
            return Err(Refusal::NodeInStandby(node.clone()));
        }
        let fitness = report.groups.get(group).map(|g| g.fitness);
        if fitness == Some(Fitness::Unfit) {
            return Err(Refusal::FailedThere {
                group: group.clone(),
                node: node.clone(),
            });
        }
        Ok(())
    }

    pub(super) fn fitness_of(&self, group: &GroupName, node: &NodeName) -> Fitness {
        if *node == self.settings.local {
            let local = self.groups.get(group).map(|g| g.failures.fitness());
            return local.unwrap_or_default();
        }
        let status = self.peers.get(node).and_then(|p| p.current());
        let report = status.and_then(|s| s.report.groups.get(group));
        report.map(|g| g.fitness).unwrap_or_default()
    }

    /// Where a group is started, as far as this node knows.
    fn started_on(&self, group: &GroupName) -> Option<&NodeName> {
        if self
            .groups
            .get(group)
            .is_some_and(|g| g.state() == GroupState::Started)
        {
            return Some(&self.settings.local);
        }
        let runs = |s: &Status| {
            s.report
                .groups
                .get(group)
                .is_some_and(|g| g.state == GroupState::Started)
        };
        let heard = self
            .peers
            .iter()
            .filter(|(_, p)| p.is_heard(self.now, self.settings.deadtime));
        heard
            .filter(|(_, p)| p.current().is_some_and(runs))
            .map(|(name, _)| name)
            .next()
    }

    /// Looks at every waiting request.
    pub(super) fn progress_requests(&mut self) {
        let carried = self.forwarded().map(|request| request.id);
        let mut pending = std::mem::take(&mut self.requests.pending);
        let mut waiting = VecDeque::new();
        while let Some(mut entry) = pending.pop_front() {
            let mut progress = self.progress(&mut entry, carried);
            let overdue = self.now.since(entry.since) > REQUEST_MAX;
            if overdue && matches!(progress, Progress::Waits) {
                progress = Progress::Ends(Err(Refusal::TimedOut));
            }
            match progress {
                Progress::Waits => waiting.push_back(entry),
                Progress::Ends(result) => self.outputs.push(Output::Reply {
                    id: entry.id,
                    result,
                }),
            }
        }
        self.requests.pending = waiting;
    }

    fn progress(&mut self, entry: &mut Pending, carried: Option<RequestId>) -> Progress {
        let leaderless =
            !self.leader_counts() && self.now.since(entry.since) > 2 * self.settings.deadtime;
        match &mut entry.task {
            Task::Leave(groups) => {
                let local = &self.settings.local;
                groups.retain(|g| self.started_on(g).is_none_or(|node| node == local));
                let blocked = self.report().blocked;
                let stuck = blocked.into_iter().find(|(g, _)| groups.contains(g));
                let lost = groups
                    .iter()
                    .find(|g| self.takers(g).next().is_none())
                    .cloned();
                if let Some((group, node)) = stuck {
                    return Progress::Ends(Err(Refusal::Blocked { group, node }));
                }
                if groups.is_empty() {
                    Progress::Ends(Ok(()))
                } else if let Some(group) = lost {
                    // Those who were to take it could not: as with a move, it goes back to where it was.
                    self.set_standby(false);
                    Progress::Ends(Err(Refusal::NowhereToGo(group)))
                } else {
                    Progress::Waits
                }
            }
            Task::Move { current, rest } => match self.progress_move(current) {
                Progress::Waits if leaderless && current.accepted_in.is_none() => {
                    Progress::Ends(Err(Refusal::NoLeader))
                }
                Progress::Ends(Ok(())) if !rest.is_empty() => {
                    if let Some(task) = self.move_task(std::mem::take(rest)) {
                        entry.task = task;
                    }
                    Progress::Waits
                }
                ended @ (Progress::Waits | Progress::Ends(_)) => ended,
            },
            Task::Clear {
                forwarded,
                sent_since,
            } => {
                if carried == Some(forwarded.id) {
                    sent_since.get_or_insert(self.now);
                }
                let Some(since) = *sent_since else {
                    return Progress::Waits;
                };
                let deadtime = self.settings.deadtime;
                let all = self
                    .peers
                    .values()
                    .filter(|p| p.in_contact(self.now, deadtime))
                    .all(|p| p.has_heard_since(since));
                if all {
                    Progress::Ends(Ok(()))
                } else {
                    Progress::Waits
                }
            }
        }
    }

    fn progress_move(&mut self, step: &mut Step) -> Progress {
        if let Some(answer) = self.own_answer(step.forwarded.id) {
            match &answer.refusal {
                Some(refusal) if step.accepted_in.is_none() => {
                    return Progress::Ends(Err(refusal.clone()));
                }
                Some(_) => {}
                None => step.accepted_in.clone_from(&self.term),
            }
        }
        if step.accepted_in.is_none() {
            return Progress::Waits;
        }
        if self.started_on(&step.group) == Some(&step.node) {
            return Progress::Ends(Ok(()));
        }
        let mut blocked = self.report().blocked.into_iter();
        if let Some((group, node)) = blocked.find(|(g, _)| *g == step.group) {
            return Progress::Ends(Err(Refusal::Blocked { group, node }));
        }
        if self.fitness_of(&step.group, &step.node) == Fitness::Unfit {
            let (group, node) = (step.group.clone(), step.node.clone());
            return Progress::Ends(Err(Refusal::StartFailed { group, node }));
        }
        let planned = self.plan.as_ref().and_then(|p| p.groups.get(&step.group));
        let elsewhere = planned.is_some_and(|assignment| match assignment {
            Assignment::Run { node, .. } => *node != step.node,
            Assignment::Keep(_) | Assignment::Nobody => false,
        });
        if elsewhere && step.accepted_in == self.term {
            let (group, node) = (step.group.clone(), step.node.clone());
            return Progress::Ends(Err(Refusal::Overtaken { group, node }));
        }
        if self.leader_counts() && step.accepted_in != self.term {
            // The leader that had accepted it is past: its successor must hear of the wish.
            step.accepted_in = None;
            step.forwarded = self.forward(step.forwarded.wish.clone());
        }
        Progress::Waits
    }

    fn own_answer(&self, id: RequestId) -> Option<Answer> {
        let plan = self.plan.as_ref()?;
        let own = |a: &&Answer| (a.generation, a.id) == (self.generation, id);
        plan.answers.get(&self.settings.local).filter(own).cloned()
    }

    /// This life ends: nobody will answer any more.
    pub(super) fn refuse_all(&mut self) {
        for entry in std::mem::take(&mut self.requests.pending) {
            self.outputs.push(Output::Reply {
                id: entry.id,
                result: Err(Refusal::ShuttingDown),
            });
        }
    }
}
