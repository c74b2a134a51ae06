//! The hands: addresses, units, mounts, programs, health checks, and the runner that starts and stops a group in order.
//!
//! Owns what happens to a group on this node between an order and its outcome. Decides nothing about
//! where a group runs; that is the core's, which `node` carries in and out. Programs are run by systemd, none is a
//! child.
//!
//! Invariants: an outcome is sent for the newest order only (one that was superseded stays without);
//! nothing is acquired while the [`Guard`] does not hold; a stop works from any state.

pub mod address;
mod agent;
pub mod announce;
mod bus;
mod carrier;
mod check;
mod driver;
mod emergency;
mod force;
pub mod frame;
pub mod guard;
mod held;
pub mod inspect;
mod metadata;
mod monitor;
pub mod mount;
pub mod netlink;
mod ocf;
mod presence;
pub mod probe;
mod recovery;
mod respawn;
pub mod route;
pub mod runner;
mod script;
pub mod sentry;
mod starts;
pub mod transient;
pub mod unit;
mod warm;

pub use guard::Guard;

use crate::config::model::{Group, Respawn};
use crate::core::io::{GroupOutcome, Urgency};
use crate::ids::{GroupName, RequestId};
use address::Addresses;
use agent::Agents;
use anyhow::Context;
use check::Checks;
use driver::{GroupDriver, Target, target};
use emergency::Emergency;
use netlink::Watch;
use presence::Herald;
use runner::{Goal, Order};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use unit::Units;
use warm::Warm;

/// What the drivers say, unasked or as the end of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandsEvent {
    /// An order ended, or a group failed by itself.
    Group {
        /// Which group.
        group: GroupName,
        /// The order that this answers; none for what happened by itself.
        order: Option<RequestId>,
        /// What happened.
        outcome: GroupOutcome,
    },
    /// The state of one resource changed, for people to see.
    Resource {
        /// Its group.
        group: GroupName,
        /// Its identifier.
        resource: String,
        /// The new state.
        state: ResourceState,
    },
    /// Something for the journal: survived, but someone should know.
    Note {
        /// Which group.
        group: GroupName,
        /// Which of its resources.
        resource: String,
        /// What happened and what was done about it.
        text: String,
    },
}

/// State of one resource on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceState {
    /// Does not run here.
    Stopped,
    /// A start is under way.
    Starting,
    /// Runs here.
    Started,
    /// A stop is under way.
    Stopping,
    /// Did not start, or ended by itself.
    Failed,
    /// Did not stop: may still run.
    Blocked,
}

impl ResourceState {
    /// The word for it on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
            Self::Blocked => "blocked",
        }
    }
}

/// The drivers of all groups. Dropping it ends their tasks and leaves what runs as it is.
#[derive(Debug)]
pub struct Hands {
    groups: BTreeMap<GroupName, Hand>,
    guard: Guard,
    addresses: Arc<Addresses>,
    units: Arc<Units>,
    connection: Option<JoinHandle<()>>,
    tasks: Vec<JoinHandle<()>>,
    leaving: Arc<AtomicBool>,
}

/// What leads to one group's runner.
#[derive(Debug)]
struct Hand {
    group: Arc<Group>,
    orders: watch::Sender<Option<Order>>,
}

