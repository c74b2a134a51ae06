//! A cluster of two machines shows what it can: everything printed is measured, on this host, now.

use anyhow::{Context, Result};
use ha_node_lab::cluster::{ADDRESS, Seen};
use ha_node_lab::scenario::{cables, deaths, moves};
use ha_node_lab::timeline::Timeline;
use ha_node_lab::{Cluster, Options, clock, host};
use std::time::Duration;

fn main() -> Result<()> {
    host::check_privilege()?;
    title("Two Debian machines boot, ha-node is installed in them, they form a cluster");
    let begin = clock::now();
    let cluster = Cluster::form(Options::two())?;
    println!(
        "  formed after {:.1} s; the configuration, the same on both:\n",
        seconds(begin)
    );
    for line in cluster.options.config().lines() {
        println!("    {line}");
    }
    status(&cluster)?;

    title("A planned move: hactl move web NODE");
    let moved = moves::planned(&cluster)?;
    show(&cluster, &moved)?;

    title("The power of the active machine is cut");
    let taken = deaths::power_cut(&cluster)?;
    show(&cluster, &taken)?;
    println!(
        "  {} is dead, {} has taken over",
        taken.value.dead.name(),
        taken.value.by.name()
    );

    title("It gets its power back");
    let back = deaths::come_back(&cluster, &taken.value.dead)?;
    show(&cluster, &back)?;

    title("One of the active machine's two cables is pulled for two seconds");
    let one = cables::one_of_two(&cluster, Duration::from_secs(2))?;
    show(&cluster, &one)?;

    title(
        "Both are pulled for five seconds: the machines cannot see each other, then they can again",
    );
    let cut = cables::cut_and_mend(&cluster, Duration::from_secs(5))?;
    show(&cluster, &cut)?;
    explain_double(&cut);
    status(&cluster)?;
    println!("\nAll in {:.0} s. Removing the machines.", seconds(begin));
    Ok(())
}

fn title(text: &str) {
    println!("\n== {text}");
}

fn status(cluster: &Cluster) -> Result<()> {
    let node = cluster.nodes.first().context("no machine")?;
    println!("\n  {}# hactl status\n", node.name());
    for line in node.hactl(&["status"])?.lines() {
        println!("    {line}");
    }
    Ok(())
}

fn show<T>(cluster: &Cluster, seen: &Seen<T>) -> Result<()> {
    print!("{}", Timeline::of(cluster, seen)?);
    let address = seen.address.longest_outage();
    print!(
        "  => outage as a third machine saw it: {ADDRESS} {:.1} ms",
        clock::ms(address)
    );
    if let Some(http) = &seen.http {
        print!(", its web page {:.1} ms", clock::ms(http.longest_outage()));
    }
    println!();
    Ok(())
}

fn explain_double(seen: &Seen<cables::CutOff>) {
    let doubles = seen.owners.doubles();
    let Some((span, _)) = doubles.last() else {
        return;
    };
    let after = span.to.saturating_sub(seen.value.cut.to);
    println!(
        "  Two machines without fencing cannot tell a cut cable from a dead peer: both had the address\n  \
         for {:.0} ms, until {:.0} ms after the cables were back. A third vote or fencing prevents that.",
        clock::ms(span.length()),
        clock::ms(after)
    );
}

fn seconds(since: Duration) -> f64 {
    (clock::now() - since).as_secs_f64()
}
