//! What this node tells the others: its whole state, each keepalive, and at once when it has changed.

use crate::core::event::Event;
use crate::core::group::Activity;
use crate::core::io::Output;
use crate::core::{Core, Leaving};
use crate::ids::{GroupName, NodeName, PlanVersion, Sequence};
use crate::wire::status::{Fitness, GroupReport, GroupState, Heard, Phase, Report, Status};
use std::time::Duration;

/// How often the last words are said, since nobody can ask for them again.
const LAST_WORDS: usize = 3;

/// Longest wait for another node to have started what this one has given up.
const HAND_OVER_MAX: Duration = Duration::from_secs(30);

impl Core {
    /// What this node runs and knows.
    pub(super) fn report(&self) -> Report {
        let own = self
            .groups
            .iter()
            .filter(|(_, g)| g.activity == Activity::Blocked);
        let own = own.map(|(name, _)| (name.clone(), self.settings.local.clone()));
        let reports = self.groups.iter().filter_map(|(name, group)| {
            let listed = self.may_run_here(name);
            let said = listed || group.report(true) != GroupReport::default();
            said.then(|| (name.clone(), group.report(listed)))
        });
        let mut lives = self.lives.clone();
        if self
            .groups
            .values()
            .any(|g| g.activity == Activity::Blocked)
        {
            lives.insert(self.settings.local.clone(), (self.generation, Sequence(0)));
        }
        Report {
            version: self.plan.as_ref().map(|p| p.version).unwrap_or_default(),
            groups: reports.collect(),
            dead: self
                .peers
                .iter()
                .filter_map(|(n, p)| p.dead_report().map(|d| (n.clone(), d)))
                .collect(),
            standby: self.standby,
            leaving: self.leaving.is_some(),
            blocked: self.blocked_elsewhere.iter().cloned().chain(own).collect(),
            cleared: self.cleared.clone(),
            lives,
        }
    }

    fn status(&self) -> Status {
        let voting = self.voting();
        let echoes = self.peers.iter().filter_map(|(name, peer)| {
            let heard = peer.echo(voting && self.promises(name, peer))?;
            Some((name.clone(), heard))
        });
        let lacking = self.peers.iter().filter(|(_, peer)| peer.is_lacking());
        Status {
            cluster: self.settings.cluster.clone(),
            node: self.settings.local.clone(),
            generation: self.generation,
            sequence: self.sequence,
            phase: self.phase,
            deadtime: self.settings.deadtime,
            heard: echoes.collect(),
            asks: lacking.map(|(name, _)| name.clone()).collect(),
            term: self.term.clone(),
            floor: self.floor.clone(),
            electable: self.could_be_elected(),
            reach: self.reach(),
            led: self.leader_counts(),
            returning: false,
            voting,
            report: self.report(),
            plan: self
                .leadership
                .as_ref()
                .map(|l| l.plan.clone())
                .filter(|p| p.version > PlanVersion(0)),
            request: self.forwarded().cloned(),
            config_hash: self.settings.config_hash,
            profile: self.profile.clone(),
        }
    }

    /// Sends a heartbeat if one is due, or if there is something new to say.
    pub(super) fn send_if_due(&mut self) {
        if self.settings.standalone() {
            return;
        }
        let status = self.status();
        let keepalive = self.shortest_keepalive();
        let answer = std::mem::take(&mut self.answer_now);
        let due = answer
            || match &self.last_sent {
                None => true,
                Some((at, last)) => self.now >= *at + keepalive || !same_words(last, &status),
            };
        if due {
            self.send(status);
        }
    }

    fn send(&mut self, mut status: Status) {
        self.sequence = self.sequence.next();
        status.sequence = self.sequence;
        let horizon = self.now - 2 * self.settings.deadtime;
        self.sent.push(self.sequence, self.now, horizon);
        let status = Box::new(status);
        self.last_sent = Some((self.now, status.clone()));
        self.outputs.push(Output::Send(status));
    }

    /// How far this life has come.
    pub(super) fn advance_phase(&mut self) {
        let phase = match self.phase {
            Phase::Active | Phase::Gone => self.phase,
            Phase::Init | Phase::Up if self.plan.is_some() && self.voting() => Phase::Active,
            Phase::Init | Phase::Up if self.voting() => Phase::Up,
            Phase::Init | Phase::Up => self.phase,
        };
        if phase != self.phase {
            self.phase = phase;
            self.event(Event::LocalStatus { phase });
        }
    }

