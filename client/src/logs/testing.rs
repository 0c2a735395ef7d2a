//! What the tests write logs with: a writer made from the format's description, and a simulated machine whose
//! evidence binds the writer's key.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use age::secrecy::ExposeSecret as _;
use age::x25519;
use attestation::bundle::Bundle;
use attestation::certificate::Certificate;
use attestation::connection::SERVICE;
use attestation::crypto::sha256;
use attestation::encoding::to_b64u;
use attestation::log_record::{Event, Identity, Previous, Readers, Record, TYPE, Why};
use attestation::merkle::Inclusion;
use attestation::policy::Hex;
use attestation::wire::{InclusionText, LogHead, Manifest, ManifestTls, VerifyAnswer};
use attestation::{Anchors, Binding, Evidence, Expect, Policy, danger};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sim::machine::{Guest, Machine, default_measurement};
use sim::pki::KeyRing;
use sim::pki::amd::AmdAuthority;
use sim::seed::Seed;
use sim::tcb::Product;

use super::{Document, Identities, OpenError, Reader, Report, Source, open, sign_readers};
use crate::secrets::OperatorKey;

/// When the tests read: within the simulated certificates' validity.
pub(super) const NOW: u64 = 1_780_000_000;

/// A container group on a simulated machine.
pub(super) struct Group {
    seed: Seed,
    machine: Machine,
    guest: Guest,
}

impl Group {
    pub(super) fn new(policy: &str) -> Self {
        Self::of_seed("laptop", policy)
    }

    /// A group on a machine whose AMD is another one for every seed.
    pub(super) fn of_seed(seed: &str, policy: &str) -> Self {
        let seed = Seed::new(seed);
        let state = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/sim-state");
        let keys = KeyRing::new(seed.clone(), Some(state));
        let amd = Arc::new(AmdAuthority::derive(&keys, Product::Milan).unwrap());
        let machine = Machine::derive(amd, &seed, "host", Product::Milan.current_tcb());
        let guest = Guest {
            policy: policy.to_owned(),
            measurement: default_measurement(&seed),
            debug: false,
            launch: "first".to_owned(),
        };
        Self { seed, machine, guest }
    }

    pub(super) fn chain_pem(&self) -> String {
        self.machine.amd().chain_pem().unwrap()
    }

    pub(super) fn anchors(&self) -> Anchors {
        danger::Anchors::from_pem(&self.chain_pem()).unwrap()
    }

    pub(super) fn policy(&self) -> Policy {
        Policy {
            endorsement: Expect::unchecked("this machine endorses nothing"),
            measurement: Some(Expect::unchecked("this machine endorses nothing")),
            ..Policy::for_host_data(Expect::Value(vec![Hex(self.guest.host_data())]))
        }
    }

    /// A saved proof of a connection, whose manifest names this key and record.
    pub(super) fn proof(&self, key: Option<&[u8]>, head: Option<LogHead>) -> Bundle {
        let manifest = Manifest {
            v: 1,
            service: SERVICE.to_owned(),
            version: "0.1.0".to_owned(),
            boot_id: hex::encode([5; 16]),
            started: NOW,
            hostnames: Vec::new(),
            tls: ManifestTls { mode: "attested".to_owned() },
            owner_key: None,
            log_key: key.map(to_b64u),
            log_head: head,
            config: BTreeMap::new(),
            anchors: "NOT PRODUCTION".to_owned(),
            unsealed: Vec::new(),
            admin: None,
        };
        let manifest = serde_json::to_vec(&manifest).unwrap();
        // Any certificate will do: the binding names the one that was shown.
        let host = self.machine.host_certificate(self.machine.tcb()).unwrap();
        let certificate = Certificate::sequence_from_pem(&host.vcek_cert).unwrap().remove(0);
        let (nonce, exporter) = ([1; 32], [2; 32]);
        let binding = Binding::TlsChannel {
            nonce,
            exporter,
            spki_sha256: sha256(&certificate.spki().unwrap()),
            certificate_sha256: sha256(certificate.der()),
            manifest_sha256: sha256(&manifest),
        };
        let alone = Inclusion { index: 0, size: 1, path: vec![] };
        Bundle {
            v: 1,
            endpoint: "https://group.example".to_owned(),
            time: NOW,
            nonce,
            exporter,
            certificate: certificate.der().to_vec(),
            answer: VerifyAnswer {
                v: 1,
                evidence: self.evidence(binding.report_data(&alone).unwrap()).to_json(),
                merkle: InclusionText::from(&alone),
                manifest,
                owner: None,
                token: None,
                client_nonce: None,
            },
        }
    }

