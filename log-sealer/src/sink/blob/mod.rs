//! An append blob for every boot, `<boot>.jsonl`, in a container of Azure Blob Storage: the lines that stdout gets.
//!
//! Source: the REST reference of Blob Storage (Put Blob, Append Block, Get Blob Properties, Get Blob). Every block is
//! appended on the condition that the blob ends where it should, and after anything that went wrong the blob itself
//! says which record is its last. So a block whose success was not heard is not appended again, nor does one arrive
//! late. A blob that has all the blocks it can have is followed by `<boot>-2.jsonl`, and so on.
//!
//! The account can be anybody's: what it says decides only which records it gets.

mod identity;

use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{AUTHORIZATION, CONTENT_LENGTH, IF_NONE_MATCH};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use service::clock;
use service::outbound::{Answer, Call, Limits, Outbound, OutboundError};
use service::roots::Roots;
use time::OffsetDateTime;
use time::macros::format_description;
use url::Url;

pub(crate) use self::identity::ClientId;
use self::identity::Endpoint;
use self::identity::Identity;
use super::{SinkError, is_private};
use crate::claims::Claims;
use crate::sealed::{Sealed, lines};

/// The version of the API: blocks of up to 100 MiB.
const VERSION: HeaderValue = HeaderValue::from_static("2022-11-02");

/// Of one try; the next one is the caller's. The longest answer is the end of a blob.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(60),
    attempt: Duration::from_secs(60),
    attempts: 1,
    answer: 33 << 20,
};

/// How much of a blob's end is read to find its last line: that of most logs, and the longest that there is.
const ENDS: [u64; 3] = [64 << 10, 4 << 20, 32 << 20];

/// The most blobs of one boot.
const BLOBS: u32 = 1000;

/// What a refusal of a full blob says.
const FULL: &str = "BlockCountExceedsLimit";

/// How each line begins.
const LINE: &str = "{\"record\":\"";

/// A container: `https://<account>.blob.core.windows.net/<container>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container(Url);

/// Why a text is no container.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "blob: needs an https URL of a container, as in blob:https://name.blob.core.windows.net/logs"
)]
pub(crate) struct NotAContainer;

impl FromStr for Container {
    type Err = NotAContainer;

    fn from_str(text: &str) -> Result<Self, NotAContainer> {
        let url: Url = text.parse().map_err(|_| NotAContainer)?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let name = url.path().strip_prefix('/').unwrap_or_default();
        let named = (3..=63).contains(&name.len()) && name.bytes().all(plain);
        let origin = url.origin().ascii_serialization();
        let bare = url.as_str() == format!("{origin}/{name}");
        if named && bare && is_private(&url) { Ok(Self(url)) } else { Err(NotAContainer) }
    }
}

impl Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the token comes from.
pub(crate) struct Login {
    pub(crate) endpoint: Endpoint,
    pub(crate) client: Option<ClientId>,
}

pub(crate) struct Blob {
    container: Url,
    storage: Outbound,
    identity: Identity,
    /// Where the next block goes; `None`: the account has to say.
    end: Option<End>,
}

/// The end of a boot's newest blob.
#[derive(Clone)]
struct End {
    boot: String,
    number: u32,
    length: u64,
    /// The newest record that is there.
    last: Option<u64>,
}

impl Blob {
    pub(super) fn new(Container(container): &Container, login: &Login, roots: &Roots) -> Self {
        Self {
            container: container.clone(),
            storage: Outbound::new("the storage account", roots, LIMITS),
            identity: Identity::new(&login.endpoint, login.client.as_ref(), roots),
            end: None,
        }
    }

