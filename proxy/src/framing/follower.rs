//! Where the requests of a connection begin and end, as RFC 9112 has it, and whether each is framed in one way only.
//!
//! It only watches: another reads the requests, and refuses what is no HTTP at all. Where this one cannot follow, it says
//! nothing any more. Must not know where the bytes come from.

/// The longest line of a head, in bytes: that of the proxy before this one.
const MAX_LINE: usize = 8190;

/// As much of a line as is looked at: names that matter, and their values, are shorter.
const LOOKED_AT: usize = 64;

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Next {
    /// A line of a head, or empty lines before one.
    #[default]
    Head,
    /// So many bytes of a body.
    Body(u64),
    /// The line with a chunk's length.
    ChunkLength,
    /// So many bytes of a chunk, with the line end after it.
    Chunk(u64),
    /// Lines after the last chunk.
    Trailers,
    /// Nobody knows.
    Lost,
}

/// Follows one connection.
#[derive(Debug, Default)]
pub(super) struct Follower {
    next: Next,
    /// The beginning of the line that is being read.
    line: Vec<u8>,
    /// How long that line is up to now.
    length: usize,
    /// Its last byte.
    last: u8,
    /// Lines of this head that are over; 0 before its first.
    lines: u64,
    content_length: Option<u64>,
    is_encoded: bool,
    heads: u64,
    is_misframed: bool,
}

impl Follower {
    /// Heads that began.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether one of the requests is not framed as it should be.
    pub(super) fn is_misframed(&self) -> bool {
        self.is_misframed
    }

    /// Further bytes have come.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.next {
                Next::Head | Next::ChunkLength | Next::Trailers => self.read_line(bytes),
                Next::Body(left) => self.pass(bytes, left, Next::Body, Next::Head),
                Next::Chunk(left) => self.pass(bytes, left, Next::Chunk, Next::ChunkLength),
                Next::Lost => return,
            };
        }
    }

    fn pass<'a>(
        &mut self,
        bytes: &'a [u8],
        left: u64,
        here: fn(u64) -> Next,
        then: Next,
    ) -> &'a [u8] {
        let passed = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left.saturating_sub(u64::try_from(passed).unwrap_or(u64::MAX));
        self.next = if left == 0 { then } else { here(left) };
        bytes.get(passed..).unwrap_or_default()
    }

    /// Takes what is there of a line; at its end, acts on it.
    fn read_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.next == Next::Head && self.lines == 0 && self.length == 0 {
            self.heads += 1;
            self.lines = 1;
        }
        let end = memchr::memchr(b'\n', bytes);
        let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        let room = LOOKED_AT.saturating_sub(self.line.len());
        self.line.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
        self.length = self.length.saturating_add(part.len());
        self.last = part.last().copied().unwrap_or(self.last);
        // Its end may have a CR.
        if self.length > MAX_LINE + 1 && self.next != Next::ChunkLength {
            self.is_misframed = true;
        }
        // A target has ASCII characters only (RFC 3986).
        if self.next == Next::Head && self.lines == 1 && !part.is_ascii() {
            self.is_misframed = true;
        }
        let Some(end) = end else { return &[] };
        if self.length == 0 || self.last != b'\r' {
            self.is_misframed = true;
        }
        if self.length > LOOKED_AT && self.decides() {
            // Others read all of it, and may come to another end than the part that is looked at.
            self.is_misframed = true;
            self.next = Next::Lost;
            return &[];
        }
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let is_empty = self.length <= 1;
        self.next = match self.next {
            Next::Head => self.line_of_head(&line, is_empty),
            Next::Trailers if !is_empty => Next::Trailers,
            Next::ChunkLength => chunk(&line),
            Next::Trailers | Next::Body(_) | Next::Chunk(_) | Next::Lost => self.head_begins(),
        };
        line.clear();
        self.line = line;
        (self.length, self.last) = (0, 0);
        bytes.get(end + 1..).unwrap_or_default()
    }

    /// Whether the line that is being read says how long a body is.
    fn decides(&self) -> bool {
        let name = |name: &[u8]| {
            self.line.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name))
        };
        match self.next {
            Next::ChunkLength => !self.line.contains(&b';'),
            Next::Head => name(b"content-length") || name(b"transfer-encoding"),
            Next::Trailers | Next::Body(_) | Next::Chunk(_) | Next::Lost => false,
        }
    }

    fn head_begins(&mut self) -> Next {
        (self.lines, self.content_length, self.is_encoded) = (0, None, false);
        Next::Head
    }

    fn line_of_head(&mut self, line: &[u8], is_empty: bool) -> Next {
        if is_empty && self.lines == 1 {
            // Before a request line (RFC 9112, 2.2): the same head still begins.
            return Next::Head;
        }
        self.lines += 1;
        if is_empty {
            return self.end_of_head();
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if self.lines > 2 && name.eq_ignore_ascii_case(b"content-length") {
            match number(value, 10) {
                Some(length) if self.content_length.is_none_or(|other| other == length) => {
                    self.content_length = Some(length);
                }
                _ => {
                    self.is_misframed = true;
                    return Next::Lost;
                }
            }
        }
        if self.lines > 2 && name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_encoded = true;
        }
        Next::Head
    }

    fn end_of_head(&mut self) -> Next {
        let (length, is_encoded) = (self.content_length, self.is_encoded);
        let next = self.head_begins();
        match (length, is_encoded) {
            (Some(_), true) => {
                self.is_misframed = true;
                Next::Lost
            }
            (None, true) => Next::ChunkLength,
            (Some(0) | None, false) => next,
            (Some(length), false) => Next::Body(length),
        }
    }
}

