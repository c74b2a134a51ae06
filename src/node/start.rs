//! From the command line to the running loop: configuration, keys, state, drivers, in this order.

use crate::config::{self, Config, ConfigErrors, interfaces, keyfile};
use crate::core::{Core, Inheritance, Lease, Persistent, Policy};
use crate::dbus::{Bus, BusCommand, Snapshot};
use crate::ids::{GroupName, NodeName, RequestId};
use crate::link::Links;
use crate::node::Node;
use crate::node::alarm::Alarm;
use crate::node::ears::Ears;
use crate::node::packets::Reception;
use crate::node::people::People;
use crate::node::{release, spare, stopping};
use crate::process;
use crate::resource::{Guard, Hands};
use crate::state::{Lock, LockError, State};
use crate::tenure::{self, Keeper, Left};
use crate::wire::PACKET_SENT_MAX;
use crate::wire::keys::Keys;
use crate::wire::size::packet_length_max;
use anyhow::Context as _;
use secrecy::ExposeSecret;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Datagrams that may wait for the loop; more stay in the kernel's buffers.
const PACKETS_MAX: usize = 256;

/// Answers of drivers, and requests of persons, that may wait for the loop.
const QUEUE_MAX: usize = 1024;

/// Shortest limit that is asked of systemd's watchdog: below it, a busy disk alone could end a healthy daemon.
const WATCHDOG_MIN: Duration = Duration::from_millis(500);

/// Longest wait for the stop of what an earlier daemon has left and the configuration does not know any more.
const OLD_PATIENCE: Duration = Duration::from_secs(10);

/// Least of it: addresses go at once.
const OLD_PATIENCE_MIN: Duration = Duration::from_millis(20);

