//! What a TPM signs when it quotes its registers: `TPMS_ATTEST`, and the signature beside it.
//!
//! Source: TCG "Trusted Platform Module Library" part 2 (structures), revision 1.59: TPMS_ATTEST (10.12.8),
//! TPMS_QUOTE_INFO (10.12.4), TPML_PCR_SELECTION (10.9.7), TPMT_SIGNATURE (11.3.4). Everything is big-endian.
//!
//! Parsing is total: what is not a quote, or has a byte too many, is none. Who signed it is for others.

use crate::cursor::Cursor;

/// The longest quote that is read, in bytes. Real ones have 122 to 140.
pub const MAX_LENGTH: usize = 1024;

/// TPM_GENERATED_VALUE: the TPM made this structure itself. No key that only signs for the TPM signs another
/// text that begins so.
const GENERATED: u32 = 0xff54_4347;

/// TPM_ST_ATTEST_QUOTE.
const QUOTE: u16 = 0x8018;

/// TPM_ALG_SHA256.
pub const SHA256: u16 = 0x000b;

/// TPM_ALG_RSASSA.
const RSASSA: u16 = 0x0014;

/// The most selections in one quote: one of each bank.
const MAX_SELECTIONS: u32 = 16;

/// A quote. Nothing about it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The signing key's qualified name.
    pub qualified_signer: Vec<u8>,
    /// What the caller of the TPM gave it: the nonce.
    pub extra_data: Vec<u8>,
    /// Time and boots.
    pub clock: Clock,
    /// Vendor's version of the TPM's firmware.
    pub firmware_version: u64,
    /// The registers that are quoted, in order.
    pub selections: Vec<Selection>,
    /// Digest of their values, concatenated.
    pub pcr_digest: Vec<u8>,
}

/// TPMS_CLOCK_INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds that the TPM was powered.
    pub milliseconds: u64,
    /// TPM resets.
    pub resets: u32,
    /// Resumes since the last reset.
    pub restarts: u32,
    /// Whether no larger value was ever reported before.
    pub safe: bool,
}

/// Registers of one bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The bank, by its TPM_ALG_ID.
    pub bank: u16,
    /// Numbers of its registers, ascending.
    pub registers: Vec<u8>,
}

/// The bytes are no quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// Longer than any that is meant here.
    #[error("{0} bytes are too many for a quote")]
    TooLong(usize),
    /// Not made by a TPM.
    #[error("it begins with {0:#010x}, so that no TPM made it")]
    NotGenerated(u32),
    /// Another statement of a TPM.
    #[error("it is a statement of type {0:#06x}, not a quote")]
    NotQuote(u16),
    /// Too short, or something stands after it, or a value cannot be.
    #[error("it is not well-formed")]
    Malformed,
}

impl Quote {
    /// Takes a `TPMS_ATTEST` apart, which must be a quote and nothing more.
    ///
    /// # Errors
    ///
    /// [`QuoteError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, QuoteError> {
        if bytes.len() > MAX_LENGTH {
            return Err(QuoteError::TooLong(bytes.len()));
        }
        let mut from = Cursor::new(bytes);
        let magic = u32(&mut from).ok_or(QuoteError::Malformed)?;
        if magic != GENERATED {
            return Err(QuoteError::NotGenerated(magic));
        }
        let kind = u16(&mut from).ok_or(QuoteError::Malformed)?;
        if kind != QUOTE {
            return Err(QuoteError::NotQuote(kind));
        }
        let quote = body(&mut from).ok_or(QuoteError::Malformed)?;
        if from.rest().is_empty() { Ok(quote) } else { Err(QuoteError::Malformed) }
    }
}

fn body(from: &mut Cursor<'_>) -> Option<Quote> {
    Some(Quote {
        qualified_signer: sized(from)?,
        extra_data: sized(from)?,
        clock: Clock {
            milliseconds: u64(from)?,
            resets: u32(from)?,
            restarts: u32(from)?,
            safe: yes_no(from)?,
        },
        firmware_version: u64(from)?,
        selections: selections(from)?,
        pcr_digest: sized(from)?,
    })
}

fn selections(from: &mut Cursor<'_>) -> Option<Vec<Selection>> {
    let count = u32(from).filter(|count| *count <= MAX_SELECTIONS)?;
    (0..count).map(|_| selection(from)).collect()
}

/// A bank, and a bit for each register: the lowest bit of the first byte is register 0.
fn selection(from: &mut Cursor<'_>) -> Option<Selection> {
    let bank = u16(from)?;
    let [size] = from.array()?;
    let bitmap = from.take(size.into()).filter(|_| size <= 4)?;
    let set = |(byte, bits): (u8, &u8)| {
        let bits = *bits;
        (0..8).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| byte * 8 + bit)
    };
    Some(Selection { bank, registers: (0..).zip(bitmap).flat_map(set).collect() })
}

