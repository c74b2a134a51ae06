//! The answer to a request for a page: bytes in, good or not out. No sockets.
//!
//! Nothing is kept of a body: the text is looked for as the bytes come. Whatever comes, head and body are
//! bounded, and the reader says no rather than guess.

use crate::config::health::Page;
use std::mem;

/// Longest head, interim answers included.
const HEAD_MAX: usize = 16 * 1024;
/// Most fields of a head.
const FIELDS_MAX: usize = 128;
/// Most bytes of a body that are looked through.
const BODY_MAX: usize = 256 * 1024;
/// Most digits of a chunk's size: 256 MiB is more than is ever read.
const CHUNK_DIGITS_MAX: u32 = 7;

/// Whether more must be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not judged yet.
    More,
    /// As expected; what follows does not matter.
    Good,
}

/// An answer that is being read.
#[derive(Debug)]
pub(super) struct Response<'p> {
    page: &'p Page,
    search: Option<Search>,
    part: Part,
    received: usize,
}

#[derive(Debug)]
enum Part {
    /// What there is of it.
    Head(Vec<u8>),
    Body(Framing),
}

/// How the end of a body is known.
#[derive(Debug)]
enum Framing {
    Chunks(Chunks),
    /// So many bytes are left.
    Length(u64),
    Close,
}

/// What a head says.
struct Head {
    length: usize,
    status: u16,
    framing: Framing,
}

impl<'p> Response<'p> {
    /// Nothing has come yet.
    pub(super) fn new(page: &'p Page) -> Self {
        Self {
            page,
            search: page.text.as_deref().map(Search::new),
            part: Part::Head(Vec::new()),
            received: 0,
        }
    }

    /// Takes in what has come.
    ///
    /// # Errors
    /// The answer is not as expected.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Progress, String> {
        self.received = self.received.saturating_add(bytes.len());
        match &mut self.part {
            Part::Body(_) => self.take_body(bytes),
            Part::Head(head) => {
                head.extend_from_slice(bytes);
                self.take_head()
            }
        }
    }

    /// What is wrong now that the peer has closed the connection: a good answer was known before.
    pub(super) fn end(&self) -> String {
        match &self.part {
            Part::Head(_) if self.received == 0 => {
                "the connection was closed without an answer".to_owned()
            }
            Part::Head(_) => "the connection was closed within the head of the answer".to_owned(),
            Part::Body(Framing::Close) => self.text_missing(),
            Part::Body(Framing::Chunks(_) | Framing::Length(_)) => format!(
                "the connection was closed within the body, {}",
                self.text_missing()
            ),
        }
    }

    fn take_head(&mut self) -> Result<Progress, String> {
        loop {
            let Part::Head(bytes) = &mut self.part else {
                return Ok(Progress::More);
            };
            let Some(head) = read_head(bytes)? else {
                return if self.received > HEAD_MAX {
                    Err(format!("a head of more than {HEAD_MAX} bytes"))
                } else {
                    Ok(Progress::More)
                };
            };
            let rest = bytes.split_off(head.length.min(bytes.len()));
            if is_interim(head.status) {
                *bytes = rest;
                continue;
            }
            if !self.page.accepts(head.status) {
                let expected = self.page.expected();
                return Err(format!("status {}, expected {expected}", head.status));
            }
            if self.search.is_none() {
                return Ok(Progress::Good);
            }
            self.part = Part::Body(head.framing);
            self.received = rest.len();
            return self.take_body(&rest);
        }
    }

    fn take_body(&mut self, bytes: &[u8]) -> Result<Progress, String> {
        let Part::Body(framing) = &mut self.part else {
            return Ok(Progress::More);
        };
        let Some(search) = &mut self.search else {
            return Ok(Progress::Good);
        };
        let Some(found) = framing.search(bytes, search)? else {
            return Err(self.text_missing());
        };
        if found {
            return Ok(Progress::Good);
        }
        if self.received > BODY_MAX {
            return Err(format!(
                "{} in its first {BODY_MAX} bytes",
                self.text_missing()
            ));
        }
        Ok(Progress::More)
    }

    fn text_missing(&self) -> String {
        let text = self.page.text.as_deref().unwrap_or_default();
        format!("the body does not contain {text:?}")
    }
}

/// An answer before the answer: 100 and 103, but not 101, after which there is no HTTP.
fn is_interim(status: u16) -> bool {
    (100..200).contains(&status) && status != 101
}

/// The head at the beginning of these bytes; none if it is not complete.
fn read_head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(bytes) {
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(length)) => {
            let status = response.code.ok_or("an answer without a status")?;
            let framing = framing(status, response.headers)?;
            Ok(Some(Head {
                length,
                status,
                framing,
            }))
        }
        Err(error) => Err(format!("the answer is not HTTP: {error}")),
    }
}

