//! The body of a request on its way to the upstream.
//!
//! Its beginning, up to [`HEAD_START`] bytes, is read before the upstream is asked for anything: most requests are refused,
//! changed and measured whole, and have a length. A longer one flows on from there. Of each that is read on its way the last
//! piece stays here until all of it is known to be good: what is refused late has not reached its end, and the upstream,
//! which was promised more, can do nothing with it.
//!
//! Must not know which answer a refusal becomes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Method};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::endpoint::Endpoint;
use crate::error::Refusal;
use crate::openai::access::{Form, Models};
use crate::openai::most::Most;
use crate::openai::multipart::MultipartRequest;
use crate::openai::request::JsonRequest;
use crate::upload::Upload;

/// How much of a body is read before the upstream is asked, in bytes.
const HEAD_START: u64 = 64 * 1024;

/// In how many pieces, at most: each takes memory beside its bytes, and a client may send single ones.
const HEAD_START_PIECES: usize = 256;

/// How long a client may pause within a body.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is known of a request while it is on its way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    /// Bytes of the client's body.
    pub(crate) bytes: u64,
    /// The upstream has all of it.
    pub(crate) whole: bool,
    /// The model that it names.
    pub(crate) model: Option<String>,
    /// The length of its audio, in bytes.
    pub(crate) audio: Option<u64>,
    /// Whether a stream's usage was asked for on the client's behalf.
    pub(crate) asked: bool,
}

struct Shared {
    sent: Sent,
    /// When the last of it left.
    at: Instant,
    /// The upstream takes more, and the client has not sent it yet.
    waits: bool,
    refusal: Option<Refusal>,
}

/// A request's state, for whoever waits for its answer.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Mutex<Shared>>);

impl Progress {
    fn new() -> Self {
        let shared =
            Shared { sent: Sent::default(), at: Instant::now(), waits: false, refusal: None };
        Self(Arc::new(Mutex::new(shared)))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now.
    pub(crate) fn sent(&self) -> Sent {
        self.lock().sent.clone()
    }

    /// Since when it is the upstream's turn; `None` if it is the client's.
    pub(crate) fn upstreams_turn(&self) -> Option<Instant> {
        let shared = self.lock();
        (!shared.waits).then_some(shared.at)
    }

    /// Why the body ended before its end, if this proxy ended it.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.lock().refusal.take()
    }
}

/// Reads along.
enum Follower {
    None,
    Json(Box<JsonRequest>),
    Multipart(Box<MultipartRequest>),
}

/// The body.
pub(crate) struct RequestBody {
    /// `None`: all of it is here.
    incoming: Option<Upload>,
    follower: Follower,
    models: Models,
    /// What may go on.
    out: VecDeque<Bytes>,
    read: u64,
    limit: usize,
    /// What is left to send, if that is fixed.
    left: Option<u64>,
    silence: Option<Pin<Box<Sleep>>>,
    progress: Progress,
    /// How long an answer is set aside for.
    most: Most,
}

/// The body was ended here; [`Progress::refusal`] says why.
#[derive(Debug, thiserror::Error)]
#[error("the request was refused on its way")]
pub(crate) struct Stopped;

impl RequestBody {
    /// Reads the beginning of a body.
    pub(crate) async fn begin(
        incoming: Upload,
        head: &Parts,
        endpoint: Endpoint,
        models: Models,
        limit: usize,
    ) -> Result<Self, Refusal> {
        let declared = incoming.size_hint().exact();
        if declared.is_some_and(|length| length > limit as u64) {
            return Err(Refusal::TooLarge(limit));
        }
        let asks_a_model = !matches!(head.method, Method::GET | Method::HEAD);
        let follower =
            if asks_a_model { Follower::of(endpoint, &head.headers) } else { Follower::None };
        let mut body = Self {
            incoming: Some(incoming),
            follower,
            models,
            out: VecDeque::new(),
            read: 0,
            limit,
            left: declared,
            silence: None,
            progress: Progress::new(),
            most: Most::UNSAID,
        };
        body.read_ahead().await?;
        if let Follower::Json(request) = &mut body.follower {
            body.most = request.promise();
        }
        Ok(body)
    }

    /// What is left to send, in bytes; `None` if that is not known yet.
    pub(crate) fn length(&self) -> Option<u64> {
        self.left
    }

    /// How long it is, if all of it is here.
    pub(crate) fn size(&self) -> Option<u64> {
        self.incoming.is_none().then_some(self.read)
    }

    /// How long an answer it asks for, at most, by what was read of it before anything went on.
    pub(crate) fn most(&self) -> Most {
        self.most
    }

