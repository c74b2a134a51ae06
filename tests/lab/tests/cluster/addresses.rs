//! Addresses on real machines: many at once, removed behind our back, owned by somebody else, on interfaces that
//! go down, with routes. Figures are printed; assertions are loose, since the host may be busy.

use crate::with_lab;
use anyhow::{Context, Result, ensure};
use ha_node_lab::cluster::{GROUP, PATIENCE};
use ha_node_lab::probe::address;
use ha_node_lab::probe::owner::Sampler;
use ha_node_lab::scenario::removals;
use ha_node_lab::{Cluster, Machine, Options, clock, install, run};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The first and the last of the group with many addresses, and how many there are.
const MANY: (Ipv4Addr, Ipv4Addr, usize) = (
    Ipv4Addr::new(10, 77, 4, 1),
    Ipv4Addr::new(10, 77, 5, 244),
    500,
);

/// A cluster of two whose web group is an address alone, and another group beside it.
fn with_group(name: &str, resource: &str) -> Options {
    let mut options = Options::two().address_only();
    options.extra = format!("[[group]]\nname = \"{name}\"\nresources = [{{ {resource} }}]\n");
    options
}

fn wait_group(cluster: &Cluster, asked: &Machine, group: &str, state: &str) -> Result<()> {
    clock::wait_for(&format!("{group} to be {state}"), PATIENCE, || {
        Ok((asked.status()?.group_state(group) == state).then_some(()))
    })
    .map_err(|error| cluster.with_journals(error))
}

/// What ha-node told in the journal with these words in it.
fn told(machine: &Machine, words: &[&str]) -> Result<bool> {
    let entries = machine.journal("ha-node", None)?;
    let mut entries = entries.iter().map(|entry| entry.message.as_str());
    Ok(entries.any(|message| words.iter().all(|word| message.contains(word))))
}

fn wait_told(cluster: &Cluster, machine: &Machine, words: &[&str]) -> Result<()> {
    clock::wait_for(&format!("{words:?} in the journal"), PATIENCE, || {
        Ok(told(machine, words)?.then_some(()))
    })
    .map_err(|error| cluster.with_journals(error))
}

/// The client as a machine that does not belong to the cluster: gives it an address, or takes it away.
fn foreign(cluster: &Cluster, change: &str, address: &str) -> Result<()> {
    let client = cluster.lab.client();
    let words = ["ip", "-n", &client, "addr", change, address, "dev", "eth0"];
    run::run(&words).map(drop)
}

fn foreign_mac(cluster: &Cluster) -> Result<String> {
    let client = cluster.lab.client();
    let text = run::run(&["ip", "-n", &client, "link", "show", "eth0"])?;
    let (_, rest) = text
        .split_once("link/ether ")
        .context("no hardware address")?;
    Ok(rest.split(' ').next().unwrap_or_default().to_owned())
}

#[test]
fn an_address_that_somebody_removes_is_put_back_and_the_journal_says_so() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two().address_only())?;
        let seen = removals::by_hand(&cluster, 5)?;
        seen.ensure_single_owner()?;
        let owner = &seen.value;
        let away: Vec<f64> = removals::absences(&seen)
            .into_iter()
            .map(clock::ms)
            .collect();
        eprintln!("removed by hand, back after {away:.2?} ms");
        ensure!(away.len() == 5, "each time: {away:?}");
        // One that the kernel held up for others does not count, three do.
        let late = away.iter().filter(|ms| **ms > 50.0).count();
        ensure!(late < 3, "soon: {away:?}");
        let flushed = cluster.watch(|| {
            // It gives up after ten rounds, since the address comes back in each.
            owner.shell("ip addr flush dev eth0 to 10.77.0.200/32 || true")
        })?;
        flushed.ensure_single_owner()?;
        ensure!(
            flushed.owners.last_owner() == Some(owner.name()),
            "it stayed"
        );
        wait_told(&cluster, owner, &["10.77.0.200", "removed", "put back"])
    });
}

#[test]
fn a_foreign_owner_is_overruled_and_the_journal_names_it() {
    with_lab(|| {
        let taken = "vip = \"10.77.0.201/24\", interface = \"eth0\"";
        let cluster = Cluster::prepare(with_group("taken", taken))?;
        foreign(&cluster, "add", "10.77.0.201/24")?;
        cluster.start_all()?;
        cluster.wait_formed()?;
        let alpha = cluster.node("alpha")?;
        wait_group(&cluster, &alpha, "taken", "started")?;
        let owner = cluster.node(&alpha.status()?.owner("taken"))?;
        let mac = foreign_mac(&cluster)?;
        wait_told(&cluster, &owner, &["conflict", "10.77.0.201", &mac])
    });
}

