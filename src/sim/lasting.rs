//! Cuts that stay: one pair, one direction or one node is not mended with all the rest, and whoever is left must go on.
//!
//! Under `majority`, a majority in full mutual contact runs everything that any of it can run, unless the rest does.
//! Under `ignore`, each group runs in the part of the cluster that is whole. Nobody may flap meanwhile.

use crate::core::Policy;
use crate::core::view::View;
use crate::ids::GroupName;
use crate::sim::Mind;
use crate::sim::check::Failure;
use crate::sim::clock::nanos;
use crate::sim::cluster::Sim;
use crate::sim::hands::HandState;
use crate::sim::happening::Happening;
use crate::sim::network::{Contact, Cut};
use crate::sim::random::Random;
use crate::sim::settle::Watch;
use std::collections::BTreeMap;

/// The cut that stays; no other one has this number.
const LASTING: u64 = u64::MAX;

/// What stays cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// Two nodes do not hear each other.
    Pair(usize, usize),
    /// The second node does not hear the first one.
    Direction(usize, usize),
    /// A node hears nobody.
    Deaf(usize),
    /// Nobody hears a node.
    Mute(usize),
    /// Both.
    Alone(usize),
}

impl Lasting {
    /// One of them, for a cluster of so many nodes; none where there is nothing to cut.
    pub fn draw(random: &mut Random, nodes: usize) -> Option<Self> {
        let one = random.index(nodes);
        let other = (one + 1 + random.index(nodes.saturating_sub(1))) % nodes.max(1);
        let kind = random.below(6);
        (nodes > 1).then_some(match kind {
            0 | 1 => Self::Pair(one, other),
            2 => Self::Direction(one, other),
            3 => Self::Deaf(one),
            4 => Self::Mute(one),
            _ => Self::Alone(one),
        })
    }

    /// Senders and receivers, as bit masks.
    fn masks(self) -> Vec<(u64, u64)> {
        match self {
            Self::Pair(a, b) => vec![(1 << a, 1 << b), (1 << b, 1 << a)],
            Self::Direction(a, b) => vec![(1 << a, 1 << b)],
            Self::Deaf(a) => vec![(!(1 << a), 1 << a)],
            Self::Mute(a) => vec![(1 << a, !(1 << a))],
            Self::Alone(a) => vec![(1 << a, !(1 << a)), (!(1 << a), 1 << a)],
        }
    }

    /// Nodes without any one of which the rest is whole.
    fn culprits(self) -> Vec<usize> {
        match self {
            Self::Pair(a, b) | Self::Direction(a, b) => vec![a, b],
            Self::Deaf(a) | Self::Mute(a) | Self::Alone(a) => vec![a],
        }
    }
}

impl<M: Mind> Sim<M> {
    /// Everything heals but one cut; then one more thing happens to one machine.
    ///
    /// # Errors
    /// An invariant that did not hold.
    pub(super) fn live_with(&mut self, lasting: Lasting) -> Result<(), Failure> {
        self.heal_all_but(lasting)?;
        self.must_live_with(lasting)?;
        let victim = self.trouble_random.index(self.nodes.len());
        match self.trouble_random.below(3) {
            0 => {}
            1 => self.power_cut(victim),
            _ => {
                self.power_cut(victim);
                let soon = self.trouble_random.below(3 * nanos(self.scenario.deadtime));
                let boot = Happening::Boot { node: victim };
                self.queue.push(self.now + soon, boot);
            }
        }
        self.must_live_with(lasting)
    }

    fn heal_all_but(&mut self, lasting: Lasting) -> Result<(), Failure> {
        self.expect(Watch::Settling);
        self.network.heal(self.now);
        self.note("network", format_args!("{lasting:?} stays"));
        for (from, to) in lasting.masks() {
            let (id, link) = (LASTING, None);
            self.network.cut(self.now, Cut { id, link, from, to });
        }
        self.bring_all_back()?;
        self.people_tidy_up()
    }

