//! Putting ha-node into a machine, as a package would: its files, then what a package's scripts do.

use crate::machine::Machine;
use crate::{host, run};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The daemon's unit.
pub const UNIT: &str = "ha-node.service";
/// Its configuration.
pub const CONFIG: &str = "/etc/ha-node/ha-node.toml";
/// Its keys.
pub const KEYS: &str = "/etc/ha-node/authkeys";

/// Begins the name of a stage; the number of the process that made it follows.
const STAGE_PREFIX: &str = "stage-";

static STAGE: Mutex<Weak<Stage>> = Mutex::new(Weak::new());
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Build profile whose binaries are installed: `HA_NODE_PROFILE`, else `release`.
pub fn profile() -> String {
    std::env::var("HA_NODE_PROFILE").unwrap_or_else(|_| "release".to_owned())
}

/// A directory with everything that `make install` puts in place; it goes with the last cluster that uses it.
#[derive(Debug)]
pub struct Stage(PathBuf);

impl Stage {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The stage of this process. The programs must be built: `make setup` does it.
///
/// # Errors
/// They are not built for [`profile`], or cannot be put in place.
pub fn stage() -> Result<Arc<Stage>> {
    let mut current = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stage) = current.upgrade() {
        return Ok(stage);
    }
    let _lock = host::lock("stage.lock")?;
    remove_stages_of_the_dead();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{STAGE_PREFIX}{}-{count}", std::process::id());
    let stage = Arc::new(Stage(host::directory()?.join(name)));
    make_install(stage.path())?;
    *current = Arc::downgrade(&stage);
    Ok(stage)
}

fn make_install(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)?;
    let project = host::project();
    let destination = format!("DESTDIR={}", path.display());
    let profile = format!("PROFILE={}", profile());
    run::show(&[
        "make",
        "--silent",
        "--no-print-directory",
        "-C",
        &project.to_string_lossy(),
        "install",
        &destination,
        "PREFIX=/usr",
        &profile,
    ])
    .context("cannot install ha-node into the lab")
}

/// Removes this process's stages, for an end that drops nothing.
pub(crate) fn remove_own_stages() {
    remove_stages(|pid| pid == std::process::id().to_string());
}

fn remove_stages_of_the_dead() {
    remove_stages(|pid| !Path::new("/proc").join(pid).is_dir());
}

fn remove_stages(of: impl Fn(&str) -> bool) {
    let directory = host::directory().and_then(|path| Ok(std::fs::read_dir(path)?));
    for entry in directory.into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix(STAGE_PREFIX)
            .and_then(|rest| rest.split('-').next());
        if pid.is_some_and(&of) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Machine {
    /// What a package does after its files are in place.
    ///
    /// # Errors
    /// One of systemd's tools refuses the files.
    pub fn after_install(&self) -> Result<()> {
        self.shell(
            "systemd-sysusers; systemd-tmpfiles --create; systemctl daemon-reload
             journalctl --update-catalog
             busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig
             systemctl enable ha-node.service",
        )
        .map(drop)
    }

    /// Writes the configuration and the keys; the latter readable for root only.
    ///
    /// # Errors
    /// The disk is not writable.
    pub fn configure(&self, config: &str, keys: &str) -> Result<()> {
        self.write(CONFIG, config, 0o644)?;
        self.write(KEYS, keys, 0o600)
    }
}
