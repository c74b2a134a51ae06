//! What a `vip` resource can be told, on a real kernel: many addresses at once, options, routes, foreign owners,
//! and interfaces of other kinds.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what fails here shall fail the test"
)]

mod resource_support;

use ha_node::core::io::{GroupOutcome, Lease, Urgency};
use ha_node::ids::RequestId;
use ha_node::resource::frame::{Mac, announcement};
use ha_node::resource::netlink::interface_index;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, bind, recv, send, socket,
};
use resource_support::{Stage, VIP4, VIP6, can, has, in_namespace, ip, listen, received, shown};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, SystemTime};
use tokio::time::{sleep, timeout};

/// Of the machine that has the address already.
const FOREIGN: Mac = [0x02, 0, 0, 0xbe, 0xef, 0x01];

fn vip(options: &str) -> String {
    format!("vip = \"{VIP4}/24\", interface = \"v0\", {options}")
}

/// The addresses of an interface whose names begin so.
fn count(start: &str) -> usize {
    shown("-o addr show dev v0").matches(start).count()
}

/// A packet socket on an interface, for one protocol (none: for sending only).
fn packet_socket(interface: &str) -> OwnedFd {
    let index = usize::try_from(interface_index(interface).unwrap()).unwrap();
    let link = getifaddrs()
        .unwrap()
        .filter_map(|interface| interface.address?.as_link_addr().copied())
        .find(|link| link.ifindex() == index)
        .unwrap();
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None).unwrap();
    assert!(link.len() > 0);
    bind(socket.as_raw_fd(), &link).unwrap();
    socket
}

/// A machine behind `v1` that says to have the address.
fn claim(address: &str, mac: Mac) {
    let socket = packet_socket("v1");
    let address: IpAddr = address.parse().unwrap();
    for frame in announcement(address, mac, false) {
        send(socket.as_raw_fd(), &frame, MsgFlags::empty()).unwrap();
    }
}

/// Answers the first probe for each of the two addresses, as their owner would.
fn answer_probes() -> std::thread::JoinHandle<()> {
    let hears = listen();
    let answers = packet_socket("v1");
    let mut left: Vec<IpAddr> = vec![VIP4.parse().unwrap(), VIP6.parse().unwrap()];
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while !left.is_empty() {
            let Ok(length) = recv(hears.as_raw_fd(), &mut buffer, MsgFlags::empty()) else {
                return;
            };
            let frame = buffer.get(..length).unwrap();
            let Some(asked) = left.iter().position(|address| probes(frame, *address)) else {
                continue;
            };
            for frame in announcement(left.remove(asked), FOREIGN, false) {
                let _ = send(answers.as_raw_fd(), &frame, MsgFlags::empty());
            }
        }
    })
}

/// Whether a frame asks for an address without naming a sender.
fn probes(frame: &[u8], address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            frame.get(12..14) == Some(&[8, 6])
                && frame.get(28..32) == Some(&[0; 4])
                && frame.get(38..42) == Some(&address.octets())
        }
        IpAddr::V6(address) => {
            frame.get(54) == Some(&135)
                && frame.get(22..38) == Some(&[0; 16])
                && frame.get(62..78) == Some(&address.octets())
        }
    }
}

#[test]
fn five_hundred_addresses_come_and_go_as_one_burst() {
    in_namespace(|| async {
        ip("addr add 10.9.0.1/16 dev v0");
        let set = "vip = [\"10.9.4.1-10.9.5.244/16\", \"fd09::1:1-fd09::1:c\"], interface = \"v0\"";
        let set = set.replace(":c\"", ":c/64\"");
        let mut stage = Stage::of(&[&set]).await;
        let begin = SystemTime::now();
        assert_eq!(stage.start().await, GroupOutcome::Started);
        let up = begin.elapsed().unwrap();
        assert_eq!(
            (count("10.9.4.") + count("10.9.5."), count("fd09::1:")),
            (500, 12)
        );
        // Their own notices come back as a burst, too, and change nothing.
        assert!(
            timeout(Duration::from_millis(300), stage.note())
                .await
                .is_err()
        );
        let begin = SystemTime::now();
        assert_eq!(stage.stop().await, GroupOutcome::Stopped);
        let down = begin.elapsed().unwrap();
        assert_eq!(count("10.9.4.") + count("10.9.5.") + count("fd09::1:"), 0);
        eprintln!("512 addresses: up in {up:?}, down in {down:?}");
        assert_eq!(stage.start().await, GroupOutcome::Started);
        stage.guard.set(Lease::None);
        stage
            .hands
            .stop_group(&stage.group, RequestId(9), Urgency::LeaseLost);
        assert_eq!(count("10.9.4.") + count("10.9.5.") + count("fd09::1:"), 0);
    });
}

