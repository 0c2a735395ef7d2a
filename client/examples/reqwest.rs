//! Requests built with reqwest, sent over attested connections: embeds a text.
//!
//! `cargo run -p client --features reqwest --example reqwest -- https://your-group.example policy.toml < text.txt`, with
//! the key in `API_KEY`: what stands on a command line, every user of the machine can read.

#![expect(clippy::print_stdout, reason = "what an example is for")]

use std::error::Error;
use std::io::Read as _;

use attestation::{Anchors, policy_file};
use client::{AttestedClient, Connector};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, Url};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, policy] = words.as_slice() else {
        return Err("give a URL and a policy file".into());
    };
    #[expect(clippy::disallowed_methods, reason = "every user can read a command line")]
    let key = std::env::var("API_KEY")?;
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let policy = policy_file::parse(&std::fs::read_to_string(policy)?)?;
    let connector = Connector::new(url.parse()?, Anchors::production(), policy);
    let client = AttestedClient::connect(connector).await?;
    println!("{}", embed(&client, &key, text.trim_end()).await?);
    Ok(())
}

/// `reqwest::Client` may build the request as well, with its forms and headers. It must not send it: this client does.
pub(crate) async fn embed(
    client: &AttestedClient,
    key: &str,
    text: &str,
) -> Result<Value, Box<dyn Error + Send + Sync>> {
    let url: Url = format!("{}/v1/embeddings", client.target()).parse()?;
    let mut request = Request::new(Method::POST, url);
    let mut credential = HeaderValue::try_from(format!("Bearer {key}"))?;
    credential.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, credential);
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = json!({"model": "qwen3-embedding-4b", "input": text});
    *request.body_mut() = Some(body.to_string().into());
    let mut answer = client.execute(request).await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > 1 << 20 {
            return Err("the answer is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(serde_json::from_slice(&body)?)
}
