//! The role, running, in a simulated world, and what the tests ask it.

use std::path::PathBuf;
use std::time::Duration;

use attest_sidecar::AttestSidecar;
use attestation::merkle::Inclusion;
use attestation::policy::Hex;
use attestation::{
    Anchors, Evidence, Expect, Policy, ReportData, appraise, binding, danger, verify,
};
use proto::attest::attest_client::AttestClient;
use proto::attest::evidence_request::Purpose;
use proto::attest::{
    EvidenceReply, EvidenceRequest, ProveChannelsReply, ProveChannelsRequest, TlsCertificate,
    TlsChannel,
};
use service::env::Environment;
use service::{Process, Role, Shutdown};
use sim::pki::amd::AmdAuthority;
use sim::tcb::Product;
use sim::world::{Group, HttpsConfig, World, WorldConfig};
use tempfile::TempDir;
use tonic::transport::Channel;

/// The longest that something is waited for which happens in the background.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The role, running, in a world with one machine and an attestation service.
pub(crate) struct Bench {
    folder: TempDir,
    pub(crate) world: World,
    pub(crate) client: AttestClient<Channel>,
    shutdown: Shutdown,
    serving: tokio::task::JoinHandle<()>,
}

impl Bench {
    /// With the sources that the platform itself has.
    pub(crate) async fn start() -> Self {
        Self::with("context,thim", |_| {}, |_| {}).await
    }

    /// With these sources, a changed world, and faults from before the role's first question.
    pub(crate) async fn with(
        sources: &str,
        change: impl FnOnce(&mut WorldConfig),
        prepare: impl FnOnce(&World),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = WorldConfig::new(folder.path().join("world"));
        config.state = Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("simulated-keys"));
        config.vault = None;
        config.model = None;
        config.kds = Some(HttpsConfig::default());
        change(&mut config);
        let world = World::start(config).await.unwrap();
        prepare(&world);
        let kds = world.kds().unwrap().url.clone();
        let group = world.groups().first().unwrap();
        let listen = format!("unix:{}", folder.path().join("attest.sock").display());
        let environment: Environment = [
            ("ATTEST_LISTEN", listen.clone()),
            ("ATTEST_DEVICE", format!("socket:{}", group.device_path().display())),
            ("ATTEST_THIM_URL", format!("{}/metadata/THIM/amd/certification", group.imds_url())),
            ("ATTEST_CERTIFICATE_SOURCES", sources.to_owned()),
            ("ATTEST_AZURE_CACHE_URL", kds.clone()),
            ("ATTEST_KDS_URL", kds),
            ("MAA_ENDPOINT", world.maa().unwrap().url.clone()),
            ("UVM_SECURITY_CONTEXT_DIR", group.context_dir().display().to_string()),
            ("SSL_CERT_FILE", world.folder().join("tls-ca.pem").display().to_string()),
            ("LOG_SEALER", "off".to_owned()),
        ]
        .into_iter()
        .collect();
        let (config, process) = Process::embedded::<AttestSidecar>(&environment).await.unwrap();
        let shutdown = process.shutdown.clone();
        let serving = tokio::spawn(async move {
            AttestSidecar::serve(config, process).await.unwrap();
        });
        let client = AttestClient::new(service::grpc::channel(&listen.parse().unwrap()));
        let bench = Self { folder, world, client, shutdown, serving };
        bench.until_listening().await;
        bench
    }

    async fn until_listening(&self) {
        let socket = self.folder.path().join("attest.sock");
        let connects = async {
            while tokio::net::UnixStream::connect(&socket).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), connects).await.unwrap();
    }

    pub(crate) fn group(&self) -> &Group {
        self.world.groups().first().unwrap()
    }

    pub(crate) fn anchors(&self) -> Anchors {
        let pem = std::fs::read_to_string(self.world.folder().join("anchors.pem")).unwrap();
        danger::Anchors::from_pem(&pem).unwrap()
    }

    pub(crate) fn policy(&self) -> Policy {
        let host_data = Expect::Value(vec![Hex(*self.group().host_data())]);
        let minimum_tcb = Expect::unchecked("these machines are rolled back on purpose");
        Policy { minimum_tcb, ..Policy::for_host_data(host_data) }
    }

    pub(crate) async fn evidence(&self, purpose: Purpose) -> Result<EvidenceReply, tonic::Status> {
        let request = EvidenceRequest { purpose: Some(purpose) };
        Ok(self.client.clone().get_evidence(request).await?.into_inner())
    }

    /// Evidence for connections.
    pub(crate) async fn prove(
        &self,
        channels: Vec<TlsChannel>,
    ) -> Result<ProveChannelsReply, tonic::Status> {
        let request = ProveChannelsRequest { channels };
        Ok(self.client.clone().prove_channels(request).await?.into_inner())
    }

    /// Evidence for a certificate is genuine, acceptable and bound; says its reported TCB.
    pub(crate) async fn holds(&self) -> [u8; 8] {
        let purpose =
            Purpose::TlsCertificate(TlsCertificate { spki_sha256: vec![3; 32], not_after: 77 });
        let reply = self.evidence(purpose).await.unwrap();
        let verified = verify(&evidence(reply.evidence.as_ref()), &self.anchors(), now())
            .unwrap_or_else(|rejected| {
                panic!("{rejected}: {:#?}", rejected.failures().collect::<Vec<_>>())
            });
        let reported = verified.value().report.reported_tcb();
        let bound = Expect::Value(binding::tls_certificate(&[3; 32], 77));
        let appraised = appraise(verified, &self.policy(), &bound).ok().unwrap();
        assert_eq!(appraised.endorsement().unwrap().value().svn, 104);
        reported
    }

    /// Evidence is complete, genuine to whoever believes this world, and to nobody else, and says this.
    pub(crate) fn covers(&self, evidence: &Evidence, report_data: &ReportData) {
        assert!(evidence.uvm.is_some() && evidence.cce_policy.is_some());
        let verified = verify(evidence, &self.anchors(), now()).unwrap();
        assert!(appraise(verified, &self.policy(), &Expect::Value(*report_data)).is_ok());
        let rejected = verify(evidence, &Anchors::production(), now()).err().unwrap();
        assert_eq!(rejected.failures().next().unwrap().check.id, "C1");
    }

    pub(crate) async fn stop(self) {
        self.shutdown.fire();
        self.serving.await.unwrap();
        self.world.stop().await;
    }
}

