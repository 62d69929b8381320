//! Where a request ends in what a peer sends (RFC 9112, 6 and 7), and what actix does not get to see of it.
//!
//! actix reads all requests that have arrived before it answers the first one, and each takes some 7 KiB. The
//! connection therefore hands them over one by one. Whether a request is right is judged by actix.
//!
//! Two offers of a peer are hidden, each by one letter of its name:
//! - `Upgrade`, and the option of that name in `Connection`. Nobody has to take the offer (RFC 9110, 7.8), but actix
//!   would confirm it and hang up, or wait for the end of a stream.
//! - `Expect: 100-continue`: actix would ask for the body before anybody has looked at the head.
//!
//! Two faults of a request line are seen here, because actix cuts a fragment off, and has no limit of its own for a target.
//! So is what the two could read differently: a line between chunks that does not end with CR LF, and a length that is cut.

use crate::error::Code;

/// Bytes of a line that is cut that matter: those at its start, and those at its end.
const LINE: usize = 64;

/// How many of them are its end: the version of a request line, and how the line ends.
const LINE_END: usize = 16;

/// Most digits of the size of a chunk.
const SIZE_DIGITS: usize = 16;

/// Longest request line, in bytes: RFC 9112, 3, asks for 8,000 at least.
const REQUEST_LINE: usize = 16 * 1024;

/// What replaces the last letter of a hidden word.
const HIDDEN: u8 = b'_';

const UPGRADE: &[u8] = b"upgrade";
const EXPECT: &[u8] = b"expect";
const CONNECTION: &[u8] = b"connection";

/// Finds the ends of requests.
#[derive(Default)]
pub(super) struct Framing {
    part: Part,
    /// Bytes until the next line.
    skip: u64,
    /// Start and end of what came of a line that is not complete yet.
    line: Vec<u8>,
    length: u64,
    chunked: bool,
    /// Letters of `upgrade` at the end of what came of a `Connection` field.
    letters: usize,
    is_http_1_0: bool,
    expects_continue: bool,
    /// Bytes of the request line so far.
    request_line: usize,
    flaw: Option<Code>,
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
    /// Whether a head has begun and not ended.
    pub(super) fn is_in_head(&self) -> bool {
        self.part == Part::Head || (self.part == Part::Start && !self.line.is_empty())
    }

    /// Whether a head has ended, and its body has not.
    pub(super) const fn is_in_body(&self) -> bool {
        matches!(self.part, Part::Size | Part::ChunkEnd | Part::Trailer | Part::Body)
    }

    /// Whether the peer waits with its body until somebody asks for it; asked once, when the head is complete.
    pub(super) fn take_expectation(&mut self) -> bool {
        !self.is_in_head() && std::mem::take(&mut self.expects_continue) && !self.is_http_1_0
    }

    /// Why a request is refused, whatever follows.
    pub(super) const fn flaw(&self) -> Option<Code> {
        self.flaw
    }

