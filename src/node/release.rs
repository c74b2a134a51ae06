//! Gives up what a daemon that has died has left running on this machine, without the daemon.
//!
//! The unit runs [`after_exit`] whenever the daemon has ended. While nobody else may run what it held, it is given time to
//! come back, and a timer of systemd is set for the end of that time (`timer`). The timer, or a unit that has failed for
//! good, runs [`release`]: it stops everything by what the daemon wrote down, whatever the configuration says now
//! (`stopping`), and then tells the peers, who need not wait any longer (`last_words`). After an orderly stop there is
//! nothing to do.
//!
//! What a release has begun to stop is never gone on with: that is noted before it begins, and what it could not stop is
//! noted before the peers are told of the rest.

use crate::config::Config;
use crate::config::model::Group;
use crate::core::{Instant, Lease, Policy};
use crate::node::Options;
use crate::node::last_words::Mouth;
use crate::node::stopping::{self, Stopping};
use crate::node::{restart, timer};
use crate::process;
use crate::state::{Lock, LockError};
use crate::tenure::{self, Left};
use anyhow::Context as _;
use std::path::Path;
use std::time::Duration;

/// How long a start waits for a release that is under way; a unit that stops slowly may take longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Longest wait for systemd's word on why the daemon has ended.
const RESTART_PATIENCE: Duration = Duration::from_millis(500);

/// Least time for a release: its program starts within some 50 ms, and addresses go at once.
const RESERVE_MIN: Duration = Duration::from_millis(250);

/// Rest of the time in which a daemon can come back for which no timer is set anew: systemd does not start a release that
/// has not ended yet a second time, so that a ring before its end would be lost.
const SHORT_REST: Duration = Duration::from_millis(500);

/// Pause between two looks at a lock, or for a sign of life.
const PAUSE: Duration = Duration::from_millis(10);

/// A daemon that starts holds the lock of releases for an instant; who holds it longer releases.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);

