//! A simulated host: a chip with its firmware, its endorsement keys, and the guest on it.
//!
//! Must not know: who asks. The device signs with it, the metadata service and the security
//! context publish its certificates, and AMD's key service recognises its chip id.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::pki::amd::{AmdAuthority, EndorsementKey};
use crate::pki::{PkiError, certificate};
use crate::report::{Report, policy};
use crate::seed::Seed;
use crate::tcb::{Product, Tcb};

/// One physical machine.
#[derive(Debug, Clone)]
pub struct Machine {
    amd: Arc<AmdAuthority>,
    chip_id: [u8; 64],
    tcb: Tcb,
}

impl Machine {
    /// The machine of that name: `name` decides the chip id, `amd` the keys.
    #[must_use]
    pub fn derive(amd: Arc<AmdAuthority>, seed: &Seed, name: &str, tcb: Tcb) -> Self {
        let mut chip_id: [u8; 64] = seed.bytes(&format!("chip/{name}"));
        for byte in chip_id.iter_mut().skip(amd.product().chip_id_len()) {
            *byte = 0;
        }
        Self { amd, chip_id, tcb }
    }

    /// The certificate authority that made the chip.
    #[must_use]
    pub fn amd(&self) -> &AmdAuthority {
        &self.amd
    }

    /// The same, shared.
    #[must_use]
    pub fn authority(&self) -> Arc<AmdAuthority> {
        Arc::clone(&self.amd)
    }

    /// The chip's product.
    #[must_use]
    pub fn product(&self) -> Product {
        self.amd.product()
    }

    /// The chip id, 64 bytes; Turin's is 8 bytes and zeros.
    #[must_use]
    pub fn chip_id(&self) -> &[u8; 64] {
        &self.chip_id
    }

    /// The firmware that runs.
    #[must_use]
    pub fn tcb(&self) -> Tcb {
        self.tcb
    }

    /// The chip's key for a TCB version.
    ///
    /// # Errors
    /// [`PkiError`] when its certificate cannot be made.
    pub fn vcek(&self, tcb: Tcb) -> Result<EndorsementKey, PkiError> {
        self.amd.vcek(&self.chip_id, tcb)
    }

    /// What Azure says about the host for a TCB version.
    ///
    /// # Errors
    /// [`PkiError`] when a certificate cannot be made.
    pub fn host_certificate(&self, tcb: Tcb) -> Result<HostCertificate, PkiError> {
        Ok(HostCertificate {
            vcek_cert: certificate::to_pem(&self.vcek(tcb)?.certificate)?,
            tcbm: format!("{:016X}", tcb.to_u64(self.product())),
            certificate_chain: self.amd.chain_pem()?,
            cache_control: "86400".to_owned(),
        })
    }
}

/// The JSON of the host certificate: `host-amd-cert-base64` and the answer of THIM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostCertificate {
    /// VCEK, PEM.
    pub vcek_cert: String,
    /// TCB version of the VCEK: 16 hexadecimal digits of the little-endian number.
    pub tcbm: String,
    /// ASK and ARK, PEM.
    pub certificate_chain: String,
    /// Seconds, as text.
    pub cache_control: String,
}

/// The guest of a confidential container group, as far as its reports show it.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The group's enforcement policy, Rego text.
    pub policy: String,
    /// Launch measurement of the utility VM image.
    pub measurement: [u8; 48],
    /// Whether the host may read the guest's memory.
    pub debug: bool,
    /// Tells apart two launches of the same guest.
    pub launch: String,
}

impl Guest {
    /// HOST_DATA of the guest: SHA-256 of its policy.
    #[must_use]
    pub fn host_data(&self) -> [u8; 32] {
        Sha256::digest(&self.policy).into()
    }

    /// A report of this guest on `machine`, with empty report data.
    #[must_use]
    pub fn report(&self, machine: &Machine, seed: &Seed) -> Report {
        let mut report = Report::aci(machine.product(), machine.tcb());
        report.chip_id = *machine.chip_id();
        report.measurement = self.measurement;
        report.host_data = self.host_data();
        report.id_key_digest = seed.bytes(&format!("id-key/{}", hex::encode(self.measurement)));
        report.report_id = seed.bytes(&format!("report-id/{}", self.launch));
        if self.debug {
            report.policy |= policy::DEBUG;
        }
        report
    }
}

/// Launch measurement of the default utility VM image.
#[must_use]
pub fn default_measurement(seed: &Seed) -> [u8; 48] {
    seed.bytes("uvm/measurement")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::KeyRing;
    use crate::testing;

    #[test]
    fn the_host_certificate_has_the_members_of_azures_json_in_their_order() {
        let seed = Seed::default();
        let keys = KeyRing::new(seed.clone(), testing::state());
        let amd = Arc::new(AmdAuthority::derive(&keys, Product::Milan).unwrap());
        let machine = Machine::derive(amd, &seed, "host", Product::Milan.current_tcb());
        let host = machine.host_certificate(machine.tcb()).unwrap();
        assert_eq!(host.tcbm, "DB18000000000004");
        let json = serde_json::to_string(&host).unwrap();
        let position = |member: &str| json.find(&format!("\"{member}\"")).unwrap();
        assert!(position("vcekCert") < position("tcbm"));
        assert!(position("tcbm") < position("certificateChain"));
        assert!(position("certificateChain") < position("cacheControl"));
        assert_eq!(host.certificate_chain.matches("BEGIN CERTIFICATE").count(), 2);
    }
}
