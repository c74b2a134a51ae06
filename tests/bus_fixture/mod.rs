//! A private message bus with the shipped policy, and a task that plays the daemon behind the service.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use ha_node::core::view::{GroupCondition, GroupView, NodeState, NodeView, Protection, View};
use ha_node::core::{Instant, Request};
use ha_node::dbus::{Bus, BusCommand, ClockOffset, LinkSnapshot, ResourceSnapshot, Snapshot};
use ha_node::ids::{ClusterName, Generation, GroupName, LinkId, NodeName, Term};
use ha_node::journal::{Level, Record};
use ha_node::wire::status::{GroupState, Phase, Refusal};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

/// How long anything may take here before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A `dbus-daemon` of our own; ended with this value.
pub(crate) struct PrivateBus {
    directory: TempDir,
    daemon: Child,
    runtime: tokio::runtime::Handle,
}

impl PrivateBus {
    /// Starts a bus; `None` where the program is missing.
    pub(crate) fn start() -> Option<Self> {
        let directory = tempfile::Builder::new().prefix("ha-bus").tempdir().unwrap();
        open_for_strangers(directory.path());
        let policy = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/dbus-policy/org.linuxha.Cluster.conf"
        );
        let config = format!(
            "<busconfig><type>system</type><listen>unix:path={0}/socket</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow user=\"*\"/><deny own=\"*\"/><deny send_type=\"method_call\"/>\
             <allow send_type=\"signal\"/><allow send_requested_reply=\"true\" send_type=\"method_return\"/>\
             <allow send_requested_reply=\"true\" send_type=\"error\"/><allow receive_type=\"method_call\"/>\
             <allow receive_type=\"method_return\"/><allow receive_type=\"error\"/><allow receive_type=\"signal\"/>\
             <allow send_destination=\"org.freedesktop.DBus\"/></policy><include>{policy}</include></busconfig>",
            directory.path().display()
        );
        std::fs::write(directory.path().join("bus.conf"), config).unwrap();
        let Some(daemon) = spawn_bus(&directory) else {
            // Past the capture of the output of tests that pass.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: the program dbus-daemon is missing"
            );
            return None;
        };
        let runtime = background_runtime();
        let bus = Self {
            directory,
            daemon,
            runtime,
        };
        bus.wait_for_socket();
        Some(bus)
    }

    /// Ends the bus as a crash would.
    pub(crate) fn stop(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        let _ = std::fs::remove_file(self.directory.path().join("socket"));
    }

    /// Starts it again at the same address.
    pub(crate) fn restart(&mut self) {
        self.daemon = spawn_bus(&self.directory).unwrap();
        self.wait_for_socket();
    }

    /// Its address.
    pub(crate) fn address(&self) -> String {
        format!("unix:path={}/socket", self.directory.path().display())
    }

    /// A client's connection.
    pub(crate) async fn connect(&self) -> zbus::Connection {
        zbus::connection::Builder::address(self.address().as_str())
            .build()
            .await
            .unwrap()
    }

    /// Runs a future to its end.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Asks again and again until there is an answer.
    pub(crate) fn until<T>(&self, mut ask: impl FnMut() -> Option<T>) -> T {
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(
                tokio::time::Instant::now() < patience,
                "no answer in {PATIENCE:?}"
            );
            self.block_on(async { tokio::time::sleep(Duration::from_millis(10)).await });
        }
    }

    fn wait_for_socket(&self) {
        self.until(|| {
            std::os::unix::net::UnixStream::connect(self.directory.path().join("socket")).ok()
        });
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A runtime that goes on, on a thread of its own, while the test waits for programs.
fn background_runtime() -> tokio::runtime::Handle {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
}

fn open_for_strangers(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests run programs, the daemon does not"
)]
fn spawn_bus(directory: &TempDir) -> Option<Child> {
    Command::new("dbus-daemon")
        .arg(format!(
            "--config-file={}/bus.conf",
            directory.path().display()
        ))
        .args(["--nofork", "--nopidfile", "--nosyslog"])
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

/// Whether this test may act as another user.
pub(crate) fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// What a run of `hactl` left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `hactl` to its end as the user that runs the tests.
pub(crate) fn hactl(bus: &PrivateBus, arguments: &[&str]) -> Ended {
    end(hactl_command(bus, arguments))
}

/// Runs `hactl` to its end as another user.
pub(crate) fn hactl_as(bus: &PrivateBus, arguments: &[&str], user: u32) -> Ended {
    let mut command = hactl_command(bus, arguments);
    command.uid(user).gid(user);
    end(command)
}

/// Starts `hactl` and lets it run.
pub(crate) fn spawn_hactl(bus: &PrivateBus, arguments: &[&str]) -> Child {
    hactl_command(bus, arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests run programs, the daemon does not"
)]
fn hactl_command(bus: &PrivateBus, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hactl"));
    command
        .args(arguments)
        .env("DBUS_SYSTEM_BUS_ADDRESS", bus.address());
    command
}

fn end(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The part of the daemon behind the service.
pub(crate) struct FakeDaemon {
    bus: Bus,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    requests: Vec<String>,
    hold: bool,
    held: Vec<oneshot::Sender<Result<(), Refusal>>>,
}

impl FakeDaemon {
    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.taken.lock().unwrap().requests.clone()
    }

    /// Leaves requests without an answer, or answers all of them.
    pub(crate) fn hold_replies(&self, hold: bool) {
        let mut taken = self.taken.lock().unwrap();
        taken.hold = hold;
        for reply in taken.held.drain(..) {
            let _ = reply.send(Ok(()));
        }
    }

    /// Shows another state.
    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.bus.publish(snapshot);
    }

    /// Tells of something.
    pub(crate) fn event(&self, id: &'static str, text: &str) {
        self.bus.event(&Record {
            id,
            message_id: "0",
            level: Level::Notice,
            text: text.to_owned(),
            fields: vec![("HA_PEER", "beta".to_owned())],
            usec: 1,
        });
    }
}

