//! What each kind of link waits for, and how it is bound once that is there.

use super::*;

fn address(ip: &str, prefix: u8) -> Address {
    Address {
        ip: ip.parse().unwrap(),
        prefix,
        broadcast: None,
        tentative: false,
        secondary: false,
    }
}

fn interface(name: &str, index: u32, addresses: Vec<Address>) -> Interface {
    Interface {
        index,
        name: name.to_owned(),
        enabled: true,
        carrier: true,
        addresses,
    }
}

fn machine(interfaces: Vec<Interface>) -> Snapshot {
    Snapshot { interfaces }
}

fn unicast_link(device: Option<&str>, local: &str, peer: &str) -> Link {
    Link {
        transport: Transport::Unicast {
            interface: device.map(str::to_owned),
            local: local.parse().unwrap(),
            peers: vec![(NodeName::new("beta").unwrap(), peer.parse().unwrap())],
        },
        port: 694,
        direct: false,
    }
}

fn broadcast_link(device: &str) -> Link {
    Link {
        transport: Transport::Broadcast {
            interface: device.to_owned(),
        },
        port: 694,
        direct: false,
    }
}

fn multicast_link(device: &str, group: &str) -> Link {
    Link {
        transport: Transport::Multicast {
            interface: device.to_owned(),
            group: group.parse().unwrap(),
            ttl: 1,
        },
        port: 694,
        direct: false,
    }
}

fn waits_for(link: &Link, snapshot: &Snapshot) -> String {
    outlook(link, snapshot).binding.unwrap_err()
}

#[test]
fn each_kind_says_what_it_waits_for() {
    let nothing = machine(vec![]);
    let mut down = interface("eth1", 7, vec![address("10.0.0.1", 24)]);
    down.enabled = false;
    let down = machine(vec![down]);
    let bare = machine(vec![interface("eth1", 7, vec![])]);
    for link in [
        unicast_link(Some("eth1"), "10.0.0.1", "10.0.0.2"),
        broadcast_link("eth1"),
        multicast_link("eth1", "239.0.0.42"),
    ] {
        assert_eq!(
            waits_for(&link, &nothing),
            "there is no interface \"eth1\" yet"
        );
        assert_eq!(waits_for(&link, &down), "interface \"eth1\" is down");
        assert!(waits_for(&link, &bare).starts_with("interface \"eth1\" has no "));
    }
    let free = unicast_link(None, "10.0.0.1", "10.0.0.2");
    assert_eq!(
        waits_for(&free, &bare),
        "no interface has the address 10.0.0.1 yet"
    );
    assert_eq!(waits_for(&free, &down), "interface \"eth1\" is down");
}

#[test]
fn an_address_on_the_wrong_interface_is_named() {
    let snapshot = machine(vec![
        interface("eth1", 2, vec![]),
        interface("br0", 3, vec![address("10.0.0.1", 24)]),
    ]);
    assert_eq!(
        waits_for(
            &unicast_link(Some("eth1"), "10.0.0.1", "10.0.0.2"),
            &snapshot
        ),
        "the address 10.0.0.1 is on interface \"br0\", not on \"eth1\""
    );
}

#[test]
fn unicast_binds_to_its_own_address_and_to_the_device_where_given() {
    let snapshot = machine(vec![interface("eth1", 7, vec![address("10.0.0.1", 24)])]);
    for device in [None, Some("eth1")] {
        let bound = outlook(&unicast_link(device, "10.0.0.1", "10.0.0.2"), &snapshot)
            .binding
            .unwrap();
        assert_eq!(bound.device.as_deref(), device);
        assert_eq!(bound.index, 7);
        assert_eq!(bound.listen, "10.0.0.1:694".parse().unwrap());
        assert_eq!(bound.destinations, vec!["10.0.0.2:694".parse().unwrap()]);
    }
}

