//! Every pair of faults, in every order and for every length, in small clusters: two owners never, and the group runs
//! wherever somebody can run it.
//!
//! `make pairs` runs all of some situations and a share of the others; `PAIRS_SHARE=10` takes every tenth pair of all,
//! `PAIRS_SHARE=1` every one (hours), `PAIRS_ONLY=3-rest` those situations whose name contains this. The
//! normal tests take a small share. A run that fails prints the command that replays it with a line per step.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod cluster;
mod explore;
mod fault;
mod hands;
mod judge;
mod lives;
mod network;
mod situation;

use explore::{Explorer, Failed, Seen, Tally, Timed};
use fault::Fault;
use ha_node::core::BrokenRule;
use situation::Situation;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is not a number: {text:?}")))
}

/// A situation, at which keepalive the first fault begins, and which it is.
struct Task {
    situation: usize,
    start: u64,
    first: usize,
}

/// How much is tried.
#[derive(Debug, Clone, Copy)]
enum Amount {
    /// Of so many pairs one, of so many first faults one; always the same.
    Sample(u64, usize),
    /// Of so many pairs one, or as many as each situation says; what is known to be equal to another run is left out.
    Share(Option<u64>),
}

/// Runs pairs in some situations on all processors.
fn run_all(situations: &[Situation], amount: Amount) -> Vec<Tally> {
    let faults: Vec<Vec<Fault>> = situations
        .iter()
        .map(|s| Fault::all(s.size, &s.listed()))
        .collect();
    let mut tasks = Vec::new();
    for (place, situation) in situations.iter().enumerate() {
        for start in situation.first_ticks(explore::WINDOW) {
            let all = 0..faults[place].len();
            tasks.extend(all.map(|first| Task {
                situation: place,
                start,
                first,
            }));
        }
    }
    let bases: Vec<Vec<cluster::Cluster>> = situations.iter().map(bases).collect();
    let next = AtomicUsize::new(0);
    let step = match amount {
        Amount::Sample(_, step) => step,
        Amount::Share(_) => 1,
    };
    let seen: Vec<Seen> = situations.iter().map(|_| Seen::default()).collect();
    for (seen, bases) in seen.iter().zip(&bases) {
        for (tick, base) in (0..).zip(bases) {
            // Without a first fault the second one is alone, and that is tried as a first one.
            seen.insert((tick, base.fingerprint(), None, true));
        }
    }
    let tallies: Vec<Mutex<Tally>> = situations.iter().map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(step, Ordering::Relaxed);
                    let Some(task) = tasks.get(place) else { break };
                    let which = task.situation;
                    let share = match amount {
                        Amount::Sample(share, _) => share,
                        Amount::Share(share) => share.unwrap_or(situations[which].share()),
                    };
                    // Each task begins its share elsewhere, so that a share is spread over all kinds.
                    let mut explorer = Explorer::new(
                        &situations[which],
                        &faults[which],
                        (share, place as u64 % share),
                        matches!(amount, Amount::Share(_)).then(|| &seen[which]),
                    );
                    explorer.explore(&bases[which][task.start as usize], task.first, task.start);
                    let mut tally = tallies[which].lock().unwrap();
                    tally.add(explorer.tally);
                }
            });
        }
    });
    tallies
        .into_iter()
        .map(|tally| tally.into_inner().unwrap())
        .collect()
}

/// The situation at each keepalive at which a first fault may begin.
fn bases(situation: &Situation) -> Vec<cluster::Cluster> {
    let mut c = situation.prepare();
    (0..explore::WINDOW)
        .map(|_| {
            let now = c.clone();
            c.run_to(c.now + cluster::KEEPALIVE);
            now
        })
        .collect()
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.spared += other.spared;
        self.failures += other.failures;
        self.failed.extend(other.failed);
    }
}

/// What is told of a failure where many are alike.
fn kind(failed: &Failed) -> String {
    let fault = |t: &Timed| t.fault.to_string();
    let second = failed.second.as_ref().map(fault).unwrap_or_default();
    let what = failed.what.split([',', ':']).next().unwrap_or_default();
    format!("{what}: {} {second}", fault(&failed.first))
}

