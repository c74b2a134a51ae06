//! What survives a restart, on disk: one small file, replaced as a whole, durable before anyone relies on it.
//!
//! Owns the file's format and its replacement. A file that is not exactly what was stored is never trusted: it
//! is set aside, and the generation begins anew above every earlier one. All functions block until the disk
//! has answered.

mod blocked;

use crate::core::Persistent;
use crate::ids::{Generation, NAME_LENGTH_MAX};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Where the daemon keeps its state when nobody says otherwise.
pub const DIRECTORY: &str = "/var/lib/ha-node";

const FILE: &str = "state.json";
const FILE_NEW: &str = "state.json.new";
const DAMAGED: &str = "state.json.damaged-";

/// Version of the format below.
const FORMAT: u32 = 1;

/// Damaged files that are kept for inspection; the oldest goes first.
pub const DAMAGED_MAX: usize = 5;

/// Most groups of which a failed stop can be stored: as many as a configuration has.
const GROUPS_MAX: usize = 512;

/// Most nodes where that can be: as many as a cluster has.
const NODES_MAX: usize = 32;

/// The longest line for one of these: indentation, quotes, a mask.
const LINE_MAX: usize = NAME_LENGTH_MAX + 40;

/// Everything else; some 200 bytes are used.
const REST_MAX: usize = 4096;

/// More than anything that is stored has: failed stops, and those that were cleared.
const SIZE_MAX: u64 = (2 * (GROUPS_MAX + 2 * NODES_MAX) * LINE_MAX + REST_MAX) as u64;

/// Generations from here on are damage: no real counter comes near, and there must be a next one.
const GENERATION_END: u64 = u64::MAX - 1;

/// The file as it stands on disk.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    /// SHA-256 of `state` as compact JSON with sorted keys, in hexadecimal.
    sha256: String,
    state: serde_json::Value,
}

/// Held by the one process that may act for this node: a second one would fight it for the node's groups.
///
/// The kernel lets go of it when the process ends, however that is.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why this process may not act for the node.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another one does.
    #[error(
        "another ha-node runs on this machine already (it holds {}); `systemctl status ha-node` shows it",
        .0.display()
    )]
    Held(PathBuf),
    /// The lock file cannot be made.
    #[error(transparent)]
    Unavailable(StateError),
}

impl Lock {
    /// Takes the lock in the state directory, which is made if it is missing.
    ///
    /// # Errors
    /// Another process holds it, or the directory cannot be written.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        Self::take_file(directory, "lock")
    }

    /// Takes the lock of whoever releases what a dead daemon has left: a new daemon waits for it.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub fn take_for_release(directory: &Path) -> Result<Self, LockError> {
        Self::take_file(directory, "release.lock")
    }

    fn take_file(directory: &Path, name: &str) -> Result<Self, LockError> {
        let path = directory.join(name);
        let unavailable = |error| LockError::Unavailable(failed("lock", &path)(error));
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(unavailable)?;
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(unavailable)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Held(path)),
            Err(error) => Err(unavailable(error.into())),
        }
    }
}

/// The state directory of the running daemon.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    /// One store at a time, and never a lower generation after a higher one.
    newest: Mutex<Generation>,
}

/// Why the state cannot be kept. The daemon must not start then: without it a new life cannot be told from an
/// old one.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {action} {}: {source}; ha-node needs this to number its starts and does not run without it: make sure \
     that the directory is on a writable disk with free space and that ha-node runs as root (its unit: \
     `StateDirectory=ha-node`)",
    path.display()
)]
pub struct StateError {
    /// What was tried.
    action: &'static str,
    /// On what.
    path: PathBuf,
    /// Why it failed.
    source: io::Error,
}

/// The stored state was damaged; the daemon goes on without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
    /// Where it is now; none if it could not be moved, and will be overwritten.
    pub set_aside: Option<PathBuf>,
    /// The generation that begins instead.
    pub generation: Generation,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the state in {} is damaged ({}): ",
            self.path.display(),
            self.reason
        )?;
        match &self.set_aside {
            Some(path) => write!(f, "set aside as {}", path.display())?,
            None => f.write_str("overwriting it")?,
        }
        write!(
            f,
            ", beginning anew with generation {} and without standby",
            self.generation
        )
    }
}

