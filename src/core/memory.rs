//! What a life of the daemon knows of what the life before it has promised: all of it, where that life's last heartbeat was
//! noted before it was sent, on the same machine since its boot.
//!
//! Whoever may have forgotten promises keeps silent for as long as they may last. Whoever knows whom it has declared dead
//! and whose term it has followed can vote and promise at once: it goes on where the earlier life has ended.

use crate::core::io::Persistent;
use crate::core::peer::{Contact, Death, Peer};
use crate::core::settings::{Policy, Settings};
use crate::ids::{NodeName, PlanVersion, Term};
use crate::wire::status::Status;
use std::collections::BTreeMap;

/// The part of an earlier life's last heartbeat that binds the next one.
#[derive(Debug)]
pub(super) struct Memory<'a> {
    words: &'a Status,
}

impl<'a> Memory<'a> {
    /// None where the words are not those of the life right before this one, where that one kept silent itself, or where
    /// it was bound for longer, or in another cluster, than this one knows.
    pub(super) fn of(
        words: Option<&'a Status>,
        settings: &Settings,
        persistent: &Persistent,
    ) -> Option<Self> {
        let words = words?;
        let binds = settings.policy == Policy::Majority
            && words.node == settings.local
            && words.generation.next() == persistent.generation
            && words.voting
            && words.deadtime <= settings.deadtime
            && words.profile.agrees_with(&settings.profile());
        binds.then_some(Self { words })
    }

    /// The latest term that the earlier life has followed.
    pub(super) fn floor(&self) -> Option<Term> {
        let words = self.words;
        words.floor.as_ref().max(words.term.as_ref()).cloned()
    }

    /// Whom it had declared dead, or has seen leave, is dead to this one until a later plan readmits it.
    pub(super) fn bury(&self, peers: &mut BTreeMap<NodeName, Peer>) {
        // Without a leader the plan is not known under which they died: only a later term readmits them.
        let version = match self.words.term == self.floor() {
            true => self.words.report.version,
            false => PlanVersion(u64::MAX),
        };
        for (name, dead) in &self.words.report.dead {
            if let Some(peer) = peers.get_mut(name) {
                peer.contact = Contact::Dead(Death {
                    generation: dead.generation,
                    term: self.floor(),
                    version,
                    heard_again: false,
                });
            }
        }
    }
}
