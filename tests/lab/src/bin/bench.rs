//! The project's bars, measured: each line names the bar, what was measured, and whether it holds.

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use ha_node_lab::cluster::SERVICE;
use ha_node_lab::probe::crowd::Crowd;
use ha_node_lab::scenario::{cables, crowds, deaths, heartbeats, moves, removals, services};
use ha_node_lab::{Cluster, Machine, Options, Span, clock, host, install, meter};
use std::collections::BTreeMap;
use std::time::Duration;

/// systemd's MESSAGE_IDs for a unit on its way (systemd.journal-fields(7), sd-messages.h).
const UNIT_STARTING: &str = "7d4958e842da4a758f6c1cdc7b36dcc5";
const UNIT_STARTED: &str = "39f53479d3a045ac8e11786248231fbf";
const UNIT_STOPPING: &str = "de5b426a63be47a7b6ac3eaac82e2f6f";
const UNIT_STOPPED: &str = "9d1aaa27d60140bd96365438aad20286";

/// What a takeover may last beyond deadtime, in milliseconds.
const TAKEOVER: f64 = 100.0;
/// A tenth of what a heartbeat with 500 groups had when each carried the state of all of them.
const HEARTBEAT_BYTES: f64 = 1_437.0;
/// How often an address is removed by hand.
const REMOVALS: usize = 40;

/// Measures ha-node on machines of this host and prints the figures beside their bars.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure; everything if nothing is named
    #[arg(value_enum)]
    what: Vec<What>,
    /// Rounds for the moves; the cuts take a quarter of it
    #[arg(long, default_value_t = 20)]
    rounds: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Planned move of an address
    Move,
    /// Planned move of an address and a web server
    MoveService,
    /// Address removed by hand, 40 times
    PutBack,
    /// Move and power cut of 500 addresses
    Many,
    /// Power cut at three timings
    PowerCut,
    /// SIGKILL of the daemon
    Sigkill,
    /// Node cut off at the switch
    CutOff,
    /// 20 % packet loss for 60 s
    Loss,
    /// All cores busy for 60 s
    Busy,
    /// Memory and processor time at rest
    Idle,
    /// Size of the binary
    Size,
    /// SIGKILL of a service's main process
    LocalRestart,
    /// Planned move of a web server that runs on both nodes
    Warm,
    /// Cable of the one node out and in, then of the other, then the power of each
    InTurn,
    /// Bytes of a heartbeat at rest with 500 groups
    Heartbeat,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    host::check_privilege()?;
    let wanted = |what| arguments.what.is_empty() || arguments.what.contains(&what);
    let cuts = arguments.rounds.div_ceil(4);
    println!(
        "{:<44} {:>9} {:>9} {:>9} {:>4}  bar",
        "", "median", "least", "most", "n"
    );
    let steps: [(What, &dyn Fn() -> Result<()>); 15] = [
        (What::Size, &size),
        (What::Move, &|| planned_moves(arguments.rounds)),
        (What::MoveService, &|| moves_with_service(arguments.rounds)),
        (What::PutBack, &put_back),
        (What::Many, &|| many(arguments.rounds, cuts)),
        (What::PowerCut, &|| power_cuts(cuts)),
        (What::Sigkill, &|| sigkills(cuts)),
        (What::CutOff, &cut_off),
        (What::Loss, &loss),
        (What::Busy, &busy),
        (What::Idle, &idle),
        (What::LocalRestart, &|| local_restarts(arguments.rounds)),
        (What::Warm, &|| warm_moves(arguments.rounds)),
        (What::InTurn, &|| in_turn(cuts)),
        (What::Heartbeat, &heartbeats),
    ];
    let mut failed = 0;
    for (what, step) in steps.into_iter().filter(|(what, _)| wanted(*what)) {
        if let Err(error) = step() {
            eprintln!("{what:?}: {error:#}");
            failed += 1;
        }
    }
    anyhow::ensure!(failed == 0, "{failed} measurements failed");
    Ok(())
}

/// One line of the table: values and their bar in the same unit. The median is what must hold it.
fn line(name: &str, values: Vec<f64>, unit: &str, bar: Option<f64>) {
    // "Never" is not a matter of the median.
    print_line(name, values, unit, bar, bar == Some(0.0));
}

