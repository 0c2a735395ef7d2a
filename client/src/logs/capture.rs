//! The lines of a log in captured output: `{"record":"<JWS>","segment":"<base64>"}`, between whatever else is there.
//!
//! Platforms wrap what they capture. Taken is what is certain: a line as it was written; one after a short prefix, such
//! as a time or a container's name; an entry of Docker's `json-file` (`{"log":"…"}`); a line of the container runtime
//! interface (`<time> stdout F …`). The last two cut long lines into parts, which are joined again.
//!
//! Finds and joins, with a bound. Must not know what a record says.

use std::borrow::Cow;
use std::io::{self, BufRead};

use attestation::log_record;
use serde::Deserialize;

use super::segment::MAX_SEALED;

/// The longest line that can be one of a log: a record, a segment in base64, a few names.
const LONGEST_LINE: usize = log_record::MAX_LENGTH + MAX_SEALED / 3 * 4 + 1024;

/// The longest that a line of a log is with what wraps it and what stands between its parts. More is read by nobody: a
/// file with holes may claim any length.
pub(super) const LONGEST_WRAPPED: u64 = 4 * LONGEST_LINE as u64;

/// How each line of a log begins.
const LINE: &[u8] = b"{\"record\":\"";

/// The longest text that a platform puts before a line.
const LONGEST_PREFIX: usize = 256;

/// How an entry of Docker's `json-file` begins.
const DOCKER: &[u8] = b"{\"log\":\"";

/// One line of a log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// Compact JWS.
    pub(super) record: String,
    /// The segment in base64.
    pub(super) segment: Option<String>,
}

/// Where a line stands that begins like one of a log.
pub(super) struct Found {
    /// Where it begins, in bytes.
    pub(super) offset: u64,
    /// Its length with all that wraps it.
    pub(super) length: usize,
    /// The number of its first line, from 1.
    pub(super) number: u64,
    /// `None`: it is none, but cut off or damaged.
    pub(super) line: Option<Line>,
}

/// Looks through captured output.
pub(super) struct Scanner<R> {
    from: R,
    offset: u64,
    number: u64,
    /// Whether nothing will be added to the output: its last line needs no end then.
    complete: bool,
}

/// A line with its parts joined.
struct Logical {
    offset: u64,
    number: u64,
    text: Vec<u8>,
}

impl<R: BufRead> Scanner<R> {
    /// Begins at a line's beginning: `offset` bytes and `number` lines are before it.
    pub(super) fn new(from: R, offset: u64, number: u64, complete: bool) -> Self {
        Self { from, offset, number, complete }
    }

    /// Bytes and lines that need not be looked at again.
    pub(super) fn passed(&self) -> (u64, u64) {
        (self.offset, self.number)
    }

    /// The next line that begins like one of a log; `None` where there is no other yet.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        while let Some(Logical { offset, number, text }) = self.logical()? {
            if let Some(ours) = ours(&text) {
                let length = self.offset - offset;
                let fits = length <= LONGEST_WRAPPED;
                let line = fits.then(|| serde_json::from_slice(ours).ok()).flatten();
                let length = usize::try_from(length).map_err(io::Error::other)?;
                return Ok(Some(Found { offset, length, number, line }));
            }
        }
        Ok(None)
    }

    fn logical(&mut self) -> io::Result<Option<Logical>> {
        let (offset, number) = (self.offset, self.number + 1);
        let mut text: Vec<u8> = Vec::new();
        let (mut length, mut lines) = (0, 0);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let taken = read_line(&mut self.from, &mut bytes)?;
            if taken == 0 && length == 0 {
                return Ok(None);
            }
            let is_end = taken == 0 || bytes.last() != Some(&b'\n') && !is_cut(&bytes, taken);
            if is_end && !self.complete {
                return Ok(None);
            }
            length += taken;
            lines += u64::from(taken > 0);
            let part = unwrap(&bytes);
            // Parts of one line stand behind each other, but for those of the other output.
            if part.is_output && text.len() + part.text.len() <= LONGEST_LINE {
                text.extend_from_slice(&part.text);
            }
            let joins = part.goes_on || !part.is_output && !text.is_empty();
            let goes_on = joins && length <= LONGEST_WRAPPED;
            if !goes_on || is_end {
                self.offset += length;
                self.number += lines;
                return Ok(Some(Logical { offset, number, text }));
            }
        }
    }
}

/// Whether a line was longer than what is kept of it: its end is not the output's.
fn is_cut(kept: &[u8], length: u64) -> bool {
    u64::try_from(kept.len()).is_ok_and(|kept| kept < length)
}

