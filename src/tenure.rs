//! What a dead daemon leaves to whoever comes after it: which groups it held, of what they consist, up to when nobody
//! else runs them, and its newest words.
//!
//! Two small files in the run-time directory: `held.json`, replaced as a whole before anything is taken and after it was
//! given up, and `tenure.json`, written over with each heartbeat. Both are in memory only and end with the boot. A later life goes on by
//! them ([`Left::inheritance`]); `--release` gives up what they name, whatever the configuration says by then.

use crate::config::model::{Group, Link};
use crate::core::{Failures, Holding, Inheritance, Instant, Lease};
use crate::ids::GroupName;
use crate::wire::status::{Policy, Status};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The run-time directory of the unit (`RuntimeDirectory=ha-node`).
pub const DIRECTORY: &str = "/run/ha-node";

const HELD: &str = "held.json";
const TENURE: &str = "tenure.json";
const WAITED_FOR: &str = "waited-for.json";
const FAILURES: &str = "failures.json";

/// Version of both formats; another one is not read.
const FORMAT: u32 = 1;

/// The kernel's name for this boot; a container's own may be missing.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What is held, and how it can be given up without the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    format: u32,
    boot: String,
    /// Groups of which something may run here.
    pub groups: Vec<HeldGroup>,
    /// Where the peers can be told.
    pub links: Vec<Link>,
    /// With what the message is signed.
    pub keyfile: Option<PathBuf>,
    /// A release has begun to stop this, and may have told the peers: nobody goes on with any of it.
    #[serde(default)]
    withdrawn: bool,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldGroup {
    /// Of what it consists.
    pub group: Group,
    /// How it stands.
    pub holding: Holding,
}

/// Up to when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenure {
    format: u32,
    boot: String,
    /// Up to when nobody else runs what is held.
    pub until: Lease,
    /// The newest heartbeat; none in a cluster of one.
    pub words: Option<Box<Status>>,
}

/// What has failed here.
#[derive(Debug, Serialize, Deserialize)]
struct FailureRecord {
    format: u32,
    boot: String,
    failures: BTreeMap<GroupName, Failures>,
    /// As what each group was configured then.
    #[serde(default)]
    configured: BTreeMap<GroupName, u64>,
}

/// For what a timer is set.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Wait {
    until: Lease,
    /// When it rings.
    at: Instant,
}

/// Both together, as a dead daemon has left them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// What is held.
    pub held: Held,
    /// Up to when; none if it never sent a heartbeat while it held this.
    pub tenure: Option<Tenure>,
}

/// Writes both files for the running daemon.
#[derive(Debug)]
pub struct Keeper {
    directory: PathBuf,
    boot: String,
    links: Vec<Link>,
    keyfile: Option<PathBuf>,
    written: Option<BTreeMap<GroupName, Holding>>,
    /// The failures of the last call.
    failures: Option<BTreeMap<GroupName, Failures>>,
    /// It is noted that nobody else ever runs anything.
    unlimited: bool,
    /// Open for as long as it can be written.
    tenure: Option<TenureFile>,
    /// The files cannot be written; told once.
    failed: bool,
}

/// A file that is written over in one system call, so that it costs little each time. A daemon that is ended within it
/// leaves a text that is not valid, which is as good as none.
#[derive(Debug)]
struct TenureFile {
    file: fs::File,
    /// Longest text so far: a shorter one is filled up with blanks.
    length: usize,
}

impl Keeper {
    /// For a daemon with these links and keys.
    pub fn new(directory: &Path, links: Vec<Link>, keyfile: Option<PathBuf>) -> Self {
        Self {
            directory: directory.to_owned(),
            boot: boot_id(),
            links,
            keyfile,
            written: None,
            failures: None,
            unlimited: false,
            tenure: None,
            failed: false,
        }
    }

    /// Notes what is held, where that has changed.
    pub fn note_held(&mut self, held: BTreeMap<GroupName, Holding>, groups: &[Group]) {
        if self.written.as_ref() == Some(&held) {
            return;
        }
        let groups = groups.iter().filter_map(|group| {
            let holding = *held.get(&group.name)?;
            Some(HeldGroup {
                group: group.clone(),
                holding,
            })
        });
        let record = Held {
            format: FORMAT,
            boot: self.boot.clone(),
            groups: groups.collect(),
            links: self.links.clone(),
            keyfile: self.keyfile.clone(),
            withdrawn: false,
        };
        if self.write(HELD, &record) {
            self.written = Some(held);
        } else {
            // What was held before must not be taken for what is held now.
            self.tenure = None;
            self.written = None;
            self.unlimited = false;
            let _ = fs::remove_file(self.directory.join(TENURE));
        }
    }

    /// Notes what has failed, where that has changed. A text that cannot be written is told and not tried again: it
    /// only says what the next daemon need not learn anew.
    pub fn note_failures(&mut self, failures: BTreeMap<GroupName, Failures>, groups: &[Group]) {
        if self.failures.as_ref() == Some(&failures) {
            return;
        }
        self.failures = Some(failures.clone());
        let record = FailureRecord {
            format: FORMAT,
            boot: self.boot.clone(),
            configured: digests(groups, &failures),
            failures,
        };
        self.write(FAILURES, &record);
    }

