//! One machine's virtual resources: groups that start and stop slowly, fail, hang, and outlive their daemon.
//!
//! A group is held from the instant its start begins to the instant its stop completes. What happens when is
//! decided as soon as an order comes; `run` brings the end of the work back here.

use crate::core::{GroupOutcome, Urgency};
use crate::ids::{GroupName, RequestId};
use crate::sim::clock::Nanos;
use crate::sim::random::Random;
use crate::sim::skill::Skill;
use std::collections::BTreeMap;

/// What a group on this machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandState {
    /// Nothing runs.
    Stopped,
    /// On its way up.
    Starting,
    /// All runs.
    Running,
    /// On its way down.
    Stopping,
    /// A stop has failed; parts still run.
    Stuck,
    /// Runs, or partly, from an earlier life of the daemon.
    Leftover,
}

impl HandState {
    /// Whether a daemon may end in good order with a group in this state.
    pub fn may_be_left(self) -> bool {
        matches!(self, Self::Stopped | Self::Stuck)
    }
}

/// What an order leads to.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// When it ends.
    pub ends: Nanos,
    /// Repeated to [`Hands::finish`]; a later order makes it void.
    pub token: u64,
}

#[derive(Debug)]
struct Group {
    state: HandState,
    token: u64,
    ends: Nanos,
    orders: Vec<RequestId>,
    fails: bool,
    /// What fails of a restart is its stop.
    gets_stuck: bool,
    leftover: bool,
    /// It was up when its daemon died.
    was_up: bool,
    emergency: bool,
    /// Its own longest emergency stop, where that is not the usual one.
    emergency_max: Option<Nanos>,
}

/// How much longer than usual something takes that hangs.
const HANG_FACTOR: Nanos = 8;

/// The groups of one machine.
#[derive(Debug)]
pub struct Hands {
    groups: BTreeMap<GroupName, Group>,
    skill: Skill,
    tokens: u64,
    fail_next_start: Option<GroupName>,
}

