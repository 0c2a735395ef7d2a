//! `GET /attestation`: what the group publishes about itself (`wire.md` part 2, and the seed's fields).
//!
//! Made once for each certificate and shown to everybody. It is convenient, and never proof of a connection: it
//! says so.

use std::sync::Arc;
use std::time::Duration;

use attestation::encoding::to_b64u;
use attestation::evidence::ID_PE_CMW;
use attestation::{Evidence, certificate::Certificate};
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};
use proto::attest::TokenReply;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::attest::{AttestError, AttestSidecar};
use crate::body::{Body, full};
use crate::error::Refusal;
use crate::manifest::{CurrentManifest, Exact};
use crate::page::{ContentSecurityPolicy, Facts, page};
use crate::tls::Leaf;
use crate::tls::rotation::Current;

/// A publication without token is made anew after this.
const RETRY: Duration = Duration::from_secs(30);

/// A token lives for 8 hours.
const RENEWAL: Duration = Duration::from_secs(4 * 3600);

const INSTRUCTIONS: &str = "This document proves nothing about your connection: anybody could repeat it. To \
    verify the connection you are on, POST {\"nonce\": <32 random bytes, base64url>} to /attestation/verify and \
    check the answer against your own TLS exporter, or let `pmc verify` or `pmc connect` do it. To ask Microsoft \
    Azure Attestation yourself, POST maa_request to verification_endpoint + \
    \"/attest/SevSnpVm?api-version=2022-08-01\".";

/// What a publication says beside manifest and evidence.
pub(crate) struct About {
    /// How the proxy does TLS, as the manifest names it.
    pub(crate) mode: &'static str,
    /// The first of the server's names, with its port where that is not 443.
    pub(crate) hostname: String,
}

/// Where the current publication is found.
#[derive(Clone)]
pub(crate) struct Publication(watch::Receiver<Option<Shown>>);

#[derive(Clone)]
struct Shown {
    json: Bytes,
    html: Bytes,
    at: u64,
}

impl Publication {
    /// Publishes for the current certificate, and again whenever there is another one, or a manifest that differs in more
    /// than the log's head.
    pub(crate) fn keep(
        attest: AttestSidecar,
        mut manifest: CurrentManifest,
        mut current: Current,
        about: About,
    ) -> Self {
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                let shown = manifest.get();
                let made = publish(&attest, &shown, &current.leaf(), &about).await;
                let pause = match made {
                    Ok((shown, complete)) => {
                        sender.send_replace(Some(shown));
                        if complete { RENEWAL } else { RETRY }
                    }
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "the attestation could not be published");
                        RETRY
                    }
                };
                if sender.is_closed() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = current.changed() => {}
                    () = manifest.differs_from(&shown) => {}
                }
            }
        });
        Self(receiver)
    }

    /// When it was made, in Unix seconds.
    pub(crate) fn made_at(&self) -> Option<u64> {
        self.0.borrow().as_ref().map(|shown| shown.at)
    }

    /// The document as JSON, as it is published now.
    pub(crate) fn document(&self) -> Option<Bytes> {
        self.0.borrow().as_ref().map(|shown| shown.json.clone())
    }

    /// The document, as a page for a browser and as JSON for everybody else.
    pub(crate) fn response(&self, asking: &HeaderMap) -> Result<Response<Body>, Refusal> {
        let shown = self.0.borrow().clone().ok_or(Refusal::NoEvidence)?;
        let accept = asking.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_page = accept.contains("text/html");
        let (kind, bytes) = if is_page {
            ("text/html; charset=utf-8", shown.html)
        } else {
            ("application/json", shown.json)
        };
        let mut response = Response::new(full(bytes));
        if is_page {
            response.extensions_mut().insert(ContentSecurityPolicy::of_page());
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
        headers.insert(http::header::VARY, HeaderValue::from_static("accept"));
        Ok(response)
    }
}

/// Returns the document, and whether it is complete.
async fn publish(
    attest: &AttestSidecar,
    manifest: &Exact,
    leaf: &Arc<Leaf>,
    about: &About,
) -> Result<(Shown, bool), AttestError> {
    // Evidence of the certificate shape is made for keys that were made here, and only for those.
    let ours = about.mode == "attested";
    let evidence = ours.then(|| evidence_in(leaf)).flatten().map(|evidence| evidence.to_json());
    let token =
        attest.certificate_token(&leaf.spki_sha256, leaf.not_after, &manifest.sha256).await?;
    let TokenReply { request, report, token, failure, maa_endpoint, .. } = token;
    if token.is_empty() {
        tracing::warn!(why = failure, "MAA gave no token for the certificate");
    }
    let complete = !token.is_empty();
    let request: Value = serde_json::from_slice(&request)
        .map_err(|_| AttestError::Incomplete("the request to MAA"))?;
    let anchors = if manifest.production { "production" } else { "NOT PRODUCTION" };
    let document = json!({
        "tee_type": "AMD SEV-SNP",
        "attestation_token": complete.then_some(token),
        "verification_endpoint": &maa_endpoint,
        "instructions": INSTRUCTIONS,
        "raw_report": to_b64u(&report),
        "maa_request": request,
        "evidence": evidence,
        "manifest": to_b64u(&manifest.bytes),
        "anchors": anchors,
    });
    let text = serde_json::to_string_pretty(&document).expect("JSON always serialises");
    let at = service::clock::unix_now();
    let html = page(&Facts {
        manifest: &manifest.bytes,
        mode: about.mode,
        hostname: &about.hostname,
        maa: &maa_endpoint,
        made: at,
    });
    Ok((Shown { json: text.into(), html: html.into(), at }, complete))
}

/// The evidence that the certificate carries itself.
fn evidence_in(leaf: &Leaf) -> Option<Evidence> {
    let certificate = Certificate::from_der(&leaf.certificate).ok()?;
    Evidence::from_certificate_extension(certificate.extension(&ID_PE_CMW)?).ok()
}