pub(crate) fn now() -> u64 {
    service::clock::unix_now()
}

pub(crate) fn evidence(parts: Option<&proto::attest::Evidence>) -> Evidence {
    let parts = parts.unwrap().clone();
    let optional = |bytes: Vec<u8>| (!bytes.is_empty()).then_some(bytes);
    Evidence {
        report: parts.report,
        vek: parts.vek,
        chain: optional(parts.chain),
        crl: optional(parts.crl),
        uvm: optional(parts.uvm),
        cce_policy: optional(parts.cce_policy),
    }
}

pub(crate) fn inclusion(place: &proto::attest::Inclusion) -> Inclusion {
    let path = place.path.iter().map(|hash| hash.as_slice().try_into().unwrap()).collect();
    Inclusion { index: place.index, size: place.size, path }
}

pub(crate) fn channel() -> TlsChannel {
    TlsChannel {
        nonce: vec![1; 32],
        exporter: vec![2; 32],
        spki_sha256: vec![3; 32],
        certificate_sha256: vec![4; 32],
        manifest_sha256: vec![5; 32],
    }
}

/// Has the keys of the other world searched for before anything waits for them.
pub(crate) fn foreign_keys(world: &World) {
    AmdAuthority::derive(&world.foundation().foreign(), Product::Milan).unwrap();
}

/// Repeats until it is so. What it waits for happens in the background and tells nobody.
pub(crate) async fn until<F: Future<Output = bool>>(so: impl Fn() -> F) {
    let repeated = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, repeated).await.unwrap();
}
