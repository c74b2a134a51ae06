//! In which situation the faults meet a cluster: at rest, or while it elects, moves, takes over, boots.
//!
//! The nodes are `a` to `e`; `b` leads, and `c`, or `b` itself, owns the group. In a cluster of five `d` and `e` can only
//! vote, so they are interchangeable.

use crate::cluster::{Cluster, DEADTIME, DRIVER, KEEPALIVE, Later, Shape};
use ha_node::core::{BrokenRule, Request};
use ha_node::ids::{GroupName, NodeName};

/// Who is down at first comes back after so many keepalives.
const RETURN: u64 = 10;

/// What goes on when the faults begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    Rest,
    /// The leader has just lost its power.
    Election,
    /// The owner has just lost its power.
    Takeover,
    /// A person has just asked for a move to `a`.
    Move,
    /// All machines have just been switched on.
    Boot,
}

/// A situation of a cluster of some size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    pub size: usize,
    /// The leader owns the group, too.
    pub together: bool,
    pub activity: Activity,
    /// A safety rule that no core keeps.
    pub broken: Option<BrokenRule>,
}

const LEADER: usize = 1;

impl Situation {
    /// All of them.
    pub fn all() -> Vec<Self> {
        use Activity::{Boot, Election, Move, Rest, Takeover};
        let mut all = Vec::new();
        for size in [3, 5] {
            for (together, activities) in [
                (false, &[Rest, Election, Takeover, Move, Boot][..]),
                (true, &[Rest, Takeover, Move][..]),
            ] {
                let some = activities.iter().map(|activity| Self {
                    size,
                    together,
                    activity: *activity,
                    broken: None,
                });
                all.extend(some);
            }
        }
        all
    }

    pub fn name(&self) -> String {
        let together = if self.together { "-together" } else { "" };
        let activity = format!("{:?}", self.activity).to_lowercase();
        format!("{}-{activity}{together}", self.size)
    }

    /// Of so many pairs one is tried where nothing else is asked for: all where few nodes are at rest.
    pub fn share(&self) -> u64 {
        match (self.size, self.activity == Activity::Rest) {
            (3, true) => 1,
            (3, false) => 10,
            (_, true) => 10,
            (_, false) => 100,
        }
    }

    fn owner(&self) -> usize {
        if self.together { LEADER } else { 2 }
    }

    /// Who may run the group, preferred first.
    pub fn listed(&self) -> Vec<usize> {
        if self.together {
            vec![1, 0, 2]
        } else {
            vec![2, 0, 1]
        }
    }

    /// At which keepalives the first fault may begin: at rest one is like the other.
    pub fn first_ticks(&self, window: u64) -> std::ops::Range<u64> {
        match self.activity {
            Activity::Rest => 0..1,
            Activity::Election | Activity::Takeover | Activity::Move | Activity::Boot => 0..window,
        }
    }

    /// A node that is interchangeable with this one.
    pub fn twin(&self, node: usize) -> usize {
        match (self.size, node) {
            (5, 3) => 4,
            (5, 4) => 3,
            _ => node,
        }
    }

    fn shape(&self) -> Shape {
        let names = ["a", "b", "c", "d", "e"].iter().take(self.size);
        // A move shall take a few keepalives.
        let slow = self.activity == Activity::Move;
        Shape {
            names: names.map(|n| NodeName::new(n).unwrap()).collect(),
            group: GroupName::new("g").unwrap(),
            listed: self.listed(),
            driver: if slow { 2 * KEEPALIVE + DRIVER } else { DRIVER },
        }
    }

    /// The cluster at that instant.
    pub fn prepare(&self) -> Cluster {
        let mut c = Cluster::new(self.shape());
        if self.activity == Activity::Boot {
            for node in 0..self.size {
                c.agenda
                    .push((c.now + 1 + 17 * node as u64, Later::Boot(node)));
            }
            return c;
        }
        // Whoever is there early gets what there is: the leader, then a majority with the owner, then the rest.
        let early = if self.size == 3 { vec![2] } else { vec![2, 3] };
        let late = if self.size == 3 { vec![0] } else { vec![0, 4] };
        c.boot(LEADER);
        for (nodes, wait) in [(early, 3 * KEEPALIVE), (late, 12 * DEADTIME)] {
            c.run_to(c.now + wait);
            for node in nodes {
                c.run_to(c.now + 17);
                c.boot(node);
            }
        }
        c.run_to(c.now + 12 * DEADTIME);
        let leader = c
            .view(LEADER)
            .and_then(|view| view.term)
            .map(|term| term.leader);
        assert_eq!(
            leader.as_ref(),
            Some(&c.shape.names[LEADER]),
            "{}",
            self.name()
        );
        assert_eq!(c.runners(), [self.owner()], "{}", self.name());
        if let Some(rule) = self.broken {
            c.break_rule(rule);
        }
        self.begin(&mut c);
        c
    }

    fn begin(&self, c: &mut Cluster) {
        let down = match self.activity {
            Activity::Election => LEADER,
            Activity::Takeover => self.owner(),
            Activity::Move => {
                let (group, node) = (c.shape.group.clone(), c.shape.names[0].clone());
                c.request(0, Request::Move { group, node });
                return;
            }
            Activity::Rest | Activity::Boot => return,
        };
        c.crash(down, false);
        c.agenda
            .push((c.now + RETURN * KEEPALIVE, Later::Boot(down)));
    }
}
