//! Where a request ends in what a peer sends (RFC 9112, 6 and 7).
//!
//! actix reads all requests that have arrived before it answers the first one, and each takes some 7 KiB. The
//! connection therefore hands them over one by one. Nothing else depends on it: whether a request is right is judged by
//! actix.

/// Longest prefix of a line that matters.
const LINE: usize = 64;

/// Finds the ends of requests.
#[derive(Default)]
pub(super) struct Framing {
    part: Part,
    /// Bytes until the next line.
    skip: u64,
    /// Start of a line that is not complete yet.
    line: Vec<u8>,
    length: u64,
    chunked: bool,
}

/// What the next line belongs to.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// An empty line before the request line is ignored.
    #[default]
    Start,
    Head,
    /// The size of a chunk.
    Size,
    /// The end of a chunk.
    ChunkEnd,
    Trailer,
    /// A body of known length: its last byte is the request's.
    Body,
}

impl Framing {
    /// The number of these bytes that belong to the request, if it ends among them.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
            if self.skip > 0 {
                let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(rest.len());
                self.skip -= skipped as u64;
                at += skipped;
                if self.skip == 0 && self.part == Part::Body {
                    *self = Self::default();
                    return Some(at);
                }
                continue;
            }
            let newline = memchr::memchr(b'\n', rest);
            let line = rest.get(..newline.unwrap_or(rest.len())).unwrap_or_default();
            at += line.len() + 1;
            let is_end = match (newline, self.line.is_empty()) {
                (Some(_), true) => self.next(line),
                (Some(_), false) => {
                    self.keep(line);
                    let line = std::mem::take(&mut self.line);
                    self.next(&line)
                }
                (None, _) => {
                    self.keep(line);
                    return None;
                }
            };
            if is_end {
                *self = Self::default();
                return Some(at);
            }
        }
    }

    fn keep(&mut self, part: &[u8]) {
        let room = LINE.saturating_sub(self.line.len()).min(part.len());
        self.line.extend_from_slice(part.get(..room).unwrap_or_default());
    }

    /// Takes a line; whether it is the last one of the request.
    fn next(&mut self, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (self.part, line.is_empty()) {
            (Part::Start, true) | (Part::Trailer, false) | (Part::Body, _) => {}
            (Part::Start, false) => self.part = Part::Head,
            (Part::Head, false) => self.field(line),
            (Part::Head, true) if self.chunked => self.part = Part::Size,
            (Part::Head, true) if self.length > 0 => (self.part, self.skip) = (Part::Body, self.length),
            (Part::Head | Part::Trailer, true) => return true,
            (Part::Size, _) => {
                let digits =
                    line.split(|byte| !byte.is_ascii_hexdigit()).next().and_then(|hex| str::from_utf8(hex).ok());
                self.skip = digits.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
                self.part = if self.skip == 0 { Part::Trailer } else { Part::ChunkEnd };
            }
            (Part::ChunkEnd, _) => self.part = Part::Size,
        }
        false
    }

    fn field(&mut self, line: &[u8]) {
        // The first letter sorts most lines out.
        if !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T')) {
            return;
        }
        let Some((name, value)) = str::from_utf8(line).ok().and_then(|line| line.split_once(':')) else { return };
        if name.eq_ignore_ascii_case("content-length") {
            self.length = value.trim().parse().unwrap_or(0);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            self.chunked = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUESTS: &[&str] = &[
        "GET / HTTP/1.1\r\nhost: test\r\n\r\n",
        "\r\nGET / HTTP/1.1\nhost: test\n\n",
        "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n\r\n\r\n\r\n\r\n1",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncookie: x\r\n\r\n4;a=b\r\n\r\n\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nexpires: now\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
    ];

    #[test]
    fn requests_come_one_by_one_however_they_are_cut() {
        let all: Vec<u8> = REQUESTS.concat().into_bytes();
        for size in (1..=all.len()).filter(|size| *size < 40 || size % 37 == 0 || *size == all.len()) {
            let (mut framing, mut found, mut length) = (Framing::default(), Vec::new(), 0);
            for mut part in all.chunks(size) {
                while let Some(end) = framing.end(part) {
                    found.push(length + end);
                    length = 0;
                    part = &part[end..];
                }
                length += part.len();
            }
            assert_eq!(found, REQUESTS.iter().map(|request| request.len()).collect::<Vec<_>>(), "in parts of {size}");
        }
    }

    #[test]
    fn a_long_line_is_not_kept() {
        let mut framing = Framing::default();
        for _ in 0..1_000 {
            assert_eq!(framing.end(&[b'x'; 1_000]), None);
        }
        assert_eq!(framing.line.len(), LINE);
        assert_eq!(framing.end(b"\n\nGET"), Some(2));
    }
}
