//! `SKR_STATUS=strict` over a socket: what may pass is told from what will not, in the same words.

mod world;

use serde_json::{Value, json};
use tonic::Status;

use world::World;
use world::attest::Mood;
use world::client::post;
use world::release::oct_key;
use world::vault::Misdeed;

async fn strict() -> World {
    let world = World::start_with(|vault| {
        vec![
            ("KEY_VAULT_URL".to_owned(), format!("https://{vault}")),
            ("SKR_STATUS".to_owned(), "strict".to_owned()),
        ]
    })
    .await;
    world.vault.hold(oct_key());
    world
}

fn request(vault: &str) -> Value {
    json!({"maa_endpoint": "m.test", "akv_endpoint": vault, "kid": "k"})
}

#[tokio::test]
async fn a_party_that_is_busy_says_for_how_long() {
    let world = strict().await;
    let request = request(&world.vault.host());
    // Longer than anybody waits here, so that it is told at once.
    world.vault.misbehave([Misdeed::Refuse(429, "slow", vec![("retry-after", "600")])]);
    let answer = post(world.role.http(), "/key/release", &request).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("600")));
    let text = "pulling AKV response body failed: slow: http response status equal to 429 Too Many Requests";
    assert!(answer.error().contains(text), "{}", answer.body);

    world.vault.misbehave([Misdeed::Refuse(403, "no", vec![("retry-after", "600")])]);
    let answer = post(world.role.http(), "/key/release", &request).await;
    assert_eq!((answer.status, answer.header("retry-after")), (403, None));
    world.vault.misbehave([Misdeed::Answer(b"{}".to_vec())]);
    assert_eq!(post(world.role.http(), "/key/release", &request).await.status, 502);
    assert_eq!(post(world.role.http(), "/key/release", &request).await.status, 200);
}

#[tokio::test]
async fn a_device_that_is_missing_may_come() {
    let world = strict().await;
    let missing = Status::failed_precondition("SEV guest driver is missing: none is there");
    world.attest.be(Mood::Fails(missing));
    for path in ["/attest/raw", "/attest/combined"] {
        let answer = post(world.role.http(), path, &json!({"runtime_data": "e30="})).await;
        assert_eq!(answer.status, 503, "{path}");
        assert!(answer.error().contains("SEV guest driver is missing"), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_callers_mistake_stays_one() {
    let world = strict().await;
    let answer = post(world.role.http(), "/attest/raw", &json!({"runtime_data": "?"})).await;
    assert_eq!(answer.status, 400);
    let answer = post(world.role.http(), "/key/release", &request("evil.test")).await;
    assert_eq!(answer.status, 403);
}
