//! Addresses that failed here for want of something that the machine may get back: what is awaited, and when it is
//! there again.
//!
//! An interface counts as recovered once it has had a carrier without a break for a while, so that a port that flaps
//! does not take the group along; where that was not enough, for twice as long the next time. Where a foreign owner
//! would be respected, it is asked for again in between. Owns no address; the runner asks, once its group is down.

use crate::config::vip::{AddressSet, OnConflict};
use crate::resource::carrier::{DEBOUNCE, STEADY};
use crate::resource::held::Key;
use crate::resource::netlink::{Netlink, interface_index};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Pause between two questions whether a foreign owner is gone.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What fails again within so long after it had recovered must be steady for longer.
const RELAPSE: Duration = Duration::from_secs(60);

/// All that are waited for; one for each resource at most.
#[derive(Debug, Default)]
pub(super) struct Recoveries {
    patients: BTreeMap<Key, Patient>,
    /// When each had recovered last, and how steady it was.
    past: BTreeMap<Key, (Instant, Duration)>,
}

#[derive(Debug)]
struct Patient {
    set: Arc<AddressSet>,
    /// How long the carrier must be there.
    steady: Duration,
    /// Since when it is.
    well_since: Option<Instant>,
    /// When a foreign owner was asked for last.
    asked: Option<Instant>,
    recovered: bool,
}

/// A foreign owner that is to be asked for.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) key: Key,
    pub(super) set: Arc<AddressSet>,
    pub(super) index: u32,
}

impl Recoveries {
    /// A resource failed for such a want.
    pub(super) fn begin(&mut self, key: &Key, set: &AddressSet, now: Instant) {
        let before = self.past.get(key);
        let lately = before.filter(|(at, _)| now.duration_since(*at) < RELAPSE);
        let steady = lately.map_or(DEBOUNCE, |(_, steady)| (*steady * 2).min(STEADY));
        let patient = Patient {
            set: Arc::new(set.clone()),
            steady,
            well_since: None,
            asked: None,
            recovered: false,
        };
        self.patients.insert(key.clone(), patient);
    }

    /// It runs again, or is tried in another way.
    pub(super) fn end(&mut self, key: &Key) {
        self.patients.remove(key);
    }

    /// Whether what it failed for is there again; answered once.
    pub(super) fn take(&mut self, key: &Key, now: Instant) -> bool {
        let Some(patient) = self.patients.get(key).filter(|it| it.recovered) else {
            return false;
        };
        self.past.insert(key.clone(), (now, patient.steady));
        self.patients.remove(key);
        true
    }

    /// An interface has no carrier, or is down, however shortly.
    pub(super) fn on_loss(&mut self, interface: &str) {
        for patient in self.patients.values_mut() {
            if patient.set.interface == interface {
                patient.relapse();
            }
        }
    }

    /// Looks at the interfaces that matter. Answers whether anything has recovered, and who is to be asked for now.
    pub(super) fn look(&mut self, netlink: &mut Netlink, now: Instant) -> (bool, Vec<Question>) {
        let mut links = BTreeMap::new();
        for patient in self.patients.values() {
            let name = &patient.set.interface;
            if !links.contains_key(name) {
                links.insert(name.clone(), usable(name, netlink));
            }
        }
        self.judge(now, |name| links.get(name).copied().flatten())
    }

    /// `usable` knows the index of an interface that is up and has a carrier.
    fn judge(
        &mut self,
        now: Instant,
        usable: impl Fn(&str) -> Option<u32>,
    ) -> (bool, Vec<Question>) {
        let (mut news, mut questions) = (false, Vec::new());
        for (key, patient) in &mut self.patients {
            let Some(index) = usable(&patient.set.interface) else {
                patient.relapse();
                continue;
            };
            patient.well_since.get_or_insert(now);
            if patient.due().is_none_or(|due| due > now) {
                continue;
            }
            if patient.set.on_conflict == OnConflict::Refuse {
                patient.asked = Some(now);
                let set = Arc::clone(&patient.set);
                let key = key.clone();
                questions.push(Question { key, set, index });
            } else {
                patient.recovered = true;
                news = true;
            }
        }
        (news, questions)
    }

    /// Nobody else has the addresses; for nothing if the interface has failed again meanwhile.
    pub(super) fn on_free(&mut self, key: &Key) {
        if let Some(patient) = self.patients.get_mut(key) {
            patient.recovered = patient.well_since.is_some();
        }
    }

    /// When [`Self::look`] has something to do without an event.
    pub(super) fn due(&self) -> Option<Instant> {
        self.patients.values().filter_map(Patient::due).min()
    }
}

