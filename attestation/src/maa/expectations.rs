//! What the claims of a token must say. Both shapes hold the claims of an SEV-SNP guest; around them a
//! container group has its utility VM's endorsement, and a confidential VM its vTPM and boot.

use super::Sent;
use crate::policy::{
    EndorsementPolicy, Expect, Hex, MinimumTcb, MinimumTcbs, Never, Policy, TokenPolicy,
};
use crate::uvm;

/// What the claims of the SEV-SNP guest must say, and those of the service about itself.
#[derive(Clone, Debug)]
pub struct GuestExpectations {
    /// SHA-256 digests of enforcement policies, one of which must be HOST_DATA. An empty list accepts nobody.
    /// In a confidential VM HOST_DATA is zero.
    pub host_data: Expect<Vec<Hex<32>>>,
    /// Launch measurements, one of which must be the guest's.
    pub measurement: Expect<Vec<Hex<48>>>,
    /// The lowest reported TCB. Tokens do not name the generation; choose it for the machines that are meant.
    pub minimum_tcb: Expect<MinimumTcb>,
    /// The exact runtime data that the report must be about: what was sent to the service with the report, or
    /// the paravisor's in a confidential VM.
    pub runtime_data: Expect<Vec<u8>>,
    /// The attestation policies (`x-ms-policy-hash`) that the issuer may have applied: its owner can change
    /// them.
    pub policy_hashes: Expect<Vec<String>>,
}

/// What a token of a confidential container group must say.
#[derive(Clone, Debug)]
pub struct AciExpectations {
    /// About the guest.
    pub guest: GuestExpectations,
    /// The nonce that was sent, as its decimal text. An empty one is met by nothing.
    pub nonce: Expect<String>,
    /// About its utility VM.
    pub endorsement: Expect<UvmExpectations>,
}

impl AciExpectations {
    /// Those of a policy, the part of it that lets tokens speak, and what this token shall be about.
    #[must_use]
    pub fn of(
        policy: &Policy,
        tokens: &TokenPolicy,
        runtime_data: Expect<Vec<u8>>,
        nonce: Expect<String>,
    ) -> Self {
        let guest = GuestExpectations {
            host_data: policy.host_data.clone(),
            measurement: measurement(policy),
            minimum_tcb: of_one_generation(&policy.minimum_tcb),
            runtime_data,
            policy_hashes: tokens.policy_hashes.clone(),
        };
        let endorsement = match &policy.endorsement {
            Expect::Unchecked { why } => Expect::unchecked(why),
            Expect::Value(rules) => {
                let EndorsementPolicy { issuers, feed, minimum_svn } = rules.clone();
                let issuers = issuers.unwrap_or_else(|| vec![uvm::MICROSOFT.to_owned()]);
                Expect::Value(UvmExpectations { issuers, feed, minimum_svn })
            }
        };
        Self { guest, nonce, endorsement }
    }

    /// What a token must say that answers what was sent, whoever the guest is.
    pub(super) fn of_nobody(sent: &Sent<'_>) -> Self {
        const WHY: &str = "only what was sent is compared";
        let guest = GuestExpectations {
            host_data: Expect::unchecked(WHY),
            measurement: Expect::unchecked(WHY),
            minimum_tcb: Expect::unchecked(WHY),
            runtime_data: Expect::Value(sent.runtime_data.to_vec()),
            policy_hashes: Expect::unchecked(WHY),
        };
        let nonce = Expect::Value(sent.nonce.to_owned());
        Self { guest, nonce, endorsement: Expect::unchecked(WHY) }
    }
}

/// As P8 of a report: where the endorsement is left unchecked too, nothing says what runs, and nothing is accepted.
fn measurement(policy: &Policy) -> Expect<Vec<Hex<48>>> {
    match (&policy.measurement, &policy.endorsement) {
        (Some(measurement), _) => measurement.clone(),
        (None, Expect::Value(_)) => {
            Expect::unchecked("the policy names none; see J8.U5, about the endorsement's")
        }
        (None, Expect::Unchecked { .. }) => Expect::Value(Vec::new()),
    }
}

/// A token does not say which generation its TCB is of, and levels of two cannot be compared.
fn of_one_generation(rows: &Expect<MinimumTcbs>) -> Expect<MinimumTcb> {
    match rows {
        Expect::Unchecked { why } => Expect::unchecked(why),
        Expect::Value(rows) => match rows.values().collect::<Vec<_>>().as_slice() {
            [row] => Expect::Value(**row),
            _ => Expect::unchecked(
                "a token does not name its generation, and the policy has not exactly one",
            ),
        },
    }
}

/// What a token must say about the endorsement of a utility VM.
#[derive(Clone, Debug)]
pub struct UvmExpectations {
    /// did:x509 names of those who may endorse. An empty list accepts nobody.
    pub issuers: Vec<String>,
    /// What the endorsement must be about.
    pub feed: String,
    /// The lowest security version.
    pub minimum_svn: u64,
}

impl Default for UvmExpectations {
    /// Microsoft's own utility VMs that are recent enough.
    fn default() -> Self {
        Self {
            issuers: vec![uvm::MICROSOFT.to_owned()],
            feed: uvm::FEED.to_owned(),
            minimum_svn: uvm::MINIMUM_SVN,
        }
    }
}

/// What a token of a confidential VM must say.
#[derive(Clone, Debug)]
pub struct CvmExpectations {
    /// About the guest.
    pub guest: GuestExpectations,
    /// The nonce that was sent, decoded. An empty one is met by nothing.
    pub nonce: Expect<Vec<u8>>,
    /// Booting without secure boot, or with a debugger or test signing.
    pub insecure_boot: Expect<Never>,
    /// Versions of the attestation protocol, such as "3.0".
    pub protocols: Expect<Vec<String>>,
}
