//! Links between two real network namespaces: each transport, and interfaces that come, go and change.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

mod link_support;

use ha_node::ids::LinkId;
use ha_node::link::LinkEvent;
use link_support::*;
use std::net::UdpSocket;

/// Both nodes come up and reach each other on all links.
fn meet(pair: &Pair, a: Vec<ha_node::config::model::Link>, b: Vec<ha_node::config::model::Link>) {
    let count = u16::try_from(a.len()).unwrap();
    let (a, b) = (Node::start(&pair.a, a), Node::start(&pair.b, b));
    a.wait_all_up(count);
    b.wait_all_up(count);
    a.reaches(&b, count, "from a");
    b.reaches(&a, count, "from b");
    let counters = a.counters();
    for of_link in counters {
        assert!(of_link.sent > 0 && of_link.received > 0, "{of_link:?}");
        assert_eq!(
            (of_link.send_errors, of_link.receive_errors, of_link.dropped),
            (0, 0, 0),
            "{of_link:?}"
        );
    }
}

#[test]
fn unicast_over_ipv4_with_and_without_an_interface() {
    if !privileged() {
        return;
    }
    for interface in [Some("eth1"), None] {
        meet(
            &Pair::new(),
            vec![ucast(interface, "10.0.1.1", "10.0.1.2")],
            vec![ucast(interface, "10.0.1.2", "10.0.1.1")],
        );
    }
}

#[test]
fn unicast_over_ipv6_also_with_link_local_addresses() {
    if !privileged() {
        return;
    }
    let pair = Pair::new();
    pair.a.ip("address add fe80::a/64 dev eth1 nodad");
    pair.b.ip("address add fe80::b/64 dev eth1 nodad");
    meet(
        &pair,
        vec![
            ucast(Some("eth1"), "fd00:1::1", "fd00:1::2"),
            ucast(Some("eth1"), "fe80::a", "fe80::b"),
        ],
        vec![
            ucast(None, "fd00:1::2", "fd00:1::1"),
            ucast(None, "fe80::b", "fe80::a"),
        ],
    );
}

#[test]
fn broadcast() {
    if !privileged() {
        return;
    }
    meet(&Pair::new(), vec![bcast("eth1")], vec![bcast("eth1")]);
}

#[test]
fn multicast_over_ipv4_and_ipv6() {
    if !privileged() {
        return;
    }
    let links = || {
        vec![
            mcast("eth1", "239.0.0.42"),
            mcast("eth1", "ff02::42"),
            mcast("eth1", "ff15::42"),
        ]
    };
    meet(&Pair::new(), links(), links());
}

#[test]
fn own_multicast_does_not_come_back() {
    if !privileged() {
        return;
    }
    let pair = Pair::new();
    for group in ["239.0.0.42", "ff02::42"] {
        let a = Node::start(&pair.a, vec![mcast("eth1", group)]);
        let b = Node::start(&pair.b, vec![mcast("eth1", group)]);
        a.wait_all_up(1);
        b.wait_all_up(1);
        a.reaches(&b, 1, "from a");
        b.send(b"from b");
        let first = loop {
            if let LinkEvent::Received { bytes, .. } = a.next() {
                break bytes;
            }
        };
        assert_eq!(first, b"from b");
    }
}

