//! The role as a process: who it says it is, what stops it, and what keeps it from starting.

mod world;

use service::env::{Class, Environment, Var};
use service::{Process, Role as _};
use skr_sidecar::SkrSidecar;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use world::attest::Mood;
use world::client::get;
use world::{Role, World};

#[tokio::test]
async fn it_says_who_it_is_and_that_it_is_ready() {
    let world = World::start().await;
    let info = &world.role.info;
    assert_eq!(info.role, "skr-sidecar");
    assert_eq!(info.boot_id.len(), 32);
    assert_eq!(info.config_digest.len(), 32);
    assert!(!info.production_anchors, "its roots come from a file");
    assert!(info.listening["grpc"].starts_with("unix:/"));
    assert_ne!(world.role.http().port(), 0);

    let mut health = HealthClient::new(world.role.channel.clone());
    let answer = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
}

#[tokio::test]
async fn every_variable_that_it_reads_is_measured() {
    let secret = |var: &&Var| var.class == Class::Sealed;
    assert!(SkrSidecar::VARS.iter().find(secret).is_none());
    let digest = |pairs: &[(&str, &str)]| {
        let environment: Environment = pairs.iter().copied().collect();
        async move {
            let (_, process) = Process::embedded::<SkrSidecar>(&environment).await.unwrap();
            process.identity.measured.digest
        }
    };
    let base = digest(&[]).await;
    for (name, value) in [
        ("KEY_VAULT_URL", "https://v.vault.azure.net"),
        ("MAA_ENDPOINT", "https://m.test"),
        ("SKR_VAULT_HOSTS", "a.test"),
        ("SKR_IDENTITY_ENDPOINT", "http://127.0.0.1:1"),
        ("AZURE_CLIENT_ID", "a-b"),
        ("SKR_WRAP_KEYS", "/keys"),
        ("SKR_STATUS", "strict"),
        ("SKR_LISTEN", "off"),
    ] {
        assert_ne!(digest(&[(name, value)]).await, base, "{name}");
    }
}

