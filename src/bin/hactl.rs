//! `hactl`: arguments in, a call into the library, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    ha_node::ctl::run(std::env::args_os())
}