impl Hands {
    /// A machine on which nothing runs.
    pub fn new<'a>(groups: impl Iterator<Item = &'a GroupName>, skill: Skill) -> Self {
        Self {
            groups: groups
                .map(|name| (name.clone(), Group::stopped()))
                .collect(),
            skill,
            tokens: 0,
            fail_next_start: None,
        }
    }

    /// Changes how well the work is done from now on; what is under way ends well if the new skill is perfect.
    pub fn set_skill(&mut self, skill: Skill) {
        self.skill = skill;
        if skill.start_fails == 0 && skill.stop_fails == 0 {
            for group in self.groups.values_mut() {
                group.fails = false;
                group.gets_stuck = false;
            }
        }
    }

    /// How long an emergency stop takes at most, as the present configuration has it: all but some groups, and those.
    pub fn set_emergency_max(
        &mut self,
        usual: Nanos,
        of_group: impl Fn(&GroupName) -> Option<Nanos>,
    ) {
        self.skill.emergency_max = usual;
        for (name, group) in &mut self.groups {
            group.emergency_max = of_group(name);
        }
    }

    /// Lets the next start of a group fail, whatever the skill.
    pub fn fail_next_start(&mut self, group: Option<GroupName>) {
        self.fail_next_start = group;
    }

    /// What a group does here.
    pub fn state(&self, group: &GroupName) -> HandState {
        self.groups
            .get(group)
            .map_or(HandState::Stopped, |group| group.state)
    }

    /// Whether anything of the group may run here.
    pub fn holds(&self, group: &GroupName) -> bool {
        self.state(group) != HandState::Stopped
    }

    /// Whether it runs, or is on its way up, by order of the present daemon.
    pub fn is_up(&self, group: &GroupName) -> bool {
        matches!(self.state(group), HandState::Starting | HandState::Running)
    }

    /// Whether any group is held.
    pub fn holds_any(&self) -> bool {
        self.groups
            .values()
            .any(|group| group.state != HandState::Stopped)
    }

    /// Whether an emergency stop of the group is under way.
    pub fn is_emergency(&self, group: &GroupName) -> bool {
        self.groups.get(group).is_some_and(|group| group.emergency)
    }

    /// Whether an emergency stop is under way, or has failed.
    pub fn has_unstopped_emergency(&self) -> bool {
        self.groups
            .values()
            .any(|group| group.emergency && group.state != HandState::Stopped)
    }

    /// All groups and their states.
    pub fn states(&self) -> impl Iterator<Item = (&GroupName, HandState)> {
        self.groups.iter().map(|(name, group)| (name, group.state))
    }

    /// Begins to start a group.
    ///
    /// # Errors
    /// What the core did wrong: an order that no core should give.
    pub fn start(
        &mut self,
        now: Nanos,
        name: &GroupName,
        order: RequestId,
        random: &mut Random,
    ) -> Result<Work, &'static str> {
        let forced = self
            .fail_next_start
            .take_if(|wanted| wanted == name)
            .is_some();
        let (skill, token) = (self.skill, self.next_token());
        let group = self
            .groups
            .get_mut(name)
            .ok_or("start of an unknown group")?;
        match group.state {
            HandState::Stopped if group.orders.is_empty() => {}
            HandState::Stopped => return Err("start before the stop was answered"),
            HandState::Starting | HandState::Running => return Err("start of what runs"),
            HandState::Stopping => return Err("start of what is being stopped"),
            HandState::Stuck => return Err("start of what is blocked"),
            HandState::Leftover if group.was_up => {
                group.leftover = false;
                group.state = HandState::Starting;
                group.fails = false;
                group.gets_stuck = false;
                group.ends = now + 1 + random.below(1000);
                group.token = token;
                group.orders = vec![order];
                return Ok(Work {
                    ends: group.ends,
                    token,
                });
            }
            HandState::Leftover => return Err("start of what an earlier life left"),
        }
        let hangs = random.chance(skill.hangs);
        let longest = if hangs {
            HANG_FACTOR * skill.start_max
        } else {
            skill.start_max
        };
        group.state = HandState::Starting;
        group.gets_stuck = false;
        group.fails = forced || hangs || random.chance(skill.start_fails);
        group.ends = now + 1 + random.below(longest);
        group.token = token;
        group.orders = vec![order];
        Ok(Work {
            ends: group.ends,
            token,
        })
    }

    /// Begins to stop and start again what runs.
    ///
    /// # Errors
    /// What the core did wrong: an order that no core should give.
    pub fn restart(
        &mut self,
        now: Nanos,
        name: &GroupName,
        order: RequestId,
        random: &mut Random,
    ) -> Result<Work, &'static str> {
        let (skill, token) = (self.skill, self.next_token());
        let group = self
            .groups
            .get_mut(name)
            .ok_or("restart of an unknown group")?;
        if group.state != HandState::Running {
            return Err("restart of what does not run");
        }
        let hangs = random.chance(skill.hangs);
        let longest = if hangs { HANG_FACTOR } else { 1 } * (skill.stop_max + skill.start_max);
        group.state = HandState::Starting;
        group.gets_stuck = random.chance(skill.stop_fails);
        group.fails = group.gets_stuck || hangs || random.chance(skill.start_fails);
        group.ends = now + 1 + random.below(longest);
        group.token = token;
        group.orders = vec![order];
        Ok(Work {
            ends: group.ends,
            token,
        })
    }

    /// Begins to stop a group, or stops it faster. An emergency ends in time and well, except with a watchdog.
    pub fn stop(
        &mut self,
        now: Nanos,
        name: &GroupName,
        order: RequestId,
        urgency: Urgency,
        random: &mut Random,
    ) -> Option<Work> {
        let (skill, token) = (self.skill, self.next_token());
        let group = self.groups.get_mut(name)?;
        let emergency = urgency == Urgency::LeaseLost || group.leftover;
        let (longest, fails) = match (group.state, emergency) {
            (HandState::Stopped, _) => (1000, false),
            (_, true) if random.chance(skill.emergency_hangs) => {
                (HANG_FACTOR * skill.stop_max, true)
            }
            (_, true) => (group.emergency_max.unwrap_or(skill.emergency_max), false),
            (_, false) if random.chance(skill.hangs) => (HANG_FACTOR * skill.stop_max, true),
            (_, false) => (skill.stop_max, random.chance(skill.stop_fails)),
        };
        let ends = now + 1 + random.below(longest);
        if group.state == HandState::Stopping {
            group.orders.push(order);
            if group.emergency || !emergency {
                return Some(Work {
                    ends: group.ends,
                    token: group.token,
                });
            }
        } else {
            group.orders = vec![order];
        }
        if group.state != HandState::Stopped {
            group.state = HandState::Stopping;
        }
        group.emergency = emergency;
        (group.ends, group.fails, group.token) = (ends, fails, token);
        Some(Work { ends, token })
    }

    /// The work of that token ends: what to tell the daemon. Nothing where a later order made it void.
    pub fn finish(&mut self, name: &GroupName, token: u64) -> Vec<(RequestId, GroupOutcome)> {
        let Some(group) = self
            .groups
            .get_mut(name)
            .filter(|group| group.token == token)
        else {
            return Vec::new();
        };
        let (resource, reason) = (String::from("unit"), String::from("simulated"));
        let outcome = match (group.state, group.fails) {
            (HandState::Starting, false) => {
                group.state = HandState::Running;
                GroupOutcome::Started
            }
            (HandState::Starting, true) if group.gets_stuck => {
                group.state = HandState::Stuck;
                GroupOutcome::StopFailed { resource, reason }
            }
            (HandState::Starting, true) => {
                group.state = HandState::Stopped;
                GroupOutcome::StartFailed { resource, reason }
            }
            (HandState::Stopping, true) => {
                group.state = HandState::Stuck;
                GroupOutcome::StopFailed { resource, reason }
            }
            (HandState::Stopping | HandState::Stopped, _) => {
                group.release();
                GroupOutcome::Stopped
            }
            (HandState::Running | HandState::Stuck | HandState::Leftover, _) => return Vec::new(),
        };
        std::mem::take(&mut group.orders)
            .into_iter()
            .map(|order| (order, outcome.clone()))
            .collect()
    }

    /// Work that would end later ends by `latest`: to be planned anew.
    pub fn hurry(&mut self, latest: Nanos) -> Vec<(GroupName, Work)> {
        let mut hurried = Vec::new();
        for (name, group) in &mut self.groups {
            let under_way = matches!(group.state, HandState::Starting | HandState::Stopping);
            if under_way && group.ends > latest {
                self.tokens += 1;
                (group.ends, group.token) = (latest, self.tokens);
                hurried.push((
                    name.clone(),
                    Work {
                        ends: latest,
                        token: self.tokens,
                    },
                ));
            }
        }
        hurried
    }

    /// The work that is under way does not end by itself, unless it is an emergency's.
    pub fn hang(&mut self, name: &GroupName) {
        if let Some(group) = self.groups.get_mut(name) {
            group.ends = Nanos::MAX;
        }
    }

    /// Groups that are left over from an earlier life.
    pub fn leftovers(&self) -> Vec<GroupName> {
        let left = self.groups.iter().filter(|(_, group)| group.leftover);
        left.map(|(name, _)| name.clone()).collect()
    }

    /// What an earlier life has left of one group does not stop.
    pub fn get_stuck(&mut self, name: &GroupName) {
        if let Some(group) = self.groups.get_mut(name).filter(|group| group.leftover) {
            group.state = HandState::Stuck;
            (group.leftover, group.emergency, group.token) = (false, false, 0);
        }
    }

    /// The next life may know groups that no earlier one did.
    pub fn know<'a>(&mut self, names: impl Iterator<Item = &'a GroupName>) {
        for name in names {
            self.groups
                .entry(name.clone())
                .or_insert_with(Group::stopped);
        }
    }

    /// What the next life neither inherits nor may run is stopped before it begins.
    pub fn release_all_but(&mut self, kept: impl Fn(&GroupName) -> bool) {
        for (_, group) in self.groups.iter_mut().filter(|(name, _)| !kept(name)) {
            group.release();
            group.token = 0;
        }
    }

    /// The daemon has died: what runs is left over, and nobody waits for answers any more.
    ///
    /// An emergency stop goes on, since it is the service manager's and the kernel's by then.
    pub fn orphan(&mut self) {
        for group in self.groups.values_mut() {
            group.orders.clear();
            group.leftover = group.state != HandState::Stopped;
            group.was_up = matches!(group.state, HandState::Starting | HandState::Running)
                || (group.state == HandState::Leftover && group.was_up);
            let ends_anyway = group.state == HandState::Stopping && group.emergency;
            if group.leftover && !ends_anyway {
                group.state = HandState::Leftover;
                group.token = 0;
            }
        }
    }

    /// The unit's own stop commands release what an earlier life left, or the machine lost its power.
    ///
    /// Orders under way to stop the same end at once, too: the token stays valid.
    pub fn release_leftovers(&mut self) {
        for group in self.groups.values_mut().filter(|group| group.leftover) {
            let answered = group.state == HandState::Stopping;
            group.release();
            if answered {
                group.fails = false;
            }
        }
    }

    /// A person stops by hand what would not stop.
    pub fn repair(&mut self, name: &GroupName) {
        if let Some(group) = self
            .groups
            .get_mut(name)
            .filter(|group| group.state == HandState::Stuck)
        {
            group.release();
        }
    }

    fn next_token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }
}

impl Group {
    fn stopped() -> Self {
        Self {
            state: HandState::Stopped,
            token: 0,
            ends: 0,
            orders: Vec::new(),
            fails: false,
            gets_stuck: false,
            leftover: false,
            was_up: false,
            emergency: false,
            emergency_max: None,
        }
    }

    fn release(&mut self) {
        self.state = HandState::Stopped;
        self.leftover = false;
        self.emergency = false;
        self.fails = false;
    }
}
