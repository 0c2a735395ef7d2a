//! The reference's gRPC service over sockets: its methods, its codes, and the texts that scripts match on (contract
//! `skr.md` part 1.2).

#![expect(clippy::unwrap_used, reason = "a test ends when its world fails")]

mod world;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::key_provider::key_provider_service_client::KeyProviderServiceClient;
use proto::key_provider::{
    HelloRequest, KeyProviderGetAttestationDataInput, KeyProviderGetReportInput,
    KeyProviderKeyWrapProtocolInput,
};
use rsa::RsaPrivateKey;
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_reflection::pb;

use world::World;
use world::attest::{Mood, report};
use world::vault::{Key, Misdeed};

const HELP: &str = "docs/how-to/skr-sidecar.md says what to do about each cause";

fn provider(world: &World) -> KeyProviderServiceClient<Channel> {
    KeyProviderServiceClient::new(world.role.channel.clone())
}

/// A world whose vault holds an RSA key, the public half of which lies in the folder of keys as `layer`.
async fn world_with_key() -> (World, tempfile::TempDir) {
    world_with(&[]).await
}

async fn world_with(variables: &[(&str, &str)]) -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().display().to_string();
    let world = World::start_with(|vault| {
        let url = format!("https://{vault}");
        let known = [("KEY_VAULT_URL", url.as_str()), ("SKR_WRAP_KEYS", &keys)];
        let all = known.iter().chain(variables);
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    })
    .await;
    let key = RsaPrivateKey::new(&mut rand::thread_rng(), 2048).unwrap();
    let pem = key.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
    std::fs::write(folder.path().join("layer.pem"), pem).unwrap();
    let info = json!({
        "public_key_path": "layer.pem",
        "kms_endpoint": world.vault.host(),
        "attester_endpoint": "maa.test",
    });
    std::fs::write(folder.path().join("layer-info.json"), info.to_string()).unwrap();
    let n = attestation::encoding::to_b64u(&key.n().to_bytes_be());
    world.vault.hold(Key {
        published: json!({"kty": "RSA-HSM", "key_ops": ["decrypt"], "n": n, "e": "AQAB"}),
        secret: key.to_pkcs8_der().unwrap().as_bytes().to_vec(),
        policy: None,
    });
    (world, folder)
}

fn packet(json: &Value) -> KeyProviderKeyWrapProtocolInput {
    let bytes = json.to_string().into_bytes();
    KeyProviderKeyWrapProtocolInput { key_provider_key_wrap_protocol_input: bytes }
}

fn to_wrap(agent: &str, plaintext: &[u8]) -> KeyProviderKeyWrapProtocolInput {
    let agent = json!({"attestation-agent": [STANDARD.encode(agent)]});
    packet(&json!({
        "op": "keywrap",
        "keywrapparams": {"ec": {"Parameters": agent, "Dc": {"Parameters": {}}}, "optsdata": STANDARD.encode(plaintext)},
        "keyunwrapparams": {},
    }))
}

fn to_unwrap(annotation: &Value) -> KeyProviderKeyWrapProtocolInput {
    packet(&json!({
        "op": "keyunwrap",
        "keywrapparams": {},
        "keyunwrapparams": {
            "dc": {"Parameters": {"attestation-agent": [STANDARD.encode("skr")]}},
            "annotation": STANDARD.encode(annotation.to_string()),
        },
    }))
}

async fn wrap(world: &World, agent: &str, plaintext: &[u8]) -> Result<Value, Status> {
    let output = provider(world).wrap_key(to_wrap(agent, plaintext)).await?.into_inner();
    let output = serde_json::from_slice(&output.key_provider_key_wrap_protocol_output);
    Ok(output.unwrap())
}

async fn unwrap(world: &World, annotation: &Value) -> Result<Value, Status> {
    let output = provider(world).un_wrap_key(to_unwrap(annotation)).await?.into_inner();
    let output = serde_json::from_slice(&output.key_provider_key_wrap_protocol_output);
    Ok(output.unwrap())
}

fn annotation(output: &Value) -> Value {
    let text = output.pointer("/keywrapresults/annotation").unwrap().as_str().unwrap();
    serde_json::from_slice(&STANDARD.decode(text).unwrap()).unwrap()
}

#[tokio::test]
async fn say_hello_greets() {
    let world = World::start().await;
    let reply = provider(&world).say_hello(HelloRequest { name: "kata".to_owned() }).await;
    assert_eq!(reply.unwrap().into_inner().message, "Hello kata");
}