#[test]
fn many_links_on_one_port_each_get_their_own_datagrams_only() {
    if !privileged() {
        return;
    }
    let pair = Pair::new();
    pair.plug("eth2");
    let links = |own: u8, other: u8| {
        let address = |net: u8, end: u8| format!("10.0.{net}.{end}");
        vec![
            ucast(Some("eth1"), &address(1, own), &address(1, other)),
            bcast("eth1"),
            mcast("eth1", "239.0.0.42"),
            ucast(None, &address(2, own), &address(2, other)),
            bcast("eth2"),
            mcast("eth2", "239.0.0.42"),
            ucast(
                Some("eth1"),
                &format!("fd00:1::{own}"),
                &format!("fd00:1::{other}"),
            ),
            mcast("eth1", "ff02::42"),
        ]
    };
    let targets = [
        "10.0.1.1:694",
        "10.0.1.255:694",
        "239.0.0.42:694 by 10.0.1.2",
        "10.0.2.1:694",
        "10.0.2.255:694",
        "239.0.0.42:694 by 10.0.2.2",
        "[fd00:1::1]:694",
        "[ff02::42%1]:694",
    ];
    meet(&pair, links(1, 2), links(2, 1));

    let node = Node::start(&pair.a, links(1, 2));
    node.wait_all_up(8);
    for (number, target) in (0u16..).zip(targets) {
        let text = format!("only for {number}");
        pair.b.inside(|| send_once(target, text.as_bytes()));
        // What went astray would have come before this later one.
        pair.b.inside(|| send_once(targets[0], b"end"));
        let mut heard = Vec::new();
        while heard.last() != Some(&(0, "end".to_owned())) {
            if let LinkEvent::Received { link, bytes, .. } = node.next() {
                heard.push((link.0, String::from_utf8(bytes).unwrap()));
            }
        }
        heard.sort();
        let mut wanted = vec![(0, "end".to_owned()), (number, text)];
        wanted.sort();
        assert_eq!(heard, wanted);
    }
}

/// Sends from an ordinary socket; for a group, `by` names the address whose interface it leaves by.
fn send_once(target: &str, bytes: &[u8]) {
    let (target, source) = match target.split_once(" by ") {
        Some((target, source)) => (target, source),
        None if target.starts_with('[') => (target, "::"),
        None => (target, "0.0.0.0"),
    };
    let socket = UdpSocket::bind((source, 0)).unwrap();
    let reference = socket2::SockRef::from(&socket);
    if target.starts_with("[ff") {
        reference.bind_device(Some(b"eth1")).unwrap();
        let group = target.replace("%1", "");
        socket.send_to(bytes, group).unwrap();
        return;
    }
    if source == "0.0.0.0" {
        socket.set_broadcast(true).unwrap();
    } else if source != "::" {
        reference
            .set_multicast_if_v4(&source.parse().unwrap())
            .unwrap();
    }
    socket.send_to(bytes, target).unwrap();
}

#[test]
fn an_interface_that_is_missing_at_start_is_waited_for() {
    if !privileged() {
        return;
    }
    let pair = Pair::new();
    let links = |own: u8, other: u8| {
        vec![
            ucast(
                Some("eth2"),
                &format!("10.0.2.{own}"),
                &format!("10.0.2.{other}"),
            ),
            ucast(None, &format!("fd00:2::{own}"), &format!("fd00:2::{other}")),
            bcast("eth2"),
            mcast("eth2", "ff02::42"),
        ]
    };
    let (a, b) = (
        Node::start(&pair.a, links(1, 2)),
        Node::start(&pair.b, links(2, 1)),
    );
    for wanted in 0..4 {
        let (link, up, reason) = a.next_state();
        assert_eq!((link, up), (LinkId(wanted), false), "{reason}");
        assert!(reason.contains("eth2") || reason.contains("fd00:2::1"));
    }
    a.send(b"into the void");
    pair.plug("eth2");
    a.wait_all_up(4);
    b.wait_all_up(4);
    a.reaches(&b, 4, "from a");
    b.reaches(&a, 4, "from b");
}

#[test]
fn a_deleted_interface_is_reported_once_and_used_again_when_it_is_back() {
    if !privileged() {
        return;
    }
    let pair = Pair::new();
    let links = |own: u8, other: u8| {
        vec![
            ucast(
                Some("eth1"),
                &format!("10.0.1.{own}"),
                &format!("10.0.1.{other}"),
            ),
            bcast("eth1"),
            mcast("eth1", "239.0.0.42"),
            mcast("eth1", "ff02::42"),
        ]
    };
    let (a, b) = (
        Node::start(&pair.a, links(1, 2)),
        Node::start(&pair.b, links(2, 1)),
    );
    a.wait_all_up(4);
    b.wait_all_up(4);
    for round in 0..3 {
        pair.a.ip("link delete eth1");
        let mut gone = 0;
        while gone < 4 {
            let (_, up, reason) = a.next_state();
            assert!(!up, "{reason}");
            if reason == "there is no interface \"eth1\" yet" {
                gone += 1;
            }
        }
        a.send(b"into the void");
        pair.plug("eth1");
        a.wait_all_up(4);
        b.wait_all_up(4);
        a.reaches(&b, 4, &format!("from a in round {round}"));
        b.reaches(&a, 4, &format!("from b in round {round}"));
    }
}

