//! What this node knows of one peer: whether it lives, what it last said, what it promised.
//!
//! A message counts fully only when it names this life of ours as heard (`verified`): a packet recorded before this
//! life began cannot do that, so nothing replayed from an earlier life has an effect beyond the echo that we send.

use crate::core::agreement::Agreement;
use crate::core::event::Section;
use crate::core::rules::shortened;
use crate::core::time::Instant;
use crate::ids::{Generation, LinkId, MessageId, NodeName, PlanVersion, Term};
use crate::wire::status::{DeadReport, Heard, Phase, Status};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A late copy from a slower link still shows that the link works, if it is among this many newest messages.
const LINK_WINDOW: u64 = 64;

/// Whether the peer takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Contact {
    /// Never heard in this life of ours.
    Unheard,
    /// Heard within deadtime.
    Alive,
    /// Declared dead: not acknowledged any more until the leader's plan readmits it.
    Dead(Death),
    /// It said itself that it has stopped everything and leaves.
    Left(Generation),
}

/// What was true when a peer was declared dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Death {
    /// Its life then; 0 if none was ever heard.
    pub(super) generation: Generation,
    /// The term and plan that we followed then: only a later plan readmits.
    pub(super) term: Option<Term>,
    pub(super) version: PlanVersion,
    /// Heard again since.
    pub(super) heard_again: bool,
}

/// One link on which the peer may be heard.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerLink {
    last: MessageId,
    heard_at: Instant,
    pub(super) up: bool,
}

/// What a message turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Older than what is known, or seen before: without effect.
    Stale,
    /// New, but without proof that it was made in this life of ours.
    Unverified,
    /// New, and made after the sender heard this life of ours.
    Verified,
}

/// All that is known of one peer.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) contact: Contact,
    /// The newest message of all: what we echo.
    newest: Option<MessageId>,
    /// That one was verified: only then may the echo be a promise, since only then does it put off the peer's death.
    newest_verified: bool,
    /// The newest verified message that was whole.
    pub(super) status: Option<Box<Status>>,
    /// How the configuration goes with ours of which that speaks; as one, until something is known.
    pub(super) agreement: Agreement,
    /// When that came: how fresh everything is that it says.
    stated: Option<Instant>,
    /// When the newest verified message came, be it brief.
    pub(super) last_heard: Option<Instant>,
    /// The newest message was brief, and what it stands for is not known here.
    lacking: bool,
    /// Not to be declared dead before this.
    grace: Instant,
    /// The send time of our newest heartbeat that this life of the peer has echoed.
    echoed: Option<Instant>,
    /// The send time of the heartbeat of ours that its newest whole message echoes: what that says is not older.
    said_after: Option<Instant>,
    /// Since when it is promised nothing, though it is alive: it does not hear us, or the leader has expelled it.
    unpromised_since: Option<Instant>,
    /// Since when messages come from it that do not name this life of ours, and when the newest of them came.
    unnamed: Option<(Instant, Instant)>,
    /// End of the newest promise that the peer gave us, by our clock.
    promised_until: Option<Instant>,
    /// The same of those that its present life gave.
    promised_in_life: Option<Instant>,
    /// Since when we hear the peer and it does not hear us; people were told of it.
    pub(super) deaf_since: Option<Instant>,
    /// In what people were told that its configuration differs.
    pub(super) differs_told: BTreeSet<Section>,
    pub(super) links: BTreeMap<LinkId, PeerLink>,
}

impl Peer {
    /// A peer of which nothing is known; it is dead if still silent at `grace`.
    pub(super) fn unheard(grace: Instant) -> Self {
        Self {
            contact: Contact::Unheard,
            newest: None,
            newest_verified: false,
            status: None,
            agreement: Agreement {
                binding: true,
                same_members: true,
            },
            stated: None,
            last_heard: None,
            lacking: false,
            grace,
            echoed: None,
            said_after: None,
            unpromised_since: None,
            unnamed: None,
            promised_until: None,
            promised_in_life: None,
            deaf_since: None,
            differs_told: BTreeSet::new(),
            links: BTreeMap::new(),
        }
    }

    /// Judges a message by its numbers and takes note of it for the echo.
    pub(super) fn judge(
        &mut self,
        status: &Status,
        local: (&NodeName, Generation),
        now: Instant,
    ) -> Freshness {
        let numbers = (status.generation, status.sequence);
        if self.newest.is_some_and(|newest| numbers <= newest) {
            return Freshness::Stale;
        }
        self.newest = Some(numbers);
        self.lacking = false;
        let names_us = names(status, local);
        self.newest_verified = names_us;
        if names_us {
            self.unnamed = None;
            Freshness::Verified
        } else {
            let since = self.unnamed.map_or(now, |(since, _)| since);
            self.unnamed = Some((since, now));
            Freshness::Unverified
        }
    }

