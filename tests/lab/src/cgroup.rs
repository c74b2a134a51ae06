//! One cgroup for each machine, in the host's version 2 tree: machines that share one would see each other's
//! processes in their units' cgroups, and systemd could neither kill nor count them.

use crate::clock;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Top of the version 2 tree: beside the version 1 hierarchies on a hybrid host, else the whole.
pub fn tree() -> PathBuf {
    let hybrid = Path::new("/sys/fs/cgroup/unified");
    if hybrid.is_dir() {
        hybrid.to_owned()
    } else {
        PathBuf::from("/sys/fs/cgroup")
    }
}

/// Makes a cgroup and those above it.
///
/// # Errors
/// The tree is not writable.
pub fn create(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make cgroup {}", path.display()))
}

/// Stops or continues every process below.
///
/// # Errors
/// No such cgroup, or the kernel has no freezer.
pub fn freeze(path: &Path, frozen: bool) -> Result<()> {
    let file = path.join("cgroup.freeze");
    fs::write(&file, if frozen { "1" } else { "0" })
        .with_context(|| format!("cannot write {}", file.display()))?;
    let wanted = format!("frozen {}", u8::from(frozen));
    clock::wait_for(&wanted, Duration::from_secs(2), || {
        let events = fs::read_to_string(path.join("cgroup.events"))?;
        Ok(events.contains(&wanted).then_some(()))
    })
}

/// Ends every process below with SIGKILL; waits until none is left, 5 s at most.
pub fn kill(path: &Path) {
    for _ in 0..500 {
        let _ = fs::write(path.join("cgroup.kill"), "1");
        if processes(path).is_empty() {
            return;
        }
        clock::sleep(Duration::from_millis(10));
    }
}

/// Removes a cgroup and those below it, as far as they are empty.
pub fn remove(path: &Path) {
    for child in children(path) {
        remove(&child);
    }
    let _ = fs::remove_dir(path);
}

/// Processes in a cgroup and below, by the host's numbers.
pub fn processes(path: &Path) -> Vec<u32> {
    let own = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let mut all: Vec<u32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    for child in children(path) {
        all.extend(processes(&child));
    }
    all
}

/// Whether a process lives in a cgroup or below; false if there is no such cgroup.
pub fn populated(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.events"))
        .is_ok_and(|events| events.contains("populated 1"))
}

fn children(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}
