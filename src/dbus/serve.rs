//! The connection to the bus: served, kept in step with the model, and made anew whenever it breaks.

use crate::dbus::interfaces::{Cluster, Group, Link, Node, event_fields};
use crate::dbus::model::{self, Change, Model, Value};
use crate::dbus::snapshot::Snapshot;
use crate::dbus::{BUS_NAME, Shared, path};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use zbus::connection::Builder;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectPath, Variant};

/// First pause before connecting again; a restarted bus is back after some 30 ms.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
/// Longest pause before connecting again.
const BACKOFF_MAX: Duration = Duration::from_millis(200);
/// A bus that takes longer than this to greet us is as good as none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For calls to the bus and to polkit, where a person may be typing a password.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Least time between two signals about a counter; who reads one gets it as it was within the last two seconds.
const COUNTER_INTERVAL: Duration = Duration::from_secs(10);

/// Serves until the daemon drops its side of `snapshots`.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut snapshots: watch::Receiver<Snapshot>,
    address: Option<String>,
) {
    let mut backoff = BACKOFF_MIN;
    let mut told = false;
    loop {
        shared.update(Model::of(&snapshots.borrow_and_update()));
        match connect(&shared, address.as_deref()).await {
            Ok(connection) => {
                tracing::info!("serving \"{BUS_NAME}\" on the system bus");
                shared.first_served.notify_one();
                (backoff, told) = (BACKOFF_MIN, false);
                let end = Session::new(connection, Arc::clone(&shared))
                    .run(&mut snapshots)
                    .await;
                if end == End::NodeGone {
                    return;
                }
                tracing::warn!("connection to the system bus lost, connecting again");
            }
            Err(error) if !told => {
                tracing::warn!("cannot serve \"{BUS_NAME}\" on the system bus, retrying: {error}");
                told = true;
            }
            Err(_) => {}
        }
        sleep(backoff).await;
        if snapshots.has_changed().is_err() {
            return;
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// A connection with all objects in place before the name is asked for.
async fn connect(shared: &Arc<Shared>, address: Option<&str>) -> zbus::Result<Connection> {
    let model = shared.model();
    let mut builder = address
        .map_or_else(Builder::system, Builder::address)
        .method_timeout(CALL_TIMEOUT)
        .allow_name_replacements(false)
        .replace_existing_names(false)
        .serve_at(path::ROOT, zbus::fdo::ObjectManager)
        .serve_at(
            path::ROOT,
            Cluster {
                shared: Arc::clone(shared),
            },
        );
    for name in model.nodes.keys() {
        builder = builder.serve_at(path::node(name), shared.node(name));
    }
    for name in model.groups.keys() {
        builder = builder.serve_at(path::group(name), shared.group(name));
    }
    for id in model.links.keys() {
        builder = builder.serve_at(path::link(*id), shared.link(*id));
    }
    timeout(CONNECT_TIMEOUT, builder.name(BUS_NAME).build())
        .await
        .unwrap_or_else(|_| Err(zbus::Error::Failure("no answer within 5 s".to_owned())))
}

impl Shared {
    fn node(self: &Arc<Self>, name: &crate::ids::NodeName) -> Node {
        Node {
            shared: Arc::clone(self),
            name: name.clone(),
        }
    }

    fn group(self: &Arc<Self>, name: &crate::ids::GroupName) -> Group {
        Group {
            shared: Arc::clone(self),
            name: name.clone(),
        }
    }

    fn link(self: &Arc<Self>, id: crate::ids::LinkId) -> Link {
        Link {
            shared: Arc::clone(self),
            id,
        }
    }
}

/// Why a session ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The bus is gone.
    BusGone,
    /// The daemon is.
    NodeGone,
}

/// One connection, with what its clients were told.
struct Session {
    connection: Connection,
    shared: Arc<Shared>,
    /// What the clients know by signals.
    told: Arc<Model>,
    /// When counters may be told again.
    counters_due: Instant,
    /// Some counter differs from what was told.
    counters_wait: bool,
}

impl Session {
    fn new(connection: Connection, shared: Arc<Shared>) -> Self {
        let told = shared.model();
        let counters_due = loop_time() + COUNTER_INTERVAL;
        Self {
            connection,
            shared,
            told,
            counters_due,
            counters_wait: false,
        }
    }

    async fn run(mut self, snapshots: &mut watch::Receiver<Snapshot>) -> End {
        let connection = self.connection.clone();
        loop {
            tokio::select! {
                () = connection.closed() => return End::BusGone,
                changed = snapshots.changed() => if changed.is_err() { return End::NodeGone },
                () = self.shared.event_added.notified() => {}
                () = sleep_until(self.counters_due), if self.counters_wait => {}
            }
            let model = Model::of(&snapshots.borrow_and_update());
            if self.tell(model).await.is_err() {
                return End::BusGone;
            }
        }
    }

    /// Properties before events: who hears of an event can read its consequence.
    async fn tell(&mut self, model: Model) -> zbus::Result<()> {
        self.shared.update(model);
        let model = self.shared.model();
        self.tell_objects(&model).await?;
        self.tell_changes(&model).await?;
        self.tell_events().await
    }

    /// Adds and removes objects; ObjectManager's signals come from the object server.
    async fn tell_objects(&mut self, model: &Arc<Model>) -> zbus::Result<()> {
        let server = self.connection.object_server();
        let (old, shared) = (Arc::clone(&self.told), &self.shared);
        for name in missing(old.nodes.keys(), model.nodes.keys()) {
            server.remove::<Node, _>(path::node(name)).await?;
        }
        for name in missing(old.groups.keys(), model.groups.keys()) {
            server.remove::<Group, _>(path::group(name)).await?;
        }
        for id in missing(old.links.keys(), model.links.keys()) {
            server.remove::<Link, _>(path::link(*id)).await?;
        }
        for name in missing(model.nodes.keys(), old.nodes.keys()) {
            server.at(path::node(name), shared.node(name)).await?;
        }
        for name in missing(model.groups.keys(), old.groups.keys()) {
            server.at(path::group(name), shared.group(name)).await?;
        }
        for id in missing(model.links.keys(), old.links.keys()) {
            server.at(path::link(*id), shared.link(*id)).await?;
        }
        Ok(())
    }

    async fn tell_changes(&mut self, model: &Arc<Model>) -> zbus::Result<()> {
        let now = loop_time();
        let visible = if now >= self.counters_due {
            self.counters_due = now + COUNTER_INTERVAL;
            Arc::clone(model)
        } else {
            Arc::new(Model::clone(model).with_counters_of(&self.told))
        };
        for change in visible.changes_since(&self.told) {
            emit_change(&self.connection, change).await?;
        }
        self.counters_wait = visible != *model;
        self.told = visible;
        Ok(())
    }

    async fn tell_events(&self) -> zbus::Result<()> {
        let lost = self.shared.dropped_events();
        if lost > 0 {
            tracing::warn!(
                "{lost} events were not sent on the system bus, they are in the journal"
            );
        }
        while let Some(record) = self.shared.next_event() {
            let emitter = SignalEmitter::new(&self.connection, path::ROOT)?;
            let fields = event_fields(&record);
            Cluster::event(&emitter, record.usec, record.id, &record.text, fields).await?;
        }
        Ok(())
    }
}

/// Time for pacing signals only.
fn loop_time() -> Instant {
    Instant::now()
}

fn missing<'a, T: Ord + 'a>(
    from: impl Iterator<Item = &'a T>,
    other: impl Iterator<Item = &'a T>,
) -> Vec<&'a T> {
    let other: BTreeSet<&T> = other.collect();
    from.filter(|it| !other.contains(it)).collect()
}

async fn emit_change(connection: &Connection, change: Change) -> zbus::Result<()> {
    let changed: HashMap<&str, Variant<'_>> = change
        .changed
        .into_iter()
        .map(|(name, value)| (name, to_variant(value)))
        .collect();
    let none: &[&str] = &[];
    connection
        .emit_signal(
            None::<zbus::names::BusName<'_>>,
            change.path,
            "org.freedesktop.DBus.Properties",
            "PropertiesChanged",
            &(change.interface, changed, none),
        )
        .await
}

pub(crate) fn to_variant(value: model::Value) -> Variant<'static> {
    match value {
        Value::Text(text) => Variant::from(text),
        Value::Number(number) => Variant::from(number),
        Value::Flag(flag) => Variant::from(flag),
        Value::Paths(list) => Variant::from(
            list.into_iter()
                .filter_map(|it| ObjectPath::try_from(it).ok())
                .collect::<Vec<_>>(),
        ),
        Value::Texts(list) => Variant::from(list),
        Value::Triples(list) => Variant::from(list),
        Value::Counts(map) => Variant::from(map),
        Value::Flags(map) => Variant::from(map),
    }
}
