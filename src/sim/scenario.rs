//! The parameters of a run, all drawn from its seed before anything happens.

use crate::core::{
    BrokenRule, FailurePolicy, GroupSettings, NodeSettings, Policy, Reaction, Settings,
};
use crate::ids::{ClusterName, GroupName, NodeName};
use crate::sim::clock::{Nanos, nanos};
use crate::sim::extras::{Demands, Extras};
use crate::sim::faults::FaultKind;
use crate::sim::random::Random;
use crate::sim::trouble::TroubleKind;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Largest drift of one machine against true time that the leases' margin of 1 % allows between two.
pub const DRIFT_PPM_MAX: u64 = 4900;

/// How much a machine's clock gains at most where a scenario goes beyond the margin.
const DRIFT_PPM_BEYOND: u64 = 60_000;

/// Everything that a run is made of.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// From which all else was drawn.
    pub seed: u64,
    /// The members, in the order of their names.
    pub nodes: Vec<NodeName>,
    /// Which of them only vote.
    pub witnesses: Vec<bool>,
    /// The groups.
    pub groups: BTreeMap<GroupName, GroupSettings>,
    /// What it takes to run groups.
    pub policy: Policy,
    /// How many links join each pair, 1 to 3.
    pub links: usize,
    /// Between heartbeats.
    pub keepalive: Duration,
    /// A gap worth a warning.
    pub warntime: Duration,
    /// Silence that means death.
    pub deadtime: Duration,
    /// The same after a start.
    pub initdead: Duration,
    /// Each machine's gain in parts per million.
    pub drift_ppm: Vec<i64>,
    /// Clocks drift more than the leases allow for: double ownership is then nobody's fault.
    pub drift_beyond: bool,
    /// Each packet takes at least this.
    pub delay: Nanos,
    /// And up to this more while all is well.
    pub jitter: Nanos,
    /// How late a timer fires at most.
    pub lateness: Nanos,
    /// Packets per mille that arrive twice.
    pub duplicates: u64,
    /// Packets per mille that a storm loses.
    pub storm_loss: u64,
    /// Packets per mille that a storm delays beyond all timeouts.
    pub storm_late: u64,
    /// Longest start of a group.
    pub start_max: Nanos,
    /// Longest orderly stop of a group.
    pub stop_max: Nanos,
    /// Starts per mille that fail.
    pub start_fails: u64,
    /// Orderly stops per mille that fail.
    pub stop_fails: u64,
    /// Starts and stops per mille that hang for long before they fail.
    pub hangs: u64,
    /// Groups per mille that fail soon after they have started.
    pub flaps: u64,
    /// Machines have a watchdog that resets them where an emergency stop does not finish, or they stand still.
    pub watchdog: bool,
    /// What can go wrong.
    pub faults: Vec<FaultKind>,
    /// Mean time between two faults.
    pub fault_gap: Nanos,
    /// How long things go wrong.
    pub fault_time: Nanos,
    /// When each machine boots first.
    pub boots: Vec<Nanos>,
    /// Replayed packets per mille of those delivered.
    pub replays: u64,
    /// A safety rule to break in every core.
    pub broken: Option<BrokenRule>,
    /// How often people have changed the configuration.
    pub revision: u64,
    /// What goes wrong beyond that.
    pub extras: Extras,
    /// Invariants that are demanded beyond the usual ones.
    pub demands: Demands,
}

impl Scenario {
    /// The scenario of a seed, for a number of nodes and a policy.
    pub fn new(seed: u64, node_count: usize, policy: Policy) -> Self {
        let mut random = Random::new(seed ^ ((node_count as u64) << 56));
        let mut scenario = Self::calm(seed, node_count, policy);
        scenario.draw_timing(&mut random);
        scenario.draw_groups(&mut random);
        scenario.draw_hands(&mut random);
        scenario.draw_network(&mut random);
        scenario.draw_faults(&mut random);
        scenario.draw_policies(&mut random);
        scenario
    }

