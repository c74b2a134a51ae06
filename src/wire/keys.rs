//! The key file: `auth N` says which key signs, lines `N METHOD [KEY]` say which are accepted.
//!
//! Heartbeat's format, read more forgivingly in one point: `auth N` may stand anywhere. Reading the file and
//! judging its permissions is the caller's part. Neither errors nor `Debug` ever show a key.

use super::auth::{KEY_NUMBER_MAX, Key, Method};
use std::collections::BTreeMap;
use std::fmt;

/// The keys of this node: any number to verify with, one of them to sign with.
#[derive(Clone, Default)]
pub struct Keys {
    keys: BTreeMap<u8, Key>,
    sending: Option<u8>,
}

/// What is wrong in a key file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: found {found}, expected {expected}")]
pub struct KeyFileError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What stands there; a word that might be a key is described instead of shown.
    pub found: String,
    /// What should stand there.
    pub expected: String,
}

impl Keys {
    /// No keys: for a node on its own, which sends nothing and accepts nothing.
    pub const fn none() -> Self {
        Self {
            keys: BTreeMap::new(),
            sending: None,
        }
    }

    /// Parses the text of a key file. Words after a key are ignored, as Heartbeat does.
    ///
    /// # Errors
    /// The first line that is none of `auth N`, `N METHOD [KEY]`, a comment and blank; a number above 15, given
    /// twice, or an `auth` that names no key; a `crc` with a key or another method without one.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut keys = Self::none();
        let mut auth: Option<(u8, Place)> = None;
        let mut last_line = 1;
        for (index, line) in text.lines().enumerate() {
            last_line = index + 1;
            let mut words = Words {
                line: last_line,
                column: 1,
                rest: line,
            };
            match words.next() {
                (_, None) => {}
                (_, Some(word)) if word.starts_with('#') => {}
                (place, Some("auth")) if auth.is_some() => {
                    let expected = "one `auth` line only".to_owned();
                    return Err(place.error("a second `auth`".to_owned(), expected));
                }
                (_, Some("auth")) => auth = Some(parse_number(words.next())?),
                first @ (_, Some(_)) => keys.add(first, words)?,
            }
        }
        let Some((number, place)) = auth else {
            let place = Place {
                line: last_line,
                column: 1,
            };
            let expected = "a line `auth N` that names the key to sign with".to_owned();
            return Err(place.error("the end of the file".to_owned(), expected));
        };
        if !keys.keys.contains_key(&number) {
            let expected = format!("a key of that number: a line `{number} sha256 KEY`");
            return Err(place.error(format!("\"{number}\""), expected));
        }
        keys.sending = Some(number);
        Ok(keys)
    }

    /// Method of the key that signs; `None` without keys. [`Method::Crc`] protects against nobody.
    pub fn send_method(&self) -> Option<Method> {
        self.sending_key().map(Key::method)
    }

    /// The key that signs; `None` without keys.
    pub fn sending_key(&self) -> Option<&Key> {
        self.key(self.sending?)
    }

    /// The key of a number.
    pub fn key(&self, number: u8) -> Option<&Key> {
        self.keys.get(&number)
    }

    /// All keys that are accepted, by number. One without a secret among them lets anybody forge packets.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.values()
    }

    fn add(&mut self, first: Word<'_>, mut words: Words<'_>) -> Result<(), KeyFileError> {
        let (number, place) = parse_number(first)?;
        if self.keys.contains_key(&number) {
            let expected = "a number that no line above has".to_owned();
            return Err(place.error(format!("a second key {number}"), expected));
        }
        let method = parse_method(words.next())?;
        let secret = match (method.is_keyed(), words.next()) {
            (true, (_, Some(secret))) => secret,
            (true, (place, None)) => {
                let expected = format!("a key: `{method}` needs one");
                return Err(place.error("the end of the line".to_owned(), expected));
            }
            (false, (_, None)) => "",
            (false, (place, Some(_))) => {
                let expected = format!("the end of the line: `{method}` uses no key");
                return Err(place.error("another word".to_owned(), expected));
            }
        };
        self.keys
            .insert(number, Key::new(number, method, secret.as_bytes()));
        Ok(())
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("keys", &self.keys.values())
            .field("sending", &self.sending)
            .finish()
    }
}

#[derive(Clone, Copy)]
struct Place {
    line: usize,
    column: usize,
}

impl Place {
    fn error(self, found: String, expected: String) -> KeyFileError {
        let Self { line, column } = self;
        KeyFileError {
            line,
            column,
            found,
            expected,
        }
    }
}

/// A word and where it starts; none at the end of the line.
type Word<'a> = (Place, Option<&'a str>);

/// The words of one line.
struct Words<'a> {
    line: usize,
    column: usize,
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Word<'a> {
        let is_blank = |c: char| c.is_ascii_whitespace() || c == '\x0b';
        let word_on = self.rest.trim_start_matches(is_blank);
        self.column += self.rest.len() - word_on.len();
        let place = Place {
            line: self.line,
            column: self.column,
        };
        let (word, rest) = match word_on.find(is_blank) {
            Some(end) => word_on.split_at(end),
            None => (word_on, ""),
        };
        self.column += word.chars().count();
        self.rest = rest;
        (place, Some(word).filter(|word| !word.is_empty()))
    }
}

