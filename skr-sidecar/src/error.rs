//! What callers are told: which status a failure has, and its text. The one place that decides it.
//!
//! Over HTTP the statuses are those that callers of the reference implementation know (contract `skr.md`
//! part 1.1): 403 for nearly all that fails once a request is read; `strict` has others. Over gRPC they tell the parties
//! apart.

use std::error::Error as StdError;
use std::num::ParseIntError;

use http::StatusCode;
use proto::attest::TokenFailure;
use service::outbound::OutboundError;
use tonic::Code;

use crate::attest::{AttestError, NoToken};
use crate::host::NotAHost;
use crate::http::base64::NotBase64;
use crate::http::request::RequestError;
use crate::identity::IdentityError;
use crate::key::KeyError;
use crate::owner::OwnerError;
use crate::release::ReleaseError;
use crate::secrets::SecretsError;
use crate::state::StateError;
use crate::tls::TlsError;
use crate::vault::{AnswerError, VaultError};
use crate::workload_identity::WorkloadError;

/// Stands in the text of every failure over HTTP, between what failed and why.
pub(crate) const HELP: &str =
    "docs/how-to/skr-sidecar.md says what to do about each cause; this one is";

/// The longest text over gRPC, in bytes. It travels percent-encoded in a header, for which clients allow 16 KiB.
const LONGEST_GRPC_TEXT: usize = 3000;

