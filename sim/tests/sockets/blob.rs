//! Blob Storage: append blobs, who may write them, and how it misbehaves.

use reqwest::{Method, StatusCode};
use serde_json::json;
use sim::faults::{BlobFault, BlobReadFault};
use sim::world::BlobServerConfig;

use crate::support::{Answer, Stage, read, stage};

async fn account() -> Stage {
    stage(|config| {
        (config.maa, config.vault, config.model) = (None, None, None);
        config.blob =
            Some(BlobServerConfig { max_blocks: 3, max_page: 2, ..BlobServerConfig::default() });
    })
    .await
}

/// A call with a good token and a good version, to which others are added.
async fn call(
    stage: &Stage,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer, String> {
    let token = format!("Bearer {}", stage.world.storage_token("group").unwrap());
    let url = format!("{}/{path}", stage.world.blob().unwrap().running.url);
    let mut request = stage.client.request(method, url).body(body.to_owned());
    let good =
        [("authorization", token.as_str()), ("x-ms-version", "2022-11-02"), ("x-ms-date", "now")];
    for (name, value) in good.iter().chain(headers) {
        request = request.header(*name, *value);
    }
    read(request.send().await.map_err(|error| error.to_string())?).await
}

async fn create(stage: &Stage, path: &str) -> Answer {
    let headers = [("x-ms-blob-type", "AppendBlob"), ("if-none-match", "*")];
    call(stage, Method::PUT, path, &headers, "").await.unwrap()
}

async fn append(stage: &Stage, position: usize, block: &str) -> Result<Answer, String> {
    let position = position.to_string();
    let headers = [("x-ms-blob-condition-appendpos", position.as_str())];
    call(stage, Method::PUT, "logs/a.jsonl?comp=appendblock", &headers, block).await
}

async fn text(stage: &Stage, headers: &[(&str, &str)]) -> Answer {
    call(stage, Method::GET, "logs/a.jsonl", headers, "").await.unwrap()
}

fn code(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.header("x-ms-error-code"))
}

#[tokio::test]
async fn what_is_appended_is_read_and_nothing_stands_in_its_place() {
    let stage = account().await;
    assert_eq!(code(&append(&stage, 0, "x").await.unwrap()), (404, "BlobNotFound"));
    assert_eq!(create(&stage, "logs/a.jsonl").await.status, StatusCode::CREATED);
    assert_eq!(code(&create(&stage, "logs/a.jsonl").await), (409, "BlobAlreadyExists"));
    assert_eq!(code(&create(&stage, "other/a.jsonl").await), (404, "ContainerNotFound"));

    let answer = append(&stage, 0, "one\n").await.unwrap();
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.header("x-ms-blob-append-offset"), "0");
    assert_eq!(answer.header("x-ms-blob-committed-block-count"), "1");
    let moved = append(&stage, 0, "one\n").await.unwrap();
    assert_eq!(code(&moved), (412, "AppendPositionConditionNotMet"));
    append(&stage, 4, "two\n").await.unwrap();
    assert_eq!(text(&stage, &[]).await.text(), "one\ntwo\n");
    let part = text(&stage, &[("x-ms-range", "bytes=4-6")]).await;
    assert_eq!((part.status, part.text()), (StatusCode::PARTIAL_CONTENT, "two"));
    assert_eq!(part.header("content-range"), "bytes 4-6/8");
    assert_eq!(code(&text(&stage, &[("range", "bytes=8-")]).await), (416, "InvalidRange"));
    let head = call(&stage, Method::HEAD, "logs/a.jsonl", &[], "").await.unwrap();
    assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, "8"));

    append(&stage, 8, "three\n").await.unwrap();
    assert_eq!(code(&append(&stage, 14, "x").await.unwrap()), (409, "BlockCountExceedsLimit"));
    let list = call(&stage, Method::GET, "logs?restype=container&comp=list&prefix=a", &[], "");
    assert!(list.await.unwrap().text().contains("<Name>a.jsonl</Name>"));
}

#[tokio::test]
async fn a_stranger_gets_nothing() {
    let stage = account().await;
    create(&stage, "logs/a.jsonl").await;
    let vault = stage.world.access_token("group", sim::vault::Service::KeyVault).unwrap();
    let other = stage.world.storage_token("nobody").unwrap();
    for (headers, status) in [
        (vec![("authorization", format!("Bearer {vault}"))], 401),
        (vec![("authorization", format!("Bearer {other}"))], 403),
        (vec![("authorization", "Bearer a.b.c".to_owned())], 401),
        (vec![("x-ms-version", "2015-02-21".to_owned())], 401),
    ] {
        // a header that stands twice is not one, so the good one is left out
        let url = format!("{}/logs/a.jsonl", stage.world.blob().unwrap().running.url);
        let token = format!("Bearer {}", stage.world.storage_token("group").unwrap());
        let mut request = stage.client.get(url).header("x-ms-date", "now");
        let named = |name: &str| headers.iter().find(|(other, _)| *other == name);
        for (name, good) in [("authorization", token.as_str()), ("x-ms-version", "2022-11-02")] {
            request = request.header(name, named(name).map_or(good, |(_, value)| value));
        }
        let answer = read(request.send().await.unwrap()).await.unwrap();
        assert_eq!(answer.status.as_u16(), status, "{headers:?}");
    }
}

