//! What an answer says of its model and its usage, read as it passes: streams event by event, everything else as JSON.
//!
//! Must not know how bytes come and go, or what becomes of an answer without usage.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde_json::Value as Json;

use crate::openai::events::Reader;
use crate::openai::json::Wanted;
use crate::openai::members::{Members, Value};
use crate::openai::reported::Reported;

/// The longest `usage` that is read, in bytes.
const USAGE: usize = 4096;

/// The longest `model` that is read, in bytes.
const MODEL: usize = 1024;

/// What an answer said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) model: Option<String>,
    pub(crate) reported: Reported,
    /// The server's last word on the usage is among it.
    pub(crate) is_final: bool,
    /// The answer was read to its end, so that what it did not say it does not say.
    pub(crate) is_all: bool,
    /// It came as events: a model speaks.
    pub(crate) is_stream: bool,
    /// Tokens of the answer, if nobody says how many: events with content, and a quarter of the bytes that were not read.
    pub(crate) estimate: u64,
}

/// An answer that comes in one piece.
pub(crate) struct WholeMeter {
    members: Members<3>,
    bytes: u64,
}

static WHOLE: [Wanted; 3] =
    [Wanted::top("usage", USAGE), Wanted::top("model", MODEL), Wanted::top("duration", 64)];

impl WholeMeter {
    pub(crate) fn new() -> Self {
        Self { members: Members::new(&WHOLE), bytes: 0 }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.members.feed(bytes);
    }

    /// What it said. `is_over`: nothing of it was cut off.
    pub(crate) fn heard(&self, is_over: bool) -> Heard {
        let usage = self.members.value(0);
        let mut reported = usage.raw().and_then(Reported::read).unwrap_or_default();
        if let Some(duration) = self.members.value(2).read::<Json>() {
            reported.duration(&duration);
        }
        Heard {
            model: self.members.value(1).read(),
            is_final: reported != Reported::default(),
            reported,
            is_all: (is_over || self.members.scanner().is_complete()) && usage != &Value::TooLong,
            is_stream: false,
            estimate: self.bytes.div_ceil(4),
        }
    }
}

/// An answer that comes as events.
pub(crate) struct StreamMeter {
    members: Members<7>,
    /// Whether the event that says nothing but usage is this proxy's own wish.
    strips: bool,
    heard: Heard,
    /// Events that may still name the model.
    looks: u8,
    unread: u64,
}

static EVENT: [Wanted; 7] = [
    Wanted::top("usage", USAGE),
    Wanted::of("response", "usage", USAGE),
    Wanted::of("message", "usage", USAGE),
    Wanted::top("model", MODEL),
    Wanted::of("response", "model", MODEL),
    Wanted::of("message", "model", MODEL),
    Wanted::top("choices", 8),
];

static SAYS_USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));
static SAYS_DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"delta\""));
static SAYS_TEXT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"text\""));

impl StreamMeter {
    /// `strips`: usage was asked for on the client's behalf, who is not to see its event.
    pub(crate) fn new(strips: bool) -> Self {
        let members = Members::new(&EVENT);
        Self { members, strips, heard: Heard::default(), looks: 4, unread: 0 }
    }

    /// What it said up to now.
    pub(crate) fn heard(&self) -> Heard {
        let mut heard = Heard { is_stream: true, ..self.heard.clone() };
        heard.estimate = heard.estimate.saturating_add(self.unread.div_ceil(4));
        heard
    }

    /// Reads the data of an event. Whether it is the one with nothing but usage.
    fn read(&mut self, event: &[u8]) -> bool {
        self.members.reset();
        for line in data(event) {
            self.members.feed(line);
            self.members.feed(b"\n");
        }
        let said = |wanted| self.members.value(wanted).raw().and_then(Reported::read);
        // A message begins with the usage of its prompt; the rest comes with its end.
        let opening = said(2);
        let closing = said(1).or_else(|| said(0));
        let has_usage = closing.is_some();
        for reported in opening.iter().chain(&closing) {
            self.heard.reported.renew(reported);
        }
        self.heard.is_final |= has_usage;
        if self.heard.model.is_none() {
            self.heard.model = (3..6).find_map(|wanted| self.members.value(wanted).read());
        }
        let choices = self.members.value(6).raw().unwrap_or_default();
        let chooses_none =
            choices.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).eq(*b"[]");
        has_usage && chooses_none && self.members.scanner().is_complete()
    }
}

impl Reader for StreamMeter {
    fn event(&mut self, event: &[u8]) -> bool {
        let names = self.heard.model.is_none() && self.looks > 0;
        let is_only_usage = if names || says_usage(event) {
            self.looks = self.looks.saturating_sub(1);
            self.read(event)
        } else {
            false
        };
        if SAYS_DELTA.find(event).is_some() || SAYS_TEXT.find(event).is_some() {
            self.heard.estimate += 1;
        }
        !(self.strips && is_only_usage)
    }

    fn unread(&mut self, bytes: usize) {
        self.unread = self.unread.saturating_add(bytes as u64);
    }
}

/// Whether there may be usage in an event. Many servers say in every event that there is none.
fn says_usage(event: &[u8]) -> bool {
    let is_none = |at: usize| {
        let value = event.get(at + "\"usage\"".len()..).unwrap_or_default();
        value.starts_with(b":null") || value.starts_with(b": null")
    };
    SAYS_USAGE.find_iter(event).any(|at| !is_none(at))
}

/// The values of an event's `data` lines. A line ends with LF, CR or both; a byte order mark may stand at the beginning.
fn data(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    let event = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
    let lines = event.split(|byte| matches!(byte, b'\n' | b'\r'));
    lines.filter_map(|line| line.strip_prefix(b"data:"))
}
