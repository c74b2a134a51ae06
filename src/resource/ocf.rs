//! OCF resource agents: where they are, what they are told, and what their exit codes mean.

use crate::resource::monitor::Answer;
use crate::resource::transient::Exit;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where agents of all providers are.
const ROOT: &str = "/usr/lib/ocf";

/// Exit codes of the OCF resource agent API.
const SUCCESS: i32 = 0;
const ERROR: i32 = 1;
const NOT_RUNNING: i32 = 7;
const RUNNING_PROMOTED: i32 = 8;

/// An agent as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ocf<'a> {
    /// Its directory.
    pub(crate) provider: &'a str,
    /// Its name.
    pub(crate) agent: &'a str,
    /// What is told to it.
    pub(crate) parameters: &'a BTreeMap<String, String>,
    /// How often it is monitored.
    pub(crate) monitor_interval: Duration,
    /// As configured, before what the agent advises.
    pub(crate) start_timeout: Option<Duration>,
    /// The same for a stop.
    pub(crate) stop_timeout: Option<Duration>,
}

impl Ocf<'_> {
    /// The command line.
    pub(super) fn command(&self, action: &str) -> Vec<String> {
        let (provider, agent) = (self.provider, self.agent);
        let path = format!("{ROOT}/resource.d/{provider}/{agent}");
        vec![path, action.to_owned()]
    }

    /// The variables: those of the API, the parameters, and what Pacemaker gives in addition and agents rely on.
    /// An interval of zero is a probe, by which an agent may tell a missing program from a failed one.
    pub(super) fn environment(
        &self,
        instance: &str,
        timeout: Duration,
        interval: Duration,
    ) -> BTreeMap<String, String> {
        // Agents make file names of it.
        let instance = instance.replace(['/', ':', '@'], "-");
        let mut variables = BTreeMap::from([
            ("OCF_ROOT".to_owned(), ROOT.to_owned()),
            ("OCF_RA_VERSION_MAJOR".to_owned(), "1".to_owned()),
            ("OCF_RA_VERSION_MINOR".to_owned(), "0".to_owned()),
            ("OCF_RESOURCE_INSTANCE".to_owned(), instance),
            ("OCF_RESOURCE_TYPE".to_owned(), self.agent.to_owned()),
            ("OCF_RESOURCE_PROVIDER".to_owned(), self.provider.to_owned()),
            ("HA_RSCTMP".to_owned(), RUNTIME_DIRECTORY.to_owned()),
        ]);
        for (name, value) in self.parameters {
            variables.insert(format!("OCF_RESKEY_{name}"), value.clone());
        }
        for (name, time) in [("timeout", timeout), ("interval", interval)] {
            variables.insert(
                format!("OCF_RESKEY_CRM_meta_{name}"),
                time.as_millis().to_string(),
            );
        }
        variables
    }
}

/// Where agents keep their run-time state; resource-agents' own default.
const RUNTIME_DIRECTORY: &str = "/run/resource-agents";

/// What a monitor action says.
pub(super) fn judge_monitor(exit: &Exit) -> Answer {
    match exit {
        Exit::Code(SUCCESS | RUNNING_PROMOTED) => Answer::Running,
        Exit::Code(NOT_RUNNING) => Answer::Stopped,
        // What is wrong with the agent or its parameters will not get better by starting it.
        Exit::Code(code @ 2..=6) => Answer::Unusable(code_in_words(*code)),
        Exit::Code(code) => Answer::Broken(code_in_words(*code)),
        Exit::NotStarted(_) | Exit::NotExecutable => Answer::Unusable(exit.to_string()),
        Exit::Signal(_) | Exit::TimedOut | Exit::Canceled => Answer::Broken(exit.to_string()),
    }
}

/// Whether a stop that ended so says that the agent is not usable here, so that it cannot have started anything.
pub(super) fn is_not_installed(exit: &Exit) -> bool {
    const NOT_INSTALLED: i32 = 5;
    matches!(exit, Exit::NotExecutable | Exit::Code(NOT_INSTALLED))
}

/// How an action ended, in the words of the API.
pub(super) fn in_words(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => code_in_words(*code),
        Exit::Signal(_)
        | Exit::TimedOut
        | Exit::Canceled
        | Exit::NotStarted(_)
        | Exit::NotExecutable => exit.to_string(),
    }
}

fn code_in_words(code: i32) -> String {
    let words = match code {
        SUCCESS => "success",
        ERROR => "generic error",
        2 => "wrong parameters",
        3 => "this action is not implemented",
        4 => "insufficient privileges, or a file is not accessible",
        5 => "something that it needs is not installed here",
        6 => "wrong configuration",
        NOT_RUNNING => "not running",
        RUNNING_PROMOTED => "running, promoted",
        9 => "failed while promoted",
        _ => "a code that the OCF API does not know",
    };
    format!("exit code {code}: {words}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_told_apart() {
        let judge = |code| judge_monitor(&Exit::Code(code));
        assert_eq!(judge(0), Answer::Running);
        assert_eq!(judge(8), Answer::Running);
        assert_eq!(judge(7), Answer::Stopped);
        for code in 2..=6 {
            assert!(matches!(judge(code), Answer::Unusable(_)), "{code}");
        }
        for code in [1, 9, 42] {
            assert!(matches!(judge(code), Answer::Broken(_)), "{code}");
        }
        let words: std::collections::BTreeSet<String> = (0..=10).map(code_in_words).collect();
        assert_eq!(words.len(), 11);
        assert!(is_not_installed(&Exit::Code(5)) && is_not_installed(&Exit::NotExecutable));
        let refused = Exit::NotStarted("refused".to_owned());
        assert!(!is_not_installed(&Exit::Code(1)) && !is_not_installed(&refused));
    }

    #[test]
    fn an_agent_gets_its_parameters_and_the_variables_of_the_api() {
        let parameters = BTreeMap::from([("ip".to_owned(), "10.0.0.1".to_owned())]);
        let agent = Ocf {
            provider: "heartbeat",
            agent: "IPaddr2",
            parameters: &parameters,
            monitor_interval: Duration::from_secs(10),
            start_timeout: None,
            stop_timeout: None,
        };
        assert_eq!(
            agent.command("stop"),
            ["/usr/lib/ocf/resource.d/heartbeat/IPaddr2", "stop"]
        );
        let second = Duration::from_secs(1);
        let variables = agent.environment("web:a/b", second, Duration::ZERO);
        for (name, value) in [
            ("OCF_ROOT", "/usr/lib/ocf"),
            ("OCF_RESKEY_ip", "10.0.0.1"),
            ("OCF_RESOURCE_INSTANCE", "web-a-b"),
            ("OCF_RESOURCE_TYPE", "IPaddr2"),
            ("OCF_RESOURCE_PROVIDER", "heartbeat"),
            ("OCF_RESKEY_CRM_meta_interval", "0"),
            ("OCF_RESKEY_CRM_meta_timeout", "1000"),
        ] {
            assert_eq!(
                variables.get(name).map(String::as_str),
                Some(value),
                "{name}"
            );
        }
    }
}
