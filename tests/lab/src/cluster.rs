//! The standard cluster of the tests: machines on two networks, one group with an address and a web server.

use crate::install::Stage;
use crate::machine::Machine;
use crate::probe::owner::{Ownership, Sampler};
use crate::probe::{Report, address, http};
use crate::{Lab, Span, clock, install};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Names of the machines, in the order of the configuration.
pub const NAMES: [&str; 5] = ["alpha", "beta", "gamma", "delta", "omega"];
/// The address that the cluster keeps.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 200);
/// The group that holds it.
pub const GROUP: &str = "web";
/// The service in that group.
pub const SERVICE: &str = "nginx.service";
/// Where heartbeats go.
pub const PORT: u16 = 694;
/// How long the cluster may take to get where a test wants it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How a cluster is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many machines, 1 to 5.
    pub nodes: usize,
    /// `timing.keepalive`.
    pub keepalive: Duration,
    /// `timing.deadtime`; warntime is half of it.
    pub deadtime: Duration,
    /// `timing.initdead`.
    pub initdead: Duration,
    /// `quorum.policy`.
    pub policy: &'static str,
    /// Whether the web server is in the group, beside the address.
    pub service: bool,
    /// More keys of the web server's resource, each after a comma.
    pub service_keys: String,
    /// How often the client asks the web server.
    pub web_interval: Duration,
    /// More keys of the group, a line each.
    pub group_keys: String,
    /// `cluster.auto_failback`.
    pub failback: bool,
    /// The authentication key.
    pub key: String,
    /// Other links than the unicast ones on both networks.
    pub links: Option<String>,
    /// A small disk of its own for the daemon's state, of so many MiB.
    pub state_disk_mib: Option<u32>,
    /// More TOML, appended.
    pub extra: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 2,
            keepalive: Duration::from_millis(250),
            deadtime: Duration::from_secs(2),
            initdead: Duration::from_secs(3),
            policy: "auto",
            service: true,
            service_keys: String::new(),
            web_interval: Duration::from_millis(5),
            group_keys: String::new(),
            failback: false,
            key: "a key that only the lab knows".to_owned(),
            links: None,
            state_disk_mib: None,
            extra: String::new(),
        }
    }
}

impl Options {
    /// Two machines, the classic policy.
    pub fn two() -> Self {
        Self {
            policy: "ignore",
            ..Self::default()
        }
    }

    /// Three machines, majority.
    pub fn three() -> Self {
        Self {
            nodes: 3,
            policy: "majority",
            ..Self::default()
        }
    }

    /// With another timing, in milliseconds.
    #[must_use]
    pub fn timing(mut self, keepalive: u64, deadtime: u64) -> Self {
        self.keepalive = Duration::from_millis(keepalive);
        self.deadtime = Duration::from_millis(deadtime);
        self
    }

    /// With the address alone in the group.
    #[must_use]
    pub fn address_only(mut self) -> Self {
        self.service = false;
        self
    }

    /// The configuration file, the same on every machine.
    pub fn config(&self) -> String {
        let names = NAMES.iter().take(self.nodes);
        let nodes: String = names
            .map(|name| format!("[[node]]\nname = \"{name}\"\n"))
            .collect();
        let unicast = || (0..2).map(|network| self.link(network)).collect();
        let links: String = self.links.clone().unwrap_or_else(unicast);
        let service = if self.service {
            format!(", {{ unit = \"{SERVICE}\"{} }}", self.service_keys)
        } else {
            String::new()
        };
        format!(
            "[cluster]\nname = \"lab\"\nauto_failback = {}\n\n\
             [timing]\nkeepalive = \"{}ms\"\nwarntime = \"{}ms\"\ndeadtime = \"{}ms\"\ninitdead = \"{}ms\"\n\n\
             [auth]\nkeyfile = \"{}\"\n\n{nodes}\n{links}\n\
             [[group]]\nname = \"{GROUP}\"\nresources = [{{ vip = \"{ADDRESS}/24\", interface = \"eth0\" }}{service}]\n{}\n\
             [quorum]\npolicy = \"{}\"\n{}",
            self.failback,
            self.keepalive.as_millis(),
            self.deadtime.as_millis() / 2,
            self.deadtime.as_millis(),
            self.initdead.as_millis(),
            install::KEYS,
            self.group_keys,
            self.policy,
            self.extra,
        )
    }

