//! Two machines' networks as two fresh network namespaces, and a node's link layer on a thread inside each.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "tests may run programs, stand still and fail"
)]

use ha_node::config::model::{Link, Transport};
use ha_node::ids::{LinkId, NodeName};
use ha_node::link::{LinkCounters, LinkEvent, Links};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc as sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;

/// Generous: nothing here takes longer than two seconds on an idle machine.
pub const LIMIT: Duration = Duration::from_secs(10);
/// Between two tries of something that may be lost.
const RETRY: Duration = Duration::from_millis(50);
/// Capacity of a node's event channel.
pub const CAPACITY: usize = 64;
pub const PORT: u16 = 694;

/// Whether namespaces can be made; says so loudly, past the capture of test output, if not.
pub fn privileged() -> bool {
    let allowed = rustix::process::geteuid().is_root();
    if !allowed {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: {} needs root for network namespaces",
            std::thread::current().name().unwrap_or("test")
        );
    }
    allowed
}

fn ip_status(arguments: &str) -> (bool, String) {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("the program ip (iproute2)");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), text)
}

pub fn ip(arguments: &str) {
    let (done, text) = ip_status(arguments);
    assert!(done, "ip {arguments}: {text}");
}

/// One machine's network; gone when dropped.
pub struct Namespace(String);

impl Namespace {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self(format!("halink-{}-{number}", std::process::id()));
        ip(&format!("netns add {}", namespace.0));
        namespace.ip("link set lo up");
        namespace
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    pub fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.0));
    }

    /// Moves the calling thread into it.
    pub fn enter(&self) {
        enter(&self.0);
    }

    /// Runs something inside it.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter();
                    work()
                })
                .join()
                .unwrap()
        })
    }
}

fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    rustix::thread::move_into_link_name_space(
        file.as_fd(),
        Some(rustix::thread::LinkNameSpaceType::Network),
    )
    .unwrap();
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip_status(&format!("netns del {}", self.0));
    }
}

/// Two machines.
pub struct Pair {
    pub a: Namespace,
    pub b: Namespace,
}

impl Pair {
    /// Two machines and a cable, the interface being `eth1` on both.
    pub fn new() -> Self {
        let pair = Self {
            a: Namespace::new(),
            b: Namespace::new(),
        };
        pair.plug("eth1");
        pair
    }

    /// Adds a cable; the interfaces are up, with 10.0.N.1 and .2, fd00:N::1 and ::2, where the name is `ethN`.
    pub fn plug(&self, name: &str) {
        self.cable(name);
        self.dress(name);
    }

    /// Adds a cable with interfaces that are down and have no addresses.
    pub fn cable(&self, name: &str) {
        ip(&format!(
            "link add {name} netns {} type veth peer name {name} netns {}",
            self.a.0, self.b.0
        ));
    }

    /// Gives the ends of a cable their addresses, and sets them up.
    pub fn dress(&self, name: &str) {
        let number = name.trim_start_matches("eth");
        for (end, namespace) in [(1, &self.a), (2, &self.b)] {
            namespace.ip(&format!("address add 10.0.{number}.{end}/24 dev {name}"));
            namespace.ip(&format!(
                "address add fd00:{number}::{end}/64 dev {name} nodad"
            ));
            namespace.ip(&format!("link set {name} up"));
        }
    }
}

pub fn ucast(interface: Option<&str>, local: &str, peer: &str) -> Link {
    Link {
        transport: Transport::Unicast {
            interface: interface.map(str::to_owned),
            local: local.parse().unwrap(),
            peers: vec![(NodeName::new("peer").unwrap(), peer.parse().unwrap())],
        },
        port: PORT,
        direct: false,
    }
}

pub fn bcast(interface: &str) -> Link {
    Link {
        transport: Transport::Broadcast {
            interface: interface.to_owned(),
        },
        port: PORT,
        direct: false,
    }
}

pub fn mcast(interface: &str, group: &str) -> Link {
    Link {
        transport: Transport::Multicast {
            interface: interface.to_owned(),
            group: group.parse().unwrap(),
            ttl: 1,
        },
        port: PORT,
        direct: false,
    }
}

enum Order {
    Send(Vec<u8>),
    Counters(sync_channel::Sender<Vec<LinkCounters>>),
    /// Take events or leave them in the channel.
    Take(bool),
    /// Do nothing at all until told, as a process that gets no processor.
    StandStill(sync_channel::Sender<()>, sync_channel::Receiver<()>),
}

