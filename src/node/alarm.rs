//! The loop's alarm: one timer of the kernel on the core's own clock.
//!
//! A timer of the runtime would wake the process two or three times for each deadline, rounds to milliseconds, and
//! does not count suspended time.

use crate::core::Instant;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::{Interest, unix::AsyncFd};

/// A timer that goes off once for each point it is set to.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: AsyncFd<OwnedFd>,
    set_to: Option<Instant>,
}

impl Alarm {
    /// An alarm that is not set. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        Ok(Self {
            timer: register(timer)?,
            set_to: None,
        })
    }

    /// Waits until a point of `CLOCK_BOOTTIME`; at once if it has passed. Cancel-safe.
    ///
    /// # Errors
    /// What the kernel said; the alarm is then of no use.
    pub(super) async fn wait_until(&mut self, point: Instant) -> io::Result<()> {
        if self.set_to != Some(point) {
            set(self.timer.get_ref(), point)?;
            self.set_to = Some(point);
        }
        loop {
            let mut ready = self.timer.readable().await?;
            // The runtime may still remember that an earlier point has come: only the kernel knows.
            let count = rustix::io::read(self.timer.get_ref(), &mut [0; 8]);
            ready.clear_ready();
            match count {
                Ok(_) => {
                    self.set_to = None;
                    return Ok(());
                }
                Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn set(timer: &OwnedFd, point: Instant) -> io::Result<()> {
    // Zero would take the alarm back.
    let nanos = point.as_nanos().max(1);
    let value = Timespec {
        tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanos % 1_000_000_000).unwrap_or(0),
    };
    let once = Itimerspec {
        it_interval: Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        it_value: value,
    };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &once)?;
    Ok(())
}

#[expect(
    deprecated,
    reason = "its successor is unsafe; the timer owns its descriptor and keeps it"
)]
fn register(timer: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(timer, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::boottime_now;
    use std::time::Duration;

    #[tokio::test(flavor = "current_thread")]
    async fn it_goes_off_when_it_is_due_and_not_before() {
        let mut alarm = Alarm::new().unwrap();
        for _ in 0..3 {
            let due = boottime_now() + Duration::from_millis(5);
            alarm.wait_until(due).await.unwrap();
            assert!(boottime_now() >= due);
        }
        // A point that has passed is due at once, even the first of all.
        alarm.wait_until(Instant::from_nanos(0)).await.unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_later_point_replaces_an_earlier_one() {
        let mut alarm = Alarm::new().unwrap();
        let soon = boottime_now() + Duration::from_millis(20);
        let later = soon + Duration::from_millis(80);
        let given_up = tokio::time::timeout(Duration::ZERO, alarm.wait_until(soon)).await;
        assert!(given_up.is_err());
        tokio::time::sleep(Duration::from_millis(50)).await;
        alarm.wait_until(later).await.unwrap();
        assert!(boottime_now() >= later);
    }
}