fn tell(situation: &Situation, tally: &Tally) {
    let name = situation.name();
    println!(
        "{name}: {} runs, {} not run since equal to others, {} failed",
        tally.runs, tally.spared, tally.failures
    );
    let mut kinds: BTreeMap<String, (u64, &Failed)> = BTreeMap::new();
    for failed in &tally.failed {
        kinds.entry(kind(failed)).or_insert((0, failed)).0 += 1;
    }
    for (count, failed) in kinds.values() {
        let second = failed.second.map(|t| format!(" {t}")).unwrap_or_default();
        println!(
            "{count} like this: {}\n  PAIR='{name} {}{second}' cargo test --release --test sim_pairs -- --nocapture one_pair",
            failed.what, failed.first
        );
    }
}

/// Runs them and tells what came of it.
fn check(situations: &[Situation], amount: Amount) {
    let tallies = run_all(situations, amount);
    let total: u64 = tallies.iter().map(|t| t.runs).sum();
    let failures: u64 = tallies.iter().map(|t| t.failures).sum();
    for (situation, tally) in situations.iter().zip(&tallies) {
        tell(situation, tally);
    }
    println!("{total} runs, {failures} failed");
    assert_eq!(failures, 0, "of {total} runs");
}

#[test]
fn a_sample_of_pairs_holds() {
    check(&Situation::all(), Amount::Sample(4_000, 25));
}

fn situation(name: &str) -> Situation {
    let found = Situation::all().into_iter().find(|s| s.name() == name);
    found.unwrap_or_else(|| panic!("no such situation: {name}"))
}

#[test]
fn a_broken_rule_is_found() {
    for (rule, name) in [
        (BrokenRule::OneStepMoves, "3-move"),
        (BrokenRule::LeaseIgnored, "3-rest"),
    ] {
        let broken = Some(rule);
        let tallies = run_all(
            &[Situation {
                broken,
                ..situation(name)
            }],
            Amount::Sample(50, 3),
        );
        let two = tallies[0]
            .failed
            .iter()
            .filter(|f| f.what.contains("two owners"));
        println!(
            "{rule:?}: {} of {} runs",
            two.clone().count(),
            tallies[0].runs
        );
        assert!(two.count() > 0, "{rule:?}");
    }
}

#[test]
fn a_group_that_is_down_without_need_is_found() {
    let mut c = situation("3-rest").prepare();
    let owner = c.runners()[0];
    c.nodes[owner].runs = false;
    judge::settle(&mut c);
    assert!(c.failure.unwrap().starts_with("down"));
}

#[test]
fn a_run_is_the_same_whenever_it_is_replayed() {
    let situation = situation("5-takeover");
    let pair = ["link:ab@1+4", "freeze:d@2+3"].map(|text| parse(&situation, text));
    let end = || explore::replay(&situation, &pair, false).fingerprint();
    assert_eq!(end(), end());
}

#[test]
#[ignore = "takes many minutes: make pairs"]
fn all_pairs_hold() {
    let only = std::env::var("PAIRS_ONLY").unwrap_or_default();
    let mut situations = Situation::all();
    situations.retain(|s| s.name().contains(&only));
    check(&situations, Amount::Share(number("PAIRS_SHARE")));
}

/// `fault:places@since+length`, as it is printed.
fn parse(situation: &Situation, text: &str) -> Timed {
    let (name, times) = text.split_once('@').unwrap();
    let (since, length) = times.split_once('+').unwrap();
    let all = Fault::all(situation.size, &situation.listed());
    let fault = all.into_iter().find(|fault| fault.to_string() == name);
    Timed {
        fault: fault.unwrap_or_else(|| panic!("no such fault: {name}")),
        since: since.parse().unwrap(),
        length: (length != "*").then(|| length.parse().unwrap()),
    }
}

#[test]
fn one_pair() {
    let Ok(text) = std::env::var("PAIR") else {
        println!("nothing to replay: PAIR is not set");
        return;
    };
    let mut words = text.split(' ');
    let name = words.next().unwrap();
    let situation = situation(name);
    let pair: Vec<Timed> = words.map(|word| parse(&situation, word)).collect();
    let c = explore::replay(&situation, &pair, true);
    assert_eq!(c.failure, None);
    println!("no failure");
}
