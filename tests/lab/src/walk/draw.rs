//! The script that belongs to a seed: always the same, whatever the machines do meanwhile.

use super::conditions::Conditions;
use super::script::{Act, Blow, CABLES, Item, Lasting};
use std::time::Duration;

/// What a walk may draw.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How many machines.
    pub nodes: usize,
    /// The cluster's deadtime, the measure of the pauses between steps.
    pub deadtime: Duration,
    /// Whether whole machines may stand still, after which both may own the group for an instant whatever the policy.
    pub pauses: bool,
}

/// Most steps before everything is healed.
const STEPS_BETWEEN: u64 = 6;
/// How often something that makes sense now is looked for.
const TRIES: usize = 100;

/// A script of so many steps; waits and healings are not counted. It ends with a healing.
pub fn script(seed: u64, steps: usize, rules: Rules) -> Vec<Item> {
    let mut drawer = Drawer {
        random: Random(seed),
        rules,
        now: Conditions::default(),
        last: None,
        items: Vec::new(),
    };
    let mut left = 0;
    for step in 0..steps {
        if left == 0 {
            drawer.heal(step > 0);
            left = 1 + drawer.random.below(STEPS_BETWEEN);
        }
        left -= 1;
        drawer.step();
    }
    drawer.heal(true);
    drawer.items
}

struct Drawer {
    random: Random,
    rules: Rules,
    now: Conditions,
    /// The last thing that was begun or done, and to which machine.
    last: Option<(usize, Act)>,
    items: Vec<Item>,
}

impl Drawer {
    fn heal(&mut self, wanted: bool) {
        self.now = Conditions::default();
        if wanted {
            self.items.push(Item::Heal);
        }
    }

    fn step(&mut self) {
        let item = match self.random.below(100) {
            0..30 => self.end_one(),
            30..50 => self.same_elsewhere(),
            50..60 => Some(Item::Blow(self.random.one_of(&Blow::ALL))),
            _ => None,
        };
        let item = item.unwrap_or_else(|| self.anything());
        self.push(item);
        if let Item::Act(node, act) = item {
            if !matches!(act, Act::End(_)) {
                self.last = Some((node, act));
            }
            self.other_cable_too(node, act);
        }
        self.pause();
    }

    fn push(&mut self, item: Item) {
        if let Item::Act(node, act) = item {
            self.now.take_in(node, act);
        }
        self.items.push(item);
    }

    /// What befalls one cable befalls the other one of its machine in every second case: one step, two items.
    fn other_cable_too(&mut self, node: usize, act: Act) {
        let Some(other) = act.on_next_cable() else {
            return;
        };
        if self.now.allow(node, other) && self.random.below(2) == 0 {
            self.push(Item::Act(node, other));
        }
    }

    fn end_one(&mut self) -> Option<Item> {
        let ends = self.now.all().into_iter();
        let ends: Vec<Item> = ends
            .map(|(node, lasting)| (node, Act::End(lasting)))
            .filter(|(node, act)| self.now.allow(*node, *act))
            .map(|(node, act)| Item::Act(node, act))
            .collect();
        (!ends.is_empty()).then(|| self.random.one_of(&ends))
    }

    /// What was last done to one machine is done to another.
    fn same_elsewhere(&mut self) -> Option<Item> {
        let (before, act) = self.last?;
        let nodes: Vec<usize> = (0..self.rules.nodes)
            .filter(|node| *node != before && self.now.allow(*node, act))
            .collect();
        (!nodes.is_empty()).then(|| Item::Act(self.random.one_of(&nodes), act))
    }

    /// Each kind of fault is as likely as any other, on whatever machine and cable.
    fn anything(&mut self) -> Item {
        for _ in 0..TRIES {
            let node = usize::try_from(self.random.next()).unwrap_or_default() % self.rules.nodes;
            let cable = usize::try_from(self.random.next()).unwrap_or_default() % CABLES;
            let acts = Act::all().into_iter();
            let acts: Vec<Act> = acts
                .filter(|act| {
                    !matches!(act, Act::End(_)) && act.cable().is_none_or(|it| it == cable)
                })
                .filter(|act| self.rules.pauses || *act != Act::Begin(Lasting::Paused))
                .collect();
            let act = self.random.one_of(&acts);
            if self.now.allow(node, act) {
                return Item::Act(node, act);
            }
        }
        Item::Blow(self.random.one_of(&Blow::ALL))
    }

    /// None, shorter than a death takes to be noticed, about as long, or longer.
    fn pause(&mut self) {
        let deadtime = u64::try_from(self.rules.deadtime.as_millis()).unwrap_or(u64::MAX);
        let most = [0, deadtime / 4, deadtime, deadtime * 5 / 2];
        let most = self.random.one_of(&most);
        if most > 0 {
            let time = Duration::from_millis(self.random.below(most));
            self.items.push(Item::Wait(time));
        }
    }
}

/// SplitMix64: small, and each seed is as good as any other.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `bound`, which is not zero.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// One of some, of which there is at least one.
    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        let count = u64::try_from(all.len()).unwrap_or(u64::MAX);
        let index = usize::try_from(self.below(count)).unwrap_or_default();
        all[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::script::write;
    use std::collections::BTreeSet;

    fn rules(nodes: usize) -> Rules {
        Rules {
            nodes,
            deadtime: Duration::from_secs(2),
            pauses: nodes == 2,
        }
    }

    #[test]
    fn a_seed_is_a_script() {
        let one = script(7, 100, rules(3));
        assert_eq!(one, script(7, 100, rules(3)));
        assert_ne!(one, script(8, 100, rules(3)));
        let is_step = |item: &&Item| matches!(item, Item::Act(..) | Item::Blow(_));
        assert!(one.iter().filter(is_step).count() >= 100);
        assert_eq!(one.last(), Some(&Item::Heal));
    }

    #[test]
    fn everything_that_can_be_done_is_drawn() {
        let drawn: BTreeSet<String> = script(1, 20_000, rules(2))
            .iter()
            .filter(|item| !matches!(item, Item::Wait(_)))
            .map(ToString::to_string)
            .collect();
        assert_eq!(drawn.len(), Act::all().len() * 2 + Blow::ALL.len() + 1);
        let text = write(&script(1, 20_000, rules(3)));
        assert!(!text.contains("pause"), "not where it would prove nothing");
    }
}
