//! `SkrSideCarArgs`: JSON in standard base64 that says where certificates come from, whose identity is used, and what MAA
//! is told about the caller. Unknown members are ignored, as the reference does; what is known is checked.

use serde_json::Value;
use url::Url;

use crate::http::base64;

/// What the arguments say. Empty texts say nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SideCarArgs {
    pub(super) certificates: Option<CertificateCache>,
    /// The client id of the managed identity.
    pub(super) client_id: Option<String>,
    /// The `User-Agent` for MAA.
    pub(super) user_agent: Option<String>,
}

/// Where certificates come from beside what the platform mounts. Words are without the `name=` that the reference
/// writes before them.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CertificateCache {
    /// Azure's THIM, in the clear.
    LocalThim(Url),
    /// AMD's key distribution service: what stands before `/vcek/v1`. It is asked for the product that the report
    /// states, so that `tee_type` says nothing here.
    Amd(Url),
    /// Azure's cache of it.
    AzureCache {
        base: Url,
        tee_type: Option<String>,
        api_version: Option<String>,
        client_id: Option<String>,
    },
}

/// Why arguments cannot be used. Only the type of a source is repeated, since scripts look for it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ArgsError {
    #[error("illegal base64 data")]
    Base64,
    #[error("it is no JSON object")]
    Json,
    #[error("{0} must be a text")]
    NotText(&'static str),
    #[error("{0} must be an object")]
    NotAnObject(&'static str),
    #[error(
        "Refreshing CertChain failed: failed to retrieve cert chain: certificate endpoint not set"
    )]
    NoEndpoint,
    #[error(
        "Refreshing CertChain failed: failed to retrieve cert chain: invalid endpoint type: {0}"
    )]
    EndpointType(String),
    #[error("certcache.endpoint must be host, or host/path, without a scheme")]
    Endpoint,
    #[error("certcache.{0} must begin with its name and `=`")]
    NoPrefix(&'static str),
}

/// The longest type of a source that an error repeats, in characters.
const LONGEST_TYPE: usize = 32;

impl SideCarArgs {
    /// Reads the value of `SkrSideCarArgs`.
    pub(super) fn read(text: &str) -> Result<Self, ArgsError> {
        let json = base64::decode(text).map_err(|_| ArgsError::Base64)?;
        let json: Value = serde_json::from_slice(&json).map_err(|_| ArgsError::Json)?;
        if !json.is_object() {
            return Err(ArgsError::Json);
        }
        let cache = object(&json, "certcache")?;
        let client_id = text_of(object(&json, "identity")?, "client_id", "identity.client_id")?;
        let maa = object(&json, "maaconfig")?;
        let user_agent = text_of(maa, "user_agent", "maaconfig.user_agent")?;
        Ok(Self { certificates: certificates(cache)?, client_id, user_agent })
    }
}

fn certificates(cache: Option<&Value>) -> Result<Option<CertificateCache>, ArgsError> {
    let text = |member, name| text_of(cache, member, name);
    let kind = text("endpoint_type", "certcache.endpoint_type")?;
    let endpoint = text("endpoint", "certcache.endpoint")?;
    let tee_type = text("tee_type", "certcache.tee_type")?;
    let api_version = text("api_version", "certcache.api_version")?;
    let client_id = text("client_id", "certcache.client_id")?;
    if kind.is_none() && endpoint.is_none() {
        return Ok(None);
    }
    let endpoint = endpoint.ok_or(ArgsError::NoEndpoint)?;
    match kind.as_deref().unwrap_or_default() {
        "LocalTHIM" => Ok(Some(CertificateCache::LocalThim(url("http", &endpoint)?))),
        "AMD" => {
            let endpoint = endpoint.trim_end_matches('/');
            let base = endpoint.strip_suffix("/vcek/v1").unwrap_or(endpoint);
            Ok(Some(CertificateCache::Amd(url("https", base)?)))
        }
        "AzCache" => Ok(Some(CertificateCache::AzureCache {
            base: url("https", &endpoint)?,
            tee_type,
            api_version: without_name(api_version, "api-version=", "api_version")?,
            client_id: without_name(client_id, "clientId=", "client_id")?,
        })),
        other => Err(ArgsError::EndpointType(
            other.chars().filter(|c| c.is_ascii_graphic()).take(LONGEST_TYPE).collect(),
        )),
    }
}

/// A member, found as Go's `encoding/json` finds it: in any case. `null` says nothing.
fn member<'a>(of: Option<&'a Value>, name: &str) -> Option<&'a Value> {
    let members = of?.as_object()?;
    let found = members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value).filter(|value| !value.is_null())
}

fn object<'a>(of: &'a Value, name: &'static str) -> Result<Option<&'a Value>, ArgsError> {
    let found = member(Some(of), name);
    if found.is_some_and(|value| !value.is_object()) {
        return Err(ArgsError::NotAnObject(name));
    }
    Ok(found)
}

fn text_of(
    of: Option<&Value>,
    member_name: &str,
    name: &'static str,
) -> Result<Option<String>, ArgsError> {
    let Some(value) = member(of, member_name) else { return Ok(None) };
    let text = value.as_str().ok_or(ArgsError::NotText(name))?;
    Ok(Some(text).filter(|text| !text.is_empty()).map(ToOwned::to_owned))
}

