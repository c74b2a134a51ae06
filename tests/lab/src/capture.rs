//! Recording what crosses a switch, and sending it again later, byte for byte: an attacker who has seen
//! everything and knows no key.
//!
//! One thing cannot be kept: between virtual cables the kernel leaves the UDP checksum to hardware that does
//! not exist, so what is recorded has none; it is sent again with the zero that means "not computed".

use crate::network::{self, Network};
use crate::probe::{Watcher, wait_readable};
use crate::{clock, run, sys};
use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};
use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::Duration;

const UDP_HEADER: usize = 8;

/// One frame, with when it was seen.
#[derive(Debug, Clone)]
pub struct Frame {
    /// When.
    pub at: Duration,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// Where the UDP header begins, after Ethernet's and IPv4's.
    fn udp_offset(&self) -> usize {
        let words = self.bytes.get(14).map_or(0, |byte| byte & 0x0f);
        14 + usize::from(words) * 4
    }

    fn without_checksum(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let at = self.udp_offset() + 6;
        if let Some(checksum) = bytes.get_mut(at..at + 2) {
            checksum.fill(0);
        }
        bytes
    }

    /// How many bytes its UDP datagram carries, all fragments together, if it is the first of them.
    pub fn datagram_bytes(&self) -> Option<usize> {
        let at = self.udp_offset() + 4;
        let length = self.bytes.get(at..at + 2)?.try_into().ok()?;
        usize::from(u16::from_be_bytes(length)).checked_sub(UDP_HEADER)
    }

    /// Who sent it, if it is an IPv4 packet.
    pub fn sender(&self) -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = self.bytes.get(26..30)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    }

    /// Whether it is an IPv4 UDP packet to this port.
    pub fn is_udp_to(&self, port: u16) -> bool {
        let at = self.udp_offset();
        let udp = self.bytes.get(12..14) == Some(&[8, 0]) && self.bytes.get(23) == Some(&17);
        udp && self.bytes.get(at + 2..at + 4) == Some(&port.to_be_bytes())
    }
}

/// Records all frames to a UDP port that cross a switch, until it is told to finish.
///
/// # Errors
/// No such switch.
pub fn record(network: &Network, switch: &str, port: u16) -> Result<Watcher<Vec<Frame>>> {
    let name = network.namespace();
    // A switch shows its own interface what it forwards only when that is promiscuous.
    run::run(&["ip", "-n", name, "link", "set", switch, "promisc", "on"])?;
    let switch = switch.to_owned();
    Watcher::start("record", Some(name.to_owned()), move |stop| {
        let socket = open(&switch)?;
        let mut frames = Vec::new();
        let mut buffer = vec![0_u8; 65_536];
        while !stop.load(Ordering::Relaxed) {
            match (&socket).read(&mut buffer) {
                Ok(length) => {
                    let bytes = buffer.get(..length).unwrap_or_default().to_vec();
                    let frame = Frame {
                        at: clock::now(),
                        bytes,
                    };
                    if frame.is_udp_to(port) {
                        frames.push(frame);
                    }
                }
                Err(_) => wait_readable(&socket, clock::now() + Duration::from_millis(20)),
            }
        }
        Ok(frames)
    })
}

/// Sends frames into a switch, one after the other with a pause between them.
///
/// # Errors
/// No such switch, or a frame is refused.
pub fn replay(network: &Network, switch: &str, frames: &[Frame], pause: Duration) -> Result<()> {
    let frames = frames.to_vec();
    let switch = switch.to_owned();
    let namespace = network.namespace().to_owned();
    let thread = std::thread::spawn(move || -> Result<()> {
        network::enter(&namespace)?;
        let socket = open(&switch)?;
        socket.set_nonblocking(false)?;
        for frame in frames {
            socket.send(&frame.without_checksum())?;
            clock::sleep(pause);
        }
        Ok(())
    });
    thread.join().unwrap_or_else(|_| anyhow::bail!("panic"))
}

/// A packet socket that hears everything on an interface of the thread's namespace.
pub(crate) fn open(interface: &str) -> Result<Socket> {
    let socket =
        Socket::new(Domain::PACKET, Type::RAW, None).context("cannot open a packet socket")?;
    let index = rustix::net::netdevice::name_to_index(&socket, interface)
        .with_context(|| format!("no interface {interface}"))?;
    socket.set_nonblocking(true)?;
    socket.bind(&sys::packet_address(index)?)?;
    Ok(socket)
}
