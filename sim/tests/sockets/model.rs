//! The model server: shapes, streams, counts, records, faults.

use std::io::Read as _;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sim::encoding::from_b64;
use sim::faults::ModelFault;

use crate::support::{Answer, PATIENCE, Stage, read, stage};

async fn model_stage(key: Option<&str>) -> Stage {
    stage(|config| {
        config.maa = None;
        config.vault = None;
        config.groups.clear();
        config.model.as_mut().unwrap().model.key = key.map(str::to_owned);
    })
    .await
}

fn url(stage: &Stage, path: &str) -> String {
    format!("{}{path}", stage.world.model().unwrap().url)
}

async fn post(stage: &Stage, path: &str, body: Value) -> Answer {
    stage.post(&url(stage, path), &[], &body).await
}

fn question(stream: bool) -> Value {
    json!({
        "model": "gpt-oss-120b",
        "stream": stream,
        "messages": [
            {"role": "system", "content": "repeat after me"},
            {"role": "user", "content": "the quick brown fox"},
        ],
    })
}

/// The data of each event; `[DONE]` is a string.
fn events(answer: &Answer) -> Vec<Value> {
    answer
        .text()
        .split("\n\n")
        .filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")))
        .map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data)))
        .collect()
}

#[tokio::test]
async fn chat_repeats_the_question_and_counts_its_words() {
    let stage = model_stage(None).await;
    let answer = post(&stage, "/v1/chat/completions", question(false)).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let body = answer.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["message"]["content"], "the quick brown fox");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["prompt_tokens"], 7);
    assert_eq!(body["usage"]["completion_tokens"], 4);
    assert_eq!(body["usage"]["total_tokens"], 11);
    let again = post(&stage, "/v1/chat/completions", question(false)).await.json();
    assert_eq!(again["id"], body["id"]);

    let mut short = question(false);
    short["max_tokens"] = json!(2);
    let body = post(&stage, "/v1/chat/completions", short).await.json();
    assert_eq!(body["choices"][0]["message"]["content"], "the quick");
    assert_eq!(body["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn a_stream_comes_chunk_by_chunk_with_its_usage_last() {
    let pause = Duration::from_millis(30);
    let stage = stage(|config| config.model.as_mut().unwrap().model.delay = pause).await;
    let mut body = question(true);
    body["stream_options"] = json!({"include_usage": true});
    let started = Instant::now();
    let mut response = stage
        .client
        .post(url(&stage, "/v1/chat/completions"))
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    let first = response.chunk().await.unwrap().unwrap();
    let first_after = started.elapsed();
    assert!(first.starts_with(b"data: {"));
    let rest = read(response).await.unwrap();
    assert!(started.elapsed() - first_after >= 6 * pause);
    assert!(rest.header("content-type").starts_with("text/event-stream"));
    let whole = Answer { body: [&first[..], &rest.body[..]].concat(), ..rest };
    let events = events(&whole);
    assert_eq!(events.last().unwrap(), "[DONE]");
    let chunks = &events[..events.len() - 1];
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "the quick brown fox");
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &json!(11)));
    assert!(others.iter().all(|chunk| chunk["usage"].is_null()));
    assert_eq!(others.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn the_other_endpoints_have_their_shapes() {
    let stage = model_stage(None).await;
    let body = json!({"model": "gpt-oss-120b", "prompt": "one two"});
    let answer = post(&stage, "/v1/completions", body).await.json();
    assert_eq!(answer["choices"][0]["text"], "one two");
    assert_eq!(answer["usage"]["total_tokens"], 4);

    let body = json!({"model": "multilingual-e5", "input": ["a b", "c"], "dimensions": 8});
    let floats = post(&stage, "/v1/embeddings", body.clone()).await.json();
    assert_eq!(floats["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    assert_eq!(floats["data"][1]["embedding"].as_array().unwrap().len(), 8);
    let mut body = body;
    body["encoding_format"] = json!("base64");
    let base64 = post(&stage, "/v1/embeddings", body).await.json();
    let bytes = from_b64(base64["data"][1]["embedding"].as_str().unwrap()).unwrap();
    let first = f64::from(f32::from_le_bytes(bytes[..4].try_into().unwrap()));
    assert!((first - floats["data"][1]["embedding"][0].as_f64().unwrap()).abs() < 1e-6);

    let models = stage.get(&url(&stage, "/v1/models")).await.json();
    assert_eq!(models["data"][0]["id"], "gpt-oss-120b");
    let model = stage.get(&url(&stage, "/v1/models/gpt-oss-120b")).await.json();
    assert_eq!(model["object"], "model");

    let body = json!({"model": "gpt-oss-120b", "input": "one two"});
    let answer = post(&stage, "/v1/responses", body.clone()).await.json();
    assert_eq!(answer["output"][0]["content"][0]["text"], "one two");
    assert_eq!(answer["usage"]["output_tokens"], 2);
    let mut body = body;
    body["stream"] = json!(true);
    let events = events(&post(&stage, "/v1/responses", body).await);
    assert_eq!(events[0]["type"], "response.created");
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["usage"]["total_tokens"], 4);
}

#[tokio::test]
async fn the_messages_api_answers_whole_and_in_events() {
    let stage = model_stage(None).await;
    let body = json!({
        "model": "gpt-oss-120b",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "one two"}]}],
    });
    let answer = post(&stage, "/v1/messages", body.clone()).await.json();
    assert_eq!(answer["content"][0]["text"], "one two");
    let usage = json!({
        "input_tokens": 2,
        "output_tokens": 2,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    });
    assert_eq!(answer["usage"], usage);
    assert_eq!(answer["stop_reason"], "end_turn");
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let events = events(&post(&stage, "/v1/messages", streamed).await);
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], 2);
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, "one two");
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    let mut without = body;
    without.as_object_mut().unwrap().remove("max_tokens");
    let answer = post(&stage, "/v1/messages", without).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["type"], "error");
}

