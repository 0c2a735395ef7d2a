//! Stored state under a key that the owner's vault releases: what the admin API made and what was used outlives the group's
//! processes, and no other key opens it.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use sim::vault::KeySpec;
use sim::world::{GroupConfig, WorldConfig, aci_release_policy};
use stack::check::chat_request;
use stack::straight::{Straight, Version};
use stack::{Group, RoleName, StartError};

use crate::proved::prove;
use crate::support::{PROGRAM, Running, fail, start_with};

const PASSWORD: &str = "a-long-password";
/// Of a key: it stands in the database, and nowhere in clear.
const DESCRIPTION: &str = "CANARY-description-4be1";

/// Two keys for state that the vault releases to this group, and a group that has neither yet.
fn with_state_keys(world: &mut WorldConfig) {
    world.groups.push(GroupConfig::new("keeper"));
    let policy = aci_release_policy("${MAA}", "${HOST_DATA}");
    for name in ["state", "another"] {
        let spec = json!({"name": name, "kty": "EC-HSM", "crv": "P-256", "release_policy": policy});
        let spec: KeySpec = serde_json::from_value(spec).unwrap();
        world.vault.as_mut().unwrap().keys.push(spec);
    }
}

/// A group whose proxy keeps its state in a file of the host's, under a key that is derived of that one.
async fn group(
    running: &Running,
    folder: &Path,
    database: &Path,
    kid: &str,
) -> Result<Group, StartError> {
    let mut places = running.stack.places_of("keeper", folder).unwrap();
    places.variables = vec![
        (RoleName::SkrSidecar, "STATE_KID", kid.to_owned()),
        (RoleName::Proxy, "PROXY_STATE", database.display().to_string()),
        (RoleName::Proxy, "API_KEYS_FILE", String::new()),
        (RoleName::Proxy, "ADMIN_PASSWORD", PASSWORD.to_owned()),
    ];
    Group::start(PROGRAM.into(), places, |_| {}).await
}

/// An admin's program, on a connection that was proved.
struct Admin {
    connection: Straight,
    session: String,
}

impl Admin {
    async fn of(group: &Group) -> Self {
        let server = group.url().await.unwrap();
        let server = server.trim_start_matches("https://").parse().unwrap();
        let mut connection = Straight::tls(server, Version::Http1).await.unwrap();
        prove(&mut connection).await;
        let mut admin = Self { connection, session: String::new() };
        let login = json!({"password": PASSWORD});
        let answer = admin.ask(Method::POST, "/admin/login", &login).await;
        answer["session"].as_str().unwrap().clone_into(&mut admin.session);
        admin
    }

    async fn ask(&mut self, method: Method, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask_as(&self.session.clone(), method, path, body).await;
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer
    }

    async fn ask_as(
        &mut self,
        bearer: &str,
        method: Method,
        path: &str,
        body: &Value,
    ) -> (StatusCode, Value) {
        let request = Request::builder().method(&method).uri(path);
        let request = request.header(ACCEPT, "application/json");
        let request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
        let body = if method == Method::GET { Bytes::new() } else { body.to_string().into() };
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(body));
        let answer = self.connection.send(request.unwrap()).await.unwrap();
        (answer.status(), serde_json::from_slice(answer.body()).unwrap_or_default())
    }

    /// What a key has used, when it has made so many requests.
    async fn used(&mut self, key: &str, requests: u64) -> Value {
        let used = async {
            loop {
                let (_, info) = self.ask_as(key, Method::GET, "/auth/key-info", &Value::Null).await;
                if info["usage"]["requests"] == requests {
                    return info["usage"].clone();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), used).await.unwrap()
    }
}

#[tokio::test]
async fn keys_usage_and_settings_outlive_the_group_and_open_with_no_other_key() {
    let running = start_with(with_state_keys).await;
    let (folder, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let database = host.path().join("proxy.db");
    let first = group(&running, folder.path(), &database, "state").await;
    let first = first.unwrap_or_else(|error| fail(&error));

    let mut admin = Admin::of(&first).await;
    let new = json!({"description": DESCRIPTION, "monthly_budget_eur": 1.0});
    let made = admin.ask(Method::POST, "/admin/api/keys", &new).await;
    let key = made["key"].as_str().unwrap().to_owned();
    let limits = "/admin/api/settings/rate-limits";
    let mut changed = admin.ask(Method::GET, limits, &Value::Null).await;
    changed["rate_limit_requests"] = json!(4321);
    admin.ask(Method::PUT, limits, &changed).await;
    let chat = "/v1/chat/completions";
    let prompt = chat_request("hello", false);
    assert_eq!(admin.ask_as(&key, Method::POST, chat, &prompt).await.0, StatusCode::OK);
    let used = admin.used(&key, 1).await;
    assert!(used["total_tokens"].as_u64().unwrap() > 0, "{used}");

    assert!(first.stop().await.is_empty());

    // Stopped and started; and then killed: what is on the disk is there.
    let second = group(&running, folder.path(), &database, "state").await;
    let mut second = second.unwrap_or_else(|error| fail(&error));
    for is_killed in [false, true] {
        if is_killed {
            for role in [RoleName::SkrSidecar, RoleName::Proxy] {
                second.crash(role).await.unwrap();
            }
            for role in [RoleName::SkrSidecar, RoleName::Proxy] {
                second.until_ready(role).await.unwrap_or_else(|error| fail(&error));
            }
        }
        let mut admin = Admin::of(&second).await;
        assert_eq!(admin.used(&key, 1).await, used, "killed: {is_killed}");
        assert_eq!(admin.ask(Method::GET, limits, &Value::Null).await, changed);
    }
    let mut admin = Admin::of(&second).await;
    assert_eq!(admin.ask_as(&key, Method::POST, chat, &prompt).await.0, StatusCode::OK);
    admin.used(&key, 2).await;
    assert!(second.stop().await.is_empty());

    // Nothing of it can be read on the host, and a group with another key leaves it as it is.
    let whole = std::fs::read(&database).unwrap();
    for entry in std::fs::read_dir(host.path()).unwrap() {
        let content = std::fs::read(entry.unwrap().path()).unwrap();
        let found = |text: &str| content.windows(text.len()).any(|at| at == text.as_bytes());
        assert!(!found(DESCRIPTION) && !found(&key) && !found("CREATE TABLE"));
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let refused = group(&running, elsewhere.path(), &database, "another").await.err().unwrap();
    let StartError::Role { role, printed } = refused else { fail(&refused) };
    assert_eq!(role, RoleName::Proxy);
    assert!(printed.contains("is no database of this key"), "{printed}");
    assert!(std::fs::read(&database).unwrap() == whole, "it is left as it is");

    let elsewhere = tempfile::tempdir().unwrap();
    let again = group(&running, elsewhere.path(), &database, "state").await;
    let again = again.unwrap_or_else(|error| fail(&error));
    let mut admin = Admin::of(&again).await;
    let listed = admin.ask(Method::GET, "/admin/api/keys", &Value::Null).await;
    assert!(listed.to_string().contains(DESCRIPTION), "{listed}");
    assert_eq!(admin.used(&key, 2).await["requests"], 2);
    assert!(again.stop().await.is_empty());
    running.stop().await;
}
