//! Resources that a program starts, stops and watches: the life that scripts and OCF agents have in common.
//!
//! What a start leaves running lives in the unit of that start, the *holder*, until the stop has ended and the holder
//! is stopped after it. How a program is called and what it says is `script`'s and `ocf`'s. A program that is not
//! there cannot have started anything: as long as there is no holder, its stop is success.

use crate::config::model::Resource;
use crate::ids::GroupName;
use crate::resource::force::SIGKILL;
use crate::resource::metadata::{self, Timeouts};
use crate::resource::monitor::{Answer, Monitor, Way, question};
use crate::resource::ocf::{self, Ocf};
use crate::resource::script::Script;
use crate::resource::transient::{Exit, Program, unit_name};
use crate::resource::unit::Units;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

/// How long a question for the state may take, and a start or stop, where neither configuration nor agent says.
const MONITOR_TIMEOUT: Duration = Duration::from_secs(30);
const ACTION_TIMEOUT: Duration = Duration::from_secs(90);
/// How long an agent may take to describe itself.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);
/// A stop that fails while the resource runs is tried again so often, as Heartbeat did, with this pause.
const STOPS_MAX: usize = 10;
const STOP_AGAIN: Duration = Duration::from_secs(1);

/// The verbs, as they stand in the names of units.
const HOLDER: &str = "run";
const STOP: &str = "stop";
const PROBE: &str = "probe";
const MONITOR: &str = "monitor";
const METADATA: &str = "meta-data";