fn multipart(file: &[u8], fields: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part =
            format!("--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    body.extend_from_slice(
        b"--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
          Content-Type: audio/wav\r\n\r\n",
    );
    body.extend_from_slice(file);
    body.extend_from_slice(b"\r\n--X--\r\n");
    body
}

async fn transcribe(stage: &Stage, body: Vec<u8>) -> Answer {
    let response = stage
        .client
        .post(url(stage, "/v1/audio/transcriptions"))
        .header("content-type", "multipart/form-data; boundary=X")
        .body(body)
        .send()
        .await
        .unwrap();
    read(response).await.unwrap()
}

#[tokio::test]
async fn audio_is_streamed_counted_and_bounded() {
    let stage = model_stage(None).await;
    let file = vec![7; 3 * 1024 * 1024];
    let answer = transcribe(&stage, multipart(&file, &[("model", "whisper-large-v3")])).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(answer.json()["text"].as_str().unwrap().starts_with("3145728 bytes"));
    let record = stage.world.records().all().pop().unwrap();
    assert_eq!(record.file_bytes, Some(3 * 1024 * 1024));
    assert_eq!(record.body_sha256, Some(hex::encode(Sha256::digest(&file))));

    let fields = [("model", "whisper-large-v3"), ("response_format", "text")];
    let answer = transcribe(&stage, multipart(b"x", &fields)).await;
    assert!(answer.header("content-type").starts_with("text/plain"));
    assert_eq!(transcribe(&stage, multipart(b"x", &[])).await.status, StatusCode::BAD_REQUEST);
    let huge = vec![0; 64 * 1024 * 1024 + 1];
    let answer = transcribe(&stage, multipart(&huge, &[("model", "whisper-large-v3")])).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_key_is_asked_for_and_the_unknown_is_refused_in_openais_words() {
    let stage = model_stage(Some("upstream-key")).await;
    let path = url(&stage, "/v1/chat/completions");
    let good = [("authorization", "Bearer upstream-key")];
    for headers in [&[][..], &[("authorization", "Bearer other")]] {
        let answer = stage.post(&path, headers, &question(false)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.json()["error"]["code"], "invalid_api_key");
    }
    assert_eq!(stage.post(&path, &good, &question(false)).await.status, StatusCode::OK);
    let answer = stage.post(&url(&stage, "/v1/nonsense"), &good, &json!({})).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    let unknown = json!({"model": "gpt-0", "messages": []});
    let answer = stage.post(&path, &good, &unknown).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.json()["error"]["code"], "model_not_found");
    let answer = stage.post(&path, &good, &json!([1])).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn requests_are_recorded_for_the_library_and_over_http() {
    let stage = model_stage(None).await;
    let headers = [("x-canary", "Value"), ("authorization", "Bearer secret")];
    stage.post(&url(&stage, "/v1/chat/completions?a=b"), &headers, &question(false)).await;
    let record = stage.world.records().all().pop().unwrap();
    assert_eq!(
        (record.method.as_str(), record.target.as_str()),
        ("POST", "/v1/chat/completions?a=b",)
    );
    assert_eq!(record.header("X-Canary"), Some("Value"));
    assert_eq!(record.header("Authorization"), Some("Bearer secret"));
    assert_eq!(record.body, Some(question(false).to_string()));
    assert_eq!((record.status, record.completed, record.client_gone), (Some(200), true, false));

    let requests = url(&stage, "/_sim/requests");
    let shown = stage.get(&requests).await.json();
    assert_eq!(shown[0]["target"], "/v1/chat/completions?a=b");
    stage.send(Method::DELETE, &requests, &[], None).await.unwrap();
    assert_eq!(stage.get(&requests).await.json(), json!([]));
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed_before_and_in_the_stream() {
    let stage = model_stage(None).await;
    let faults = &stage.world.model().unwrap().faults;
    let path = url(&stage, "/v1/chat/completions");
    for (number, fault) in
        [ModelFault::StallBeforeFirstByte, ModelFault::StallMidStream { chunks: 2 }]
            .into_iter()
            .enumerate()
    {
        let stalls_at_once = fault == ModelFault::StallBeforeFirstByte;
        faults.once(fault);
        let request = stage.client.post(&path).body(question(true).to_string()).send();
        let wait = if stalls_at_once { Duration::from_millis(200) } else { PATIENCE };
        let sent = tokio::time::timeout(wait, request).await;
        assert_eq!(sent.is_err(), stalls_at_once);
        drop(sent);
        let number = u64::try_from(number).unwrap() + 1;
        let gone =
            stage.world.records().wait_for(|record| record.number == number && record.client_gone);
        let record = tokio::time::timeout(PATIENCE, gone).await.unwrap();
        assert!(!record.completed);
    }
}

#[tokio::test]
async fn every_fault_shows() {
    let stage = model_stage(None).await;
    let faults = &stage.world.model().unwrap().faults;
    let path = url(&stage, "/v1/chat/completions");
    let once = async |fault: ModelFault, stream: bool| {
        faults.once(fault);
        stage.send(Method::POST, &path, &[], Some(&question(stream))).await
    };
    let status = async |fault| once(fault, false).await.unwrap().status;
    assert_eq!(status(ModelFault::Unauthorized).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(ModelFault::ServerError).await, StatusCode::INTERNAL_SERVER_ERROR);
    let answer = once(ModelFault::TooManyRequests { retry_after: 4 }, false).await.unwrap();
    assert_eq!(answer.header("retry-after"), "4");
    let answer = once(ModelFault::UsageNull, false).await.unwrap();
    assert_eq!(answer.json()["usage"], Value::Null);
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "the quick brown fox");
    let answer = once(ModelFault::SetCookie, false).await.unwrap();
    assert!(answer.header("set-cookie").starts_with("upsess="));

    let answer = once(ModelFault::Gzip, false).await.unwrap();
    assert_eq!(answer.header("content-encoding"), "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&answer.body[..]).read_to_string(&mut text).unwrap();
    let plain: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(plain["usage"]["total_tokens"], 11);

    for stream in [false, true] {
        assert!(once(ModelFault::ResetAfter { bytes: 50 }, stream).await.is_err());
        let record = stage.world.records().all().pop().unwrap();
        assert!(!record.completed && !record.client_gone);
    }
    let canned = ModelFault::Canned {
        status: 302,
        headers: vec![
            ("location".to_owned(), "/elsewhere".to_owned()),
            ("x-multi".to_owned(), "a".to_owned()),
            ("x-multi".to_owned(), "b".to_owned()),
        ],
        body: "[1]".to_owned(),
    };
    let answer = once(canned, false).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.text()), (302, "[1]"));
    assert_eq!(answer.headers.get_all("x-multi").iter().count(), 2);
    let empty = ModelFault::Canned { status: 204, headers: Vec::new(), body: String::new() };
    assert_eq!(once(empty, false).await.unwrap().status, StatusCode::NO_CONTENT);
}
