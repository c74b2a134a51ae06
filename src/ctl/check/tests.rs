//! What a check compares with the machine, and what it says of it.

use super::*;
use crate::config::model::{Group, Link, PORT_DEFAULT, Resource, Transport};
use crate::config::vip::{AddressSet, AddressWithPrefix};
use crate::core::{NodeSettings, Policy, Settings};
use crate::ids::{ClusterName, GroupName, NodeName};
use std::collections::BTreeMap;
use std::time::Duration;

fn resource(kind: ResourceKind) -> Resource {
    let timeout = Duration::from_secs(1);
    Resource {
        id: "r".to_owned(),
        kind,
        start_timeout: timeout,
        stop_timeout: timeout,
    }
}

fn example() -> Config {
    let node = NodeName::new("alpha").unwrap();
    let timing = Duration::from_secs(1);
    let vip = AddressWithPrefix {
        address: [10, 0, 0, 1].into(),
        prefix: 24,
    };
    let address = ResourceKind::Address(AddressSet::new(vec![vip], "eth0"));
    Config {
        settings: Settings {
            cluster: ClusterName::new("prod").unwrap(),
            local: node.clone(),
            nodes: BTreeMap::from([(node, NodeSettings::default())]),
            groups: BTreeMap::new(),
            policy: Policy::Ignore,
            keepalive: timing,
            warntime: timing,
            deadtime: timing,
            initdead: timing,
            config_hash: 0,
        },
        standalone: false,
        keyfile: None,
        links: vec![Link {
            transport: Transport::Broadcast {
                interface: "eth1".to_owned(),
            },
            port: PORT_DEFAULT,
        }],
        groups: vec![Group {
            name: GroupName::new("web").unwrap(),
            resources: vec![
                resource(address),
                resource(ResourceKind::Unit {
                    name: "nginx.service".to_owned(),
                }),
            ],
        }],
    }
}

#[test]
fn each_missing_interface_is_named_once() {
    let warnings = missing_interfaces(&example(), |name| name == "eth0");
    assert_eq!(
        warnings,
        ["there is no interface \"eth1\" on this machine now; it is waited for"]
    );
}

#[test]
fn a_unit_that_boot_starts_too_is_warned_about() {
    let warning = unit_warning("nginx.service", Ok("enabled".to_owned())).unwrap();
    assert!(
        warning.ends_with("systemctl disable nginx.service"),
        "{warning}"
    );
    assert_eq!(
        unit_warning("nginx.service", Ok("disabled".to_owned())),
        None
    );
    assert!(unit_warning("nginx.service", Ok("masked".to_owned())).is_some());
}

#[test]
fn the_summary_counts() {
    assert_eq!(
        summary(&example(), 1),
        "cluster \"prod\" with 1 nodes, 1 links, 1 groups: the configuration is valid, 1 warning\n"
    );
}