    fn link(&self, network: usize) -> String {
        let peers: Vec<String> = NAMES
            .iter()
            .take(self.nodes)
            .enumerate()
            .map(|(index, name)| format!("{name} = \"{}\"", node_address(network, index)))
            .collect();
        format!(
            "[[link]]\nucast = {{ {} }}\ninterface = \"eth{network}\"\nport = {PORT}\n",
            peers.join(", ")
        )
    }

    /// The key file.
    pub fn keys(&self) -> String {
        format!("auth 1\n1 sha256 {}\n", self.key)
    }
}

/// A machine's own address on network 0 or 1.
pub fn node_address(network: usize, index: usize) -> String {
    format!("10.77.{network}.{}", 11 + index)
}

/// A running cluster and the lab around it.
#[derive(Debug)]
pub struct Cluster {
    /// The machines, in the order of the configuration.
    pub nodes: Vec<Machine>,
    /// How it was made.
    pub options: Options,
    /// Machines, switches and client; gone before the files that they use.
    pub lab: Lab,
    _stage: Arc<Stage>,
}

/// What was seen from outside while something was done to a cluster.
#[derive(Debug)]
pub struct Seen<T> {
    /// What the action gave.
    pub value: T,
    /// When it began and when watching ended.
    pub span: Span,
    /// The client's view of the address.
    pub address: Report,
    /// The client's view of the web server, where there is one.
    pub http: Option<Report>,
    /// Who had the address.
    pub owners: Ownership,
    /// Where the service ran, where there is one.
    pub service: Option<Ownership>,
}

impl<T> Seen<T> {
    /// Fails if two machines had the address or ran the service at once.
    ///
    /// # Errors
    /// Says which, and for how long.
    pub fn ensure_single_owner(&self) -> Result<()> {
        for (what, seen) in [
            ("the address", Some(&self.owners)),
            (SERVICE, self.service.as_ref()),
        ] {
            if let Some((span, names)) = seen.and_then(|seen| seen.doubles().into_iter().next()) {
                let length = clock::ms(span.length());
                bail!(
                    "{what} was on {} and {} at once for {length} ms",
                    names[0],
                    names[1]
                );
            }
        }
        Ok(())
    }
}

impl Cluster {
    /// Boots the machines with ha-node installed and configured, but not started.
    ///
    /// # Errors
    /// A machine does not boot, or ha-node is not built.
    pub fn prepare(options: Options) -> Result<Self> {
        ensure!((1..=NAMES.len()).contains(&options.nodes), "1 to 5 nodes");
        let stage = install::stage()?;
        let lab = Lab::new()?;
        lab.connect_client("eth0", "10.77.0.100/24")?;
        let builders = NAMES.iter().take(options.nodes).enumerate();
        let builders = builders.map(|(index, name)| {
            let machine = lab.machine(name);
            let machine = match options.state_disk_mib {
                Some(mib) => machine.disk("/var/lib/ha-node", mib),
                None => machine,
            };
            machine
                .layer(stage.path())
                .link("eth0", &format!("{}/24", node_address(0, index)))
                .link("eth1", &format!("{}/24", node_address(1, index)))
        });
        let nodes = lab.boot(builders.collect())?;
        for node in &nodes {
            node.configure(&options.config(), &options.keys())?;
            node.after_install()?;
        }
        Ok(Self {
            nodes,
            options,
            lab,
            _stage: stage,
        })
    }

