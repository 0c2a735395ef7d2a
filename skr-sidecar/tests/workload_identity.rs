//! Workload identities: a pod's assertion for a token, at the measured authority and nowhere else.

#![expect(clippy::unwrap_used, reason = "a test ends when its world fails")]

mod world;

use std::path::PathBuf;

use http::header::AUTHORIZATION;
use serde_json::json;
use service::Process;
use service::env::Environment;
use sim::faults::IdentityFault;
use sim::identity::VAULT_RESOURCE;
use sim::jose::Jws;
use sim::world::{HttpsConfig, World as SimulatedWorld, WorldConfig};
use skr_sidecar::SkrSidecar;

use world::World;
use world::client::Answer;
use world::http::{answer, serve};
use world::release::{oct_key, release};

/// The role between fakes, with a simulated authority and the file that the cluster projects.
struct Pod {
    folder: tempfile::TempDir,
    entra: SimulatedWorld,
    world: World,
}

impl Pod {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = WorldConfig::new(folder.path().join("world"));
        config.state = Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("simulated-keys"));
        (config.maa, config.vault, config.model) = (None, None, None);
        config.entra = Some(HttpsConfig::default());
        let entra = SimulatedWorld::start(config).await.unwrap();
        let authority = entra.entra().unwrap().running.url.clone();
        let ca = std::fs::read_to_string(entra.folder().join("tls-ca.pem")).unwrap();
        let mut variables = variables(&folder, authority);
        let identity = entra.groups().first().unwrap().identities().first().unwrap();
        variables.push(("AZURE_CLIENT_ID".to_owned(), identity.client_id.clone()));
        let tenant = entra.foundation().provider().tenant().to_owned();
        variables.push(("AZURE_TENANT_ID".to_owned(), tenant));
        let world = World::start_believing(&ca, |vault| {
            variables.push(("KEY_VAULT_URL".to_owned(), format!("https://{vault}")));
            variables
        })
        .await;
        world.vault.hold(oct_key());
        let pod = Self { folder, entra, world };
        pod.project(0);
        pod
    }

    /// Projects the pod's assertion, made this many seconds ago. Says what it is.
    fn project(&self, age: u64) -> String {
        let name = self.entra.groups().first().unwrap().name();
        let entra = self.entra.entra().unwrap();
        let assertion = entra.cluster.assertion(name, sim::clock::now() - age).unwrap();
        std::fs::write(self.folder.path().join("token"), format!("{assertion}\n")).unwrap();
        assertion
    }

    async fn release(&self) -> Answer {
        release(&self.world).await
    }
}

fn variables(folder: &tempfile::TempDir, authority: String) -> Vec<(String, String)> {
    let file = folder.path().join("token").display().to_string();
    let pairs = [("AZURE_FEDERATED_TOKEN_FILE", file), ("AZURE_AUTHORITY_HOST", authority)];
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

const FAILED: &str = "secure key release failed\ndocs/how-to/skr-sidecar.md says what to do about each cause; this one \
                      is: retrieving authentication token using workload identity failed: failed to acquire access \
                      token: ";

#[tokio::test]
async fn the_vault_gets_a_token_of_the_pod_which_is_kept() {
    let pod = Pod::start().await;
    for _ in 0..2 {
        let answer = pod.release().await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    for request in pod.world.vault.requests() {
        let token = request.headers()[AUTHORIZATION].to_str().unwrap();
        let claims = Jws::parse(token.strip_prefix("Bearer ").unwrap()).unwrap().payload;
        assert_eq!(claims["aud"], VAULT_RESOURCE);
    }
    assert_eq!(pod.entra.entra().unwrap().calls.get(), 1);
    assert!(pod.world.identity.requests().is_empty(), "there is no managed identity to ask");
}

#[tokio::test]
async fn an_authority_that_refuses_is_named_and_the_next_token_is_fine() {
    let pod = Pod::start().await;
    let stale = pod.project(7200);
    let answer = pod.release().await;
    assert_eq!(answer.status, 403);
    let error = answer.error();
    assert!(error.starts_with(FAILED), "{error}");
    assert!(error.contains("the authority refused: "), "{error}");
    assert!(error.contains("AADSTS700024"), "{error}");
    assert!(error.contains("http response status equal to 401 Unauthorized"), "{error}");
    assert!(!error.contains(&stale), "{error}");

    std::fs::write(pod.folder.path().join("token"), "no token\n").unwrap();
    let error = pod.release().await.error();
    assert!(error.ends_with("holds no token of at most 16384 characters"), "{error}");
    std::fs::remove_file(pod.folder.path().join("token")).unwrap();
    let error = pod.release().await.error();
    assert!(error.contains("AZURE_FEDERATED_TOKEN_FILE cannot be read: "), "{error}");
    assert!(pod.world.vault.requests().is_empty(), "the vault is asked with a token only");

    pod.project(0);
    pod.entra.entra().unwrap().running.faults.once(IdentityFault::ServerError);
    assert_eq!(
        pod.release().await.status,
        200,
        "what may pass is tried again, and the file read again"
    );
}

/// The configuration comes from the network: it must not send the assertion elsewhere.
#[tokio::test]
async fn an_assertion_goes_to_the_authority_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "assertion.of.the-pod").unwrap();
    let vault = world::vault::FakeVault::start().await;
    for endpoint in
        ["https://evil.test/token", "http://127.0.0.1/token", "https://u:p@127.0.0.1/", "token", ""]
    {
        let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let hears = heard.clone();
        let authority = serve(Some(vault.tls()), move |request: http::Request<bytes::Bytes>| {
            hears.lock().unwrap().push(request.uri().to_string());
            std::future::ready(answer(200, json!({"token_endpoint": endpoint}).to_string()))
        })
        .await;
        let world = World::start_believing(vault.authority(), |vault| {
            let mut variables = variables(&folder, format!("https://{authority}/"));
            for (name, value) in [
                ("AZURE_CLIENT_ID", "a-b"),
                ("AZURE_TENANT_ID", "tenant"),
                ("KEY_VAULT_URL", &format!("https://{vault}")),
            ] {
                variables.push((name.to_owned(), value.to_owned()));
            }
            variables
        })
        .await;
        let error = release(&world).await.error();
        let named =
            "the authority's OpenID configuration names no token endpoint at AZURE_AUTHORITY_HOST";
        assert_eq!(error, format!("{FAILED}{named}"), "{endpoint}");
        assert_eq!(*heard.lock().unwrap(), ["/tenant/v2.0/.well-known/openid-configuration"]);
    }
}

#[tokio::test]
async fn half_a_workload_identity_is_none() {
    let (id, tenant, file) = (
        ("AZURE_CLIENT_ID", "a-b"),
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/token"),
    );
    for (given, missing) in [
        (vec![id, tenant], vec![file.0]),
        (vec![id, file], vec![tenant.0]),
        (vec![tenant, file], vec![id.0]),
        (vec![tenant], vec![id.0, file.0]),
    ] {
        let environment: Environment = given.iter().copied().collect();
        let problems = Process::embedded::<SkrSidecar>(&environment).await.err().unwrap();
        let problems = problems.to_string();
        assert_eq!(problems.lines().count(), missing.len(), "{problems}");
        for name in missing {
            assert!(problems.contains(&format!("{name}: is needed for a workload")), "{problems}");
        }
    }
    for whole in [vec![], vec![id], vec![id, tenant, file]] {
        let environment: Environment = whole.iter().copied().collect();
        assert!(Process::embedded::<SkrSidecar>(&environment).await.is_ok());
    }
}
