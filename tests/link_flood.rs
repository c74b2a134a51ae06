//! A flood of datagrams on one link: memory stays bounded, the loop alive, the other link heard.

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

const FLOOD: usize = 100_000;

fn flood(pair: &Pair, target: &str) {
    pair.b.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let junk = [0x55; 1000];
        for _ in 0..FLOOD {
            // A full queue is part of the flood.
            let _ = socket.send_to(&junk, target);
        }
    });
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Whether the socket of that address (10.0.2.1:694 in the kernel's notation) has something to read.
fn waits_in_the_kernel(pair: &Pair, address: &str) -> bool {
    let sockets = pair
        .a
        .inside(|| std::fs::read_to_string("/proc/thread-self/net/udp").unwrap());
    let line = sockets.lines().find(|l| l.contains(address)).unwrap();
    let queues = line.split_whitespace().nth(4).unwrap();
    !queues.ends_with(":00000000")
}

#[test]
fn a_flood_on_one_link_does_not_grow_memory_or_silence_the_other() {
    if !privileged() {
        return;
    }
    let pair = Pair::new();
    pair.plug("eth2");
    let node = Node::start(
        &pair.a,
        vec![
            ucast(Some("eth1"), "10.0.1.1", "10.0.1.2"),
            ucast(Some("eth2"), "10.0.2.1", "10.0.2.2"),
        ],
    );
    let peer = Node::start(&pair.b, vec![ucast(Some("eth2"), "10.0.2.2", "10.0.2.1")]);
    node.wait_all_up(2);
    peer.wait_all_up(1);

    // Nobody takes events: the worst case for memory.
    node.take_events(false);
    let before = resident_kib();
    flood(&pair, "10.0.1.1:694");
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "grown by {grown} KiB");

    // The loop is alive, and sends although it cannot report.
    node.send(b"still here");
    let counters = node.counters();
    assert_eq!((counters[1].sent, counters[1].send_errors), (1, 0));
    assert!(
        counters[0].received <= CAPACITY as u64,
        "no more than there is room for: {counters:?}"
    );

    // One datagram on the quiet link overtakes what the flood left in its own link's buffer.
    peer.send(b"heartbeat");
    while !waits_in_the_kernel(&pair, "0102000A:02B6") {}
    node.take_events(true);
    let mut of_flood = 0;
    loop {
        if let LinkEvent::Received { link, bytes, .. } = node.next() {
            if link == LinkId(1) {
                assert_eq!(bytes, b"heartbeat");
                break;
            }
            of_flood += 1;
        }
    }
    assert!(
        of_flood <= CAPACITY + 32,
        "heard only after {of_flood} datagrams of the flood"
    );

    // The kernel tells what it dropped with what comes next.
    while node.counters()[0].dropped == 0 {
        flood_some(&pair);
    }
}

fn flood_some(pair: &Pair) {
    pair.b.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let _ = socket.send_to(b"junk", "10.0.1.1:694");
    });
}