impl Hands {
    /// Starts the drivers; touches no resource. Connects to systemd in the background, and only if a
    /// group has more than addresses.
    ///
    /// # Errors
    /// The kernel gives no netlink socket.
    #[expect(clippy::unused_async, reason = "needs a runtime, and says so")]
    pub async fn start(
        groups: &[Group],
        events: mpsc::Sender<HandsEvent>,
        guard: Guard,
    ) -> anyhow::Result<Self> {
        let (changes, _) = watch::channel(());
        let notices = Watch::open().context("subscribing to the kernel's notices on addresses")?;
        let addresses = Addresses::open(guard.clone(), changes.clone())
            .context("opening a netlink connection to the kernel")?;
        let addresses = Arc::new(addresses);
        let units = Arc::new(Units::new(
            unit_names(groups),
            guard.clone(),
            changes.clone(),
        ));
        let mut tasks = vec![tokio::spawn(
            Arc::clone(&addresses).keep(notices, events.clone()),
        )];
        let connection = (units.any() || check::runs_programs(groups)).then(|| connect(&units));
        let (mut hands, cold) = (BTreeMap::new(), cold_units(groups));
        let leaving = Arc::new(AtomicBool::new(false));
        for group in groups {
            let group = Arc::new(group.clone());
            let checks = Checks::new(
                Arc::clone(&group),
                Arc::clone(&units),
                changes.clone(),
                events.clone(),
            );
            let driver = GroupDriver {
                group: Arc::clone(&group),
                checks,
                addresses: Arc::clone(&addresses),
                units: Arc::clone(&units),
                agents: Agents::new(group.name.clone(), Arc::clone(&units)),
                herald: Herald::new(&group.name, Arc::clone(&units)),
                warm: Warm::new(
                    Arc::clone(&group),
                    Arc::clone(&units),
                    events.clone(),
                    cold.clone(),
                    Arc::clone(&leaving),
                ),
            };
            let (orders, newest) = watch::channel(None);
            let runner = runner::run(
                Arc::clone(&group),
                driver,
                newest,
                changes.subscribe(),
                events.clone(),
            );
            tasks.push(tokio::spawn(runner));
            hands.insert(group.name.clone(), Hand { group, orders });
        }
        Ok(Self {
            groups: hands,
            guard,
            addresses,
            units,
            connection,
            tasks,
            leaving,
        })
    }

    /// Lets systemd know the targets that tell on which node each group runs, and connects to it for their sake.
    pub fn publish_presence(&mut self) {
        let groups = self.groups.values().map(|hand| hand.group.as_ref());
        presence::publish(&groups.cloned().collect::<Vec<_>>());
        if !self.groups.is_empty() && self.connection.is_none() {
            self.connection = Some(connect(&self.units));
        }
    }

    /// The daemon is about to end: nothing is kept running any more for its own sake.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Stops the targets of groups that were released.
    pub async fn withdraw_presence(&mut self) {
        if self.connection.is_none() {
            self.connection = Some(connect(&self.units));
        }
        self.units.withdraw_presence(self.groups.keys()).await;
    }

    /// Starts the programs that live and die with the daemon, in the background.
    pub fn respawn(&mut self, programs: &[Respawn]) {
        if !programs.is_empty() && self.connection.is_none() {
            self.connection = Some(connect(&self.units));
        }
        for (position, program) in programs.iter().enumerate() {
            self.units.add(respawn::unit(position, program));
            let task = Arc::clone(&self.units).keep_respawned(position, program.clone());
            self.tasks.push(tokio::spawn(task));
        }
    }

    /// Whether systemd is needed at all, for one of the groups.
    pub fn needs_systemd(&self) -> bool {
        self.units.any()
    }

    /// Stops them, and what an earlier life has left of them.
    ///
    /// # Errors
    /// Words for people; one may still run.
    pub async fn stop_respawned(&mut self) -> Result<(), String> {
        if self.connection.is_none() {
            self.connection = Some(connect(&self.units));
        }
        self.units.stop_respawned().await
    }

