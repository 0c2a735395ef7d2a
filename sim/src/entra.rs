//! Microsoft Entra, as far as workload identities need it: the OpenID configuration of a tenant, and the token endpoint
//! that takes a cluster's assertion for a client's secret (RFC 7523 section 2.2). And the cluster that makes assertions.
//!
//! Must not know: what the tokens open. Numbers are numbers here, unlike those of the metadata service.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use rsa::{RsaPrivateKey, RsaPublicKey};
use serde_json::{Value, json};

use crate::clock;
use crate::faults::{Control, IdentityFault, Switch};
use crate::http::{answer, body};
use crate::identity::{
    Identity, IdentityProvider, MANAGED_HSM_RESOURCE, TOKEN_LIFE, VAULT_RESOURCE,
};
use crate::jose::{self, JoseError, Jws};
use crate::pki::{KeyError, KeyRing};
use crate::tally::Tally;

/// The audience of assertions.
const AUDIENCE: &str = "api://AzureADTokenExchange";
/// Who signs them.
const CLUSTER: &str = "https://oidc.cluster.sim/";
/// Seconds that they live.
const ASSERTION_LIFE: u64 = 3600;
const MAX_FORM: usize = 32 * 1024;
const FORM: &str = "application/x-www-form-urlencoded";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The audience of the fault: a real resource, and the wrong one.
const RESOURCE_MANAGER: &str = "https://management.azure.com/";

/// A cluster, which says what its pods are.
#[derive(Debug, Clone)]
pub struct Cluster {
    key: RsaPrivateKey,
}

impl Cluster {
    /// Derives its signing key. Blocks for seconds when it is not cached.
    ///
    /// # Errors
    /// [`KeyError`] when the key cannot be derived.
    pub fn derive(keys: &KeyRing) -> Result<Self, KeyError> {
        Ok(Self { key: keys.rsa("cluster", 2048)? })
    }

    /// What it projects into the pod of the service account `name`, at `now`.
    ///
    /// # Errors
    /// [`JoseError`] when it cannot be signed.
    pub fn assertion(&self, name: &str, now: u64) -> Result<String, JoseError> {
        self.assertion_for(AUDIENCE, name, now)
    }

    /// The same for another audience, which is nobody's assertion here.
    ///
    /// # Errors
    /// [`JoseError`] when it cannot be signed.
    pub fn assertion_for(&self, audience: &str, name: &str, now: u64) -> Result<String, JoseError> {
        let kid = jose::thumbprint(&RsaPublicKey::from(&self.key));
        let claims = json!({
            "aud": [audience],
            "iss": CLUSTER,
            "iat": now,
            "nbf": now,
            "exp": now + ASSERTION_LIFE,
            "sub": subject(name),
        });
        jose::sign(&json!({"alg": "RS256", "kid": kid}), &claims, &self.key)
    }

    /// Why an assertion is not one of the pod that stands for `identity`.
    fn refusal(&self, assertion: &str, identity: &Identity, now: u64) -> Option<&'static str> {
        let Ok(jws) = Jws::parse(assertion) else {
            return Some("AADSTS50027: JWT token is invalid or malformed.");
        };
        if jws.verify(&RsaPublicKey::from(&self.key)).is_err() {
            return Some("AADSTS700024: Client assertion signature is not valid.");
        }
        let claim = |name: &str| jws.payload.get(name);
        if claim("aud") != Some(&json!([AUDIENCE])) {
            return Some("AADSTS700212: No matching federated identity record for the audience.");
        }
        let subject = Value::from(subject(&identity.name));
        if claim("iss") != Some(&CLUSTER.into()) || claim("sub") != Some(&subject) {
            return Some("AADSTS700213: No matching federated identity record for the subject.");
        }
        let alive = claim("exp").and_then(Value::as_u64).is_some_and(|end| end > now);
        (!alive).then_some("AADSTS700024: Client assertion is not within its valid time range.")
    }
}

fn subject(name: &str) -> String {
    format!("system:serviceaccount:default:{name}")
}

/// What an authority is given.
#[derive(Debug)]
pub struct EntraConfig {
    /// Its own URL; no slash at the end.
    pub url: String,
    /// Whose assertions it takes.
    pub cluster: Cluster,
    /// Who signs its tokens.
    pub provider: IdentityProvider,
    /// The identities that pods stand for, by the name of the service account.
    pub identities: Vec<Identity>,
    /// How it misbehaves.
    pub faults: Switch<IdentityFault>,
    /// How often it was asked for a token.
    pub calls: Tally,
}

/// All routes of the authority.
pub fn router(config: EntraConfig) -> Router {
    let control = Control::default().with("entra", &config.faults);
    Router::new()
        .route("/{tenant}/v2.0/.well-known/openid-configuration", get(configuration))
        .route("/{tenant}/oauth2/v2.0/token", post(token))
        .with_state(Arc::new(config))
        .merge(control.router())
}

