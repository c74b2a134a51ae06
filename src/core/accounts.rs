//! What the leader has from each node under its own term, and what that says of one group on one node.
//!
//! Only words count that answer something which the leader sent since it was elected: what was said before that, and is
//! on its way still, may come from a node that has followed another leader since, has left or has restarted.

use crate::core::Core;
use crate::core::leader::Leadership;
use crate::core::plan::Knowledge;
use crate::core::rules::BrokenRule;
use crate::core::settings::Policy;
use crate::ids::{Generation, GroupName, NodeName};
use crate::wire::status::{Assignment, GroupState, Heard, Report, claims_up_to};
use std::collections::BTreeMap;

/// What the leader has from one node under its own term.
pub(super) struct Account<'a> {
    pub(super) report: &'a Report,
    pub(super) generation: Generation,
    pub(super) in_contact: bool,
    pub(super) voting: bool,
    /// It is in contact with enough voters to hold a lease.
    pub(super) quorate: bool,
    /// Whom the node has heard; none for this node itself.
    heard: Option<&'a BTreeMap<NodeName, Heard>>,
}

pub(super) type Accounts<'a> = BTreeMap<&'a NodeName, Account<'a>>;

impl Core {
    /// Nodes whose newest word was said under this term, this one too.
    pub(super) fn accounts<'a>(&'a self, own: &'a Report, leadership: &Leadership) -> Accounts<'a> {
        let mut accounts = BTreeMap::new();
        let local = Account {
            report: own,
            generation: self.generation,
            in_contact: true,
            voting: self.voting(),
            quorate: self.could_be_elected(),
            heard: None,
        };
        accounts.insert(&self.settings.local, local);
        let any_term = self.broken(BrokenRule::ReportsOfAnyTerm);
        for (name, peer) in &self.peers {
            let since_elected = leadership.elected_at.is_some_and(|at| peer.says_since(at));
            let Some(status) = peer.current().filter(|_| peer.agreement.binding) else {
                continue;
            };
            if any_term || (status.term == self.term && since_elected) {
                let account = Account {
                    report: &status.report,
                    generation: status.generation,
                    in_contact: self.is_near(peer),
                    voting: status.voting,
                    quorate: status.electable,
                    heard: Some(&status.heard),
                };
                accounts.insert(name, account);
            }
        }
        accounts
    }

    /// Whether a node's last words hold: that life has stopped everything, and nobody in contact has heard a later one.
    pub(super) fn has_left(&self, name: &NodeName, accounts: &Accounts<'_>) -> bool {
        let Some(life) = self.peers.get(name).and_then(|peer| peer.life_that_left()) else {
            return false;
        };
        let later = |account: &Account<'_>| {
            let heard = account.heard.and_then(|heard| heard.get(name));
            heard.is_some_and(|heard| heard.generation > life)
        };
        let mut near = accounts.values().filter(|account| account.in_contact);
        self.is_quorum(accounts) && !near.any(later)
    }

    /// Whether so many nodes have reported that one of them at least has heard whoever holds a lease.
    fn is_quorum(&self, accounts: &Accounts<'_>) -> bool {
        let near = accounts.values().filter(|account| account.in_contact);
        match self.settings.policy {
            Policy::Ignore => true,
            Policy::Majority => near.count() >= self.settings.majority(),
        }
    }

    /// What is known of a group on a node.
    pub(super) fn knowledge(
        &self,
        group: &GroupName,
        node: &NodeName,
        leadership: &Leadership,
        accounts: &Accounts<'_>,
    ) -> Knowledge {
        let account = accounts
            .get(node)
            .filter(|_| !leadership.dead.contains_key(node));
        let Some(account) = account else {
            return self.knowledge_of_absent(group, node, leadership, accounts);
        };
        let here = account
            .report
            .groups
            .get(group)
            .copied()
            .unwrap_or_default();
        match here.state {
            GroupState::Blocked => Knowledge::Blocked,
            GroupState::Starting | GroupState::Started => Knowledge::Running,
            GroupState::Stopping => Knowledge::Settling,
            GroupState::Stopped => {
                let named = matches!(leadership.plan.groups.get(group),
                    Some(Assignment::Run { node: owner, .. }) if owner == node);
                let informed = leadership.is_informed(group, node, account.report.version);
                if informed && !named {
                    Knowledge::Clear
                } else {
                    Knowledge::Settling
                }
            }
        }
    }

    fn knowledge_of_absent(
        &self,
        group: &GroupName,
        node: &NodeName,
        leadership: &Leadership,
        accounts: &Accounts<'_>,
    ) -> Knowledge {
        let left = self.has_left(node, accounts) || self.never_runs(group, node);
        if self.is_blocked(group, node, accounts) {
            Knowledge::Blocked
        } else if left || self.is_dead_for_certain(group, node, leadership) {
            Knowledge::Clear
        } else {
            Knowledge::Unknown
        }
    }

    /// Whether a node has no place for a group, and ran nothing of it when it was heard last. Under `ignore` nobody can tell
    /// more of a node that is out of contact; under `majority` its lease must be over.
    fn never_runs(&self, group: &GroupName, node: &NodeName) -> bool {
        let listed = (self.settings.groups.get(group)).is_some_and(|g| g.nodes.contains(node));
        let status = self.peers.get(node).and_then(|peer| peer.status.as_ref());
        let idle = status.is_some_and(|status| {
            let report = status.report.groups.get(group);
            report.is_none_or(|report| report.state == GroupState::Stopped)
        });
        self.settings.policy == Policy::Ignore && !listed && idle
    }

    /// Whether somebody in contact remembers that a group could not be stopped on a node that is away, and nobody knows
    /// better.
    fn is_blocked(&self, group: &GroupName, node: &NodeName, accounts: &Accounts<'_>) -> bool {
        let claim = (group.clone(), node.clone());
        let near = || accounts.values().filter(|account| account.in_contact);
        let claims = near().filter(|account| account.report.blocked.contains(&claim));
        let mut claimed_at = claims.map(|account| {
            let heard = account.heard.map(|heard| heard.get(node).copied());
            let newest = heard.unwrap_or_else(|| self.peers.get(node)?.echo(false));
            claims_up_to(node, &account.report.lives, newest)
        });
        claimed_at.any(|at| !near().any(|account| account.report.voids(&claim, at)))
    }
}
