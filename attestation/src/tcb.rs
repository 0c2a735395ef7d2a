//! `TCB_VERSION`: the security version numbers of a platform's firmware (SEV-SNP ABI, table "TCB_VERSION").

use std::fmt::{self, Display};

use crate::product::Product;

/// Security version numbers. Each only ever grows with fixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tcb {
    /// FMC; Turin and later, else 0.
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

impl Tcb {
    /// From the report's 8 bytes, whose layout depends on the generation. Reserved bytes are ignored here; the
    /// report keeps the raw value.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8], product: Product) -> Self {
        match product {
            Product::Milan | Product::Genoa => {
                let [bootloader, tee, _, _, _, _, snp, microcode] = bytes;
                Self { fmc: 0, bootloader, tee, snp, microcode }
            }
            Product::Turin => {
                let [fmc, bootloader, tee, snp, _, _, _, microcode] = bytes;
                Self { fmc, bootloader, tee, snp, microcode }
            }
        }
    }

    /// Whether every component is at least that of `minimum`. There is no other order between two TCBs.
    #[must_use]
    pub fn is_at_least(&self, minimum: &Self) -> bool {
        self.fmc >= minimum.fmc
            && self.bootloader >= minimum.bootloader
            && self.tee >= minimum.tee
            && self.snp >= minimum.snp
            && self.microcode >= minimum.microcode
    }
}

impl Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fmc, bootloader, tee, snp, microcode } = self;
        if *fmc != 0 {
            write!(f, "fmc {fmc} ")?;
        }
        write!(f, "bootloader {bootloader} tee {tee} snp {snp} microcode {microcode}")
    }
}
