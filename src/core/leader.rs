//! What the leader of a term keeps: its plan, who is a member, who is expelled, where each group shall run.

use crate::core::Core;
use crate::core::accounts::Accounts;
use crate::core::event::Event;
use crate::core::plan::{Decision, Place, Situation, Standing};
use crate::core::rules::BrokenRule;
use crate::core::settings::{GroupSettings, Policy};
use crate::core::time::Instant;
use crate::ids::{Generation, GroupName, NodeName, PlanVersion};
use crate::wire::status::{
    Answer, Assignment, Fitness, ForwardedRequest, GroupReport, GroupState, Phase, Plan, Refusal,
    Status, Wish,
};
use std::collections::{BTreeMap, BTreeSet};

/// The state of this node as the leader of its term.
#[derive(Debug, Clone)]
pub(super) struct Leadership {
    pub(super) plan: Plan,
    /// From which version on a node is no longer named for a group.
    unnamed_at: BTreeMap<(GroupName, NodeName), PlanVersion>,
    /// Since when a node has been reported dead by enough voters.
    pub(super) condemned: BTreeMap<NodeName, Instant>,
    /// Dead for certain, until readmitted; since when it was condemned.
    pub(super) dead: BTreeMap<NodeName, Instant>,
    /// Since when a node has been out of contact with this one.
    pub(super) out_of_contact: BTreeMap<NodeName, Instant>,
    /// The life in which a member was admitted.
    admitted: BTreeMap<NodeName, Generation>,
    /// A person's wishes.
    pins: BTreeMap<GroupName, NodeName>,
    reasons: BTreeMap<GroupName, &'static str>,
    /// When a majority had voted for this term: only what was said later counts.
    pub(super) elected_at: Option<Instant>,
    /// When this node began the term.
    pub(super) begun: Instant,
}

impl Leadership {
    /// A term in which nothing has been planned yet.
    pub(super) fn new(begun: Instant) -> Self {
        let plan = Plan {
            version: PlanVersion(0),
            members: BTreeMap::new(),
            groups: BTreeMap::new(),
            expelled: BTreeSet::new(),
            answers: BTreeMap::new(),
        };
        Self {
            plan,
            unnamed_at: BTreeMap::new(),
            condemned: BTreeMap::new(),
            dead: BTreeMap::new(),
            out_of_contact: BTreeMap::new(),
            admitted: BTreeMap::new(),
            pins: BTreeMap::new(),
            reasons: BTreeMap::new(),
            elected_at: None,
            begun,
        }
    }

    /// Whether a node that followed a version knows that it is not named for a group any more.
    pub(super) fn is_informed(
        &self,
        group: &GroupName,
        node: &NodeName,
        version: PlanVersion,
    ) -> bool {
        let unnamed = self.unnamed_at.get(&(group.clone(), node.clone()));
        unnamed.is_none_or(|at| version >= *at)
    }

    /// Why a group is where the plan has it.
    pub(super) fn reason(&self, group: &GroupName) -> Option<&'static str> {
        self.reasons.get(group).copied()
    }
}

impl Core {
    /// Makes a new plan if what is known asks for one; true if it did.
    pub(super) fn lead(&mut self) -> bool {
        if !self.elected() {
            return false;
        }
        let Some(mut leadership) = self.leadership.take() else {
            return false;
        };
        leadership.elected_at.get_or_insert(self.now);
        let mut events = Vec::new();
        let changed = self.replan(&mut leadership, &mut events);
        if changed {
            self.plan = Some(leadership.plan.clone());
        }
        self.leadership = Some(leadership);
        self.events(events);
        changed
    }

    fn replan(&self, leadership: &mut Leadership, events: &mut Vec<Event>) -> bool {
        let own = self.report();
        let accounts = self.accounts(&own, leadership);
        self.note_deaths(leadership, &accounts);
        let answers = self.answers(leadership, &accounts, events);
        let expelled = self.expelled(leadership, &accounts);
        let members = self.members(leadership, &accounts);
        let groups = self.assignments(leadership, &accounts, &members);
        let next = Plan {
            version: leadership.plan.version,
            members,
            groups,
            expelled,
            answers,
        };
        if next == leadership.plan && next.version > PlanVersion(0) {
            return false;
        }
        self.publish(leadership, next, &accounts, events);
        true
    }

