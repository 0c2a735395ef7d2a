//! Microsoft Azure Attestation: evidence in, token out.
//!
//! Must not know: vaults. It verifies as Azure does, against the roots that it was given, and
//! gives a token to every genuine guest, debug guests included: what is acceptable is for the
//! reader of the token to decide. Paths are compared without regard to case, as Azure does.

mod appraise;
mod claims;
mod metadata;
mod request;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use x509_cert::Certificate;

use crate::clock;
use crate::faults::{Control, MaaFault, Switch};
use crate::http::{answer, body};
use crate::pki::{KeyRing, PkiError};
use appraise::Refusal;
use request::AttestRequest;
use token::Signing;

/// API versions that are answered.
const API_VERSIONS: [&str; 2] = ["2020-10-01", "2022-08-01"];
const MAX_BODY: usize = 512 * 1024;

/// What an attestation service is given.
#[derive(Debug)]
pub struct MaaConfig {
    /// Its own URL, `iss` of its tokens; no slash at the end.
    pub issuer: String,
    /// The AMD roots (ARKs) that it trusts.
    pub amd_roots: Vec<Certificate>,
    /// The did:x509 whose utility VM images are compliant.
    pub uvm_did: String,
    /// How it misbehaves.
    pub faults: Switch<MaaFault>,
}

/// A running service's state.
#[derive(Debug)]
struct Maa {
    config: MaaConfig,
    signing: Signing,
}

/// All routes of the attestation service.
///
/// # Errors
/// [`PkiError`] when its signing keys cannot be derived.
pub fn router(config: MaaConfig, keys: &KeyRing) -> Result<Router, PkiError> {
    let control = Control::default().with("maa", &config.faults);
    let signing = Signing::derive(keys, &config.issuer)?;
    let maa = Arc::new(Maa { config, signing });
    Ok(Router::new().fallback(dispatch).with_state(maa).merge(control.router()))
}

async fn dispatch(State(maa): State<Arc<Maa>>, request: Request) -> Response {
    let path = request.uri().path().to_ascii_lowercase();
    match (request.method(), path.as_str()) {
        (&Method::POST, "/attest/sevsnpvm") => attest(maa, request).await,
        (&Method::GET, "/certs") => answer::json(StatusCode::OK, &maa.signing.jwks()),
        (&Method::GET, "/.well-known/openid-configuration") => {
            answer::json(StatusCode::OK, &metadata::openid_configuration(&maa.config.issuer))
        }
        _ => error(StatusCode::NOT_FOUND, "NotFound", "no such resource"),
    }
}

async fn attest(maa: Arc<Maa>, request: Request) -> Response {
    let mut active = maa.config.faults.strike();
    if let Some(active) = &mut active
        && active.fault == MaaFault::Stall
    {
        active.stall().await;
    }
    let fault = active.map(|active| active.fault);
    if let Some(response) = fault.as_ref().and_then(status_of) {
        return response;
    }
    let version = request.uri().query().and_then(api_version);
    if !version.is_some_and(|version| API_VERSIONS.contains(&version)) {
        return invalid("api-version is missing or not supported");
    }
    let bytes = match body::read(request.into_body(), MAX_BODY).await {
        Ok(bytes) => bytes,
        Err(error @ body::BodyError::TooLarge { .. }) => {
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return self::error(status, "RequestEntityTooLarge", &error.to_string());
        }
        Err(body::BodyError::Broken) => return invalid("the body ended early"),
    };
    let wanted = fault.clone();
    let done = tokio::task::spawn_blocking(move || maa.token(&bytes, wanted.as_ref())).await;
    match (done, fault) {
        (Ok(Ok(token)), Some(MaaFault::Truncated)) => answer::truncated(&json!({"token": token})),
        (Ok(Ok(token)), Some(MaaFault::Oversized)) => answer::oversized(&json!({"token": token})),
        (Ok(Ok(token)), _) => answer::json(StatusCode::OK, &json!({"token": token})),
        (Ok(Err(refusal)), _) => {
            error(StatusCode::BAD_REQUEST, refusal.code(), &refusal.to_string())
        }
        (Err(_), _) => internal(),
    }
}

impl Maa {
    fn token(&self, body: &[u8], fault: Option<&MaaFault>) -> Result<String, Refusal> {
        let now = clock::now();
        let request = AttestRequest::parse(body)?;
        let evidence = appraise::appraise(&request, &self.config, now)?;
        let claims = claims::claims(&evidence, &self.config.issuer, now);
        Ok(self.signing.token(claims, fault)?)
    }
}

/// The answer of faults that never look at the request.
fn status_of(fault: &MaaFault) -> Option<Response> {
    match fault {
        MaaFault::BadRequest => Some(invalid("refused by a fault")),
        MaaFault::TooManyRequests { retry_after } => {
            let status = StatusCode::TOO_MANY_REQUESTS;
            let response = error(status, "TooManyRequests", "rate limit reached");
            Some(answer::retry_after(response, *retry_after))
        }
        MaaFault::ServerError => Some(internal()),
        MaaFault::Stall
        | MaaFault::Truncated
        | MaaFault::Oversized
        | MaaFault::ForeignKey
        | MaaFault::WrongIssuer
        | MaaFault::Expired
        | MaaFault::AlgNone
        | MaaFault::OtherRuntimeData => None,
    }
}

fn api_version(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("api-version="))
}

fn invalid(message: &str) -> Response {
    error(StatusCode::BAD_REQUEST, "InvalidParameter", message)
}

fn internal() -> Response {
    error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "internal error")
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let error: Value = json!({"error": {"code": code, "message": message}});
    answer::json(status, &error)
}