/// A line without what a platform put around it.
struct Part<'a> {
    text: Cow<'a, [u8]>,
    /// More of the same line follows.
    goes_on: bool,
    /// It is standard output, as far as anybody says.
    is_output: bool,
}

fn unwrap(line: &[u8]) -> Part<'_> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    docker(line).or_else(|| runtime_interface(line)).unwrap_or(Part {
        text: Cow::Borrowed(line),
        goes_on: false,
        is_output: true,
    })
}

/// An entry of Docker's `json-file`.
fn docker(line: &[u8]) -> Option<Part<'_>> {
    #[derive(Deserialize)]
    struct Entry {
        log: String,
        stream: Option<String>,
    }
    if !line.starts_with(DOCKER) {
        return None;
    }
    let Entry { log, stream } = serde_json::from_slice(line).ok()?;
    let goes_on = !log.ends_with('\n');
    let text = log.trim_end_matches(['\r', '\n']).to_owned().into_bytes();
    let is_output = stream.is_none_or(|stream| stream == "stdout");
    Some(Part { text: Cow::Owned(text), goes_on: goes_on && is_output, is_output })
}

/// A line of the container runtime interface: time, stream, `P` for a part or `F` for the last one, text.
fn runtime_interface(line: &[u8]) -> Option<Part<'_>> {
    let mut words = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tag, text) = (words.next()?, words.next()?, words.next()?, words.next()?);
    if !time.first().is_some_and(u8::is_ascii_digit) || !matches!(stream, b"stdout" | b"stderr") {
        return None;
    }
    let is_output = stream == b"stdout";
    match tag {
        b"P" => Some(Part { text: Cow::Borrowed(text), goes_on: is_output, is_output }),
        b"F" => Some(Part { text: Cow::Borrowed(text), goes_on: false, is_output }),
        _ => None,
    }
}

/// From where a line is one of a log. A brace or a quotation mark before it makes it somebody else's.
fn ours(text: &[u8]) -> Option<&[u8]> {
    let beginning = text.get(..LONGEST_PREFIX + LINE.len()).unwrap_or(text);
    let at = beginning.windows(LINE.len()).position(|window| window == LINE)?;
    let (prefix, line) = text.split_at(at);
    (!prefix.iter().any(|byte| matches!(byte, b'{' | b'"'))).then_some(line)
}