    /// Notes that nobody else will ever run what is held: this is a cluster of one.
    pub fn note_unlimited(&mut self) {
        if !self.unlimited && self.written.is_some() {
            self.unlimited = self.note_tenure(Lease::Unlimited, None);
        }
    }

    /// Notes a heartbeat: as long as anything is held, and under `majority` always, since it may promise something.
    pub fn note_heartbeat(&mut self, until: Lease, words: &Status) {
        let holds = self.written.as_ref().is_some_and(|held| !held.is_empty());
        if !holds && words.profile.policy == Policy::Ignore {
            return;
        }
        let mut words = Box::new(words.clone());
        words.plan = None;
        words.request = None;
        self.note_tenure(until, Some(words));
    }

    fn note_tenure(&mut self, until: Lease, words: Option<Box<Status>>) -> bool {
        let record = Tenure {
            format: FORMAT,
            boot: self.boot.clone(),
            until,
            words,
        };
        let result = self.write_over(&record);
        if result.is_err() {
            // What is there is not the newest any more.
            self.tenure = None;
            let _ = fs::remove_file(self.directory.join(TENURE));
        }
        self.judge(TENURE, result)
    }

    fn write_over(&mut self, record: &Tenure) -> io::Result<()> {
        let tenure = match &mut self.tenure {
            Some(tenure) => tenure,
            None => {
                let file = create(&self.directory.join(TENURE))?;
                self.tenure.insert(TenureFile { file, length: 0 })
            }
        };
        let mut text = serde_json::to_vec(record)?;
        tenure.length = tenure.length.max(text.len());
        text.resize(tenure.length, b' ');
        tenure.file.write_all_at(&text, 0)
    }

    fn write(&mut self, name: &str, record: &impl Serialize) -> bool {
        let result = replace(&self.directory, name, record);
        self.judge(name, result)
    }

    fn judge(&mut self, name: &str, result: io::Result<()>) -> bool {
        match &result {
            Ok(()) => self.failed = false,
            Err(_) if self.failed => {}
            Err(error) => {
                self.failed = true;
                tracing::warn!(
                    "cannot write {}: {error}; if this daemon dies, its groups are stopped at once and by the \
                     configuration of that moment, going on",
                    self.directory.join(name).display()
                );
            }
        }
        result.is_ok()
    }
}

impl Left {
    /// What the last daemon of this boot has left; none if it held nothing.
    pub fn load(directory: &Path) -> Option<Self> {
        let boot = boot_id();
        let held: Held = read(directory, HELD)?;
        let fits = |format: u32, of: &str| format == FORMAT && of == boot;
        if !fits(held.format, &held.boot) || held.groups.is_empty() {
            return None;
        }
        let tenure: Option<Tenure> = read(directory, TENURE);
        let tenure = tenure.filter(|tenure| fits(tenure.format, &tenure.boot));
        Some(Self { held, tenure })
    }

    /// Whether a release has begun.
    pub fn is_withdrawn(&self) -> bool {
        self.held.withdrawn
    }

    /// Up to when nobody else runs what is held.
    pub fn until(&self) -> Lease {
        self.tenure
            .as_ref()
            .map_or(Lease::None, |tenure| tenure.until)
    }

    /// Its policy, if it said anything.
    pub fn policy(&self) -> Option<Policy> {
        self.words().map(|words| words.profile.policy)
    }

    /// Its deadtime, if it said anything.
    pub fn deadtime(&self) -> Duration {
        self.words().map(|words| words.deadtime).unwrap_or_default()
    }

    fn words(&self) -> Option<&Status> {
        self.tenure.as_ref()?.words.as_deref()
    }

    /// What a daemon with these groups can go on with: what is up, and consists of the same. `longest` is the longest
    /// tenure that a heartbeat gives; none in a cluster of one, where there is no end. A later end is not believed.
    pub fn inheritance(
        &self,
        groups: &[Group],
        now: Instant,
        longest: Option<Duration>,
    ) -> Inheritance {
        if self.held.withdrawn {
            return Inheritance::default();
        }
        let until = match (self.until(), longest) {
            (Lease::Unlimited, None) => Lease::Unlimited,
            (Lease::Until(end), Some(longest)) if now < end && end <= now + longest => {
                Lease::Until(end)
            }
            (Lease::None | Lease::Until(_) | Lease::Unlimited, _) => return Inheritance::default(),
        };
        let up = self.held.groups.iter().filter(|held| held.holding.up);
        let same = up.filter(|held| {
            groups
                .iter()
                .any(|group| group.here && group.has_parts_of(&held.group))
        });
        Inheritance {
            until,
            groups: same
                .map(|held| (held.group.name.clone(), held.holding))
                .collect(),
            ..Inheritance::default()
        }
    }

