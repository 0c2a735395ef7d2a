//! Which clients are acceptable, and whose roots are believed for that: two files that measured variables name.

use std::io;
use std::path::{Path, PathBuf};

use attestation::policy_file::{self, PolicyFileError};
use attestation::{Anchors, Expect, Policy, Trust, danger};
use service::env::{Class, Reader, Var};
use service::plain_file;

/// The longest policy or set of anchors that is read.
const MAX_LENGTH: u64 = 1024 * 1024;

/// Names the policy.
pub(crate) const POLICY_VAR: Var = Var {
    name: "CLIENT_POLICY_FILE",
    class: Class::Measured,
    default: None,
    help: "Policy file (TOML or JSON, as for pmc) of acceptable attested clients: those of keys with \
           `attested_client` in API_KEYS_FILE. Without it such keys are refused. It must lie in the image: what the \
           host can write, it can replace.",
};

/// Names the anchors.
pub(crate) const ANCHORS_VAR: Var = Var {
    name: "CLIENT_ANCHORS_FILE",
    class: Class::Measured,
    default: None,
    help: "DANGER: PEM file of roots to believe for attested clients instead of AMD's and Microsoft's, for simulations. \
           The manifest is then marked NOT PRODUCTION.",
};

/// What makes a client acceptable.
#[derive(Clone)]
pub(crate) struct Acceptance {
    pub(crate) policy: Policy,
    pub(crate) anchors: Anchors,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
enum AcceptanceError {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("is longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("is not text in UTF-8")]
    NotText,
    #[error("holds no policy: {0}")]
    Policy(#[from] PolicyFileError),
    #[error("holds no anchors: {0}")]
    Anchors(#[from] danger::AnchorsError),
    #[error(
        "names an owner_key, but clients bring no owner's signature: name their machines or enforcement policies"
    )]
    Owner,
    #[error("names anchors of clients, but CLIENT_POLICY_FILE names no policy for them")]
    Alone,
}

impl Acceptance {
    /// Reads both variables and their files. `Some(None)`: no attested client is acceptable.
    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Option<Self>> {
        let policy = env.optional::<PathBuf>(POLICY_VAR.name);
        let anchors = env.optional::<PathBuf>(ANCHORS_VAR.name);
        let read_anchors = match &anchors {
            None => Ok(Anchors::production()),
            Some(_) if policy.is_none() => Err(AcceptanceError::Alone),
            Some(path) => anchors_in(path),
        };
        let read_anchors = read_anchors.inspect_err(|why| env.refuse(ANCHORS_VAR.name, why)).ok();
        let Some(path) = policy else { return read_anchors.map(|_| None) };
        let policy = policy_in(&path).inspect_err(|why| env.refuse(POLICY_VAR.name, why)).ok();
        Some(Some(Self { policy: policy?, anchors: read_anchors? }))
    }

    /// Whether AMD's and Microsoft's own roots are believed.
    pub(crate) fn is_production(&self) -> bool {
        self.anchors.trust() == Trust::Production
    }
}

fn anchors_in(path: &Path) -> Result<Anchors, AcceptanceError> {
    Ok(danger::Anchors::from_pem(&text(path)?)?)
}

fn policy_in(path: &Path) -> Result<Policy, AcceptanceError> {
    let policy = policy_file::parse(&text(path)?)?;
    match policy.owner_key {
        Expect::Value(_) => Err(AcceptanceError::Owner),
        Expect::Unchecked { .. } => Ok(policy),
    }
}

fn text(path: &Path) -> Result<String, AcceptanceError> {
    let bytes = plain_file::read(path, MAX_LENGTH).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => AcceptanceError::TooLong,
        _ => error.into(),
    })?;
    String::from_utf8(bytes).map_err(|_| AcceptanceError::NotText)
}

#[cfg(test)]
mod tests {
    use service::env::Environment;

    use super::*;

    fn read(files: &[(&'static str, &str)]) -> Result<Option<Acceptance>, String> {
        let folder = tempfile::tempdir().unwrap();
        let variables = files.iter().map(|(name, text)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            (*name, path.display().to_string())
        });
        let environment: Environment = variables.collect();
        let mut reader = Reader::new(&environment, &[POLICY_VAR, ANCHORS_VAR]);
        let acceptance = Acceptance::read(&mut reader);
        let read = reader.finish(acceptance);
        read.map(|(acceptance, _)| acceptance).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_policy_is_read_in_either_form_and_believes_amd() {
        let digest = "ab".repeat(32);
        for text in
            [format!("host_data = [\"{digest}\"]"), format!("{{\"host_data\": [\"{digest}\"]}}")]
        {
            let acceptance = read(&[("CLIENT_POLICY_FILE", &text)]).unwrap().unwrap();
            assert!(acceptance.is_production());
            assert_ne!(acceptance.policy.host_data, Expect::Value(Vec::new()));
        }
        assert!(read(&[]).unwrap().is_none(), "without a policy nobody is acceptable");
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_the_name_of_its_variable() {
        let good = "host_data = []";
        let owner = format!("host_data = []\nowner_key = \"{}\"", owner_key());
        for (files, words) in [
            (vec![("CLIENT_POLICY_FILE", "hostdata = []")], "CLIENT_POLICY_FILE: holds no policy"),
            (vec![("CLIENT_POLICY_FILE", "")], "CLIENT_POLICY_FILE: holds no policy"),
            (vec![("CLIENT_POLICY_FILE", "{")], "CLIENT_POLICY_FILE: holds no policy"),
            (
                vec![("CLIENT_POLICY_FILE", owner.as_str())],
                "CLIENT_POLICY_FILE: names an owner_key",
            ),
            (vec![("CLIENT_ANCHORS_FILE", "")], "CLIENT_ANCHORS_FILE: names anchors of clients"),
            (
                vec![("CLIENT_POLICY_FILE", good), ("CLIENT_ANCHORS_FILE", "no PEM")],
                "CLIENT_ANCHORS_FILE: holds no anchors",
            ),
        ] {
            let problems = read(&files).err().unwrap();
            assert!(problems.contains(words), "{words}: {problems}");
        }
    }

    fn owner_key() -> String {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        attestation::encoding::to_b64u(&spki)
    }
}
