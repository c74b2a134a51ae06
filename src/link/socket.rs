//! Makes the socket of a [`Binding`], and reads one datagram from it.
//!
//! Sharing a port: every socket allows re-use of its address, because a broadcast link's wildcard and a unicast link's
//! own address would else exclude each other, and none uses SO_REUSEPORT, which would spread datagrams over sockets at
//! random. The kernel prefers the most exact match: own address before wildcard; broadcasts only reach the wildcard,
//! a group's datagrams only the socket that is bound to it.

use super::binding::{Binding, Kind};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Wanted size of the kernel's receive buffer in bytes: bursts of 32 nodes with room to spare. When it is full the
/// kernel drops and counts.
const RECEIVE_BUFFER: usize = 1 << 20;
/// IPTOS_LOWDELAY, as Heartbeat sets it.
const LOW_DELAY: u32 = 0x10;
/// TC_PRIO_INTERACTIVE: the highest that needs no privilege.
const PRIORITY: u32 = 6;
/// A clock that was set makes a waiting time nonsense; beyond this it is not believed.
const WAITED_MAX: Duration = Duration::from_secs(60);

/// Opens, configures and binds a non-blocking socket.
///
/// # Errors
/// What was tried, and the kernel's error.
pub(super) fn open(binding: &Binding) -> Result<Socket, (&'static str, io::Error)> {
    let at = |what: &'static str| move |error: io::Error| (what, error);
    let v4 = binding.listen.is_ipv4();
    let domain = if v4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))
        .map_err(at("open a socket"))?;
    socket
        .set_reuse_address(true)
        .map_err(at("set SO_REUSEADDR"))?;
    if !v4 {
        socket.set_only_v6(true).map_err(at("set IPV6_V6ONLY"))?;
    }
    if let Some(device) = &binding.device {
        socket
            .bind_device(Some(device.as_bytes()))
            .map_err(at("bind to the interface"))?;
    }
    tune(&socket, v4);
    set_kind(&socket, binding).map_err(at("set the options for broadcast or multicast"))?;
    socket
        .bind(&binding.listen.into())
        .map_err(at("bind to the address"))?;
    join(&socket, binding).map_err(at("join the multicast group"))?;
    Ok(socket)
}

/// Improvements that a link works without, so that a refusal is ignored.
fn tune(socket: &Socket, v4: bool) {
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
    let _ = if v4 {
        socket.set_tos_v4(LOW_DELAY)
    } else {
        socket.set_tclass_v6(LOW_DELAY)
    };
    // After the type of service, which sets a priority of its own.
    let _ = socket.set_priority(PRIORITY);
    let _ = setsockopt(socket, sockopt::RxqOvfl, &1);
    let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &true);
}

fn set_kind(socket: &Socket, binding: &Binding) -> io::Result<()> {
    match binding.kind {
        Kind::Unicast => Ok(()),
        Kind::Broadcast => {
            socket.set_broadcast(true)?;
            // Else a wildcard socket also gets the datagrams of groups that other sockets joined.
            socket.set_multicast_all_v4(false)
        }
        Kind::Multicast { ttl } if binding.listen.is_ipv4() => {
            socket.set_multicast_loop_v4(false)?;
            socket.set_multicast_ttl_v4(u32::from(ttl))
        }
        Kind::Multicast { ttl } => {
            socket.set_multicast_if_v6(binding.index)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_hops_v6(u32::from(ttl))
        }
    }
}

fn join(socket: &Socket, binding: &Binding) -> io::Result<()> {
    match (binding.kind, binding.listen.ip()) {
        (Kind::Unicast | Kind::Broadcast, _) => Ok(()),
        (Kind::Multicast { .. }, IpAddr::V4(group)) => {
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(binding.index))
        }
        (Kind::Multicast { .. }, IpAddr::V6(group)) => {
            socket.join_multicast_v6(&group, binding.index)
        }
    }
}

/// What came with one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Datagram {
    /// Bytes written to the buffer.
    pub(super) length: usize,
    /// Who sent it.
    pub(super) from: SocketAddr,
    /// How long it lay in the kernel's buffer.
    pub(super) waited: Option<Duration>,
    /// Datagrams that the kernel dropped since the socket was opened, modulo 2^32, if it said so.
    pub(super) dropped: Option<u32>,
}

/// Room for the kernel's remarks on a datagram; made once per socket.
pub(super) fn remarks_buffer() -> Vec<u8> {
    nix::cmsg_space!(nix::sys::time::TimeSpec, u32)
}

/// Reads one datagram, if there is one.
///
/// # Errors
/// `WouldBlock` when there is none; others are the kernel's.
pub(super) fn receive(
    socket: &impl AsRawFd,
    buffer: &mut [u8],
    remarks: &mut [u8],
) -> io::Result<Datagram> {
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(remarks),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let (mut waited, mut dropped) = (None, None);
    for remark in message.cmsgs()? {
        if let ControlMessageOwned::ScmTimestampns(stamp) = remark {
            waited = since(stamp.into());
        } else if let ControlMessageOwned::RxqOvfl(count) = remark {
            dropped = Some(count);
        }
    }
    let from = message
        .address
        .as_ref()
        .and_then(socket_address)
        .ok_or_else(|| io::Error::other("a datagram without a sender's address"))?;
    Ok(Datagram {
        length: message.bytes,
        from,
        waited,
        dropped,
    })
}

fn since(stamp: Duration) -> Option<Duration> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).ok()?;
    let nanoseconds = u32::try_from(now.tv_nsec).ok()?;
    Duration::new(seconds, nanoseconds)
        .checked_sub(stamp)
        .filter(|waited| *waited <= WAITED_MAX)
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::V4((*v4).into())),
        (None, Some(v6)) => Some(SocketAddr::V6((*v6).into())),
        (None, None) => None,
    }
}
