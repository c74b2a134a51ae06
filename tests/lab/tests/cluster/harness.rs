//! The lab itself, without ha-node: what it says of a known fault must be true.

use crate::with_lab;
use anyhow::{Result, ensure};
use ha_node_lab::network::Direction;
use ha_node_lab::probe::owner::Sampler;
use ha_node_lab::probe::{address, http};
use ha_node_lab::{Lab, Machine, capture, clock, meter};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 200);
const PREFIXED: &str = "10.77.0.200/24";

fn two_machines() -> Result<(Lab, Machine, Machine)> {
    let lab = Lab::new()?;
    lab.connect_client("eth0", "10.77.0.100/24")?;
    let machines = lab.boot(vec![
        lab.machine("alpha")
            .link("eth0", "10.77.0.11/24")
            .link("eth1", "10.77.1.11/24"),
        lab.machine("beta")
            .link("eth0", "10.77.0.12/24")
            .link("eth1", "10.77.1.12/24"),
    ])?;
    let [alpha, beta] = machines
        .try_into()
        .map_err(|_| anyhow::anyhow!("two machines"))?;
    Ok((lab, alpha, beta))
}

fn pause(ms: u64) {
    clock::sleep(Duration::from_millis(ms));
}

fn near(what: &str, is: f64, wanted: f64, tolerance: f64) -> Result<()> {
    eprintln!("{what}: {is} (wanted {wanted} +- {tolerance})");
    ensure!(
        (is - wanted).abs() <= tolerance,
        "{what} is {is}, not {wanted} +- {tolerance}"
    );
    Ok(())
}

#[test]
fn a_move_by_hand_is_seen_as_it_was() {
    with_lab(|| {
        let (lab, alpha, beta) = two_machines()?;
        alpha.shell(&format!(
            "ip addr add {PREFIXED} dev eth0; systemctl start nginx"
        ))?;
        let sampler = Sampler::start(
            &[alpha.clone(), beta.clone()],
            IpAddr::V4(ADDRESS),
            Some("nginx.service"),
        )?;
        pause(200);
        let probe = address::start(&lab.client(), ADDRESS)?;
        let page = SocketAddr::from((ADDRESS, 80));
        let web = http::start(&lab.client(), page, Duration::from_millis(5))?;
        pause(500);
        alpha.shell(&format!(
            "ip addr del {PREFIXED} dev eth0; systemctl stop nginx"
        ))?;
        let gone = clock::now();
        beta.systemctl(&["start", "nginx"])?;
        clock::sleep_until(gone + Duration::from_millis(300));
        beta.shell(&format!(
            "ip addr add {PREFIXED} dev eth0; ip link set eth0 arp off; ip link set eth0 arp on"
        ))?;
        let back = clock::now();
        // Without an announcement the client keeps asking the old machine: tell it, as a cluster would.
        ha_node_lab::run::run(&["ip", "-n", &lab.client(), "neigh", "flush", "dev", "eth0"])?;
        pause(300);
        let (owners, service) = sampler.finish()?;
        let seen = probe.finish()?;
        let pages = web.finish()?;
        eprintln!(
            "address: {} questions, {} lost, outages {:?}, coarsest {:?}",
            seen.samples.len(),
            seen.lost(),
            seen.outages(),
            seen.coarsest()
        );
        eprintln!(
            "http: {} questions, {} lost, outages {:?}, by {:?}",
            pages.samples.len(),
            pages.lost(),
            pages.outages(),
            pages.answered_by
        );
        eprintln!(
            "by hand {:?} to {:?}; owners {owners:?}; service {service:?}",
            gone, back
        );
        ensure!(
            owners.doubles().is_empty(),
            "a double owner that there was not"
        );
        let absence = owners.absences();
        ensure!(absence.len() == 1, "one absence, not {absence:?}");
        let down = clock::ms(absence[0].length());
        near("outage in ms", clock::ms(seen.longest_outage()), down, 80.0)?;
        let unserved = clock::ms(pages.longest_outage());
        near("http outage in ms", unserved, down, 80.0)?;
        let names: Vec<&str> = pages
            .answered_by
            .iter()
            .map(|(_, name)| name.as_str())
            .collect();
        ensure!(names == ["alpha", "beta"], "answered by {names:?}");
        Ok(())
    });
}

#[test]
fn an_outage_of_100_ms_is_measured_as_100_ms() {
    with_lab(|| {
        let (lab, alpha, _beta) = two_machines()?;
        alpha.shell(&format!("ip addr add {PREFIXED} dev eth0"))?;
        let probe = address::start(&lab.client(), ADDRESS)?;
        pause(300);
        let before = clock::now();
        alpha.block("eth0", Some(Direction::Outgoing))?;
        let from = clock::now();
        clock::sleep_until(from + Duration::from_millis(100));
        let least = clock::now() - from;
        alpha.block("eth0", None)?;
        let most = clock::now() - before;
        pause(300);
        let seen = probe.finish()?;
        eprintln!(
            "{} lost of {}, coarsest {:?}",
            seen.lost(),
            seen.samples.len(),
            seen.coarsest()
        );
        // The rule takes effect somewhere within the run of the tool that sets it.
        let middle = (clock::ms(least) + clock::ms(most)) / 2.0;
        let tolerance = (clock::ms(most) - clock::ms(least)) / 2.0 + 5.0;
        near(
            "outage in ms",
            clock::ms(seen.longest_outage()),
            middle,
            tolerance,
        )?;
        ensure!(
            seen.outages().len() == 1,
            "one outage: {:?}",
            seen.outages()
        );
        Ok(())
    });
}

