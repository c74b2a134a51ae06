//! The journal catalog that is shipped explains every event of the table, and nothing else.

use ha_node::journal::TABLE;
use std::collections::{BTreeMap, BTreeSet};

const CATALOG: &str = include_str!("../systemd/ha-node.catalog");

/// The text of each entry, by `MESSAGE_ID`.
fn entries() -> BTreeMap<&'static str, &'static str> {
    (CATALOG.split("\n-- ").skip(1))
        .filter_map(|entry| entry.split_once('\n'))
        .collect()
}

#[test]
fn table_and_catalog_have_the_same_events() {
    let explained: BTreeSet<&str> = entries().into_keys().collect();
    let known: BTreeSet<&str> = TABLE.iter().map(|kind| kind.message_id).collect();
    assert_eq!(explained, known);
    assert_eq!(
        CATALOG.matches("\n-- ").count(),
        TABLE.len(),
        "an event is explained twice"
    );
}

#[test]
fn every_entry_has_a_subject_a_cause_and_a_remedy() {
    for (id, entry) in entries() {
        let (head, body) = entry.split_once("\n\n").unwrap();
        assert!(
            head.starts_with("Subject: ") && head.contains("\nDefined-By: ha-node"),
            "{id}"
        );
        assert_eq!(body.trim_end().split("\n\n").count(), 2, "{id}: {body}");
    }
}

#[test]
fn entries_use_only_fields_that_events_have() {
    const FIELDS: [&str; 6] = [
        "HA_CLUSTER",
        "HA_NODE",
        "HA_PEER",
        "HA_GROUP",
        "HA_RESOURCE",
        "HA_LINK",
    ];
    for name in CATALOG.split('@').skip(1).step_by(2) {
        assert!(
            FIELDS.contains(&name) || name == "HA_GENERATION",
            "@{name}@"
        );
    }
}
