//! Packets that come again, or from somewhere else: they must change nothing.

use crate::core::Input;
use crate::ids::{ClusterName, NodeName};
use crate::sim::Mind;
use crate::sim::check::{self, Failure};
use crate::sim::clock::nanos;
use crate::sim::cluster::{Sim, input};
use crate::sim::happening::Happening;
use crate::sim::transport;
use crate::wire::brief::Taken;

impl<M: Mind> Sim<M> {
    /// An attacker sends something again that this node has received, or that anybody has.
    pub(super) fn maybe_replay(&mut self, node: usize) -> Result<(), Failure> {
        if !self.random.chance(self.scenario.replays) {
            return Ok(());
        }
        let choice = self.random.below(4);
        if choice == 0 {
            // One that was held back is news, which has its effect once: a fault like any other.
            if self.watch.allows_faults()
                && let Some(old) = self.network.recorded()
            {
                let happening = Happening::Arrive {
                    node,
                    link: old.link,
                    packet: old.packet,
                };
                self.queue.push(self.now + 1, happening);
            }
            return Ok(());
        }
        self.let_timers_pass(node)?;
        let daemon = self
            .nodes
            .get_mut(node)
            .and_then(|node| node.daemon.as_mut());
        let Some(daemon) = daemon else {
            return Ok(());
        };
        let index = self.random.index(daemon.seen.len());
        let Some(old) = daemon.seen.get(index).cloned() else {
            return Ok(());
        };
        let Some(heartbeat) = transport::unpack(&old.packet) else {
            return Ok(());
        };
        let mut taken = daemon.exchange.take(heartbeat);
        let (Taken::Whole(status) | Taken::Brief(status)) = &mut taken;
        match choice {
            1 => {}
            2 => {
                status.node = stranger();
                status.sequence = status.sequence.next();
            }
            _ => status.cluster = other_cluster(),
        }
        self.must_change_nothing(node, input(old.link, taken))
    }

    /// Packets of any time and life come to a node again, all at once.
    pub(super) fn send_old_packets(&mut self, node: usize) {
        let count = 1 + self.trouble_random.below(30);
        self.note_node(node, format_args!("{count} old packets come again"));
        for _ in 0..count {
            let soon = self.trouble_random.below(nanos(self.scenario.keepalive));
            if let Some(old) = self.network.from_album(&mut self.trouble_random) {
                let (link, packet) = (old.link, old.packet);
                let arrival = Happening::Arrive { node, link, packet };
                self.queue.push(self.now + 1 + soon, arrival);
            }
        }
    }

    fn let_timers_pass(&mut self, node: usize) -> Result<(), Failure> {
        self.turn(node, Input::Tick)
    }

    fn must_change_nothing(&mut self, node: usize, input: Input) -> Result<(), Failure> {
        let now = self.now;
        let Some(machine) = self.nodes.get_mut(node) else {
            return Ok(());
        };
        let local = machine.clock.local(now);
        let Some(daemon) = machine.daemon.as_mut() else {
            return Ok(());
        };
        let before = check::without_counters(daemon.mind.view(local));
        let text = format!("{input:?}");
        let outputs = daemon.mind.handle(local, input);
        let after = check::without_counters(daemon.mind.view(local));
        if outputs.is_empty() && before == after {
            return Ok(());
        }
        let text = format!("{text} led to {outputs:?}; before {before:?}; after {after:?}");
        self.fail("replay", text)
    }
}

#[expect(clippy::expect_used, reason = "a constant that the border accepts")]
fn stranger() -> NodeName {
    NodeName::new("stranger").expect("\"stranger\" is a name")
}

#[expect(clippy::expect_used, reason = "a constant that the border accepts")]
fn other_cluster() -> ClusterName {
    ClusterName::new("other").expect("\"other\" is a name")
}
