//! How the outside world misbehaves: THE list, one enum per simulator.
//!
//! Must not know: how a simulator carries a fault out. To add one, add a variant here; the
//! simulator's exhaustive `match` then fails to build until it obeys.
//!
//! Faults are scheduled through [`Switch`] or over HTTP at `/_sim/faults`, which exists on every
//! HTTP simulator and asks for no credentials: bind simulators on loopback or in a test network.

mod control;
mod switch;

use serde::{Deserialize, Serialize};

pub(crate) use control::Control;
pub use switch::{Active, Scheduled, Switch};

/// Seconds that `Retry-After` asks for when a fault does not say otherwise.
const fn default_retry_after() -> u32 {
    1
}

/// The security processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DeviceFault {
    /// Answers with this firmware status and no report.
    Status {
        /// Firmware status; 0 means success and makes no fault.
        status: u32,
    },
    /// Answers nothing until the fault is cleared.
    Stall,
    /// Signs other report data than was asked for.
    WrongReportData,
    /// One bit of the signature is wrong.
    BadSignature,
    /// Reports the previous TCB version, signed by the key of that version.
    OldTcb,
    /// Closes the connection in the middle of the answer.
    CloseMidAnswer,
}

/// The certificate source of the instance metadata service (THIM).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ThimFault {
    /// 404.
    NotFound,
    /// 429 with `Retry-After`.
    TooManyRequests {
        /// Seconds.
        #[serde(default = "default_retry_after")]
        retry_after: u32,
    },
    /// 500.
    ServerError,
    /// Answers nothing until the fault is cleared.
    Stall,
    /// The certificate of the previous TCB version, with its `tcbm`.
    StaleCertificate,
    /// Stops in the middle of the JSON.
    Truncated,
    /// Certificates of a world with another seed.
    ForeignChain,
}

/// The identity endpoint of the instance metadata service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum IdentityFault {
    /// 404, as while a container group's identity is not attached yet.
    NotFound,
    /// 400 "Identity not found", as while an assignment spreads.
    NotReady,
    /// 500.
    ServerError,
    /// 429 with `Retry-After`.
    TooManyRequests {
        /// Seconds.
        #[serde(default = "default_retry_after")]
        retry_after: u32,
    },
    /// Answers nothing until the fault is cleared.
    Stall,
    /// A token for Azure Resource Manager instead of the resource.
    WrongAudience,
}

/// Certificates of AMD's key distribution service, or of Azure's cache of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum KdsFault {
    /// 404 whatever the chip.
    NotFound,
    /// 429 with `Retry-After`: AMD throttles.
    TooManyRequests {
        /// Seconds.
        #[serde(default = "default_retry_after")]
        retry_after: u32,
    },
    /// 500.
    ServerError,
    /// Answers nothing until the fault is cleared.
    Stall,
    /// The certificate of another chip.
    WrongChip,
    /// The certificate of the previous TCB version.
    StaleTcb,
    /// 200 with something that is no certificate.
    Garbage,
    /// An answer of 64 MiB.
    Oversized,
}

/// The revocation lists of AMD's key distribution service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum CrlFault {
    /// 429 with `Retry-After`.
    TooManyRequests {
        /// Seconds.
        #[serde(default = "default_retry_after")]
        retry_after: u32,
    },
    /// 500.
    ServerError,
    /// Answers nothing until the fault is cleared.
    Stall,
    /// 200 with something that is no list.
    Garbage,
    /// A list whose nextUpdate has passed.
    Outdated,
    /// A list that the root of another world signed.
    ForeignSigner,
    /// A list with the serial of the certificate that signs VCEKs.
    RevokesIssuer,
}

