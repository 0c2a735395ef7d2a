//! What was asked of the model server, kept for tests to read.
//!
//! Must not know: endpoints. The record is bounded: the newest requests stay, and of a body its
//! digest, and the body itself when it is small. Credentials are kept as they came: this is the
//! place where a test looks for what leaked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::request::Parts;
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const MAX_RECORDS: usize = 1024;
const MAX_KEPT_BODY: usize = 16 * 1024;

/// One request.
#[derive(Debug, Clone, Serialize)]
pub struct RecordedRequest {
    /// Counts up from 1.
    pub number: u64,
    /// Method.
    pub method: String,
    /// Path and query, as they came.
    pub target: String,
    /// Headers in their order, values lossily as text.
    pub headers: Vec<(String, String)>,
    /// Length of the body; `None` while it was not read.
    pub body_len: Option<u64>,
    /// SHA-256 of the body, hexadecimal.
    pub body_sha256: Option<String>,
    /// The body, when it is UTF-8 and at most 16 KiB.
    pub body: Option<String>,
    /// Bytes of the file part of a multipart body.
    pub file_bytes: Option<u64>,
    /// What the answer says that was used, all that a stream says of it taken together.
    pub usage: Option<Value>,
    /// Status of the answer.
    pub status: Option<u16>,
    /// Whether the whole answer was handed over.
    pub completed: bool,
    /// Whether the client went away before that.
    pub client_gone: bool,
}

impl RecordedRequest {
    /// The first header of that name, which is compared without regard to case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// The bounded record; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Records {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<tokio::sync::Notify>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    requests: VecDeque<RecordedRequest>,
}

impl Records {
    /// The newest requests, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<RecordedRequest> {
        self.lock().requests.iter().cloned().collect()
    }

    /// Forgets all requests; the numbers go on.
    pub fn clear(&self) {
        self.lock().requests.clear();
    }

    /// Waits until a recorded request satisfies `condition`, and returns it. The caller bounds
    /// the wait.
    pub async fn wait_for(&self, condition: impl Fn(&RecordedRequest) -> bool) -> RecordedRequest {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = self.all().into_iter().find(&condition) {
                return found;
            }
            changed.await;
        }
    }

    pub(super) fn begin(&self, parts: &Parts) -> Watch {
        let mut inner = self.lock();
        inner.last += 1;
        let number = inner.last;
        let target = parts.uri.path_and_query().map_or("*", |target| target.as_str());
        let header = |value: &axum::http::HeaderValue| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        if inner.requests.len() >= MAX_RECORDS {
            inner.requests.pop_front();
        }
        inner.requests.push_back(RecordedRequest {
            number,
            method: parts.method.to_string(),
            target: target.to_owned(),
            headers: parts
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), header(value)))
                .collect(),
            body_len: None,
            body_sha256: None,
            body: None,
            file_bytes: None,
            usage: None,
            status: None,
            completed: false,
            client_gone: false,
        });
        drop(inner);
        self.changed.notify_waiters();
        Watch { records: self.clone(), number, finished: false }
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut RecordedRequest)) {
        let mut inner = self.lock();
        if let Some(request) = inner.requests.iter_mut().find(|own| own.number == number) {
            change(request);
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows one request to its end. Dropped before that, the client went away.
#[derive(Debug)]
pub(super) struct Watch {
    records: Records,
    number: u64,
    finished: bool,
}

impl Watch {
    pub(super) fn body(&self, bytes: &Bytes) {
        let kept = (bytes.len() <= MAX_KEPT_BODY).then_some(bytes);
        let kept = kept.and_then(|bytes| str::from_utf8(bytes).ok()).map(str::to_owned);
        self.records.change(self.number, |request| {
            request.body_len = u64::try_from(bytes.len()).ok();
            request.body_sha256 = Some(digest(bytes));
            request.body = kept;
        });
    }

    /// A multipart body: its length in all, and that of its file.
    pub(super) fn multipart(&self, body_len: u64, file_bytes: u64, file_sha256: String) {
        self.records.change(self.number, |request| {
            request.body_len = Some(body_len);
            request.file_bytes = Some(file_bytes);
            request.body_sha256 = Some(file_sha256);
        });
    }

    pub(super) fn usage(&self, usage: Option<Value>) {
        self.records.change(self.number, |request| request.usage = usage);
    }

    pub(super) fn status(&self, status: u16) {
        self.records.change(self.number, |request| request.status = Some(status));
    }

    /// The last byte was handed over.
    pub(super) fn finish(&mut self) {
        self.finished = true;
        self.records.change(self.number, |request| request.completed = true);
    }

    /// The connection is broken on purpose: nobody went away.
    pub(super) fn abandon(&mut self) {
        self.finished = true;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.finished {
            self.records.change(self.number, |request| request.client_gone = true);
        }
    }
}

pub(super) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