    /// A cluster in which nothing goes wrong: one group, one link, default timing.
    pub fn calm(seed: u64, node_count: usize, policy: Policy) -> Self {
        let nodes: Vec<NodeName> = (0..node_count).filter_map(node_name).collect();
        let mut scenario = Self {
            seed,
            witnesses: vec![false; nodes.len()],
            groups: BTreeMap::new(),
            policy,
            links: 1,
            keepalive: Duration::from_millis(250),
            warntime: Duration::from_secs(1),
            deadtime: Duration::from_secs(2),
            initdead: Duration::from_secs(4),
            drift_ppm: vec![0; nodes.len()],
            drift_beyond: false,
            delay: 100_000,
            jitter: 100_000,
            lateness: 50_000,
            duplicates: 0,
            storm_loss: 0,
            storm_late: 0,
            start_max: 20_000_000,
            stop_max: 10_000_000,
            start_fails: 0,
            stop_fails: 0,
            hangs: 0,
            flaps: 0,
            watchdog: false,
            faults: Vec::new(),
            fault_gap: 1_000_000_000,
            fault_time: 0,
            boots: vec![0; nodes.len()],
            replays: 0,
            broken: None,
            revision: 1,
            extras: Extras::default(),
            demands: Demands::default(),
            nodes,
        };
        scenario.add_group(0, scenario.nodes.clone(), false);
        scenario
    }

    /// Adds a group that the given nodes may run.
    pub fn add_group(&mut self, index: usize, nodes: Vec<NodeName>, auto_failback: bool) {
        if let Ok(name) = GroupName::new(&format!("g{index}")) {
            self.groups.insert(
                name,
                GroupSettings {
                    nodes,
                    auto_failback,
                    stop_margin: None,
                    policies: BTreeMap::new(),
                },
            );
        }
    }

    fn draw_timing(&mut self, random: &mut Random) {
        let keepalive = *random.pick(&[10, 20, 50, 100, 250]).unwrap_or(&250);
        let beats = random.between(3, 10);
        self.keepalive = Duration::from_millis(keepalive);
        self.deadtime = Duration::from_millis(keepalive * beats);
        self.warntime = self.deadtime / 2;
        self.initdead = Duration::from_millis(keepalive * beats * random.between(1, 3));
        let all_at_once = random.chance(500);
        let spread = 3 * nanos(self.initdead);
        for boot in &mut self.boots {
            *boot = if all_at_once {
                random.below(1000)
            } else {
                random.below(spread)
            };
        }
    }

    fn draw_groups(&mut self, random: &mut Random) {
        let count = self.nodes.len();
        if count >= 3 && random.chance(200) {
            let index = random.index(count);
            if let Some(witness) = self.witnesses.get_mut(index) {
                *witness = true;
            }
        }
        let able: Vec<NodeName> = std::iter::zip(&self.nodes, &self.witnesses)
            .filter(|(_, witness)| !**witness)
            .map(|(node, _)| node.clone())
            .collect();
        self.groups.clear();
        let failback = random.chance(500);
        for index in 0..random.between(1, 3) {
            let mut nodes = able.clone();
            let shift = random.index(nodes.len());
            nodes.rotate_left(shift);
            if random.chance(200) {
                let kept = 1 + random.index(nodes.len());
                nodes.truncate(kept);
            }
            self.add_group(usize::try_from(index).unwrap_or(0), nodes, failback);
        }
    }

    fn draw_hands(&mut self, random: &mut Random) {
        let (keepalive, deadtime) = (nanos(self.keepalive), nanos(self.deadtime));
        let spans = [keepalive / 10, keepalive, deadtime, 3 * deadtime];
        self.start_max = *random.pick(&spans).unwrap_or(&keepalive);
        self.stop_max = *random.pick(&spans).unwrap_or(&keepalive);
        let rates = [0, 0, 50, 300];
        self.start_fails = *random.pick(&rates).unwrap_or(&0);
        self.stop_fails = *random.pick(&rates).unwrap_or(&0);
        self.hangs = *random.pick(&[0, 0, 50]).unwrap_or(&0);
        self.watchdog = random.chance(300);
        self.lateness = random.below(keepalive / 20);
    }

    fn draw_network(&mut self, random: &mut Random) {
        let keepalive = nanos(self.keepalive);
        self.links = 1 + random.index(3);
        self.delay = random.between(20_000, keepalive / 20);
        self.jitter = random.below(keepalive / 8);
        self.duplicates = *random.pick(&[0, 20, 200]).unwrap_or(&0);
        self.storm_loss = random.below(800);
        self.storm_late = *random.pick(&[0, 100, 500]).unwrap_or(&0);
        self.replays = *random.pick(&[0, 5, 50]).unwrap_or(&0);
        self.drift_beyond = random.chance(50);
        let most = if self.drift_beyond {
            DRIFT_PPM_BEYOND
        } else {
            DRIFT_PPM_MAX
        };
        for drift in &mut self.drift_ppm {
            *drift = i64::try_from(random.below(2 * most + 1)).unwrap_or(0)
                - i64::try_from(most).unwrap_or(0);
        }
    }

