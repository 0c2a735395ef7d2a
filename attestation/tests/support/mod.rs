//! What the synthetic tests are made of.

pub(crate) mod case;
pub(crate) mod pki;