/// An endpoint is a host and a path, without a user, a query or a fragment.
fn url(scheme: &str, endpoint: &str) -> Result<Url, ArgsError> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#@\\".contains(&byte);
    let a_host_first = !endpoint.starts_with('/') && !endpoint.contains("//");
    let fits = a_host_first && endpoint.bytes().all(plain);
    let url = Url::parse(&format!("{scheme}://{endpoint}")).ok().filter(|_| fits);
    url.ok_or(ArgsError::Endpoint)
}

fn without_name(
    text: Option<String>,
    prefix: &str,
    member: &'static str,
) -> Result<Option<String>, ArgsError> {
    let Some(text) = text else { return Ok(None) };
    let word = text.strip_prefix(prefix).ok_or(ArgsError::NoPrefix(member))?;
    Ok(Some(word.to_owned()))
}

#[cfg(test)]
mod tests {
    use ::base64::Engine as _;
    use ::base64::engine::general_purpose::STANDARD;

    use super::*;

    fn read(json: &str) -> Result<SideCarArgs, ArgsError> {
        SideCarArgs::read(&STANDARD.encode(json))
    }

    fn cache(json: &str) -> Result<Option<CertificateCache>, ArgsError> {
        Ok(read(&format!(r#"{{"certcache":{json}}}"#))?.certificates)
    }

    fn at(url: &str) -> Url {
        url.parse().unwrap()
    }

    #[test]
    fn everything_is_optional_and_what_is_unknown_ignored() {
        for nothing in [
            "{}",
            r#"{"certcache":null,"identity":{},"maaconfig":{"user_agent":""},"more":[1]}"#,
            r#"{"certcache":{"endpoint_type":"","endpoint":"","tee_type":"Milan"}}"#,
        ] {
            assert_eq!(read(nothing), Ok(SideCarArgs::default()), "{nothing}");
        }
        let args = read(r#"{"Identity":{"Client_ID":"a-b"},"maaconfig":{"user_agent":"me"}}"#);
        let args = args.unwrap();
        assert_eq!(
            (args.client_id.as_deref(), args.user_agent.as_deref()),
            (Some("a-b"), Some("me"))
        );
    }

    #[test]
    fn every_kind_of_source_is_known() {
        let thim = r#"{"endpoint_type":"LocalTHIM","endpoint":"169.254.169.254/metadata/THIM/amd/certification"}"#;
        let thim_url = "http://169.254.169.254/metadata/THIM/amd/certification";
        assert_eq!(cache(thim), Ok(Some(CertificateCache::LocalThim(at(thim_url)))));
        for endpoint in ["kds.example/vcek/v1", "kds.example/vcek/v1/", "kds.example"] {
            let amd =
                format!(r#"{{"endpoint_type":"AMD","endpoint":"{endpoint}","tee_type":"Milan"}}"#);
            let expected = CertificateCache::Amd(at("https://kds.example"));
            assert_eq!(cache(&amd), Ok(Some(expected)), "{endpoint}");
        }
        let azure = r#"{"endpoint_type":"AzCache","endpoint":"c.example","tee_type":"SevSnpVM",
            "api_version":"api-version=2020-10-15-preview","client_id":"clientId=Me"}"#;
        let expected = CertificateCache::AzureCache {
            base: at("https://c.example"),
            tee_type: Some("SevSnpVM".to_owned()),
            api_version: Some("2020-10-15-preview".to_owned()),
            client_id: Some("Me".to_owned()),
        };
        assert_eq!(cache(azure), Ok(Some(expected)));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        assert_eq!(SideCarArgs::read("e30"), Err(ArgsError::Base64));
        for json in ["", "[]", "{", "7", "{} {}"] {
            assert_eq!(read(json), Err(ArgsError::Json), "{json}");
        }
        assert_eq!(read(r#"{"identity":7}"#), Err(ArgsError::NotAnObject("identity")));
        let number = read(r#"{"identity":{"client_id":7}}"#);
        assert_eq!(number, Err(ArgsError::NotText("identity.client_id")));
        assert_eq!(cache(r#"{"endpoint_type":"AMD"}"#), Err(ArgsError::NoEndpoint));
        let other = cache(r#"{"endpoint_type":"Other\n","endpoint":"a"}"#);
        assert_eq!(other, Err(ArgsError::EndpointType("Other".to_owned())));
        let no_name = cache(r#"{"endpoint_type":"AzCache","endpoint":"a","api_version":"2020"}"#);
        assert_eq!(no_name, Err(ArgsError::NoPrefix("api_version")));
        for endpoint in ["https://a", "a?x=1", "u@a", "a#b", "/a", "a b", ":80", "a\\b"] {
            let endpoint = serde_json::to_string(endpoint).unwrap();
            let json = format!(r#"{{"endpoint_type":"LocalTHIM","endpoint":{endpoint}}}"#);
            assert_eq!(cache(&json), Err(ArgsError::Endpoint), "{endpoint}");
        }
    }
}