fn print_line(name: &str, mut values: Vec<f64>, unit: &str, bar: Option<f64>, by_most: bool) {
    values.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (values.first(), values.last()) else {
        return;
    };
    let median = values.get(values.len() / 2).copied().unwrap_or_default();
    let judged = if by_most { *most } else { median };
    let verdict = match bar {
        Some(bar) if judged <= bar => format!("<= {bar} {unit}: holds"),
        Some(bar) => format!("<= {bar} {unit}: MISSED"),
        None => "(reported)".to_owned(),
    };
    let count = values.len();
    println!("{name:<44} {median:>9.2} {least:>9.2} {most:>9.2} {count:>4}  {verdict}");
}

/// The same, where each single value must hold the bar.
fn line_of_worst(name: &str, values: Vec<f64>, unit: &str, bar: f64) {
    print_line(name, values, unit, Some(bar), true);
}

fn planned_moves(rounds: usize) -> Result<()> {
    let cluster = Cluster::form(Options::two().address_only())?;
    let mut outages = Vec::new();
    let mut requests = Vec::new();
    let mut doubles = Vec::new();
    for _ in 0..rounds {
        let seen = moves::planned(&cluster)?;
        outages.push(clock::ms(seen.address.longest_outage()));
        requests.push(clock::ms(seen.value.took));
        doubles.push(clock::ms(seen.owners.longest_double()));
    }
    line(
        "planned move, address: outage, ms",
        outages,
        "ms",
        Some(5.0),
    );
    line(
        "planned move, address: hactl move, ms",
        requests,
        "ms",
        None,
    );
    line(
        "planned move, address: two owners, ms",
        doubles,
        "ms",
        Some(0.0),
    );
    Ok(())
}

fn moves_with_service(rounds: usize) -> Result<()> {
    let cluster = Cluster::form(Options::two())?;
    let mut address = Vec::new();
    let mut http = Vec::new();
    let mut over = Vec::new();
    for _ in 0..rounds {
        let seen = moves::planned(&cluster)?;
        let own = stop_time(&seen.value.from, seen.span)? + start_time(&seen.value.to, seen.span)?;
        let outage = seen.http.as_ref().context("no web probe")?.longest_outage();
        address.push(clock::ms(seen.address.longest_outage()));
        http.push(clock::ms(outage));
        over.push(clock::ms(outage.saturating_sub(own)));
    }
    line("planned move, with nginx: address, ms", address, "ms", None);
    line("planned move, with nginx: http, ms", http, "ms", None);
    line(
        "planned move, with nginx: http beyond nginx, ms",
        over,
        "ms",
        Some(20.0),
    );
    Ok(())
}

/// How long the service's stop took within a span, by systemd's own account.
fn stop_time(machine: &Machine, span: Span) -> Result<Duration> {
    between(machine, span, UNIT_STOPPING, UNIT_STOPPED)
}

/// How long its start took.
fn start_time(machine: &Machine, span: Span) -> Result<Duration> {
    between(machine, span, UNIT_STARTING, UNIT_STARTED)
}

/// By the journal: systemd forgets the time stamps of a unit that is stopped and that nobody refers to.
fn between(machine: &Machine, span: Span, from: &str, to: &str) -> Result<Duration> {
    let entries = machine.journal("systemd", Some(span))?;
    let at = |id: &str| {
        let found = entries
            .iter()
            .find(|entry| entry.field("UNIT") == SERVICE && entry.field("MESSAGE_ID") == id);
        found
            .map(|entry| entry.at)
            .with_context(|| format!("{} has no entry {id} of {SERVICE}", machine.name()))
    };
    Ok(at(to)?.saturating_sub(at(from)?))
}

fn put_back() -> Result<()> {
    let cluster = Cluster::form(Options::two().address_only())?;
    let seen = removals::by_hand(&cluster, REMOVALS)?;
    let away: Vec<f64> = removals::absences(&seen)
        .into_iter()
        .map(clock::ms)
        .collect();
    anyhow::ensure!(away.len() == REMOVALS, "removed {} times", away.len());
    let outages = seen.address.outages();
    line("removed by hand: away, ms", away, "ms", Some(50.0));
    let outages = outages.iter().map(|span| clock::ms(span.length()));
    line(
        "removed by hand: outages seen, ms",
        outages.collect(),
        "ms",
        None,
    );
    Ok(())
}

