//! Who is heard: messages in, late and dead peers, links, and the pause of this node itself.

use crate::core::agreement::Agreement;
use crate::core::event::Event;
use crate::core::peer::{Contact, Death, Freshness, Peer, names};
use crate::core::rules::{BrokenRule, lengthened, shortened};
use crate::core::settings::Policy;
use crate::core::time::Instant;
use crate::core::{Core, OwnLinks};
use crate::ids::{Generation, LinkId, NodeName, Sequence};
use crate::wire::status::{Phase, Status};
use std::collections::BTreeSet;

impl Core {
    /// A turn that comes much too late means that this node stood still: the others may have replaced it.
    pub(super) fn notice_pause(&mut self, before: Instant) {
        if self.settings.standalone() || self.last_sent.is_none() {
            return;
        }
        let pause = self.now.since(before);
        let silence = self.last_sent.as_ref().map(|(at, _)| self.now.since(*at));
        // Packets that came in between do not tell the others that we live.
        if silence.is_some_and(|silence| silence >= shortened(self.shortest_deadtime())) {
            self.event(Event::StoodStill {
                pause: silence.unwrap_or_default(),
            });
            self.forget_everybody();
        } else if pause > 2 * self.settings.keepalive {
            // What they said meanwhile may still wait in our queue.
            let grace = self.now + self.settings.keepalive;
            self.peers
                .values_mut()
                .for_each(|peer| peer.extend_grace(grace));
        }
    }

    /// Everything heard is too old to act on: release, and ask afterwards.
    pub(super) fn forget_everybody(&mut self) {
        let grace = self.now + self.settings.deadtime;
        self.peers
            .values_mut()
            .for_each(|peer| peer.forget_contact(grace));
        self.leave_term();
        self.release_all();
    }

    /// Whose own links are all unusable cannot tell from silence that others are dead; when one is usable again they
    /// have time to be heard.
    pub(super) fn handle_links(&mut self, usable: bool) {
        if usable && self.own_links == OwnLinks::Unusable {
            let from = self.now + self.settings.deadtime;
            self.own_links = OwnLinks::Usable { from };
            self.peers
                .values_mut()
                .for_each(|peer| peer.extend_grace(from));
        } else if !usable {
            self.own_links = OwnLinks::Unusable;
        }
    }

    /// Whether the silence of others means that they are dead, rather than that this node is deaf.
    pub(super) fn hears(&self) -> bool {
        match self.own_links {
            OwnLinks::Usable { from } => self.now >= from,
            OwnLinks::Unusable => false,
        }
    }

    /// Takes in a message; foreign ones count as stale. One that is not whole is a sign of life and an echo, no more.
    pub(super) fn handle_message(
        &mut self,
        link: LinkId,
        status: Box<Status>,
        whole: bool,
    ) -> Freshness {
        if status.cluster != self.settings.cluster {
            return Freshness::Stale;
        }
        self.check_remembered(&status);
        let name = status.node.clone();
        let Some(peer) = self.peers.get_mut(&name) else {
            return Freshness::Stale;
        };
        let local = (&self.settings.local, self.generation);
        let freshness = match whole {
            true => peer.judge(&status, local, self.now),
            false => peer.judge_brief(&status, local, self.now, self.settings.deadtime),
        };
        // One that does not hear us yet is answered at once: what it echoes may have waited in a queue.
        let deaf = !peer.hears_us(self.now, self.settings.deadtime);
        if names(&status, local) && peer.note_link(link, &status, self.now) {
            self.event(Event::LinkUp {
                peer: name.clone(),
                link,
            });
        }
        // A question that is still open was lost on its way, or its answer was.
        let asked = !whole || self.is_asked(&status);
        if freshness != Freshness::Stale {
            self.answer_now |= deaf || (asked && self.may_answer());
        }
        if freshness == Freshness::Verified {
            match whole {
                true => self.take_in(&name, status),
                false => self.note_sign_of_life(&name, &status),
            }
        }
        freshness
    }

    /// Whether a peer lacks our state although it has heard something that was sent since the last answer.
    fn is_asked(&self, status: &Status) -> bool {
        status.asks.contains(&self.settings.local) && self.answered_by(status) >= self.answered
    }

    fn take_in(&mut self, name: &NodeName, status: Box<Status>) {
        // What answers nothing that was sent lately may have been under way for long: it is no sign of life.
        let sent_at = self.answered_by(&status);
        let fresh = sent_at.is_some_and(|at| self.now < at + self.settings.deadtime);
        self.notice_broken_promise(name, &status);
        let agreement = self.agreement(&status);
        self.note_life(name, &status, fresh, agreement);
        self.note_difference(name, &status, agreement);
        self.note_words(name, &status, sent_at);
        let own = (&self.settings.local, self.settings.deadtime);
        if let Some(peer) = self.peers.get_mut(name) {
            peer.accept(status, self.now, sent_at, own, agreement);
        }
        self.note_departure(name);
    }

