//! Where a sealed log lies: a folder of files, or captured output. This finds out what is there, by boot and
//! number, and reads it piece by piece; it verifies nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use attestation::crypto::sha256;
use attestation::jws::Jws;
use attestation::log_record::{self, Record};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::segment::MAX_SEALED;
use super::{OpenError, Problem};

/// The most records and segments that are kept track of: a year of segments every ten seconds, and more.
const MOST: usize = 8_000_000;

/// The longest line of captured output that can be one of a log: a record, a segment in base64, a few names.
const LONGEST_LINE: usize = log_record::MAX_LENGTH + MAX_SEALED / 3 * 4 + 1024;

/// How each line of a log in captured output begins.
const LINE: &[u8] = b"{\"record\":\"";

/// Where a log lies.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder with `<boot>-<seq>.jws` and `<boot>-<seq>.age`. Other names are passed over.
    Folder(PathBuf),
    /// A file with the sealer's standard output. Other lines are passed over. It is read twice, so it cannot be
    /// a pipe.
    Captured(PathBuf),
}

/// What is there.
pub(super) struct Index {
    store: Store,
    boots: BTreeMap<String, BTreeMap<u64, Entry>>,
    entries: usize,
    /// What is wrong with the source itself.
    pub(super) problems: Vec<Problem>,
}

enum Store {
    Folder(PathBuf),
    Captured(File),
}

/// What there is of one number.
#[derive(Default)]
pub(super) struct Entry {
    record: Option<Place>,
    segment: Option<Place>,
    /// There is another record of this number.
    pub(super) forked: bool,
}

impl Entry {
    pub(super) fn has_record(&self) -> bool {
        self.record.is_some()
    }

    pub(super) fn has_segment(&self) -> bool {
        self.segment.is_some()
    }
}

/// Where a record or a segment is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// In the file of its name.
    File,
    /// In a line of the capture.
    Line { offset: u64, length: usize, record_sha256: [u8; 32] },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    record: String,
    segment: Option<String>,
}

impl Index {
    pub(super) fn read(source: &Source) -> Result<Self, OpenError> {
        let (path, read) = match source {
            Source::Folder(path) => (path, Self::folder(path)?),
            Source::Captured(path) => (path, Self::captured(path)?),
        };
        if read.boots.is_empty() && read.problems.is_empty() {
            return Err(OpenError::Empty(path.clone()));
        }
        Ok(read)
    }