#[test]
fn an_interface_that_is_replaced_at_once_under_the_same_index_is_bound_anew() {
    if !privileged() {
        return;
    }
    let pair = Pair::new();
    let links = || vec![bcast("eth9"), mcast("eth9", "239.0.0.42")];
    let make = || {
        pair.a.ip(&format!(
            "link add eth9 index 99 type veth peer name eth9 netns {} index 99",
            pair.b.name()
        ));
        pair.dress("eth9");
    };
    make();
    let (a, b) = (Node::start(&pair.a, links()), Node::start(&pair.b, links()));
    a.wait_all_up(2);
    b.wait_all_up(2);
    // Neither sees anything but the result, which looks like what was there before.
    a.while_standing_still(|| {
        b.while_standing_still(|| {
            pair.a.ip("link delete eth9");
            make();
        });
    });
    a.reaches(&b, 2, "from a");
    b.reaches(&a, 2, "from b");
}

#[test]
fn an_interface_set_down_and_a_pulled_cable_are_told_and_heal() {
    if !privileged() {
        return;
    }
    let pair = Pair::new();
    let (a, b) = (
        Node::start(&pair.a, vec![bcast("eth1")]),
        Node::start(&pair.b, vec![bcast("eth1")]),
    );
    a.wait_all_up(1);
    b.wait_all_up(1);
    pair.a.ip("link set eth1 down");
    assert_eq!(a.wait_state(0, false), "interface \"eth1\" is down");
    assert_eq!(b.wait_state(0, false), "interface \"eth1\" has no carrier");
    pair.a.ip("link set eth1 up");
    a.wait_state(0, true);
    b.wait_state(0, true);
    a.reaches(&b, 1, "from a");
    b.reaches(&a, 1, "from b");
}

#[test]
fn a_local_address_that_goes_and_returns_is_followed() {
    if !privileged() {
        return;
    }
    let pair = Pair::new();
    let a = Node::start(&pair.a, vec![ucast(None, "10.0.1.1", "10.0.1.2")]);
    let b = Node::start(&pair.b, vec![ucast(None, "10.0.1.2", "10.0.1.1")]);
    a.wait_all_up(1);
    b.wait_all_up(1);
    pair.a.ip("address del 10.0.1.1/24 dev eth1");
    assert_eq!(
        a.wait_state(0, false),
        "no interface has the address 10.0.1.1 yet"
    );
    pair.a.ip("address add 10.0.1.1/24 dev eth1");
    a.wait_state(0, true);
    a.reaches(&b, 1, "from a");
    b.reaches(&a, 1, "from b");
}

#[test]
fn a_changed_network_changes_the_broadcast_address() {
    if !privileged() {
        return;
    }
    let pair = Pair::new();
    let (a, b) = (
        Node::start(&pair.a, vec![bcast("eth1")]),
        Node::start(&pair.b, vec![bcast("eth1")]),
    );
    a.wait_all_up(1);
    b.wait_all_up(1);
    pair.b.ip("address flush dev eth1 scope global");
    pair.b.ip("address add 172.20.0.2/16 dev eth1");
    pair.a.ip("address add 172.20.0.1/16 dev eth1");
    pair.a.ip("address del 10.0.1.1/24 dev eth1");
    // Before the change this would go to 10.0.1.255, which the other no longer takes for a broadcast.
    a.reaches(&b, 1, "from a");
    b.reaches(&a, 1, "from b");
}

#[test]
fn an_address_under_duplicate_detection_is_waited_for() {
    if !privileged() {
        return;
    }
    let pair = Pair::new();
    for (namespace, end) in [(&pair.a, 1), (&pair.b, 2)] {
        namespace.ip(&format!("address add fd00:77::{end}/64 dev eth1"));
    }
    meet(
        &pair,
        vec![ucast(Some("eth1"), "fd00:77::1", "fd00:77::2")],
        vec![ucast(Some("eth1"), "fd00:77::2", "fd00:77::1")],
    );
}

