//! Replays the stored inputs of the fuzz targets: whatever once broke one stays fixed.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "../fuzz/targets.rs"]
mod targets;

use std::path::Path;

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target);
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(path).unwrap())
    };
    std::fs::read_dir(directory).unwrap().map(read).collect()
}

#[test]
fn wire_decode() {
    let mut statuses = 0;
    for (name, bytes) in seeds("wire_decode") {
        let accepted = targets::wire_decode(&bytes);
        if name.starts_with("status") {
            statuses += accepted;
        }
    }
    assert_eq!(
        statuses, 3,
        "a whole one in each framing and a brief one get past the digests and every field"
    );
}

#[test]
fn authkeys() {
    let seeds = seeds("authkeys");
    assert!(!seeds.is_empty());
    for (_name, bytes) in seeds {
        targets::authkeys(&bytes);
    }
}
