//! What must be so: all nodes agree on one owner that serves the clients, and nobody else has anything of the group.

use crate::cluster::{ADDRESS, Cluster, GROUP, SERVICE, Status};
use crate::machine::Machine;
use crate::probe::http;
use crate::probe::owner::{Ownership, RESOLUTION};
use crate::{Span, clock, span};
use anyhow::Result;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// How long the clients ask, each time that the nodes agree.
const ASKING: Duration = Duration::from_millis(100);
const ASKING_INTERVAL: Duration = Duration::from_millis(10);
/// How long a move may take before it is asked for again.
const MOVE_SECONDS: &str = "5";
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Waits until all is well; the error says what was not at the end of that time.
///
/// # Errors
/// It is not in time.
pub(super) fn wait_well(cluster: &Cluster, limit: Duration) -> Result<String> {
    let end = clock::now() + limit;
    loop {
        match look(cluster) {
            Ok(owner) => return Ok(owner),
            Err(error) if clock::now() >= end => {
                return Err(error.context(format!("not well {limit:?} after all was healed")));
            }
            Err(_) => clock::sleep(LOOK_INTERVAL),
        }
    }
}

/// Moves the group to each of the other nodes: who has been healed can run it.
///
/// # Errors
/// A node does not take it within that time.
pub(super) fn visit_all(cluster: &Cluster, owner: &str, limit: Duration) -> Result<String> {
    let mut owner = owner.to_owned();
    let others = cluster.nodes.iter().filter(|node| node.name() != owner);
    for node in others.collect::<Vec<_>>() {
        let what = format!("{GROUP} to move to {}", node.name());
        clock::wait_for(&what, limit, || {
            node.exec(&["timeout", MOVE_SECONDS, "hactl", "move", GROUP, node.name()])?;
            Ok(Some(()))
        })?;
        owner = wait_well(cluster, limit)?;
    }
    Ok(owner)
}

/// One look; gives the owner.
fn look(cluster: &Cluster) -> Result<String> {
    let mut said = Vec::new();
    for node in &cluster.nodes {
        let status = node.status()?;
        for peer in &cluster.nodes {
            let state = status.node_state(peer.name());
            anyhow::ensure!(
                state == "active",
                "{} says that {} is {state}",
                node.name(),
                peer.name()
            );
        }
        let state = status.group_state(GROUP);
        anyhow::ensure!(state == "started", "{} says {state}", node.name());
        said.push((node.name(), leader(&status), status.owner(GROUP)));
    }
    let Some((_, leader, owner)) = said.first().cloned() else {
        anyhow::bail!("no machines");
    };
    let agreed = said.iter().all(|(_, l, o)| *l == leader && *o == owner);
    anyhow::ensure!(agreed && !leader.is_empty(), "no agreement: {said:?}");
    check_machines(cluster, &owner)?;
    check_clients(cluster, &owner)?;
    Ok(owner)
}

fn leader(status: &Status) -> String {
    let leader = status.0.get("leader").and_then(Value::as_str);
    leader.unwrap_or_default().to_owned()
}

/// The group is on its owner, all of it, and on nobody else.
fn check_machines(cluster: &Cluster, owner: &str) -> Result<()> {
    let having = |has: &dyn Fn(&Machine) -> Result<bool>| -> Result<Vec<&str>> {
        let mut names = Vec::new();
        for node in &cluster.nodes {
            if has(node)? {
                names.push(node.name());
            }
        }
        Ok(names)
    };
    let address = format!("{ADDRESS}");
    let addresses = having(&|node| {
        let shown = node.exec(&["ip", "-o", "addr", "show", "to", &address])?;
        Ok(!shown.is_empty())
    })?;
    anyhow::ensure!(addresses == [owner], "the address is on {addresses:?}");
    let active = having(&|node| Ok(node.unit_state(SERVICE)? == "active"))?;
    anyhow::ensure!(active == [owner], "{SERVICE} is active on {active:?}");
    Ok(())
}

fn check_clients(cluster: &Cluster, owner: &str) -> Result<()> {
    let page = SocketAddr::from((ADDRESS, 80));
    let probe = http::start(&cluster.lab.client(), page, ASKING_INTERVAL)?;
    clock::sleep(ASKING);
    let seen = probe.finish()?;
    let answered = seen.samples.len() - seen.lost();
    let by: Vec<&str> = seen
        .answered_by
        .iter()
        .map(|(_, name)| name.as_str())
        .collect();
    anyhow::ensure!(
        answered * 2 > seen.samples.len() && by == [owner],
        "{answered} of {} questions of the clients were answered, by {by:?}",
        seen.samples.len()
    );
    Ok(())
}

/// Fails if two machines had something at once outside of the spans in which that is excused.
///
/// # Errors
/// Says what, who, when and for how long.
pub(super) fn check_doubles(what: &str, seen: &Ownership, excused: &[Span]) -> Result<()> {
    for (double, [first, second]) in seen.doubles() {
        let rest = span::gaps(double, excused);
        let longest = span::longest(&rest);
        anyhow::ensure!(
            longest < RESOLUTION,
            "{what} was on {first} and {second} from {:.3} to {:.3}, {} ms of it without excuse",
            double.from.as_secs_f64(),
            double.to.as_secs_f64(),
            clock::ms(longest)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn span(from: u64, to: u64) -> Span {
        Span::new(Duration::from_millis(from), Duration::from_millis(to))
    }

    #[test]
    fn two_owners_are_a_fault_where_nothing_excuses_them() {
        let seen = Ownership {
            observed: span(0, 100),
            owners: BTreeMap::from([
                ("alpha".to_owned(), vec![span(0, 50)]),
                ("beta".to_owned(), vec![span(40, 100)]),
            ]),
        };
        assert!(check_doubles("it", &seen, &[]).is_err());
        assert!(check_doubles("it", &seen, &[span(30, 45)]).is_err());
        assert!(check_doubles("it", &seen, &[span(30, 60)]).is_ok());
    }
}
