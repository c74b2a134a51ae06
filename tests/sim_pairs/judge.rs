//! After the faults: a group that somebody can run must run, within a bound.

use crate::cluster::{Cluster, DEADTIME, KEEPALIVE};
use ha_node::core::Request;
use ha_node::wire::status::Phase;

/// The bound, in keepalives, from when all that ends has ended.
const BOUND: u64 = 20 * DEADTIME / KEEPALIVE;

/// After so many keepalives, if the group does not run, people clear what has failed.
const PATIENCE: u64 = 4 * DEADTIME / KEEPALIVE;

/// Keepalives in which nothing changes, after which nothing does where something stays wrong.
const STEADY: u64 = 2 * DEADTIME / KEEPALIVE + 1;

/// Lets time pass until the group runs as it should; a failure where it does not.
pub fn settle(c: &mut Cluster) {
    let (mut agreed, mut steady, mut before) = (0, 0, (c.runners(), c.changes));
    let longer = if c.nodes.iter().any(|node| node.doubled) {
        2
    } else {
        1
    };
    for tick in 0..longer * BOUND {
        c.run_to(c.now + KEEPALIVE);
        if c.failure.is_some() {
            return;
        }
        let now = (c.runners(), c.changes);
        steady = if now == before { steady + 1 } else { 0 };
        before = now;
        agreed = if all_agree(c) { agreed + 1 } else { 0 };
        let runs = runs_once(c);
        let quiet = steady >= longer * STEADY && c.agenda.is_empty();
        if agreed >= 2 || (quiet && (runs || !must_run(c))) {
            return;
        }
        if tick == PATIENCE && c.something_failed {
            let group = c.shape.group.clone();
            (0..c.nodes.len()).for_each(|n| c.request(n, Request::Clear(group.clone())));
        }
    }
    if must_run(c) && !runs_once(c) {
        c.failure = Some(complaint(c));
    }
}

fn complaint(c: &Cluster) -> String {
    let runners = c.runners();
    let kind = if runners.is_empty() {
        "down"
    } else {
        "does not come to rest"
    };
    let words = (0..c.nodes.len()).filter_map(|node| {
        let view = c.view(node)?;
        let reason = view
            .groups
            .values()
            .map(|g| format!("{:?} {}", g.state, g.reason))
            .next();
        let term = view.term.map(|t| format!("{}/{}", t.number, t.leader));
        Some(format!(
            "{} (leader {} {term:?}) says {}",
            c.shape.names[node],
            view.has_leader,
            reason.unwrap_or_default()
        ))
    });
    format!(
        "{kind}, runs on {runners:?}: {}",
        words.collect::<Vec<_>>().join("; ")
    )
}

fn runs_once(c: &Cluster) -> bool {
    match c.runners().as_slice() {
        [one] => c.is_awake(*one) && c.is_idle(*one),
        _ => false,
    }
}

/// Whether nothing is wrong any more, and all follow one leader while the group runs once.
fn all_agree(c: &Cluster) -> bool {
    if !c.agenda.is_empty() || !c.is_whole() || !runs_once(c) {
        return false;
    }
    let mut terms = Vec::new();
    for node in 0..c.nodes.len() {
        let Some(view) = c.view(node).filter(|_| c.is_up(node)) else {
            return false;
        };
        if !view.has_leader || view.phase != Phase::Active {
            return false;
        }
        terms.push(view.term);
    }
    terms.windows(2).all(|pair| pair[0] == pair[1])
}

/// Whether a majority whose members all hear each other has a node that can run the group.
fn must_run(c: &Cluster) -> bool {
    let size = c.nodes.len();
    (0..1_usize << size).any(|set| {
        let members: Vec<usize> = (0..size).filter(|n| set >> n & 1 == 1).collect();
        let majority = members.len() > size / 2 && members.iter().all(|n| c.is_up(*n));
        let joined = |a: usize| members.iter().all(|b| a == *b || c.are_joined(a, *b));
        let able = |n: &usize| c.shape.listed.contains(n) && !c.nodes[*n].stored.standby;
        majority && members.iter().all(|a| joined(*a)) && members.iter().any(able)
    })
}
