//! Where a sealed log lies: a folder of files, captured output, or the copy of a container. This finds out what is there,
//! by boot and number, and reads it piece by piece; it verifies nothing.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use attestation::crypto::sha256;
use attestation::jws::Jws;
use attestation::log_record::{self, Record};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::capture::{Found, LONGEST_WRAPPED, Line, Scanner};
use super::report::{MOST_PROBLEMS, keep, with_causes};
use super::segment::MAX_SEALED;
use super::{OpenError, Problem};

/// The most records and segments that are kept track of: a year of segments every ten seconds, and more.
const MOST: usize = 8_000_000;

/// The most boots: one every eight minutes for a year.
const MOST_BOOTS: usize = 65_536;

/// The most files with lines in a folder.
pub(super) const MOST_FILES: usize = 65_536;

/// Where a log lies.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder with `<boot>-<seq>.jws` and `<boot>-<seq>.age`, or with `<boot>.jsonl`, `<boot>-2.jsonl` and so on as a blob container has them.
    /// Other names are passed over.
    Folder(PathBuf),
    /// A file with the sealer's standard output. Other lines are passed over. It is read twice, so it cannot be
    /// a pipe.
    Captured(PathBuf),
    /// A folder with what was copied from elsewhere, and the name under which that is known: the folder's own says nothing
    /// to anybody.
    Copied {
        /// Where it is.
        folder: PathBuf,
        /// What it is called.
        name: PathBuf,
    },
}

impl Source {
    /// What lies there.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        let path = path.to_owned();
        if path.is_dir() { Self::Folder(path) } else { Self::Captured(path) }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Captured(path) | Self::Copied { folder: path, .. } => path,
        }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> PathBuf {
        self.named(self.path())
    }

    /// What a path of it is called.
    fn named(&self, path: &Path) -> PathBuf {
        match self {
            Self::Folder(_) | Self::Captured(_) => path.to_owned(),
            Self::Copied { folder, name } => match path.strip_prefix(folder) {
                Ok(rest) if rest != Path::new("") => name.join(rest),
                _ => name.clone(),
            },
        }
    }
}

/// What is there.
pub(super) struct Index {
    source: Source,
    /// Files with lines, and how far each was looked through.
    files: Vec<LineFile>,
    boots: BTreeMap<String, BTreeMap<u64, Entry>>,
    entries: usize,
    /// How many files of a folder were found to be records or segments so far.
    named: usize,
    /// What is wrong with the source itself.
    pub(super) problems: Vec<Problem>,
    /// How much more is.
    pub(super) more_problems: u64,
    /// How many of them were told.
    told: usize,
    /// Numbers that turned out to have two records, until they are told.
    forks: Vec<(String, u64)>,
}

struct LineFile {
    path: PathBuf,
    /// Device and inode: another file under the same name is not this one going on.
    identity: Option<(u64, u64)>,
    offset: u64,
    number: u64,
}

/// What there is of one number.
#[derive(Default)]
pub(super) struct Entry {
    record: Option<Place>,
    segment: Option<Place>,
    /// A file of the folder holds the record.
    in_file: bool,
    /// A file of the folder holds the segment.
    segment_in_file: bool,
    /// There is another record of this number.
    pub(super) forked: bool,
    /// How often the same record is there once more.
    pub(super) duplicates: u64,
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
    /// In a line of that file with lines.
    Line { file: usize, offset: u64, length: usize, record_sha256: [u8; 32] },
}

impl Index {
    /// Nothing is looked at yet.
    pub(super) fn new(source: &Source) -> Self {
        let files = match source {
            Source::Folder(_) | Source::Copied { .. } => Vec::new(),
            Source::Captured(path) => vec![LineFile::new(path.clone())],
        };
        let source = source.clone();
        Self {
            source,
            files,
            boots: BTreeMap::new(),
            entries: 0,
            named: 0,
            problems: Vec::new(),
            more_problems: 0,
            told: 0,
            forks: Vec::new(),
        }
    }

