//! JSON of ocicrypt's key provider protocol, as far as the reference reads it, and the annotation that wrapping leaves
//! on a layer of an image (contract `skr.md` part 1.2).
//!
//! Must not know any cryptography, nor repeat what it read: a packet to wrap holds a key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use zeroize::Zeroizing;

use crate::http::base64;
use crate::secret;

/// The agent that this service is.
const AGENT: &str = "skr";

/// The parameter that names the agent.
const PARAMETER: &str = "attestation-agent";

/// The longest name of an agent that an error repeats, in characters.
const EXCERPT: usize = 64;

/// What is to be wrapped.
pub(super) struct Wrap {
    /// Path of the key, as the caller writes it.
    pub(super) key: String,
    /// The key of a layer.
    pub(super) plaintext: Zeroizing<Vec<u8>>,
}

/// What is to be unwrapped.
pub(super) struct Unwrap {
    /// What wrapping said.
    pub(super) annotation: Annotation,
}

/// What wrapping leaves on a layer. Its members stand in this order.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Annotation {
    /// Id of the vault's key.
    pub(crate) kid: String,
    /// Standard base64.
    pub(crate) wrapped_data: String,
    /// Of other wrappings; nothing here uses one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) iv: String,
    /// A constant of the reference's, whatever the key's size is.
    #[serde(default)]
    pub(crate) wrap_type: String,
    /// Bare host of the vault.
    pub(crate) kms_endpoint: String,
    /// Bare host of the MAA instance.
    pub(crate) attester_endpoint: String,
}

/// Why a packet is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PacketError {
    /// It is not the JSON that is expected. It may hold a key, so that only the place is told.
    #[error("Ill-formed key provider input: not repeated here. Error: {0}")]
    Input(Place),
    /// The key to wrap is not base64.
    #[error("Ill-formed key provider input: not repeated here. Error: optsdata is not base64")]
    Plaintext,
    /// No agent is named to wrap.
    #[error(
        "attestation-agent must be specified in the encryption config parameters: one, in base64"
    )]
    NoWrappingAgent,
    /// No agent is named to unwrap.
    #[error("attestation-agent must be specified in decryption config parameters: one, in base64")]
    NoUnwrappingAgent,
    /// The agent is named without a key.
    #[error("Key id is not provided in the request: the agent is to be skr:PATH")]
    NoKey,
    /// Somebody else is meant.
    #[error(
        "Unexpected attestation agent {0} specified. Perhaps you send the request to a wrong endpoint?"
    )]
    OtherAgent(String),
    /// The annotation is not base64.
    #[error("Annotation is not a base64 encoding: {0}")]
    Encoding(base64::NotBase64),
    /// The annotation is not the JSON that is expected.
    #[error("Ill-formed annotation packet: {0}")]
    Annotation(Place),
}

/// What is wrong with a JSON text, and where. Says nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at line {line} column {column}")]
pub(super) struct Place {
    what: &'static str,
    line: usize,
    column: usize,
}

impl From<serde_json::Error> for Place {
    fn from(error: serde_json::Error) -> Self {
        let what = match error.classify() {
            Category::Io | Category::Eof => "unexpected end",
            Category::Syntax => "no JSON",
            Category::Data => "a member is missing, stands twice or is of another type",
        };
        Self { what, line: error.line(), column: error.column() }
    }
}

#[derive(Deserialize)]
struct Input {
    #[serde(default)]
    keywrapparams: Option<WrapParameters>,
    #[serde(default)]
    keyunwrapparams: Option<UnwrapParameters>,
}

#[derive(Default, Deserialize)]
struct WrapParameters {
    #[serde(default)]
    ec: Option<Configuration>,
    #[serde(default)]
    optsdata: Option<Secret>,
}

#[derive(Default, Deserialize)]
struct UnwrapParameters {
    #[serde(default)]
    dc: Option<Configuration>,
    #[serde(default)]
    annotation: Option<String>,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default, rename = "Parameters")]
    parameters: Option<BTreeMap<String, Option<Vec<String>>>>,
}

/// A text that is zeroed when dropped.
#[derive(Deserialize)]
#[serde(from = "String")]
struct Secret(Zeroizing<String>);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl Configuration {
    /// The first agent, decoded.
    fn agent(&self) -> Option<String> {
        let agents = self.parameters.as_ref()?.get(PARAMETER)?.as_ref()?;
        String::from_utf8(base64::decode(agents.first()?).ok()?).ok()
    }
}