    /// A person, or systemd, wants this node to stop: hand over, then leave.
    pub(super) fn handle_shutdown(&mut self) {
        if self.leaving.is_none() {
            self.leaving = Some(Leaving {
                since: self.now,
                empty_since: None,
            });
            self.event(Event::ShutdownStarted);
        }
    }

    /// The daemon is back in a moment: the others are told, and nothing is given up.
    pub(super) fn handle_restart(&mut self) {
        self.event(Event::RestartStarted);
        self.refuse_all();
        if !self.settings.standalone() {
            let status = Status {
                returning: true,
                ..self.status()
            };
            self.send(status);
        }
        self.phase = Phase::Gone;
        self.outputs.push(Output::Exit);
    }

    /// Says the last words once nothing runs here and the others have what this node gave up.
    pub(super) fn leave_if_done(&mut self) {
        if !self.is_empty() {
            return;
        }
        let Some(leaving) = &mut self.leaving else {
            return;
        };
        let empty_since = *leaving.empty_since.get_or_insert(self.now);
        let waited = self.now.since(empty_since) > HAND_OVER_MAX;
        if self.leader_counts() && !waited && !self.handed_over() {
            return;
        }
        self.event(Event::ShutdownComplete);
        self.refuse_all();
        self.phase = Phase::Gone;
        if !self.settings.standalone() {
            let status = self.status();
            (0..LAST_WORDS).for_each(|_| self.send(status.clone()));
        }
        self.outputs.push(Output::Exit);
    }

    /// Whether every group runs elsewhere, or nowhere for want of a node.
    fn handed_over(&self) -> bool {
        self.settings.groups.keys().all(|group| {
            let state = |s: &Status| {
                s.report
                    .groups
                    .get(group)
                    .map(|g| g.state)
                    .unwrap_or_default()
            };
            let settled = self
                .peers
                .values()
                .filter_map(|p| p.current())
                .any(|s| match state(s) {
                    GroupState::Started | GroupState::Blocked => true,
                    GroupState::Stopped | GroupState::Starting | GroupState::Stopping => false,
                });
            settled || self.takers(group).next().is_none()
        })
    }

    /// Nodes other than this one that could take a group, preferred first.
    pub(super) fn takers<'a>(&'a self, group: &GroupName) -> impl Iterator<Item = &'a NodeName> {
        let listed = self
            .settings
            .groups
            .get(group)
            .map(|g| g.nodes.as_slice())
            .unwrap_or_default();
        let group = group.clone();
        listed.iter().filter(move |node| {
            let fit = self.fitness_of(&group, node) == Fitness::Fit;
            fit && self.check_taker(&group, node).is_ok() && **node != self.settings.local
        })
    }
}

/// Whether two heartbeats of this node say the same, numbers that change with each message aside.
fn same_words(a: &Status, b: &Status) -> bool {
    let Status {
        cluster,
        node,
        generation,
        sequence: _,
        phase,
        deadtime,
        heard,
        asks,
        term,
        floor,
        electable,
        reach,
        led,
        returning: _,
        voting,
        report,
        plan,
        request,
        config_hash,
        profile,
    } = a;
    let promises = |(one, other): ((&NodeName, &Heard), (&NodeName, &Heard))| {
        let facts = |heard: &Heard| (heard.generation, heard.promise);
        one.0 == other.0 && facts(one.1) == facts(other.1)
    };
    heard.len() == b.heard.len()
        && heard.iter().zip(&b.heard).all(promises)
        && b.asks.is_subset(asks)
        && (cluster, node, *generation) == (&b.cluster, &b.node, b.generation)
        && (*phase, *deadtime, *voting) == (b.phase, b.deadtime, b.voting)
        && (term, floor, *electable) == (&b.term, &b.floor, b.electable)
        && (report, plan) == (&b.report, &b.plan)
        && (*reach, *led, profile) == (b.reach, b.led, &b.profile)
        && (request, *config_hash) == (&b.request, b.config_hash)
}
