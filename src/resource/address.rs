//! Virtual addresses: taken, announced, watched, put back, given up.
//!
//! A resource's addresses are *held* from a successful [`Addresses::acquire`] to the next
//! [`Addresses::release`]; only what is held is announced or put back, and only while the guard holds. All of
//! it is synchronous except the question that a resource with `on_conflict = "refuse"` asks first, and
//! [`Addresses::keep`], the one task that listens and keeps the schedules. What is held and what becomes of it
//! is `held`'s; the order of a group is `runner`'s.

use crate::config::vip::{AddressSet, OnConflict};
use crate::ids::GroupName;
use crate::resource::HandsEvent;
use crate::resource::frame::show_mac;
use crate::resource::guard::{Guard, NO_LEASE};
use crate::resource::held::{Key, State};
use crate::resource::netlink::{Notice, Watch, interface_index};
use crate::resource::probe::{self, foreign_owner};
use crate::resource::recovery::Question;
use crate::resource::sentry::{Claim, Ears};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// Pause before the kernel's notices are subscribed to again, should that ever be needed.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// All addresses that this node may hold.
#[derive(Debug)]
pub struct Addresses {
    state: Mutex<State>,
    wake: Notify,
    guard: Guard,
    changes: watch::Sender<()>,
}

/// What [`Addresses::keep`] woke up for.
enum Heard {
    Notices(io::Result<Vec<Notice>>),
    Claims(Vec<Claim>),
    Time,
}

