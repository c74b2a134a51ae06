//! A random walk over real machines: faults and requests in any order, then healing, again and again.
//!
//! A seed gives a script ([`draw`]), which can be written down, cut short by hand and given again ([`script`]). After
//! each healing all nodes must agree on one owner within [`HEALING_LIMIT`], and each of them must be able to take the
//! group; and no two machines may own the group at once: under `majority` never, else only while they cannot hear each
//! other or one of them stands still, and for an instant after. Who owns what is looked at throughout.

mod conditions;
pub mod draw;
mod hands;
mod judge;
pub mod script;

use crate::cluster::{ADDRESS, Cluster, Options, SERVICE};
use crate::machine::Machine;
use crate::probe::owner::{Ownership, Sampler};
use crate::{Span, clock};
use anyhow::{Context, Result, bail};
use conditions::Conditions;
use draw::Rules;
use script::Item;
use std::net::IpAddr;
use std::time::Duration;

/// How long after all is healed everything must be well.
pub const HEALING_LIMIT: Duration = Duration::from_secs(15);
/// The disk that holds the daemon's state: room for the copy of its program, and soon full.
const DISK_MIB: u32 = 32;
/// How long a test's two owners may last after what excused them has ended, beside two keepalives.
const SLACK: Duration = Duration::from_millis(500);
/// A service that is killed often must not be given up for that: neither by the cluster, nor by systemd.
const SERVICE_KEYS: &str = ", restart_limit = 100";
const DROP_IN: &str = "/etc/systemd/system/nginx.service.d/walk.conf";
const NO_START_LIMIT: &str = "[Unit]\nStartLimitIntervalSec=0\n";

/// How machines for a walk are made: of two nodes the classic policy, of more majority.
pub fn options(nodes: usize) -> Options {
    let options = if nodes == 2 {
        Options::two()
    } else {
        Options::three()
    };
    Options {
        nodes,
        service_keys: SERVICE_KEYS.to_owned(),
        state_disk_mib: Some(DISK_MIB),
        ..options
    }
}

/// What may be drawn for such machines.
pub fn rules(options: &Options) -> Rules {
    Rules {
        nodes: options.nodes,
        deadtime: options.deadtime,
        pauses: options.policy == "ignore",
    }
}

/// Makes machines and walks through a script; `told` gets a line for whatever is done.
///
/// # Errors
/// Something was not as it must be: with all that was done and the ends of the journals.
pub fn walk(options: Options, script: &[Item], told: &mut dyn FnMut(&str)) -> Result<()> {
    let cluster = Cluster::prepare(options)?;
    for node in &cluster.nodes {
        node.write(DROP_IN, NO_START_LIMIT, 0o644)?;
        node.systemctl(&["daemon-reload"])?;
    }
    cluster.start_all()?;
    cluster.wait_formed()?;
    let mut walk = Walk {
        sampler: Some(sampler(&cluster.nodes)?),
        cluster,
        now: Conditions::default(),
        excused_since: None,
        excused: Vec::new(),
        log: Vec::new(),
        told,
    };
    for item in script {
        if let Err(error) = walk.item(*item) {
            let log = walk.log.join("\n");
            let error = error.context(format!("what was done:\n{log}\nwhat is wrong"));
            return Err(walk.cluster.with_journals(error));
        }
    }
    Ok(())
}

struct Walk<'a> {
    cluster: Cluster,
    sampler: Option<Sampler>,
    now: Conditions,
    /// Since when two owners are excused, if they are now.
    excused_since: Option<Duration>,
    excused: Vec<Span>,
    log: Vec<String>,
    told: &'a mut dyn FnMut(&str),
}

impl Walk<'_> {
    fn item(&mut self, item: Item) -> Result<()> {
        let from = clock::now();
        let said = match item {
            Item::Act(node, act) => {
                let mut after = self.now.clone();
                after.take_in(node, act);
                // Before it is done and until it is undone, since nobody knows when it takes effect in between.
                self.note_excuse(from, &after);
                let said = hands::act(&self.cluster, node, act)?;
                self.now = after;
                self.note_end_of_excuse();
                said
            }
            Item::Blow(blow) => hands::blow(&self.cluster, &self.now, blow)?,
            Item::Wait(time) => {
                clock::sleep(time);
                None
            }
            Item::Heal => Some(self.heal()?),
        };
        let said = said.map_or(String::new(), |said| format!("   # {said}"));
        self.tell(&format!("{:.3} {item}{said}", from.as_secs_f64()));
        Ok(())
    }

    fn tell(&mut self, line: &str) {
        (self.told)(line);
        self.log.push(line.to_owned());
    }

    /// Heals, waits until all is well, and judges what was seen since the last healing.
    fn heal(&mut self) -> Result<String> {
        let from = clock::now();
        let healed = hands::heal(&self.cluster, &mut self.now);
        self.note_end_of_excuse();
        let begin = clock::now();
        let well = healed.and_then(|()| judge::wait_well(&self.cluster, HEALING_LIMIT));
        let took = clock::now() - begin;
        let well = well.and_then(|owner| judge::visit_all(&self.cluster, &owner, HEALING_LIMIT));
        // The next one looks before this one ends: no instant is missed.
        let next = sampler(&self.cluster.nodes)?;
        let before = self.sampler.replace(next).context("nobody looked")?;
        let (address, service) = before.finish()?;
        let excused = self.excused.clone();
        let doubles = self.check(&address, service.as_ref(), &excused);
        match (doubles, well) {
            (Err(double), Err(ill)) => bail!("{double:#}; and {ill:#}"),
            (Err(error), Ok(_)) | (Ok(()), Err(error)) => {
                let spans = format!("{address:?}\n{service:?}\nexcused {excused:?}");
                Err(error.context(format!(
                    "healing began at {:.3}\n{spans}",
                    from.as_secs_f64()
                )))
            }
            (Ok(()), Ok(owner)) => {
                self.excused.clear();
                Ok(format!(
                    "well after {} ms; {owner} has it",
                    took.as_millis()
                ))
            }
        }
    }

    fn check(
        &self,
        address: &Ownership,
        service: Option<&Ownership>,
        excused: &[Span],
    ) -> Result<()> {
        judge::check_doubles("the address", address, excused)?;
        service.map_or(Ok(()), |seen| judge::check_doubles(SERVICE, seen, excused))
    }

    fn note_excuse(&mut self, at: Duration, after: &Conditions) {
        if self.is_excuse(after) && self.excused_since.is_none() {
            self.excused_since = Some(at);
        }
    }

    fn note_end_of_excuse(&mut self) {
        if self.is_excuse(&self.now) {
            return;
        }
        if let Some(since) = self.excused_since.take() {
            let bound = self.cluster.options.keepalive * 2 + SLACK;
            self.excused.push(Span::new(since, clock::now() + bound));
        }
    }

    fn is_excuse(&self, conditions: &Conditions) -> bool {
        let nodes = self.cluster.nodes.len();
        self.cluster.options.policy == "ignore" && conditions.excuse_two_owners(nodes)
    }
}

fn sampler(nodes: &[Machine]) -> Result<Sampler> {
    Sampler::start(nodes, IpAddr::V4(ADDRESS), Some(SERVICE))
}
