//! What the compiler does not check: the arrows between the parts of the house, the purity of the pure ones, and that
//! no file or function outgrows its reader.
//!
//! The tables below are the rules; ARCHITECTURE.md tells them to people. Each check is a function from a file's text
//! to what is wrong with it, and is shown a bad example of each kind.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod tidy_source;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tidy_source::{
    code_of, functions, line_of, paths, paths_upwards, silencers, without_tests, words,
};

/// Most lines of a file.
const FILE_LINES_MAX: usize = 700;

/// Most lines of a function.
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that are longer for a reason: one arm or one line for each member of a closed list, and nothing else.
const LISTS: &[(&str, &str)] = &[
    ("src/journal/describe.rs", "draft"),
    ("src/journal/describe/tests.rs", "all_events"),
    ("tests/wire_support/mod.rs", "example"),
];

/// Which other parts each part may name; a path covers what is below it.
const ARROWS: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("wire", &["ids"]),
    ("core", &["ids", "wire::status"]),
    (
        "config",
        &[
            "ids",
            "core::settings",
            "core::Settings",
            "core::NodeSettings",
            "core::GroupSettings",
            "core::Policy",
        ],
    ),
    ("process", &["core::time", "core::Instant"]),
    (
        "state",
        &["ids", "core::io::Persistent", "core::Persistent"],
    ),
    (
        "tenure",
        &[
            "ids",
            "config",
            "core::Failures",
            "core::Holding",
            "core::Inheritance",
            "core::Instant",
            "core::Lease",
            "wire::status",
        ],
    ),
    ("journal", &["ids", "core::event", "wire::status"]),
    ("link", &["ids", "config"]),
    (
        "resource",
        &["ids", "config", "core::io", "core::time", "dbus::systemd1"],
    ),
    (
        "dbus",
        &[
            "ids",
            "core::event",
            "core::io",
            "core::Request",
            "core::Scope",
            "core::time",
            "core::Instant",
            "core::view",
            "journal::Record",
            "journal::Level",
            "wire::status",
        ],
    ),
    (
        "node",
        &[
            "config", "core", "dbus", "ids", "journal", "link", "process", "resource", "state",
            "tenure", "wire",
        ],
    ),
    (
        "ctl",
        &[
            "config",
            "dbus",
            "ids",
            "node::Options",
            "node::key_warnings",
            "node::load_keys",
            "resource::inspect",
            "state::DIRECTORY",
        ],
    ),
    ("sim", &["core", "ids", "wire"]),
    ("bin", &["ctl", "journal::diagnostics", "node"]),
];

/// The parts without input and output, and the crates that each of them may use.
const PURE: &[(&str, &[&str])] = &[
    ("ids", &["serde", "thiserror"]),
    (
        "wire",
        &[
            "base64",
            "hmac",
            "md5",
            "secrecy",
            "serde",
            "sha1",
            "sha2",
            "thiserror",
            "zeroize",
        ],
    ),
    ("core", &["serde"]),
    ("sim", &[]),
];

/// What a pure part must not name of the standard library, and what is harmless below that.
const IMPURE: &[(&str, &[&str])] = &[
    ("env", &[]),
    ("fs", &[]),
    ("io", &[]),
    (
        "net",
        &[
            "net::IpAddr",
            "net::Ipv4Addr",
            "net::Ipv6Addr",
            "net::AddrParseError",
        ],
    ),
    ("os", &[]),
    ("process", &[]),
    ("thread", &[]),
    ("time", &["time::Duration"]),
    // Their order differs from run to run.
    ("collections::HashMap", &[]),
    ("collections::HashSet", &[]),
    ("collections::hash_map", &[]),
    ("collections::hash_set", &[]),
];

/// The directories that hold sources.
const ROOTS: [&str; 3] = ["src", "tests", "fuzz"];

/// One source file, and what is derived from its text.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code: code_of(text),
        }
    }

    /// The part of the house that it belongs to.
    fn part(&self) -> Option<&str> {
        let inner = self.path.strip_prefix("src/")?;
        let first = inner.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// How many modules deep it stands: 1 for `src/core/mod.rs` and `src/node.rs`, 2 for `src/core/plan.rs`.
    fn depth(&self) -> usize {
        let inner = self.path.trim_start_matches("src/");
        inner.split('/').filter(|name| *name != "mod.rs").count()
    }

    fn is_test(&self) -> bool {
        !self.path.starts_with("src/") || self.path.ends_with("tests.rs")
    }

    fn at(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

fn covers(allowed: &str, path: &str) -> bool {
    path.strip_prefix(allowed)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn rule<'a>(table: &'a [(&str, &'a [&'a str])], part: &str) -> Option<&'a [&'a str]> {
    let line = table.iter().find(|(name, _)| *name == part);
    line.map(|(_, allowed)| *allowed)
}

