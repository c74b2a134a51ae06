//! All runs in one situation whose first fault is given: a tree whose branches share what they have in common.
//!
//! At each keepalive a fault may end that has begun, and the second one may begin. What is known to be no different from
//! another run is left out: the two faults in the other order, the same with interchangeable nodes, a fault that met
//! nothing, and what follows where the whole cluster is as another run has left it at the same time.

use crate::cluster::{Cluster, KEEPALIVE};
use crate::fault::{Fault, Slot};
use crate::judge;
use crate::situation::Situation;
use std::collections::HashSet;
use std::fmt;
use std::sync::Mutex;

/// Keepalives at which a fault may begin.
pub const WINDOW: u64 = 8;

/// Keepalives that a fault may last; those that may stay for good are tried so, too.
pub const LENGTH: u64 = 5;

/// When a fault of a run begins, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed {
    pub fault: Fault,
    pub since: u64,
    /// None where it stays.
    pub length: Option<u64>,
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.length.map_or(String::from("*"), |l| l.to_string());
        write!(f, "{}@{}+{length}", self.fault, self.since)
    }
}

/// What became of one fault up to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// To begin.
    Waits,
    /// None comes.
    Absent,
    Acts(Fault, u64),
    Done(Timed),
}

impl Stage {
    fn is_settled(self) -> bool {
        matches!(self, Self::Absent | Self::Done(_))
    }

    /// As it is told when the run fails now: one that acts lasts for this keepalive at least.
    fn timed(self, tick: u64) -> Option<Timed> {
        match self {
            Self::Waits | Self::Absent => None,
            Self::Acts(fault, since) => {
                let length = Some(tick + 1 - since).filter(|l| *l <= LENGTH);
                Some(Timed {
                    fault,
                    since,
                    length,
                })
            }
            Self::Done(timed) => Some(timed),
        }
    }
}

/// A run that failed.
#[derive(Debug, Clone)]
pub struct Failed {
    pub first: Timed,
    pub second: Option<Timed>,
    pub what: String,
}

/// What came of many runs.
#[derive(Debug, Default)]
pub struct Tally {
    pub runs: u64,
    /// Not run, since no different from another.
    pub spared: u64,
    pub failed: Vec<Failed>,
    pub failures: u64,
}

/// What a cluster was like at a keepalive, and what is still to come.
type Trace = (u64, u64, Option<(Fault, u64)>, bool);

/// Which clusters some run has gone on from already; shared by all tasks of a situation.
#[derive(Debug, Default)]
pub struct Seen(Mutex<HashSet<Trace>>);

impl Seen {
    /// Whether it is new.
    pub fn insert(&self, trace: Trace) -> bool {
        self.0.lock().unwrap().insert(trace)
    }
}

/// Goes through all runs that begin with one fault.
pub struct Explorer<'a> {
    pub situation: &'a Situation,
    pub faults: &'a [Fault],
    /// Place of the first fault in `faults`.
    pub first: usize,
    pub start: u64,
    /// Of so many beginnings of a second fault one is tried; and where that count begins.
    pub share: (u64, u64),
    counter: u64,
    seen: Option<&'a Seen>,
    pub tally: Tally,
}

impl<'a> Explorer<'a> {
    pub fn new(
        situation: &'a Situation,
        faults: &'a [Fault],
        share: (u64, u64),
        seen: Option<&'a Seen>,
    ) -> Self {
        Self {
            situation,
            faults,
            first: 0,
            start: 0,
            share,
            counter: share.1,
            seen,
            tally: Tally::default(),
        }
    }

    /// `base` is the situation at keepalive `start`.
    pub fn explore(&mut self, base: &Cluster, first: usize, start: u64) {
        (self.first, self.start) = (first, start);
        let fault = self.faults[first];
        if self.rank(self.twin(fault)) < first {
            return;
        }
        let mut c = base.clone();
        let stage = Stage::Acts(fault, start);
        if !fault.begin(&mut c, Slot::First) {
            return;
        }
        c.more_than_a_pause = false;
        self.pass(c, start, stage, Stage::Waits);
    }

    fn twin(&self, fault: Fault) -> Fault {
        fault.renamed(|node| self.situation.twin(node))
    }

    fn rank(&self, fault: Fault) -> usize {
        let place = self.faults.iter().position(|f| *f == fault);
        // A move of which another node is asked is not listed twice.
        place.unwrap_or(usize::MAX)
    }

    /// Whether the pair is one with its mirror image that is tried instead.
    fn is_mirrored(&self, second: usize) -> bool {
        let first = self.faults[self.first];
        self.twin(first) == first && self.rank(self.twin(self.faults[second])) < second
    }

    /// All that can happen at `tick`, the ends before the beginnings.
    fn at_tick(&mut self, c: Cluster, tick: u64, first: Stage, second: Stage) {
        for a in choices(first, tick) {
            for b in choices(second, tick) {
                let mut next = c.clone();
                for (stage, now, slot) in [(first, a, Slot::First), (second, b, Slot::Second)] {
                    if let (Stage::Acts(fault, _), Stage::Done(timed)) = (stage, now) {
                        if timed.length.is_some() {
                            fault.end(&mut next, slot);
                        }
                        if timed.length.is_some() && next.effects & slot.bit() == 0 {
                            self.tally.spared += 1;
                            next.effects = u8::MAX;
                        }
                    }
                }
                if next.effects == u8::MAX {
                    continue;
                }
                if self.is_known(&next, tick, a, b) {
                    self.tally.spared += 1;
                    continue;
                }
                self.pass(next, tick, a, b);
            }
        }
    }

