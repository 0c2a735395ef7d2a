//! Plain HTTP types over attested connections: lists the models of a group.
//!
//! `cargo run -p client --example hyper -- https://your-group.example policy.toml`, with the key in `API_KEY`

#![expect(clippy::print_stdout, reason = "what an example is for")]

use std::error::Error;

use attestation::{Anchors, policy_file};
use client::{AttestedClient, Connector};
use http::Request;
use http::header::AUTHORIZATION;
use http_body_util::{BodyExt as _, Limited};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut words = std::env::args().skip(1);
    let (Some(url), Some(policy)) = (words.next(), words.next()) else {
        return Err("give a URL and a policy file".into());
    };
    #[expect(clippy::disallowed_methods, reason = "every user can read a command line")]
    let key = std::env::var("API_KEY")?;
    let policy = policy_file::parse(&std::fs::read_to_string(policy)?)?;
    let connector = Connector::new(url.parse()?, Anchors::production(), policy);
    let client = AttestedClient::connect(connector).await?;
    for finding in client.proof().appraised.findings() {
        println!("{} {}", finding.check.id, finding.check.title);
    }
    println!("{}", models(&client, &key).await?);
    Ok(())
}

/// Only a path is named: a client sends to the server that it proved and to nobody else.
pub(crate) async fn models(
    client: &AttestedClient,
    key: &str,
) -> Result<String, Box<dyn Error + Send + Sync>> {
    let request = Request::get("/v1/models")
        .header(AUTHORIZATION, format!("Bearer {key}"))
        .body(String::new())?;
    let answer = client.send(request).await?;
    #[expect(clippy::disallowed_methods, reason = "the body is limited")]
    let body = Limited::new(answer.into_body(), 1 << 20).collect().await?;
    Ok(String::from_utf8(body.to_bytes().to_vec())?)
}
