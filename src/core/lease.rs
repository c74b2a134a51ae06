//! May this node run groups: a majority has promised so, or, under `ignore`, it has not stood still.

use crate::core::Core;
use crate::core::event::Event;
use crate::core::io::Lease;
use crate::core::rules::{BrokenRule, shortened};
use crate::core::settings::Policy;

impl Core {
    /// Computes the lease anew from what the peers have promised.
    pub(super) fn renew_lease(&mut self) {
        let before = self.lease;
        self.lease = self.compute_lease();
        let (held, holds) = (before != Lease::None, self.holds_lease());
        if !holds {
            self.lease = Lease::None;
        }
        if self.settings.policy == Policy::Majority && !self.settings.standalone() && held != holds
        {
            self.event(if holds {
                Event::QuorumGained
            } else {
                Event::QuorumLost
            });
        }
        if held && !holds {
            self.release_all();
        }
    }

    /// A lease that ran out before this turn has run out, whatever the input says: others may have acted on it.
    pub(super) fn notice_lapse(&mut self) {
        if self.settings.policy == Policy::Majority
            && self.lease != Lease::None
            && !self.holds_lease()
        {
            self.lease = Lease::None;
            self.event(Event::QuorumLost);
            self.release_all();
        }
    }

    pub(super) fn compute_lease(&self) -> Lease {
        if self.settings.standalone() || self.broken(BrokenRule::LeaseIgnored) {
            return Lease::Unlimited;
        }
        self.promised_lease().max(self.inherited)
    }

    fn promised_lease(&self) -> Lease {
        match self.settings.policy {
            Policy::Ignore => match &self.last_sent {
                Some((at, _)) => Lease::Until(*at + shortened(self.shortest_deadtime())),
                None => Lease::None,
            },
            Policy::Majority => {
                let mut promises: Vec<_> = self
                    .peers
                    .values()
                    .filter(|peer| peer.agreement.binding)
                    .filter_map(|p| p.promised_until())
                    .collect();
                promises.sort_unstable_by(|a, b| b.cmp(a));
                let others = self.settings.majority().saturating_sub(1);
                others
                    .checked_sub(1)
                    .and_then(|last| promises.get(last))
                    .map_or(Lease::None, |t| Lease::Until(*t))
            }
        }
    }

    /// Whether this node may run groups now.
    pub(super) fn holds_lease(&self) -> bool {
        self.lease.holds(self.now)
    }
}
