//! Mutual attestation: an API key that is good only for clients in a TEE which the operator accepts, on the connection on
//! which such a client proved itself.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use attestation::crypto::sha256;
use attestation::merkle::Inclusion;
use attestation::policy::Hex;
use attestation::wire::{ClientProof, InclusionText, VerifyRequest};
use attestation::{Binding, Evidence};
use bytes::Bytes;
use client::connection::AttestedConnection;
use client::mutual::{ProveSelf, ProveSelfError};
use client::{AttestedClient, ConnectError, Connector, Target};
use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use proto::attest::attest_client::AttestClient;
use proto::attest::evidence_request::Purpose;
use proto::attest::{ClientChannel, EvidenceRequest};
use serde_json::{Value, json};
use sim::world::{GroupConfig, WorldConfig};
use stack::{Group, Places, RoleName};

use crate::support::{Forwarder, PROGRAM, Running, fail, pmc, start_with, text};

const KEY: &str = "pm_for_attested_clients_only";
const KEY_ID: &str = "bank";

/// A client's TEE, as far as it is asked for evidence: the `attest-sidecar` of a group, and a change to what it is asked.
struct Tee {
    attest: AttestClient<tonic::transport::Channel>,
    change: fn(&mut ClientChannel),
    /// How often it was asked.
    asked: Arc<AtomicUsize>,
}

impl Tee {
    fn of(group: &Group) -> Self {
        let socket = group.places().socket(RoleName::AttestSidecar);
        let address = format!("unix:{}", socket.display()).parse().unwrap();
        let attest = AttestClient::new(service::grpc::channel(&address));
        Self { attest, change: |_| {}, asked: Arc::default() }
    }

    fn asked_for(self, change: fn(&mut ClientChannel)) -> Self {
        Self { change, ..self }
    }
}

impl ProveSelf for Tee {
    async fn evidence(
        &self,
        binding: &Binding,
    ) -> Result<(Evidence, Inclusion), Box<dyn Error + Send + Sync>> {
        let Binding::ClientChannel { nonce, exporter, server_spki_sha256, key_id_sha256 } = binding
        else {
            panic!("a client proves itself")
        };
        let mut channel = ClientChannel {
            nonce: nonce.to_vec(),
            exporter: exporter.to_vec(),
            server_spki_sha256: server_spki_sha256.to_vec(),
            key_id_sha256: key_id_sha256.to_vec(),
        };
        (self.change)(&mut channel);
        self.asked.fetch_add(1, Ordering::Relaxed);
        let request = EvidenceRequest { purpose: Some(Purpose::ClientChannel(channel)) };
        let reply = self.attest.clone().get_evidence(request).await?.into_inner();
        let (evidence, inclusion) = (reply.evidence.unwrap(), reply.inclusion.unwrap());
        let part = |bytes: Vec<u8>| (!bytes.is_empty()).then_some(bytes);
        let evidence = Evidence {
            report: evidence.report,
            vek: evidence.vek,
            chain: part(evidence.chain),
            crl: part(evidence.crl),
            uvm: part(evidence.uvm),
            cce_policy: part(evidence.cce_policy),
        };
        let path = inclusion.path.into_iter().map(|hash| hash.try_into().unwrap()).collect();
        Ok((evidence, Inclusion { index: inclusion.index, size: inclusion.size, path }))
    }
}

/// The first group is the client's TEE; a second one serves.
fn with_server(world: &mut WorldConfig) {
    world.groups.push(GroupConfig::new("server"));
}

/// Places of a server with one key that demands an attested client and one that does not.
fn places(running: &Running, folder: &Path) -> Places {
    let mut places = running.stack.places_of("server", folder).unwrap();
    let digest = |key: &str| hex::encode(sha256(key.as_bytes()));
    let keys = json!({"keys": [
        {"key_id": KEY_ID, "key_hash": digest(KEY), "attested_client": true},
        {"key_id": "anybody", "key_hash": digest("pm_anybody")},
    ]});
    places.keys_file = folder.join("keys.json");
    std::fs::write(&places.keys_file, keys.to_string()).unwrap();
    places
}

/// A server that accepts clients with the first group's enforcement policy.
async fn server(running: &Running, folder: &Path) -> (Group, Connector) {
    let mut places = places(running, folder);
    let accepted = running.stack.world.group("group").unwrap().host_data();
    let policy = folder.join("clients.toml");
    std::fs::write(&policy, format!("host_data = [\"{}\"]\n", hex::encode(accepted))).unwrap();
    places.variables = vec![
        (RoleName::Proxy, "CLIENT_POLICY_FILE", policy.display().to_string()),
        (RoleName::Proxy, "CLIENT_ANCHORS_FILE", running.path("anchors.pem")),
    ];
    serving(running, places).await
}