    /// Whether there is nothing like a log.
    pub(super) fn is_empty(&self) -> bool {
        self.boots.is_empty() && self.problems.is_empty()
    }

    /// Finds what was added since. `complete`: nothing will be added any more.
    pub(super) fn refresh(&mut self, complete: bool) -> Result<(), OpenError> {
        if let Source::Folder(path) | Source::Copied { folder: path, .. } = &self.source {
            self.folder(&path.clone())?;
        }
        for at in 0..self.files.len() {
            self.lines(at, complete)?;
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path) -> Result<(), OpenError> {
        let name = self.source.named(path);
        let unreadable = |error| OpenError::Source(name.clone(), error);
        let mut with_lines = Vec::new();
        let (mut again, mut new) = (0, 0);
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some((boot, seq, kind)) = parse_name(name) {
                let count = if self.file(boot, seq, kind)? { &mut again } else { &mut new };
                *count += 1;
            } else if has_lines(name) {
                with_lines.push(path.join(name));
            }
        }
        // Nobody who writes a log takes away what is in it.
        if again < std::mem::replace(&mut self.named, again + new) {
            return Err(OpenError::Replaced(name));
        }
        with_lines.sort();
        with_lines.retain(|path| self.files.iter().all(|file| file.path != *path));
        if self.files.len() + with_lines.len() > MOST_FILES {
            return Err(OpenError::TooMany { path: name, limit: MOST_FILES });
        }
        self.files.extend(with_lines.into_iter().map(LineFile::new));
        Ok(())
    }

    /// Takes note of a file, and says whether it was known.
    fn file(&mut self, boot: &str, seq: u64, kind: Kind) -> Result<bool, OpenError> {
        let entry = self.entry(boot, seq)?;
        match (kind, entry.record) {
            (Kind::Segment, _) => {
                entry.segment = entry.segment.or(Some(Place::File));
                Ok(std::mem::replace(&mut entry.segment_in_file, true))
            }
            (Kind::Record, Some(_)) if entry.in_file => Ok(true),
            (Kind::Record, known) => {
                entry.record = known.or(Some(Place::File));
                entry.in_file = true;
                if let Some(known) = known {
                    let same = self.digest(known, boot, seq) == self.digest(Place::File, boot, seq);
                    self.again(boot, seq, same)?;
                }
                Ok(false)
            }
        }
    }

