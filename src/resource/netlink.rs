//! Requests to the kernel's rtnetlink, and its notices.
//!
//! Requests are synchronous on purpose: the kernel works on them within the send call, so that the
//! answer is there when it returns (tens of microseconds) and a lost lease takes an address away before
//! anything else happens. What addresses are for is `address`'s business.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's many messages and attributes, of which a few matter here"
)]

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::{Interest, unix::AsyncFd};

/// No answer of the kernel takes this long; the limit keeps the daemon alive if one is lost.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// Room for notices while the daemon is busy; beyond it the kernel says so and everything is read anew.
const NOTICE_BUFFER: usize = 4 << 20;
/// The largest datagram of the kernel is 32 KiB.
const DATAGRAM_SIZE_MAX: usize = 64 << 10;
/// Notices handled before others get a turn.
const NOTICES_PER_TURN_MAX: usize = 256;

/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR`.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// One address on one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceAddress {
    /// Index of the interface.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
}

/// How an address is added.
#[derive(Debug, Clone, Copy, Default)]
pub struct HowToAdd<'a> {
    /// Another address of the interface has a route to the subnet already, and this one needs to bring
    /// none: outgoing connections would take it as their source.
    pub covered: bool,
    /// The machine may choose it as the source of its connections all the same.
    pub source: bool,
    /// The label of an IPv4 address.
    pub label: Option<&'a str>,
}

/// What an interface can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkState {
    /// Somebody has set it up.
    pub up: bool,
    /// It is up and has a carrier.
    pub carrier: bool,
}

/// What the kernel tells unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// An address was added, or changed.
    Added(InterfaceAddress),
    /// An address was removed.
    Removed(InterfaceAddress),
    /// An interface appeared or changed.
    Link {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
        /// It is up and has a carrier.
        carrier: bool,
    },
    /// An interface has gone.
    LinkGone {
        /// Its index.
        index: u32,
    },
    /// Notices were lost: look at everything again.
    Overrun,
}

/// A connection for requests.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens the connection.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(DATAGRAM_SIZE_MAX),
        })
    }

    /// Adds an address.
    ///
    /// # Errors
    /// `EEXIST` if it is there, `ENODEV` without the interface, else what the kernel said.
    pub fn add(&mut self, address: InterfaceAddress, how: HowToAdd<'_>) -> io::Result<()> {
        let mut message = address_message(address);
        message.header.scope = AddressScope::Universe;
        let mut flags = AddressFlags::empty();
        if how.covered && !how.source {
            flags |= AddressFlags::Noprefixroute;
        }
        if address.address.is_ipv6() {
            flags |= AddressFlags::Nodad;
            // Deprecated from the start: answers, but is never chosen as the source of a connection.
            let mut lifetime = CacheInfo::default();
            lifetime.ifa_preferred = if how.source { u32::MAX } else { 0 };
            lifetime.ifa_valid = u32::MAX;
            message
                .attributes
                .push(AddressAttribute::CacheInfo(lifetime));
        } else if let Some(label) = how.label {
            message
                .attributes
                .push(AddressAttribute::Label(label.to_owned()));
        }
        message.attributes.push(AddressAttribute::Flags(flags));
        let request = RouteNetlinkMessage::NewAddress(message);
        self.request(request, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
            .map(drop)
    }

    /// Removes exactly this address with this prefix length.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` if it is not there, `ENODEV` without the interface, else what the kernel said.
    pub fn remove(&mut self, address: InterfaceAddress) -> io::Result<()> {
        let request = RouteNetlinkMessage::DelAddress(address_message(address));
        self.request(request, NLM_F_ACK).map(drop)
    }

    /// All addresses of the machine.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn addresses(&mut self) -> io::Result<Vec<InterfaceAddress>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.request(request, NLM_F_DUMP)?;
        Ok(answers
            .iter()
            .filter_map(|answer| match notice(answer)? {
                Notice::Added(address) => Some(address),
                Notice::Removed(_)
                | Notice::Link { .. }
                | Notice::LinkGone { .. }
                | Notice::Overrun => None,
            })
            .collect())
    }

    /// What an interface can do now; none if there is no such interface.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn link(&mut self, index: u32) -> io::Result<Option<LinkState>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let request = RouteNetlinkMessage::GetLink(message);
        let answers = match self.request(request, NLM_F_ACK) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
            answers => answers?,
        };
        Ok(answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(LinkState {
                up: link.header.flags.contains(LinkFlags::Up),
                carrier: has_carrier(link),
            }),
            _ => None,
        }))
    }

    pub(super) fn request(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        self.answers()
    }

    /// Collects the answers to the request sent last, up to the one that ends them.
    fn answers(&mut self) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut answers = Vec::new();
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            for message in messages(&self.buffer) {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(answers),
                            Some(code) => Err(io::Error::from_raw_os_error(-code.get())),
                        };
                    }
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    _ => {}
                }
            }
        }
    }
}

