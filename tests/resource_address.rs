//! Virtual addresses on a real kernel: each test in a network namespace of its own with a pair of
//! virtual Ethernet interfaces, `v0` that carries the addresses and `v1` that listens.

#![expect(
    clippy::indexing_slicing,
    reason = "what fails here shall fail the test"
)]

mod resource_support;

use ha_node::core::io::{GroupOutcome, Lease, Urgency};
use ha_node::ids::RequestId;
use resource_support::{Stage, VIP4, VIP6, has, in_namespace, ip, listen, received, shown};
use std::net::IpAddr;

fn is_arp(frame: &[u8]) -> bool {
    frame[12..14] == [8, 6] && frame[28..32] == [10, 9, 0, 99]
}

fn is_advertisement(frame: &[u8]) -> bool {
    frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 136
}

#[test]
fn addresses_come_and_go_and_the_machines_own_stay() {
    in_namespace(|| async {
        let mut stage = Stage::new(&[(VIP4, 24, "v0"), (VIP6, 64, "v0")]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
        assert!(has(VIP4, 24) && has(VIP6, 64));
        let four = shown("-4 addr show dev v0");
        assert!(
            four.contains("10.9.0.99/24 scope global secondary noprefixroute"),
            "{four}"
        );
        let six = shown("-6 addr show dev v0 to fd09::99");
        assert!(six.contains("nodad") && six.contains("deprecated"), "{six}");
        assert!(
            !six.contains("tentative") && six.contains("valid_lft forever"),
            "{six}"
        );
        assert_eq!(
            stage.start().await,
            GroupOutcome::Started,
            "again is success"
        );
        assert_eq!(stage.stop().await, GroupOutcome::Stopped);
        assert!(!has(VIP4, 24) && !has(VIP6, 64) && has("10.9.0.1", 24));
        assert_eq!(
            stage.stop().await,
            GroupOutcome::Stopped,
            "again is success"
        );
    });
}

#[test]
fn an_address_that_has_no_neighbour_on_the_interface_brings_its_route() {
    in_namespace(|| async {
        let mut stage = Stage::new(&[("10.8.0.99", 24, "v0"), ("10.8.0.98", 24, "v0")]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
        let routes = shown("route show");
        assert!(routes.contains("10.8.0.0/24 dev v0"), "{routes}");
        assert!(!shown("addr show dev v0").contains("noprefixroute"));
    });
}

#[test]
fn an_added_address_is_announced_to_the_neighbours_at_once() {
    in_namespace(|| async {
        let socket = listen();
        let mut stage = Stage::new(&[(VIP4, 24, "v0"), (VIP6, 64, "v0")]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
        let request = received(&socket, is_arp);
        let reply = received(&socket, is_arp);
        let advertisement = received(&socket, is_advertisement);
        let mac = &request[6..12];
        assert_eq!(request[..6], [0xff; 6]);
        assert_eq!((request[21], reply[21]), (1, 2));
        assert_eq!(request[22..28], *mac);
        assert_eq!(request[38..42], [10, 9, 0, 99]);
        let address: IpAddr = VIP6.parse().unwrap();
        let IpAddr::V6(address) = address else {
            panic!()
        };
        assert_eq!(advertisement[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(advertisement[21], 255, "hop limit");
        assert_eq!(advertisement[22..38], address.octets(), "source");
        assert_eq!(advertisement[58] & 0xe0, 0x20, "override, unsolicited");
        assert_eq!(advertisement[80..86], *mac);
        stage.hands.announce(&stage.group);
        assert_eq!(received(&socket, is_arp)[21], 1);
    });
}

#[test]
fn an_address_that_somebody_removes_is_put_back_and_announced() {
    in_namespace(|| async {
        let mut stage = Stage::new(&[(VIP4, 24, "v0"), (VIP6, 64, "v0")]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
        ip("addr del 10.9.0.99/24 dev v0");
        assert!(stage.note().await.contains(VIP4));
        assert!(has(VIP4, 24));
        ip("addr del fd09::99/64 dev v0");
        assert!(stage.note().await.contains(VIP6));
        assert!(has(VIP6, 64));
        ip("addr flush dev v0");
        let notes = [stage.note().await, stage.note().await].concat();
        assert!(notes.contains(VIP4) && notes.contains(VIP6), "{notes}");
        assert!(has(VIP4, 24) && has(VIP6, 64));
    });
}

#[test]
fn an_address_that_is_removed_again_and_again_has_failed() {
    in_namespace(|| async {
        let mut stage = Stage::new(&[(VIP4, 24, "v0")]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
        let outcome = loop {
            ip("addr flush to 10.9.0.99/32 dev v0");
            match stage.note_or_outcome().await {
                Ok(_) => {}
                Err(outcome) => break outcome,
            }
        };
        assert!(
            matches!(outcome, GroupOutcome::Failed { .. }),
            "{outcome:?}"
        );
    });
}

#[test]
fn an_interface_that_goes_takes_the_group_down() {
    in_namespace(|| async {
        let mut stage = Stage::new(&[(VIP4, 24, "v0"), (VIP6, 64, "v0")]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
        ip("link del v0");
        for _ in [VIP4, VIP6] {
            let outcome = stage.outcome().await;
            let GroupOutcome::Failed { reason, .. } = outcome else {
                panic!("{outcome:?}");
            };
            assert!(reason.contains("v0"), "{reason}");
        }
        assert_eq!(stage.stop().await, GroupOutcome::Stopped);
        let outcome = stage.start().await;
        assert!(
            matches!(outcome, GroupOutcome::StartFailed { .. }),
            "{outcome:?}"
        );
    });
}

#[test]
fn a_lost_carrier_is_told_and_addresses_are_back_with_it() {
    in_namespace(|| async {
        let mut stage = Stage::new(&[(VIP4, 24, "v0"), (VIP6, 64, "v0")]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
        ip("link set v1 down");
        assert!(stage.note().await.contains("carrier"));
        ip("link set v0 down");
        ip("link set v0 up");
        ip("link set v1 up");
        while !stage.note().await.contains("again") {}
        assert!(has(VIP4, 24) && has(VIP6, 64));
    });
}

#[test]
fn a_lost_lease_removes_addresses_before_the_order_returns() {
    in_namespace(|| async {
        let mut stage = Stage::new(&[(VIP4, 24, "v0"), (VIP6, 64, "v0")]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
        stage.guard.set(Lease::None);
        stage
            .hands
            .stop_group(&stage.group, RequestId(9), Urgency::LeaseLost);
        assert!(!has(VIP4, 24) && !has(VIP6, 64));
        assert_eq!(stage.outcome().await, GroupOutcome::Stopped);
    });
}

#[test]
fn without_a_lease_nothing_is_put_back_or_taken() {
    in_namespace(|| async {
        let mut stage = Stage::new(&[(VIP4, 24, "v0")]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
        stage.guard.set(Lease::None);
        ip("addr del 10.9.0.99/24 dev v0");
        assert_eq!(stage.start().await, GroupOutcome::StartRefused);
        assert!(!has(VIP4, 24));
    });
}

#[test]
fn a_stop_cleans_up_after_an_earlier_life_but_takes_exactly_what_is_configured() {
    in_namespace(|| async {
        let vips = [(VIP4, 24, "v0"), (VIP6, 64, "v0"), ("10.9.0.98", 24, "v9")];
        let mut stage = Stage::new(&vips).await;
        ip("addr add 10.9.0.99/24 dev v0");
        ip("addr add 10.9.0.99/32 dev v0");
        ip("addr add fd09::99/64 dev v0");
        assert_eq!(stage.stop().await, GroupOutcome::Stopped);
        assert!(!has(VIP4, 24) && !has(VIP6, 64) && has(VIP4, 32));
    });
}

#[test]
fn an_address_with_another_prefix_is_not_adopted() {
    in_namespace(|| async {
        let mut stage = Stage::new(&[(VIP4, 24, "v0"), (VIP6, 64, "v0")]).await;
        ip("addr add fd09::99/128 dev v0 nodad");
        let outcome = stage.start().await;
        let GroupOutcome::StartFailed { resource, reason } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(resource, format!("vip:{VIP6}"));
        assert!(reason.contains("prefix"), "{reason}");
        assert!(!has(VIP4, 24), "rolled back");
    });
}

#[test]
fn an_address_of_a_renamed_interface_is_removed_nevertheless() {
    in_namespace(|| async {
        let mut stage = Stage::new(&[(VIP4, 24, "v0")]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
        ip("link set v0 name v5");
        assert_eq!(stage.stop().await, GroupOutcome::Stopped);
        assert!(!shown("addr show dev v5").contains(VIP4));
    });
}
