//! Releases of keys, over both protocols, through a vault that does its duty and one that does not.

#![expect(clippy::unwrap_used, reason = "a test ends when its world fails")]

mod world;

use attestation::encoding::to_b64u;
use p256::pkcs8::EncodePrivateKey as _;
use proto::attest::TokenFailure;
use proto::attest::token_request::Runtime;
use proto::skr::ReleaseKeyRequest;
use serde_json::{Value, json};
use tonic::Code;

use world::World;
use world::attest::Mood;
use world::client::post;
use world::identity::TOKEN;
use world::release::{OCT_JWK, oct_key, release, release_by_grpc, request};
use world::vault::{Key, Misdeed};

fn ec_key() -> Key {
    use p256::elliptic_curve::sec1::ToEncodedPoint as _;
    let key = p256::SecretKey::random(&mut rand::thread_rng());
    let point = key.public_key().to_encoded_point(false);
    let published = json!({
        "kty": "EC-HSM", "crv": "P-256",
        "x": to_b64u(point.x().unwrap()), "y": to_b64u(point.y().unwrap()),
    });
    Key { published, secret: key.to_pkcs8_der().unwrap().as_bytes().to_vec(), policy: None }
}

#[tokio::test]
async fn a_symmetric_key_is_released() {
    let variables = |vault: &str| {
        let hosts = ("SKR_VAULT_HOSTS", format!("unused.test,{vault}"));
        let client = ("AZURE_CLIENT_ID", "01234567-89ab-cdef-0123-456789abcdef".to_owned());
        [hosts, client].map(|(name, value)| (name.to_owned(), value)).into()
    };
    let world = World::start_with(variables).await;
    world.vault.hold(oct_key());
    let answer = release(&world).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body, json!({"key": OCT_JWK}).to_string());

    let [request] = world.vault.requests().try_into().unwrap();
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri(), "/keys/tls/release?api-version=7.4");
    assert_eq!(request.headers()["authorization"], format!("Bearer {TOKEN}"));
    assert_eq!(request.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!(body["enc"], "RSA_AES_KEY_WRAP_256");
    assert_eq!(body["nonce"].as_str().unwrap().len(), 43);
    assert_eq!(body.as_object().unwrap().len(), 3);
    assert_eq!(
        world.identity.requests(),
        [
            "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net&client_id=01234567-89ab-cdef-0123-456789abcdef"
        ]
    );
    let [asked] = world.attest.tokens().try_into().ok().unwrap();
    assert_eq!(asked.maa_endpoint, "https://maa.test");
    let Some(Runtime::ReleaseKey(key)) = asked.runtime else { panic!("a typed request") };
    assert_eq!((key.modulus.len(), key.exponent.as_slice()), (384, [1, 0, 1].as_slice()));
}

#[tokio::test]
async fn private_keys_are_released_by_both_protocols() {
    let world = World::start().await;
    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    let der: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    let rsa = Key {
        published: json!({"kty": "RSA-HSM", "key_ops": ["import", "export"]}),
        secret: der.as_ref().to_vec(),
        policy: None,
    };
    for (key, kty, members) in [(rsa, "RSA", 10), (ec_key(), "EC", 5)] {
        world.vault.hold(key);
        let answer = release(&world).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let jwk = answer.json()["key"].as_str().unwrap().to_owned();
        let parsed: Value = serde_json::from_str(&jwk).unwrap();
        assert_eq!(parsed["kty"], kty);
        assert_eq!(parsed.as_object().unwrap().len(), members, "{:?}", parsed.get("key_ops"));
        assert_eq!(release_by_grpc(&world, "tls").await.unwrap(), jwk.as_bytes());
    }
}

