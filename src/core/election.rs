//! Whose plan counts: the term that this node follows, and when it begins one of its own.
//!
//! A node leaves its leader only once that one is past: silent for deadtime, gone, or in another term. The best connected
//! node leads, the first by name of equals; a leader that another one outranks for deadtime hands over. Under `ignore` two
//! partitions that meet agree by the same rule at once.

use crate::core::Core;
use crate::core::event::Event;
use crate::core::leader::Leadership;
use crate::core::peer::{Contact, Peer};
use crate::core::settings::Policy;
use crate::ids::{NodeName, PlanVersion, Term};
use crate::wire::status::{Phase, Plan, Status};
use std::cmp::Reverse;

impl Core {
    /// Follows another leader, or begins a term, where the present leader does not count any more.
    pub(super) fn elect(&mut self) {
        self.hand_over_if_outranked();
        if let Some(term) = self.better_term() {
            self.enter_term(term);
        }
        let candidate = self.candidate() == Some(&self.settings.local);
        let leads = self.leadership.is_some();
        let must_begin = if leads {
            // Those in a later term whose leader is past follow only a still later one, be this node elected or not.
            let contested = match self.settings.policy {
                Policy::Majority => self.may_escalate(),
                Policy::Ignore => candidate,
            };
            contested && self.latest_floor_in_contact() > self.term.as_ref()
        } else {
            candidate
                && !self.leader_counts()
                && self.knows_its_company()
                && self.could_be_elected()
                && self.finds_voters()
                && !self.has_just_resigned()
        };
        if must_begin {
            if leads {
                self.escalated = Some(self.now);
            }
            self.begin_term();
        }
        self.tell_leader();
    }

    /// A leader that has lost its votes, even for a moment, has lost its term: others may have decided since, and what it
    /// knows of them must never count again. The time is judged before the input, which could hide the lapse.
    pub(super) fn notice_lost_election(&mut self) {
        if self.settings.policy == Policy::Ignore {
            return;
        }
        let Some(leadership) = &self.leadership else {
            return;
        };
        let was_elected = leadership.elected_at.is_some();
        let lost = was_elected && !self.elected();
        let in_vain = !was_elected && self.now >= leadership.begun + 2 * self.settings.deadtime;
        if lost || in_vain || !self.could_be_elected() {
            if in_vain {
                self.resigned = Some(self.now);
            }
            self.leave_term();
        }
    }

    /// A leader that does not reach a node which another one reaches would hold up, or expel, what that one need not.
    fn hand_over_if_outranked(&mut self) {
        let own = self.reach();
        let leads = self.leadership.is_some();
        let outranked = leads && self.able_peers().any(|(_, status)| status.reach > own);
        self.outranked = match outranked {
            true => self.outranked.or(Some(self.now)),
            false => None,
        };
        let deadtime = self.settings.deadtime;
        if self.outranked.is_some_and(|t| self.now >= t + deadtime) {
            self.outranked = None;
            self.resigned = Some(self.now);
            self.leave_term();
        }
    }

    /// Leaders that do not hear each other but the same voters would outbid each other at the speed of messages.
    fn may_escalate(&self) -> bool {
        self.escalated
            .is_none_or(|at| self.now >= at + self.settings.deadtime)
    }

    /// Those who voted for this node in vain must have time to follow somebody else.
    fn has_just_resigned(&self) -> bool {
        self.resigned
            .is_some_and(|at| self.now < at + self.settings.deadtime)
    }

    /// Follows nobody, and leads nobody, until the next election; what runs goes on.
    pub(super) fn leave_term(&mut self) {
        self.term = None;
        self.plan = None;
        self.leadership = None;
    }

    /// Whether enough voters are in contact; always so under `ignore`.
    pub(super) fn could_be_elected(&self) -> bool {
        let met = self.allies().count();
        self.settings.policy == Policy::Ignore || met + 1 >= self.settings.majority()
    }

    /// Whether enough of them are free to follow this node: who has a leader stays with it.
    fn finds_voters(&self) -> bool {
        let free = |peer: &&Peer| {
            let status = peer.current();
            status.is_some_and(|s| !s.led || names(s.term.as_ref(), &self.settings.local))
        };
        let near = self.allies().map(|(_, peer)| peer);
        self.settings.policy == Policy::Ignore
            || near.filter(free).count() + 1 >= self.settings.majority()
    }

    /// Whether the leader of the present term is there and still leads.
    pub(super) fn leader_counts(&self) -> bool {
        let Some(term) = &self.term else { return false };
        if term.leader == self.settings.local {
            return match self.settings.policy {
                Policy::Majority => self.elected(),
                Policy::Ignore => self.candidate() == Some(&self.settings.local),
            };
        }
        let heard = (self.peers.get(&term.leader))
            .filter(|p| p.is_heard(self.now, self.settings.deadtime) && p.agreement.binding);
        let leads = heard
            .and_then(|p| p.current())
            .is_some_and(|s| s.term.as_ref() == Some(term));
        let wanted = match self.settings.policy {
            Policy::Majority => true,
            Policy::Ignore => self.candidate().is_none_or(|first| *first == term.leader),
        };
        leads && wanted
    }

