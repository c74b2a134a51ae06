//! Gives up what a daemon that has died has left running on this machine, without the daemon.
//!
//! The unit runs [`after_exit`] whenever the daemon has ended. While nobody else may run what it held, it is given time to
//! come back, and a timer of systemd is set for the end of that time. The timer, or a unit that has failed for good,
//! runs [`release`]: it stops everything by what the daemon wrote down, whatever the configuration says now, and then
//! tells the peers, who need not wait any longer. After an orderly stop there is nothing to do.

use crate::config::Config;
use crate::config::model::{Group, Link};
use crate::core::{GroupOutcome, Lease, Urgency};
use crate::dbus::systemd1::ManagerProxy;
use crate::ids::{GroupName, RequestId};
use crate::link::{LinkEvent, Links};
use crate::node::Options;
use crate::node::notify::Notifier;
use crate::node::restart;
use crate::node::start::load_key_file;
use crate::process;
use crate::resource::{Guard, Hands, HandsEvent};
use crate::state::{Lock, LockError};
use crate::tenure::{self, Left};
use crate::wire::codec::{SenderFacts, encode};
use crate::wire::keys::Keys;
use crate::wire::status::{Status, last_words};
use anyhow::Context as _;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use zbus::Variant;
use zbus::proxy::CacheProperties;

/// The timer that starts `ha-node-release.service`, which runs [`release`]: a timer starts the service of its name.
const TIMER: &str = "ha-node-release.timer";

/// How long a start waits for a release that is under way; a unit that stops slowly may take longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How often the last words are said, since nobody can ask for them again.
const LAST_WORDS: usize = 3;

/// Longest wait for the links before the last words are said.
const LINKS_PATIENCE: Duration = Duration::from_millis(300);

/// Longest wait for systemd to set the timer: without one, everything is released at once.
const TIMER_PATIENCE: Duration = Duration::from_millis(500);

/// Pause between two attempts to set the timer.
const TIMER_PAUSE: Duration = Duration::from_millis(10);

/// Least time for a release: its program starts within some 50 ms, and addresses go at once.
const RESERVE_MIN: Duration = Duration::from_millis(250);

/// Pause between two looks for a sign of life.
const SILENCE_PAUSE: Duration = Duration::from_millis(10);

/// How exactly systemd keeps the time; by default it may be a minute late.
const TIMER_ACCURACY_USEC: u64 = 1000;

/// How much longer a release may take, told while it goes on.
const EXTENSION: Duration = Duration::from_secs(30);

/// The daemon has ended: gives it time to come back, or releases everything.
///
/// # Errors
/// As [`release`].
pub fn after_exit(options: &Options) -> anyhow::Result<()> {
    let directory = Path::new(tenure::DIRECTORY);
    let left = Left::load(directory);
    let until = left.as_ref().map_or(Lease::None, Left::until);
    let Some(time) = left.as_ref().and_then(time_to_come_back) else {
        return release(options);
    };
    // systemd tells the stop commands how the daemon ended (systemd.exec(5)).
    let in_good_order = std::env::var("SERVICE_RESULT").is_ok_and(|word| word == "success");
    if in_good_order && !runtime()?.block_on(is_restarted()) {
        return release(options);
    }
    if until == Lease::Unlimited || tenure::is_waited_for(directory, until) {
        return Ok(());
    }
    let set = runtime()?.block_on(async {
        tokio::time::timeout(TIMER_PATIENCE, set_timer(time))
            .await
            .unwrap_or_else(|_| anyhow::bail!("systemd does not answer"))
    });
    match set {
        Ok(()) => {
            if let Err(error) = tenure::note_waited_for(directory, until) {
                tracing::debug!("not noted that a timer is set: {error}");
            }
            tracing::info!(
                "what the daemon held goes on for {} ms, in which it can come back",
                time.as_millis()
            );
            Ok(())
        }
        Err(error) => {
            tracing::warn!("cannot set a timer for the release: {error:#}, releasing at once");
            release(options)
        }
    }
}

async fn is_restarted() -> bool {
    tokio::time::timeout(TIMER_PATIENCE, restart::is_under_way())
        .await
        .unwrap_or(false)
}

/// How long what was left can go on, with time enough to stop it before anybody else starts it. None if it cannot.
fn time_to_come_back(left: &Left) -> Option<Duration> {
    let words = left.tenure.as_ref()?.words.as_ref();
    let deadtime = words.map_or(Duration::ZERO, |words| words.deadtime);
    match left.until() {
        Lease::None => None,
        Lease::Until(end) => {
            let remains = end.since(process::boottime_now());
            let time = remains.checked_sub(reserve(left))?;
            // A daemon that can come back at all does so within a fraction of a second: units get the rest to stop.
            let time = time.min((deadtime / 2).max(RESERVE_MIN));
            (!time.is_zero()).then_some(time)
        }
        // Nobody else can run it, ever.
        Lease::Unlimited => Some(Duration::MAX),
    }
}

