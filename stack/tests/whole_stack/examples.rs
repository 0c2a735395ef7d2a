//! The examples of the client library do what they say, against a group: the very files, called as functions.

use crate::support::start;
use client::AttestedClient;

#[expect(dead_code, reason = "its main is for people")]
#[path = "../../../client/examples/hyper.rs"]
mod hyper_example;

#[expect(dead_code, reason = "its main is for people")]
#[path = "../../../client/examples/openai.rs"]
mod openai_example;

#[expect(dead_code, reason = "its main is for people")]
#[path = "../../../client/examples/reqwest.rs"]
mod reqwest_example;

#[tokio::test]
async fn the_examples_of_the_client_do_what_they_say() {
    let running = start().await;
    let connector = running.stack.connector().await.unwrap();
    let client = AttestedClient::connect(connector).await.unwrap();
    let key = &running.stack.api_key;

    let models = hyper_example::models(&client, key).await.unwrap();
    assert!(models.contains("gpt-oss-120b"), "{models}");

    let embedding = reqwest_example::embed(&client, key, "a text").await.unwrap();
    assert!(embedding.pointer("/data/0/embedding/0").is_some(), "{embedding}");

    let mut pieces = Vec::new();
    let words = "one two three four five";
    let piece = |piece: &str| pieces.push(piece.to_owned());
    openai_example::chat(&client, key, "gpt-oss-120b", words, piece).await.unwrap();
    assert!(pieces.len() >= 5 && pieces.concat().contains("three"), "{pieces:?}");
    let wrong = openai_example::chat(&client, "pm_wrong", "gpt-oss-120b", words, |_| {}).await;
    assert!(wrong.unwrap_err().to_string().contains("401"));
    running.stop().await;
}
