//! A chain that holds, and one record for every reason to refuse it.

use std::num::NonZeroU64;

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::EncodePublicKey as _;
use serde_json::{Value, json};

use super::*;
use crate::crypto::{BadSignature, sha256};
use crate::encoding::to_b64u;
use crate::evidence::Evidence;
use crate::jws::JwsError;
use crate::merkle::Inclusion;
use crate::secrets::Signer;

const BOOT: &str = "000102030405060708090a0b0c0d0e0f";
const OTHER_BOOT: &str = "0f0102030405060708090a0b0c0d0e0f";
const OLD: &str = "age1old";
const NEW: &str = "age1new";

struct Key(SigningKey);

impl Key {
    fn new(scalar: u8) -> Self {
        Self(SigningKey::from_slice(&[scalar; 32]).unwrap())
    }

    fn spki(&self) -> Vec<u8> {
        self.0.verifying_key().to_public_key_der().unwrap().as_bytes().to_vec()
    }

    fn signer(&self) -> Signer {
        Signer::from_spki(&self.spki()).unwrap()
    }

    fn sign(&self, typ: &str, payload: &Value) -> String {
        let header = json!({"alg": "ES256", "typ": typ}).to_string();
        let parts = [header, payload.to_string()].map(|part| to_b64u(part.as_bytes()));
        let input = parts.join(".");
        let signature: Signature = self.0.sign(input.as_bytes());
        compact_readers(&input, &signature.to_bytes().into())
    }

    fn record(&self, record: &Value) -> String {
        self.sign(TYPE, record)
    }
}

fn digest(recipients: &[&str]) -> String {
    let recipients: Vec<String> = recipients.iter().map(|one| (*one).to_owned()).collect();
    to_b64u(&Readers::digest_of(&recipients))
}

fn start() -> Value {
    let evidence = Evidence { report: vec![1], vek: vec![2], ..Evidence::default() };
    let alone = Inclusion { index: 0, size: 1, path: vec![] };
    json!({
        "v": 1, "boot": BOOT, "seq": 0, "prev": null, "time": 1, "recipients_sha256": digest(&[OLD]),
        "event": {
            "kind": "start", "previous": null, "heartbeat_seconds": 60, "recipients": [OLD],
        },
        "identity": {
            "public_key": to_b64u(&Key::new(1).spki()),
            "evidence": evidence.to_json(),
            "merkle": InclusionText::from(&alone),
        },
    })
}

/// Begins a boot whose first record was changed.
fn begun(change: impl FnOnce(&mut Value)) -> Option<RecordError> {
    let mut record = start();
    change(&mut record);
    Chain::begin(&Key::new(1).record(&record)).err()
}

fn begin() -> (Chain, String) {
    let compact = Key::new(1).record(&start());
    let (chain, ..) = Chain::begin(&compact).ok().unwrap();
    (chain, compact)
}

/// A record that follows this one, of a boot whose readers are still the first ones.
fn next(seq: u64, before: &str, event: &Value) -> Value {
    json!({
        "v": 1, "boot": BOOT, "seq": seq, "prev": to_b64u(&sha256(before.as_bytes())), "time": 2,
        "recipients_sha256": digest(&[OLD]), "event": event, "identity": null,
    })
}

fn segment() -> Value {
    json!({
        "kind": "segment", "sha256": to_b64u(&[7; 32]), "bytes": 4321, "records": 1, "spans": 2,
        "points": 3, "first": 10, "last": 20,
    })
}

/// Follows a second record that was changed.
fn followed(change: impl FnOnce(&mut Value)) -> Option<RecordError> {
    let (mut chain, first) = begin();
    let mut record = next(1, &first, &segment());
    change(&mut record);
    let refused = chain.follow(&Key::new(1).record(&record)).err();
    assert_eq!(chain.head().0, u64::from(refused.is_none()), "a refusal leaves the chain");
    refused
}

fn broken(what: &'static str) -> Option<RecordError> {
    Some(RecordError::Chain(what))
}

fn list(key: &Key, version: u64, recipients: &[&str]) -> String {
    let payload = json!({"v": 1, "group": "group", "version": version, "recipients": recipients});
    key.sign(READERS_TYPE, &payload)
}

fn change(version: u64) -> Value {
    json!({"kind": "recipients", "signed": list(&Key::new(2), version, &[NEW])})
}

