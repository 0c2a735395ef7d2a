//! Statuses over HTTP that tell what may pass from what will not, for callers who ask for them (`SKR_STATUS=strict`). The
//! reference answers nearly everything with 403, so that nobody can tell a vault that refuses from one that is late.
//!
//! - 502: a party cannot be reached, or its answer makes no sense or cannot be verified;
//! - 503: it is there and cannot answer now, with `Retry-After` if it said for how long;
//! - 504: it was not answered in time;
//! - a party's own 4xx, and what the caller did wrong, keep the reference's status.
//!
//! Must not know texts: they are the same in both modes.

use std::str::FromStr;
use std::time::Duration;

use http::StatusCode;
use proto::attest::TokenFailure;
use service::outbound::OutboundError;
use tonic::Code;

use crate::attest::{AttestError, NoToken};
use crate::error::{self, Error, may_pass};
use crate::identity::IdentityError;
use crate::key::KeyError;
use crate::release::ReleaseError;
use crate::vault::VaultError;
use crate::workload_identity::WorkloadError;

/// Which statuses callers get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statuses {
    /// Those that callers of the reference know.
    Reference,
    /// Those that tell apart.
    Strict,
}

/// Why a text names none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be reference or strict")]
pub(crate) struct NoStatuses;

impl FromStr for Statuses {
    type Err = NoStatuses;

    fn from_str(text: &str) -> Result<Self, NoStatuses> {
        match text {
            "reference" => Ok(Self::Reference),
            "strict" => Ok(Self::Strict),
            _ => Err(NoStatuses),
        }
    }
}

/// What the head of an answer says about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The status.
    pub(crate) status: StatusCode,
    /// For how long the party that failed asked to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

impl Statuses {
    /// How a failure is told.
    pub(crate) fn head(self, error: &Error) -> Head {
        let known = Head { status: error::status(error).http, retry_after: None };
        match self {
            Self::Reference => known,
            Self::Strict => strict(error).unwrap_or(known),
        }
    }
}

const BAD_GATEWAY: Option<Head> = only(StatusCode::BAD_GATEWAY);
const UNAVAILABLE: Option<Head> = only(StatusCode::SERVICE_UNAVAILABLE);
const TIMED_OUT: Option<Head> = only(StatusCode::GATEWAY_TIMEOUT);
/// As the reference has it.
const KNOWN: Option<Head> = None;

const fn only(status: StatusCode) -> Option<Head> {
    Some(Head { status, retry_after: None })
}

fn strict(error: &Error) -> Option<Head> {
    match error {
        Error::Request(_)
        | Error::RuntimeData(_)
        | Error::ReleasePolicy(_)
        | Error::CacheSeconds(_)
        | Error::MaaHost(_) => KNOWN,
        Error::Raw(error) | Error::Combined(error) | Error::Maa(error) => of_attest(error),
        Error::Release(error) => of_release(error),
        // Not told over HTTP.
        Error::Owner(_) | Error::Tls(_) | Error::Secrets(_) | Error::State(_) => KNOWN,
    }
}

fn of_release(error: &ReleaseError) -> Option<Head> {
    match error {
        ReleaseError::Busy | ReleaseError::WrappingKey(_) | ReleaseError::Interrupted => {
            UNAVAILABLE
        }
        ReleaseError::TimedOut => TIMED_OUT,
        ReleaseError::Kid(_)
        | ReleaseError::Reserved
        | ReleaseError::VaultHost(_)
        | ReleaseError::NoVault
        | ReleaseError::VaultNotTrusted(_)
        | ReleaseError::MaaHost(_)
        | ReleaseError::Policy
        | ReleaseError::AccessToken(_) => KNOWN,
        ReleaseError::Attest(error) => of_attest(error),
        ReleaseError::Identity(error) => of_identity(error),
        ReleaseError::Vault { source, .. } => of_vault(source),
        ReleaseError::Unwrap { .. } => BAD_GATEWAY,
        ReleaseError::Key(error) => of_key(error),
    }
}

