//! Transports between the nodes: unicast, broadcast and multicast UDP over IPv4 and IPv6.
//!
//! Owns the sockets and the watch over interfaces and addresses. It carries bytes: messages, their authenticity and
//! who sent them are others' business, also the dropping of own datagrams that come back (broadcast).
//!
//! Invariants: nothing that an interface does is fatal. What a link needs and the machine lacks is waited for, and each
//! change is reported once. Sending never waits. Received datagrams go through the bounded channel of the caller; while
//! it is full they stay in the kernel's buffer of their own link, which drops and counts what exceeds it, and the links
//! take turns at the free places: a flood on one link neither blocks the daemon, nor grows its memory, nor keeps the
//! other links from being heard.
//!
//! A datagram takes this way: `socket` reads it, `receiver` reports it. A change of the machine takes this one:
//! `netlink` sees it, `interfaces` holds it, `binding` judges it, `supervisor` acts on it and reports.

mod binding;
mod interfaces;
mod netlink;
mod port;
mod receiver;
mod socket;
mod supervisor;

use crate::config;
use crate::ids::LinkId;
use port::Port;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What the link layer tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A datagram arrived.
    Received {
        /// On which link.
        link: LinkId,
        /// From where; not proof of who sent it.
        from: SocketAddr,
        /// Its contents, at most 64 KiB.
        bytes: Vec<u8>,
        /// How long it lay in the kernel's buffer before it was read, by the wall clock: a figure for people and for
        /// judging delays, none where the clock was set meanwhile.
        waited: Option<Duration>,
    },
    /// The link itself became usable or not, or is unusable for another reason than before.
    State {
        /// Which link.
        link: LinkId,
        /// Datagrams can be sent and received.
        up: bool,
        /// Nothing on this machine keeps it from that: what is missing may be the other end of a direct cable.
        able: bool,
        /// Why not, or how it is bound: a phrase for people.
        reason: String,
    },
}

/// What happened on one link since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkCounters {
    /// Which link.
    pub link: LinkId,
    /// Datagrams that the kernel took, one for each peer on a unicast link.
    pub sent: u64,
    /// Datagrams that were handed on as [`LinkEvent::Received`].
    pub received: u64,
    /// Datagrams that the kernel refused, a full send buffer included. While a link is unbound nothing is tried.
    pub send_errors: u64,
    /// Errors at reading.
    pub receive_errors: u64,
    /// Datagrams that the kernel dropped because they came faster than they were taken. It says so along with the next
    /// datagram, so that the figure may lag.
    pub dropped: u64,
}

/// All links of this node; they end when this is dropped.
#[derive(Debug)]
pub struct Links {
    ports: Arc<[Port]>,
    supervisor: JoinHandle<()>,
}

impl Links {
    /// Starts all links, and never fails: each soon reports its first [`LinkEvent::State`], up or down.
    ///
    /// [`LinkId`] is the position in `links`. The channel's capacity bounds the memory for waiting datagrams (64 KiB
    /// each at worst); 256 is plenty. The links end when its receiver is dropped.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO and time.
    pub fn start(links: &[config::model::Link], events: mpsc::Sender<LinkEvent>) -> Self {
        let ports: Arc<[Port]> = (0..)
            .zip(links)
            .map(|(number, link)| Port::new(LinkId(number), link.clone()))
            .collect();
        let supervisor = tokio::spawn(supervisor::run(Arc::clone(&ports), events));
        Self { ports, supervisor }
    }

    /// Sends to all peers on all links that are bound. Never waits; what the kernel refuses is counted.
    pub fn send(&self, bytes: &[u8]) {
        for port in self.ports.iter() {
            port.send(bytes);
        }
    }

    /// The counters of all links, in their order.
    pub fn counters(&self) -> Vec<LinkCounters> {
        self.ports.iter().map(Port::counters).collect()
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.supervisor.abort();
        for port in self.ports.iter() {
            port.unbind();
        }
    }
}
