//! Which container of Azure Blob Storage is meant, and by which word of its owner it is read.
//!
//! A signature (SAS) in the URL is a credential: it has no `Debug`, and no error repeats the URL.

use url::form_urlencoded::byte_serialize;
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::outgoing::{authority, is_local};

/// The domains of storage accounts in Azure's clouds: the public one, with and without DNS zones, the American
/// government's and China's.
const DOMAINS: [&str; 4] = [
    ".blob.core.windows.net",
    ".blob.storage.azure.net",
    ".blob.core.usgovcloudapi.net",
    ".blob.core.chinacloudapi.cn",
];

/// The parameters that a signature is made of (REST reference, "Create a service SAS", "… an account SAS", "… a user
/// delegation SAS"). With any other the URL would ask for something else than it seems to.
const SIGNED: [&str; 22] = [
    "sv", "ss", "srt", "sp", "st", "se", "spr", "sip", "sig", "sr", "si", "sdd", "ses", "skoid",
    "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid",
];

/// The longest URL.
const LONGEST: usize = 8192;

/// A container of Azure Blob Storage, or a folder in one.
#[derive(Clone)]
pub struct Container {
    /// Scheme, host and container, with nothing behind them.
    url: Url,
    /// Empty, or with a slash at its end.
    folder: String,
    sas: Option<Zeroizing<String>>,
}

/// Why a text names no container. The text is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAContainer {
    /// Not such a URL.
    #[error(
        "a container is https://ACCOUNT.blob.core.windows.net/CONTAINER, with a folder of letters, digits and -._= behind it or without"
    )]
    Form,
    /// The host is nobody's whom a credential may be sent to.
    #[error(
        "the URL's host is no storage account of Azure: name it with --storage-host HOST[:PORT] if it is yours"
    )]
    ForeignHost,
    /// Something else than the parameters of a signature.
    #[error("the URL's query is no shared access signature (sv=…&sig=…)")]
    Query,
}

impl Container {
    /// Reads a URL. `host` is the one host, with its port if that is not the scheme's own, that may be asked instead of
    /// Azure's; on this machine also in the clear.
    ///
    /// # Errors
    ///
    /// [`NotAContainer`].
    pub fn new(text: &str, host: Option<&str>) -> Result<Self, NotAContainer> {
        if text.len() > LONGEST {
            return Err(NotAContainer::Form);
        }
        let mut url = Url::parse(text).map_err(|_| NotAContainer::Form)?;
        let bare =
            url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        let is_private = url.scheme() == "https" || url.scheme() == "http" && is_local(&url);
        if !bare || !is_private {
            return Err(NotAContainer::Form);
        }
        let may_be_asked = match host {
            Some(host) => authority(&url).eq_ignore_ascii_case(host),
            None => is_azures(&url),
        };
        if !may_be_asked {
            return Err(NotAContainer::ForeignHost);
        }
        let path = url.path().trim_start_matches('/').to_owned();
        let (container, folder) = path.split_once('/').unwrap_or((&path, ""));
        let folder = folder.strip_suffix('/').unwrap_or(folder);
        if !is_container(container) || !is_folder(folder) {
            return Err(NotAContainer::Form);
        }
        let sas = url.query().filter(|query| !query.is_empty()).map(|query| {
            is_signature(query)
                .then(|| Zeroizing::new(query.to_owned()))
                .ok_or(NotAContainer::Query)
        });
        let sas = sas.transpose()?;
        url.set_query(None);
        url.set_path(container);
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        Ok(Self { url, folder, sas })
    }

    /// Whether its URL holds a signature.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.sas.is_some()
    }

    /// What it is called, without the signature.
    #[must_use]
    pub fn name(&self) -> String {
        let name = format!("{}/{}", self.url, self.folder);
        name.trim_end_matches('/').to_owned()
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// A blob's name without the folder's; `None` if it lies elsewhere.
    pub(super) fn own<'a>(&self, blob: &'a str) -> Option<&'a str> {
        blob.strip_prefix(&self.folder)
    }

    /// What to ask for a page of its list (REST reference, "List Blobs"): path and query.
    pub(super) fn list(&self, marker: Option<&str>) -> Zeroizing<String> {
        let mut list = format!("{}?restype=container&comp=list&delimiter=%2F", self.url.path());
        let prefix = Some(self.folder.as_str()).filter(|folder| !folder.is_empty());
        for (name, value) in [("prefix", prefix), ("marker", marker)] {
            if let Some(value) = value {
                list.extend(["&", name, "="].into_iter().chain(byte_serialize(value.as_bytes())));
            }
        }
        self.signed(list, '&')
    }

    /// What to ask for one of its blobs, whose name is plain: path and query.
    pub(super) fn blob(&self, name: &str) -> Zeroizing<String> {
        self.signed(format!("{}/{}{name}", self.url.path(), self.folder), '?')
    }

    fn signed(&self, mut target: String, joint: char) -> Zeroizing<String> {
        if let Some(sas) = &self.sas {
            target.reserve_exact(1 + sas.len());
            target.push(joint);
            target.push_str(sas);
        }
        Zeroizing::new(target)
    }
}

fn is_azures(url: &Url) -> bool {
    let Some(Host::Domain(name)) = url.host() else { return false };
    let is_account = |account: &str| {
        !account.is_empty()
            && account
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
    };
    let below = DOMAINS.iter().find_map(|domain| name.strip_suffix(domain));
    url.scheme() == "https" && url.port().is_none() && below.is_some_and(is_account)
}