    /// A release begins: no later life may go on with any of this, whatever becomes of the release. Answers whether that
    /// is certain.
    pub fn withdraw(&mut self, directory: &Path) -> bool {
        self.held.withdrawn = true;
        let Err(error) = replace(directory, HELD, &self.held) else {
            return true;
        };
        // Without its end there is nothing to go on with either; a file can be removed where none can be written.
        let gone = remove(directory, TENURE);
        if let Err(second) = &gone {
            tracing::warn!(
                "cannot note in {} that a release has begun: {error}, {second}",
                directory.display()
            );
        }
        gone.is_ok()
    }

    /// Notes that of these groups something may run here still, and of no others.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_only(&mut self, directory: &Path, unreleased: &[&Group]) -> io::Result<()> {
        let holding = Holding {
            up: false,
            pinned: false,
        };
        let groups = unreleased.iter().map(|group| HeldGroup {
            group: (*group).clone(),
            holding,
        });
        self.held.groups = groups.collect();
        replace(directory, HELD, &self.held)
    }

    /// Notes the words that were said last for the dead daemon, so that later ones can be told from them.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note_said(&mut self, directory: &Path, words: Status) -> io::Result<()> {
        let Some(tenure) = &mut self.tenure else {
            return Ok(());
        };
        tenure.words = Some(Box::new(words));
        replace(directory, TENURE, tenure)
    }

    /// What a daemon with these groups does not know how to stop: what was held consists of something else now, may
    /// not run here, or is no group any more.
    pub fn unknown(&self, groups: &[Group]) -> Vec<Group> {
        let held = self.held.groups.iter().map(|held| &held.group);
        held.filter(|held| {
            !groups
                .iter()
                .any(|group| group.here && group.has_parts_of(held))
        })
        .cloned()
        .collect()
    }
}

/// The newest heartbeat of the last daemon of this boot, under `majority`.
pub fn newest_words(directory: &Path) -> Option<Box<Status>> {
    let tenure: Tenure = read(directory, TENURE)?;
    let fits = tenure.format == FORMAT && tenure.boot == boot_id();
    tenure.words.filter(|_| fits)
}

/// What failed since the machine's boot, as the last daemon knew; nothing of groups that were configured otherwise then.
pub fn failures(directory: &Path, groups: &[Group]) -> BTreeMap<GroupName, Failures> {
    let record: Option<FailureRecord> = read(directory, FAILURES);
    let fits = |record: &FailureRecord| record.format == FORMAT && record.boot == boot_id();
    let Some(mut record) = record.filter(fits) else {
        return BTreeMap::new();
    };
    let now = digests(groups, &record.failures);
    record
        .failures
        .retain(|name, _| now.contains_key(name) && now.get(name) == record.configured.get(name));
    record.failures
}

/// A number for all that each of these groups was told.
fn digests(groups: &[Group], of: &BTreeMap<GroupName, Failures>) -> BTreeMap<GroupName, u64> {
    let failed = groups.iter().filter(|group| of.contains_key(&group.name));
    failed
        .map(|group| (group.name.clone(), group.digest()))
        .collect()
}

/// Notes that a timer is set for the end of this tenure, and when it rings.
///
/// # Errors
/// The file cannot be written.
pub fn note_waited_for(directory: &Path, until: Lease, at: Instant) -> io::Result<()> {
    replace(directory, WAITED_FOR, &Wait { until, at })
}

/// When the timer for this tenure rings, or has rung: it rings once. None if none was set for it.
pub fn waited_for(directory: &Path, until: Lease) -> Option<Instant> {
    let wait: Wait = read(directory, WAITED_FOR)?;
    (wait.until == until).then_some(wait.at)
}

/// Forgets all that was left: it is given up. What was said last still binds the next life.
pub fn clear(directory: &Path) {
    let said = read::<Tenure>(directory, TENURE).map(|tenure| Tenure {
        until: Lease::None,
        ..tenure
    });
    let kept = said.is_some_and(|said| replace(directory, TENURE, &said).is_ok());
    let outdated = (!kept).then_some(TENURE);
    for name in [HELD, WAITED_FOR].into_iter().chain(outdated) {
        if let Err(error) = remove(directory, name) {
            let path = directory.join(name);
            tracing::warn!("cannot remove {}: {error}, ignoring", path.display());
        }
    }
}

/// A file that is not there is removed.
fn remove(directory: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(directory.join(name)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default()
}

/// Aside first, so that whoever reads finds the old file or the new one.
fn replace(directory: &Path, name: &str, record: &impl Serialize) -> io::Result<()> {
    let new = directory.join(format!("{name}.new"));
    let file = create(&new)?;
    let mut writer = io::BufWriter::with_capacity(16 << 10, file);
    serde_json::to_writer(&mut writer, record)?;
    writer
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    fs::rename(&new, directory.join(name))
}

/// An empty file that only root reads.
fn create(path: &Path) -> io::Result<fs::File> {
    fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

fn read<T: DeserializeOwned>(directory: &Path, name: &str) -> Option<T> {
    let path = directory.join(name);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!("cannot read {}: {error}, ignoring it", path.display());
            return None;
        }
    };
    match serde_json::from_slice(&text) {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::warn!("{} is damaged: {error}, ignoring it", path.display());
            None
        }
    }
}

#[cfg(test)]
mod tests;