impl State {
    /// Begins a life: loads what the last one stored, and stores it with a generation of its own. The first
    /// generation ever, and the first after damage, is one higher than `unix_now` (in seconds), as Heartbeat's.
    ///
    /// # Errors
    /// The directory or a file in it cannot be made, read or written. Damage is a warning.
    pub fn open(
        directory: &Path,
        unix_now: u64,
    ) -> Result<(Self, Persistent, Vec<Warning>), StateError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(failed("make", directory))?;
        let state = Self {
            directory: directory.to_owned(),
            newest: Mutex::new(Generation(0)),
        };
        let first = Persistent::first(Generation(unix_now.min(GENERATION_END - 2)).next());
        let mut warnings = Vec::new();
        let persistent = match state.load()? {
            Content::Missing => first,
            Content::Valid(last) => Persistent {
                generation: last.generation.next(),
                ..last
            },
            Content::Damaged(reason) => {
                warnings.push(Warning {
                    path: state.path(FILE),
                    reason,
                    set_aside: state.set_aside(),
                    generation: first.generation,
                });
                first
            }
        };
        state.store(&persistent)?;
        Ok((state, persistent, warnings))
    }

    /// Stores it; on disk when this returns. After an error the former state is still there, or this one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store(&self, persistent: &Persistent) -> Result<(), StateError> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if persistent.generation < *newest {
            return Ok(());
        }
        *newest = persistent.generation;
        let new = self.path(FILE_NEW);
        let text = encode(persistent).map_err(failed("encode", &new))?;
        write_durably(&new, text.as_bytes()).map_err(failed("write", &new))?;
        let path = self.path(FILE);
        std::fs::rename(&new, &path).map_err(failed("replace", &path))?;
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed("sync", &self.directory))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn load(&self) -> Result<Content, StateError> {
        let path = self.path(FILE);
        let file = match File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
        {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Content::Missing),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let mut bytes = Vec::new();
        match file.take(SIZE_MAX + 1).read_to_end(&mut bytes) {
            Ok(_) => Ok(decode(&bytes).map_or_else(Content::Damaged, Content::Valid)),
            // A bad sector or a directory of that name: the file is as good as damaged.
            Err(error) => Ok(Content::Damaged(error.to_string())),
        }
    }

    /// Moves the damaged file out of the way, and removes the oldest of its kind.
    fn set_aside(&self) -> Option<PathBuf> {
        let mut numbers = self.damaged_numbers();
        let number = numbers.last().map_or(1, |last| last.saturating_add(1));
        let aside = self.path(&format!("{DAMAGED}{number}"));
        std::fs::rename(self.path(FILE), &aside).ok()?;
        numbers.push(number);
        let excess = numbers.len().saturating_sub(DAMAGED_MAX);
        for old in numbers.iter().take(excess) {
            // What cannot be removed only takes space; it will be tried again next time.
            let _ = std::fs::remove_file(self.path(&format!("{DAMAGED}{old}")));
        }
        Some(aside)
    }

    fn damaged_numbers(&self) -> Vec<u64> {
        let Ok(entries) = std::fs::read_dir(&self.directory) else {
            return Vec::new();
        };
        let mut numbers: Vec<u64> = entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name();
                name.to_str()?.strip_prefix(DAMAGED)?.parse().ok()
            })
            .collect();
        numbers.sort_unstable();
        numbers
    }
}

enum Content {
    Missing,
    Valid(Persistent),
    Damaged(String),
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError {
        action,
        path,
        source,
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn encode(persistent: &Persistent) -> io::Result<String> {
    let mut state = serde_json::to_value(persistent)?;
    blocked::shorten(&mut state)?;
    let stored = Stored {
        format: FORMAT,
        sha256: checksum(&state),
        state,
    };
    let mut text = serde_json::to_string_pretty(&stored)?;
    text.push('\n');
    Ok(text)
}

fn decode(bytes: &[u8]) -> Result<Persistent, String> {
    if bytes.len() as u64 > SIZE_MAX {
        return Err(format!("larger than {SIZE_MAX} bytes"));
    }
    let stored: Stored = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if stored.format != FORMAT {
        return Err(format!(
            "format {}, this version of ha-node reads format {FORMAT}",
            stored.format
        ));
    }
    if checksum(&stored.state) != stored.sha256 {
        return Err("its checksum is wrong".to_owned());
    }
    let mut state = stored.state;
    blocked::lengthen(&mut state).map_err(|error| error.to_string())?;
    let persistent: Persistent =
        serde_json::from_value(state).map_err(|error| error.to_string())?;
    if persistent.generation.0 >= GENERATION_END {
        return Err(format!(
            "generation {} is impossible",
            persistent.generation
        ));
    }
    Ok(persistent)
}

fn checksum(state: &serde_json::Value) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(state.to_string().as_bytes()) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GroupName, NodeName};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::fs;