#[test]
fn a_burst_that_somebody_removes_is_put_back_and_told_in_few_words() {
    in_namespace(|| async {
        let set = "vip = \"10.9.0.10-10.9.0.209/24\", interface = \"v0\"";
        let mut stage = Stage::of(&[set]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
        ip("addr flush dev v0");
        let mut notes = vec![stage.note().await];
        while let Ok(note) = timeout(Duration::from_millis(300), stage.note()).await {
            notes.push(note);
        }
        assert!(
            notes.iter().all(|note| note.contains("put back")),
            "{notes:?}"
        );
        assert!(notes.len() < 20, "{notes:?}");
        assert_eq!(count("10.9.0."), 200);
    });
}

#[test]
fn a_foreign_owner_is_overruled_at_once_and_named() {
    in_namespace(|| async {
        let thread = answer_probes();
        let six = format!("vip = \"{VIP6}/64\", interface = \"v0\"");
        let mut stage = Stage::of(&[&vip("id = \"four\""), &six]).await;
        let begin = SystemTime::now();
        assert_eq!(stage.start().await, GroupOutcome::Started);
        assert!(begin.elapsed().unwrap() < Duration::from_millis(100));
        let notes = [stage.note().await, stage.note().await].concat();
        assert!(notes.matches("02:00:00:be:ef:01").count() == 2, "{notes}");
        assert!(notes.contains(VIP4) && notes.contains(VIP6), "{notes}");
        thread.join().unwrap();
    });
}

#[test]
fn a_foreign_owner_is_respected_where_that_is_asked_for() {
    in_namespace(|| async {
        let thread = answer_probes();
        for address in [format!("{VIP4}/24"), format!("{VIP6}/64")] {
            let set = format!("vip = \"{address}\", interface = \"v0\", on_conflict = \"refuse\"");
            let mut stage = Stage::of(&[&set]).await;
            let outcome = stage.start().await;
            let GroupOutcome::StartFailed { reason, .. } = outcome else {
                panic!("{outcome:?}");
            };
            assert!(reason.contains("02:00:00:be:ef:01"), "{reason}");
        }
        assert!(!has(VIP4, 24) && !has(VIP6, 64));
        thread.join().unwrap();
        // Each was answered once: nobody claims them any more.
        let four = vip("on_conflict = \"refuse\"");
        let mut stage = Stage::of(&[&four]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
    });
}

#[test]
fn a_duplicate_is_told_and_answered_but_not_again_and_again() {
    in_namespace(|| async {
        let mut stage = Stage::new(&[(VIP4, 24, "v0"), (VIP6, 64, "v0")]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
        // After the repeats of the start only an answer is heard.
        sleep(Duration::from_millis(1_200)).await;
        let socket = listen();
        claim(VIP4, FOREIGN);
        assert!(stage.note().await.contains("02:00:00:be:ef:01"));
        let is_ours = |frame: &[u8]| {
            frame.get(12..14) == Some(&[8, 6])
                && frame.get(28..32) == Some(&[10, 9, 0, 99])
                && frame.get(6..12) != Some(&FOREIGN)
        };
        received(&socket, is_ours);
        claim(VIP6, FOREIGN);
        assert!(stage.note().await.contains(VIP6));
        for _ in 0..100 {
            claim(VIP4, FOREIGN);
        }
        let own = getifaddrs().unwrap();
        let own = own
            .filter(|interface| interface.interface_name == "v1")
            .find_map(|interface| interface.address?.as_link_addr()?.addr())
            .unwrap();
        claim(VIP4, own);
        let more = timeout(Duration::from_millis(300), stage.note()).await;
        assert!(more.is_err(), "{more:?}");
        assert_eq!(stage.stop().await, GroupOutcome::Stopped);
        claim(VIP4, FOREIGN);
        assert!(
            timeout(Duration::from_millis(100), stage.note())
                .await
                .is_err()
        );
    });
}

#[test]
fn a_carrier_that_stays_away_fails_the_group_and_a_flap_does_not() {
    in_namespace(|| async {
        let mut stage = Stage::new(&[(VIP4, 24, "v0"), (VIP6, 64, "v0")]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
        ip("link set v1 down");
        sleep(Duration::from_millis(300)).await;
        ip("link set v1 up");
        for expected in ["without carrier", "without carrier", "again", "again"] {
            let note = stage.note().await;
            assert!(note.contains(expected), "{note}");
        }
        let quiet = timeout(Duration::from_millis(1_300), stage.note_or_outcome()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        ip("link set v0 down");
        let outcome = stage.outcome().await;
        let GroupOutcome::Failed { reason, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(reason.contains("carrier"), "{reason}");
        assert_eq!(stage.stop().await, GroupOutcome::Stopped);
        let outcome = stage.start().await;
        let GroupOutcome::StartFailed { reason, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(reason.contains("ip link set v0 up"), "{reason}");
    });
}

#[test]
fn where_a_start_finds_no_carrier_the_address_waits_for_it() {
    in_namespace(|| async {
        ip("link set v1 down");
        let mut stage = Stage::of(&[&vip("on_conflict = \"refuse\"")]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
        assert!(stage.note().await.contains("no carrier"));
        let quiet = timeout(Duration::from_millis(1_300), stage.note_or_outcome()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        let socket = listen();
        ip("link set v1 up");
        assert!(stage.note().await.contains("again"));
        received(&socket, |frame| frame.get(28..32) == Some(&[10, 9, 0, 99]));
    });
}

#[test]
fn options_say_what_an_address_is_called_and_who_may_use_it() {
    in_namespace(|| async {
        let four = vip("label = \"v0:web\", source = true");
        let six = format!("vip = \"{VIP6}/64\", interface = \"v0\", source = true");
        let mut stage = Stage::of(&[&four, &six]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
        let shown4 = shown("-4 addr show dev v0 to 10.9.0.99");
        assert!(
            shown4.contains("v0:web") && !shown4.contains("noprefixroute"),
            "{shown4}"
        );
        let shown6 = shown("-6 addr show dev v0 to fd09::99");
        assert!(!shown6.contains("deprecated"), "{shown6}");
        assert!(shown("-6 route get fd09::1").contains(VIP6));
        ip("addr del 10.9.0.99/24 dev v0");
        assert!(stage.note().await.contains(VIP4));
        assert!(shown("-4 addr show dev v0").contains("v0:web"), "as it was");
        assert_eq!(stage.stop().await, GroupOutcome::Stopped);
        assert!(!has(VIP4, 24) && !has(VIP6, 64));
    });
}

#[test]
fn routes_come_and_go_with_their_address_and_others_stay() {
    in_namespace(|| async {
        ip("route add 192.0.2.0/24 via 10.9.0.3");
        let routes = "route = [\"default via 10.9.0.254\", \"198.51.100.0/24\", \"192.0.2.0/24 via 10.9.0.3\"]";
        let six = format!(
            "vip = \"{VIP6}/64\", interface = \"v0\", source = true, route = \"default via fd09::1\""
        );
        let mut stage = Stage::of(&[&vip(routes), &six]).await;
        assert_eq!(stage.start().await, GroupOutcome::Started);
        let there = shown("route show");
        assert!(
            there.contains("default via 10.9.0.254 dev v0 proto 182"),
            "{there}"
        );
        assert!(
            there.contains("198.51.100.0/24 dev v0 proto 182 scope link"),
            "{there}"
        );
        let there = shown("-6 route show default");
        assert!(
            there.contains("via fd09::1 dev v0 proto 182 src fd09::99"),
            "{there}"
        );
        assert_eq!(
            stage.start().await,
            GroupOutcome::Started,
            "again is success"
        );
        // An interface that was down and up has lost them.
        ip("link set v0 down");
        ip("link set v0 up");
        ip("route add 192.0.2.0/24 via 10.9.0.3");
        while !stage.note().await.contains("again") {}
        while !shown("-6 route show default").contains("fd09::1") {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(shown("route show").contains("default via 10.9.0.254 dev v0 proto 182"));
        assert_eq!(stage.stop().await, GroupOutcome::Stopped);
        let left = shown("route show");
        assert!(left.contains("192.0.2.0/24 via 10.9.0.3"), "{left}");
        assert!(
            !left.contains("default") && !left.contains("198.51"),
            "{left}"
        );
        assert!(!shown("-6 route show").contains("default"));
    });
}

#[test]
fn a_route_that_leads_elsewhere_already_is_not_replaced() {
    in_namespace(|| async {
        ip("route add default via 10.9.0.3");
        let mut stage = Stage::of(&[&vip("route = \"default via 10.9.0.254\"")]).await;
        let outcome = stage.start().await;
        let GroupOutcome::StartFailed { reason, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(reason.contains("another route"), "{reason}");
        assert!(!has(VIP4, 24), "rolled back");
        assert!(shown("route show").contains("default via 10.9.0.3"));
        ip("route del default");
        let mut stage = Stage::of(&[&vip("route = \"default via 172.16.0.1\"")]).await;
        let outcome = stage.start().await;
        let GroupOutcome::StartFailed { reason, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(reason.contains("gateway"), "{reason}");
    });
}

/// An interface made of `v0`, or beside it.
async fn works_on(interface: &str) {
    let set = format!(
        "vip = [\"10.8.0.99/24\", \"fd08::99/64\"], interface = \"{interface}\", route = \"192.0.2.0/24 via 10.8.0.1\""
    );
    let mut stage = Stage::of(&[&set]).await;
    let socket = listen();
    assert_eq!(stage.start().await, GroupOutcome::Started, "{interface}");
    received(&socket, |frame| {
        frame.windows(4).any(|four| four == [10, 8, 0, 99])
    });
    let there = shown(&format!("addr show dev {interface}"));
    assert!(
        there.contains("10.8.0.99/24") && there.contains("fd08::99/64"),
        "{there}"
    );
    ip(&format!("addr flush dev {interface}"));
    assert!(stage.note().await.contains("put back"), "{interface}");
    ip("link set v1 down");
    while !stage.note().await.contains("without carrier") {}
    ip("link set v1 up");
    while !stage.note().await.contains("again") {}
    ip(&format!("link del {interface}"));
    let outcome = stage.outcome().await;
    assert!(
        matches!(outcome, GroupOutcome::Failed { .. }),
        "{interface}: {outcome:?}"
    );
    assert_eq!(stage.stop().await, GroupOutcome::Stopped);
}

#[test]
fn a_vlan_carries_addresses() {
    in_namespace(|| async {
        if !can("link add link v0 name v0.7 type vlan id 7") {
            eprintln!("SKIPPED: this kernel has no VLAN interfaces");
            return;
        }
        ip("link set v0.7 up");
        works_on("v0.7").await;
    });
}

#[test]
fn a_macvlan_carries_addresses() {
    in_namespace(|| async {
        ip("link add link v0 name mv0 type macvlan mode bridge");
        ip("link set mv0 up");
        works_on("mv0").await;
    });
}

#[test]
fn a_bridge_carries_addresses() {
    in_namespace(|| async {
        ip("link add br0 type bridge forward_delay 0");
        ip("link set v0 master br0");
        ip("link set br0 up");
        sleep(Duration::from_millis(200)).await;
        works_on("br0").await;
    });
}
