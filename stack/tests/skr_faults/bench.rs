//! A simulated world, `attest-sidecar` and `skr-sidecar` in this process, and a caller of both of its protocols.

use std::path::PathBuf;
use std::time::Duration;

use attest_sidecar::AttestSidecar;
use http::StatusCode;
use proto::info::GetInfoRequest;
use proto::info::info_client::InfoClient;
use proto::key_provider::key_provider_service_client::KeyProviderServiceClient;
use proto::skr::ReleaseKeyRequest;
use proto::skr::skr_client::SkrClient;
use serde_json::{Value, json};
use service::env::Environment;
use service::outbound::{Call, Limits, Outbound, OutboundError};
use service::roots::Roots;
use service::{Process, Role, Shutdown};
use sim::vault::Service;
use sim::world::{World, WorldConfig};
use skr_sidecar::SkrSidecar;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Channel;

/// Longer than any answer may take: the role's own deadlines are shorter.
const PATIENCE: Duration = Duration::from_secs(90);

/// Everything, running.
pub(crate) struct Bench {
    pub(crate) world: World,
    folder: TempDir,
    shutdowns: Vec<Shutdown>,
    serving: Vec<JoinHandle<()>>,
    keys: SkrClient<Channel>,
    /// The reference's own service.
    pub(crate) provider: KeyProviderServiceClient<Channel>,
    http: String,
    caller: Outbound,
}

/// What a failure must look like, over both protocols.
pub(crate) struct Told<'a> {
    pub(crate) code: Code,
    /// Fragments of its text: the party, the step and the cause.
    pub(crate) fragments: &'a [&'a str],
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::start_in(|_| {}).await
    }

    /// In a world that is changed before the roles are started.
    pub(crate) async fn start_in(prepare: impl FnOnce(&World)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = WorldConfig::new(folder.path().join("world"));
        config.state = Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("simulated-keys"));
        config.model = None;
        config.vault.as_mut().unwrap().keys = keys();
        let world = World::start(config).await.unwrap();
        prepare(&world);
        let path = |name: &str| folder.path().join(name).display().to_string();
        let attest = format!("unix:{}", path("attest.sock"));
        let roots = world.folder().join("tls-ca.pem").display().to_string();
        let (maa, vault) = (world.maa().unwrap().url.clone(), world.vault().unwrap().url.clone());
        let group = world.groups().first().unwrap();
        let attest_variables = [
            ("ATTEST_LISTEN", attest.clone()),
            ("ATTEST_DEVICE", format!("socket:{}", group.device_path().display())),
            ("ATTEST_THIM_URL", format!("{}/metadata/THIM/amd/certification", group.imds_url())),
            ("ATTEST_CERTIFICATE_SOURCES", "context,thim".to_owned()),
            ("MAA_ENDPOINT", maa.clone()),
            ("UVM_SECURITY_CONTEXT_DIR", group.context_dir().display().to_string()),
            ("SSL_CERT_FILE", roots.clone()),
            ("LOG_SEALER", "off".to_owned()),
        ];
        let skr_variables = [
            ("SKR_LISTEN", format!("unix:{}", path("skr.sock"))),
            ("SKR_HTTP_LISTEN", "127.0.0.1:0".to_owned()),
            ("SKR_IDENTITY_ENDPOINT", group.imds_url()),
            ("KEY_VAULT_URL", vault),
            ("MAA_ENDPOINT", maa),
            ("ATTEST_SIDECAR", attest),
            ("SSL_CERT_FILE", roots),
            ("LOG_SEALER", "off".to_owned()),
        ];
        let (_, attest_stop, attest_serving) = serve::<AttestSidecar>(&attest_variables).await;
        let (channel, skr_stop, skr_serving) = serve::<SkrSidecar>(&skr_variables).await;
        let http = listening(&channel).await;
        let limits = Limits { deadline: PATIENCE, attempt: PATIENCE, ..Limits::default() };
        Self {
            world,
            folder,
            shutdowns: vec![skr_stop, attest_stop],
            serving: vec![skr_serving, attest_serving],
            keys: SkrClient::new(channel.clone()),
            provider: KeyProviderServiceClient::new(channel),
            http,
            caller: Outbound::new("skr-sidecar", &Roots::public(), limits),
        }
    }

    /// A release over HTTP, with the caller's own access token if there is one.
    pub(crate) async fn release(&self, access_token: &str) -> Result<Value, (StatusCode, String)> {
        let host = |url: &str| url.trim_start_matches("https://").to_owned();
        let body = json!({
            "maa_endpoint": host(&self.world.maa().unwrap().url),
            "akv_endpoint": host(&self.world.vault().unwrap().url),
            "kid": "key",
            "access_token": access_token,
        });
        self.post("/key/release", &body).await
    }

    /// A token about a caller's own bytes.
    pub(crate) async fn maa(&self) -> Result<Value, (StatusCode, String)> {
        let host = self.world.maa().unwrap().url.trim_start_matches("https://").to_owned();
        let body = json!({"maa_endpoint": host, "runtime_data": "e30="});
        self.post("/attest/maa", &body).await
    }

    /// What a route answers, or its status and the text of its error.
    pub(crate) async fn post(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<Value, (StatusCode, String)> {
        let url = format!("{}{path}", self.http).parse().unwrap();
        match self.caller.once(&Call::post_json(url, body.to_string().into())).await {
            Ok(answer) => Ok(serde_json::from_slice(&answer.body).unwrap()),
            Err(OutboundError::Refused { status, excerpt, .. }) => {
                let error: Value = serde_json::from_str(&excerpt).unwrap();
                Err((status, error["error"].as_str().unwrap().to_owned()))
            }
            Err(other) => panic!("{}", service::chain(&other)),
        }
    }

    async fn release_by_grpc(&self) -> Result<(), tonic::Status> {
        let request = ReleaseKeyRequest { kid: "key".to_owned(), ..Default::default() };
        let mut keys = self.keys.clone();
        tokio::time::timeout(PATIENCE, keys.release_key(request)).await.unwrap().map(drop)
    }

    /// Both protocols fail as told, and tell no secret. Both at once: a party that stalls is waited for to the end.
    pub(crate) async fn fails(&self, what: &str, access_token: &str, told: &Told<'_>) {
        let (by_http, by_grpc) = tokio::join!(self.release(access_token), self.release_by_grpc());
        let Err((status, text)) = by_http else { panic!("{what}: a key was released") };
        assert_eq!(status, StatusCode::FORBIDDEN, "{what}: {text}");
        assert!(text.starts_with("secure key release failed\n"), "{what}: {text}");
        tells(what, &text, told);
        let Err(status) = by_grpc else { panic!("{what}: a key was released by gRPC") };
        assert_eq!(status.code(), told.code, "{what}: {}", status.message());
        tells(what, status.message(), told);
    }

    /// The role is alive: it says so, and the next good release is fine.
    pub(crate) async fn is_fine(&self, what: &str, access_token: &str) {
        let status = Call::get(format!("{}/status", self.http).parse().unwrap());
        assert!(self.caller.once(&status).await.is_ok(), "{what}");
        let released = self.release(access_token).await;
        let key = released.unwrap_or_else(|(status, text)| panic!("{what}: {status} {text}"));
        let jwk: Value = serde_json::from_str(key["key"].as_str().unwrap()).unwrap();
        assert_eq!(jwk["kty"], "EC", "{what}");
    }

    /// An access token of the group's own identity, as a caller may have one.
    pub(crate) fn callers_token(&self) -> String {
        self.world.access_token("group", Service::KeyVault).unwrap()
    }

    pub(crate) async fn stop(self) {
        self.shutdowns.iter().for_each(Shutdown::fire);
        for serving in self.serving {
            tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap();
        }
        self.world.stop().await;
        drop(self.folder);
    }
}