    /// The second fault may begin now; then time passes.
    fn pass(&mut self, c: Cluster, tick: u64, first: Stage, second: Stage) {
        let momentary = |stage: Stage| match stage {
            Stage::Acts(fault, since) if fault.is_momentary() => {
                let length = Some(0);
                Stage::Done(Timed {
                    fault,
                    since,
                    length,
                })
            }
            Stage::Acts(..) | Stage::Waits | Stage::Absent | Stage::Done(_) => stage,
        };
        let first = momentary(first);
        if second != Stage::Waits {
            self.go_on(c, tick, first, momentary(second));
            return;
        }
        for place in 0..self.faults.len() {
            let fault = self.faults[place];
            if (tick == self.start && place <= self.first) || self.is_mirrored(place) {
                continue;
            }
            self.counter += 1;
            if !self.counter.is_multiple_of(self.share.0) {
                continue;
            }
            let mut next = c.clone();
            if fault.begin(&mut next, Slot::Second) {
                next.more_than_a_pause = self.faults[self.first].deafens() && fault.deafens();
                self.go_on(next, tick, first, momentary(Stage::Acts(fault, tick)));
            } else {
                self.tally.spared += 1;
            }
        }
        let last = tick + 1 >= WINDOW;
        self.go_on(
            c,
            tick,
            first,
            if last { Stage::Absent } else { Stage::Waits },
        );
    }

    fn go_on(&mut self, mut c: Cluster, tick: u64, first: Stage, second: Stage) {
        if first.is_settled() && second.is_settled() {
            self.tally.runs += 1;
            judge::settle(&mut c);
            self.note(&c, tick, first, second);
            return;
        }
        c.run_to(c.now + KEEPALIVE);
        if c.failure.is_some() {
            self.tally.runs += 1;
            self.note(&c, tick, first, second);
            return;
        }
        self.at_tick(c, tick + 1, first, second);
    }

    /// Whether another run has gone on from such a cluster; not asked while both faults act, when it is rare.
    fn is_known(&self, c: &Cluster, tick: u64, first: Stage, second: Stage) -> bool {
        let Some(seen) = self.seen else { return false };
        let acting = |stage: Stage| match stage {
            Stage::Acts(fault, since) => Some((fault, since)),
            Stage::Waits | Stage::Absent | Stage::Done(_) => None,
        };
        let (one, other) = (acting(first), acting(second));
        let waits = second == Stage::Waits;
        if (one.is_some() && (other.is_some() || waits))
            || (one.is_none() && other.is_none() && !waits)
        {
            return false;
        }
        !seen.insert((tick, c.fingerprint(), one.or(other), waits))
    }

    fn note(&mut self, c: &Cluster, tick: u64, first: Stage, second: Stage) {
        if let (Some(what), Some(first)) = (&c.failure, first.timed(tick)) {
            self.tally.failures += 1;
            self.tally.failed.push(Failed {
                first,
                second: second.timed(tick),
                what: what.clone(),
            });
        }
    }
}

/// What can become of a fault at a keepalive.
fn choices(stage: Stage, tick: u64) -> Vec<Stage> {
    let Stage::Acts(fault, since) = stage else {
        return vec![stage];
    };
    let length = tick - since;
    let ends = Stage::Done(Timed {
        fault,
        since,
        length: Some(length),
    });
    let stays = Stage::Done(Timed {
        fault,
        since,
        length: None,
    });
    if length == 0 {
        vec![stage]
    } else if length < LENGTH {
        vec![ends, stage]
    } else if fault.may_stay() {
        vec![ends, stays]
    } else {
        vec![ends]
    }
}

/// Runs one pair step by step; the cluster in the end.
pub fn replay(situation: &Situation, pair: &[Timed], trace: bool) -> Cluster {
    let mut c = situation.prepare();
    c.trace = trace;
    c.more_than_a_pause = pair.len() > 1 && pair.iter().all(|t| t.fault.deafens());
    let slots = [Slot::First, Slot::Second];
    let ends = |t: &Timed| t.since + t.length.unwrap_or(LENGTH);
    let last = pair.iter().map(ends).max().unwrap_or(0);
    for tick in 0..=last {
        for (timed, slot) in pair.iter().zip(slots) {
            if timed.length.is_some_and(|l| l > 0) && ends(timed) == tick {
                c.say(0, format_args!("---- {} ends", timed.fault));
                timed.fault.end(&mut c, slot);
            }
        }
        for (timed, slot) in pair.iter().zip(slots) {
            if timed.since == tick {
                c.say(0, format_args!("---- {} begins", timed.fault));
                timed.fault.begin(&mut c, slot);
            }
        }
        if tick < last {
            c.run_to(c.now + KEEPALIVE);
        }
    }
    judge::settle(&mut c);
    c
}