/// Pause between two looks whether a release has ended.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Longest wait for the bus before the daemon says that it is ready; a bus takes some 10 ms.
const BUS_PATIENCE: Duration = Duration::from_millis(500);

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--config FILE`; the default file may be missing.
    pub config: Option<PathBuf>,
    /// Where the state is kept.
    pub state: PathBuf,
}

impl Options {
    /// Loads the configuration for this host, and says what works but may not be meant.
    ///
    /// # Errors
    /// Everything that is wrong with it, with file, line and column.
    pub fn read(&self) -> anyhow::Result<(Config, Vec<String>)> {
        let host = process::hostname();
        let environment = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let loaded = match &self.config {
            Some(file) => config::load_named(file, environment, &host)?,
            None => config::load(Path::new(config::MAIN_FILE), environment, &host)?,
        };
        check_length(&loaded.config)?;
        let existing = interfaces::existing().unwrap_or_default();
        let missing = interfaces::missing(&loaded.interfaces, &existing);
        let warnings = loaded.warnings.iter().chain(&missing);
        let warnings = warnings.map(ToString::to_string).collect();
        Ok((loaded.config, warnings))
    }

    /// The same, with the warnings in the log.
    ///
    /// # Errors
    /// As [`Options::read`].
    pub fn load(&self) -> anyhow::Result<Config> {
        let (config, warnings) = self.read()?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }
}

/// The daemon's exit code for what ended it: 78 (EX_CONFIG of sysexits.h) for a configuration or key file that was
/// refused, which systemd does not try again, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigErrors>() || error.is::<Refused>() {
        78
    } else {
        1
    }
}

/// Something that a person must change before the daemon can run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// A heartbeat names every node and group, and must fit in a datagram whatever happens.
fn check_length(config: &Config) -> anyhow::Result<()> {
    let nodes: Vec<NodeName> = config.settings.nodes.keys().cloned().collect();
    let groups: Vec<GroupName> = config.settings.groups.keys().cloned().collect();
    let length = packet_length_max(config.cluster(), &nodes, &groups).unwrap_or(0);
    if length <= PACKET_SENT_MAX {
        return Ok(());
    }
    Err(Refused(format!(
        "a heartbeat of this cluster can get {length} bytes long, and a datagram holds {PACKET_SENT_MAX}: use fewer \
         groups, or shorter names of groups and nodes"
    ))
    .into())
}

/// Reads the keys that the configuration names; none for a cluster without links.
///
/// # Errors
/// The file is missing, unsafe or wrong.
pub(crate) fn load_keys(config: &Config) -> anyhow::Result<Keys> {
    match &config.keyfile {
        Some(path) => load_key_file(path),
        None => Ok(Keys::default()),
    }
}

/// Reads a key file.
pub(super) fn load_key_file(path: &Path) -> anyhow::Result<Keys> {
    let text = keyfile::read(path)?;
    let keys = Keys::parse(text.expose_secret())
        .map_err(|error| Refused(format!("{}:{error}", path.display())))?;
    Ok(keys)
}

/// What is accepted but protects against nobody.
pub(crate) fn key_warnings(keys: &Keys) -> Vec<String> {
    keys.iter()
        .filter(|key| !key.method().is_keyed())
        .map(|key| {
            format!(
                "key {} is {}, which anybody can compute: whoever reaches a link can steer this cluster; use sha256",
                key.number(),
                key.method().as_str()
            )
        })
        .collect()
}

/// Checks the configuration and the keys, as a start would.
///
/// # Errors
/// What would keep the daemon from starting.
pub fn check(options: &Options) -> anyhow::Result<()> {
    let config = options.load()?;
    load_keys(&config).map(drop)
}

/// Runs the daemon until it is asked to stop and has left the cluster.
///
/// # Errors
/// What kept it from starting, or ended it: to be told, with exit code 1.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let config = options.load()?;
    let keys = load_keys(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        // Locked in memory as a whole, and kept by the C library for the next thread.
        .thread_stack_size(256 << 10)
        .build()
        .context("cannot make the event loop")?;
    let options = options.clone();
    // As a task of its own, since each word from another task to the one that blocks costs a system call.
    let result = runtime
        .block_on(async { tokio::spawn(async move { serve(&options, config, keys).await }).await })
        .context("the loop was broken off")
        .flatten();
    // A disk that hangs must not keep the process from ending.
    runtime.shutdown_background();
    result
}

async fn serve(options: &Options, config: Config, keys: Keys) -> anyhow::Result<()> {
    let stop = watch_signals()?;
    let _lock = take_lock(options).await?;
    let (state, persistent, warnings) = State::open(&options.state, process::unix_now_secs())?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let persistent = bind(&state, persistent, config.settings.deadtime)?;
    harden();
    let guard = Guard::default();
    let (hands_sender, hands_events) = mpsc::channel(QUEUE_MAX);
    let mut hands = Hands::start(&config.groups, hands_sender.clone(), guard.clone()).await?;
    hands.inspect_units(&config, hands_sender);
    let (link_sender, link_events) = mpsc::channel(PACKETS_MAX);
    // A cluster of one has no links, and its loop must not take the silence for their end.
    let _kept = link_sender.clone();
    let links = Links::start(&config.links, link_sender);
    let deadtime = config.settings.deadtime;
    let inheritance = inherit(&config, &guard).await;
    hands.expect_recovery(inheritance.failures.keys());
    let core = Core::heir(
        config.settings.clone(),
        persistent.clone(),
        inheritance,
        process::boottime_now(),
    );
    let reception = Reception::default();
    let ears = Ears::new(config.links.iter().map(config::model::Link::label));
    let mut people = People::new(&config);
    people.tell(&crate::core::event::Event::Starting {
        generation: persistent.generation,
    });
    tell_protection(&config, &mut people);
    let snapshot = people.snapshot(&core, &config, &links, &reception);
    let (bus, commands) = start_bus(snapshot, deadtime).await;
    people.serve(bus);
    let mut node = Node {
        core,
        keys,
        state: Arc::new(state),
        generation_stored: persistent.generation,
        links,
        link_events,
        hands,
        hands_events,
        guard,
        commands,
        reception,
        ears,
        people,
        waiting: BTreeMap::new(),
        last_request: RequestId(0),
        storing: None,
        unstored: None,
        held_back: Vec::new(),
        alarm: Alarm::new().context("cannot make a timer for the loop")?,
        watchdog: start_watchdog(deadtime),
        fed: process::boottime_now(),
        kept_house: process::boottime_now(),
        journal_due: None,
        stopping: false,
        tenure: keeper(&config),
        config,
    };
    spare::keep(&options.state);
    node.hands.publish_presence();
    node.hands.respawn(&node.config.respawn);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    node.run_loop(stop).await
}

/// Stores for how long this life may bind itself by a promise, before it gives one: a life with a shorter deadtime that
/// comes after it must keep silent for as long.
fn bind(
    state: &State,
    persistent: Persistent,
    deadtime: Duration,
) -> Result<Persistent, crate::state::StateError> {
    if persistent.promised >= deadtime {
        return Ok(persistent);
    }
    let bound = Persistent {
        promised: deadtime,
        ..persistent
    };
    state.store(&bound)?;
    Ok(bound)
}

fn keeper(config: &Config) -> Keeper {
    let directory = Path::new(tenure::DIRECTORY);
    Keeper::new(directory, config.links.clone(), config.keyfile.clone())
}

/// Who waits for the start of the unit may ask at once; a bus that is away is not waited for.
async fn start_bus(snapshot: Snapshot, deadtime: Duration) -> (Bus, mpsc::Receiver<BusCommand>) {
    let (sender, commands) = mpsc::channel(QUEUE_MAX);
    let bus = Bus::start(snapshot, sender);
    let patience = BUS_PATIENCE.min(deadtime / 4);
    let _ = tokio::time::timeout(patience, bus.served()).await;
    (bus, commands)
}

/// Waits for a release that is under way, then takes the lock of the one daemon.
async fn take_lock(options: &Options) -> anyhow::Result<Lock> {
    let end = tokio::time::Instant::now() + release::PATIENCE;
    loop {
        match Lock::take_for_release(&options.state) {
            Err(LockError::Held(_)) if tokio::time::Instant::now() < end => {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(held @ LockError::Held(_)) => {
                return Err(held)
                    .context("what an earlier daemon has left is still being released");
            }
            // Kept until the other lock is taken, lest a release begins in between.
            taken => {
                let lock = Lock::take(&options.state)?;
                drop(taken);
                return Ok(lock);
            }
        }
    }
}

/// What an earlier daemon of this boot has left, and what it knew.
async fn inherit(config: &Config, guard: &Guard) -> Inheritance {
    Inheritance {
        failures: tenure::failures(Path::new(tenure::DIRECTORY), &config.groups),
        words: tenure::newest_words(Path::new(tenure::DIRECTORY)),
        ..take_over_what_is_left(config, guard).await
    }
}

/// What this daemon can go on with. What the configuration does not know any more is stopped first, but for no longer
/// than the tenure of the rest allows: what is not down by then blocks its group.
async fn take_over_what_is_left(config: &Config, guard: &Guard) -> Inheritance {
    let Some(left) = Left::load(Path::new(tenure::DIRECTORY)) else {
        return Inheritance::default();
    };
    guard.note_end(left.until());
    // Its own deadtime may have been a longer one.
    let deadtime = config.settings.deadtime.max(left.deadtime());
    let longest = (!config.settings.standalone()).then_some(deadtime);
    let unknown = left.unknown(&config.groups);
    let mut blocked = BTreeSet::new();
    if !unknown.is_empty() {
        let patience = match left.until() {
            Lease::Until(end) => end.since(process::boottime_now()) / 2,
            Lease::None | Lease::Unlimited => OLD_PATIENCE,
        };
        let stop = stopping::stop_groups(&unknown, left.until());
        let text = match tokio::time::timeout(patience.max(OLD_PATIENCE_MIN), stop).await {
            Ok(Ok(failures)) => {
                blocked.extend(failures.iter().map(|failure| failure.group.clone()));
                stopping::fail(&failures)
                    .err()
                    .map(|error| format!("{error:#}"))
            }
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some("it takes too long to stop".to_owned()),
        };
        if let Some(text) = text {
            tracing::error!(
                "what an earlier daemon has left and the configuration does not know: {text}"
            );
            if blocked.is_empty() {
                blocked.extend(unknown.into_iter().map(|group| group.name));
            }
        }
    }
    let now = process::boottime_now();
    Inheritance {
        blocked,
        ..left.inheritance(&config.groups, now, longest)
    }
}

/// Real time and locked memory keep heartbeats punctual on a busy machine; without them the daemon still runs.
fn harden() {
    if let Err(warning) = process::realtime() {
        tracing::warn!("{warning}");
    }
    if let Err(warning) = process::lock_memory() {
        tracing::warn!("{warning}");
    }
}

/// How often systemd's watchdog is fed, if the unit has one: a daemon that alone stands still must be ended before its
/// peers take it for dead, so the limit follows deadtime where that is shorter than the unit's.
fn start_watchdog(deadtime: Duration) -> Option<Duration> {
    let of_unit = sd_notify::watchdog_enabled()?;
    let limit = of_unit.min((deadtime * 3 / 4).max(WATCHDOG_MIN));
    if limit < of_unit {
        let usec = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::WatchdogUsec(usec)]);
    }
    Some(limit / 4)
}

fn tell_protection(config: &Config, people: &mut People) {
    if config.standalone {
        tracing::info!(
            "no configuration in {}: a standalone cluster of this node alone",
            config::MAIN_FILE
        );
    }
    if config.policy() == Policy::Ignore && !config.settings.standalone() {
        people.tell(&crate::core::event::Event::SharedDataNotProtected);
    }
}

/// One message for each SIGTERM or SIGINT.
fn watch_signals() -> anyhow::Result<mpsc::Receiver<()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {
                    tracing::warn!("SIGHUP: reloading is not supported by this version; restart ha-node instead, ignoring");
                    continue;
                }
            }
            // A second one while the first waits says nothing new.
            let _ = sender.try_send(());
        }
    });
    Ok(receiver)
}
