//! A group's hands in a network namespace of their own, with a pair of virtual Ethernet interfaces: `v0`
//! that carries the addresses and `v1` that listens.

#![allow(dead_code, reason = "each test binary uses its share")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what fails here shall fail the test"
)]

use ha_node::config;
use ha_node::core::io::{GroupOutcome, Lease, Urgency};
use ha_node::ids::{GroupName, RequestId};
use ha_node::resource::netlink::{InterfaceAddress, Netlink, interface_index};
use ha_node::resource::{Guard, Hands, HandsEvent};
use nix::sys::socket::{LinkAddr, recvfrom};
use rustix::thread::UnshareFlags;
use socket2::{Domain, Protocol, Socket, Type};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

pub(crate) const VIP4: &str = "10.9.0.99";
pub(crate) const VIP6: &str = "fd09::99";
/// Nothing here takes so long, unless it never comes.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// A started set of hands with one group of addresses.
pub(crate) struct Stage {
    pub(crate) hands: Hands,
    pub(crate) guard: Guard,
    pub(crate) events: mpsc::Receiver<HandsEvent>,
    pub(crate) group: GroupName,
    pub(crate) orders: u64,
}

impl Stage {
    pub(crate) async fn new(vips: &[(&str, u8, &str)]) -> Self {
        let resources: Vec<String> = vips
            .iter()
            .map(|(address, prefix, interface)| {
                format!("vip = \"{address}/{prefix}\", interface = \"{interface}\"")
            })
            .collect();
        let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
        Self::of(&resources).await
    }

    /// With resources as they would stand in the configuration, within the braces.
    pub(crate) async fn of(resources: &[&str]) -> Self {
        let resources: Vec<String> = resources.iter().map(|one| format!("{{ {one} }}")).collect();
        let text = format!(
            "[[group]]\nname = \"web\"\nresources = [{}]\n",
            resources.join(", ")
        );
        let groups = config::parse_str(&text)
            .unwrap_or_else(|errors| panic!("{errors}"))
            .config
            .groups;
        let group = groups[0].name.clone();
        let guard = Guard::default();
        guard.set(Lease::Unlimited);
        let (sender, events) = mpsc::channel(256);
        let hands = Hands::start(&groups, sender, guard.clone()).await.unwrap();
        Self {
            hands,
            guard,
            events,
            group,
            orders: 0,
        }
    }

    pub(crate) async fn start(&mut self) -> GroupOutcome {
        self.orders += 1;
        self.hands.start_group(&self.group, RequestId(self.orders));
        self.outcome().await
    }

    pub(crate) async fn stop(&mut self) -> GroupOutcome {
        self.orders += 1;
        self.hands
            .stop_group(&self.group, RequestId(self.orders), Urgency::Orderly);
        self.answer().await
    }

    /// The outcome of the newest order; what happened by itself before is passed over.
    async fn answer(&mut self) -> GroupOutcome {
        loop {
            if let HandsEvent::Group { order, outcome, .. } = self.event().await
                && order == Some(RequestId(self.orders))
            {
                return outcome;
            }
        }
    }

    pub(crate) async fn event(&mut self) -> HandsEvent {
        timeout(LIMIT, self.events.recv())
            .await
            .expect("an event")
            .expect("the hands live")
    }

    pub(crate) async fn outcome(&mut self) -> GroupOutcome {
        loop {
            if let HandsEvent::Group { outcome, .. } = self.event().await {
                return outcome;
            }
        }
    }

    pub(crate) async fn note(&mut self) -> String {
        self.note_or_outcome().await.expect("a note")
    }

    pub(crate) async fn note_or_outcome(&mut self) -> Result<String, GroupOutcome> {
        loop {
            match self.event().await {
                HandsEvent::Note { text, .. } => return Ok(text),
                HandsEvent::Group { outcome, .. } => return Err(outcome),
                HandsEvent::Resource { .. } => {}
            }
        }
    }
}

/// Runs a test in a fresh namespace, or says loudly that it does not.
pub(crate) fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    #[expect(
        deprecated,
        reason = "no memory or descriptors are unshared, so that it is safe"
    )]
    let unshared = rustix::thread::unshare(UnshareFlags::NEWNET);
    if let Err(error) = unshared {
        eprintln!("SKIPPED: no network namespace without privilege ({error})");
        return;
    }
    ip("link add v0 type veth peer name v1");
    ip("link set v0 up");
    ip("link set v1 up");
    ip("addr add 10.9.0.1/24 dev v0");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test());
}

#[allow(
    clippy::disallowed_methods,
    reason = "the test plays the administrator"
)]
pub(crate) fn can(arguments: &str) -> bool {
    Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .expect("iproute2 is installed")
        .success()
}

pub(crate) fn ip(arguments: &str) {
    assert!(can(arguments), "ip {arguments}");
}

#[allow(
    clippy::disallowed_methods,
    reason = "the test plays the administrator"
)]
pub(crate) fn shown(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("iproute2 is installed");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn has(address: &str, prefix: u8) -> bool {
    let expected = InterfaceAddress {
        index: interface_index("v0").unwrap(),
        address: address.parse().unwrap(),
        prefix,
    };
    Netlink::open()
        .unwrap()
        .addresses()
        .unwrap()
        .contains(&expected)
}

/// A socket that sees every frame in the namespace.
pub(crate) fn listen() -> Socket {
    let all = i32::from(u16::try_from(libc::ETH_P_ALL).unwrap().to_be());
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(all))).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// The next frame that came in on `v1` and is one that is looked for.
pub(crate) fn received(socket: &Socket, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let index = usize::try_from(interface_index("v1").unwrap()).unwrap();
    let mut buffer = [0; 2048];
    loop {
        let (length, from) =
            recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer).expect("a frame");
        let frame = &buffer[..length];
        if from.unwrap().ifindex() == index && wanted(frame) {
            return frame.to_vec();
        }
    }
}
