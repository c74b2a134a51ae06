//! The interfaces against the released introspection, and what they refuse before asking anyone.

use super::*;
use crate::dbus::model::{self, Model};
use std::collections::BTreeSet;
use tokio::sync::mpsc;
use zbus::object_server::Interface;

fn shared() -> Arc<Shared> {
    let (commands, _receiver) = mpsc::channel(1);
    Arc::new(Shared::new(Model::of(&model::tests::example()), commands))
}

fn introspection() -> String {
    let shared = shared();
    let node = shared.model().nodes.keys().next().unwrap().clone();
    let group = shared.model().groups.keys().next().unwrap().clone();
    let mut xml = String::new();
    Cluster {
        shared: Arc::clone(&shared),
    }
    .introspect_to_writer(&mut xml, 0);
    Node {
        shared: Arc::clone(&shared),
        name: node,
    }
    .introspect_to_writer(&mut xml, 0);
    Group {
        shared: Arc::clone(&shared),
        name: group,
    }
    .introspect_to_writer(&mut xml, 0);
    Link {
        shared,
        id: LinkId(0),
    }
    .introspect_to_writer(&mut xml, 0);
    xml
}

/// The interface may only grow: whoever changes this file checks that nothing in it went away.
#[test]
fn the_interfaces_are_as_released() {
    let xml = introspection();
    let stored = include_str!("../../../tests/bus_introspection.xml");
    assert!(
        xml == stored,
        "tests/bus_introspection.xml differs; it should now be:\n{xml}"
    );
}

#[test]
fn the_model_lists_exactly_the_properties_that_are_served() {
    let xml = introspection();
    for ((_, interface), list) in Model::of(&model::tests::example()).objects() {
        let start = xml
            .find(&format!("<interface name=\"{interface}\">"))
            .unwrap();
        let section = xml[start..].split("</interface>").next().unwrap();
        let served: BTreeSet<&str> = (section.split("<property name=\"").skip(1))
            .filter_map(|it| it.split('"').next())
            .collect();
        let listed: BTreeSet<&str> = list.iter().map(|(name, _)| *name).collect();
        assert_eq!(served, listed, "{interface}");
    }
}

#[test]
fn arguments_are_checked_before_anything_else() {
    assert!(matches!(
        parse_scope("everything"),
        Err(BusError::InvalidArguments(_))
    ));
    assert!(matches!(parse_scope("failback"), Ok(Scope::Failback)));
    assert!(matches!(
        parse_node("a b"),
        Err(BusError::InvalidArguments(_))
    ));
    assert_eq!(parse_node("Alpha").unwrap().as_str(), "alpha");
}

#[test]
fn numbers_among_an_events_fields_are_numbers() {
    let record = Record {
        id: "group-started",
        message_id: "0",
        level: crate::journal::Level::Notice,
        text: String::new(),
        fields: vec![
            ("HA_GROUP", "web".to_owned()),
            ("HA_DURATION_USEC", "12".to_owned()),
        ],
        usec: 0,
    };
    let fields = event_fields(&record);
    assert_eq!(fields["HA_GROUP"], Variant::from("web"));
    assert_eq!(fields["HA_DURATION_USEC"], Variant::from(12_u64));
    assert_eq!(fields["PRIORITY"], Variant::from(5_u8));
}
