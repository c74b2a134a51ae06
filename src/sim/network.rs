//! The virtual network: which packets arrive, when, how often; and who has been in clean contact since when.
//!
//! Knows nothing of what packets say. Nodes are numbers, a set of them is a bit mask (at most 64).

use crate::sim::clock::Nanos;
use crate::sim::random::Random;
use crate::sim::scenario::Scenario;
use crate::sim::transport::Packet;
use std::collections::VecDeque;

/// Recorded packets that an attacker can send again; the oldest are forgotten.
const ARCHIVE_MAX: usize = 256;

/// What of a packet fits in one frame; one that needs more is lost with any of its frames.
const FRAME_MAX: usize = 1400;

/// Everything from one set of nodes to another is lost.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// To end it by.
    pub id: u64,
    /// On one link only.
    pub link: Option<usize>,
    /// Senders.
    pub from: u64,
    /// Receivers.
    pub to: u64,
}

/// How two nodes are joined at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// On some link everything arrives, in both directions.
    Clean,
    /// Nothing arrives.
    Cut,
    /// Something in between.
    Murky,
}

/// A packet as it was once on the wire.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// On which link.
    pub link: usize,
    /// What.
    pub packet: Packet,
}

/// The cables between the nodes.
#[derive(Debug)]
pub struct Network {
    nodes: usize,
    links: usize,
    delay: Nanos,
    jitter: Nanos,
    late_max: Nanos,
    duplicates: u64,
    loss: u64,
    late: u64,
    cuts: Vec<Cut>,
    storms: Vec<Option<u64>>,
    contacts: Vec<(Contact, Nanos)>,
    archive: VecDeque<Recorded>,
    /// Packets from the whole run, each as likely as any other; and how many there were.
    album: Vec<Recorded>,
    recorded: u64,
    album_random: Random,
    random: Random,
}

impl Network {
    /// The network of a scenario, with nothing wrong.
    pub fn new(scenario: &Scenario, random: Random) -> Self {
        let nodes = scenario.nodes.len();
        Self {
            nodes,
            links: scenario.links,
            delay: scenario.delay,
            jitter: scenario.jitter,
            late_max: 3 * crate::sim::clock::nanos(scenario.deadtime),
            duplicates: scenario.duplicates,
            loss: scenario.storm_loss,
            late: scenario.storm_late,
            cuts: Vec::new(),
            storms: vec![None; scenario.links],
            contacts: vec![(Contact::Clean, 0); nodes * nodes],
            archive: VecDeque::new(),
            album: Vec::new(),
            recorded: 0,
            album_random: Random::new(scenario.seed ^ 0xa1b0),
            random,
        }
    }

    /// How many links there are.
    pub fn links(&self) -> usize {
        self.links
    }

    /// Whether a packet sent now on a link is lost for sure.
    pub fn is_cut(&self, link: usize, from: usize, to: usize) -> bool {
        self.cuts.iter().any(|cut| {
            cut.link.is_none_or(|only| only == link)
                && cut.from & (1 << from) != 0
                && cut.to & (1 << to) != 0
        })
    }

    /// When a packet of some length sent at `now` arrives: never, once or twice.
    pub fn arrivals(
        &mut self,
        now: Nanos,
        link: usize,
        (from, to): (usize, usize),
        length: usize,
    ) -> [Option<Nanos>; 2] {
        if !self.cuts.is_empty() && self.is_cut(link, from, to) {
            return [None, None];
        }
        let storm = self.storms.get(link).is_some_and(Option::is_some);
        if storm && self.random.chance(self.loss_of(length)) {
            return [None, None];
        }
        let first = now + self.way(storm);
        let second = self
            .random
            .chance(self.duplicates)
            .then(|| now + self.way(storm));
        [Some(first), second]
    }

    /// Per mille.
    fn loss_of(&self, length: usize) -> u64 {
        let kept = 1000_u64.saturating_sub(self.loss);
        let frames = length.div_ceil(FRAME_MAX).max(1);
        1000 - (0..frames).fold(1000, |whole, _| whole * kept / 1000)
    }

    fn way(&mut self, storm: bool) -> Nanos {
        if storm && self.random.chance(self.late) {
            return self.delay + self.random.below(self.late_max);
        }
        self.delay + self.random.below(self.jitter + 1)
    }

    /// Adds a cut.
    pub fn cut(&mut self, now: Nanos, cut: Cut) {
        self.cuts.push(cut);
        self.refresh_contacts(now);
    }

    /// Lets a link lose and delay packets.
    pub fn storm(&mut self, now: Nanos, link: usize, id: u64) {
        if let Some(storm) = self.storms.get_mut(link) {
            *storm = Some(id);
        }
        self.refresh_contacts(now);
    }

