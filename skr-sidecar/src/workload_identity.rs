//! The token of a workload identity: what a cluster says about the pod, exchanged at Microsoft Entra.
//!
//! Source: Microsoft's documentation of workload identity federation and of the client credentials flow with a federated
//! credential (RFC 7523 section 2.2): the authority's OpenID configuration names the token endpoint, which takes the
//! content of a projected file as the client's assertion.
//!
//! Whoever has the assertion is the pod, so it goes to the measured authority and nowhere else. Must not know whom the
//! token is sent to: `vault_hosts` decides that.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use service::env::Reader;
use service::outbound::{Call, Limits, Outbound, OutboundError};
use service::plain_file;
use service::roots::Roots;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use crate::host::{Host, HttpsUrl};
use crate::identity::{self, ClientId, IdentityError, Issued};

/// One call to the authority. Asking twice changes nothing there.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(10),
    attempt: Duration::from_secs(5),
    attempts: 3,
    answer: 64 * 1024,
};

/// The longest assertion. Those of clusters have one or two thousand characters.
const LONGEST_ASSERTION: u64 = 16 * 1024;

/// What the form has besides the assertion, in bytes, at most.
const REST_OF_FORM: usize = 1024;

/// A directory, by its identifier or one of its domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tenant(String);

/// Why a text is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the id of a tenant, such as 01234567-89ab-cdef-0123-456789abcdef, or its domain")]
pub(crate) struct NotATenant;

impl FromStr for Tenant {
    type Err = NotATenant;

    fn from_str(text: &str) -> Result<Self, NotATenant> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(plain);
        if fits && !text.contains("..") && text != "." {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotATenant)
        }
    }
}

/// The file of the assertion, by its path from the root.
struct AssertionFile(PathBuf);

#[derive(Debug, thiserror::Error)]
#[error("must be an absolute path")]
struct NotAFile;

impl FromStr for AssertionFile {
    type Err = NotAFile;

    fn from_str(text: &str) -> Result<Self, NotAFile> {
        if text.starts_with('/') { Ok(Self(text.into())) } else { Err(NotAFile) }
    }
}

/// What the variables say about a workload identity.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    authority: Host,
    tenant: Tenant,
    client_id: ClientId,
    assertion: PathBuf,
}

impl Workload {
    /// Reads them. `None`: there is none, or the variables are refused. `client_id` alone is a managed identity's.
    pub(crate) fn read(env: &mut Reader<'_>, client_id: Option<&ClientId>) -> Option<Self> {
        let tenant = env.optional::<Tenant>("AZURE_TENANT_ID");
        let assertion = env.optional::<AssertionFile>("AZURE_FEDERATED_TOKEN_FILE");
        let authority = env.parse::<HttpsUrl>("AZURE_AUTHORITY_HOST");
        let missing = [
            ("AZURE_TENANT_ID", tenant.is_none()),
            ("AZURE_FEDERATED_TOKEN_FILE", assertion.is_none()),
            ("AZURE_CLIENT_ID", client_id.is_none()),
        ];
        let workload = tenant.is_some() || assertion.is_some();
        for (name, _) in missing.iter().filter(|(_, missing)| *missing && workload) {
            let why = "is needed for a workload identity: AZURE_CLIENT_ID, AZURE_TENANT_ID and \
                       AZURE_FEDERATED_TOKEN_FILE belong together";
            env.refuse(name, &why);
        }
        let HttpsUrl(authority) = authority?;
        let (client_id, AssertionFile(assertion)) = (client_id?.clone(), assertion?);
        Some(Self { authority, tenant: tenant?, client_id, assertion })
    }
}

/// The identity of a pod.
#[derive(Debug)]
pub(crate) struct WorkloadIdentity {
    workload: Workload,
    authority: Outbound,
}

