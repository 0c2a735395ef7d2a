//! What is kept between releases, for how long and for whom; and what a caller may ask of one release.

mod world;

use attestation::encoding::to_b64u;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::skr::ReleaseKeyRequest;
use serde_json::{Value, json};
use tonic::Code;

use world::World;
use world::client::post;
use world::release::{OCT_JWK, oct_key, release, release_by_grpc, request};
use world::vault::Misdeed;

/// A kept token that a vault does not accept is replaced once; what a vault refuses of a fresh one is told.
#[tokio::test]
async fn a_token_that_was_withdrawn_is_replaced() {
    let world = World::start().await;
    world.vault.hold(oct_key());
    let no = || Misdeed::Refuse(401, "no", Vec::new());
    world.vault.misbehave([no()]);
    let error = release_by_grpc(&world, "tls").await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "a fresh token is not replaced");
    assert_eq!((world.vault.requests().len(), world.identity.requests().len()), (1, 1));

    world.vault.misbehave([no()]);
    assert_eq!(release(&world).await.status, 200);
    assert_eq!((world.vault.requests().len(), world.identity.requests().len()), (3, 2));

    world.vault.misbehave([no(), no()]);
    let error = release_by_grpc(&world, "tls").await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    assert!(error.message().ends_with("no: http response status equal to 401 Unauthorized"));
    assert_eq!((world.vault.requests().len(), world.identity.requests().len()), (5, 3));

    world.vault.misbehave([no()]);
    world.identity.refuse([(403, "gone"), (403, "gone")]);
    let error = release_by_grpc(&world, "tls").await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "the vault's word, not the identity's");

    world.vault.misbehave([no()]);
    let mut own = request(&world);
    own["access_token"] = json!("callers.token");
    assert_eq!(post(world.role.http(), "/key/release", &own).await.status, 403);
    assert_eq!(world.identity.requests().len(), 4, "a caller's own token is nobody's to replace");
}

#[tokio::test]
async fn the_identity_is_asked_once_however_many_release() {
    let world = World::start().await;
    world.vault.hold(oct_key());
    for _ in 0..3 {
        let all = (0..5).map(|_| release_by_grpc(&world, "tls"));
        let all = futures_util::future::join_all(all).await;
        assert!(all.iter().all(Result::is_ok), "{:?}", all.iter().find(|one| one.is_err()));
    }
    assert_eq!(world.identity.requests().len(), 1);
}

#[tokio::test]
async fn a_token_that_ends_soon_is_not_kept() {
    let world = World::start().await;
    world.vault.hold(oct_key());
    let short = r#"{"access_token":"a.short.one","expires_in":"299"}"#;
    let silent = r#"{"access_token":"a.silent.one"}"#;
    let long = r#"{"access_token":"a.long.one","expires_in":3600}"#;
    world.identity.refuse([(200, short), (200, silent), (200, long)]);
    for _ in 0..4 {
        assert_eq!(release(&world).await.status, 200);
    }
    let sent = world.vault.requests();
    let sent: Vec<_> = sent.iter().map(|one| one.headers()["authorization"].clone()).collect();
    let tokens = ["a.short.one", "a.silent.one", "a.long.one", "a.long.one"];
    assert_eq!(sent, tokens.map(|token| format!("Bearer {token}")));
}