fn many(moves: usize, cuts: usize) -> Result<()> {
    let cluster = crowds::form()?;
    let mut costs = Vec::new();
    let mut measure = |rounds: usize, once: fn(&Cluster) -> Result<Crowd>| {
        let mut gaps = Vec::new();
        for _ in 0..rounds {
            let seen = once(&cluster)?;
            gaps.push(clock::ms(seen.gap(crowds::COUNT)?));
            costs.push(seen.cost);
        }
        anyhow::Ok(gaps)
    };
    let moved = measure(moves, crowds::planned)?;
    let taken = measure(cuts, crowds::power_cut)?;
    let limit = clock::ms(cluster.options.deadtime + cluster.options.keepalive) + 200.0;
    line(
        "500 addresses, planned move: gap, ms",
        moved,
        "ms",
        Some(150.0),
    );
    line(
        "500 addresses, power cut: gap, ms",
        taken,
        "ms",
        Some(limit),
    );
    line(
        "500 addresses: cost of looking, % of a core",
        costs,
        "%",
        None,
    );
    Ok(())
}

/// The client asks the web server every millisecond.
fn with_web(keys: &str) -> Options {
    Options {
        service_keys: keys.to_owned(),
        web_interval: Duration::from_millis(1),
        ..Options::two()
    }
}

fn local_restarts(rounds: usize) -> Result<()> {
    // More than the rounds, since a service that is killed too often is to be started elsewhere.
    let keys = ", on_failure = \"restart\", restart_limit = 100";
    let cluster = Cluster::form(with_web(keys))?;
    let mut times = Vec::new();
    for _ in 0..rounds.min(100) {
        let seen = services::kill_main_process(&cluster)?;
        times.push(clock::ms(seen.until_answered()?));
    }
    line(
        "nginx killed: until http answers, ms",
        times,
        "ms",
        Some(100.0),
    );
    Ok(())
}

fn warm_moves(rounds: usize) -> Result<()> {
    let cluster = Cluster::form(with_web(", standby = \"started\""))?;
    let mut address = Vec::new();
    let mut http = Vec::new();
    for _ in 0..rounds {
        let seen = moves::planned(&cluster)?;
        let web = seen.http.as_ref().context("no web probe")?;
        address.push(clock::ms(seen.address.longest_outage()));
        http.push(clock::ms(web.longest_outage()));
    }
    line("planned move, warm nginx: address, ms", address, "ms", None);
    line("planned move, warm nginx: http, ms", http, "ms", Some(10.0));
    Ok(())
}

fn power_cuts(rounds: usize) -> Result<()> {
    for (keepalive, deadtime) in [(250, 2_000), (20, 100), (10, 30)] {
        let cluster = Cluster::form(Options::two().timing(keepalive, deadtime).address_only())?;
        let mut outages = Vec::new();
        for _ in 0..rounds {
            let seen = deaths::power_cut(&cluster)?;
            outages.push(clock::ms(seen.address.longest_outage()));
            deaths::come_back(&cluster, &seen.value.dead)?;
        }
        let bar = (deadtime > 30).then(|| f64::from(deadtime as u32 + keepalive as u32 + 20));
        let name = format!("power cut at {keepalive} ms/{deadtime} ms: outage, ms");
        line(&name, outages, "ms", bar);
    }
    Ok(())
}

fn sigkills(rounds: usize) -> Result<()> {
    let cluster = Cluster::form(Options::two())?;
    let mut doubles = Vec::new();
    let mut outages = Vec::new();
    for _ in 0..rounds {
        let seen = deaths::kill_daemon(&cluster)?;
        doubles.push(clock::ms(seen.owners.longest_double()));
        outages.push(clock::ms(seen.address.longest_outage()));
    }
    line(
        "SIGKILL of the daemon: two owners, ms",
        doubles,
        "ms",
        Some(0.0),
    );
    line("SIGKILL of the daemon: outage, ms", outages, "ms", None);
    let last = deaths::kill_daemon_for_good(&cluster)?;
    let double = vec![clock::ms(last.owners.longest_double())];
    line(
        "SIGKILL, not restarted: two owners, ms",
        double,
        "ms",
        Some(0.0),
    );
    let outage = vec![clock::ms(last.address.longest_outage())];
    line("SIGKILL, not restarted: outage, ms", outage, "ms", None);
    Ok(())
}

