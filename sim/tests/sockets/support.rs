//! What the socket tests share: a world, HTTP and device clients, evidence and its request.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use rsa::{RsaPrivateKey, RsaPublicKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sim::device::message::{REPORT_OFFSET, REQUEST_LEN, RESPONSE_LEN};
use sim::encoding::{b64u, from_b64};
use sim::jose;
use sim::pki::KeyRing;
use sim::seed::Seed;
use sim::world::{Group, World, WorldConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Longest that anything is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Longest answer that is read.
const MAX_ANSWER: usize = 1024 * 1024;

/// The cache of derived keys, in the build directory.
pub(crate) fn state() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/sim-state")
}

/// The folder of recorded vectors; `None`, with a notice, when it is missing and not required.
pub(crate) fn vectors() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a test reads where its vectors lie")]
    let (folder, required) =
        (std::env::var_os("VECTORS_DIR"), std::env::var_os("VECTORS_REQUIRED"));
    let folder = folder.map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"),
        PathBuf::from,
    );
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(required.is_none(), "no vectors in {}", folder.display());
    println!("skipped: no vectors in {}", folder.display());
    None
}

/// A running world with the folder that it lives in.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) client: reqwest::Client,
    _folder: TempDir,
}

/// Starts the default world after `change` had a look at its configuration.
pub(crate) async fn stage(change: impl FnOnce(&mut WorldConfig)) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let mut config = WorldConfig::new(folder.path());
    config.state = Some(state());
    config.groups.iter_mut().for_each(|group| group.time_per_report = Duration::ZERO);
    change(&mut config);
    let world = World::start(config).await.unwrap();
    let client = client(&world);
    Stage { world, client, _folder: folder }
}

/// A client that trusts the world's one root.
fn client(world: &World) -> reqwest::Client {
    let tls = sim::http::tls::client(world.foundation().tls.root()).unwrap();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}: {}", self.status, String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// `error.code` and `error.message`.
    pub(crate) fn error(&self) -> (String, String) {
        let error = &self.json()["error"];
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        (text("code"), text("message"))
    }
}

impl Stage {
    pub(crate) async fn get(&self, url: &str) -> Answer {
        self.send(Method::GET, url, &[], None).await.unwrap()
    }

    pub(crate) async fn post(&self, url: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send(Method::POST, url, headers, Some(body)).await.unwrap()
    }

    pub(crate) async fn post_form(&self, url: &str, form: String) -> Answer {
        let request = self.client.post(url).body(form);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        read(request.send().await.unwrap()).await.unwrap()
    }

    /// Sends a request; an answer that breaks off, or is longer than a mebibyte, is an error.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, String> {
        let mut request = self.client.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        read(request.send().await.map_err(|error| error.to_string())?).await
    }

    pub(crate) fn group(&self) -> &Group {
        &self.world.groups()[0]
    }
}

pub(crate) async fn read(mut response: reqwest::Response) -> Result<Answer, String> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Err("too long".to_owned());
        }
    }
    Ok(Answer { status, headers, body })
}

/// One request to a device: status, and the report when there is one.
pub(crate) async fn ask_device(
    stream: &mut UnixStream,
    request: &[u8; REQUEST_LEN],
) -> (u32, Vec<u8>) {
    stream.write_all(request).await.unwrap();
    let mut response = [0; RESPONSE_LEN];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut response)).await.unwrap().unwrap();
    let number = |at: usize| u32::from_le_bytes(response[at..at + 4].try_into().unwrap());
    let size = usize::try_from(number(4)).unwrap();
    (number(0), response[REPORT_OFFSET..REPORT_OFFSET + size].to_vec())
}

/// MSG_REPORT_REQ.
pub(crate) fn device_request(report_data: &[u8]) -> [u8; REQUEST_LEN] {
    let mut request = [0; REQUEST_LEN];
    request[..report_data.len()].copy_from_slice(report_data);
    request
}

/// A report of the group over `report_data`.
pub(crate) async fn report(group: &Group, report_data: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(group.device_path()).await.unwrap();
    let (status, report) = ask_device(&mut stream, &device_request(report_data)).await;
    assert_eq!(status, 0);
    report
}

/// One file of the group's security context, decoded.
pub(crate) fn context_file(group: &Group, name: &str) -> Vec<u8> {
    from_b64(&std::fs::read_to_string(group.context_dir().join(name)).unwrap()).unwrap()
}

/// The parts of an attestation request, for tests to spoil.
pub(crate) struct Evidence {
    pub(crate) report: Vec<u8>,
    pub(crate) chain: String,
    pub(crate) endorsement: Option<Vec<u8>>,
    pub(crate) runtime_data: Vec<u8>,
    pub(crate) nonce: Value,
}

impl Evidence {
    /// Genuine evidence over `runtime_data`.
    pub(crate) async fn of(group: &Group, runtime_data: &[u8]) -> Self {
        let host: Value =
            serde_json::from_slice(&context_file(group, "host-amd-cert-base64")).unwrap();
        let pem = |name: &str| host[name].as_str().unwrap().to_owned();
        Self {
            report: report(group, &Sha256::digest(runtime_data)).await,
            chain: pem("vcekCert") + &pem("certificateChain"),
            endorsement: Some(context_file(group, "reference-info-base64")),
            runtime_data: runtime_data.to_vec(),
            nonce: json!(7_394_904_505_194_784_658_u64),
        }
    }

    /// The body of `POST /attest/SevSnpVm`, nested as Microsoft's sidecar nests it.
    pub(crate) fn body(&self) -> Value {
        let mut inner =
            json!({"SnpReport": b64u(&self.report), "VcekCertChain": b64u(self.chain.as_bytes())});
        if let Some(endorsement) = &self.endorsement {
            let endorsements = json!({"Uvm": [b64u(endorsement)]}).to_string();
            inner["Endorsements"] = json!(b64u(endorsements.as_bytes()));
        }
        json!({
            "report": b64u(inner.to_string().as_bytes()),
            "runtimeData": {"data": b64u(&self.runtime_data), "dataType": "JSON"},
            "initTimeData": {"data": "", "dataType": ""},
            "nonce": self.nonce,
        })
    }
}

/// A key for wrapping, and the runtime data that carries it.
pub(crate) fn wrapping_key() -> (RsaPrivateKey, Vec<u8>) {
    let key = KeyRing::new(Seed::new("tests"), Some(state())).rsa("wrapping", 2048).unwrap();
    let mut jwk = jose::rsa_jwk(&RsaPublicKey::from(&key));
    jwk.insert("kid".to_owned(), json!("test-kek"));
    jwk.insert("key_ops".to_owned(), json!(["encrypt"]));
    (key, json!({"keys": [jwk]}).to_string().into_bytes())
}

/// A token of the world's attestation service over `runtime_data`.
pub(crate) async fn token(stage: &Stage, group: &Group, runtime_data: &[u8]) -> String {
    let evidence = Evidence::of(group, runtime_data).await;
    let answer = stage.post(&attest_url(stage), &[], &evidence.body()).await;
    answer.json()["token"].as_str().unwrap().to_owned()
}

pub(crate) fn attest_url(stage: &Stage) -> String {
    let maa = stage.world.maa().unwrap();
    format!("{}/attest/SevSnpVm?api-version=2022-08-01", maa.url)
}