/// Why it has no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkloadError {
    /// The authority gave no whole answer, or refused.
    #[error(transparent)]
    Call(#[from] OutboundError),
    /// Its configuration names no token endpoint of its own.
    #[error("the authority's OpenID configuration names no token endpoint at AZURE_AUTHORITY_HOST")]
    Endpoint,
    /// The file cannot be read.
    #[error("AZURE_FEDERATED_TOKEN_FILE cannot be read")]
    File(#[source] std::io::Error),
    /// The file holds something else.
    #[error("AZURE_FEDERATED_TOKEN_FILE holds no token of at most {LONGEST_ASSERTION} characters")]
    Assertion,
    /// The authority's answer holds no token that can be used.
    #[error(transparent)]
    Answer(Box<IdentityError>),
}

impl WorkloadIdentity {
    pub(crate) fn new(workload: Workload, roots: &Roots) -> Self {
        Self { workload, authority: Outbound::new("the authority", roots, LIMITS) }
    }

    /// A token for `resource`.
    pub(crate) async fn token(&self, resource: &str) -> Result<Issued, IdentityError> {
        self.exchanged(resource).await.map_err(|error| IdentityError::Workload(Box::new(error)))
    }

    async fn exchanged(&self, resource: &str) -> Result<Issued, WorkloadError> {
        let endpoint = self.endpoint().await?;
        // Read each time: the cluster renews it about once an hour.
        let file = self.workload.assertion.clone();
        let assertion = tokio::task::spawn_blocking(move || read(&file));
        let assertion = assertion.await.map_err(|_| WorkloadError::Assertion)??;
        let form = self.form(resource, &assertion);
        let content = HeaderValue::from_static("application/x-www-form-urlencoded");
        let call = Call::post_json(endpoint, form).header(CONTENT_TYPE, content);
        let answer = self.authority.repeatedly(&call).await?;
        identity::read(answer).map_err(|error| WorkloadError::Answer(Box::new(error)))
    }

    /// Where the authority takes assertions. It must be the authority itself, because the answer that says so could name
    /// anybody.
    async fn endpoint(&self) -> Result<Url, WorkloadError> {
        #[derive(Deserialize)]
        struct Configuration {
            token_endpoint: String,
        }

        let Workload { authority, tenant: Tenant(tenant), .. } = &self.workload;
        let mut url = authority.url();
        url.set_path(&format!("/{tenant}/v2.0/.well-known/openid-configuration"));
        let answer = self.authority.repeatedly(&Call::get(url)).await?;
        let configuration: Configuration =
            serde_json::from_slice(&answer.body).map_err(|_| WorkloadError::Endpoint)?;
        let endpoint = Url::parse(&configuration.token_endpoint);
        let endpoint = endpoint.map_err(|_| WorkloadError::Endpoint)?;
        let own = endpoint.origin() == authority.url().origin()
            && endpoint.username().is_empty()
            && endpoint.password().is_none();
        if own { Ok(endpoint) } else { Err(WorkloadError::Endpoint) }
    }

    /// The assertion stands last and in a buffer that does not grow, so that it is in no other.
    fn form(&self, resource: &str, assertion: &str) -> Bytes {
        let scope = format!("{resource}/.default openid offline_access profile");
        let form = String::with_capacity(REST_OF_FORM + assertion.len());
        let form = form_urlencoded::Serializer::new(form)
            .append_pair("client_id", self.workload.client_id.as_str())
            .append_pair("client_info", "1")
            .append_pair("grant_type", "client_credentials")
            .append_pair("scope", &scope)
            .append_pair(
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            )
            .append_pair("client_assertion", assertion)
            .finish();
        Bytes::from_owner(Zeroizing::new(form.into_bytes()))
    }
}

/// The file's token, without what stands around it. Nothing in it needs to be written otherwise in a form.
fn read(file: &Path) -> Result<Zeroizing<String>, WorkloadError> {
    let file = plain_file::open(file).map_err(WorkloadError::File)?;
    let limit = LONGEST_ASSERTION + 1;
    let mut text =
        Zeroizing::new(String::with_capacity(usize::try_from(limit).unwrap_or_default()));
    file.take(limit).read_to_string(&mut text).map_err(WorkloadError::File)?;
    let token = text.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let whole = u64::try_from(text.len()).is_ok_and(|length| length < limit);
    if whole && !token.is_empty() && token.bytes().all(plain) {
        Ok(Zeroizing::new(token.to_owned()))
    } else {
        Err(WorkloadError::Assertion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> WorkloadIdentity {
        let workload = Workload {
            authority: "login.test".parse().unwrap(),
            tenant: "tenant".parse().unwrap(),
            client_id: "client".parse().unwrap(),
            assertion: "/nowhere".into(),
        };
        WorkloadIdentity::new(workload, &Roots::public())
    }

    #[test]
    fn a_tenant_leads_nowhere_else() {
        assert!("01234567-89ab-cdef-0123-456789abcdef".parse::<Tenant>().is_ok());
        assert!("contoso.onmicrosoft.com".parse::<Tenant>().is_ok());
        for bad in ["", ".", "..", "a/b", "a?b", "a b", "a%2fb", &"a".repeat(129)] {
            assert_eq!(bad.parse::<Tenant>(), Err(NotATenant), "{bad}");
        }
    }

    #[test]
    fn the_form_is_the_one_of_the_contract_and_was_never_copied() {
        let assertion = "a.b-_".repeat(3000);
        let form = identity().form("https://vault.azure.net", &assertion);
        let pairs: Vec<_> = form_urlencoded::parse(&form).into_owned().collect();
        let scope = "https://vault.azure.net/.default openid offline_access profile";
        let expected = [
            ("client_id", "client"),
            ("client_info", "1"),
            ("grant_type", "client_credentials"),
            ("scope", scope),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &assertion),
        ];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(form.len() < REST_OF_FORM + assertion.len(), "it did not outgrow its buffer");
    }

    #[test]
    fn a_file_holds_one_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let content = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path)
        };
        assert_eq!(*content("a.b.c-_\n").unwrap(), "a.b.c-_");
        let longest = "a".repeat(16 * 1024);
        assert_eq!(content(&longest).unwrap().len(), longest.len());
        for bad in ["", "\n", "a b", "a&b=c", "ä", &format!("{longest}a")] {
            assert!(matches!(content(bad), Err(WorkloadError::Assertion)), "{}", bad.len());
        }
        assert!(matches!(read(Path::new("/nowhere")), Err(WorkloadError::File(_))));
    }

    /// The turn of a token waits for the file: a pipe in its place would stop every release for good.
    #[test]
    fn a_pipe_is_no_file_that_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
        let (sender, answer) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(read(&path).err()));
        let error = answer.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(matches!(error, Some(WorkloadError::File(_))));
    }
}