fn cut_off() -> Result<()> {
    for (name, options) in [
        ("two nodes", Options::two()),
        ("three nodes", Options::three()),
    ] {
        let cluster = Cluster::form(options)?;
        let seen = cables::cut_and_mend(&cluster, Duration::from_secs(10))?;
        let mended = seen.value.cut.to;
        let doubles = seen.owners.doubles();
        let both: f64 = doubles
            .iter()
            .map(|(span, _)| clock::ms(span.length()))
            .sum();
        let after = doubles
            .last()
            .map_or(0.0, |(span, _)| clock::ms(span.to.saturating_sub(mended)));
        let rest = seen.address.within(Span::new(mended, seen.span.to));
        let bar = (name == "three nodes").then_some(0.0);
        line(
            &format!("cut off for 10 s, {name}: two owners, ms"),
            vec![both],
            "ms",
            bar,
        );
        line(
            &format!("cut off for 10 s, {name}: after mend, ms"),
            vec![after],
            "ms",
            None,
        );
        let outage = vec![clock::ms(rest.longest_outage())];
        line(
            &format!("cut off for 10 s, {name}: outage after mend"),
            outage,
            "ms",
            None,
        );
    }
    Ok(())
}

/// Each step's outage against deadtime; a group that is not taken over is out for as long as anybody looked.
fn in_turn(rounds: usize) -> Result<()> {
    let cluster = Cluster::form(cables::one_cable())?;
    let mut steps: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for turn in cables::in_turn(&cluster)? {
            let outages = steps.entry(turn.what).or_default();
            outages.push(clock::ms(turn.outage));
        }
    }
    let bar = clock::ms(cluster.options.deadtime) + TAKEOVER;
    for (what, outages) in steps {
        line_of_worst(&format!("in turn, {what}: outage, ms"), outages, "ms", bar);
    }
    Ok(())
}

fn heartbeats() -> Result<()> {
    let cluster = heartbeats::form()?;
    let sizes = heartbeats::at_rest(&cluster, Duration::from_secs(60))?;
    let bytes: Vec<f64> = sizes.iter().map(|size| *size as f64).collect();
    let average = bytes.iter().sum::<f64>() / bytes.len() as f64;
    line(
        "500 groups at rest: a heartbeat, bytes",
        bytes,
        "bytes",
        Some(HEARTBEAT_BYTES),
    );
    line(
        "500 groups at rest: on average, bytes",
        vec![average],
        "bytes",
        Some(HEARTBEAT_BYTES),
    );
    Ok(())
}

fn loss() -> Result<()> {
    let cluster = Cluster::form(Options::two())?;
    let seen = cables::bad_cables(&cluster, 20, Duration::from_secs(60))?;
    let takeovers = seen.owners.owners.values().map(Vec::len).sum::<usize>() as f64 - 1.0;
    line(
        "20 % loss for 60 s: false takeovers",
        vec![takeovers],
        "",
        Some(0.0),
    );
    Ok(())
}

fn busy() -> Result<()> {
    let cluster = Cluster::form(Options::two())?;
    let seen = cables::busy_cores(&cluster, 2, Duration::from_secs(60))?;
    let takeovers = seen.owners.owners.values().map(Vec::len).sum::<usize>() as f64 - 1.0;
    line(
        "all cores busy for 60 s: false takeovers",
        vec![takeovers],
        "",
        Some(0.0),
    );
    Ok(())
}

fn idle() -> Result<()> {
    let cluster = Cluster::form(Options::two())?;
    clock::sleep(Duration::from_secs(5));
    let read = || -> Result<Vec<meter::Usage>> {
        cluster
            .nodes
            .iter()
            .map(|node| meter::usage(node, install::UNIT))
            .collect()
    };
    let before = read()?;
    clock::sleep(Duration::from_secs(60));
    let after = read()?;
    let memory = after
        .iter()
        .map(|usage| usage.resident_kib as f64 / 1024.0)
        .collect();
    let share = after
        .iter()
        .zip(&before)
        .map(|(a, b)| a.percent_since(b))
        .collect();
    line("at rest: resident memory, MiB", memory, "MiB", Some(10.0));
    line("at rest: processor, % of a core", share, "%", Some(0.2));
    Ok(())
}

fn size() -> Result<()> {
    let stage = install::stage()?;
    let binary = stage.path().join("usr/sbin/ha-node");
    let bytes = std::fs::metadata(&binary).context("no binary")?.len();
    line(
        "binary, MiB",
        vec![bytes as f64 / 1_048_576.0],
        "MiB",
        Some(8.0),
    );
    Ok(())
}
