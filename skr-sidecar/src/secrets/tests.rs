//! The opener, envelope by envelope: each refusal by its name, and after each the good one is still opened.

use attestation::secrets::{Expected, MAX_ENVELOPE, Refusal};
use rsa::Oaep;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Sha256, Sha384};

use super::key::SecretsKey;
use super::opener::{Opener, Outcome};
use super::*;
use crate::key::KeyError;

#[path = "../../tests/world/envelope.rs"]
mod envelope;

use envelope::{Operator, payload};

fn key_of(operator: &Operator) -> SecretsKey {
    let (published, secret) = operator.vault_key();
    SecretsKey::new(&serde_json::from_value(published).unwrap(), &secret).ok().unwrap()
}

fn opener(operator: &Operator) -> Opener {
    let signer = operator.signer.clone();
    let group = "here".to_owned();
    let mut opener = Opener::new(Expected { signer, group, min_version: 5.try_into().unwrap() });
    opener.take(key_of(operator));
    opener
}

fn good() -> String {
    payload(5, &json!({"API_KEYS": "a,b"}))
}

/// What became of an envelope: its version, or why it was refused.
fn judge(opener: &mut Opener, text: &str) -> Result<u64, Refusal> {
    match opener.judge(text) {
        Outcome::Opened(secrets) => Ok(secrets.version.get()),
        Outcome::Refused(refusal) => Err(refusal),
        Outcome::NoKey => Err(Refusal::OtherKey),
    }
}

