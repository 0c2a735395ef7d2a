//! Which request goes where: one table, compared byte for byte with the raw path.
//!
//! A path is never decoded or normalised on the way. What the table does not list is the upstream's business and
//! needs a key; below the reserved prefixes there is nothing else, so that no spelling of a path of ours can
//! reach the upstream without one.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, Request, Response, header};
use serde_json::json;
use service::clock::unix_now;

use crate::address::Trusted;
use crate::admin::Admin;
use crate::api::Api;
use crate::asked::{Asked, RequestId};
use crate::body::{Body, full};
use crate::config::AdminAccess;
use crate::connection::Connection;
use crate::error::Refusal;
use crate::framing::Misframed;
use crate::metrics;
use crate::page::ContentSecurityPolicy;
use crate::proof::Prover;
use crate::publication::Publication;
use crate::secrets::Secrets;
use crate::upload::Upload;

/// What the proxy serves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Health,
    Attestation,
    AttestationVerify,
    AttestationClient,
    KeyInfo,
}

/// A row: a path, the methods it takes, what it is.
struct Route {
    path: &'static str,
    methods: &'static [Method],
    own: Own,
}

const ROUTES: [Route; 5] = [
    Route { path: "/health", methods: &[Method::GET, Method::HEAD], own: Own::Health },
    Route { path: "/attestation", methods: &[Method::GET, Method::HEAD], own: Own::Attestation },
    Route { path: "/attestation/verify", methods: &[Method::POST], own: Own::AttestationVerify },
    Route { path: "/attestation/client", methods: &[Method::POST], own: Own::AttestationClient },
    Route { path: "/auth/key-info", methods: &[Method::GET, Method::HEAD], own: Own::KeyInfo },
];

/// Below these nothing is ever forwarded.
const RESERVED: [&str; 4] = ["/admin", "/attestation", "/auth", "/health"];

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
enum Destination {
    Own(Own),
    Admin,
    Upstream,
}

fn destination(method: &Method, path: &str) -> Result<Destination, Refusal> {
    if let Some(route) = ROUTES.iter().find(|route| route.path == path) {
        return if route.methods.contains(method) {
            Ok(Destination::Own(route.own))
        } else {
            Err(Refusal::Method)
        };
    }
    if path == "/admin" || path.starts_with("/admin/") {
        return Ok(Destination::Admin);
    }
    let reserved = RESERVED.iter().any(|prefix| path.starts_with(prefix));
    let forwardable = path.starts_with('/') && *method != Method::CONNECT;
    if reserved || !forwardable { Err(Refusal::NotFound) } else { Ok(Destination::Upstream) }
}

/// What metrics call it.
fn label(destination: &Result<Destination, Refusal>) -> metrics::Route {
    match destination {
        Ok(Destination::Own(Own::Health)) => metrics::Route::Health,
        Ok(Destination::Own(
            Own::Attestation | Own::AttestationVerify | Own::AttestationClient,
        )) => metrics::Route::Attestation,
        Ok(Destination::Own(Own::KeyInfo)) => metrics::Route::KeyInfo,
        Ok(Destination::Admin) => metrics::Route::Admin,
        Ok(Destination::Upstream) => metrics::Route::Upstream,
        Err(_) => metrics::Route::Nothing,
    }
}

/// Everything that requests need.
pub(crate) struct Router {
    pub(crate) api: Api,
    /// `None` with `TLS_MODE=off`: there is nothing to prove.
    pub(crate) attestation: Option<(Publication, Prover)>,
    pub(crate) admin: Admin,
    pub(crate) admin_access: AdminAccess,
    /// Proxies before this one.
    pub(crate) trusted: Trusted,
    /// Whether plain HTTP is refused.
    pub(crate) force_https: bool,
}

impl Router {
    /// Takes newer secrets. A request that has begun goes on with those before.
    pub(crate) fn renew(&self, secrets: &Secrets) {
        self.api.renew(secrets);
        self.admin.renew(secrets);
    }