#[test]
fn a_foreign_owner_is_respected_where_that_is_asked_for() {
    with_lab(|| {
        let polite = "vip = \"10.77.0.202/24\", interface = \"eth0\", on_conflict = \"refuse\"";
        let cluster = Cluster::prepare(with_group("polite", polite))?;
        foreign(&cluster, "add", "10.77.0.202/24")?;
        cluster.start_all()?;
        cluster.wait_formed()?;
        let mac = foreign_mac(&cluster)?;
        for node in &cluster.nodes {
            wait_told(&cluster, node, &["10.77.0.202 is in use", &mac])?;
            let addresses = node.shell("ip addr show dev eth0")?;
            ensure!(!addresses.contains("10.77.0.202"), "{addresses}");
        }
        foreign(&cluster, "del", "10.77.0.202/24")?;
        let alpha = cluster.node("alpha")?;
        alpha.hactl(&["clear", "polite"])?;
        wait_group(&cluster, &alpha, "polite", "started")
    });
}

#[test]
fn an_address_that_somebody_takes_while_it_is_held_is_defended() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two().address_only())?;
        let owner = cluster.owner()?;
        // A machine of its own behind the switch: the client must go on asking.
        let switches = cluster.lab.network().namespace();
        run::run(&[
            "ip",
            "-n",
            switches,
            "addr",
            "add",
            "10.77.0.200/24",
            "dev",
            "eth0",
        ])?;
        let script = "import socket, struct; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); \
            s.bind(('eth0', 0)); m = s.getsockname()[4]; a = socket.inet_aton('10.77.0.200'); \
            s.send(b'\\xff' * 6 + m + b'\\x08\\x06' + struct.pack('!HHBBH', 1, 0x800, 6, 4, 1) + m + a + bytes(6) + a); \
            print(m.hex(':'))";
        let mac = run::run(&["ip", "netns", "exec", switches, "python3", "-c", script])?;
        wait_told(&cluster, &owner, &["conflict", "10.77.0.200", mac.trim()])?;
        run::run(&[
            "ip",
            "-n",
            switches,
            "addr",
            "del",
            "10.77.0.200/24",
            "dev",
            "eth0",
        ])?;
        let seen = cluster.watch(|| {
            clock::sleep(Duration::from_millis(500));
            Ok(())
        })?;
        ensure!(seen.owners.last_owner() == Some(owner.name()), "it stayed");
        ensure!(
            seen.address.longest_outage() < Duration::from_millis(300),
            "and answers"
        );
        Ok(())
    });
}

#[test]
fn an_interface_that_is_taken_down_moves_the_group() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two().address_only())?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        let seen = cluster.watch(|| {
            owner.shell("ip link set eth0 down")?;
            cluster.wait_owner(&other, &other)
        })?;
        seen.ensure_single_owner()?;
        ensure!(
            seen.owners.last_owner() == Some(other.name()),
            "{:?}",
            seen.owners
        );
        eprintln!(
            "interface down: outage {:.0} ms, of which {} ms are waited for it to come back",
            clock::ms(seen.address.longest_outage()),
            1_000
        );
        wait_told(&cluster, &owner, &["eth0", "down or without carrier for"])?;
        owner.shell("ip link set eth0 up")?;
        cluster.wait_formed()?;
        ensure!(cluster.owner()?.name() == other.name(), "it stays there");
        Ok(())
    });
}

#[test]
fn a_switch_that_dies_for_a_while_costs_nobody_a_visit() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two().address_only())?;
        let both =
            |action: &dyn Fn(&Machine) -> Result<()>| cluster.nodes.iter().try_for_each(action);
        both(&|node| node.cut("eth0"))?;
        clock::sleep(Duration::from_secs(6));
        // Its ports come and go while it boots.
        both(&|node| node.mend("eth0"))?;
        clock::sleep(Duration::from_secs(2));
        both(&|node| node.cut("eth0"))?;
        clock::sleep(Duration::from_secs(3));
        both(&|node| node.mend("eth0"))?;
        cluster.wait_formed()?;
        let seen = cluster.watch(|| {
            clock::sleep(Duration::from_secs(2));
            Ok(())
        })?;
        seen.ensure_single_owner()?;
        let last = seen.address.samples.len() / 2;
        ensure!(seen.address.lost() < last, "the address answers by itself");
        Ok(())
    });
}