#[test]
fn every_kind_of_record_follows() {
    let (mut chain, mut before) = begin();
    let mut readers = digest(&[OLD]);
    for (seq, event) in (1..).zip([
        segment(),
        json!({"kind": "heartbeat"}),
        json!({"kind": "loss", "records": 1, "spans": 0, "points": 0, "why": "spool-full"}),
        change(3),
        segment(),
        json!({"kind": "stop"}),
    ]) {
        if event["kind"] == "recipients" {
            readers = digest(&[NEW]);
        }
        let mut record = next(seq, &before, &event);
        record["recipients_sha256"] = json!(readers);
        let compact = Key::new(1).record(&record);
        let read = chain.follow(&compact).unwrap_or_else(|error| panic!("{seq}: {error}"));
        assert_eq!(serde_json::to_value(&read).unwrap(), record, "one form");
        assert_eq!(chain.head(), (seq, sha256(compact.as_bytes())));
        before = compact;
    }
    assert!(chain.is_stopped());
    let after = Key::new(1).record(&next(7, &before, &segment()));
    assert_eq!(chain.follow(&after).err(), broken("the boot had ended"));
}

#[test]
fn a_first_record_begins_its_boot_and_says_with_what() {
    assert_eq!(begun(|_| {}), None);
    let previous = |boot: &str| json!({"boot": boot, "seq": 4, "digest": to_b64u(&[4; 32])});
    assert_eq!(begun(|record| record["event"]["previous"] = previous(OTHER_BOOT)), None);
    for boot in [BOOT, "", "xyz", &OTHER_BOOT.to_uppercase()] {
        let refused = begun(|record| record["event"]["previous"] = previous(boot));
        assert_eq!(refused, broken("the boot before it is none"), "{boot}");
    }
    for seconds in [0, 3601] {
        let refused = begun(|record| record["event"]["heartbeat_seconds"] = json!(seconds));
        assert_eq!(refused, broken("its heartbeat is none"), "{seconds}");
    }
    let others = broken("the digest of its readers is another list's");
    assert_eq!(begun(|record| record["event"]["recipients"] = json!([OLD, NEW])), others);
    let lines = format!("{OLD}\n{NEW}");
    let refused = begun(|record| {
        record["event"]["recipients"] = json!([lines]);
        record["recipients_sha256"] = json!(digest(&[OLD, NEW]));
    });
    assert_eq!(refused, others, "one that stands for two");
    assert_eq!(
        begun(|record| record["event"] = json!({"kind": "heartbeat"})),
        broken("the first of a boot does not begin it")
    );
    let zero = broken("the first of a boot is not number 0");
    assert_eq!(begun(|record| record["seq"] = json!(1)), zero);
    assert_eq!(begun(|record| record["prev"] = json!(to_b64u(&[0; 32]))), zero);
    assert_eq!(begun(|record| record["identity"] = Value::Null), broken("no key in the first"));
    let upper = "0F".repeat(16);
    assert_eq!(begun(|record| record["boot"] = json!(upper)), Some(RecordError::Syntax));
    assert_eq!(begun(|record| record["v"] = json!(2)), Some(RecordError::Syntax));
}

#[test]
fn a_record_follows_the_one_before_it_and_no_other() {
    assert_eq!(followed(|_| {}), None);
    assert_eq!(
        followed(|record| record["boot"] = json!(OTHER_BOOT)),
        broken("it is of another boot")
    );
    for seq in [0, 2] {
        let refused = followed(|record| record["seq"] = json!(seq));
        assert_eq!(refused, broken("a number is missing or double"), "{seq}");
    }
    let elsewhere = broken("it names another predecessor");
    assert_eq!(followed(|record| record["prev"] = json!(to_b64u(&[9; 32]))), elsewhere);
    assert_eq!(followed(|record| record["prev"] = Value::Null), elsewhere);
    let again = broken("only the first of a boot begins it");
    assert_eq!(followed(|record| record["event"] = start()["event"].clone()), again);
    assert_eq!(followed(|record| record["identity"] = start()["identity"].clone()), again);
    let times = broken("its segment ends before it begins");
    assert_eq!(followed(|record| record["event"]["last"] = json!(9)), times);
    assert_eq!(followed(|record| record["event"]["last"] = Value::Null), times);
    assert_eq!(followed(|record| record["event"]["first"] = Value::Null), times);
    assert_eq!(followed(|record| record["v"] = json!(2)), Some(RecordError::Syntax));
    assert_eq!(followed(|record| record["event"]["lost"] = json!(2)), Some(RecordError::Syntax));
}

#[test]
fn a_record_by_another_key_or_of_another_type_is_none() {
    let (mut chain, first) = begin();
    let record = next(1, &first, &segment());
    let foreign = Key::new(3).record(&record);
    let unsigned = RecordError::Jws(JwsError::Signature(BadSignature));
    assert_eq!(chain.follow(&foreign).err(), Some(unsigned));
    let other = Key::new(1).sign(READERS_TYPE, &record);
    assert_eq!(chain.follow(&other).err(), Some(RecordError::Syntax));
}

