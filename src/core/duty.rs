//! What runs here: the plan's word for each group carried out, the drivers' answers taken in.

use crate::core::event::Event;
use crate::core::group::Activity;
use crate::core::io::{GroupOutcome, Output, Urgency};
use crate::core::leader::{owner, runs};
use crate::core::{Core, Policy};
use crate::ids::{GroupName, NodeName, RequestId};
use crate::wire::status::{Assignment, GroupState, Status};

/// What the plan wants of one group here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    /// Nothing is decided: what runs goes on, what is stopped stays so.
    AsItIs,
    Run {
        pinned: bool,
    },
    Stop,
}

/// What a release does about groups whose stop has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocked {
    TriedAgain,
    LeftAlone,
}

impl Core {
    /// Orders what the present plan and lease ask for.
    pub(super) fn do_duty(&mut self) {
        let names: Vec<GroupName> = self.groups.keys().cloned().collect();
        let may_start = self.may_start();
        for name in names {
            let Some(local) = self.groups.get(&name) else {
                continue;
            };
            let (activity, failures) = (local.activity, local.failures);
            match (activity, self.duty(&name)) {
                // Another node may have it by now: addresses first.
                (Activity::Leftover, _) => self.order_stop(&name, Urgency::LeaseLost),
                (Activity::Inherited, _) if self.holds_lease() => self.order_adoption(&name),
                (Activity::Inherited, _) => self.order_stop(&name, Urgency::LeaseLost),
                (Activity::Stopped, Duty::Run { pinned }) if may_start && failures == 0 => {
                    self.order_start(&name, pinned);
                }
                (
                    Activity::Starting { .. } | Activity::Adopting { .. } | Activity::Started,
                    Duty::Stop,
                ) => {
                    self.order_stop(&name, Urgency::Orderly);
                }
                (
                    Activity::Starting { .. } | Activity::Adopting { .. } | Activity::Started,
                    Duty::Run { pinned },
                ) => {
                    if let Some(local) = self.groups.get_mut(&name) {
                        local.pinned = pinned;
                    }
                }
                (Activity::Stopped | Activity::Stopping { .. } | Activity::Blocked, _)
                | (
                    Activity::Starting { .. } | Activity::Adopting { .. } | Activity::Started,
                    Duty::AsItIs,
                ) => {}
            }
        }
        if !self.holds_lease() {
            self.release(Blocked::LeftAlone);
        }
    }

    fn duty(&self, group: &GroupName) -> Duty {
        let abandoned = self.leaving.is_some_and(|leaving| {
            !self.leader_counts() || self.now.since(leaving.since) > 2 * self.settings.deadtime
        });
        if abandoned || self.was_replaced(group) {
            return Duty::Stop;
        }
        let Some(plan) = &self.plan else {
            return Duty::AsItIs;
        };
        match plan.groups.get(group) {
            Some(Assignment::Run { node, pinned }) if *node == self.settings.local => {
                Duty::Run { pinned: *pinned }
            }
            Some(Assignment::Keep(node)) if *node == self.settings.local => Duty::AsItIs,
            Some(Assignment::Run { .. } | Assignment::Keep(_) | Assignment::Nobody) => Duty::Stop,
            None => Duty::AsItIs,
        }
    }

    /// Whether a peer that does not hear us says that we are dead and that it has the group: under `ignore` nobody else
    /// can tell us that we are the sick one. A cut that heals looks the same for an instant, and is left to the leader.
    fn was_replaced(&self, group: &GroupName) -> bool {
        let patience = 2 * self.settings.keepalive;
        self.settings.policy == Policy::Ignore
            && self.peers.values().any(|peer| {
                let deaf = peer.deaf_since.is_some_and(|t| self.now >= t + patience);
                let says = |status: &Status| {
                    let dead = status.report.dead.get(&self.settings.local);
                    let state = status.report.groups.get(group).map(|g| g.state);
                    dead.is_some_and(|d| !d.heard_again) && state.is_some_and(runs)
                };
                deaf && peer.current().is_some_and(says)
            })
    }

