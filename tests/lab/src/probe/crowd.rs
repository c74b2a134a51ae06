//! Asks many addresses for ICMP echoes, to tell when all of them have gone from one machine to another.
//!
//! Asking each of them every millisecond would keep a core busy that the daemons need. So a fixed number is asked in
//! each millisecond, in turn; who has announced itself as another owner is asked next, as an address is that its
//! clients have just learned to find elsewhere; and who was answered for by another owner is not asked again. The
//! questions go through the client's own neighbour cache, as those of its programs do; a packet socket hears the
//! answers, whose hardware address tells who gave them. What is measured is at most [`TURN`] times the number of
//! addresses by [`AT_ONCE`] too long.

use super::address::{echo_reply, echo_request, next_identifier};
use super::{ANSWER_LIMIT, Watcher};
use crate::{capture, clock};
use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two turns of asking.
pub const TURN: Duration = Duration::from_millis(1);
/// Addresses asked in a turn.
const PER_TURN: usize = 10;
/// The same while others announce themselves.
pub const AT_ONCE: usize = 50;

/// An Ethernet address.
pub type Mac = [u8; 6];

const ETHERNET_HEADER: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
/// `BPF_LD | BPF_B | BPF_ABS`, `BPF_LD | BPF_H | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K`.
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// What was seen of the addresses.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// The last answer of the owner that they had at first, for any of them.
    pub last_of_old: Option<Duration>,
    /// For each address, the first answer of another owner.
    pub first_of_new: BTreeMap<Ipv4Addr, Duration>,
    /// Processor time that looking has cost, with what the kernel did for it, in percent of a core.
    pub cost: f64,
}

impl Crowd {
    /// From the last answer of the old owner to the first of the new one for the last of so many addresses.
    ///
    /// # Errors
    /// Some were never answered for, by either.
    pub fn gap(&self, addresses: usize) -> Result<Duration> {
        let seen = self.first_of_new.len();
        anyhow::ensure!(seen == addresses, "only {seen} of {addresses} answer again");
        let old = self.last_of_old.context("the old owner never answered")?;
        let new = self.first_of_new.values().max().context("no addresses")?;
        Ok(new.saturating_sub(old))
    }
}

/// Starts asking from inside a network namespace, for addresses that `old` has now.
///
/// # Errors
/// No thread can be started.
pub fn start(
    namespace: &str,
    interface: &str,
    addresses: Vec<Ipv4Addr>,
    old: Mac,
) -> Result<Watcher<Crowd>> {
    let interface = interface.to_owned();
    Watcher::start("crowd", Some(namespace.to_owned()), move |stop| {
        let mut probe = Probe::open(&interface, addresses, old)?;
        let (from, before) = (clock::now(), processor_time());
        probe.run(stop);
        let wall = (clock::now() - from).as_secs_f64();
        let used = processor_time().saturating_sub(before).as_secs_f64();
        Ok(Crowd {
            last_of_old: probe.last_of_old,
            first_of_new: probe.first_of_new,
            cost: 100.0 * used / wall,
        })
    })
}

struct Probe {
    questions: Socket,
    answers: Socket,
    identifier: u16,
    old: Mac,
    addresses: Vec<Ipv4Addr>,
    /// Whom to ask, in this order.
    ring: VecDeque<usize>,
    announced: VecDeque<usize>,
    last_of_old: Option<Duration>,
    first_of_new: BTreeMap<Ipv4Addr, Duration>,
}