/// A program and its kind.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Agent<'a> {
    /// An LSB or resource.d script.
    Script(Script<'a>),
    /// An OCF agent.
    Ocf(Ocf<'a>),
}

/// What drives the programs of one group.
#[derive(Debug)]
pub(super) struct Agents {
    group: GroupName,
    units: Arc<Units>,
    monitors: Mutex<BTreeMap<String, Monitor>>,
    /// What each resource's agent has said of its time-outs, once it was asked.
    advice: Mutex<BTreeMap<String, Timeouts>>,
}

/// The unit that holds what a start left running.
pub(super) fn holder(group: &GroupName, resource: &Resource) -> String {
    unit_name(group.as_str(), &resource.id, HOLDER)
}

impl Agents {
    pub(super) fn new(group: GroupName, units: Arc<Units>) -> Self {
        Self {
            group,
            units,
            monitors: Mutex::default(),
            advice: Mutex::default(),
        }
    }

    /// Starts a resource; one that runs is left as it is.
    pub(super) async fn start(&self, resource: &Resource, agent: Agent<'_>) -> Result<(), String> {
        self.end_monitor(resource).await;
        self.take_advice(resource, agent).await;
        match self.ask(resource, agent).await? {
            Answer::Running => {}
            Answer::Stopped => self.launch(resource, agent).await?,
            Answer::Broken(reason) => {
                tracing::info!(
                    "{}: {}: {reason}; stopping it before the start",
                    self.group,
                    resource.id
                );
                self.stop(resource, agent).await?;
                self.launch(resource, agent).await?;
            }
            Answer::Unusable(reason) => return Err(self.explain(resource, "status", &reason)),
        }
        self.begin_monitor(resource, agent);
        Ok(())
    }

    /// Stops a resource from any state.
    pub(super) async fn stop(&self, resource: &Resource, agent: Agent<'_>) -> Result<(), String> {
        self.end_monitor(resource).await;
        self.take_advice(resource, agent).await;
        let holder = holder(&self.group, resource);
        // What a start that is on its way will do can only be undone after it.
        self.units.settle(&holder).await;
        let is_held = match self.units.active_state(&holder).await {
            // A start that is under way must not go on beside the stop.
            Some(state) if state.as_str() == "activating" => {
                self.units.stop(&holder).await?;
                true
            }
            Some(state) => !state.is_down(),
            None => false,
        };
        self.run_stop(resource, agent, is_held).await?;
        self.units.stop(&holder).await
    }

    /// Kills what a start has left running, and once what is being asked or done now: what it cannot end any more need
    /// not be waited for, and a stop is tried again.
    pub(super) async fn kill(&self, resource: &Resource) {
        for verb in [STOP, MONITOR, PROBE, METADATA] {
            let unit = unit_name(self.group.as_str(), &resource.id, verb);
            self.units.strike(&unit).await;
        }
        self.units.kill(&holder(&self.group, resource)).await;
    }

    /// Why a started resource does not run any more.
    pub(super) fn fault(&self, resource: &Resource) -> Option<String> {
        let monitors = self.monitors();
        let monitor = monitors.get(&resource.id)?;
        monitor.fault()
    }

    /// What a start or stop that takes too long is waiting for.
    pub(super) fn overdue(&self, resource: &Resource) -> String {
        let unit = holder(&self.group, resource);
        let units = self.units.overdue(&unit);
        format!("{units}; {}", where_to_look(resource))
    }

    async fn launch(&self, resource: &Resource, agent: Agent<'_>) -> Result<(), String> {
        // A holder of an earlier start would be taken for this one's success.
        self.units.stop(&holder(&self.group, resource)).await?;
        let program = self.program(resource, agent, Call::Start);
        let exit = self.units.launch(&program).await?;
        if exit == Exit::Code(0) {
            return Ok(());
        }
        Err(self.explain(resource, "start", &agent.in_words(&exit)))
    }

    async fn run_stop(
        &self,
        resource: &Resource,
        agent: Agent<'_>,
        is_held: bool,
    ) -> Result<(), String> {
        let program = self.program(resource, agent, Call::Stop);
        let mut reason = String::new();
        let mut was_killed = false;
        for attempt in 0..STOPS_MAX {
            if attempt > 0 && !was_killed {
                sleep(STOP_AGAIN).await;
            }
            let exit = self.units.run(&program).await?;
            if exit == Exit::Code(0) || (!is_held && agent.is_not_installed(&exit)) {
                return Ok(());
            }
            reason = self.explain(resource, "stop", &agent.in_words(&exit));
            // By force, since the time was up: what remains is quickly done once nothing runs any more.
            was_killed = exit == Exit::Signal(SIGKILL);
            match agent {
                Agent::Ocf(_) if was_killed => continue,
                Agent::Ocf(_) => return Err(reason),
                Agent::Script(_) => {}
            }
            // Many scripts fail where there is nothing to stop; Heartbeat asked them, too.
            if self.ask(resource, agent).await? == Answer::Stopped {
                tracing::warn!(
                    "{}: {reason}; its status says that it is stopped, going on",
                    self.group
                );
                return Ok(());
            }
        }
        Err(reason)
    }

    async fn ask(&self, resource: &Resource, agent: Agent<'_>) -> Result<Answer, String> {
        let program = self.program(resource, agent, Call::Probe);
        question(&self.units, agent.way(), &program).await
    }

    /// Asks an agent for its time-outs, unless it was asked before. No answer is no advice.
    async fn take_advice(&self, resource: &Resource, agent: Agent<'_>) {
        let is_known = self.advice().contains_key(&resource.id);
        let (Agent::Ocf(_), false) = (agent, is_known) else {
            return;
        };
        let program = self.program(resource, agent, Call::Metadata);
        match self.units.run_captured(&program).await {
            Ok((Exit::Code(0), text)) => {
                let advice = metadata::parse(&text);
                tracing::debug!(
                    unit = program.unit,
                    ?advice,
                    "time-outs that an agent advises"
                );
                self.advice().insert(resource.id.clone(), advice);
            }
            Ok((exit, _)) => tracing::debug!(unit = program.unit, %exit, "no meta-data, going on"),
            Err(reason) => tracing::debug!(reason, "no meta-data, going on"),
        }
    }

    fn begin_monitor(&self, resource: &Resource, agent: Agent<'_>) {
        let Some(interval) = agent.monitor_interval() else {
            return;
        };
        let program = self.program(resource, agent, Call::Monitor(interval));
        let monitor = Monitor::begin(&self.units, program, agent.way(), interval);
        self.monitors().insert(resource.id.clone(), monitor);
    }

    /// Ends the monitoring of a resource, and a monitor action that is under way.
    async fn end_monitor(&self, resource: &Resource) {
        let monitor = self.monitors().remove(&resource.id);
        if let Some(monitor) = monitor {
            monitor.end(&self.units).await;
        }
    }

    fn program(&self, resource: &Resource, agent: Agent<'_>, call: Call) -> Program {
        let limits = self.limits(resource, agent);
        let none = Duration::ZERO;
        let (verb, action, timeout, interval) = match call {
            Call::Start => (HOLDER, "start", limits.start, none),
            Call::Stop => (STOP, "stop", limits.stop, none),
            Call::Probe => (PROBE, agent.question(), limits.monitor, none),
            Call::Monitor(interval) => (MONITOR, agent.question(), limits.monitor, interval),
            Call::Metadata => (METADATA, METADATA, METADATA_TIMEOUT, none),
        };
        let group = &self.group;
        let instance = format!("{group}-{}", resource.id);
        let (argv, environment) = match agent {
            Agent::Script(script) => (script.command(action), BTreeMap::new()),
            Agent::Ocf(agent) => (
                agent.command(action),
                agent.environment(&instance, timeout, interval),
            ),
        };
        Program {
            unit: unit_name(group.as_str(), &resource.id, verb),
            description: format!("Cluster group {group}: {action} of {}", resource.id),
            argv,
            environment,
            user: None,
            identifier: resource.id.clone(),
            timeout,
        }
    }

    /// As configured, else as the agent advises, else a default.
    fn limits(&self, resource: &Resource, agent: Agent<'_>) -> Limits {
        let Agent::Ocf(agent) = agent else {
            return Limits {
                start: resource.start_timeout,
                stop: resource.stop_timeout,
                monitor: MONITOR_TIMEOUT,
            };
        };
        let advice = self.advice().get(&resource.id).copied().unwrap_or_default();
        let start = agent.start_timeout.or(advice.start);
        let stop = agent.stop_timeout.or(advice.stop);
        Limits {
            start: start.unwrap_or(ACTION_TIMEOUT),
            stop: stop.unwrap_or(ACTION_TIMEOUT),
            monitor: advice.monitor.unwrap_or(MONITOR_TIMEOUT),
        }
    }

    fn advice(&self) -> MutexGuard<'_, BTreeMap<String, Timeouts>> {
        self.advice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn explain(&self, resource: &Resource, action: &str, words: &str) -> String {
        format!(
            "{action} of {}: {words}; {}",
            resource.id,
            where_to_look(resource)
        )
    }

    fn monitors(&self) -> MutexGuard<'_, BTreeMap<String, Monitor>> {
        self.monitors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a program is called for.
#[derive(Debug, Clone, Copy)]
enum Call {
    Start,
    Stop,
    Probe,
    Monitor(Duration),
    Metadata,
}

/// How long each action of a resource may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    start: Duration,
    stop: Duration,
    monitor: Duration,
}

impl Agent<'_> {
    fn way(&self) -> Way {
        match self {
            Self::Script(_) => Way::Status,
            Self::Ocf(_) => Way::Monitor,
        }
    }

    fn question(&self) -> &'static str {
        match self {
            Self::Script(_) => "status",
            Self::Ocf(_) => "monitor",
        }
    }

    fn monitor_interval(&self) -> Option<Duration> {
        match self {
            Self::Script(script) => script.monitor_interval,
            Self::Ocf(agent) => Some(agent.monitor_interval),
        }
    }

    fn in_words(&self, exit: &Exit) -> String {
        match self {
            Self::Script(_) => exit.to_string(),
            Self::Ocf(_) => ocf::in_words(exit),
        }
    }

    fn is_not_installed(&self, exit: &Exit) -> bool {
        match self {
            Self::Script(_) => *exit == Exit::NotExecutable,
            Self::Ocf(_) => ocf::is_not_installed(exit),
        }
    }
}

fn where_to_look(resource: &Resource) -> String {
    format!("`journalctl -t {}` says more", resource.id)
}
