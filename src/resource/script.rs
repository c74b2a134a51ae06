//! LSB init scripts and Heartbeat's resource.d scripts: how they are called, and what their status means.
//!
//! Both get the verb as the last argument; an LSB script has no other. Heartbeat judged a status by its text alone
//! (`running` or `OK`), LSB has exit codes, and scripts of both kinds are in use that answer only one way.

use crate::resource::monitor::Answer;
use crate::resource::transient::Exit;
use std::time::Duration;

/// A script as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Script<'a> {
    /// Its absolute path.
    pub(crate) path: &'a str,
    /// What stands before the verb.
    pub(crate) arguments: &'a [String],
    /// How often it is asked for its status; never if none.
    pub(crate) monitor_interval: Option<Duration>,
}

impl Script<'_> {
    /// The command line: arguments first, then the verb.
    pub(super) fn command(&self, verb: &str) -> Vec<String> {
        let mut words = vec![self.path.to_owned()];
        words.extend(self.arguments.iter().cloned());
        words.push(verb.to_owned());
        words
    }
}

/// What a status says: it runs only if neither code nor text speaks against it.
pub(super) fn judge_status(exit: &Exit, text: &str) -> Answer {
    let code = match exit {
        Exit::Code(code) => *code,
        Exit::NotStarted(_) | Exit::NotExecutable => return Answer::Unusable(exit.to_string()),
        Exit::Signal(_) | Exit::TimedOut | Exit::Canceled => {
            return Answer::Broken(format!("its status did not end well: {exit}"));
        }
    };
    if code != 0 {
        return Answer::Stopped;
    }
    let lower = text.to_lowercase();
    // "not running", "isn't running" and "running: no" are said with exit code 0 by scripts that only print.
    let denied = ["not running", "n't running", "stopped", "not started"];
    if denied.iter().any(|words| lower.contains(words)) {
        return Answer::Stopped;
    }
    let affirmed = lower.contains("running") || text.contains("OK");
    match (affirmed, text.trim().is_empty()) {
        (true, _) | (false, true) => Answer::Running,
        // Heartbeat took any other text for a no. To start what runs is success by both conventions.
        (false, false) => Answer::Stopped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_before_the_verb() {
        let arguments = ["a".to_owned(), "b c".to_owned()];
        let script = Script {
            path: "/etc/ha.d/resource.d/x",
            arguments: &arguments,
            monitor_interval: None,
        };
        assert_eq!(
            script.command("start"),
            ["/etc/ha.d/resource.d/x", "a", "b c", "start"]
        );
    }

    #[test]
    fn a_status_is_judged_by_code_and_text() {
        let judge = |code, text| judge_status(&Exit::Code(code), text);
        for text in [
            "nginx is running",
            "apache2 running (pid 5)",
            "OK",
            "[ OK ]",
            "",
            "\n",
        ] {
            assert_eq!(judge(0, text), Answer::Running, "{text:?}");
        }
        for text in [
            "nginx is not running",
            "stopped",
            "not started",
            "isn't running",
            "down",
        ] {
            assert_eq!(judge(0, text), Answer::Stopped, "{text:?}");
        }
        for code in [1, 3, 4] {
            assert_eq!(judge(code, "running"), Answer::Stopped);
        }
        let gone = Exit::NotStarted("no such file".to_owned());
        assert!(matches!(judge_status(&gone, ""), Answer::Unusable(_)));
        assert!(matches!(
            judge_status(&Exit::TimedOut, ""),
            Answer::Broken(_)
        ));
    }
}
