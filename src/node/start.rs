//! From the command line to the running loop: configuration, keys, state, drivers, in this order.

use crate::config::{self, Config, ConfigErrors, interfaces, keyfile};
use crate::core::{Core, Policy};
use crate::dbus::Bus;
use crate::ids::{GroupName, NodeName, RequestId};
use crate::link::Links;
use crate::node::Node;
use crate::node::alarm::Alarm;
use crate::node::packets::Reception;
use crate::node::people::People;
use crate::process;
use crate::resource::{Guard, Hands};
use crate::state::{Lock, State};
use crate::wire::PACKET_SENT_MAX;
use crate::wire::keys::Keys;
use crate::wire::size::packet_length_max;
use anyhow::Context as _;
use secrecy::ExposeSecret;
use std::collections::BTreeMap;
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
    let Some(path) = &config.keyfile else {
        return Ok(Keys::default());
    };
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
    let _lock = Lock::take(&options.state)?;
    let (state, persistent, warnings) = State::open(&options.state, process::unix_now_secs())?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    harden();
    let stop = watch_signals()?;
    let guard = Guard::default();
    let (hands_sender, hands_events) = mpsc::channel(QUEUE_MAX);
    let hands = Hands::start(&config.groups, hands_sender, guard.clone()).await?;
    let (link_sender, link_events) = mpsc::channel(PACKETS_MAX);
    // A cluster of one has no links, and its loop must not take the silence for their end.
    let _kept = link_sender.clone();
    let links = Links::start(&config.links, link_sender);
    let deadtime = config.settings.deadtime;
    let core = Core::new(
        config.settings.clone(),
        persistent.clone(),
        process::boottime_now(),
    );
    let reception = Reception::default();
    let mut people = People::new(&config);
    people.tell(&crate::core::event::Event::Starting {
        generation: persistent.generation,
    });
    tell_protection(&config, &mut people);
    let (command_sender, commands) = mpsc::channel(QUEUE_MAX);
    let snapshot = people.snapshot(&core, &config, &links, &reception);
    let bus = Bus::start(snapshot, command_sender);
    // Who waits for the start of the unit may ask at once; a bus that is away is not waited for.
    let patience = BUS_PATIENCE.min(deadtime / 4);
    let _ = tokio::time::timeout(patience, bus.served()).await;
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
        stopping: false,
        config,
    };
    node.hands.respawn(&node.config.respawn);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    node.run_loop(stop).await
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