/// Reads a packet to wrap.
pub(super) fn wrap(input: &[u8]) -> Result<Wrap, PacketError> {
    let input: Input = serde_json::from_slice(input).map_err(|e| PacketError::Input(e.into()))?;
    let WrapParameters { ec, optsdata } = input.keywrapparams.unwrap_or_default();
    let agent = ec.and_then(|ec| ec.agent()).ok_or(PacketError::NoWrappingAgent)?;
    let mut parts = agent.split(':');
    is_us(parts.next().unwrap_or_default())?;
    let key = parts.next().filter(|key| !key.is_empty()).ok_or(PacketError::NoKey)?.to_owned();
    let optsdata = optsdata.unwrap_or_else(|| String::new().into());
    let plaintext = base64::decode(&optsdata.0).map_err(|_| PacketError::Plaintext)?;
    Ok(Wrap { key, plaintext: Zeroizing::new(plaintext) })
}

/// Reads a packet to unwrap.
pub(super) fn unwrap(input: &[u8]) -> Result<Unwrap, PacketError> {
    let input: Input = serde_json::from_slice(input).map_err(|e| PacketError::Input(e.into()))?;
    let UnwrapParameters { dc, annotation } = input.keyunwrapparams.unwrap_or_default();
    let agent = dc.and_then(|dc| dc.agent()).ok_or(PacketError::NoUnwrappingAgent)?;
    is_us(agent.split(':').next().unwrap_or_default())?;
    let annotation =
        base64::decode(&annotation.unwrap_or_default()).map_err(PacketError::Encoding)?;
    let annotation =
        serde_json::from_slice(&annotation).map_err(|e| PacketError::Annotation(e.into()))?;
    Ok(Unwrap { annotation })
}

fn is_us(agent: &str) -> Result<(), PacketError> {
    if agent.eq_ignore_ascii_case(AGENT) {
        return Ok(());
    }
    let shown = agent.chars().filter(|c| !c.is_control()).take(EXCERPT).collect();
    Err(PacketError::OtherAgent(shown))
}

/// The answer to a packet that was wrapped.
pub(super) fn wrapped(annotation: &Annotation) -> Vec<u8> {
    let annotation = base64::encode(annotation.to_json().as_slice());
    answer(Some(&annotation), None).to_vec()
}

/// The answer to a packet that was unwrapped. Holds the key.
pub(super) fn unwrapped(plaintext: &[u8]) -> Zeroizing<Vec<u8>> {
    let optsdata = Zeroizing::new(base64::encode(plaintext));
    answer(None, Some(&optsdata))
}

impl Annotation {
    /// As JSON.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        secret::json(self).to_vec()
    }
}