/// Microsoft Azure Attestation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum MaaFault {
    /// 400 whatever the evidence.
    BadRequest,
    /// 429 with `Retry-After`.
    TooManyRequests {
        /// Seconds.
        #[serde(default = "default_retry_after")]
        retry_after: u32,
    },
    /// 500.
    ServerError,
    /// Answers nothing until the fault is cleared.
    Stall,
    /// Stops in the middle of the JSON.
    Truncated,
    /// An answer of 64 MiB.
    Oversized,
    /// A token under the right `kid`, signed by another key.
    ForeignKey,
    /// A token of another issuer, signed by the right key.
    WrongIssuer,
    /// A token that expired an hour ago.
    Expired,
    /// A token without signature.
    AlgNone,
    /// A token for other runtime data than was sent.
    OtherRuntimeData,
}

/// Key Vault or Managed HSM; concerns `release` only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum VaultFault {
    /// 401 whatever the token.
    Unauthorized,
    /// 403 whatever the caller.
    Forbidden,
    /// 404 whatever the key.
    NotFound,
    /// 429 with `Retry-After`.
    TooManyRequests {
        /// Seconds.
        #[serde(default = "default_retry_after")]
        retry_after: u32,
    },
    /// 500.
    ServerError,
    /// Answers nothing until the fault is cleared.
    Stall,
    /// Stops in the middle of the JSON.
    Truncated,
    /// An answer of 64 MiB.
    Oversized,
    /// A JWS whose `x5c` is empty.
    EmptyX5c,
    /// A JWS signed under the certificates of another world.
    ForeignX5c,
    /// The echoed request names another wrapping algorithm.
    WrongEnc,
    /// The echoed request names another key.
    WrongKid,
    /// A ciphertext cut to 100 bytes.
    ShortCiphertext,
    /// Another key's material under the right name.
    KeySwapped,
    /// The answer of the previous release, once more.
    ReplayPrevious,
}

/// Blob Storage; concerns Append Block only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum BlobFault {
    /// 503 with `Retry-After`.
    ServerBusy {
        /// Seconds.
        #[serde(default = "default_retry_after")]
        retry_after: u32,
    },
    /// 500.
    ServerError,
    /// 401 whatever the token.
    Unauthorized,
    /// 403 whatever the caller.
    Forbidden,
    /// Answers nothing until the fault is cleared.
    Stall,
    /// Appends, and breaks the connection in the middle of the answer.
    LostAnswer,
    /// 412 whatever the position.
    WrongPosition,
}

/// Blob Storage; concerns List Blobs, Get Blob and its properties.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum BlobReadFault {
    /// 503 with `Retry-After`.
    ServerBusy {
        /// Seconds.
        #[serde(default = "default_retry_after")]
        retry_after: u32,
    },
    /// 403 whatever the caller.
    Forbidden,
    /// 404: the container is gone.
    ContainerNotFound,
    /// 307 to somewhere else.
    Redirect {
        /// Where to.
        location: String,
    },
    /// 403 with an error code that repeats the caller's signature.
    Echo,
    /// Answers nothing until the fault is cleared.
    Stall,
    /// The whole blob with 200, whatever range was asked for.
    WholeBlob,
    /// A list that declares entities of entities.
    EntityBomb,
    /// A list whose every page promises another one.
    EndlessList,
}

/// The model server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ModelFault {
    /// 401 whatever the key.
    Unauthorized,
    /// 429 with `Retry-After`.
    TooManyRequests {
        /// Seconds.
        #[serde(default = "default_retry_after")]
        retry_after: u32,
    },
    /// 500.
    ServerError,
    /// Answers nothing until the fault is cleared.
    StallBeforeFirstByte,
    /// Sends this many chunks of a stream, then nothing until the fault is cleared.
    StallMidStream {
        /// Chunks that are still sent.
        chunks: usize,
    },
    /// Breaks the connection after this many bytes of the body.
    ResetAfter {
        /// Bytes that are still sent.
        bytes: usize,
    },
    /// A gzip body, asked for or not.
    Gzip,
    /// `"usage": null` in the answer.
    UsageNull,
    /// A `Set-Cookie` header.
    SetCookie,
    /// Exactly this answer, whatever was asked.
    Canned {
        /// HTTP status.
        status: u16,
        /// Headers, in order; a name may stand more than once.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// The body.
        #[serde(default)]
        body: String,
    },
}