/// Serves the example cluster, and waits until it is there.
pub(crate) fn serve(bus: &PrivateBus) -> FakeDaemon {
    let daemon = serve_without_waiting(bus);
    bus.until(|| (hactl(bus, &["status"]).code == 0).then_some(()));
    daemon
}

/// Serves the example cluster as soon as there is a bus.
pub(crate) fn serve_without_waiting(bus: &PrivateBus) -> FakeDaemon {
    let (commands, receiver) = mpsc::channel(8);
    let taken = Arc::new(Mutex::new(Taken::default()));
    let service = bus.block_on(async {
        tokio::spawn(answer(receiver, Arc::clone(&taken)));
        Bus::start_at(Some(bus.address()), fake_snapshot(), commands)
    });
    FakeDaemon {
        bus: service,
        taken,
    }
}

async fn answer(mut commands: mpsc::Receiver<BusCommand>, taken: Arc<Mutex<Taken>>) {
    while let Some(BusCommand::Request { request, reply }) = commands.recv().await {
        let mut taken = taken.lock().unwrap();
        match &request {
            Request::Move { group, .. } if group.as_str() == "nosuch" => {
                let _ = reply.send(Err(Refusal::NoSuchGroup(group.clone())));
                continue;
            }
            Request::Move { .. } | Request::Standby(_) | Request::Online | Request::Clear(_) => {}
        }
        taken.requests.push(format!("{request:?}"));
        if taken.hold {
            taken.held.push(reply);
        } else {
            let _ = reply.send(Ok(()));
        }
    }
}

/// Two nodes, one group, one link.
pub(crate) fn fake_snapshot() -> Snapshot {
    let name = |text: &str| NodeName::new(text).unwrap();
    let (alpha, beta) = (name("alpha"), name("beta"));
    let web = GroupName::new("web").unwrap();
    let node = |links| NodeView {
        state: NodeState::Active,
        generation: Some(Generation(4)),
        standby: false,
        config_hash: Some(7),
        differs: [].into(),
        last_heard: Some(Instant::from_nanos(1)),
        links,
        witness: false,
    };
    let group = GroupView {
        state: GroupCondition::Started,
        owner: Some(alpha.clone()),
        since: Instant::from_nanos(1),
        reason: "first in its list".to_owned(),
        preferred: vec![alpha.clone(), beta.clone()],
        local: GroupState::Started,
        failures: BTreeMap::from([(beta.clone(), 2)]),
    };
    let nodes = BTreeMap::from([
        (alpha.clone(), node(BTreeMap::new())),
        (beta.clone(), node(BTreeMap::from([(LinkId(0), true)]))),
    ]);
    Snapshot {
        view: View {
            local_node: alpha.clone(),
            generation: Generation(4),
            phase: Phase::Active,
            term: Some(Term {
                number: 1,
                leader: alpha,
                generation: Generation(4),
            }),
            has_leader: true,
            quorate: true,
            protection: Protection::DeadtimeOnly,
            nodes,
            groups: BTreeMap::from([(web.clone(), group)]),
        },
        cluster: ClusterName::new("prod").unwrap(),
        version: "0.0.0".to_owned(),
        clock: ClockOffset::new(Instant::from_nanos(0), Duration::from_secs(1_795_370_472)),
        deafness: None,
        links: vec![LinkSnapshot {
            kind: "ucast",
            interface: Some("eth1".to_owned()),
            label: "eth1".to_owned(),
            peers: BTreeMap::from([(beta, true)]),
            sent: 1,
            received: 1,
            rejected: 0,
        }],
        resources: BTreeMap::from([(
            web,
            vec![ResourceSnapshot {
                id: "vip:10.0.0.1".to_owned(),
                kind: "vip",
                state: "started",
            }],
        )]),
    }
}