/// What is kept is kept for those who asked for it, by the group's right, and no longer than they asked.
#[tokio::test]
async fn a_key_is_kept_only_for_callers_who_ask_for_that() {
    let world = World::start().await;
    world.vault.hold(oct_key());
    let by_grpc = async |cache_seconds| {
        let kid = "tls".to_owned();
        let request = ReleaseKeyRequest { kid, cache_seconds, ..Default::default() };
        world.role.keys().release_key(request).await.unwrap().into_inner().jwk
    };
    let releases = || world.vault.requests().len();
    for (cache_seconds, so_far) in [(60, 1), (60, 1), (0, 2), (60, 2)] {
        assert_eq!(by_grpc(cache_seconds).await, OCT_JWK.as_bytes());
        assert_eq!(releases(), so_far);
    }
    let mut body = request(&world);
    body["cache_seconds"] = json!("60");
    for so_far in [3, 3] {
        let answer = post(world.role.http(), "/key/release", &body).await;
        assert_eq!(answer.body, json!({"key": OCT_JWK}).to_string());
        assert_eq!(releases(), so_far, "another MAA instance than by gRPC, so once more");
    }
    body["access_token"] = json!("callers.token");
    for so_far in [4, 5] {
        assert_eq!(post(world.role.http(), "/key/release", &body).await.status, 200);
        assert_eq!(releases(), so_far, "nothing is kept of, or answered to, a caller's own token");
    }
    body["cache_seconds"] = json!("-1");
    let answer = post(world.role.http(), "/key/release", &body).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
}

#[tokio::test]
async fn a_key_with_another_policy_than_expected_is_not_handed_out() {
    let world = World::start().await;
    let policy = json!({"version": "1.0.0", "anyOf": [{"authority": "https://m", "allOf": []}]});
    let with = |data: &str| {
        let mut key = oct_key();
        key.policy = Some(json!({"data": to_b64u(data.as_bytes()), "immutable": true}));
        key
    };
    let by_grpc = async |policy: &str| {
        let (kid, release_policy) = ("tls".to_owned(), policy.as_bytes().to_vec());
        let request = ReleaseKeyRequest { kid, release_policy, ..Default::default() };
        world.role.keys().release_key(request).await.map(|reply| reply.into_inner().jwk)
    };
    let mut by_http = request(&world);
    by_http["release_policy"] = json!(STANDARD.encode(policy.to_string()));
    world.vault.hold(with(&policy.to_string()));
    assert!(by_grpc(&policy.to_string()).await.is_ok());
    assert!(
        by_grpc(r#"{"anyOf":[{"allOf":[],"authority":"https://m"}],"version":"1.0.0"}"#)
            .await
            .is_ok()
    );
    assert_eq!(post(world.role.http(), "/key/release", &by_http).await.status, 200);

    for other in [with(r#"{"version":"1.0.0","anyOf":[]}"#), oct_key()] {
        world.vault.hold(other);
        let error = by_grpc(&policy.to_string()).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
        let text = error.message();
        assert!(text.contains("release policy is not the one that is expected"), "{text}");
    }
    let answer = post(world.role.http(), "/key/release", &by_http).await;
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert_eq!(release(&world).await.status, 200, "nobody expected anything");

    let error = by_grpc("{").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    by_http["release_policy"] = json!("!");
    assert_eq!(post(world.role.http(), "/key/release", &by_http).await.status, 400);
}

#[tokio::test]
async fn another_mechanism_is_asked_for_and_opened() {
    let world = World::start_with(|vault| {
        let pairs = [
            ("KEY_VAULT_URL", format!("https://{vault}")),
            ("SKR_WRAP", "RSA_AES_KEY_WRAP_384".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    })
    .await;
    world.vault.hold(oct_key());
    let answer = release(&world).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body: Value = serde_json::from_slice(world.vault.requests()[0].body()).unwrap();
    assert_eq!(body["enc"], "RSA_AES_KEY_WRAP_384");
    let other = |_: &mut Value, payload: &mut Value| {
        payload["request"]["enc"] = json!("RSA_AES_KEY_WRAP_256");
    };
    world.vault.misbehave([Misdeed::Sign(other)]);
    assert!(release(&world).await.error().contains("for another enc than"));
}

#[tokio::test]
async fn a_refused_request_can_be_found_again_by_its_name() {
    let world = World::start().await;
    world.vault.hold(oct_key());
    world.vault.misbehave([Misdeed::Refuse(403, "no", vec![("x-ms-request-id", "0f-1")])]);
    let error = release(&world).await.error();
    let told = "no: http response status equal to 403 Forbidden (request id 0f-1)";
    assert!(error.ends_with(told), "{error}");
}