    /// A voter that declares this node dead keeps its promise first. If by our clock the promise still holds, that clock
    /// has stood still with its machine, and others may have acted meanwhile.
    fn notice_broken_promise(&mut self, name: &NodeName, status: &Status) {
        let dead = status.report.dead.get(&self.settings.local);
        let declared = dead.is_some_and(|dead| dead.generation == self.generation);
        let Some(peer) = self.peers.get(name).filter(|_| declared) else {
            return;
        };
        let same_life = (peer.status.as_ref()).is_some_and(|s| s.generation == status.generation);
        // Under `ignore` a new life does not know what the one before it has promised.
        let promise = match self.settings.policy {
            Policy::Majority => peer.promised_until(),
            Policy::Ignore => peer.promised_in_life(),
        };
        let promised = promise.is_some_and(|end| self.now < end);
        if same_life && promised && !self.broken(BrokenRule::PauseUnnoticed) {
            self.event(Event::ClockStoodStill { peer: name.clone() });
            self.forget_everybody();
        }
    }

    fn note_sign_of_life(&mut self, name: &NodeName, status: &Status) {
        let sent_at = self.answered_by(status);
        if let Some(peer) = self.peers.get_mut(name) {
            peer.accept_brief(self.now, sent_at);
        }
    }

    /// Whether a question, or the answer to one, may be sent at once: not if one was just now.
    fn may_answer(&mut self) -> bool {
        let pause = self.settings.keepalive / 4;
        let may = self.answered.is_none_or(|at| self.now >= at + pause);
        if may {
            self.answered = Some(self.now);
        }
        may
    }

    /// What a verified message says about the peer's life, compared with what we thought.
    fn note_life(&mut self, name: &NodeName, status: &Status, fresh: bool, agreement: Agreement) {
        let now = self.now;
        let returns = fresh && agreement.may_return(self.settings.policy);
        let version = self.plan.as_ref().map(|p| p.version).unwrap_or_default();
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let known = peer.status.as_ref().map(|s| s.generation);
        let silence = peer.last_heard.map(|at| now.since(at));
        let mut events = Vec::new();
        match &mut peer.contact {
            Contact::Dead(death) if !death.heard_again && returns => {
                death.heard_again = true;
                if death.generation == status.generation {
                    let silence = silence.unwrap_or_default();
                    let generation = status.generation;
                    events.push(Event::PeerReturnedAfterPartition {
                        peer: name.clone(),
                        generation,
                        silence,
                    });
                }
            }
            Contact::Left(generation) if *generation != status.generation => {
                // The leader may count it as dead by our word, so it comes back as the dead do.
                peer.contact = Contact::Dead(Death {
                    generation: *generation,
                    term: self.term.clone(),
                    version,
                    heard_again: returns,
                });
            }
            Contact::Dead(_) | Contact::Alive | Contact::Left(_) => {}
            Contact::Unheard => {
                peer.contact = Contact::Alive;
                peer.end_grace(now);
            }
        }
        if let Some(silence) = silence
            && fresh
            && silence > self.settings.warntime
            && known == Some(status.generation)
        {
            let beyond_deadtime = silence > self.settings.deadtime;
            events.push(Event::LateHeartbeat {
                peer: name.clone(),
                interval: silence,
                beyond_deadtime,
            });
        }
        if known.is_some_and(|known| known != status.generation) {
            events.push(Event::PeerRestarted {
                peer: name.clone(),
                generation: status.generation,
            });
        }
        let phase = peer.status.as_ref().map(|s| s.phase);
        if phase != Some(status.phase) || known != Some(status.generation) {
            events.push(Event::PeerStatus {
                peer: name.clone(),
                phase: status.phase,
            });
        }
        self.events(events);
    }

