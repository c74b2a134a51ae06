//! File systems: each a mount unit, made for the occasion unless the machine has one of that name.
//!
//! systemd mounts, unmounts and watches; from the start on it is a unit like any other, and `unit` stops it and
//! tells when it is gone.

use crate::dbus::systemd1::{Property, error_word};
use crate::resource::bus::{Call, Job, Link};
use crate::resource::guard::NO_LEASE;
use crate::resource::starts::Permit;
use crate::resource::unit::{
    ROOM_PAUSE, Units, explain_refusal, is_no_room, revoked, wait_for_room,
};
use std::sync::Arc;
use std::time::Duration;

/// A file system to mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Name of the unit, which says where.
    pub unit: String,
    /// What is mounted.
    pub device: String,
    /// Its type.
    pub fstype: Option<String>,
    /// As in fstab(5).
    pub options: Option<String>,
    /// How long mount(8) may take.
    pub timeout: Duration,
}

/// How an attempt ended.
enum Attempt {
    Ended(Result<(), String>),
    /// There is such a unit.
    Exists,
    /// The message bus had no room for the call.
    NoRoom,
    /// The connection was lost; nobody knows.
    Lost,
}

impl Units {
    /// Mounts, however long it takes. A unit of that name with a file (fstab(5) makes them, too) is started as it
    /// is; a mount that is there is adopted.
    ///
    /// # Errors
    /// Words for people.
    pub async fn mount(self: &Arc<Self>, mount: &Mount) -> Result<(), String> {
        let mut lost = None;
        let mut pause = ROOM_PAUSE;
        self.table()
            .note_call(&mount.unit, |call| *call = Call::default());
        loop {
            let link = self.connected_for_start(&mount.unit, lost).await;
            self.table()
                .note_call(&mount.unit, |call| call.asked = true);
            let permit = self.starts.begin(&mount.unit);
            let task = Arc::clone(self).attempt_mount(link.clone(), mount.clone(), permit);
            match tokio::spawn(task).await.unwrap_or(Attempt::Lost) {
                Attempt::Ended(result) => return result,
                Attempt::NoRoom => {
                    self.table()
                        .note_call(&mount.unit, |call| call.no_room = true);
                    wait_for_room(&mut pause).await;
                }
                Attempt::Exists => return self.start(&mount.unit).await,
                Attempt::Lost => lost = Some(link.epoch),
            }
        }
    }

    async fn attempt_mount(self: Arc<Self>, link: Link, mount: Mount, permit: Permit) -> Attempt {
        let job = Job::expect(&self);
        if !permit.holds() {
            return Attempt::Ended(Err(revoked(&mount.unit)));
        }
        if !self.guard.holds() {
            let reason = NO_LEASE;
            return Attempt::Ended(Err(reason.to_owned()));
        }
        let name = &mount.unit;
        let properties = properties(&mount);
        let manager = &link.manager;
        let reply = manager
            .start_transient_unit(name, "replace", &properties, &[])
            .await;
        drop(permit);
        match reply {
            Ok(path) => match job.ended(path.as_str()).await {
                Some(result) => {
                    let judged = self.judge_start(&link, name, &result).await;
                    // A unit that failed would stay in the way of the next attempt.
                    if judged.is_err() {
                        let _ = link.manager.reset_failed_unit(name).await;
                    }
                    Attempt::Ended(judged)
                }
                None => Attempt::Lost,
            },
            Err(zbus::Error::MethodError(error, ..))
                if error_word(&error) == Some("UnitExists") =>
            {
                Attempt::Exists
            }
            Err(error) if link.is_lost(&error) => Attempt::Lost,
            Err(error) if is_no_room(&error) => Attempt::NoRoom,
            Err(error) => Attempt::Ended(Err(explain_refusal(name, &error))),
        }
    }
}

fn properties(mount: &Mount) -> Vec<Property> {
    let usec = u64::try_from(mount.timeout.as_micros()).unwrap_or(u64::MAX);
    let mut properties: Vec<Property> = vec![
        ("Description", "File system of the cluster".into()),
        ("What", mount.device.clone().into()),
        ("TimeoutUSec", usec.into()),
        // At shutdown the group moves away first, and that unmounts.
        ("DefaultDependencies", false.into()),
        ("CollectMode", "inactive-or-failed".into()),
    ];
    if let Some(fstype) = &mount.fstype {
        properties.push(("Type", fstype.clone().into()));
    }
    if let Some(options) = &mount.options {
        properties.push(("Options", options.clone().into()));
    }
    properties
}
