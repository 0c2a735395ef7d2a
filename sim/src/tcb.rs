//! Products and their TCB versions (SEV-SNP firmware ABI, structure TCB_VERSION).
//!
//! Must not know: certificates or reports. A TCB version is eight bytes whose meaning depends
//! on the product: Turin put the firmware of the chip's management controller in front.

use std::fmt;
use std::str::FromStr;

/// A processor family that can run SEV-SNP guests.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Product {
    /// Family 19h, models 00h-0Fh.
    #[default]
    Milan,
    /// Family 19h, models 10h-1Fh (and A0h-AFh).
    Genoa,
    /// Family 1Ah, models 00h-11h.
    Turin,
}

/// A product name that AMD does not use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown product {0:?}: use milan, genoa or turin")]
pub struct UnknownProduct(String);

impl Product {
    /// All products, in the order of their release.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// The name in AMD's certificates and in the paths of its key distribution service.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The text of the product extension in a VCEK; Milan's carries the stepping.
    #[must_use]
    pub const fn vcek_name(self) -> &'static str {
        match self {
            Self::Milan => "Milan-B0",
            Self::Genoa | Self::Turin => self.name(),
        }
    }

    /// CPUID family, model and stepping as reports of version 3 and later carry them.
    #[must_use]
    pub const fn cpuid(self) -> [u8; 3] {
        match self {
            Self::Milan => [0x19, 0x01, 0x01],
            Self::Genoa => [0x19, 0x11, 0x01],
            Self::Turin => [0x1a, 0x02, 0x01],
        }
    }

    /// The product of a CPUID family and model.
    #[must_use]
    pub const fn from_cpuid(family: u8, model: u8) -> Option<Self> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }

    /// How many bytes of the chip id the product uses; the rest are zero.
    #[must_use]
    pub const fn chip_id_len(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }

    /// A TCB version like the ones that Azure's machines report.
    #[must_use]
    pub const fn current_tcb(self) -> Tcb {
        match self {
            Self::Milan => Tcb { fmc: 0, bootloader: 0x04, tee: 0, snp: 0x18, microcode: 0xdb },
            Self::Genoa => Tcb { fmc: 0, bootloader: 0x0a, tee: 0, snp: 0x17, microcode: 0x54 },
            Self::Turin => Tcb { fmc: 1, bootloader: 1, tee: 1, snp: 4, microcode: 0x4c },
        }
    }

    /// PLATFORM_INFO of Azure's machines of this product.
    #[must_use]
    pub const fn platform_info(self) -> u64 {
        match self {
            Self::Milan => 0x25,
            Self::Genoa => 0x27,
            Self::Turin => 0x65,
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Product {
    type Err = UnknownProduct;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|product| product.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownProduct(text.to_owned()))
    }
}

/// The security version numbers of one machine's firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Tcb {
    /// Firmware of the management controller; Turin only, 0 elsewhere.
    #[serde(default)]
    pub fmc: u8,
    /// AMD's boot loader.
    pub bootloader: u8,
    /// The operating system of the security processor.
    pub tee: u8,
    /// The SNP firmware.
    pub snp: u8,
    /// The microcode.
    pub microcode: u8,
}

impl Tcb {
    /// The eight bytes in a report.
    #[must_use]
    pub const fn to_bytes(self, product: Product) -> [u8; 8] {
        match product {
            Product::Milan | Product::Genoa => {
                [self.bootloader, self.tee, 0, 0, 0, 0, self.snp, self.microcode]
            }
            Product::Turin => {
                [self.fmc, self.bootloader, self.tee, self.snp, 0, 0, 0, self.microcode]
            }
        }
    }

    /// Reads the eight bytes of a report; the reserved ones are not looked at.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8], product: Product) -> Self {
        let [b0, b1, b2, b3, _, _, b6, b7] = bytes;
        match product {
            Product::Milan | Product::Genoa => {
                Self { fmc: 0, bootloader: b0, tee: b1, snp: b6, microcode: b7 }
            }
            Product::Turin => Self { fmc: b0, bootloader: b1, tee: b2, snp: b3, microcode: b7 },
        }
    }

    /// The number that Azure calls `tcbm`: the eight bytes read as a little-endian integer.
    #[must_use]
    pub const fn to_u64(self, product: Product) -> u64 {
        u64::from_le_bytes(self.to_bytes(product))
    }

    /// The same firmware with older microcode, as a machine that missed an update has it.
    #[must_use]
    pub const fn older(self) -> Self {
        Self { microcode: self.microcode.saturating_sub(1), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcb_version_survives_its_eight_bytes_in_every_layout() {
        let tcb = Tcb { fmc: 1, bootloader: 2, tee: 3, snp: 4, microcode: 0xdb };
        assert_eq!(tcb.to_bytes(Product::Milan), [2, 3, 0, 0, 0, 0, 4, 0xdb]);
        assert_eq!(tcb.to_bytes(Product::Turin), [1, 2, 3, 4, 0, 0, 0, 0xdb]);
        assert_eq!(Tcb::from_bytes(tcb.to_bytes(Product::Turin), Product::Turin), tcb);
        let milan = Tcb { fmc: 0, ..tcb };
        assert_eq!(Tcb::from_bytes(milan.to_bytes(Product::Milan), Product::Milan), milan);
    }

    #[test]
    fn the_number_reads_as_in_recorded_host_certificates() {
        let tcb = Tcb { fmc: 0, bootloader: 3, tee: 0, snp: 8, microcode: 0x73 };
        assert_eq!(format!("{:016x}", tcb.to_u64(Product::Milan)), "7308000000000003");
    }

    #[test]
    fn products_are_told_by_cpuid_and_name() {
        for product in Product::ALL {
            let [family, model, _] = product.cpuid();
            assert_eq!(Product::from_cpuid(family, model), Some(product));
            assert_eq!(product.name().to_lowercase().parse(), Ok(product));
        }
        assert_eq!(Product::from_cpuid(0x19, 0x20), None);
        assert!("naples".parse::<Product>().is_err());
    }
}
