//! The gRPC surface: requests in, typed purposes out.

use std::sync::Arc;

use attestation::merkle::Inclusion;
use attestation::{Binding, Evidence};
use proto::attest::attest_server::{Attest, AttestServer};
use proto::attest::evidence_request::Purpose;
use proto::attest::token_request::Runtime;
use proto::attest::{
    CompatibleReportReply, CompatibleReportRequest, EvidenceReply, EvidenceRequest,
    ProveChannelsReply, ProveChannelsRequest, TlsChannel, TokenReply, TokenRequest,
};
use proto::info::info_server::{Info, InfoServer};
use proto::info::{GetInfoRequest, RoleInfo};
use service::listen::Listener;
use service::{Identity, Process};
use tonic::transport::server::Router;
use tonic::{Request, Response, Status};

use crate::error::{Failure, Malformed, array, status};
use crate::evidence::Attester;
use crate::maa::{Maa, Question};
use crate::runtime_data;

/// Connections that one call may have proved: its answer stays below a megabyte and a half.
const MAX_CHANNELS: usize = 4096;

/// The longest public key of a log.
const MAX_LOG_KEY: usize = 128;

/// Every service of this role.
pub(crate) fn router(
    process: &Process,
    listener: &Listener,
    attester: Arc<Attester>,
    maa: Maa,
    production_anchors: bool,
) -> Router {
    let listening = [("grpc".to_owned(), listener.address().to_string())].into();
    let about = About { identity: process.identity.clone(), production_anchors, listening };
    service::grpc::server()
        .add_service(process.health.service())
        .add_service(InfoServer::new(about))
        .add_service(AttestServer::new(Service { attester, maa }))
}

struct About {
    identity: Identity,
    production_anchors: bool,
    listening: std::collections::HashMap<String, String>,
}

#[tonic::async_trait]
impl Info for About {
    async fn get(&self, _: Request<GetInfoRequest>) -> Result<Response<RoleInfo>, Status> {
        let identity = &self.identity;
        Ok(Response::new(RoleInfo {
            role: identity.role.to_owned(),
            version: identity.version.to_owned(),
            boot_id: identity.boot_id.clone(),
            started: identity.started,
            config_digest: identity.measured.digest.to_vec(),
            production_anchors: self.production_anchors,
            unsealed: identity.measured.unsealed.iter().map(ToString::to_string).collect(),
            listening: self.listening.clone(),
        }))
    }
}

struct Service {
    attester: Arc<Attester>,
    maa: Maa,
}

#[tonic::async_trait]
impl Attest for Service {
    async fn get_evidence(
        &self,
        request: Request<EvidenceRequest>,
    ) -> Result<Response<EvidenceReply>, Status> {
        let purpose = request.into_inner().purpose;
        let reply = self.evidence(purpose).await.map_err(|failure| status(&failure))?;
        Ok(Response::new(reply))
    }

    async fn prove_channels(
        &self,
        request: Request<ProveChannelsRequest>,
    ) -> Result<Response<ProveChannelsReply>, Status> {
        let channels = request.into_inner().channels;
        let reply = self.channels(&channels).await.map_err(|failure| status(&failure))?;
        Ok(Response::new(reply))
    }

    async fn get_token(
        &self,
        request: Request<TokenRequest>,
    ) -> Result<Response<TokenReply>, Status> {
        let reply = self.token(request.into_inner()).await.map_err(|failure| status(&failure))?;
        Ok(Response::new(reply))
    }

    async fn get_compatible_report(
        &self,
        request: Request<CompatibleReportRequest>,
    ) -> Result<Response<CompatibleReportReply>, Status> {
        let runtime_data = runtime_data::compatible(request.into_inner().runtime_data);
        let runtime_data = runtime_data.map_err(|error| status(&error.into()))?;
        let endorsed = self.attester.over(&runtime_data).await;
        let endorsed = endorsed.map_err(|error| status(&error.into()))?;
        Ok(Response::new(CompatibleReportReply {
            report: endorsed.report.as_bytes().to_vec(),
            certificates: endorsed.endorsements.pem.clone(),
            endorsed_tcb: endorsed.endorsements.tcbm.clone(),
            uvm_endorsements: self.attester.uvm_base64().unwrap_or_default().to_owned(),
        }))
    }
}

