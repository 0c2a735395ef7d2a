//! Calls to a storage account: each bounded in time and size, and made again where it may have passed.
//!
//! The account can be anybody's. Of what it says in a refusal only the status is repeated, and an error code of Azure's
//! own: an account that was sent a credential may send it back. Must not know what a log is.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_RANGE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::container::Container;
use super::listing::{self, Page};
use super::{StorageError, code};
use crate::clock;
use crate::outgoing::{Line, OutgoingError, Party, read_at_most};

/// The version of the API, in which a list names whatever is there.
const VERSION: HeaderValue = HeaderValue::from_static("2022-11-02");

/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long one call may take with all its tries and pauses.
const DEADLINE: Duration = Duration::from_secs(150);

/// The shortest and, apart from jitter, the longest pause between two tries, where the account does not ask for another.
const PAUSES: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(20));

/// Tries after the first one.
const TRIES: usize = 6;

/// The longest page of a list, in bytes: 5,000 blobs take about five million.
const LONGEST_PAGE: usize = 16 << 20;

/// A storage account, and who asks it.
pub(super) struct Account {
    party: Party,
    container: Container,
    bearer: Option<HeaderValue>,
    /// The connection of the call before, if that went well.
    line: Option<Line>,
}

/// An answer that says success.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Account {
    pub(super) fn new(container: Container, roots: Option<&[u8]>) -> Result<Self, StorageError> {
        let party = Party::new(container.url(), roots)?;
        Ok(Self { party, container, bearer: None, line: None })
    }

    /// From now on, with this token.
    pub(super) fn set_token(&mut self, token: &str) -> Result<(), StorageError> {
        let text = Zeroizing::new(format!("Bearer {token}"));
        let mut bearer = HeaderValue::from_str(&text).map_err(|_| StorageError::Token)?;
        bearer.set_sensitive(true);
        self.bearer = Some(bearer);
        Ok(())
    }

    pub(super) fn container(&self) -> &Container {
        &self.container
    }

    /// A page of the container's list.
    pub(super) async fn page(&mut self, marker: Option<&str>) -> Result<Page, StorageError> {
        let target = self.container.list(marker);
        let answer = self.call(&target, None, LONGEST_PAGE).await?;
        listing::parse(&answer.body).map_err(StorageError::Listing)
    }

    /// The bytes of a blob from the first of these to before the second.
    pub(super) async fn bytes(
        &mut self,
        name: &str,
        (from, to): (u64, u64),
    ) -> Result<Bytes, StorageError> {
        let last = to.saturating_sub(1);
        let length = usize::try_from(to.saturating_sub(from)).map_err(|_| StorageError::Range)?;
        let range = HeaderValue::from_str(&format!("bytes={from}-{last}"));
        let range = range.map_err(|_| StorageError::Range)?;
        let target = self.container.blob(name);
        let answer =
            self.call(&target, Some(&range), length).await.map_err(|error| match error {
                StorageError::Refused(StatusCode::NOT_FOUND, _) => {
                    StorageError::Missing(name.to_owned())
                }
                StorageError::Refused(StatusCode::RANGE_NOT_SATISFIABLE, _) => {
                    StorageError::Shorter(name.to_owned())
                }
                error => error,
            })?;
        let said = answer.headers.get(CONTENT_RANGE).and_then(|said| said.to_str().ok());
        let is_this = said.is_some_and(|said| said.starts_with(&format!("bytes {from}-{last}/")));
        if answer.status == StatusCode::PARTIAL_CONTENT && is_this && answer.body.len() == length {
            Ok(answer.body)
        } else {
            Err(StorageError::Range)
        }
    }

    /// Calls until there is an answer that will stay the same, or time is over. A pause that would end after it is not
    /// begun.
    async fn call(
        &mut self,
        target: &str,
        range: Option<&HeaderValue>,
        limit: usize,
    ) -> Result<Answer, StorageError> {
        let (shortest, longest) = PAUSES;
        let mut pauses = ExponentialBuilder::new()
            .with_min_delay(shortest)
            .with_max_delay(longest)
            .with_max_times(TRIES)
            .with_jitter()
            .build();
        let end = Instant::now() + DEADLINE;
        loop {
            let until = end.min(Instant::now() + PATIENCE);
            let tried = tokio::time::timeout_at(until, self.once(target, range, limit)).await;
            let error = match tried.unwrap_or(Err(StorageError::TimedOut)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Some(pause) = pauses.next().filter(|_| error.may_pass()) else { return Err(error) };
            let asked = match error {
                StorageError::Busy(_, _, asked) => asked,
                _ => None,
            };
            let pause = asked.map_or(pause, |asked| asked.max(pause));
            if pause >= end.saturating_duration_since(Instant::now()) {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(
        &mut self,
        target: &str,
        range: Option<&HeaderValue>,
        limit: usize,
    ) -> Result<Answer, StorageError> {
        let request = self.request(target, range)?;
        // Whatever goes wrong, the next call has a connection of its own.
        let mut line = match self.line.take() {
            Some(line) => line,
            None => self.party.connect().await?,
        };
        let answer = line.send(request).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(refusal(&answer));
        }
        let (head, body) = answer.into_parts();
        let body = read_at_most(body, limit).await.ok_or(StorageError::Body(limit))?;
        self.line = Some(line);
        Ok(Answer { status, headers: head.headers, body })
    }

    fn request(
        &self,
        target: &str,
        range: Option<&HeaderValue>,
    ) -> Result<Request<Full<Bytes>>, StorageError> {
        // The error of the builder could repeat the signature.
        let request = Request::get(target).body(Full::default());
        let mut request = request.map_err(|_| StorageError::Range)?;
        let named = [
            (HeaderName::from_static("x-ms-version"), Some(VERSION)),
            (HeaderName::from_static("x-ms-date"), date(clock::unix_now())),
            (HeaderName::from_static("x-ms-range"), range.cloned()),
            (AUTHORIZATION, self.bearer.clone()),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
        request.headers_mut().extend(named);
        Ok(request)
    }
}

impl From<OutgoingError> for StorageError {
    fn from(error: OutgoingError) -> Self {
        match error {
            OutgoingError::Url => Self::Url,
            OutgoingError::Roots => Self::Roots,
            OutgoingError::Unreachable(source) => Self::Unreachable(source),
            OutgoingError::Http(source) => Self::Http(source),
        }
    }
}

/// A redirect is a refusal, too: where it leads, nobody named.
fn refusal(answer: &Response<Incoming>) -> StorageError {
    let (status, headers) = (answer.status(), answer.headers());
    let code = code::known(headers.get("x-ms-error-code").map(HeaderValue::as_bytes));
    if !matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504) {
        return StorageError::Refused(status, code);
    }
    let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    StorageError::Busy(status, code, asked.map(Duration::from_secs))
}

/// `x-ms-date` (RFC 9110, section 5.6.7: IMF-fixdate).
fn date(now: u64) -> Option<HeaderValue> {
    let form = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let now = OffsetDateTime::from_unix_timestamp(i64::try_from(now).ok()?).ok()?;
    now.format(form).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(date(784_111_777).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
