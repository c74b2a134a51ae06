//! Wrong configurations and exactly what people are told: `tests/config_errors/NAME.toml` and `NAME.expected`.
//!
//! The first line of each file says what is wrong in it. All are loaded on the host `alpha`.
//! `HA_NODE_TESTS_REWRITE=1 cargo test --test config_errors` writes the `.expected` files anew; read the diff.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use ha_node::config::Config;
use std::fs;
use std::path::{Path, PathBuf};

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config_errors");
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    paths.sort();
    paths
}

fn told(path: &Path) -> String {
    let errors = Config::load_named(path, std::iter::empty(), "alpha").unwrap_err();
    let directory = format!("{}/", path.parent().unwrap().display());
    format!("{errors}\n").replace(&directory, "")
}

#[test]
fn every_wrong_configuration_is_told_as_expected() {
    let rewrite = std::env::var_os("HA_NODE_TESTS_REWRITE").is_some();
    let cases = cases();
    assert!(cases.len() >= 30, "only {} cases", cases.len());
    let mut different = Vec::new();
    for path in cases {
        let told = told(&path);
        let expected_path = path.with_extension("expected");
        if rewrite {
            fs::write(&expected_path, &told).unwrap();
        }
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        if told != expected {
            let name = path.file_name().unwrap().display();
            different.push(format!("{name}\nexpected:\n{expected}told:\n{told}"));
        }
    }
    assert!(different.is_empty(), "\n{}", different.join("\n"));
}

#[test]
fn every_case_begins_with_a_title_and_every_message_names_its_file() {
    for path in cases() {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(text.starts_with("# "), "{name} has no title");
        let expected = fs::read_to_string(path.with_extension("expected")).unwrap();
        let lines = expected.lines().filter(|line| !line.starts_with("and "));
        for line in lines {
            assert!(line.starts_with(&format!("{name}:")), "{name}: {line}");
        }
    }
}