fn is_container(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (3..=63).contains(&name.len()) && name.bytes().all(plain)
}

/// Only characters that mean themselves wherever they stand in a URL's path.
fn is_folder(folder: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._=".contains(&byte);
    let named = |part: &str| !part.is_empty() && part.bytes().all(plain);
    folder.is_empty() || folder.len() <= 900 && folder.split('/').all(named)
}

fn is_signature(query: &str) -> bool {
    let mut names: Vec<&str> =
        query.split('&').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
    let is_of_pairs = names.len() == query.split('&').count();
    let known = names.iter().all(|name| SIGNED.contains(name));
    let signed = names.contains(&"sig");
    names.sort_unstable();
    let once = names.windows(2).all(|two| two.first() != two.last());
    is_of_pairs && known && signed && once
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGS: &str = "https://name.blob.core.windows.net/logs";

    fn read(text: &str) -> Result<Container, NotAContainer> {
        Container::new(text, None)
    }

    fn refused(text: &str, host: Option<&str>) -> Option<NotAContainer> {
        Container::new(text, host).err()
    }

    #[test]
    fn a_container_is_azures() {
        for good in [
            LOGS,
            "https://name.z01.blob.storage.azure.net/logs",
            "https://name-secondary.blob.core.windows.net/logs",
            "https://NAME.blob.core.usgovcloudapi.net:443/logs",
            "https://name.blob.core.chinacloudapi.cn/logs/",
        ] {
            assert!(read(good).is_ok(), "{good}");
        }
        for foreign in [
            "https://a.example/logs",
            "https://name.blob.core.windows.net.a.example/logs",
            "https://blob.core.windows.net/logs",
            "https://name.blob.core.windows.net:444/logs",
            "https://name.file.core.windows.net/logs",
            "https://127.0.0.1/logs",
            "http://127.0.0.1:1/logs",
        ] {
            assert_eq!(refused(foreign, None), Some(NotAContainer::ForeignHost), "{foreign}");
        }
        for bad in [
            "name.blob.core.windows.net/logs",
            "http://name.blob.core.windows.net/logs",
            "https://u:p@name.blob.core.windows.net/logs",
            "https://name.blob.core.windows.net/logs#x",
            "https://name.blob.core.windows.net/",
            "https://name.blob.core.windows.net/LOGS",
            "https://name.blob.core.windows.net/logs/a//b",
            "https://name.blob.core.windows.net/logs/a%20b",
            "https://name.blob.core.windows.net/logs/a+b",
        ] {
            assert_eq!(refused(bad, None), Some(NotAContainer::Form), "{bad}");
        }
        assert_eq!(
            refused(&format!("{LOGS}?{}", "a".repeat(LONGEST)), None),
            Some(NotAContainer::Form)
        );
    }

    #[test]
    fn another_host_is_the_one_that_is_named_and_no_other() {
        for (url, host) in [
            ("http://127.0.0.1:9/logs", "127.0.0.1:9"),
            ("http://localhost:9/logs", "LOCALHOST:9"),
            ("https://blobs.a.example/logs", "blobs.a.example"),
        ] {
            assert_eq!(refused(url, Some(host)), None, "{url}");
        }
        for (url, host) in [
            ("http://127.0.0.1:9/logs", "127.0.0.1"),
            ("https://blobs.a.example:8443/logs", "blobs.a.example"),
            (LOGS, "blobs.a.example"),
        ] {
            assert_eq!(refused(url, Some(host)), Some(NotAContainer::ForeignHost), "{url}");
        }
        let clear = refused("http://blobs.a.example/logs", Some("blobs.a.example"));
        assert_eq!(clear, Some(NotAContainer::Form), "nothing goes out in the clear");
    }

    #[test]
    fn a_query_is_a_signature_and_is_not_part_of_the_name() {
        let container = read(&format!("{LOGS}/a/b=1?sv=2022-11-02&sp=rl&sig=s3cret%2B")).unwrap();
        assert_eq!(container.name(), format!("{LOGS}/a/b=1"));
        assert_eq!(
            container.list(Some("2!8+")).as_str(),
            "/logs?restype=container&comp=list&delimiter=%2F&prefix=a%2Fb%3D1%2F&marker=2%218%2B&sv=2022-11-02&sp=rl&sig=s3cret%2B"
        );
        assert_eq!(
            container.blob("x.jsonl").as_str(),
            "/logs/a/b=1/x.jsonl?sv=2022-11-02&sp=rl&sig=s3cret%2B"
        );
        assert_eq!(container.own("a/b=1/x"), Some("x"));
        assert_eq!(container.own("a/x"), None);
        let plain = read(&format!("{LOGS}/?")).unwrap();
        assert!(container.is_signed() && !plain.is_signed());
        assert_eq!((plain.name().as_str(), plain.blob("x").as_str()), (LOGS, "/logs/x"));
        for bad in [
            "sv=1",
            "sig=a&comp=list",
            "sig=a&restype=x",
            "sig=a&sig=b",
            "sig",
            "sig=a&",
            "sig=a&rscc=x",
        ] {
            assert_eq!(
                refused(&format!("{LOGS}?{bad}"), None),
                Some(NotAContainer::Query),
                "{bad}"
            );
        }
        assert!(!format!("{:?}", refused(&format!("{LOGS}?sig=s3cret&x=1"), None)).contains("s3"));
    }
}