/// A part that names another one which it must not know.
fn check_arrows(source: &Source) -> Vec<String> {
    let Some(part) = source.part().filter(|part| *part != "lib") else {
        return Vec::new();
    };
    if source.is_test() {
        return Vec::new();
    }
    let Some(allowed) = rule(ARROWS, part) else {
        return vec![source.at(1, format!("{part} has no rule in ARROWS"))];
    };
    let code = without_tests(&source.code);
    let mut named = paths(&code, "crate");
    named.extend(paths(&code, "ha_node"));
    named.extend(paths_upwards(&code, source.depth()));
    let wrong = named
        .into_iter()
        .filter(|n| !covers(part, &n.path) && !allowed.iter().any(|a| covers(a, &n.path)));
    wrong
        .map(|n| source.at(n.line, format!("{part} must not know {:?}", n.path)))
        .collect()
}

/// A pure part that can reach a clock, a file, a socket, a process, or a crate that can.
fn check_purity(source: &Source, crates: &BTreeSet<String>) -> Vec<String> {
    let Some(part) = source.part() else {
        return Vec::new();
    };
    let Some(allowed) = rule(PURE, part).filter(|_| !source.is_test()) else {
        return Vec::new();
    };
    let code = without_tests(&source.code);
    let mut wrong = Vec::new();
    for named in paths(&code, "std") {
        let impure = IMPURE.iter().any(|(forbidden, harmless)| {
            let touches = covers(forbidden, &named.path) || covers(&named.path, forbidden);
            touches && !harmless.iter().any(|h| covers(h, &named.path))
        });
        if impure || named.path.is_empty() {
            let text = format!("{part} is pure and must not use std::{}", named.path);
            wrong.push(source.at(named.line, text));
        }
    }
    let others = crates.iter().filter(|c| !allowed.contains(&c.as_str()));
    for name in others {
        for named in paths(&code, name) {
            let text = format!("{part} is pure and must not use the crate {name}");
            wrong.push(source.at(named.line, text));
        }
    }
    wrong
}

/// A file that is too long, or does not say what it is about.
fn check_file(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        wrong.push(source.at(lines, format!("more than {FILE_LINES_MAX} lines")));
    }
    let generated = source.path.starts_with("fuzz/fuzz_targets/");
    if !source.text.starts_with("//! ") && !generated {
        wrong.push(source.at(1, "does not begin with //! and what it is about"));
    }
    wrong
}

fn is_list(source: &Source, name: &str) -> bool {
    LISTS.contains(&(source.path.as_str(), name))
}

/// A function that is too long.
fn check_functions(source: &Source) -> Vec<String> {
    let long = functions(&source.code)
        .into_iter()
        .filter(|f| f.lines > FUNCTION_LINES_MAX && !is_list(source, &f.name));
    long.map(|f| source.at(f.line, format!("fn {} has {} lines", f.name, f.lines)))
        .collect()
}

/// Work that was put off.
fn check_words(source: &Source) -> Vec<String> {
    // Not written out here, where they would be found.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["X", "XX"]].map(|parts| parts.concat());
    let macros = ["todo", "unimplemented", "dbg"];
    let mut wrong = Vec::new();
    for mark in &marks {
        let found = words(&source.text, mark);
        wrong.extend(found.map(|at| source.at(line_of(&source.text, at), mark)));
    }
    for name in macros {
        let found = words(&source.code, name)
            .filter(|at| source.code[at + name.len()..].trim_start().starts_with('!'));
        wrong.extend(found.map(|at| source.at(line_of(&source.code, at), format!("{name}!"))));
    }
    wrong
}

/// A lint that is silenced without a reason, or in a way that stays when it is needed no more.
///
/// Only shared code of the tests may use `allow`: it is compiled into several programs, and in some of them there is
/// nothing to expect.
fn check_silencers(source: &Source) -> Vec<String> {
    let shipped = source.path.starts_with("src/");
    let mut wrong = Vec::new();
    for silencer in silencers(&source.code) {
        if !silencer.has_reason {
            wrong.push(source.at(silencer.line, "a silenced lint needs a reason"));
        }
        if shipped && silencer.allows {
            wrong.push(source.at(silencer.line, "use expect instead of allow"));
        }
    }
    wrong
}

fn check(source: &Source, crates: &BTreeSet<String>) -> Vec<String> {
    [
        check_arrows(source),
        check_purity(source, crates),
        check_file(source),
        check_functions(source),
        check_words(source),
        check_silencers(source),
    ]
    .concat()
}

