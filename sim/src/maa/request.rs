//! The body of `POST /attest/SevSnpVm`: JSON in base64url in JSON, three levels deep.
//!
//! Must not know: what makes evidence good. Azure takes base64url with and without padding, and
//! ignores members that it does not know.

use serde::Deserialize;
use serde_json::Value;
use x509_cert::Certificate;

use super::appraise::Refusal;
use crate::encoding::from_b64u;
use crate::pki::certificate;

/// Endorsements of one request that are looked at.
const MAX_ENDORSEMENTS: usize = 8;

/// A decoded request.
#[derive(Debug)]
pub(super) struct AttestRequest {
    pub(super) report: Vec<u8>,
    pub(super) chain: Vec<Certificate>,
    /// COSE_Sign1 endorsements of the utility VM.
    pub(super) endorsements: Vec<Vec<u8>>,
    /// The bytes that the report's data was hashed from.
    pub(super) runtime_data: Option<Vec<u8>>,
    /// The bytes that the host data was hashed from.
    pub(super) init_time_data: Option<Vec<u8>>,
    /// As text, whatever it was.
    pub(super) nonce: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outer {
    report: String,
    runtime_data: Option<Data>,
    init_time_data: Option<Data>,
    nonce: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    data: String,
    #[serde(default)]
    data_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inner {
    snp_report: String,
    vcek_cert_chain: String,
    endorsements: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endorsements {
    #[serde(default)]
    uvm: Vec<String>,
}

impl AttestRequest {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let outer: Outer = json(body, "the body")?;
        let inner: Inner = json(&base64url(&outer.report, "report")?, "report")?;
        let chain = base64url(&inner.vcek_cert_chain, "VcekCertChain")?;
        let chain = str::from_utf8(&chain).map_err(|_| Refusal::Malformed("VcekCertChain"))?;
        let chain =
            certificate::from_pem_chain(chain).map_err(|_| Refusal::Malformed("VcekCertChain"))?;
        let endorsements: Endorsements = match inner.endorsements {
            None => Endorsements { uvm: Vec::new() },
            Some(text) => json(&base64url(&text, "Endorsements")?, "Endorsements")?,
        };
        if endorsements.uvm.len() > MAX_ENDORSEMENTS {
            return Err(Refusal::Malformed("Endorsements"));
        }
        Ok(Self {
            report: base64url(&inner.snp_report, "SnpReport")?,
            chain,
            endorsements: endorsements
                .uvm
                .iter()
                .map(|text| base64url(text, "Uvm"))
                .collect::<Result<_, _>>()?,
            runtime_data: data(outer.runtime_data, "runtimeData")?,
            init_time_data: data(outer.init_time_data, "initTimeData")?,
            nonce: nonce(outer.nonce)?,
        })
    }
}

/// `None` when the member is absent or empty: Microsoft's sidecar sends an empty `initTimeData`.
fn data(data: Option<Data>, name: &'static str) -> Result<Option<Vec<u8>>, Refusal> {
    let Some(data) = data.filter(|data| !data.data.is_empty()) else { return Ok(None) };
    if data.data_type != "JSON" {
        return Err(Refusal::DataType(name));
    }
    let bytes = base64url(&data.data, name)?;
    json::<serde_json::Map<String, Value>>(&bytes, name)?;
    Ok(Some(bytes))
}

fn nonce(nonce: Option<Value>) -> Result<Option<String>, Refusal> {
    match nonce {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) if number.is_u64() => Ok(Some(number.to_string())),
        Some(_) => Err(Refusal::Malformed("nonce")),
    }
}

fn json<T: for<'a> Deserialize<'a>>(bytes: &[u8], name: &'static str) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|_| Refusal::Malformed(name))
}

fn base64url(text: &str, name: &'static str) -> Result<Vec<u8>, Refusal> {
    from_b64u(text).map_err(|_| Refusal::Malformed(name))
}
