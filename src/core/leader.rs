//! What the leader of a term keeps: its plan, who is a member, who is dead for certain.
//!
//! A node counts as dead for certain under `majority` once a majority of the voters, this one among them, has
//! reported so under this term, and the stop margin has passed since; under `ignore` once it is dead to this node.

use crate::core::Core;
use crate::core::event::Event;
use crate::core::peer::Contact;
use crate::core::plan::{Decision, Knowledge, Place, Situation, Standing};
use crate::core::rules::{BrokenRule, shortened};
use crate::core::settings::{GroupSettings, Policy};
use crate::core::time::Instant;
use crate::ids::{Generation, GroupName, NodeName, PlanVersion, Sequence};
use crate::wire::status::{
    Answer, Assignment, Fitness, ForwardedRequest, GroupReport, GroupState, Phase, Plan, Refusal,
    Report, Wish,
};
use std::collections::{BTreeMap, BTreeSet};

/// The state of this node as the leader of its term.
#[derive(Debug, Clone)]
pub(super) struct Leadership {
    pub(super) plan: Plan,
    /// From which version on a node is no longer named for a group.
    unnamed_at: BTreeMap<(GroupName, NodeName), PlanVersion>,
    /// Since when a node has been reported dead by enough voters.
    condemned: BTreeMap<NodeName, Instant>,
    /// Dead for certain, until readmitted.
    dead: BTreeSet<NodeName>,
    /// The life in which a member was admitted.
    admitted: BTreeMap<NodeName, Generation>,
    /// A person's wishes.
    pins: BTreeMap<GroupName, NodeName>,
    reasons: BTreeMap<GroupName, &'static str>,
    /// A majority has voted for this term.
    pub(super) was_elected: bool,
    /// When this node began the term.
    pub(super) begun: Instant,
    /// The last words of nodes that were out of contact when this node was elected: they may have followed another
    /// leader since they were said.
    disregarded: BTreeMap<NodeName, (Generation, Sequence)>,
}

impl Leadership {
    /// A term in which nothing has been planned yet.
    pub(super) fn new(begun: Instant) -> Self {
        let plan = Plan {
            version: PlanVersion(0),
            members: BTreeMap::new(),
            groups: BTreeMap::new(),
            answers: BTreeMap::new(),
        };
        Self {
            plan,
            unnamed_at: BTreeMap::new(),
            condemned: BTreeMap::new(),
            dead: BTreeSet::new(),
            admitted: BTreeMap::new(),
            pins: BTreeMap::new(),
            reasons: BTreeMap::new(),
            was_elected: false,
            begun,
            disregarded: BTreeMap::new(),
        }
    }

    /// Why a group is where the plan has it.
    pub(super) fn reason(&self, group: &GroupName) -> Option<&'static str> {
        self.reasons.get(group).copied()
    }

    /// When the next node becomes dead for certain.
    pub(super) fn next_deadline(&self, margin: std::time::Duration) -> Option<Instant> {
        self.condemned
            .iter()
            .filter(|(n, _)| !self.dead.contains(*n))
            .map(|(_, t)| *t + margin)
            .min()
    }
}

/// What the leader has from one node under its own term.
struct Account<'a> {
    report: &'a Report,
    generation: Generation,
    in_contact: bool,
    voting: bool,
}

type Accounts<'a> = BTreeMap<&'a NodeName, Account<'a>>;

impl Core {
    /// Makes a new plan if what is known asks for one; true if it did.
    pub(super) fn lead(&mut self) -> bool {
        if !self.elected() {
            return false;
        }
        let Some(mut leadership) = self.leadership.take() else {
            return false;
        };
        if !std::mem::replace(&mut leadership.was_elected, true) {
            leadership.disregarded = self.words_out_of_contact();
        }
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
        let answers = self.answers(leadership, events);
        let members = self.members(leadership, &accounts);
        let groups = self.assignments(leadership, &accounts, &members);
        let next = Plan {
            version: leadership.plan.version,
            members,
            groups,
            answers,
        };
        if next == leadership.plan && next.version > PlanVersion(0) {
            return false;
        }
        self.publish(leadership, next, &accounts, events);
        true
    }

    /// Nodes whose newest word was said under this term, this one too.
    fn accounts<'a>(&'a self, own: &'a Report, leadership: &Leadership) -> Accounts<'a> {
        let mut accounts = BTreeMap::new();
        let local = Account {
            report: own,
            generation: self.generation,
            in_contact: true,
            voting: self.voting(),
        };
        accounts.insert(&self.settings.local, local);
        for (name, peer) in &self.peers {
            let Some(status) = peer.current() else {
                continue;
            };
            if status.term != self.term && !self.broken(BrokenRule::ReportsOfAnyTerm) {
                continue;
            }
            let words = (status.generation, status.sequence);
            if leadership
                .disregarded
                .get(name)
                .is_some_and(|last| words <= *last)
            {
                continue;
            }
            accounts.insert(
                name,
                Account {
                    report: &status.report,
                    generation: status.generation,
                    in_contact: peer.in_contact(self.now, self.settings.deadtime),
                    voting: status.voting,
                },
            );
        }
        accounts
    }