    pub(super) async fn put(&mut self, items: &[Arc<Sealed>]) -> Result<(), SinkError> {
        let Some(first) = items.first() else { return Ok(()) };
        let mut end = match self.end.take().filter(|end| end.boot == first.boot) {
            Some(end) => end,
            None => self.find(&first.boot).await?,
        };
        let new = |item: &&Arc<Sealed>| end.last.is_none_or(|last| item.seq > last);
        let body = lines(items.iter().filter(new));
        if !body.is_empty() {
            let appended = match self.append(&end, &body).await {
                Err(SinkError::Call(OutboundError::Refused { excerpt, .. }))
                    if excerpt.contains(FULL) =>
                {
                    end = End { number: end.number + 1, length: 0, ..end };
                    self.create(&end.boot, end.number).await?;
                    self.append(&end, &body).await
                }
                appended => appended,
            };
            appended?;
            end.length += u64::try_from(body.len()).unwrap_or(u64::MAX);
            end.last = items.last().map(|item| item.seq);
        }
        self.end = Some(end);
        Ok(())
    }

    /// Asks where a boot's newest blob ends, and makes its first one if there is none.
    async fn find(&mut self, boot: &str) -> Result<End, SinkError> {
        let mut blobs = Vec::new();
        for number in 1..=BLOBS {
            match self.length(boot, number).await? {
                Some(length) => blobs.push((number, length)),
                None => break,
            }
        }
        let Some((number, length)) = blobs.last().copied() else {
            self.create(boot, 1).await?;
            return Ok(End { boot: boot.to_owned(), number: 1, length: 0, last: None });
        };
        let mut last = None;
        // the newest may be empty yet
        if let Some((number, length)) = blobs.into_iter().rev().find(|(_, length)| *length > 0) {
            last = self.last(boot, number, length).await?;
        }
        Ok(End { boot: boot.to_owned(), number, length, last })
    }

