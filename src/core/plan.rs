//! Where one group shall run: a function of what the leader knows, without clock or history.
//!
//! A group of which too little is known stays undecided: where it runs it goes on, and nobody starts it.
//!
//! The order of preference, from the first to the last: never two owners; running over stopped; a node that can;
//! a person's wish; failback where it is on, else where the group runs; earlier in the group's list.

use crate::core::settings::GroupSettings;
use crate::ids::NodeName;
use crate::wire::status::Assignment;
use std::collections::BTreeMap;

/// What the leader knows of one group on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// Nothing certain: it may run there.
    Unknown,
    /// It cannot run there: stopped under a plan that does not name the node, or the node is dead.
    Clear,
    /// It does not run there now, but the node may still act on an older plan, or is stopping.
    Settling,
    /// It runs there or is being started.
    Running,
    /// Its stop failed there.
    Blocked,
}

/// One node as a place for one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// What is known of the group there.
    pub(super) knowledge: Knowledge,
    /// A member in contact, whose vote counts, and that is in contact with enough others to hold a lease.
    pub(super) reachable: bool,
    pub(super) standing: Standing,
}

/// Whether a node is to run the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Yes.
    Willing,
    /// The group failed there before: only where no other can, or where it runs.
    Doubtful,
    /// A person wants it to run nothing: it keeps what nobody else can run.
    Standby,
    /// It is about to stop, with or without a successor.
    Leaving,
    /// The group failed there, or its list does not name the node.
    Unable,
}

impl Place {
    /// The node could start it now.
    fn can(&self) -> bool {
        self.reachable && self.standing == Standing::Willing
    }

    /// It could, if that is all there is, or somebody's wish.
    pub(super) fn might(&self) -> bool {
        self.reachable && matches!(self.standing, Standing::Willing | Standing::Doubtful)
    }
}

/// All that a decision about one group rests on.
#[derive(Debug)]
pub(super) struct Situation<'a> {
    pub(super) settings: &'a GroupSettings,
    /// Every node that could run any group.
    pub(super) places: &'a BTreeMap<NodeName, Place>,
    /// A person's wish.
    pub(super) pin: Option<&'a NodeName>,
    /// Test only: the new owner is named before the old one has stopped.
    pub(super) one_step: bool,
}

/// The decision, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    /// None while undecided.
    pub(super) assignment: Option<Assignment>,
    pub(super) reason: &'static str,
}

impl Decision {
    fn undecided(reason: &'static str) -> Self {
        Self {
            assignment: None,
            reason,
        }
    }

    fn of(assignment: Assignment, reason: &'static str) -> Self {
        Self {
            assignment: Some(assignment),
            reason,
        }
    }
}