    /// These failed here before, for reasons that an earlier daemon knew: what they may wait for is looked at.
    pub fn expect_recovery<'a>(&self, groups: impl Iterator<Item = &'a GroupName>) {
        let hands = groups.filter_map(|group| self.groups.get(group));
        for hand in hands {
            for resource in &hand.group.resources {
                if let Target::Addresses(set) = target(resource) {
                    let (group, id) = (&hand.group.name, &resource.id);
                    self.addresses.expect_recovery(set, group, id);
                }
            }
        }
    }

    /// Orders a start. Ends an order under way, whose outcome is then not sent.
    pub fn start_group(&self, group: &GroupName, order: RequestId) {
        self.order(group, order, Goal::Start);
    }

    /// Orders a restart of one resource of a running group and of all to the right of it, which counts as a start.
    pub fn restart_group(&self, group: &GroupName, order: RequestId, resource: &str) {
        let resources = self.groups.get(group).map(|hand| &hand.group.resources);
        let position = resources.and_then(|all| all.iter().position(|it| it.id == resource));
        self.order(group, order, Goal::Restart(position.unwrap_or(0)));
    }

    /// Orders a stop, from any state. Ends an order under way, whose outcome is then not sent.
    /// Where the lease is lost, the addresses are gone when this returns, and the rest is killed towards the end of the
    /// group's stop margin, counted from the end of the lease; where there never was a lease, nobody else waits for it.
    pub fn stop_group(&self, group: &GroupName, order: RequestId, urgency: Urgency) {
        let mut emergency = None;
        if urgency == Urgency::LeaseLost {
            self.release_addresses(group);
            let margin = self.groups.get(group).map(|hand| hand.group.stop_margin);
            let ended = self.guard.ended();
            emergency = ended
                .zip(margin)
                .map(|(ended, margin)| Emergency::new(ended, margin));
        }
        self.send_order(group, order, Goal::Stop(urgency), emergency);
    }

    /// Tells the neighbours at once where the addresses of a group are, and repeats it.
    pub fn announce(&self, group: &GroupName) {
        self.addresses.announce(group);
    }

    fn order(&self, group: &GroupName, id: RequestId, goal: Goal) {
        self.send_order(group, id, goal, None);
    }

    fn send_order(
        &self,
        group: &GroupName,
        id: RequestId,
        goal: Goal,
        emergency: Option<Emergency>,
    ) {
        match self.groups.get(group) {
            Some(hand) => {
                let order = Order {
                    id,
                    goal,
                    emergency,
                };
                hand.orders.send_replace(Some(order));
            }
            None => tracing::warn!(%group, "order for a group that is not configured, ignoring"),
        }
    }

    /// What fails here is tried again, and reported, by the stop that follows.
    fn release_addresses(&self, group: &GroupName) {
        let Some(hand) = self.groups.get(group) else {
            return;
        };
        for resource in &hand.group.resources {
            if let Target::Addresses(set) = target(resource)
                && let Err(reason) = self.addresses.release(set, group, &resource.id)
            {
                tracing::debug!(%group, reason, "address not released yet, trying again");
            }
        }
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        let all = self.tasks.iter().chain(&self.connection);
        all.for_each(JoinHandle::abort);
    }
}

fn connect(units: &Arc<Units>) -> JoinHandle<()> {
    tokio::spawn(Arc::clone(units).keep_connected())
}

/// Units that run only with their group.
fn cold_units(groups: &[Group]) -> BTreeSet<String> {
    let all = groups.iter().flat_map(|group| {
        let cold = (group.resources.iter()).filter(|it| warm::unit(group, it).is_none());
        cold.filter_map(|resource| match target(resource) {
            Target::Unit(name) => Some(name.to_owned()),
            Target::Mount(mount) => Some(mount.unit),
            Target::Agent(_) | Target::Addresses(_) => None,
        })
    });
    all.collect()
}

/// The units that are followed: those of the configuration, and those that programs run in.
fn unit_names(groups: &[Group]) -> Vec<String> {
    let resources = groups.iter().flat_map(|group| {
        group
            .resources
            .iter()
            .map(move |resource| (group, resource))
    });
    resources
        .filter_map(|(group, resource)| match target(resource) {
            Target::Unit(name) => Some(name.to_owned()),
            Target::Mount(mount) => Some(mount.unit),
            Target::Agent(_) => Some(agent::holder(&group.name, resource)),
            Target::Addresses(_) => None,
        })
        .chain(check::unit_names(groups))
        .collect()
}
