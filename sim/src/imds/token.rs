//! Access tokens for the identities of a container group.
//!
//! Must not know: what the tokens open. Numbers are strings here, as IMDS writes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::{Imds, bad_request, error};
use crate::clock;
use crate::faults::IdentityFault;
use crate::http::answer;
use crate::identity::{
    Identity, MANAGED_HSM_RESOURCE, STORAGE_RESOURCE, TOKEN_LIFE, VAULT_RESOURCE,
};

const API_VERSION: &str = "2018-02-01";
/// The audience of the fault: a real resource, and the wrong one.
const RESOURCE_MANAGER: &str = "https://management.azure.com/";

/// `GET /metadata/identity/oauth2/token?api-version=…&resource=…[&client_id=…]`.
pub(super) async fn token(
    State(imds): State<Arc<Imds>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let mut active = imds.faults.identity.strike();
    if let Some(active) = &mut active
        && active.fault == IdentityFault::Stall
    {
        active.stall().await;
    }
    let fault = active.map(|active| active.fault);
    match fault {
        Some(IdentityFault::NotFound) => {
            return error(StatusCode::NOT_FOUND, "not_found", "identity endpoint not ready");
        }
        Some(IdentityFault::NotReady) => return bad_request("Identity not found"),
        Some(IdentityFault::ServerError) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return error(status, "unknown", "Failed to retrieve token from the Active directory");
        }
        Some(IdentityFault::TooManyRequests { retry_after }) => {
            let status = StatusCode::TOO_MANY_REQUESTS;
            let response = error(status, "too_many_requests", "Temporarily throttled");
            return answer::retry_after(response, retry_after);
        }
        None | Some(IdentityFault::Stall | IdentityFault::WrongAudience) => {}
    }
    let (identity, resource) = match requested(&imds, &query) {
        Ok(requested) => requested,
        Err(description) => return bad_request(description),
    };
    let audience = match fault {
        Some(IdentityFault::WrongAudience) => RESOURCE_MANAGER,
        _ => resource,
    };
    let now = clock::now();
    match imds.provider.issue(identity, audience, now) {
        Ok(token) => answer::json(
            StatusCode::OK,
            &json!({
                "access_token": token,
                "client_id": identity.client_id,
                "expires_in": (TOKEN_LIFE - 1).to_string(),
                "expires_on": (now + TOKEN_LIFE).to_string(),
                "ext_expires_in": (TOKEN_LIFE - 1).to_string(),
                "not_before": now.to_string(),
                "resource": resource,
                "token_type": "Bearer",
            }),
        ),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "unknown", "signing failed"),
    }
}

fn requested<'a>(
    imds: &'a Imds,
    query: &'a BTreeMap<String, String>,
) -> Result<(&'a Identity, &'a str), &'static str> {
    if query.get("api-version").map(String::as_str) != Some(API_VERSION) {
        return Err("Missing or unsupported api-version");
    }
    let resource = query.get("resource").ok_or("Missing resource")?.trim_end_matches('/');
    if ![VAULT_RESOURCE, MANAGED_HSM_RESOURCE, STORAGE_RESOURCE].contains(&resource) {
        return Err("The resource principal was not found");
    }
    let identity = match query.get("client_id") {
        None => imds.identities.first(),
        Some(client_id) => imds.identities.iter().find(|identity| identity.client_id == *client_id),
    };
    Ok((identity.ok_or("Identity not found")?, resource))
}
