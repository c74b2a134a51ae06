//! `config.example.toml` is what it says: it loads, its defaults are the program's, and no key is missing. The ten
//! lines in the README load as well.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use ha_node::config::schema::{ROOT, SECTIONS};
use ha_node::config::{Config, ConfigErrors, MAIN_FILE};
use std::fs;
use std::path::Path;
use std::time::Duration;

fn example() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml")).unwrap()
}

fn load(text: &str) -> Result<Config, ConfigErrors> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ha-node.toml");
    fs::write(&path, text).unwrap();
    Config::load_named(&path, std::iter::empty(), "alpha").map(|(config, _)| config)
}

/// The example with every key that it shows as a comment.
fn with_all_keys() -> String {
    example()
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_example_loads_as_it_is() {
    let config = load(&example()).unwrap();
    assert_eq!(config.cluster().as_str(), "web");
    assert_eq!(config.settings.nodes.len(), 2);
    assert_eq!((config.links.len(), config.groups.len()), (1, 1));
    assert!(example().contains(MAIN_FILE));
}

#[test]
fn the_lines_in_the_readme_load_as_they_are() {
    let readme = include_str!("../README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (lines, _) = rest.split_once("```").unwrap();
    assert_eq!(lines.lines().count(), 10);
    let config = load(lines).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((config.links.len(), config.groups.len()), (1, 1));
    assert_eq!(config.groups[0].resources.len(), 2);
}

#[test]
fn the_defaults_in_the_example_are_those_of_the_program() {
    let implied = load(&example()).unwrap();
    let explicit = load(&with_all_keys()).unwrap_or_else(|errors| panic!("{errors}"));
    let mut settings = explicit.settings.clone();
    let other_kinds = "other-kinds".parse().unwrap();
    assert!(settings.groups.remove(&other_kinds).is_some());
    settings.config_hash = implied.settings.config_hash;
    assert_eq!(settings, implied.settings);
    assert_eq!(explicit.respawn[0].user, "hacluster");
    let shorter = with_all_keys().replace(", monitor_interval = \"10s\"", "");
    assert_eq!(load(&shorter).unwrap().groups, explicit.groups);
    assert_eq!(explicit.groups[0], implied.groups[0]);
    assert_eq!(explicit.links[0].port, implied.links[0].port);
    assert_eq!(explicit.links.len(), 3);
    let without_ttl = load(&with_all_keys().replace("ttl = 1\n", "\n")).unwrap();
    assert_eq!(without_ttl.links, explicit.links);
}

#[test]
fn the_defaults_in_the_comments_are_those_of_the_program() {
    let text = example();
    let config = load(&text).unwrap();
    assert!(text.contains("default: \"10s\" for a vip, \"90s\" for a unit"));
    let vip = &config.groups[0].resources[0];
    assert_eq!(
        (vip.id.as_str(), vip.start_timeout),
        ("vip:192.168.0.100", Duration::from_secs(10))
    );
    let plain = text.replace(
        ", id = \"nginx\", start_timeout = \"30s\", stop_timeout = \"30s\"",
        "",
    );
    let unit = &load(&plain).unwrap().groups[0].resources[1];
    assert_eq!(
        (unit.id.as_str(), unit.start_timeout),
        ("unit:nginx.service", Duration::from_secs(90))
    );
    assert!(text.contains("default: \"10s\" for a vip, \"300s\" for a unit"));
    assert_eq!(unit.stop_timeout, Duration::from_secs(300));
    assert!(text.contains("Default: \"linux-ha\"."));
    let unnamed = text.replacen("name = \"web\"", "", 1);
    assert_eq!(load(&unnamed).unwrap().cluster().as_str(), "linux-ha");
}

#[test]
fn every_key_of_this_version_is_in_the_example_and_no_other() {
    let text = with_all_keys();
    for section in SECTIONS.iter().copied().chain([&ROOT]) {
        for key in section.keys {
            let mentions =
                text.contains(&format!("{key} = ")) || text.contains(&format!("[{key}]"));
            assert!(mentions, "{key} of {} is not in the example", section.title);
        }
        for key in section.later {
            assert!(
                !text.contains(&format!("{key} = ")),
                "{key} is not supported yet"
            );
        }
    }
}
