//! gRPC messages between the roles.
//!
//! The `.proto` files beside this crate's manifest are the source; `src/generated` is made from them and
//! committed, so that building needs no compiler for them. `tests/generated.rs` holds the two together.
//!
//! No logic lives here, and no crate of ours is known.

#![expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated: the documentation is in the .proto files"
)]

/// Who a process is: `info.proto`.
pub mod info {
    include!("generated/privatemode.info.v1.rs");
}

/// Evidence and tokens: `attest-sidecar.proto`.
pub mod attest {
    include!("generated/privatemode.attest.v1.rs");
}

/// Keys of the vault: `skr-sidecar.proto`.
pub mod skr {
    include!("generated/privatemode.skr.v1.rs");
}

/// The reference's gRPC service: `key-provider.proto`.
pub mod key_provider {
    include!("generated/key_provider.rs");

    /// The encoded `FileDescriptorSet` of this service, for server reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!("generated/key_provider.bin");
}

/// The head of the sealed log: `log-sealer.proto`.
pub mod log {
    include!("generated/privatemode.log.v1.rs");
}