    fn evidence(&self, report_data: [u8; 64]) -> Evidence {
        let mut report = self.guest.report(&self.machine, &self.seed);
        report.report_data = report_data;
        let key = self.machine.vcek(self.machine.tcb()).unwrap().key;
        let host = self.machine.host_certificate(self.machine.tcb()).unwrap();
        let der = |pem: &str| -> Vec<u8> {
            let certificates = Certificate::sequence_from_pem(pem).unwrap();
            certificates.iter().flat_map(|certificate| certificate.der().to_vec()).collect()
        };
        Evidence {
            report: report.sign(&key).unwrap().to_vec(),
            vek: der(&host.vcek_cert),
            chain: Some(der(&host.certificate_chain)),
            ..Evidence::default()
        }
    }
}

/// One number of a log: its record, and its segment if it has one.
#[derive(Clone)]
pub(super) struct Piece {
    pub(super) seq: u64,
    pub(super) record: Option<String>,
    pub(super) segment: Option<Vec<u8>>,
}

/// Writes one boot's log.
pub(super) struct Author {
    key: EcdsaKeyPair,
    pub(super) boot: String,
    pub(super) prev: Option<[u8; 32]>,
    pub(super) time: u64,
    pub(super) reader: x25519::Recipient,
    /// What the first record says of the boot before.
    pub(super) previous: Option<Previous>,
    pub(super) pieces: Vec<Piece>,
}

impl Author {
    pub(super) fn new(boot: u8, reader: &x25519::Identity) -> Self {
        Self {
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            boot: hex::encode([boot; 16]),
            prev: None,
            time: NOW - 1000 + u64::from(boot),
            reader: reader.to_public(),
            previous: None,
            pieces: Vec::new(),
        }
    }

    /// A whole boot: three segments, with two, one and three log records.
    pub(super) fn whole(boot: u8, reader: &x25519::Identity, group: &Group) -> Self {
        let mut author = Self::new(boot, reader);
        author.start(group);
        author.segment(&[&["one", "two"]]);
        author.segment(&[&["three"]]);
        author.segment(&[&["four", "five"], &["six"]]);
        author.add(Event::Stop, None, None);
        author
    }

    fn recipients_sha256(&self) -> [u8; 32] {
        sha256(format!("{}\n", self.reader).as_bytes())
    }

    /// SubjectPublicKeyInfo.
    pub(super) fn public_key(&self) -> Vec<u8> {
        let public_key: PublicKeyX509Der<'_> = self.key.public_key().as_der().unwrap();
        public_key.as_ref().to_vec()
    }

    /// A saved proof that was taken when this was the newest record.
    pub(super) fn proof(&self, group: &Group) -> Bundle {
        let Previous { seq, digest, .. } = self.head();
        group.proof(Some(&self.public_key()), Some(LogHead { seq, digest }))
    }

    pub(super) fn identity(&self, group: &Group) -> Identity {
        let public_key = self.public_key();
        let mut boot_id = [0; 16];
        hex::decode_to_slice(&self.boot, &mut boot_id).unwrap();
        let binding = Binding::LogKey {
            public_key: public_key.clone(),
            boot_id,
            recipients_sha256: self.recipients_sha256(),
        };
        let alone = Inclusion { index: 0, size: 1, path: vec![] };
        let evidence = group.evidence(binding.report_data(&alone).unwrap()).to_json();
        Identity { public_key, evidence, merkle: InclusionText::from(&alone) }
    }

    pub(super) fn start(&mut self, group: &Group) {
        let identity = self.identity(group);
        self.add(self.beginning(), Some(identity), None);
    }

    /// What the first record says.
    pub(super) fn beginning(&self) -> Event {
        let recipients = vec![self.reader.to_string()];
        Event::Start { previous: self.previous.clone(), heartbeat_seconds: 60, recipients }
    }

