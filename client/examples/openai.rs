//! A chat as OpenAI's API has it, streamed: every piece is printed as it comes.
//!
//! `cargo run -p client --example openai -- https://your-group.example policy.toml MODEL < prompt.txt`, with the key in
//! `API_KEY`: what stands on a command line, every user of the machine can read.

#![expect(clippy::print_stdout, reason = "what an example is for")]

use std::error::Error;
use std::io::{Read as _, Write as _};

use attestation::{Anchors, policy_file};
use client::{AttestedClient, CallError, Connector};
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

/// The longest event that is read, in bytes.
const LONGEST: usize = 1 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, policy, model] = words.as_slice() else {
        return Err("give a URL, a policy file and a model".into());
    };
    #[expect(clippy::disallowed_methods, reason = "every user can read a command line")]
    let key = std::env::var("API_KEY")?;
    let mut prompt = String::new();
    std::io::stdin().read_to_string(&mut prompt)?;
    let policy = policy_file::parse(&std::fs::read_to_string(policy)?)?;
    let connector = Connector::new(url.parse()?, Anchors::production(), policy);
    let client = AttestedClient::connect(connector).await?;
    let print = |piece: &str| {
        print!("{piece}");
        // Whoever closed the terminal wants no more of it.
        let _ = std::io::stdout().flush();
    };
    chat(&client, &key, model, prompt.trim_end(), print).await?;
    println!();
    Ok(())
}

/// Gives every piece of the answer to `piece`. If it ends early, the prompt was read by the attested group or by nobody.
pub(crate) async fn chat(
    client: &AttestedClient,
    key: &str,
    model: &str,
    prompt: &str,
    mut piece: impl FnMut(&str),
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let messages = json!([{"role": "user", "content": prompt}]);
    let body = json!({"model": model, "stream": true, "messages": messages});
    let request = Request::post("/v1/chat/completions")
        .header(AUTHORIZATION, format!("Bearer {key}"))
        .header(CONTENT_TYPE, "application/json")
        .body(body.to_string())?;
    let answer = client.send(request).await.map_err(explained)?;
    if !answer.status().is_success() {
        return Err(format!("the server answers {}", answer.status()).into());
    }
    let mut body = answer.into_body();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        text.extend_from_slice(&frame?.into_data().unwrap_or_default());
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let Some(event) = line.trim_ascii().strip_prefix(b"data: ") else { continue };
            if event == b"[DONE]" {
                return Ok(());
            }
            let event: Value = serde_json::from_slice(event)?;
            let delta = event.pointer("/choices/0/delta/content").and_then(Value::as_str);
            piece(delta.unwrap_or_default());
        }
        if text.len() > LONGEST {
            return Err("an event is too long".into());
        }
    }
    Err("the stream broke off".into())
}

/// What to tell a person: the typed error says whether trying again can help.
fn explained(error: CallError) -> Box<dyn Error + Send + Sync> {
    match error.failed_check() {
        Some(check) => format!("this is not the group that you mean: check {check} failed").into(),
        None if error.is_unreachable() => "the server cannot be reached".into(),
        None => error.into(),
    }
}
