//! The daemon's command line: arguments in, a call into the library, exit code out.

use clap::Parser;
use ha_node::node::{self, Options};
use std::path::PathBuf;
use std::process::ExitCode;

/// High availability for machines that run systemd.
#[derive(Debug, Parser)]
#[command(name = "ha-node", version)]
struct Arguments {
    /// Read this file instead of /etc/ha-node/ha-node.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep the state in this directory.
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/ha-node")]
    state: PathBuf,
    /// Check the configuration and the key file, and exit.
    #[arg(long, conflicts_with = "release")]
    check: bool,
    /// Stop everything that a daemon that died has left running on this machine, and exit.
    #[arg(long)]
    release: bool,
    /// The same, but while no other node may run it, only set a timer for it: what the unit runs after the daemon.
    #[arg(long, conflicts_with_all = ["check", "release"], hide = true)]
    after_exit: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    ha_node::journal::diagnostics::init();
    let options = Options {
        config: arguments.config,
        state: arguments.state,
    };
    let result = if arguments.check {
        node::check(&options)
    } else if arguments.release {
        node::release::release(&options)
    } else if arguments.after_exit {
        node::release::after_exit(&options)
    } else {
        node::run(&options)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(node::exit_code(&error))
        }
    }
}
