//! A copy of the running program in the state directory: should the installed one be broken by then, a dead daemon's
//! groups are still released.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// The running program, whatever became of its file.
const RUNNING: &str = "/proc/self/exe";

/// Its name in the state directory; the units name it.
const NAME: &str = "ha-node";

/// Renews the copy in the background where it differs. A failure is told: everything else works.
pub(super) fn keep(directory: &Path) {
    let directory = directory.to_owned();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = renew(Path::new(RUNNING), &directory) {
            tracing::warn!(
                "no spare copy of this program in {}: {error}; should the installed one be broken when this daemon \
                 dies, its groups are not released, going on",
                directory.display()
            );
        }
    });
}

fn renew(program: &Path, directory: &Path) -> io::Result<()> {
    let spare = directory.join(NAME);
    if same(program, &spare).unwrap_or(false) {
        return Ok(());
    }
    let new = directory.join(format!("{NAME}.new"));
    // A disk that has no room for it shall not be full because of it.
    let copied = fs::copy(program, &new).and_then(|_| fs::rename(&new, &spare));
    if copied.is_err() {
        let _ = fs::remove_file(&new);
    }
    copied
}

fn same(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let length = one.read(&mut left)?;
        let Some(block) = right.get_mut(..length).filter(|block| !block.is_empty()) else {
            return Ok(true);
        };
        other.read_exact(block)?;
        if left.get(..length) != Some(&*block) {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_copy_is_made_once_and_renewed_when_the_program_changes() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        let state = directory.path().join("state");
        fs::create_dir(&state).unwrap();
        for content in ["one", "two", "longer than that"] {
            fs::write(&program, content).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            renew(&program, &state).unwrap();
            let spare = state.join(NAME);
            assert_eq!(fs::read_to_string(&spare).unwrap(), content);
            assert_eq!(
                fs::metadata(&spare).unwrap().permissions().mode() & 0o777,
                0o755
            );
            assert!(same(&program, &spare).unwrap());
        }
    }
}
