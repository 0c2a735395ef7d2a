//! A reader of sealed logs, written from the format's description with `age`, `zstd` and the record's chain:
//! it does not ask whose log it is.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use age::x25519::Identity;
use attestation::crypto::sha256;
use attestation::log_record::{Chain, Event};
use serde_json::Value;

/// Record and segment of one number.
type Pair = [Option<Vec<u8>>; 2];

/// One boot, read back.
pub(crate) struct Boot {
    pub(crate) id: String,
    pub(crate) chain: Chain,
    /// Every event, in order.
    pub(crate) events: Vec<Event>,
    /// Plaintext length of every segment, before decompression.
    pub(crate) lengths: Vec<usize>,
    /// Every line of every segment.
    pub(crate) documents: Vec<Value>,
}

impl Boot {
    /// Bodies of all records of a source, in order.
    pub(crate) fn bodies(&self, service: &str) -> Vec<&str> {
        self.records(service).filter_map(|record| record["body"]["stringValue"].as_str()).collect()
    }

    /// All spans of a source, in order.
    pub(crate) fn spans(&self, service: &str) -> Vec<&Value> {
        let documents = self.documents.iter();
        let spans = documents.flat_map(|document| of(document, "resourceSpans", service));
        items(&items(&spans.collect::<Vec<_>>(), "scopeSpans"), "spans")
    }

    /// How many data points there are of a source.
    pub(crate) fn points(&self, service: &str) -> u64 {
        let documents = self.documents.iter();
        documents.flat_map(|document| of(document, "resourceMetrics", service)).map(count).sum()
    }

    pub(crate) fn records(&self, service: &str) -> impl Iterator<Item = &Value> {
        self.documents.iter().flat_map(move |document| records_of(document, service))
    }
}

/// The records of a document if they are of that source.
pub(crate) fn records_of<'a>(document: &'a Value, service: &str) -> Vec<&'a Value> {
    let logs = of(document, "resourceLogs", service);
    items(&items(&logs, "scopeLogs"), "logRecords")
}

/// The resources of a document if they are of that source.
fn of<'a>(document: &'a Value, signal: &str, service: &str) -> Vec<&'a Value> {
    let is_named = |resource: &&Value| {
        let mut attributes = resource["resource"]["attributes"].as_array().unwrap().iter();
        let name = attributes.find(|attribute| attribute["key"] == "service.name").unwrap();
        name["value"]["stringValue"] == service
    };
    items(&[document], signal).into_iter().filter(is_named).collect()
}

/// What is in a member of each of these, if it is there.
fn items<'a>(of: &[&'a Value], member: &str) -> Vec<&'a Value> {
    of.iter().filter_map(|one| one[member].as_array()).flatten().collect()
}

/// Reads every boot of a folder and panics at whatever is not as it should be.
pub(crate) fn read(folder: &Path, identity: &Identity) -> Vec<Boot> {
    let mut boots: BTreeMap<String, BTreeMap<String, Pair>> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let (stem, kind) = name.split_once('.').unwrap();
        let (boot, seq) = stem.split_once('-').unwrap();
        let kind = ["jws", "age"].iter().position(|known| *known == kind).expect("no other file");
        let files = boots.entry(boot.to_owned()).or_default().entry(seq.to_owned()).or_default();
        files[kind] = Some(std::fs::read(path).unwrap());
    }
    boots.into_iter().map(|(id, files)| boot(id, files, identity)).collect()
}

fn boot(id: String, files: BTreeMap<String, Pair>, identity: &Identity) -> Boot {
    let mut files = files.into_values().map(|[record, segment]| {
        (String::from_utf8(record.expect("a record for every segment")).unwrap(), segment)
    });
    let (first, none) = files.next().unwrap();
    assert!(none.is_none(), "the first record has no segment");
    let (chain, record, _) = Chain::begin(&first).unwrap();
    let events = vec![record.event];
    let mut boot = Boot { id, chain, events, lengths: vec![], documents: vec![] };
    assert!(record.boot == boot.id);
    for (compact, segment) in files {
        let record = boot.chain.follow(&compact).unwrap();
        match (&record.event, segment) {
            (
                Event::Segment { sha256: digest, bytes, records, spans, points, .. },
                Some(segment),
            ) => {
                assert_eq!(sha256(&segment), *digest);
                assert_eq!(u64::try_from(segment.len()).unwrap(), *bytes);
                let (length, documents) = documents(&segment, identity);
                for (signal, said) in [
                    ("resourceLogs", records),
                    ("resourceSpans", spans),
                    ("resourceMetrics", points),
                ] {
                    assert_eq!(documents.iter().map(|it| count(&it[signal])).sum::<u64>(), *said);
                }
                boot.lengths.push(length);
                boot.documents.extend(documents);
            }
            (Event::Segment { .. }, None) | (_, Some(_)) => {
                panic!("a segment belongs to a segment's record")
            }
            _ => {}
        }
        boot.events.push(record.event);
    }
    boot
}

/// The length of a segment's plaintext before decompression, and its lines.
pub(crate) fn documents(segment: &[u8], identity: &Identity) -> (usize, Vec<Value>) {
    let identity: &dyn age::Identity = identity;
    let decryptor = age::Decryptor::new(segment).unwrap();
    let mut plaintext = Vec::new();
    let mut reader = decryptor.decrypt(std::iter::once(identity)).unwrap();
    reader.read_to_end(&mut plaintext).unwrap();
    let text = String::from_utf8(zstd::decode_all(plaintext.as_slice()).unwrap()).unwrap();
    (plaintext.len(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Log records, spans and data points.
fn count(value: &Value) -> u64 {
    let Value::Object(members) = value else {
        return value.as_array().into_iter().flatten().map(count).sum();
    };
    let counts = members.iter().map(|(name, inner)| match (name.as_str(), inner.as_array()) {
        ("logRecords" | "spans" | "dataPoints", Some(list)) => u64::try_from(list.len()).unwrap(),
        _ => count(inner),
    });
    counts.sum()
}