/// A subscription to the kernel's notices on addresses and interfaces.
#[derive(Debug)]
pub struct Watch {
    socket: AsyncFd<Socket>,
    buffer: Vec<u8>,
}

impl Watch {
    /// Subscribes. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, GROUPS))?;
        socket.set_non_blocking(true)?;
        if set_socket_recv_buffer_size_force(&socket, NOTICE_BUFFER).is_err() {
            socket
                .set_rx_buf_sz(libc::c_int::try_from(NOTICE_BUFFER).unwrap_or(libc::c_int::MAX))?;
        }
        Ok(Self {
            socket: register(socket)?,
            buffer: Vec::with_capacity(DATAGRAM_SIZE_MAX),
        })
    }

    /// The next notices, at least one. Cancel-safe: what was not returned is still in the socket.
    ///
    /// # Errors
    /// What the kernel said; the subscription is then to be opened anew.
    pub async fn next(&mut self) -> io::Result<Vec<Notice>> {
        loop {
            let mut ready = self.socket.readable().await?;
            let mut notices = Vec::new();
            while notices.len() < NOTICES_PER_TURN_MAX {
                self.buffer.clear();
                match self.socket.get_ref().recv_from(&mut self.buffer, 0) {
                    Ok((_, sender)) if sender.port_number() != 0 => {}
                    Ok(_) => notices.extend(messages(&self.buffer).filter_map(unasked)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready.clear_ready();
                        break;
                    }
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                        notices.push(Notice::Overrun);
                    }
                    Err(error) => return Err(error),
                }
            }
            if !notices.is_empty() {
                return Ok(notices);
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe; the socket owns its descriptor and keeps it"
)]
fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Index of an interface, if there is one of this name.
pub fn interface_index(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

fn address_message(address: InterfaceAddress) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = match address.address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.prefix_len = address.prefix;
    message.header.index = address.index;
    message.attributes = vec![
        AddressAttribute::Local(address.address),
        AddressAttribute::Address(address.address),
    ];
    message
}

/// The messages in a datagram; what cannot be read is left out.
fn messages(bytes: &[u8]) -> impl Iterator<Item = NetlinkMessage<RouteNetlinkMessage>> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            let (head, _) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_ne_bytes(*head)).ok()?;
            let message = rest.get(..length).filter(|message| message.len() >= 16)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            if let Ok(message) = NetlinkMessage::deserialize(message) {
                return Some(message);
            }
        }
    })
}

fn unasked(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Notice> {
    match message.payload {
        NetlinkPayload::InnerMessage(inner) => notice(&inner),
        NetlinkPayload::Overrun(_) => Some(Notice::Overrun),
        _ => None,
    }
}

fn notice(message: &RouteNetlinkMessage) -> Option<Notice> {
    match message {
        RouteNetlinkMessage::NewAddress(address) => interface_address(address).map(Notice::Added),
        RouteNetlinkMessage::DelAddress(address) => interface_address(address).map(Notice::Removed),
        RouteNetlinkMessage::NewLink(link) => link_notice(link),
        // A bridge tells in the same way that a port left it: that is another family.
        RouteNetlinkMessage::DelLink(link)
            if link.header.interface_family == AddressFamily::Unspec =>
        {
            Some(Notice::LinkGone {
                index: link.header.index,
            })
        }
        _ => None,
    }
}

fn interface_address(message: &AddressMessage) -> Option<InterfaceAddress> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            // Of a point-to-point address, Local is the own end and Address the other.
            AddressAttribute::Local(address) => found = Some(*address),
            AddressAttribute::Address(address) => found = found.or(Some(*address)),
            _ => {}
        }
    }
    found.map(|address| InterfaceAddress {
        index: message.header.index,
        address,
        prefix: message.header.prefix_len,
    })
}

fn link_notice(link: &LinkMessage) -> Option<Notice> {
    let name = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })?;
    Some(Notice::Link {
        index: link.header.index,
        name,
        carrier: has_carrier(link),
    })
}

fn has_carrier(link: &LinkMessage) -> bool {
    let flags = link.header.flags;
    flags.contains(LinkFlags::Up | LinkFlags::LowerUp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let count = messages(&bytes).filter_map(unasked).count();
            prop_assert!(count <= bytes.len() / 16);
        }
    }

    #[test]
    fn loopback_has_its_address() {
        let mut netlink = Netlink::open().unwrap();
        let index = interface_index("lo").unwrap();
        let addresses = netlink.addresses().unwrap();
        let expected = InterfaceAddress {
            index,
            address: "127.0.0.1".parse().unwrap(),
            prefix: 8,
        };
        assert!(addresses.contains(&expected), "{addresses:?}");
    }

    #[test]
    fn an_unknown_interface_has_no_index() {
        assert_eq!(interface_index("nosuchinterface0"), None);
        assert_eq!(interface_index(""), None);
    }
}
