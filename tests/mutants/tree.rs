//! A copy of the pure parts of the house and of their tests, which builds in seconds.

#![expect(
    clippy::disallowed_methods,
    reason = "it builds and runs programs, and waits for them"
)]

use crate::list::Mutant;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Parts that need neither each other's drivers nor a machine.
const PARTS: [&str; 4] = ["ids.rs", "core", "wire", "sim"];

/// The crates that they use.
const CRATES: [&str; 9] = [
    "base64",
    "hmac",
    "md-5",
    "secrecy",
    "serde",
    "sha1",
    "sha2",
    "thiserror",
    "zeroize",
];

/// The crate's file, beside what it takes over from the real one.
const MANIFEST: &str = r#"
[package]
name = "ha-node"
version = "0.1.0"
edition = "2024"

[lib]
name = "ha_node"

[workspace]

[profile.release]
opt-level = 1
incremental = true
overflow-checks = true

"#;

/// A test program that takes longer does not end.
const TEST_MAX: Duration = Duration::from_secs(300);

/// Seeds of the random walk: less than the normal tests have.
const SEEDS: &str = "600";

/// Fresh seeds of each size and policy.
const FRESH_SEEDS: &str = "3";

/// What became of mutants.
#[derive(Debug)]
pub enum Outcome {
    /// By this test.
    Noticed(String),
    Survived,
    /// It could not be tried.
    Error(String),
}

pub struct Tree {
    root: PathBuf,
    /// All test programs, the fast ones first.
    programs: Vec<String>,
    /// Only the test that the list names is run.
    quick: bool,
}

impl Tree {
    /// Copies all that is needed.
    pub fn new() -> Self {
        let from = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = from.join("target/mutants");
        for part in ["src", "tests"] {
            let old = root.join(part);
            if old.exists() {
                std::fs::remove_dir_all(&old).unwrap();
            }
            std::fs::create_dir_all(&old).unwrap();
        }
        for part in PARTS {
            copy(&from.join("src").join(part), &root.join("src").join(part));
        }
        let mods = "pub mod core;\npub mod ids;\npub mod sim;\npub mod wire;\n";
        std::fs::write(root.join("src/lib.rs"), mods).unwrap();
        let mut programs = vec![String::from("lib")];
        for entry in std::fs::read_dir(from.join("tests")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            if name.starts_with("core_") || name.starts_with("sim_") {
                copy(&path, &root.join("tests").join(path.file_name().unwrap()));
                if path.extension().is_some() || path.join("main.rs").exists() {
                    programs.push(name);
                }
            }
        }
        // In the order of the alphabet the scripts come before the simulator.
        programs.sort();
        std::fs::copy(from.join("Cargo.lock"), root.join("Cargo.lock")).unwrap();
        std::fs::write(root.join("Cargo.toml"), manifest(from)).unwrap();
        let quick = std::env::var_os("MUTANTS_QUICK").is_some();
        Self {
            root,
            programs,
            quick,
        }
    }

    /// Whether all tests pass as the tree is.
    ///
    /// # Errors
    /// What does not.
    pub fn passes(&self) -> Result<(), String> {
        match self.run_all("core_rules") {
            Outcome::Survived => Ok(()),
            Outcome::Noticed(by) => Err(format!("{by} fails")),
            Outcome::Error(what) => Err(what),
        }
    }

    /// Applies these, runs the tests until one fails, and takes them back.
    pub fn try_mutants(&mut self, mutants: &[&Mutant], first: &str) -> Outcome {
        let whole: Vec<(PathBuf, String)> = mutants
            .iter()
            .map(|mutant| {
                let path = self.root.join(&mutant.file);
                let text = std::fs::read_to_string(&path).unwrap();
                (path, text)
            })
            .collect();
        let applied = mutants.iter().try_for_each(|mutant| {
            let path = self.root.join(&mutant.file);
            let text = mutant.applied(&std::fs::read_to_string(&path).unwrap())?;
            std::fs::write(&path, text).map_err(|e| e.to_string())
        });
        let outcome = match applied {
            Ok(()) => self.run_all(first),
            Err(what) => Outcome::Error(what),
        };
        for (path, text) in whole.into_iter().rev() {
            std::fs::write(path, text).unwrap();
        }
        outcome
    }

    fn run_all(&self, first: &str) -> Outcome {
        let others = self.programs.iter().filter(|p| *p != first && !self.quick);
        for program in std::iter::once(first).chain(others.map(String::as_str)) {
            let built = match self.build(program) {
                Ok(path) => path,
                Err(what) => return Outcome::Error(what),
            };
            if let Some(test) = fails(&built, filter(program)) {
                return Outcome::Noticed(format!("{program} ({test})"));
            }
        }
        Outcome::Survived
    }

    /// Builds one test program, and says where it is.
    fn build(&self, program: &str) -> Result<String, String> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| String::from("cargo"));
        let mut command = Command::new(cargo);
        command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", self.root.join("target"));
        command.args(["test", "--release", "--offline", "--no-run", "--quiet"]);
        command.args(["--message-format", "json"]);
        match program {
            "lib" => command.arg("--lib"),
            program => command.args(["--test", program]),
        };
        let output = command
            .stderr(Stdio::piped())
            .output()
            .map_err(|e| e.to_string())?;
        let messages = String::from_utf8_lossy(&output.stdout);
        let values = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut errors = Vec::new();
        for value in values {
            if let Some(path) = value["executable"]
                .as_str()
                .filter(|_| output.status.success())
            {
                return Ok(path.to_owned());
            }
            if value["message"]["level"] == "error" {
                errors.push(value["message"]["rendered"].to_string());
            }
        }
        Err(format!(
            "does not build: {} {}",
            errors.first().cloned().unwrap_or_default(),
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// Which tests of a program are run: of those beside the code only the core's, since others read files.
fn filter(program: &str) -> &'static str {
    match program {
        "lib" => "core::",
        _ => "",
    }
}

/// The first test of a program that fails.
fn fails(program: &str, filter: &str) -> Option<String> {
    let log = PathBuf::from(format!("{program}.log"));
    let file = std::fs::File::create(&log).unwrap();
    let mut child = Command::new(program)
        .arg(filter)
        .env("SIM_SEEDS", SEEDS)
        .env("SIM_FRESH", FRESH_SEEDS)
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > TEST_MAX {
            child.kill().unwrap();
            child.wait().unwrap();
            return Some(String::from("does not end"));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    std::fs::remove_file(&log).unwrap();
    if status.success() {
        return None;
    }
    let failed = text.lines().find_map(|line| {
        let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        Some(name.to_owned())
    });
    Some(failed.unwrap_or_else(|| status.to_string()))
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            copy(&path, &to.join(path.file_name().unwrap()));
        }
    } else {
        std::fs::copy(from, to).unwrap();
    }
}

fn manifest(from: &Path) -> String {
    let text = std::fs::read_to_string(from.join("Cargo.toml")).unwrap();
    let real: toml::Table = text.parse().unwrap();
    let table = real["dependencies"].as_table().unwrap();
    let wanted: toml::Table = table
        .iter()
        .filter(|(name, _)| CRATES.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let section = toml::Table::from_iter([(String::from("dependencies"), wanted.into())]);
    format!("{MANIFEST}{}", toml::to_string(&section).unwrap())
}
