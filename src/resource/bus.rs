//! The connection to systemd over the system bus: made, followed, made again; and what it told.
//!
//! One stream carries all signals, so that they are seen in the order in which systemd sent them, and one
//! task does nothing but empty it: a stream that nobody reads would hold up replies as well.

use crate::dbus::systemd1::{
    JobResult, MANAGER, ManagerProxy, SERVICE, SERVICE_INTERFACE, UNIT, UnitState,
};
use crate::resource::unit::Units;
use futures_util::StreamExt;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::sleep;
use zbus::fdo::{DBusProxy, PropertiesProxy};
use zbus::message::Type;
use zbus::names::InterfaceName;
use zbus::proxy::CacheProperties;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant};

/// Longest wait for a reply; systemd answers within milliseconds, a reload of all its units takes seconds.
const REPLY_TIMEOUT: Duration = Duration::from_secs(25);
/// Signals that may wait while the daemon is busy. A move of many units at once makes some hundreds.
const SIGNALS_MAX: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// First and longest pause between attempts to connect; a restart of the bus takes some 40 ms.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));
/// So many units are looked at for what a unit needs; a whole machine has some hundred.
const NEEDS_MAX: usize = 256;
/// Ends of jobs that are remembered while a call is under way, whose reply may come after the signal.
const ENDED_JOBS_MAX: usize = 1024;

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const BUS: &str = "org.freedesktop.DBus";

/// A connection that works, as far as is known.
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// Another number for each connection.
    pub(super) epoch: u64,
    pub(super) connection: Connection,
    pub(super) manager: ManagerProxy<'static>,
}

impl Link {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "of the many errors of the library these mean a loss"
    )]
    /// Whether an error means that the connection, not the call, has failed.
    pub(super) fn is_lost(&self, error: &zbus::Error) -> bool {
        self.connection.is_closed()
            || match error {
                zbus::Error::InputOutput(error) => error.kind() != std::io::ErrorKind::TimedOut,
                // systemd itself has left the bus, for example to execute itself anew.
                zbus::Error::FDO(error) => matches!(
                    **error,
                    zbus::fdo::Error::NoReply(_)
                        | zbus::fdo::Error::ServiceUnknown(_)
                        | zbus::fdo::Error::NameHasNoOwner(_)
                        | zbus::fdo::Error::Disconnected(_)
                ),
                _ => false,
            }
    }

    /// Object path and state of a unit.
    pub(super) async fn unit_state(&self, name: &str) -> Option<(String, UnitState)> {
        let path = self.manager.load_unit(name).await.ok()?;
        let properties = self.properties(&path).await.ok()?;
        let interface = InterfaceName::from_static_str(UNIT).ok()?;
        let all = properties.get_all(interface).await.ok()?;
        Some((path.as_str().to_owned(), UnitState::from_properties(all)?))
    }

    /// The units that a start of this one starts, too.
    async fn needs(&self, name: &str) -> Option<Vec<String>> {
        let path = self.manager.load_unit(name).await.ok()?;
        let properties = self.properties(&path).await.ok()?;
        let interface = InterfaceName::from_static_str(UNIT).ok()?;
        let mut all = properties.get_all(interface).await.ok()?;
        let bonds = ["Requires", "BindsTo", "Wants", "Upholds"];
        let lists = bonds.into_iter().filter_map(|bond| all.remove(bond));
        let lists = lists.filter_map(|list| Vec::<String>::try_from(list).ok());
        Some(lists.flatten().collect())
    }

    /// One of `wanted` that a start of `name` would start, too, over however many others; none while nobody knows.
    pub(super) async fn needs_any(&self, name: &str, wanted: &BTreeSet<String>) -> Option<String> {
        let mut seen = BTreeSet::from([name.to_owned()]);
        let mut next = VecDeque::from([name.to_owned()]);
        while let Some(unit) = next.pop_front() {
            for needed in self.needs(&unit).await? {
                if wanted.contains(&needed) {
                    return Some(needed);
                }
                if seen.len() < NEEDS_MAX && seen.insert(needed.clone()) {
                    next.push_back(needed);
                }
            }
        }
        None
    }

    /// The job that is queued or under way for a unit.
    pub(super) async fn unit_job(&self, name: &str) -> Option<OwnedObjectPath> {
        let path = self.manager.load_unit(name).await.ok()?;
        let properties = self.properties(&path).await.ok()?;
        let interface = InterfaceName::from_static_str(UNIT).ok()?;
        let job = properties.get(interface, "Job").await.ok()?;
        let (number, path) = <(u32, OwnedObjectPath)>::try_from(job).ok()?;
        (number != 0).then_some(path)
    }

    /// `Result`, `ExecMainCode` and `ExecMainStatus` of a service.
    pub(super) async fn service_end(&self, name: &str) -> Option<(String, i32, i32)> {
        let path = self.manager.load_unit(name).await.ok()?;
        let properties = self.properties(&path).await.ok()?;
        let interface = InterfaceName::from_static_str(SERVICE_INTERFACE).ok()?;
        let result = properties.get(interface.clone(), "Result").await.ok()?;
        let code = properties
            .get(interface.clone(), "ExecMainCode")
            .await
            .ok()?;
        let status = properties.get(interface, "ExecMainStatus").await.ok()?;
        Some((
            String::try_from(result).ok()?,
            i32::try_from(code).ok()?,
            i32::try_from(status).ok()?,
        ))
    }

    /// How often systemd has started a service again by itself.
    pub(super) async fn service_restarts(&self, name: &str) -> Option<u32> {
        let path = self.manager.load_unit(name).await.ok()?;
        let properties = self.properties(&path).await.ok()?;
        let interface = InterfaceName::from_static_str(SERVICE_INTERFACE).ok()?;
        let count = properties.get(interface, "NRestarts").await.ok()?;
        u32::try_from(count).ok()
    }

    /// Property `Result` of a service, such as `exit-code`.
    pub(super) async fn service_result(&self, name: &str) -> Option<String> {
        let path = self.manager.load_unit(name).await.ok()?;
        let properties = self.properties(&path).await.ok()?;
        let interface = InterfaceName::from_static_str(SERVICE_INTERFACE).ok()?;
        let result = properties.get(interface, "Result").await.ok()?;
        String::try_from(result).ok()
    }

    async fn properties(&self, path: &OwnedObjectPath) -> zbus::Result<PropertiesProxy<'static>> {
        PropertiesProxy::builder(&self.connection)
            .destination(SERVICE)
            .path(path.clone())
            .cache_properties(CacheProperties::No)
            .build()
            .await
    }
}

