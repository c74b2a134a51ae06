//! Regular questions to a script or agent: whether its resource still runs.
//!
//! Each question is a program of its own. The first answer that is not a yes is a fault; one that nobody knows is
//! none. What an answer means is `script`'s and `ocf`'s.

use crate::resource::ocf;
use crate::resource::script;
use crate::resource::transient::Program;
use crate::resource::unit::Units;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// What a program says of its resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It runs.
    Running,
    /// It does not run.
    Stopped,
    /// It may be half running; a stop is the remedy.
    Broken(String),
    /// The program itself cannot do its work on this machine.
    Unusable(String),
}

/// How a question is asked and its answer judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By what the program prints, and its exit code.
    Status,
    /// By exit codes of the OCF API.
    Monitor,
}

/// What is known of a resource that is monitored.
#[derive(Debug, Default)]
struct Sight {
    fault: Mutex<Option<String>>,
    is_busy: AtomicBool,
}

impl Sight {
    fn fault(&self) -> MutexGuard<'_, Option<String>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The regular questions about one resource; they end when it is dropped.
#[derive(Debug)]
pub(super) struct Monitor {
    sight: Arc<Sight>,
    unit: String,
    task: JoinHandle<()>,
}

impl Monitor {
    /// Begins to ask, for the first time after one interval.
    pub(super) fn begin(
        units: &Arc<Units>,
        program: Program,
        way: Way,
        interval: Duration,
    ) -> Self {
        let sight = Arc::new(Sight::default());
        let unit = program.unit.clone();
        let task = watch(
            Arc::clone(units),
            Arc::clone(&sight),
            program,
            way,
            interval,
        );
        Self {
            sight,
            unit,
            task: tokio::spawn(task),
        }
    }

    /// The first answer that was a fault, after which nothing is asked any more.
    pub(super) fn fault(&self) -> Option<String> {
        self.sight.fault().clone()
    }

    /// Ends it, and a question that is under way.
    pub(super) async fn end(self, units: &Arc<Units>) {
        self.task.abort();
        if self.sight.is_busy.load(Ordering::Acquire)
            && let Err(reason) = units.stop(&self.unit).await
        {
            tracing::debug!(reason, "a monitor action goes on beside the stop");
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks again and again, until an answer is a fault.
async fn watch(
    units: Arc<Units>,
    sight: Arc<Sight>,
    program: Program,
    way: Way,
    interval: Duration,
) {
    loop {
        sleep(interval).await;
        sight.is_busy.store(true, Ordering::Release);
        let answer = question(&units, way, &program).await;
        sight.is_busy.store(false, Ordering::Release);
        let fault = match answer {
            Ok(Answer::Running) => continue,
            Ok(Answer::Stopped) => "its monitor says that it does not run any more".to_owned(),
            Ok(Answer::Broken(words) | Answer::Unusable(words)) => {
                format!("its monitor failed: {words}")
            }
            Err(reason) => {
                tracing::debug!(reason, "a monitor action without an answer, asking again");
                continue;
            }
        };
        let identifier = &program.identifier;
        *sight.fault() = Some(format!(
            "{identifier}: {fault}; `journalctl -t {identifier}` says more"
        ));
        units.changes.send_replace(());
        return;
    }
}

/// Asks once.
///
/// # Errors
/// Nobody knows; words for people.
pub(super) async fn question(
    units: &Arc<Units>,
    way: Way,
    program: &Program,
) -> Result<Answer, String> {
    match way {
        Way::Monitor => Ok(ocf::judge_monitor(&units.run(program).await?)),
        Way::Status => {
            let (exit, text) = units.run_captured(program).await?;
            tracing::debug!(unit = program.unit, %exit, text, "status of a script");
            Ok(script::judge_status(&exit, &text))
        }
    }
}
