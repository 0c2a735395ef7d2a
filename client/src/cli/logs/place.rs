//! Where the log of `pmc logs` lies: a path, or a container of Azure Blob Storage that is copied first.
//!
//! A container's URL may hold a signature, and a token is a credential: neither is shown, nor repeated by an error.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::causes::chain;
use crate::cli::{Failure, private_file};
use crate::logs::{Container, Copied, Source, StorageError};
use crate::offline;

/// The longest file of certificates that is read, in bytes.
const MAX_ROOTS: usize = 1024 * 1024;

/// The longest file with a token that is read, in bytes.
const MAX_TOKEN: usize = 64 * 1024;

/// What the person wrote. Whatever it is, the command line's parser takes it: its errors repeat values.
#[derive(Clone)]
pub(super) struct Named(Zeroizing<String>);

impl FromStr for Named {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Named")
    }
}

impl Named {
    fn is_url(&self) -> bool {
        // whatever may hold a signature: as a path it would be repeated by an error
        self.0.contains("://") || self.0.contains("sig=")
    }
}

/// Options that say how a container is reached.
#[derive(Debug, Args)]
pub(super) struct Access {
    /// Read the container with the access token in this file, as `az account get-access-token --resource
    /// https://storage.azure.com` prints it. Only its owner may be able to read the file.
    #[arg(long, value_name = "FILE")]
    azure_token: Option<PathBuf>,
    /// Ask this host for the container, and no other: a private endpoint, or a simulation. On this machine also by http.
    #[arg(long, value_name = "HOST[:PORT]")]
    storage_host: Option<String>,
    /// The authorities (PEM) of that host instead of the public web's.
    #[arg(long, value_name = "FILE", requires = "storage_host")]
    storage_roots: Option<PathBuf>,
}

/// Where the log lies.
pub(super) enum Place {
    /// Here, as it is.
    Here(Source),
    /// Elsewhere, and copied.
    Elsewhere(Box<Elsewhere>),
}

/// A container that is copied.
pub(super) struct Elsewhere {
    copied: Copied,
    /// The file with the token, which is read again each time: tokens live for an hour.
    token: Option<PathBuf>,
    boots: Vec<String>,
}

/// Why a container was not copied.
pub(super) enum Trouble {
    /// The token's file cannot be used.
    Token(String),
    /// The account, or the disk.
    Storage(StorageError),
}

impl Trouble {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Token(why) => why.clone(),
            Self::Storage(error) => chain(error),
        }
    }
}

impl Place {
    /// What was written; nothing is asked yet. `boots`: which ones are read, if not all.
    pub(super) fn find(named: &Named, access: &Access, boots: &[String]) -> Result<Self, Failure> {
        let Access { azure_token, storage_host, storage_roots } = access;
        let unusable = |why: &str| Err(Failure::Unusable(why.to_owned()));
        if !named.is_url() {
            if azure_token.is_some() || storage_host.is_some() {
                return unusable("--azure-token and --storage-host are for the URL of a container");
            }
            return Ok(Self::Here(Source::at(Path::new(named.0.as_str()))));
        }
        let container = Container::new(&named.0, storage_host.as_deref())
            .map_err(|error| Failure::unusable(&error))?;
        if container.is_signed() == azure_token.is_some() {
            return unusable(
                "give either a shared access signature in the container's URL or --azure-token FILE",
            );
        }
        let roots = storage_roots.as_deref().map(|path| offline::read(path, MAX_ROOTS));
        let roots = roots.transpose().map_err(|error| Failure::unusable(&error))?;
        let copied =
            Copied::new(container, roots.as_deref()).map_err(|error| Failure::unusable(&error))?;
        let boots = boots.to_vec();
        Ok(Self::Elsewhere(Box::new(Elsewhere { copied, token: azure_token.clone(), boots })))
    }

    /// Where it is read.
    pub(super) fn source(&self) -> Source {
        match self {
            Self::Here(source) => source.clone(),
            Self::Elsewhere(elsewhere) => elsewhere.copied.source(),
        }
    }

