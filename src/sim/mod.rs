//! The simulator: the real core and codec under a virtual clock, network and hands.
//!
//! A run is determined by its [`Scenario`], and that by a seed, a number of nodes and a policy. First come
//! faults of all kinds, while [`check`] looks at the whole cluster after each step; then everything heals, and
//! within a bound every group must run once and stay; then persons ask for moves that must go well.
//!
//! The core is reached only through [`Mind`], so that the tests can put a reckless one in its place and see
//! that the checks notice. Nothing here is random, or depends on the machine's time, beyond the seed.

pub mod asks;
pub mod bounds;
pub mod check;
pub mod clock;
pub mod cluster;
pub mod disk;
pub mod drivers;
pub mod extras;
pub mod failures;
pub mod faults;
pub mod hands;
pub mod happening;
pub mod lasting;
pub mod network;
pub mod node;
pub mod perform;
pub mod power;
pub mod random;
pub mod replay;
pub mod rollout;
pub mod run;
pub mod scenario;
pub mod settle;
pub mod skill;
pub mod trace;
pub mod transport;
pub mod trouble;
pub mod untold;

pub use check::Failure;
pub use cluster::Sim;
pub use extras::{Demands, FIRST_WIDE_SEED};
pub use run::{Report, run, run_with};
pub use scenario::Scenario;
pub use trace::TraceMode;

use crate::core::view::View;
use crate::core::{
    BrokenRule, Core, Inheritance, Input, Instant, Lease, Output, Persistent, Settings,
};
use std::collections::BTreeSet;

/// What the simulator needs of a core.
pub trait Mind {
    /// Begins a life.
    fn new(settings: Settings, persistent: Persistent, now: Instant) -> Self;
    /// The same with what an earlier life has left running.
    fn heir(
        settings: Settings,
        persistent: Persistent,
        _inheritance: Inheritance,
        now: Instant,
    ) -> Self
    where
        Self: Sized,
    {
        Self::new(settings, persistent, now)
    }
    /// What a later life could inherit.
    fn inheritance(&self) -> Inheritance {
        Inheritance::default()
    }
    /// Takes one input and says what is to be done.
    fn handle(&mut self, now: Instant, input: Input) -> Vec<Output>;
    /// When it wants the next input at the latest.
    fn next_deadline(&self) -> Option<Instant>;
    /// Up to when it may run groups.
    fn lease(&self) -> Lease;
    /// What it shows.
    fn view(&self, now: Instant) -> View;
    /// Breaks a safety rule.
    fn break_rule(&mut self, rule: BrokenRule);
}

impl Mind for Core {
    fn new(settings: Settings, persistent: Persistent, now: Instant) -> Self {
        Self::new(settings, persistent, now)
    }

    fn heir(
        settings: Settings,
        persistent: Persistent,
        inheritance: Inheritance,
        now: Instant,
    ) -> Self {
        Self::heir(settings, persistent, inheritance, now)
    }

    fn inheritance(&self) -> Inheritance {
        Inheritance {
            until: self.tenure(),
            groups: self.holdings(),
            blocked: BTreeSet::new(),
            failures: self.failures(),
            words: None,
        }
    }

    fn handle(&mut self, now: Instant, input: Input) -> Vec<Output> {
        self.handle(now, input)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline()
    }

    fn lease(&self) -> Lease {
        self.lease()
    }

    fn view(&self, now: Instant) -> View {
        self.view(now)
    }

    fn break_rule(&mut self, rule: BrokenRule) {
        self.break_rule(rule);
    }
}
