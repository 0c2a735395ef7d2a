//! Where sealed segments and their records go. One file a sink, and one arm here.
//!
//! A sink gets ciphertext and signatures only. It must take the same record again: delivery is repeated until
//! it succeeds, and a failure may have been a success that nobody heard of.

mod blob;
mod folder;
mod http;
mod stdout;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use attestation::crypto::sha256;
use service::outbound::OutboundError;
use service::roots::Roots;
use url::Url;

use self::blob::{Blob, Container};
use self::folder::Folder;
use self::http::Http;
use self::stdout::Stdout;
use crate::sealed::Sealed;
use crate::whole_file::FileError;

pub(crate) use self::blob::{ClientId, Login};
pub(crate) use self::http::Endpoint;

/// The most sinks.
const MOST: usize = 8;

/// The longest body that is sent, in bytes, unless a single record is longer.
const BODY: u64 = 4 << 20;

/// One of `LOG_SINK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Stdout,
    Folder(PathBuf),
    Http,
    Blob(Container),
}

/// `LOG_SINK`: one or more, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses(pub(crate) Vec<Address>);

/// Why a text names no sinks.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotSinks {
    #[error(
        "must be `stdout`, folder:/absolute/path, `http`, blob:https://account/container, or several of them, separated by commas"
    )]
    Syntax,
    #[error(transparent)]
    Container(#[from] blob::NotAContainer),
    #[error("names a sink twice: remove one of them")]
    Double,
    #[error("names more than {MOST} sinks")]
    Many,
}

impl FromStr for Address {
    type Err = NotSinks;

    fn from_str(text: &str) -> Result<Self, NotSinks> {
        match text.split_once(':') {
            None if text == "stdout" => Ok(Self::Stdout),
            None if text == "http" => Ok(Self::Http),
            Some(("folder", path)) if path.starts_with('/') => Ok(Self::Folder(path.into())),
            Some(("blob", container)) => Ok(Self::Blob(container.parse()?)),
            _ => Err(NotSinks::Syntax),
        }
    }
}

impl FromStr for Addresses {
    type Err = NotSinks;

    fn from_str(text: &str) -> Result<Self, NotSinks> {
        let mut sinks = Vec::new();
        for text in text.split(',') {
            let sink = text.trim().parse()?;
            if sinks.contains(&sink) {
                return Err(NotSinks::Double);
            }
            sinks.push(sink);
        }
        if sinks.len() > MOST { Err(NotSinks::Many) } else { Ok(Self(sinks)) }
    }
}

/// What sinks need to reach somebody outside.
pub(crate) struct Outside {
    /// `LOG_ENDPOINT`.
    pub(crate) endpoint: Option<Endpoint>,
    /// Where tokens come from.
    pub(crate) login: Login,
    /// Whom to believe.
    pub(crate) roots: Roots,
}

