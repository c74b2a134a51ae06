//! The conditions that a walk has brought about and not yet ended: what can be done next, and whether the machines can
//! still hear each other.

use super::script::{Act, Brief, CABLES, Lasting};
use std::collections::BTreeSet;

/// Conditions that are in force, each with its machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Conditions(BTreeSet<(Lasting, usize)>);

impl Conditions {
    /// Whether a machine is in a condition.
    pub(super) fn has(&self, node: usize, lasting: Lasting) -> bool {
        self.0.contains(&(lasting, node))
    }

    /// All in force, in the order in which healing ends them.
    pub(super) fn all(&self) -> Vec<(usize, Lasting)> {
        self.0
            .iter()
            .map(|(lasting, node)| (*node, *lasting))
            .collect()
    }

    /// Whether an act makes sense now: it changes something, and the machine can take it.
    pub(super) fn allow(&self, node: usize, act: Act) -> bool {
        let off = self.has(node, Lasting::Off);
        let paused = self.has(node, Lasting::Paused);
        let reachable = match act {
            Act::Begin(it) | Act::End(it) => match it {
                Lasting::DiskFull => true,
                Lasting::Off => true,
                Lasting::Paused => !off,
                Lasting::Cut(_) | Lasting::Deaf(_) | Lasting::Mute(_) => !off,
                Lasting::LinkDown(_) => !off && !paused,
                Lasting::Frozen | Lasting::Stopped => !off && !paused,
                Lasting::Standby => self.answers(node),
            },
            Act::Do(Brief::KillDaemon | Brief::RestartDaemon) => {
                !off && !paused && !self.has(node, Lasting::Stopped)
            }
            Act::Do(Brief::MoveHere) => self.answers(node),
        };
        let stopped = self.has(node, Lasting::Stopped);
        reachable
            && match act {
                Act::Begin(Lasting::Frozen) => !stopped && !self.has(node, Lasting::Frozen),
                Act::Begin(it) => !self.has(node, it),
                Act::End(it) => self.has(node, it),
                Act::Do(_) => true,
            }
    }

    /// Notes what an act brings about.
    pub(super) fn take_in(&mut self, node: usize, act: Act) {
        match act {
            Act::Begin(Lasting::Off) => {
                // What is done inside and at its ports does not outlive the power; disk and standby do.
                let stays = [Lasting::DiskFull, Lasting::Standby];
                self.0
                    .retain(|(lasting, owner)| *owner != node || stays.contains(lasting));
                self.0.insert((Lasting::Off, node));
            }
            Act::Begin(lasting) => {
                self.0.insert((lasting, node));
            }
            Act::End(lasting) => {
                self.0.remove(&(lasting, node));
            }
            Act::Do(_) => {}
        }
    }

    /// Whether a daemon is there to be asked.
    fn answers(&self, node: usize) -> bool {
        let silent = [
            Lasting::Off,
            Lasting::Paused,
            Lasting::Frozen,
            Lasting::Stopped,
        ];
        silent.iter().all(|it| !self.has(node, *it))
    }

    /// Whether two machines may both own the group where nobody asks for a majority: they cannot hear each other, or
    /// one of them, or its daemon, stands still.
    pub(super) fn excuse_two_owners(&self, nodes: usize) -> bool {
        let still = |node| self.has(node, Lasting::Paused) || self.has(node, Lasting::Frozen);
        (0..nodes).any(|node| {
            let others = (0..nodes).filter(|other| *other != node);
            still(node) || others.into_iter().any(|other| !self.heard(node, other))
        })
    }

    /// Whether what one machine sends reaches the other on some cable.
    fn heard(&self, from: usize, to: usize) -> bool {
        let carries = |node, cable| {
            !self.has(node, Lasting::Cut(cable)) && !self.has(node, Lasting::LinkDown(cable))
        };
        (0..CABLES).any(|cable| {
            carries(from, cable)
                && carries(to, cable)
                && !self.has(from, Lasting::Mute(cable))
                && !self.has(to, Lasting::Deaf(cable))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cable_is_enough_to_hear_each_other_both_ways_are_needed() {
        let mut now = Conditions::default();
        now.take_in(0, Act::Begin(Lasting::Cut(0)));
        assert!(!now.excuse_two_owners(2));
        now.take_in(1, Act::Begin(Lasting::Mute(1)));
        assert!(now.excuse_two_owners(2));
        now.take_in(0, Act::End(Lasting::Cut(0)));
        assert!(!now.excuse_two_owners(2));
        now.take_in(1, Act::Begin(Lasting::Frozen));
        assert!(now.excuse_two_owners(2));
    }

    #[test]
    fn what_ends_with_the_power_is_forgotten_with_it() {
        let mut now = Conditions::default();
        for lasting in [Lasting::Cut(0), Lasting::Frozen, Lasting::Standby] {
            now.take_in(0, Act::Begin(lasting));
        }
        now.take_in(0, Act::Begin(Lasting::Off));
        assert_eq!(now.all(), [(0, Lasting::Off), (0, Lasting::Standby)]);
        assert!(!now.allow(0, Act::Begin(Lasting::Cut(0))));
        assert!(!now.allow(0, Act::Begin(Lasting::Off)));
        assert!(now.allow(0, Act::End(Lasting::Off)));
    }
}