    /// The members, each with the version that admitted it.
    fn members(
        &self,
        leadership: &mut Leadership,
        accounts: &Accounts<'_>,
    ) -> BTreeMap<NodeName, PlanVersion> {
        let current = leadership.plan.version;
        let mut members = BTreeMap::new();
        for name in self.settings.nodes.keys() {
            let before = leadership.plan.members.get(name).copied();
            let absent = |name| leadership.dead.contains_key(name) || self.has_left(name, accounts);
            let account = accounts.get(name).filter(|a| a.in_contact);
            let version = match (account, before) {
                (None, Some(before)) if !absent(name) => Some(before),
                (None, _) => None,
                (Some(account), Some(before)) if !leadership.dead.contains_key(name) => {
                    let same_life = leadership.admitted.get(name) == Some(&account.generation);
                    let bump = !same_life || complained_of(name, before, accounts);
                    Some(if bump { current.next() } else { before })
                }
                (Some(account), _) => {
                    let certain =
                        account.report.version == current || !leadership.dead.contains_key(name);
                    certain.then(|| current.next())
                }
            };
            let Some(version) = version else { continue };
            if before != Some(version)
                && let Some(account) = account
            {
                leadership.dead.remove(name);
                leadership.condemned.remove(name);
                leadership.admitted.insert(name.clone(), account.generation);
            }
            members.insert(name.clone(), version);
        }
        members
    }

    fn assignments(
        &self,
        leadership: &mut Leadership,
        accounts: &Accounts<'_>,
        members: &BTreeMap<NodeName, PlanVersion>,
    ) -> BTreeMap<GroupName, Assignment> {
        let mut assignments = BTreeMap::new();
        for (group, settings) in &self.settings.groups {
            let places = self.places(group, settings, leadership, accounts, members);
            self.keep_pin(group, &places, leadership, accounts);
            let situation = Situation {
                settings,
                places: &places,
                pin: leadership.pins.get(group),
                one_step: self.broken(BrokenRule::OneStepMoves),
            };
            let Decision { assignment, reason } = situation.decide();
            leadership.reasons.insert(group.clone(), reason);
            if let Some(assignment) = assignment {
                assignments.insert(group.clone(), assignment);
            }
        }
        assignments
    }

    /// A person's wish holds as long as the node can carry it out; a new leader learns of it from the owner.
    fn keep_pin(
        &self,
        group: &GroupName,
        places: &BTreeMap<NodeName, Place>,
        leadership: &mut Leadership,
        accounts: &Accounts<'_>,
    ) {
        let can = |node: &NodeName| places.get(node).is_some_and(Place::might);
        match leadership.pins.get(group) {
            Some(node) if can(node) => {}
            Some(_) => {
                leadership.pins.remove(group);
            }
            None => {
                let pinned = accounts.iter().find(|(node, account)| {
                    account
                        .report
                        .groups
                        .get(group)
                        .is_some_and(|g| g.pinned && runs(g.state))
                        && can(node)
                });
                if let Some((node, _)) = pinned {
                    leadership.pins.insert(group.clone(), (*node).clone());
                }
            }
        }
    }

    fn places(
        &self,
        group: &GroupName,
        settings: &GroupSettings,
        leadership: &Leadership,
        accounts: &Accounts<'_>,
        members: &BTreeMap<NodeName, PlanVersion>,
    ) -> BTreeMap<NodeName, Place> {
        // Whatever runs somewhere counts, whatever the role or the place of that node is in our configuration.
        let strangers = self.strangers();
        let names = self.settings.nodes.keys().chain(&strangers);
        names
            .map(|name| {
                let account = accounts.get(name);
                let member = members.contains_key(name);
                let knowledge = self.knowledge(group, name, leadership, accounts);
                let here = account.and_then(|a| a.report.groups.get(group)).copied();
                let witness = self.settings.nodes.get(name).is_none_or(|n| n.witness);
                // Only who knows the group, and may run it as far as it knows, reports on it.
                let listed = settings.nodes.contains(name) && !witness && here.is_some();
                let fitness = here.map(|g| g.fitness).unwrap_or_default();
                let standing = if fitness == Fitness::Unfit || !listed {
                    Standing::Unable
                } else if account.is_some_and(|a| a.report.leaving) {
                    Standing::Leaving
                } else if account.is_some_and(|a| a.report.standby) {
                    Standing::Standby
                } else if fitness == Fitness::Doubtful {
                    Standing::Doubtful
                } else {
                    Standing::Willing
                };
                let reachable = account.is_some_and(|a| a.in_contact) && member;
                let able = account.is_some_and(|a| a.voting && a.quorate);
                (
                    name.clone(),
                    Place {
                        knowledge,
                        reachable: reachable && able,
                        standing,
                    },
                )
            })
            .collect()
    }