    fn folder(path: &Path) -> Result<Self, OpenError> {
        let unreadable = |error| OpenError::Source(path.to_owned(), error);
        let mut index = Self::new(Store::Folder(path.to_owned()));
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let Some((boot, seq, kind)) = name.to_str().and_then(parse_name) else { continue };
            let entry = index.entry(path, boot, seq)?;
            match kind {
                Kind::Record => entry.record = Some(Place::File),
                Kind::Segment => entry.segment = Some(Place::File),
            }
        }
        Ok(index)
    }

    fn captured(path: &Path) -> Result<Self, OpenError> {
        let unreadable = |error| OpenError::Source(path.to_owned(), error);
        let open = || File::open(path).map_err(unreadable);
        let mut index = Self::new(Store::Captured(open()?));
        let mut from = BufReader::new(open()?);
        let (mut offset, mut number) = (0, 0);
        loop {
            let mut bytes = Vec::new();
            let length = read_line(&mut from, &mut bytes).map_err(unreadable)?;
            if length == 0 {
                return Ok(index);
            }
            number += 1;
            if bytes.starts_with(LINE) {
                index.line(path, number, offset, &bytes)?;
            }
            offset += length;
        }
    }

    fn line(
        &mut self,
        path: &Path,
        number: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), OpenError> {
        let Some((line, record)) = parse_line(bytes) else {
            self.problems.push(Problem::Line(number));
            return Ok(());
        };
        let record_sha256 = sha256(line.record.as_bytes());
        let place = Place::Line { offset, length: bytes.len(), record_sha256 };
        let entry = self.entry(path, &record.boot, record.seq)?;
        match entry.record {
            None => {
                entry.record = Some(place);
                entry.segment = line.segment.map(|_| place);
            }
            // delivery is at least once: the same record twice is one
            Some(Place::Line { record_sha256: known, .. }) if known == record_sha256 => {}
            Some(_) => entry.forked = true,
        }
        Ok(())
    }

    fn new(store: Store) -> Self {
        Self { store, boots: BTreeMap::new(), entries: 0, problems: Vec::new() }
    }

    fn entry(&mut self, path: &Path, boot: &str, seq: u64) -> Result<&mut Entry, OpenError> {
        self.entries += 1;
        if self.entries > MOST {
            return Err(OpenError::TooMany { path: path.to_owned(), limit: MOST });
        }
        Ok(self.boots.entry(boot.to_owned()).or_default().entry(seq).or_default())
    }

    /// Every boot, in the order in which they claim to have begun; those that do not say come last.
    pub(super) fn boots(&self) -> Vec<String> {
        let claimed = |boot: &str| {
            let compact = self.record(boot, 0)?.ok()?;
            Some(unverified(&compact)?.time)
        };
        let mut boots: Vec<(u64, String)> = self
            .boots
            .keys()
            .map(|boot| (claimed(boot).unwrap_or(u64::MAX), boot.clone()))
            .collect();
        boots.sort();
        boots.into_iter().map(|(_, boot)| boot).collect()
    }

    /// What there is of a boot, by number.
    pub(super) fn entries(&self, boot: &str) -> impl Iterator<Item = (u64, &Entry)> {
        self.boots.get(boot).into_iter().flatten().map(|(seq, entry)| (*seq, entry))
    }

    /// A record's compact form; `None` if there is none.
    pub(super) fn record(&self, boot: &str, seq: u64) -> Option<Result<String, Problem>> {
        let place = self.boots.get(boot)?.get(&seq)?.record?;
        let name = format!("record {seq} of boot {boot}");
        let read = self.bytes(place, boot, seq, Kind::Record).and_then(|bytes| match place {
            Place::File => String::from_utf8(bytes).map_err(io::Error::other),
            Place::Line { .. } => Ok(again(&bytes)?.record),
        });
        Some(read.map_err(|source| Problem::Unreadable { name, source }))
    }

    /// A segment's bytes; `None` if there is none.
    pub(super) fn segment(&self, boot: &str, seq: u64) -> Option<Result<Vec<u8>, Problem>> {
        let place = self.boots.get(boot)?.get(&seq)?.segment?;
        let name = format!("segment {seq} of boot {boot}");
        let read = self.bytes(place, boot, seq, Kind::Segment).and_then(|bytes| match place {
            Place::File => Ok(bytes),
            Place::Line { .. } => {
                let text = again(&bytes)?.segment.unwrap_or_default();
                STANDARD.decode(text).map_err(io::Error::other)
            }
        });
        Some(read.map_err(|source| Problem::Unreadable { name, source }))
    }

    fn bytes(&self, place: Place, boot: &str, seq: u64, kind: Kind) -> io::Result<Vec<u8>> {
        match (&self.store, place) {
            (Store::Folder(path), Place::File) => {
                let path = path.join(format!("{boot}-{seq:08}.{}", kind.extension()));
                // whoever stores a log may have put a pipe or a device there
                if !std::fs::metadata(&path)?.is_file() {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
                }
                read_at_most(File::open(path)?, kind.longest())
            }
            (Store::Captured(file), Place::Line { offset, length, .. }) => {
                let mut file = file;
                file.seek(SeekFrom::Start(offset))?;
                let mut bytes = vec![0; length];
                file.read_exact(&mut bytes)?;
                Ok(bytes)
            }
            // an index has one kind of places: its store's
            (Store::Folder(_), Place::Line { .. }) | (Store::Captured(_), Place::File) => {
                Err(io::ErrorKind::NotFound.into())
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Record,
    Segment,
}

impl Kind {
    fn extension(self) -> &'static str {
        match self {
            Self::Record => "jws",
            Self::Segment => "age",
        }
    }

    fn longest(self) -> usize {
        match self {
            Self::Record => log_record::MAX_LENGTH,
            Self::Segment => MAX_SEALED,
        }
    }
}

/// Boot, number and kind of a file, if its name is exactly as `log-sealer` writes it.
fn parse_name(name: &str) -> Option<(&str, u64, Kind)> {
    let (stem, extension) = name.split_once('.')?;
    let kind = [Kind::Record, Kind::Segment].into_iter().find(|k| k.extension() == extension)?;
    let (boot, number) = stem.split_once('-')?;
    let seq = number.parse().ok()?;
    (is_boot(boot) && format!("{seq:08}") == number).then_some((boot, seq, kind))
}

fn is_boot(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn parse_line(bytes: &[u8]) -> Option<(Line, Record)> {
    let line: Line = serde_json::from_slice(bytes).ok()?;
    let record = unverified(&line.record).filter(|record| is_boot(&record.boot))?;
    Some((line, record))
}

/// A line that could be parsed before; it may have changed since.
fn again(bytes: &[u8]) -> io::Result<Line> {
    Ok(serde_json::from_slice(bytes)?)
}

/// What a record claims.
fn unverified(compact: &str) -> Option<Record> {
    Jws::parse(compact, log_record::MAX_LENGTH).ok()?.unverified().ok()
}

fn read_at_most(from: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    from.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is longer than {limit} bytes"),
        ));
    }
    Ok(bytes)
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
    use super::*;

    const BOOT: &str = "000102030405060708090a0b0c0d0e0f";

    #[test]
    fn only_exact_names_are_of_a_log() {
        let good = format!("{BOOT}-00000012.age");
        assert_eq!(parse_name(&good), Some((BOOT, 12, Kind::Segment)));
        assert_eq!(
            parse_name(&format!("{BOOT}-123456789.jws")),
            Some((BOOT, 123_456_789, Kind::Record))
        );
        for bad in [
            format!("{BOOT}-12.age"),
            format!("{BOOT}-000000012.age"),
            format!("{BOOT}-+0000012.age"),
            format!("{BOOT}-00000012.age.partial"),
            format!("{BOOT}-00000012.AGE"),
            format!("{}-00000012.age", BOOT.to_uppercase()),
            format!("{}-00000012.age", &BOOT[1..]),
            format!("{BOOT}.age"),
            "README".to_owned(),
        ] {
            assert_eq!(parse_name(&bad), None, "{bad}");
        }
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

    #[test]
    fn what_is_longer_than_its_kind_is_not_read() {
        assert_eq!(read_at_most(&[1, 2, 3][..], 3).unwrap(), [1, 2, 3]);
        assert!(read_at_most(&[1, 2, 3][..], 2).is_err());
    }
}