    fn must_live_with(&mut self, lasting: Lasting) -> Result<(), Failure> {
        self.run_until(self.now + self.scenario.grieving_time())?;
        self.people_tidy_up()?;
        self.await_hand_overs()?;
        let (deadtime, step) = (
            nanos(self.scenario.deadtime),
            nanos(self.scenario.keepalive),
        );
        let bound = self.now + self.scenario.settle_time() + 6 * deadtime;
        while let Err(reason) = self.lives_with(lasting) {
            if self.now >= bound {
                return self.cut_failure("liveness-cut", format!("{lasting:?}: {reason}"));
            }
            self.run_until(self.now + step)?;
        }
        // A group that is back may still go home once.
        self.run_until(self.now + self.scenario.move_time())?;
        let (holders, end) = (self.settled_holders(lasting), self.now + 4 * deadtime);
        while self.now < end {
            self.run_until(self.now + step)?;
            if let Err(reason) = self.lives_with(lasting) {
                return self.cut_failure("stability-cut", format!("{lasting:?}: {reason}"));
            }
            let moved = self.settled_holders(lasting);
            if moved != holders {
                let text = format!("{lasting:?}: {holders:?} became {moved:?}");
                return self.cut_failure("stability-cut", text);
            }
        }
        Ok(())
    }

    fn cut_failure(&mut self, invariant: &'static str, text: String) -> Result<(), Failure> {
        if self.scenario.demands.cuts {
            return self.fail(invariant, text);
        }
        self.note("phase", format_args!("not demanded: {invariant}, {text}"));
        Ok(())
    }

    /// Who holds what; under `ignore` a node that is cut off may still find out that it is the sick one.
    fn settled_holders(&self, lasting: Lasting) -> BTreeMap<GroupName, Vec<usize>> {
        let sick = match (self.scenario.policy, lasting) {
            (Policy::Ignore, Lasting::Deaf(node) | Lasting::Mute(node) | Lasting::Alone(node)) => {
                Some(node)
            }
            // In a pair that is the same as being mute.
            (Policy::Ignore, Lasting::Direction(node, _)) if self.nodes.len() == 2 => Some(node),
            (Policy::Majority | Policy::Ignore, _) => None,
        };
        let well = |group: &GroupName| {
            let mut holders = self.holders(group);
            // What is on its way down may take for as long as its margin.
            let stops = |holder: usize| {
                let state = self.nodes.get(holder).map(|it| it.hands.state(group));
                state == Some(HandState::Stopping)
            };
            holders.retain(|holder| Some(*holder) != sick && !stops(*holder));
            holders
        };
        let groups = self.scenario.groups.keys();
        groups.map(|group| (group.clone(), well(group))).collect()
    }

    pub(super) fn holders(&self, group: &GroupName) -> Vec<usize> {
        std::iter::zip(0.., &self.nodes)
            .filter(|(_, node)| node.hands.holds(group))
            .map(|(index, _)| index)
            .collect()
    }

    /// Whether each group that must run does so.
    fn lives_with(&self, lasting: Lasting) -> Result<(), String> {
        let views = self.views();
        self.scenario
            .groups
            .keys()
            .try_for_each(|group| self.group_lives_with(lasting, group, &views))
    }

    fn group_lives_with(
        &self,
        lasting: Lasting,
        group: &GroupName,
        views: &BTreeMap<usize, View>,
    ) -> Result<(), String> {
        let (able, holders) = (self.able(group, views), self.holders(group));
        let runs = |holder: &usize| {
            let state = self.nodes.get(*holder).map(|node| node.hands.state(group));
            state == Some(HandState::Running) && able.contains(holder)
        };
        let without = |culprit: usize| {
            let rest: Vec<usize> = views.keys().copied().filter(|it| *it != culprit).collect();
            rest
        };
        let whole = |rest: &Vec<usize>| {
            let enough = rest.len() > self.nodes.len() / 2;
            let majority = self.scenario.policy == Policy::Majority;
            (!majority || enough) && rest.iter().any(|it| able.contains(it))
        };
        let parts: Vec<Vec<usize>> = (lasting.culprits().into_iter())
            .map(without)
            .filter(whole)
            .collect();
        let text = format!("group {group} is held by nodes {holders:?}, able are {able:?}");
        match (self.scenario.policy, parts.as_slice()) {
            (_, []) => Ok(()),
            (Policy::Majority, _) if holders.len() == 1 && holders.iter().all(runs) => Ok(()),
            (Policy::Majority, _) => Err(text),
            // Of two nodes nobody can say which one is the sick one.
            (Policy::Ignore, [part]) if part.len() > 1 => {
                let inside = holders.iter().filter(|it| part.contains(it) && runs(it));
                if inside.count() == 1 {
                    Ok(())
                } else {
                    Err(text)
                }
            }
            (Policy::Ignore, _) => {
                let agree = holders.iter().enumerate().all(|(place, a)| {
                    let mut later = holders.iter().skip(place + 1);
                    later.all(|b| self.network.contact(*a, *b).0 != Contact::Clean)
                });
                if agree && holders.iter().any(runs) {
                    Ok(())
                } else {
                    Err(text)
                }
            }
        }
    }
}