    /// Ends one cut or storm.
    pub fn mend(&mut self, now: Nanos, id: u64) {
        self.cuts.retain(|cut| cut.id != id);
        for storm in &mut self.storms {
            if *storm == Some(id) {
                *storm = None;
            }
        }
        self.refresh_contacts(now);
    }

    /// Ends all that is wrong.
    pub fn heal(&mut self, now: Nanos) {
        self.cuts.clear();
        self.storms.fill(None);
        self.refresh_contacts(now);
    }

    /// Whether any link loses and delays packets by chance.
    pub fn is_stormy(&self) -> bool {
        self.storms.iter().any(Option::is_some)
    }

    /// How two nodes are joined, and since when.
    pub fn contact(&self, a: usize, b: usize) -> (Contact, Nanos) {
        self.contacts
            .get(a * self.nodes + b)
            .copied()
            .unwrap_or((Contact::Clean, 0))
    }

    fn judge(&self, a: usize, b: usize) -> Contact {
        let lost = |link| (self.is_cut(link, a, b), self.is_cut(link, b, a));
        if (0..self.links)
            .any(|link| lost(link) == (false, false) && self.storms.get(link) == Some(&None))
        {
            Contact::Clean
        } else if (0..self.links).all(|link| lost(link) == (true, true)) {
            Contact::Cut
        } else {
            Contact::Murky
        }
    }

    fn refresh_contacts(&mut self, now: Nanos) {
        for a in 0..self.nodes {
            for b in 0..self.nodes {
                let contact = self.judge(a, b);
                if let Some(entry) = self.contacts.get_mut(a * self.nodes + b)
                    && entry.0 != contact
                {
                    *entry = (contact, now);
                }
            }
        }
    }

    /// Remembers a packet for an attacker.
    pub fn record(&mut self, link: usize, packet: &Packet) {
        let recorded = || Recorded {
            link,
            packet: packet.clone(),
        };
        self.recorded += 1;
        if self.album.len() < ARCHIVE_MAX {
            self.album.push(recorded());
        } else {
            let place = usize::try_from(self.album_random.below(self.recorded));
            if let Some(entry) = place.ok().and_then(|place| self.album.get_mut(place)) {
                *entry = recorded();
            }
        }
        if self.archive.len() == ARCHIVE_MAX {
            self.archive.pop_front();
        }
        self.archive.push_back(Recorded {
            link,
            packet: packet.clone(),
        });
    }

    /// Some packet of the whole past.
    pub fn from_album(&self, random: &mut Random) -> Option<Recorded> {
        random.pick(&self.album).cloned()
    }

    /// Some packet of the past.
    pub fn recorded(&mut self) -> Option<Recorded> {
        let index = self.random.index(self.archive.len());
        self.archive.get(index).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Policy;

    fn network(links: usize) -> Network {
        let mut scenario = Scenario::calm(1, 3, Policy::Majority);
        scenario.links = links;
        Network::new(&scenario, Random::new(1))
    }

    #[test]
    fn a_cut_on_one_of_two_links_leaves_clean_contact() {
        let mut network = network(2);
        network.cut(
            5,
            Cut {
                id: 1,
                link: Some(0),
                from: 0b1,
                to: 0b10,
            },
        );
        assert_eq!(network.contact(0, 1), (Contact::Clean, 0));
        assert_eq!(network.arrivals(5, 0, (0, 1), 1), [None, None]);
        assert!(network.arrivals(5, 0, (1, 0), 1)[0].is_some());
        assert!(network.arrivals(5, 1, (0, 1), 1)[0].is_some());
    }

    #[test]
    fn what_needs_more_frames_is_lost_more_often() {
        let mut network = network(1);
        network.loss = 100;
        let loss = |length| network.loss_of(length);
        assert_eq!((loss(0), loss(1), loss(FRAME_MAX)), (100, 100, 100));
        assert_eq!((loss(FRAME_MAX + 1), loss(3 * FRAME_MAX)), (190, 271));
        network.loss = 1000;
        assert_eq!(network.loss_of(1), 1000);
    }

    #[test]
    fn one_way_is_murky_both_ways_is_cut_and_mending_is_clean_from_then_on() {
        let mut network = network(1);
        network.cut(
            5,
            Cut {
                id: 1,
                link: None,
                from: 0b1,
                to: 0b10,
            },
        );
        assert_eq!(network.contact(0, 1), (Contact::Murky, 5));
        network.cut(
            6,
            Cut {
                id: 2,
                link: None,
                from: 0b10,
                to: 0b1,
            },
        );
        assert_eq!(network.contact(1, 0), (Contact::Cut, 6));
        assert_eq!(network.contact(1, 2), (Contact::Clean, 0));
        network.mend(9, 1);
        network.mend(9, 2);
        assert_eq!(network.contact(0, 1), (Contact::Clean, 9));
    }
}
