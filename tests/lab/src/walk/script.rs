//! The words of a walk: what can be done to a machine, and the text in which a script of it is written and read.
//!
//! A script is a list of items with semicolons between them, such as
//! `alpha cut eth0; wait 3000; alpha mend eth0; web kill-unit; heal`. Reading is writing turned round: an item is
//! whatever prints as that text.

use crate::cluster::NAMES;
use anyhow::{Context, Result, ensure};
use std::fmt;
use std::time::Duration;

/// How many cables a machine has.
pub const CABLES: usize = 2;

/// A condition of a machine that lasts until it is ended; in the order in which healing ends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lasting {
    /// No byte can be stored where the daemon keeps its state.
    DiskFull,
    /// Without power.
    Off,
    /// All its processes stand still.
    Paused,
    /// The daemon alone stands still.
    Frozen,
    /// An interface that was set down inside.
    LinkDown(usize),
    /// A cable that is out.
    Cut(usize),
    /// A port of the switch that drops what is sent to the machine.
    Deaf(usize),
    /// A port of the switch that drops what the machine sends.
    Mute(usize),
    /// The daemon is stopped in good order.
    Stopped,
    /// In standby.
    Standby,
}

/// What happens in a moment and leaves nothing to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brief {
    /// SIGKILL of the daemon.
    KillDaemon,
    /// `systemctl restart` of the daemon.
    RestartDaemon,
    /// `hactl move` of the group to this machine.
    MoveHere,
}

/// What is done to one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A condition begins.
    Begin(Lasting),
    /// It ends.
    End(Lasting),
    /// Something that is over at once.
    Do(Brief),
}

/// What is done to the group, wherever it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL of all processes of its service.
    KillUnit,
    /// Its address is deleted.
    DeleteAddress,
}

/// One entry of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// Something is done to the machine of that number.
    Act(usize, Act),
    /// Something is done to the group.
    Blow(Blow),
    /// Nothing is done for so long.
    Wait(Duration),
    /// All conditions end, and the cluster must agree.
    Heal,
}

impl Lasting {
    /// All there are.
    pub fn all() -> Vec<Self> {
        let cables = (0..CABLES).flat_map(|cable| {
            [
                Self::LinkDown(cable),
                Self::Cut(cable),
                Self::Deaf(cable),
                Self::Mute(cable),
            ]
        });
        let others = [
            Self::DiskFull,
            Self::Off,
            Self::Paused,
            Self::Frozen,
            Self::Stopped,
            Self::Standby,
        ];
        others.into_iter().chain(cables).collect()
    }

    /// The cable that it is about, if it is about one.
    fn cable(self) -> Option<usize> {
        match self {
            Self::LinkDown(cable) | Self::Cut(cable) | Self::Deaf(cable) | Self::Mute(cable) => {
                Some(cable)
            }
            Self::DiskFull
            | Self::Off
            | Self::Paused
            | Self::Frozen
            | Self::Stopped
            | Self::Standby => None,
        }
    }

    /// The same on another cable.
    fn on_cable(self, cable: usize) -> Self {
        match self {
            Self::LinkDown(_) => Self::LinkDown(cable),
            Self::Cut(_) => Self::Cut(cable),
            Self::Deaf(_) => Self::Deaf(cable),
            Self::Mute(_) => Self::Mute(cable),
            Self::DiskFull
            | Self::Off
            | Self::Paused
            | Self::Frozen
            | Self::Stopped
            | Self::Standby => self,
        }
    }

    /// The words for its begin and its end.
    fn words(self) -> [String; 2] {
        let [begin, end] = match self {
            Self::DiskFull => ["fill-disk", "empty-disk"],
            Self::Off => ["power-cut", "power-on"],
            Self::Paused => ["pause", "resume"],
            Self::Frozen => ["freeze-daemon", "thaw-daemon"],
            Self::LinkDown(_) => ["link-down", "link-up"],
            Self::Cut(_) => ["cut", "mend"],
            Self::Deaf(_) => ["drop-in", "pass-in"],
            Self::Mute(_) => ["drop-out", "pass-out"],
            Self::Stopped => ["stop-daemon", "start-daemon"],
            Self::Standby => ["standby", "online"],
        };
        let cable = self.cable().map(interface);
        let cable = cable.map_or(String::new(), |name| format!(" {name}"));
        [begin, end].map(|word| format!("{word}{cable}"))
    }
}