#[test]
fn every_refusal_has_its_name_and_the_good_one_is_opened_after_it() {
    let (operator, other) = (Operator::new(), Operator::new());
    let header = operator.header();
    let with = |name: &str, value: &str| {
        let mut header = header.clone();
        header[name] = value.into();
        operator.encrypt_under(&header, &operator.sign(&good()), Oaep::new::<Sha256>(), &[7; 32])
    };
    let encrypted = |padding: Oaep, key: &[u8]| {
        operator.encrypt_under(&header, &operator.sign(&good()), padding, key)
    };
    let under = |alg: &str, kid: &str| {
        operator.encrypt(&operator.sign_under(&json!({"alg": alg, "kid": kid}), &good()))
    };
    let kid = operator.signer.kid();
    let said = |old: &str, new: &str| operator.seal(&good().replace(old, new));
    let huge = "A".repeat(MAX_ENVELOPE + 1);
    for (envelope, refusal) in [
        (huge.clone(), Refusal::TooLong(huge.len())),
        ("no envelope".to_owned(), Refusal::NotAnEnvelope),
        (operator.sign(&good()), Refusal::NotAnEnvelope),
        (with("alg", "RSA-OAEP"), Refusal::Header),
        (with("alg", "A256GCM"), Refusal::Header),
        (with("enc", "RSA-OAEP-256"), Refusal::Header),
        (with("zip", "DEF"), Refusal::Header),
        (with("kid", other.header()["kid"].as_str().unwrap()), Refusal::OtherKey),
        (other.seal(&good()), Refusal::OtherKey),
        (encrypted(Oaep::new::<Sha1>(), &[7; 32]), Refusal::OtherKey),
        (encrypted(Oaep::new::<Sha384>(), &[7; 32]), Refusal::OtherKey),
        (encrypted(Oaep::new::<Sha256>(), &[7; 16]), Refusal::OtherKey),
        (operator.encrypt("no statement"), Refusal::NotSigned),
        (operator.encrypt(&good()), Refusal::NotSigned),
        (under("none", kid), Refusal::NotSigned),
        (under("HS256", kid), Refusal::NotSigned),
        (under("RS256", kid), Refusal::NotSigned),
        (operator.encrypt(&other.sign(&good())), Refusal::Foreign),
        (
            operator.encrypt(&other.sign_under(&json!({"alg": "ES256", "kid": kid}), &good())),
            Refusal::Forged,
        ),
        (said("\"v\":1", "\"v\":2"), Refusal::Format),
        (said("\"version\":5", "\"version\":5,\"version\":6"), Refusal::Payload),
        (operator.seal(r#"{"sub":"another purpose of the same key"}"#), Refusal::Payload),
        (said("here", "elsewhere"), Refusal::OtherGroup),
        (said("\"version\":5", "\"version\":4"), Refusal::Old { version: 4, lowest: 5 }),
        (said("a,b", "a\\nb"), Refusal::Value("API_KEYS".to_owned())),
        (said("API_KEYS", "api_keys"), Refusal::Name),
    ] {
        let mut opener = opener(&operator);
        assert_eq!(judge(&mut opener, &envelope), Err(refusal.clone()));
        assert_eq!(judge(&mut opener, &operator.seal(&good())), Ok(5), "after {refusal}");
        // What is open bears it, too.
        assert!(judge(&mut opener, &envelope).is_err(), "{refusal}");
        assert_eq!(judge(&mut opener, &operator.seal(&good())), Ok(5), "again after {refusal}");
    }
}

#[test]
fn no_bit_of_any_part_can_be_changed() {
    let operator = Operator::new();
    let mut opener = opener(&operator);
    let good = operator.seal(&good());
    let parts: Vec<&str> = good.split('.').collect();
    for at in 0..parts.len() {
        let bytes = attestation::encoding::from_b64u(parts[at]).unwrap();
        for (byte, bit) in [(0, 0), (bytes.len() / 2, 3), (bytes.len() - 1, 7)] {
            let mut bytes = bytes.clone();
            bytes[byte] ^= 1 << bit;
            let part = attestation::encoding::to_b64u(&bytes);
            let mut parts = parts.clone();
            parts[at] = &part;
            let refused = judge(&mut opener, &parts.join("."));
            let expected: &[Refusal] = match at {
                0 => &[Refusal::NotAnEnvelope, Refusal::Header, Refusal::OtherKey],
                1 => &[Refusal::OtherKey],
                _ => &[Refusal::Changed],
            };
            assert!(expected.contains(&refused.unwrap_err()), "part {at}, byte {byte}");
        }
    }
    assert_eq!(judge(&mut opener, &good), Ok(5));
    // The same header, written with a space: what the tag covers is the text as it came.
    let spaced = operator.header().to_string().replace(",", ", ");
    let spaced = attestation::encoding::to_b64u(spaced.as_bytes());
    let rest = good.split_once('.').unwrap().1;
    assert_eq!(judge(&mut opener, &format!("{spaced}.{rest}")), Err(Refusal::Changed));
}

#[test]
fn what_is_open_is_replaced_by_newer_ones_only() {
    let operator = Operator::new();
    let mut opener = opener(&operator);
    let of = |version, values: Value| operator.seal(&payload(version, &values));
    let (old, new) = (of(6, json!({"A": "x"})), of(8, json!({"A": "y"})));
    assert_eq!(judge(&mut opener, &old), Ok(6));
    assert_eq!(judge(&mut opener, &new), Ok(8));
    assert_eq!(judge(&mut opener, &old), Err(Refusal::Replayed { version: 6, open: 8 }));
    let twice = of(8, json!({"A": "z"}));
    assert_eq!(judge(&mut opener, &twice), Err(Refusal::NumberedTwice(8)));
    assert_eq!(judge(&mut opener, &new), Ok(8));
    assert_eq!(judge(&mut opener, &of(8, json!({"A": "y"}))), Ok(8), "the same, sealed anew");
}

#[test]
fn two_keys_are_kept_while_the_vaults_key_is_rotated() {
    let first = Operator::new();
    let (second, third) = (first.with_new_vault_key(), first.with_new_vault_key());
    let mut opener = opener(&first);
    let judged = |opener: &mut Opener, operator: &Operator| judge(opener, &operator.seal(&good()));
    assert_eq!(judged(&mut opener, &second), Err(Refusal::OtherKey));
    opener.take(key_of(&second));
    opener.take(key_of(&second));
    assert_eq!(judged(&mut opener, &second), Ok(5));
    assert_eq!(judged(&mut opener, &first), Ok(5));
    opener.take(key_of(&third));
    assert_eq!(judged(&mut opener, &third), Ok(5));
    assert_eq!(judged(&mut opener, &first), Err(Refusal::OtherKey), "the oldest made room");
}

#[test]
fn only_an_rsa_key_opens_secrets() {
    use p256::pkcs8::EncodePrivateKey as _;
    let form = |published: Value, secret: &[u8]| {
        SecretsKey::new(&serde_json::from_value(published).unwrap(), secret).err()
    };
    let der = p256::SecretKey::random(&mut rand::thread_rng()).to_pkcs8_der().unwrap();
    let unfit = Some(KeyError::Unfit("RSA of 2048 to 8192 bits"));
    assert_eq!(form(json!({"kty": "EC-HSM"}), der.as_bytes()), unfit);
    assert_eq!(form(json!({"kty": "oct-HSM"}), &[7; 32]), unfit);
    let operator = Operator::new();
    let (_, secret) = operator.vault_key();
    let (published, _) = Operator::new().vault_key();
    assert_eq!(form(published, &secret), Some(KeyError::OtherKey("n")));
}

/// An envelope that is open already is no news: else, to show it in between would let the vault be asked at once again.
#[test]
fn going_back_and_forth_between_two_envelopes_is_no_news() {
    let operator = Operator::new();
    let mut opener = opener(&operator);
    let mut heard = Heard::default();
    let mut seen = |envelope: String| {
        heard.is_news(&match opener.judge(&envelope) {
            Outcome::Opened(secrets) => Ok(secrets),
            Outcome::Refused(refusal) => Err(refusal.into()),
            Outcome::NoKey => Err(Refusal::OtherKey.into()),
        })
    };
    let of = |version| operator.seal(&payload(version, &json!({})));
    let foreign = || Operator::new().seal(&good());
    assert!(seen(foreign()) && seen(of(5)));
    for _ in 0..3 {
        assert!(!seen(foreign()) && !seen(of(5)));
    }
    assert!(seen(of(6)), "a newer one is");
    assert!(seen(of(5)), "and so is another refusal");
    assert!(!seen(of(6)) && !seen(of(5)));
}

/// Whoever owns the envelope's place could name a new key each second.
#[tokio::test(start_paused = true)]
async fn the_vault_is_asked_ever_more_seldom() {
    let mut pace = Pace::new();
    let begin = Instant::now();
    let mut asked = 0;
    while begin.elapsed() < Duration::from_secs(3600) {
        asked += u32::from(pace.take());
        tokio::time::sleep(POLL).await;
    }
    assert!((60..=70).contains(&asked), "{asked}");
}
