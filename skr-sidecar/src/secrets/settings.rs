//! The variables of the sealed secrets. What decides whether an envelope is believed is measured; the envelope itself
//! and its place are the host's to carry, since the operator's signature decides.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr;

use attestation::secrets::{Expected, Signer, is_group};
use service::env::{Class, Reader, Var};

use super::source::Source;
use crate::kid::KeyId;
use crate::reserved;

const SIGNER: &str = "SECRETS_SIGNER";
const GROUP: &str = "SECRETS_GROUP";
const MIN_VERSION: &str = "SECRETS_MIN_VERSION";
const ENVELOPE: &str = "SECRETS_ENVELOPE";
const FILE: &str = "SECRETS_FILE";

/// The row of the operator's key.
pub(crate) const SIGNER_VAR: Var = Var {
    name: SIGNER,
    class: Class::Measured,
    default: None,
    help: "The operator's public key that signs sealed secrets, as `pmc secrets new-signer` prints it: SubjectPublicKeyInfo of a P-256 key in base64url. Nobody else's secrets are taken.",
};
/// The row of the group's name.
pub(crate) const GROUP_VAR: Var = Var {
    name: GROUP,
    class: Class::Measured,
    default: None,
    help: "This group's name in sealed secrets. Those for another group are refused.",
};
/// The row of the lowest version.
pub(crate) const MIN_VERSION_VAR: Var = Var {
    name: MIN_VERSION,
    class: Class::Measured,
    default: None,
    help: "The lowest version of sealed secrets that is taken: 1 or more. After a restart it is all that keeps an older envelope from being handed over again.",
};
/// The row of the envelope.
pub(crate) const ENVELOPE_VAR: Var = Var {
    name: ENVELOPE,
    class: Class::Harmless,
    default: None,
    help: "The sealed secrets themselves, as `pmc secrets seal` writes them. Whoever sets it can withhold them, not change them.",
};
/// The row of the envelope's file.
pub(crate) const FILE_VAR: Var = Var {
    name: FILE,
    class: Class::Harmless,
    default: None,
    help: "A file with the sealed secrets, instead of SECRETS_ENVELOPE. It may come later, and is read again when it changes.",
};

/// What is needed to open secrets.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The vault's key.
    pub(crate) kid: KeyId,
    /// Whose word, for which group, from which version on.
    pub(crate) expected: Expected,
    /// Where the envelope is.
    pub(crate) source: Source,
}

impl Settings {
    /// Reads them; `None` if there are none, or too few, which is a problem.
    pub(crate) fn read(env: &mut Reader<'_>, kid: Option<KeyId>) -> Option<Self> {
        let names = [SIGNER, GROUP, MIN_VERSION, reserved::SECRETS];
        let is_set = names.map(|name| env.optional::<String>(name).is_some());
        let signer = env.optional::<Signer>(SIGNER);
        let group = env.optional::<Group>(GROUP);
        let min_version = env.optional::<NonZeroU64>(MIN_VERSION);
        let envelope = env.optional::<String>(ENVELOPE);
        let file = env.optional::<PathBuf>(FILE);
        if is_set == [false; 4] && envelope.is_none() && file.is_none() {
            return None;
        }
        for (name, _) in names.iter().zip(is_set).filter(|(_, is_set)| !is_set) {
            env.refuse(name, &format!("sealed secrets need {}: set it as well", names.join(", ")));
        }
        let (signer, Group(group), min_version, kid) = (signer?, group?, min_version?, kid?);
        let source = match (envelope, file) {
            (Some(text), None) => Source::Text(text),
            (None, Some(path)) => Source::File(path),
            (Some(_), Some(_)) => {
                env.refuse(FILE, &"is not used beside SECRETS_ENVELOPE: remove one of them");
                return None;
            }
            (None, None) => {
                env.refuse(ENVELOPE, &"set it, or SECRETS_FILE: where are the sealed secrets?");
                return None;
            }
        };
        Some(Self { kid, expected: Expected { signer, group, min_version }, source })
    }
}

/// A group's name.
struct Group(String);

/// Not one.
#[derive(Debug, thiserror::Error)]
#[error("must have 1 to {} visible ASCII characters", attestation::secrets::MAX_GROUP)]
struct NotAGroup;

impl FromStr for Group {
    type Err = NotAGroup;

    fn from_str(text: &str) -> Result<Self, NotAGroup> {
        if is_group(text) { Ok(Self(text.to_owned())) } else { Err(NotAGroup) }
    }
}