    /// Answers one request. Whatever happens, the answer carries the security headers.
    pub(crate) async fn answer(
        self: Arc<Self>,
        connection: Arc<Connection>,
        mut request: Request<Upload>,
    ) -> Response<Body> {
        let begin = Instant::now();
        let (peer, id) = (connection.peer.ip(), RequestId::new());
        let encrypted = connection.channel.is_some();
        let destination = destination(request.method(), request.uri().path());
        let label = label(&destination);
        if label != metrics::Route::Health {
            self.api.refresh().await;
        }
        let asked = Asked {
            address: self.trusted.client(peer, request.headers()),
            is_encrypted: encrypted || self.trusted.came_encrypted(peer, request.headers()),
            numbers: self.api.settings.current(),
            id: id.clone(),
        };
        let admitted = match request.extensions().get::<Misframed>() {
            Some(Misframed) => Err(Refusal::Framing),
            None => self.enter(&asked, label),
        };
        request.extensions_mut().insert(asked);
        let answer = match admitted.and(destination) {
            Ok(destination) => self.route(&connection, request, destination).await,
            Err(refusal) => Err(refusal),
        };
        let mut response = answer.unwrap_or_else(|refusal| {
            if let Refusal::Limited(exceeded) = &refusal {
                self.api.metrics.limited(exceeded.what);
            }
            refusal.response()
        });
        // Only pages of ours have one: what comes from the upstream has lost its extensions.
        let policy = response.extensions_mut().remove::<ContentSecurityPolicy>();
        secure(response.headers_mut(), encrypted || self.force_https, policy);
        name(response.headers_mut(), &id, begin);
        self.api.metrics.request(label, response.status(), begin);
        let milliseconds = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (status, request_id) = (response.status().as_u16(), id.as_str());
        tracing::debug!(status, milliseconds, request_id, peer = %connection.peer, "a request was answered");
        response
    }

