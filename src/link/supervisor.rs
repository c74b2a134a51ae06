//! Keeps each link bound to what the machine has now, and reports what changed.
//!
//! The same comparison of "is" with "should be" runs after each netlink event, every other second while a link is down
//! and every few seconds else, so that a missed event and a failure without an event (a port that another program holds)
//! heal alike.

use super::LinkEvent;
use super::binding::{self, Binding};
use super::interfaces::Snapshot;
use super::netlink::{Changes, Netlink};
use super::port::Port;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

/// Between two looks at everything when no event comes and a link is down; sending is judged as often.
const PERIOD: Duration = Duration::from_secs(2);
/// Periods between two looks while all links are up: a look reads every address of the machine, hundreds on some.
const LOOK_PERIODS_UP: u32 = 3;
/// Between two looks when events come in a burst: hundreds of addresses that change are a few looks.
const GAP: Duration = Duration::from_millis(10);
/// The kernel answers within microseconds; a connection that is silent for so long is broken.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Periods between two warnings about the same link's refused datagrams.
const WARNING_PERIODS: u32 = 30;

/// Runs until the task is aborted or nobody takes the events any more.
pub(super) async fn run(ports: Arc<[Port]>, events: mpsc::Sender<LinkEvent>) {
    let mut watches: Vec<Watch> = ports.iter().map(|_| Watch::default()).collect();
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut netlink = None;
    let mut periods_to_look = 0;
    loop {
        if periods_to_look == 0 {
            periods_to_look = LOOK_PERIODS_UP;
            let seen = look(&mut netlink).await;
            for (port, watch) in ports.iter().zip(&mut watches) {
                watch.adjust(port, &seen, &events);
            }
        }
        for (port, watch) in ports.iter().zip(&mut watches) {
            if watch.report(port, &events).await.is_err() {
                return;
            }
        }
        match wait(&mut netlink, &mut period).await {
            Wake::Changed(changes) => {
                periods_to_look = 0;
                for (port, watch) in ports.iter().zip(&mut watches) {
                    watch.forget_deleted(port, &changes);
                }
                if changes.ended {
                    netlink = None;
                }
                tokio::time::sleep(GAP).await;
            }
            Wake::Period => {
                for (port, watch) in ports.iter().zip(&mut watches) {
                    watch.judge_sending(port);
                }
                periods_to_look = if netlink.is_some() && watches.iter().all(Watch::is_up) {
                    periods_to_look - 1
                } else {
                    0
                };
            }
        }
    }
}

/// Reads everything, over a new connection if the last one failed.
async fn look(netlink: &mut Option<Netlink>) -> Result<Snapshot, String> {
    let connection = match netlink {
        Some(open) => open,
        None => {
            let fresh = Netlink::open()
                .map_err(|error| format!("cannot watch the network interfaces: {error}"))?;
            netlink.insert(fresh)
        }
    };
    let failure = match tokio::time::timeout(ANSWER_MAX, connection.snapshot()).await {
        Ok(Ok(snapshot)) => return Ok(snapshot),
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => "the kernel did not answer".to_owned(),
    };
    *netlink = None;
    Err(format!("cannot read the network interfaces: {failure}"))
}

enum Wake {
    Changed(Changes),
    Period,
}

async fn wait(netlink: &mut Option<Netlink>, period: &mut Interval) -> Wake {
    let Some(netlink) = netlink else {
        period.tick().await;
        return Wake::Period;
    };
    tokio::select! {
        // A burst of events must not keep the regular duties from their turn.
        biased;
        _ = period.tick() => Wake::Period,
        changes = netlink.changed() => Wake::Changed(changes),
    }
}

/// How a link is, as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    up: bool,
    able: bool,
    reason: String,
}

/// What is known of one link from one look to the next.
#[derive(Debug, Default)]
struct Watch {
    /// Why it has no socket.
    missing: Option<String>,
    /// Why its socket reaches hardly anybody.
    impediment: Option<String>,
    /// Why all of its datagrams are refused.
    refusal: Option<String>,
    reported: Option<Condition>,
    sent_before: u64,
    send_errors_before: u64,
    quiet_periods: u32,
}

