//! The path of a request to the model and of its answer: whether its model may be used, what it used, and nothing else of
//! what it says.
//!
//! Request and answer flow while they are read; neither is ever held whole. Sources: OpenAI's API reference, Anthropic's for
//! `/v1/messages`, RFC 7578 for audio, WHATWG HTML 9.2 for events.
//!
//! Must not know how a key is proved, limits are counted, or prices made.

mod access;
mod answer;
mod events;
mod head;
mod json;
mod members;
mod meter;
mod models;
mod most;
mod multipart;
pub(crate) mod padding;
mod reported;
mod request;
mod sending;

use std::sync::Arc;

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::BodyExt as _;

use crate::api::Settlement;
use crate::body::{Body, Streamed};
use crate::endpoint::Endpoint;
use crate::error::Refusal;
use crate::forward::Upstream;
use crate::keys::ApiKey;
use crate::openai::access::{Models, essence};
use crate::openai::answer::{Answer, End, Meter, used};
use crate::openai::events::Events;
use crate::openai::meter::{Heard, StreamMeter, WholeMeter};
use crate::openai::models::Listing;
pub(crate) use crate::openai::most::Most;
use crate::openai::padding::Padding;
pub(crate) use crate::openai::sending::{Progress, RequestBody};
use crate::upload::Upload;

/// What a path is, however its letters are spelt: servers decode `%63` once before they look.
pub(crate) fn endpoint(uri: &Uri) -> Endpoint {
    let path = uri.path();
    if !path.contains('%') {
        return Endpoint::of(path);
    }
    Endpoint::of(&decoded(path))
}

/// A path with its escapes decoded, once. What is no escape stays.
fn decoded(path: &str) -> String {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped.filter(|_| byte == b'%') {
            Some(escaped) => {
                decoded.push(escaped);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// A request whose beginning was read and judged.
pub(crate) struct Begun {
    parts: Parts,
    body: RequestBody,
    listing: Option<Listing>,
}

impl Begun {
    /// How long an answer it asks for, as far as it was read.
    pub(crate) fn most(&self) -> Most {
        self.body.most()
    }

    /// How long its body is, in bytes; `None`: not all of it is here.
    pub(crate) fn size(&self) -> Option<u64> {
        self.body.size()
    }

    /// Its head, as it goes on.
    pub(crate) fn head(&self) -> &Parts {
        &self.parts
    }
}

/// Reads the beginning of a request. The upstream is not asked for anything yet.
pub(crate) async fn begin(
    upstream: &Upstream,
    key: &Arc<ApiKey>,
    request: Request<Upload>,
) -> Result<Begun, Refusal> {
    let (mut parts, incoming) = request.into_parts();
    head::check(&parts.uri, &parts.headers)?;
    let endpoint = endpoint(&parts.uri);
    let models = Models::of(key.clone());
    let has_body = !http_body::Body::is_end_stream(&incoming);
    models.admit_head(&parts.method, &parts.uri, &parts.headers, has_body)?;
    let listing = Listing::of(&parts.method, &parts.uri, &models)?;
    if endpoint != Endpoint::Other || listing.is_some() {
        // What is compressed can be neither read nor padded, and its length tells of its content.
        parts.headers.remove(ACCEPT_ENCODING);
    }
    let limit = upstream.passing().max_body;
    let body = RequestBody::begin(incoming, &parts, endpoint, models, limit).await?;
    let had_length = parts.headers.remove(CONTENT_LENGTH).is_some();
    if let Some(length) = body.length().filter(|length| *length > 0 || had_length) {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(Begun { parts, body, listing })
}

/// Passes a request on and its answer back.
pub(crate) async fn exchange(
    upstream: &Upstream,
    settlement: Settlement,
    begun: Begun,
) -> Result<Response<Body>, Refusal> {
    let Begun { parts, body, listing } = begun;
    let progress = body.progress();
    let mut waiting = Waiting(Some(End { settlement, progress: progress.clone() }));
    let answered = upstream.forward(Request::from_parts(parts, body), &progress).await;
    // Whoever is refused or gets no answer is still there.
    let end = waiting.0.take();
    let (mut parts, body) = answered?.into_parts();
    let body = Streamed::new(body, upstream.passing().idle);
    if let Some(listing) = listing {
        return listing.filtered(parts, body).await;
    }
    let Some(end) = end.filter(|_| parts.status.is_success()) else {
        return Ok(Response::from_parts(parts, body.boxed_unsync()));
    };
    let meter = meter(&parts.headers, progress.sent().asked, upstream.passing().padding);
    if meter.changes() {
        parts.headers.remove(CONTENT_LENGTH);
    }
    Ok(Response::from_parts(parts, Answer::new(body, meter, end).boxed_unsync()))
}

/// A request whose answer is waited for. If its client goes before that, the upstream may have read all of it and done some
/// of the work: its prompt is paid for then, as nearly as can be told.
struct Waiting(Option<End>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(End { settlement, progress }) = self.0.take() {
            let sent = progress.sent();
            if sent.whole {
                let (model, usage) = used(settlement.endpoint(), &sent, &Heard::default());
                settlement.settle(model, usage);
            }
        }
    }
}

/// How an answer is read.
fn meter(headers: &HeaderMap, strips: bool, padding: Padding) -> Meter {
    if headers.contains_key(CONTENT_ENCODING) {
        return Meter::Unread(0);
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.map(essence).as_deref() == Some("text/event-stream") {
        let events = Events::new(padding, StreamMeter::new(strips));
        return Meter::Stream(Box::new(events));
    }
    Meter::Whole(Box::new(WholeMeter::new()))
}

#[cfg(test)]
mod tests;