/// A node's link layer, on a thread of its own.
pub struct Node {
    orders: Option<mpsc::UnboundedSender<Order>>,
    events: sync_channel::Receiver<LinkEvent>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    pub fn start(namespace: &Namespace, links: Vec<Link>) -> Self {
        let (orders, take_orders) = mpsc::unbounded_channel();
        let (report, events) = sync_channel::channel();
        let name = namespace.0.clone();
        let thread = std::thread::spawn(move || {
            enter(&name);
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(serve(links, take_orders, report));
        });
        Self {
            orders: Some(orders),
            events,
            thread: Some(thread),
        }
    }

    fn order(&self, order: Order) {
        let _ = self.orders.as_ref().unwrap().send(order);
    }

    pub fn send(&self, bytes: &[u8]) {
        self.order(Order::Send(bytes.to_vec()));
    }

    pub fn take_events(&self, on: bool) {
        self.order(Order::Take(on));
    }

    /// Does some work while the node's whole thread stands still.
    pub fn while_standing_still(&self, work: impl FnOnce()) {
        let (standing, stands) = sync_channel::channel();
        let (end, ends) = sync_channel::channel();
        self.order(Order::StandStill(standing, ends));
        stands
            .recv_timeout(LIMIT)
            .expect("the node's loop is alive");
        work();
        drop(end);
    }

    pub fn counters(&self) -> Vec<LinkCounters> {
        let (answer, answers) = sync_channel::channel();
        self.order(Order::Counters(answer));
        answers
            .recv_timeout(LIMIT)
            .expect("the node's loop is alive")
    }

    /// The next event.
    pub fn next(&self) -> LinkEvent {
        self.events.recv_timeout(LIMIT).expect("an event in time")
    }

    /// The next event, if one comes soon.
    pub fn next_soon(&self) -> Option<LinkEvent> {
        self.events.recv_timeout(RETRY).ok()
    }

    /// The next change of state, whatever else comes before it.
    pub fn next_state(&self) -> (LinkId, bool, String) {
        loop {
            if let LinkEvent::State {
                link, up, reason, ..
            } = self.next()
            {
                return (link, up, reason);
            }
        }
    }

    /// Waits until a link says that it is up or down, and why.
    pub fn wait_state(&self, wanted: u16, wanted_up: bool) -> String {
        loop {
            let (link, up, reason) = self.next_state();
            if (link, up) == (LinkId(wanted), wanted_up) {
                return reason;
            }
        }
    }

    /// Waits until that many links are up.
    pub fn wait_all_up(&self, count: u16) {
        let mut missing: std::collections::BTreeSet<u16> = (0..count).collect();
        while !missing.is_empty() {
            let (link, up, _) = self.next_state();
            if up {
                missing.remove(&link.0);
            } else {
                missing.insert(link.0);
            }
        }
    }

    /// Sends until the other has it on each of the links, each having its own copies only.
    pub fn reaches(&self, other: &Self, links: u16, text: &str) {
        let mut missing: std::collections::BTreeSet<u16> = (0..links).collect();
        for _ in 0..LIMIT.as_millis() / RETRY.as_millis() {
            self.send(text.as_bytes());
            while let Some(event) = other.next_soon() {
                if let LinkEvent::Received { link, bytes, .. } = event
                    && bytes == text.as_bytes()
                {
                    missing.remove(&link.0);
                }
                if missing.is_empty() {
                    return;
                }
            }
        }
        panic!("\"{text}\" did not arrive on links {missing:?}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    config: Vec<Link>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    report: sync_channel::Sender<LinkEvent>,
) {
    let (events, mut take_events) = mpsc::channel(CAPACITY);
    let links = Links::start(&config, events);
    let mut taking = true;
    loop {
        tokio::select! {
            event = take_events.recv(), if taking => {
                let _ = report.send(event.expect("the links live as long as `links`"));
            }
            order = orders.recv() => match order {
                Some(Order::Send(bytes)) => links.send(&bytes),
                Some(Order::Counters(answer)) => {
                    let _ = answer.send(links.counters());
                }
                Some(Order::Take(on)) => taking = on,
                Some(Order::StandStill(standing, end)) => {
                    let _ = standing.send(());
                    let _ = end.recv();
                }
                None => return,
            },
        }
    }
}
