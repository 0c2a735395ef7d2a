//! One question to a model, after the server has proved itself on the connection that carries it.
//!
//! `cargo run -p client --example chat -- https://your-group.example policy.toml`, with the key in `API_KEY`

#![expect(clippy::print_stdout, reason = "what an example is for")]

use std::error::Error;

use attestation::{Anchors, policy_file};
use client::{AttestedClient, Connector};
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, policy] = words.as_slice() else {
        return Err("give a URL and a policy file".into());
    };
    #[expect(clippy::disallowed_methods, reason = "every user can read a command line")]
    let key = std::env::var("API_KEY")?;
    let policy = policy_file::parse(&std::fs::read_to_string(policy)?)?;
    let connector = Connector::new(url.parse()?, Anchors::production(), policy);
    println!("{}", chat(connector, &key, "hello attested world").await?);
    Ok(())
}

pub(crate) async fn chat(
    connector: Connector,
    key: &str,
    question: &str,
) -> Result<String, Box<dyn Error + Send + Sync>> {
    // Fails with the check that failed; nothing but a request for a proof was sent then.
    let client = AttestedClient::connect(connector).await?;
    let messages = json!([{"role": "user", "content": question}]);
    let request = Request::post("/v1/chat/completions")
        .header(AUTHORIZATION, format!("Bearer {key}"))
        .header(CONTENT_TYPE, "application/json")
        .body(json!({"model": "gpt-oss-120b", "messages": messages}).to_string())?;
    let answer = client.send(request).await?;
    #[expect(clippy::disallowed_methods, reason = "the body is limited")]
    let body = Limited::new(answer.into_body(), 1 << 20).collect().await?.to_bytes();
    let answer: Value = serde_json::from_slice(&body)?;
    let text = answer.pointer("/choices/0/message/content").and_then(Value::as_str);
    Ok(text.unwrap_or_default().to_owned())
}