#[tokio::test]
async fn members_of_a_released_key_are_in_alphabetical_order() {
    let world = World::start().await;
    world.vault.hold(ec_key());
    let jwk = String::from_utf8(release_by_grpc(&world, "tls").await.unwrap()).unwrap();
    assert!(jwk.starts_with(r#"{"crv":"P-256","d":""#), "no key_ops where the vault has none");
    let places: Vec<_> = ["crv", "d", "kty", "x", "y"]
        .map(|member| jwk.find(&format!(r#""{member}":"#)))
        .into_iter()
        .collect::<Option<_>>()
        .unwrap();
    assert!(places.is_sorted(), "the order of members is another one");
}

#[tokio::test]
async fn a_version_is_part_of_the_path_and_every_release_has_a_key_of_its_own() {
    let world = World::start().await;
    world.vault.hold(oct_key());
    for _ in 0..2 {
        assert_eq!(release_by_grpc(&world, "tls/0123abcd").await.unwrap(), OCT_JWK.as_bytes());
    }
    let requests = world.vault.requests();
    assert_eq!(requests[0].uri(), "/keys/tls/0123abcd/release?api-version=7.4");
    let field = |at: usize, name: &str| -> Value {
        serde_json::from_slice::<Value>(requests[at].body()).unwrap()[name].clone()
    };
    assert_ne!(field(0, "nonce"), field(1, "nonce"));
    assert_ne!(field(0, "target"), field(1, "target"));
}

#[tokio::test]
async fn a_callers_own_token_is_used_instead() {
    let world = World::start_with(|_| Vec::new()).await;
    world.vault.hold(oct_key());
    let mut request = request(&world);
    request["access_token"] = json!("callers.token");
    let answer = post(world.role.http(), "/key/release", &request).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(world.vault.requests()[0].headers()["authorization"], "Bearer callers.token");
    assert!(world.identity.requests().is_empty());
}

#[tokio::test]
async fn the_groups_token_goes_to_nobody_whom_a_caller_names() {
    let world = World::start_with(|_| Vec::new()).await;
    world.vault.hold(oct_key());
    let answer = release(&world).await;
    assert_eq!(answer.status, 403);
    let error = answer.error();
    assert!(error.starts_with("secure key release failed\n"), "{error}");
    assert!(error.contains("add it to SKR_VAULT_HOSTS"), "{error}");
    assert!(world.identity.requests().is_empty());
    assert!(world.attest.tokens().is_empty());
    assert!(world.vault.requests().is_empty());

    let error = release_by_grpc(&world, "tls").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("set KEY_VAULT_URL"), "{}", error.message());
}

#[tokio::test]
async fn what_names_no_key_or_host_reaches_nobody() {
    let world = World::start().await;
    let host = world.vault.host();
    let good = request(&world);
    for (field, value) in [
        ("kid", "a/../../secrets/s?x=#".to_owned()),
        ("kid", "tls/".to_owned()),
        ("akv_endpoint", format!("https://{host}")),
        ("akv_endpoint", format!("{host}/keys/a/release?x=")),
        ("maa_endpoint", "https://maa.test".to_owned()),
        ("access_token", "a\r\nx: y".to_owned()),
    ] {
        let mut request = good.clone();
        request[field] = json!(value);
        let answer = post(world.role.http(), "/key/release", &request).await;
        assert_eq!(answer.status, 403, "{field} {value}");
        let error = answer.error();
        assert!(error.starts_with("secure key release failed\n"), "{error}");
        assert!(!error.contains(&value), "the caller's text is not repeated: {error}");
    }
    assert_eq!(release_by_grpc(&world, "../x").await.unwrap_err().code(), Code::InvalidArgument);
    assert!(world.identity.requests().is_empty());
    assert!(world.vault.requests().is_empty());
}

#[tokio::test]
async fn a_vaults_refusal_is_told_as_before_and_told_apart() {
    let world = World::start().await;
    world.vault.hold(oct_key());
    let body = r#"{"error":{"code":"X"}}"#;
    assert_eq!(release(&world).await.status, 200, "so that a token is at hand");
    for (status, reason, code) in [
        (400, "400 Bad Request", Code::FailedPrecondition),
        (403, "403 Forbidden", Code::PermissionDenied),
        (404, "404 Not Found", Code::NotFound),
    ] {
        world.vault.misbehave([
            Misdeed::Refuse(status, body, Vec::new()),
            Misdeed::Refuse(status, body, Vec::new()),
        ]);
        let answer = release(&world).await;
        assert_eq!(answer.status, 403);
        let cause = format!(
            "releasing the key tls failed: pulling AKV response body failed: {body}: http response status equal to {reason}"
        );
        assert!(answer.error().ends_with(&cause), "{}", answer.body);
        let error = release_by_grpc(&world, "tls").await.unwrap_err();
        assert_eq!(error.code(), code, "{status}");
        assert_eq!(error.message(), format!("secure key release failed: {cause}"));
    }
    assert_eq!(world.vault.requests().len(), 7, "a refusal is not asked for twice");
    assert_eq!(release(&world).await.status, 200);
}

#[tokio::test]
async fn a_vault_that_is_busy_is_asked_again() {
    let world = World::start().await;
    world.vault.hold(oct_key());
    world.vault.misbehave([
        Misdeed::Refuse(429, "slow down", vec![("retry-after", "0")]),
        Misdeed::Refuse(503, "later", Vec::new()),
    ]);
    assert_eq!(release(&world).await.status, 200);
    assert_eq!(world.vault.requests().len(), 3);

    let busy = || Misdeed::Refuse(429, "slow down", Vec::new());
    world.vault.misbehave([busy(), busy(), busy()]);
    let error = release_by_grpc(&world, "tls").await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().ends_with("429 Too Many Requests"), "{}", error.message());
}

#[tokio::test]
async fn a_vault_that_cannot_be_reached_is_named() {
    let world = World::start().await;
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut request = request(&world);
    request["akv_endpoint"] = json!(port.to_string());
    request["access_token"] = json!("callers.token-canary");
    let answer = post(world.role.http(), "/key/release", &request).await;
    assert_eq!(answer.status, 403);
    let error = answer.error();
    let cause =
        "releasing the key tls failed: AKV post request failed: the key vault cannot be reached: ";
    assert!(error.contains(cause), "{error}");
    assert!(!error.contains("canary"), "{error}");
}

#[tokio::test]
async fn what_a_vault_says_is_believed_only_if_all_of_it_holds() {
    let world = World::start().await;
    world.vault.hold(oct_key());
    assert_eq!(release(&world).await.status, 200, "so that there is something to replay");
    let cases: [(&str, Misdeed); 14] = [
        ("the vault's answer holds no release", Misdeed::Answer(b"{".to_vec())),
        ("the vault's answer holds no release", Misdeed::Answer(br#"{"value":7}"#.to_vec())),
        ("answered with more than 524288 bytes", Misdeed::Answer(vec![b' '; 524_289])),
        ("not a JWS in compact form", Misdeed::Answer(br#"{"value":"a.b"}"#.to_vec())),
        (
            "must bring 1 to 8 certificates in x5c",
            Misdeed::Sign(|header, _| header["x5c"] = json!([])),
        ),
        ("verification of leaf's certificate chain failed: x509: ", Misdeed::ForeignChain),
        ("the algorithm must be RS256", Misdeed::Sign(|header, _| header["alg"] = json!("none"))),
        (
            "for another enc than",
            Misdeed::Sign(|_, payload| payload["request"]["enc"] = json!("CKM_RSA_AES_KEY_WRAP")),
        ),
        (
            "for another kid than",
            Misdeed::Sign(|_, payload| {
                payload["request"]["kid"] = json!("https://127.0.0.1/keys/other");
            }),
        ),
        (
            "for another kid than",
            Misdeed::Sign(|_, payload| {
                payload["response"]["key"]["key"]["kid"] = json!("https://127.0.0.1/keys/other");
            }),
        ),
        ("for another nonce than", Misdeed::Replay),
        (
            "aes key unwrap failed: the wrapped key has an impossible length of 383 bytes",
            Misdeed::Cut(383),
        ),
        ("aes key unwrap failed: the wrapped key was changed on its way", Misdeed::Cut(416)),
        (
            "released key type OKP not supported",
            Misdeed::Sign(|_, payload| payload["response"]["key"]["key"]["kty"] = json!("OKP")),
        ),
    ];
    for (cause, misdeed) in cases {
        world.vault.misbehave([misdeed]);
        let answer = release(&world).await;
        assert_eq!(answer.status, 403, "{cause}");
        let error = answer.error();
        assert!(error.starts_with("secure key release failed\n"), "{error}");
        assert!(error.contains(cause), "{cause}: {error}");
        assert!(!error.contains("canary"), "{error}");
    }
    assert_eq!(release(&world).await.status, 200, "the next good release is fine");
}

#[tokio::test]
async fn a_swapped_key_is_noticed() {
    let world = World::start().await;
    world.vault.hold(ec_key());
    world.vault.misbehave([Misdeed::Wrap(ec_key().secret)]);
    let error = release_by_grpc(&world, "tls").await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert!(error.message().contains("another one than the vault published"), "{error}");
}

#[tokio::test]
async fn an_identity_that_is_not_ready_is_waited_for() {
    let world = World::start().await;
    world.vault.hold(oct_key());
    world.identity.refuse([(404, "not yet"), (500, "Received invalid token")]);
    assert_eq!(release(&world).await.status, 200);
    assert_eq!(world.identity.requests().len(), 3);
}

#[tokio::test]
async fn an_identity_that_refuses_is_named() {
    let world = World::start().await;
    let body = r#"{"error":"invalid_request"}"#;
    world.identity.refuse([(403, body), (403, body)]);
    let answer = release(&world).await;
    assert_eq!(answer.status, 403);
    let cause = format!(
        "retrieving authentication token failed: pulling http get authentication token response failed: {body}: http response status equal to 403 Forbidden"
    );
    assert!(answer.error().ends_with(&cause), "{}", answer.body);
    let error = release_by_grpc(&world, "tls").await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(world.vault.requests().is_empty());
}

#[tokio::test]
async fn an_identity_without_a_token_is_named() {
    let world = World::start().await;
    for (body, cause) in [
        ("{}", "answered without an access token"),
        ("<html>", "answered without an access token"),
        (r#"{"access_token":""}"#, "answered with something else than a token"),
    ] {
        world.identity.refuse([(200, body)]);
        let error = release_by_grpc(&world, "tls").await.unwrap_err();
        assert_eq!(error.code(), Code::Internal);
        assert!(error.message().contains(cause), "{}", error.message());
    }
}

#[tokio::test]
async fn without_maa_s_token_no_vault_is_asked() {
    let world = World::start().await;
    let failed = ": Retrieving MAA token from MAA endpoint failed: ";
    for (kind, status, said, text, code) in [
        (
            TokenFailure::Refused,
            400,
            "no: http response status equal to 400 Bad Request",
            "pulling maa post response failed: no: http response status equal to 400 Bad Request",
            Code::FailedPrecondition,
        ),
        (
            TokenFailure::Throttled,
            429,
            "slow: http response status equal to 429 Too Many Requests",
            "pulling maa post response failed: slow: http response status equal to 429 Too Many Requests",
            Code::Unavailable,
        ),
        (
            TokenFailure::Unreachable,
            0,
            "MAA cannot be reached",
            "maa post request failed: MAA cannot be reached",
            Code::Unavailable,
        ),
        (
            TokenFailure::TimedOut,
            0,
            "MAA did not answer in time",
            "maa post request failed: MAA did not answer in time",
            Code::DeadlineExceeded,
        ),
        (
            TokenFailure::Unverified,
            0,
            "MAA's token is not believed",
            "MAA's token is not believed",
            Code::Internal,
        ),
    ] {
        world.attest.be(Mood::NoToken(kind, status, said));
        let answer = release(&world).await;
        assert_eq!(answer.status, 403);
        assert!(answer.error().ends_with(&format!("{failed}{text}")), "{}", answer.body);
        let error = release_by_grpc(&world, "tls").await.unwrap_err();
        assert_eq!(error.code(), code, "{said}");
    }

    world.attest.be(Mood::Fails(tonic::Status::failed_precondition("there is no device")));
    let error = release_by_grpc(&world, "tls").await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().ends_with("there is no device"), "{}", error.message());
    assert!(world.vault.requests().is_empty());
}

#[tokio::test]
async fn callers_that_go_away_make_room_for_others() {
    let world = World::start().await;
    world.vault.hold(oct_key());
    world.attest.be(Mood::Stalls);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..9 {
        let mut keys = world.role.keys();
        let request = ReleaseKeyRequest { kid: "tls".to_owned(), ..Default::default() };
        waiting.spawn(async move { keys.release_key(request).await });
    }
    world.attest.stalls(8).await;
    waiting.shutdown().await;
    world.attest.stalls(0).await;
    world.attest.be(Mood::Good);
    assert_eq!(release_by_grpc(&world, "tls").await.unwrap(), OCT_JWK.as_bytes());
}

/// Every route that hands out keys refuses a reserved one, whatever vault, version, spelling or credential comes with
/// it; the vault is not even asked on the caller's behalf.
#[tokio::test]
async fn reserved_keys_are_handed_to_nobody() {
    let world = World::start_with(|vault| {
        let pairs = [
            ("KEY_VAULT_URL", format!("https://{vault}")),
            ("OWNER_KID", "owner".to_owned()),
            ("TLS_KID", "site/0a".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    })
    .await;
    for kid in ["owner", "OWNER", "owner/0123", "Owner/ab", "site", "site/0a", "SITE/0b"] {
        let status = release_by_grpc(&world, kid).await.err().unwrap();
        assert_eq!(status.code(), Code::PermissionDenied, "{kid}");
        assert!(status.message().contains("reserved"), "{kid}: {}", status.message());
        for access_token in ["", "a.token.of.ones.own"] {
            for vault in [world.vault.host(), "another.vault.azure.net".to_owned()] {
                let body = json!({
                    "maa_endpoint": "maa.test", "akv_endpoint": vault, "kid": kid,
                    "access_token": access_token,
                });
                let answer = post(world.role.http(), "/key/release", &body).await;
                assert_eq!(answer.status, 403, "{kid}: {}", answer.body);
                assert!(answer.body.contains("reserved"), "{kid}: {}", answer.body);
            }
        }
    }
    world.vault.hold(oct_key());
    assert!(release_by_grpc(&world, "owners").await.is_ok(), "other keys are released");
}
