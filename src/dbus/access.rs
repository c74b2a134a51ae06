//! Who may change something: root, members of the group `haclient`, and whom polkit allows.
//!
//! Asked of the bus for each call, by the caller's connection as the bus saw it being made; no name service
//! is used, since a lookup over the network would hold up the only thread.

use crate::dbus::error::BusError;
use crate::wire::status::Refusal;
use std::collections::HashMap;
use tokio::sync::Semaphore;
use zbus::fdo::ConnectionCredentials;
use zbus::message::{Flags, Header};
use zbus::{Connection, Variant};

/// Members of this local group may change the cluster.
pub const GROUP: &str = "haclient";

/// polkit's name for changing the cluster.
pub const POLKIT_ACTION: &str = "org.linuxha.cluster.manage";

const GROUP_FILE: &str = "/etc/group";

/// CheckAuthorization's flag "ask the user": set only where the caller's message allows it.
const ALLOW_USER_INTERACTION: u32 = 1;

/// Lets the sender of a call go on, or says who may.
///
/// # Errors
/// `AccessDenied`, also when the caller is gone and nobody can say who it was.
pub(crate) async fn authorize(
    connection: &Connection,
    header: &Header<'_>,
    questions: &Semaphore,
) -> Result<(), BusError> {
    let Some(sender) = header.sender() else {
        return Err(denied());
    };
    let credentials = credentials_of(connection, sender.as_str())
        .await
        .map_err(|_| denied())?;
    if credentials.unix_user_id() == Some(0) || is_member(&credentials, read_group_id().await) {
        return Ok(());
    }
    let Ok(_permit) = questions.try_acquire() else {
        return Err(Refusal::Busy.into());
    };
    let interactive = header
        .primary()
        .flags()
        .contains(Flags::ALLOW_INTERACTIVE_AUTH);
    // Without polkit the call fails, which allows nobody.
    match ask_polkit(connection, sender.as_str(), interactive).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(denied()),
        Err(error) => {
            tracing::debug!("polkit does not answer, ignoring it: {error}");
            Err(denied())
        }
    }
}

fn denied() -> BusError {
    BusError::AccessDenied(format!(
        "only root, members of the group \"{GROUP}\" and whom polkit allows \"{POLKIT_ACTION}\" may change the cluster"
    ))
}

async fn credentials_of(
    connection: &Connection,
    sender: &str,
) -> zbus::Result<ConnectionCredentials> {
    let reply = connection
        .call_method(
            Some("org.freedesktop.DBus"),
            "/org/freedesktop/DBus",
            Some("org.freedesktop.DBus"),
            "GetConnectionCredentials",
            &(sender,),
        )
        .await?;
    reply.body().deserialize()
}

fn is_member(credentials: &ConnectionCredentials, group: Option<u32>) -> bool {
    match (credentials.unix_group_ids(), group) {
        (Some(groups), Some(group)) => groups.contains(&group),
        _ => false,
    }
}

/// Read on another thread, since the disk may stand still.
async fn read_group_id() -> Option<u32> {
    let read = tokio::task::spawn_blocking(|| std::fs::read_to_string(GROUP_FILE));
    find_group_id(&read.await.ok()?.ok()?, GROUP)
}

/// The number of a group in the text of a group(5) file.
fn find_group_id(file: &str, name: &str) -> Option<u32> {
    file.lines().find_map(|line| {
        let mut columns = line.split(':');
        (columns.next() == Some(name)).then(|| columns.nth(1)?.parse().ok())?
    })
}

async fn ask_polkit(
    connection: &Connection,
    sender: &str,
    interactive: bool,
) -> zbus::Result<bool> {
    let subject = (
        "system-bus-name",
        HashMap::from([("name", Variant::from(sender))]),
    );
    let details: HashMap<&str, &str> = HashMap::new();
    let flags = if interactive {
        ALLOW_USER_INTERACTION
    } else {
        0
    };
    let reply = connection
        .call_method(
            Some("org.freedesktop.PolicyKit1"),
            "/org/freedesktop/PolicyKit1/Authority",
            Some("org.freedesktop.PolicyKit1.Authority"),
            "CheckAuthorization",
            &(subject, POLKIT_ACTION, details, flags, ""),
        )
        .await?;
    let (authorized, _challenge, _details): (bool, bool, HashMap<String, String>) =
        reply.body().deserialize()?;
    Ok(authorized)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_by_its_whole_name() {
        let file = "root:x:0:\nhaclient2:x:7:\nhaclient:x:990:ada,bob\nbroken\n";
        assert_eq!(find_group_id(file, "haclient"), Some(990));
        assert_eq!(find_group_id(file, "nobody"), None);
        assert_eq!(find_group_id("haclient", "haclient"), None);
        assert_eq!(find_group_id("haclient:x:many:", "haclient"), None);
    }

    #[test]
    fn unknown_groups_make_nobody_a_member() {
        let none = ConnectionCredentials::default();
        assert!(!is_member(&none, Some(990)));
        let some = ConnectionCredentials::default().add_unix_group_id(990);
        assert!(is_member(&some, Some(990)));
        assert!(!is_member(&some, None));
        assert!(!is_member(&some, Some(991)));
    }
}