    /// The best of this node and those in contact that can lead. Under `ignore` one that leads already comes before all
    /// that do not.
    fn candidate(&self) -> Option<&NodeName> {
        let peers = self.able_peers().map(|(name, status)| {
            let term = status.term.as_ref();
            let leads =
                names(term, name) && term.is_some_and(|t| t.generation == status.generation);
            (name, status.reach, leads)
        });
        let able = self.voting() && self.leaving.is_none();
        let local = (
            &self.settings.local,
            self.reach(),
            self.leadership.is_some(),
        );
        let all = peers.chain(Some(local).filter(|_| able));
        let ignore = self.settings.policy == Policy::Ignore;
        let rank = |(name, reach, leads): &(&NodeName, u32, bool)| {
            (!(ignore && *leads), Reverse(*reach), (*name).clone())
        };
        all.min_by_key(rank).map(|(name, _, _)| name)
    }

    /// Peers in contact that can lead, as they say themselves.
    fn able_peers(&self) -> impl Iterator<Item = (&NodeName, &Status)> {
        let ignore = self.settings.policy == Policy::Ignore;
        let able = move |s: &Status| {
            s.voting && !s.report.leaving && s.phase != Phase::Gone && (ignore || s.electable)
        };
        self.allies().filter_map(move |(name, peer)| {
            let status = peer.current().filter(|status| able(status))?;
            Some((name, status))
        })
    }

    /// A later term of a leader that this node may follow.
    fn better_term(&self) -> Option<Term> {
        let follow_anyone = self.settings.policy == Policy::Majority && !self.leader_counts();
        let wanted = match self.settings.policy {
            Policy::Majority => self.term.as_ref().map(|t| &t.leader),
            Policy::Ignore => self.candidate(),
        };
        let heard = (self.peers.iter())
            .filter(|(_, p)| p.is_heard(self.now, self.settings.deadtime) && p.agreement.binding);
        heard
            .filter(|(name, _)| follow_anyone || wanted == Some(*name))
            .filter_map(|(name, peer)| {
                let status = peer.current()?;
                let term = status.term.as_ref()?;
                (term.leader == *name && term.generation == status.generation).then_some(term)
            })
            .filter(|term| match &self.term {
                Some(followed) => *term > followed,
                None => Some(*term) >= self.floor.as_ref(),
            })
            .max()
            .cloned()
    }

    /// Whether it is worth leading: somebody is there, or everybody had time to show up.
    fn knows_its_company(&self) -> bool {
        let awaited = self.peers.values().any(|p| p.contact == Contact::Unheard);
        let met = self
            .peers
            .values()
            .any(|p| p.in_contact(self.now, self.settings.deadtime));
        met || !awaited
    }

    fn latest_floor_in_contact(&self) -> Option<&Term> {
        let floors = self
            .allies()
            .filter_map(|(_, p)| p.current()?.floor.as_ref());
        floors.max()
    }

    fn term_number(&self) -> u64 {
        self.term.as_ref().map_or(0, |t| t.number)
    }

    fn begin_term(&mut self) {
        let number = self.term_seen.max(self.term_number()).saturating_add(1);
        let term = Term {
            number,
            leader: self.settings.local.clone(),
            generation: self.generation,
        };
        self.enter_term(term);
        self.leadership = Some(Leadership::new(self.now));
        self.outranked = None;
    }

    fn enter_term(&mut self, term: Term) {
        self.term_seen = self.term_seen.max(term.number);
        self.floor = self.floor.take().max(Some(term.clone()));
        self.term = Some(term);
        self.plan = None;
        self.leadership = None;
    }

    /// Takes over the newest plan of the leader, and readmits whom it readmits; true if it was a new one.
    pub(super) fn follow(&mut self) -> bool {
        let newer = self.leaders_plan().cloned();
        let followed = newer.is_some();
        if let Some(plan) = newer {
            self.plan = Some(plan);
        }
        self.readmit();
        followed
    }

    /// The plan in the leader's newest heartbeat, if this node does not follow it yet.
    fn leaders_plan(&self) -> Option<&Plan> {
        let term = self.term.as_ref()?;
        let status = self.peers.get(&term.leader)?.current()?;
        let known = self.plan.as_ref().map_or(PlanVersion(0), |p| p.version);
        let plan = status.plan.as_ref()?;
        (status.term.as_ref() == Some(term) && plan.version > known).then_some(plan)
    }

    fn readmit(&mut self) {
        let (Some(plan), Some(term)) = (&self.plan, &self.term) else {
            return;
        };
        let grace = self.now + self.settings.deadtime;
        for (name, admission) in &plan.members {
            if let Some(peer) = self.peers.get_mut(name) {
                peer.readmit(term, *admission, grace);
            }
        }
    }

    fn tell_leader(&mut self) {
        let leader = self.term.clone().filter(|_| self.leader_counts());
        if leader != self.leader_told {
            self.leader_told.clone_from(&leader);
            self.event(Event::Leader { term: leader });
        }
    }
}

/// Whether a term is one that this node leads.
fn names(term: Option<&Term>, leader: &NodeName) -> bool {
    term.is_some_and(|term| term.leader == *leader)
}