    fn note_departure(&mut self, name: &NodeName) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        if let Some(status) = &peer.status
            && status.phase == Phase::Gone
            && peer.contact != Contact::Left(status.generation)
        {
            peer.contact = Contact::Left(status.generation);
            self.event(Event::PeerLeft { peer: name.clone() });
        }
    }

    /// A peer that knows a later life of ours, or more of this one than there was, shows that our state was lost or copied: begin one after that.
    fn check_remembered(&mut self, status: &Status) {
        let Some(heard) = status.heard.get(&self.settings.local) else {
            return;
        };
        let remembered = heard.generation;
        // A sequence that was not sent yet is of another life with the same number.
        let stale = remembered > self.generation
            || (remembered == self.generation && heard.sequence > self.sequence);
        if !stale || !self.peers.contains_key(&status.node) {
            return;
        }
        self.event(Event::GenerationStale {
            peer: status.node.clone(),
            remembered,
        });
        self.generation = remembered.next();
        self.sequence = Sequence(0);
        self.sent.clear();
        (self.started, self.remembers) = (self.now, false);
        self.persist();
        self.forget_everybody();
    }

    /// Declares late and dead what has been silent, or was promised nothing, for too long.
    pub(super) fn expire(&mut self) {
        let (now, deadtime) = (self.now, self.settings.deadtime);
        let version = self.plan.as_ref().map(|p| p.version).unwrap_or_default();
        let listens = self.own_links != OwnLinks::Unusable;
        let promising: BTreeSet<NodeName> = (self.peers.iter())
            .filter(|(name, peer)| self.promises(name, peer))
            .map(|(name, _)| name.clone())
            .collect();
        // Without a majority to ask, who is heard by nobody must take itself for the sick one, not those that it hears.
        let alone = self.settings.policy == Policy::Ignore && self.reach() == 0;
        let policy = self.settings.policy;
        let mut events = Vec::new();
        for (name, peer) in &mut self.peers {
            for link in peer.expire_links(now, deadtime) {
                events.push(Event::LinkDead {
                    peer: name.clone(),
                    link,
                });
            }
            peer.note_promising(promising.contains(name) || alone, now);
            if listens && peer.death_due(deadtime).is_some_and(|due| now >= due) {
                let known = peer.status.as_ref().map(|s| s.generation);
                let generation = known.unwrap_or(Generation(0));
                let heard = peer.is_heard(now, deadtime);
                let death = Death {
                    generation,
                    term: self.term.clone(),
                    version,
                    heard_again: heard
                        && peer.hears_us(now, deadtime)
                        && peer.agreement.may_return(policy),
                };
                peer.contact = Contact::Dead(death);
                events.push(if heard {
                    Event::PeerGivenUp { peer: name.clone() }
                } else {
                    Event::PeerDead {
                        peer: name.clone(),
                        generation: known,
                    }
                });
            }
            note_silence_after_return(peer, now, deadtime);
            note_deafness(name, peer, now, deadtime, &mut events);
        }
        self.events(events);
    }

    /// Whether this node promises a peer not to declare it dead as long as it hears it: the peer must hear us, too, and
    /// neither its configuration nor the leader may speak against it.
    pub(super) fn promises(&self, name: &NodeName, peer: &Peer) -> bool {
        let dead_too = self.broken(BrokenRule::DeathIsNoPromise);
        let alive = match &peer.contact {
            Contact::Alive => true,
            Contact::Dead(_) => dead_too,
            Contact::Unheard | Contact::Left(_) => false,
        };
        let expelled = (self.plan.as_ref()).is_some_and(|plan| plan.expelled.contains(name));
        alive
            && !expelled
            && peer.hears_us(self.now, self.settings.deadtime)
            && peer.agreement.binding
    }

    /// Whether a peer is heard and hears this node, so lately that neither can have given the other up by any clock.
    pub(super) fn is_near(&self, peer: &Peer) -> bool {
        let span = peer.common_deadtime(self.settings.deadtime);
        peer.in_contact(self.now, shortened(span))
    }

    /// Peers that are near, and count on this node as it counts on them.
    pub(super) fn allies(&self) -> impl Iterator<Item = (&NodeName, &Peer)> {
        let peers = self.peers.iter();
        peers.filter(|(_, peer)| self.is_near(peer) && peer.agreement.binding)
    }

    /// How many they are.
    pub(super) fn reach(&self) -> u32 {
        u32::try_from(self.allies().count()).unwrap_or(u32::MAX)
    }

    /// When the heartbeat of ours was sent that a message answers, if that is remembered.
    fn answered_by(&self, status: &Status) -> Option<Instant> {
        let heard = status.heard.get(&self.settings.local)?;
        self.sent.time_of(heard.sequence)
    }

    /// Whether this node's votes and promises count: not while it may have forgotten those of an earlier life.
    pub(super) fn voting(&self) -> bool {
        self.now >= self.votes_from()
    }

    /// From when on they count. An earlier life may have promised something for longer than this one's deadtime.
    pub(super) fn votes_from(&self) -> Instant {
        let silent = match self.settings.policy {
            Policy::Majority
                if !self.settings.standalone()
                    && !self.remembers
                    && !self.broken(BrokenRule::VotesAtOnce) =>
            {
                lengthened(self.promised.max(self.settings.deadtime))
            }
            Policy::Majority | Policy::Ignore => std::time::Duration::ZERO,
        };
        self.started + silent
    }

    /// Stores for how long this life may bind itself, before it does; and forgets what an earlier one had promised once
    /// that is past.
    pub(super) fn note_promised(&mut self) {
        let deadtime = self.settings.deadtime;
        let wanted = match self.voting() {
            true => deadtime,
            false => self.promised.max(deadtime),
        };
        if self.promised != wanted {
            self.promised = wanted;
            self.persist();
        }
    }
}

/// A dead peer that came back and fell silent again before it was readmitted is simply dead.
fn note_silence_after_return(peer: &mut Peer, now: Instant, deadtime: std::time::Duration) {
    let heard = peer.in_contact(now, deadtime);
    if let Contact::Dead(death) = &mut peer.contact {
        death.heard_again &= heard;
    }
}

fn note_deafness(
    name: &NodeName,
    peer: &mut Peer,
    now: Instant,
    deadtime: std::time::Duration,
    events: &mut Vec<Event>,
) {
    let deaf = (peer.is_heard(now, deadtime) && !peer.hears_us(now, deadtime))
        || peer.never_names_us(now, deadtime);
    if deaf && peer.deaf_since.is_none() {
        events.push(Event::NotHeardBy { peer: name.clone() });
    }
    peer.deaf_since = deaf.then(|| peer.deaf_since.unwrap_or(now));
}