    /// The same for one that is not whole. It is verified only where a whole one came lately: a peer whose state does not
    /// get here must not seem to be alive for long.
    pub(super) fn judge_brief(
        &mut self,
        status: &Status,
        local: (&NodeName, Generation),
        now: Instant,
        deadtime: Duration,
    ) -> Freshness {
        let freshness = self.judge(status, local, now);
        if freshness == Freshness::Stale {
            return freshness;
        }
        self.lacking = true;
        let same_life = (self.status.as_ref()).is_some_and(|s| s.generation == status.generation);
        if freshness == Freshness::Verified && same_life && self.is_heard(now, deadtime) {
            return freshness;
        }
        self.newest_verified = false;
        Freshness::Unverified
    }

    /// Takes a verified message as the peer's present state. `sent_at`: when the heartbeat of ours was sent that it
    /// echoes; `agreement`: whether what it promises counts.
    pub(super) fn accept(
        &mut self,
        status: Box<Status>,
        now: Instant,
        sent_at: Option<Instant>,
        own: (&NodeName, Duration),
        agreement: Agreement,
    ) {
        let same_life = (self.status.as_ref()).is_some_and(|s| s.generation == status.generation);
        if !same_life {
            // Whoever has just started has forgotten what it heard before.
            self.echoed = None;
            self.unpromised_since = None;
            self.promised_in_life = None;
        }
        self.echoed = self.echoed.max(sent_at);
        self.said_after = sent_at;
        let promise = status.heard.get(own.0).is_some_and(|heard| heard.promise);
        if let Some(at) = sent_at
            && agreement.binding
            && promise
            && status.phase != Phase::Gone
        {
            let until = at + shortened(status.deadtime.min(own.1));
            self.promised_until = self.promised_until.max(Some(until));
            self.promised_in_life = self.promised_in_life.max(Some(until));
        }
        self.stated = Some(now);
        self.last_heard = Some(now);
        self.status = Some(status);
        self.agreement = agreement;
    }

    /// Takes a verified message that is not whole as a sign of life: it promises nothing.
    pub(super) fn accept_brief(&mut self, now: Instant, sent_at: Option<Instant>) {
        self.echoed = self.echoed.max(sent_at);
        self.last_heard = Some(now);
    }

    /// Whether it must be asked for its state.
    pub(super) fn is_lacking(&self) -> bool {
        self.lacking
    }

    /// Notes on which link a message came; true where the link is up only now.
    pub(super) fn note_link(&mut self, link: LinkId, status: &Status, now: Instant) -> bool {
        let numbers = (status.generation, status.sequence);
        let recent = self.newest.is_none_or(|(generation, sequence)| {
            generation == numbers.0 && sequence.0.saturating_sub(numbers.1.0) <= LINK_WINDOW
        });
        if !recent
            || self
                .links
                .get(&link)
                .is_some_and(|known| numbers <= known.last)
        {
            return false;
        }
        let entry = PeerLink {
            last: numbers,
            heard_at: now,
            up: true,
        };
        !self
            .links
            .insert(link, entry)
            .is_some_and(|before| before.up)
    }

    /// Links that have been silent for `deadtime` and were up until now.
    pub(super) fn expire_links(&mut self, now: Instant, deadtime: Duration) -> Vec<LinkId> {
        let mut expired = Vec::new();
        for (id, link) in &mut self.links {
            if link.up && now >= (link.heard_at + deadtime).max(self.grace) {
                link.up = false;
                expired.push(*id);
            }
        }
        expired
    }

    /// When the peer is dead unless it is heard before, or promised something again; none where it is dead or gone
    /// already.
    pub(super) fn death_due(&self, deadtime: Duration) -> Option<Instant> {
        match self.contact {
            Contact::Unheard => Some(self.grace),
            Contact::Alive => {
                let silent = self.last_heard.map_or(self.grace, |t| t + deadtime);
                let unpromised = self.unpromised_since.map(|t| t + deadtime);
                let due = unpromised.map_or(silent, |t| t.min(silent));
                Some(due.max(self.grace))
            }
            Contact::Dead(_) | Contact::Left(_) => None,
        }
    }

    /// Gives the peer time up to `until`, since we may have been the ones who did not listen.
    pub(super) fn extend_grace(&mut self, until: Instant) {
        self.grace = self.grace.max(until);
    }

    /// Notes whether it is promised something as long as it is heard. A promise that was given before holds for
    /// deadtime, and no longer.
    pub(super) fn note_promising(&mut self, promising: bool, now: Instant) {
        self.unpromised_since = match promising {
            true => None,
            false => self.unpromised_since.or(Some(now)),
        };
    }

    /// When it stops to hear us, unless it echoes something before.
    pub(super) fn deaf_due(&self, deadtime: Duration) -> Option<Instant> {
        let alive = self.contact == Contact::Alive;
        self.echoed.filter(|_| alive).map(|t| t + deadtime)
    }

