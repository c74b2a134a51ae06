//! The few system calls that have no safe wrapper among the lab's dependencies.
#![allow(unsafe_code, reason = "two calls into libc with plain data")]

use socket2::{SockAddr, SockAddrStorage};
use std::io;

/// Puts the calling thread ahead of all ordinary ones, so that a busy host does not delay its time stamps.
pub(crate) fn prefer_this_thread() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 10 };
    // SAFETY: thread 0 is the caller, and the parameter outlives the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The address that binds a packet socket to one interface, for all protocols.
pub(crate) fn packet_address(interface_index: u32) -> io::Result<SockAddr> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: u16::try_from(libc::ETH_P_ALL)
            .map_err(io::Error::other)?
            .to_be(),
        sll_ifindex: i32::try_from(interface_index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: a sockaddr_ll is plain data, valid as a socket address, and smaller than the storage.
    unsafe {
        *storage.view_as::<libc::sockaddr_ll>() = address;
        let length =
            libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
        Ok(SockAddr::new(storage, length))
    }
}
