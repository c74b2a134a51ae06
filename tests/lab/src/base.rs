//! The file system that all machines share, read-only: a small Debian with what the tests need in it.
//!
//! It is built once, under a lock that parallel runs wait for, beside its final name, and renamed when
//! complete. Its name holds a number made from all that it depends on; a change makes a new one.

use crate::{host, run};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// What debootstrap brings beyond its minimum.
const BASE: &str =
    "systemd,systemd-sysv,dbus,iproute2,iputils-ping,procps,nftables,ca-certificates";
/// What is installed on top.
const PACKAGES: [&str; 5] = [
    "nginx",
    "python3-dbus",
    "python3-gi",
    "curl",
    "resource-agents",
];
/// Units that only cost time in a machine that lives for a minute.
const MASKED: [&str; 12] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-tmpfiles-clean.timer",
    "systemd-modules-load.service",
    "systemd-pstore.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "getty.target",
];
/// To be raised when [`prepare`] does something else than before.
const LAYOUT: u32 = 3;

/// Where the base is; builds it first if needed.
///
/// # Errors
/// Not root, or Debian's packages cannot be had.
pub fn ensure() -> Result<PathBuf> {
    host::ensure_programs()?;
    let suite = suite();
    let path = host::directory()?.join(format!("base-{suite}-{:08x}", fingerprint()));
    if path.is_dir() {
        return Ok(path);
    }
    let _lock = host::lock("base.lock")?;
    if !path.is_dir() {
        eprintln!("lab: building the machines' file system, once: about two minutes");
        let half = path.with_extension("half");
        let _ = fs::remove_dir_all(&half);
        build(&half, &suite)?;
        fs::rename(&half, &path)?;
    }
    Ok(path)
}

/// The host's release if it is a Debian, else the one the project is made for.
fn suite() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name: &str| {
        release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches('"').to_owned())
    };
    match (field("ID").as_deref(), field("VERSION_CODENAME")) {
        (Some("debian"), Some(codename)) => codename,
        _ => "bookworm".to_owned(),
    }
}

/// FNV-1a over everything that decides what is in the base.
fn fingerprint() -> u32 {
    let text = format!("{BASE} {PACKAGES:?} {MASKED:?} {LAYOUT}");
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

fn build(root: &Path, suite: &str) -> Result<()> {
    let path = root.to_string_lossy();
    let include = format!("--include={BASE}");
    let mirror = mirror(suite);
    run::show(&[
        "debootstrap",
        "--variant=minbase",
        &include,
        suite,
        &path,
        &mirror,
    ])
    .context("debootstrap failed")?;
    install_packages(root)?;
    prepare(root)
}

/// The archive that the host itself uses for this release, if it is one.
fn mirror(suite: &str) -> String {
    let format = "$(REPO_URI) $(CODENAME)";
    let listed = run::run(&["apt-get", "indextargets", "--format", format]).unwrap_or_default();
    listed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, codename)| *codename == suite)
        .map_or_else(
            || "http://deb.debian.org/debian".to_owned(),
            |(address, _)| address.to_owned(),
        )
}

/// apt inside, with the host's sources, proxies and certificates for that time only.
fn install_packages(root: &Path) -> Result<()> {
    let path = root.to_string_lossy().into_owned();
    let guard = root.join("usr/sbin/policy-rc.d");
    let script = format!(
        "set -e; cd '{path}'
        cp -r etc/apt .apt-before
        rm -f etc/apt/sources.list
        for part in sources.list sources.list.d apt.conf.d auth.conf.d trusted.gpg.d; do
            if [ -e /etc/apt/$part ]; then cp -rL /etc/apt/$part etc/apt/; fi
        done
        cp -n /usr/share/keyrings/* usr/share/keyrings/ || true
        cp /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/ca-certificates.crt || true
        cp -L /etc/resolv.conf /etc/hosts etc/
        printf '#!/bin/sh\\nexit 101\\n' > usr/sbin/policy-rc.d; chmod +x usr/sbin/policy-rc.d
        export DEBIAN_FRONTEND=noninteractive
        chroot . apt-get update -qq
        chroot . apt-get install -y -qq --no-install-recommends {}
        chroot . apt-get clean
        rm -rf etc/apt var/lib/apt/lists/*; mv .apt-before etc/apt; : > etc/resolv.conf",
        PACKAGES.join(" ")
    );
    let result = run::show(&["sh", "-c", &script]);
    let _ = fs::remove_file(guard);
    result.context("cannot install the machines' packages")
}

/// Quiet, quick to boot, nothing running that a test did not ask for, a journal that survives a power cut.
fn prepare(root: &Path) -> Result<()> {
    let path = root.to_string_lossy();
    let root_option = format!("--root={path}");
    let mut words = vec!["systemctl", &root_option, "mask"];
    words.extend(MASKED);
    run::run(&words)?;
    run::run(&["systemctl", &root_option, "disable", "nginx.service"])?;
    fs::create_dir_all(root.join("var/log/journal"))?;
    fs::create_dir_all(root.join("etc/systemd/journald.conf.d"))?;
    fs::write(
        root.join("etc/systemd/journald.conf.d/lab.conf"),
        "[Journal]\nRateLimitIntervalSec=0\nSystemMaxUse=64M\n",
    )?;
    fs::write(
        root.join("etc/hosts"),
        "127.0.0.1 localhost\n::1 localhost\n",
    )?;
    Ok(())
}