    /// Whether this node may start what the plan gives it: its lease holds, and the leader of that plan has
    /// promised not to replace it, in a message that held the newest plan of that moment.
    fn may_start(&self) -> bool {
        let promised = match &self.term {
            None => false,
            Some(term) if term.leader == self.settings.local => self.elected(),
            Some(term) => {
                let promise = self
                    .peers
                    .get(&term.leader)
                    .and_then(|p| p.promised_until());
                promise.is_some_and(|until| self.now < until)
            }
        };
        let willing = !self.standby && self.leaving.is_none();
        promised && willing && self.voting() && self.leader_counts() && self.holds_lease()
    }

    /// Gives up everything at once: the lease is over. A failed stop is tried once more, since the others cannot know.
    pub(super) fn release_all(&mut self) {
        self.release(Blocked::TriedAgain);
    }

    fn release(&mut self, blocked: Blocked) {
        let held: Vec<GroupName> = self
            .groups
            .iter()
            .filter(|(_, group)| match group.activity {
                Activity::Starting { .. } | Activity::Adopting { .. } | Activity::Started => true,
                Activity::Stopping { urgency, .. } => urgency == Urgency::Orderly,
                Activity::Blocked => blocked == Blocked::TriedAgain,
                Activity::Leftover | Activity::Inherited | Activity::Stopped => false,
            })
            .map(|(name, _)| name.clone())
            .collect();
        let serving = held.iter().any(|name| {
            self.groups.get(name).is_some_and(|g| {
                matches!(
                    g.activity,
                    Activity::Starting { .. } | Activity::Adopting { .. } | Activity::Started
                )
            })
        });
        if serving {
            self.event(Event::LeaseLost);
        }
        for name in held {
            self.order_stop(&name, Urgency::LeaseLost);
        }
    }

    fn order_start(&mut self, name: &GroupName, pinned: bool) {
        let order = self.order();
        let since = self.now;
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        group.activity = Activity::Starting { order, since };
        group.pinned = pinned;
        if let Some(peer) = self.taken_from(name) {
            self.event(Event::TakingOver {
                peer,
                group: name.clone(),
            });
        }
        self.event(Event::GroupStarting {
            group: name.clone(),
        });
        self.outputs.push(Output::StartGroup {
            group: name.clone(),
            order,
        });
    }

    /// What runs already is started all the same, which changes nothing and brings the drivers to watch it.
    fn order_adoption(&mut self, name: &GroupName) {
        let order = self.order();
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        group.activity = Activity::Adopting { order };
        self.event(Event::GroupAdopted {
            group: name.clone(),
        });
        self.outputs.push(Output::StartGroup {
            group: name.clone(),
            order,
        });
    }

    /// The node that had the group, if it is dead or has left.
    fn taken_from(&self, name: &GroupName) -> Option<NodeName> {
        let owner = self.watched.get(name)?.last_owner.as_ref()?;
        let absent = self
            .peers
            .get(owner)
            .is_some_and(|p| !p.in_contact(self.now, self.settings.deadtime));
        absent.then(|| owner.clone())
    }

    pub(super) fn order_stop(&mut self, name: &GroupName, urgency: Urgency) {
        let order = self.order();
        let since = self.now;
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        let leftover = matches!(group.activity, Activity::Leftover | Activity::Inherited);
        group.activity = Activity::Stopping {
            order,
            since,
            urgency,
        };
        group.pinned = false;
        if !leftover {
            self.event(Event::GroupStopping {
                group: name.clone(),
            });
        }
        self.outputs.push(Output::StopGroup {
            group: name.clone(),
            order,
            urgency,
        });
    }

