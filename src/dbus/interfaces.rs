//! The four interfaces of the contract: properties read from the model, methods passed on to `node`.
//!
//! Objects hold no state of their own, since a new connection gets new objects. No lock is held across an
//! await. A method returns when the cluster has done what it asks, however long the caller waits for it.

use crate::core::{Request, Scope};
use crate::dbus::access;
use crate::dbus::error::BusError;
use crate::dbus::model::{ClusterProperties, GroupProperties, LinkProperties, NodeProperties};
use crate::dbus::{BusCommand, Shared};
use crate::ids::{GroupName, LinkId, NodeName};
use crate::journal::Record;
use crate::wire::status::Refusal;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::oneshot;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectPath, OwnedObjectPath, Variant, fdo, interface};

/// The root object.
pub(crate) struct Cluster {
    pub(crate) shared: Arc<Shared>,
}

/// A node.
pub(crate) struct Node {
    pub(crate) shared: Arc<Shared>,
    pub(crate) name: NodeName,
}

/// A group.
pub(crate) struct Group {
    pub(crate) shared: Arc<Shared>,
    pub(crate) name: GroupName,
}

/// A link.
pub(crate) struct Link {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: LinkId,
}

/// Past events as `ListEvents` tells them: usec, id, message, fields.
type EventList<'a> = Vec<(u64, &'a str, String, HashMap<&'a str, Variant<'a>>)>;

#[interface(name = "org.linuxha.Cluster")]
impl Cluster {
    /// Gives up groups of this node; scope is "all", "local", "foreign" or "failback".
    async fn standby(
        &self,
        scope: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), BusError> {
        let request = Request::Standby(parse_scope(scope)?);
        self.shared.carry_out(request, &header, connection).await
    }

    /// Lets this node take part again.
    async fn online(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), BusError> {
        self.shared
            .carry_out(Request::Online, &header, connection)
            .await
    }

    /// Runs a group on a given node.
    async fn move_group(
        &self,
        group: &str,
        node: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), BusError> {
        let request = Request::Move {
            group: GroupName::new(group)?,
            node: parse_node(node)?,
        };
        self.shared.carry_out(request, &header, connection).await
    }

    /// Forgets failures and a failed stop of a group; a person has repaired it.
    async fn clear_failures(
        &self,
        group: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), BusError> {
        let request = Request::Clear(GroupName::new(group)?);
        self.shared.carry_out(request, &header, connection).await
    }

    /// The last events, oldest first, each as the signal Event tells it.
    #[zbus(out_args("events"))]
    fn list_events(&self) -> EventList<'static> {
        (self.shared.kept_events().iter())
            .map(|it| (it.usec, it.id, it.text.clone(), event_fields(it)))
            .collect()
    }

    /// Something happened that people should know about.
    #[zbus(signal)]
    pub(crate) async fn event(
        emitter: &SignalEmitter<'_>,
        usec: u64,
        id: &str,
        message: &str,
        fields: HashMap<&str, Variant<'_>>,
    ) -> zbus::Result<()>;

    #[zbus(property)]
    fn name(&self) -> String {
        self.read(|it| it.name.clone())
    }
    #[zbus(property)]
    fn local_node(&self) -> String {
        self.read(|it| it.local_node.clone())
    }
    #[zbus(property)]
    fn state(&self) -> String {
        self.read(|it| it.state.clone())
    }
    #[zbus(property)]
    fn version(&self) -> String {
        self.read(|it| it.version.clone())
    }
    #[zbus(property)]
    fn generation(&self) -> u64 {
        self.read(|it| it.generation)
    }
    #[zbus(property)]
    fn leader(&self) -> String {
        self.read(|it| it.leader.clone())
    }
    #[zbus(property)]
    fn quorate(&self) -> bool {
        self.read(|it| it.quorate)
    }
    #[zbus(property)]
    fn maintenance(&self) -> bool {
        false
    }
    #[zbus(property)]
    fn protection(&self) -> String {
        self.read(|it| it.protection.clone())
    }
    /// Why none of this node's links can be used; empty while one can.
    #[zbus(property)]
    fn link_trouble(&self) -> String {
        self.read(|it| it.link_trouble.clone())
    }
    #[zbus(property)]
    fn nodes(&self) -> Vec<OwnedObjectPath> {
        self.read(|it| paths(&it.nodes))
    }
    #[zbus(property)]
    fn groups(&self) -> Vec<OwnedObjectPath> {
        self.read(|it| paths(&it.groups))
    }
    #[zbus(property)]
    fn links(&self) -> Vec<OwnedObjectPath> {
        self.read(|it| paths(&it.links))
    }
}

