//! Who else claims an address: the machine's ARP and neighbour advertisements, overheard.
//!
//! Two sockets for the whole machine, whatever interfaces it has. A filter in the kernel passes on only what
//! claims an address between the lowest and the highest that is watched, so that neither the ARP of a busy
//! network nor other IPv6 traffic wakes the daemon. What a claim means is for others to judge.

use crate::resource::frame::{self, Mac};
use nix::sys::socket::sockopt::{Ipv6RecvHopLimit, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessageOwned, LinkAddr, MsgFlags, SockaddrIn6, recvfrom, recvmsg, setsockopt,
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use tokio::io::{Interest, unix::AsyncFd};

/// Claims handled before others get a turn; the rest waits in the socket, which drops what does not fit.
const CLAIMS_PER_TURN_MAX: usize = 64;
/// Longer than any ARP packet, and than the advertisements that matter.
const PACKET_SIZE_MAX: usize = 256;
/// Where the sender's address stands in an ARP packet.
const ARP_SENDER: u32 = 14;
/// Where the last four bytes of the target stand in a neighbour advertisement.
const ADVERTISED_TAIL: u32 = 20;
/// The ICMPv6 type of neighbour advertisements.
const ADVERTISEMENT: u32 = 136;
/// Only what no router has passed on has it.
const HOP_LIMIT: i32 = 255;

/// Somebody says to have an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// Interface on which it was heard.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// Who says so.
    pub mac: Mac,
}

/// The sockets. Where the kernel gives none, nothing is overheard.
#[derive(Debug, Clone)]
pub struct Sentry {
    arp: Option<Arc<Socket>>,
    neighbours: Option<Arc<Socket>>,
}

impl Sentry {
    /// Opens the sockets, deaf until [`Self::watch`] says what matters.
    pub fn open() -> Self {
        let log = |what: &str, error: &io::Error| {
            tracing::debug!(%error, "{what} is not overheard, conflicts there are not noticed");
        };
        Self {
            arp: open_arp()
                .inspect_err(|error| log("ARP", error))
                .map(Arc::new)
                .ok(),
            neighbours: open_neighbours()
                .inspect_err(|error| log("IPv6 neighbour discovery", error))
                .map(Arc::new)
                .ok(),
        }
    }

    /// Whether claims of addresses of this one's family can be heard at all.
    pub fn hears(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.arp.is_some(),
            IpAddr::V6(_) => self.neighbours.is_some(),
        }
    }

    /// Hears from now on claims of these addresses, and perhaps of some between them.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn watch(&self, addresses: impl Iterator<Item = IpAddr>) -> io::Result<()> {
        let mut four = None;
        let mut six = None;
        for address in addresses {
            match address {
                IpAddr::V4(address) => widen(&mut four, address.to_bits()),
                IpAddr::V6(address) => {
                    let [.., a, b, c, d] = address.octets();
                    widen(&mut six, u32::from_be_bytes([a, b, c, d]));
                }
            }
        }
        if let Some(socket) = &self.arp {
            socket.attach_filter(&filter(vec![], ARP_SENDER, four))?;
        }
        if let Some(socket) = &self.neighbours {
            let kind = vec![
                SockFilter::new(LOAD_BYTE, 0, 0, 0),
                SockFilter::new(IF_EQUAL, 1, 0, ADVERTISEMENT),
                SockFilter::new(RETURN, 0, 0, 0),
            ];
            socket.attach_filter(&filter(kind, ADVERTISED_TAIL, six))?;
        }
        Ok(())
    }

    /// For [`Ears::next`]. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn ears(&self) -> io::Result<Ears> {
        Ok(Ears {
            arp: self.arp.clone().map(register).transpose()?,
            neighbours: self.neighbours.clone().map(register).transpose()?,
        })
    }
}

/// The sockets with the runtime's word on when they can be read.
#[derive(Debug)]
pub struct Ears {
    arp: Option<AsyncFd<Arc<Socket>>>,
    neighbours: Option<AsyncFd<Arc<Socket>>>,
}

impl Ears {
    /// The next claims, at least one; never, where there are no sockets. Cancel-safe: what was not returned
    /// is still in the sockets.
    pub async fn next(&self) -> Vec<Claim> {
        loop {
            let claims = tokio::select! {
                claims = hear(self.arp.as_ref(), read_arp) => claims,
                claims = hear(self.neighbours.as_ref(), read_neighbours) => claims,
            };
            if !claims.is_empty() {
                return claims;
            }
        }
    }
}