/// A key of another type is what its owner made; a damaged one is not.
fn of_key(error: &KeyError) -> Option<Head> {
    match error {
        KeyError::Type(_) | KeyError::Unfit(_) => KNOWN,
        KeyError::Rsa | KeyError::Ec | KeyError::OtherKey(_) => BAD_GATEWAY,
    }
}

fn of_attest(error: &AttestError) -> Option<Head> {
    match error {
        AttestError::TimedOut => TIMED_OUT,
        AttestError::NoToken(why) => of_token(why),
        AttestError::Failed { code, .. } => match code {
            Code::InvalidArgument => KNOWN,
            // There is no device, and there may be one later; or too many wait for it.
            Code::FailedPrecondition | Code::ResourceExhausted => UNAVAILABLE,
            Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => TIMED_OUT,
            Code::Ok
            | Code::Unknown
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => BAD_GATEWAY,
        },
    }
}

fn of_token(why: &NoToken) -> Option<Head> {
    match why.kind {
        TokenFailure::Throttled | TokenFailure::ServerError => later(why.retry_after),
        // MAA's own 408 is its word; without a status it was our patience that ended.
        TokenFailure::TimedOut if why.status.is_some() => later(why.retry_after),
        TokenFailure::TimedOut => TIMED_OUT,
        TokenFailure::Refused => KNOWN,
        TokenFailure::None
        | TokenFailure::Unreachable
        | TokenFailure::BadAnswer
        | TokenFailure::Unverified => BAD_GATEWAY,
    }
}

fn of_identity(error: &IdentityError) -> Option<Head> {
    match error {
        IdentityError::Call(error) => of_outbound(error),
        IdentityError::Refused { status, retry_after, .. } => of_refusal(*status, *retry_after),
        IdentityError::Workload(error) => of_workload(error),
        IdentityError::NoToken | IdentityError::Token(_) => BAD_GATEWAY,
        IdentityError::Interrupted => UNAVAILABLE,
    }
}

/// The file is of this pod: whoever configured it changes it.
fn of_workload(error: &WorkloadError) -> Option<Head> {
    match error {
        WorkloadError::Call(error) => of_outbound(error),
        WorkloadError::File(_) | WorkloadError::Assertion => KNOWN,
        WorkloadError::Endpoint => BAD_GATEWAY,
        WorkloadError::Answer(error) => of_identity(error),
    }
}

fn of_vault(error: &VaultError) -> Option<Head> {
    match error {
        VaultError::Call(error) => of_outbound(error),
        VaultError::Refused { status, retry_after, .. } => of_refusal(*status, *retry_after),
        VaultError::Answer(_) => BAD_GATEWAY,
    }
}

fn of_outbound(error: &OutboundError) -> Option<Head> {
    match error {
        OutboundError::Unreachable { .. } | OutboundError::TooLarge { .. } => BAD_GATEWAY,
        OutboundError::TimedOut { .. } => TIMED_OUT,
        OutboundError::Refused { status, retry_after, .. } => of_refusal(*status, *retry_after),
    }
}

fn of_refusal(status: StatusCode, retry_after: Option<Duration>) -> Option<Head> {
    if may_pass(status) {
        later(retry_after)
    } else if status.is_client_error() {
        KNOWN
    } else {
        BAD_GATEWAY
    }
}

fn later(retry_after: Option<Duration>) -> Option<Head> {
    Some(Head { status: StatusCode::SERVICE_UNAVAILABLE, retry_after })
}

#[cfg(test)]
mod tests {
    use proto::attest::TokenReply;

    use super::*;
    use crate::http::base64;
    use crate::http::request::{Malformed, RequestError};
    use crate::pool::Stopped;
    use crate::secret::NotABearer;
    use crate::vault::AnswerError;
    use crate::wrapping_key::UnwrapError;

    const PARTY: &str = "a party";
    const SEVEN: Option<Duration> = Some(Duration::from_secs(7));

    /// Strict statuses of a failure and the seconds of `Retry-After`; what it is under the reference is `known`.
    #[track_caller]
    fn told(error: &Error, known: u16, strict: u16, retry_after: Option<u64>) {
        let head = Statuses::Reference.head(error);
        assert_eq!((head.status.as_u16(), head.retry_after), (known, None), "{error:?}");
        let head = Statuses::Strict.head(error);
        let seconds = head.retry_after.map(|pause| pause.as_secs());
        assert_eq!((head.status.as_u16(), seconds), (strict, retry_after), "{error:?}");
    }

