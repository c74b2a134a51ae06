//! One lab: its identity, its switches and client, and the certainty that all of it goes away.
//!
//! All names begin with the lab's, which holds the number of the process that owns it. So everything can be
//! found again, and removed, from the name alone: by the owner when the value is dropped, by its handler for
//! Ctrl-C, and by any later run if the owner was killed.

use crate::machine::{Builder, Machine};
use crate::network::Network;
use crate::{base, cgroup, clock, host, install, run};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

/// Begins the name of every lab.
const PREFIX: &str = "hanl";

static COUNT: AtomicU32 = AtomicU32::new(0);
static ALIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static START: Once = Once::new();

/// A set of machines and a client that watches them.
#[derive(Debug)]
pub struct Lab {
    shared: Arc<Shared>,
    machines: Mutex<Vec<Machine>>,
}

/// What a lab's machines know of it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: String,
    pub(crate) directory: PathBuf,
    pub(crate) base: PathBuf,
    pub(crate) network: Network,
}

impl Shared {
    pub(crate) fn cgroup(&self, machine: &str) -> PathBuf {
        cgroup_of(&self.id).join(machine)
    }
}

impl Lab {
    /// Makes an empty lab; builds what is missing for it, and removes what killed runs left behind.
    ///
    /// # Errors
    /// Not root, or the host lacks something that cannot be had.
    pub fn new() -> Result<Self> {
        let base = base::ensure()?;
        let _lock = host::lock("labs.lock")?;
        START.call_once(|| {
            sweep();
            remove_on_signal();
        });
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{PREFIX}{}-{count}", std::process::id());
        lock_alive().insert(id.clone());
        let directory = runs()?.join(&id);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("owner"), start_time(std::process::id()))?;
        let network = Network::new(&id).inspect_err(|_| remove(&id))?;
        let shared = Shared {
            id,
            directory,
            base,
            network,
        };
        let lab = Self {
            shared: Arc::new(shared),
            machines: Mutex::new(Vec::new()),
        };
        run::run(&["ip", "netns", "add", &lab.client()])?;
        run::run(&["ip", "-n", &lab.client(), "link", "set", "lo", "up"])?;
        Ok(lab)
    }

    /// Begins a machine of that name.
    pub fn machine(&self, name: &str) -> Builder {
        Builder::new(Arc::clone(&self.shared), name)
    }

    /// Boots machines, all at once.
    ///
    /// # Errors
    /// One of them does not come up.
    pub fn boot(&self, builders: Vec<Builder>) -> Result<Vec<Machine>> {
        let machines: Vec<Machine> = std::thread::scope(|scope| {
            let threads: Vec<_> = builders
                .into_iter()
                .map(|builder| scope.spawn(|| builder.boot()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("panic")))
                .collect::<Result<_>>()
        })?;
        let mut all = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(machines.iter().cloned());
        Ok(machines)
    }

    /// Gives the client a cable to a network.
    ///
    /// # Errors
    /// It has one already.
    pub fn connect_client(&self, interface: &str, address: &str) -> Result<()> {
        self.shared
            .network
            .connect(&self.client(), "client", interface, address)
    }

    /// Network namespace of the client, the machine that only watches.
    pub fn client(&self) -> String {
        format!("{}-client", self.shared.id)
    }

    /// The switches.
    pub fn network(&self) -> &Network {
        &self.shared.network
    }

    /// The name that all of this lab's parts begin with.
    pub fn id(&self) -> &str {
        &self.shared.id
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::env::var_os("HA_NODE_LAB_KEEP").is_some() && std::thread::panicking() {
            eprintln!("lab: keeping {} as it failed", self.shared.id);
            return;
        }
        remove(&self.shared.id);
        lock_alive().remove(&self.shared.id);
    }
}

/// Names of all labs of this host whose owner still lives.
///
/// # Errors
/// The lab's directory cannot be made.
pub fn living() -> Result<Vec<String>> {
    Ok(listed()?.into_iter().filter(|id| owner_lives(id)).collect())
}

/// Removes what killed runs left behind.
pub fn sweep() {
    for id in listed().unwrap_or_default() {
        if !owner_lives(&id) {
            eprintln!("lab: removing {id}, whose owner is gone");
            remove(&id);
        }
    }
}

fn listed() -> Result<Vec<String>> {
    let entries = fs::read_dir(runs()?)?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(PREFIX))
        .collect())
}

fn owner_lives(id: &str) -> bool {
    let pid = id
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split('-').next())
        .and_then(|number| number.parse().ok());
    let stored = runs().and_then(|runs| Ok(fs::read_to_string(runs.join(id).join("owner"))?));
    match (pid, stored) {
        (Some(pid), Ok(stored)) => !stored.is_empty() && stored == start_time(pid),
        _ => false,
    }
}

/// When a process started, so that its number used anew is not taken for it; empty if there is none.
fn start_time(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    fields.split_whitespace().nth(19).unwrap_or("").to_owned()
}

fn runs() -> Result<PathBuf> {
    let path = host::directory()?.join("run");
    fs::create_dir_all(&path).context("cannot make the directory of labs")?;
    Ok(path)
}

fn cgroup_of(id: &str) -> PathBuf {
    cgroup::tree().join(format!("ha-node-lab-{id}"))
}

/// Removes all that has the name of this lab; goes on over errors.
fn remove(id: &str) {
    let group = cgroup_of(id);
    cgroup::kill(&group);
    if let Ok(directory) = runs().map(|runs| runs.join(id)) {
        for _ in 0..100 {
            let mounts = mounts_below(&directory);
            if mounts.is_empty() {
                break;
            }
            for mount in mounts {
                let _ = run::attempt(&["umount", &mount]);
            }
            clock::sleep(Duration::from_millis(20));
        }
        if mounts_below(&directory).is_empty() {
            let _ = fs::remove_dir_all(&directory);
        }
    }
    cgroup::remove(&group);
    remove_entries(Path::new("/run/netns"), id, |name| {
        let _ = run::attempt(&["ip", "netns", "del", name]);
    });
    let propagated = Path::new("/run/systemd/nspawn/propagate");
    remove_entries(propagated, id, |name| {
        let _ = fs::remove_dir_all(propagated.join(name));
    });
}

fn remove_entries(directory: &Path, id: &str, remove: impl Fn(&str)) {
    let prefix = format!("{id}-");
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str()
            && name.starts_with(&prefix)
        {
            remove(name);
        }
    }
}

fn mounts_below(directory: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut found: Vec<String> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|point| Path::new(point).starts_with(directory))
        .map(str::to_owned)
        .collect();
    found.reverse();
    found
}

/// After Ctrl-C or a polite end: all labs of this process go, then it ends.
fn remove_on_signal() {
    let _ = std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                use tokio::signal::unix::{SignalKind, signal};
                let (Ok(mut interrupt), Ok(mut terminate)) = (
                    signal(SignalKind::interrupt()),
                    signal(SignalKind::terminate()),
                ) else {
                    return;
                };
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            eprintln!("lab: interrupted, removing the machines");
            let ids = lock_alive().clone();
            // Twice: a thread of this process may have been about to boot one more machine.
            for id in ids.iter().chain(&ids) {
                remove(id);
            }
            install::remove_own_stages();
            std::process::exit(130);
        });
}

fn lock_alive() -> std::sync::MutexGuard<'static, BTreeSet<String>> {
    ALIVE.lock().unwrap_or_else(PoisonError::into_inner)
}
