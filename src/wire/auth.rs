//! Digests: the methods, a key, and what it says about bytes.
//!
//! `crc`, `md5` and `sha1` are Heartbeat's; `sha256` and `sha512` are HMACs (RFC 2104) in the same place and
//! print. Where in a packet a digest stands and what it covers is the framings' business.

use super::message::{AUTH, Message};
use hmac::digest::block_api::EagerHash;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use std::fmt;

/// Highest key number of a key file.
pub const KEY_NUMBER_MAX: u8 = 15;

/// Bytes of the longest digest.
const DIGEST_LENGTH_MAX: usize = 64;

/// How a digest is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// CRC-32 without a key: detects damage, proves nothing.
    Crc,
    /// HMAC-MD5.
    Md5,
    /// HMAC-SHA1.
    Sha1,
    /// HMAC-SHA256; Heartbeat does not know it.
    Sha256,
    /// HMAC-SHA512; Heartbeat does not know it.
    Sha512,
}

impl Method {
    /// Every method, weakest first.
    pub const ALL: [Self; 5] = [Self::Crc, Self::Md5, Self::Sha1, Self::Sha256, Self::Sha512];

    /// Its word in a key file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crc => "crc",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The method of a word in a key file.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == word)
    }

    /// Whether it uses a key; without one anybody on the network can forge packets.
    pub const fn is_keyed(self) -> bool {
        match self {
            Self::Crc => false,
            Self::Md5 | Self::Sha1 | Self::Sha256 | Self::Sha512 => true,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One numbered key; its secret is wiped from memory when it is dropped, and never printed.
#[derive(Clone)]
pub struct Key {
    number: u8,
    method: Method,
    secret: SecretSlice<u8>,
}

impl Key {
    /// A key; `secret` is unused by [`Method::Crc`]. The number is at most [`KEY_NUMBER_MAX`].
    pub(super) fn new(number: u8, method: Method, secret: &[u8]) -> Self {
        let secret = SecretSlice::from(secret.to_vec());
        Self {
            number,
            method,
            secret,
        }
    }

    /// Its number, 0 to [`KEY_NUMBER_MAX`].
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// Its method.
    pub const fn method(&self) -> Method {
        self.method
    }

    /// Number and digest of `parts`, one after the other, as they stand in a packet: `1 5ae5cec`.
    pub(super) fn sign(&self, parts: &[&[u8]]) -> String {
        let digest = match self.method {
            Method::Crc => format!("{:x}", crc(parts)),
            Method::Md5 => self.sign_hmac::<md5::Md5>(parts),
            Method::Sha1 => self.sign_hmac::<sha1::Sha1>(parts),
            Method::Sha256 => self.sign_hmac::<sha2::Sha256>(parts),
            Method::Sha512 => self.sign_hmac::<sha2::Sha512>(parts),
        };
        format!("{} {digest}", self.number)
    }

    /// Whether `digest`, in print, is that of `parts`; takes the same time wherever they differ.
    pub(super) fn verify(&self, parts: &[&[u8]], digest: &[u8]) -> bool {
        match self.method {
            Method::Crc => format!("{:x}", crc(parts)).as_bytes() == digest,
            Method::Md5 => self.verify_hmac::<md5::Md5>(parts, digest),
            Method::Sha1 => self.verify_hmac::<sha1::Sha1>(parts, digest),
            Method::Sha256 => self.verify_hmac::<sha2::Sha256>(parts, digest),
            Method::Sha512 => self.verify_hmac::<sha2::Sha512>(parts, digest),
        }
    }

    fn sign_hmac<D: EagerHash>(&self, parts: &[&[u8]]) -> String {
        let bytes = self.hmac::<D>(parts).finalize().into_bytes();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn verify_hmac<D: EagerHash>(&self, parts: &[&[u8]], digest: &[u8]) -> bool {
        let mut buffer = [0; DIGEST_LENGTH_MAX];
        parse_hex(digest, &mut buffer)
            .is_some_and(|bytes| self.hmac::<D>(parts).verify_slice(bytes).is_ok())
    }

    #[expect(
        clippy::expect_used,
        reason = "HMAC takes keys of any length, by RFC 2104"
    )]
    fn hmac<D: EagerHash>(&self, parts: &[&[u8]]) -> Hmac<D> {
        let mut hmac = Hmac::<D>::new_from_slice(self.secret.expose_secret())
            .expect("a key of any length is accepted");
        for part in parts {
            hmac.update(part);
        }
        hmac
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} [not shown]", self.number, self.method)
    }
}

impl Message {
    /// Appends the inner digest (field `auth`), in place of any that the message has.
    ///
    /// It covers the classic text of all other fields, whatever the framing will be.
    pub fn sign(&mut self, key: &Key) {
        self.remove(AUTH);
        let signature = key.sign(&[&super::classic::digest_input(self)]);
        self.push_text(AUTH, signature);
    }
}

