//! Labs by hand: prepare the host, look, try, clean up.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use ha_node_lab::{Cluster, Options, base, host, lab};
use std::io::BufRead;
use std::process::Command;

/// Real systemd machines on this host, for ha-node's tests.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Install what is missing on this host and build the machines' file system
    Setup,
    /// Install the programs that are missing on this host, and no more
    Programs,
    /// List the labs that run now
    List,
    /// Remove what killed runs left behind
    Clean,
    /// Form a cluster, open a shell on its first machine, and remove it when that ends
    Try {
        /// How many machines, 1 to 5
        #[arg(long, default_value_t = 2)]
        nodes: usize,
    },
}

fn main() -> Result<()> {
    host::check_privilege()?;
    match Arguments::parse().action {
        Action::Setup => {
            println!("{}", base::ensure()?.display());
            Ok(())
        }
        Action::Programs => host::ensure_programs(),
        Action::List => {
            for id in lab::living()? {
                println!("{id}");
            }
            Ok(())
        }
        Action::Clean => {
            let _lock = host::lock("labs.lock")?;
            lab::sweep();
            Ok(())
        }
        Action::Try { nodes } => try_it(nodes),
    }
}

fn try_it(nodes: usize) -> Result<()> {
    let cluster = Cluster::form(Options {
        nodes,
        ..Options::default()
    })?;
    for node in &cluster.nodes {
        let leader = node.leader()?;
        println!("{}: nsenter -t {leader} -a bash", node.name());
    }
    println!("client: ip netns exec {} bash", cluster.lab.client());
    let first = cluster.nodes.first().context("no machine")?;
    println!(
        "A shell on {} follows; leave it to remove everything.",
        first.name()
    );
    let leader = first.leader()?.to_string();
    let status = Command::new("nsenter")
        .args(["-t", &leader, "-a", "--", "bash", "-l"])
        .status()?;
    if !status.success() {
        println!("Press Enter to remove everything.");
        std::io::stdin().lock().read_line(&mut String::new())?;
    }
    Ok(())
}