    fn vault(error: impl Into<VaultError>) -> Box<VaultError> {
        Box::new(error.into())
    }

    #[test]
    fn a_callers_mistakes_are_told_as_ever() {
        let host = || "https://a".parse::<crate::host::Host>().unwrap_err();
        told(&Error::Request(RequestError::TooLarge(1)), 413, 413, None);
        told(&Error::Request(RequestError::Slow), 408, 408, None);
        told(&Error::Request(RequestError::Broken), 400, 400, None);
        told(&Error::Request(RequestError::Malformed(Malformed::Empty)), 400, 400, None);
        told(&Error::RuntimeData(base64::decode("a").unwrap_err()), 400, 400, None);
        told(&Error::ReleasePolicy(base64::decode("a").unwrap_err()), 400, 400, None);
        told(&Error::CacheSeconds("x".parse::<u32>().unwrap_err()), 400, 400, None);
        told(&Error::MaaHost(host()), 403, 403, None);
        for error in [
            ReleaseError::Kid("a/b/c".parse::<crate::kid::KeyId>().unwrap_err()),
            ReleaseError::Reserved,
            ReleaseError::VaultHost(host()),
            ReleaseError::NoVault,
            ReleaseError::VaultNotTrusted("v.test".parse().unwrap()),
            ReleaseError::MaaHost(host()),
            ReleaseError::Policy,
            ReleaseError::AccessToken(NotABearer),
            ReleaseError::Key(KeyError::Type("oct-X".to_owned())),
            ReleaseError::Key(KeyError::Unfit("another")),
        ] {
            told(&Error::Release(error), 403, 403, None);
        }
    }

    #[test]
    fn what_this_role_could_not_do_may_pass() {
        for (error, known, strict) in [
            (ReleaseError::Busy, 503, 503),
            (ReleaseError::WrappingKey(Stopped), 403, 503),
            (ReleaseError::Interrupted, 403, 503),
            (ReleaseError::TimedOut, 403, 504),
        ] {
            told(&Error::Release(error), known, strict, None);
        }
    }

    #[test]
    fn what_was_released_and_makes_no_sense_is_the_vaults() {
        let kid = || "k".parse().unwrap();
        for error in [
            ReleaseError::Unwrap { kid: kid(), source: UnwrapError::Length(1) },
            ReleaseError::Vault { kid: kid(), source: vault(AnswerError::NoRelease) },
            ReleaseError::Key(KeyError::Rsa),
            ReleaseError::Key(KeyError::Ec),
            ReleaseError::Key(KeyError::OtherKey("n")),
        ] {
            told(&Error::Release(error), 403, 502, None);
        }
    }

    fn refusal(status: u16, retry_after: Option<Duration>) -> OutboundError {
        let status = StatusCode::from_u16(status).unwrap();
        let excerpt = String::new();
        OutboundError::Refused { party: PARTY, status, excerpt, retry_after, request_id: None }
    }

    /// A status of a party, and what it becomes.
    const REFUSALS: [(u16, u16, Option<u64>); 10] = [
        (302, 502, None),
        (400, 403, None),
        (401, 403, None),
        (403, 403, None),
        (404, 403, None),
        (408, 503, Some(7)),
        (409, 403, None),
        (429, 503, Some(7)),
        (500, 503, Some(7)),
        (503, 503, Some(7)),
    ];

    fn whole_calls() -> [(OutboundError, u16); 2] {
        [
            (OutboundError::TimedOut { party: PARTY }, 504),
            (OutboundError::TooLarge { party: PARTY, limit: 1 }, 502),
        ]
    }

    #[test]
    fn a_vault_is_told_by_what_it_did() {
        let of = |error: OutboundError| {
            let kid = "k".parse().unwrap();
            Error::Release(ReleaseError::Vault { kid, source: vault(error) })
        };
        for (status, strict, retry_after) in REFUSALS {
            told(&of(refusal(status, SEVEN)), 403, strict, retry_after);
            told(&of(refusal(status, None)), 403, strict, None);
        }
        for (error, strict) in whole_calls() {
            told(&of(error), 403, strict, None);
        }
    }