async fn serving(running: &Running, places: Places) -> (Group, Connector) {
    let group = group_at(places).await;
    let target: Target = group.url().await.unwrap().parse().unwrap();
    let (anchors, policy) = (running.stack.anchors().unwrap(), running.stack.policy());
    (group, Connector::new(target, anchors, policy))
}

async fn group_at(places: Places) -> Group {
    let group = Group::start(PROGRAM.into(), places, |_| {}).await;
    group.unwrap_or_else(|error| fail(&error))
}

/// A server, a way to it, and one connection.
struct Bench {
    connector: Connector,
    connection: AttestedConnection,
}

impl Bench {
    async fn new(connector: Connector) -> Self {
        let connection = connector.connect().await.ok().unwrap();
        Self { connector, connection }
    }

    async fn ask(&self, key: &str) -> (StatusCode, Value) {
        let body = stack::check::chat_request("hello", false).to_string();
        self.post("/v1/chat/completions", key, body).await
    }

    async fn post(&self, path: &str, key: &str, body: String) -> (StatusCode, Value) {
        let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
        let request = Request::post(path)
            .header(AUTHORIZATION, format!("Bearer {key}"))
            .header("content-type", "application/json")
            .body(body)
            .unwrap();
        let answer = self.connection.send(self.connector.target(), request).await.unwrap();
        let status = answer.status();
        (status, read(answer.into_body()).await)
    }

    async fn prove(&self, tee: &Tee) -> Result<(), ProveSelfError> {
        self.connection.prove_self(self.connector.target(), KEY_ID, tee).await
    }

    /// The key is refused, and it is said why.
    async fn is_refused(&self) {
        let (status, answer) = self.ask(KEY).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
        assert_eq!(answer["error"]["code"], "client_not_attested", "{answer}");
    }

    /// The proof is refused for these reasons, and the key stays so.
    async fn refuses(&self, tee: &Tee, words: &[&str]) {
        let Err(ProveSelfError::Refused(why)) = self.prove(tee).await else { panic!("{words:?}") };
        for word in words {
            assert!(why.contains(word), "{word} is not in {why}");
        }
        self.is_refused().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "an answer of a server of ours")]
async fn read(body: hyper::body::Incoming) -> Value {
    let bytes = body.collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn a_key_for_attested_clients_is_good_only_where_one_proved_itself() {
    let running = start_with(with_server).await;
    let folder = tempfile::tempdir().unwrap();
    let (server, connector) = server(&running, folder.path()).await;
    let bench = Bench::new(connector.clone()).await;
    let tee = Tee::of(&running.stack.group);

    // Everybody else's keys are not touched by it.
    assert_eq!(bench.ask("pm_anybody").await.0, StatusCode::OK);
    bench.is_refused().await;
    bench.prove(&tee).await.unwrap_or_else(|error| fail(&error));
    assert_eq!(bench.ask(KEY).await.0, StatusCode::OK);
    // On that connection, and on no other.
    let other = Bench::new(connector.clone()).await;
    other.is_refused().await;
    assert_eq!(bench.ask(KEY).await.0, StatusCode::OK);

    // Evidence for another nonce, another connection, another server's key, another API key.
    let lies: [fn(&mut ClientChannel); 4] = [
        |channel| channel.nonce = vec![7; 32],
        |channel| channel.exporter = vec![7; 32],
        |channel| channel.server_spki_sha256 = vec![7; 32],
        |channel| channel.key_id_sha256 = sha256(b"anybody").to_vec(),
    ];
    for lie in lies {
        let liar = Tee::of(&running.stack.group).asked_for(lie);
        other.refuses(&liar, &["B1", "B2", "B3"]).await;
    }
    // A proof for another key is good for that key alone.
    let target = other.connector.target();
    other.connection.prove_self(target, "another", &tee).await.ok().unwrap();
    other.is_refused().await;

    the_nonce_is_for_one_proof(&other, &tee).await;
    assert!(server.stop().await.is_empty());
    running.stop().await;
}

/// Evidence of one connection does not go through on another, and no proof goes through twice.
async fn the_nonce_is_for_one_proof(bench: &Bench, tee: &Tee) {
    let nonce = |client| {
        let request = VerifyRequest { nonce: [9; 32], token: false, client };
        bench.post("/attestation/verify", "", serde_json::to_string(&request).unwrap())
    };
    let (_, answer) = nonce(false).await;
    assert_eq!(answer["client_nonce"], Value::Null, "it is given to who asks");
    let proof = |evidence: &Evidence, inclusion: &Inclusion| {
        let proof = ClientProof {
            v: 1,
            key_id_sha256: sha256(KEY_ID.as_bytes()),
            evidence: evidence.to_json(),
            merkle: InclusionText::from(inclusion),
        };
        bench.post("/attestation/client", "", serde_json::to_string(&proof).unwrap())
    };
    let binding = Binding::ClientChannel {
        nonce: [1; 32],
        exporter: [2; 32],
        server_spki_sha256: [3; 32],
        key_id_sha256: sha256(KEY_ID.as_bytes()),
    };
    let (evidence, inclusion) = tee.evidence(&binding).await.unwrap();
    let (status, answer) = proof(&evidence, &inclusion).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "no nonce was given: {answer}");
    let (_, answer) = nonce(true).await;
    assert!(answer["client_nonce"].is_string(), "{answer}");
    let (status, answer) = proof(&evidence, &inclusion).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    assert_eq!(answer["error"]["code"], "client_refused");
    let (status, answer) = proof(&evidence, &inclusion).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert_eq!(
        answer["error"]["code"], "client_nonce_missing",
        "a nonce is used up by failure too"
    );

    nonce(true).await;
    let malformed = || bench.post("/attestation/client", "", "{}".to_owned());
    let (status, answer) = malformed().await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(answer["error"]["code"], "malformed_request");
    let (_, answer) = malformed().await;
    assert_eq!(answer["error"]["code"], "client_nonce_missing", "no body is read without one");
    nonce(true).await;
    let long = format!("{{\"v\":1,\"x\":\"{}\"}}", "x".repeat(256 * 1024));
    let (status, _) = bench.post("/attestation/client", "", long).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    bench.is_refused().await;
}