    /// Whether looking again means calling somebody.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Elsewhere(_))
    }

    /// Copies what was added since.
    pub(super) async fn refresh(&mut self) -> Result<(), Trouble> {
        let Self::Elsewhere(elsewhere) = self else { return Ok(()) };
        let Elsewhere { copied, token, boots } = elsewhere.as_mut();
        if let Some(path) = token {
            let token = token_in(path).map_err(Trouble::Token)?;
            copied.set_token(&token).map_err(Trouble::Storage)?;
        }
        copied.refresh(boots).await.map_err(Trouble::Storage)
    }
}

/// The token in what `az account get-access-token` printed.
fn token_in(path: &Path) -> Result<Zeroizing<String>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Printed<'a> {
        // no character of a token is one that JSON would escape, so it can be borrowed
        access_token: &'a str,
    }
    let bytes = private_file::read(path, MAX_TOKEN).map_err(|failure| match failure {
        Failure::Unusable(why) => why,
        Failure::Refused(_) | Failure::Changed(_) => format!("{}: not read", path.display()),
    })?;
    let is_of_token = |byte: u8| byte.is_ascii_graphic();
    let printed = serde_json::from_slice::<Printed<'_>>(&bytes).ok();
    let token = printed.map(|printed| printed.access_token);
    let token = token.filter(|token| !token.is_empty() && token.bytes().all(is_of_token));
    token.map(|token| Zeroizing::new(token.to_owned())).ok_or_else(|| {
        let what =
            "give what `az account get-access-token --resource https://storage.azure.com` prints";
        format!("{}: holds no access token: {what}", path.display())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const LOGS: &str = "https://name.blob.core.windows.net/logs";

    fn find(text: &str, access: &Access) -> Result<Place, String> {
        Place::find(&text.parse().unwrap(), access, &[]).map_err(|failure| match failure {
            Failure::Unusable(why) => why,
            other => panic!("{other:?}"),
        })
    }

    fn nothing() -> Access {
        Access { azure_token: None, storage_host: None, storage_roots: None }
    }

    #[test]
    fn a_container_is_read_by_one_credential() {
        let token = || Access { azure_token: Some(PathBuf::from("token")), ..nothing() };
        let signed = format!("{LOGS}?sv=1&sig=s3cret");
        assert!(find(&signed, &nothing()).is_ok_and(|place| place.is_elsewhere()));
        assert!(find(LOGS, &token()).is_ok_and(|place| place.is_elsewhere()));
        assert!(find("some/folder", &nothing()).is_ok_and(|place| !place.is_elsewhere()));
        for (text, access) in [
            (signed.clone(), token()),
            (LOGS.to_owned(), nothing()),
            ("some/folder".to_owned(), token()),
            (format!("{signed}&comp=list"), nothing()),
            (signed.replace("name.blob.core.windows.net", "a.example"), nothing()),
            (signed.replace("https://", ""), nothing()),
        ] {
            let why = find(&text, &access).err().unwrap();
            assert!(!why.contains("s3cret"), "{why}");
        }
        assert!(!format!("{:?}", signed.parse::<Named>().unwrap()).contains("s3cret"));
    }

    #[test]
    fn a_token_is_what_azures_tool_prints_and_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let read = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            token_in(&path)
        };
        let printed =
            r#"{"accessToken":"s3.cre-t_","expiresOn":"2026-11-23","tokenType":"Bearer"}"#;
        assert_eq!(read(printed, 0o600).unwrap().as_str(), "s3.cre-t_");
        for (bad, mode) in [
            (printed, 0o640),
            ("s3.cre-t_", 0o600),
            (r#"{"accessToken":""}"#, 0o600),
            (r#"{"accessToken":"s3.cre\n"}"#, 0o600),
            (r#"{"accessToken":"s3.cre t"}"#, 0o600),
        ] {
            let why = read(bad, mode).unwrap_err();
            assert!(!why.contains("s3.cre"), "{why}");
        }
    }
}
