//! RSA-OAEP with SHA-256 for a key of a vault: encrypting with its public half, which stands in a file, and decrypting
//! with what the vault released (RFC 8017 section 7.1; contract `skr.md` part 1.2).
//!
//! Files are read below one folder only, since a caller names them. Must not know any packet's form.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
    PrivateDecryptingKey, PublicEncryptingKey,
};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::packets::Annotation;
use crate::http::base64;
use crate::key::{self, KeyError, Published};

/// What the reference calls every wrapping.
const WRAP_TYPE: &str = "rsa_3072";

/// The longest file, in bytes.
const LONGEST_FILE: u64 = 64 * 1024;

/// The folder below which keys may be read.
pub(crate) struct KeyFolder(pub(crate) PathBuf);

/// What stands beside a public key.
#[derive(Deserialize)]
struct KeyInfo {
    public_key_path: String,
    kms_endpoint: String,
    attester_endpoint: String,
}

/// Why nothing was wrapped. Says nothing of what the files hold.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WrapError {
    /// `PATH-info.json` cannot be read.
    #[error("failed to read key info file {0:?}: {1}")]
    Info(PathBuf, FileError),
    /// It is not what it should be.
    #[error(
        "failed to read key info file {0:?}: it is to be JSON with the texts public_key_path, kms_endpoint and attester_endpoint"
    )]
    InfoForm(PathBuf),
    /// The public key cannot be read.
    #[error("failed to read public key file {0:?}: {1}")]
    PublicKey(PathBuf, FileError),
    /// It is none.
    #[error(
        "failed to read public key file {0:?}: it is to be an RSA key of 2048 to 8192 bits in PEM, BEGIN PUBLIC KEY"
    )]
    PublicKeyForm(PathBuf),
    /// It takes fewer bytes.
    #[error("failed to wrap: the key takes at most {most} bytes, and {length} are to be wrapped")]
    TooLong {
        /// Bytes that are to be wrapped.
        length: usize,
        /// Bytes that this key takes.
        most: usize,
    },
    /// The provider did not encrypt.
    #[error("failed to wrap: the provider of cryptography failed")]
    Encrypt,
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The system's reason.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It is elsewhere, perhaps by a link.
    #[error("it is not in the folder of keys, SKR_WRAP_KEYS")]
    Elsewhere,
    /// A device, a socket, a folder.
    #[error("it is no ordinary file")]
    NoFile,
    /// Nobody's key is as long.
    #[error("it is longer than {LONGEST_FILE} bytes")]
    TooLong,
}

/// Why nothing was decrypted. Nothing more is said: it may be an attacker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the wrapped data is not for this key, or was not wrapped by RSA-OAEP with SHA-256")]
pub(crate) struct DecryptError;

impl KeyFolder {
    /// Every file: for who may read them anyway.
    pub(super) fn anywhere() -> Self {
        Self(PathBuf::from("/"))
    }