/// A sink did not take a record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SinkError {
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The writing task ended without an answer.
    #[error("the writing task broke off")]
    BrokeOff(#[source] tokio::task::JoinError),
    /// The other side did not take it.
    #[error("a call to the outside failed")]
    Call(#[from] OutboundError),
    /// There is no token to call it with.
    #[error("there is no token of the managed identity")]
    Identity(#[source] OutboundError),
    /// The identity service says something else.
    #[error("the identity service answered without a token that can be used")]
    NoToken,
    /// Somebody appended to the blob: an earlier try of this role, most often.
    #[error("the blob does not end where it should")]
    Moved,
    /// No account of Azure's.
    #[error("the storage account does not say how long a blob is")]
    NoLength,
}

/// How long a sink is left alone that refused for good: until somebody has done something about it.
const REFUSED: Duration = Duration::from_secs(60);

/// The longest pause that a sink may ask for.
const ASKED: Duration = Duration::from_secs(600);

impl SinkError {
    /// The shortest pause before the next try.
    pub(crate) fn pause(&self) -> Duration {
        let (Self::Call(error) | Self::Identity(error)) = self else { return Duration::ZERO };
        let asked = error.retry_after().unwrap_or_default().min(ASKED);
        if matches!(self, Self::Identity(_)) {
            // while a group is young its identity is refused, and nobody has to do anything about it
            return asked;
        }
        let conflict = matches!(
            error,
            OutboundError::Refused { status, .. } if *status == ::http::StatusCode::CONFLICT
        );
        let own = if error.is_transient() || conflict { Duration::ZERO } else { REFUSED };
        asked.max(own)
    }

    /// Whether fewer records at a time may be taken: they are too long for the other side, or for the line to it.
    pub(crate) fn is_too_much(&self) -> bool {
        match self {
            Self::Call(OutboundError::Refused { status, .. }) => {
                *status == ::http::StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::Call(OutboundError::TimedOut { .. }) => true,
            _ => false,
        }
    }
}

/// A configured sink.
pub(crate) enum Sink {
    Stdout(Stdout),
    Folder(Folder),
    Http(Http),
    Blob(Box<Blob>),
}

impl Address {
    /// The name of its kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Folder(_) => "folder",
            Self::Http => "http",
            Self::Blob(_) => "blob",
        }
    }

    /// What its cursor is kept under: another place is another sink.
    pub(crate) fn key(&self, outside: &Outside) -> String {
        let place = match self {
            Self::Stdout => return self.kind().to_owned(),
            Self::Folder(path) => path.display().to_string(),
            Self::Http => outside.endpoint.as_ref().map_or_else(String::new, Endpoint::to_string),
            Self::Blob(container) => container.to_string(),
        };
        let digest = hex::encode(sha256(place.as_bytes()));
        format!("{}-{}", self.kind(), digest.get(..16).unwrap_or_default())
    }
}

impl Sink {
    /// `None`: it is to be reached by `LOG_ENDPOINT`, which is not set.
    pub(crate) fn new(address: &Address, outside: &Outside) -> Option<Self> {
        Some(match address {
            Address::Stdout => Self::Stdout(Stdout::default()),
            Address::Folder(path) => Self::Folder(Folder::new(path.clone())),
            Address::Http => Self::Http(Http::new(outside.endpoint.clone()?, &outside.roots)),
            Address::Blob(container) => {
                Self::Blob(Box::new(Blob::new(container, &outside.login, &outside.roots)))
            }
        })
    }

    /// How many bytes of lines it takes at a time; 0: one record.
    pub(crate) fn lines(&self) -> u64 {
        match self {
            Self::Stdout(_) | Self::Folder(_) => 0,
            Self::Http(_) | Self::Blob(_) => BODY,
        }
    }

    /// Returns once the records and their segments are safe, as far as the sink can tell. They are of one boot, in
    /// order, and not none.
    ///
    /// # Errors
    ///
    /// [`SinkError`]; the same call may be made again.
    pub(crate) async fn put(&mut self, items: &[Arc<Sealed>]) -> Result<(), SinkError> {
        match self {
            Self::Stdout(sink) => {
                for sealed in items {
                    sink.put(sealed).await?;
                }
                Ok(())
            }
            Self::Folder(sink) => {
                for sealed in items {
                    sink.put(sealed).await?;
                }
                Ok(())
            }
            Self::Http(sink) => sink.put(items).await,
            Self::Blob(sink) => sink.put(items).await,
        }
    }
}

/// Whether what is sent there can be read or changed by nobody on the way: by TLS, or it never leaves the machine.
fn is_private(url: &Url) -> bool {
    let loopback = url
        .host_str()
        .map(|host| host.trim_start_matches('[').trim_end_matches(']'))
        .and_then(|host| host.parse::<std::net::IpAddr>().ok())
        .is_some_and(|address| address.is_loopback());
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

/// Runs what blocks where it may.
async fn blocking(
    work: impl FnOnce() -> Result<(), SinkError> + Send + 'static,
) -> Result<(), SinkError> {
    tokio::task::spawn_blocking(work).await.map_err(SinkError::BrokeOff)?
}

#[cfg(test)]
mod tests {
    use ::http::StatusCode;

    use super::*;

    #[test]
    fn an_address_names_a_sink() {
        assert_eq!("stdout".parse(), Ok(Address::Stdout));
        assert_eq!("http".parse(), Ok(Address::Http));
        assert_eq!("folder:/a/b".parse(), Ok(Address::Folder("/a/b".into())));
        for bad in ["", "stdout:", "folder", "folder:", "folder:a", "/a", "file:/a", "Stdout"] {
            assert_eq!(bad.parse::<Address>(), Err(NotSinks::Syntax), "{bad}");
        }
    }

    #[test]
    fn sinks_are_separated_by_commas() {
        let parse = |text: &str| text.parse::<Addresses>();
        let several = parse("stdout, folder:/a,folder:/b").unwrap();
        assert_eq!(several.0.len(), 3);
        assert_eq!(parse("stdout,stdout"), Err(NotSinks::Double));
        assert_eq!(parse("stdout,"), Err(NotSinks::Syntax));
        let many: Vec<String> = (0..9).map(|n| format!("folder:/{n}")).collect();
        assert_eq!(parse(&many.join(",")), Err(NotSinks::Many));
    }

    #[test]
    fn another_place_is_another_sink() {
        let login = Login { endpoint: "http://127.0.0.1:1".parse().unwrap(), client: None };
        let outside = Outside { endpoint: None, login, roots: Roots::public() };
        let key = |text: &str| text.parse::<Address>().unwrap().key(&outside);
        assert_eq!(key("stdout"), "stdout");
        assert_ne!(key("folder:/a"), key("folder:/b"));
        assert!(key("folder:/a").len() <= 40);
    }

    #[test]
    fn who_refuses_for_good_is_left_alone_for_longer() {
        let refused = |status: StatusCode, asked: Option<u64>| OutboundError::Refused {
            party: "x",
            status,
            excerpt: String::new(),
            retry_after: asked.map(Duration::from_secs),
            request_id: None,
        };
        let pause = |status: StatusCode, asked: Option<u64>| {
            SinkError::Call(refused(status, asked)).pause().as_secs()
        };
        for status in [408, 409, 429, 500, 503] {
            assert_eq!(pause(StatusCode::from_u16(status).unwrap(), None), 0, "{status}");
        }
        for status in [301, 400, 401, 403, 404, 413] {
            assert_eq!(pause(StatusCode::from_u16(status).unwrap(), None), 60, "{status}");
        }
        assert_eq!(pause(StatusCode::TOO_MANY_REQUESTS, Some(7)), 7);
        assert_eq!(pause(StatusCode::TOO_MANY_REQUESTS, Some(86_400)), 600);
        let identity = |status: StatusCode, asked: Option<u64>| {
            SinkError::Identity(refused(status, asked)).pause().as_secs()
        };
        assert_eq!(identity(StatusCode::BAD_REQUEST, None), 0, "not ready yet");
        assert_eq!(identity(StatusCode::TOO_MANY_REQUESTS, Some(7)), 7);
    }

    #[test]
    fn what_leaves_the_machine_leaves_it_by_tls() {
        let private = |text: &str| is_private(&text.parse().unwrap());
        for good in ["https://a", "http://127.0.0.1:80/x", "http://[::1]:80"] {
            assert!(private(good), "{good}");
        }
        for bad in ["http://a", "http://localhost", "http://10.0.0.1", "ftp://127.0.0.1"] {
            assert!(!private(bad), "{bad}");
        }
    }
}