async fn set_timer(time: Duration) -> anyhow::Result<()> {
    let manager = manager().await?;
    let usec = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    // One that was set for an earlier death is void.
    let _ = manager.stop_unit(TIMER, "replace").await;
    let properties = [
        (
            "Description",
            Variant::from("End of the time in which ha-node can come back"),
        ),
        (
            "TimersMonotonic",
            Variant::from(vec![("OnActiveSec", usec)]),
        ),
        ("AccuracyUSec", Variant::from(TIMER_ACCURACY_USEC)),
        ("RemainAfterElapse", Variant::from(false)),
    ];
    loop {
        let set = manager.start_transient_unit(TIMER, "replace", &properties, &[]);
        match set.await {
            // The earlier one is still on its way out.
            Err(zbus::Error::MethodError(name, ..)) if name.as_str().ends_with(".UnitExists") => {
                tokio::time::sleep(TIMER_PAUSE).await;
            }
            result => return Ok(result.map(drop)?),
        }
    }
}

async fn manager() -> zbus::Result<ManagerProxy<'static>> {
    let connection = zbus::connection::Builder::system().build().await?;
    ManagerProxy::builder(&connection)
        .cache_properties(CacheProperties::No)
        .build()
        .await
}

/// Stops everything that a dead daemon held, and every group of the configuration: addresses first, and at once. Then
/// tells the peers.
///
/// # Errors
/// The daemon runs, or a group did not stop; the rest was stopped all the same.
pub fn release(options: &Options) -> anyhow::Result<()> {
    // A state directory that is out of order must not keep a dead daemon's groups running.
    let release_lock = Lock::take_for_release(&options.state);
    if let Err(held @ LockError::Held(_)) = &release_lock {
        return nothing_to_do(held);
    }
    let daemon_lock = Lock::take(&options.state);
    let hangs = match &daemon_lock {
        Err(LockError::Held(_)) if runtime()?.block_on(stays_silent(options)) => true,
        Err(held @ LockError::Held(_)) => return nothing_to_do(held),
        Ok(_) | Err(LockError::Unavailable(_)) => false,
    };
    if hangs {
        tracing::error!("the daemon that was started hangs: releasing what the one before it held");
    }
    let left = Left::load(Path::new(tenure::DIRECTORY));
    let config = match options.load() {
        Ok(config) => Some(config),
        Err(error) => {
            tracing::warn!("{error:#}\nreleasing what the daemon has written down");
            None
        }
    };
    runtime()?.block_on(async {
        let failures = stop_all(left.as_ref(), config.as_ref()).await?;
        // One that hangs may yet speak for this node.
        if let Some(left) = left.as_ref().filter(|_| !hangs) {
            tell_peers(left, failures.iter().map(|failure| &failure.group)).await;
        }
        if failures.is_empty() {
            tenure::clear(Path::new(tenure::DIRECTORY));
        }
        fail(&failures)
    })
}

/// Whether the daemon that has the lock says nothing until it is almost too late for a release: it hangs in its start.
/// One that lives renews its tenure with each heartbeat.
async fn stays_silent(options: &Options) -> bool {
    let load = || Left::load(Path::new(tenure::DIRECTORY));
    let Some(left) = load() else {
        return false;
    };
    let Lease::Until(end) = left.until() else {
        return false;
    };
    // A heartbeat that renews nothing, since nobody answers, is a sign of life, too.
    let reserve = reserve(&left);
    let begin = process::boottime_now();
    while process::boottime_now() + reserve / 2 < end
        || process::boottime_now() < begin + reserve / 2
    {
        tokio::time::sleep(SILENCE_PAUSE).await;
        let renewed = load().is_none_or(|now| now.tenure != left.tenure);
        // One that dies meanwhile is the business of the stop command that follows.
        if renewed || Lock::take(&options.state).is_ok() {
            return false;
        }
    }
    true
}

/// Time that is kept for a release.
fn reserve(left: &Left) -> Duration {
    let words = left.tenure.as_ref().and_then(|it| it.words.as_ref());
    let deadtime = words.map_or(Duration::ZERO, |words| words.deadtime);
    (deadtime / 4).max(RESERVE_MIN)
}

/// Somebody is there who cares: for systemd that is fine, for a person it is not what was asked for.
fn nothing_to_do(held: &LockError) -> anyhow::Result<()> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        anyhow::bail!("{held}; use `systemctl stop ha-node` to hand its groups over");
    }
    tracing::info!("nothing is released, the daemon is back: {held}");
    Ok(())
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot make the event loop")
}

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