    /// Starts ha-node on all machines, and waits until all see each other and the group runs.
    ///
    /// # Errors
    /// It does not form; the error has the daemons' journals.
    pub fn form(options: Options) -> Result<Self> {
        let cluster = Self::prepare(options)?;
        cluster.start_all()?;
        cluster.wait_formed()?;
        Ok(cluster)
    }

    /// Starts ha-node on all machines at once.
    ///
    /// # Errors
    /// One does not start.
    pub fn start_all(&self) -> Result<()> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .nodes
                .iter()
                .map(|node| scope.spawn(|| node.start_daemon()))
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("panic")))
        })
    }

    /// Waits until every node sees every other as active, and agrees on the group's one owner.
    ///
    /// # Errors
    /// As [`Self::form`].
    pub fn wait_formed(&self) -> Result<()> {
        let all: Vec<&Machine> = self.nodes.iter().collect();
        self.wait_agreed(&all).map(drop)
    }

    /// The same among some of the nodes; gives the owner.
    ///
    /// # Errors
    /// As [`Self::form`].
    pub fn wait_agreed(&self, nodes: &[&Machine]) -> Result<Machine> {
        let result = clock::wait_for("the cluster to form", PATIENCE, || {
            let mut owners = Vec::new();
            for node in nodes {
                let status = node.status()?;
                let active = nodes
                    .iter()
                    .all(|peer| status.node_state(peer.name()) == "active");
                if !active || status.group_state(GROUP) != "started" {
                    return Ok(None);
                }
                owners.push(status.owner(GROUP));
            }
            owners.dedup();
            match owners.as_slice() {
                // Just after a death the living still agree on the dead one.
                [owner] => Ok(nodes
                    .iter()
                    .find(|n| n.name() == owner)
                    .map(|n| (*n).clone())),
                _ => Ok(None),
            }
        });
        result.map_err(|error| self.with_journals(error))
    }

    /// Who owns the group, as one of the nodes that is on says.
    ///
    /// # Errors
    /// No node is on, or none owns it.
    pub fn owner(&self) -> Result<Machine> {
        let asked = self
            .nodes
            .iter()
            .find(|node| node.is_on())
            .context("all is off")?;
        let name = asked.status()?.owner(GROUP);
        self.node(&name)
    }

    /// A node by name.
    ///
    /// # Errors
    /// No such node.
    pub fn node(&self, name: &str) -> Result<Machine> {
        let found = self.nodes.iter().find(|node| node.name() == name);
        found.cloned().with_context(|| format!("no node {name:?}"))
    }

    /// Some node that is on and is not this one.
    ///
    /// # Errors
    /// There is none.
    pub fn other(&self, than: &Machine) -> Result<Machine> {
        let mut others = self
            .nodes
            .iter()
            .filter(|n| n.is_on() && n.name() != than.name());
        others.next().cloned().context("no other node is on")
    }

    /// Waits until a node says that the group runs on another one.
    ///
    /// # Errors
    /// It does not, for [`PATIENCE`]; with the journals.
    pub fn wait_owner(&self, asked: &Machine, owner: &Machine) -> Result<()> {
        let what = format!("{GROUP} to run on {}", owner.name());
        clock::wait_for(&what, PATIENCE, || {
            let status = asked.status()?;
            let there = status.owner(GROUP) == owner.name();
            Ok((there && status.group_state(GROUP) == "started").then_some(()))
        })
        .map_err(|error| self.with_journals(error))
    }

    /// Does something while the client's probes and the ownership sampler look.
    ///
    /// # Errors
    /// The action's, with the journals; or a probe could not look.
    pub fn watch<T>(&self, action: impl FnOnce() -> Result<T>) -> Result<Seen<T>> {
        let client = self.lab.client();
        let service = self.options.service.then_some(SERVICE);
        let sampler = Sampler::start(&self.nodes, IpAddr::V4(ADDRESS), service)?;
        let probe = address::start(&client, ADDRESS)?;
        let web = match service {
            Some(_) => {
                let page = SocketAddr::from((ADDRESS, 80));
                Some(http::start(&client, page, self.options.web_interval)?)
            }
            None => None,
        };
        clock::sleep(Duration::from_millis(200));
        let from = clock::now();
        let value = action();
        clock::sleep(Duration::from_millis(200));
        let span = Span::new(from, clock::now());
        let http = web.map(crate::probe::Watcher::finish).transpose()?;
        let address = probe.finish()?;
        let (owners, service) = sampler.finish()?;
        Ok(Seen {
            value: value.map_err(|error| self.with_journals(error))?,
            span,
            address,
            http,
            owners,
            service,
        })
    }

    /// An error with the end of each daemon's journal.
    pub fn with_journals(&self, error: anyhow::Error) -> anyhow::Error {
        let mut text = format!("{error:#}");
        for node in self.nodes.iter().filter(|node| node.is_on()) {
            text += &format!(
                "\n--- {}\n{}",
                node.name(),
                node.journal_text(install::UNIT)
            );
            if let Ok(output) = node.attempt(&["hactl", "status"]) {
                text += &format!("\n{}{}", output.stdout, output.stderr);
            }
        }
        anyhow::anyhow!(text)
    }
}

