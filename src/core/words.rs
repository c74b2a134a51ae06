//! What a message says that concerns this node beyond its sender's own state: failed stops, groups with two owners.

use crate::core::Core;
use crate::core::event::Event;
use crate::core::io::Output;
use crate::core::leader;
use crate::core::time::Instant;
use crate::ids::{GroupName, MessageId, NodeName};
use crate::wire::status::{GroupState, Phase, Status, Wish, claims_up_to};

impl Core {
    /// What a verified message says that concerns us beyond its sender's own state.
    pub(super) fn note_words(
        &mut self,
        name: &NodeName,
        status: &Status,
        sent_at: Option<Instant>,
    ) {
        if status.returning {
            self.event(Event::PeerReturning { peer: name.clone() });
        }
        if let Some(term) = &status.term {
            self.term_seen = self.term_seen.max(term.number);
        }
        if self.note_claims(name, status) {
            self.persist();
        }
        self.note_double_owner(name, status, sent_at);
        self.note_double_owner_end(name, status);
        let before = self.peers.get(name).and_then(|p| p.status.as_ref());
        let seen = before
            .is_some_and(|s| s.generation == status.generation && s.request == status.request);
        if !seen && let Some(Wish::Clear { group }) = status.request.as_ref().map(|r| &r.wish) {
            let group = group.clone();
            self.clear(&group);
        }
    }

    /// Takes over what a peer says of failed stops: its own, which are so, and what it knows of others'. Answers whether
    /// anything changed.
    fn note_claims(&mut self, name: &NodeName, status: &Status) -> bool {
        let mut changed = self.note_void_claims(name, status);
        let now = (status.generation, status.sequence);
        let known = self.lives.get(name).copied();
        let mut reports = status.report.groups.values();
        // What it still stops may have been blocked in an earlier life.
        let settled = !reports.any(|report| report.state == GroupState::Stopping);
        if settled && known.is_none_or(|(life, _)| life < status.generation) {
            self.learn(name, now);
            changed = true;
        }
        let groups: Vec<GroupName> = self.settings.groups.keys().cloned().collect();
        for group in &groups {
            let report = status.report.groups.get(group);
            let claim = (group.clone(), name.clone());
            changed |= match report.map(|g| g.state).unwrap_or_default() {
                GroupState::Blocked => {
                    self.cleared.remove(&claim);
                    let new = self.blocked_elsewhere.insert(claim);
                    // Only where something is new, since else each of its messages would change ours.
                    if new || known.is_none() || status.phase == Phase::Gone {
                        self.learn(name, now);
                    }
                    new
                }
                // A stop that is tried again has not succeeded yet; whatever else it does, it has.
                GroupState::Stopping => false,
                GroupState::Stopped | GroupState::Starting | GroupState::Started => {
                    let resolved = self.blocked_elsewhere.remove(&claim);
                    if resolved {
                        self.learn(name, now);
                        self.cleared.insert(claim);
                    }
                    resolved
                }
            };
        }
        changed
    }

    /// Knows a node up to this message now. What was cleared in an earlier life of it says nothing of this one.
    fn learn(&mut self, node: &NodeName, newest: MessageId) {
        let known = self.lives.insert(node.clone(), newest);
        if known.is_none_or(|(life, _)| life < newest.0) {
            self.cleared.retain(|(_, it)| it != node);
        }
    }

    /// Drops what is remembered of third nodes and was cleared since, or was said in a life of theirs that is past.
    fn note_void_claims(&mut self, name: &NodeName, status: &Status) -> bool {
        let report = &status.report;
        let void: Vec<_> = (self.blocked_elsewhere.iter())
            .filter(|(_, node)| node != name)
            .filter(|claim| {
                let newest = self.peers.get(&claim.1).and_then(|it| it.echo(false));
                report.voids(claim, claims_up_to(&claim.1, &self.lives, newest))
            })
            .cloned()
            .collect();
        for claim in &void {
            let node = &claim.1;
            // Up to there the sender knows of all groups of the node.
            self.cleared
                .retain(|it| it.1 != *node || !report.blocked.contains(it));
            if let Some(newest) = self.lives.get(node).max(report.lives.get(node)).copied() {
                self.learn(node, newest);
            }
            self.blocked_elsewhere.remove(claim);
            self.cleared.insert(claim.clone());
        }
        !void.is_empty()
    }

    /// Two nodes run a group: what the classic policy cannot prevent must at least be told. Only words that answer
    /// something sent since it runs here speak of the same time.
    fn note_double_owner(&mut self, name: &NodeName, status: &Status, sent_at: Option<Instant>) {
        let mut events = Vec::new();
        for (group, local) in &self.groups {
            let theirs = status.report.groups.get(group).map(|g| g.state);
            let theirs = theirs.is_some_and(leader::runs);
            let ours = local.runs_since();
            let double = (group.clone(), name.clone());
            if !theirs || ours.is_none() {
                self.doubles.remove(&double);
                continue;
            }
            let together = ours.is_some_and(|since| sent_at >= Some(since));
            if !together || !self.doubles.insert(double) {
                continue;
            }
            let listed = self.settings.groups.get(group).map(|g| g.nodes.as_slice());
            let first = listed
                .unwrap_or_default()
                .iter()
                .find(|n| **n == self.settings.local || *n == name);
            let kept_by = self.planned_owner(group).or(first).unwrap_or(name).clone();
            let stopped_on = if kept_by == *name {
                self.settings.local.clone()
            } else {
                name.clone()
            };
            events.push(Event::DoubleOwner {
                group: group.clone(),
                kept_by,
                stopped_on,
            });
        }
        self.events(events);
    }

    /// Another owner of a group of ours is gone: the neighbours must learn anew where its addresses are.
    fn note_double_owner_end(&mut self, name: &NodeName, status: &Status) {
        let runs = |s: &Status, group: &GroupName| {
            s.report
                .groups
                .get(group)
                .is_some_and(|g| g.state != GroupState::Stopped)
        };
        let before = self.peers.get(name).and_then(|p| p.status.as_deref());
        let ended: Vec<_> = self
            .groups
            .iter()
            .filter(|(_, local)| local.state() == GroupState::Started)
            .filter(|(group, _)| before.is_some_and(|s| runs(s, group)) && !runs(status, group))
            .map(|(group, _)| group.clone())
            .collect();
        self.outputs.extend(ended.into_iter().map(Output::Announce));
    }
}
