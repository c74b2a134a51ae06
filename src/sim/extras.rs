//! What a scenario has beyond the first set of troubles: drawn from a stream of its own, so that it changes nothing of
//! what a seed meant without it.

use crate::ids::GroupName;
use crate::sim::clock::{Nanos, nanos};
use crate::sim::lasting::Lasting;
use crate::sim::random::Random;
use crate::sim::scenario::Scenario;
use crate::sim::trouble::TroubleKind;
use std::collections::BTreeSet;
use std::time::Duration;

/// Seeds from here on have troubles of the second set, too.
pub const FIRST_WIDE_SEED: u64 = 10_000_000;

/// Keeps the stream apart from those that a seed had before.
const STREAM: u64 = 0x0077_6964_6572;

/// What can go wrong beyond [`Scenario::faults`].
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// Which kinds.
    pub troubles: Vec<TroubleKind>,
    /// Mean time between two of them.
    pub gap: Nanos,
    /// After the faults, this is not mended for a while.
    pub lasting: Option<Lasting>,
    /// Emergency stops take nearly all of the margin that the peers leave.
    pub slow_emergencies: bool,
    /// Groups that were removed from the configuration.
    pub former_groups: BTreeSet<GroupName>,
    /// What was configured before may still bind somebody for so long.
    pub slack: Nanos,
}

/// Which of the harder invariants a run must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demands {
    /// Whoever is left by a cut that stays goes on.
    pub cuts: bool,
    /// After a pause that no clock shows, both own a group for two keepalives and an emergency stop at most.
    pub frozen: bool,
    /// Groups may have margins of their own for an emergency stop.
    pub margins: bool,
    /// Whatever of the configuration is changed, node by node, all holds that always holds.
    pub rollouts: bool,
    /// Under `ignore`, two owners that hear each other agree, whatever others hear.
    pub components: bool,
}

impl Demands {
    /// All of them.
    pub const ALL: Self = Self {
        cuts: true,
        frozen: true,
        margins: true,
        rollouts: true,
        components: true,
    };
}

impl Scenario {
    /// The scenario of a seed with all that can go wrong.
    pub fn of_seed(seed: u64, node_count: usize, policy: crate::core::Policy) -> Self {
        let mut scenario = Self::new(seed, node_count, policy);
        if seed >= FIRST_WIDE_SEED {
            let mut random = Random::new(seed ^ STREAM ^ ((node_count as u64) << 56));
            scenario.draw_extras(&mut random);
        }
        scenario
    }

    /// The same, of which some things are demanded.
    #[must_use]
    pub fn demanding(mut self, demands: Demands) -> Self {
        self.demands = demands;
        if !demands.margins {
            for group in self.groups.values_mut() {
                group.stop_margin = None;
            }
        }
        self
    }

    fn draw_extras(&mut self, random: &mut Random) {
        if random.chance(100) {
            self.draw_long_deadtime();
        }
        let kinds = TroubleKind::ALL.iter().copied();
        let share = *random.pick(&[0, 150, 400]).unwrap_or(&0);
        self.extras.troubles = kinds.filter(|_| random.chance(share)).collect();
        self.extras.gap = random.between(nanos(self.keepalive), 4 * nanos(self.deadtime));
        if random.chance(400) {
            self.extras.lasting = Lasting::draw(random, self.nodes.len());
        }
        self.extras.slow_emergencies = random.chance(300);
        if random.chance(300) {
            self.draw_extreme_drift(random);
        }
        if random.chance(200) {
            self.draw_margins(random);
        }
        if random.chance(30) {
            self.draw_many_groups(random);
        }
    }

    fn draw_margins(&mut self, random: &mut Random) {
        for group in self.groups.values_mut() {
            let times = u32::try_from(random.below(4)).unwrap_or(0);
            group.stop_margin = (times > 0).then(|| times * self.deadtime);
        }
    }

    /// The drift within one deadtime comes near to the margin of a keepalive.
    fn draw_long_deadtime(&mut self) {
        self.deadtime = 40 * self.keepalive;
        self.warntime = self.deadtime / 2;
        self.initdead = self.deadtime;
        self.fault_time = self.fault_time.min(6 * nanos(self.deadtime));
        self.keep_drift_within_margin();
    }

    /// Each clock is as far off as the margin allows, one way or the other.
    fn draw_extreme_drift(&mut self, random: &mut Random) {
        let most = i64::try_from(crate::sim::scenario::DRIFT_PPM_MAX).unwrap_or(0);
        for drift in &mut self.drift_ppm {
            *drift = if random.chance(500) { most } else { -most };
        }
        self.drift_beyond = false;
    }

    fn keep_drift_within_margin(&mut self) {
        let most = i64::try_from(crate::sim::scenario::DRIFT_PPM_MAX).unwrap_or(0);
        for drift in &mut self.drift_ppm {
            *drift = (*drift).clamp(-most, most);
        }
        self.drift_beyond = false;
    }

    /// Thirty groups, for a short while.
    fn draw_many_groups(&mut self, random: &mut Random) {
        let Some(pattern) = self.groups.values().next().cloned() else {
            return;
        };
        for index in 0..30 {
            let mut nodes = pattern.nodes.clone();
            let shift = random.index(nodes.len());
            nodes.rotate_left(shift);
            self.add_group(index, nodes, pattern.auto_failback);
        }
        self.fault_time = self.fault_time.min(5 * nanos(self.deadtime));
    }

    /// The margin that others leave for an emergency stop, less what a timer may be late.
    pub(super) fn emergency_stop_max_of(&self, keepalive: Duration) -> Nanos {
        let margin = nanos(keepalive);
        if self.extras.slow_emergencies {
            (margin * 97 / 100).saturating_sub(self.lateness)
        } else {
            margin / 2
        }
    }
}