#[tokio::test]
async fn get_report_covers_the_text_itself_whatever_it_is_called() {
    let world = World::start().await;
    for text in ["", "00ff", "no hexadecimal"] {
        let input = KeyProviderGetReportInput { report_data_hex_string: text.to_owned() };
        let reply = provider(&world).get_report(input).await.unwrap().into_inner();
        assert_eq!(reply.report_hex_string, hex::encode(report()));
        assert_eq!(world.attest.reports().last().unwrap(), text.as_bytes());
    }
}

#[tokio::test]
async fn get_attestation_data_is_what_combined_gives() {
    let world = World::start().await;
    for (text, bytes) in [("", b"".as_slice()), ("AQID", &[1, 2, 3])] {
        let input = KeyProviderGetAttestationDataInput { b64_runtime_data_string: text.to_owned() };
        let reply = provider(&world).get_attestation_data(input).await.unwrap().into_inner();
        assert_eq!(reply.endorsed_tcb, "7308000000000003");
        assert_eq!(reply.certs, STANDARD.encode("VCEK\nASK\nARK\n"));
        assert_eq!(reply.attestation_report, STANDARD.encode(report()));
        assert_eq!(reply.uvm_reference_info, "0oRZ+/==");
        assert_eq!(world.attest.reports().last().unwrap(), bytes);
    }
    let input = KeyProviderGetAttestationDataInput { b64_runtime_data_string: "%".to_owned() };
    let status = provider(&world).get_attestation_data(input).await.err().unwrap();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let text = "decoding base64-encoded runtime data of request failed";
    assert!(status.message().starts_with(text), "{status}");
}

#[tokio::test]
async fn a_missing_device_is_told_from_one_that_fails() {
    let world = World::start().await;
    let ask = || async {
        let input = KeyProviderGetReportInput::default();
        provider(&world).get_report(input).await.err().unwrap()
    };
    let missing = Status::failed_precondition("SEV guest driver is missing.");
    world.attest.be(Mood::Fails(missing));
    let status = ask().await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), format!("SEV guest driver is missing.\n{HELP}"));

    world.attest.be(Mood::Fails(Status::internal("ioctl failed")));
    let status = ask().await;
    assert_eq!(status.code(), Code::Internal);
    assert!(status.message().starts_with("failed to retrieve attestation report, "), "{status}");
    assert!(status.message().ends_with(HELP), "{status}");
}

#[tokio::test]
async fn attestation_data_without_a_device_is_refused_by_name() {
    let world = World::start().await;
    let missing = Status::failed_precondition("SEV guest driver is missing.");
    world.attest.be(Mood::Fails(missing));
    let input = KeyProviderGetAttestationDataInput::default();
    let status = provider(&world).get_attestation_data(input).await.err().unwrap();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().starts_with("SEV guest driver is missing."), "{status}");
}