    /// The answer to bytes in which no request could be read, as it goes out on HTTP/1.1.
    pub(crate) fn unreadable(&self, encrypted: bool) -> Vec<u8> {
        let mut response = Refusal::Framing.response_with(|json| json);
        secure(response.headers_mut(), encrypted || self.force_https, None);
        name(response.headers_mut(), &RequestId::new(), Instant::now());
        self.api.metrics.request(metrics::Route::Nothing, response.status(), Instant::now());
        let (parts, body) = response.into_parts();
        let length = body.len();
        let mut text = format!(
            "HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {length}\r\n",
            parts.status
        )
        .into_bytes();
        for (name, value) in &parts.headers {
            text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        text.extend(b"\r\n");
        text.extend(body);
        text
    }

    /// Whether a request may be looked at: it came encrypted, if it has to, and its address does not ask too often.
    ///
    /// `/health` is for everybody, always. Proofs have bounds of their own, for each connection: who is refused one does
    /// not learn whom it talks to.
    fn enter(&self, asked: &Asked, label: metrics::Route) -> Result<(), Refusal> {
        if label == metrics::Route::Health {
            return Ok(());
        }
        if self.force_https && !asked.is_encrypted {
            return Err(Refusal::NotEncrypted);
        }
        if label == metrics::Route::Attestation {
            return Ok(());
        }
        Ok(self.api.limits.enter(asked.address, &asked.numbers)?)
    }

    async fn route(
        &self,
        connection: &Connection,
        request: Request<Upload>,
        destination: Destination,
    ) -> Result<Response<Body>, Refusal> {
        match destination {
            Destination::Own(Own::Health) => Ok(self.health()),
            Destination::Own(Own::Attestation) => {
                let (publication, _) = self.attestation.as_ref().ok_or(Refusal::NoChannel)?;
                publication.response(request.headers())
            }
            Destination::Own(Own::AttestationVerify) => {
                let (_, prover) = self.attestation.as_ref().ok_or(Refusal::NoChannel)?;
                prover.prove(connection, request).await
            }
            Destination::Admin => self.admin(connection, request).await,
            Destination::Own(Own::AttestationClient) => {
                let clients = self.api.clients.as_ref().ok_or(Refusal::NoClients)?;
                clients.admit(connection, request.into_body()).await
            }
            Destination::Own(Own::KeyInfo) => self.api.key_info(connection, &request).await,
            Destination::Upstream => self.api.call(connection, request).await,
        }
    }

    /// What lies below `/admin` is nobody's business on a connection that its client cannot have verified: a password
    /// that is typed there may be typed for somebody else (`wire.md` part 6).
    async fn admin(
        &self,
        connection: &Connection,
        request: Request<Upload>,
    ) -> Result<Response<Body>, Refusal> {
        match self.admin_access {
            AdminAccess::Proved if !connection.is_proved_to_a_program() => Err(Refusal::NotProved),
            AdminAccess::Proved | AdminAccess::Public => {
                Ok(self.admin.answer(connection, request).await)
            }
        }
    }

    /// True while the process serves; whether it can prove itself stands beside it.
    fn health(&self) -> Response<Body> {
        let made = self.attestation.as_ref().and_then(|(publication, _)| publication.made_at());
        let health = json!({
            "status": "healthy",
            // Whether usage reaches the disk; it is counted in memory meanwhile.
            "usage": {"behind_seconds": self.api.ledger.is_behind().map(|behind| behind.as_secs())},
            "attestation": {
                "ready": made.is_some(),
                "age_seconds": made.map(|at| unix_now().saturating_sub(at)),
            },
        });
        let mut response = Response::new(full(health.to_string().into()));
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

/// What a request is called, and how long its answer took to begin, as OpenAI has both.
fn name(headers: &mut http::HeaderMap, id: &RequestId, begin: Instant) {
    let milliseconds = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    headers.insert("x-request-id", id.to_header());
    headers.insert("openai-processing-ms", milliseconds.into());
}

/// Headers that every answer carries (`proxy.md` cases 86 to 89).
fn secure(headers: &mut http::HeaderMap, encrypted: bool, policy: Option<ContentSecurityPolicy>) {
    let always = [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("x-xss-protection", "1; mode=block"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
        ("permissions-policy", "geolocation=(), microphone=(), camera=()"),
    ];
    for (name, value) in always {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
    let nothing = http::HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    let policy = policy.map_or(nothing, |policy| policy.0);
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    if encrypted {
        let year = http::HeaderValue::from_static("max-age=31536000; includeSubDomains");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(method: &Method, path: &str) -> Result<Destination, String> {
        destination(method, path).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn own_routes_take_their_methods_only() {
        assert_eq!(to(&Method::GET, "/health"), Ok(Destination::Own(Own::Health)));
        assert_eq!(to(&Method::HEAD, "/health"), Ok(Destination::Own(Own::Health)));
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            assert!(to(&method, "/health").is_err());
        }
        assert!(to(&Method::GET, "/attestation/verify").is_err());
    }

    /// Case 68: the reference let each of these through to the paid upstream without a key.
    #[test]
    fn no_spelling_of_a_reserved_path_reaches_the_upstream() {
        for path in ["/adminx", "/health/../v1/models", "/attestation/../v1/models", "*"] {
            assert!(to(&Method::POST, path).is_err(), "{path}");
        }
        assert!(to(&Method::CONNECT, "/").is_err());
        for path in [
            "/admin/../v1/chat/completions",
            "/admin/%2e%2e/v1/chat/completions",
            "/admin/..%2fv1/chat/completions",
            "/admin/../../v1/models",
            "/admin",
            "/admin/",
            "/admin/nope",
        ] {
            assert_eq!(to(&Method::POST, path), Ok(Destination::Admin), "{path}");
        }
    }

    #[test]
    fn everything_else_is_for_the_upstream() {
        for path in ["/", "/v1/chat/completions", "/v1/../admin", "//admin", "/v2/x%2Fy"] {
            assert_eq!(to(&Method::POST, path), Ok(Destination::Upstream), "{path}");
        }
    }
}