    fn draw_faults(&mut self, random: &mut Random) {
        let deadtime = nanos(self.deadtime);
        self.faults = FaultKind::ALL
            .iter()
            .copied()
            .filter(|_| random.chance(500))
            .collect();
        self.fault_gap = random.between(nanos(self.keepalive), 2 * deadtime);
        self.fault_time = random.between(5 * deadtime, 25 * deadtime);
    }

    fn draw_policies(&mut self, random: &mut Random) {
        self.flaps = *random.pick(&[0, 0, 100, 500]).unwrap_or(&0);
        let windows = [self.deadtime, 10 * self.deadtime, Duration::from_secs(600)];
        // Nothing ever starts: what is tried again and again shows.
        let hopeless = random.chance(50);
        if hopeless {
            self.start_fails = 1000;
        }
        for group in self.groups.values_mut() {
            let reaction = match random.below(5) {
                0 => Reaction::Ignore,
                1 => Reaction::Restart { limit: 0 },
                2 => Reaction::Restart { limit: 1 },
                _ => Reaction::Restart { limit: 3 },
            };
            let window = match hopeless {
                true => self.deadtime,
                false => *random.pick(&windows).unwrap_or(&self.deadtime),
            };
            let policy = FailurePolicy { reaction, window };
            group.policies.insert(String::from("unit"), policy);
        }
    }

    /// All groups that there are, or were.
    pub fn all_groups(&self) -> impl Iterator<Item = &GroupName> {
        self.groups.keys().chain(&self.extras.former_groups)
    }

    /// Whether one of these can happen.
    pub fn has(&self, kinds: &[TroubleKind]) -> bool {
        kinds.iter().any(|kind| self.extras.troubles.contains(kind))
    }

    /// What one node's core is told.
    pub fn settings(&self, node: &NodeName) -> Settings {
        Settings {
            cluster: cluster_name(),
            local: node.clone(),
            nodes: std::iter::zip(&self.nodes, &self.witnesses)
                .map(|(name, witness)| (name.clone(), NodeSettings { witness: *witness }))
                .collect(),
            groups: self.groups.clone(),
            policy: self.policy,
            keepalive: self.keepalive,
            warntime: self.warntime,
            deadtime: self.deadtime,
            initdead: self.initdead,
            config_hash: self.revision,
        }
    }
}

/// The name of the simulated cluster.
pub(super) fn cluster_name() -> ClusterName {
    #[expect(clippy::expect_used, reason = "a constant that the border accepts")]
    ClusterName::new("simulated").expect("\"simulated\" is a name")
}

fn node_name(index: usize) -> Option<NodeName> {
    NodeName::new(&format!("n{index:02}")).ok()
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |span: Nanos| span as f64 / 1e6;
        writeln!(
            f,
            "seed {} nodes {} policy {:?} links {} watchdog {} broken {:?}",
            self.seed,
            self.nodes.len(),
            self.policy,
            self.links,
            self.watchdog,
            self.broken
        )?;
        writeln!(
            f,
            "keepalive {:?} deadtime {:?} initdead {:?} start {} ms stop {} ms",
            self.keepalive,
            self.deadtime,
            self.initdead,
            ms(self.start_max),
            ms(self.stop_max)
        )?;
        writeln!(
            f,
            "delay {}+{} ms lateness {} ms drift {:?} ppm duplicates {} storm {}/{} replays {} (per mille)",
            ms(self.delay),
            ms(self.jitter),
            ms(self.lateness),
            self.drift_ppm,
            self.duplicates,
            self.storm_loss,
            self.storm_late,
            self.replays
        )?;
        for (name, group) in &self.groups {
            writeln!(
                f,
                "group {name} on {:?} failback {}",
                group.nodes, group.auto_failback
            )?;
        }
        write!(
            f,
            "faults {:?} every {} ms for {} ms; start/stop fail {}/{}, hang {} per mille\n{:?}",
            self.faults,
            ms(self.fault_gap),
            ms(self.fault_time),
            self.start_fails,
            self.stop_fails,
            self.hangs,
            self.extras
        )
    }
}