/// What was written down, and what the configuration has besides.
async fn stop_all(left: Option<&Left>, config: Option<&Config>) -> anyhow::Result<Vec<Failure>> {
    let recorded = left.map(|left| &left.held.groups).into_iter().flatten();
    let mut groups: Vec<Group> = recorded.map(|held| held.group.clone()).collect();
    for group in config.map(|config| &config.groups).into_iter().flatten() {
        if groups.iter().all(|known| known.name != group.name) {
            groups.push(group.clone());
        }
    }
    let respawns = config.is_some_and(|config| !config.respawn.is_empty());
    stop_groups(&groups, respawns).await
}

/// Stops these groups, and respawned programs where there may be some.
pub(super) async fn stop_groups(groups: &[Group], respawns: bool) -> anyhow::Result<Vec<Failure>> {
    let (sender, mut events) = mpsc::channel(1024);
    let guard = Guard::default();
    guard.set(Lease::None);
    // Whatever runs without its group, too, is of no use without the daemon.
    let cold = groups.iter().cloned().map(|group| Group {
        here: false,
        ..group
    });
    let groups = &cold.collect::<Vec<_>>();
    let mut hands = Hands::start(groups, sender, guard).await?;
    let mut waiting = BTreeSet::new();
    for group in groups {
        hands.stop_group(&group.name, RequestId(1), Urgency::LeaseLost);
        waiting.insert(group.name.clone());
    }
    let notifier = Notifier::new();
    let mut failures = Vec::new();
    while !waiting.is_empty() {
        notifier.extend_timeout(EXTENSION);
        let Ok(event) = tokio::time::timeout(EXTENSION / 3, events.recv()).await else {
            continue;
        };
        let event = event.context("the drivers have ended before all groups were stopped")?;
        let HandsEvent::Group { group, outcome, .. } = event else {
            continue;
        };
        match outcome {
            GroupOutcome::Stopped => {
                waiting.remove(&group);
            }
            GroupOutcome::StopFailed { resource, reason } => {
                waiting.remove(&group);
                let text = format!("group {group}: {resource} did not stop: {reason}");
                failures.push(Failure { group, text });
            }
            GroupOutcome::Started
            | GroupOutcome::StartFailed { .. }
            | GroupOutcome::StartRefused
            | GroupOutcome::Failed { .. }
            | GroupOutcome::Appeared { .. }
            | GroupOutcome::Recovered { .. } => {}
        }
    }
    hands.withdraw_presence().await;
    // A message bus that is away must not keep a machine without such programs from its end.
    if (hands.needs_systemd() || respawns)
        && let Err(reason) = hands.stop_respawned().await
    {
        tracing::error!("{reason}");
    }
    Ok(failures)
}

/// Says for the dead daemon that it is gone, so that the others need not wait for deadtime.
async fn tell_peers(left: &Left, unreleased: impl Iterator<Item = &GroupName>) {
    let words = left
        .tenure
        .as_ref()
        .and_then(|tenure| tenure.words.as_deref());
    let Some(words) = words.filter(|_| !left.held.links.is_empty()) else {
        return;
    };
    let keys = match left.held.keyfile.as_deref().map(load_key_file) {
        Some(Ok(keys)) => keys,
        Some(Err(error)) => {
            tracing::warn!("the others are not told, they wait for deadtime: {error:#}");
            return;
        }
        None => return,
    };
    let unreleased: BTreeSet<GroupName> = unreleased.cloned().collect();
    let words = last_words(words.clone(), &unreleased);
    say(&left.held.links, &keys, words).await;
}

async fn say(links: &[Link], keys: &Keys, mut words: Status) {
    let (sender, mut events) = mpsc::channel(64);
    let ports = Links::start(links, sender);
    let mut silent: BTreeSet<usize> = (0..links.len()).collect();
    let deadline = tokio::time::Instant::now() + LINKS_PATIENCE;
    while !silent.is_empty() {
        match tokio::time::timeout_at(deadline, events.recv()).await {
            Ok(Some(LinkEvent::State { link, .. })) => {
                silent.remove(&usize::from(link.0));
            }
            Ok(Some(LinkEvent::Received { .. })) => {}
            Ok(None) | Err(_) => break,
        }
    }
    let facts = SenderFacts {
        timestamp_unix_secs: process::unix_now_secs(),
        loadavg: &process::loadavg(),
        ttl: 2,
    };
    for _ in 0..LAST_WORDS {
        ports.send(&encode(&words, keys, &facts));
        words.sequence = words.sequence.next();
    }
}