/// Splits `NUMBER DIGEST` as it stands in a packet; `None` if it is not of that form.
pub(super) fn split_signature(text: &[u8]) -> Option<(u8, &[u8])> {
    let blank = text.iter().position(|&byte| byte == b' ')?;
    let (number, digest) = (text.get(..blank)?, text.get(blank + 1..)?);
    let number = match *number {
        [ones @ b'0'..=b'9'] => ones - b'0',
        [b'1', ones @ b'0'..=b'9'] => 10 + ones - b'0',
        _ => return None,
    };
    (!digest.is_empty()).then_some((number, digest))
}

/// Reads pairs of lower-case hexadecimal digits; upper case is refused, so that a digest has one print only.
fn parse_hex<'a>(digits: &[u8], buffer: &'a mut [u8; DIGEST_LENGTH_MAX]) -> Option<&'a [u8]> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes = buffer.get_mut(..pairs.len())?;
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    rest.is_empty().then_some(bytes)
}

/// CRC-32 as Heartbeat has it: polynomial 0x04C11DB7, most significant bit first, from 0, complemented.
fn crc(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().copied().flatten();
    let step = |crc: u32, byte: &u8| {
        let index = usize::from((crc >> 24) as u8 ^ byte);
        crc << 8 ^ CRC_TABLE.get(index).copied().unwrap_or_default()
    };
    !bytes.fold(0, step)
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 << 31 == 0 {
                crc << 1
            } else {
                crc << 1 ^ 0x04C1_1DB7
            };
            bit += 1;
        }
        #[expect(
            clippy::indexing_slicing,
            reason = "the loop's bound is the table's length"
        )]
        {
            table[index] = crc;
        }
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Test cases 2 and 6 of RFC 2202 and RFC 4231: a short key, and one longer than any block.
    const HMAC_CASES: [(Method, &str, &str); 4] = [
        (
            Method::Md5,
            "750c783e6ab0b503eaa86e310a5db738",
            "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd",
        ),
        (
            Method::Sha1,
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
            "aa4ae5e15272d00e95705637ce8a3b55ed402112",
        ),
        (
            Method::Sha256,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            Method::Sha512,
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
        ),
    ];

    #[test]
    fn the_hmacs_are_those_of_the_standards() {
        for (method, short, long) in HMAC_CASES {
            let length = match method {
                Method::Sha256 | Method::Sha512 => 131,
                Method::Crc | Method::Md5 | Method::Sha1 => 80,
            };
            let key = Key::new(1, method, b"Jefe");
            let text: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
            assert_eq!(key.sign(&text), format!("1 {short}"));
            assert!(key.verify(&text, short.as_bytes()));
            let key = Key::new(15, method, &vec![0xaa; length]);
            let text: [&[u8]; 1] = [b"Test Using Larger Than Block-Size Key - Hash Key First"];
            assert_eq!(key.sign(&text), format!("15 {long}"));
        }
    }

    #[test]
    fn crc_is_posix_cksum_without_the_length() {
        // POSIX appends the length, least significant byte first, which is one byte here.
        assert_eq!(crc(&[b"123456789", b"\x09"]), 930_766_865);
        assert_eq!(crc(&[]), u32::MAX);
    }

    #[test]
    fn a_digest_has_one_print_only() {
        let key = Key::new(1, Method::Sha1, b"Jefe");
        let digest = key.sign(&[b"x"]).split_off(2);
        assert!(key.verify(&[b"x"], digest.as_bytes()));
        assert!(!key.verify(&[b"x"], digest.to_uppercase().as_bytes()));
        assert!(!key.verify(&[b"x"], &digest.as_bytes()[..38]));
        assert!(!key.verify(&[b"x"], format!("{digest}0").as_bytes()));
        assert!(!key.verify(&[b"x"], format!("{digest}00").as_bytes()));
        assert!(!key.verify(&[b"x"], b""));
        assert!(!key.verify(&[b"x"], &[b'0'; 500]));
    }

    #[test]
    fn signatures_are_a_number_and_a_digest() {
        assert_eq!(split_signature(b"1 ab"), Some((1, &b"ab"[..])));
        assert_eq!(split_signature(b"15 ab"), Some((15, &b"ab"[..])));
        for bad in [
            "", " ", "1", "1 ", "01 ab", "100 ab", "+1 ab", "x ab", " ab",
        ] {
            assert_eq!(split_signature(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn the_secret_is_not_printed() {
        let key = Key::new(3, Method::Md5, b"hush");
        assert_eq!(format!("{key:?}"), "3 md5 [not shown]");
    }
}
