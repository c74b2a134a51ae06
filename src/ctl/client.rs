//! The daemon as seen from `hactl`: one connection, the whole status in two calls, requests.

use crate::ctl::args::StandbyScope;
use crate::ctl::error::CtlError;
use crate::ctl::status::{Properties, Status};
use crate::dbus::model::CLUSTER;
use crate::dbus::{BUS_NAME, path};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use zbus::fdo::ManagedObjects;
use zbus::proxy::{self, CacheProperties, MethodFlags};
use zbus::{Connection, DynamicType, OwnedVariant, Proxy, Type};

/// A connection to the daemon.
pub(crate) struct Client {
    pub(crate) connection: Connection,
}

impl Client {
    /// Connects to the system bus; whether the daemon is there shows the first call.
    pub(crate) async fn connect() -> Result<Self, CtlError> {
        let connection = zbus::connection::Builder::system()
            .build()
            .await
            .map_err(|error| {
                CtlError::Failed(format!(
                    "cannot reach the system bus: {error}; does dbus.service run?"
                ))
            })?;
        Ok(Self { connection })
    }

    /// Everything that the daemon shows.
    pub(crate) async fn status(&self) -> Result<Status, CtlError> {
        let cluster: HashMap<String, OwnedVariant> = self
            .call("org.freedesktop.DBus.Properties", "GetAll", &(CLUSTER,))
            .await?;
        let objects: ManagedObjects = self
            .call(
                "org.freedesktop.DBus.ObjectManager",
                "GetManagedObjects",
                &(),
            )
            .await?;
        let interfaces = (objects.into_values().flatten())
            .map(|(interface, properties)| (interface.to_string(), Properties(properties)));
        Ok(Status::from_objects(&Properties(cluster), interfaces))
    }

    /// Calls a method of the root object, however long it takes.
    pub(crate) async fn call<B, R>(
        &self,
        interface: &str,
        method: &str,
        arguments: &B,
    ) -> Result<R, CtlError>
    where
        B: serde::Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        // Introspecting or caching would be calls of their own.
        let proxy = proxy::Builder::<Proxy<'_>>::new(&self.connection)
            .destination(BUS_NAME)
            .path(path::ROOT)
            .interface(interface)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let flags = MethodFlags::ALLOW_INTERACTIVE_AUTH;
        let reply = proxy.call_with_flags(method, flags, arguments).await?;
        reply.ok_or_else(|| CtlError::Failed(format!("\"{method}\" was not answered")))
    }
}

/// Gives up groups of this node.
pub(crate) async fn standby(scope: StandbyScope) -> Result<(), CtlError> {
    Client::connect()
        .await?
        .call(CLUSTER, "Standby", &(scope.as_str(),))
        .await
}

/// Lets this node take part again.
pub(crate) async fn online() -> Result<(), CtlError> {
    Client::connect().await?.call(CLUSTER, "Online", &()).await
}

/// Runs a group on a given node.
pub(crate) async fn move_group(group: &str, node: &str) -> Result<(), CtlError> {
    Client::connect()
        .await?
        .call(CLUSTER, "MoveGroup", &(group, node))
        .await
}

/// Forgets the failures of a group.
pub(crate) async fn clear(group: &str) -> Result<(), CtlError> {
    Client::connect()
        .await?
        .call(CLUSTER, "ClearFailures", &(group,))
        .await
}
