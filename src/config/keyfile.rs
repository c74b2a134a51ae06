//! Reads the key file, if nobody else can: type, owner and mode are checked on the opened file itself.
//!
//! What stands in it is the business of `wire`.

use crate::config::place::Place;
use crate::config::problem::{ConfigErrors, Wrong};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Largest key file.
pub const SIZE_MAX: usize = 64 * 1024;

/// The text of the key file.
///
/// # Errors
/// The file cannot be read, is no regular file, belongs to someone other than root or the caller, lets its group
/// or others in, is larger than [`SIZE_MAX`] bytes, or is not UTF-8 text.
pub fn read(path: &Path) -> Result<SecretString, ConfigErrors> {
    read_checked(path)
        .map_err(|wrong| ConfigErrors::one(Place::File(path.display().to_string()), wrong))
}

fn read_checked(path: &Path) -> Result<SecretString, Wrong> {
    // A named pipe in the place of the file must not make the daemon wait for a writer.
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| unreadable(path, &error))?;
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    check_metadata(path, &metadata)?;
    let mut bytes = Zeroizing::new(vec![0_u8; SIZE_MAX + 1]);
    let mut length = 0;
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(path, &error)),
        }
    }
    let text = bytes.get(..length).filter(|_| length <= SIZE_MAX);
    let text =
        text.ok_or_else(|| Wrong::new("the key file is too large").expected("at most 64 KiB"))?;
    std::str::from_utf8(text)
        .map(SecretString::from)
        .map_err(|_| {
            Wrong::new("the key file is not UTF-8 text")
                .expected("`auth N`, then lines of `N METHOD KEY`")
        })
}

fn check_metadata(path: &Path, metadata: &Metadata) -> Result<(), Wrong> {
    let path = path.display();
    if !metadata.is_file() {
        return Err(Wrong::new("the key file is not a regular file"));
    }
    let owner = metadata.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(Wrong::new(format!(
            "the key file belongs to the user with number {owner}"
        ))
        .expected("root as its owner")
        .hint(format!("run `chown root {path}`")));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Wrong::new(format!(
            "the key file has mode {mode:04o}, so others than root can get at the keys"
        ))
        .expected("mode 0600")
        .hint(format!("run `chmod 600 {path}`")));
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Wrong {
    let wrong = Wrong::new(format!("the key file cannot be read: {error}"));
    if error.kind() == ErrorKind::NotFound {
        let path = path.display();
        wrong.hint(format!(
            "`hactl keygen` makes one; copy it to {path} on every node"
        ))
    } else if error.kind() == ErrorKind::PermissionDenied {
        wrong.hint("run this as root")
    } else {
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::fs::{Permissions, set_permissions, write};

    fn with_mode(mode: u32, text: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authkeys");
        write(&path, text).unwrap();
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn a_private_file_is_read() {
        let (_directory, path) = with_mode(0o600, b"auth 1\n1 crc\n");
        assert_eq!(read(&path).unwrap().expose_secret(), "auth 1\n1 crc\n");
    }

    #[test]
    fn a_file_open_to_others_is_refused_with_the_command_that_repairs_it() {
        for mode in [0o640, 0o604, 0o620, 0o601] {
            let (_directory, path) = with_mode(mode, b"auth 1\n");
            let text = read(&path).unwrap_err().to_string();
            assert!(text.contains(&format!("mode {mode:04o}")), "{text}");
            assert!(
                text.contains(&format!("run `chmod 600 {}`", path.display())),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_file_or_too_large_or_no_text_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let told = |path: &Path| read(path).unwrap_err().to_string();
        assert!(told(directory.path()).contains("not a regular file"));
        assert!(told(&directory.path().join("none")).contains("hactl keygen"));
        let (_directory, path) = with_mode(0o600, &vec![b'a'; SIZE_MAX + 1]);
        assert!(told(&path).contains("too large"));
        let (_directory, path) = with_mode(0o600, &vec![b'a'; SIZE_MAX]);
        assert!(read(&path).is_ok());
        let (_directory, path) = with_mode(0o600, b"\xff");
        assert!(told(&path).contains("UTF-8"));
    }
}