    const NOW: u64 = 1_700_000_000;

    fn open(directory: &Path) -> (State, Persistent, Vec<Warning>) {
        State::open(directory, NOW).unwrap()
    }

    fn damaged_files(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("damaged"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_one_process_acts_for_a_node() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path()).unwrap();
        let second = Lock::take(directory.path());
        assert!(matches!(second, Err(LockError::Held(_))), "{second:?}");
        drop(first);
        assert!(Lock::take(directory.path()).is_ok());
    }

    #[test]
    fn a_late_store_does_not_bring_back_an_earlier_life() {
        let directory = tempfile::tempdir().unwrap();
        let (state, first, _) = open(directory.path());
        let later = Persistent {
            generation: first.generation.next().next(),
            ..first.clone()
        };
        state.store(&later).unwrap();
        state.store(&first).unwrap();
        let (_, next, _) = open(directory.path());
        assert_eq!(next.generation, later.generation.next());
    }

    #[test]
    fn every_life_has_a_higher_generation_than_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("made/by/open");
        let generations: Vec<u64> = (0..3).map(|_| open(&directory).1.generation.0).collect();
        assert_eq!(generations, [NOW + 1, NOW + 2, NOW + 3]);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_set_back_the_generation() {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path());
        let (_, persistent, _) = State::open(directory.path(), 5).unwrap();
        assert_eq!(persistent.generation.0, NOW + 2);
    }

    #[test]
    fn standby_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (state, first, _) = open(directory.path());
        state
            .store(&Persistent {
                standby: true,
                ..first
            })
            .unwrap();
        let (_, second, warnings) = open(directory.path());
        assert!(second.standby && warnings.is_empty());
    }

    #[test]
    fn a_generation_far_in_the_future_is_kept_and_the_largest_is_damage() {
        let directory = tempfile::tempdir().unwrap();
        let (state, first, _) = open(directory.path());
        let store = |generation| {
            let generation = Generation(generation);
            state
                .store(&Persistent {
                    generation,
                    ..first.clone()
                })
                .unwrap();
        };
        store(u64::MAX / 2);
        assert_eq!(open(directory.path()).1.generation.0, u64::MAX / 2 + 1);
        for impossible in [u64::MAX - 1, u64::MAX] {
            store(impossible);
            let (_, persistent, warnings) = open(directory.path());
            assert_eq!(persistent.generation.0, NOW + 1);
            assert!(warnings[0].reason.contains("impossible"));
        }
    }

    #[test]
    fn damage_is_set_aside_and_told_and_not_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let (state, first, _) = open(directory.path());
        state
            .store(&Persistent {
                standby: true,
                ..first
            })
            .unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let cases = [
            String::new(),
            "garbage".to_owned(),
            good[..good.len() / 2].to_owned(),
            good.replace("\"generation\": 1", "\"generation\": 2"),
            good.replace("\"format\": 1", "\"format\": 2"),
            " ".repeat(SIZE_MAX as usize + 1),
        ];
        for (index, case) in cases.iter().enumerate() {
            assert_ne!(*case, good, "case {index} changes the file");
            fs::write(&path, case).unwrap();
            let (_, persistent, warnings) = open(directory.path());
            assert_eq!(persistent.generation.0, NOW + 1, "case {index}");
            assert!(!persistent.standby, "case {index}");
            let aside = warnings[0].set_aside.clone().unwrap();
            assert_eq!(fs::read_to_string(aside).unwrap(), *case);
            assert!(open(directory.path()).2.is_empty(), "told once");
        }
        let kept = damaged_files(directory.path());
        assert_eq!(kept.len(), DAMAGED_MAX);
        assert!(
            !kept.contains(&format!("{DAMAGED}1")),
            "the oldest goes first"
        );
    }

    #[test]
    fn a_file_that_an_interrupted_store_left_is_no_state() {
        let directory = tempfile::tempdir().unwrap();
        let (_, first, _) = open(directory.path());
        fs::write(directory.path().join(FILE_NEW), "{\"format\":1").unwrap();
        let (_, second, warnings) = open(directory.path());
        assert_eq!(second.generation, first.generation.next());
        assert!(warnings.is_empty());
        assert!(!directory.path().join(FILE_NEW).exists());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_that_says_what_to_do() {
        let text = State::open(Path::new("/proc/ha-node"), NOW)
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("/proc/ha-node") && text.contains("StateDirectory"),
            "{text}"
        );

        let directory = tempfile::tempdir().unwrap();
        // A directory in the place of the temporary file: not even root can write that.
        fs::create_dir(directory.path().join(FILE_NEW)).unwrap();
        let text = State::open(directory.path(), NOW).unwrap_err().to_string();
        assert!(text.starts_with("cannot write"), "{text}");
    }

    fn persistent(blocked: BTreeSet<(GroupName, NodeName)>) -> Persistent {
        Persistent {
            cleared: blocked.clone(),
            blocked,
            ..Persistent::first(Generation(u64::MAX / 2))
        }
    }

    /// As long as a name can be, and unlike each other.
    fn longest_name(at: usize) -> String {
        format!("{at:0>NAME_LENGTH_MAX$}")
    }

    #[test]
    fn every_group_blocked_on_every_node_is_read_again() {
        assert_eq!(GROUPS_MAX, crate::config::GROUPS_MAX);
        assert_eq!(NODES_MAX, crate::core::settings::NODES_MAX);
        let nodes: Vec<_> = (0..NODES_MAX)
            .map(|at| NodeName::new(&longest_name(at)).unwrap())
            .collect();
        let groups = (0..GROUPS_MAX).map(|at| GroupName::new(&longest_name(at)).unwrap());
        let claims = groups.flat_map(|group| nodes.iter().map(move |n| (group.clone(), n.clone())));
        let all = persistent(claims.collect());
        let text = encode(&all).unwrap();
        assert_eq!(decode(text.as_bytes()), Ok(all));
        assert!(
            SIZE_MAX - (text.len() as u64) > 1000,
            "{} bytes",
            text.len()
        );
    }

    #[test]
    fn a_state_in_the_longer_form_is_read() {
        let claim = (
            GroupName::new("web").unwrap(),
            NodeName::new("beta").unwrap(),
        );
        let persistent = persistent([claim].into());
        let state = serde_json::to_value(&persistent).unwrap();
        let stored = Stored {
            format: FORMAT,
            sha256: checksum(&state),
            state,
        };
        let text = serde_json::to_string(&stored).unwrap();
        assert_eq!(decode(text.as_bytes()), Ok(persistent));
    }

    /// Any claims that a cluster can have.
    fn claims() -> impl Strategy<Value = BTreeSet<(GroupName, NodeName)>> {
        let name = "[a-z][a-z0-9._-]{0,98}";
        let names = (
            proptest::collection::btree_set(name, 1..=NODES_MAX),
            proptest::collection::btree_set(name, 1..40),
        );
        names.prop_flat_map(|(nodes, groups)| {
            let pairs: Vec<_> = groups
                .iter()
                .flat_map(|group| nodes.iter().map(move |node| (group.clone(), node.clone())))
                .map(|(group, node)| {
                    let group = GroupName::new(&group).unwrap();
                    (group, NodeName::new(&node).unwrap())
                })
                .collect();
            let count = pairs.len();
            proptest::sample::subsequence(pairs, 0..=count)
                .prop_map(|pairs| pairs.into_iter().collect())
        })
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder_or_pass_for_a_state(bytes: Vec<u8>) {
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn what_was_stored_is_loaded(generation in 0..GENERATION_END, standby: bool, blocked in claims()) {
            let persistent = Persistent { standby, blocked, ..Persistent::first(Generation(generation)) };
            let text = encode(&persistent).unwrap();
            prop_assert_eq!(decode(text.as_bytes()), Ok(persistent));
        }

        #[test]
        fn no_changed_byte_passes(position in 0_usize..150, bit in 0_u8..8) {
            let persistent = Persistent::first(Generation(NOW));
            let mut bytes = encode(&persistent).unwrap().into_bytes();
            let position = position % bytes.len();
            bytes[position] ^= 1 << bit;
            // Only blanks can change without changing what is said.
            prop_assert!(decode(&bytes).is_err() || decode(&bytes) == Ok(persistent));
        }
    }
}
