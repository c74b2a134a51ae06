//! What the host must have: root's rights, a few Debian packages, a directory for file systems.

use crate::run;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Each program that the lab and other tests run, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 7] = [
    ("dbus-daemon", "dbus-daemon"),
    ("debootstrap", "debootstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("make", "make"),
];

/// Whether this process may make machines; the text says why not.
///
/// # Errors
/// Not root.
pub fn check_privilege() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the lab boots machines and joins them by cables: it needs root"
    );
    Ok(())
}

/// Where everything is kept: `HA_NODE_LAB_DIR`, else `/var/cache/ha-node-lab`.
///
/// # Errors
/// It cannot be made.
pub fn directory() -> Result<PathBuf> {
    let path = std::env::var_os("HA_NODE_LAB_DIR")
        .map_or_else(|| PathBuf::from("/var/cache/ha-node-lab"), PathBuf::from);
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

/// The project's top directory: `HA_NODE_ROOT`, else where this crate was built.
pub fn project() -> PathBuf {
    std::env::var_os("HA_NODE_ROOT").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."),
        PathBuf::from,
    )
}

/// Takes a lock that parallel runs wait for; it ends with the value.
///
/// # Errors
/// The file cannot be made or locked.
pub fn lock(name: &str) -> Result<File> {
    let path = directory()?.join(name);
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Installs the packages whose programs are missing.
///
/// # Errors
/// Not root, no Debian, or the packages cannot be had.
pub fn ensure_programs() -> Result<()> {
    check_privilege()?;
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| !installed(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let _lock = lock("packages.lock")?;
    eprintln!("lab: installing {}", missing.join(" "));
    run::show(&["apt-get", "update", "-qq"]).context("cannot read the package lists")?;
    let mut words = vec![
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
    ];
    words.extend(missing);
    run::show(&words)
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(program).is_file())
}