#[tokio::test]
async fn faults_of_appends_show_and_pass() {
    let stage = account().await;
    create(&stage, "logs/a.jsonl").await;
    let blob = stage.world.blob().unwrap();
    let faults = &blob.running.faults;
    faults.once(BlobFault::ServerBusy { retry_after: 4 });
    let busy = append(&stage, 0, "x").await.unwrap();
    assert_eq!((code(&busy), busy.header("retry-after")), ((503, "ServerBusy"), "4"));
    faults.once(BlobFault::ServerError);
    assert_eq!(append(&stage, 0, "x").await.unwrap().status.as_u16(), 500);
    faults.once(BlobFault::Unauthorized);
    assert_eq!(append(&stage, 0, "x").await.unwrap().status.as_u16(), 401);
    faults.once(BlobFault::Forbidden);
    assert_eq!(append(&stage, 0, "x").await.unwrap().status.as_u16(), 403);
    faults.once(BlobFault::WrongPosition);
    assert_eq!(append(&stage, 0, "x").await.unwrap().status.as_u16(), 412);
    assert_eq!(text(&stage, &[]).await.text(), "");
    faults.once(BlobFault::LostAnswer);
    assert!(append(&stage, 0, "heard by nobody").await.is_err());
    assert_eq!(text(&stage, &[]).await.text(), "heard by nobody");
    assert_eq!(blob.appends.get(), 6);

    let url = format!("{}/_sim/faults", blob.running.url);
    let schedule = json!({"blob": [{"fault": {"kind": "lost-answer"}, "times": 1}]});
    let put = stage.send(Method::PUT, &url, &[], Some(&schedule)).await.unwrap();
    assert_eq!(put.status, StatusCode::NO_CONTENT);
    assert_eq!(faults.scheduled().len(), 1);
}

#[tokio::test]
async fn a_container_is_listed_and_read_with_a_signature() {
    let stage = account().await;
    for name in ["a.jsonl", "b.jsonl", "c/d.jsonl", "e.jsonl"] {
        create(&stage, &format!("logs/{name}")).await;
    }
    let url = stage.world.blob().unwrap().running.url.clone();
    let get = async |path: &str, permissions: &str, expiry: &str| {
        let signature = stage.world.storage_signature("logs", permissions, expiry);
        let joint = if path.contains('?') { '&' } else { '?' };
        stage.get(&format!("{url}/{path}{joint}{signature}")).await
    };
    const LONG: &str = "2999-01-01T00:00:00Z";
    let list = "logs?restype=container&comp=list&delimiter=%2F";
    let first = get(list, "rl", LONG).await;
    let first = first.text();
    assert!(first.contains("<Name>a.jsonl</Name>") && first.contains("<Name>b.jsonl</Name>"));
    let marker = first.split_once("<NextMarker>").unwrap().1.split_once('<').unwrap().0;
    let second = get(&format!("{list}&marker={marker}"), "rl", LONG).await;
    let second = second.text();
    assert!(second.contains("<BlobPrefix><Name>c/</Name></BlobPrefix>"), "{second}");
    assert!(second.contains("<NextMarker />"), "{second}");
    let below = get("logs?restype=container&comp=list&prefix=c%2F&maxresults=1", "l", LONG).await;
    assert!(below.text().contains("<Name>c/d.jsonl</Name>"));
    let none = get("logs?restype=container&comp=list&maxresults=0", "l", LONG).await;
    assert_eq!(code(&none), (400, "InvalidQueryParameterValue"));

    assert_eq!(get("logs/a.jsonl", "r", LONG).await.status, StatusCode::OK);
    let refused = get("logs/a.jsonl", "l", LONG).await;
    assert_eq!(code(&refused), (403, "AuthorizationPermissionMismatch"));
    let late = get("logs/a.jsonl", "r", "2020-01-01T00:00:00Z").await;
    assert_eq!(code(&late), (403, "AuthenticationFailed"));

    let gone = call(&stage, Method::DELETE, "logs/a.jsonl", &[], "").await.unwrap();
    assert_eq!(gone.status, StatusCode::ACCEPTED);
    assert_eq!(code(&get("logs/a.jsonl", "r", LONG).await), (404, "BlobNotFound"));
}

#[tokio::test]
async fn faults_of_reads_show_and_leave_appends_alone() {
    let stage = account().await;
    create(&stage, "logs/a.jsonl").await;
    let reads = &stage.world.blob().unwrap().reads;
    reads.until_cleared(BlobReadFault::Forbidden);
    assert_eq!(append(&stage, 0, "0123456789").await.unwrap().status, StatusCode::CREATED);
    assert_eq!(text(&stage, &[]).await.status, StatusCode::FORBIDDEN);
    reads.once(BlobReadFault::ServerBusy { retry_after: 4 });
    let busy = text(&stage, &[]).await;
    assert_eq!((code(&busy), busy.header("retry-after")), ((503, "ServerBusy"), "4"));
    reads.once(BlobReadFault::WholeBlob);
    let whole = text(&stage, &[("x-ms-range", "bytes=0-1")]).await;
    assert_eq!((whole.status, whole.text()), (StatusCode::OK, "0123456789"));
    reads.once(BlobReadFault::Redirect { location: "https://elsewhere.example".to_owned() });
    let elsewhere = text(&stage, &[]).await;
    assert_eq!(elsewhere.header("location"), "https://elsewhere.example");
    let list = async || {
        let path = "logs?restype=container&comp=list";
        let list = call(&stage, Method::GET, path, &[], "").await.unwrap();
        list.text().to_owned()
    };
    reads.once(BlobReadFault::EntityBomb);
    assert!(list().await.contains("<!ENTITY"));
    reads.once(BlobReadFault::EndlessList);
    assert!(list().await.contains("<NextMarker>again</NextMarker>"));
    assert!(list().await.contains("<Name>a.jsonl</Name>"));
}