async fn hear(
    socket: Option<&AsyncFd<Arc<Socket>>>,
    read: impl Fn(&Socket) -> nix::Result<Option<Claim>>,
) -> Vec<Claim> {
    let Some(socket) = socket else {
        return std::future::pending().await;
    };
    let Ok(mut ready) = socket.readable().await else {
        return std::future::pending().await;
    };
    let mut claims = Vec::new();
    for _ in 0..CLAIMS_PER_TURN_MAX {
        match read(socket.get_ref()) {
            Ok(claim) => claims.extend(claim),
            Err(nix::errno::Errno::EAGAIN) => {
                ready.clear_ready();
                break;
            }
            // Such as an interface that went down: the socket stays usable.
            Err(error) => tracing::debug!(%error, "reading claims of neighbours, going on"),
        }
    }
    claims
}

fn read_arp(socket: &Socket) -> nix::Result<Option<Claim>> {
    let mut buffer = [0; PACKET_SIZE_MAX];
    let (length, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer)?;
    let index = from.and_then(|from| u32::try_from(from.ifindex()).ok());
    let claim = frame::arp_claim(buffer.get(..length).unwrap_or_default());
    let (Some((address, mac)), Some(index)) = (claim, index) else {
        return Ok(None);
    };
    Ok(Some(Claim {
        index,
        address: address.into(),
        mac,
    }))
}

fn read_neighbours(socket: &Socket) -> nix::Result<Option<Claim>> {
    let mut buffer = [0; PACKET_SIZE_MAX];
    let mut control = nix::cmsg_space!(libc::in6_pktinfo, i32);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let received =
        recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let mut index = None;
    let mut near = false;
    for message in received.cmsgs()? {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "two of many kinds matter here"
        )]
        match message {
            ControlMessageOwned::Ipv6PacketInfo(info) => index = Some(info.ipi6_ifindex),
            ControlMessageOwned::Ipv6HopLimit(limit) => near = limit == HOP_LIMIT,
            _ => {}
        }
    }
    let length = received.bytes;
    let claim = frame::advertised_claim(buffer.get(..length).unwrap_or_default());
    let (Some((address, mac)), Some(index), true) = (claim, index, near) else {
        return Ok(None);
    };
    Ok(Some(Claim {
        index,
        address: address.into(),
        mac,
    }))
}

fn open_arp() -> io::Result<Socket> {
    let protocol = i32::from(u16::try_from(libc::ETH_P_ARP).unwrap_or(0).to_be());
    // Without a protocol it would be deaf from the first moment, but could not be told one later.
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(protocol)))?;
    socket.attach_filter(&filter(vec![], ARP_SENDER, None))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn open_neighbours() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.attach_filter(&filter(vec![], ADVERTISED_TAIL, None))?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
    setsockopt(&socket, Ipv6RecvHopLimit, &true)?;
    Ok(socket)
}

#[expect(
    deprecated,
    reason = "its successor is unsafe; the socket owns its descriptor and keeps it"
)]
fn register(socket: Arc<Socket>) -> io::Result<AsyncFd<Arc<Socket>>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// `BPF_LD | BPF_B | BPF_ABS`, `BPF_LD | BPF_W | BPF_ABS`.
const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD: u16 = 0x20;
/// `BPF_JMP | BPF_K` with `BPF_JEQ`, `BPF_JGE`, `BPF_JGT`.
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_GREATER: u16 = 0x25;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// A filter program: after what it begins with, passes packets whose word at `offset` is in the range.
fn filter(mut program: Vec<SockFilter>, offset: u32, range: Option<(u32, u32)>) -> Vec<SockFilter> {
    let Some((least, most)) = range else {
        return vec![SockFilter::new(RETURN, 0, 0, 0)];
    };
    program.extend([
        SockFilter::new(LOAD_WORD, 0, 0, offset),
        SockFilter::new(IF_AT_LEAST, 0, 1, least),
        SockFilter::new(IF_GREATER, 0, 1, most),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]);
    program
}

fn widen(range: &mut Option<(u32, u32)>, value: u32) {
    *range = Some(match *range {
        None => (value, value),
        Some((least, most)) => (least.min(value), most.max(value)),
    });
}