/// A text names the party, the step and the cause, and holds nothing that could be a token, a nonce or a key: no long
/// word of base64.
pub(crate) fn tells(what: &str, text: &str, told: &Told<'_>) {
    for fragment in told.fragments {
        assert!(text.contains(fragment), "{what}: {fragment:?} is not in {text}");
    }
    assert!(!text.contains("eyJ"), "{what}: {text}");
    let of_base64 =
        |character: char| character.is_ascii_alphanumeric() || "-_+=".contains(character);
    let longest = text.split(|character| !of_base64(character)).map(str::len).max();
    assert!(longest < Some(40), "{what}: {text}");
}

/// Two keys, for the fault that swaps them.
fn keys() -> Vec<sim::vault::KeySpec> {
    let policy = json!({
        "version": "1.0.0",
        "anyOf": [{
            "authority": "${MAA}",
            "allOf": [{"claim": "x-ms-sevsnpvm-hostdata", "equals": "${HOST_DATA}"}],
        }],
    });
    let key = |name: &str| json!({"name": name, "kty": "EC-HSM", "crv": "P-256", "release_policy": policy});
    serde_json::from_value(json!([key("key"), key("other")])).unwrap()
}

async fn serve<R: Role + 'static>(
    variables: &[(&str, String)],
) -> (Channel, Shutdown, JoinHandle<()>) {
    let environment: Environment = variables.iter().cloned().collect();
    let (config, process) = Process::embedded::<R>(&environment).await.unwrap();
    let (shutdown, channel) =
        (process.shutdown.clone(), service::grpc::channel(R::health(&config).address()));
    let serving = tokio::spawn(async move { R::serve(config, process).await.unwrap() });
    (channel, shutdown, serving)
}

/// Where the role answers HTTP, as soon as it does.
async fn listening(channel: &Channel) -> String {
    let asked = async {
        loop {
            match InfoClient::new(channel.clone()).get(GetInfoRequest {}).await {
                Ok(info) => break format!("http://{}", info.into_inner().listening["http"]),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap()
}
