//! From a datagram to a whole heartbeat of a known peer, and back to a datagram: everything else that comes is dropped, counted by reason and link, and told at
//! a limited rate.

use crate::config::Config;
use crate::ids::{Generation, LinkId, NodeName, Sequence};
use crate::wire::brief::{Exchange, Taken};
use crate::wire::codec::{Received, SenderFacts, decode};
use crate::wire::keys::Keys;
use crate::wire::status::Status;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Turns between two reports of the same kind of rejection, in calls of [`Reception::tell_rejected`] (one a second).
const QUIET_ROUNDS: u32 = 60;

/// What was dropped, and what of it people know; what need not be said again.
#[derive(Debug, Default)]
pub(super) struct Reception {
    rejected: BTreeMap<LinkId, u64>,
    reasons: BTreeMap<&'static str, Tally>,
    /// The newest heartbeat of each node on each link: anything else on the same link is a replay or came too late.
    newest: BTreeMap<(LinkId, NodeName), (Generation, Sequence)>,
    exchange: Exchange,
}

#[derive(Debug)]
struct Tally {
    since_told: u64,
    last_from: SocketAddr,
    /// Rounds until it may be told again.
    quiet: u32,
}

/// What a packet is compared with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own<'a> {
    pub(super) config: &'a Config,
    /// This life of the daemon.
    pub(super) generation: Generation,
}

impl Reception {
    /// The heartbeat in a datagram, if it is one of another node of this cluster.
    pub(super) fn open(
        &mut self,
        link: LinkId,
        from: SocketAddr,
        packet: &[u8],
        keys: &Keys,
        own: Own<'_>,
    ) -> Option<Taken> {
        let config = own.config;
        let heartbeat = match decode(packet, keys) {
            Ok(Received::Heartbeat(heartbeat)) => heartbeat,
            Ok(Received::Foreign(_)) => {
                self.reject(
                    link,
                    from,
                    "it is a message of Heartbeat, which is not understood yet",
                );
                return None;
            }
            Err(reason) => {
                self.reject(link, from, reason.as_str());
                return None;
            }
        };
        let status = &heartbeat.status;
        if status.node == *config.local() {
            // Broadcast and multicast bring back what we sent; a later life under our name is somebody else's.
            if status.generation > own.generation {
                self.reject(
                    link,
                    from,
                    "it is under the name of this node: another machine has the same host name, or is a copy",
                );
            }
            return None;
        }
        if status.cluster != *config.cluster() {
            self.reject(link, from, "it is of another cluster");
        } else if !config.settings.nodes.contains_key(&status.node) {
            self.reject(link, from, "its sender is no [[node]] of this cluster");
        } else if !self.is_new(link, status) {
            self.reject(
                link,
                from,
                "it was received before, or is older than one that was",
            );
        } else {
            return Some(self.exchange.take(heartbeat));
        }
        None
    }

    /// The datagram of this node's next heartbeat.
    pub(super) fn seal(
        &mut self,
        status: &Status,
        keys: &Keys,
        facts: &SenderFacts<'_>,
    ) -> Vec<u8> {
        self.exchange.encode(status, keys, facts)
    }

    /// Whether it is newer than all that came from this node on this link; the core would not take it otherwise.
    fn is_new(&mut self, link: LinkId, status: &Status) -> bool {
        let numbers = (status.generation, status.sequence);
        let newest = self.newest.entry((link, status.node.clone())).or_default();
        let new = numbers > *newest;
        *newest = numbers.max(*newest);
        new
    }

    /// Datagrams dropped on a link.
    pub(super) fn rejected(&self, link: LinkId) -> u64 {
        self.rejected.get(&link).copied().unwrap_or(0)
    }

    fn reject(&mut self, link: LinkId, from: SocketAddr, reason: &'static str) {
        let count = self.rejected.entry(link).or_default();
        *count = count.saturating_add(1);
        let tally = self.reasons.entry(reason).or_insert(Tally {
            since_told: 0,
            last_from: from,
            quiet: 0,
        });
        tally.since_told = tally.since_told.saturating_add(1);
        tally.last_from = from;
    }

    /// Tells what was dropped since the last time; once a second, each reason at most once a minute.
    pub(super) fn tell_rejected(&mut self) {
        for (reason, tally) in &mut self.reasons {
            tally.quiet = tally.quiet.saturating_sub(1);
            if tally.since_told > 0 && tally.quiet == 0 {
                tracing::warn!(
                    "dropped {} packets, the last one from {}: {reason}",
                    tally.since_told,
                    tally.last_from
                );
                tally.since_told = 0;
                tally.quiet = QUIET_ROUNDS;
            }
        }
    }
}
