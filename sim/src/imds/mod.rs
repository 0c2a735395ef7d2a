//! The instance metadata service: host certificates (THIM) and managed identity tokens.
//!
//! Must not know: vaults or attestation. Plain HTTP, as at 169.254.169.254. Every request needs
//! `Metadata: true` and none may have been forwarded, which keeps browsers and proxies away.
//! The key distribution services of AMD and Azure answer on the same listener.

mod thim;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use serde_json::json;

use crate::faults::{Control, IdentityFault, Switch, ThimFault};
use crate::http::answer;
use crate::identity::{Identity, IdentityProvider};
use crate::kds::Kds;
use crate::machine::Machine;
use crate::pki::KeyRing;
use crate::tally::Tally;

/// The switches of one metadata service.
#[derive(Debug, Clone, Default)]
pub struct ImdsFaults {
    /// Of the certificate source.
    pub thim: Switch<ThimFault>,
    /// Of the identity endpoint.
    pub identity: Switch<IdentityFault>,
}

/// What one metadata service knows: the machine under it and the identities attached to it.
#[derive(Debug)]
pub struct Imds {
    /// The machine whose certificates THIM gives.
    pub machine: Machine,
    /// Attached identities; the first is the one without a `client_id`.
    pub identities: Vec<Identity>,
    /// Who signs the tokens.
    pub provider: IdentityProvider,
    /// Keys of another world, for the fault that shows its certificates.
    pub foreign: KeyRing,
    /// How it misbehaves.
    pub faults: ImdsFaults,
    /// How often its certificates were asked for.
    pub thim_calls: Tally,
}

/// All routes of the metadata service, with those of the key distribution services beside them.
pub fn router(imds: Imds, kds: Arc<Kds>) -> Router {
    let control =
        Control::default().with("thim", &imds.faults.thim).with("identity", &imds.faults.identity);
    let control = crate::kds::control(control, &kds.faults);
    Router::new()
        .route("/metadata/THIM/amd/certification", get(thim::certification))
        .route("/metadata/identity/oauth2/token", get(token::token))
        .layer(middleware::from_fn(guard))
        .with_state(Arc::new(imds))
        .merge(crate::kds::routes(kds))
        .merge(control.router())
}

async fn guard(request: Request, next: Next) -> Response {
    match refusal(request.headers()) {
        Some(description) => bad_request(description),
        None => next.run(request).await,
    }
}

fn refusal(headers: &HeaderMap) -> Option<&'static str> {
    let metadata = headers.get("metadata").and_then(|value| value.to_str().ok());
    if !metadata.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Some("Required metadata header not specified");
    }
    headers.contains_key("x-forwarded-for").then_some("Forwarded requests are not accepted")
}

fn bad_request(description: &str) -> Response {
    error(StatusCode::BAD_REQUEST, "invalid_request", description)
}

fn error(status: StatusCode, error: &str, description: &str) -> Response {
    answer::json(status, &json!({"error": error, "error_description": description}))
}
