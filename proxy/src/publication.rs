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
use crate::manifest::CurrentManifest;
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
    /// Publishes for the current certificate, and again whenever there is another one.
    pub(crate) fn keep(
        attest: AttestSidecar,
        manifest: CurrentManifest,
        mut current: Current,
        mode: &'static str,
    ) -> Self {
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                let made = publish(&attest, &manifest, &current.leaf(), mode).await;
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
                }
            }
        });
        Self(receiver)
    }

    /// When it was made, in Unix seconds.
    pub(crate) fn made_at(&self) -> Option<u64> {
        self.0.borrow().as_ref().map(|shown| shown.at)
    }

    /// The document, as a page for a browser and as JSON for everybody else.
    pub(crate) fn response(&self, asking: &HeaderMap) -> Result<Response<Body>, Refusal> {
        let shown = self.0.borrow().clone().ok_or(Refusal::NoEvidence)?;
        let accept = asking.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (kind, bytes) = if accept.contains("text/html") {
            ("text/html; charset=utf-8", shown.html)
        } else {
            ("application/json", shown.json)
        };
        let mut response = Response::new(full(bytes));
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
    manifest: &CurrentManifest,
    leaf: &Arc<Leaf>,
    mode: &'static str,
) -> Result<(Shown, bool), AttestError> {
    let manifest = manifest.get();
    // Evidence of the certificate shape is made for keys that were made here, and only for those.
    let evidence = evidence_in(leaf).map(|evidence| evidence.to_json());
    let token =
        attest.certificate_token(&leaf.spki_sha256, leaf.not_after, &manifest.sha256).await?;
    let TokenReply { request, report, token, failure, maa_endpoint } = token;
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
        "verification_endpoint": maa_endpoint,
        "instructions": INSTRUCTIONS,
        "raw_report": to_b64u(&report),
        "maa_request": request,
        "evidence": evidence,
        "manifest": to_b64u(&manifest.bytes),
        "anchors": anchors,
    });
    let text = serde_json::to_string_pretty(&document).expect("JSON always serialises");
    let html = page(&String::from_utf8_lossy(&manifest.bytes), anchors, mode);
    let at = service::clock::unix_now();
    Ok((Shown { json: text.into(), html: html.into(), at }, complete))
}

/// The evidence that the certificate carries itself.
fn evidence_in(leaf: &Leaf) -> Option<Evidence> {
    let certificate = Certificate::from_der(&leaf.certificate).ok()?;
    Evidence::from_certificate_extension(certificate.extension(&ID_PE_CMW)?).ok()
}

fn page(manifest: &str, anchors: &str, mode: &str) -> String {
    let key = if mode == "attested" {
        "Its TLS key was made inside, and the hardware's evidence for that is in its certificate."
    } else {
        "Its TLS key came from outside: whoever else holds it can pose as this server to everybody who does not \
         verify the connection itself."
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Attestation of this server</title>\n\
         <h1>Attestation of this server</h1>\n\
         <p>This server says that it runs in a confidential container group on AMD SEV-SNP. {key}</p>\n\
         <p><strong>This page proves nothing.</strong> A browser cannot verify the connection it is on. Run \
         <code>pmc verify</code> with this server's URL, or use it through <code>pmc connect</code>.</p>\n\
         <p>Anchors of the group: {}</p>\n<h2>Manifest</h2>\n<pre>{}</pre>\n\
         <p>The same as JSON, with the evidence: ask for this page with \
         <code>Accept: application/json</code>.</p>\n</html>\n",
        escape(anchors),
        escape(manifest)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