fn answer(annotation: Option<&str>, optsdata: Option<&str>) -> Zeroizing<Vec<u8>> {
    #[derive(Serialize)]
    struct Output<'a> {
        keywrapresults: Wrapped<'a>,
        keyunwrapresults: Unwrapped<'a>,
    }
    #[derive(Serialize)]
    struct Wrapped<'a> {
        annotation: Option<&'a str>,
    }
    #[derive(Serialize)]
    struct Unwrapped<'a> {
        optsdata: Option<&'a str>,
    }
    secret::json(&Output {
        keywrapresults: Wrapped { annotation },
        keyunwrapresults: Unwrapped { optsdata },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn to_wrap(agent: &Value, optsdata: &str) -> Vec<u8> {
        let parameters = json!({"attestation-agent": agent});
        let ec = json!({"Parameters": parameters, "Dc": {"Parameters": {}}});
        let input = json!({"op": "keywrap", "keywrapparams": {"ec": ec, "optsdata": optsdata}, "keyunwrapparams": {}});
        input.to_string().into_bytes()
    }

    fn to_unwrap(agent: &str, annotation: &str) -> Vec<u8> {
        let dc = json!({"Parameters": {"attestation-agent": [base64::encode(agent.as_bytes())]}});
        let parameters = json!({"dc": dc, "annotation": annotation});
        json!({"op": "keyunwrap", "keywrapparams": {}, "keyunwrapparams": parameters})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn the_agent_is_named_in_any_case_and_may_name_more() {
        for agent in ["skr:/keys/a", "SKR:/keys/a", "Skr:/keys/a:rest"] {
            let input = to_wrap(&json!([base64::encode(agent.as_bytes())]), "AQI=");
            let Wrap { key, plaintext } = wrap(&input).ok().unwrap();
            assert_eq!((key.as_str(), plaintext.as_slice()), ("/keys/a", [1, 2].as_slice()));
        }
    }

    #[test]
    fn what_is_missing_to_wrap_is_named() {
        let agent = |text: &str| json!([base64::encode(text.as_bytes())]);
        for (input, error) in [
            (to_wrap(&agent("skr"), ""), PacketError::NoKey),
            (to_wrap(&agent("skr:"), ""), PacketError::NoKey),
            (to_wrap(&agent("kbs:/a"), ""), PacketError::OtherAgent("kbs".to_owned())),
            (to_wrap(&json!([]), ""), PacketError::NoWrappingAgent),
            (to_wrap(&json!(null), ""), PacketError::NoWrappingAgent),
            (to_wrap(&json!(["%"]), ""), PacketError::NoWrappingAgent),
            (b"{}".to_vec(), PacketError::NoWrappingAgent),
            (br#"{"keywrapparams":null}"#.to_vec(), PacketError::NoWrappingAgent),
            (to_wrap(&agent("skr:/a"), "%"), PacketError::Plaintext),
        ] {
            assert_eq!(wrap(&input).err(), Some(error));
        }
    }

    #[test]
    fn no_error_repeats_what_was_to_be_wrapped() {
        let secret = "c2VjcmV0";
        for input in [
            format!(r#"{{"keywrapparams":{{"optsdata":"{secret}","ec":"{secret}"}}}}"#),
            format!(r#"{{"keywrapparams":"{secret}"}}"#),
            format!(r#"{{"keywrapparams":{{"optsdata":"{secret}"#),
            secret.to_owned(),
        ] {
            let error = wrap(input.as_bytes()).err().unwrap().to_string();
            assert!(error.starts_with("Ill-formed key provider input: "), "{error}");
            assert!(error.contains(". Error: "), "{error}");
            assert!(!error.contains(secret), "{error}");
        }
    }

    #[test]
    fn annotations_are_read_as_they_are_written() {
        let annotation = Annotation {
            kid: "key".to_owned(),
            wrapped_data: "AQI=".to_owned(),
            iv: String::new(),
            wrap_type: "rsa_3072".to_owned(),
            kms_endpoint: "v.vault.azure.net".to_owned(),
            attester_endpoint: "m.attest.azure.net".to_owned(),
        };
        let text = r#"{"kid":"key","wrapped_data":"AQI=","wrap_type":"rsa_3072","kms_endpoint":"v.vault.azure.net","attester_endpoint":"m.attest.azure.net"}"#;
        assert_eq!(annotation.to_json(), text.as_bytes());
        let encoded = base64::encode(text.as_bytes());
        let output = format!(
            r#"{{"keywrapresults":{{"annotation":"{encoded}"}},"keyunwrapresults":{{"optsdata":null}}}}"#
        );
        assert_eq!(wrapped(&annotation), output.as_bytes());
        assert_eq!(unwrap(&to_unwrap("skr", &encoded)).ok().unwrap().annotation, annotation);
    }

    #[test]
    fn what_is_wrong_with_an_annotation_is_named() {
        let error = |agent: &str, annotation: &str| {
            unwrap(&to_unwrap(agent, annotation)).err().unwrap().to_string()
        };
        assert!(error("skr", "%").starts_with("Annotation is not a base64 encoding: illegal "));
        for text in ["", "{}", "[]", r#"{"kid":1}"#] {
            let error = error("skr", &base64::encode(text.as_bytes()));
            assert!(error.starts_with("Ill-formed annotation packet: "), "{error}");
        }
        let other = error("other\u{1b}[2J", "");
        assert!(other.starts_with("Unexpected attestation agent other[2J specified."), "{other}");
        let none = unwrap(b"{}").err();
        assert_eq!(none, Some(PacketError::NoUnwrappingAgent));
    }

    #[test]
    fn what_was_unwrapped_is_base64() {
        let output =
            br#"{"keywrapresults":{"annotation":null},"keyunwrapresults":{"optsdata":"AQI="}}"#;
        assert_eq!(unwrapped(&[1, 2]).as_slice(), output);
    }
}
