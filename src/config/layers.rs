//! Which files make up the configuration, and how their values are laid over each other.
//!
//! A later layer's single values replace those of the layers below; its `[[node]]`, `[[link]]` and `[[group]]`
//! entries are added to theirs.

use crate::config::place::Place;
use crate::config::problem::{ConfigErrors, Problems, Wrong};
use crate::config::raw::Raw;
use figment::Figment;
use figment::providers::Serialized;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Largest file that is read; real ones have a few kilobytes.
const FILE_SIZE_MAX: u64 = 1024 * 1024;

/// Most files in `conf.d`.
const FILES_MAX: usize = 1000;

/// The first file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MainFile<'p> {
    /// The usual place: without it the cluster is standalone.
    MayBeMissing(&'p Path),
    /// A person named it.
    Required(&'p Path),
}

/// Reads all files that there are, in order; those that cannot be read are told and left out.
pub(crate) fn read(main: MainFile<'_>, problems: &mut Problems) -> Vec<(u32, String)> {
    let (MainFile::MayBeMissing(main_path) | MainFile::Required(main_path)) = main;
    let mut paths = vec![main_path.to_owned()];
    let directory = main_path.parent().unwrap_or(Path::new("")).join("conf.d");
    match fragments(&directory) {
        Ok(more) => paths.extend(more),
        Err(error) => problems.add_at_place(file_place(&directory), unreadable(&error)),
    }
    let mut texts = Vec::new();
    for path in paths {
        let optional = matches!(main, MainFile::MayBeMissing(main) if main == path);
        match read_file(&path) {
            Ok(text) => {
                let source = problems
                    .sources
                    .add_file(&path.display().to_string(), text.clone());
                texts.push((source, text));
            }
            Err(error) if optional && error.kind() == ErrorKind::NotFound => {}
            Err(error) => problems.add_at_place(file_place(&path), unreadable(&error)),
        }
    }
    texts
}

/// Lays the layers over each other, the last on top.
pub(crate) fn merge(layers: Vec<Raw>, problems: &mut Problems) -> Result<Raw, ConfigErrors> {
    let mut figment = Figment::from(Serialized::defaults(Raw::default()));
    for layer in layers {
        figment = figment.admerge(Serialized::defaults(layer));
    }
    figment.extract().or_else(|error| {
        problems.add_at_place(
            Place::File("configuration".to_owned()),
            Wrong::new(format!("the files do not fit together: {error}")),
        );
        problems.finish_phase().map(|()| Raw::default())
    })
}

/// The files of `conf.d` in the order of their names; none if there is no such directory.
fn fragments(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden && name.as_encoded_bytes().ends_with(b".toml") {
            paths.push(directory.join(name));
        }
        if paths.len() > FILES_MAX {
            return Err(std::io::Error::other(format!(
                "more than {FILES_MAX} files"
            )));
        }
    }
    paths.sort();
    Ok(paths)
}

fn read_file(path: &Path) -> std::io::Result<String> {
    // A named pipe in the place of the file must not make the daemon wait for a writer.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_SIZE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_SIZE_MAX {
        return Err(std::io::Error::other("larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error
            .as_bytes()
            .iter()
            .take(error.utf8_error().valid_up_to())
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        std::io::Error::other(format!("line {line} is not UTF-8 text"))
    })
}

fn file_place(path: &Path) -> Place {
    Place::File(path.display().to_string())
}

fn unreadable(error: &std::io::Error) -> Wrong {
    let wrong = Wrong::new(format!("cannot be read: {error}"));
    if error.kind() == ErrorKind::NotFound {
        wrong.hint("name a file that exists")
    } else if error.kind() == ErrorKind::PermissionDenied {
        wrong.hint("run this as root")
    } else {
        wrong
    }
}
