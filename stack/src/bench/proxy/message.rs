//! HTTP/1.1's framing (RFC 9112, 6 and 7), as much of it as the benchmark's two own ends need: they are to cost as little as
//! can be, so that what stands between them is what is measured.
//!
//! Must not be used towards anybody else: it believes what it reads.

/// The longest line of the chunked coding, in bytes.
const MAX_LINE: usize = 4096;

/// A head that is all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its length, with the blank line that ends it.
    pub(crate) length: usize,
    /// Bytes of the body; `None` if it comes in chunks.
    pub(crate) body: Option<usize>,
}

impl Head {
    /// The head that these bytes begin with, once it is all there.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let length = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = bytes.get(..length)?;
        let body = match value(head, "transfer-encoding") {
            Some(_) => None,
            None => Some(value(head, "content-length").and_then(number).unwrap_or(0)),
        };
        Some(Self { length, body })
    }

    /// Whether these bytes, which begin with the head, hold all of its body as well.
    pub(crate) fn is_whole(self, bytes: &[u8]) -> bool {
        match self.body {
            Some(length) => bytes.len() >= self.length.saturating_add(length),
            // Neither end sends trailers, or a body that could be taken for the last chunk.
            None => bytes.ends_with(b"0\r\n\r\n"),
        }
    }
}

/// The value of a header in a head.
pub(crate) fn value<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (own, rest) = line.split_at_checked(name.len())?;
        let found = own.eq_ignore_ascii_case(name.as_bytes());
        found.then_some(rest)?.strip_prefix(b":").map(<[u8]>::trim_ascii)
    })
}

/// A number in decimal digits.
pub(crate) fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Takes the chunked coding off a body, as it comes.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    state: State,
    /// A line that has begun.
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(usize),
    DataEnd,
    Trailers,
}

impl Chunks {
    /// Hands the data in these bytes over. Says whether the body has ended; `None`: this is no chunked coding.
    pub(crate) fn take(&mut self, mut bytes: &[u8], mut data: impl FnMut(&[u8])) -> Option<bool> {
        while !bytes.is_empty() {
            if let State::Data(left) = self.state {
                let (now, rest) = bytes.split_at(left.min(bytes.len()));
                data(now);
                bytes = rest;
                let left = left - now.len();
                self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                continue;
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (now, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            if self.line.len() + now.len() > MAX_LINE {
                return None;
            }
            self.line.extend_from_slice(now);
            bytes = rest;
            if end.is_some() && self.line_ends()? {
                return Some(true);
            }
        }
        Some(false)
    }

    /// A line is all there. Says whether it is the body's last.
    fn line_ends(&mut self) -> Option<bool> {
        let line = std::mem::take(&mut self.line);
        let line = std::str::from_utf8(&line).ok()?.trim_end();
        self.state = match self.state {
            State::DataEnd => State::Size,
            State::Trailers if line.is_empty() => return Some(true),
            State::Trailers => State::Trailers,
            State::Size | State::Data(_) => match usize::from_str_radix(line, 16).ok()? {
                0 => State::Trailers,
                length => State::Data(length),
            },
        };
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_where_its_message_ends() {
        let answer = b"HTTP/1.1 200 OK\r\nA: b\r\ncontent-LENGTH: 3\r\n\r\nabc";
        for cut in 0..answer.len() - 3 {
            assert_eq!(Head::of(&answer[..cut]), None, "{cut}");
        }
        let head = Head::of(answer).unwrap();
        assert_eq!(head, Head { length: answer.len() - 3, body: Some(3) });
        assert!(head.is_whole(answer) && !head.is_whole(&answer[..answer.len() - 1]));
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
        let head = Head::of(chunked).unwrap();
        assert!(head.is_whole(chunked) && !head.is_whole(&chunked[..chunked.len() - 2]));
        assert_eq!(value(answer, "a"), Some(b"b".as_slice()));
        assert_eq!(value(answer, "b"), None);
    }

    #[test]
    fn chunks_are_taken_apart_however_they_arrive() {
        let coded = b"3\r\nabc\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nA: b\r\n\r\n";
        for size in 1..=coded.len() {
            let (mut chunks, mut all, mut ended) = (Chunks::default(), Vec::new(), false);
            for part in coded.chunks(size) {
                assert!(!ended);
                ended = chunks.take(part, |data| all.extend_from_slice(data)).unwrap();
            }
            assert!(ended, "{size}");
            assert_eq!(all, b"abcabcdefghijklmnopqrstuvwxyz", "{size}");
        }
        assert_eq!(Chunks::default().take(b"x\r\n", |_| {}), None);
        assert_eq!(Chunks::default().take(&[b'0'; MAX_LINE + 1], |_| {}), None);
    }
}