    fn lines(&mut self, at: usize, complete: bool) -> Result<(), OpenError> {
        let Some(LineFile { path, identity, offset, number }) = self.files.get(at) else {
            return Ok(());
        };
        let path = path.clone();
        let name = self.source.named(&path);
        let unreadable = |error| OpenError::Source(name.clone(), error);
        let mut file = plain(&path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let now = (metadata.dev(), metadata.ino());
        if identity.is_some_and(|then| then != now) || metadata.len() < *offset {
            return Err(OpenError::Replaced(name));
        }
        file.seek(SeekFrom::Start(*offset)).map_err(unreadable)?;
        let mut scanner = Scanner::new(BufReader::new(file), *offset, *number, complete);
        while let Some(found) = scanner.next().map_err(unreadable)? {
            self.line(at, found)?;
        }
        let (offset, number) = scanner.passed();
        if let Some(file) = self.files.get_mut(at) {
            *file = LineFile { path, identity: Some(now), offset, number };
        }
        Ok(())
    }

    fn line(&mut self, file: usize, found: Found) -> Result<(), OpenError> {
        let Found { offset, length, number, line } = found;
        let parsed = line.and_then(|line| {
            let record = unverified(&line.record).filter(|record| is_boot(&record.boot))?;
            Some((line, record))
        });
        let Some((line, record)) = parsed else {
            let file = self.files.get(file);
            let path = file.map_or_else(PathBuf::new, |file| self.source.named(&file.path));
            keep(&mut self.problems, &mut self.more_problems, Problem::Line { path, line: number });
            return Ok(());
        };
        let record_sha256 = sha256(line.record.as_bytes());
        let place = Place::Line { file, offset, length, record_sha256 };
        let segment = line.segment.map(|_| place);
        let (boot, seq) = (&record.boot, record.seq);
        let known = self.entry(boot, seq)?.record;
        let same = known.map(|known| self.digest(known, boot, seq) == Some(record_sha256));
        match same {
            None => self.entry(boot, seq)?.record = Some(place),
            // delivery is at least once: the same record twice is one
            Some(true) => self.again(boot, seq, true)?,
            Some(false) => return self.again(boot, seq, false),
        }
        let entry = self.entry(boot, seq)?;
        entry.segment = entry.segment.or(segment);
        Ok(())
    }

    /// There is one more record of this number.
    fn again(&mut self, boot: &str, seq: u64, same: bool) -> Result<(), OpenError> {
        let entry = self.entry(boot, seq)?;
        if same {
            entry.duplicates += 1;
        } else if !std::mem::replace(&mut entry.forked, true) && self.forks.len() < MOST_PROBLEMS {
            self.forks.push((boot.to_owned(), seq));
        }
        Ok(())
    }

    /// What turned out to be wrong since this was asked last.
    pub(super) fn news(&mut self) -> Vec<String> {
        let untold = self.problems.iter().skip(self.told).map(with_causes);
        let forks = std::mem::take(&mut self.forks).into_iter();
        let forks = forks.map(|(boot, seq)| format!("boot {boot}: {}", Problem::Fork { seq }));
        let news = untold.chain(forks).collect();
        self.told = self.problems.len();
        news
    }

    fn entry(&mut self, boot: &str, seq: u64) -> Result<&mut Entry, OpenError> {
        if self.boots.len() >= MOST_BOOTS && !self.boots.contains_key(boot) {
            return Err(OpenError::TooMany { path: self.source.name(), limit: MOST_BOOTS });
        }
        match self.boots.entry(boot.to_owned()).or_default().entry(seq) {
            btree_map::Entry::Occupied(known) => Ok(known.into_mut()),
            btree_map::Entry::Vacant(_) if self.entries >= MOST => {
                Err(OpenError::TooMany { path: self.source.name(), limit: MOST })
            }
            btree_map::Entry::Vacant(new) => {
                self.entries += 1;
                Ok(new.insert(Entry::default()))
            }
        }
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

    /// What there is of a number.
    pub(super) fn at(&self, boot: &str, seq: u64) -> Option<&Entry> {
        self.boots.get(boot)?.get(&seq)
    }

    /// The first number of a boot after this one that has a record.
    pub(super) fn next_record(&self, boot: &str, after: u64) -> Option<u64> {
        let mut later = self.boots.get(boot)?.range(after.checked_add(1)?..);
        later.find(|(_, entry)| entry.has_record()).map(|(seq, _)| *seq)
    }

    /// A record's compact form; `None` if there is none.
    pub(super) fn record(&self, boot: &str, seq: u64) -> Option<Result<String, Problem>> {
        let place = self.at(boot, seq)?.record?;
        let name = format!("record {seq} of boot {boot}");
        let read = self.bytes(place, boot, seq, Kind::Record).and_then(|bytes| match place {
            Place::File => String::from_utf8(bytes).map_err(io::Error::other),
            Place::Line { .. } => Ok(again(&bytes)?.record),
        });
        Some(read.map_err(|source| Problem::Unreadable { name, source }))
    }

    /// A segment's bytes; `None` if there is none.
    pub(super) fn segment(&self, boot: &str, seq: u64) -> Option<Result<Vec<u8>, Problem>> {
        let place = self.at(boot, seq)?.segment?;
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

    /// SHA-256 of the record at a place; `None` if it cannot be read.
    fn digest(&self, place: Place, boot: &str, seq: u64) -> Option<[u8; 32]> {
        match place {
            Place::Line { record_sha256, .. } => Some(record_sha256),
            Place::File => Some(sha256(&self.bytes(Place::File, boot, seq, Kind::Record).ok()?)),
        }
    }

    fn bytes(&self, place: Place, boot: &str, seq: u64, kind: Kind) -> io::Result<Vec<u8>> {
        match place {
            Place::File => {
                let name = format!("{boot}-{seq:08}.{}", kind.extension());
                let longest = u64::try_from(kind.longest()).unwrap_or(u64::MAX);
                read_at_most(plain(&self.source.path().join(name))?, longest)
            }
            Place::Line { file, offset, length, .. } => {
                let file = self.files.get(file).ok_or(io::ErrorKind::NotFound)?;
                let mut file = plain(&file.path)?;
                file.seek(SeekFrom::Start(offset))?;
                let bytes = read_at_most(
                    file.take(u64::try_from(length).unwrap_or(u64::MAX)),
                    LONGEST_WRAPPED,
                )?;
                if bytes.len() == length {
                    Ok(bytes)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                }
            }
        }
    }
}

impl LineFile {
    fn new(path: PathBuf) -> Self {
        Self { path, identity: None, offset: 0, number: 0 }
    }
}

/// Opens a file to read it. Whoever stores a log may have put a pipe or a device there.
fn plain(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    File::open(path)
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

/// Whether a file is one of a boot's blobs, by exactly the name that `log-sealer` gives it.
pub(super) fn has_lines(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".jsonl") else { return false };
    let (boot, number) = stem.split_once('-').unwrap_or((stem, "1"));
    let is_number = (1..=10).contains(&number.len());
    is_boot(boot) && is_number && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_boot(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A line that was found before; the file may have changed since.
fn again(bytes: &[u8]) -> io::Result<Line> {
    let found = Scanner::new(bytes, 0, 0, true).next()?;
    found.and_then(|found| found.line).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// What a record claims.
pub(super) fn unverified(compact: &str) -> Option<Record> {
    Jws::parse(compact, log_record::MAX_LENGTH).ok()?.unverified().ok()
}

fn read_at_most(from: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is longer than {limit} bytes"),
        ));
    }
    Ok(bytes)
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
            assert!(!has_lines(&bad), "{bad}");
        }
        assert!(has_lines(&format!("{BOOT}.jsonl")) && has_lines(&format!("{BOOT}-2.jsonl")));
        for bad in ["-.jsonl", "-x.jsonl", "-2-3.jsonl", "x.jsonl", "\u{1b}[2J.jsonl", ".jsonl.gz"]
        {
            assert!(!has_lines(&format!("{BOOT}{bad}")), "{bad}");
        }
        assert!(!has_lines("notes.jsonl"));
    }

    #[test]
    fn boots_are_kept_track_of_up_to_a_bound() {
        let mut index = Index::new(&Source::Folder(PathBuf::new()));
        for boot in 0..MOST_BOOTS {
            index.entry(&format!("{boot:032x}"), 0).unwrap();
        }
        assert!(index.entry(&format!("{:032x}", 1), 1).is_ok(), "one that is known");
        let outcome = index.entry(&format!("{MOST_BOOTS:032x}"), 0);
        assert!(matches!(outcome, Err(OpenError::TooMany { limit: MOST_BOOTS, .. })));
    }

    #[test]
    fn a_copy_is_called_by_the_name_of_what_was_copied() {
        let (folder, name) = (PathBuf::from("/tmp/x"), PathBuf::from("https://a.example/logs"));
        let source = Source::Copied { folder, name };
        let called = |path: &str| source.named(Path::new(path)).display().to_string();
        assert_eq!(called("/tmp/x/y.jsonl"), "https://a.example/logs/y.jsonl");
        assert_eq!(called("/tmp/x"), "https://a.example/logs");
        let source = Source::Folder(PathBuf::from("/tmp/x"));
        assert_eq!(source.named(Path::new("/tmp/x/y")), Path::new("/tmp/x/y"));
    }

    #[test]
    fn what_is_longer_than_its_kind_is_not_read() {
        assert_eq!(read_at_most(&[1, 2, 3][..], 3).unwrap(), [1, 2, 3]);
        assert!(read_at_most(&[1, 2, 3][..], 2).is_err());
    }
}