/// A failure at one of the routes or methods. Its own text is what comes first in every answer, and what
/// scripts match on; its sources say why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request could not be read.
    #[error("invalid request format")]
    Request(#[from] RequestError),
    /// The runtime data is not base64.
    #[error("decoding base64-encoded runtime data of request failed")]
    RuntimeData(#[from] NotBase64),
    /// The expected release policy is not base64.
    #[error("decoding base64-encoded release policy of request failed")]
    ReleasePolicy(#[source] NotBase64),
    /// The time that a key may be kept is no number of seconds.
    #[error("cache_seconds of request must be a text of digits, such as \"60\"")]
    CacheSeconds(#[from] ParseIntError),
    /// `/attest/raw` has no report.
    #[error("failure to fetch attestation report hex")]
    Raw(#[source] AttestError),
    /// `/attest/combined` has no report.
    #[error("failure to fetch attestation report bytes")]
    Combined(#[source] AttestError),
    /// `/attest/maa` was given an instance that is no host.
    #[error("attestation failed")]
    MaaHost(#[source] NotAHost),
    /// `/attest/maa` has no token.
    #[error("attestation failed")]
    Maa(#[source] AttestError),
    /// No key was released.
    #[error("secure key release failed")]
    Release(#[from] ReleaseError),
    /// The owner's key did not sign, or its public half is not known.
    #[error("the owner's key cannot be used")]
    Owner(#[from] OwnerError),
    /// The TLS key did not sign, or is not at hand.
    #[error("the TLS key cannot be used")]
    Tls(#[from] TlsError),
    /// No key of stored state can be derived.
    #[error("the state's key cannot be used")]
    State(#[from] StateError),
    /// The sealed secrets are not open.
    #[error("the sealed secrets are not open")]
    Secrets(#[from] SecretsError),
}

/// The status of a failure, by protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// Over HTTP.
    pub(crate) http: StatusCode,
    /// Over gRPC.
    pub(crate) grpc: Code,
}

/// Which status a failure has.
pub(crate) fn status(error: &Error) -> Status {
    let (http, grpc) = match error {
        Error::Request(error) => of_request(error),
        Error::RuntimeData(_) | Error::ReleasePolicy(_) | Error::CacheSeconds(_) => {
            (StatusCode::BAD_REQUEST, Code::InvalidArgument)
        }
        Error::Combined(error) => (StatusCode::INTERNAL_SERVER_ERROR, of_attest(error)),
        Error::Raw(error) | Error::Maa(error) => (StatusCode::FORBIDDEN, of_attest(error)),
        Error::MaaHost(_) => (StatusCode::FORBIDDEN, Code::InvalidArgument),
        Error::Release(ReleaseError::Busy) => {
            (StatusCode::SERVICE_UNAVAILABLE, Code::ResourceExhausted)
        }
        Error::Release(error) => (StatusCode::FORBIDDEN, of_release(error)),
        Error::Owner(error) => (StatusCode::FORBIDDEN, of_owner(error)),
        Error::Tls(error) => (StatusCode::FORBIDDEN, of_tls(error)),
        Error::State(error) => (StatusCode::FORBIDDEN, of_state(error)),
        Error::Secrets(error) => (StatusCode::FORBIDDEN, of_secrets(error)),
    };
    Status { http, grpc }
}

fn of_owner(error: &OwnerError) -> Code {
    match error {
        OwnerError::NotConfigured | OwnerError::Refused => Code::FailedPrecondition,
        OwnerError::NotYet => Code::Unavailable,
        OwnerError::Length => Code::InvalidArgument,
        OwnerError::Signing => Code::Internal,
    }
}

fn of_tls(error: &TlsError) -> Code {
    match error {
        TlsError::NotConfigured | TlsError::OtherKey => Code::FailedPrecondition,
        TlsError::NotYet | TlsError::Pause => Code::Unavailable,
        TlsError::Release(error) => of_release(error),
        TlsError::Digest | TlsError::Message | TlsError::Scheme => Code::InvalidArgument,
        TlsError::Signing(_) | TlsError::BrokeOff => Code::Internal,
    }
}

fn of_state(error: &StateError) -> Code {
    match error {
        StateError::NotConfigured | StateError::Refused => Code::FailedPrecondition,
        StateError::NotYet => Code::Unavailable,
        StateError::Version(_) => Code::InvalidArgument,
        StateError::Release(error) => of_release(error),
    }
}

fn of_secrets(error: &SecretsError) -> Code {
    match error {
        SecretsError::NotYet | SecretsError::NoEnvelope(_) => Code::Unavailable,
        SecretsError::KeyRefused | SecretsError::Refused(_) => Code::FailedPrecondition,
    }
}

fn of_request(error: &RequestError) -> (StatusCode, Code) {
    match error {
        RequestError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, Code::InvalidArgument),
        RequestError::Slow => (StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded),
        RequestError::Broken | RequestError::Malformed(_) => {
            (StatusCode::BAD_REQUEST, Code::InvalidArgument)
        }
    }
}

/// Whether a party has said no, as long as nobody changes something; or something may only be late.
pub(crate) fn is_refusal(error: &ReleaseError) -> bool {
    let late = [Code::Unavailable, Code::DeadlineExceeded, Code::ResourceExhausted];
    !late.contains(&of_release(error))
}

fn of_release(error: &ReleaseError) -> Code {
    match error {
        ReleaseError::Busy => Code::ResourceExhausted,
        ReleaseError::TimedOut => Code::DeadlineExceeded,
        ReleaseError::Reserved => Code::PermissionDenied,
        ReleaseError::Kid(_)
        | ReleaseError::VaultHost(_)
        | ReleaseError::NoVault
        | ReleaseError::MaaHost(_)
        | ReleaseError::Policy
        | ReleaseError::AccessToken(_) => Code::InvalidArgument,
        ReleaseError::VaultNotTrusted(_) => Code::FailedPrecondition,
        ReleaseError::WrappingKey(_) | ReleaseError::Interrupted => Code::Unavailable,
        ReleaseError::Attest(error) => of_attest(error),
        ReleaseError::Identity(error) => of_identity(error),
        ReleaseError::Vault { source, .. } => of_vault(source),
        ReleaseError::Unwrap { .. } => Code::Internal,
        ReleaseError::Key(KeyError::Type(_) | KeyError::Unfit(_)) => Code::FailedPrecondition,
        ReleaseError::Key(KeyError::Rsa | KeyError::Ec | KeyError::OtherKey(_)) => Code::Internal,
    }
}

/// The codes of `attest-sidecar` that mean the same to the caller of this role are passed on.
fn of_attest(error: &AttestError) -> Code {
    match error {
        AttestError::TimedOut => Code::Unavailable,
        AttestError::NoToken(why) => of_token(why),
        AttestError::Failed { code, .. } => match code {
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::ResourceExhausted
            | Code::Unavailable => *code,
            Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => Code::Unavailable,
            Code::Ok
            | Code::Unknown
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss
            | Code::Unauthenticated => Code::Internal,
        },
    }
}

/// A reply that names no kind is of a neighbour that is older or newer than this role.
fn of_token(why: &NoToken) -> Code {
    match why.kind {
        TokenFailure::None
        | TokenFailure::Unreachable
        | TokenFailure::Throttled
        | TokenFailure::ServerError => Code::Unavailable,
        TokenFailure::TimedOut => Code::DeadlineExceeded,
        TokenFailure::Refused => Code::FailedPrecondition,
        TokenFailure::BadAnswer | TokenFailure::Unverified => Code::Internal,
    }
}

fn of_identity(error: &IdentityError) -> Code {
    match error {
        IdentityError::Call(error) => of_outbound(error),
        IdentityError::Workload(error) => of_workload(error),
        IdentityError::Refused { status, .. } if may_pass(*status) => Code::Unavailable,
        IdentityError::Refused { .. } => Code::FailedPrecondition,
        IdentityError::NoToken | IdentityError::Token(_) => Code::Internal,
        IdentityError::Interrupted => Code::Unavailable,
    }
}

/// An authority that refuses is no vault that refuses.
fn of_workload(error: &WorkloadError) -> Code {
    match error {
        WorkloadError::Call(OutboundError::Refused { status, .. }) if may_pass(*status) => {
            Code::Unavailable
        }
        WorkloadError::Call(OutboundError::Refused { .. })
        | WorkloadError::File(_)
        | WorkloadError::Assertion => Code::FailedPrecondition,
        WorkloadError::Call(error) => of_outbound(error),
        WorkloadError::Endpoint => Code::Internal,
        WorkloadError::Answer(error) => of_identity(error),
    }
}

fn of_vault(error: &VaultError) -> Code {
    match error {
        VaultError::Call(error) => of_outbound(error),
        VaultError::Refused { status, .. } => of_refusal(*status),
        VaultError::Answer(AnswerError::Policy) => Code::FailedPrecondition,
        VaultError::Answer(_) => Code::Internal,
    }
}

fn of_outbound(error: &OutboundError) -> Code {
    match error {
        OutboundError::Unreachable { .. } | OutboundError::TimedOut { .. } => Code::Unavailable,
        OutboundError::TooLarge { .. } => Code::Internal,
        OutboundError::Refused { status, .. } => of_refusal(*status),
    }
}

fn of_refusal(status: StatusCode) -> Code {
    match status {
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::NotFound,
        status if may_pass(status) => Code::Unavailable,
        _ => Code::FailedPrecondition,
    }
}

/// Whether the party may answer otherwise a little later.
pub(crate) fn may_pass(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

/// The text over HTTP: what failed, a hint, and why.
pub(crate) fn http_text(error: &Error) -> String {
    format!("{error}\n{HELP}: {}", causes(error))
}

/// The failure as gRPC tells it.
pub(crate) fn grpc_status(error: &Error) -> tonic::Status {
    let mut text = format!("{error}: {}", causes(error));
    text.truncate(text.floor_char_boundary(LONGEST_GRPC_TEXT));
    tonic::Status::new(status(error).grpc, text)
}

fn causes(error: &Error) -> String {
    let mut texts = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: StatusCode) -> Box<VaultError> {
        let excerpt = "words".to_owned();
        Box::new(VaultError::Refused { status, excerpt, retry_after: None, request_id: None })
    }

    fn of_release_error(error: ReleaseError) -> (u16, Code) {
        let Status { http, grpc } = status(&Error::Release(error));
        (http.as_u16(), grpc)
    }

    #[test]
    fn over_http_only_a_full_house_is_no_403() {
        assert_eq!(of_release_error(ReleaseError::Busy), (503, Code::ResourceExhausted));
        assert_eq!(of_release_error(ReleaseError::TimedOut), (403, Code::DeadlineExceeded));
        assert_eq!(of_release_error(ReleaseError::NoVault), (403, Code::InvalidArgument));
        let host = "v.test".parse().expect("a host");
        let not_trusted = ReleaseError::VaultNotTrusted(host);
        assert_eq!(of_release_error(not_trusted), (403, Code::FailedPrecondition));
        let kid = "k".parse().expect("a kid");
        let source = refused(StatusCode::FORBIDDEN);
        let vault = ReleaseError::Vault { kid, source };
        assert_eq!(of_release_error(vault), (403, Code::PermissionDenied));
    }

    #[test]
    fn a_refusal_is_told_from_what_is_late() {
        let of_vault = |status| {
            let kid = "k".parse().expect("a kid");
            ReleaseError::Vault { kid, source: refused(status) }
        };
        for status in [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND, StatusCode::UNAUTHORIZED] {
            assert!(is_refusal(&of_vault(status)), "{status}");
        }
        for error in [
            of_vault(StatusCode::SERVICE_UNAVAILABLE),
            of_vault(StatusCode::TOO_MANY_REQUESTS),
            ReleaseError::Busy,
            ReleaseError::TimedOut,
        ] {
            assert!(!is_refusal(&error), "{error}");
        }
    }

    #[test]
    fn over_grpc_a_vaults_statuses_stay_apart() {
        for (status, code) in [
            (400, Code::FailedPrecondition),
            (401, Code::Unauthenticated),
            (403, Code::PermissionDenied),
            (404, Code::NotFound),
            (408, Code::Unavailable),
            (409, Code::FailedPrecondition),
            (429, Code::Unavailable),
            (500, Code::Unavailable),
            (503, Code::Unavailable),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(of_vault(&refused(status)), code, "{status}");
        }
    }

    #[test]
    fn an_identity_that_refuses_is_no_vault_that_refuses() {
        let refused = |status| {
            let excerpt = String::new();
            IdentityError::Refused { status, excerpt, retry_after: None, request_id: None }
        };
        assert_eq!(of_identity(&refused(StatusCode::FORBIDDEN)), Code::FailedPrecondition);
        assert_eq!(of_identity(&refused(StatusCode::TOO_MANY_REQUESTS)), Code::Unavailable);
    }

    #[test]
    fn a_neighbours_code_is_passed_on_if_it_means_the_same_here() {
        for (theirs, ours) in [
            (Code::InvalidArgument, Code::InvalidArgument),
            (Code::FailedPrecondition, Code::FailedPrecondition),
            (Code::Unavailable, Code::Unavailable),
            (Code::DeadlineExceeded, Code::Unavailable),
            (Code::Unimplemented, Code::Internal),
            (Code::PermissionDenied, Code::Internal),
            (Code::NotFound, Code::Internal),
        ] {
            let error = AttestError::Failed { code: theirs, text: String::new() };
            assert_eq!(of_attest(&error), ours, "{theirs}");
        }
    }

    #[test]
    fn a_text_names_every_cause_once() {
        let kid = "k/1".parse().expect("a kid");
        let source = refused(StatusCode::FORBIDDEN);
        let error = Error::Release(ReleaseError::Vault { kid, source });
        let cause = "releasing the key k/1 failed: pulling AKV response body failed: words: http response status equal to 403 Forbidden";
        assert_eq!(http_text(&error), format!("secure key release failed\n{HELP}: {cause}"));
        assert_eq!(grpc_status(&error).message(), format!("secure key release failed: {cause}"));
    }

    #[test]
    fn a_text_over_grpc_has_a_bound() {
        let excerpt = "ä".repeat(4000);
        let kid = "k".parse().expect("a kid");
        let (status, retry_after, request_id) = (StatusCode::FORBIDDEN, None, None);
        let source = VaultError::Refused { status, excerpt, retry_after, request_id }.into();
        let error = Error::Release(ReleaseError::Vault { kid, source });
        assert!((2990..=LONGEST_GRPC_TEXT).contains(&grpc_status(&error).message().len()));
    }
}
