//! Everything that can go wrong once, or be asked for once: what it does when it begins, and when it ends.

use crate::cluster::Cluster;
use ha_node::core::{Request, Scope};
use std::fmt;

/// Which of the two faults of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    First,
    Second,
}

impl Slot {
    pub fn bit(self) -> u8 {
        match self {
            Self::First => 1,
            Self::Second => 2,
        }
    }
}

/// What a driver does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hand {
    Fails,
    Hangs,
    IsLate,
}

/// One fault at its place; nodes are numbers in the order of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// What the first sends to the second is lost.
    Direction(usize, usize),
    /// Both directions between two nodes.
    Link(usize, usize),
    /// All that a node sends or should hear.
    Node(usize),
    /// The machine loses its power, and boots when the fault ends.
    Crash(usize),
    /// The same, and its disk is empty then.
    CrashAndForget(usize),
    /// The daemon is killed, and started again by systemd.
    Kill(usize),
    /// The daemon is stopped in good order, and started when the fault ends.
    Leave(usize),
    /// The machine, or its daemon, stands still; its clock goes on, and packets wait.
    Freeze(usize),
    /// The machine stands still with its clocks, and packets are lost.
    Suspend(usize),
    /// The daemon is restarted with deadtime doubled, and with the common one when the fault ends.
    Reconfigure(usize),
    /// Starts go wrong.
    Start(Hand, usize),
    /// Stops go wrong.
    Stop(Hand, usize),
    /// Standby, and online when the fault ends.
    Standby(usize),
    /// The group is moved to the first node; the second is asked.
    Move(usize, usize),
    /// The next message from the first to the second arrives when the fault ends.
    Hold(usize, usize),
}

impl Fault {
    /// Whether it is over as soon as it has begun.
    pub fn is_momentary(self) -> bool {
        matches!(self, Self::Kill(_) | Self::Move(..))
    }

    /// Whether a cluster must cope with it for good.
    pub fn may_stay(self) -> bool {
        match self {
            Self::Direction(..)
            | Self::Link(..)
            | Self::Node(_)
            | Self::Crash(_)
            | Self::Leave(_)
            | Self::Freeze(_)
            | Self::Suspend(_)
            | Self::Reconfigure(_)
            | Self::Standby(_) => true,
            Self::CrashAndForget(_)
            | Self::Kill(_)
            | Self::Start(..)
            | Self::Stop(..)
            | Self::Move(..)
            | Self::Hold(..) => false,
        }
    }

    /// Whether it can keep a machine that stood still from hearing how the others are.
    pub fn deafens(self) -> bool {
        match self {
            Self::Start(..) | Self::Stop(..) | Self::Standby(_) | Self::Move(..) => false,
            Self::Direction(..)
            | Self::Link(..)
            | Self::Node(_)
            | Self::Crash(_)
            | Self::CrashAndForget(_)
            | Self::Kill(_)
            | Self::Leave(_)
            | Self::Freeze(_)
            | Self::Suspend(_)
            | Self::Reconfigure(_)
            | Self::Hold(..) => true,
        }
    }

    /// Begins; false where it cannot, or changes nothing.
    pub fn begin(self, c: &mut Cluster, slot: Slot) -> bool {
        let began = match self {
            Self::Direction(..) | Self::Link(..) | Self::Node(_) => {
                for (from, to) in self.directions(c.nodes.len()) {
                    c.cut(from, to, slot);
                }
                // Whether it does anything is seen by what it loses.
                return true;
            }
            Self::Start(hand, node) => {
                c.spoil(node, false, hand, slot);
                return true;
            }
            Self::Stop(hand, node) => {
                c.spoil(node, true, hand, slot);
                return true;
            }
            Self::Hold(from, to) => {
                c.hold(from, to, slot);
                return true;
            }
            Self::Crash(node) => c.crash(node, false),
            Self::CrashAndForget(node) => c.crash(node, true),
            Self::Kill(node) => c.kill(node),
            Self::Leave(node) => c.shut_down(node),
            Self::Freeze(node) => c.pause(node, false),
            Self::Suspend(node) => c.pause(node, true),
            Self::Reconfigure(node) => c.reconfigure(node, true),
            Self::Standby(node) => {
                let able = c.is_awake(node);
                if able {
                    c.request(node, Request::Standby(Scope::All));
                }
                able
            }
            Self::Move(to, asked) => {
                let able = c.is_awake(asked);
                if able {
                    let group = c.shape.group.clone();
                    let node = c.shape.names[to].clone();
                    c.request(asked, Request::Move { group, node });
                }
                able
            }
        };
        if began {
            c.effects |= slot.bit();
        }
        began
    }

    /// Ends.
    pub fn end(self, c: &mut Cluster, slot: Slot) {
        match self {
            Self::Direction(..) | Self::Link(..) | Self::Node(_) => {
                for (from, to) in self.directions(c.nodes.len()) {
                    c.mend(from, to, slot);
                }
            }
            Self::Crash(node) | Self::CrashAndForget(node) => c.boot(node),
            Self::Leave(node) => c.come_back(node),
            Self::Freeze(node) | Self::Suspend(node) => c.resume(node),
            Self::Reconfigure(node) => {
                c.reconfigure(node, false);
            }
            Self::Start(_, node) => c.repair(node, false),
            Self::Stop(_, node) => c.repair(node, true),
            Self::Standby(node) => c.request(node, Request::Online),
            Self::Hold(..) => c.let_go(slot),
            Self::Kill(_) | Self::Move(..) => {}
        }
    }

