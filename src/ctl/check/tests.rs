//! What a check compares with the machine, and what it says of it.

use super::*;
use crate::config::model::{Group, Link, PORT_DEFAULT, Resource, Standby, Transport};
use crate::config::vip::{AddressSet, AddressWithPrefix};
use crate::core::{FailurePolicy, NodeSettings, Policy, Settings};
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
        policy: FailurePolicy::default(),
        checks: Vec::new(),
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
            direct: false,
        }],
        groups: vec![Group {
            name: GroupName::new("web").unwrap(),
            resources: vec![
                resource(address),
                resource(ResourceKind::Unit {
                    name: "nginx.service".to_owned(),
                    standby: Standby::Stopped,
                }),
            ],
            checks: Vec::new(),
            here: true,
            stop_margin: Duration::from_millis(250),
        }],
        respawn: Vec::new(),
    }
}

#[test]
fn the_summary_counts() {
    assert_eq!(
        summary(&example(), 1),
        "cluster \"prod\" with 1 nodes, 1 links, 1 groups: the configuration is valid, 1 warning\n"
    );
}

#[test]
fn programs_that_are_not_there_are_told() {
    let mut config = example();
    config.groups[0].resources.push(resource(ResourceKind::Ocf {
        provider: "heartbeat".to_owned(),
        agent: "Dummy".to_owned(),
        parameters: BTreeMap::new(),
        monitor_interval: Duration::from_secs(10),
        start_timeout: None,
        stop_timeout: None,
    }));
    assert!(missing_programs(&config, |_| true).is_empty());
    let told = missing_programs(&config, |_| false);
    assert_eq!(
        told,
        ["there is no program \"/usr/lib/ocf/resource.d/heartbeat/Dummy\" on this machine now"]
    );
}
