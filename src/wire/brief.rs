//! What has not changed is not said again: which heartbeats carry their body, and whose body is kept.
//!
//! A brief heartbeat says the digest of a body that whoever heard an earlier one of the same life has. Who has not asks
//! for it in its next, which it sends at once. Pure: no clock and no keys of its own; one [`Exchange`] lasts as long as a
//! life of the daemon.

use super::body::{Body, Encoded, StateDigest};
use super::codec::{Heartbeat, SenderFacts, encode_brief, encode_whole};
use super::keys::Keys;
use super::status::{Phase, Status};
use crate::ids::{Generation, NodeName, Sequence};
use std::collections::BTreeMap;

/// How often a new body is said: after the loss of one packet the next makes up for it, as if each carried it.
const SAID_ANEW: u32 = 2;

/// How many brief heartbeats come in a row at most.
const BRIEF_MAX: u32 = 200;

/// Both directions of one life.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    said: Option<Said>,
    /// The newest body of each sender.
    kept: BTreeMap<NodeName, Kept>,
}

/// What this life has said.
#[derive(Debug, Clone)]
struct Said {
    node: NodeName,
    generation: Generation,
    body: Body,
    digest: StateDigest,
    /// The newest heartbeat that carried the body.
    whole: Sequence,
    /// How many more are to carry it.
    due: u32,
    /// How many did not since.
    brief: u32,
    /// Whom this node has heard: somebody new may not have the body.
    met: BTreeMap<NodeName, Generation>,
}

#[derive(Debug, Clone)]
struct Kept {
    generation: Generation,
    sequence: Sequence,
    digest: StateDigest,
    body: Body,
}

/// A heartbeat for the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// With its body, its own or the one that was kept.
    Whole(Box<Status>),
    /// Without: nobody here knows what it would say.
    Brief(Box<Status>),
}

impl Exchange {
    /// The packet of this node's next heartbeat, whole or brief.
    pub fn encode(&mut self, status: &Status, keys: &Keys, facts: &SenderFacts<'_>) -> Vec<u8> {
        match self.kept_by_all(status) {
            Some(digest) => encode_brief(status, digest, keys, facts),
            None => {
                let body = Encoded::of(status);
                self.note_whole(status, body.digest);
                encode_whole(status, body, keys, facts)
            }
        }
    }

    /// The digest, where it says enough.
    fn kept_by_all(&mut self, status: &Status) -> Option<StateDigest> {
        let said = self.said.as_mut()?;
        let met = |(name, heard): (&NodeName, &super::status::Heard)| {
            said.met.get(name) == Some(&heard.generation)
        };
        // After the last words of a life nobody can ask.
        let last = status.returning || status.phase == Phase::Gone;
        let enough = !last
            && said.due == 0
            && said.brief < BRIEF_MAX
            && said.generation == status.generation
            && status.heard.iter().all(met)
            && said.body.is_of(status);
        said.brief = said.brief.saturating_add(1);
        enough.then_some(said.digest)
    }

    fn note_whole(&mut self, status: &Status, digest: StateDigest) {
        let met = status.heard.iter();
        let met = met.map(|(name, heard)| (name.clone(), heard.generation));
        let before = self
            .said
            .take()
            .filter(|said| said.generation == status.generation && said.digest == digest);
        let (due, body) = match before {
            Some(said) => (said.due.saturating_sub(1), said.body),
            None => (SAID_ANEW - 1, Body::of(status)),
        };
        self.said = Some(Said {
            node: status.node.clone(),
            generation: status.generation,
            body,
            digest,
            whole: status.sequence,
            due,
            brief: 0,
            met: met.collect(),
        });
    }

    /// Takes in a heartbeat of another node of this cluster.
    pub fn take(&mut self, heartbeat: Heartbeat) -> Taken {
        let Heartbeat {
            mut status,
            state,
            brief,
        } = heartbeat;
        self.note_ask(&status);
        if !brief {
            self.keep(&status, state);
            return Taken::Whole(status);
        }
        let kept = self.kept.get(&status.node);
        match kept.filter(|kept| kept.generation == status.generation && kept.digest == state) {
            Some(kept) => {
                kept.body.clone().put_into(&mut status);
                Taken::Whole(status)
            }
            None => Taken::Brief(status),
        }
    }

    /// The next heartbeat carries the body for a peer that has heard a later one than the last that did, and lacks it.
    fn note_ask(&mut self, status: &Status) {
        let Some(said) = &mut self.said else {
            return;
        };
        let lost = status.asks.contains(&said.node)
            && status.heard.get(&said.node).is_some_and(|heard| {
                heard.generation == said.generation && heard.sequence >= said.whole
            });
        if lost {
            said.due = said.due.max(1);
        }
    }

    fn keep(&mut self, status: &Status, digest: StateDigest) {
        let (generation, sequence) = (status.generation, status.sequence);
        let older = self
            .kept
            .get(&status.node)
            .is_some_and(|kept| (kept.generation, kept.sequence) >= (generation, sequence));
        if !older {
            let body = Body::of(status);
            let kept = Kept {
                generation,
                sequence,
                digest,
                body,
            };
            self.kept.insert(status.node.clone(), kept);
        }
    }
}