impl Cluster {
    fn read<T>(&self, get: impl FnOnce(&ClusterProperties) -> T) -> T {
        get(&self.shared.model().cluster)
    }
}

#[interface(name = "org.linuxha.Cluster.Node")]
impl Node {
    #[zbus(property)]
    fn name(&self) -> fdo::Result<String> {
        self.read(|it| it.name.clone())
    }
    #[zbus(property)]
    fn state(&self) -> fdo::Result<String> {
        self.read(|it| it.state.clone())
    }
    #[zbus(property)]
    fn role(&self) -> fdo::Result<String> {
        self.read(|it| it.role.clone())
    }
    #[zbus(property)]
    fn generation(&self) -> fdo::Result<u64> {
        self.read(|it| it.generation)
    }
    #[zbus(property)]
    fn standby(&self) -> fdo::Result<bool> {
        self.read(|it| it.standby)
    }
    #[zbus(property)]
    fn last_heard(&self) -> fdo::Result<u64> {
        self.read(|it| it.last_heard)
    }
    #[zbus(property)]
    fn config_hash(&self) -> fdo::Result<String> {
        self.read(|it| it.config_hash.clone())
    }
    #[zbus(property)]
    fn differs(&self) -> fdo::Result<Vec<String>> {
        self.read(|it| it.differs.clone())
    }
}

impl Node {
    fn read<T>(&self, get: impl FnOnce(&NodeProperties) -> T) -> fdo::Result<T> {
        self.shared
            .model()
            .nodes
            .get(&self.name)
            .map(get)
            .ok_or_else(|| gone(&self.name))
    }
}

#[interface(name = "org.linuxha.Cluster.Group")]
impl Group {
    /// Runs this group on a given node.
    #[zbus(name = "Move")]
    async fn move_to(
        &self,
        node: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), BusError> {
        let request = Request::Move {
            group: self.name.clone(),
            node: parse_node(node)?,
        };
        self.shared.carry_out(request, &header, connection).await
    }

