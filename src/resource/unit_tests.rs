//! Jobs against a manager of units that answers when it likes.

use super::*;
use crate::core::io::Lease;
use crate::dbus::systemd1::ManagerProxy;
use futures_util::FutureExt;
use tokio::runtime::Builder;
use tokio::sync::Notify;
use zbus::proxy::CacheProperties;
use zbus::{ObjectPath, OwnedObjectPath, connection, interface};

const NAME: &str = "app.service";
const GUID: &str = "0123456789abcdef0123456789abcdef";
const PATH: &str = "/org/freedesktop/systemd1/unit/app";

/// The one unit, and what was asked of the manager.
#[derive(Debug)]
struct Stage {
    units: Arc<Units>,
    calls: Mutex<Vec<&'static str>>,
    active: Mutex<&'static str>,
    /// Starts are taken in only after this, whatever is answered meanwhile.
    start: Notify,
    starts_wait: bool,
    /// A stop job does not end by itself.
    stop_hangs: bool,
}

impl Stage {
    fn note(&self, call: &'static str) {
        self.calls.lock().unwrap().push(call);
    }

    fn end(&self, job: &str, active: &'static str) -> OwnedObjectPath {
        *self.active.lock().unwrap() = active;
        let mut table = self.units.table();
        table.on_job_removed(job.to_owned(), JobResult::Done);
        path(job)
    }
}

fn path(path: &str) -> OwnedObjectPath {
    ObjectPath::try_from(path.to_owned()).unwrap().into()
}

struct Manager(Arc<Stage>);

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn load_unit(&self, _name: &str) -> OwnedObjectPath {
        path(PATH)
    }

    fn reset_failed_unit(&self, _name: &str) {}

    async fn start_unit(&self, _name: &str, _mode: &str) -> OwnedObjectPath {
        self.0.note("start");
        if self.0.starts_wait {
            self.0.start.notified().await;
        }
        self.0.end("/job/start", "active")
    }

    fn stop_unit(&self, _name: &str, _mode: &str) -> OwnedObjectPath {
        self.0.note("stop");
        if self.0.stop_hangs {
            return path("/job/stop");
        }
        self.0.end("/job/stop", "inactive")
    }

    fn kill_unit(&self, _name: &str, whom: &str, signal: i32) {
        assert_eq!((whom, signal), ("all", 9));
        self.0.note("kill");
        self.0.end("/job/stop", "inactive");
    }
}

struct Unit(Arc<Stage>);

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    fn active_state(&self) -> String {
        (*self.0.active.lock().unwrap()).to_owned()
    }

    #[zbus(property)]
    fn sub_state(&self) -> String {
        String::new()
    }

    #[zbus(property)]
    fn job(&self) -> (u32, OwnedObjectPath) {
        (0, path("/"))
    }
}

/// Units with a lease and a connection to such a manager, which is kept.
async fn begin(starts_wait: bool, stop_hangs: bool) -> (Arc<Stage>, connection::Connection) {
    let guard = Guard::default();
    guard.set(Lease::Unlimited);
    let units = Units::new(vec![NAME.to_owned()], guard, watch::channel(()).0);
    let stage = Arc::new(Stage {
        units: Arc::new(units),
        calls: Mutex::default(),
        active: Mutex::new("inactive"),
        start: Notify::new(),
        starts_wait,
        stop_hangs,
    });
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let server = connection::Builder::unix_stream(theirs)
        .server(GUID)
        .p2p()
        .serve_at("/org/freedesktop/systemd1", Manager(Arc::clone(&stage)))
        .serve_at(PATH, Unit(Arc::clone(&stage)));
    let client = connection::Builder::unix_stream(ours).p2p();
    let (server, client) = tokio::join!(server.build(), client.build());
    let (server, connection) = (server.unwrap(), client.unwrap());
    let manager = ManagerProxy::builder(&connection)
        .cache_properties(CacheProperties::No)
        .build()
        .await
        .unwrap();
    stage.units.link.send_replace(Some(Link {
        epoch: 1,
        connection,
        manager,
    }));
    (stage, server)
}

fn play<F: Future>(acts: F) -> F::Output {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(acts)
}

fn calls(stage: &Stage) -> Vec<&'static str> {
    stage.calls.lock().unwrap().clone()
}

#[test]
fn a_start_that_a_stop_has_passed_is_stopped_before_stopped_is_said() {
    play(async {
        let (stage, _server) = begin(true, false).await;
        let units = &stage.units;
        // The manager reads its units anew: it has the call and takes it in later.
        let start = units.start(NAME);
        assert!(timeout(Duration::from_millis(50), start).await.is_err());
        assert_eq!(calls(&stage), ["start"]);
        let stop = units.stop(NAME);
        tokio::pin!(stop);
        let early = timeout(Duration::from_millis(50), &mut stop).await;
        assert!(early.is_err(), "the start can still take effect");
        stage.start.notify_one();
        assert_eq!(stop.await, Ok(()));
        assert_eq!(calls(&stage), ["start", "stop", "stop"]);
        assert_eq!(*stage.active.lock().unwrap(), "inactive");
    });
}

#[test]
fn a_start_that_was_not_sent_when_a_stop_was_ordered_is_never_sent() {
    play(async {
        let (stage, _server) = begin(false, false).await;
        let units = &stage.units;
        assert!(units.start(NAME).now_or_never().is_none());
        assert_eq!(units.stop(NAME).await, Ok(()));
        sleep(Duration::from_millis(50)).await;
        assert!(!calls(&stage).contains(&"start"), "{:?}", calls(&stage));
        // The next order starts again.
        assert_eq!(units.start(NAME).await, Ok(()));
        assert_eq!(calls(&stage).last(), Some(&"start"));
    });
}

#[test]
fn the_lease_is_looked_at_when_the_start_is_sent_and_not_when_it_was_ordered() {
    play(async {
        let (stage, _server) = begin(false, false).await;
        let start = stage.units.start(NAME);
        tokio::pin!(start);
        assert!((&mut start).now_or_never().is_none());
        stage.units.guard.set(Lease::None);
        assert_eq!(start.await, Err(NO_LEASE.to_owned()));
        assert_eq!(calls(&stage), <[&str; 0]>::default());
    });
}

#[test]
fn what_is_asked_of_a_program_before_its_stop_waits_for_a_start_that_is_on_its_way() {
    play(async {
        let (stage, _server) = begin(true, false).await;
        let units = &stage.units;
        let start = units.start(NAME);
        assert!(timeout(Duration::from_millis(50), start).await.is_err());
        let settled = units.settle(NAME);
        tokio::pin!(settled);
        let early = timeout(Duration::from_millis(50), &mut settled).await;
        assert!(early.is_err(), "nobody knows yet what it will have done");
        stage.start.notify_one();
        settled.await;
        assert_eq!(*stage.active.lock().unwrap(), "active");
    });
}

#[test]
fn a_stop_that_hangs_ends_when_the_unit_is_killed() {
    play(async {
        let (stage, _server) = begin(false, true).await;
        let units = &stage.units;
        assert_eq!(units.start(NAME).await, Ok(()));
        let mut stop = Box::pin(units.stop(NAME));
        assert!(timeout(Duration::from_millis(50), &mut stop).await.is_err());
        units.kill(NAME).await;
        assert_eq!(stop.await, Ok(()));
        assert_eq!(calls(&stage), ["start", "stop", "stop", "kill"]);
        units.kill(NAME).await;
        assert_eq!(calls(&stage).len(), 4, "what is down is left alone");
    });
}