    async fn length(&mut self, boot: &str, number: u32) -> Result<Option<u64>, SinkError> {
        let call = self.blob(Method::HEAD, boot, number);
        match self.call(call).await {
            Ok(answer) => {
                let length = answer.headers.get(CONTENT_LENGTH);
                let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
                length.map(Some).ok_or(SinkError::NoLength)
            }
            Err(SinkError::Call(OutboundError::Refused { status, .. }))
                if status == StatusCode::NOT_FOUND =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The number of a blob's last record.
    async fn last(
        &mut self,
        boot: &str,
        number: u32,
        length: u64,
    ) -> Result<Option<u64>, SinkError> {
        for end in ENDS {
            let from = length.saturating_sub(end);
            let range = HeaderValue::from_str(&format!("bytes={from}-{}", length - 1));
            let mut call = self.blob(Method::GET, boot, number);
            call.headers.extend(range.map(|range| (HeaderName::from_static("x-ms-range"), range)));
            let answer = self.call(call).await?;
            let last = last_of(&answer.body, boot);
            if last.is_some() || from == 0 {
                return Ok(last);
            }
        }
        Ok(None)
    }

    async fn create(&mut self, boot: &str, number: u32) -> Result<(), SinkError> {
        let call = self
            .blob(Method::PUT, boot, number)
            .header(
                HeaderName::from_static("x-ms-blob-type"),
                HeaderValue::from_static("AppendBlob"),
            )
            .header(CONTENT_LENGTH, HeaderValue::from_static("0"))
            .header(IF_NONE_MATCH, HeaderValue::from_static("*"));
        match self.call(call).await {
            // an earlier try was heard there
            Err(SinkError::Call(OutboundError::Refused { status, .. }))
                if status == StatusCode::CONFLICT =>
            {
                Ok(())
            }
            created => created.map(drop),
        }
    }

    async fn append(&mut self, end: &End, body: &[u8]) -> Result<(), SinkError> {
        let mut call = self.blob(Method::PUT, &end.boot, end.number);
        call.url.set_query(Some("comp=appendblock"));
        call.headers.insert(
            HeaderName::from_static("x-ms-blob-condition-appendpos"),
            HeaderValue::from(end.length),
        );
        call.body = body.to_vec().into();
        match self.call(call).await {
            Err(SinkError::Call(OutboundError::Refused { status, .. }))
                if status == StatusCode::PRECONDITION_FAILED =>
            {
                Err(SinkError::Moved)
            }
            appended => appended.map(drop),
        }
    }

    fn blob(&self, method: Method, boot: &str, number: u32) -> Call {
        let mut url = self.container.clone();
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        url.set_path(&format!("{}/{boot}{suffix}.jsonl", url.path()));
        Call { method, ..Call::get(url) }
    }

    /// A token that is not accepted may only be too old: another is asked for, once.
    async fn call(&mut self, call: Call) -> Result<Answer, SinkError> {
        let first = self.call_once(call.clone()).await;
        match first {
            Err(SinkError::Call(OutboundError::Refused {
                status: StatusCode::UNAUTHORIZED,
                ..
            })) => self.call_once(call).await,
            first => first,
        }
    }

    async fn call_once(&mut self, mut call: Call) -> Result<Answer, SinkError> {
        let headers = [
            (AUTHORIZATION, self.identity.bearer().await?),
            (HeaderName::from_static("x-ms-version"), VERSION),
        ];
        call.headers.extend(headers.into_iter().map(|(name, value)| (Some(name), value)));
        insert_date(&mut call.headers, clock::unix_now());
        let answer = self.storage.once(&call).await;
        if let Err(OutboundError::Refused { status: StatusCode::UNAUTHORIZED, .. }) = &answer {
            self.identity.forget();
        }
        Ok(answer?)
    }
}

/// `x-ms-date` (RFC 9110, section 5.6.7: IMF-fixdate).
fn insert_date(headers: &mut HeaderMap, now: u64) {
    let form = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let date =
        i64::try_from(now).ok().and_then(|now| OffsetDateTime::from_unix_timestamp(now).ok());
    let date = date.and_then(|date| date.format(form).ok()?.try_into().ok());
    headers.extend(date.map(|date: HeaderValue| (HeaderName::from_static("x-ms-date"), date)));
}

/// The number of the last record of that boot among these lines, the first of which may be cut off.
fn last_of(lines: &[u8], boot: &str) -> Option<u64> {
    lines.rsplit(|byte| *byte == b'\n').find_map(|line| {
        let rest = line.strip_prefix(LINE.as_bytes())?;
        let record = rest.split(|byte| *byte == b'"').next()?;
        let claims = Claims::of(str::from_utf8(record).ok()?)?;
        (claims.boot == boot).then_some(claims.seq)
    })
}

#[cfg(test)]
mod tests {
    use attestation::encoding::to_b64u;

    use super::*;

    fn line(boot: &str, seq: u64) -> Vec<u8> {
        let payload = format!(r#"{{"boot":"{boot}","seq":{seq},"event":{{"kind":"start"}}}}"#);
        let record = format!("{}.{}.c2ln", to_b64u(b"{}"), to_b64u(payload.as_bytes()));
        Sealed { boot: boot.to_owned(), seq, record, segment: Some(vec![1; 100]) }.line()
    }

    #[test]
    fn a_container_is_one_and_is_reached_by_tls() {
        for good in ["https://name.blob.core.windows.net/logs", "http://127.0.0.1:1/a-b"] {
            assert_eq!(good.parse::<Container>().unwrap().to_string(), good);
        }
        for bad in [
            "name/logs",
            "http://name.blob.core.windows.net/logs",
            "https://name.blob.core.windows.net",
            "https://name.blob.core.windows.net/logs/",
            "https://name.blob.core.windows.net/logs/more",
            "https://name.blob.core.windows.net/logs?sig=secret",
            "https://u:p@name.blob.core.windows.net/logs",
            "https://name.blob.core.windows.net/LOGS",
        ] {
            assert_eq!(bad.parse::<Container>(), Err(NotAContainer), "{bad}");
        }
    }

    #[test]
    fn the_last_record_is_found_past_what_is_not_ours() {
        let lines = [line("a", 1), line("a", 2), line("b", 9), b"junk\n".to_vec()].concat();
        assert_eq!(last_of(&lines, "a"), Some(2));
        assert_eq!(last_of(&lines[40..], "a"), Some(2), "the first line is cut off");
        assert_eq!(last_of(&lines, "c"), None);
        assert_eq!(last_of(b"", "a"), None);
        assert_eq!(last_of(b"{\"record\":\"", "a"), None);
    }

    #[test]
    fn dates_are_those_of_http() {
        let mut headers = HeaderMap::new();
        insert_date(&mut headers, 784_111_777);
        assert_eq!(headers["x-ms-date"], "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
