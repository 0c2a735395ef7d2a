//! Owns the SNP device, the certificate sources and MAA: evidence for a typed purpose
