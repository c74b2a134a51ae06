//! One machine: a systemd that boots in a container of its own, with everything that can happen to it.
//!
//! The kernel is the host's, so a machine that is [`Machine::pause`]d still answers for its addresses, as a
//! real one whose processes stand still would; one whose power is cut is gone from its cables first.

use crate::lab::Shared;
use crate::network::{self, Direction};
use crate::run::{self, Output};
use crate::{cgroup, clock};
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a boot may take; a second is usual.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// The same small environment for everything that runs inside.
const ENVIRONMENT: [&str; 5] = [
    "env",
    "-i",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG=C.UTF-8",
    "HOME=/root",
];
/// Joins a cgroup before it becomes the program: nothing is ever outside.
const JOIN_AND_RUN: &str = "echo $$ > \"$1/cgroup.procs\" && shift && exec \"$@\"";

/// A machine before its first boot.
#[derive(Debug)]
pub struct Builder {
    lab: Arc<Shared>,
    name: String,
    links: Vec<Link>,
    layers: Vec<PathBuf>,
    disks: Vec<(String, u32)>,
}

#[derive(Debug, Clone)]
struct Link {
    interface: String,
    address: String,
}

impl Builder {
    pub(crate) fn new(lab: Arc<Shared>, name: &str) -> Self {
        Self {
            lab,
            name: name.to_owned(),
            links: Vec::new(),
            layers: Vec::new(),
            disks: Vec::new(),
        }
    }

    /// A cable to the switch of that interface's name, with an address and prefix length.
    #[must_use]
    pub fn link(mut self, interface: &str, address: &str) -> Self {
        self.links.push(Link {
            interface: interface.to_owned(),
            address: address.to_owned(),
        });
        self
    }

    /// A directory whose files lie over the base; it must not change while the machine exists.
    #[must_use]
    pub fn layer(mut self, directory: &Path) -> Self {
        self.layers.push(directory.to_owned());
        self
    }

    /// A disk of its own at a path, of so many MiB; what is on it survives power cuts, as on the others.
    #[must_use]
    pub fn disk(mut self, path: &str, mib: u32) -> Self {
        self.disks.push((path.to_owned(), mib));
        self
    }

    /// Makes the file system and boots.
    ///
    /// # Errors
    /// It cannot be mounted, or systemd does not come up.
    pub fn boot(self) -> Result<Machine> {
        let machine = self.build()?;
        machine.power_on()?;
        Ok(machine)
    }

    /// Makes the file system, and leaves the power off.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn build(self) -> Result<Machine> {
        let directory = self.lab.directory.join(&self.name);
        for part in ["up", "work", "root"] {
            fs::create_dir_all(directory.join(part))?;
        }
        self.mount(&directory)?;
        let machine = Machine(Arc::new(Inner {
            cgroup: self.lab.cgroup(&self.name),
            lab: self.lab,
            name: self.name,
            directory,
            links: self.links,
            running: Mutex::new(None),
            epoch: AtomicU32::new(0),
            power: Mutex::new(Vec::new()),
        }));
        machine.identify()?;
        Ok(machine)
    }

    fn mount(&self, directory: &Path) -> Result<()> {
        let mut lower: Vec<String> = self
            .layers
            .iter()
            .map(|p| p.display().to_string())
            .collect();
        lower.push(self.lab.base.display().to_string());
        let at = directory.display();
        let options = format!(
            "lowerdir={},upperdir={at}/up,workdir={at}/work",
            lower.join(":")
        );
        let root = directory.join("root");
        run::run(&[
            "mount",
            "-t",
            "overlay",
            "overlay",
            "-o",
            &options,
            &root.to_string_lossy(),
        ])
        .context("cannot mount the machine's file system")?;
        self.mount_disks(&root)
    }

    /// In the host's memory, since the machine's own would be gone with its power.
    fn mount_disks(&self, root: &Path) -> Result<()> {
        for (path, mib) in &self.disks {
            let at = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(&at)?;
            let (at, size) = (at.to_string_lossy(), format!("size={mib}m"));
            run::run(&["mount", "-t", "tmpfs", "tmpfs", "-o", &size, &at])
                .with_context(|| format!("cannot mount a disk at {path}"))?;
        }
        Ok(())
    }
}

/// A machine; a clone is the same machine.
#[derive(Debug, Clone)]
pub struct Machine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lab: Arc<Shared>,
    name: String,
    directory: PathBuf,
    cgroup: PathBuf,
    links: Vec<Link>,
    running: Mutex<Option<Running>>,
    /// Boots so far: who watches the machine must look anew after each.
    epoch: AtomicU32,
    power: Mutex<Vec<(Duration, bool)>>,
}

#[derive(Debug)]
struct Running {
    /// The machine's process 1, by the host's number.
    leader: u32,
    nspawn: Child,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let running = self
            .running
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(Running { nspawn, .. }) = running {
            let _ = nspawn.kill();
            let _ = nspawn.wait();
        }
    }
}

