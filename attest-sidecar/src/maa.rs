//! Tokens of Microsoft Azure Attestation.
//!
//! Source: measured (`attestation.md` part 3, `skr.md` part 2.4): `POST /attest/SevSnpVm`, base64url with
//! padding, nested.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use service::outbound::{Call, Limits, Outbound, OutboundError};
use url::{Host, Url};

use crate::evidence::Endorsed;
use crate::user_agent::UserAgent;

const API_VERSION: &str = "2022-08-01";

/// An instance takes about a second; making a token changes nothing there, so a call may be repeated.
pub(crate) const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(30),
    attempt: Duration::from_secs(10),
    attempts: 3,
    answer: 256 * 1024,
};

/// Domains of Azure's clouds below which instances live.
const AZURE: [&str; 3] = [".attest.azure.net", ".attest.azure.us", ".attest.azure.cn"];

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MaaError {
    /// The caller named a host that is not one of the instances that may be asked.
    #[error(
        "{0:?} is no instance of Azure Attestation that may be asked; name it in MAA_ENDPOINT or ATTEST_MAA_HOSTS"
    )]
    NotAllowed(String),
    /// It refused or cannot be reached.
    #[error("Retrieving MAA token from MAA endpoint failed: pulling maa post response failed")]
    Call(#[from] OutboundError),
    /// Its answer is no token.
    #[error("the answer of MAA holds no token")]
    NoToken,
}

/// The client of attestation instances.
pub(crate) struct Maa {
    outbound: Outbound,
    default: Url,
    hosts: Vec<String>,
    agent: Option<UserAgent>,
}

impl Maa {
    pub(crate) fn new(
        outbound: Outbound,
        default: Url,
        hosts: Vec<String>,
        agent: Option<UserAgent>,
    ) -> Self {
        Self { outbound, default, hosts, agent }
    }

    /// The instance that a caller names by its https URL; the configured one if it names none.
    pub(crate) fn instance(&self, named: &str) -> Result<Url, MaaError> {
        if named.is_empty() {
            return Ok(self.default.clone());
        }
        let refused = || MaaError::NotAllowed(named.chars().take(128).collect());
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

    /// Asks for a token with a body of [`request`], as `agent` or else as the configured one.
    pub(crate) async fn token(
        &self,
        instance: &Url,
        body: Bytes,
        agent: Option<UserAgent>,
    ) -> Result<String, MaaError> {
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
        let answer: Answer = serde_json::from_slice(&answer.body).map_err(|_| MaaError::NoToken)?;
        Ok(answer.token)
    }
}

/// The body of a request for a token about `runtime_data`, which anybody may send to an instance.
pub(crate) fn request(endorsed: &Endorsed, uvm: Option<&[u8]>, runtime_data: &[u8]) -> Bytes {
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
        nonce: nonce(),
    };
    json(&body).into()
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("text and numbers always serialise")
}

/// Freshness is in the runtime data; the nonce keeps two requests from being the same bytes.
fn nonce() -> u64 {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gave random numbers at the start");
    u64::from_le_bytes(bytes)
}