    /// Wraps for the key whose description stands in `KEY-info.json`.
    pub(crate) fn annotation(&self, key: &str, plaintext: &[u8]) -> Result<Annotation, WrapError> {
        let info = PathBuf::from(format!("{key}-info.json"));
        let text = self.read(&info).map_err(|error| WrapError::Info(info.clone(), error))?;
        let KeyInfo { public_key_path, kms_endpoint, attester_endpoint } =
            serde_json::from_slice(&text).map_err(|_| WrapError::InfoForm(info))?;
        let public = PathBuf::from(public_key_path);
        let pem =
            self.read(&public).map_err(|error| WrapError::PublicKey(public.clone(), error))?;
        let wrapped = encrypt(&pem, plaintext, || WrapError::PublicKeyForm(public.clone()))?;
        let kid = Path::new(key).file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Annotation {
            kid,
            wrapped_data: base64::encode(&wrapped),
            iv: String::new(),
            wrap_type: WRAP_TYPE.to_owned(),
            kms_endpoint,
            attester_endpoint,
        })
    }

    /// The kernel itself keeps the path below the folder, links and all, so that nobody can change it in between.
    fn read(&self, path: &Path) -> Result<Vec<u8>, FileError> {
        let folder = File::open(&self.0)?;
        let below = match path.strip_prefix(&self.0) {
            Ok(below) => below,
            Err(_) if path.is_absolute() => return Err(FileError::Elsewhere),
            Err(_) => path,
        };
        // Opening a pipe would wait for its other end.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let is_root = self.0.parent().is_none();
        // Below the root is everything, and links may say so.
        let resolve = if is_root { ResolveFlags::IN_ROOT } else { ResolveFlags::BENEATH };
        let opened = openat2(folder, below, flags, Mode::empty(), resolve);
        let file: File = opened
            .map_err(|error| match error {
                Errno::XDEV => FileError::Elsewhere,
                other => FileError::Io(other.into()),
            })?
            .into();
        if !file.metadata()?.is_file() {
            return Err(FileError::NoFile);
        }
        let mut text = Vec::new();
        let length = file.take(LONGEST_FILE + 1).read_to_end(&mut text)?;
        if length as u64 > LONGEST_FILE { Err(FileError::TooLong) } else { Ok(text) }
    }
}

fn encrypt(
    pem: &[u8],
    plaintext: &[u8],
    no_key: impl Fn() -> WrapError,
) -> Result<Vec<u8>, WrapError> {
    let spki = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| no_key())?;
    let key = PublicEncryptingKey::from_der(&spki).map_err(|_| no_key())?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|Unspecified| no_key())?;
    let most = key.max_plaintext_size(&OAEP_SHA256_MGF1SHA256);
    if plaintext.len() > most {
        return Err(WrapError::TooLong { length: plaintext.len(), most });
    }
    let mut wrapped = vec![0; key.ciphertext_size()];
    let encrypted = key.encrypt(&OAEP_SHA256_MGF1SHA256, plaintext, &mut wrapped, None);
    let length = encrypted.map_err(|Unspecified| WrapError::Encrypt)?.len();
    wrapped.truncate(length);
    Ok(wrapped)
}

/// A released key that decrypts.
pub(super) fn private_key(
    published: &Published,
    released: &[u8],
) -> Result<OaepPrivateDecryptingKey, KeyError> {
    const UNFIT: KeyError = KeyError::Unfit("an RSA key of 2048 to 8192 bits");
    key::check(published, released)?;
    let key = PrivateDecryptingKey::from_pkcs8(released).map_err(|_| UNFIT)?;
    OaepPrivateDecryptingKey::new(key).map_err(|Unspecified| UNFIT)
}

