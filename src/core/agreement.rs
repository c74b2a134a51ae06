//! Nodes whose configurations differ, as they do while people change them one after the other: who counts on whom, and
//! whose lease may still hold.
//!
//! Votes and promises pass only between nodes whose policies are the same, whose roles are, and whose lists of members
//! differ by one at most: majorities of such lists have a node in common. All else that a node says counts, above all
//! what it runs. Of two deadtimes the shorter one is relied on and the longer one waited for.

use crate::core::Core;
use crate::core::event::{Event, Section};
use crate::core::peer::Contact;
use crate::ids::NodeName;
use crate::wire::status::{Policy, Profile, Status};
use std::collections::BTreeSet;
use std::time::Duration;

/// How the configuration of a peer goes with ours. Found once when the peer says its state: ours does not change during
/// a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Agreement {
    /// Votes and promises pass between it and this node.
    pub(super) binding: bool,
    /// Its list of members is ours.
    pub(super) same_members: bool,
}

impl Agreement {
    /// Whether a node counts as back when it is heard again after its death. Under `majority` one whose votes and
    /// promises count for nothing here does not: what it could run follows from those of the others.
    pub(super) fn may_return(self, policy: Policy) -> bool {
        self.binding || policy == Policy::Ignore
    }
}

impl Core {
    /// How a peer's configuration goes with ours.
    pub(super) fn agreement(&self, status: &Status) -> Agreement {
        Agreement {
            binding: status.profile.agrees_with(&self.profile),
            same_members: status.profile.members == self.profile.members,
        }
    }

    /// In what a peer's configuration differs from ours.
    pub(super) fn differences(&self, status: &Status) -> BTreeSet<Section> {
        let (own, theirs) = (&self.profile, &status.profile);
        let timing = (own.keepalive, self.settings.deadtime) == (theirs.keepalive, status.deadtime);
        let same = [
            (Section::Nodes, own.members == theirs.members),
            (Section::Policy, own.policy == theirs.policy),
            (Section::Timing, timing),
            (Section::Groups, own.groups == theirs.groups),
        ];
        let mut differ: BTreeSet<_> = (same.into_iter().filter(|(_, same)| !same))
            .map(|(section, _)| section)
            .collect();
        if differ.is_empty() && status.config_hash != self.settings.config_hash {
            differ.insert(Section::Rest);
        }
        differ
    }

    /// Tells people once in what a peer's configuration differs.
    pub(super) fn note_difference(
        &mut self,
        name: &NodeName,
        status: &Status,
        agreement: Agreement,
    ) {
        let sections = self.differences(status);
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        if peer.differs_told != sections {
            peer.differs_told.clone_from(&sections);
            let peer = name.clone();
            self.event(Event::ConfigDiffers {
                peer,
                sections,
                apart: !agreement.binding,
            });
        }
    }

    /// The shortest deadtime of all who may take over from this node.
    pub(super) fn shortest_deadtime(&self) -> Duration {
        let own = self.settings.deadtime;
        let peers = self.peers.values().filter(|peer| match &peer.contact {
            Contact::Alive | Contact::Dead(_) => true,
            Contact::Unheard | Contact::Left(_) => false,
        });
        peers
            .map(|peer| peer.common_deadtime(own))
            .min()
            .unwrap_or(own)
    }

    /// The longest keepalive of all: how long an emergency stop takes by default.
    pub(super) fn longest_keepalive(&self) -> Duration {
        self.keepalives()
            .fold(self.settings.keepalive, Duration::max)
    }

    /// How long any group of a node may take to stop whose file says something else of groups than ours.
    pub(super) fn foreign_stop_margin(&self, node: &NodeName) -> Duration {
        let profile = self.profile_of(node);
        match profile.groups == self.profile.groups {
            true => Duration::ZERO,
            false => profile.stop_margin,
        }
    }

    /// The shortest keepalive of all: who goes by a shorter deadtime needs heartbeats accordingly.
    pub(super) fn shortest_keepalive(&self) -> Duration {
        self.keepalives()
            .filter(|keepalive| !keepalive.is_zero())
            .fold(self.settings.keepalive, Duration::min)
    }

    fn keepalives(&self) -> impl Iterator<Item = Duration> {
        let statuses = self.peers.values().filter_map(|peer| peer.status.as_ref());
        statuses.map(|status| status.profile.keepalive)
    }

    /// Whether a node can hold a lease although these have declared it dead: one lasts as long as a majority of the
    /// members that it knows of, itself among them, may have promised it.
    pub(super) fn may_hold_lease(&self, node: &NodeName, declared: &BTreeSet<&NodeName>) -> bool {
        let profile = self.profile_of(node);
        let supporters = profile
            .members
            .keys()
            .filter(|name| self.knows(name, node) && !declared.contains(name));
        supporters.count() >= profile.majority()
    }

    /// Whether a node has another one in its list of members.
    pub(super) fn knows(&self, node: &NodeName, other: &NodeName) -> bool {
        self.profile_of(node).members.contains_key(other)
    }

    /// What is known of a node's configuration: as it said last, else as somebody says who knows it, else as ours.
    fn profile_of(&self, node: &NodeName) -> &Profile {
        if let Some(status) = self.peers.get(node).and_then(|peer| peer.status.as_ref()) {
            return &status.profile;
        }
        if *node != self.settings.local && !self.profile.members.contains_key(node) {
            let known = self.peers.values().filter_map(|peer| peer.status.as_ref());
            let mut naming = known.filter(|status| status.profile.members.contains_key(node));
            if let Some(status) = naming.next() {
                return &status.profile;
            }
        }
        &self.profile
    }

    /// Nodes of which only others know, as long as these are near.
    pub(super) fn strangers(&self) -> BTreeSet<NodeName> {
        // Who has our list names nobody else: comparing all names in each turn would cost more than all the rest.
        let differing =
            (self.peers.values()).filter(|peer| !peer.agreement.same_members && self.is_near(peer));
        let named = differing
            .filter_map(|peer| peer.status.as_ref())
            .flat_map(|status| status.profile.members.keys());
        named
            .filter(|name| !self.profile.members.contains_key(*name))
            .cloned()
            .collect()
    }
}