#[tokio::test]
async fn an_annotation_has_its_members_in_the_references_order() {
    let (world, _keys) = world_with_key().await;
    let wrapped = provider(&world).wrap_key(to_wrap("skr:layer", b"x")).await.unwrap();
    let wrapped = wrapped.into_inner().key_provider_key_wrap_protocol_output;
    let text = std::str::from_utf8(&wrapped).unwrap();
    let annotation = text.strip_prefix(r#"{"keywrapresults":{"annotation":""#).unwrap();
    let annotation =
        annotation.strip_suffix(r#""},"keyunwrapresults":{"optsdata":null}}"#).unwrap();
    let annotation = String::from_utf8(STANDARD.decode(annotation).unwrap()).unwrap();
    let (front, rest) = annotation.split_once(r#""wrapped_data":""#).unwrap();
    assert_eq!(front, r#"{"kid":"layer","#);
    let (data, rest) = rest.split_once('"').unwrap();
    assert_eq!(STANDARD.decode(data).unwrap().len(), 256);
    let vault = world.vault.host();
    assert_eq!(
        rest,
        format!(
            r#","wrap_type":"rsa_3072","kms_endpoint":"{vault}","attester_endpoint":"maa.test"}}"#
        )
    );
}

#[tokio::test]
async fn the_operation_that_a_packet_names_is_ignored() {
    let (world, _keys) = world_with_key().await;
    let mut json: Value =
        serde_json::from_slice(&to_wrap("skr:layer", b"x").key_provider_key_wrap_protocol_input)
            .unwrap();
    for op in [json!("keyunwrap"), json!("anything"), Value::Null] {
        json["op"] = op;
        assert!(provider(&world).wrap_key(packet(&json)).await.is_ok(), "{}", json["op"]);
    }
}

#[tokio::test]
async fn what_a_key_cannot_wrap_is_internal_and_the_next_packet_is_fine() {
    let (world, keys) = world_with_key().await;
    // RSA-OAEP with SHA-256 takes 66 bytes less than the key has.
    assert!(wrap(&world, "skr:layer", &[7; 190]).await.is_ok());
    let status = wrap(&world, "skr:layer", &[7; 191]).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(status.message().contains("takes at most 190 bytes"), "{status}");

    let pem = std::fs::read(keys.path().join("layer.pem")).unwrap();
    std::fs::write(keys.path().join("layer.pem"), "no PEM").unwrap();
    let status = wrap(&world, "skr:layer", b"x").await.unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status}");
    assert!(status.message().ends_with(HELP), "{status}");
    std::fs::write(keys.path().join("layer.pem"), pem).unwrap();
    assert!(wrap(&world, "skr:layer", b"x").await.is_ok());
}

#[tokio::test]
async fn an_annotation_that_is_no_base64_is_told_so() {
    let world = World::start().await;
    let agent = json!({"attestation-agent": [STANDARD.encode("skr")]});
    let input =
        packet(&json!({"keyunwrapparams": {"dc": {"Parameters": agent}, "annotation": "-_"}}));
    let status = provider(&world).un_wrap_key(input).await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("Annotation is not a base64 encoding: "), "{status}");
    assert!(status.message().ends_with(HELP), "{status}");
}

#[tokio::test]
async fn what_was_wrapped_is_unwrapped_by_a_released_key() {
    let (world, _keys) = world_with_key().await;
    let wrapped = wrap(&world, "SKR:layer", b"a layer's key").await.unwrap();
    assert_eq!(wrapped["keyunwrapresults"], json!({"optsdata": null}));
    let annotation = annotation(&wrapped);
    assert_eq!(annotation["kid"], "layer");
    assert_eq!(annotation["wrap_type"], "rsa_3072");
    assert_eq!(annotation["attester_endpoint"], "maa.test");
    assert!(annotation.get("iv").is_none());

    let unwrapped = unwrap(&world, &annotation).await.unwrap();
    let plaintext = STANDARD.encode("a layer's key");
    assert_eq!(
        unwrapped,
        json!({"keywrapresults": {"annotation": null}, "keyunwrapresults": {"optsdata": plaintext}})
    );
    let asked = world.attest.tokens();
    assert_eq!(asked.last().unwrap().maa_endpoint, "https://maa.test");
}

#[tokio::test]
async fn malformed_packets_are_told_by_the_known_texts_and_repeated_nowhere() {
    let (world, _keys) = world_with_key().await;
    for (agent, text) in [
        ("skr", "Key id is not provided in the request"),
        (
            "kbs:layer",
            "Unexpected attestation agent kbs specified. Perhaps you send the request to a wrong endpoint?",
        ),
    ] {
        let status = wrap(&world, agent, b"x").await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(text), "{status}");
        assert!(status.message().ends_with(HELP), "{status}");
    }
    let mut client = provider(&world);
    for (input, text) in [
        ("secret", "Ill-formed key provider input: "),
        (
            r#"{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{}},"optsdata":"c2VjcmV0"}}"#,
            "attestation-agent must be specified in the encryption config parameters: ",
        ),
    ] {
        let input = input.as_bytes().to_vec();
        let input = KeyProviderKeyWrapProtocolInput { key_provider_key_wrap_protocol_input: input };
        let status = client.wrap_key(input).await.err().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(text), "{status}");
        let repeated = ["secret", "c2VjcmV0"].iter().any(|word| status.message().contains(word));
        assert!(!repeated, "{status}");
    }
    let input = packet(&json!({"keyunwrapparams": {"dc": {"Parameters": {}}}}));
    let status = client.un_wrap_key(input).await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    let text = "attestation-agent must be specified in decryption config parameters: ";
    assert!(status.message().starts_with(text), "{status}");
    let status = unwrap(&world, &json!({"kid": "layer"})).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("Ill-formed annotation packet: "), "{status}");
}