fn framing(status: u16, fields: &[httparse::Header<'_>]) -> Result<Framing, String> {
    let values = |name: &'static str| {
        fields
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value.trim_ascii())
    };
    if matches!(status, 204 | 304) {
        return Ok(Framing::Length(0));
    }
    if let Some(coding) = values("Transfer-Encoding").next_back() {
        let last = coding.rsplit(|byte| *byte == b',').next();
        let chunked = last.is_some_and(|word| word.trim_ascii().eq_ignore_ascii_case(b"chunked"));
        return Ok(if chunked {
            Framing::Chunks(Chunks::default())
        } else {
            Framing::Close
        });
    }
    let Some(length) = values("Content-Length").next() else {
        return Ok(Framing::Close);
    };
    let length = std::str::from_utf8(length)
        .ok()
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok());
    length
        .map(Framing::Length)
        .ok_or_else(|| "the answer is not HTTP: its Content-Length is no number".to_owned())
}

impl Framing {
    /// Whether the text was found in these bytes; none at the end of the body.
    fn search(&mut self, bytes: &[u8], search: &mut Search) -> Result<Option<bool>, String> {
        match self {
            Self::Close => Ok(Some(bytes.iter().any(|byte| search.take(*byte)))),
            Self::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX);
                let body = bytes.get(..length).unwrap_or(bytes);
                *left = left.saturating_sub(body.len() as u64);
                let found = body.iter().any(|byte| search.take(*byte));
                Ok((found || *left > 0).then_some(found))
            }
            Self::Chunks(chunks) => {
                for byte in bytes {
                    match chunks.take(*byte)? {
                        Piece::Frame => {}
                        Piece::Body if search.take(*byte) => return Ok(Some(true)),
                        Piece::Body => {}
                        Piece::End => return Ok(None),
                    }
                }
                Ok(Some(false))
            }
        }
    }
}

/// Where in a chunked body the next byte stands.
#[derive(Debug, Default)]
enum Chunks {
    /// In the size of a chunk, after so many digits.
    Size { size: u64, digits: u32 },
    /// In the rest of that line.
    Extension { size: u64 },
    /// In the chunk, with so many bytes to come.
    Data { left: u64 },
    /// Before the line's end that follows a chunk.
    #[default]
    Start,
    /// After the last chunk.
    End,
}

/// What a byte of a chunked body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Frame,
    Body,
    End,
}

impl Chunks {
    fn take(&mut self, byte: u8) -> Result<Piece, String> {
        let broken = || "the answer is not HTTP: a chunk without a size".to_owned();
        let (next, piece) = match mem::take(self) {
            Self::Start if matches!(byte, b'\r' | b'\n') => (Self::Start, Piece::Frame),
            Self::Start => (Self::digit(0, 0, byte).ok_or_else(broken)?, Piece::Frame),
            Self::Size { size, digits } => match byte {
                b'\n' => Self::line_end(size),
                b'\r' | b';' | b' ' | b'\t' => (Self::Extension { size }, Piece::Frame),
                _ => (
                    Self::digit(size, digits, byte).ok_or_else(broken)?,
                    Piece::Frame,
                ),
            },
            Self::Extension { size } if byte == b'\n' => Self::line_end(size),
            Self::Extension { size } => (Self::Extension { size }, Piece::Frame),
            Self::Data { left } if left > 1 => (Self::Data { left: left - 1 }, Piece::Body),
            Self::Data { .. } => (Self::Start, Piece::Body),
            Self::End => (Self::End, Piece::End),
        };
        *self = next;
        Ok(piece)
    }

    fn digit(size: u64, digits: u32, byte: u8) -> Option<Self> {
        let digit = char::from(byte).to_digit(16)?;
        (digits < CHUNK_DIGITS_MAX).then_some(Self::Size {
            size: size * 16 + u64::from(digit),
            digits: digits + 1,
        })
    }

    fn line_end(size: u64) -> (Self, Piece) {
        match size {
            0 => (Self::End, Piece::End),
            left => (Self::Data { left }, Piece::Frame),
        }
    }
}

/// Looks for a text byte by byte (Knuth, Morris and Pratt): its work does not depend on what comes.
#[derive(Debug)]
struct Search {
    text: Vec<u8>,
    /// For each length that matches, the longest shorter one that then matches too.
    shorter: Vec<usize>,
    matching: usize,
}

impl Search {
    fn new(text: &str) -> Self {
        let text = text.as_bytes().to_vec();
        let mut search = Self {
            shorter: Vec::with_capacity(text.len()),
            matching: 0,
            text,
        };
        search.shorter.push(0);
        for byte in search.text.clone().into_iter().skip(1) {
            search.advance(byte);
            search.shorter.push(search.matching);
        }
        search.matching = 0;
        search
    }

    /// Whether the text ends with this byte.
    fn take(&mut self, byte: u8) -> bool {
        self.advance(byte);
        self.matching == self.text.len()
    }

    fn advance(&mut self, byte: u8) {
        while self.matching > 0 && self.text.get(self.matching) != Some(&byte) {
            let shorter = self.shorter.get(self.matching - 1);
            self.matching = shorter.copied().unwrap_or(0);
        }
        if self.text.get(self.matching) == Some(&byte) {
            self.matching += 1;
        }
    }
}

#[cfg(test)]
mod tests;
