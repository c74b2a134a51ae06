//! A random walk over real machines, for as many steps as somebody has time for.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use ha_node_lab::walk::{self, draw, script};
use ha_node_lab::{clock, host};
use std::time::{SystemTime, UNIX_EPOCH};

/// Does to machines of this host whatever can happen to machines, heals them, and checks that all is well.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many steps
    #[arg(long, default_value_t = 200)]
    steps: usize,
    /// How many machines: 2 with policy ignore, or 3 with majority
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=3))]
    nodes: u8,
    /// The seed of the steps; another one each time if it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// Steps to be done instead of drawn ones, as a failure prints them
    #[arg(long)]
    script: Option<String>,
    /// After a failure, go on with new machines
    #[arg(long)]
    go_on: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    host::check_privilege()?;
    let nodes = usize::from(arguments.nodes);
    let options = walk::options(nodes);
    let items = match &arguments.script {
        Some(text) => script::parse(text, nodes)?,
        None => {
            let seed = arguments.seed.map_or_else(fresh_seed, Ok)?;
            let steps = arguments.steps;
            println!("{steps} steps: WALK={steps} NODES={nodes} WALK_SEED={seed}");
            draw::script(seed, steps, walk::rules(&options))
        }
    };
    let began = clock::now();
    let mut failures = 0;
    let mut rest = items.as_slice();
    while !rest.is_empty() {
        let mut told = Vec::new();
        let result = walk::walk(options.clone(), rest, &mut |line| {
            println!("{line}");
            told.push(line.to_owned());
        });
        let Err(error) = result else { break };
        failures += 1;
        eprintln!("FAILED: {error:#}");
        // The item that failed is the one after those that were told of.
        let failed = rest.len().min(told.len() + 1);
        let (done, left) = rest.split_at(failed);
        eprintln!(
            "again: NODES={nodes} WALK_SCRIPT=\"{}\"",
            script::write(done)
        );
        ensure!(arguments.go_on, "the walk failed");
        rest = after_healing(left, done);
    }
    let took = (clock::now() - began).as_secs();
    println!("{failures} failures in {took} s");
    ensure!(failures == 0, "the walk failed");
    Ok(())
}

/// New machines are whole: what is left of the steps up to the next healing would be of another story.
fn after_healing<'a>(left: &'a [script::Item], done: &[script::Item]) -> &'a [script::Item] {
    if done.last() == Some(&script::Item::Heal) {
        return left;
    }
    let next = left.iter().position(|item| *item == script::Item::Heal);
    next.and_then(|at| left.get(at + 1..)).unwrap_or_default()
}

fn fresh_seed() -> Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since
        .context("the host's clock is before 1970")?
        .as_millis();
    Ok(u64::try_from(millis)?)
}
