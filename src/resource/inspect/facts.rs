//! What systemd tells of a unit, in the terms of the judgement.
//!
//! A property that is missing, since systemd is older or newer, is taken for one that nothing is wrong with.

use std::collections::HashMap;
use std::time::Duration;
use zbus::{OwnedVariant, Structure, Variant};

/// Properties of one interface, as `GetAll` gives them.
pub type Properties = HashMap<String, OwnedVariant>;

/// Whether systemd could load the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// It is there.
    Loaded,
    /// There is no such unit.
    Missing,
    /// Its file is a link to nothing, so that nobody can start it.
    Masked,
    /// Its file is there and of no use, for this reason.
    Broken(String),
}

/// Where something was configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Below /etc.
    Persistent,
    /// Below /run, up to the next boot.
    Runtime,
}

/// What the unit's file is, beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// Linked where its `[Install]` section says.
    Enabled(Scope),
    /// Linked to nothing.
    Masked(Scope),
    /// Linked under another name or from another place, maybe from a target's directory.
    LinkedElsewhere,
    /// All else: `disabled`, `static`, `generated`, `transient` …
    Other,
}

/// How a unit depends on the one that it brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bond {
    /// `Wants=`.
    Wants,
    /// `Requires=`.
    Requires,
    /// `Upholds=`.
    Upholds,
}

impl Bond {
    /// How the directory of links ends that makes such a bond.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Wants => "wants",
            Self::Requires => "requires",
            Self::Upholds => "upholds",
        }
    }
}

/// Another unit that starts this one along with itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Puller {
    /// Its name.
    pub name: String,
    /// By what.
    pub bond: Bond,
}

/// Whether a person may start, or stop, the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Yes.
    Allowed,
    /// Its file says no.
    Refused,
    /// A unit of this kind cannot be.
    Impossible,
}

/// What every unit has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFacts {
    /// Its own name, where the one that was asked for is an alias.
    pub id: String,
    /// All its names.
    pub names: Vec<String>,
    /// Whether it could be loaded.
    pub load: Load,
    /// What its file is.
    pub file: FileState,
    /// The file that the unit was made from, empty if it was written as a unit.
    pub source: String,
    /// `systemctl start`.
    pub start: Control,
    /// `systemctl stop`.
    pub stop: Control,
    /// Whether it runs, or is about to.
    pub is_up: bool,
    /// Who starts it along with itself, as far as that is loaded.
    pub pulled_in_by: Vec<Puller>,
    /// What it is enabled for, loaded or not; none where that is not known.
    pub enabled_for: Option<Vec<String>>,
    /// Sockets, timers, paths and automounts that start it.
    pub triggered_by: Vec<String>,
    /// What it starts along with itself.
    pub needs: Vec<String>,
    /// What stops with it.
    pub stops_along: Vec<String>,
}

/// How long systemd lets a stop take before it uses force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// It does not say.
    Unknown,
    /// So long.
    After(Duration),
    /// Forever.
    Never,
}

impl Limit {
    /// From a time of systemd.
    pub fn from_usec(usec: u64) -> Self {
        match usec {
            u64::MAX => Self::Never,
            usec => Self::After(Duration::from_micros(usec)),
        }
    }
}

/// What is special to the kind of unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KindFacts {
    /// A service.
    Service {
        /// `Type=oneshot` without `RemainAfterExit=yes`.
        ends_at_once: bool,
        /// `KillMode=none`.
        kills_nothing: bool,
        /// `SendSIGKILL=no`.
        never_kills: bool,
        /// `TimeoutStopSec=`.
        stop_limit: Limit,
    },
    /// A mount or a swap unit, whose section has this name.
    FileSystem {
        /// `Mount` or `Swap`.
        section: &'static str,
        /// `TimeoutSec=`.
        stop_limit: Limit,
    },
    /// A unit without processes of its own.
    Plain,
}

impl UnitFacts {
    /// Reads them from properties of `org.freedesktop.systemd1.Unit`.
    pub fn from_properties(name: &str, properties: &Properties) -> Self {
        let all = Reader(properties);
        let pulled = [
            ("WantedBy", Bond::Wants),
            ("RequiredBy", Bond::Requires),
            ("UpheldBy", Bond::Upholds),
        ];
        let pulled_in_by = pulled.into_iter().flat_map(|(property, bond)| {
            let names = all.names(&[property]).into_iter();
            names.map(move |name| Puller { name, bond })
        });
        Self {
            id: all.text("Id").unwrap_or(name).to_owned(),
            names: all.names(&["Names"]),
            load: load(&all),
            file: file_state(all.text("UnitFileState").unwrap_or_default()),
            source: all.text("SourcePath").unwrap_or_default().to_owned(),
            start: control(&all, "CanStart", "RefuseManualStart"),
            stop: control(&all, "CanStop", "RefuseManualStop"),
            is_up: matches!(
                all.text("ActiveState"),
                Some("active" | "reloading" | "activating" | "refreshing")
            ),
            pulled_in_by: pulled_in_by.collect(),
            enabled_for: None,
            triggered_by: all.names(&["TriggeredBy"]),
            needs: all.names(&["Requires", "Wants", "BindsTo", "Upholds"]),
            stops_along: all.names(&["RequiredBy", "BoundBy", "ConsistsOf"]),
        }
    }

