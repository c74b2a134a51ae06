//! Asks an address for an ICMP echo, once a millisecond.

use super::{ANSWER_LIMIT, Report, Sample, Watcher, wait_readable};
use crate::clock;
use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(1);
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

static IDENTIFIER: AtomicU16 = AtomicU16::new(1);

/// Starts asking from inside a network namespace.
///
/// # Errors
/// No thread can be started.
pub fn start(namespace: &str, target: Ipv4Addr) -> Result<Watcher<Report>> {
    Watcher::start("address", Some(namespace.to_owned()), move |stop| {
        let mut probe = Probe::open(target)?;
        probe.run(stop);
        Ok(Report {
            samples: probe.samples,
            answered_by: Vec::new(),
        })
    })
}

struct Probe {
    socket: Socket,
    identifier: u16,
    samples: Vec<Sample>,
}

impl Probe {
    fn open(target: Ipv4Addr) -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))
            .context("cannot open a raw socket")?;
        socket.set_nonblocking(true)?;
        socket.connect(&SocketAddr::from((target, 0)).into())?;
        Ok(Self {
            socket,
            identifier: next_identifier(),
            samples: Vec::new(),
        })
    }

    fn run(&mut self, stop: &AtomicBool) {
        let mut next = clock::now();
        while !stop.load(Ordering::Relaxed) {
            self.ask();
            // A late turn is not made up for: two questions at once would say no more than one.
            next = (next + INTERVAL).max(clock::now());
            self.listen(next);
        }
        self.listen(clock::now() + ANSWER_LIMIT);
    }

    fn ask(&mut self) {
        let sequence = u16::try_from(self.samples.len() % 65_536).unwrap_or_default();
        let packet = echo_request(self.identifier, sequence);
        self.samples.push(Sample {
            at: clock::now(),
            answered: None,
        });
        // What cannot be sent will have no answer: that is all there is to say.
        let _ = self.socket.send(&packet);
    }

    fn listen(&mut self, until: Duration) {
        loop {
            let mut buffer = [0_u8; 128];
            match (&self.socket).read(&mut buffer) {
                Ok(length) => self.note(&buffer[..length]),
                Err(_) if clock::now() >= until => return,
                Err(_) => wait_readable(&self.socket, until),
            }
        }
    }

    fn note(&mut self, packet: &[u8]) {
        let now = clock::now();
        let Some(sequence) = echo_reply(packet, self.identifier) else {
            return;
        };
        let newest = self.samples.len().saturating_sub(1);
        let back = (newest % 65_536 + 65_536 - usize::from(sequence)) % 65_536;
        let sample = newest
            .checked_sub(back)
            .and_then(|i| self.samples.get_mut(i));
        if let Some(sample) = sample {
            let took = now.saturating_sub(sample.at);
            if took <= ANSWER_LIMIT && sample.answered.is_none() {
                sample.answered = Some(took);
            }
        }
    }
}

/// What no other probe of this process asks under.
pub(super) fn next_identifier() -> u16 {
    IDENTIFIER.fetch_add(1, Ordering::Relaxed)
}

pub(super) fn echo_request(identifier: u16, sequence: u16) -> [u8; 8] {
    let [id_high, id_low] = identifier.to_be_bytes();
    let [seq_high, seq_low] = sequence.to_be_bytes();
    let sum = u32::from(ECHO_REQUEST) * 256 + u32::from(identifier) + u32::from(sequence);
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or_default();
    let [sum_high, sum_low] = checksum.to_be_bytes();
    [
        ECHO_REQUEST,
        0,
        sum_high,
        sum_low,
        id_high,
        id_low,
        seq_high,
        seq_low,
    ]
}

/// Sequence number of an answer to our questions, from an IPv4 packet.
pub(super) fn echo_reply(packet: &[u8], identifier: u16) -> Option<u16> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let [kind, _, _, _, id_high, id_low, seq_high, seq_low] =
        *packet.get(header..header + 8)?.first_chunk()?;
    let ours = kind == ECHO_REPLY && u16::from_be_bytes([id_high, id_low]) == identifier;
    ours.then(|| u16::from_be_bytes([seq_high, seq_low]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_checksum_that_sums_up() {
        for (identifier, sequence) in [(1, 0), (0xffff, 0xffff), (0x1234, 0xf7ff)] {
            let packet = echo_request(identifier, sequence);
            let sum: u32 = packet
                .chunks(2)
                .map(|pair| u32::from(pair[0]) * 256 + u32::from(pair[1]))
                .sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        }
    }

    #[test]
    fn only_answers_to_ours_count() {
        let mut packet = vec![0x45; 20];
        packet.extend([0, 0, 0, 0, 0, 7, 1, 2]);
        assert_eq!(echo_reply(&packet, 7), Some(258));
        assert_eq!(echo_reply(&packet, 8), None);
        assert_eq!(echo_reply(&packet[..24], 7), None);
    }
}
