//! Thousands of simulated clusters, each made from a seed, over all sizes and both policies.
//!
//! `SIM_SEEDS=1000000` runs more of them, `SIM_FIRST=N` begins elsewhere, `SIM_NODES=N` keeps to one size;
//! `SIM_FRESH=N` takes so many seeds of each size that no run has seen before, and prints from which on;
//! `SIM_SEED=N SIM_NODES=N SIM_POLICY=majority|ignore` runs one, and `SIM_TRACE=1` prints its every step.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use ha_node::core::Policy;
use ha_node::sim::{Demands, FIRST_WIDE_SEED, Report, Scenario, TraceMode, run};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Seeds of the normal tests, over all shapes together.
const SEEDS: u64 = 2_400;

/// Seeds that no run has seen before, of each size and policy.
const FRESH_SEEDS: u64 = 100;

/// Sizes of which fresh seeds are taken.
const FRESH_SIZES: RangeInclusive<usize> = 1..=9;

/// Fresh seeds are below this, so that people can read them out.
const FRESH_END: u64 = 1_000_000_000_000;

/// Failures after which a run of many seeds ends.
const FAILURES_MAX: usize = 20;

/// A seed, a size, a policy.
type Case = (u64, usize, Policy);

/// Sizes and policies, and how many seeds of 16 each gets.
const SHAPES: [(usize, Policy, u64); 12] = [
    (1, Policy::Majority, 1),
    (1, Policy::Ignore, 1),
    (2, Policy::Ignore, 4),
    (2, Policy::Majority, 2),
    (3, Policy::Majority, 4),
    (3, Policy::Ignore, 1),
    (5, Policy::Majority, 2),
    (5, Policy::Ignore, 1),
    (4, Policy::Majority, 1),
    (6, Policy::Majority, 1),
    (7, Policy::Majority, 1),
    (9, Policy::Majority, 1),
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text:?}"))
    })
}

fn policy_word(policy: Policy) -> &'static str {
    match policy {
        Policy::Majority => "majority",
        Policy::Ignore => "ignore",
    }
}

/// Which of the harder invariants are demanded here.
const DEMANDS: Demands = Demands::ALL;

/// What a seed means here; `SIM_DEMAND=all` demands everything of it.
fn scenario(seed: u64, nodes: usize, policy: Policy) -> Scenario {
    let demands = match std::env::var("SIM_DEMAND").as_deref() {
        Ok("all") => Demands::ALL,
        Ok("none") => Demands::default(),
        Ok(other) => panic!("SIM_DEMAND is all or none, not {other:?}"),
        Err(_) => DEMANDS,
    };
    Scenario::of_seed(seed, nodes, policy).demanding(demands)
}

/// Runs one seed; a failure comes back as the text to print.
fn check_seed(seed: u64, nodes: usize, policy: Policy, mode: TraceMode) -> Result<Report, String> {
    let scenario = scenario(seed, nodes, policy);
    let reason = match catch_unwind(AssertUnwindSafe(|| run(&scenario, mode))) {
        Ok(Ok(report)) => return Ok(report),
        Ok(Err((failure, _))) => failure.to_string(),
        Err(_) => String::from("panic (see above)"),
    };
    let policy = policy_word(policy);
    Err(format!(
        "{reason}\n{scenario}\nreplay with: SIM_SEED={seed} SIM_NODES={nodes} SIM_POLICY={policy} SIM_TRACE=1 \
         cargo test --release --test sim_seeds -- --nocapture one_seed"
    ))
}

/// Runs all of them on all processors; the results come in the order of the seeds, whoever ran them.
fn check_all(cases: Vec<Case>) -> Vec<(Case, Result<Report, String>)> {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let mut done = Vec::new();
        while failed.load(Ordering::Relaxed) < FAILURES_MAX {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(place) else { break };
            let result = check_seed(case.0, case.1, case.2, TraceMode::Quiet);
            if let Err(text) = &result {
                eprintln!("{text}\n");
                failed.fetch_add(1, Ordering::Relaxed);
            }
            done.push((place, (*case, result)));
        }
        done
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut results: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| worker.join().unwrap());
        joined.flatten().collect()
    });
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

fn seeds_of_all_shapes(total: u64, first: u64) -> impl Iterator<Item = Case> {
    let wanted = number("SIM_NODES");
    let shapes = SHAPES
        .iter()
        .filter(move |shape| wanted.is_none_or(|nodes| nodes == shape.0 as u64));
    shapes.flat_map(move |(nodes, policy, share)| {
        (first..first + (total * share).div_ceil(16)).map(|seed| (seed, *nodes, *policy))
    })
}