/// What is known of units and jobs.
#[derive(Debug, Default)]
pub(super) struct Table {
    units: BTreeMap<String, Known>,
    calls: usize,
    ended: VecDeque<(String, JobResult)>,
    waiting: BTreeMap<String, Vec<oneshot::Sender<JobResult>>>,
    bus_error: Option<String>,
}

#[derive(Debug, Default)]
struct Known {
    path: Option<String>,
    state: Option<UnitState>,
    /// Counts signals, so that an answer older than a signal is recognised.
    version: u64,
    call: Call,
}

/// How far the newest order about a unit has come on its way to systemd.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Call {
    /// systemd may have got it.
    pub(super) asked: bool,
    /// The message bus had no room for it.
    pub(super) no_room: bool,
    /// It is a start that has no connection, or ended without one.
    pub(super) wants_bus: bool,
}

impl Table {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self {
            units: names
                .into_iter()
                .map(|name| (name, Known::default()))
                .collect(),
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, name: String) {
        self.units.entry(name).or_default();
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.units.keys()
    }

    pub(super) fn state(&self, name: &str) -> Option<&UnitState> {
        self.units.get(name)?.state.as_ref()
    }

    /// How far the newest order about a unit has come.
    pub(super) fn call(&self, name: &str) -> Call {
        self.units
            .get(name)
            .map_or_else(Call::default, |it| it.call)
    }

    pub(super) fn note_call(&mut self, name: &str, note: impl FnOnce(&mut Call)) {
        if let Some(known) = self.units.get_mut(name) {
            note(&mut known.call);
        }
    }

    pub(super) fn bus_error(&self) -> Option<&str> {
        self.bus_error.as_deref()
    }

    pub(super) fn version(&self, name: &str) -> u64 {
        self.units.get(name).map_or(0, |known| known.version)
    }

    /// Stores an answer, unless a signal has come since `before`.
    pub(super) fn store(&mut self, name: &str, path: String, before: u64, state: UnitState) {
        if let Some(known) = self.units.get_mut(name) {
            known.path = Some(path);
            if known.version == before {
                known.state = Some(state);
            }
        }
    }

