//! Trusted Hardware Identity Management: the host's AMD certificates.
//!
//! Must not know: identities.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::{Imds, error};
use crate::faults::ThimFault;
use crate::http::answer;
use crate::machine::Machine;
use crate::pki::PkiError;
use crate::pki::amd::AmdAuthority;

/// `GET /metadata/THIM/amd/certification`.
pub(super) async fn certification(State(imds): State<Arc<Imds>>) -> Response {
    imds.thim_calls.count();
    let mut active = imds.faults.thim.strike();
    if let Some(active) = &mut active
        && active.fault == ThimFault::Stall
    {
        active.stall().await;
    }
    let fault = active.map(|active| active.fault);
    match fault {
        Some(ThimFault::NotFound) => {
            return error(StatusCode::NOT_FOUND, "not_found", "certificates not found");
        }
        Some(ThimFault::TooManyRequests { retry_after }) => {
            let response =
                error(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "too many requests");
            return answer::retry_after(response, retry_after);
        }
        Some(ThimFault::ServerError) => return failed(),
        None
        | Some(
            ThimFault::Stall
            | ThimFault::StaleCertificate
            | ThimFault::Truncated
            | ThimFault::ForeignChain,
        ) => {}
    }
    let state = Arc::clone(&imds);
    let wanted = fault.clone();
    let made = tokio::task::spawn_blocking(move || host(&state, wanted.as_ref())).await;
    match (made, fault) {
        (Ok(Ok(host)), Some(ThimFault::Truncated)) => answer::truncated(&host),
        (Ok(Ok(host)), _) => answer::json(StatusCode::OK, &host),
        _ => failed(),
    }
}

fn failed() -> Response {
    error(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal error")
}

fn host(imds: &Imds, fault: Option<&ThimFault>) -> Result<Value, PkiError> {
    let machine = &imds.machine;
    let host = match fault {
        Some(ThimFault::StaleCertificate) => machine.host_certificate(machine.tcb().older())?,
        Some(ThimFault::ForeignChain) => {
            let amd = Arc::new(AmdAuthority::derive(&imds.foreign, machine.product())?);
            let seed = imds.foreign.seed();
            Machine::derive(amd, seed, "foreign", machine.tcb()).host_certificate(machine.tcb())?
        }
        _ => machine.host_certificate(machine.tcb())?,
    };
    Ok(serde_json::to_value(host).unwrap_or(Value::Null))
}