#[tokio::test]
async fn keys_to_wrap_with_are_read_in_their_folder_only() {
    let (world, _keys) = world_with_key().await;
    for path in ["other", "/etc/passwd", "../layer", "/proc/self/environ"] {
        let status = wrap(&world, &format!("skr:{path}"), b"x").await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().starts_with("failed to read key info file "), "{status}");
    }
    let world = World::start().await;
    let status = wrap(&world, "skr:layer", b"x").await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(status.message().contains("SKR_WRAP_KEYS"), "{status}");
}

/// An annotation comes with an image, and may be an attacker's.
#[tokio::test]
async fn an_annotation_reaches_no_other_vault_and_no_reserved_key() {
    let (world, _keys) = world_with(&[("OWNER_KID", "owner")]).await;
    let good = annotation(&wrap(&world, "skr:layer", b"x").await.unwrap());
    let with = |member: &str, value: &str| {
        let mut changed = good.clone();
        changed[member] = json!(value);
        changed
    };
    let before = world.vault.requests().len();
    for (changed, word) in [
        (with("kms_endpoint", "evil.test"), "the identity token does not go to evil.test"),
        (with("kms_endpoint", "evil.test/keys"), "the vault's host cannot be used"),
        (with("kid", "owner"), "reserved"),
        (with("kid", "OWNER/1"), "reserved"),
        (with("kid", "../secrets"), "SKR failed"),
    ] {
        let status = unwrap(&world, &changed).await.unwrap_err();
        assert_eq!(status.code(), Code::Unknown);
        assert!(status.message().starts_with("SKR failed\n"), "{status}");
        assert!(status.message().contains(word), "{word}: {status}");
    }
    let asked = world.vault.requests();
    let of_layer = asked.iter().skip(before).filter(|asked| asked.uri().path().contains("layer"));
    assert_eq!(of_layer.count(), 0);
    assert!(unwrap(&world, &good).await.is_ok(), "the next good one");
}

#[tokio::test]
async fn what_cannot_be_unwrapped_is_no_crash() {
    let (world, _keys) = world_with_key().await;
    let good = annotation(&wrap(&world, "skr:layer", b"x").await.unwrap());
    for wrapped in ["", "AQID", &STANDARD.encode([1; 256]), &STANDARD.encode([1; 5000]), "%"] {
        let mut changed = good.clone();
        changed["wrapped_data"] = json!(wrapped);
        let status = unwrap(&world, &changed).await.unwrap_err();
        assert_eq!(status.code(), Code::Unknown);
        assert!(status.message().starts_with("Unwrapping failed\n"), "{status}");
    }
    world.vault.misbehave([Misdeed::Refuse(403, r#"{"error":"no"}"#, Vec::new())]);
    let status = unwrap(&world, &good).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    let text = "http response status equal to 403 Forbidden";
    assert!(status.message().contains(text), "{status}");
    assert!(unwrap(&world, &good).await.is_ok(), "the next good one");
}

#[tokio::test]
async fn a_symmetric_key_unwraps_nothing() {
    let (world, _keys) = world_with_key().await;
    let good = annotation(&wrap(&world, "skr:layer", b"x").await.unwrap());
    let published = json!({"kty": "oct-HSM", "key_ops": ["unwrapKey"]});
    world.vault.hold(Key { published, secret: vec![7; 32], policy: None });
    let status = unwrap(&world, &good).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    assert!(status.message().contains("it must be an RSA key"), "{status}");
}

/// As `grpcurl` does, by either version of the protocol.
#[tokio::test]
async fn the_service_tells_about_itself_and_no_other_does() {
    let world = World::start().await;
    let channel = world.role.channel.clone();
    let request = pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            pb::v1::server_reflection_request::MessageRequest::FileContainingSymbol(
                "key_provider.KeyProviderService".to_owned(),
            ),
        ),
    };
    let mut v1 = pb::v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let answers = v1.server_reflection_info(tokio_stream::iter([request])).await;
    let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    let text = format!("{answer:?}");
    assert!(text.contains("FileDescriptorResponse"), "{text}");

    let request = pb::v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            pb::v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let mut old = pb::v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let answers = old.server_reflection_info(tokio_stream::iter([request])).await;
    let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    let text = format!("{answer:?}");
    assert!(text.contains("key_provider.KeyProviderService"), "{text}");
    assert!(!text.contains("privatemode.skr"), "{text}");
}