fn parse_number((place, word): Word<'_>) -> Result<(u8, Place), KeyFileError> {
    let number = word.and_then(|word| word.parse().ok());
    match number.filter(|&number| number <= KEY_NUMBER_MAX) {
        Some(number) => Ok((number, place)),
        None => {
            let expected = format!("`auth` or a key number from 0 to {KEY_NUMBER_MAX}");
            let found = match word {
                Some(word) if word.parse::<i16>().is_ok() => format!("\"{word}\""),
                Some(_) | None => describe(word, &["auth"]),
            };
            Err(place.error(found, expected))
        }
    }
}

fn parse_method((place, word): Word<'_>) -> Result<Method, KeyFileError> {
    word.and_then(Method::from_word).ok_or_else(|| {
        let expected = "a method: sha256, sha512, sha1, md5 or crc".to_owned();
        place.error(describe(word, &Method::ALL.map(Method::as_str)), expected)
    })
}

/// Shows a word only if it is much like one of `known`: any other may be a misplaced key.
fn describe(word: Option<&str>, known: &[&str]) -> String {
    let plain = |word: &str| word.replace(['-', '_'], "").to_lowercase();
    match word {
        None => "the end of the line".to_owned(),
        Some(word) if known.contains(&plain(word).trim_start_matches("hmac")) => {
            format!("\"{word}\"")
        }
        Some(_) => "a word that is not shown here, because it may be a key".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_format_is_read() {
        let text =
            "# keys\n\nauth 1\n1 sha1 LabSecret1 and words\n  2\tmd5 x\r\n3 crc\n15 sha512 y\n";
        let keys = Keys::parse(text).unwrap();
        assert_eq!(keys.send_method(), Some(Method::Sha1));
        let all: Vec<_> = keys
            .iter()
            .map(|key| (key.number(), key.method()))
            .collect();
        let expected = [
            (1, Method::Sha1),
            (2, Method::Md5),
            (3, Method::Crc),
            (15, Method::Sha512),
        ];
        assert_eq!(all, expected);
        let same = Keys::parse("1 sha1 LabSecret1\nauth 1").unwrap();
        assert_eq!(
            same.key(1).unwrap().sign(&[b"x"]),
            keys.key(1).unwrap().sign(&[b"x"])
        );
        assert_eq!(Keys::none().send_method(), None);
    }

    #[test]
    fn errors_say_where_what_and_what_instead() {
        let cases = [
            ("", 1, 1, "the end of the file", "`auth N`"),
            ("1 md5 k\n# x\n", 2, 1, "the end of the file", "`auth N`"),
            ("auth 2\n1 md5 k\n", 1, 6, "\"2\"", "2 sha256 KEY"),
            ("auth\n", 1, 5, "end of the line", "0 to 15"),
            ("auth 1\n auth 1", 2, 2, "second `auth`", "one `auth`"),
            ("auth 16", 1, 6, "\"16\"", "0 to 15"),
            ("Auth 1", 1, 1, "\"Auth\"", "`auth`"),
            ("auth 1\n-1 md5 k", 2, 1, "\"-1\"", "0 to 15"),
            ("auth 1\n1", 2, 2, "end of the line", "sha256"),
            ("auth 1\n1 SHA-1 k", 2, 3, "\"SHA-1\"", "sha1"),
            ("auth 1\n1 md5", 2, 6, "end of the line", "needs one"),
            ("auth 1\n1 crc hush", 2, 7, "another word", "no key"),
            (
                "auth 1\n1 md5 k\n1 md5 l",
                3,
                1,
                "second key 1",
                "no line above",
            ),
        ];
        for (text, line, column, found, expected) in cases {
            let error = Keys::parse(text).unwrap_err();
            assert_eq!(
                (error.line, error.column),
                (line, column),
                "{text:?}: {error}"
            );
            assert!(error.found.contains(found), "{text:?}: {error}");
            assert!(error.expected.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn no_key_is_ever_shown() {
        let keys = Keys::parse("auth 1\n1 sha1 hush\n").unwrap();
        assert!(!format!("{keys:?}").contains("hush"));
        for text in [
            "hush",
            "auth hush",
            "1 hush",
            "1 crc hush",
            "1 123 hush",
            "sha1 hush",
            "auth 1\n1 sha1\nhush",
        ] {
            let error = Keys::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hush"), "{text:?}");
        }
    }

    #[test]
    fn columns_count_characters() {
        let error = Keys::parse("é\u{fe} 1").unwrap_err();
        assert_eq!((error.line, error.column), (1, 1));
        let mut words = Words {
            line: 1,
            column: 1,
            rest: "éé x",
        };
        words.next();
        assert_eq!(words.next().0.column, 4);
    }
}
