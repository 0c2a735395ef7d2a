//! A `multipart/form-data` request (RFC 7578) on its way to the model: the `model` field and the length of the `file` part
//! are read as it passes.
//!
//! It is as strict as [`super::json`]: where readers of such bodies differ (bare line feeds, a preamble, parts without a
//! name, delimiters that are not quite), it gives up. It keeps one part's head or one short field at most.
//!
//! Must not know what is done with a request whose model cannot be told.

use memchr::memchr;

use crate::error::Refusal;
use crate::openai::access::{Models, Said};

/// The longest head of a part, in bytes.
const LONGEST_HEAD: usize = 4096;

/// The longest `model` field that is read, in bytes.
const LONGEST_MODEL: usize = 256;

/// The longest boundary (RFC 2046, 5.1.1).
const LONGEST_BOUNDARY: usize = 70;

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// What comes before the first delimiter: nothing.
    Preamble,
    Model,
    File,
    Another,
}

/// Where in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Content(Part),
    /// Behind a delimiter, with its first byte after it, if that came.
    Delimited(Option<u8>),
    Head,
    /// Behind the last delimiter.
    End,
    /// Given up.
    Lost,
}

/// A request that passes.
pub(crate) struct MultipartRequest {
    /// Two dashes and the boundary.
    needle: Vec<u8>,
    /// For each length of a match, the longest match that it ends with (Knuth, Morris, Pratt).
    falls: Vec<usize>,
    matched: usize,
    /// The two bytes before what is matched.
    before: [u8; 2],
    place: Place,
    /// Bytes read, and those at which the content of this part began.
    at: u64,
    content_at: u64,
    head: Vec<u8>,
    field: Vec<u8>,
    model: Option<Result<String, ()>>,
    repeated: bool,
    file: Option<u64>,
}

impl MultipartRequest {
    /// For a body with this Content-Type.
    pub(crate) fn new(content_type: Option<&str>) -> Self {
        let boundary = content_type.and_then(boundary);
        let place = match boundary {
            Some(_) => Place::Content(Part::Preamble),
            None => Place::Lost,
        };
        let needle = [b"--", boundary.unwrap_or_default().as_bytes()].concat();
        let falls = falls(&needle);
        Self {
            needle,
            falls,
            matched: 0,
            // A body begins as if a line had ended.
            before: *b"\r\n",
            place,
            at: 0,
            content_at: 2,
            head: Vec::new(),
            field: Vec::new(),
            model: None,
            repeated: false,
            file: None,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.place {
                Place::Lost => return,
                Place::Content(part) => {
                    let taken = self.content(part, bytes);
                    bytes = bytes.get(taken..).unwrap_or_default();
                    continue;
                }
                Place::Delimited(None) => self.place = Place::Delimited(Some(byte)),
                Place::Delimited(Some(first)) => {
                    self.place = match [first, byte] {
                        [b'\r', b'\n'] => Place::Head,
                        [b'-', b'-'] => Place::End,
                        _ => Place::Lost,
                    };
                    self.head.clear();
                }
                Place::Head => {
                    self.head.push(byte);
                    if self.head.ends_with(b"\r\n\r\n") {
                        self.begin();
                    } else if self.head.len() >= LONGEST_HEAD {
                        self.place = Place::Lost;
                    }
                }
                Place::End if matches!(byte, b'\r' | b'\n') => {}
                Place::End => self.place = Place::Lost,
            }
            self.at += 1;
            bytes = rest;
        }
    }

    /// Reads content up to the end of a delimiter: how many bytes that were.
    fn content(&mut self, part: Part, bytes: &[u8]) -> usize {
        let mut at = 0;
        let mut found = false;
        while let Some(&byte) = bytes.get(at) {
            if self.matched == 0 {
                let rest = bytes.get(at..).unwrap_or_default();
                let skipped = memchr(b'-', rest).unwrap_or(rest.len());
                if skipped > 0 {
                    self.pass(rest.get(..skipped).unwrap_or_default());
                    at += skipped;
                    continue;
                }
            }
            while self.matched > 0 && self.needle.get(self.matched) != Some(&byte) {
                self.fall();
            }
            if self.needle.get(self.matched) == Some(&byte) {
                self.matched += 1;
            } else {
                self.pass(&[byte]);
            }
            at += 1;
            if self.matched == self.needle.len() {
                found = true;
                break;
            }
        }
        self.at += u64::try_from(at).unwrap_or(u64::MAX);
        if part == Part::Model {
            // As much as a name and a delimiter can be: the rest says no more than that it is too long.
            let room = (LONGEST_MODEL + LONGEST_BOUNDARY + 8).saturating_sub(self.field.len());
            self.field.extend_from_slice(bytes.get(..at.min(room)).unwrap_or_default());
        }
        if found {
            self.delimit(part);
        }
        at
    }

