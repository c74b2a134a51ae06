//! How lives of machines and daemons begin and end, and how they stand still.

use crate::cluster::{Absence, Cluster, DEADTIME, NANOS, Pause, RESPAWN, UNNOTICED, blank};
use ha_node::core::{Core, Inheritance, Input, Lease};
use ha_node::ids::Generation;
use std::collections::BTreeSet;

impl Cluster {
    /// Switches a machine on.
    pub fn boot(&mut self, node: usize) {
        if self.nodes[node].core.is_none() && self.nodes[node].absence == Absence::Off {
            self.begin_life(node);
        }
    }

    pub fn begin_life(&mut self, index: usize) {
        let (now, settings) = (self.clock(index), self.settings(index));
        let node = &mut self.nodes[index];
        node.stored.generation = Generation(node.stored.generation.0 + 1);
        let heritage = node.heritage.take().map(|(heritage, _)| heritage);
        let heritage = Inheritance {
            words: node.said.clone(),
            ..heritage.filter(|h| h.until.holds(now)).unwrap_or_default()
        };
        let mut core = Core::heir(settings, node.stored.clone(), heritage, now);
        if let Some(rule) = self.broken {
            core.break_rule(rule);
        }
        node.core = Some(core);
        node.absence = Absence::Off;
        self.say(index, format_args!("begins a life"));
        self.feed(index, Input::Tick);
        for errand in std::mem::take(&mut self.nodes[index].errands) {
            self.ask(index, errand);
        }
    }

    pub fn end_life(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.core = None;
        node.job = None;
        node.queue.clear();
        node.due = u64::MAX;
        node.absence = Absence::Off;
        node.heritage = None;
        if std::mem::take(&mut node.returns) {
            node.absence = Absence::Respawn(self.now + RESPAWN);
        }
    }

    /// The machine loses its power, and maybe all that it had on disk.
    pub fn crash(&mut self, index: usize, forgets: bool) -> bool {
        let node = &mut self.nodes[index];
        if node.core.is_none() && node.absence == Absence::Off {
            return false;
        }
        node.returns = false;
        node.runs = false;
        node.stuck = false;
        node.pause = None;
        node.behind = 0;
        node.said = None;
        if forgets {
            node.stored = blank();
        }
        self.end_life(index);
        true
    }

    /// The daemon dies, and systemd starts it again. What ran goes on, until a timer releases it.
    pub fn kill(&mut self, index: usize) -> bool {
        if !self.is_awake(index) {
            return false;
        }
        let now = self.now;
        let node = &mut self.nodes[index];
        let Some(core) = &node.core else { return false };
        let heritage = Inheritance {
            until: core.tenure(),
            groups: core.holdings(),
            blocked: BTreeSet::new(),
            failures: core.failures(),
            words: None,
        };
        let tenure = match heritage.until {
            Lease::None => 0,
            Lease::Until(end) => end.as_nanos() / NANOS + node.behind,
            Lease::Unlimited => u64::MAX,
        };
        let release = (now + DEADTIME / 2)
            .min(tenure.saturating_sub(DEADTIME / 4))
            .max(now);
        self.end_life(index);
        let node = &mut self.nodes[index];
        node.heritage = Some((heritage, release));
        node.absence = Absence::Respawn(now + RESPAWN);
        true
    }

    /// The daemon is restarted by a person, with another deadtime.
    pub fn reconfigure(&mut self, index: usize, doubled: bool) -> bool {
        self.nodes[index].doubled = doubled;
        if !self.is_awake(index) {
            return false;
        }
        self.feed_and_forget(index, Input::Restart);
        self.kill(index)
    }

    /// A person stops the daemon.
    pub fn shut_down(&mut self, index: usize) -> bool {
        let able = self.is_awake(index);
        if able {
            self.feed(index, Input::Shutdown);
        }
        able
    }

    /// A person starts a daemon that was stopped, as soon as it has left.
    pub fn come_back(&mut self, index: usize) {
        if self.nodes[index].core.is_some() {
            self.nodes[index].returns = true;
        } else {
            self.boot(index);
        }
    }

    /// A machine stands still.
    pub fn pause(&mut self, index: usize, clock_too: bool) -> bool {
        let able = self.is_awake(index);
        if able {
            let since = self.now;
            self.nodes[index].pause = Some(Pause { since, clock_too });
        }
        able
    }

    /// It goes on.
    pub fn resume(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let Some(pause) = node.pause.take() else {
            return;
        };
        let stood = now - pause.since;
        if let Some(job) = &mut node.job {
            job.ends = job.ends.map(|at| at + stood);
        }
        if pause.clock_too {
            node.behind += stood;
            node.due = node.due.saturating_add(stood);
        }
        // What it had not noticed before it stood still again it notices later.
        let unnoticed = |(at, clock_too): (u64, bool)| clock_too && pause.since < at + UNNOTICED;
        let clock_too = pause.clock_too || node.resumed.is_some_and(unnoticed);
        node.resumed = Some((now, clock_too));
        for status in std::mem::take(&mut node.queue) {
            if self.nodes[index].core.is_some() {
                self.hear(index, &status);
            }
        }
    }
}
