//! `[[node]]`: who the members are, and that this host is one of them.

use super::duplicate;
use crate::config::place::Origin;
use crate::config::problem::{Problems, Wrong};
use crate::config::raw::Raw;
use crate::config::schema::nearest;
use crate::core::NodeSettings;
use crate::core::settings::NODES_MAX;
use crate::ids::NodeName;
use std::collections::BTreeMap;

/// Where host names come from, for people who meet the word for the first time.
const HOST_NAME_HELP: &str =
    "a host's name is what `uname -n` prints there; `hostnamectl set-hostname NAME` sets it";

/// The host's name as a node's name, in lower case like those of the file.
pub(crate) fn host_name(host: &str, problems: &mut Problems) -> Option<NodeName> {
    match NodeName::new(&host.to_ascii_lowercase()) {
        Ok(name) => Some(name),
        Err(error) => {
            let found = format!("this host's name {host:?} cannot be the name of a node: {error}");
            problems.add_maybe_at(None, Wrong::new(found).hint(HOST_NAME_HELP));
            None
        }
    }
}

/// All members; this host alone if the files list none.
pub(crate) fn check(
    raw: &Raw,
    host: &NodeName,
    problems: &mut Problems,
) -> BTreeMap<NodeName, NodeSettings> {
    let mut nodes = BTreeMap::new();
    let mut places: BTreeMap<&NodeName, Origin> = BTreeMap::new();
    for node in &raw.node {
        let (name, at) = (&node.name.value, node.name.at);
        if let Some(first) = places.get(name) {
            duplicate(problems, &format!("node {:?}", name.as_str()), at, *first);
            continue;
        }
        places.insert(name, at);
        nodes.insert(
            name.clone(),
            NodeSettings {
                witness: node.witness,
            },
        );
        if nodes.len() == NODES_MAX + 1 {
            let found = format!("this is node number {}", nodes.len());
            problems.add(
                at,
                Wrong::new(found).expected(format!("at most {NODES_MAX} nodes")),
            );
        }
    }
    if nodes.is_empty() {
        nodes.insert(host.clone(), NodeSettings { witness: false });
    } else if !nodes.contains_key(host) {
        host_is_missing(raw, host, problems);
    }
    nodes
}

fn host_is_missing(raw: &Raw, host: &NodeName, problems: &mut Problems) {
    let names: Vec<&str> = raw
        .node
        .iter()
        .map(|node| node.name.value.as_str())
        .collect();
    let found = format!(
        "this host is {:?}, but the nodes are {}",
        host.as_str(),
        names.join(", ")
    );
    let help = match similar(host.as_str(), &names) {
        Some(name) => format!(
            "is {name:?} meant for this host? Then write name = {:?} there, or run `hostnamectl set-hostname {name}` here",
            host.as_str()
        ),
        None => "is this the right file for this host?".to_owned(),
    };
    let wrong = Wrong::new(found)
        .expected(format!("a [[node]] with name = {:?}", host.as_str()))
        .hint(format!("{HOST_NAME_HELP}; {help}"));
    problems.add_maybe_at(raw.node.first().map(|node| node.name.at), wrong);
}

/// A node that differs from the host only by a domain, or by little.
fn similar<'n>(host: &str, names: &[&'n str]) -> Option<&'n str> {
    let short = |name: &str| name.split('.').next().map(str::to_owned);
    names
        .iter()
        .copied()
        .find(|name| short(name) == short(host))
        .or_else(|| nearest(host, names.iter().copied()))
}