#[test]
fn readers_change_only_by_a_newer_word_of_the_operator() {
    let others = broken("its readers are others than before");
    assert_eq!(followed(|record| record["recipients_sha256"] = json!(digest(&[NEW]))), others);
    let with = |event: Value, readers: &str| {
        followed(|record| {
            record["event"] = event;
            record["recipients_sha256"] = json!(readers);
        })
    };
    assert_eq!(with(change(1), &digest(&[NEW])), None);
    assert_eq!(
        with(change(1), &digest(&[OLD])),
        broken("its readers are others than the operator's")
    );
    let none = json!({"kind": "recipients", "signed": "a.b.c"});
    assert_eq!(with(none, &digest(&[NEW])), Some(RecordError::Readers(Refusal::Form)));

    let (mut chain, mut before) = begin();
    for (seq, version, good) in [(1, 5, true), (2, 5, false), (2, 4, false), (2, 6, true)] {
        let mut record = next(seq, &before, &change(version));
        record["recipients_sha256"] = json!(digest(&[NEW]));
        let compact = Key::new(1).record(&record);
        let outcome = chain.follow(&compact).err();
        let expected = (!good).then_some(RecordError::Chain("its readers are of no newer version"));
        assert_eq!(outcome, expected, "{version}");
        if good {
            before = compact;
        }
    }
    // The list in force is the new one, for every record after it.
    let old = Key::new(1).record(&next(3, &before, &segment()));
    assert_eq!(chain.follow(&old).err(), others);
}

fn expected() -> Expected {
    let min_version = NonZeroU64::new(3).unwrap();
    Expected { signer: Key::new(2).signer(), group: "group".to_owned(), min_version }
}

#[test]
fn a_list_is_the_operators_for_this_group_and_new_enough() {
    let good = list(&Key::new(2), 3, &[OLD, NEW]);
    let readers = Readers::open(&good, &expected()).unwrap();
    assert_eq!(
        (readers.version.get(), readers.recipients.as_slice()),
        (3, &[OLD, NEW].map(str::to_owned)[..])
    );
    assert_eq!(Readers::unverified(&good).as_ref(), Ok(&readers));

    // What is signed as the sealer's own documents say is taken.
    let input = readers.signing_input(expected().signer.kid()).unwrap();
    let signature: Signature = Key::new(2).0.sign(input.as_bytes());
    let signed = compact_readers(&input, &signature.to_bytes().into());
    assert_eq!(Readers::open(&signed, &expected()), Ok(readers));

    let foreign = Refusal::Foreign(JwsError::Signature(BadSignature));
    let by_another = list(&Key::new(3), 3, &[NEW]);
    assert_eq!(Readers::open(&by_another, &expected()), Err(foreign.clone()));
    assert_eq!(Readers::signed_by(&by_another, &expected().signer), Err(foreign));
    let old = Refusal::Old { version: 2, lowest: 3 };
    assert_eq!(Readers::open(&list(&Key::new(2), 2, &[NEW]), &expected()), Err(old));
    let other = Expected { group: "Group".to_owned(), ..expected() };
    assert_eq!(Readers::open(&good, &other), Err(Refusal::OtherGroup));
}

#[test]
fn a_list_has_one_form() {
    let payload = json!({"v": 1, "group": "group", "version": 3, "recipients": [OLD]});
    let of = |typ: &str, payload: &Value| {
        Readers::open(&Key::new(2).sign(typ, payload), &expected()).err()
    };
    assert_eq!(of(READERS_TYPE, &payload), None);
    assert_eq!(of(TYPE, &payload), Some(Refusal::Form), "another word of the same key");
    for (member, value, why) in [
        ("v", json!(2), Refusal::Form),
        ("version", json!(0), Refusal::Form),
        ("more", json!(0), Refusal::Form),
        ("group", json!(""), NotReaders::Group.into()),
        ("recipients", json!([]), NotReaders::Number(0).into()),
        ("recipients", json!([OLD, "AGE-SECRET-KEY-1"]), NotReaders::Recipient(2).into()),
        ("recipients", json!([OLD, "age1"]), NotReaders::Recipient(2).into()),
        ("recipients", json!([OLD, "age1o\nage1p"]), NotReaders::Recipient(2).into()),
        (
            "recipients",
            json!([OLD, format!("age1{}", "q".repeat(125))]),
            NotReaders::Recipient(2).into(),
        ),
        ("recipients", json!([OLD, NEW, OLD]), NotReaders::Double(3).into()),
    ] {
        let mut changed = payload.clone();
        changed[member] = value;
        assert_eq!(of(READERS_TYPE, &changed), Some(why), "{changed}");
    }
    let many: Vec<String> = (0..=MAX_READERS).map(|n| format!("age1x{n}")).collect();
    let mut changed = payload;
    changed["recipients"] = json!(many);
    assert_eq!(of(READERS_TYPE, &changed), Some(NotReaders::Number(17).into()));
    assert_eq!(Readers::unverified(&"A".repeat(MAX_SIGNED + 1)), Err(Refusal::Form));
    assert_eq!(Readers::unverified(""), Err(Refusal::Form));
}