impl Act {
    /// The cable that it is about, if it is about one.
    pub fn cable(self) -> Option<usize> {
        match self {
            Self::Begin(lasting) | Self::End(lasting) => lasting.cable(),
            Self::Do(_) => None,
        }
    }

    /// The same on the machine's next cable, if it is about a cable.
    pub fn on_next_cable(self) -> Option<Self> {
        let next = (self.cable()? + 1) % CABLES;
        match self {
            Self::Begin(lasting) => Some(Self::Begin(lasting.on_cable(next))),
            Self::End(lasting) => Some(Self::End(lasting.on_cable(next))),
            Self::Do(_) => None,
        }
    }

    /// All there are.
    pub fn all() -> Vec<Self> {
        let lasting = Lasting::all().into_iter();
        let brief = [Brief::KillDaemon, Brief::RestartDaemon, Brief::MoveHere];
        lasting
            .flat_map(|it| [Self::Begin(it), Self::End(it)])
            .chain(brief.map(Self::Do))
            .collect()
    }
}

impl Blow {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::KillUnit, Self::DeleteAddress];
}

/// Name of a machine's interface at this cable.
pub fn interface(cable: usize) -> String {
    format!("eth{cable}")
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(lasting) => f.write_str(&lasting.words()[0]),
            Self::End(lasting) => f.write_str(&lasting.words()[1]),
            Self::Do(Brief::KillDaemon) => f.write_str("kill-daemon"),
            Self::Do(Brief::RestartDaemon) => f.write_str("restart-daemon"),
            Self::Do(Brief::MoveHere) => f.write_str("move-here"),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Act(node, act) => {
                let name = NAMES.get(*node).copied().unwrap_or("nobody");
                write!(f, "{name} {act}")
            }
            Self::Blow(Blow::KillUnit) => f.write_str("web kill-unit"),
            Self::Blow(Blow::DeleteAddress) => f.write_str("web delete-address"),
            Self::Wait(time) => write!(f, "wait {}", time.as_millis()),
            Self::Heal => f.write_str("heal"),
        }
    }
}

/// Reads a script for so many machines.
///
/// # Errors
/// Names the item that means nothing.
pub fn parse(text: &str, nodes: usize) -> Result<Vec<Item>> {
    let parts = text.split(';').map(str::trim).filter(|it| !it.is_empty());
    let items: Vec<Item> = parts
        .map(|part| parse_item(part, nodes))
        .collect::<Result<_>>()?;
    ensure!(!items.is_empty(), "a script without an item");
    Ok(items)
}

fn parse_item(text: &str, nodes: usize) -> Result<Item> {
    if let Some(number) = text.strip_prefix("wait ") {
        let time = number.trim().parse();
        return Ok(Item::Wait(Duration::from_millis(time.with_context(
            || format!("{text:?}: milliseconds are missing"),
        )?)));
    }
    let acts = (0..nodes).flat_map(|node| {
        let acts = Act::all().into_iter();
        acts.map(move |act| Item::Act(node, act))
    });
    let blows = Blow::ALL.map(Item::Blow);
    acts.chain(blows)
        .chain([Item::Heal])
        .find(|item| item.to_string() == text)
        .with_context(|| format!("{text:?} is nothing that a walk can do"))
}

/// A script as text that [`parse`] reads.
pub fn write(items: &[Item]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_can_be_written_is_read_as_it_was() {
        let mut items: Vec<Item> = Act::all()
            .into_iter()
            .map(|act| Item::Act(1, act))
            .collect();
        items.extend(Blow::ALL.map(Item::Blow));
        items.extend([Item::Wait(Duration::from_millis(70)), Item::Heal]);
        assert_eq!(parse(&write(&items), 2).unwrap(), items);
    }

    #[test]
    fn what_means_nothing_is_named() {
        for text in ["alpha fly", "gamma cut eth0", "wait long", "alpha cut eth2"] {
            let error = format!("{:#}", parse(text, 2).unwrap_err());
            assert!(error.contains(text), "{error}");
        }
        assert!(parse(" ; ", 2).is_err());
    }
}
