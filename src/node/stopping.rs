//! Groups stopped without the core: what a dead daemon has left, or what a configuration does not know any more.

use crate::config::model::Group;
use crate::core::{GroupOutcome, Instant, Lease, Policy, Urgency};
use crate::ids::{GroupName, RequestId};
use crate::node::notify::Notifier;
use crate::process;
use crate::resource::{Guard, Hands, HandsEvent};
use anyhow::Context as _;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How much longer a stop may take, told to systemd while it goes on.
const EXTENSION: Duration = Duration::from_secs(30);

/// Longest sleep: timers of the runtime stand still while the machine is suspended.
const SLICE: Duration = Duration::from_millis(50);

/// Time that the words take from here to the peers.
const WORDS: Duration = Duration::from_millis(20);

/// A group that was not stopped.
pub(super) struct Failure {
    pub(super) group: GroupName,
    text: String,
}

/// One error for all.
pub(super) fn fail(failures: &[Failure]) -> anyhow::Result<()> {
    let texts: Vec<&str> = failures
        .iter()
        .map(|failure| failure.text.as_str())
        .collect();
    match texts.as_slice() {
        [] => Ok(()),
        several => anyhow::bail!(
            "{}; stop it by hand before another node takes over",
            several.join("; ")
        ),
    }
}

/// Stops these groups, whose lease ended or ends at `until`.
pub(super) async fn stop_groups(groups: &[Group], until: Lease) -> anyhow::Result<Vec<Failure>> {
    let mut stopping = Stopping::begin(groups, until).await?;
    stopping.finish().await?;
    Ok(stopping.end(false).await)
}

/// Groups that are being stopped, or were.
pub(super) struct Stopping {
    groups: Vec<Group>,
    hands: Hands,
    events: mpsc::Receiver<HandsEvent>,
    waiting: BTreeSet<GroupName>,
    failures: Vec<Failure>,
    notifier: Notifier,
}

impl Stopping {
    /// Begins with all of them at once; their addresses are gone when this returns.
    pub(super) async fn begin(groups: &[Group], until: Lease) -> anyhow::Result<Self> {
        let (sender, events) = mpsc::channel(1024);
        let guard = Guard::default();
        guard.note_end(until);
        // Whatever runs without its group, too, is of no use without the daemon.
        let cold = groups.iter().cloned().map(|group| Group {
            here: false,
            ..group
        });
        let groups: Vec<Group> = cold.collect();
        let hands = Hands::start(&groups, sender, guard).await?;
        for group in &groups {
            hands.stop_group(&group.name, RequestId(1), Urgency::LeaseLost);
        }
        Ok(Self {
            waiting: groups.iter().map(|group| group.name.clone()).collect(),
            groups,
            hands,
            events,
            failures: Vec::new(),
            notifier: Notifier::new(),
        })
    }

    /// Waits until all have been tried.
    pub(super) async fn finish(&mut self) -> anyhow::Result<()> {
        while !self.waiting.is_empty() {
            self.next(EXTENSION / 3).await?;
        }
        Ok(())
    }

    /// The same, but no longer than the peers wait before they start what is not stopped by then: they have to be told
    /// that they must not. Answers whether all have been tried.
    pub(super) async fn finish_in_time(
        &mut self,
        until: Lease,
        policy: Policy,
    ) -> anyhow::Result<bool> {
        // Who is late already keeps nobody from anything.
        let is_late = |due: Instant| due <= process::boottime_now();
        if self.due(until, policy).is_none_or(is_late) {
            self.finish().await?;
        }
        while let Some(due) = self.due(until, policy) {
            let remains = due.since(process::boottime_now());
            if remains.is_zero() {
                return Ok(false);
            }
            self.next(remains.min(SLICE)).await?;
        }
        Ok(true)
    }

    /// When the peers start the first of the groups that are not stopped yet: after the end of the lease, and under
    /// `majority` after the stop margin of the group. None where there is no such group, or nobody else.
    fn due(&self, until: Lease, policy: Policy) -> Option<Instant> {
        let Lease::Until(end) = until else {
            return None;
        };
        let waiting = self.groups.iter();
        let waiting = waiting.filter(|group| self.waiting.contains(&group.name));
        let margin = waiting.map(|group| group.stop_margin).min()?;
        Some(match policy {
            Policy::Majority => end + margin.saturating_sub(WORDS),
            Policy::Ignore => end,
        })
    }

    async fn next(&mut self, patience: Duration) -> anyhow::Result<()> {
        self.notifier.extend_timeout(EXTENSION);
        if let Ok(event) = timeout(patience, self.events.recv()).await {
            let event = event.context("the drivers have ended before all groups were stopped")?;
            self.handle(event);
        }
        Ok(())
    }

    fn handle(&mut self, event: HandsEvent) {
        match event {
            HandsEvent::Group {
                group,
                outcome: GroupOutcome::Stopped,
                ..
            } => {
                self.waiting.remove(&group);
            }
            HandsEvent::Group {
                group,
                outcome: GroupOutcome::StopFailed { resource, reason },
                ..
            } => {
                self.waiting.remove(&group);
                let text = format!("group {group}: {resource} did not stop: {reason}");
                self.failures.push(Failure { group, text });
            }
            HandsEvent::Note {
                group,
                resource,
                text,
            } => tracing::warn!("group {group}: {resource}: {text}"),
            HandsEvent::Group { .. } | HandsEvent::Resource { .. } => {}
        }
    }

    /// Of what something may run here still: what is not stopped yet, or did not stop.
    pub(super) fn unreleased(&self) -> Vec<&Group> {
        let failed = |group: &&Group| self.failures.iter().any(|it| it.group == group.name);
        let all = self.groups.iter();
        all.filter(|group| self.waiting.contains(&group.name) || failed(group))
            .collect()
    }

    /// Ends what belongs to no group: the targets of the groups, and respawned programs where there may be some. All of
    /// that needs the message bus, and nobody waits for it.
    pub(super) async fn end(mut self, respawns: bool) -> Vec<Failure> {
        self.hands.withdraw_presence().await;
        // A message bus that is away must not keep a machine without such programs from its end.
        if (self.hands.needs_systemd() || respawns)
            && let Err(reason) = self.hands.stop_respawned().await
        {
            tracing::error!("{reason}");
        }
        self.failures
    }
}