/// The daemon has ended: gives it time to come back, or releases everything.
///
/// # Errors
/// As [`release`].
pub fn after_exit(options: &Options) -> anyhow::Result<()> {
    let directory = Path::new(tenure::DIRECTORY);
    let left = Left::load(directory);
    let until = left.as_ref().map_or(Lease::None, Left::until);
    let Some(at) = left.as_ref().and_then(end_of_wait) else {
        return release(options);
    };
    // systemd tells the stop commands how the daemon ended (systemd.exec(5)).
    let in_good_order = std::env::var("SERVICE_RESULT").is_ok_and(|word| word == "success");
    if in_good_order && !runtime()?.block_on(is_restarted()) {
        return release(options);
    }
    let now = process::boottime_now();
    let is_set = tenure::waited_for(directory, until).is_some_and(|rings| now < rings);
    if until == Lease::Unlimited || is_set {
        return Ok(());
    }
    match runtime()?.block_on(timer::set(at)) {
        Ok(()) => {
            // What the timer starts asks whether it was set for this.
            if let Err(error) = tenure::note_waited_for(directory, until, at) {
                tracing::warn!("cannot note that a timer is set: {error}, releasing at once");
                return release(options);
            }
            tracing::info!(
                "what the daemon held goes on for {} ms, in which it can come back",
                at.since(now).as_millis()
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
    tokio::time::timeout(RESTART_PATIENCE, restart::is_under_way())
        .await
        .unwrap_or(false)
}

/// Up to when what was left can go on, with time enough to stop it before anybody else starts it. None if it cannot.
fn end_of_wait(left: &Left) -> Option<Instant> {
    let words = left.tenure.as_ref()?.words.as_ref();
    let deadtime = words.map_or(Duration::ZERO, |words| words.deadtime);
    let now = process::boottime_now();
    match left.until() {
        _ if left.is_withdrawn() => None,
        Lease::None => None,
        Lease::Until(end) => {
            let time = end.since(now).checked_sub(reserve(left))?;
            // A daemon that can come back at all does so within a fraction of a second: units get the rest to stop.
            let time = time.min((deadtime / 2).max(RESERVE_MIN));
            (!time.is_zero()).then(|| now + time)
        }
        // Nobody else can run it, ever.
        Lease::Unlimited => Some(Instant::from_nanos(u64::MAX)),
    }
}

/// Time that is kept for a release.
fn reserve(left: &Left) -> Duration {
    let words = left.tenure.as_ref().and_then(|it| it.words.as_ref());
    let deadtime = words.map_or(Duration::ZERO, |words| words.deadtime);
    (deadtime / 4).max(RESERVE_MIN)
}

/// Stops everything that a dead daemon held, and every group of the configuration: addresses first, and at once. Then
/// tells the peers.
///
/// # Errors
/// The daemon runs, or a group did not stop; the rest was stopped all the same.
pub fn release(options: &Options) -> anyhow::Result<()> {
    let directory = Path::new(tenure::DIRECTORY);
    if timer::has_rung() && runtime()?.block_on(is_for_another_time(directory)) {
        return Ok(());
    }
    let (_locks, hangs) = match runtime()?.block_on(take_locks(options)) {
        Mandate::Lives(held) => return nothing_to_do(&held),
        Mandate::Gone(locks) => (locks, false),
        Mandate::Hangs(locks) => (locks, true),
    };
    if hangs {
        tracing::error!("the daemon that was started hangs: releasing what the one before it held");
    }
    let config = match options.load() {
        Ok(config) => Some(config),
        Err(error) => {
            tracing::warn!("{error:#}\nreleasing what the daemon has written down");
            None
        }
    };
    let left = Left::load(directory);
    runtime()?.block_on(release_all(directory, left, config.as_ref(), hangs))
}

/// Whether the timer that rang asks for nothing now. One that was set for an earlier death does not: the daemon has been
/// back since, and its next end sets another. One that rang early, as it does where the machine was suspended or its
/// clock set, is set anew; a short rest is waited for here. systemd starts a daemon only once this release has ended, so
/// that waiting for long would keep it from coming back.
async fn is_for_another_time(directory: &Path) -> bool {
    let mut anew = true;
    loop {
        let Some(left) = Left::load(directory) else {
            return false;
        };
        let Some(at) = tenure::waited_for(directory, left.until()) else {
            tracing::info!(
                "nothing is released: the daemon was back after the death that this timer was set for"
            );
            return true;
        };
        let rest = at.since(process::boottime_now());
        if rest.is_zero() {
            return false;
        }
        if rest > SHORT_REST && std::mem::take(&mut anew) {
            match timer::set(at).await {
                Ok(()) => return true,
                Err(error) => tracing::warn!("cannot set the timer anew: {error:#}, waiting here"),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Who may act for the node.
enum Mandate {
    /// The daemon does.
    Lives(LockError),
    /// Whoever has these.
    Gone(Locks),
    /// Whoever has these: the daemon has said nothing until it is almost too late, so it hangs in its start.
    Hangs(Locks),
}

/// Kept as long as the release takes. A state directory that is out of order must not keep a dead daemon's groups
/// running, so there may be none.
struct Locks {
    _release: Option<Lock>,
    _daemon: Option<Lock>,
}

/// Takes the locks, and watches a daemon that has its own until it shows a sign of life, ends, or it is almost too late.
/// One that lives renews its tenure with each heartbeat; a heartbeat that renews nothing, since nobody answers, is a sign
/// of life, too. Between two looks a new daemon can start.
async fn take_locks(options: &Options) -> Mandate {
    let load = || Left::load(Path::new(tenure::DIRECTORY));
    let left = load();
    let begin = process::boottime_now();
    let mut releases_since: Option<Instant> = None;
    loop {
        let now = process::boottime_now();
        let release = match Lock::take_for_release(&options.state) {
            Err(held @ LockError::Held(_)) => {
                let since = *releases_since.get_or_insert(now);
                if now.since(since) > LOCK_PATIENCE {
                    return Mandate::Lives(held);
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            taken => taken.ok(),
        };
        releases_since = None;
        let held = match Lock::take(&options.state) {
            Err(held @ LockError::Held(_)) => held,
            taken => {
                return Mandate::Gone(Locks {
                    _release: release,
                    _daemon: taken.ok(),
                });
            }
        };
        let Some((left, Lease::Until(end))) = left.as_ref().map(|left| (left, left.until())) else {
            return Mandate::Lives(held);
        };
        if load().is_none_or(|newer| newer.tenure != left.tenure) {
            return Mandate::Lives(held);
        }
        let patience = reserve(left) / 2;
        if now + patience >= end && now >= begin + patience {
            return Mandate::Hangs(Locks {
                _release: release,
                _daemon: None,
            });
        }
        drop(release);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Somebody is there who cares: for systemd that is fine, for a person it is not what was asked for.
fn nothing_to_do(held: &LockError) -> anyhow::Result<()> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        anyhow::bail!("{held}; use `systemctl stop ha-node` to hand its groups over");
    }
    tracing::info!("nothing is released, the daemon is back: {held}");
    Ok(())
}

pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot make the event loop")
}

/// What was written down, and what the configuration has besides.
fn all_groups(left: Option<&Left>, config: Option<&Config>) -> Vec<Group> {
    let recorded = left.map(|left| &left.held.groups).into_iter().flatten();
    let mut groups: Vec<Group> = recorded.map(|held| held.group.clone()).collect();
    for group in config.map(|config| &config.groups).into_iter().flatten() {
        if groups.iter().all(|known| known.name != group.name) {
            groups.push(group.clone());
        }
    }
    groups
}

async fn release_all(
    directory: &Path,
    mut left: Option<Left>,
    config: Option<&Config>,
    hangs: bool,
) -> anyhow::Result<()> {
    let withdrawn = left.as_mut().is_none_or(|left| left.withdraw(directory));
    let until = left.as_ref().map_or(Lease::None, Left::until);
    let groups = all_groups(left.as_ref(), config);
    let mut stopping = Stopping::begin(&groups, until).await?;
    // One that hangs may yet speak for this node, and so may one that goes on with what cannot be withdrawn.
    let mouth = left.as_ref().filter(|_| withdrawn && !hangs);
    let mut mouth = mouth.and_then(Mouth::open);
    // The others wait by the policy that the dead daemon had, whatever the file says by now.
    let policy = (left.as_ref().and_then(Left::policy))
        .unwrap_or_else(|| config.map_or(Policy::Ignore, Config::policy));
    let done = stopping.finish_in_time(until, policy).await?;
    tell(directory, left.as_mut(), &stopping, mouth.as_mut()).await;
    if !done {
        stopping.finish().await?;
        tell(directory, left.as_mut(), &stopping, mouth.as_mut()).await;
    }
    let respawns = config.is_some_and(|config| !config.respawn.is_empty());
    let failures = stopping.end(respawns).await;
    if failures.is_empty() {
        tenure::clear(directory);
    }
    stopping::fail(&failures)
}

/// Notes what may run here still, and then tells the peers that nothing else does. In this order: what they were told
/// that it is free must not be taken for ours.
async fn tell(
    directory: &Path,
    left: Option<&mut Left>,
    stopping: &Stopping,
    mouth: Option<&mut Mouth>,
) {
    let (Some(left), Some(mouth)) = (left, mouth) else {
        return;
    };
    let unreleased = stopping.unreleased();
    if let Err(error) = left.keep_only(directory, &unreleased) {
        tracing::warn!("cannot note what did not stop: {error}, going on");
    }
    let names = unreleased.iter().map(|group| group.name.clone()).collect();
    let said = mouth.say(&names).await;
    if let Err(error) = left.note_said(directory, said) {
        tracing::debug!("not noted what was said: {error}");
    }
}