/// A client whose software is another one is refused, whether it says so (another enforcement policy) or hides it
/// (another utility VM under the accepted policy's digest).
#[tokio::test]
async fn a_compromised_client_is_refused() {
    let running = start_with(|world| {
        with_server(world);
        world.groups.push(GroupConfig {
            policy: "package policy\n\ndefault allow := true\n".to_owned(),
            ..GroupConfig::new("open")
        });
        world.groups.push(GroupConfig {
            measurement: Some([0x66; 48]),
            endorsed_measurement: Some([0x77; 48]),
            ..GroupConfig::new("changed")
        });
        world.groups.push(GroupConfig { debug: true, ..GroupConfig::new("debug") });
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let (server, connector) = server(&running, folder.path()).await;
    let bench = Bench::new(connector).await;
    for (name, check) in [("open", "P9"), ("changed", "U"), ("debug", "P1")] {
        let folder = tempfile::tempdir().unwrap();
        let client = group_at(running.stack.places_of(name, folder.path()).unwrap()).await;
        bench.refuses(&Tee::of(&client), &[check]).await;
        // It does not even listen.
        let mut connect = vec!["connect".to_owned(), bench.connector.target().to_string()];
        connect.extend(proving(&running, &client));
        let ended = pmc(&connect).await;
        assert_eq!(ended.status.code(), Some(1), "{}", text(&ended));
        assert!(text(&ended).contains(check), "{check} is not in {}", text(&ended));
        assert!(client.stop().await.is_empty());
    }
    bench.prove(&Tee::of(&running.stack.group)).await.unwrap_or_else(|error| fail(&error));
    assert_eq!(bench.ask(KEY).await.0, StatusCode::OK);
    assert!(server.stop().await.is_empty());
    running.stop().await;
}

/// The proxy believes AMD unless a measured variable says otherwise; and without a policy it accepts nobody.
#[tokio::test]
async fn without_a_policy_or_with_other_roots_nobody_is_accepted() {
    let running = start_with(with_server).await;
    let folder = tempfile::tempdir().unwrap();
    let (server, connector) = serving(&running, places(&running, folder.path())).await;
    let bench = Bench::new(connector).await;
    bench.is_refused().await;
    let refused = bench.prove(&Tee::of(&running.stack.group)).await;
    assert!(matches!(refused, Err(ProveSelfError::NotAsked(_))), "no nonce is given");
    let (status, answer) = bench.post("/attestation/client", "", "{}".to_owned()).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{answer}");
    assert_eq!(answer["error"]["code"], "no_attested_clients");
    assert!(server.stop().await.is_empty());

    let folder = tempfile::tempdir().unwrap();
    let mut places = places(&running, folder.path());
    let policy = folder.path().join("clients.toml");
    let accepted = Hex(*running.stack.world.group("group").unwrap().host_data());
    std::fs::write(&policy, format!("host_data = [\"{}\"]\n", hex::encode(accepted.0))).unwrap();
    places.variables = vec![(RoleName::Proxy, "CLIENT_POLICY_FILE", policy.display().to_string())];
    let (server, connector) = serving(&running, places).await;
    let bench = Bench::new(connector).await;
    bench.refuses(&Tee::of(&running.stack.group), &["C1"]).await;
    assert!(server.stop().await.is_empty());
    running.stop().await;
}

/// Options of `pmc` that hold the simulated anchors, and have it prove itself by this group's `attest-sidecar`.
fn proving(running: &Running, tee: &Group) -> Vec<String> {
    let socket = tee.places().socket(RoleName::AttestSidecar);
    let mut options = running.trusting();
    options.push(format!("--prove-with=unix:{}", socket.display()));
    options.push(format!("--prove-key-id={KEY_ID}"));
    options
}

/// What the forwarder answers to a request with the key for attested clients: its status, and the code of its error.
async fn through(forwarder: &Forwarder) -> (u16, String) {
    let body = stack::check::chat_request("hello", false).to_string();
    let (status, answer) = forwarder.post("/v1/chat/completions", KEY, &body).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    (status, answer["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn pmc_connect_proves_itself_also_after_a_reconnect() {
    let running = start_with(with_server).await;
    let folder = tempfile::tempdir().unwrap();
    let (server, connector) = server(&running, folder.path()).await;
    let url = connector.target().to_string();
    let alone = Forwarder::start(&url, &running.trusting()).await;
    assert_eq!(through(&alone).await, (403, "client_not_attested".to_owned()));
    let forwarder = Forwarder::start(&url, &proving(&running, &running.stack.group)).await;
    assert_eq!(through(&forwarder).await, (200, String::new()));

    // Started again on the same port, it knows nothing of what was proved to it.
    let mut places = server.places().clone();
    places.port = url.rsplit_once(':').unwrap().1.parse().unwrap();
    assert!(server.stop().await.is_empty());
    let server = group_at(places.clone()).await;
    assert_eq!(through(&forwarder).await, (200, String::new()));

    // And when it accepts such clients no longer, nothing is sent to it, and it is said why.
    assert!(server.stop().await.is_empty());
    let policy = folder.path().join("clients.toml");
    std::fs::write(&policy, format!("host_data = [\"{}\"]\n", "00".repeat(32))).unwrap();
    let server = group_at(places).await;
    assert_eq!(through(&forwarder).await, (403, "client_refused".to_owned()));
    assert!(server.stop().await.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_program_is_proved_as_often_as_the_server_and_for_every_key() {
    let running = start_with(with_server).await;
    let folder = tempfile::tempdir().unwrap();
    let (server, connector) = server(&running, folder.path()).await;
    let ids = [KEY_ID.to_owned(), "another".to_owned()];
    let connector = connector.with_max_age(Duration::ZERO);
    let tee = Tee::of(&running.stack.group);
    let asked = tee.asked.clone();
    let client = AttestedClient::connect(connector.clone().proving_self(tee, &ids)).await;
    let client = client.unwrap_or_else(|error| fail(&error));
    for sent in 1..3 {
        let body = stack::check::chat_request("hello", false).to_string();
        let request = Request::post("/v1/chat/completions")
            .header(AUTHORIZATION, format!("Bearer {KEY}"))
            .header("content-type", "application/json");
        let answer = client.send(request.body(body).unwrap()).await;
        assert_eq!(answer.unwrap_or_else(|error| fail(&error)).status(), StatusCode::OK);
        assert_eq!(asked.load(Ordering::Relaxed), 2 * (1 + sent));
    }
    // What only looks at the server needs no proof of the program.
    client.verify_again().await.unwrap_or_else(|error| fail(&*error));
    assert_eq!(asked.load(Ordering::Relaxed), 6);

    let liar = Tee::of(&running.stack.group).asked_for(|channel| channel.nonce = vec![7; 32]);
    let refused = connector.proving_self(liar, &ids).connect().await.err().unwrap();
    let ConnectError::NotAccepted(_, why) = &refused else { fail(&refused) };
    assert!(matches!(**why, ProveSelfError::Refused(_)), "{why}");
    assert!(server.stop().await.is_empty());
    running.stop().await;
}