    /// Whether it has been sending for deadtime without naming this life of ours: one direction is dead.
    pub(super) fn never_names_us(&self, now: Instant, deadtime: Duration) -> bool {
        self.unnamed
            .is_some_and(|(since, newest)| now >= since + deadtime && now < newest + deadtime)
    }

    /// Whether what it said last answers something that we sent at `since` or later.
    pub(super) fn says_since(&self, since: Instant) -> bool {
        self.said_after.is_some_and(|t| t >= since)
    }

    /// The shorter of its deadtime and ours: how long anything between us can be relied on.
    pub(super) fn common_deadtime(&self, own: Duration) -> Duration {
        self.status.as_ref().map_or(own, |s| s.deadtime.min(own))
    }

    /// It was heard: from now on its silence is judged by deadtime alone.
    pub(super) fn end_grace(&mut self, now: Instant) {
        self.grace = now;
    }

    /// We stood still: what we know is old, and what the peer promised is past.
    pub(super) fn forget_contact(&mut self, grace: Instant) {
        self.echoed = None;
        self.said_after = None;
        self.promised_until = None;
        self.promised_in_life = None;
        self.extend_grace(grace);
    }

    /// Both hear each other: it was heard within deadtime, and it has heard what we sent within deadtime.
    pub(super) fn in_contact(&self, now: Instant, deadtime: Duration) -> bool {
        self.hears_us(now, deadtime) && self.is_heard(now, deadtime)
    }

    /// It was heard within deadtime, and what it says is known.
    pub(super) fn is_heard(&self, now: Instant, deadtime: Duration) -> bool {
        !matches!(self.contact, Contact::Left(_)) && self.stated.is_some_and(|t| now < t + deadtime)
    }

    /// It has echoed what we sent within deadtime.
    pub(super) fn hears_us(&self, now: Instant, deadtime: Duration) -> bool {
        self.echoed.is_some_and(|t| now < t + deadtime)
    }

    /// It has echoed what we sent at `since` or later.
    pub(super) fn has_heard_since(&self, since: Instant) -> bool {
        self.echoed.is_some_and(|t| t >= since)
    }

    /// Up to when it takes no part in declaring us dead.
    pub(super) fn promised_until(&self) -> Option<Instant> {
        self.promised_until
    }

    /// The same, by what its present life has said.
    pub(super) fn promised_in_life(&self) -> Option<Instant> {
        self.promised_in_life
    }

    /// Its newest verified message, if the peer has not left.
    pub(super) fn current(&self) -> Option<&Status> {
        match self.contact {
            Contact::Left(_) => None,
            Contact::Unheard | Contact::Alive | Contact::Dead(_) => self.status.as_deref(),
        }
    }

    /// The entry for it in our own heartbeat; `promising` says whether it may be a promise.
    pub(super) fn echo(&self, promising: bool) -> Option<Heard> {
        let (generation, sequence) = self.newest?;
        Some(Heard {
            generation,
            sequence,
            promise: promising && self.newest_verified,
        })
    }

    /// The life that it ended itself, if that is its newest one as far as this node knows.
    pub(super) fn life_that_left(&self) -> Option<Generation> {
        match self.contact {
            Contact::Left(life) => Some(life),
            Contact::Unheard | Contact::Alive | Contact::Dead(_) => None,
        }
    }

    /// Its newest message, if that was verified.
    pub(super) fn newest_verified(&self) -> Option<MessageId> {
        self.newest.filter(|_| self.newest_verified)
    }

    /// Its newest life, verified or not.
    pub(super) fn newest_generation(&self) -> Option<Generation> {
        self.newest.map(|(generation, _)| generation)
    }

    /// What to tell the leader of its death, if it is dead to us or has left: a leader that came later cannot know.
    pub(super) fn dead_report(&self) -> Option<DeadReport> {
        match &self.contact {
            Contact::Dead(death) => Some(DeadReport {
                generation: death.generation,
                heard_again: death.heard_again,
            }),
            Contact::Left(generation) => Some(DeadReport {
                generation: *generation,
                heard_again: false,
            }),
            Contact::Unheard | Contact::Alive => None,
        }
    }

    /// Lives again for us, with `grace` to be heard and to hear, if `term` and `admission` are later than its death.
    pub(super) fn readmit(&mut self, term: &Term, admission: PlanVersion, grace: Instant) -> bool {
        let Contact::Dead(death) = &self.contact else {
            return false;
        };
        let later = match &death.term {
            None => true,
            Some(at) => term > at || (term == at && admission > death.version),
        };
        if later {
            self.contact = Contact::Alive;
            self.unpromised_since = None;
            self.extend_grace(grace);
        }
        later
    }
}

/// Whether the sender had heard this life of ours when it made the message.
pub(super) fn names(status: &Status, local: (&NodeName, Generation)) -> bool {
    status
        .heard
        .get(local.0)
        .is_some_and(|heard| heard.generation == local.1)
}
