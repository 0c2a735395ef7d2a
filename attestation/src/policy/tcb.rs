//! Minimum TCBs by generation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::product::Product;
use crate::tcb::Tcb;

/// The lowest TCB a generation may report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinimumTcb {
    /// FMC; Turin only.
    #[serde(default)]
    pub fmc: u8,
    /// Boot loader of the security processor.
    pub bootloader: u8,
    /// Its operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl From<MinimumTcb> for Tcb {
    fn from(minimum: MinimumTcb) -> Self {
        let MinimumTcb { fmc, bootloader, tee, snp, microcode } = minimum;
        Self { fmc, bootloader, tee, snp, microcode }
    }
}

/// A generation's name in a policy file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Generation {
    /// See [`Product::Milan`].
    Milan,
    /// See [`Product::Genoa`].
    Genoa,
    /// See [`Product::Turin`].
    Turin,
}

impl From<Product> for Generation {
    fn from(product: Product) -> Self {
        match product {
            Product::Milan => Self::Milan,
            Product::Genoa => Self::Genoa,
            Product::Turin => Self::Turin,
        }
    }
}

/// Minimum TCBs. A generation without a row is refused, so an empty table refuses everybody.
pub type MinimumTcbs = BTreeMap<Generation, MinimumTcb>;

/// What Azure's confidential container machines reported in February 2026, by recorded reports. There is none
/// of Turin, which therefore needs a policy of its own.
pub(super) fn of_azure_in_february_2026() -> MinimumTcbs {
    let row =
        |bootloader, tee, snp, microcode| MinimumTcb { fmc: 0, bootloader, tee, snp, microcode };
    [(Generation::Milan, row(4, 0, 24, 219)), (Generation::Genoa, row(10, 0, 23, 84))].into()
}
