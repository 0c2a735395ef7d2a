//! The body of an answer on its way to the client, and the end of the call: what it used is settled once, whether the answer
//! ends, breaks off, or the client goes.
//!
//! Must not know what anything costs.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use service::BoxError;

use crate::api::Settlement;
use crate::body::Streamed;
use crate::endpoint::Endpoint;
use crate::openai::events::Events;
use crate::openai::meter::{Heard, StreamMeter, WholeMeter};
use crate::openai::sending::{Progress, Sent};
use crate::usage::Usage;

/// The longest name of a model that is kept, in bytes. A longer one is as good as none.
const LONGEST_MODEL: usize = 128;

/// The most tokens that an estimate comes to: what the longest prompt of today's models has. Pictures in a request are many
/// bytes and few tokens.
const LONGEST_CONTEXT: u64 = 131_072;

/// How an answer is read.
pub(crate) enum Meter {
    Stream(Box<Events<StreamMeter>>),
    Whole(Box<WholeMeter>),
    /// It cannot be read: so many bytes have passed.
    Unread(u64),
}

impl Meter {
    /// Takes what came together; returns what leaves together.
    fn push(&mut self, bytes: Bytes) -> Bytes {
        match self {
            Self::Stream(events) => events.push(bytes),
            Self::Whole(whole) => {
                whole.push(&bytes);
                bytes
            }
            Self::Unread(count) => {
                *count = count.saturating_add(bytes.len() as u64);
                bytes
            }
        }
    }

    /// What is left when nothing follows.
    fn end(&mut self) -> Bytes {
        match self {
            Self::Stream(events) => events.end(),
            Self::Whole(_) | Self::Unread(_) => Bytes::new(),
        }
    }

    fn heard(&self, is_over: bool) -> Heard {
        match self {
            Self::Stream(events) => events.reader().heard(),
            Self::Whole(whole) => whole.heard(is_over),
            Self::Unread(bytes) => Heard { estimate: bytes.div_ceil(4), ..Heard::default() },
        }
    }

    /// Whether bytes may be added or taken away.
    pub(crate) fn changes(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

/// What is to be done at the end of a call.
pub(crate) struct End {
    pub(crate) settlement: Settlement,
    pub(crate) progress: Progress,
}

impl End {
    fn settle(self, heard: &Heard) {
        let sent = self.progress.sent();
        let (model, usage) = used(self.settlement.endpoint(), &sent, heard);
        self.settlement.settle(model, usage);
    }
}

/// What a call used. What the server does not say is estimated, unless it had its say and said nothing (case 76).
pub(crate) fn used(endpoint: Endpoint, sent: &Sent, heard: &Heard) -> (Option<String>, Usage) {
    let mut usage = heard.reported.usage();
    let is_audio = matches!(endpoint, Endpoint::Transcriptions | Endpoint::Translations);
    if is_audio {
        // Its length is what is paid for. Of a body that could not be read, all of it is taken for audio.
        usage.audio_bytes = sent.audio.unwrap_or(sent.bytes);
        usage.estimated = sent.audio.is_none();
    } else if is_of_model(endpoint, heard) && !heard.is_final && !heard.is_all {
        let prompt = sent.bytes.div_ceil(4).min(LONGEST_CONTEXT);
        let completion = heard.estimate.min(LONGEST_CONTEXT);
        usage.prompt = heard.reported.prompt().unwrap_or(prompt);
        usage.completion = heard.reported.completion().unwrap_or(0).max(completion);
        usage.cached = usage.cached.min(usage.prompt);
        usage.total = usage.prompt.saturating_add(usage.completion);
        usage.estimated = true;
    }
    let named = |model: &String| {
        (1..=LONGEST_MODEL).contains(&model.len()) && !model.chars().any(char::is_control)
    };
    let model = heard.model.clone().filter(named).or_else(|| sent.model.clone().filter(named));
    // What is no call of a model is a request without one (case 85), unless it says what it used.
    let has_model = endpoint != Endpoint::Other || heard.is_final;
    (model.filter(|_| has_model), usage)
}

/// Whether a model's tokens are in it, so that they may be estimated: a file's bytes are not.
fn is_of_model(endpoint: Endpoint, heard: &Heard) -> bool {
    endpoint != Endpoint::Other || heard.is_stream
}

/// The body.
pub(crate) struct Answer {
    upstream: Streamed,
    meter: Meter,
    end: Option<End>,
    /// What leaves before the end.
    last: Bytes,
    /// How it ended, when it did.
    over: Option<Result<(), BoxError>>,
}

impl Answer {
    pub(crate) fn new(upstream: Streamed, meter: Meter, end: End) -> Self {
        let mut answer = Self { upstream, meter, end: Some(end), last: Bytes::new(), over: None };
        if answer.upstream.is_end_stream() {
            // Nobody asks for the frames of a body that has none.
            answer.finish(Ok(()));
        }
        answer
    }

    fn finish(&mut self, how: Result<(), BoxError>) {
        self.last = self.meter.end();
        self.settle(how.is_ok());
        self.over = Some(how);
    }

    fn settle(&mut self, is_over: bool) {
        if let Some(end) = self.end.take() {
            end.settle(&self.meter.heard(is_over));
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // The client went before the end.
        self.settle(false);
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if self.over.is_some() {
                if !self.last.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.last)))));
                }
                let how = self.over.replace(Ok(()));
                return Poll::Ready(how.and_then(Result::err).map(Err));
            }
            match ready!(Pin::new(&mut self.upstream).poll_frame(context)) {
                // Trailers are of one hop, as they are not announced to the client.
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else { continue };
                    let bytes = self.meter.push(bytes);
                    if self.upstream.is_end_stream() {
                        // Whoever knows the length does not ask for what follows.
                        self.finish(Ok(()));
                    }
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                }
                Some(Err(error)) => self.finish(Err(error)),
                None => self.finish(Ok(())),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.over, Some(Ok(()))) && self.last.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.meter.changes() { SizeHint::default() } else { self.upstream.size_hint() }
    }
}
