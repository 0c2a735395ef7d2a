//! Tokens of Microsoft Azure Attestation.
//!
//! Source: measured (`attestation.md` part 3, `skr.md` part 2.4): `POST /attest/SevSnpVm`, base64url with
//! padding, nested. A token is verified before it is handed out; what it says of the guest is for its readers to judge.

use std::sync::Arc;
use std::time::Duration;

use attestation::Rejected;
use attestation::maa::{Issuer, Sent, TokenError, is_about, verify_token};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use service::clock;
use service::outbound::{Call, Limits, Outbound};
use service::roots::Roots;
use url::{Host, Url};

use crate::evidence::Endorsed;
use crate::maa_keys::Keys;
use crate::no_token::NoToken;
use crate::user_agent::UserAgent;

const API_VERSION: &str = "2022-08-01";

/// An instance takes about a second; making a token changes nothing there, so a call may be repeated. With the bound
/// of a question for its keys it stays below that of a caller's question.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(24),
    attempt: Duration::from_secs(10),
    attempts: 3,
    answer: 256 * 1024,
};

/// Domains of Azure's clouds below which instances live.
const AZURE: [&str; 3] = [".attest.azure.net", ".attest.azure.us", ".attest.azure.cn"];

/// The caller named a host that is not one of the instances that may be asked.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no instance of Azure Attestation that may be asked; name it in MAA_ENDPOINT or ATTEST_MAA_HOSTS"
)]
pub(crate) struct NotAllowed(String);

/// The client of attestation instances.
pub(crate) struct Maa {
    outbound: Outbound,
    keys: Keys,
    default: Url,
    hosts: Vec<String>,
    agent: Option<UserAgent>,
}

impl Maa {
    pub(crate) fn new(
        roots: &Roots,
        default: Url,
        hosts: Vec<String>,
        agent: Option<UserAgent>,
    ) -> Self {
        Self {
            outbound: Outbound::new("MAA", roots, LIMITS),
            keys: Keys::new(roots),
            default,
            hosts,
            agent,
        }
    }

    /// The instance that a caller names by its https URL; the configured one if it names none.
    pub(crate) fn instance(&self, named: &str) -> Result<Url, NotAllowed> {
        if named.is_empty() {
            return Ok(self.default.clone());
        }
        let refused = || NotAllowed(named.chars().take(128).collect());
        let url = Url::parse(named).map_err(|_| refused())?;
        let bare = url.scheme() == "https"
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let allowed = bare && (url == self.default || self.is_azure(&url) || self.is_listed(&url));
        if allowed { Ok(url) } else { Err(refused()) }
    }

    fn is_azure(&self, url: &Url) -> bool {
        let below = |name: &str| AZURE.iter().any(|domain| name.ends_with(domain));
        url.port().is_none() && matches!(url.host(), Some(Host::Domain(name)) if below(name))
    }

    fn is_listed(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let with_port = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        self.hosts.contains(&with_port)
    }

    /// Asks for a token, as `agent` or else as the configured one, and hands it out only if the instance's own key signed
    /// it, now, about what was sent.
    pub(crate) async fn token(
        &self,
        instance: &Url,
        question: &Question,
        agent: Option<UserAgent>,
    ) -> Result<String, NoToken> {
        let asking = self.ask(instance, question.body.clone(), agent);
        let (token, issuer) = tokio::join!(asking, self.keys.of(instance));
        let (token, issuer) = (token?, issuer?);
        match question.believe(&token, &issuer) {
            Err(TokenError::Rejected(rejected)) if misses_its_key(&rejected) => {
                let newer = self.keys.newer(instance, &issuer).await?;
                question.believe(&token, &newer)?;
            }
            outcome => outcome?,
        }
        Ok(token)
    }

    /// What an instance answers, not verified yet.
    pub(crate) async fn ask(
        &self,
        instance: &Url,
        body: Bytes,
        agent: Option<UserAgent>,
    ) -> Result<String, NoToken> {
        #[derive(Deserialize)]
        struct Answer {
            token: String,
        }
        let mut url = instance.clone();
        url.set_path("/attest/SevSnpVm");
        url.query_pairs_mut().append_pair("api-version", API_VERSION);
        let mut call = Call::post_json(url, body);
        if let Some(UserAgent(agent)) = agent.or_else(|| self.agent.clone()) {
            call = call.header(http::header::USER_AGENT, agent);
        }
        let answer = self.outbound.repeatedly(&call).await?;
        let answer: Answer = serde_json::from_slice(&answer.body).map_err(|_| NoToken::Answer)?;
        if answer.token.is_empty() { Err(NoToken::Answer) } else { Ok(answer.token) }
    }
}

/// The issuer signs with a key that was not among its keys: it may have a new one.
fn misses_its_key(rejected: &Rejected) -> bool {
    rejected.failures().any(|finding| finding.check.id == "J2")
}

/// What an instance is asked.
pub(crate) struct Question {
    /// The body of the request, which anybody may send to an instance.
    pub(crate) body: Bytes,
    runtime_data: Vec<u8>,
    nonce: u64,
    repeated: bool,
}

impl Question {
    /// For a token about `runtime_data`. `repeated`: the data is of our making, so that the token must repeat it value
    /// for value.
    pub(crate) fn new(
        endorsed: &Endorsed,
        uvm: Option<&[u8]>,
        runtime_data: Vec<u8>,
        repeated: bool,
    ) -> Self {
        let nonce = nonce();
        let body = request(endorsed, uvm, &runtime_data, nonce);
        Self { body, runtime_data, nonce, repeated }
    }

    /// Whether a token answers it. Says nothing about the guest: its vault, or whoever reads it, judges that.
    fn believe(&self, token: &str, issuer: &Arc<Issuer>) -> Result<(), TokenError> {
        let nonce = self.nonce.to_string();
        let Self { runtime_data, repeated, .. } = self;
        let sent = Sent { runtime_data, nonce: &nonce, repeated: *repeated };
        let authentic =
            verify_token(token, std::slice::from_ref(issuer.as_ref()), clock::unix_now())?;
        is_about(authentic, &sent)?;
        Ok(())
    }
}

fn request(endorsed: &Endorsed, uvm: Option<&[u8]>, runtime_data: &[u8], nonce: u64) -> Bytes {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        report: String,
        runtime_data: RuntimeData,
        nonce: u64,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct RuntimeData {
        data: String,
        data_type: &'static str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Report {
        snp_report: String,
        vcek_cert_chain: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        endorsements: Option<String>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Uvm {
        uvm: [String; 1],
    }
    let endorsements = uvm.map(|cose| URL_SAFE.encode(json(&Uvm { uvm: [URL_SAFE.encode(cose)] })));
    let report = Report {
        snp_report: URL_SAFE.encode(endorsed.report.as_bytes()),
        vcek_cert_chain: URL_SAFE.encode(&endorsed.endorsements.pem),
        endorsements,
    };
    let body = Body {
        report: URL_SAFE.encode(json(&report)),
        runtime_data: RuntimeData { data: URL_SAFE.encode(runtime_data), data_type: "JSON" },
        nonce,
    };
    json(&body).into()
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("text and numbers always serialise")
}

/// The token repeats it: a token that somebody was given earlier is not taken for this one.
fn nonce() -> u64 {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gave random numbers at the start");
    u64::from_le_bytes(bytes)
}
