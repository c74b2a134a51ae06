//! A few steps of the random walk, another one each time; `make lab-walk` takes many.

use crate::with_lab;
use ha_node_lab::walk::{self, draw};
use std::time::{SystemTime, UNIX_EPOCH};

const STEPS: usize = 10;

#[test]
fn after_ten_steps_of_whatever_can_happen_one_node_of_three_runs_the_group() {
    with_lab(|| {
        let options = walk::options(3);
        let seed = match std::env::var("WALK_SEED") {
            Ok(text) => text.parse()?,
            Err(_) => u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?,
        };
        let script = draw::script(seed, STEPS, walk::rules(&options));
        walk::walk(options, &script, &mut |_| {}).map_err(|error| {
            error.context(format!(
                "make lab-walk WALK={STEPS} NODES=3 WALK_SEED={seed}"
            ))
        })
    });
}
