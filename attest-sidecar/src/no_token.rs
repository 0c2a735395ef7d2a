//! Why MAA gave no token that can be handed out, and how a reply says so: the cause alone. The caller's own text names
//! the step that failed.

use attestation::maa::TokenError;
use http::StatusCode;
use proto::attest::{TokenFailure, TokenReply};
use service::outbound::{OutboundError, shown_request};

use crate::maa_keys::KeysError;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoToken {
    /// MAA refused, or gave no whole answer.
    #[error(transparent)]
    Call(#[from] OutboundError),
    /// Its answer is no token.
    #[error("the answer of MAA holds no token")]
    Answer,
    /// Its token cannot be verified.
    #[error("MAA's token cannot be verified")]
    Keys(#[from] KeysError),
    /// Its token is not one that it signed now, about what was sent.
    #[error("MAA's token is not believed")]
    NotBelieved(#[from] TokenError),
}

impl NoToken {
    /// A reply without a token.
    pub(crate) fn told(&self) -> TokenReply {
        TokenReply {
            failure: self.text(),
            failure_kind: self.kind().into(),
            failure_status: self.status().map_or(0, |status| status.as_u16().into()),
            retry_after: self.retry_after(),
            ..Default::default()
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Call(OutboundError::Refused { status, excerpt, request_id, .. }) => {
                let request = shown_request(request_id.as_deref());
                format!("{excerpt}: http response status equal to {status}{request}")
            }
            error => service::chain(error),
        }
    }

    fn kind(&self) -> TokenFailure {
        match self {
            Self::Call(OutboundError::Unreachable { .. }) => TokenFailure::Unreachable,
            Self::Call(OutboundError::TimedOut { .. }) => TokenFailure::TimedOut,
            Self::Call(OutboundError::Refused { status, .. }) => of_status(*status),
            Self::Call(OutboundError::TooLarge { .. }) | Self::Answer => TokenFailure::BadAnswer,
            Self::Keys(error) if error.is_transient() => TokenFailure::ServerError,
            Self::Keys(_) | Self::NotBelieved(_) => TokenFailure::Unverified,
        }
    }

    fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Call(OutboundError::Refused { status, .. }) => Some(*status),
            _ => None,
        }
    }

    /// In whole seconds, at least as long as it was asked for.
    fn retry_after(&self) -> u32 {
        let asked = match self {
            Self::Call(error) => error.retry_after(),
            _ => None,
        };
        asked.map_or(0, |asked| u32::try_from(asked.as_secs()).unwrap_or(u32::MAX))
    }
}

fn of_status(status: StatusCode) -> TokenFailure {
    match status {
        StatusCode::TOO_MANY_REQUESTS => TokenFailure::Throttled,
        StatusCode::REQUEST_TIMEOUT => TokenFailure::TimedOut,
        status if status.is_server_error() => TokenFailure::ServerError,
        status if status.is_client_error() => TokenFailure::Refused,
        _ => TokenFailure::BadAnswer,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn refused(status: u16, retry_after: Option<u64>) -> NoToken {
        NoToken::Call(OutboundError::Refused {
            party: "MAA",
            status: StatusCode::from_u16(status).unwrap(),
            excerpt: "words".to_owned(),
            retry_after: retry_after.map(Duration::from_secs),
            request_id: Some("id-1".into()),
        })
    }

    #[test]
    fn a_refusal_is_told_by_its_status_and_named_once() {
        for (status, kind) in [
            (302, TokenFailure::BadAnswer),
            (400, TokenFailure::Refused),
            (401, TokenFailure::Refused),
            (408, TokenFailure::TimedOut),
            (429, TokenFailure::Throttled),
            (500, TokenFailure::ServerError),
            (503, TokenFailure::ServerError),
        ] {
            let told = refused(status, None).told();
            assert!(told.failure_kind() == kind, "{status}: {}", told.failure_kind().as_str_name());
            assert_eq!((told.failure_status, told.retry_after), (status.into(), 0));
            assert!(told.token.is_empty());
        }
        let told = refused(400, None).told();
        let text = "words: http response status equal to 400 Bad Request (request id id-1)";
        assert_eq!(told.failure, text);
    }

    #[test]
    fn how_long_maa_wants_to_be_left_alone_is_passed_on() {
        assert_eq!(refused(429, Some(17)).told().retry_after, 17);
        assert_eq!(refused(429, Some(u64::MAX)).told().retry_after, u32::MAX);
    }

    #[test]
    fn what_never_had_a_status_has_none() {
        let party = "MAA";
        for (error, kind) in [
            (NoToken::Call(OutboundError::TimedOut { party }), TokenFailure::TimedOut),
            (NoToken::Call(OutboundError::TooLarge { party, limit: 1 }), TokenFailure::BadAnswer),
            (NoToken::Answer, TokenFailure::BadAnswer),
            (NoToken::Keys(KeysError::Gone), TokenFailure::ServerError),
            (
                NoToken::Keys(KeysError::Syntax(attestation::maa::JwksError::Syntax)),
                TokenFailure::Unverified,
            ),
        ] {
            let told = error.told();
            assert!(told.failure_kind() == kind, "{error}: {}", told.failure_kind().as_str_name());
            assert_eq!(told.failure_status, 0, "{error}");
            assert!(!told.failure.is_empty());
        }
    }
}