/// Reads a line with its end, and returns its length. What is longer than any line of a log is passed over;
/// `line` then holds its beginning.
fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    let mut length = 0;
    loop {
        let buffer = from.fill_buf()?;
        if buffer.is_empty() {
            return Ok(length);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = end.map_or(buffer, |end| buffer.split_at(end + 1).0);
        let taken = part.len();
        if line.len() + taken <= LONGEST_LINE {
            line.extend_from_slice(part);
        }
        from.consume(taken);
        length += u64::try_from(taken).unwrap_or(u64::MAX);
        if end.is_some() {
            return Ok(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use serde_json::json;

    use super::*;

    const OURS: &str = r#"{"record":"a.b.c","segment":"AAAA"}"#;

    /// Where lines of a log begin, and whether they are whole.
    fn found(text: &str, complete: bool) -> Vec<(u64, u64, bool)> {
        let mut scanner = Scanner::new(text.as_bytes(), 0, 0, complete);
        let mut all = Vec::new();
        while let Some(found) = scanner.next().unwrap() {
            let begin = usize::try_from(found.offset).unwrap();
            let span = &text.as_bytes()[begin..begin + found.length];
            let again = Scanner::new(span, 0, 0, true).next().unwrap().unwrap();
            assert_eq!(again.line.is_some(), found.line.is_some(), "it is found again");
            if let Some(line) = &found.line {
                assert_eq!(
                    (line.record.as_str(), line.segment.as_deref()),
                    ("a.b.c", Some("AAAA"))
                );
            }
            all.push((found.offset, found.number, found.line.is_some()));
        }
        all
    }

    #[test]
    fn a_line_may_have_a_prefix_of_the_platforms() {
        for prefix in [
            "",
            "2026-11-23T10:00:00.123456789Z ",
            "2026-11-23T10:00:00.123456789Z stdout F ",
            "log-sealer  | ",
            "log-sealer-1  | 2026-11-23T10:00:00Z ",
        ] {
            let text = format!("something\n{prefix}{OURS}\r\nelse\n");
            assert_eq!(found(&text, true), [(10, 2, true)], "{prefix}");
        }
        for other in [
            format!("{}{OURS}", "x".repeat(LONGEST_PREFIX + 1)),
            format!("{{\"message\":{OURS}}}"),
            json!({"message": OURS}).to_string(),
            format!("\"{OURS}"),
            format!("2026-11-23T10:00:00Z stderr F {OURS}"),
            json!({"log": format!("{OURS}\n"), "stream": "stderr"}).to_string(),
        ] {
            assert_eq!(found(&format!("{other}\n"), true), [], "{other}");
        }
        let cut = &OURS[..OURS.len() - 3];
        assert_eq!(found(&format!("{cut}\n{OURS}x\n{OURS}\n"), true).len(), 3);
        assert_eq!(found(&format!("{cut}\n"), true), [(0, 1, false)]);
    }

    #[test]
    fn parts_of_a_line_are_joined() {
        let (a, b) = OURS.split_at(9);
        let docker = |log: &str, stream: &str| {
            json!({"log": log, "stream": stream, "time": "2026-11-23T10:00:00Z"}).to_string() + "\n"
        };
        let text = [
            docker("log-sealer: ready\n", "stdout"),
            docker(a, "stdout"),
            docker("from the other output\n", "stderr"),
            docker(&format!("{b}\n"), "stdout"),
            docker(&format!("{OURS}\n"), "stdout"),
        ];
        let first = u64::try_from(text[0].len()).unwrap();
        let joined: u64 = text[1..4].iter().map(|line| u64::try_from(line.len()).unwrap()).sum();
        assert_eq!(found(&text.concat(), true), [(first, 2, true), (first + joined, 5, true)]);

        let cri = |tag: &str, text: &str| format!("2026-11-23T10:00:00Z stdout {tag} {text}\n");
        let text = [cri("P", a), cri("P", ""), cri("F", b), cri("F", OURS)].concat();
        assert_eq!(found(&text, true).len(), 2);
    }

    #[test]
    fn a_line_is_joined_over_no_more_than_a_bound() {
        let part = format!("2026-11-23T10:00:00Z stdout P {OURS}\n");
        let begin = "2026-11-23T10:00:00Z stderr F ";
        // Lines of the other output, of this length in all.
        let others = |length: usize| {
            let line = |length: usize| format!("{begin}{}\n", "x".repeat(length - begin.len() - 1));
            let (whole, rest) = (length / (1 << 20) - 1, length % (1 << 20));
            line(1 << 20).repeat(whole) + &line((1 << 20) + rest)
        };
        let end = "2026-11-23T10:00:00Z stdout F \n";
        let bound = usize::try_from(LONGEST_WRAPPED).unwrap();
        let rest = bound - part.len() - end.len();
        let text = [&part, &others(rest), end].concat();
        assert_eq!(found(&text, true), [(0, 1, true)]);
        let text = [&part, &others(rest + 1), end].concat();
        assert_eq!(found(&text, true), [(0, 1, false)]);
        let text = [&part, &others(bound), end, OURS, "\n"].concat();
        let all = found(&text, true);
        assert_eq!((all.len(), all[0].2, all[1].2), (2, false, true), "it goes on after that");
    }

    #[test]
    fn a_line_that_is_still_being_written_is_waited_for() {
        let text = format!("{OURS}\n{OURS}");
        assert_eq!(found(&text, false), [(0, 1, true)]);
        assert_eq!(found(&text, true).len(), 2);
        let part = format!("{OURS}\n2026-11-23T10:00:00Z stdout P {OURS}\n");
        assert_eq!(found(&part, false), [(0, 1, true)]);
        let mut scanner = Scanner::new(text.as_bytes(), 100, 7, false);
        while scanner.next().unwrap().is_some() {}
        assert_eq!(scanner.passed(), (101 + u64::try_from(OURS.len()).unwrap(), 8));
    }

    #[test]
    fn lines_are_read_with_a_bound_and_counted_whole() {
        let long = vec![b'x'; LONGEST_LINE + 10];
        let text = [b"one\n".as_slice(), &long, b"\ntwo"].concat();
        let mut from = BufReader::with_capacity(1000, text.as_slice());
        let mut next = || {
            let mut line = Vec::new();
            let length = read_line(&mut from, &mut line).unwrap();
            (length, line)
        };
        assert_eq!(next(), (4, b"one\n".to_vec()));
        let (length, kept) = next();
        assert_eq!(length, u64::try_from(LONGEST_LINE + 11).unwrap());
        assert!(kept.len() <= LONGEST_LINE);
        assert_eq!(next(), (3, b"two".to_vec()));
        assert_eq!(next(), (0, vec![]));
    }
}
