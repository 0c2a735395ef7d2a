//! `pmc secrets` as operators run it. What it seals is opened with another implementation than the one that sealed it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use attestation::secrets::{Envelope, Expected, Refusal, Secrets, open};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use rsa::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::{Oaep, RsaPrivateKey};
use sha2::Sha256;
use tempfile::TempDir;

const VALUE: &str = "s3cret-value-\"with\\escapes";

/// The operator's folder: a signing key, values, and the public half of a key that is in a vault.
struct Desk {
    folder: TempDir,
    vault: RsaPrivateKey,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap(), vault: vault_key() };
        desk.publish("vault.pem", &desk.vault);
        desk.write("values.toml", &values(7));
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file that only its owner reads.
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        self.chmod(name, 0o600);
    }

    fn chmod(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn publish(&self, name: &str, key: &RsaPrivateKey) {
        let pem = key.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
        std::fs::write(self.path(name), pem).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs `pmc secrets`; words that name a file of the desk begin with `@`.
    fn pmc(&self, words: &str) -> (i32, String) {
        let words = words.split(' ').map(|word| match word.strip_prefix('@') {
            Some(name) => self.path(name).display().to_string(),
            None => word.to_owned(),
        });
        let command = Command::new(env!("CARGO_BIN_EXE_pmc")).arg("secrets").args(words).output();
        let Output { status, stdout, stderr } = command.unwrap();
        let said = String::from_utf8([stdout, stderr].concat()).unwrap();
        assert!(!said.contains("s3cret"), "{said}");
        (status.code().unwrap(), said)
    }

    fn new_signer(&self, name: &str) -> String {
        let (code, said) = self.pmc(&format!("new-signer --out @{name}"));
        assert_eq!(code, 0, "{said}");
        said
    }

    fn seal(&self, out: &str) -> (i32, String) {
        self.pmc(&format!(
            "seal @values.toml --public-key @vault.pem --signer @signer.pem --out @{out}"
        ))
    }
}

fn vault_key() -> RsaPrivateKey {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    RsaPrivateKey::from_pkcs8_der(der.as_ref()).unwrap()
}

fn values(version: u64) -> String {
    format!("group = \"production\"\nversion = {version}\n[values]\nAPI_KEYS = '{VALUE}'\n")
}

/// What the lines tell the group to expect.
fn expected(said: &str) -> Expected {
    let line = |name: &str| {
        let prefix = format!("{name}=");
        said.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap().to_owned()
    };
    Expected {
        signer: line("SECRETS_SIGNER").parse().unwrap(),
        group: line("SECRETS_GROUP"),
        min_version: line("SECRETS_MIN_VERSION").parse().unwrap(),
    }
}

fn decrypted(text: &str, key: &RsaPrivateKey) -> String {
    let envelope = Envelope::parse(text).ok().unwrap();
    let content = key.decrypt(Oaep::new::<Sha256>(), &envelope.encrypted_key).unwrap();
    let payload = Payload { msg: &envelope.sealed, aad: envelope.aad() };
    let cipher = Aes256Gcm::new_from_slice(&content).unwrap();
    let text = cipher.decrypt(&envelope.nonce.into(), payload).unwrap();
    String::from_utf8(text).unwrap()
}

fn opened(text: &str, key: &RsaPrivateKey, said: &str) -> Result<Secrets, Refusal> {
    open(&decrypted(text, key), &expected(said))
}

#[test]
fn what_is_sealed_opens_with_the_vaults_key_and_the_printed_literals() {
    let desk = Desk::new();
    let signer = desk.new_signer("signer.pem");
    let mode = std::fs::metadata(desk.path("signer.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let (code, said) = desk.seal("envelope");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(signer.trim()) && said.contains("API_KEYS"), "{said}");
    let secrets = opened(&desk.read("envelope"), &desk.vault, &said).ok().unwrap();
    assert_eq!((secrets.version.get(), secrets.group.as_str()), (7, "production"));
    assert_eq!(secrets.values["API_KEYS"].as_str(), VALUE);
    assert_eq!(secrets.values.len(), 1);

    // Each time with another key and nonce.
    desk.seal("again");
    let (one, other) = (desk.read("envelope"), desk.read("again"));
    let parts = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (one, other) = (parts(&one), parts(&other));
    assert_eq!(one[0], other[0]);
    assert!((1..5).all(|part| one[part] != other[part]));
}

#[test]
fn rotation_raises_the_version_and_moves_to_other_keys() {
    let desk = Desk::new();
    desk.new_signer("signer.pem");
    let next = vault_key();
    desk.publish("next.pem", &next);
    desk.new_signer("next-signer.pem");
    let (code, said) = desk.pmc(
        "rotate @values.toml --new-values @values-8.toml --public-key @next.pem \
         --signer @next-signer.pem --out @envelope",
    );
    assert_eq!(code, 0, "{said}");
    let secrets = opened(&desk.read("envelope"), &next, &said).ok().unwrap();
    assert_eq!(secrets.version.get(), 8);
    assert_eq!(secrets.values["API_KEYS"].as_str(), VALUE);
    assert_eq!(desk.read("values.toml"), values(7), "what was given stays");

    // The new file seals the same again, and is as private.
    let mode = std::fs::metadata(desk.path("values-8.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    desk.write("values.toml", &desk.read("values-8.toml"));
    let (_, again) = desk.seal("again");
    assert!(opened(&desk.read("again"), &desk.vault, &again).ok().unwrap() == secrets);
}

#[test]
fn files_that_others_read_or_that_are_there_already_are_refused() {
    let desk = Desk::new();
    desk.new_signer("signer.pem");
    for name in ["values.toml", "signer.pem"] {
        desk.chmod(name, 0o644);
        let (code, said) = desk.seal("envelope");
        assert!(code == 2 && said.contains("others may read"), "{said}");
        desk.chmod(name, 0o600);
    }
    assert!(!desk.path("envelope").exists());

    desk.write("envelope", "kept");
    desk.write("signer", "kept");
    assert_eq!(desk.seal("envelope").0, 2);
    assert_eq!(desk.pmc("new-signer --out @signer").0, 2);
    let (code, _) = desk.pmc(
        "rotate @values.toml --new-values @new.toml --public-key @vault.pem --signer @signer.pem --out @envelope",
    );
    assert_eq!(code, 2);
    assert!(!desk.path("new.toml").exists(), "a version without its envelope");
    assert_eq!((desk.read("envelope"), desk.read("signer")), ("kept".into(), "kept".into()));
    assert_eq!(desk.seal("fresh").0, 0, "and a good one is sealed");
}

#[test]
fn what_no_group_would_take_is_not_sealed() {
    let desk = Desk::new();
    desk.new_signer("signer.pem");
    let good = values(7);
    for (text, why) in [
        (good.replace("API_KEYS", "api-keys"), "A-Z, 0-9"),
        (good.replace("production", "a b"), "visible ASCII"),
        (good.replace("= 7", "= 0"), "line 2"),
        (format!("{good}EMPTY = ''\n"), "EMPTY must have"),
        (format!("{good}LINES = \"s3cret\\n\"\n"), "LINES must have"),
        (format!("{good}NUMBER = 7\n"), "must have"),
        (format!("{good}API_KEYS = 'twice'\n"), "must have"),
    ] {
        desk.write("values.toml", &text);
        let (code, said) = desk.seal("envelope");
        assert!(code == 2 && said.contains(why), "{said}");
    }
    desk.write("values.toml", &good);
    let (code, said) = desk
        .pmc("seal @values.toml --public-key @values.toml --signer @signer.pem --out @envelope");
    assert!(code == 2 && said.contains("az keyvault key"), "{said}");
    let (code, said) =
        desk.pmc("seal @values.toml --public-key @vault.pem --signer @values.toml --out @envelope");
    assert!(code == 2 && said.contains("new-signer"), "{said}");
    assert!(!desk.path("envelope").exists());
    assert_eq!(desk.seal("envelope").0, 0);
}

#[test]
fn an_envelope_too_long_for_a_variable_is_said_to_be_a_file() {
    let desk = Desk::new();
    desk.new_signer("signer.pem");
    let long = format!("{}LONG = '{}'\n", values(1), "x".repeat(16 * 1024));
    desk.write("values.toml", &long);
    let (code, said) = desk.seal("envelope");
    assert!(code == 0 && said.contains("SECRETS_FILE"), "{said}");
}
