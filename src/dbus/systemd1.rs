//! systemd's own D-Bus interface, as far as units are driven by it (org.freedesktop.systemd1(5)).
//!
//! Only words and signatures; what is done with them is `resource::unit`'s business.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use zbus::names::OwnedErrorName;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

/// systemd's name on the bus.
pub const SERVICE: &str = "org.freedesktop.systemd1";
/// Interface of the manager.
pub const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// Interface that each unit has.
pub const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// Interface that each service has.
pub const SERVICE_INTERFACE: &str = "org.freedesktop.systemd1.Service";

/// Interface that each mount unit has.
pub const MOUNT_INTERFACE: &str = "org.freedesktop.systemd1.Mount";

/// Interface that each swap unit has.
pub const SWAP_INTERFACE: &str = "org.freedesktop.systemd1.Swap";

/// A property of a transient unit.
pub type Property = (&'static str, Variant<'static>);

/// A line of a list of units: the name, and what else systemd tells of it.
pub type ListedUnit = (
    String,
    String,
    String,
    String,
    String,
    String,
    OwnedObjectPath,
    u32,
    String,
    OwnedObjectPath,
);

/// The methods of the manager that are used.
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub trait Manager {
    /// Asks for signals; a second time is the error `AlreadySubscribed`.
    fn subscribe(&self) -> zbus::Result<()>;
    /// The object of a unit, loaded if it was not; also for a name without a file.
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    /// The links below /etc or /run that `systemctl disable` would remove, those of other units included.
    fn get_unit_file_links(&self, name: &str, runtime: bool) -> zbus::Result<Vec<String>>;
    /// Queues a start job.
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Queues a stop job; `NoSuchUnit` for one that is not loaded.
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// Sends a signal to processes of a unit: `main`, `control` or `all`.
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    /// Makes a unit that has no file, and queues its start job; `UnitExists` where the name is loaded or has a file.
    /// There are never auxiliary units.
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[Property],
        auxiliary: &[(&str, &[Property])],
    ) -> zbus::Result<OwnedObjectPath>;
    /// Units that are loaded, in one of these states (any if none is given) and with one of these names.
    fn list_units_by_patterns(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> zbus::Result<Vec<ListedUnit>>;
    /// Keeps a unit loaded after its end, for this connection.
    fn ref_unit(&self, name: &str) -> zbus::Result<()>;
    /// Ends that.
    #[zbus(no_reply)]
    fn unref_unit(&self, name: &str) -> zbus::Result<()>;
    /// How long a stop may take of a unit that does not say so.
    #[zbus(property, name = "DefaultTimeoutStopUSec")]
    fn default_timeout_stop_usec(&self) -> zbus::Result<u64>;
    /// Forgets a failure and the count of starts of a unit.
    #[zbus(no_reply)]
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
}

/// A unit's property `ActiveState`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActiveState {
    /// Runs.
    Active,
    /// Runs, and reads its configuration anew.
    Reloading,
    /// Does not run.
    Inactive,
    /// Does not run: it ended with an error.
    Failed,
    /// On its way to running, which includes waiting for systemd's own restart.
    Activating,
    /// On its way to not running.
    Deactivating,
    /// Runs, while something is done to it (mount and automount units).
    Maintenance,
    /// Runs, and refreshes its mounts (since systemd 257).
    Refreshing,
    /// A word that is newer than this program.
    Other(String),
}

/// How a job ended: the last argument of the signal `JobRemoved`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobResult {
    /// Carried out, or nothing to do; says nothing about whether the unit runs now.
    Done,
    /// Replaced by another job, or cancelled.
    Canceled,
    /// The job's own time-out (JobTimeoutSec=).
    Timeout,
    /// The unit failed.
    Failed,
    /// A unit that this one requires failed.
    Dependency,
    /// Did not apply to the state that the unit was in.
    Skipped,
    /// Another word: `invalid`, `assert`, `unsupported`, `collected`, `once`, `frozen`, or a newer one.
    Other(String),
}

macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// The word, as systemd says it.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl FromStr for $type {
            type Err = Infallible;
            fn from_str(word: &str) -> Result<Self, Infallible> {
                Ok(match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                })
            }
        }

        impl From<String> for $type {
            fn from(word: String) -> Self {
                match word.parse() {
                    Ok(parsed) => parsed,
                    Err(never) => match never {},
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(ActiveState {
    Active = "active",
    Reloading = "reloading",
    Inactive = "inactive",
    Failed = "failed",
    Activating = "activating",
    Deactivating = "deactivating",
    Maintenance = "maintenance",
    Refreshing = "refreshing",
});

words!(JobResult {
    Done = "done",
    Canceled = "canceled",
    Timeout = "timeout",
    Failed = "failed",
    Dependency = "dependency",
    Skipped = "skipped",
});

impl ActiveState {
    /// Whether the unit runs, or will without further orders.
    pub fn is_up(&self) -> bool {
        match self {
            Self::Active
            | Self::Reloading
            | Self::Activating
            | Self::Maintenance
            | Self::Refreshing => true,
            Self::Inactive | Self::Failed | Self::Deactivating | Self::Other(_) => false,
        }
    }

    /// Whether nothing of the unit runs.
    pub fn is_down(&self) -> bool {
        matches!(self, Self::Inactive | Self::Failed)
    }
}

/// State of a unit, of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitState {
    /// `ActiveState`.
    pub active: ActiveState,
    /// `SubState`, whose words depend on the kind of unit.
    pub sub: String,
    /// A job for it is queued or under way.
    pub has_job: bool,
}

impl UnitState {
    /// Reads it from properties of [`UNIT`], as `GetAll` and `PropertiesChanged` give them; none where
    /// one is missing.
    pub fn from_properties(
        mut properties: std::collections::HashMap<String, OwnedVariant>,
    ) -> Option<Self> {
        let mut text = |name| String::try_from(properties.remove(name)?).ok();
        let active = text("ActiveState")?.into();
        let sub = text("SubState")?;
        let job = <(u32, OwnedObjectPath)>::try_from(properties.remove("Job")?).ok()?;
        Some(Self {
            active,
            sub,
            has_job: job.0 != 0,
        })
    }

    /// Whether the unit has ended for good: no job will bring it back, and systemd's own restart neither.
    pub fn has_ended(&self) -> bool {
        // Newer versions of systemd show these for a moment before `auto-restart`.
        let restarts = matches!(
            self.sub.as_str(),
            "dead-before-auto-restart" | "failed-before-auto-restart"
        );
        self.active.is_down() && !self.has_job && !restarts
    }
}

impl fmt::Display for UnitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.active, self.sub)
    }
}

/// The last part of an error's name if it is one of systemd's, such as `NoSuchUnit`.
pub fn error_word(name: &OwnedErrorName) -> Option<&str> {
    name.as_str().strip_prefix("org.freedesktop.systemd1.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_round_trip() {
        for word in ["active", "auto-something-new", "refreshing"] {
            assert_eq!(ActiveState::from(word.to_owned()).as_str(), word);
        }
        for word in [
            "done",
            "canceled",
            "timeout",
            "failed",
            "dependency",
            "skipped",
            "assert",
        ] {
            assert_eq!(JobResult::from(word.to_owned()).as_str(), word);
        }
    }

    #[test]
    fn a_unit_has_ended_only_when_nothing_brings_it_back() {
        let state = |active: &str, sub: &str, has_job| UnitState {
            active: active.to_owned().into(),
            sub: sub.to_owned(),
            has_job,
        };
        assert!(state("failed", "failed", false).has_ended());
        assert!(state("inactive", "dead", false).has_ended());
        assert!(
            !state("inactive", "dead", true).has_ended(),
            "a restart by an administrator"
        );
        assert!(!state("activating", "auto-restart", false).has_ended());
        assert!(!state("failed", "failed-before-auto-restart", false).has_ended());
        assert!(!state("deactivating", "stop", false).has_ended());
    }
}