    /// The number of these bytes that belong to the request, if it ends among them. Hides offers among them. Of a body with
    /// a flaw, the number of those before the line that has it.
    pub(super) fn end(&mut self, bytes: &mut [u8]) -> Option<usize> {
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
            let start = at;
            let newline = memchr::memchr(b'\n', rest);
            let end = newline.map_or(bytes.len(), |length| at + length);
            let line = bytes.get_mut(at..end).unwrap_or_default();
            match self.part {
                Part::Start => self.look_at_request_line(line),
                Part::Head => self.hide(line),
                _ => {}
            }
            if self.flaw.is_some() {
                return None;
            }
            let line = &*line;
            at = end + 1;
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
            if self.flaw.is_some() {
                return self.is_in_body().then_some(start);
            }
            if is_end {
                *self = Self::default();
                return Some(at);
            }
        }
    }

    /// Looks for what no request line may have: more than its length, and the fragment of an address, which a client keeps
    /// to itself (RFC 9112, 3.2).
    fn look_at_request_line(&mut self, part: &[u8]) {
        self.request_line += part.len();
        if self.request_line > REQUEST_LINE {
            self.flaw = Some(Code::TargetTooLong);
        } else if memchr::memchr(b'#', part).is_some() {
            self.flaw = Some(Code::InvalidRequest);
        }
    }

    /// Hides an offer in a field, or in a part of one: `line` is what came of it before.
    fn hide(&mut self, part: &mut [u8]) {
        // The first letter sorts most lines out.
        match self.line.first().or(part.first()) {
            Some(b'u' | b'U') => self.hide_name(UPGRADE, part),
            Some(b'e' | b'E') => self.hide_name(EXPECT, part),
            Some(b'c' | b'C') if self.begins_with(CONNECTION, part) => {
                for byte in part {
                    let letter = byte.to_ascii_lowercase();
                    if UPGRADE.get(self.letters) != Some(&letter) {
                        self.letters = usize::from(letter == b'u');
                    } else if self.letters + 1 < UPGRADE.len() {
                        self.letters += 1;
                    } else {
                        (*byte, self.letters) = (HIDDEN, 0);
                    }
                }
            }
            _ => {}
        }
    }

    fn hide_name(&self, name: &[u8], part: &mut [u8]) {
        let last = name.len() - 1;
        if self.line.len() > last || !self.begins_with(name, part) {
            return;
        }
        let at = last - self.line.len();
        let is_longer = part.get(at + 1).is_some_and(|next| *next != b':');
        if let (false, Some(letter)) = (is_longer, part.get_mut(at)) {
            *letter = HIDDEN;
        }
    }

    /// Whether the line begins with a name, as far as it came.
    fn begins_with(&self, name: &[u8], part: &[u8]) -> bool {
        let (came, rest) = name.split_at(self.line.len().min(name.len()));
        let is = |bytes: &[u8], text: &[u8]| bytes.get(..text.len()).is_some_and(|b| b.eq_ignore_ascii_case(text));
        is(&self.line, came) && is(part, rest)
    }

    fn keep(&mut self, part: &[u8]) {
        let (start, rest) = part.split_at(part.len().min(LINE));
        self.line.extend_from_slice(start);
        self.line.extend_from_slice(rest.get(rest.len().saturating_sub(LINE_END)..).unwrap_or_default());
        if let Some(surplus) = self.line.len().checked_sub(LINE) {
            self.line.drain(LINE - LINE_END..LINE - LINE_END + surplus);
        }
    }

    /// Takes a line; whether it is the last one of the request.
    fn next(&mut self, line: &[u8]) -> bool {
        let (line, ends_with_cr) = line.strip_suffix(b"\r").map_or((line, false), |line| (line, true));
        let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        self.letters = 0;
        match (self.part, line.is_empty()) {
            // A head may have bare newlines (RFC 9112, 2.2); the lines between chunks may not.
            (Part::Size | Part::ChunkEnd | Part::Trailer, _) if !ends_with_cr || line.iter().any(is_control) => {
                self.flaw = Some(Code::InvalidRequest);
            }
            (Part::Start, true) | (Part::Trailer, false) | (Part::Body, _) => {}
            (Part::Start, false) => (self.part, self.is_http_1_0) = (Part::Head, line.ends_with(b"HTTP/1.0")),
            (Part::Head, false) => self.field(line),
            (Part::Head, true) if self.chunked => self.part = Part::Size,
            (Part::Head, true) if self.length > 0 => (self.part, self.skip) = (Part::Body, self.length),
            (Part::Head | Part::Trailer, true) => return true,
            (Part::Size, _) => match size_of_chunk(line) {
                Some(0) => self.part = Part::Trailer,
                Some(size) => (self.part, self.skip) = (Part::ChunkEnd, size),
                None => self.flaw = Some(Code::InvalidRequest),
            },
            (Part::ChunkEnd, true) => self.part = Part::Size,
            (Part::ChunkEnd, false) => self.flaw = Some(Code::InvalidRequest),
        }
        false
    }

    fn field(&mut self, line: &[u8]) {
        // The first letter sorts most lines out.
        if !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T' | b'e' | b'E')) {
            return;
        }
        let Some((name, value)) = str::from_utf8(line).ok().and_then(|line| line.split_once(':')) else { return };
        if name.eq_ignore_ascii_case("content-length") {
            self.length = value.trim().parse().unwrap_or(0);
            // A longer line would have lost its middle where it was cut, and digits with it.
            if line.len() + 1 >= LINE {
                self.flaw = Some(Code::InvalidRequest);
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            self.chunked = true;
        } else if name.eq_ignore_ascii_case("expec_") {
            self.expects_continue |= value.to_ascii_lowercase().contains("100-continue");
        }
    }
}

