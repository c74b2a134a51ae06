//! The one clock of the lab: CLOCK_MONOTONIC, the same for all machines and for their journals' time stamps.

use anyhow::{Result, bail};
use rustix::thread::{ClockId, clock_nanosleep_absolute};
use rustix::time::{Timespec, clock_gettime};
use std::time::Duration;

/// Time since the host's boot.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Sleeps until a point of [`now`]'s scale; returns at once if it has passed.
pub fn sleep_until(point: Duration) {
    let request = Timespec {
        tv_sec: i64::try_from(point.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: point.subsec_nanos().into(),
    };
    while clock_nanosleep_absolute(ClockId::Monotonic, &request).is_err() {}
}

/// Sleeps for a while.
pub fn sleep(time: Duration) {
    sleep_until(now() + time);
}

/// Milliseconds with two decimals, for people.
pub fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

/// Asks again and again, every 50 ms, until the answer is `Some`.
///
/// # Errors
/// After `limit`: names `what` and the last error, if the question itself failed.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut question: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = now() + limit;
    loop {
        let answer = question();
        if let Ok(Some(value)) = answer {
            return Ok(value);
        }
        if now() >= end {
            match answer {
                Err(error) => bail!("waited {limit:?} for {what}: {error:#}"),
                Ok(_) => bail!("waited {limit:?} in vain for {what}"),
            }
        }
        sleep(Duration::from_millis(50));
    }
}