/// The names by which the dependencies of Cargo.toml are used, as far as they differ from ours.
fn crates(manifest: &str) -> BTreeSet<String> {
    let table: toml::Table = manifest.parse().unwrap();
    let names = table["dependencies"].as_table().unwrap().keys();
    names
        .map(|name| match name.as_str() {
            "md-5" => "md5".to_owned(),
            _ => name.replace('-', "_"),
        })
        .collect()
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

fn tree() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for name in ROOTS {
        rust_files(&root.join(name), &mut files);
    }
    files.sort();
    let relative = |file: &Path| {
        file.strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    files
        .iter()
        .map(|file| Source::new(&relative(file), &std::fs::read_to_string(file).unwrap()))
        .collect()
}

#[test]
fn the_tree_is_tidy() {
    let crates = crates(include_str!("../Cargo.toml"));
    let wrong: Vec<String> = tree().iter().flat_map(|s| check(s, &crates)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_tables_speak_of_what_there_is() {
    let tree = tree();
    let parts: BTreeSet<&str> = tree.iter().filter_map(Source::part).collect();
    for (part, _) in ARROWS.iter().chain(PURE) {
        assert!(parts.contains(part), "no part {part}");
    }
    for (path, name) in LISTS {
        let source = tree.iter().find(|s| s.path == *path).expect(path);
        let long = functions(&source.code)
            .into_iter()
            .any(|f| f.name == *name && f.lines > FUNCTION_LINES_MAX);
        assert!(long, "{path}: {name} needs no exception any more");
    }
    let crates = crates(include_str!("../Cargo.toml"));
    for name in PURE.iter().flat_map(|(_, names)| *names) {
        assert!(crates.contains(*name), "no dependency {name}");
    }
}

/// What is wrong with a file of this path and text.
fn judge(path: &str, text: &str) -> Vec<String> {
    let crates = ["serde", "tokio", "zbus"].map(str::to_owned).into();
    check(&Source::new(path, text), &crates)
}

/// Each of these lines alone in the file is found, in its line and as one breach.
fn assert_found(path: &str, lines: &[&str]) {
    for line in lines {
        let wrong = judge(path, &format!("//! About.\n\n{line}\n"));
        assert_eq!(wrong.len(), 1, "{path}: {line}: {wrong:?}");
        assert!(wrong[0].starts_with(&format!("{path}:3: ")), "{wrong:?}");
    }
}

/// None of them is.
fn assert_fine(path: &str, lines: &[&str]) {
    for line in lines {
        let wrong = judge(path, &format!("//! About.\n\n{line}\n"));
        assert_eq!(wrong, Vec::<String>::new(), "{path}: {line}");
    }
}

#[test]
fn an_arrow_that_runs_backwards_is_found() {
    assert_found(
        "src/wire/codec.rs",
        &["use crate::core::Core;", "use crate::{config, ids};"],
    );
    assert_found(
        "src/core/plan.rs",
        &[
            "use crate::wire::codec::decode;",
            "use crate::wire;",
            "use crate::*;",
            "use crate as house;",
            "use super::super::link::Links;",
            "fn f(x: &crate::resource::Hands) {}",
            "use crate::{ids::NodeName, wire::{status::Status, keys}};",
        ],
    );
    assert_found(
        "src/link/port.rs",
        &["use crate::dbus::Bus;", "use crate::node::Options;"],
    );
    assert_found(
        "src/resource/unit.rs",
        &["use crate::dbus::path;", "use crate::link::Links;"],
    );
    assert_found("src/dbus/serve.rs", &["use crate::core::{Core, view};"]);
    assert_found(
        "src/config/mod.rs",
        &["use super::state::State;", "use crate::wire::size;"],
    );
    assert_found(
        "src/ctl/mod.rs",
        &["use crate::node::run;", "use crate::core::Core;"],
    );
    assert_found("src/sim/run.rs", &["use crate::process::boottime_now;"]);
    assert_found("src/bin/hactl.rs", &["use ha_node::core::Core;"]);
    assert_found("src/node/start.rs", &["use crate::ctl::run;"]);
}

#[test]
fn an_arrow_of_the_design_is_fine() {
    assert_fine(
        "src/core/plan.rs",
        &[
            "use crate::{ids::NodeName, wire::status::{Plan, Status}};",
            "use super::super::ids;",
            "use super::leader::owner;",
            "pub(crate) fn f() {}",
            "// use crate::link::Links;",
            "const TEXT: &str = \"crate::link::Links\";",
            "#[cfg(test)]\nmod tests {\n use crate::sim::Sim;\n}",
            "#[cfg(test)]\nuse crate::sim::Sim;",
        ],
    );
    assert_fine(
        "src/resource/unit.rs",
        &["use crate::dbus::systemd1::{JobResult, UNIT};"],
    );
    assert_fine("src/core/plan/tests.rs", &["use crate::sim::Sim;"]);
    assert_fine("tests/sim_seeds.rs", &["use ha_node::sim::Sim;"]);
}

#[test]
fn an_impure_part_is_found() {
    assert_found(
        "src/core/time.rs",
        &[
            "use std::time::Instant;",
            "use std::time::{Duration, SystemTime};",
            "use std::time;",
            "use std::time::*;",
            "use std::{fmt, fs};",
            "use std::io::Read;",
            "use std::net::UdpSocket;",
            "use std::net::{IpAddr, ToSocketAddrs};",
            "use std::collections::{BTreeMap, HashMap};",
            "fn f() { std::thread::yield_now() }",
            "fn f() { ::std::process::abort() }",
            "use tokio::sync::mpsc;",
            "use zbus::Connection;",
            "fn f(x: zbus::Error) {}",
            "use std as basis;",
        ],
    );
    assert_found(
        "src/wire/keys.rs",
        &["use std::fs::File;", "use tokio::sync::mpsc;"],
    );
    assert_found("src/sim/clock.rs", &["use std::time::Instant;"]);
}

#[test]
fn a_pure_part_is_fine() {
    assert_fine(
        "src/core/time.rs",
        &[
            "use std::time::Duration;",
            "use std::net::{IpAddr, Ipv4Addr};",
            "use std::{collections::{BTreeMap, VecDeque}, fmt};",
            "use crate::core::time::Instant;",
            "use serde::Serialize;",
            "#[cfg(test)]\nmod tests { use std::fs::File; }",
        ],
    );
    assert_fine("src/process.rs", &["use std::time::Instant;"]);
}

#[test]
fn a_file_that_outgrew_its_reader_is_found() {
    let long = format!("//! About.\n{}", "\n".repeat(FILE_LINES_MAX));
    assert_eq!(judge("src/state.rs", &long).len(), 1);
    let shorter = format!("//! About.\n{}", "\n".repeat(FILE_LINES_MAX - 1));
    assert_eq!(judge("src/state.rs", &shorter), Vec::<String>::new());
    assert_eq!(
        judge("src/state.rs", "use std::fs;\n").len(),
        1,
        "does not say what it is"
    );
}

#[test]
fn a_long_function_is_found() {
    let function = |lines: usize| {
        let body = "    let a = ['{', '\\'', 'b'];\n".repeat(lines.saturating_sub(2));
        format!("//! About.\n\n    pub(super) async fn f<'a>(x: [u8; 3]) -> &'a str {{\n{body}}}\n")
    };
    assert_eq!(judge("src/state.rs", &function(70)), Vec::<String>::new());
    let wrong = judge("src/state.rs", &function(71));
    assert_eq!(wrong, ["src/state.rs:3: fn f has 71 lines"]);
    let declared = "//! About.\ntrait T {\n    fn f(x: [u8; 3]);\n}\ntype F = fn(u8);\n";
    assert_eq!(functions(&code_of(declared)), []);
}

#[test]
fn work_that_was_put_off_is_found() {
    let marks = [["// TO", "DO: later"], ["/* FIX", "ME */"], ["// X", "XX"]];
    for mark in marks.map(|parts| parts.concat()) {
        assert_found("src/state.rs", &[&mark]);
    }
    assert_found(
        "tests/a.rs",
        &["fn f() { todo!() }", "fn f() { unimplemented!(\"x\") }"],
    );
    assert_fine(
        "src/state.rs",
        &["// method, mastodon", "const X: &str = \"todo!\";"],
    );
}

#[test]
fn a_silenced_lint_is_found() {
    assert_found(
        "src/state.rs",
        &[
            "#[expect(dead_code)]",
            "#[allow(dead_code, reason = \"x\")]",
            "#![allow(dead_code, reason = \"x\")]",
            "#[cfg_attr(test, allow(dead_code, reason = \"x\"))]",
        ],
    );
    assert_found("tests/a.rs", &["#[allow(dead_code)]"]);
    assert_fine(
        "src/state.rs",
        &[
            "#[expect(\n    dead_code,\n    reason = \"x\"\n)]",
            "fn f() { x.expect() }",
        ],
    );
    assert_fine("tests/a.rs", &["#![allow(dead_code, reason = \"x\")]"]);
}

#[test]
fn comments_and_texts_are_no_code() {
    let text =
        "a // b\n/* c /* d */ e\n*/ f \"g \\\" h\" r#\"i \" j\"# 'k' '\\'' 'l: b\"m\" br\"n\\\"";
    let code = code_of(text);
    let left: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(
        left,
        [
            "a", "f", "\"\"", "\"\"", "\"\"", "\"\"", "'l:", "b\"\"", "b\"\""
        ]
    );
    assert_eq!(code.matches('\n').count(), text.matches('\n').count());
}