#[test]
fn a_double_owner_is_seen() {
    with_lab(|| {
        let (_lab, alpha, beta) = two_machines()?;
        let sampler = Sampler::start(
            &[alpha.clone(), beta.clone()],
            IpAddr::V4(ADDRESS),
            Some("nginx.service"),
        )?;
        pause(100);
        for machine in [&alpha, &beta] {
            machine.systemctl(&["start", "nginx"])?;
        }
        for machine in [&alpha, &beta] {
            machine.shell(&format!("ip addr add {PREFIXED} dev eth0"))?;
        }
        let from = clock::now();
        pause(50);
        alpha.shell(&format!("ip addr del {PREFIXED} dev eth0"))?;
        let lasted = clock::now() - from;
        beta.power_cut()?;
        pause(50);
        let (owners, service) = sampler.finish()?;
        eprintln!("{owners:?} {service:?}");
        let [(double, _)] = owners
            .doubles()
            .try_into()
            .map_err(|d| anyhow::anyhow!("{d:?}"))?;
        near(
            "double owner in ms",
            clock::ms(double.length()),
            clock::ms(lasted),
            20.0,
        )?;
        let services = service.map(|s| s.doubles().len());
        ensure!(services > Some(0), "a double service: {services:?}");
        ensure!(
            owners.last_owner().is_none(),
            "a machine without power owns nothing"
        );
        Ok(())
    });
}

#[test]
fn a_fifth_of_all_packets_is_lost() {
    with_lab(|| {
        let (lab, alpha, _beta) = two_machines()?;
        let target = "10.77.0.11".parse()?;
        // The client must know the machine's hardware address first: a lost ARP answer costs a second.
        let probe = address::start(&lab.client(), target)?;
        pause(100);
        ensure!(probe.finish()?.lost() < 100, "it answers");
        alpha.lose(20)?;
        let probe = address::start(&lab.client(), target)?;
        pause(5_000);
        let seen = probe.finish()?;
        let count = u32::try_from(seen.samples.len())?;
        let lost = 100.0 * f64::from(u32::try_from(seen.lost())?) / f64::from(count);
        near("loss in percent", lost, 20.0, 4.0)?;
        alpha.lose(0)?;
        let probe = address::start(&lab.client(), target)?;
        pause(500);
        near(
            "loss afterwards",
            f64::from(u32::try_from(probe.finish()?.lost())?),
            0.0,
            20.0,
        )
    });
}

#[test]
fn a_machine_can_be_cut_paused_and_booted_again() {
    with_lab(|| {
        let (_lab, alpha, beta) = two_machines()?;
        let reaches = || {
            Ok::<_, anyhow::Error>(
                beta.attempt(&["ping", "-c", "1", "-W", "1", "10.77.1.11"])?
                    .success(),
            )
        };
        ensure!(reaches()?, "the second network works");
        alpha.cut("eth1")?;
        ensure!(!reaches()?, "a cut cable carries nothing");
        ensure!(
            alpha.shell("ip link show eth1")?.contains("NO-CARRIER"),
            "the cut is seen"
        );
        alpha.mend("eth1")?;
        ensure!(reaches()?, "a mended one does");
        beta.block("eth1", Some(Direction::Incoming))?;
        ensure!(!reaches()?, "a one-way cut loses the answers");
        beta.block("eth1", None)?;

        alpha.be_busy(1)?;
        pause(300);
        let before = meter::usage(&alpha, "busy-0.service")?;
        alpha.pause()?;
        pause(300);
        let paused = meter::usage(&alpha, "busy-0.service")?;
        alpha.resume()?;
        ensure!(
            before.cpu > Duration::from_millis(20),
            "a busy loop uses the processor"
        );
        ensure!(
            paused.cpu - before.cpu < Duration::from_millis(50),
            "a paused machine does not"
        );
        alpha.rest()?;

        alpha.shell("echo kept > /var/lib/kept; echo lost > /run/lost; logger -t marker before")?;
        alpha.exec(&["journalctl", "--sync"])?;
        alpha.power_cut()?;
        ensure!(!reaches()?, "a machine without power answers to nobody");
        alpha.power_on()?;
        ensure!(reaches()?, "it is back");
        ensure!(
            alpha.read("/var/lib/kept")? == "kept\n",
            "the disk is the same"
        );
        ensure!(alpha.shell("cat /run/lost").is_err(), "/run is new");
        let journal = alpha.journal("marker", None)?;
        ensure!(
            journal.iter().any(|e| e.message == "before"),
            "the journal survives"
        );
        Ok(())
    });
}

#[test]
fn recorded_packets_can_be_sent_again() {
    with_lab(|| {
        let (lab, alpha, beta) = two_machines()?;
        let recorder = capture::record(lab.network(), "eth1", 694)?;
        pause(100);
        let script = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
                      s.sendto(b'hello', ('10.77.1.12', 694))";
        alpha.exec(&["python3", "-c", script])?;
        pause(100);
        let frames = recorder.finish()?;
        ensure!(
            frames.len() == 1,
            "one packet crossed the switch, not {}",
            frames.len()
        );
        let listen = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
                      s.bind(('', 694)); s.settimeout(5); print(s.recvfrom(99))";
        let listener = beta.exec_spawn(&["python3", "-c", listen])?;
        pause(500);
        capture::replay(lab.network(), "eth1", &frames, Duration::ZERO)?;
        let output = listener.wait_with_output()?;
        let heard = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(heard.contains("b'hello', ('10.77.1.11'"), "heard {heard:?}");
        Ok(())
    });
}
