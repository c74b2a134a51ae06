//! Locking all memory, in a process of its own: it stays locked for the rest of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use ha_node::process;

fn locked_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmLck:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn memory_is_locked_or_the_warning_says_what_is_missing() {
    match process::lock_memory() {
        Ok(()) => assert!(locked_kib() > 0),
        Err(warning) => {
            println!("NOT LOCKED HERE: {warning}");
            assert_eq!(locked_kib(), 0);
            assert!(warning.to_string().contains("CAP_IPC_LOCK"));
        }
    }
}
