//! The status as people see it, against stored texts.

use super::*;
use crate::ctl::status::{LinkStatus, ResourceStatus};
use std::collections::BTreeMap;

const NOW: u64 = 1_795_370_472_000_000;

fn node(name: &str, links: &[(&str, &'static str)]) -> NodeStatus {
    NodeStatus {
        name: name.to_owned(),
        state: "active".to_owned(),
        role: "member".to_owned(),
        generation: 5,
        standby: false,
        links: links
            .iter()
            .map(|(label, state)| ((*label).to_owned(), *state))
            .collect(),
        last_heard_usec: Some(NOW - 100_000),
        config_hash: "00000000deadbeef".to_owned(),
        differs: Vec::new(),
    }
}

fn resource(id: &str, kind: &str, state: &str) -> ResourceStatus {
    ResourceStatus {
        id: id.to_owned(),
        kind: kind.to_owned(),
        state: state.to_owned(),
    }
}

fn healthy() -> Status {
    let web = GroupStatus {
        name: "web".to_owned(),
        state: "started".to_owned(),
        owner: Some("alpha".to_owned()),
        preferred: vec!["alpha".to_owned(), "beta".to_owned()],
        resources: vec![
            resource("vip:10.0.0.100", "vip", "started"),
            resource("unit:nginx.service", "unit", "started"),
        ],
        failures: BTreeMap::new(),
        since_usec: NOW - 192_000_000,
        reason: "first in its list".to_owned(),
        local_state: "started".to_owned(),
    };
    Status {
        cluster: "prod".to_owned(),
        local_node: "alpha".to_owned(),
        leader: Some("alpha".to_owned()),
        quorate: true,
        maintenance: false,
        nodes: vec![
            node("alpha", &[]),
            node("beta", &[("eth1", "up"), ("eth2", "dead")]),
        ],
        groups: vec![web],
        state: "stable".to_owned(),
        version: "1.2.3".to_owned(),
        generation: 5,
        protection: "majority".to_owned(),
        link_trouble: String::new(),
        links: vec![LinkStatus {
            kind: "ucast".to_owned(),
            interface: "eth1".to_owned(),
            label: "eth1".to_owned(),
            peers: BTreeMap::from([("beta".to_owned(), true)]),
            sent: 3,
            received: 2,
            rejected: 1,
        }],
    }
}

fn troubled() -> Status {
    let mut status = healthy();
    status.state = "no-quorum".to_owned();
    (status.quorate, status.leader) = (false, None);
    status.protection = "deadtime".to_owned();
    status.link_trouble = "eth1: interface \"eth1\" has no carrier".to_owned();
    status.nodes[0].standby = true;
    status.nodes[1].state = "dead".to_owned();
    let mut witness = node("gamma", &[]);
    (witness.role, witness.state) = ("witness".to_owned(), "unknown".to_owned());
    (witness.last_heard_usec, witness.generation) = (None, 0);
    status.nodes.push(witness);
    let mut database = status.groups[0].clone();
    (database.name, database.state) = ("database".to_owned(), "blocked".to_owned());
    database.reason.clear();
    database.failures = BTreeMap::from([("alpha".to_owned(), 1), ("beta".to_owned(), 3)]);
    database.resources[1].state = "failed".to_owned();
    status.groups.insert(0, database);
    status.groups[1].state = "stopped".to_owned();
    status.groups[1].owner = None;
    status.groups[1].resources.clear();
    status
}

#[track_caller]
fn assert_text(status: &Status, stored: &str) {
    let text = anstream::adapter::strip_str(&render(status, NOW)).to_string();
    assert!(
        text == stored,
        "the stored text differs; it should now be:\n{text}"
    );
}

#[test]
fn a_healthy_cluster_reads_so() {
    assert_text(&healthy(), include_str!("healthy.txt"));
}

#[test]
fn a_troubled_cluster_says_what_is_wrong_and_what_to_do() {
    assert_text(&troubled(), include_str!("troubled.txt"));
}

#[test]
fn the_object_of_the_contract_comes_first_and_in_its_order() {
    let text = serde_json::to_string_pretty(&healthy()).unwrap();
    let stored = include_str!("healthy.json");
    assert!(
        text == stored.trim_end(),
        "the stored object differs; it should now be:\n{text}"
    );
}

#[test]
fn trouble_is_red() {
    let red = "\u{1b}[31m";
    assert!(
        !render(&healthy(), NOW)
            .replace(&format!("{red}dead"), "")
            .contains(red)
    );
    assert!(render(&troubled(), NOW).contains(&format!("{red}×")));
}

#[test]
fn a_configuration_that_differs_is_shown_with_its_sections() {
    let mut status = healthy();
    status.nodes[1].differs = vec!["[[node]]".to_owned(), "[timing]".to_owned()];
    let text = render(&status, NOW);
    let note = "has another configuration in [[node]], [timing]: make both the same";
    assert!(text.contains(note), "{text}");
}
