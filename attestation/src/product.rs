//! CPU generations. A generation without a row here is refused everywhere.

use std::fmt::{self, Display};

/// A generation of EPYC processors with its own AMD root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Product {
    /// Zen 3, family 19h models 00h-0Fh.
    Milan,
    /// Zen 4 and 4c (Bergamo, Siena), family 19h models 10h-1Fh and A0h-AFh.
    Genoa,
    /// Zen 5 and 5c, family 1Ah models 00h-11h.
    Turin,
}

impl Product {
    /// Every generation, in the order of their release.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// The name as it stands in AMD's certificates: "ARK-Milan", "SEV-Milan".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// By family and model as a report of version 3 or later states them (CPUID Fn0000_0001_EAX, combined).
    #[must_use]
    pub fn from_cpuid(family: u8, model: u8) -> Option<Self> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }

    /// By the productName extension of a VCEK: the name, with or without a stepping ("Milan-B0").
    #[must_use]
    pub fn from_product_name(name: &str) -> Option<Self> {
        let generation = name.split_once('-').map_or(name, |(generation, _)| generation);
        Self::ALL.into_iter().find(|product| product.name() == generation)
    }

    /// How many bytes of the report's 64-byte CHIP_ID are the chip's hardware id.
    #[must_use]
    pub fn chip_id_len(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }
}

impl Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