impl Situation<'_> {
    /// Decides.
    pub(super) fn decide(&self) -> Decision {
        let blocked = |p: &Place| p.knowledge == Knowledge::Blocked;
        let runners = self.runners();
        match runners.as_slice() {
            [] if self.places.values().any(blocked) => Decision::undecided("a stop has failed"),
            [owner, ..] if self.places.values().any(blocked) => Decision::of(
                Assignment::Keep(owner.clone()),
                "a stop has failed elsewhere",
            ),
            [] => self.decide_stopped(),
            [owner] => self.decide_running(owner),
            [first, ..] => self.decide_double(first, &runners),
        }
    }

    /// Nodes that run it, in the order of the group's list, then by name.
    fn runners(&self) -> Vec<NodeName> {
        let runs = |n: &&NodeName| {
            self.places
                .get(*n)
                .is_some_and(|p| p.knowledge == Knowledge::Running)
        };
        let listed = self.settings.nodes.iter().filter(runs);
        let others = self
            .places
            .keys()
            .filter(|n| !self.settings.nodes.contains(n))
            .filter(runs);
        listed.chain(others).cloned().collect()
    }

    fn decide_stopped(&self) -> Decision {
        let Some((target, reason)) = self.target(None) else {
            return Decision::undecided("no member can run it");
        };
        if self.all_clear_but(target) || self.one_step {
            Decision::of(self.run(target), reason)
        } else {
            Decision::undecided("waiting until it is certain that no other node runs it")
        }
    }

    fn decide_running(&self, owner: &NodeName) -> Decision {
        let place = self.places.get(owner);
        let standing = place.map_or(Standing::Unable, |p| p.standing);
        // An owner out of contact could not be told, and would stop for nothing once it hears of the plan.
        let reachable = place.is_some_and(|p| p.reachable);
        match self.target(Some(owner)) {
            Some((target, reason)) if target != owner => {
                if self.one_step {
                    return Decision::of(self.run(target), reason);
                }
                let certain = reachable && self.all_clear_but_both(owner, target);
                if certain || standing == Standing::Unable {
                    return Decision::of(
                        Assignment::Nobody,
                        "moving: its old owner stops it first",
                    );
                }
                self.stay(owner, "stays until it is certain that it can move")
            }
            Some((_, reason)) => self.stay(owner, reason),
            None => match standing {
                Standing::Leaving | Standing::Unable => {
                    Decision::of(Assignment::Nobody, "no member can run it")
                }
                Standing::Standby => self.stay(owner, "no other node can run it"),
                Standing::Willing | Standing::Doubtful => self.stay(owner, "runs here"),
            },
        }
    }

    fn decide_double(&self, first: &NodeName, runners: &[NodeName]) -> Decision {
        let kept = match self.target(None) {
            Some((target, _)) if runners.contains(target) => target,
            Some(_) | None => first,
        };
        Decision::of(Assignment::Keep(kept.clone()), "the better of two owners")
    }

    fn stay(&self, owner: &NodeName, reason: &'static str) -> Decision {
        if self.all_clear_but(owner) {
            Decision::of(self.run(owner), reason)
        } else {
            Decision::of(Assignment::Keep(owner.clone()), reason)
        }
    }

    fn run(&self, node: &NodeName) -> Assignment {
        Assignment::Run {
            node: node.clone(),
            pinned: self.pin == Some(node),
        }
    }

    /// The best node that can run it.
    fn target<'s>(&'s self, owner: Option<&'s NodeName>) -> Option<(&'s NodeName, &'static str)> {
        let might = |n: &&NodeName| self.places.get(*n).is_some_and(Place::might);
        let can = |n: &&NodeName| {
            let owns = owner == Some(*n) && might(n);
            owns || self.places.get(*n).is_some_and(Place::can)
        };
        if let Some(pin) = self.pin.filter(might) {
            return Some((pin, "a person moved it there"));
        }
        let Some(first) = self.settings.nodes.iter().find(can) else {
            let last = self.settings.nodes.iter().find(might)?;
            return Some((last, "failed there before, but no other node is left"));
        };
        if self.settings.auto_failback || owner == Some(first) {
            let preferred = self.settings.nodes.first() == Some(first);
            return Some((
                first,
                if preferred {
                    "preferred node"
                } else {
                    "first node that can run it"
                },
            ));
        }
        match owner.filter(can) {
            Some(owner) => Some((owner, "runs there, and failback is off")),
            None => Some((first, "first node that can run it")),
        }
    }

    fn all_clear_but(&self, node: &NodeName) -> bool {
        self.all_clear_but_both(node, node)
    }

    fn all_clear_but_both(&self, one: &NodeName, other: &NodeName) -> bool {
        self.places.iter().all(|(name, place)| {
            name == one || name == other || place.knowledge == Knowledge::Clear
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    fn place(word: &str) -> Place {
        let (knowledge, reachable, standing) = match word {
            "clear" => (Knowledge::Clear, true, Standing::Willing),
            "dead" => (Knowledge::Clear, false, Standing::Willing),
            "runs" => (Knowledge::Running, true, Standing::Willing),
            "cut" => (Knowledge::Running, false, Standing::Willing),
            "standby-runs" => (Knowledge::Running, true, Standing::Standby),
            "leaving-runs" => (Knowledge::Running, true, Standing::Leaving),
            "failed-runs" => (Knowledge::Running, true, Standing::Unable),
            "doubtful" => (Knowledge::Clear, true, Standing::Doubtful),
            "doubtful-runs" => (Knowledge::Running, true, Standing::Doubtful),
            "standby" => (Knowledge::Clear, true, Standing::Standby),
            "settling" => (Knowledge::Settling, true, Standing::Willing),
            "unknown" => (Knowledge::Unknown, false, Standing::Willing),
            "blocked" => (Knowledge::Blocked, true, Standing::Willing),
            other => panic!("no such place {other}"),
        };
        Place {
            knowledge,
            reachable,
            standing,
        }
    }

    /// `a=clear b=runs` with options `pin=b`, `sticky`: the assignment in words.
    fn decide(text: &str) -> String {
        let mut places = BTreeMap::new();
        let (mut pin, mut auto_failback) = (None, true);
        for word in text.split(' ') {
            match word.split_once('=') {
                Some(("pin", node)) => pin = Some(name(node)),
                Some((node, what)) => {
                    places.insert(name(node), place(what));
                }
                None => auto_failback = false,
            }
        }
        let settings = GroupSettings {
            nodes: places.keys().cloned().collect(),
            auto_failback,
            stop_margin: None,
            policies: BTreeMap::new(),
        };
        let situation = Situation {
            settings: &settings,
            places: &places,
            pin: pin.as_ref(),
            one_step: false,
        };
        match situation.decide().assignment {
            None => "undecided".to_owned(),
            Some(Assignment::Nobody) => "nobody".to_owned(),
            Some(Assignment::Keep(node)) => format!("keep {node}"),
            Some(Assignment::Run {
                node,
                pinned: false,
            }) => format!("run {node}"),
            Some(Assignment::Run { node, pinned: true }) => format!("run {node} pinned"),
        }
    }

    #[test]
    fn a_stopped_group_starts_only_when_all_others_are_clear() {
        assert_eq!(decide("a=clear b=clear"), "run a");
        assert_eq!(decide("a=settling b=clear"), "run a");
        assert_eq!(decide("a=clear b=settling"), "undecided");
        assert_eq!(decide("a=clear b=unknown"), "undecided");
        assert_eq!(decide("a=dead b=clear"), "run b");
        assert_eq!(decide("a=dead b=standby"), "undecided");
        assert_eq!(decide("a=clear b=blocked"), "undecided");
    }

    #[test]
    fn a_running_group_moves_in_two_steps_and_only_to_a_certain_place() {
        assert_eq!(decide("a=clear b=runs"), "nobody");
        assert_eq!(decide("a=clear b=runs c=unknown"), "keep b");
        assert_eq!(decide("a=clear b=runs sticky"), "run b");
        assert_eq!(decide("a=clear b=runs pin=b"), "run b pinned");
        assert_eq!(decide("a=runs b=clear pin=b"), "nobody");
        assert_eq!(decide("a=standby-runs b=clear"), "nobody");
        assert_eq!(decide("a=leaving-runs b=clear"), "nobody");
        assert_eq!(decide("a=failed-runs b=clear c=unknown"), "nobody");
        assert_eq!(decide("a=runs b=blocked"), "keep a");
    }

    #[test]
    fn a_node_in_standby_keeps_what_nobody_else_can_run() {
        assert_eq!(decide("a=standby-runs b=dead"), "run a");
        assert_eq!(decide("a=standby-runs b=clear c=unknown"), "keep a");
        assert_eq!(decide("a=leaving-runs b=clear c=unknown"), "keep a");
        assert_eq!(decide("a=leaving-runs b=dead"), "nobody");
        assert_eq!(decide("a=failed-runs b=dead"), "nobody");
    }

    #[test]
    fn a_node_where_it_failed_before_is_the_last_choice_and_keeps_what_it_runs() {
        assert_eq!(decide("a=doubtful b=clear"), "run b");
        assert_eq!(decide("a=doubtful b=runs"), "run b");
        assert_eq!(decide("a=doubtful b=dead"), "run a");
        assert_eq!(decide("a=doubtful b=standby"), "run a");
        assert_eq!(decide("a=doubtful b=standby-runs"), "nobody");
        assert_eq!(decide("a=doubtful b=runs pin=a"), "nobody");
        assert_eq!(decide("a=doubtful-runs b=clear"), "run a");
        assert_eq!(decide("a=clear b=doubtful-runs"), "nobody");
        assert_eq!(decide("a=clear b=doubtful-runs sticky"), "run b");
    }

    #[test]
    fn an_owner_out_of_contact_keeps_its_group() {
        assert_eq!(decide("a=cut b=clear"), "run a");
        assert_eq!(decide("a=cut b=dead"), "run a");
    }

    #[test]
    fn of_two_owners_the_preferred_one_keeps_the_group() {
        assert_eq!(decide("a=runs b=runs"), "keep a");
        assert_eq!(decide("a=standby-runs b=runs"), "keep b");
        assert_eq!(decide("a=runs b=runs sticky"), "keep a");
    }
}