    /// Takes in the links that `systemctl disable` would remove.
    #[must_use]
    pub fn with_links(mut self, links: &[String]) -> Self {
        let names = &self.names;
        let owner = |link: &String| {
            let (directory, name) = link.rsplit_once('/')?;
            // Other units are enabled along with it (Also=), and links outside such directories are other names.
            let (owner, bond) = directory.rsplit('/').next()?.rsplit_once('.')?;
            let is_bond = matches!(bond, "wants" | "requires" | "upholds");
            let is_ours = names.iter().any(|it| it == name);
            (is_bond && is_ours).then(|| owner.to_owned())
        };
        self.enabled_for = Some(links.iter().filter_map(owner).collect());
        self
    }
}

impl KindFacts {
    /// Reads them from properties of the interface of this kind of unit.
    pub fn service(properties: &Properties) -> Self {
        let all = Reader(properties);
        Self::Service {
            ends_at_once: all.text("Type") == Some("oneshot")
                && all.flag("RemainAfterExit") == Some(false),
            kills_nothing: all.text("KillMode") == Some("none"),
            never_kills: all.flag("SendSIGKILL") == Some(false),
            stop_limit: all.limit("TimeoutStopUSec"),
        }
    }

    /// The same for a mount or swap unit.
    pub fn file_system(section: &'static str, properties: &Properties) -> Self {
        Self::FileSystem {
            section,
            stop_limit: Reader(properties).limit("TimeoutUSec"),
        }
    }
}

struct Reader<'a>(&'a Properties);

impl<'a> Reader<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        <&str>::try_from(self.0.get(name)?).ok()
    }

    fn flag(&self, name: &str) -> Option<bool> {
        bool::try_from(self.0.get(name)?).ok()
    }

    fn limit(&self, name: &str) -> Limit {
        let value = self.0.get(name).map(u64::try_from);
        match value {
            Some(Ok(usec)) => Limit::from_usec(usec),
            Some(Err(_)) | None => Limit::Unknown,
        }
    }

    /// The names in several lists, in their order.
    fn names(&self, lists: &[&str]) -> Vec<String> {
        let values = lists.iter().filter_map(|list| self.0.get(*list));
        let names =
            values.filter_map(|value| Vec::<String>::try_from(value.try_clone().ok()?).ok());
        names.flatten().collect()
    }

    /// The words of `LoadError`, which is a name and words.
    fn load_error(&self) -> Option<&'a str> {
        let error = <&Structure<'_>>::try_from(self.0.get("LoadError")?).ok()?;
        let words = error.fields().get(1)?;
        let Variant::Str(words) = words else {
            return None;
        };
        Some(words.as_str()).filter(|words| !words.is_empty())
    }
}

fn load(all: &Reader<'_>) -> Load {
    match all.text("LoadState") {
        Some("not-found") => Load::Missing,
        Some("masked") => Load::Masked,
        Some(word @ ("bad-setting" | "error")) => {
            Load::Broken(all.load_error().unwrap_or(word).to_owned())
        }
        Some(_) | None => Load::Loaded,
    }
}

fn file_state(word: &str) -> FileState {
    match word {
        "enabled" => FileState::Enabled(Scope::Persistent),
        "enabled-runtime" => FileState::Enabled(Scope::Runtime),
        "masked" => FileState::Masked(Scope::Persistent),
        "masked-runtime" => FileState::Masked(Scope::Runtime),
        "linked" | "linked-runtime" | "indirect" | "alias" => FileState::LinkedElsewhere,
        _ => FileState::Other,
    }
}

fn control(all: &Reader<'_>, can: &str, refuses: &str) -> Control {
    // systemd says of one that refuses that it cannot, as well.
    if all.flag(refuses) == Some(true) {
        Control::Refused
    } else if all.flag(can) == Some(false) {
        Control::Impossible
    } else {
        Control::Allowed
    }
}
