//! What a connection is shown before and after it was proved, and what a browser is shown.

use attestation::encoding::{from_b64u, to_b64u};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use stack::RoleName;
use stack::straight::{Straight, Version};

use crate::support::{Running, start, start_set};

async fn connect(running: &Running, version: Version) -> Straight {
    let url = running.stack.group.url().await.unwrap();
    let server = url.trim_start_matches("https://").parse().unwrap();
    Straight::tls(server, version).await.unwrap()
}

async fn get(connection: &mut Straight, path: &str, accept: &str) -> Response<Bytes> {
    let request = Request::get(path).header(ACCEPT, accept).body(Full::default()).unwrap();
    connection.send(request).await.unwrap()
}

/// Has the connection proved, as a program does, and returns the manifest.
async fn prove(connection: &mut Straight) -> Value {
    prove_as(connection, "application/json").await
}

async fn prove_as(connection: &mut Straight, kind: &str) -> Value {
    let body = format!("{{\"nonce\":\"{}\"}}", to_b64u(&[1; 32]));
    let request = Request::post("/attestation/verify").header(CONTENT_TYPE, kind);
    let request = request.body(Full::new(body.into())).unwrap();
    let answer: Value =
        serde_json::from_slice(connection.send(request).await.unwrap().body()).unwrap();
    serde_json::from_slice(&from_b64u(answer["manifest"].as_str().unwrap()).unwrap()).unwrap()
}

fn code(answer: &Response<Bytes>) -> (StatusCode, String) {
    let error: Value = serde_json::from_slice(answer.body()).unwrap();
    (answer.status(), error["error"]["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn admin_paths_answer_on_proved_connections_only() {
    let running = start().await;
    let not_proved = (StatusCode::FORBIDDEN, "connection_not_proved".to_owned());
    let no_page = (StatusCode::NOT_FOUND, "not_found".to_owned());
    for version in [Version::Http1, Version::Http2] {
        let mut connection = connect(&running, version).await;
        for path in ["/admin", "/admin/", "/admin/login", "/admin/%2e%2e/v1/models"] {
            assert_eq!(code(&get(&mut connection, path, "*/*").await), not_proved, "{path}");
        }
        // What is public proves nothing, and neither does another connection's proof.
        get(&mut connection, "/attestation", "*/*").await;
        prove(&mut connect(&running, version).await).await;
        assert_eq!(code(&get(&mut connection, "/admin", "*/*").await), not_proved);
        // A page of the web can make a browser ask for a proof on its own connection, but not as a program does.
        prove_as(&mut connection, "text/plain").await;
        assert_eq!(code(&get(&mut connection, "/admin", "*/*").await), not_proved);
        let manifest = prove(&mut connection).await;
        assert_eq!(code(&get(&mut connection, "/admin", "*/*").await), no_page);
        assert!(manifest.get("admin").is_none(), "{manifest}");
    }
    running.stop().await;
}

#[tokio::test]
async fn public_admin_pages_are_told_in_the_manifest() {
    let public = (RoleName::Proxy, "ADMIN_ACCESS", "public".to_owned());
    let running = start_set(|_| {}, vec![public]).await;
    let mut connection = connect(&running, Version::Http1).await;
    let answer = get(&mut connection, "/admin", "*/*").await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(prove(&mut connection).await["admin"], "public");
    running.stop().await;
}

#[tokio::test]
async fn a_browser_gets_a_page_that_explains_and_a_program_gets_json() {
    let running = start().await;
    let mut connection = connect(&running, Version::Http1).await;
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    // The first publication is made in the background.
    let published = async {
        while get(&mut connection, "/attestation", browser).await.status() != StatusCode::OK {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), published).await.unwrap();
    let page = get(&mut connection, "/attestation", browser).await;
    assert_eq!(page.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
    let policy = page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let text = String::from_utf8(page.body().to_vec()).unwrap();
    for part in ["This page proves nothing", "NOT PRODUCTION", "pmc verify", "<th>B3</th>"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let manifest = prove(&mut connection).await;
    assert!(text.contains(manifest["boot_id"].as_str().unwrap()));

    let document = get(&mut connection, "/attestation", "*/*").await;
    assert_eq!(document.headers()[CONTENT_TYPE], "application/json");
    let policy = &document.headers()[CONTENT_SECURITY_POLICY];
    assert_eq!(policy, "default-src 'none'; frame-ancestors 'none'");
    let document: Value = serde_json::from_slice(document.body()).unwrap();
    assert_eq!(document["tee_type"], "AMD SEV-SNP");
    running.stop().await;
}