impl Probe {
    fn open(interface: &str, addresses: Vec<Ipv4Addr>, old: Mac) -> Result<Self> {
        let questions = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))
            .context("cannot open a raw socket")?;
        questions.set_nonblocking(true)?;
        // The answers are heard elsewhere.
        questions.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
        let answers = capture::open(interface)?;
        answers.attach_filter(&arp_and_echo_replies())?;
        Ok(Self {
            questions,
            answers,
            identifier: next_identifier(),
            old,
            ring: (0..addresses.len()).collect(),
            addresses,
            announced: VecDeque::new(),
            last_of_old: None,
            first_of_new: BTreeMap::new(),
        })
    }

    fn run(&mut self, stop: &AtomicBool) {
        let mut next = clock::now();
        while !stop.load(Ordering::Relaxed) {
            self.listen();
            self.ask();
            self.listen();
            next = (next + TURN).max(clock::now());
            clock::sleep_until(next);
        }
        clock::sleep(ANSWER_LIMIT);
        self.listen();
    }

    fn ask(&mut self) {
        for _ in 0..AT_ONCE {
            let Some(index) = self.announced.pop_front() else {
                break;
            };
            self.ask_one(index);
        }
        for _ in 0..PER_TURN.min(self.ring.len()) {
            let Some(index) = self.ring.pop_front() else {
                break;
            };
            if self.ask_one(index) {
                self.ring.push_back(index);
            }
        }
    }

    /// Answers whether there is something to ask.
    fn ask_one(&self, index: usize) -> bool {
        let Some(address) = self.addresses.get(index) else {
            return false;
        };
        if self.first_of_new.contains_key(address) {
            return false;
        }
        let sequence = u16::try_from(index).unwrap_or_default();
        let packet = echo_request(self.identifier, sequence);
        let to = SocketAddr::from((*address, 0)).into();
        // What cannot be sent will have no answer: that is all there is to say.
        let _ = self.questions.send_to(&packet, &to);
        true
    }

    fn listen(&mut self) {
        let mut buffer = [0_u8; 128];
        while let Ok(length) = (&self.answers).read(&mut buffer) {
            self.take_in(&buffer[..length]);
        }
    }

    fn take_in(&mut self, frame: &[u8]) {
        let now = clock::now();
        let Some(Heard { from, index, kind }) = hear(frame, self.identifier, &self.addresses)
        else {
            return;
        };
        match kind {
            Kind::Answer if from == self.old => self.last_of_old = Some(now),
            Kind::Answer => {
                if let Some(address) = self.addresses.get(index) {
                    self.first_of_new.entry(*address).or_insert(now);
                }
            }
            Kind::Announcement if from == self.old => {}
            Kind::Announcement => self.announced.push_back(index),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Heard {
    from: Mac,
    index: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Answer,
    Announcement,
}

/// What a frame says of one of the addresses.
fn hear(frame: &[u8], identifier: u16, addresses: &[Ipv4Addr]) -> Option<Heard> {
    let from: Mac = frame.get(6..12)?.try_into().ok()?;
    let packet = frame.get(ETHERNET_HEADER..)?;
    let protocol: [u8; 2] = frame.get(12..ETHERNET_HEADER)?.try_into().ok()?;
    let address_at = |at: usize| {
        let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    };
    let (index, kind) = match protocol {
        IPV4 => {
            let index = usize::from(echo_reply(packet, identifier)?);
            (addresses.get(index)? == &address_at(12)?).then_some((index, Kind::Answer))?
        }
        // They are few hundreds, and announced seldom.
        ARP => {
            let sender = address_at(14)?;
            let index = addresses.iter().position(|address| *address == sender)?;
            (index, Kind::Announcement)
        }
        _ => return None,
    };
    Some(Heard { from, index, kind })
}

/// A filter that lets pass what [`hear`] understands, so that nothing else wakes or costs.
fn arp_and_echo_replies() -> [SockFilter; 8] {
    [
        SockFilter::new(LOAD_HALF, 0, 0, 12),
        SockFilter::new(IF_EQUAL, 4, 0, u32::from(u16::from_be_bytes(ARP))),
        SockFilter::new(LOAD_BYTE, 0, 0, 23),
        SockFilter::new(IF_EQUAL, 0, 3, 1),
        SockFilter::new(LOAD_BYTE, 0, 0, 34),
        SockFilter::new(IF_EQUAL, 0, 1, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Mac = [2, 0x4c, 0, 0, 0, 1];
    const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];

    fn frame(protocol: [u8; 2], packet: &[u8]) -> Vec<u8> {
        [&[0xff; 6][..], &OWNER, &protocol, packet].concat()
    }

    fn answer(from: Ipv4Addr, sequence: u8) -> Vec<u8> {
        let mut packet = vec![0x45; 12];
        packet.extend(from.octets());
        packet.extend([10, 0, 0, 100, 0, 0, 0, 0, 0, 7, 0, sequence]);
        frame(IPV4, &packet)
    }

    #[test]
    fn answers_and_announcements_are_told_apart() {
        let [_, second] = ADDRESSES;
        let heard = |kind| {
            Some(Heard {
                from: OWNER,
                index: 1,
                kind,
            })
        };
        assert_eq!(hear(&answer(second, 1), 7, &ADDRESSES), heard(Kind::Answer));
        let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
        packet.extend(OWNER);
        packet.extend(second.octets());
        let announcement = frame(ARP, &packet);
        assert_eq!(
            hear(&announcement, 7, &ADDRESSES),
            heard(Kind::Announcement)
        );
    }

    #[test]
    fn what_is_not_ours_counts_for_nothing() {
        let [first, second] = ADDRESSES;
        assert_eq!(hear(&answer(first, 1), 7, &ADDRESSES), None);
        assert_eq!(hear(&answer(second, 1), 8, &ADDRESSES), None);
        assert_eq!(hear(&answer(second, 1)[..40], 7, &ADDRESSES), None);
        assert_eq!(hear(&[], 7, &ADDRESSES), None);
    }

    #[test]
    fn the_gap_ends_with_the_last_address() {
        let at = Duration::from_millis;
        let [first, second] = ADDRESSES;
        let mut crowd = Crowd {
            last_of_old: Some(at(10)),
            first_of_new: BTreeMap::from([(first, at(30))]),
            cost: 0.0,
        };
        assert!(crowd.gap(2).is_err());
        crowd.first_of_new.insert(second, at(50));
        assert_eq!(crowd.gap(2).ok(), Some(at(40)));
    }
}
