//! `ha-group-NAME.target`: active on a node while it runs group NAME, for people's own units to bind to.
//!
//! systemd makes no transient targets, so that each has a file in its directory of run-time units. A second file, a mark,
//! is there only while the group is: without it the target does not start, whoever asks for it. Nothing of a group
//! depends on its target: whatever becomes of it is told, and the group goes on.

use crate::config::model::Group;
use crate::dbus::systemd1::UnitState;
use crate::ids::GroupName;
use crate::resource::runner::Presence;
use crate::resource::unit::Units;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

/// Where systemd looks for units that are gone after a reboot (systemd.unit(5)).
const UNITS: &str = "/run/systemd/system";

/// Where the marks are.
const MARKS: &str = "/run/ha-node/here";

/// How long a planned stop waits for what is bound to the target.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// How long it waits for systemd to say how the target is: one that does not answer is not waited for.
const ANSWER_PATIENCE: Duration = Duration::from_millis(300);

/// How long a release waits for the targets of its groups: the peers want to be told.
const WITHDRAWAL_PATIENCE: Duration = Duration::from_millis(500);

/// Least time between two starts of a target that others stop.
const RESTORE_PAUSE: Duration = Duration::from_secs(10);

const FIRST_LINE: &str = "# Written by ha-node at its start.\n";

/// The target's name.
pub(super) fn target(group: &GroupName) -> String {
    format!("ha-group-{group}.target")
}

fn mark(group: &GroupName) -> PathBuf {
    Path::new(MARKS).join(group.as_str())
}

/// Writes the targets' files, and removes those of groups that are no more. A machine without systemd has no place
/// for them.
pub(super) fn publish(groups: &[Group]) {
    let directory = Path::new(UNITS);
    if !directory.is_dir() {
        return;
    }
    for group in groups {
        let path = directory.join(target(&group.name));
        if let Err(error) = write(&path, &text(&group.name)) {
            tracing::warn!(
                "cannot write {}: {error}; units that are bound to it are not started here",
                path.display()
            );
        }
    }
    let known = groups.iter().map(|group| target(&group.name)).collect();
    // What is left over is a file that nobody starts.
    if let Err(error) = remove_others(directory, &known) {
        tracing::debug!("targets of earlier groups are not removed: {error}");
    }
}

/// A file that everybody may read, in one step.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    let new = path.with_extension("target.new");
    fs::write(&new, text)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
    fs::rename(&new, path)
}

