//! Figures, not checks: `cargo test --test link_measure -- --ignored --nocapture --test-threads=1`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "measures by the clock, and fails like a test"
)]

mod link_support;

use ha_node::config::model::Link;
use ha_node::link::{LinkEvent, Links};
use link_support::*;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const ROUNDS: usize = 30;

fn thread_cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap(),
        u32::try_from(now.tv_nsec).unwrap(),
    )
}

fn in_loop<F: Future<Output = ()>>(namespace: &Namespace, work: impl FnOnce() -> F + Send) {
    namespace.inside(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work());
    });
}

async fn started(config: &[Link]) -> (Links, mpsc::Receiver<LinkEvent>) {
    let (events, mut taken) = mpsc::channel(256);
    let links = Links::start(config, events);
    let mut missing = config.len();
    while missing > 0 {
        if let Some(LinkEvent::State { up: true, .. }) = taken.recv().await {
            missing -= 1;
        }
    }
    (links, taken)
}

#[test]
#[ignore = "prints a figure"]
fn time_from_an_interface_with_its_address_to_a_link_that_is_up() {
    let pair = Pair::new();
    pair.cable("eth2");
    pair.b.ip("link set eth2 up");
    pair.a.ip("address add 10.0.2.1/24 dev eth2");
    let node = Node::start(&pair.a, vec![bcast("eth2")]);
    node.wait_state(0, false);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let index = pair.a.inside(|| {
            let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            text.contains("eth2")
        });
        assert!(index);
        let start = Instant::now();
        pair.a.ip("link set eth2 up");
        let program = start.elapsed();
        node.wait_state(0, true);
        times.push((start.elapsed(), program));
        pair.a.ip("link set eth2 down");
        node.wait_state(0, false);
        std::thread::sleep(Duration::from_millis(50));
    }
    times.sort();
    let (up, program) = times[ROUNDS / 2];
    let (worst, _) = times[ROUNDS - 1];
    println!("set up to State up: median {up:?} (of which ip itself {program:?}), worst {worst:?}");
}

#[test]
#[ignore = "prints a figure"]
fn time_from_creation_to_up() {
    let pair = Pair::new();
    let node = Node::start(&pair.a, vec![bcast("eth2")]);
    node.wait_state(0, false);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        pair.plug("eth2");
        let made = start.elapsed();
        node.wait_state(0, true);
        times.push(start.elapsed().saturating_sub(made));
        pair.a.ip("link delete eth2");
        while node.wait_state(0, false) != "there is no interface \"eth2\" yet" {}
    }
    times.sort();
    println!(
        "after the last ip command to State up: median {:?}, worst {:?}",
        times[ROUNDS / 2],
        times[ROUNDS - 1]
    );
}

#[test]
#[ignore = "prints a figure"]
fn processor_time_of_a_send() {
    let pair = Pair::new();
    let sink = pair
        .b
        .inside(|| std::net::UdpSocket::bind(("0.0.0.0", PORT)).unwrap());
    for (kind, link) in [
        ("ucast", ucast(Some("eth1"), "10.0.1.1", "10.0.1.2")),
        ("bcast", bcast("eth1")),
        ("mcast", mcast("eth1", "239.0.0.42")),
        ("ucast6", ucast(None, "fd00:1::1", "fd00:1::2")),
    ] {
        in_loop(&pair.a, || async move {
            let (links, _taken) = started(&[link]).await;
            let message = [0x55; 300];
            let before = thread_cpu();
            for _ in 0..50_000 {
                links.send(&message);
            }
            let each = (thread_cpu() - before) / 50_000;
            println!("send over {kind}: {each:?}, {:?}", links.counters()[0]);
        });
    }
    drop(sink);
}

#[test]
#[ignore = "prints a figure"]
fn processor_time_of_idling() {
    let pair = Pair::new();
    for addresses in [0, 500] {
        for number in 0..addresses {
            let (high, low) = (number / 250, number % 250 + 1);
            pair.a
                .ip(&format!("address add 172.16.{high}.{low}/32 dev eth1"));
        }
        in_loop(&pair.a, || async {
            let (_links, _taken) = started(&[bcast("eth1"), mcast("eth1", "239.0.0.42")]).await;
            let before = thread_cpu();
            tokio::time::sleep(Duration::from_secs(10)).await;
            let each = (thread_cpu() - before) / 10;
            println!("idle with {addresses} more addresses: {each:?} per second");
        });
    }
}
