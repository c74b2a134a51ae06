//! A program that says by its exit code whether all is well: a transient unit for each attempt.

use super::Finding;
use crate::resource::transient::{Exit, Program};
use crate::resource::unit::Units;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How much longer than its program's time-out an attempt is waited for: the program may be slow to die. After
/// that systemd itself does not answer, and nothing is known.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the program to its end.
pub(super) async fn ask(program: &Program, units: &Arc<Units>) -> Finding {
    let answer = ended(program, units, units.run_quietly(program)).await;
    answer.map_or(Finding::Unknown, |exit| judge(&exit, program.timeout))
}

/// Waits for the end of a program that runs, if it can be had; one that is waited for no more is ended.
pub(super) async fn ended<T>(
    program: &Program,
    units: &Arc<Units>,
    run: impl Future<Output = Result<T, String>>,
) -> Option<T> {
    let mut attempt = Attempt {
        units: Arc::clone(units),
        unit: program.unit.clone(),
        ended: false,
    };
    let limit = program.timeout + PATIENCE;
    let answer = timeout(limit, run).await;
    attempt.ended = true;
    let no_answer = |reason| {
        tracing::debug!(reason, "a check has no answer, asking again when it is due");
    };
    answer.ok()?.map_err(no_answer).ok()
}

fn judge(exit: &Exit, limit: Duration) -> Finding {
    match exit {
        Exit::Code(0) => Finding::Good,
        Exit::Canceled => Finding::Unknown,
        Exit::TimedOut => Finding::Bad(format!("it did not end within {limit:?}")),
        Exit::Code(_) | Exit::Signal(_) => Finding::Bad(format!("{exit}, expected exit code 0")),
        Exit::NotStarted(_) | Exit::NotExecutable => Finding::Bad(exit.to_string()),
    }
}

/// An attempt that is abandoned ends its program: what it holds, such as a mount, is about to be stopped.
struct Attempt {
    units: Arc<Units>,
    unit: String,
    ended: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Without a runtime the daemon itself ends, and the unit's own time-out does it.
        let Some(runtime) = Handle::try_current().ok().filter(|_| !self.ended) else {
            return;
        };
        let (units, unit) = (Arc::clone(&self.units), self.unit.clone());
        runtime.spawn(async move {
            if let Ok(Err(reason)) = timeout(PATIENCE, units.stop(&unit)).await {
                tracing::debug!(unit, reason, "an abandoned check goes on to its time-out");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exit_code_0_is_good_and_a_stopped_unit_says_nothing() {
        let limit = Duration::from_secs(2);
        assert_eq!(judge(&Exit::Code(0), limit), Finding::Good);
        assert_eq!(judge(&Exit::Canceled, limit), Finding::Unknown);
        for (exit, words) in [
            (Exit::Code(7), "exit code 7, expected exit code 0"),
            (Exit::Signal(9), "killed by signal 9, expected exit code 0"),
            (Exit::TimedOut, "it did not end within 2s"),
            (Exit::NotStarted("x".to_owned()), "not started: x"),
        ] {
            assert_eq!(judge(&exit, limit), Finding::Bad(words.to_owned()));
        }
    }
}
