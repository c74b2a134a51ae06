//! ha-node on real machines. Each test has a lab of its own; assertions are on behaviour and on double
//! ownership, never on speed. Without root they say so and pass.

use std::io::Write as _;

mod addresses;
mod bans;
mod boots;
mod cables;
mod checks;
mod deafness;
mod deaths;
mod direct;
mod emergencies;
mod failures;
mod harness;
mod hostile;
mod ipv6;
mod kinds;
mod message_bus;
mod moves;
mod policies;
mod presence;
mod recoveries;
mod releases;
mod units;
mod walks;

/// Runs a test that needs root; says loudly that it did not run otherwise.
fn with_lab(body: impl FnOnce() -> anyhow::Result<()>) {
    if let Err(error) = ha_node_lab::host::check_privilege() {
        // Past the capture of the output of tests that pass.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {error}");
        return;
    }
    if let Err(error) = body() {
        panic!("{error:#}");
    }
}