fn yes_no(from: &mut Cursor<'_>) -> Option<bool> {
    match from.array()? {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

/// A TPM2B: two bytes of length, then that many.
fn sized(from: &mut Cursor<'_>) -> Option<Vec<u8>> {
    let length = u16(from)?;
    from.take(length.into()).map(<[u8]>::to_vec)
}

fn u16(from: &mut Cursor<'_>) -> Option<u16> {
    from.array().map(u16::from_be_bytes)
}

fn u32(from: &mut Cursor<'_>) -> Option<u32> {
    from.array().map(u32::from_be_bytes)
}

fn u64(from: &mut Cursor<'_>) -> Option<u64> {
    from.array().map(u64::from_be_bytes)
}

/// The bytes of an RSASSA signature with SHA-256: bare, 256 to 512 of them, or in a `TPMT_SIGNATURE` that says
/// so. `None` for anything else.
#[must_use]
pub fn rsassa_sha256(signature: &[u8]) -> Option<&[u8]> {
    let bare = |bytes: &&[u8]| matches!(bytes.len(), 256 | 384 | 512);
    let mut from = Cursor::new(signature);
    let marked = (u16(&mut from)?, u16(&mut from)?, u16(&mut from)?);
    match marked {
        (RSASSA, SHA256, length) if usize::from(length) == from.rest().len() => {
            Some(from.rest()).filter(bare)
        }
        _ => Some(signature).filter(bare),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A quote of the SHA-256 bank as a TPM marshals it.
    pub(crate) fn quote(nonce: &[u8], bitmap: [u8; 3], digest: &[u8]) -> Vec<u8> {
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
        let mut out = [&GENERATED.to_be_bytes()[..], &QUOTE.to_be_bytes()].concat();
        out.extend([0, 2, 0xaa, 0xbb]);
        out.extend([&length(nonce)[..], nonce].concat());
        out.extend([&5_u64.to_be_bytes()[..], &6_u32.to_be_bytes(), &7_u32.to_be_bytes()].concat());
        out.push(1);
        out.extend(8_u64.to_be_bytes());
        out.extend([&1_u32.to_be_bytes()[..], &SHA256.to_be_bytes(), &[3], &bitmap].concat());
        out.extend([&length(digest)[..], digest].concat());
        out
    }

    #[test]
    fn a_quote_is_taken_apart() {
        let parsed = Quote::parse(&quote(b"nonce", [0x81, 0, 0x80], &[9; 32])).unwrap();
        assert_eq!(parsed.qualified_signer, [0xaa, 0xbb]);
        assert_eq!(parsed.extra_data, b"nonce");
        let clock = Clock { milliseconds: 5, resets: 6, restarts: 7, safe: true };
        assert_eq!((parsed.clock, parsed.firmware_version), (clock, 8));
        assert_eq!(parsed.selections, [Selection { bank: SHA256, registers: vec![0, 7, 23] }]);
        assert_eq!(parsed.pcr_digest, [9; 32]);
    }

    #[test]
    fn every_truncation_and_every_byte_too_many_is_refused() {
        let whole = quote(b"nonce", [0xff; 3], &[9; 32]);
        for length in 0..whole.len() {
            assert_eq!(Quote::parse(&whole[..length]), Err(QuoteError::Malformed), "{length}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert_eq!(Quote::parse(&longer), Err(QuoteError::Malformed));
        let long = [&whole[..], &[0; MAX_LENGTH]].concat();
        assert_eq!(Quote::parse(&long), Err(QuoteError::TooLong(long.len())));
    }

    #[test]
    fn only_quotes_that_a_tpm_made_are_quotes() {
        let changed = |at: usize, to: u8| {
            let mut bytes = quote(b"", [0xff; 3], &[9; 32]);
            bytes[at] = to;
            Quote::parse(&bytes).unwrap_err()
        };
        assert_eq!(changed(0, 0xfe), QuoteError::NotGenerated(0xfe54_4347));
        assert_eq!(changed(5, 0x17), QuoteError::NotQuote(0x8017));
        assert_eq!(changed(28, 2), QuoteError::Malformed, "safe is yes or no");
        assert_eq!(changed(37, 1), QuoteError::Malformed, "65537 selections");
        assert_eq!(changed(43, 5), QuoteError::Malformed, "40 registers");
    }

    #[test]
    fn signatures_are_bare_or_marked_as_rsassa_with_sha_256() {
        let bare = [7; 256];
        assert_eq!(rsassa_sha256(&bare), Some(&bare[..]));
        let marked = |head: [u8; 6]| [&head[..], &bare].concat();
        assert_eq!(rsassa_sha256(&marked([0, 0x14, 0, 0x0b, 1, 0])), Some(&bare[..]));
        for head in [
            [0, 0x16, 0, 0x0b, 1, 0],
            [0, 0x14, 0, 0x04, 1, 0],
            [0, 0x14, 0, 0x0b, 0, 255],
            [0, 0x14, 0, 0x0b, 1, 1],
        ] {
            assert_eq!(rsassa_sha256(&marked(head)), None, "{head:?}");
        }
        for length in [0, 5, 6, 255, 257, 1024] {
            assert_eq!(rsassa_sha256(&vec![0; length]), None, "{length}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes: Vec<u8>, at in 0..100_usize) {
            let mut whole = quote(b"nonce", [0xff; 3], &[9; 32]);
            let tail = at.min(whole.len());
            whole.splice(tail..(tail + bytes.len()).min(whole.len()), bytes.iter().copied());
            let _ = Quote::parse(&whole);
            let _ = Quote::parse(&bytes);
            let _ = rsassa_sha256(&bytes);
            let _ = crate::hcl::HclReport::parse(&bytes);
        }
    }
}