    /// A shorter match, as long as the one there is ends with.
    fn fall(&mut self) {
        let shorter = self.falls.get(self.matched - 1).copied().unwrap_or(0);
        let dropped = self.matched - shorter;
        for at in dropped.saturating_sub(2)..dropped {
            self.before = [self.before[1], self.needle.get(at).copied().unwrap_or(0)];
        }
        self.matched = shorter;
    }

    /// Bytes that are in no match.
    fn pass(&mut self, bytes: &[u8]) {
        for &byte in bytes.get(bytes.len().saturating_sub(2)..).unwrap_or_default() {
            self.before = [self.before[1], byte];
        }
    }

    /// The end of a delimiter, so of the part before it.
    fn delimit(&mut self, part: Part) {
        self.matched = 0;
        self.place = Place::Delimited(None);
        let with_line_end = u64::try_from(self.needle.len() + 2).unwrap_or(u64::MAX);
        // The first delimiter's line end is the one that was made up.
        let begin = self.content_at;
        let end = if part == Part::Preamble { self.at + 2 } else { self.at };
        let length = end.checked_sub(with_line_end).and_then(|end| match part {
            Part::Preamble => (end == 0).then_some(0),
            Part::Model | Part::File | Part::Another => end.checked_sub(begin),
        });
        let Some(length) = length.filter(|_| self.before == *b"\r\n") else {
            self.place = Place::Lost;
            return;
        };
        match part {
            Part::Model => {
                self.repeated |= self.model.is_some();
                let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST_MODEL);
                let text = length.and_then(|length| self.field.get(..length));
                let text = text.and_then(|text| std::str::from_utf8(text).ok());
                self.model = Some(text.map(str::to_owned).ok_or(()));
            }
            Part::File => self.file = Some(self.file.unwrap_or(0).saturating_add(length)),
            Part::Preamble | Part::Another => {}
        }
    }

    /// The end of a part's head: its content begins.
    fn begin(&mut self) {
        let lines = self.head.strip_suffix(b"\r\n\r\n");
        let part = lines.and_then(|lines| part(lines, &mut self.repeated, self.model.is_some()));
        self.place = part.map_or(Place::Lost, Place::Content);
        self.content_at = self.at + 1;
        // The line end of the head is not one before a delimiter.
        self.before = [0; 2];
        self.field.clear();
    }

    /// What is wrong with it, as far as it has come.
    pub(crate) fn check(&self, models: &Models) -> Result<(), Refusal> {
        if self.repeated {
            return Err(Refusal::Repeated("model"));
        }
        if !models.must_be_told() {
            return Ok(());
        }
        match self.model() {
            Said::Model(model) => models.admit(&model),
            Said::NotYet => Ok(()),
            Said::Unknown(why) => models.admit_unknown(why),
        }
    }

    /// What is wrong with it, now that it is over.
    pub(crate) fn check_whole(&self, models: &Models) -> Result<(), Refusal> {
        self.check(models)?;
        if self.place == Place::End && self.model.is_some() {
            return Ok(());
        }
        models.admit_unknown("the body must be multipart/form-data with one field \"model\"")
    }

    fn model(&self) -> Said {
        match (&self.model, self.place) {
            (_, Place::Lost) => {
                Said::Unknown("the body is not multipart/form-data, strictly written")
            }
            (Some(Ok(model)), _) => Said::Model(model.clone()),
            (Some(Err(())), _) => {
                Said::Unknown("the field \"model\" must be a short text in UTF-8")
            }
            (None, _) => Said::NotYet,
        }
    }

    /// The model that it names, whatever becomes of it.
    pub(crate) fn named(&self) -> Option<String> {
        self.model.as_ref()?.as_ref().ok().cloned()
    }

    /// Bytes of the `file` part; `None` if there was none that could be read.
    pub(crate) fn audio(&self) -> Option<u64> {
        self.file.filter(|_| self.place != Place::Lost)
    }
}

