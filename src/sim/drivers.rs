//! Drivers that misbehave: they answer late, twice, never, or something else than what is so.
//!
//! No driver here says that something has stopped which runs on: nobody could be safe from that.

use crate::core::{GroupOutcome, Input};
use crate::ids::{GroupName, RequestId};
use crate::sim::Mind;
use crate::sim::check::Failure;
use crate::sim::clock::nanos;
use crate::sim::cluster::Sim;
use crate::sim::hands::HandState;
use crate::sim::happening::Happening;

/// How a machine's drivers behave at present; all numbers are per mille of the answers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    pub(super) late: u64,
    pub(super) twice: u64,
    pub(super) lost: u64,
    pub(super) lies: u64,
    pub(super) hangs: u64,
    /// The next release of what a dead daemon has left fails for some of the groups.
    pub(super) release_fails: bool,
}

/// A driver's answer on its way to the daemon.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The order that it names.
    pub order: Option<RequestId>,
    /// Which group.
    pub group: GroupName,
    /// What it says.
    pub outcome: GroupOutcome,
}

/// An order's number that no core has given yet.
const NEVER_GIVEN: u64 = 1_000_000;

impl<M: Mind> Sim<M> {
    pub(super) fn set_manner(&mut self, node: usize, change: impl FnOnce(&mut Manner)) {
        if let Some(machine) = self.nodes.get_mut(node) {
            change(&mut machine.manner);
        }
    }

    /// From now on, up to the end of the faults or the next time, a machine's drivers misbehave in one way.
    pub(super) fn spoil_drivers(&mut self, node: usize) {
        let kind = self.trouble_random.below(6);
        let rate = self.trouble_random.between(50, 500);
        self.note_node(node, format_args!("drivers: kind {kind}, {rate} per mille"));
        self.set_manner(node, |it| {
            let release_fails = it.release_fails;
            *it = Manner {
                release_fails,
                ..Manner::default()
            };
            match kind {
                0 => it.late = rate,
                1 => it.twice = rate,
                2 => it.lost = rate / 4,
                3 => it.lies = rate,
                4 => it.hangs = rate / 4,
                _ => {}
            }
        });
    }

    /// What a driver has to say goes to the daemon, as the machine's manner has it.
    pub(super) fn answer(&mut self, node: usize, answer: Answer) -> Result<(), Failure> {
        let manner = self.manner(node);
        if self.trouble_random_chance(manner.lost) {
            self.note_node(node, format_args!("an answer is lost: {answer:?}"));
            if let Some(daemon) = self.nodes.get_mut(node).and_then(|it| it.daemon.as_mut()) {
                daemon.lost_answers.push(answer);
            }
            return Ok(());
        }
        // A failure that is told twice is one that has happened twice.
        let failed = matches!(answer.outcome, GroupOutcome::StartFailed { .. });
        if !failed && self.trouble_random_chance(manner.twice) {
            self.answer_later(node, answer.clone());
        }
        let answer = if self.trouble_random_chance(manner.lies) {
            self.lie(node, answer)?
        } else {
            answer
        };
        if self.trouble_random_chance(manner.late) {
            self.answer_later(node, answer);
            return Ok(());
        }
        self.deliver(node, answer)
    }

    fn answer_later(&mut self, node: usize, answer: Answer) {
        let Some(life) = self.life(node) else { return };
        let late = self.trouble_random.below(3 * nanos(self.scenario.deadtime));
        let when = self.now + 1 + late;
        let answer = Happening::Answer { node, life, answer };
        self.queue.push(when, answer);
    }

    pub(super) fn on_answer(
        &mut self,
        node: usize,
        life: u64,
        answer: Answer,
    ) -> Result<(), Failure> {
        if self.life(node) == Some(life) {
            self.deliver(node, answer)?;
        }
        Ok(())
    }

    pub(super) fn deliver(&mut self, node: usize, answer: Answer) -> Result<(), Failure> {
        let Answer {
            order,
            group,
            outcome,
        } = answer;
        self.note_start(node, &group, order, &outcome);
        self.turn(
            node,
            Input::Group {
                group,
                order,
                outcome,
            },
        )
    }

    /// Something untrue is said, instead or beside.
    fn lie(&mut self, node: usize, answer: Answer) -> Result<Answer, Failure> {
        let (resource, reason) = (String::from("unit"), String::from("a lie"));
        let state = self.nodes.get(node).map(|it| it.hands.state(&answer.group));
        let mut lie = answer.clone();
        lie.outcome = match (self.trouble_random.below(3), &answer.outcome) {
            // What has stopped is said not to have.
            (0, GroupOutcome::Stopped) => {
                let outcome = GroupOutcome::StopFailed { resource, reason };
                return Ok(Answer { outcome, ..answer });
            }
            (1, _) if state == Some(HandState::Running) => {
                lie.order = None;
                GroupOutcome::Failed { resource, reason }
            }
            (1, _) if state == Some(HandState::Stopped) => {
                lie.order = None;
                GroupOutcome::Appeared { resource }
            }
            _ => {
                lie.order = Some(RequestId(NEVER_GIVEN));
                match state {
                    Some(HandState::Running) => GroupOutcome::Stopped,
                    _ => GroupOutcome::Started,
                }
            }
        };
        self.note_node(node, format_args!("a lie: {lie:?}"));
        let Answer {
            order,
            group,
            outcome,
        } = lie;
        let lie = Input::Group {
            group,
            order,
            outcome,
        };
        self.turn(node, lie)?;
        Ok(answer)
    }

    /// Drivers behave well again, and say what they had not said.
    pub(super) fn mend_drivers(&mut self, node: usize) -> Result<(), Failure> {
        self.set_manner(node, |it| *it = Manner::default());
        let daemon = self.nodes.get_mut(node).and_then(|it| it.daemon.as_mut());
        let lost = daemon.map(|it| std::mem::take(&mut it.lost_answers));
        for answer in lost.unwrap_or_default() {
            self.deliver(node, answer)?;
        }
        Ok(())
    }

    pub(super) fn manner(&self, node: usize) -> Manner {
        let usual = self.watch.allows_faults();
        let machine = self.nodes.get(node).filter(|_| usual);
        machine.map(|it| it.manner).unwrap_or_default()
    }

    /// Like chance, but without troubles nothing is drawn.
    pub(super) fn trouble_random_chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.trouble_random.chance(per_mille)
    }

    pub(super) fn life(&self, node: usize) -> Option<u64> {
        let machine = self.nodes.get(node)?;
        machine.daemon.as_ref().map(|daemon| daemon.life)
    }
}
