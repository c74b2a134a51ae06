//! When a node is dead for certain, so that its groups can run elsewhere; and whom the leader expels.
//!
//! Under `majority` that takes a majority of the voters, the leader among them, which report it dead under the leader's
//! term and a plan not older than its admission; those that it may still hold a lease from must be too few by the list of
//! members that it knows itself; and the stop margin of the group must have passed since. Under `ignore` it must be dead
//! to the leader and to all in contact with it.

use crate::core::Core;
use crate::core::accounts::{Account, Accounts};
use crate::core::leader::Leadership;
use crate::core::settings::Policy;
use crate::core::time::Instant;
use crate::ids::{GroupName, NodeName};
use std::collections::BTreeSet;
use std::time::Duration;

impl Core {
    pub(super) fn note_deaths(&self, leadership: &mut Leadership, accounts: &Accounts<'_>) {
        let strangers = self.strangers();
        for name in self.peers.keys().chain(&strangers) {
            let stranger = strangers.contains(name);
            let condemned = match stranger {
                true => self.is_disowned(name, accounts),
                false => self.is_condemned(name, leadership, accounts),
            };
            if condemned {
                let since = *leadership.condemned.entry(name.clone()).or_insert(self.now);
                if self.now >= since + self.stop_margin() {
                    leadership.dead.entry(name.clone()).or_insert(since);
                }
            } else {
                leadership.condemned.remove(name);
                // Nobody readmits a stranger here: it is back as soon as those that know it say so.
                if stranger {
                    leadership.dead.remove(name);
                }
            }
        }
    }

    /// Whether enough voters have taken part in declaring a node dead.
    fn is_condemned(
        &self,
        name: &NodeName,
        leadership: &Leadership,
        accounts: &Accounts<'_>,
    ) -> bool {
        let admission = leadership.plan.members.get(name);
        let admission = admission.copied().unwrap_or_default();
        let informed =
            |account: &Account<'_>| account.in_contact && account.report.version >= admission;
        let dead_to = |account: &Account<'_>| {
            let report = account.report.dead.get(name);
            informed(account) && report.is_some_and(|dead| !dead.heard_again)
        };
        if !accounts.get(&self.settings.local).is_some_and(dead_to) {
            return false;
        }
        match self.settings.policy {
            // One cable that is cut is no death: whoever is in contact must not hear it either.
            Policy::Ignore => accounts.values().filter(|a| a.in_contact).all(dead_to),
            Policy::Majority => {
                let declared: BTreeSet<_> = (accounts.iter())
                    .filter(|(_, a)| informed(a) && a.voting && a.report.dead.contains_key(name))
                    .map(|(voter, _)| *voter)
                    .collect();
                declared.len() >= self.settings.majority() && !self.may_hold_lease(name, &declared)
            }
        }
    }

    /// Whether a node that is away cannot run a group any more.
    pub(super) fn is_dead_for_certain(
        &self,
        group: &GroupName,
        node: &NodeName,
        leadership: &Leadership,
    ) -> bool {
        let condemned = leadership.dead.get(node);
        condemned.is_some_and(|since| self.now >= *since + self.stop_margin_on(node, group))
    }

    /// Whether a node that only others know has been declared dead by enough of them; under `ignore` by all.
    fn is_disowned(&self, node: &NodeName, accounts: &Accounts<'_>) -> bool {
        let declared: BTreeSet<_> = (accounts.iter())
            .filter(|(_, a)| a.in_contact && a.voting && a.report.dead.contains_key(node))
            .map(|(voter, _)| *voter)
            .collect();
        match self.settings.policy {
            Policy::Ignore => (accounts.iter())
                .filter(|(voter, a)| a.in_contact && self.knows(voter, node))
                .all(|(voter, _)| declared.contains(voter)),
            Policy::Majority => !self.may_hold_lease(node, &declared),
        }
    }

    /// How long an owner without a lease has at least for stopping before others start.
    pub(super) fn stop_margin(&self) -> Duration {
        match self.settings.policy {
            Policy::Majority => self.longest_keepalive(),
            Policy::Ignore => Duration::ZERO,
        }
    }

    /// The same for one group on one node, whose file may say something else of it than ours.
    fn stop_margin_on(&self, node: &NodeName, group: &GroupName) -> Duration {
        match self.settings.policy {
            Policy::Majority => (self.settings.stop_margin(group))
                .max(self.stop_margin())
                .max(self.foreign_stop_margin(node)),
            Policy::Ignore => Duration::ZERO,
        }
    }

    /// Nodes that are alive to somebody in contact, but long out of contact with this leader. It cannot know what they
    /// run, nor tell them to stop: those that follow it promise them nothing any more, and so their leases end.
    pub(super) fn expelled(
        &self,
        leadership: &mut Leadership,
        accounts: &Accounts<'_>,
    ) -> BTreeSet<NodeName> {
        if self.settings.policy == Policy::Ignore {
            return BTreeSet::new();
        }
        let near = |name: &NodeName| accounts.get(name).is_some_and(|account| account.in_contact);
        (leadership.out_of_contact).retain(|name, _| !near(name));
        let away: Vec<_> = self.peers.keys().filter(|name| !near(name)).collect();
        for name in &away {
            (leadership.out_of_contact)
                .entry((*name).clone())
                .or_insert(self.now);
        }
        let lives = |name: &NodeName| {
            let mut near = accounts.values().filter(|account| account.in_contact);
            near.any(|account| !account.report.dead.contains_key(name))
        };
        let long = |name: &&&NodeName| {
            let since = leadership.out_of_contact.get(**name);
            since.is_some_and(|since| self.now >= *since + self.patience())
        };
        let expelled = away.iter().filter(long).filter(|name| lives(name));
        expelled.map(|name| (*name).clone()).collect()
    }

    /// How long a node may be out of contact before it is expelled: within half of it a better connected node could have
    /// taken over.
    fn patience(&self) -> Duration {
        2 * self.settings.deadtime
    }

    /// When a node becomes dead for certain, for one group or another, or is to be expelled.
    pub(super) fn next_certainty(&self, start: Instant) -> Option<Instant> {
        let leadership = self.leadership.as_ref()?;
        let base = leadership
            .condemned
            .values()
            .map(|t| *t + self.stop_margin());
        let dead = leadership.dead.iter();
        let groups = dead.flat_map(|(node, since)| {
            let margins =
                (self.settings.groups.keys()).map(|group| self.stop_margin_on(node, group));
            margins.map(|margin| *since + margin)
        });
        let out = leadership.out_of_contact.values();
        let out = out.map(|t| *t + self.patience());
        base.chain(groups).chain(out).filter(|t| *t > start).min()
    }
}