impl Service {
    async fn evidence(&self, purpose: Option<Purpose>) -> Result<EvidenceReply, Failure> {
        let binding = match purpose.ok_or(Malformed("purpose"))? {
            Purpose::TlsCertificate(fields) => {
                let spki_sha256 = array(&fields.spki_sha256, "spki_sha256")?;
                let evidence = self.attester.certificate(&spki_sha256, fields.not_after).await?;
                return Ok(reply(evidence, None));
            }
            Purpose::ClientChannel(fields) => Binding::ClientChannel {
                nonce: array(&fields.nonce, "nonce")?,
                exporter: array(&fields.exporter, "exporter")?,
                server_spki_sha256: array(&fields.server_spki_sha256, "server_spki_sha256")?,
                key_id_sha256: array(&fields.key_id_sha256, "key_id_sha256")?,
            },
            Purpose::LogKey(fields) => {
                if fields.public_key.is_empty() || fields.public_key.len() > MAX_LOG_KEY {
                    return Err(Malformed("public_key").into());
                }
                Binding::LogKey {
                    boot_id: array(&fields.boot_id, "boot_id")?,
                    recipients_sha256: array(&fields.recipients_sha256, "recipients_sha256")?,
                    public_key: fields.public_key,
                }
            }
        };
        let (evidence, inclusions) = self.attester.prove(&[binding]).await?;
        Ok(reply(evidence, inclusions.first()))
    }

    async fn channels(&self, channels: &[TlsChannel]) -> Result<ProveChannelsReply, Failure> {
        if channels.is_empty() || channels.len() > MAX_CHANNELS {
            return Err(Malformed("channels").into());
        }
        let bindings: Vec<Binding> =
            channels.iter().map(tls_channel).collect::<Result<_, Malformed>>()?;
        let (evidence, inclusions) = self.attester.prove(&bindings).await?;
        Ok(ProveChannelsReply {
            evidence: Some(parts(evidence)),
            inclusions: inclusions.iter().map(place).collect(),
        })
    }

    /// The request that goes to MAA is worth having even if MAA gives no token: a client may send it there.
    async fn token(&self, request: TokenRequest) -> Result<TokenReply, Failure> {
        let instance = self.maa.instance(&request.maa_endpoint)?;
        let agent = Some(request.user_agent).filter(|agent| !agent.is_empty());
        let agent = agent.map(|agent| agent.parse()).transpose();
        let agent = agent.map_err(|_| Malformed("user_agent"))?;
        let ours = !matches!(request.runtime, Some(Runtime::Compatible(_)));
        let runtime_data = runtime_data::of(request.runtime)?;
        let endorsed = self.attester.over(&runtime_data).await?;
        let question = Question::new(&endorsed, self.attester.uvm(), runtime_data, ours);
        let reply = match self.maa.token(&instance, &question, agent).await {
            Ok(token) => TokenReply { token, ..Default::default() },
            Err(why) => why.told(),
        };
        Ok(TokenReply {
            request: question.body.to_vec(),
            report: endorsed.report.as_bytes().to_vec(),
            maa_endpoint: instance.as_str().trim_end_matches('/').to_owned(),
            ..reply
        })
    }
}

fn tls_channel(fields: &TlsChannel) -> Result<Binding, Malformed> {
    Ok(Binding::TlsChannel {
        nonce: array(&fields.nonce, "nonce")?,
        exporter: array(&fields.exporter, "exporter")?,
        spki_sha256: array(&fields.spki_sha256, "spki_sha256")?,
        certificate_sha256: array(&fields.certificate_sha256, "certificate_sha256")?,
        manifest_sha256: array(&fields.manifest_sha256, "manifest_sha256")?,
    })
}

fn reply(evidence: Evidence, inclusion: Option<&Inclusion>) -> EvidenceReply {
    EvidenceReply { evidence: Some(parts(evidence)), inclusion: inclusion.map(place) }
}

fn parts(evidence: Evidence) -> proto::attest::Evidence {
    let Evidence { report, vek, chain, crl, uvm, cce_policy } = evidence;
    proto::attest::Evidence {
        report,
        vek,
        chain: chain.unwrap_or_default(),
        crl: crl.unwrap_or_default(),
        uvm: uvm.unwrap_or_default(),
        cce_policy: cce_policy.unwrap_or_default(),
    }
}

fn place(inclusion: &Inclusion) -> proto::attest::Inclusion {
    proto::attest::Inclusion {
        index: inclusion.index,
        size: inclusion.size,
        path: inclusion.path.iter().map(|hash| hash.to_vec()).collect(),
    }
}