impl Patient {
    fn relapse(&mut self) {
        self.well_since = None;
        self.recovered = false;
    }

    fn due(&self) -> Option<Instant> {
        let steady = self.well_since? + self.steady;
        let again = self.asked.map(|at| at + ASK_AGAIN);
        let due = again.map_or(steady, |again| steady.max(again));
        (!self.recovered).then_some(due)
    }
}

fn usable(name: &str, netlink: &mut Netlink) -> Option<u32> {
    let index = interface_index(name)?;
    let link = netlink.link(index).ok().flatten()?;
    link.carrier.then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::vip::AddressWithPrefix;
    use crate::ids::GroupName;

    fn set(on_conflict: OnConflict) -> AddressSet {
        let vip = AddressWithPrefix {
            address: "192.0.2.77".parse().unwrap(),
            prefix: 32,
        };
        AddressSet {
            on_conflict,
            ..AddressSet::new(vec![vip], "eth1")
        }
    }

    fn key() -> Key {
        Key::new(&GroupName::new("web").unwrap(), "vip")
    }

    fn with(on_conflict: OnConflict, now: Instant) -> Recoveries {
        let mut recoveries = Recoveries::default();
        recoveries.begin(&key(), &set(on_conflict), now);
        recoveries
    }

    const UP: fn(&str) -> Option<u32> = |_| Some(7);
    const DOWN: fn(&str) -> Option<u32> = |_| None;

    #[test]
    fn an_interface_has_recovered_once_it_is_steady_and_that_is_told_once() {
        let start = Instant::now();
        let mut all = with(OnConflict::Take, start);
        assert!(!all.judge(start, DOWN).0);
        assert_eq!(all.due(), None, "only an event brings it back");
        let back = start + Duration::from_secs(9);
        assert!(!all.judge(back, UP).0);
        assert_eq!(all.due(), Some(back + DEBOUNCE));
        assert!(!all.take(&key(), back));
        all.on_loss("eth2");
        assert!(all.judge(back + DEBOUNCE, UP).0);
        assert_eq!(all.due(), None);
        assert!(all.take(&key(), back + DEBOUNCE));
        assert!(!all.take(&key(), back + DEBOUNCE));
    }

    #[test]
    fn a_flap_begins_the_wait_anew_even_if_nobody_looked_meanwhile() {
        let start = Instant::now();
        let mut all = with(OnConflict::Take, start);
        all.judge(start, UP);
        all.on_loss("eth1");
        let later = start + DEBOUNCE;
        assert!(!all.judge(later, UP).0);
        assert!(all.judge(later + DEBOUNCE, UP).0);
        all.on_loss("eth1");
        assert!(
            !all.take(&key(), later + DEBOUNCE),
            "lost before it was asked"
        );
    }

    #[test]
    fn what_fails_soon_again_must_be_steady_for_longer_and_longer() {
        let mut now = Instant::now();
        let mut all = Recoveries::default();
        let mut waits = Vec::new();
        for _ in 0..7 {
            all.begin(&key(), &set(OnConflict::Take), now);
            all.judge(now, UP);
            let due = all.due().unwrap();
            waits.push(due.duration_since(now).as_secs());
            now = due;
            assert!(all.judge(now, UP).0 && all.take(&key(), now));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        now += RELAPSE;
        all.begin(&key(), &set(OnConflict::Take), now);
        all.judge(now, UP);
        assert_eq!(all.due(), Some(now + DEBOUNCE));
    }

    #[test]
    fn a_foreign_owner_is_asked_for_again_and_again_but_not_all_the_time() {
        let start = Instant::now();
        let mut all = with(OnConflict::Refuse, start);
        assert!(all.judge(start, UP).1.is_empty());
        let first = start + DEBOUNCE;
        let (news, questions) = all.judge(first, UP);
        assert_eq!((news, questions.len(), questions[0].index), (false, 1, 7));
        assert!(all.judge(first, UP).1.is_empty());
        assert_eq!(all.due(), Some(first + ASK_AGAIN));
        assert_eq!(all.judge(first + ASK_AGAIN, UP).1.len(), 1);
        all.on_loss("eth1");
        all.on_free(&key());
        assert!(!all.take(&key(), first), "the answer is of another time");
        all.judge(first + ASK_AGAIN, UP);
        all.on_free(&key());
        assert!(all.take(&key(), first));
    }

    #[test]
    fn who_runs_again_is_waited_for_no_more() {
        let start = Instant::now();
        let mut all = with(OnConflict::Take, start);
        all.judge(start, UP);
        all.end(&key());
        assert!(!all.judge(start + DEBOUNCE, UP).0);
        assert_eq!(all.due(), None);
    }
}