impl Watch {
    /// Binds, binds anew or closes as what was seen demands.
    fn adjust(
        &mut self,
        port: &Port,
        seen: &Result<Snapshot, String>,
        events: &mpsc::Sender<LinkEvent>,
    ) {
        let bound = port.binding();
        let snapshot = match seen {
            Ok(snapshot) => snapshot,
            Err(reason) => {
                // What works is left alone: not to see is no proof that anything changed.
                if bound.is_none() {
                    self.missing = Some(reason.clone());
                }
                return;
            }
        };
        let outlook = binding::outlook(&port.link, snapshot);
        self.impediment = outlook.impediment;
        match outlook.binding {
            Ok(wanted) if bound.as_ref() == Some(&wanted) => {}
            Ok(wanted) => {
                self.refusal = None;
                self.missing = port.bind(wanted, events).err();
            }
            Err(reason) => {
                port.unbind();
                self.refusal = None;
                self.missing = Some(reason);
            }
        }
    }

    /// A socket on a deleted interface is dead, even if a new interface has the same index.
    fn forget_deleted(&mut self, port: &Port, changes: &Changes) {
        let deleted = |bound: &Binding| changes.deleted.contains(&bound.index);
        if port.binding().as_ref().is_some_and(deleted) {
            port.unbind();
            self.missing = Some("its interface was deleted".to_owned());
        }
    }

    /// Once a period: were the datagrams of this period refused?
    fn judge_sending(&mut self, port: &Port) {
        let now = port.counters();
        let sent = now.sent.saturating_sub(self.sent_before);
        let failed = now.send_errors.saturating_sub(self.send_errors_before);
        (self.sent_before, self.send_errors_before) = (now.sent, now.send_errors);
        self.quiet_periods = self.quiet_periods.saturating_sub(1);
        if sent > 0 {
            self.refusal = None;
        }
        if failed == 0 {
            return;
        }
        let error = port.counts.send_error_last();
        if sent == 0 {
            self.refusal = Some(format!("the kernel refuses to send: {error}"));
        } else if self.quiet_periods == 0 {
            self.quiet_periods = WARNING_PERIODS;
            tracing::warn!(
                link = port.id.0,
                failed,
                sent,
                "link \"{}\" could not send some datagrams: {error}; going on",
                port.link.label()
            );
        }
    }

    /// Tells what differs from what was told last.
    async fn report(
        &mut self,
        port: &Port,
        events: &mpsc::Sender<LinkEvent>,
    ) -> Result<(), mpsc::error::SendError<LinkEvent>> {
        let now = self.state(port);
        if self.reported.as_ref() == Some(&now) {
            return Ok(());
        }
        self.reported = Some(now.clone());
        let event = LinkEvent::State {
            link: port.id,
            up: now.up,
            able: now.able,
            reason: now.reason,
        };
        events.send(event).await
    }

    /// As far as was told.
    fn is_up(&self) -> bool {
        self.reported.as_ref().is_some_and(|told| told.up)
    }

    fn state(&self, port: &Port) -> Condition {
        let trouble = [&self.missing, &self.impediment, &self.refusal];
        let (up, reason) = match (trouble.into_iter().flatten().next(), port.binding()) {
            (Some(reason), _) => (false, reason.clone()),
            (None, Some(bound)) => (true, describe(&bound)),
            (None, None) => (false, "not bound yet".to_owned()),
        };
        // A cable without a carrier on this side has none on the other one, whichever machine is to blame.
        let shared = port.link.direct && self.missing.is_none() && self.impediment.is_some();
        let able = up || shared;
        Condition { up, able, reason }
    }
}

fn describe(bound: &Binding) -> String {
    match &bound.device {
        Some(device) => format!("listening on {} of interface \"{device}\"", bound.listen),
        None => format!("listening on {}", bound.listen),
    }
}
