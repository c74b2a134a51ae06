//! The drivers: what becomes of orders to start and to stop, and what can go wrong with them.

use crate::cluster::{Cluster, DRIVER, Job, KEEPALIVE};
use crate::fault::{Hand, Slot};
use ha_node::core::{GroupOutcome, Input, Request};
use ha_node::ids::RequestId;

impl Cluster {
    /// From now on a driver does something wrong with starts or stops.
    pub fn spoil(&mut self, index: usize, stops: bool, hand: Hand, slot: Slot) {
        self.nodes[index].hands[usize::from(stops)] = Some((hand, slot));
    }

    /// It works again; what hung goes on, and a person clears what has failed.
    pub fn repair(&mut self, index: usize, stops: bool) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let Some((hand, _)) = node.hands[usize::from(stops)].take() else {
            return;
        };
        if let Some(job) = &mut node.job {
            job.ends = job.ends.or(Some(now + 1));
        }
        if hand == Hand::Fails {
            // Nobody clears what still runs: it is stopped by hand first.
            node.runs &= !std::mem::take(&mut node.stuck);
            for node in 0..self.nodes.len() {
                self.request(node, Request::Clear(self.shape.group.clone()));
            }
        }
    }

    pub fn answer(&mut self, index: usize, job: Job) {
        let node = &mut self.nodes[index];
        match &job.outcome {
            GroupOutcome::Stopped
            | GroupOutcome::StartFailed { .. }
            | GroupOutcome::StartRefused => {
                node.runs = false;
                node.stuck = false;
            }
            GroupOutcome::StopFailed { .. } => node.stuck = true,
            GroupOutcome::Started
            | GroupOutcome::Failed { .. }
            | GroupOutcome::Appeared { .. }
            | GroupOutcome::Recovered { .. } => {}
        }
        let group = self.shape.group.clone();
        let (order, outcome) = (Some(job.order), job.outcome);
        self.say(index, format_args!("its driver answers {outcome:?}"));
        self.feed(
            index,
            Input::Group {
                group,
                order,
                outcome,
            },
        );
    }

    pub fn take_order(&mut self, index: usize, order: RequestId, stops: bool, hasty: bool) {
        let (now, time) = (self.now, if hasty { DRIVER } else { self.shape.driver });
        let failed = || (String::from("r"), String::from("it fails"));
        let node = &mut self.nodes[index];
        // What does not stop in an emergency is killed.
        let spoilt = node.hands[usize::from(stops)].filter(|_| !hasty);
        let hand = spoilt.map(|(hand, _)| hand);
        let outcome = match (stops, hand == Some(Hand::Fails)) {
            (false, false) => GroupOutcome::Started,
            (true, false) => GroupOutcome::Stopped,
            (false, true) => {
                let (resource, reason) = failed();
                GroupOutcome::StartFailed { resource, reason }
            }
            (true, true) => {
                let (resource, reason) = failed();
                GroupOutcome::StopFailed { resource, reason }
            }
        };
        let ends = match hand {
            Some(Hand::Hangs) => None,
            Some(Hand::IsLate) => Some(now + time + 2 * KEEPALIVE),
            Some(Hand::Fails) | None => Some(now + time),
        };
        if let Some((_, slot)) = spoilt {
            self.effects |= slot.bit();
            self.something_failed |= hand == Some(Hand::Fails);
        }
        self.changes += 1;
        let node = &mut self.nodes[index];
        if !stops {
            node.runs = true;
        }
        node.job = Some(Job {
            ends,
            order,
            outcome,
        });
    }
}
