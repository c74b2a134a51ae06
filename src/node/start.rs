//! From the command line to the running loop: configuration, keys, state, drivers, in this order.

use crate::config::{Config, ConfigErrors, keyfile};
use crate::core::{Core, Policy};
use crate::dbus::Bus;
use crate::ids::RequestId;
use crate::link::Links;
use crate::node::Node;
use crate::node::packets::Reception;
use crate::node::people::People;
use crate::process;
use crate::resource::{Guard, Hands};
use crate::state::{Lock, State};
use crate::wire::keys::Keys;
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
        let (config, warnings) = match &self.config {
            Some(file) => Config::load_named(file, environment, &host)?,
            None => Config::load(Path::new(crate::config::MAIN_FILE), environment, &host)?,
        };
        Ok((config, warnings.iter().map(ToString::to_string).collect()))
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

/// The daemon's exit code for what ended it: 78 (EX_CONFIG of sysexits.h) for a configuration that was refused, which
/// systemd does not try again, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigErrors>() { 78 } else { 1 }
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
        .map_err(|error| anyhow::anyhow!("{}:{error}", path.display()))?;
    Ok(keys)
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
    let result = runtime.block_on(serve(options, config, keys));
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
    people.serve(Bus::start(snapshot, command_sender));
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
        held_back: Vec::new(),
        watchdog: start_watchdog(deadtime),
        fed: process::boottime_now(),
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
            crate::config::MAIN_FILE
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