fn remove_others(directory: &Path, known: &BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = name.starts_with("ha-group-") && name.ends_with(".target");
        if is_ours
            && !known.contains(&name)
            && fs::read_to_string(entry.path())?.starts_with(FIRST_LINE)
        {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn text(group: &GroupName) -> String {
    let mark = mark(group);
    format!(
        "{FIRST_LINE}\
         [Unit]\n\
         Description=Group {group} of the cluster runs on this node\n\
         # To start it takes the cluster: `hactl move`.\n\
         AssertPathExists={}\n\
         IgnoreOnIsolate=yes\n",
        mark.display()
    )
}

/// Who starts and stops the target of one group.
#[derive(Debug)]
pub(super) struct Herald {
    units: Arc<Units>,
    target: String,
    mark: PathBuf,
    /// The newest word that is on its way; it waits for a message bus that is away.
    task: Mutex<Option<AbortHandle>>,
    /// The target was started, and is to stay so.
    is_here: Arc<AtomicBool>,
    restored: Mutex<Option<Instant>>,
}

impl Herald {
    pub(super) fn new(group: &GroupName, units: Arc<Units>) -> Self {
        units.add(target(group));
        Self {
            units,
            target: target(group),
            mark: mark(group),
            task: Mutex::new(None),
            is_here: Arc::default(),
            restored: Mutex::new(None),
        }
    }

    /// Starts or stops the target. What it wants is not waited for; what is bound to it may end first where there is time.
    pub(super) async fn show(&self, presence: Presence) {
        if presence == Presence::Here && self.is_hidden() {
            tracing::warn!(
                "{} was stopped by somebody, though its group is here: starting it again",
                self.target
            );
            *lock(&self.restored) = Some(Instant::now());
        }
        if let Some(before) = lock(&self.task).take() {
            before.abort();
        }
        self.is_here.store(false, Ordering::Release);
        if let Err(error) = set_mark(&self.mark, presence == Presence::Here) {
            tracing::warn!("cannot set the mark {}: {error}", self.mark.display());
        }
        let waits = presence == Presence::Leaving && self.is_up_for_certain().await;
        let (units, target) = (Arc::clone(&self.units), self.target.clone());
        let is_here = Arc::clone(&self.is_here);
        let task = tokio::spawn(async move {
            let result = match presence {
                Presence::Here => units.start_anywhere(&target).await,
                Presence::Leaving | Presence::Gone => units.stop(&target).await,
            };
            match result {
                Ok(()) => is_here.store(presence == Presence::Here, Ordering::Release),
                Err(reason) => tracing::warn!("{target} is not as it should be: {reason}"),
            }
        });
        *lock(&self.task) = Some(task.abort_handle());
        if waits && timeout(STOP_PATIENCE, task).await.is_err() {
            let target = &self.target;
            tracing::warn!(
                "what is bound to {target} did not stop within {STOP_PATIENCE:?}, going on without"
            );
        }
    }

    /// Whether others have stopped the target, and it may be started again.
    pub(super) fn is_hidden(&self) -> bool {
        let restored = *lock(&self.restored);
        let rests = restored.is_some_and(|at| at.elapsed() < RESTORE_PAUSE);
        let table = self.units.table();
        let has_ended = table.state(&self.target).is_some_and(UnitState::has_ended);
        has_ended && !rests && self.is_here.load(Ordering::Acquire)
    }

    async fn is_up_for_certain(&self) -> bool {
        let link = self.units.link.borrow().clone();
        let Some(link) = link else {
            return false;
        };
        let state = timeout(ANSWER_PATIENCE, self.units.read(&link, &self.target)).await;
        state.is_ok_and(|it| it.is_some_and(|it| it.active.is_up()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set_mark(mark: &Path, here: bool) -> io::Result<()> {
    if here {
        if let Some(directory) = mark.parent() {
            fs::create_dir_all(directory)?;
        }
        return fs::write(mark, "");
    }
    match fs::remove_file(mark) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Units {
    /// Stops the targets of groups that are gone, if systemd can be reached at once.
    pub(super) async fn withdraw_presence<'a>(
        self: &Arc<Self>,
        groups: impl Iterator<Item = &'a GroupName>,
    ) {
        let mut stops = JoinSet::new();
        for group in groups {
            let (units, target) = (Arc::clone(self), target(group));
            stops.spawn(async move { units.stop(&target).await });
        }
        // What is bound to them may take longer, and is systemd's business by then.
        let all = timeout(WITHDRAWAL_PATIENCE, stops.join_all()).await;
        for reason in all.into_iter().flatten().filter_map(Result::err) {
            tracing::warn!("a target is still active: {reason}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str) -> GroupName {
        GroupName::new(name).unwrap()
    }

    #[test]
    fn a_file_is_written_once_and_anew_only_when_it_differs() {
        let directory = tempfile::tempdir().unwrap();
        let web = group("web");
        let path = directory.path().join(target(&web));
        write(&path, &text(&web)).unwrap();
        let read = || fs::read_to_string(&path).unwrap();
        assert!(read().contains("\nDescription=Group web of"), "{}", read());
        let metadata = || fs::metadata(&path).unwrap();
        assert_eq!(metadata().permissions().mode() & 0o777, 0o644);
        let before = metadata().modified().unwrap();
        write(&path, &text(&web)).unwrap();
        assert_eq!(metadata().modified().unwrap(), before);
        fs::write(&path, "").unwrap();
        write(&path, &text(&web)).unwrap();
        assert_eq!(read(), text(&web));
    }

    #[test]
    fn only_own_files_of_other_groups_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["web", "old"] {
            write(&path(&target(&group(name))), &text(&group(name))).unwrap();
        }
        fs::write(path("ha-group-mine.target"), "[Unit]\n").unwrap();
        fs::write(path("a.service"), FIRST_LINE).unwrap();
        remove_others(directory.path(), &BTreeSet::from([target(&group("web"))])).unwrap();
        let mut left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            ["a.service", "ha-group-mine.target", "ha-group-web.target"]
        );
    }

    #[test]
    fn a_mark_comes_and_goes() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("here/web");
        set_mark(&mark, false).unwrap();
        for here in [true, true, false, false] {
            set_mark(&mark, here).unwrap();
            assert_eq!(mark.exists(), here);
        }
    }
}