/// What follows the line with a chunk's length.
fn chunk(line: &[u8]) -> Next {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    match number(digits, 16) {
        Some(0) => Next::Trailers,
        Some(length) => Next::Chunk(length.saturating_add(2)),
        None => Next::Lost,
    }
}

/// Digits and nothing else but white space around them: no sign.
fn number(text: &[u8], radix: u32) -> Option<u64> {
    let text = str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
    let is_plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_plain { u64::from_str_radix(text, radix).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is misframed, and how many heads began; the same whatever the bytes come in.
    fn follow(bytes: &str) -> (bool, u64) {
        let whole = {
            let mut follower = Follower::default();
            follower.follow(bytes.as_bytes());
            (follower.is_misframed(), follower.heads())
        };
        for size in [1, 2, 3, 7, 64] {
            let mut follower = Follower::default();
            bytes.as_bytes().chunks(size).for_each(|part| follower.follow(part));
            assert_eq!((follower.is_misframed(), follower.heads()), whole, "by {size}: {bytes:?}");
        }
        whole
    }

    #[test]
    fn a_length_of_many_zeros_hides_nothing() {
        let zeros = "0".repeat(72);
        let inside = "GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n";
        let long = inside.len();
        assert!(
            follow(&format!("POST / HTTP/1.1\r\nContent-Length: {zeros}{long}\r\n\r\n{inside}")).0
        );
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(follow(&format!("{chunked}{zeros}3\r\na\nb\r\n0\r\n\r\n")).0);
        let extension = "x".repeat(100);
        assert!(!follow(&format!("{chunked}3;x={extension}\r\na\nb\r\n0\r\n\r\n")).0);
    }

    #[test]
    fn good_requests_one_after_the_other() {
        let get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let post = "POST / HTTP/1.1\r\nContent-Length: 7\r\n\r\na\nb\r\nc\n";
        let same = "POST / HTTP/1.1\r\ncontent-length: 2\r\nContent-Length:2\r\n\r\n\n\n";
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\na\nb\r\nA\r\n\n\n\n\n\n\n\n\n\n\n\r\n0\r\nT: t\r\n\r\n";
        assert_eq!(follow(""), (false, 0));
        assert_eq!(follow("GE"), (false, 1));
        for (all, heads) in [
            (get.repeat(3), 3),
            (post.repeat(3), 3),
            ([get, post, same, chunked, get, chunked, post].concat(), 7),
            (format!("\r\n\r\n{get}\r\n{get}"), 2),
            (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(8000)), 1),
            // A name that is long, and a value that is.
            (
                format!(
                    "GET / HTTP/1.1\r\nX{}: 1\r\nY: {}\r\n\r\n",
                    "x".repeat(500),
                    "y".repeat(8000)
                ),
                1,
            ),
        ] {
            assert_eq!(follow(&all), (false, heads), "{all}");
        }
    }

    #[test]
    fn case_69_what_two_readers_may_read_in_two_ways() {
        let long = "a".repeat(9000);
        for bad in [
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
            "GET / HTTP/1.1\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\na\nb\r\n0\r\n\r\n",
            "GET /\u{e4} HTTP/1.1\r\n\r\n",
            &format!("GET /{long} HTTP/1.1\r\n\r\n"),
            &format!("GET / HTTP/1.1\r\nX: {long}"),
        ] {
            assert!(follow(bad).0, "{bad}");
            let after = format!("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc{bad}");
            assert!(follow(&after).0, "{after}");
        }
    }
}
