//! The reference's gRPC service (contract `skr.md` part 1.2): the key provider of Confidential Containers and ocicrypt,
//! and reports. Callers of it swap the server and nothing else.
//!
//! `packets` reads and writes ocicrypt's JSON, `wrap` encrypts for a key that stands in a file. Must not know how a
//! report is made or a key released.

mod error;
mod packets;
mod wrap;
mod wrap_file;

use std::path::PathBuf;
use std::sync::Arc;

use proto::key_provider::key_provider_service_server::{
    KeyProviderService, KeyProviderServiceServer,
};
use proto::key_provider::{
    HelloReply, HelloRequest, KeyProviderGetAttestationDataInput,
    KeyProviderGetAttestationDataOutput, KeyProviderGetReportInput, KeyProviderGetReportOutput,
    KeyProviderKeyWrapProtocolInput, KeyProviderKeyWrapProtocolOutput,
};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use self::error::Failure;
use self::packets::{Annotation, Unwrap, Wrap};
use self::wrap::KeyFolder;
pub(crate) use self::wrap_file::WrapFile;
use crate::attest::Attest;
use crate::http::base64;
use crate::release::{self, Releases};

/// The longest request, in bytes: runtime data, or a key with what belongs to it.
const LONGEST_REQUEST: usize = 1 << 20;

/// What the service needs.
pub(crate) struct KeyProvider {
    /// `attest-sidecar`.
    pub(crate) attest: Attest,
    /// Releases of keys.
    pub(crate) releases: Arc<Releases>,
    /// Where WrapKey may read keys; `None`: nowhere.
    pub(crate) wrap_keys: Option<PathBuf>,
}

/// The service, with its bounds.
pub(crate) fn service(provider: KeyProvider) -> KeyProviderServiceServer<impl KeyProviderService> {
    KeyProviderServiceServer::new(provider).max_decoding_message_size(LONGEST_REQUEST)
}

type Wire = KeyProviderKeyWrapProtocolOutput;

impl KeyProvider {
    async fn report(&self, text: String) -> Result<KeyProviderGetReportOutput, Failure> {
        // The text itself, whatever the field's name says: as the reference hashes it.
        let reply = self.attest.report(text.into_bytes()).await.map_err(Failure::Report)?;
        Ok(KeyProviderGetReportOutput { report_hex_string: hex::encode(reply.report) })
    }

    async fn attestation_data(
        &self,
        text: &str,
    ) -> Result<KeyProviderGetAttestationDataOutput, Failure> {
        let runtime_data = base64::decode(text).map_err(Failure::RuntimeData)?;
        let reply = self.attest.report(runtime_data).await.map_err(Failure::Report)?;
        if reply.uvm_endorsements.is_empty() {
            return Err(Failure::NoEndorsement);
        }
        Ok(KeyProviderGetAttestationDataOutput {
            endorsed_tcb: reply.endorsed_tcb,
            certs: base64::encode(reply.certificates.as_bytes()),
            attestation_report: base64::encode(&reply.report),
            uvm_reference_info: reply.uvm_endorsements,
        })
    }

    async fn wrap(&self, input: &[u8]) -> Result<Vec<u8>, Failure> {
        let Wrap { key, plaintext } = packets::wrap(input)?;
        let folder = self.wrap_keys.clone().ok_or(Failure::NoWrapKeys)?;
        // Files, and an RSA operation.
        let annotation =
            tokio::task::spawn_blocking(move || KeyFolder(folder).annotation(&key, &plaintext));
        let annotation = annotation.await.map_err(|_| Failure::Interrupted)??;
        Ok(packets::wrapped(&annotation))
    }

    async fn unwrap(&self, input: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let Unwrap { annotation } = packets::unwrap(input)?;
        let Annotation { kid, wrapped_data, kms_endpoint, attester_endpoint, .. } = annotation;
        let wrapped = base64::decode(&wrapped_data).map_err(Failure::WrappedData)?;
        // The vault comes from an image's annotation: the identity's token goes to trusted ones only, and reserved keys
        // unwrap nothing here.
        let request = release::Request {
            kid: &kid,
            vault: &kms_endpoint,
            maa: &attester_endpoint,
            ..release::Request::default()
        };
        let key = self.releases.release_as(request, wrap::private_key).await;
        let key = key.map_err(|error| Failure::Release(Box::new(error)))?;
        let plaintext = tokio::task::spawn_blocking(move || wrap::decrypt(key, &wrapped));
        let plaintext = plaintext.await.map_err(|_| Failure::Interrupted)??;
        Ok(packets::unwrapped(&plaintext))
    }
}

/// The answer to a call, or its status; a failure is logged by its method and code.
fn answer<T>(method: &'static str, outcome: Result<T, Failure>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|failure| {
        let status = failure.status();
        tracing::warn!(method, code = ?status.code(), "a call failed");
        status
    })
}

#[tonic::async_trait]
impl KeyProviderService for KeyProvider {
    async fn wrap_key(
        &self,
        request: Request<KeyProviderKeyWrapProtocolInput>,
    ) -> Result<Response<Wire>, Status> {
        let input = Zeroizing::new(request.into_inner().key_provider_key_wrap_protocol_input);
        let output = self.wrap(&input).await;
        let output = output.map(|bytes| Wire { key_provider_key_wrap_protocol_output: bytes });
        answer("WrapKey", output)
    }

    async fn un_wrap_key(
        &self,
        request: Request<KeyProviderKeyWrapProtocolInput>,
    ) -> Result<Response<Wire>, Status> {
        let input = request.into_inner().key_provider_key_wrap_protocol_input;
        let output = self.unwrap(&input).await;
        // From here on it is the transport's, and not zeroed any more.
        let output = output.map(|mut bytes| Wire {
            key_provider_key_wrap_protocol_output: std::mem::take(&mut *bytes),
        });
        answer("UnWrapKey", output)
    }

    async fn get_report(
        &self,
        request: Request<KeyProviderGetReportInput>,
    ) -> Result<Response<KeyProviderGetReportOutput>, Status> {
        answer("GetReport", self.report(request.into_inner().report_data_hex_string).await)
    }

    async fn get_attestation_data(
        &self,
        request: Request<KeyProviderGetAttestationDataInput>,
    ) -> Result<Response<KeyProviderGetAttestationDataOutput>, Status> {
        let data = self.attestation_data(&request.get_ref().b64_runtime_data_string).await;
        answer("GetAttestationData", data)
    }

    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let message = format!("Hello {}", request.get_ref().name);
        Ok(Response::new(HelloReply { message }))
    }
}
