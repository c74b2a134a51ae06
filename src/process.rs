//! This process and its host: priority, memory, clocks, name, load. The core's clock is read here.
//!
//! What the unit does not grant is told once and done without; nothing here ends the daemon.

use crate::core::Instant;
use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Lowest of the real-time priorities: above all ordinary programs, below the kernel's own threads.
const PRIORITY: libc::c_int = 1;

/// Something that was not granted: the daemon works, but is not protected against a loaded machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// Real-time scheduling was refused.
    Realtime(Errno),
    /// Locking the memory was refused.
    Memory(Errno),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Realtime(error) => write!(
                f,
                "no real-time scheduling ({error}): heartbeats may be late when the machine is busy, going on; it \
                 needs CAP_SYS_NICE or `LimitRTPRIO=1`, and `RestrictRealtime=no`, in ha-node.service"
            ),
            Self::Memory(error) => write!(
                f,
                "memory is not locked ({error}): heartbeats may be late when the machine swaps, going on; it needs \
                 CAP_IPC_LOCK or `LimitMEMLOCK=infinity` in ha-node.service"
            ),
        }
    }
}

/// Runs this thread ahead of all ordinary ones (SCHED_RR); children do not inherit it.
///
/// # Errors
/// The kernel or the unit does not allow it; the thread stays as it was.
pub fn realtime() -> Result<(), Warning> {
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    set_scheduler(policy, PRIORITY).map_err(Warning::Realtime)
}

#[expect(
    unsafe_code,
    reason = "no safe wrapper of sched_setscheduler exists in the libraries used"
)]
fn set_scheduler(policy: libc::c_int, priority: libc::c_int) -> Result<(), Errno> {
    // SAFETY: `sched_param` is a plain structure of integers, for which all zeroes is a valid value.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = priority;
    // SAFETY: the pointer is to a live local that the call only reads; 0 means the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const param) };
    if result == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::PERM))
}

/// Keeps all memory of this process, now and later, from being paged out.
///
/// # Errors
/// The kernel or the unit does not allow it; memory can then be paged out.
pub fn lock_memory() -> Result<(), Warning> {
    // Under a limit the call succeeds, and a later allocation ends the daemon.
    if !may_lock_everything() {
        return Err(Warning::Memory(Errno::PERM));
    }
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).map_err(Warning::Memory)
}

fn may_lock_everything() -> bool {
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    let capable =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    unlimited || capable
}

/// Now, on the clock that also counts suspended time (`CLOCK_BOOTTIME`).
pub fn boottime_now() -> Instant {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Seconds since 1970; 0 if the clock stands before that.
pub fn unix_now_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The host's name, as `uname -n` prints it.
pub fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The line of `/proc/loadavg` without its end, which Heartbeat sends in each status; empty if it cannot be read.
pub fn loadavg() -> String {
    std::fs::read_to_string("/proc/loadavg")
        .map(|text| text.trim_end().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_does_not_go_back() {
        let first = boottime_now();
        let second = boottime_now();
        assert!(first.as_nanos() > 0 && second >= first);
    }

    #[test]
    fn the_host_has_a_name_and_a_load() {
        assert!(!hostname().is_empty());
        assert_eq!(loadavg().split(' ').count(), 5, "{}", loadavg());
    }

    #[test]
    fn an_impossible_priority_is_refused_and_changes_nothing() {
        assert_eq!(set_scheduler(libc::SCHED_RR, 1000), Err(Errno::INVAL));
    }

    #[test]
    fn the_calling_thread_gets_real_time_or_a_warning() {
        let policy = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let after_name = stat.rsplit_once(") ").unwrap().1;
            // Field 41 of proc_pid_stat(5), of which the first two come before.
            after_name
                .split(' ')
                .nth(38)
                .unwrap()
                .parse::<i32>()
                .unwrap()
        };
        let granted = move || (realtime(), policy());
        match std::thread::spawn(granted).join().unwrap() {
            (Ok(()), policy) => assert_eq!(policy, libc::SCHED_RR),
            (Err(warning), policy) => {
                println!("NOT GRANTED HERE: {warning}");
                assert_eq!(policy, libc::SCHED_OTHER);
            }
        }
        assert_eq!(
            policy(),
            libc::SCHED_OTHER,
            "other threads stay as they were"
        );
    }

    #[test]
    fn each_warning_names_what_the_unit_must_grant() {
        let realtime = Warning::Realtime(Errno::PERM).to_string();
        assert!(realtime.contains("CAP_SYS_NICE") && realtime.contains("LimitRTPRIO="));
        let memory = Warning::Memory(Errno::NOMEM).to_string();
        assert!(memory.contains("CAP_IPC_LOCK") && memory.contains("LimitMEMLOCK="));
    }
}