    /// Adds a segment with one document for each list of bodies.
    pub(super) fn segment(&mut self, documents: &[&[&str]]) {
        let lines = documents.iter().map(|bodies| {
            let records: Vec<_> =
                bodies.iter().map(|body| json!({"body": {"stringValue": body}})).collect();
            json!({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).to_string() + "\n"
        });
        let records = documents.iter().map(|bodies| u64::try_from(bodies.len()).unwrap()).sum();
        self.seal(lines.collect::<String>().as_bytes(), records);
    }

    pub(super) fn seal(&mut self, text: &[u8], records: u64) {
        let packed = zstd::encode_all(text, 3).unwrap();
        let sealed = age::encrypt(&self.reader, &packed).unwrap();
        let bytes = u64::try_from(sealed.len()).unwrap();
        let event = Event::Segment {
            sha256: sha256(&sealed),
            bytes,
            records,
            spans: 0,
            points: 0,
            first: None,
            last: None,
        };
        self.add(event, None, Some(sealed));
    }

    pub(super) fn lose(&mut self, records: u64) {
        self.add(Event::Loss { records, spans: 0, points: 0, why: Why::Sealing }, None, None);
    }

    /// From here on, another one reads, by this operator's word.
    pub(super) fn change_reader(&mut self, reader: &x25519::Identity, operator: &OperatorKey) {
        self.reader = reader.to_public();
        let readers = Readers {
            group: "group".to_owned(),
            version: NonZeroU64::MIN,
            recipients: vec![self.reader.to_string()],
        };
        let signed = sign_readers(&readers, operator).unwrap();
        self.add(Event::Recipients { signed }, None, None);
    }

    /// The newest record, as a later boot names it.
    pub(super) fn head(&self) -> Previous {
        let seq = u64::try_from(self.pieces.len()).unwrap() - 1;
        Previous { boot: self.boot.clone(), seq, digest: self.prev.unwrap() }
    }

    pub(super) fn add(
        &mut self,
        event: Event,
        identity: Option<Identity>,
        segment: Option<Vec<u8>>,
    ) {
        let seq = u64::try_from(self.pieces.len()).unwrap();
        let record = Record {
            v: 1,
            boot: self.boot.clone(),
            seq,
            prev: self.prev.map(Vec::from),
            time: self.time + seq,
            recipients_sha256: self.recipients_sha256(),
            event,
            identity,
        };
        let header = to_b64u(json!({"alg": "ES256", "typ": TYPE}).to_string().as_bytes());
        let payload = to_b64u(&serde_json::to_vec(&record).unwrap());
        let signed = format!("{header}.{payload}");
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        let compact = format!("{signed}.{}", to_b64u(signature.as_ref()));
        self.prev = Some(sha256(compact.as_bytes()));
        self.pieces.push(Piece { seq, record: Some(compact), segment });
    }

    /// Writes the files of the log.
    pub(super) fn write_to(&self, folder: &Path) {
        for Piece { seq, record, segment } in &self.pieces {
            let name = |kind| folder.join(format!("{}-{seq:08}.{kind}", self.boot));
            if let Some(record) = record {
                fs::write(name("jws"), record).unwrap();
            }
            if let Some(segment) = segment {
                fs::write(name("age"), segment).unwrap();
            }
        }
    }

    /// The same as lines of output.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |piece: &Piece| {
            let segment = piece.segment.as_ref().map(|segment| STANDARD.encode(segment));
            let record = piece.record.as_deref().unwrap();
            format!("{{\"record\":{},\"segment\":{}}}", json!(record), json!(segment))
        };
        self.pieces.iter().map(line).collect()
    }
}

/// What was read: the report, and the body of every record.
pub(super) struct Read {
    pub(super) report: Report,
    pub(super) bodies: Vec<String>,
}

/// Reads as the group's own reader.
pub(super) fn read(source: &Source, reader: &x25519::Identity, group: &Group) -> Read {
    read_as(source, reader, &group.anchors(), &group.policy()).unwrap()
}

pub(super) fn read_as(
    source: &Source,
    reader: &x25519::Identity,
    anchors: &Anchors,
    policy: &Policy,
) -> Result<Read, OpenError> {
    let identities = identities(reader);
    let reader = Reader { identities: &identities, anchors, policy, at: NOW };
    let mut bodies = Vec::new();
    let mut each = |document: &Document<'_>| {
        let json: serde_json::Value = serde_json::from_str(document.json())?;
        let records = json["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap();
        let body =
            |record: &serde_json::Value| record["body"]["stringValue"].as_str().unwrap().to_owned();
        bodies.extend(records.iter().map(body));
        Ok(())
    };
    let report = open(source, &reader, &mut each)?;
    Ok(Read { report, bodies })
}

pub(super) fn identities(reader: &x25519::Identity) -> Identities {
    Identities::from_text(reader.to_string().expose_secret()).unwrap()
}