/// What `hactl status --json` prints.
#[derive(Debug, Clone)]
pub struct Status(pub Value);

impl Status {
    /// State of a node, empty if it is not listed.
    pub fn node_state(&self, name: &str) -> String {
        self.entry("nodes", name, "state")
    }

    /// State of a group, empty if it is not listed.
    pub fn group_state(&self, name: &str) -> String {
        self.entry("groups", name, "state")
    }

    /// Owner of a group, empty if it has none.
    pub fn owner(&self, name: &str) -> String {
        self.entry("groups", name, "owner")
    }

    /// State of a resource on the node that was asked, empty if it is not listed.
    pub fn resource_state(&self, group: &str, id: &str) -> String {
        let groups = self.0.get("groups").and_then(Value::as_array);
        let named = |key: &'static str, name: &str| {
            let name = name.to_owned();
            move |entry: &&Value| entry.get(key).and_then(Value::as_str) == Some(name.as_str())
        };
        let group = groups.into_iter().flatten().find(named("name", group));
        let resources = group.and_then(|it| it.get("resources")?.as_array());
        let resource = resources.into_iter().flatten().find(named("id", id));
        let state = resource.and_then(|it| it.get("state")?.as_str());
        state.unwrap_or_default().to_owned()
    }

    /// Whether the node counts itself to a majority.
    pub fn quorate(&self) -> bool {
        self.0.get("quorate").and_then(Value::as_bool) == Some(true)
    }

    fn entry(&self, list: &str, name: &str, key: &str) -> String {
        let entries = self.0.get(list).and_then(Value::as_array);
        entries
            .into_iter()
            .flatten()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some(name))
            .and_then(|entry| entry.get(key)?.as_str())
            .unwrap_or_default()
            .to_owned()
    }
}

impl Machine {
    /// Starts ha-node.
    ///
    /// # Errors
    /// It does not start; with its journal.
    pub fn start_daemon(&self) -> Result<()> {
        self.systemctl(&["start", install::UNIT])
            .map(drop)
            .map_err(|error| anyhow::anyhow!("{error:#}\n{}", self.journal_text(install::UNIT)))
    }

    /// What ha-node says of the cluster.
    ///
    /// # Errors
    /// It does not run, or the machine is off.
    pub fn status(&self) -> Result<Status> {
        let text = self.exec(&["hactl", "status", "--json"])?;
        Ok(Status(
            serde_json::from_str(&text).context("hactl printed no JSON")?,
        ))
    }

    /// Asks ha-node, as a person would.
    ///
    /// # Errors
    /// It refuses, and says why.
    pub fn hactl(&self, words: &[&str]) -> Result<String> {
        let mut all = vec!["hactl"];
        all.extend(words);
        self.exec(&all)
    }
}
