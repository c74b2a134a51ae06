//! When and through what addresses are announced: the schedule, and one packet socket per interface.
//!
//! The frames are `frame`'s; whether an address may be announced at all is `address`'s decision.

use crate::resource::frame::{self, Mac};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::SndBufForce;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, bind, send, setsockopt, socket,
};
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;
use tokio::time::Instant;

/// Repeats after the first announcement, each counted from the first: a neighbour that missed one
/// because a switch was still learning, or lost it, hears the next.
const REPEATS: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// Then one each minute, for caches that were filled by somebody else meanwhile.
const REFRESH: Duration = Duration::from_secs(60);

/// Room for the announcements of a whole resource at once: two frames for each of its addresses, and a
/// probe, at less than a KiB each of what the kernel counts.
const SEND_BUFFER: usize = 4 << 20;

/// The Ethernet hardware type (`ARPHRD_ETHER`); others have no such neighbours.
const HARDWARE_ETHERNET: u16 = 1;

/// When an address is announced next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    first: Instant,
    sent: usize,
    due: Instant,
}

impl Schedule {
    /// A schedule whose first announcement is due at once.
    pub fn start(now: Instant) -> Self {
        Self {
            first: now,
            sent: 0,
            due: now,
        }
    }

    /// When the next announcement is due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether the announcement now due is the first, which is sent in both forms.
    pub fn is_first(&self) -> bool {
        self.sent == 0
    }

    /// An announcement was sent at `now`. Repeats that were missed meanwhile are not made up for.
    pub fn advance(&mut self, now: Instant) {
        self.due = loop {
            let Some(repeat) = REPEATS.get(self.sent) else {
                break now + REFRESH;
            };
            self.sent += 1;
            if self.first + *repeat > now {
                break self.first + *repeat;
            }
        };
    }
}

/// Sends announcements. One packet socket per interface, opened at its first use.
#[derive(Debug, Default)]
pub struct Announcer {
    /// None for an interface that is not Ethernet.
    doors: BTreeMap<u32, Option<Door>>,
}

/// A way out to one interface. The socket has protocol 0, so that it receives nothing.
#[derive(Debug)]
struct Door {
    socket: OwnedFd,
    mac: Mac,
}

impl Announcer {
    /// Announces `address` on the interface with this index, once.
    ///
    /// # Errors
    /// What the kernel said; the interface is looked up anew at the next call. An interface that is
    /// not Ethernet has no neighbours to tell, which is success.
    pub fn announce(&mut self, index: u32, address: IpAddr, both_forms: bool) -> io::Result<()> {
        self.send(index, |mac| frame::announcement(address, mac, both_forms))
            .map(drop)
    }

    /// Asks whether somebody has `address` already. False where there are no neighbours to ask.
    ///
    /// # Errors
    /// As [`Self::announce`].
    pub fn probe(&mut self, index: u32, address: IpAddr) -> io::Result<bool> {
        self.send(index, |mac| vec![frame::probe(address, mac)])
    }

    fn send(&mut self, index: u32, frames: impl FnOnce(Mac) -> Vec<Vec<u8>>) -> io::Result<bool> {
        let door = match self.doors.entry(index) {
            Entry::Occupied(door) => door.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(open(index)?),
        };
        let Some(door) = door else {
            return Ok(false);
        };
        let result = frames(door.mac).iter().try_for_each(|bytes| {
            send(door.socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT).map(drop)
        });
        if result.is_err() {
            self.doors.remove(&index);
        }
        result.map(|()| true).map_err(io::Error::from)
    }

    /// Forgets what is known of an interface: it has gone, or has another hardware address.
    pub fn forget(&mut self, index: u32) {
        self.doors.remove(&index);
    }
}

/// Opens a packet socket on an interface; none where it is not Ethernet.
fn open(index: u32) -> io::Result<Option<Door>> {
    let Some(link) = link_address(index)? else {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    };
    let (HARDWARE_ETHERNET, 6, Some(mac)) = (link.hatype(), link.halen(), link.addr()) else {
        return Ok(None);
    };
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    // Without the privilege for it the usual size has to do, and repeats make up for what did not fit.
    let _ = setsockopt(&socket, SndBufForce, &SEND_BUFFER);
    bind(socket.as_raw_fd(), &link)?;
    Ok(Some(Door { socket, mac }))
}

/// The packet address of an interface, as `getifaddrs` makes it: a link address cannot be made by
/// hand without unsafe code.
fn link_address(index: u32) -> io::Result<Option<LinkAddr>> {
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    Ok(getifaddrs()?
        .filter_map(|interface| interface.address?.as_link_addr().copied())
        .find(|link| link.ifindex() == index))
}

/// The hardware addresses of this machine, whose claims are our own.
pub(super) fn own_macs() -> io::Result<BTreeSet<Mac>> {
    Ok(getifaddrs()?
        .filter_map(|interface| interface.address?.as_link_addr()?.addr())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(count: usize) -> Vec<u128> {
        let start = Instant::now();
        let mut schedule = Schedule::start(start);
        (0..count)
            .map(|_| {
                let due = schedule.due();
                schedule.advance(due);
                due.duration_since(start).as_millis()
            })
            .collect()
    }

    #[test]
    fn announcements_come_at_once_then_quickly_then_each_minute() {
        assert_eq!(offsets(7), [0, 50, 200, 1000, 5000, 65_000, 125_000]);
    }

    #[test]
    fn missed_repeats_are_skipped() {
        let start = Instant::now();
        let mut schedule = Schedule::start(start);
        assert!(schedule.is_first());
        schedule.advance(start + Duration::from_millis(300));
        assert!(!schedule.is_first());
        assert_eq!(schedule.due(), start + Duration::from_secs(1));
    }

    #[test]
    fn an_interface_that_does_not_exist_is_an_error_and_loopback_is_silence() {
        let mut announcer = Announcer::default();
        let address = "192.0.2.1".parse().unwrap();
        assert!(announcer.announce(u32::MAX, address, true).is_err());
        assert!(announcer.announce(1, address, true).is_ok());
    }
}