#[test]
fn five_hundred_addresses_move_as_one_burst() {
    with_lab(|| {
        let (first, last, count) = MANY;
        let many = format!("vip = \"{first}-{last}/16\", interface = \"eth0\"");
        let cluster = Cluster::form(with_group("many", &many))?;
        let alpha = cluster.node("alpha")?;
        wait_group(&cluster, &alpha, "many", "started")?;
        foreign(&cluster, "add", "10.77.9.100/16")?;
        let owner = cluster.node(&alpha.status()?.owner("many"))?;
        let other = cluster.other(&owner)?;
        let held = |machine: &Machine| -> Result<usize> {
            let text = machine.shell("ip -o -4 addr show dev eth0")?;
            Ok(text.lines().filter(|line| line.contains("/16 ")).count())
        };
        ensure!(
            held(&owner)? == count && held(&other)? == 0,
            "all of them on one node"
        );
        for target in [&other, &owner] {
            let samplers = [first, last]
                .map(|address| Sampler::start(&cluster.nodes, IpAddr::V4(address), None));
            let probes =
                [first, last].map(|address| address::start(&cluster.lab.client(), address));
            clock::sleep(Duration::from_millis(300));
            let begin = clock::now();
            owner.hactl(&["move", "many", target.name()])?;
            let took = clock::now() - begin;
            clock::sleep(Duration::from_millis(500));
            let mut outages = Vec::new();
            for probe in probes {
                outages.push(clock::ms(probe?.finish()?.longest_outage()));
            }
            let mut gaps = Vec::new();
            for sampler in samplers {
                let (owners, _) = sampler?.finish()?;
                ensure!(owners.doubles().is_empty(), "two owners: {owners:?}");
                ensure!(owners.last_owner() == Some(target.name()), "{owners:?}");
                gaps.extend(
                    owners
                        .absences()
                        .iter()
                        .map(|span| clock::ms(span.length())),
                );
            }
            eprintln!(
                "{count} addresses moved in {:.0} ms; first and last: nowhere for {gaps:.1?} ms, \
                 not answering for {outages:.0?} ms",
                clock::ms(took)
            );
            ensure!(held(target)? == count, "all of them");
        }
        ensure!(held(&other)? == 0, "and none is left behind");
        for node in &cluster.nodes {
            ensure!(!told(node, &["conflict"])?, "a move is no conflict");
        }
        ensure!(
            owner.unit_state(install::UNIT)? == "active",
            "the daemon is well"
        );
        Ok(())
    });
}

#[test]
fn a_route_moves_with_its_address() {
    with_lab(|| {
        let routed = "vip = \"10.77.0.203/24\", interface = \"eth0\", label = \"eth0:r\", source = true, \
                      route = [\"198.51.100.0/24 via 10.77.0.100\", \"203.0.113.0/24\"]";
        let cluster = Cluster::form(with_group("routed", routed))?;
        let alpha = cluster.node("alpha")?;
        let beta = cluster.node("beta")?;
        wait_group(&cluster, &alpha, "routed", "started")?;
        let there = alpha.status()?.owner("routed");
        let (from, to) = if there == "alpha" {
            (&alpha, &beta)
        } else {
            (&beta, &alpha)
        };
        let routes = |machine: &Machine| machine.shell("ip route show proto 182");
        let expected = "198.51.100.0/24 via 10.77.0.100 dev eth0 src 10.77.0.203";
        ensure!(routes(from)?.contains(expected), "{}", routes(from)?);
        ensure!(routes(to)?.is_empty(), "{}", routes(to)?);
        ensure!(
            from.shell("ip addr show dev eth0")?.contains("eth0:r"),
            "its label"
        );
        to.hactl(&["move", "routed", to.name()])?;
        ensure!(routes(to)?.contains(expected), "{}", routes(to)?);
        ensure!(routes(from)?.is_empty(), "{}", routes(from)?);
        // One that came back would go on with them.
        let drop_in = format!("/etc/systemd/system/{}.d/no-restart.conf", install::UNIT);
        to.write(&drop_in, "[Service]\nRestart=no\n", 0o644)?;
        to.systemctl(&["daemon-reload"])?;
        to.systemctl(&["kill", "-s", "KILL", "--kill-who=main", install::UNIT])?;
        let gone = || Ok(routes(to)?.is_empty().then_some(()));
        clock::wait_for("a dead daemon's routes to go", PATIENCE, gone)?;
        wait_group(&cluster, from, GROUP, "started")
    });
}