    #[test]
    fn an_identity_service_is_told_by_what_it_did() {
        let of = |error: IdentityError| Error::Release(ReleaseError::Identity(error.into()));
        for (status, strict, retry_after) in REFUSALS {
            told(&of(refusal(status, SEVEN).into()), 403, strict, retry_after);
        }
        for (error, strict) in whole_calls() {
            told(&of(error.into()), 403, strict, None);
        }
        told(&of(IdentityError::NoToken), 403, 502, None);
        told(&of(IdentityError::Interrupted), 403, 503, None);
        told(&of(IdentityError::Token(NotABearer)), 403, 502, None);
    }

    #[test]
    fn an_authority_is_told_by_what_it_did() {
        let of = |error: WorkloadError| {
            let error = IdentityError::Workload(Box::new(error));
            Error::Release(ReleaseError::Identity(error.into()))
        };
        for (status, strict, retry_after) in REFUSALS {
            told(&of(refusal(status, SEVEN).into()), 403, strict, retry_after);
        }
        for (error, strict) in whole_calls() {
            told(&of(error.into()), 403, strict, None);
        }
        told(&of(WorkloadError::Endpoint), 403, 502, None);
        told(&of(WorkloadError::File(std::io::ErrorKind::NotFound.into())), 403, 403, None);
        told(&of(WorkloadError::Assertion), 403, 403, None);
        told(&of(WorkloadError::Answer(Box::new(IdentityError::NoToken))), 403, 502, None);
    }

    #[test]
    fn a_neighbour_is_told_by_its_code() {
        for (code, strict) in [
            (Code::InvalidArgument, None),
            (Code::FailedPrecondition, Some(503)),
            (Code::ResourceExhausted, Some(503)),
            (Code::Cancelled, Some(504)),
            (Code::DeadlineExceeded, Some(504)),
            (Code::Aborted, Some(504)),
            (Code::Ok, Some(502)),
            (Code::Unknown, Some(502)),
            (Code::NotFound, Some(502)),
            (Code::AlreadyExists, Some(502)),
            (Code::PermissionDenied, Some(502)),
            (Code::OutOfRange, Some(502)),
            (Code::Unimplemented, Some(502)),
            (Code::Internal, Some(502)),
            (Code::Unavailable, Some(502)),
            (Code::DataLoss, Some(502)),
            (Code::Unauthenticated, Some(502)),
        ] {
            let failed = || AttestError::Failed { code, text: String::new() };
            told(&Error::Raw(failed()), 403, strict.unwrap_or(403), None);
            told(&Error::Combined(failed()), 500, strict.unwrap_or(500), None);
            told(&Error::Maa(failed()), 403, strict.unwrap_or(403), None);
            told(&Error::Release(failed().into()), 403, strict.unwrap_or(403), None);
        }
        told(&Error::Raw(AttestError::TimedOut), 403, 504, None);
    }

    #[test]
    fn an_instance_is_told_by_the_kind_of_its_failure() {
        for (kind, status, strict, retry_after) in [
            (TokenFailure::None, 0, 502, None),
            (TokenFailure::Unreachable, 0, 502, None),
            (TokenFailure::TimedOut, 0, 504, None),
            (TokenFailure::TimedOut, 408, 503, Some(7)),
            (TokenFailure::Refused, 400, 403, None),
            (TokenFailure::Throttled, 429, 503, Some(7)),
            (TokenFailure::ServerError, 500, 503, Some(7)),
            (TokenFailure::BadAnswer, 0, 502, None),
            (TokenFailure::Unverified, 0, 502, None),
        ] {
            let of = || {
                let failure_kind = kind.into();
                let reply = TokenReply {
                    failure_kind,
                    failure_status: status,
                    retry_after: 7,
                    ..Default::default()
                };
                AttestError::NoToken(reply.into())
            };
            told(&Error::Maa(of()), 403, strict, retry_after);
            told(&Error::Release(of().into()), 403, strict, retry_after);
        }
    }
}