/// Runs them all, says how many there were, and demands that none has failed.
fn must_hold(cases: Vec<Case>) {
    let (mut failures, mut runs, mut steps, mut worst) = (Vec::new(), 0_u64, 0_u64, 0.0_f64);
    for (case, result) in check_all(cases) {
        runs += 1;
        match result {
            Ok(report) => {
                steps += report.steps;
                worst = worst.max(report.settled_after as f64 / report.settle_bound as f64);
            }
            Err(_) => failures.push(case),
        }
    }
    println!(
        "{runs} runs, {steps} steps, slowest settling at {:.0} % of its bound",
        worst * 100.0
    );
    assert!(
        failures.is_empty(),
        "{} of {runs} runs failed: {failures:?}",
        failures.len()
    );
}

#[test]
fn no_seed_breaks_an_invariant() {
    let total = number("SIM_SEEDS").unwrap_or(SEEDS);
    must_hold(seeds_of_all_shapes(total, number("SIM_FIRST").unwrap_or(0)).collect());
}

/// Where the fresh seeds begin: `SIM_FIRST`, or where chance has it.
fn fresh_first() -> u64 {
    number("SIM_FIRST").unwrap_or_else(|| RandomState::new().hash_one(()) % FRESH_END)
}

#[test]
fn no_fresh_seed_breaks_an_invariant() {
    let (first, count) = (fresh_first(), number("SIM_FRESH").unwrap_or(FRESH_SEEDS));
    let wanted = number("SIM_NODES");
    let sizes = FRESH_SIZES.filter(|nodes| wanted.is_none_or(|only| only == *nodes as u64));
    let cases: Vec<Case> = sizes
        .flat_map(|nodes| [Policy::Majority, Policy::Ignore].map(|policy| (nodes, policy)))
        .flat_map(|(nodes, policy)| (first..first + count).map(move |seed| (seed, nodes, policy)))
        .collect();
    // Past the test's own capture: said of runs that hold, too.
    writeln!(
        std::io::stderr(),
        "{} fresh seeds; again with: SIM_FIRST={first} SIM_FRESH={count} cargo test --release --test sim_seeds \
         -- --nocapture no_fresh_seed",
        cases.len()
    )
    .unwrap();
    must_hold(cases);
}

fn must_hold_alone(seed: u64, nodes: usize, policy: Policy) {
    if let Err(text) = check_seed(seed, nodes, policy, TraceMode::Quiet) {
        panic!("{text}");
    }
}

/// A leader out of reach for less than deadtime still counts for those it led.
#[test]
fn seeds_in_which_a_leader_was_out_of_reach_hold() {
    for seed in [200_087, 200_301, 200_444] {
        must_hold_alone(seed, 3, Policy::Ignore);
    }
}

/// A start that was ordered in time for its trial to count failed when all trials were about to come back.
#[test]
fn seeds_in_which_trials_never_ended_hold() {
    must_hold_alone(1_000_269, 3, Policy::Majority);
    must_hold_alone(2_000_583, 5, Policy::Ignore);
}

/// After ten windows without a trial a node had all of its trials again.
#[test]
fn seeds_in_which_trials_came_back_hold() {
    must_hold_alone(7_000_886, 6, Policy::Majority);
    must_hold_alone(3_004_682, 5, Policy::Majority);
}

/// What a packet says that was held back for nine deadtimes is no news.
#[test]
fn a_seed_in_which_an_old_packet_told_of_two_owners_holds() {
    must_hold_alone(1_001_367, 3, Policy::Majority);
}

/// Two nodes owned a group at once.
#[test]
fn a_seed_in_which_two_nodes_owned_a_group_holds() {
    must_hold_alone(1_001_112, 5, Policy::Majority);
}

/// Found by fresh seeds while the accounts of absent nodes were made.
#[test]
fn seeds_in_which_a_node_was_away_hold() {
    must_hold_alone(963_904_728_185, 6, Policy::Majority);
    must_hold_alone(963_904_728_150, 8, Policy::Majority);
    must_hold_alone(884_443_285_466, 1, Policy::Ignore);
}

/// A node out of contact that has no place for a group, and that ran nothing of it, does not hold it up under `ignore`.
#[test]
fn a_seed_in_which_a_node_without_a_place_was_out_of_contact_holds() {
    must_hold_alone(779_417_802_000, 2, Policy::Ignore);
}

/// A machine whose clock stood still and whose daemon then died in its first turn keeps what it ran until its record ends.
#[test]
fn a_seed_in_which_a_daemon_died_right_after_its_clock_stood_still_holds() {
    must_hold_alone(779_417_801_953, 6, Policy::Majority);
}