    fn directions(self, size: usize) -> Vec<(usize, usize)> {
        match self {
            Self::Direction(from, to) => vec![(from, to)],
            Self::Link(one, other) => vec![(one, other), (other, one)],
            Self::Node(node) => {
                let others = (0..size).filter(|other| *other != node);
                others
                    .flat_map(|other| [(node, other), (other, node)])
                    .collect()
            }
            Self::Crash(_)
            | Self::CrashAndForget(_)
            | Self::Kill(_)
            | Self::Leave(_)
            | Self::Freeze(_)
            | Self::Suspend(_)
            | Self::Reconfigure(_)
            | Self::Start(..)
            | Self::Stop(..)
            | Self::Standby(_)
            | Self::Move(..)
            | Self::Hold(..) => Vec::new(),
        }
    }

    /// The same fault at other places.
    pub fn renamed(self, name: impl Fn(usize) -> usize) -> Self {
        match self {
            Self::Direction(a, b) => Self::Direction(name(a), name(b)),
            Self::Link(a, b) => Self::Link(name(a).min(name(b)), name(a).max(name(b))),
            Self::Node(a) => Self::Node(name(a)),
            Self::Crash(a) => Self::Crash(name(a)),
            Self::CrashAndForget(a) => Self::CrashAndForget(name(a)),
            Self::Kill(a) => Self::Kill(name(a)),
            Self::Leave(a) => Self::Leave(name(a)),
            Self::Freeze(a) => Self::Freeze(name(a)),
            Self::Suspend(a) => Self::Suspend(name(a)),
            Self::Reconfigure(a) => Self::Reconfigure(name(a)),
            Self::Start(hand, a) => Self::Start(hand, name(a)),
            Self::Stop(hand, a) => Self::Stop(hand, name(a)),
            Self::Standby(a) => Self::Standby(name(a)),
            Self::Move(a, b) => Self::Move(name(a), name(b)),
            Self::Hold(a, b) => Self::Hold(name(a), name(b)),
        }
    }

    /// All of them, in a cluster of this size whose group may run on `listed`.
    pub fn all(size: usize, listed: &[usize]) -> Vec<Self> {
        let mut all = Vec::new();
        for a in 0..size {
            for b in (0..size).filter(|b| *b != a) {
                all.extend([Self::Direction(a, b), Self::Hold(a, b)]);
                if a < b {
                    all.push(Self::Link(a, b));
                }
            }
            all.extend([
                Self::Node(a),
                Self::Crash(a),
                Self::CrashAndForget(a),
                Self::Kill(a),
            ]);
            all.extend([
                Self::Leave(a),
                Self::Freeze(a),
                Self::Suspend(a),
                Self::Reconfigure(a),
            ]);
        }
        for a in listed.iter().copied() {
            for hand in [Hand::Fails, Hand::Hangs, Hand::IsLate] {
                all.extend([Self::Start(hand, a), Self::Stop(hand, a)]);
            }
            // Another node is asked, so that the wish is on its way for a while.
            let asked = (0..size).find(|n| *n != a).unwrap_or(a);
            all.extend([Self::Standby(a), Self::Move(a, asked)]);
        }
        all
    }
}

fn letter(node: usize) -> char {
    ['a', 'b', 'c', 'd', 'e'][node]
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let l = letter;
        let hand = |hand: &Hand| match hand {
            Hand::Fails => "fails",
            Hand::Hangs => "hangs",
            Hand::IsLate => "late",
        };
        match self {
            Self::Direction(a, b) => write!(f, "direction:{}{}", l(*a), l(*b)),
            Self::Link(a, b) => write!(f, "link:{}{}", l(*a), l(*b)),
            Self::Node(a) => write!(f, "node:{}", l(*a)),
            Self::Crash(a) => write!(f, "crash:{}", l(*a)),
            Self::CrashAndForget(a) => write!(f, "forget:{}", l(*a)),
            Self::Kill(a) => write!(f, "kill:{}", l(*a)),
            Self::Leave(a) => write!(f, "leave:{}", l(*a)),
            Self::Freeze(a) => write!(f, "freeze:{}", l(*a)),
            Self::Suspend(a) => write!(f, "suspend:{}", l(*a)),
            Self::Reconfigure(a) => write!(f, "reconfigure:{}", l(*a)),
            Self::Start(h, a) => write!(f, "start-{}:{}", hand(h), l(*a)),
            Self::Stop(h, a) => write!(f, "stop-{}:{}", hand(h), l(*a)),
            Self::Standby(a) => write!(f, "standby:{}", l(*a)),
            Self::Move(a, b) => write!(f, "move:{}{}", l(*a), l(*b)),
            Self::Hold(a, b) => write!(f, "hold:{}{}", l(*a), l(*b)),
        }
    }
}
