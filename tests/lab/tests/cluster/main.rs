//! ha-node on real machines. Each test has a lab of its own; assertions are on behaviour and on double
//! ownership, never on speed. Without root they say so and pass.

mod addresses;
mod boots;
mod cables;
mod deaths;
mod harness;
mod hostile;
mod message_bus;
mod moves;

/// Runs a test that needs root; says loudly that it did not run otherwise.
fn with_lab(body: impl FnOnce() -> anyhow::Result<()>) {
    if let Err(error) = ha_node_lab::host::check_privilege() {
        eprintln!("SKIPPED: {error}");
        return;
    }
    if let Err(error) = body() {
        panic!("{error:#}");
    }
}
