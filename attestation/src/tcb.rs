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

    /// Whether the bytes that the generation's layout reserves are zero.
    #[must_use]
    pub fn reserved_is_zero(bytes: [u8; 8], product: Product) -> bool {
        match product {
            Product::Milan | Product::Genoa => {
                let [_, _, reserved @ .., _, _] = bytes;
                reserved == [0; 4]
            }
            Product::Turin => {
                let [_, _, _, _, reserved @ .., _] = bytes;
                reserved == [0; 3]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_has_its_layout() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        let old = Tcb { fmc: 0, bootloader: 1, tee: 2, snp: 7, microcode: 8 };
        assert_eq!(Tcb::from_bytes(bytes, Product::Milan), old);
        assert_eq!(Tcb::from_bytes(bytes, Product::Genoa), old);
        let new = Tcb { fmc: 1, bootloader: 2, tee: 3, snp: 4, microcode: 8 };
        assert_eq!(Tcb::from_bytes(bytes, Product::Turin), new);
    }

    #[test]
    fn reserved_bytes_are_those_between() {
        let violations = |product| {
            (0..8_usize).filter(move |at| {
                let mut bytes = [0; 8];
                bytes[*at] = 1;
                !Tcb::reserved_is_zero(bytes, product)
            })
        };
        assert!(violations(Product::Milan).eq(2..6));
        assert!(violations(Product::Genoa).eq(2..6));
        assert!(violations(Product::Turin).eq(4..7));
    }

    #[test]
    fn no_component_makes_up_for_another() {
        let low = Tcb { fmc: 0, bootloader: 4, tee: 0, snp: 24, microcode: 219 };
        let mixed = Tcb { microcode: 218, snp: 25, ..low };
        assert!(low.is_at_least(&low));
        assert!(!mixed.is_at_least(&low) && !low.is_at_least(&mixed));
    }
}