/// The size at the start of a chunk. One with more digits than any size needs is none.
fn size_of_chunk(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| !byte.is_ascii_hexdigit()).next().filter(|digits| digits.len() <= SIZE_DIGITS)?;
    let rest = line.get(digits.len()..)?.trim_ascii_start();
    let is_size = rest.is_empty() || rest.starts_with(b";");
    str::from_utf8(digits).ok().filter(|_| is_size).and_then(|digits| u64::from_str_radix(digits, 16).ok())
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
            for mut part in all.clone().chunks_mut(size) {
                while let Some(end) = framing.end(part) {
                    found.push(length + end);
                    length = 0;
                    part = &mut part[end..];
                }
                length += part.len();
            }
            assert_eq!(found, REQUESTS.iter().map(|request| request.len()).collect::<Vec<_>>(), "in parts of {size}");
        }
    }

    #[test]
    fn a_long_line_is_not_kept() {
        let mut framing = Framing::default();
        assert_eq!(framing.end(&mut b"GET / HTTP/1.1\n".to_owned()), None);
        for _ in 0..1_000 {
            assert_eq!(framing.end(&mut [b'x'; 1_000]), None);
        }
        assert_eq!(framing.line.len(), LINE);
        assert_eq!(framing.end(&mut b"\n\nGET".to_owned()), Some(2));
    }

    #[test]
    fn nobody_who_speaks_http_1_0_is_asked_for_a_body_however_the_head_is_cut() {
        for (target, version, expects) in [
            ("", "1.0", false),
            ("", "1.1", true),
            (&*"x".repeat(200), "1.0", false),
            (&*"HTTP/1.0".repeat(9), "1.1", true),
        ] {
            let head = format!("POST /{target} HTTP/{version}\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n");
            for size in 1..=head.len() {
                let (mut framing, mut bytes) = (Framing::default(), head.clone().into_bytes());
                assert!(bytes.chunks_mut(size).all(|part| framing.end(part).is_none()));
                assert_eq!(framing.take_expectation(), expects, "{head} in parts of {size}");
            }
        }
    }

    #[test]
    fn a_flaw_of_the_request_line_is_seen_however_it_is_cut() {
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(REQUEST_LINE));
        let longest = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(REQUEST_LINE - 15));
        for (request, flaw) in [
            (long.as_str(), Some(Code::TargetTooLong)),
            (&longest, None),
            ("GET /healthz#top HTTP/1.1\r\n\r\n", Some(Code::InvalidRequest)),
            ("\r\nGET #/ HTTP/1.1\r\n\r\n", Some(Code::InvalidRequest)),
            ("POST / HTTP/1.1\r\nx: #\r\ncontent-length: 1\r\n\r\n#", None),
        ] {
            for size in [1, 7, 1_000, request.len()] {
                let (mut framing, mut bytes) = (Framing::default(), request.as_bytes().to_owned());
                let ended = bytes.chunks_mut(size).any(|part| framing.end(part).is_some());
                assert_eq!((framing.flaw(), ended), (flaw, flaw.is_none()), "in parts of {size}");
            }
        }
    }

    #[test]
    fn a_flaw_between_chunks_is_seen_however_it_is_cut() {
        let digits = format!("{:017x}\r\nx\r\n", 1);
        let extension = format!("1;{}\nx\r\n", "x".repeat(100));
        for (body, right) in [
            ("0\r\n\nGET / HTTP/1.1\r\n\r\n", "0\r\n"),
            ("0\r\nx: 1\n\r\n", "0\r\n"),
            ("0\r\nx: \r1\r\n\r\n", "0\r\n"),
            ("0\n\r\n", ""),
            ("1\nx\r\n0\r\n\r\n", ""),
            ("1\r\nx\n0\r\n\r\n", "1\r\nx"),
            ("1\r\nxy\r\n0\r\n\r\n", "1\r\nx"),
            ("\r\n", ""),
            ("zz\r\n", ""),
            ("+1\r\nx\r\n", ""),
            ("1 x\r\nx\r\n", ""),
            ("1;\u{1}\r\nx\r\n", ""),
            (&digits, ""),
            (&extension, ""),
        ] {
            let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
            let request = [head, body].concat();
            let (mut framing, mut bytes) = (Framing::default(), request.clone().into_bytes());
            assert_eq!(framing.end(&mut bytes), Some(head.len() + right.len()), "{body:?}");
            for size in 1..=request.len() {
                let (mut framing, mut bytes) = (Framing::default(), request.clone().into_bytes());
                let ended = bytes.chunks_mut(size).any(|part| framing.end(part).is_some());
                let seen = (framing.flaw(), framing.is_in_body(), ended);
                assert_eq!(seen, (Some(Code::InvalidRequest), true, true), "{body:?} in parts of {size}");
            }
        }
    }

    #[test]
    fn a_length_that_would_not_be_kept_is_refused_however_it_is_cut() {
        for (blanks, zeros, is_taken) in
            [(0, 19, true), (40, 0, true), (100, 0, false), (0, 60, false), (60, 60, false)]
        {
            let length = format!("{}{}1{}", " ".repeat(blanks), "0".repeat(zeros), " ".repeat(blanks / 10));
            let request = format!("POST / HTTP/1.1\r\ncontent-length:{length}\r\n\r\nx");
            for size in 1..=request.len() {
                let (mut framing, mut bytes) = (Framing::default(), request.clone().into_bytes());
                let ended = bytes.chunks_mut(size).any(|part| framing.end(part).is_some());
                let flaw = (!is_taken).then_some(Code::InvalidRequest);
                assert_eq!((framing.flaw(), ended), (flaw, is_taken), "{length} in parts of {size}");
            }
        }
    }

    #[test]
    fn offers_are_hidden_however_they_are_cut_and_nothing_else_is() {
        let body = "connection: upgrade\r\nupgrade: h2c\r\nexpect: 100-continue\r\n";
        let head =
            |offers: &str| format!("POST /upgrade HTTP/1.1\r\n{offers}\r\ncontent-length: {}\r\n\r\n", body.len());
        let long = "x".repeat(100);
        for (sent, seen) in [
            (
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c",
                "Connection: Upgrad_, HTTP2-Settings\r\nUpgrad_: h2c",
            ),
            ("upgrade:websocket\nconnection:keep-alive,UPGRADE", "upgrad_:websocket\nconnection:keep-alive,UPGRAD_"),
            ("connection: close\r\nconnection: upgrade", "connection: close\r\nconnection: upgrad_"),
            ("Expect: 100-continue", "Expec_: 100-continue"),
            (&format!("connection: {long}, upgrade"), &format!("connection: {long}, upgrad_")),
            ("connection: upupgrade", "connection: upupgrad_"),
            (
                "x-upgrade: upgrade\r\nx-connection: upgrade\r\next: expect",
                "x-upgrade: upgrade\r\nx-connection: upgrade\r\next: expect",
            ),
            ("accept: upgrade\r\ncookie: upgrade", "accept: upgrade\r\ncookie: upgrade"),
        ] {
            let (sent, seen) = ((head(sent) + body).into_bytes(), head(seen) + body);
            for size in 1..=sent.len() {
                let (mut framing, mut bytes) = (Framing::default(), sent.clone());
                let ends: Vec<_> = bytes.chunks_mut(size).filter_map(|part| framing.end(part)).collect();
                assert_eq!(String::from_utf8(bytes).unwrap(), seen, "in parts of {size}");
                assert_eq!(ends.len(), 1, "{seen}");
            }
        }
    }
}