impl Addresses {
    /// Opens the connection to the kernel. `changes` is told whenever [`Self::fault`] may answer anew.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open(guard: Guard, changes: watch::Sender<()>) -> io::Result<Self> {
        Ok(Self {
            state: Mutex::new(State::open()?),
            wake: Notify::new(),
            guard,
            changes,
        })
    }

    /// Takes all addresses of a resource of a group, with their routes, and announces them; what is there is
    /// adopted. Waits for nobody, except where a foreign owner is to be respected.
    ///
    /// # Errors
    /// Words for people: what was tried, and why it did not work.
    pub async fn acquire(
        &self,
        set: &AddressSet,
        group: &GroupName,
        resource: &str,
    ) -> Result<(), String> {
        if !self.guard.holds() {
            return Err(no_lease());
        }
        let key = Key::new(group, resource);
        let index = match self.find(set).await {
            Ok(index) => index,
            Err(reason) => {
                self.expect_recovery(set, group, resource);
                return Err(reason);
            }
        };
        let guard = &self.guard;
        let taken = self.state().acquire(set, index, &key, || guard.holds());
        self.wake.notify_one();
        taken.map_err(|reason| reason.unwrap_or_else(no_lease))
    }

    /// The interface, if the addresses may be taken on it. What it lacks may come back.
    async fn find(&self, set: &AddressSet) -> Result<u32, String> {
        let interface = &set.interface;
        let index = interface_index(interface).ok_or_else(|| {
            format!("there is no interface {interface:?} on this machine: check its name and cable")
        })?;
        let link = self.state().check_up(set, index)?;
        // Without a carrier nobody can be asked, nor misled: that happens when there is one.
        if set.on_conflict == OnConflict::Refuse && link.carrier {
            refuse_foreign(set, index).await?;
        }
        Ok(index)
    }

    /// A resource failed here for want of its interface, or since somebody else has its addresses: that is waited for.
    pub fn expect_recovery(&self, set: &AddressSet, group: &GroupName, resource: &str) {
        let key = Key::new(group, resource);
        let now = Instant::now();
        self.state().recoveries.begin(&key, set, now);
        self.wake.notify_one();
    }

    /// Whether what a resource failed for is seen to be over; answered once.
    pub fn has_recovered(&self, group: &GroupName, resource: &str) -> bool {
        let key = Key::new(group, resource);
        self.state().recoveries.take(&key, Instant::now())
    }

    /// Gives all addresses of a resource up, whether they were held or are left from an earlier life. Nothing
    /// there, or no such interface, is success.
    ///
    /// # Errors
    /// Words for people; an address or a route may still be there, all others are gone.
    pub fn release(
        &self,
        set: &AddressSet,
        group: &GroupName,
        resource: &str,
    ) -> Result<(), String> {
        self.state().release(set, &Key::new(group, resource))
    }

    /// Announces what a group holds at once, and repeats it as after a start.
    pub fn announce(&self, group: &GroupName) {
        if !self.guard.holds() {
            return;
        }
        let now = Instant::now();
        let mut state = self.state();
        state.announce_anew(group, now);
        state.announce_due(now);
        drop(state);
        self.wake.notify_one();
    }

    /// Why a resource that is held does not work any more, if so.
    pub fn fault(&self, group: &GroupName, resource: &str) -> Option<String> {
        self.state().fault(&Key::new(group, resource))
    }

    /// Listens to the kernel and to the neighbours, and keeps the schedules; never returns.
    pub async fn keep(self: Arc<Self>, mut watch: Watch, events: mpsc::Sender<HandsEvent>) {
        let ears = self.state().sentry().ears();
        let ears = ears.inspect_err(|error| {
            tracing::warn!(%error, "claims of neighbours cannot be waited for, conflicts are not noticed");
        });
        let ears = ears.ok();
        let mut asking = JoinSet::new();
        loop {
            let due = self.state().next_due();
            let heard = tokio::select! {
                notices = watch.next() => Heard::Notices(notices),
                claims = claims(ears.as_ref()) => Heard::Claims(claims),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Heard::Time,
                () = self.wake.notified() => Heard::Time,
            };
            match heard {
                Heard::Notices(Ok(notices)) => self.handle_notices(&notices),
                Heard::Notices(Err(error)) => {
                    tracing::warn!(%error, "notices of the kernel on addresses ended, subscribing again");
                    sleep(WATCH_AGAIN).await;
                    if let Ok(again) = Watch::open() {
                        watch = again;
                        self.handle_notices(&[Notice::Overrun]);
                    }
                }
                Heard::Claims(claims) => self.state().handle_claims(&claims, self.guard.holds()),
                Heard::Time => {}
            }
            self.keep_schedules();
            let questions = self.look_for_recoveries();
            while asking.try_join_next().is_some() {}
            // One round at a time: who was left out is due again soon.
            if asking.is_empty() && !questions.is_empty() {
                asking.spawn(Arc::clone(&self).ask(questions));
            }
            let notes = self.state().take_notes();
            for note in notes {
                if events.send(note).await.is_err() {
                    return;
                }
            }
        }
    }

    fn look_for_recoveries(&self) -> Vec<Question> {
        let (news, questions) = self.state().look_for_recoveries(Instant::now());
        if news {
            self.changes.send_replace(());
        }
        questions
    }

    /// Asks whether addresses that somebody else had are free now. Takes none of them.
    async fn ask(self: Arc<Self>, questions: Vec<Question>) {
        for Question { key, set, index } in questions {
            match foreign_owner(&set, index).await {
                Ok(None) => {
                    self.state().recoveries.on_free(&key);
                    self.changes.send_replace(());
                }
                Ok(Some(_)) => {}
                Err(error) => {
                    tracing::debug!(%error, ?set, "not known whether the addresses are free, asking again");
                }
            }
        }
    }

    fn handle_notices(&self, notices: &[Notice]) {
        let may_restore = self.guard.holds();
        let mut state = self.state();
        for notice in notices {
            state.handle_notice(notice, may_restore);
        }
    }

    fn keep_schedules(&self) {
        let now = Instant::now();
        let mut state = self.state();
        state.judge_links(now);
        if self.guard.holds() {
            state.announce_due(now);
        } else {
            state.skip_due(now);
        }
        let faulty = state.is_faulty();
        drop(state);
        if faulty {
            self.changes.send_replace(());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn claims(ears: Option<&Ears>) -> Vec<Claim> {
    match ears {
        Some(ears) => ears.next().await,
        None => std::future::pending().await,
    }
}

async fn refuse_foreign(set: &AddressSet, index: u32) -> Result<(), String> {
    let interface = &set.interface;
    match foreign_owner(set, index).await {
        Ok(None) => Ok(()),
        Ok(Some(claim)) => Err(format!(
            "{} is in use on {interface:?} by {}: free it there, or say on_conflict = \"take\"",
            claim.address,
            show_mac(claim.mac)
        )),
        Err(error) => Err(format!(
            "asking for {} ms on {interface:?} whether somebody has the addresses: {error}",
            probe::PATIENCE.as_millis()
        )),
    }
}

fn no_lease() -> String {
    NO_LEASE.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::vip::AddressWithPrefix;
    use tokio::runtime::Builder;

    fn set(interface: &str) -> AddressSet {
        let vip = AddressWithPrefix {
            address: "192.0.2.77".parse().unwrap(),
            prefix: 32,
        };
        AddressSet::new(vec![vip], interface)
    }

    #[test]
    fn nothing_is_taken_without_a_lease() {
        let (changes, _) = watch::channel(());
        let addresses = Addresses::open(Guard::default(), changes).unwrap();
        let group = GroupName::new("web").unwrap();
        let runtime = Builder::new_current_thread().build().unwrap();
        let refusal = runtime.block_on(addresses.acquire(&set("lo"), &group, "vip"));
        assert!(refusal.unwrap_err().contains("lease"));
        assert_eq!(addresses.state().next_due(), None);
    }

    #[test]
    fn giving_up_on_an_interface_that_is_not_there_is_success() {
        let (changes, _) = watch::channel(());
        let addresses = Addresses::open(Guard::default(), changes).unwrap();
        let group = GroupName::new("web").unwrap();
        assert_eq!(
            addresses.release(&set("nosuchinterface0"), &group, "vip"),
            Ok(())
        );
    }
}
