//! The command line of `hactl`: help and parsing come from this one definition.

use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Look at and steer the high-availability cluster of this machine.
#[derive(Debug, Parser)]
#[command(
    name = "hactl",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show who runs what since when and why, the nodes, and what protects against split brain
    Status {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Give up groups of this node
    Standby {
        /// Which groups: all (and take none until `online`), or once those that prefer this node (local)
        /// or another one (foreign, failback)
        #[arg(value_enum, default_value = "all")]
        scope: StandbyScope,
    },
    /// Let this node take part again
    Online,
    /// Run a group on a given node
    Move {
        /// The group
        group: String,
        /// Where it shall run
        node: String,
    },
    /// Forget the failures of a group that was repaired
    Clear {
        /// The group
        group: String,
    },
    /// Check the configuration without touching anything
    Check {
        /// The configuration file [default: /etc/ha-node/ha-node.toml, then conf.d beside it]
        file: Option<PathBuf>,
    },
    /// Make a random key file in the format of `authkeys`
    Keygen {
        /// Write it to this new file, readable for its owner only, instead of standard output
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show the last events of the cluster as this node saw them
    Events {
        /// Go on with new events until interrupted
        #[arg(long, short)]
        follow: bool,
        /// Print one JSON object for each event
        #[arg(long)]
        json: bool,
    },
}

/// Which groups a standby gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StandbyScope {
    /// Everything.
    All,
    /// Those that prefer this node.
    Local,
    /// Those that prefer another node.
    Foreign,
    /// Heartbeat's other word for foreign.
    Failback,
}

impl StandbyScope {
    /// The word for it on the bus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Local => "local",
            Self::Foreign => "foreign",
            Self::Failback => "failback",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_standby_without_scope_is_for_all() {
        let arguments = Arguments::try_parse_from(["hactl", "standby"]).unwrap();
        assert!(matches!(
            arguments.command,
            Command::Standby {
                scope: StandbyScope::All
            }
        ));
    }

    #[test]
    fn an_unknown_scope_is_wrong_usage() {
        let error = Arguments::try_parse_from(["hactl", "standby", "some"]).unwrap_err();
        assert!(error.use_stderr());
    }
}
