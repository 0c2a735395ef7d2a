//! What a connection is shown before and after it was proved, and what a browser is shown.

use attestation::encoding::{from_b64u, to_b64u};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE};
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
pub(crate) async fn prove(connection: &mut Straight) -> Value {
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
    // This group has no password: what a proved connection is told is that nobody can log in.
    let disabled = (StatusCode::FORBIDDEN, "admin_disabled".to_owned());
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
        assert_eq!(code(&get(&mut connection, "/admin", "*/*").await), disabled);
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
    assert_eq!(code(&answer), (StatusCode::FORBIDDEN, "admin_disabled".to_owned()));
    assert_eq!(prove(&mut connection).await["admin"], "public");
    running.stop().await;
}

/// Waits for the first publication, which is made in the background.
async fn published(connection: &mut Straight) {
    let published = async {
        while get(connection, "/attestation", "*/*").await.status() != StatusCode::OK {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), published).await.unwrap();
}

#[tokio::test]
async fn a_login_answers_with_the_evidence_that_its_session_is_bound_to() {
    let password = (RoleName::Proxy, "ADMIN_PASSWORD", "a-long-password".to_owned());
    let running = start_set(|_| {}, vec![password]).await;
    let mut connection = connect(&running, Version::Http2).await;
    published(&mut connection).await;
    let manifest = prove(&mut connection).await;
    let request = Request::post("/admin/login").header(ACCEPT, "application/json");
    let request = request.header(CONTENT_TYPE, "application/json");
    let body = Full::new(r#"{"password":"a-long-password"}"#.into());
    let answer = connection.send(request.body(body).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(answer["attestation"]["tee_type"], "AMD SEV-SNP");
    let told = from_b64u(answer["attestation"]["manifest"].as_str().unwrap()).unwrap();
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["boot_id"], manifest["boot_id"]);

    let session = answer["session"].as_str().unwrap();
    let own = Request::get("/admin/api/session").header(AUTHORIZATION, format!("Bearer {session}"));
    let own = connection.send(own.body(Full::default()).unwrap()).await.unwrap();
    let own: Value = serde_json::from_slice(own.body()).unwrap();
    assert_eq!(own["bound_to"]["boot_id"], manifest["boot_id"]);
    assert_eq!(own["bound_to"]["anchors"], "NOT PRODUCTION");
    // The page says the same.
    let page = Request::get("/admin/attestation").header(ACCEPT, "text/html");
    let page = page.header(COOKIE, format!("admin_session={session}"));
    let page = connection.send(page.body(Full::default()).unwrap()).await.unwrap();
    let page = String::from_utf8_lossy(page.body()).into_owned();
    assert!(page.contains(own["bound_to"]["manifest_sha256"].as_str().unwrap()), "{page}");
    assert!(page.contains("The same start of the same group"), "{page}");
    // Another connection is not shown it, session or not, before it is proved as well.
    let mut other = connect(&running, Version::Http2).await;
    let own = Request::get("/admin/api/session").header(AUTHORIZATION, format!("Bearer {session}"));
    let refused = other.send(own.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(code(&refused), (StatusCode::FORBIDDEN, "connection_not_proved".to_owned()));
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