async fn configuration(
    State(entra): State<Arc<EntraConfig>>,
    Path(tenant): Path<String>,
) -> Response {
    let EntraConfig { url, provider, .. } = entra.as_ref();
    if tenant != provider.tenant() {
        return error(StatusCode::BAD_REQUEST, "invalid_tenant", "AADSTS90002: Tenant not found.");
    }
    let endpoint = format!("{url}/{tenant}/oauth2/v2.0/token");
    let issuer = format!("{url}/{tenant}/v2.0");
    answer::json(StatusCode::OK, &json!({"token_endpoint": endpoint, "issuer": issuer}))
}

async fn token(
    State(entra): State<Arc<EntraConfig>>,
    Path(tenant): Path<String>,
    request: Request,
) -> Response {
    entra.calls.count();
    let mut active = entra.faults.strike();
    if let Some(active) = &mut active
        && active.fault == IdentityFault::Stall
    {
        active.stall().await;
    }
    let fault = active.map(|active| active.fault);
    if let Some(response) = fault.as_ref().and_then(status_of) {
        return response;
    }
    let content = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content != Some(FORM) || tenant != entra.provider.tenant() {
        return invalid("AADSTS900144: The request is not a form for this tenant.");
    }
    let Ok(form) = body::read(request.into_body(), MAX_FORM).await else {
        return invalid("AADSTS900144: The request body is too long.");
    };
    let Some(form) = fields(&form) else {
        return invalid("AADSTS900144: The request body is no form.");
    };
    entra.answer(&form, fault.as_ref()).unwrap_or_else(|refusal| refusal)
}

/// The answer of faults that never look at the request.
fn status_of(fault: &IdentityFault) -> Option<Response> {
    match fault {
        IdentityFault::NotFound => Some(error(StatusCode::NOT_FOUND, "not_found", "no endpoint")),
        IdentityFault::NotReady => Some(invalid("AADSTS700016: Application was not found.")),
        IdentityFault::ServerError => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Some(error(status, "server_error", "AADSTS90033: A transient error has occurred."))
        }
        IdentityFault::TooManyRequests { retry_after } => {
            let status = StatusCode::TOO_MANY_REQUESTS;
            let response = error(status, "temporarily_unavailable", "AADSTS90055: Throttled.");
            Some(answer::retry_after(response, *retry_after))
        }
        IdentityFault::Stall | IdentityFault::WrongAudience => None,
    }
}

/// A form is written as a query is.
fn fields(form: &[u8]) -> Option<BTreeMap<String, String>> {
    let uri: Uri = format!("/?{}", std::str::from_utf8(form).ok()?).parse().ok()?;
    Some(Query::try_from_uri(&uri).ok()?.0)
}

impl EntraConfig {
    #[expect(clippy::result_large_err, reason = "both are an answer, and sent at once")]
    fn answer(
        &self,
        form: &BTreeMap<String, String>,
        fault: Option<&IdentityFault>,
    ) -> Result<Response, Response> {
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        if field("grant_type") != "client_credentials" {
            return Err(invalid("AADSTS70003: The grant type is not supported."));
        }
        if field("client_assertion_type") != ASSERTION_TYPE {
            return Err(invalid("AADSTS90023: The client assertion type is not supported."));
        }
        let mut resources =
            field("scope").split(' ').filter_map(|one| one.strip_suffix("/.default"));
        let resource = resources.next().unwrap_or_default();
        if resources.next().is_some() || ![VAULT_RESOURCE, MANAGED_HSM_RESOURCE].contains(&resource)
        {
            let text = "AADSTS70011: The provided value for scope is not valid.";
            return Err(error(StatusCode::BAD_REQUEST, "invalid_scope", text));
        }
        let client_id = field("client_id");
        let identity = self.identities.iter().find(|identity| identity.client_id == client_id);
        let identity = identity.ok_or_else(|| {
            let text = "AADSTS700016: Application was not found in the directory.";
            error(StatusCode::BAD_REQUEST, "unauthorized_client", text)
        })?;
        let now = clock::now();
        if let Some(text) = self.cluster.refusal(field("client_assertion"), identity, now) {
            return Err(error(StatusCode::UNAUTHORIZED, "invalid_client", text));
        }
        let audience =
            if fault == Some(&IdentityFault::WrongAudience) { RESOURCE_MANAGER } else { resource };
        let token = self.provider.issue(identity, audience, now);
        let token = token.map_err(|_| {
            error(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "signing failed")
        })?;
        Ok(answer::json(
            StatusCode::OK,
            &json!({
                "access_token": token,
                "expires_in": TOKEN_LIFE - 1,
                "ext_expires_in": TOKEN_LIFE - 1,
                "token_type": "Bearer",
            }),
        ))
    }
}

fn invalid(description: &str) -> Response {
    error(StatusCode::BAD_REQUEST, "invalid_request", description)
}

fn error(status: StatusCode, error: &str, description: &str) -> Response {
    answer::json(status, &json!({"error": error, "error_description": description}))
}
