//! What runs here: the plan's word for each group carried out.

use crate::core::event::Event;
use crate::core::group::Activity;
use crate::core::io::{Output, Urgency};
use crate::core::leader::{owner, runs};
use crate::core::{Core, Policy};
use crate::ids::{GroupName, NodeName};
use crate::wire::status::{Assignment, Fitness, Status};

/// What the plan wants of one group here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    /// Nothing is decided: what runs goes on, what is stopped stays so.
    AsItIs,
    Run {
        pinned: bool,
    },
    Stop(Urgency),
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
            let (activity, fitness) = (local.activity, local.failures.fitness());
            match (activity, self.duty(&name)) {
                // Another node may have it by now: addresses first.
                (Activity::Leftover, _) => self.order_stop(&name, Urgency::LeaseLost),
                (Activity::Inherited, _) if !self.holds_lease() => {
                    self.order_stop(&name, Urgency::LeaseLost);
                }
                (Activity::Inherited, _) if self.may_run_here(&name) => self.order_adoption(&name),
                // The file has been changed since: what goes on is not watched, nor is a start under way completed.
                (Activity::Inherited, _) => self.order_stop(&name, Urgency::Orderly),
                (Activity::Stopped, Duty::Run { pinned })
                    if may_start && fitness != Fitness::Unfit && self.may_run_here(&name) =>
                {
                    self.order_start(&name, pinned);
                }
                (up, Duty::Stop(urgency)) if up.is_up() => self.order_stop(&name, urgency),
                (up, Duty::Run { pinned }) if up.is_up() => {
                    if let Some(local) = self.groups.get_mut(&name) {
                        local.pinned = pinned;
                    }
                }
                (_, Duty::AsItIs | Duty::Run { .. } | Duty::Stop(_)) => {}
            }
        }
        if !self.holds_lease() {
            self.release(Blocked::LeftAlone);
        }
    }

    /// Whether this node's own configuration lets it run a group; a leader may have another one.
    pub(super) fn may_run_here(&self, group: &GroupName) -> bool {
        let settings = self.settings.groups.get(group);
        settings.is_some_and(|settings| settings.nodes.contains(&self.settings.local))
    }

    fn duty(&self, group: &GroupName) -> Duty {
        let abandoned = self.leaving.is_some_and(|leaving| {
            !self.leader_counts() || self.now.since(leaving.since) > 2 * self.settings.deadtime
        });
        if self.was_replaced(group) {
            return Duty::Stop(Urgency::LeaseLost);
        }
        if abandoned {
            return Duty::Stop(Urgency::Orderly);
        }
        let Some(plan) = &self.plan else {
            return Duty::AsItIs;
        };
        match plan.groups.get(group) {
            Some(Assignment::Run { node, pinned }) if *node == self.settings.local => {
                Duty::Run { pinned: *pinned }
            }
            Some(Assignment::Keep(node)) if *node == self.settings.local => Duty::AsItIs,
            // A plan names another owner only once this one has stopped, or could not run it any more: it may run there.
            Some(Assignment::Run { .. } | Assignment::Keep(_)) => Duty::Stop(Urgency::LeaseLost),
            Some(Assignment::Nobody) => Duty::Stop(Urgency::Orderly),
            None => Duty::AsItIs,
        }
    }

    /// Whether a peer that does not hear us says that we are dead and that it has the group: under `ignore` nobody else
    /// can tell us that we are the sick one. Who is in contact with others is not. A cut that heals looks the same for an
    /// instant, and is left to the leader.
    fn was_replaced(&self, group: &GroupName) -> bool {
        let patience = 2 * self.settings.keepalive;
        self.settings.policy == Policy::Ignore
            && self.reach() == 0
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
        let cut_off = !self.hears() && !self.settings.standalone();
        promised
            && willing
            && !cut_off
            && self.voting()
            && self.leader_counts()
            && self.holds_lease()
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
                Activity::Starting { .. }
                | Activity::Adopting { .. }
                | Activity::Started { .. } => true,
                Activity::Stopping { urgency, .. } => urgency == Urgency::Orderly,
                Activity::Blocked => blocked == Blocked::TriedAgain,
                Activity::Leftover | Activity::Inherited | Activity::Stopped => false,
            })
            .map(|(name, _)| name.clone())
            .collect();
        let serving = held.iter().any(|name| {
            let group = self.groups.get(name);
            group.is_some_and(|g| g.activity.is_up())
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

    pub(super) fn order_restart(&mut self, name: &GroupName, resource: String) {
        let order = self.order();
        let since = self.now;
        self.set_activity(name, Activity::Starting { order, since });
        self.outputs.push(Output::RestartGroup {
            group: name.clone(),
            order,
            resource,
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

    pub(super) fn set_activity(&mut self, name: &GroupName, activity: Activity) {
        if let Some(group) = self.groups.get_mut(name) {
            group.activity = activity;
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