    /// For whoever waits for the answer.
    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    async fn read_ahead(&mut self) -> Result<(), Refusal> {
        let is_empty = self.incoming.as_ref().is_none_or(|incoming| incoming.is_end_stream());
        let reads_along = !matches!(self.follower, Follower::None);
        while (reads_along || is_empty)
            && self.read < HEAD_START
            && self.out.len() < HEAD_START_PIECES
        {
            let more = std::future::poll_fn(|context| self.poll_more(context)).await?;
            if !more {
                self.left = Some(self.out.iter().map(|bytes| bytes.len() as u64).sum());
                return Ok(());
            }
        }
        if let Follower::Json(request) = &mut self.follower {
            request.leave(&mut self.out);
            if request.may_grow() {
                self.left = None;
            }
        }
        self.learn();
        Ok(())
    }

    /// Reads one piece; `false` at the end.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, Refusal>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(Ok(false)) };
        let frame = match Pin::new(incoming).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
                ready!(silence.as_mut().poll(context));
                return Poll::Ready(Err(Refusal::BodyTimeout));
            }
        };
        self.silence = None;
        match frame {
            // Trailers are of one hop here, as they are not announced to the upstream.
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => Poll::Ready(self.take(bytes).map(|()| true)),
                Err(_) => Poll::Ready(Ok(true)),
            },
            Some(Err(_)) => {
                Poll::Ready(Err(Refusal::Malformed("The body broke off, or is framed wrongly")))
            }
            None => {
                self.incoming = None;
                Poll::Ready(self.end().map(|()| false))
            }
        }
    }

    fn take(&mut self, bytes: Bytes) -> Result<(), Refusal> {
        self.read += bytes.len() as u64;
        if self.read > self.limit as u64 {
            return Err(Refusal::TooLarge(self.limit));
        }
        match &mut self.follower {
            Follower::None => self.out.push_back(bytes),
            Follower::Json(request) => {
                request.push(&bytes, &mut self.out);
                request.check(&self.models)?;
            }
            Follower::Multipart(request) => {
                request.push(&bytes);
                request.check(&self.models)?;
                self.out.push_back(bytes);
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Refusal> {
        match &mut self.follower {
            Follower::None => {}
            Follower::Json(request) => {
                request.end(&mut self.out);
                request.check_whole(&self.models)?;
            }
            Follower::Multipart(request) => request.check_whole(&self.models)?,
        }
        self.learn();
        Ok(())
    }

    /// Makes known what was read.
    fn learn(&self) {
        let mut shared = self.progress.lock();
        let sent = &mut shared.sent;
        sent.bytes = self.read;
        match &self.follower {
            Follower::None => {}
            Follower::Json(request) => {
                sent.model = request.named();
                sent.asked = request.was_asked();
            }
            Follower::Multipart(request) => {
                sent.model = request.named();
                sent.audio = request.audio();
            }
        }
    }

    /// The next piece that may leave: of what is read along, all but the last of what is here, until all of it is.
    fn next(&mut self) -> Option<Bytes> {
        let kept = match (&self.follower, &self.incoming) {
            (Follower::None, _) | (_, None) => 0,
            (Follower::Json(_) | Follower::Multipart(_), Some(_)) => 1,
        };
        if self.out.len() <= kept {
            return None;
        }
        self.out.pop_front()
    }
}

impl Follower {
    fn of(endpoint: Endpoint, headers: &HeaderMap) -> Self {
        match Form::of(endpoint, headers) {
            Form::Opaque => Self::None,
            Form::Json => {
                let asks = matches!(endpoint, Endpoint::Chat | Endpoint::Completions);
                Self::Json(Box::new(JsonRequest::new(asks)))
            }
            Form::Multipart => {
                let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
                Self::Multipart(Box::new(MultipartRequest::new(content_type)))
            }
        }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Stopped;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Stopped>>> {
        let body = &mut *self;
        loop {
            if let Some(bytes) = body.next() {
                let is_last = body.incoming.is_none() && body.out.is_empty();
                let mut shared = body.progress.lock();
                shared.at = Instant::now();
                shared.waits = false;
                shared.sent.bytes = body.read;
                shared.sent.whole = is_last;
                drop(shared);
                body.left = body.left.map(|left| left.saturating_sub(bytes.len() as u64));
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let Poll::Ready(more) = body.poll_more(context) else {
                body.progress.lock().waits = true;
                return Poll::Pending;
            };
            match more {
                Ok(true) => {}
                Ok(false) if body.out.is_empty() => {
                    let mut shared = body.progress.lock();
                    shared.sent.whole = true;
                    shared.waits = false;
                    return Poll::Ready(None);
                }
                Ok(false) => {}
                Err(refusal) => {
                    body.progress.lock().refusal = Some(refusal);
                    return Poll::Ready(Some(Err(Stopped)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_none() && self.out.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
