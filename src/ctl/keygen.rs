//! A new key file in Heartbeat's format: one random key of 256 bits for `sha256`.

use crate::ctl::error::CtlError;
use rustix::rand::{GetRandomFlags, getrandom};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use zeroize::Zeroizing;

/// Bytes of a key: as many as its digest has.
const KEY_LENGTH: usize = 32;

/// Prints a key file, or writes it to a file that must not exist yet.
pub(crate) fn run(output: Option<&Path>) -> Result<(), CtlError> {
    let file = key_file(random_key()?.as_slice());
    match output {
        None => super::print(&file),
        Some(path) => write_new(path, &file),
    }
}

fn random_key() -> Result<Zeroizing<[u8; KEY_LENGTH]>, CtlError> {
    let mut key = Zeroizing::new([0; KEY_LENGTH]);
    match getrandom(key.as_mut_slice(), GetRandomFlags::empty()) {
        Ok(KEY_LENGTH) => Ok(key),
        Ok(length) => Err(CtlError::Failed(format!(
            "the kernel gave {length} random bytes only"
        ))),
        Err(error) => Err(CtlError::Failed(format!(
            "the kernel gave no random bytes: {error}"
        ))),
    }
}

/// `auth 1`, then `1 sha256 HEX`.
fn key_file(key: &[u8]) -> Zeroizing<String> {
    let mut file = Zeroizing::new(String::with_capacity(16 + 2 * key.len() + 2));
    file.push_str("auth 1\n1 sha256 ");
    for byte in key {
        file.extend(
            [byte >> 4, byte & 15]
                .map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or_default()),
        );
    }
    file.push('\n');
    file
}

fn write_new(path: &Path, text: &str) -> Result<(), CtlError> {
    let shown = path.display();
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| {
            CtlError::Failed(if error.kind() == ErrorKind::AlreadyExists {
                format!(
                    "\"{shown}\" exists; it is not overwritten, as the other nodes have its key"
                )
            } else {
                format!("cannot create \"{shown}\": {error}")
            })
        })?;
    (file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all()))
    .map_err(|error| CtlError::Failed(format!("cannot write \"{shown}\": {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_format_is_heartbeats() {
        let file = key_file(&[0x0f; KEY_LENGTH]);
        assert_eq!(
            *file,
            format!("auth 1\n1 sha256 {}\n", "0f".repeat(KEY_LENGTH))
        );
    }

    #[test]
    fn two_keys_differ() {
        assert_ne!(*random_key().unwrap(), *random_key().unwrap());
    }

    #[test]
    fn a_file_is_private_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authkeys");
        run(Some(&path)).unwrap();
        let first = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(matches!(run(Some(&path)), Err(CtlError::Failed(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
    }
}