    /// Takes in what a driver reports; an answer to an order that was replaced since is dropped.
    pub(super) fn handle_outcome(
        &mut self,
        name: &GroupName,
        order: Option<RequestId>,
        outcome: GroupOutcome,
    ) {
        let Some(group) = self.groups.get(name) else {
            return;
        };
        let activity = group.activity;
        if order.is_some() && !group.awaits(order) {
            // The order was replaced while its failure was on the way: it failed all the same.
            if let GroupOutcome::StartFailed { resource, reason } = outcome {
                self.count_failure(name, resource, reason);
            }
            return;
        }
        match (activity, outcome) {
            (Activity::Starting { since, .. }, GroupOutcome::Started) => {
                self.set_activity(name, Activity::Started);
                let duration = self.now.since(since);
                self.event(Event::GroupStarted {
                    group: name.clone(),
                    duration,
                });
            }
            (Activity::Adopting { .. }, GroupOutcome::Started) => {
                self.set_activity(name, Activity::Started);
            }
            (
                Activity::Starting { .. } | Activity::Adopting { .. },
                GroupOutcome::StartFailed { resource, reason },
            ) => {
                self.set_activity(name, Activity::Stopped);
                self.count_failure(name, resource, reason);
            }
            (Activity::Started, GroupOutcome::Failed { resource, reason }) => {
                self.count_failure(name, resource, reason);
                self.order_stop(name, Urgency::Orderly);
            }
            (Activity::Stopping { since, .. }, GroupOutcome::Stopped) => {
                self.set_activity(name, Activity::Stopped);
                let duration = self.now.since(since);
                self.event(Event::GroupStopped {
                    group: name.clone(),
                    duration,
                });
            }
            (
                Activity::Starting { .. } | Activity::Adopting { .. } | Activity::Stopping { .. },
                GroupOutcome::StopFailed { resource, reason },
            ) => {
                // While starting, it is the undoing of a start that failed.
                if !matches!(activity, Activity::Stopping { .. }) {
                    self.count_failure(name, resource.clone(), reason.clone());
                }
                self.on_blocked(name, resource, reason);
            }
            // What a driver says beside these has been overtaken by a later order.
            (
                _,
                GroupOutcome::Started
                | GroupOutcome::StartFailed { .. }
                | GroupOutcome::Stopped
                | GroupOutcome::StopFailed { .. }
                | GroupOutcome::Failed { .. },
            ) => {}
        }
    }

    fn on_blocked(&mut self, name: &GroupName, resource: String, reason: String) {
        self.set_activity(name, Activity::Blocked);
        self.event(Event::GroupBlocked {
            group: name.clone(),
            resource,
            reason,
        });
    }

    fn set_activity(&mut self, name: &GroupName, activity: Activity) {
        if let Some(group) = self.groups.get_mut(name) {
            group.activity = activity;
        }
    }

    fn count_failure(&mut self, name: &GroupName, resource: String, reason: String) {
        if let Some(group) = self.groups.get_mut(name) {
            group.failures = group.failures.saturating_add(1);
        }
        self.event(Event::GroupFailed {
            group: name.clone(),
            resource,
            reason,
        });
    }

    /// Forgets failures of a group here, and tries a failed stop again.
    pub(super) fn clear(&mut self, name: &GroupName) {
        let deadtime = self.settings.deadtime;
        let now = self.now;
        let peers = &self.peers;
        let before = self.blocked_elsewhere.len();
        self.blocked_elsewhere.retain(|(group, node)| {
            group != name || peers.get(node).is_some_and(|p| p.in_contact(now, deadtime))
        });
        if self.blocked_elsewhere.len() != before {
            self.persist();
        }
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        group.failures = 0;
        if group.state() == GroupState::Blocked {
            self.order_stop(name, Urgency::Orderly);
        }
    }

    /// Whether this node runs nothing any more, failed stops aside.
    pub(super) fn is_empty(&self) -> bool {
        self.groups
            .values()
            .all(|g| matches!(g.activity, Activity::Stopped | Activity::Blocked))
    }

    /// Who has the group by the present plan.
    pub(super) fn planned_owner(&self, group: &GroupName) -> Option<&NodeName> {
        owner(self.plan.as_ref()?.groups.get(group))
    }
}