impl Machine {
    /// Its host name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its network namespace, while the power is on.
    pub fn namespace(&self) -> String {
        format!("{}-{}", self.0.lab.id, self.0.name)
    }

    /// How often it was booted.
    pub fn epoch(&self) -> u32 {
        self.0.epoch.load(Ordering::SeqCst)
    }

    /// When the power came (true) and went, in order.
    pub fn power_changes(&self) -> Vec<(Duration, bool)> {
        lock(&self.0.power).clone()
    }

    /// Cgroup of one of its units, on the host, whether or not it exists now.
    pub fn unit_cgroup(&self, unit: &str) -> PathBuf {
        self.0.cgroup.join("payload/system.slice").join(unit)
    }

    /// Where the host sees one of its files (not those below /run, /tmp, /dev, /proc and /sys).
    pub fn path(&self, path: &str) -> PathBuf {
        self.0
            .directory
            .join("root")
            .join(path.trim_start_matches('/'))
    }

    /// Host name, hosts file, machine id; the page that its web server shows is its name.
    fn identify(&self) -> Result<()> {
        let mut id = [0_u8; 16];
        std::io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut id)?;
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = self.name();
        self.write("/etc/machine-id", &format!("{hex}\n"), 0o444)?;
        self.write("/etc/hostname", &format!("{name}\n"), 0o644)?;
        let hosts = format!("127.0.0.1 localhost\n127.0.1.1 {name}\n");
        self.write("/etc/hosts", &hosts, 0o644)?;
        self.write("/var/www/html/index.html", &format!("{name}\n"), 0o644)
    }

    /// Boots it (again): the same disk, a new kernel network, empty /run.
    ///
    /// # Errors
    /// It runs already, or systemd does not come up.
    pub fn power_on(&self) -> Result<()> {
        let mut running = lock(&self.0.running);
        ensure!(running.is_none(), "{} is on already", self.name());
        self.lay_cables()?;
        cgroup::create(&self.0.cgroup)?;
        let notify = self.0.directory.join("notify");
        let _ = fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify)?;
        let mut nspawn = self.spawn(&notify)?;
        self.0.epoch.fetch_add(1, Ordering::SeqCst);
        lock(&self.0.power).push((clock::now(), true));
        let leader = wait_until_ready(&socket, &mut nspawn).with_context(|| {
            let console = fs::read_to_string(self.0.directory.join("console")).unwrap_or_default();
            format!("{} did not boot: {console}", self.name())
        })?;
        *running = Some(Running { leader, nspawn });
        Ok(())
    }

    fn lay_cables(&self) -> Result<()> {
        let namespace = self.namespace();
        let _ = run::attempt(&["ip", "netns", "del", &namespace]);
        run::run(&["ip", "netns", "add", &namespace])?;
        run::run(&["ip", "-n", &namespace, "link", "set", "lo", "up"])?;
        for link in &self.0.links {
            let network = &self.0.lab.network;
            network.connect(&namespace, self.name(), &link.interface, &link.address)?;
        }
        Ok(())
    }

    fn spawn(&self, notify: &Path) -> Result<Child> {
        let root = self.0.directory.join("root");
        let console = File::create(self.0.directory.join("console"))?;
        let namespace = format!("--network-namespace-path=/run/netns/{}", self.namespace());
        let words = [
            "sh",
            "-c",
            JOIN_AND_RUN,
            "sh",
            &self.0.cgroup.to_string_lossy(),
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--boot",
            "--notify-ready=yes",
            "--console=pipe",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--capability=all",
            "--system-call-filter=@known",
            "--directory",
            &root.to_string_lossy(),
            "--machine",
            &self.namespace(),
            "--hostname",
            self.name(),
            &namespace,
        ];
        run::command(&words)?
            .env("NOTIFY_SOCKET", notify)
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdout(console.try_clone()?)
            .stderr(console)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start systemd-nspawn")
    }

    /// Cuts the power: off the cables and dead, all of it at once.
    ///
    /// # Errors
    /// It is off already.
    pub fn power_cut(&self) -> Result<()> {
        let mut running = lock(&self.0.running);
        let Some(Running { mut nspawn, .. }) = running.take() else {
            bail!("{} is off already", self.name());
        };
        let interfaces = self.interfaces();
        lock(&self.0.power).push((clock::now(), false));
        self.0.lab.network.unplug_all(self.name(), &interfaces)?;
        cgroup::kill(&self.0.cgroup);
        nspawn.wait()?;
        for interface in interfaces {
            self.0.lab.network.disconnect(self.name(), interface);
        }
        run::run(&["ip", "netns", "del", &self.namespace()])?;
        cgroup::remove(&self.0.cgroup);
        Ok(())
    }

    /// Whether the power is on.
    pub fn is_on(&self) -> bool {
        lock(&self.0.running).is_some()
    }

    /// Stops all its processes where they are.
    ///
    /// # Errors
    /// It is off.
    pub fn pause(&self) -> Result<()> {
        cgroup::freeze(&self.0.cgroup, true)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// It is off.
    pub fn resume(&self) -> Result<()> {
        cgroup::freeze(&self.0.cgroup, false)
    }

    /// Names of its interfaces.
    pub fn interfaces(&self) -> Vec<&str> {
        self.0.links.iter().map(|l| l.interface.as_str()).collect()
    }

    /// Hardware address of one of its interfaces, the same in all its lives.
    pub fn hardware_address(&self, interface: &str) -> [u8; 6] {
        network::hardware_address(self.name(), interface)
    }

    /// Pulls out one cable.
    ///
    /// # Errors
    /// No such cable.
    pub fn cut(&self, interface: &str) -> Result<()> {
        self.0.lab.network.plug(self.name(), interface, false)
    }

    /// Plugs it in again.
    ///
    /// # Errors
    /// No such cable.
    pub fn mend(&self, interface: &str) -> Result<()> {
        self.0.lab.network.plug(self.name(), interface, true)
    }

    /// Pulls out all cables at once.
    ///
    /// # Errors
    /// The machine is off.
    pub fn cut_all(&self) -> Result<()> {
        self.0
            .lab
            .network
            .unplug_all(self.name(), &self.interfaces())
    }

    /// Plugs all in again.
    ///
    /// # Errors
    /// The machine is off.
    pub fn mend_all(&self) -> Result<()> {
        self.interfaces().into_iter().try_for_each(|i| self.mend(i))
    }

    /// Breaks one direction of a cable without a sign to either end; `None` repairs it.
    ///
    /// # Errors
    /// No such cable.
    pub fn block(&self, interface: &str, direction: Option<Direction>) -> Result<()> {
        self.0.lab.network.block(self.name(), interface, direction)
    }

    /// Loses this share of what it sends, on every cable, 0 to 100 percent.
    ///
    /// # Errors
    /// The machine is off.
    pub fn lose(&self, percent: u32) -> Result<()> {
        let network = &self.0.lab.network;
        self.interfaces()
            .into_iter()
            .try_for_each(|interface| network.lose(self.name(), interface, percent))
    }

    /// Runs a program inside that must succeed; gives its output.
    ///
    /// # Errors
    /// The machine is off, or the program failed.
    pub fn exec(&self, words: &[&str]) -> Result<String> {
        self.with_words(words, run::run)
            .with_context(|| format!("on {}", self.name()))
    }

    /// Runs a program inside, whatever its exit code.
    ///
    /// # Errors
    /// The machine is off.
    pub fn attempt(&self, words: &[&str]) -> Result<Output> {
        self.with_words(words, run::attempt)
    }

    /// Runs a shell script inside.
    ///
    /// # Errors
    /// As [`Self::exec`].
    pub fn shell(&self, script: &str) -> Result<String> {
        self.exec(&["sh", "-ec", script])
    }

    /// Starts a program inside and leaves it running, its output to be read from the child.
    ///
    /// # Errors
    /// The machine is off.
    pub fn exec_spawn(&self, words: &[&str]) -> Result<Child> {
        self.with_words(words, |words| {
            Ok(run::command(words)?
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?)
        })
    }

    fn with_words<T>(&self, words: &[&str], action: impl Fn(&[&str]) -> Result<T>) -> Result<T> {
        let leader = self.leader()?.to_string();
        let mut all = vec!["nsenter", "-t", &leader, "-a", "--"];
        all.extend(ENVIRONMENT);
        all.extend(words);
        action(&all)
    }

    /// Its process 1, by the host's number.
    ///
    /// # Errors
    /// It is off.
    pub fn leader(&self) -> Result<u32> {
        let running = lock(&self.0.running);
        let running = running.as_ref();
        running
            .map(|running| running.leader)
            .with_context(|| format!("{} is off", self.name()))
    }

    /// Writes one of its files, on or off (see [`Self::path`] for where).
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &str, text: &str, mode: u32) -> Result<()> {
        let host_path = self.path(path);
        if let Some(parent) = host_path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&host_path, text)
            .and_then(|()| fs::set_permissions(&host_path, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("cannot write {path} of {}", self.name()))
    }

    /// Reads one of its files, on or off.
    ///
    /// # Errors
    /// No such file.
    pub fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.path(path))
            .with_context(|| format!("cannot read {path} of {}", self.name()))
    }
}

/// The container's process 1 tells its own number, then that it is up.
fn wait_until_ready(socket: &UnixDatagram, nspawn: &mut Child) -> Result<u32> {
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let end = clock::now() + BOOT_LIMIT;
    let mut buffer = [0_u8; 4096];
    let mut leader = None;
    while clock::now() < end {
        if let Some(status) = nspawn.try_wait()? {
            bail!("systemd-nspawn ended: {status}");
        }
        let Ok(length) = socket.recv(&mut buffer) else {
            continue;
        };
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        for line in message.lines() {
            if let Some(pid) = line.strip_prefix("X_NSPAWN_LEADER_PID=") {
                leader = Some(pid.parse()?);
            } else if line == "READY=1" {
                return leader.context("systemd-nspawn did not tell its leader");
            }
        }
    }
    bail!("not up after {BOOT_LIMIT:?}")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