/// Decrypts what [`KeyFolder::annotation`] encrypted.
#[expect(clippy::needless_pass_by_value, reason = "the key is used up")]
pub(super) fn decrypt(
    key: OaepPrivateDecryptingKey,
    wrapped: &[u8],
) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    let mut plaintext = Zeroizing::new(vec![0; key.min_output_size()]);
    let decrypted = key.decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, &mut plaintext, None);
    let length = decrypted.map_err(|Unspecified| DecryptError)?.len();
    plaintext.truncate(length);
    Ok(plaintext)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    use aws_lc_rs::rsa::KeySize;
    use serde_json::json;

    use super::*;

    struct World {
        root: tempfile::TempDir,
        key: PrivateDecryptingKey,
    }

    impl World {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir(root.path().join("keys")).unwrap();
            let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
            Self { root, key }
        }

        fn folder(&self) -> KeyFolder {
            KeyFolder(self.root.path().join("keys"))
        }

        fn pem(&self) -> String {
            let der: PublicKeyX509Der<'_> = self.key.public_key().as_der().unwrap();
            let text = base64::encode(der.as_ref());
            format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
        }

        fn write(&self, path: &str, text: &str) {
            std::fs::write(self.root.path().join(path), text).unwrap();
        }

        fn describe(&self, public_key_path: &str) {
            let info = json!({
                "public_key_path": public_key_path, "kms_endpoint": "v.test", "attester_endpoint": "m.test"
            });
            self.write("keys/a-info.json", &info.to_string());
        }

        fn refused(&self, key: &str) -> String {
            self.folder().annotation(key, b"x").err().unwrap().to_string()
        }
    }

    #[test]
    fn what_is_wrapped_is_decrypted_by_the_private_half() {
        let world = World::new();
        world.write("keys/a.pem", &world.pem());
        world.describe("a.pem");
        let absolute = world.root.path().join("keys/a").display().to_string();
        for key in ["a", "./a", &absolute] {
            let annotation = world.folder().annotation(key, b"a layer's key").unwrap();
            assert_eq!(annotation.kid, "a");
            assert_eq!(annotation.kms_endpoint, "v.test");
            let wrapped = base64::decode(&annotation.wrapped_data).unwrap();
            let private = OaepPrivateDecryptingKey::new(world.key.clone()).unwrap();
            assert_eq!(decrypt(private, &wrapped).unwrap().as_slice(), b"a layer's key");
            let private = OaepPrivateDecryptingKey::new(world.key.clone()).unwrap();
            assert_eq!(decrypt(private, &wrapped[1..]).err(), Some(DecryptError));
        }
        let most = 256 - 2 * 32 - 2;
        assert!(world.folder().annotation("a", &vec![0; most]).is_ok());
        let longer = world.folder().annotation("a", &vec![0; most + 1]).err().unwrap().to_string();
        assert!(longer.contains("at most 190 bytes"), "{longer}");
    }

    #[test]
    fn a_caller_reads_nothing_outside_the_folder() {
        let world = World::new();
        world.write("outside.pem", &world.pem());
        world.write("outside-info.json", "{}");
        assert!(world.refused("../outside").contains("not in the folder of keys"));
        let absolute = world.root.path().join("outside").display().to_string();
        assert!(world.refused(&absolute).contains("not in the folder of keys"));

        let outside = world.root.path().join("outside.pem");
        for public in ["../outside.pem", &outside.display().to_string(), "link.pem"] {
            let link = world.root.path().join("keys/link.pem");
            let _ = std::os::unix::fs::symlink(&outside, link);
            world.describe(public);
            let refused = world.refused("a");
            assert!(refused.contains("not in the folder of keys"), "{public}: {refused}");
        }
    }

    #[test]
    fn below_the_root_is_everything() {
        let world = World::new();
        world.write("keys/a.pem", &world.pem());
        std::os::unix::fs::symlink(world.root.path().join("keys"), world.root.path().join("link"))
            .unwrap();
        world.describe(&world.root.path().join("link/a.pem").display().to_string());
        let key = world.root.path().join("link/a").display().to_string();
        assert_eq!(KeyFolder::anywhere().annotation(&key, b"x").unwrap().kid, "a");
    }

    #[test]
    fn what_is_no_key_is_named_and_not_repeated() {
        let world = World::new();
        assert!(world.refused("a").starts_with("failed to read key info file \"a-info.json\": "));
        world.write("keys/a-info.json", "secret");
        let form = world.refused("a");
        assert!(form.contains("public_key_path") && !form.contains("secret"), "{form}");
        world.describe("a.pem");
        assert!(world.refused("a").starts_with("failed to read public key file \"a.pem\": "));
        world.write("keys/a.pem", "secret");
        let form = world.refused("a");
        assert!(form.contains("BEGIN PUBLIC KEY") && !form.contains("secret"), "{form}");
        world.write("keys/a.pem", &" ".repeat(65 * 1024));
        assert!(world.refused("a").contains("longer than 65536 bytes"));
        world.describe(".");
        assert!(world.refused("a").contains("no ordinary file"));
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            world.root.path().join("keys/pipe"),
            rustix::fs::Mode::RUSR,
        )
        .unwrap();
        world.describe("pipe");
        assert!(world.refused("a").contains("no ordinary file"), "it would wait for ever");
    }
}
