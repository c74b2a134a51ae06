//! What the queue of a run holds: things that will happen at a true time.

use crate::core::Persistent;
use crate::ids::GroupName;
use crate::sim::drivers::Answer;
use crate::sim::transport::Packet;

/// Something that will happen to one machine or to all.
#[derive(Debug, Clone)]
pub enum Happening {
    /// The daemon's timer.
    Wake {
        /// Where.
        node: usize,
        /// Of which life.
        life: u64,
        /// Void if the timer was set again.
        token: u64,
    },
    /// A packet comes in.
    Arrive {
        /// Where.
        node: usize,
        /// On which link.
        link: usize,
        /// What.
        packet: Packet,
    },
    /// Work on a group ends.
    Work {
        /// Where.
        node: usize,
        /// Since which boot.
        boot: u64,
        /// Which group.
        group: GroupName,
        /// Of which order.
        token: u64,
    },
    /// The unit's stop commands release what a dead daemon left.
    Release {
        /// Where.
        node: usize,
        /// Since which boot.
        boot: u64,
    },
    /// A machine gets power, and starts its daemon.
    Boot {
        /// Where.
        node: usize,
    },
    /// The daemon is started again.
    StartDaemon {
        /// Where.
        node: usize,
        /// Since which boot.
        boot: u64,
    },
    /// What stood still goes on.
    Resume {
        /// Where.
        node: usize,
        /// Which pause.
        token: u64,
    },
    /// The service manager's watchdog ends a daemon that stands still.
    KillPaused {
        /// Where.
        node: usize,
        /// Which pause.
        token: u64,
    },
    /// The machine's watchdog resets it, if it still stands still.
    ResetPaused {
        /// Where.
        node: usize,
        /// Which pause.
        token: u64,
    },
    /// The machine's watchdog resets it, if an emergency stop has not finished.
    ResetUnstopped {
        /// Where.
        node: usize,
        /// Since which boot.
        boot: u64,
    },
    /// A resource of a group that has only just started ends.
    Flap {
        /// Where.
        node: usize,
        /// Which group.
        group: GroupName,
    },
    /// A driver's answer comes late.
    Answer {
        /// Where.
        node: usize,
        /// To which life.
        life: u64,
        /// What it says.
        answer: Answer,
    },
    /// A slow disk has written something.
    Stored {
        /// Where.
        node: usize,
        /// By which life.
        life: u64,
        /// What.
        state: Persistent,
    },
    /// A person brings the newest configuration to a node.
    Edit {
        /// Where.
        node: usize,
    },
    /// A machine's own links can be used again.
    LinksUp {
        /// Where.
        node: usize,
    },
    /// Something goes wrong, or a person wants something.
    Fault,
    /// The same, of the second set.
    Trouble,
    /// A cut or storm ends.
    Mend {
        /// Which one.
        id: u64,
    },
}