/// For each length of a match, the longest match that it ends with.
fn falls(needle: &[u8]) -> Vec<usize> {
    let mut falls = vec![0; needle.len()];
    let mut length = 0_usize;
    for at in 1..needle.len() {
        while length > 0 && needle.get(at) != needle.get(length) {
            length = falls.get(length - 1).copied().unwrap_or(0);
        }
        if needle.get(at) == needle.get(length) {
            length += 1;
        }
        if let Some(fall) = falls.get_mut(at) {
            *fall = length;
        }
    }
    falls
}

/// The boundary that a Content-Type names, if it names one, once, and says nothing else that a reader could go by: some read
/// the names of parts in a `charset`, and some take `boundary*` (RFC 2231) for the boundary.
fn boundary(content_type: &str) -> Option<&str> {
    let (essence, parameters) = content_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut named = None;
    for parameter in parameters.split(';') {
        let (name, value) = parameter.trim().split_once('=')?;
        if name.eq_ignore_ascii_case("boundary") {
            let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            if named.replace(quoted.unwrap_or(value)).is_some() {
                return None;
            }
        } else if !(name.eq_ignore_ascii_case("charset")
            && value.trim_matches('"').eq_ignore_ascii_case("utf-8"))
        {
            return None;
        }
    }
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    named.filter(|name| (1..=LONGEST_BOUNDARY).contains(&name.len()) && name.bytes().all(valid))
}

/// What a part is, from its head. `None` if that cannot be told. A second field with the model's name, in whatever case, is
/// a repetition.
fn part(head: &[u8], repeated: &mut bool, has_model: bool) -> Option<Part> {
    let head = std::str::from_utf8(head).ok()?;
    let mut name = None;
    let mut has_file_name = false;
    let mut disposed = false;
    for line in head.split("\r\n") {
        let (field, value) = line.split_once(':')?;
        // Folded lines, bare line ends and NULs are read in more than one way.
        if line.contains(['\r', '\n', '\0']) || field.contains([' ', '\t']) {
            return None;
        }
        if !field.eq_ignore_ascii_case("content-disposition") {
            continue;
        }
        if std::mem::replace(&mut disposed, true) {
            return None;
        }
        let value = value.trim();
        let parameters =
            value.get(.."form-data;".len()).filter(|kind| kind.eq_ignore_ascii_case("form-data;"));
        let mut rest = value.get(parameters?.len()..)?.trim_start();
        while !rest.is_empty() {
            let (key, value, after) = parameter(rest)?;
            match key.to_ascii_lowercase().as_str() {
                "name" if name.is_some() => return None,
                "name" => name = Some(value),
                "filename" => has_file_name = true,
                // An extended value (RFC 8187) may say another name than the plain one.
                key if key.ends_with('*') && !key.starts_with("filename") => return None,
                _ => has_file_name |= key.starts_with("filename"),
            }
            rest = after;
        }
    }
    match name? {
        "model" if has_file_name => None,
        "model" => Some(Part::Model),
        other if other.eq_ignore_ascii_case("model") => {
            *repeated |= has_model;
            None
        }
        "file" => Some(Part::File),
        _ => Some(Part::Another),
    }
}

/// The first parameter, its value without quotes, and what follows it. Escapes in names are read in more than one way.
fn parameter(text: &str) -> Option<(&str, &str, &str)> {
    let (key, rest) = text.split_once('=')?;
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => {
            let (value, rest) = quoted.split_once('"')?;
            if value.contains('\\') {
                return None;
            }
            (value, rest)
        }
        None => rest.split_at(rest.find(';').unwrap_or(rest.len())),
    };
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix(';') {
        Some(rest) => rest.trim_start(),
        None if rest.is_empty() => rest,
        None => return None,
    };
    Some((key.trim(), value.trim(), rest))
}