    /// Stores a signal; answers whether it was about one of our units.
    fn on_state(&mut self, path: &str, state: &UnitState) -> bool {
        let mut ours = false;
        for known in self.units.values_mut() {
            if known.path.as_deref() == Some(path) {
                known.state = Some(state.clone());
                known.version = known.version.wrapping_add(1);
                ours = true;
            }
        }
        ours
    }

    pub(super) fn on_job_removed(&mut self, job: String, result: JobResult) {
        for waiting in self.waiting.remove(&job).unwrap_or_default() {
            // A failed send is an order that was superseded.
            waiting.send(result.clone()).unwrap_or_default();
        }
        if self.calls > 0 {
            self.ended.truncate(ENDED_JOBS_MAX - 1);
            self.ended.push_front((job, result));
        }
    }

    fn on_lost(&mut self, reason: String) {
        self.units.values_mut().for_each(|known| known.state = None);
        self.waiting.clear();
        self.ended.clear();
        self.bus_error = Some(reason);
    }
}

/// A job that is about to be asked for. While it exists, ends of jobs are remembered.
pub(super) struct Job {
    units: Arc<Units>,
}

impl Job {
    pub(super) fn expect(units: &Arc<Units>) -> Self {
        units.table().calls += 1;
        Self {
            units: Arc::clone(units),
        }
    }

    /// Waits for the end of the job that the call gave; none if the connection was lost.
    pub(super) async fn ended(self, path: &str) -> Option<JobResult> {
        let receiver = {
            let mut table = self.units.table();
            if let Some((_, result)) = table.ended.iter().find(|(job, _)| job == path) {
                return Some(result.clone());
            }
            let (sender, receiver) = oneshot::channel();
            table
                .waiting
                .entry(path.to_owned())
                .or_default()
                .push(sender);
            receiver
        };
        drop(self);
        receiver.await.ok()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let mut table = self.units.table();
        table.calls -= 1;
        if table.calls == 0 {
            table.ended.clear();
        }
    }
}

