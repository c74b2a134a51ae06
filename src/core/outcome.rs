//! What becomes of groups here: the drivers' answers taken in, failures counted, forgotten and cleared.

use crate::core::Core;
use crate::core::event::Event;
use crate::core::failure::{Consequence, Failures, Moment};
use crate::core::group::Activity;
use crate::core::io::{GroupOutcome, Urgency};
use crate::core::peer::Peer;
use crate::core::settings::FailurePolicy;
use crate::ids::{GroupName, NodeName, RequestId};
use crate::wire::status::GroupState;
use std::collections::BTreeSet;

impl Core {
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
            return self.on_late_answer(name, outcome);
        }
        match (activity, outcome) {
            (Activity::Starting { since, .. }, GroupOutcome::Started) => {
                self.set_activity(name, Activity::Started { since: self.now });
                self.event(Event::GroupStarted {
                    group: name.clone(),
                    duration: self.now.since(since),
                });
            }
            (Activity::Adopting { .. }, GroupOutcome::Started) => {
                self.set_activity(name, Activity::Started { since: self.now });
            }
            (
                Activity::Starting { .. } | Activity::Adopting { .. },
                GroupOutcome::StartFailed { resource, reason },
            ) => {
                self.set_activity(name, Activity::Stopped);
                self.count_failure(name, resource, reason);
            }
            (Activity::Starting { .. } | Activity::Adopting { .. }, GroupOutcome::StartRefused) => {
                self.set_activity(name, Activity::Stopped)
            }
            (up, GroupOutcome::Failed { resource, reason }) if up.is_up() => {
                self.on_failed(name, activity, resource, reason);
            }
            (Activity::Stopped, GroupOutcome::Appeared { resource }) => {
                self.on_appeared(name, resource);
            }
            (_, GroupOutcome::Recovered { resource }) => self.on_recovered(name, &resource),
            (Activity::Stopping { since, .. }, GroupOutcome::Stopped) => {
                self.set_activity(name, Activity::Stopped);
                self.event(Event::GroupStopped {
                    group: name.clone(),
                    duration: self.now.since(since),
                });
            }
            (
                Activity::Starting { .. } | Activity::Adopting { .. } | Activity::Stopping { .. },
                GroupOutcome::StopFailed { resource, reason },
            ) => {
                self.on_blocked(name, activity, resource, reason);
            }
            // What a driver says beside these has been overtaken by a later order.
            (
                _,
                GroupOutcome::Started
                | GroupOutcome::StartFailed { .. }
                | GroupOutcome::StartRefused
                | GroupOutcome::Stopped
                | GroupOutcome::StopFailed { .. }
                | GroupOutcome::Failed { .. }
                | GroupOutcome::Appeared { .. },
            ) => {}
        }
    }

    /// The order was replaced while its failure was on the way: it failed all the same.
    fn on_late_answer(&mut self, name: &GroupName, outcome: GroupOutcome) {
        if let GroupOutcome::StartFailed { resource, reason } = outcome {
            self.count_failure(name, resource, reason);
        }
    }

    /// A resource has failed by itself: its policy says what follows.
    fn on_failed(
        &mut self,
        name: &GroupName,
        activity: Activity,
        resource: String,
        reason: String,
    ) {
        let policy = self.policy(name, &resource);
        // While the group is started or restarted, only what is ignored is told; all else comes with the outcome.
        let started = matches!(activity, Activity::Started { .. });
        if !started && !policy.is_lenient() {
            return;
        }
        let moment = self.moment();
        let Some(local) = self.groups.get_mut(name) else {
            return;
        };
        let group = name.clone();
        match local.failures.on_failure(&resource, policy, moment) {
            Consequence::Restart { attempt, limit } => {
                self.event(Event::ResourceRestarting {
                    group,
                    resource: resource.clone(),
                    reason,
                    attempt,
                    limit,
                });
                self.order_restart(name, resource);
            }
            Consequence::Bar => {
                self.event(Event::GroupFailed {
                    group,
                    resource,
                    reason,
                });
                self.tell_end_of_trials(name);
                self.order_stop(name, Urgency::Orderly);
            }
            Consequence::Ignore => self.event(Event::ResourceFailureIgnored {
                group,
                resource,
                reason,
            }),
        }
    }

    /// Somebody has started a resource of a group that is to be stopped here: another node may run it.
    fn on_appeared(&mut self, name: &GroupName, resource: String) {
        self.event(Event::ResourceAppeared {
            group: name.clone(),
            resource,
        });
        self.order_stop(name, Urgency::Orderly);
    }

    /// The cause of a bar is over: so is the bar, and what is left of it is a doubt.
    fn on_recovered(&mut self, name: &GroupName, resource: &str) {
        let now = self.now;
        if let Some(group) = self.groups.get_mut(name)
            && group.failures.on_recovery(resource, now)
        {
            self.event(Event::FailuresExpired {
                group: name.clone(),
            });
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.now,
            notice: self.settings.deadtime,
        }
    }

    fn policy(&self, group: &GroupName, resource: &str) -> FailurePolicy {
        let settings = self.settings.groups.get(group);
        settings.map_or_else(FailurePolicy::default, |g| g.policy(resource))
    }

    fn on_blocked(
        &mut self,
        name: &GroupName,
        activity: Activity,
        resource: String,
        reason: String,
    ) {
        // While starting, it is the undoing of a start that failed.
        if !matches!(activity, Activity::Stopping { .. }) {
            self.count_failure(name, resource.clone(), reason.clone());
        }
        self.set_activity(name, Activity::Blocked);
        self.event(Event::GroupBlocked {
            group: name.clone(),
            resource,
            reason,
        });
    }

    fn count_failure(&mut self, name: &GroupName, resource: String, reason: String) {
        let (policy, moment) = (self.policy(name, &resource), self.moment());
        if let Some(group) = self.groups.get_mut(name) {
            group.failures.on_defeat(&resource, policy, moment);
        }
        self.event(Event::GroupFailed {
            group: name.clone(),
            resource,
            reason,
        });
        self.tell_end_of_trials(name);
    }

    /// A bar that only a person ends is worth a word of its own.
    fn tell_end_of_trials(&mut self, name: &GroupName) {
        let group = self.groups.get(name);
        if group.is_some_and(|group| group.failures.is_final()) {
            self.event(Event::GroupGivenUp {
                group: name.clone(),
            });
        }
    }

    /// Forgets failures that are past.
    pub(super) fn forget_failures(&mut self) {
        let now = self.now;
        let forgiven = self.groups.iter_mut().filter_map(|(name, group)| {
            let forgiven = group.forget_failures(now);
            forgiven.then(|| Event::FailuresExpired {
                group: name.clone(),
            })
        });
        let events = forgiven.collect();
        self.events(events);
    }

    /// Forgets failures of a group here, and tries a failed stop again.
    pub(super) fn clear(&mut self, name: &GroupName) {
        let deadtime = self.settings.deadtime;
        let now = self.now;
        let peers = &self.peers;
        let away = |node: &NodeName| {
            let peer = peers.get(node);
            peer.is_none_or(|peer| !peer.in_contact(now, deadtime))
        };
        let (void, kept): (BTreeSet<_>, _) = std::mem::take(&mut self.blocked_elsewhere)
            .into_iter()
            .partition(|(group, node)| group == name && away(node));
        self.blocked_elsewhere = kept;
        if !void.is_empty() {
            for (_, node) in &void {
                let newest = self.peers.get(node).and_then(Peer::newest_verified);
                let known = self.lives.get_mut(node);
                if let (Some(known), Some(newest)) = (known, newest)
                    && newest.0 == known.0
                {
                    *known = newest.max(*known);
                }
            }
            self.cleared.extend(void);
            self.persist();
        }
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        group.failures = Failures::default();
        if group.state() == GroupState::Blocked {
            self.order_stop(name, Urgency::Orderly);
        }
    }
}