#[test]
fn a_port_that_another_program_holds_is_waited_for() {
    if !privileged() {
        return;
    }
    let pair = Pair::new();
    let holder = pair
        .a
        .inside(|| UdpSocket::bind(("10.0.1.1", PORT)).unwrap());
    let a = Node::start(
        &pair.a,
        vec![ucast(Some("eth1"), "10.0.1.1", "10.0.1.2"), bcast("eth1")],
    );
    assert_eq!(
        a.wait_state(0, false),
        "another program has 10.0.1.1:694 for itself"
    );
    drop(holder);
    a.wait_state(0, true);
}

#[test]
fn refused_datagrams_are_counted_told_and_not_fatal() {
    if !privileged() {
        return;
    }
    let pair = Pair::new();
    let a = Node::start(&pair.a, vec![ucast(None, "10.0.1.1", "10.0.1.2")]);
    let b = Node::start(&pair.b, vec![ucast(None, "10.0.1.2", "10.0.1.1")]);
    a.wait_all_up(1);
    b.wait_all_up(1);
    pair.a.ip("route add unreachable 10.0.1.2/32");
    let reason = loop {
        a.send(b"refused");
        match a.next_soon() {
            Some(LinkEvent::State {
                up: false, reason, ..
            }) => break reason,
            Some(LinkEvent::State { up: true, .. } | LinkEvent::Received { .. }) | None => {}
        }
    };
    assert!(
        reason.starts_with("the kernel refuses to send: "),
        "{reason}"
    );
    assert!(a.counters()[0].send_errors > 0);
    pair.a.ip("route del unreachable 10.0.1.2/32");
    a.reaches(&b, 1, "from a");
    a.wait_state(0, true);
}

#[test]
fn a_missing_carrier_is_this_machine_s_own_trouble_except_on_a_direct_cable() {
    if !privileged() {
        return;
    }
    for direct in [false, true] {
        let pair = Pair::new();
        let link = ha_node::config::model::Link {
            direct,
            ..ucast(Some("eth1"), "10.0.1.1", "10.0.1.2")
        };
        let a = Node::start(&pair.a, vec![link]);
        a.wait_all_up(1);
        pair.b.ip("link set eth1 down");
        let reason = loop {
            if let LinkEvent::State {
                up: false,
                able,
                reason,
                ..
            } = a.next()
            {
                assert_eq!(able, direct, "{reason}");
                break reason;
            }
        };
        assert_eq!(reason, "interface \"eth1\" has no carrier");
        pair.a.ip("addr flush dev eth1");
        let (up, able) = loop {
            if let LinkEvent::State {
                up, able, reason, ..
            } = a.next()
                && reason.contains("no address")
            {
                break (up, able);
            }
        };
        assert!(!up && !able, "the address is this machine's own business");
    }
}

#[test]
fn datagrams_to_a_port_where_nobody_listens_harm_nothing() {
    if !privileged() {
        return;
    }
    let pair = Pair::new();
    let a = Node::start(&pair.a, vec![ucast(Some("eth1"), "10.0.1.1", "10.0.1.2")]);
    a.wait_all_up(1);
    for _ in 0..100 {
        a.send(b"to a closed port: the peer answers by ICMP");
    }
    let counters = a.counters()[0];
    assert_eq!((counters.sent, counters.send_errors), (100, 0));
    let b = Node::start(&pair.b, vec![ucast(Some("eth1"), "10.0.1.2", "10.0.1.1")]);
    b.wait_all_up(1);
    a.reaches(&b, 1, "from a");
    b.reaches(&a, 1, "from b");
}

#[test]
fn the_largest_datagram_passes_and_a_larger_one_is_counted() {
    if !privileged() {
        return;
    }
    let pair = Pair::new();
    let (a, b) = (
        Node::start(&pair.a, vec![bcast("eth1")]),
        Node::start(&pair.b, vec![bcast("eth1")]),
    );
    a.wait_all_up(1);
    b.wait_all_up(1);
    let largest = "x".repeat(65_507);
    a.reaches(&b, 1, &largest);
    assert_eq!(a.counters()[0].send_errors, 0);
    a.send(format!("{largest}x").as_bytes());
    assert_eq!(a.counters()[0].send_errors, 1);
}