impl Units {
    /// Connects, follows the signals, and connects anew when the connection is lost; never returns.
    pub async fn keep_connected(self: Arc<Self>) {
        let (first, longest) = RECONNECT;
        let mut pause = first;
        for epoch in 1.. {
            let reason = match self.live(epoch).await {
                Ok(()) => "the connection was closed".to_owned(),
                Err(error) => error.to_string(),
            };
            let was_connected = self.link.send_replace(None).is_some();
            let was_known = self.table().bus_error.is_some();
            self.table().on_lost(reason.clone());
            if was_connected {
                pause = first;
            }
            if was_connected || !was_known {
                tracing::warn!(
                    reason,
                    "no connection to systemd on the system bus, trying again"
                );
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// One life of the connection.
    async fn live(&self, epoch: u64) -> zbus::Result<()> {
        let connection = zbus::connection::Builder::system()
            .method_timeout(REPLY_TIMEOUT)
            .max_queued(SIGNALS_MAX)
            .build()
            .await?;
        let stream = MessageStream::from(&connection);
        let bus = DBusProxy::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        for rule in rules()? {
            bus.add_match_rule(rule).await?;
        }
        let owner = bus.get_name_owner(SERVICE.try_into()?).await?;
        tokio::select! {
            () = self.follow(stream, owner.as_str()) => Ok(()),
            () = connection.closed() => Ok(()),
            result = self.greet(epoch, connection.clone()) => result,
        }
    }

    /// Subscribes, reads the state of all units and opens the way for orders. Returns on errors only.
    async fn greet(&self, epoch: u64, connection: Connection) -> zbus::Result<()> {
        let manager = ManagerProxy::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        match manager.subscribe().await {
            Err(zbus::Error::MethodError(name, ..))
                if name.as_str().ends_with(".AlreadySubscribed") => {}
            result => result?,
        }
        let link = Link {
            epoch,
            connection,
            manager,
        };
        let names: Vec<String> = self.table().names().cloned().collect();
        for name in names {
            if self.read(&link, &name).await.is_none() {
                tracing::debug!(unit = name, "state not known yet, reading it when needed");
            }
        }
        let before = self.table().bus_error.take();
        if before.is_some() {
            tracing::info!("connected to systemd on the system bus again");
        }
        self.link.send_replace(Some(link));
        self.changes.send_replace(());
        std::future::pending().await
    }

    /// Takes in signals until the stream ends or systemd has another connection to the bus.
    async fn follow(&self, mut stream: MessageStream, owner: &str) {
        while let Some(message) = stream.next().await {
            let Ok(message) = message else {
                return;
            };
            if message.message_type() != Type::Signal {
                continue;
            }
            let sender = message
                .header()
                .sender()
                .map(|name| name.as_str().to_owned());
            // Any program may send us a signal; only these two are believed.
            match sender.as_deref() {
                Some(BUS) if owner_changed(&message) => return,
                Some(sender) if sender == owner => self.on_signal(&message),
                _ => {}
            }
        }
    }

    fn on_signal(&self, message: &Message) {
        let header = message.header();
        let member = header.member().map(|member| member.as_str());
        let interface = header.interface().map(|interface| interface.as_str());
        match (interface, member) {
            (Some(MANAGER), Some("JobRemoved")) => {
                if let Ok((_, job, _, result)) =
                    message
                        .body()
                        .deserialize::<(u32, OwnedObjectPath, String, String)>()
                {
                    self.table()
                        .on_job_removed(job.as_str().to_owned(), result.into());
                }
            }
            (Some(PROPERTIES), Some("PropertiesChanged")) => {
                let path = header.path().map(|path| path.as_str()).unwrap_or_default();
                if let Some(state) = changed_state(message)
                    && self.table().on_state(path, &state)
                {
                    self.changes.send_replace(());
                }
            }
            _ => {}
        }
    }
}

fn changed_state(message: &Message) -> Option<UnitState> {
    let body = message.body();
    let (interface, properties, _) = body
        .deserialize::<(String, HashMap<String, OwnedVariant>, Vec<String>)>()
        .ok()?;
    (interface == UNIT).then(|| UnitState::from_properties(properties))?
}

fn owner_changed(message: &Message) -> bool {
    let header = message.header();
    header
        .member()
        .is_some_and(|member| member.as_str() == "NameOwnerChanged")
        && message
            .body()
            .deserialize::<(String, String, String)>()
            .is_ok_and(|(name, _, _)| name == SERVICE)
}

fn rules() -> zbus::Result<[MatchRule<'static>; 3]> {
    let jobs = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(SERVICE)
        .interface(MANAGER)
        .member("JobRemoved")
        .build()?;
    let states = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(SERVICE)
        .interface(PROPERTIES)
        .member("PropertiesChanged")
        .path_namespace("/org/freedesktop/systemd1/unit")
        .arg(0_u8, UNIT)
        .build()?;
    let owner = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(BUS)
        .interface(BUS)
        .member("NameOwnerChanged")
        .arg(0_u8, SERVICE)
        .build()?;
    Ok([jobs, states, owner])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(active: &str) -> UnitState {
        UnitState {
            active: active.to_owned().into(),
            sub: String::new(),
            has_job: false,
        }
    }

    #[test]
    fn an_answer_that_a_signal_has_overtaken_is_not_stored() {
        let mut table = Table::new(vec!["web.service".to_owned()]);
        let before = table.version("web.service");
        table.store("web.service", "/web".to_owned(), before, state("active"));
        assert!(table.on_state("/web", &state("failed")));
        assert!(!table.on_state("/other", &state("failed")));
        table.store("web.service", "/web".to_owned(), before, state("active"));
        assert_eq!(table.state("web.service"), Some(&state("failed")));
    }

    #[test]
    fn the_end_of_a_job_is_kept_for_a_reply_that_comes_later_but_no_longer_than_needed() {
        let mut table = Table::new(Vec::new());
        table.on_job_removed("/job/1".to_owned(), JobResult::Done);
        assert!(table.ended.is_empty(), "nobody has asked for a job");
        table.calls = 1;
        for job in 0..ENDED_JOBS_MAX + 5 {
            table.on_job_removed(format!("/job/{job}"), JobResult::Done);
        }
        assert_eq!(table.ended.len(), ENDED_JOBS_MAX);
    }

    #[test]
    fn with_the_connection_all_knowledge_is_lost_and_who_waits_is_told() {
        let mut table = Table::new(vec!["web.service".to_owned()]);
        table.store("web.service", "/web".to_owned(), 0, state("active"));
        let (sender, mut receiver) = oneshot::channel();
        table.waiting.insert("/job/1".to_owned(), vec![sender]);
        table.on_lost("gone".to_owned());
        assert_eq!(table.state("web.service"), None);
        assert_eq!(table.bus_error(), Some("gone"));
        assert!(receiver.try_recv().is_err());
    }
}
