//! What the daemon tells people: events as journal entries, and its own diagnostics.
//!
//! Owns the table of events, their wording and the way to journald. Writing never blocks: a journald that
//! stands still costs entries, which are counted and told, never time. `dbus` sends the same records.

mod describe;
pub mod diagnostics;
pub mod native;
pub mod table;

pub use describe::{Context, describe};
pub use native::EventWriter;
pub use table::{Kind, TABLE};

/// Every entry's `SYSLOG_IDENTIFIER`.
pub const IDENTIFIER: &str = "ha-node";

/// One event, ready for the journal and the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// From the table, e.g. `node-dead`.
    pub id: &'static str,
    /// Its `MESSAGE_ID`.
    pub message_id: &'static str,
    /// How grave it is.
    pub level: Level,
    /// One line for people, with Heartbeat's wording where it had the event.
    pub text: String,
    /// `MESSAGE_ID`, `HA_EVENT`, `HA_CLUSTER`, `HA_NODE`, and what applies of `HA_PEER`, `HA_GROUP`,
    /// `HA_RESOURCE`, `HA_LINK`, `HA_GENERATION` and `HA_DURATION_USEC`.
    pub fields: Vec<(&'static str, String)>,
    /// When: microseconds since 1970.
    pub usec: u64,
}

/// How grave an event is: syslog's levels, as far as they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Data or service are at risk now.
    Critical,
    /// The cluster cannot do its duty.
    Error,
    /// Survived; someone should look.
    Warning,
    /// Normal, but worth to be told.
    Notice,
    /// Normal.
    Info,
}

impl Level {
    /// syslog's number for it.
    pub fn priority(self) -> u8 {
        match self {
            Self::Critical => 2,
            Self::Error => 3,
            Self::Warning => 4,
            Self::Notice => 5,
            Self::Info => 6,
        }
    }
}