#[test]
fn link_local_addresses_get_the_scope_of_the_interface_and_others_none() {
    let snapshot = machine(vec![interface(
        "eth1",
        7,
        vec![address("fe80::1", 64), address("fd00::1", 64)],
    )]);
    let local = outlook(&unicast_link(None, "fe80::1", "fe80::2"), &snapshot)
        .binding
        .unwrap();
    assert_eq!(
        local.listen,
        SocketAddrV6::new("fe80::1".parse().unwrap(), 694, 0, 7).into()
    );
    assert_eq!(
        local.destinations,
        vec![SocketAddrV6::new("fe80::2".parse().unwrap(), 694, 0, 7).into()]
    );
    let unique = outlook(&unicast_link(None, "fd00::1", "fd00::2"), &snapshot)
        .binding
        .unwrap();
    assert_eq!(unique.listen, "[fd00::1]:694".parse().unwrap());
}

#[test]
fn a_tentative_address_is_waited_for() {
    let mut checking = address("fe80::1", 64);
    checking.tentative = true;
    let mut other = address("fd00::1", 64);
    let group = multicast_link("eth1", "ff02::42");
    let waiting = "the kernel has not yet confirmed that nobody else uses fe80::1";
    let snapshot = machine(vec![interface("eth1", 7, vec![checking.clone()])]);
    assert_eq!(
        waits_for(&unicast_link(None, "fe80::1", "fe80::2"), &snapshot),
        waiting
    );
    assert_eq!(waits_for(&group, &snapshot), waiting);
    let snapshot = machine(vec![interface(
        "eth1",
        7,
        vec![checking.clone(), other.clone()],
    )]);
    assert!(
        outlook(&group, &snapshot).binding.is_ok(),
        "another address will do as a source"
    );
    other.tentative = true;
    let snapshot = machine(vec![interface("eth1", 7, vec![checking, other])]);
    assert_eq!(waits_for(&group, &snapshot), waiting);
}

#[test]
fn a_secondary_address_does_not_choose_the_broadcast_address() {
    let mut virtual_address = address("192.168.9.9", 24);
    virtual_address.secondary = true;
    let snapshot = machine(vec![interface(
        "eth1",
        7,
        vec![
            virtual_address,
            address("10.9.9.9", 32),
            address("10.0.0.1", 24),
        ],
    )]);
    let bound = outlook(&broadcast_link("eth1"), &snapshot).binding.unwrap();
    assert_eq!(bound.destinations, vec!["10.0.0.255:694".parse().unwrap()]);
    assert_eq!(bound.listen, "0.0.0.0:694".parse().unwrap());
}

#[test]
fn a_re_created_interface_or_a_new_broadcast_address_means_another_binding() {
    let at = |index, ip, prefix| {
        let snapshot = machine(vec![interface("eth1", index, vec![address(ip, prefix)])]);
        outlook(&broadcast_link("eth1"), &snapshot).binding.unwrap()
    };
    assert_eq!(at(7, "10.0.0.1", 24), at(7, "10.0.0.9", 24));
    assert_ne!(at(7, "10.0.0.1", 24), at(8, "10.0.0.1", 24));
    assert_ne!(at(7, "10.0.0.1", 24), at(7, "10.0.0.1", 16));
}

#[test]
fn without_carrier_a_link_is_bound_but_impeded() {
    let mut unplugged = interface("eth1", 7, vec![address("10.0.0.1", 24)]);
    unplugged.carrier = false;
    let seen = outlook(&broadcast_link("eth1"), &machine(vec![unplugged]));
    assert!(seen.binding.is_ok());
    assert_eq!(
        seen.impediment.as_deref(),
        Some("interface \"eth1\" has no carrier")
    );
}

#[test]
fn addresses_of_two_ip_versions_in_one_link_are_refused() {
    let snapshot = machine(vec![interface("eth1", 7, vec![address("10.0.0.1", 24)])]);
    assert!(
        waits_for(&unicast_link(None, "10.0.0.1", "fd00::2"), &snapshot)
            .contains("\"beta\" are not of the same IP version")
    );
}
