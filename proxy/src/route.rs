//! Which request goes where: one table, compared byte for byte with the raw path.
//!
//! A path is never decoded or normalised on the way. What the table does not list is the upstream's business and
//! needs a key; below the reserved prefixes there is nothing else, so that no spelling of a path of ours can
//! reach the upstream without one.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, Request, Response, header};
use hyper::body::Incoming;
use serde_json::json;
use service::clock::unix_now;

use crate::body::{Body, full};
use crate::clients::Clients;
use crate::config::AdminAccess;
use crate::connection::Connection;
use crate::error::Refusal;
use crate::forward::Upstream;
use crate::keys::Keys;
use crate::page::ContentSecurityPolicy;
use crate::proof::Prover;
use crate::publication::Publication;
use crate::secrets::Secrets;

/// What the proxy serves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    Health,
    Attestation,
    AttestationVerify,
    AttestationClient,
}

/// A row: a path, the methods it takes, what it is.
struct Route {
    path: &'static str,
    methods: &'static [Method],
    own: Own,
}

const ROUTES: [Route; 4] = [
    Route { path: "/health", methods: &[Method::GET, Method::HEAD], own: Own::Health },
    Route { path: "/attestation", methods: &[Method::GET, Method::HEAD], own: Own::Attestation },
    Route { path: "/attestation/verify", methods: &[Method::POST], own: Own::AttestationVerify },
    Route { path: "/attestation/client", methods: &[Method::POST], own: Own::AttestationClient },
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

/// Everything that requests need.
pub(crate) struct Router {
    pub(crate) keys: Keys,
    pub(crate) upstream: Upstream,
    /// `None` with `TLS_MODE=off`: there is nothing to prove.
    pub(crate) attestation: Option<(Publication, Prover)>,
    pub(crate) admin: AdminAccess,
    /// `None`: no attested client is acceptable.
    pub(crate) clients: Option<Clients>,
}

impl Router {
    /// Takes newer secrets. A request that has begun goes on with those before.
    pub(crate) fn renew(&self, secrets: &Secrets) {
        self.keys.renew(secrets.api_keys());
        self.upstream.renew(secrets.upstream_key());
    }

    /// Answers one request. Whatever happens, the answer carries the security headers.
    pub(crate) async fn answer(
        self: Arc<Self>,
        connection: Arc<Connection>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let begin = Instant::now();
        let encrypted = connection.channel.is_some();
        let mut response = match self.route(&connection, request).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        };
        // Only pages of ours have one: what comes from the upstream has lost its extensions.
        let policy = response.extensions_mut().remove::<ContentSecurityPolicy>();
        secure(response.headers_mut(), encrypted, policy);
        let milliseconds = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let status = response.status().as_u16();
        tracing::debug!(status, milliseconds, peer = %connection.peer, "a request was answered");
        response
    }

    async fn route(
        &self,
        connection: &Connection,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        match destination(request.method(), request.uri().path())? {
            Destination::Own(Own::Health) => Ok(self.health()),
            Destination::Own(Own::Attestation) => {
                let (publication, _) = self.attestation.as_ref().ok_or(Refusal::NoChannel)?;
                publication.response(request.headers())
            }
            Destination::Own(Own::AttestationVerify) => {
                let (_, prover) = self.attestation.as_ref().ok_or(Refusal::NoChannel)?;
                prover.prove(connection, request).await
            }
            Destination::Admin => Err(self.admin(connection)),
            Destination::Own(Own::AttestationClient) => {
                let clients = self.clients.as_ref().ok_or(Refusal::NoClients)?;
                clients.admit(connection, request.into_body()).await
            }
            Destination::Upstream => {
                let key = self.keys.authenticate(request.headers(), unix_now())?;
                if key.attested_client {
                    let key_id = attestation::crypto::sha256(key.id.as_bytes());
                    let proven = connection.clients.holds(&key_id, Instant::now());
                    proven.then_some(()).ok_or(Refusal::ClientNotAttested)?;
                }
                let response = self.upstream.forward(request).await;
                let status = response.as_ref().map_or(0, |response| response.status().as_u16());
                tracing::info!(key_id = key.id, status, "a request was forwarded");
                response
            }
        }
    }

    /// What lies below `/admin` is nobody's business on a connection that its client cannot have verified: a password
    /// that is typed there may be typed for somebody else (`wire.md` part 6). There are no pages yet.
    fn admin(&self, connection: &Connection) -> Refusal {
        match self.admin {
            AdminAccess::Proved if !connection.is_proved_to_a_program() => Refusal::NotProved,
            AdminAccess::Proved | AdminAccess::Public => Refusal::NotFound,
        }
    }

    /// True while the process serves; whether it can prove itself stands beside it.
    fn health(&self) -> Response<Body> {
        let made = self.attestation.as_ref().and_then(|(publication, _)| publication.made_at());
        let health = json!({
            "status": "healthy",
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
