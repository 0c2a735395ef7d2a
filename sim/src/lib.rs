//! The outside world on a laptop: AMD, Azure and the model, with the real protocols and their
//! faults.
//!
//! The roles of this workspace have no simulation mode: they speak to a security processor, to
//! Azure and to a model upstream, and are told in measured configuration where those are and
//! which roots to believe. This crate is all of those parties. It shares no code with the roles,
//! so that it cannot share their mistakes: its encoders and verifiers are written from the
//! specifications, on other cryptography, and tested against recorded hardware.
//!
//! # What there is
//!
//! | party | module | binary | speaks |
//! |---|---|---|---|
//! | AMD security processor | [`device`] | `sim-snp` | SNP guest messages on a Unix socket |
//! | `$UVM_SECURITY_CONTEXT_DIR` | [`security_context`], [`uvm`] | `sim-snp` | three files |
//! | instance metadata: THIM, managed identity | [`imds`] | `sim-imds` | HTTP |
//! | AMD KDS, Azure's cache of it | [`kds`] | `sim-imds` | HTTP, HTTPS |
//! | Microsoft Entra, a cluster's assertions | [`entra`] | | HTTPS |
//! | Microsoft Azure Attestation | [`maa`] | `sim-maa` | HTTPS |
//! | Key Vault, Managed HSM | [`vault`] | `sim-vault` | HTTPS |
//! | Blob Storage | [`blob`] | `sim-blob` | HTTPS |
//! | the model upstream | [`model`] | `sim-model` | HTTP, server-sent events |
//! | the holder of a network namespace | | `sim-pause` | nothing |
//!
//! [`world::World`] starts any of them in one process, on real sockets, with several container
//! groups where a test needs them: a second policy, a debug guest, a machine whose AMD keys come
//! from elsewhere. [`faults`] is the one list of how each may misbehave.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use sim::faults::MaaFault;
//! use sim::vault::KeySpec;
//! use sim::world::{World, WorldConfig, aci_release_policy};
//!
//! let mut config = WorldConfig::new("/tmp/world");
//! config.state = Some("/tmp/world-keys".into());
//! let key: KeySpec = serde_json::from_value(serde_json::json!({
//!     "name": "owner",
//!     "kty": "EC-HSM",
//!     "release_policy": aci_release_policy("${MAA}", "${HOST_DATA}"),
//! }))?;
//! if let Some(vault) = &mut config.vault {
//!     vault.keys.push(key);
//! }
//! let world = World::start(config).await?;
//! if let Some(maa) = world.maa() {
//!     maa.faults.once(MaaFault::TooManyRequests { retry_after: 2 });
//! }
//! world.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # One seed
//!
//! Everything derives from a [`seed::Seed`]: the same text gives the same keys, certificates and
//! identifiers in every process, so that separate containers form one world. Certificates and
//! endorsements are the same bytes every time; tokens carry the time, and what a vault makes at
//! run time (wrappings, keys made through its API) is random. Whoever knows the seed owns the
//! world, so no verifier in production may trust it: its anchors are `anchors.pem`,
//! `uvm-did.txt` and `tls-ca.pem` in the world's folder, and nothing else.
//!
//! RSA keys of 4096 bits take seconds to find; give a state folder and they are found once.
//!
//! # How faithful
//!
//! The simulators refuse what the services refuse.
//!
//! * Reports have every field of the ABI. The parser reads recorded reports of Milan and Genoa,
//!   versions 2 and 3, writes them back to the same bytes, and verifies them with their own
//!   certificates and no other. AMD's certificates match the real ones in everything but keys,
//!   key identifiers and validity, down to a key usage that is not quite DER.
//! * The attestation service checks chain, signature, TCB version, chip, product, report data
//!   and endorsement. Its tokens were compared, member by member, with a recorded one of a
//!   confidential container group. It publishes a retired RSA-1024 key beside its own, as Azure
//!   did.
//! * The vault verifies access tokens and permissions, finds an issuer's keys through OpenID
//!   Connect Discovery over TLS, evaluates release policies by their grammar, and wraps with the
//!   three algorithms of the API. Recorded traffic of the service was followed where it goes
//!   beyond the documentation: error numbers (`AKV.SKR.…`), empty version segments, the header of
//!   the JWS, and that **Key Vault rewrites a release policy** into its own member order, so that
//!   the bytes that come back are not the bytes that went in. Managed HSM keeps them. A slash at
//!   the end of an authority makes no difference.
//! * Append blobs have their position condition, their limit of blocks, and no content but what was appended.
//! * A Key Vault holds no `oct` keys, and exportable keys need an HSM type and a policy.
//!
//! # What is not simulated
//!
//! * `ioctl` on `/dev/sev-guest`: a socket carries the same messages, in a framing of our own
//!   ([`device`]). Derived keys, extended reports and the vTPM of confidential VMs are missing.
//! * Attestation: custom attestation policies, `dataType` Binary, the SGX quote in the signing
//!   certificate, confidential VM tokens, rate limits. Error codes inside the error object are
//!   ours where none was recorded; status and shape are Azure's.
//! * Vault: everything but create, import, read, update and release of keys; soft delete, key
//!   rotation, network rules, and validity dates of keys. Which text accompanies a refusal is
//!   known for some refusals only.
//! * Storage: everything but append blobs; leases, ETags, signatures, tiers, snapshots, pages of lists.
//! * Identity: the workload identity flow of `login.microsoftonline.com`, and Entra's own
//!   metadata; the vault knows the provider's key from the seed.
//! * Microsoft's endorsements carry an RFC 3161 timestamp, ours do not. The form with CWT claims
//!   was written from its description, not from a recorded one.
//! * Time: certificates are valid from 2024 to 2049 and nothing expires in between but tokens.
//! * The model does not think. It knows text; no tools, images, audio output or log
//!   probabilities.
//! * TLS of the real services: names and chains are alike, certificate transparency and OCSP are
//!   not.
//!
//! # Faults over HTTP
//!
//! `PUT /_sim/faults` takes `{"maa": [{"fault": {"kind": "stall"}, "times": 2}]}`: a schedule for
//! each simulator of the process (`thim`, `identity`, `kds`, `kds-crl` and `azure-cache` answer
//! together; `sim-snp` has `device` on its `--control` address). `GET` shows and `DELETE` clears. The model also has
//! `GET /_sim/requests`. None of it asks for credentials: bind simulators on loopback or in a
//! test network.

pub mod blob;
pub mod cli;
pub mod clock;
pub mod device;
pub mod encoding;
pub mod entra;
pub mod faults;
pub mod http;
pub mod identity;
pub mod imds;
pub mod jose;
mod json;
pub mod kds;
pub mod maa;
pub mod machine;
pub mod model;
pub mod pki;
pub mod report;
pub mod security_context;
pub mod seed;
pub mod tally;
pub mod tcb;
pub mod template;
#[cfg(test)]
mod testing;
pub mod uvm;
pub mod vault;
pub mod world;