    /// The newest message of each node that is not in contact, by a clock that may run differently.
    fn words_out_of_contact(&self) -> BTreeMap<NodeName, (Generation, Sequence)> {
        let whole = !self.broken(BrokenRule::ReportsOfAnyTerm);
        if self.settings.policy == Policy::Ignore || !whole {
            return BTreeMap::new();
        }
        let near = shortened(self.settings.deadtime);
        let far = self
            .peers
            .iter()
            .filter(|(_, p)| !p.in_contact(self.now, near));
        far.filter_map(|(name, peer)| {
            let status = peer.current()?;
            Some((name.clone(), (status.generation, status.sequence)))
        })
        .collect()
    }

    fn note_deaths(&self, leadership: &mut Leadership, accounts: &Accounts<'_>) {
        for (name, peer) in &self.peers {
            if matches!(peer.contact, Contact::Left(_)) {
                leadership.dead.insert(name.clone());
            } else if self.is_condemned(name, leadership, accounts) {
                let since = *leadership.condemned.entry(name.clone()).or_insert(self.now);
                if self.now >= since + self.stop_margin() {
                    leadership.dead.insert(name.clone());
                }
            } else {
                leadership.condemned.remove(name);
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
        let admission = leadership
            .plan
            .members
            .get(name)
            .copied()
            .unwrap_or_default();
        let dead_to = |account: &Account<'_>| {
            account.in_contact
                && account.report.version >= admission
                && account
                    .report
                    .dead
                    .get(name)
                    .is_some_and(|d| !d.heard_again)
        };
        if !accounts.get(&self.settings.local).is_some_and(dead_to) {
            return false;
        }
        match self.settings.policy {
            // One cable that is cut is no death: whoever is in contact must not hear it either.
            Policy::Ignore => accounts.values().filter(|a| a.in_contact).all(dead_to),
            Policy::Majority => {
                let votes = accounts.values().filter(|a| {
                    a.in_contact
                        && a.report.version >= admission
                        && a.report.dead.contains_key(name)
                });
                votes.count() >= self.settings.majority()
            }
        }
    }

    /// How long an owner without a lease has for stopping before others start.
    pub(super) fn stop_margin(&self) -> std::time::Duration {
        match self.settings.policy {
            Policy::Majority => self.settings.keepalive,
            Policy::Ignore => std::time::Duration::ZERO,
        }
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
            let account = accounts.get(name).filter(|a| a.in_contact);
            let version = match (account, before) {
                (None, Some(before)) if !leadership.dead.contains(name) => Some(before),
                (None, _) => None,
                (Some(account), Some(before)) if !leadership.dead.contains(name) => {
                    let same_life = leadership.admitted.get(name) == Some(&account.generation);
                    let bump = !same_life || complained_of(name, before, accounts);
                    Some(if bump { current.next() } else { before })
                }
                (Some(account), _) => {
                    let certain =
                        account.report.version == current || !leadership.dead.contains(name);
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
        let runners = self.settings.nodes.iter().filter(|(_, node)| !node.witness);
        runners
            .map(|(name, _)| {
                let account = accounts.get(name);
                let member = members.contains_key(name);
                let knowledge = self.knowledge(group, name, leadership, accounts);
                let listed = settings.nodes.contains(name);
                let here = account.map(|a| a.report.groups.get(group).copied().unwrap_or_default());
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
                let voting = account.is_some_and(|a| a.voting);
                (
                    name.clone(),
                    Place {
                        knowledge,
                        reachable: reachable && voting,
                        standing,
                    },
                )
            })
            .collect()
    }

    fn knowledge(
        &self,
        group: &GroupName,
        node: &NodeName,
        leadership: &Leadership,
        accounts: &Accounts<'_>,
    ) -> Knowledge {
        let account = accounts
            .get(node)
            .filter(|_| !leadership.dead.contains(node));
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
                let unnamed = leadership.unnamed_at.get(&(group.clone(), node.clone()));
                let named = matches!(leadership.plan.groups.get(group),
                    Some(Assignment::Run { node: owner, .. }) if owner == node);
                let informed = unnamed.is_none_or(|version| account.report.version >= *version);
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
        let claim = (group.clone(), node.clone());
        let left = self
            .peers
            .get(node)
            .is_some_and(|p| matches!(p.contact, Contact::Left(_)));
        if accounts
            .values()
            .any(|a| a.in_contact && a.report.blocked.contains(&claim))
        {
            Knowledge::Blocked
        } else if left || leadership.dead.contains(node) {
            Knowledge::Clear
        } else {
            Knowledge::Unknown
        }
    }

    /// Answers what persons have asked of the leader since the last plan.
    fn answers(
        &self,
        leadership: &mut Leadership,
        events: &mut Vec<Event>,
    ) -> BTreeMap<NodeName, Answer> {
        let mut answers = leadership.plan.answers.clone();
        let local = self
            .forwarded()
            .map(|r| (&self.settings.local, self.generation, r));
        let peers = self.peers.iter().filter_map(|(name, peer)| {
            let status = peer.current().filter(|s| s.term == self.term)?;
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

    /// Whether a majority of the voters votes for this node by words that echo what it sent within deadtime, less the
    /// drift margin; always so under `ignore`. A voter leaves only a leader that it has not heard for deadtime, so while
    /// this is true no other leader can have their votes.
    pub(super) fn elected(&self) -> bool {
        if self.leadership.is_none() {
            return false;
        }
        match self.settings.policy {
            Policy::Ignore => true,
            Policy::Majority => {
                let votes = self.peers.values().filter(|peer| {
                    peer.in_contact(self.now, shortened(self.settings.deadtime))
                        && peer.current().is_some_and(|s| {
                            s.voting && s.term == self.term && s.phase != Phase::Gone
                        })
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