    /// Forgets failures and a failed stop of this group; a person has repaired it.
    async fn clear(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(), BusError> {
        self.shared
            .carry_out(Request::Clear(self.name.clone()), &header, connection)
            .await
    }

    #[zbus(property)]
    fn name(&self) -> fdo::Result<String> {
        self.read(|it| it.name.clone())
    }
    #[zbus(property)]
    fn state(&self) -> fdo::Result<String> {
        self.read(|it| it.state.clone())
    }
    #[zbus(property)]
    fn owner(&self) -> fdo::Result<String> {
        self.read(|it| it.owner.clone())
    }
    #[zbus(property)]
    fn since(&self) -> fdo::Result<u64> {
        self.read(|it| it.since)
    }
    #[zbus(property)]
    fn reason(&self) -> fdo::Result<String> {
        self.read(|it| it.reason.clone())
    }
    #[zbus(property)]
    fn local_state(&self) -> fdo::Result<String> {
        self.read(|it| it.local_state.clone())
    }
    #[zbus(property)]
    fn preferred(&self) -> fdo::Result<Vec<String>> {
        self.read(|it| it.preferred.clone())
    }
    #[zbus(property)]
    fn resources(&self) -> fdo::Result<Vec<(String, String, String)>> {
        self.read(|it| it.resources.clone())
    }
    #[zbus(property)]
    fn failures(&self) -> fdo::Result<BTreeMap<String, u32>> {
        self.read(|it| it.failures.clone())
    }
}

impl Group {
    fn read<T>(&self, get: impl FnOnce(&GroupProperties) -> T) -> fdo::Result<T> {
        self.shared
            .model()
            .groups
            .get(&self.name)
            .map(get)
            .ok_or_else(|| gone(&self.name))
    }
}

#[interface(name = "org.linuxha.Cluster.Link")]
impl Link {
    #[zbus(property)]
    fn kind(&self) -> fdo::Result<String> {
        self.read(|it| it.kind.clone())
    }
    #[zbus(property)]
    fn interface(&self) -> fdo::Result<String> {
        self.read(|it| it.interface.clone())
    }
    #[zbus(property)]
    fn label(&self) -> fdo::Result<String> {
        self.read(|it| it.label.clone())
    }
    #[zbus(property)]
    fn peers(&self) -> fdo::Result<BTreeMap<String, bool>> {
        self.read(|it| it.peers.clone())
    }
    #[zbus(property)]
    fn sent(&self) -> fdo::Result<u64> {
        self.read(|it| it.sent)
    }
    #[zbus(property)]
    fn received(&self) -> fdo::Result<u64> {
        self.read(|it| it.received)
    }
    #[zbus(property)]
    fn rejected(&self) -> fdo::Result<u64> {
        self.read(|it| it.rejected)
    }
}

impl Link {
    fn read<T>(&self, get: impl FnOnce(&LinkProperties) -> T) -> fdo::Result<T> {
        self.shared
            .model()
            .links
            .get(&self.id)
            .map(get)
            .ok_or_else(|| gone(self.id.0))
    }
}

impl Shared {
    /// Checks the caller, passes its request on, and waits until the cluster has done it.
    async fn carry_out(
        &self,
        request: Request,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<(), BusError> {
        // Before the permit: who may not ask must not take the place of those who may.
        access::authorize(connection, header, &self.questions).await?;
        let Ok(_permit) = self.calls.try_acquire() else {
            return Err(Refusal::Busy.into());
        };
        let (reply, answer) = oneshot::channel();
        let command = BusCommand::Request { request, reply };
        self.commands
            .try_send(command)
            .map_err(|error| match error {
                tokio::sync::mpsc::error::TrySendError::Full(_) => Refusal::Busy,
                tokio::sync::mpsc::error::TrySendError::Closed(_) => Refusal::ShuttingDown,
            })?;
        answer
            .await
            .unwrap_or(Err(Refusal::ShuttingDown))
            .map_err(BusError::from)
    }
}

/// The fields of an event: names as in the journal, numbers as numbers.
pub(crate) fn event_fields(record: &Record) -> HashMap<&'static str, Variant<'static>> {
    let priority = Variant::from(record.level.priority());
    (record.fields.iter())
        .map(|(name, value)| (*name, field_value(name, value)))
        .chain([("PRIORITY", priority)])
        .collect()
}

fn field_value(name: &str, value: &str) -> Variant<'static> {
    let number = match name {
        "HA_GENERATION" | "HA_DURATION_USEC" => value.parse::<u64>().ok(),
        _ => None,
    };
    number.map_or_else(|| Variant::from(value.to_owned()), Variant::from)
}

fn parse_scope(word: &str) -> Result<Scope, BusError> {
    match word {
        "all" => Ok(Scope::All),
        "local" => Ok(Scope::Local),
        "foreign" => Ok(Scope::Foreign),
        "failback" => Ok(Scope::Failback),
        _ => Err(BusError::InvalidArguments(
            "the scope must be \"all\", \"local\", \"foreign\" or \"failback\"".to_owned(),
        )),
    }
}

/// Node names are compared in lower case, as the wire has them.
fn parse_node(name: &str) -> Result<NodeName, BusError> {
    Ok(NodeName::new(&name.to_ascii_lowercase())?)
}

fn paths(list: &[String]) -> Vec<OwnedObjectPath> {
    list.iter()
        .filter_map(|it| Some(ObjectPath::try_from(it.clone()).ok()?.into()))
        .collect()
}

fn gone(what: impl std::fmt::Display) -> fdo::Error {
    fdo::Error::UnknownObject(format!("\"{what}\" is not part of the cluster any more"))
}

#[cfg(test)]
mod tests;