#[tokio::test]
async fn every_mistake_is_reported_at_once() {
    let wrong = [
        ("SKR_LISTEN", "0.0.0.0:50000"),
        ("SKR_HTTP_LISTEN", "localhost:9000"),
        ("ATTEST_SIDECAR", "10.0.0.1:1"),
        ("KEY_VAULT_URL", "http://v.vault.azure.net"),
        ("MAA_ENDPOINT", "sharedeus.eus.attest.azure.net"),
        ("SKR_VAULT_HOSTS", "a.test,,b.test"),
        ("SKR_IDENTITY_ENDPOINT", "http://169.254.169.254/metadata"),
        ("AZURE_CLIENT_ID", "a&b"),
        ("AZURE_TENANT_ID", "a/b"),
        ("AZURE_FEDERATED_TOKEN_FILE", "token"),
        ("AZURE_AUTHORITY_HOST", "http://login.test"),
        ("OWNER_KID", "keys/owner/1"),
        ("TLS_KID", "https://v.vault.azure.net/keys/tls"),
        ("SKR_WRAP_KEYS", "keys"),
        ("SECRETS_KID", "sealing/1/2"),
        ("STATE_KID", "state key"),
        ("SECRETS_SIGNER", "MFkw"),
        ("SECRETS_GROUP", "a group"),
        ("SECRETS_MIN_VERSION", "0"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
        ("SKR_STATUS", "loose"),
        ("SKR_WRAP", "CKM_RSA_AES_KEY_WRAP"),
        ("SKR_VAULT_HOST", "a.test"),
    ];
    let environment: Environment = wrong.iter().copied().collect();
    let problems = Process::embedded::<SkrSidecar>(&environment).await.err().unwrap().to_string();
    for (name, _) in &wrong[..wrong.len() - 1] {
        assert!(problems.contains(&format!("{name}: ")), "{name}: {problems}");
    }
    assert_eq!(problems.lines().count(), wrong.len(), "{problems}");
    for var in SkrSidecar::VARS.iter().filter(|var| var.class == Class::Measured) {
        assert!(wrong.iter().any(|(name, _)| *name == var.name), "no wrong value of {}", var.name);
    }
    assert!(problems.contains("SKR_VAULT_HOST is not a variable of this role"), "{problems}");
}

async fn problems(pairs: &[(&str, &str)]) -> String {
    let environment: Environment = pairs.iter().copied().collect();
    let read = Process::embedded::<SkrSidecar>(&environment).await;
    read.err().map(|problems| problems.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn one_protocol_at_least_is_answered() {
    let off: Environment =
        [("SKR_LISTEN", "off"), ("SKR_HTTP_LISTEN", "off")].into_iter().collect();
    let problems = Process::embedded::<SkrSidecar>(&off).await.err().unwrap().to_string();
    assert!(problems.contains("nothing would be answered"), "{problems}");
}

/// A reserved key is one of the owner's vault, and has one purpose.
#[tokio::test]
async fn reserved_keys_need_a_vault_and_differ() {
    let alone = problems(&[("OWNER_KID", "owner"), ("TLS_KID", "tls")]).await;
    assert!(alone.contains("OWNER_KID: ") && alone.contains("TLS_KID: "), "{alone}");
    assert!(alone.contains("set KEY_VAULT_URL"), "{alone}");
    let vault = ("KEY_VAULT_URL", "https://v.vault.azure.net");
    let same = problems(&[vault, ("OWNER_KID", "key/1"), ("TLS_KID", "KEY/2")]).await;
    assert!(same.contains("must be another key than OWNER_KID"), "{same}");
    let names = ["OWNER_KID", "TLS_KID", "SECRETS_KID", "STATE_KID"];
    for (at, later) in names.iter().enumerate() {
        for earlier in &names[..at] {
            let same = problems(&[vault, (earlier, "key"), (later, "Key/0a")]).await;
            let why = format!("{later}: must be another key than {earlier}");
            assert!(same.contains(&why), "{same}");
        }
    }
}

/// The literals of sealed secrets stand together, with one place for the envelope.
#[tokio::test]
async fn half_of_the_settings_of_sealed_secrets_are_none() {
    use attestation::encoding::to_b64u;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let signer = to_b64u(&rcgen::PublicKeyData::subject_public_key_info(&key));
    let all = [
        ("KEY_VAULT_URL", "https://v.vault.azure.net"),
        ("SECRETS_KID", "sealing"),
        ("SECRETS_SIGNER", &signer),
        ("SECRETS_GROUP", "here"),
        ("SECRETS_MIN_VERSION", "1"),
        ("SECRETS_FILE", "/secrets/envelope"),
    ];
    let environment: Environment = all.iter().copied().collect();
    assert!(Process::embedded::<SkrSidecar>(&environment).await.is_ok());
    for (name, _) in all {
        let others: Vec<_> = all.iter().copied().filter(|(other, _)| *other != name).collect();
        let said = problems(&others).await;
        let named = if name == "SECRETS_FILE" { "SECRETS_ENVELOPE" } else { name };
        assert!(said.contains(named), "without {name}: {said}");
    }
    let both: Vec<_> = all.into_iter().chain([("SECRETS_ENVELOPE", "a.b.c.d.e")]).collect();
    assert!(problems(&both).await.contains("SECRETS_FILE: is not used beside"));
    // An envelope that nothing opens is a mistake as well.
    assert!(problems(&[("SECRETS_ENVELOPE", "a.b.c.d.e")]).await.contains("SECRETS_SIGNER: "));
}

#[tokio::test]
async fn without_its_neighbour_it_serves_what_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| format!("unix:{}", folder.path().join(name).display());
    let environment = [
        ("LOG_SEALER", "off".to_owned()),
        ("SKR_LISTEN", path("skr.sock")),
        ("SKR_HTTP_LISTEN", "127.0.0.1:0".to_owned()),
        ("ATTEST_SIDECAR", path("attest.sock")),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value));
    let role = Role::start(environment.into()).await;
    assert!(role.info.production_anchors);
    assert_eq!(get(role.http(), "/status").await.status, 200);
    let answer = get(role.http(), "/attest/raw").await;
    assert_eq!(answer.status, 403);
    assert!(answer.error().contains("attest-sidecar gave no evidence"), "{}", answer.body);

    let attest = world::attest::FakeAttest::start(&folder.path().join("attest.sock"));
    assert_eq!(get(role.http(), "/attest/raw").await.status, 200, "it recovers by itself");
    assert_eq!(attest.reports().len(), 1);
}

#[tokio::test]
async fn the_signal_to_stop_lets_running_requests_finish() {
    let world = World::start().await;
    world.attest.be(Mood::Stalls);
    let http = world.role.http();
    let running = tokio::spawn(async move { get(http, "/attest/raw").await });
    world.attest.stalls(1).await;
    world.role.shutdown.fire();
    while tokio::net::TcpStream::connect(http).await.is_ok() {
        tokio::task::yield_now().await;
    }
    world.attest.be(Mood::Good);
    assert_eq!(running.await.unwrap().status, 200);
    assert_eq!(world.role.served.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_taken_port_is_fatal() {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let environment: Environment = [
        ("LOG_SEALER", "off".to_owned()),
        ("SKR_LISTEN", format!("unix:{}/skr.sock", folder.path().display())),
        ("SKR_HTTP_LISTEN", world.role.http().to_string()),
    ]
    .into_iter()
    .collect();
    let (config, process) = Process::embedded::<SkrSidecar>(&environment).await.unwrap();
    let error = SkrSidecar::serve(config, process).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot listen on 127.0.0.1:"), "{error}");
}