    /// Answers what persons have asked of the leader since the last plan.
    fn answers(
        &self,
        leadership: &mut Leadership,
        accounts: &Accounts<'_>,
        events: &mut Vec<Event>,
    ) -> BTreeMap<NodeName, Answer> {
        let mut answers = leadership.plan.answers.clone();
        let local = self
            .forwarded()
            .map(|r| (&self.settings.local, self.generation, r));
        let peers = self.peers.iter().filter_map(|(name, peer)| {
            let status = peer.current().filter(|_| accounts.contains_key(name))?;
            status
                .request
                .as_ref()
                .map(|r| (name, status.generation, r))
        });
        for (name, generation, request) in local.into_iter().chain(peers) {
            let known = answers
                .get(name)
                .is_some_and(|a| (a.generation, a.id) == (generation, request.id));
            if !known {
                let refusal = self.carry_out(request, leadership, events).err();
                answers.insert(
                    name.clone(),
                    Answer {
                        generation,
                        id: request.id,
                        refusal,
                    },
                );
            }
        }
        answers
    }

    fn carry_out(
        &self,
        request: &ForwardedRequest,
        leadership: &mut Leadership,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        match &request.wish {
            Wish::Clear { .. } => Ok(()),
            Wish::Move { group, node } => {
                self.check_move(group, node)?;
                leadership.pins.insert(group.clone(), node.clone());
                events.push(Event::MoveRequested {
                    group: group.clone(),
                    node: node.clone(),
                });
                Ok(())
            }
        }
    }

    fn publish(
        &self,
        leadership: &mut Leadership,
        mut next: Plan,
        accounts: &Accounts<'_>,
        events: &mut Vec<Event>,
    ) {
        next.version = leadership.plan.version.next();
        for (group, before) in &leadership.plan.groups {
            if let Assignment::Run { node, .. } = before
                && !matches!(next.groups.get(group), Some(Assignment::Run { node: now, .. }) if now == node)
            {
                leadership
                    .unnamed_at
                    .insert((group.clone(), node.clone()), next.version);
            }
        }
        for group in self.settings.groups.keys() {
            let (before, now) = (leadership.plan.groups.get(group), next.groups.get(group));
            if owner(before) != owner(now) || leadership.plan.version == PlanVersion(0) {
                let reason = leadership.reason(group).unwrap_or_default();
                events.push(Event::GroupPlanned {
                    group: group.clone(),
                    owner: owner(now).cloned(),
                    reason,
                });
                if now.is_none()
                    && self.runs_nowhere(group, accounts)
                    && reason == "no member can run it"
                {
                    events.push(Event::GroupHasNoNode {
                        group: group.clone(),
                    });
                }
            }
        }
        leadership.plan = next;
    }

    fn runs_nowhere(&self, group: &GroupName, accounts: &Accounts<'_>) -> bool {
        !accounts.values().any(|a| {
            a.report
                .groups
                .get(group)
                .is_some_and(|g: &GroupReport| runs(g.state))
        })
    }

    /// Whether a majority of the voters votes for this node by words that echo what it sent within deadtime, theirs or
    /// ours, less the drift margin; always so under `ignore`. A voter leaves only a leader that it has not heard for
    /// deadtime, so while this is true no other leader can have their votes.
    pub(super) fn elected(&self) -> bool {
        if self.leadership.is_none() {
            return false;
        }
        match self.settings.policy {
            Policy::Ignore => true,
            Policy::Majority => {
                let votes = self.allies().filter(|(_, peer)| {
                    let votes =
                        |s: &Status| s.voting && s.term == self.term && s.phase != Phase::Gone;
                    peer.current().is_some_and(votes)
                });
                votes.count() + usize::from(self.voting()) >= self.settings.majority()
            }
        }
    }
}

/// Whether a node in contact waits for the readmission of a peer that it hears again.
fn complained_of(name: &NodeName, admission: PlanVersion, accounts: &Accounts<'_>) -> bool {
    accounts.values().any(|a| {
        a.in_contact
            && a.report.version >= admission
            && a.report.dead.get(name).is_some_and(|d| d.heard_again)
    })
}

/// Who has the group by an assignment.
pub(super) fn owner(assignment: Option<&Assignment>) -> Option<&NodeName> {
    match assignment {
        None | Some(Assignment::Nobody) => None,
        Some(Assignment::Keep(node) | Assignment::Run { node, .. }) => Some(node),
    }
}

/// Whether a state means that the group runs, or is about to.
pub(super) fn runs(state: GroupState) -> bool {
    match state {
        GroupState::Starting | GroupState::Started => true,
        GroupState::Stopped | GroupState::Stopping | GroupState::Blocked => false,
    }
}