/// A release called a group blocked in the last words of a life; what others had cleared earlier in that life voided it,
/// and the group had two owners.
#[test]
fn a_seed_in_which_last_words_were_voided_by_an_earlier_clear_holds() {
    must_hold_alone(551_266_000_761, 7, Policy::Majority);
}

/// A node that a new file takes off a group's list completed the start that its earlier life had begun.
#[test]
fn a_seed_in_which_a_node_was_taken_off_the_list_while_it_started_holds() {
    must_hold_alone(852_049_746_677, 2, Policy::Ignore);
}

/// Packets that had been held back came while the cluster settled, and were news then.
#[test]
fn seeds_in_which_old_packets_came_late_hold() {
    must_hold_alone(402_771_900_505, 2, Policy::Majority);
    must_hold_alone(402_771_900_398, 3, Policy::Ignore);
}

/// One direction of a pair stays cut, and the node that nobody hears starts.
#[test]
fn a_seed_in_which_the_mute_one_of_a_pair_started_holds() {
    must_hold_alone(852_049_746_747, 2, Policy::Ignore);
}

/// A release could not stop a group, and none of the others heard a word of it: no machine could know.
#[test]
fn seeds_in_which_nobody_heard_of_a_stuck_group_hold() {
    must_hold_alone(617_000_130_197, 3, Policy::Majority);
    must_hold_alone(617_000_130_757, 3, Policy::Majority);
}

/// That a start had failed was said after the order to stop: it did not count as one of the trials.
#[test]
fn a_seed_in_which_an_answer_came_after_the_next_order_holds() {
    must_hold_alone(617_000_230_167, 3, Policy::Ignore);
}

/// The watchdog reset a machine while one direction stayed cut, and the machine was long in coming back.
#[test]
fn a_seed_in_which_a_machine_booted_late_holds() {
    must_hold_alone(617_000_250_056, 5, Policy::Majority);
}

/// A node gave up thirty groups, one after another, after all had healed.
#[test]
fn a_seed_in_which_many_groups_were_given_up_holds() {
    must_hold_alone(617_000_320_268, 2, Policy::Ignore);
}

/// A new life with a shorter deadtime declared a node dead to which the life before it had promised something for longer.
#[test]
fn a_seed_in_which_a_promise_of_an_earlier_life_was_held_against_a_later_one_holds() {
    must_hold_alone(631_000_150_259, 5, Policy::Ignore);
}

/// A machine that stood still was told that it has no usable link, and its daemon was to die in that turn: it lived on, and
/// what it had wanted done was lost.
#[test]
fn a_seed_in_which_a_daemon_was_to_die_while_it_stood_still_holds() {
    must_hold_alone(641_000_240_043, 4, Policy::Ignore);
}

/// The worse of two owners took its whole stop margin while one pair stayed cut.
#[test]
fn a_seed_in_which_one_of_two_owners_was_long_in_stopping_holds() {
    must_hold_alone(623_000_230_668, 3, Policy::Ignore);
}

#[test]
fn the_largest_cluster_holds_too() {
    for seed in 0..number("SIM_LARGE_SEEDS").unwrap_or(4) {
        if let Err(text) = check_seed(seed, 32, Policy::Majority, TraceMode::Quiet) {
            panic!("{text}");
        }
    }
}

#[test]
fn equal_seeds_are_equal_runs() {
    let seeds = seeds_of_all_shapes(32, 0).chain(seeds_of_all_shapes(32, FIRST_WIDE_SEED));
    for (seed, nodes, policy) in seeds {
        let digest = || match run(&scenario(seed, nodes, policy), TraceMode::Keep) {
            Ok(report) => report.digest,
            Err((failure, _)) => panic!("seed {seed}, {nodes} nodes: {failure}"),
        };
        assert_eq!(digest(), digest(), "seed {seed}, {nodes} nodes, {policy:?}");
    }
}

#[test]
fn one_seed() {
    let Some(seed) = number("SIM_SEED") else {
        println!("nothing to replay: SIM_SEED is not set");
        return;
    };
    let nodes = usize::try_from(number("SIM_NODES").unwrap_or(3)).unwrap();
    let policy = match std::env::var("SIM_POLICY").as_deref() {
        Ok("ignore") => Policy::Ignore,
        Ok("majority") | Err(_) => Policy::Majority,
        Ok(other) => panic!("SIM_POLICY is majority or ignore, not {other:?}"),
    };
    println!("{}", scenario(seed, nodes, policy));
    let mode = if number("SIM_TRACE") == Some(1) {
        TraceMode::Print
    } else {
        TraceMode::Quiet
    };
    match check_seed(seed, nodes, policy, mode) {
        Ok(report) => println!("no invariant broken: {report:?}"),
        Err(text) => panic!("{text}"),
    }
}
