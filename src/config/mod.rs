//! The configuration: TOML in, one checked [`Config`] out.
//!
//! Owns the path from text to [`Config`]: which files are read (`layers`), what may stand in them
//! ([`schema`], `decode`), how they are laid over each other (figment, in `layers`), whether it makes
//! sense together (`check`), and how people are told that it does not (`problem`). Reads the key file
//! ([`keyfile`]) but leaves its contents to `wire`. Changes nothing on the machine.
//!
//! Every value carries its `place::Origin` until it was checked, so that each error names file, line and
//! column; one run reports all errors of a phase (decoding, then checking), not just the first.

mod check;
mod decode;
mod digest;
mod environment;
mod failure;
pub mod health;
pub mod interfaces;
pub mod keyfile;
mod kinds;
mod layers;
pub mod model;
mod place;
mod problem;
mod raw;
mod reader;
pub mod schema;
mod value;
pub mod vip;

pub use check::GROUPS_MAX;
pub use interfaces::InterfaceUse;
pub use model::Config;
pub use place::Place;
pub use problem::{ConfigErrors, PROBLEMS_SHOWN_MAX, Problem, Warning};
pub(crate) use value::show_duration;

use crate::config::layers::MainFile;
use crate::config::place::Sources;
use crate::config::problem::Problems;
use std::path::Path;

/// Where the daemon looks when nobody names a file.
pub const MAIN_FILE: &str = "/etc/ha-node/ha-node.toml";

/// A configuration together with what only a check by a person wants to know.
#[derive(Debug)]
pub struct Loaded {
    /// What the daemon runs by.
    pub config: Config,
    /// What works, but may not be meant.
    pub warnings: Vec<Warning>,
    /// Every interface that is named, with its place; for [`interfaces::missing`].
    pub interfaces: Vec<InterfaceUse>,
}

impl Config {
    /// Loads `main_file`, then `conf.d/*.toml` beside it in the order of their names, then the variables
    /// `HA_NODE_SECTION__KEY` of `env`. With no file at all the result is a standalone cluster of `host`.
    ///
    /// `host` is the host's name as `uname -n` prints it.
    ///
    /// # Errors
    /// All problems of the first phase that finds any.
    pub fn load(
        main_file: &Path,
        env: impl Iterator<Item = (String, String)>,
        host: &str,
    ) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        load(main_file, env, host).map(|loaded| (loaded.config, loaded.warnings))
    }

    /// The same for a file that a person named (`--config FILE`): it must exist.
    ///
    /// # Errors
    /// As [`Config::load`], and if `main_file` does not exist.
    pub fn load_named(
        main_file: &Path,
        env: impl Iterator<Item = (String, String)>,
        host: &str,
    ) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        load_named(main_file, env, host).map(|loaded| (loaded.config, loaded.warnings))
    }
}

/// [`Config::load`] with all that a check wants to know.
///
/// # Errors
/// As [`Config::load`].
pub fn load(
    main_file: &Path,
    env: impl Iterator<Item = (String, String)>,
    host: &str,
) -> Result<Loaded, ConfigErrors> {
    load_from(MainFile::MayBeMissing(main_file), env, host)
}

/// [`Config::load_named`] with all that a check wants to know.
///
/// # Errors
/// As [`Config::load_named`].
pub fn load_named(
    main_file: &Path,
    env: impl Iterator<Item = (String, String)>,
    host: &str,
) -> Result<Loaded, ConfigErrors> {
    load_from(MainFile::Required(main_file), env, host)
}

/// Loads one text as if it were the main file, on the host that its first node names.
///
/// # Errors
/// As [`Config::load`].
pub fn parse_str(text: &str) -> Result<Loaded, ConfigErrors> {
    let mut problems = Problems::new(Sources::default());
    let source = problems.sources.add_file("configuration", text.to_owned());
    let raw = decode::document(text, source, &mut problems);
    problems.finish_phase()?;
    let host = raw.node.first().map_or("localhost".to_owned(), |node| {
        node.name.value.as_str().to_owned()
    });
    let raw = layers::merge(vec![raw], &mut problems)?;
    check::config(&raw, &host, false, problems)
}

fn load_from(
    main_file: MainFile<'_>,
    env: impl Iterator<Item = (String, String)>,
    host: &str,
) -> Result<Loaded, ConfigErrors> {
    let mut problems = Problems::new(Sources::default());
    let files = layers::read(main_file, &mut problems);
    let standalone = files.is_empty();
    let mut all = Vec::new();
    for (source, text) in files {
        all.push(decode::document(&text, source, &mut problems));
    }
    all.extend(environment::layers(env, &mut problems));
    problems.finish_phase()?;
    let raw = layers::merge(all, &mut problems)?;
    check::config(&raw, host, standalone, problems)
}
