//! Which keys are good: files, lists, and the forms that entries have.

use std::time::SystemTime;

use super::*;

const NOW: u64 = 1_800_000_000;
const K1: &str = "pm_test-key-for-unit-tests-12345";

fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
    let value = |bytes: &[u8]| http::HeaderValue::from_bytes(bytes).unwrap();
    pairs.iter().map(|(name, text)| (name.parse().unwrap(), value(text))).collect()
}

fn digest(key: &str) -> String {
    hex::encode(sha256(key.as_bytes()))
}

struct Bench {
    folder: tempfile::TempDir,
    keys: Keys,
    /// Requests are served by it.
    thread: tokio::runtime::Runtime,
}

impl Bench {
    fn new(list: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let list = List { keys: list, ids: "env_key" };
        let keys = Keys::new(list, folder.path().join("keys.json"));
        let thread = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { folder, keys, thread }
    }

    fn write(&self, text: &str) {
        // As editors and orchestrators do: a new file takes the old one's place.
        let next = self.folder.path().join("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, self.folder.path().join("keys.json")).unwrap();
    }

    fn bearer(&self, key: &str) -> Result<String, KeyError> {
        let value = format!("Bearer {key}");
        let headers = headers(&[("authorization", value.as_bytes())]);
        self.authenticate(&headers).map(|key| key.id.clone())
    }

    fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<ApiKey>, KeyError> {
        self.thread.block_on(self.keys.refresh());
        self.keys.authenticate(headers, NOW)
    }
}

fn one(key: &str, more: &str) -> String {
    format!(r#"{{"keys":[{{"key_id":"k","key_hash":"{}"{more}}}]}}"#, digest(key))
}

#[test]
fn case_5_to_10_and_13_to_15_where_the_key_stands() {
    let bench = Bench::new(K1);
    let who = |pairs: &[(&'static str, &[u8])]| bench.keys.authenticate(&headers(pairs), NOW);
    assert_eq!(who(&[]), Err(KeyError::Missing));
    assert_eq!(who(&[("authorization", b"Bearer pm_invalid_key")]), Err(KeyError::Invalid));
    assert_eq!(bench.bearer(K1).unwrap(), "env_key_0");
    assert!(who(&[("x-api-key", K1.as_bytes())]).is_ok());
    assert_eq!(who(&[("authorization", b"Basic dXNlcjpwYXNz")]), Err(KeyError::Missing));
    let basic: &[u8] = b"Basic dXNlcjpwYXNz";
    assert!(who(&[("authorization", basic), ("x-api-key", K1.as_bytes())]).is_ok());
    let empty: &[u8] = b"Bearer ";
    assert_eq!(
        who(&[("authorization", empty), ("x-api-key", K1.as_bytes())]),
        Err(KeyError::Missing)
    );
    let bad: &[u8] = b"Bearer bad";
    assert_eq!(
        who(&[("authorization", bad), ("x-api-key", K1.as_bytes())]),
        Err(KeyError::Invalid)
    );
    let lower = format!("bearer {K1}");
    assert!(who(&[("authorization", lower.as_bytes())]).is_ok());
    let two_spaces = format!("Bearer  {K1}");
    assert_eq!(who(&[("authorization", two_spaces.as_bytes())]), Err(KeyError::Invalid));
    assert_eq!(who(&[("authorization", b"Bearer \xff\xfe")]), Err(KeyError::Invalid));
}

#[test]
fn case_11_12_22_expired_and_disabled_keys() {
    let bench = Bench::new("");
    for (more, holds) in [
        (r#","expires_at":1799999999"#, false),
        (r#","expires_at":1800000001"#, true),
        (r#","expires_at":null"#, true),
        (r#","expires_at":0"#, true),
        (r#","enabled":false"#, false),
        (r#","enabled":0"#, false),
        (r#","enabled":1"#, true),
    ] {
        bench.write(&one(K1, more));
        assert_eq!(bench.bearer(K1).is_ok(), holds, "{more}");
    }
}

#[test]
fn case_18_to_20_hot_reload_absent_file_and_list() {
    let bench = Bench::new(" e1 , ,e2");
    assert_eq!(bench.bearer("e1").unwrap(), "env_key_0");
    assert_eq!(bench.bearer("e2").unwrap(), "env_key_2");
    assert_eq!(bench.bearer("n"), Err(KeyError::Invalid));
    bench.write(&one("n", ""));
    assert_eq!(bench.bearer("n").unwrap(), "k");
    assert!(bench.bearer("e1").is_ok(), "case 27: the list stays in force");
    bench.write(&one("m", ""));
    assert_eq!(bench.bearer("n"), Err(KeyError::Invalid));
    assert!(bench.bearer("m").is_ok());
    bench.write(&one("e1", r#","enabled":false"#));
    assert_eq!(bench.bearer("e1"), Err(KeyError::Invalid), "the list revives no revoked key");
}

#[test]
fn another_list_takes_the_place_of_the_one_before() {
    let bench = Bench::new("e1,e2");
    bench.keys.renew(List { keys: "e2,e3", ids: "sealed_key" });
    assert_eq!(bench.bearer("e1"), Err(KeyError::Invalid));
    assert_eq!(bench.bearer("e2").unwrap(), "sealed_key_0");
    assert_eq!(bench.bearer("e3").unwrap(), "sealed_key_1");
    bench.keys.renew(List { keys: "", ids: "sealed_key" });
    assert_eq!(bench.bearer("e2"), Err(KeyError::Invalid));
}

#[test]
fn case_21_28_forms_of_entries() {
    let bench = Bench::new("");
    bench.write(&format!(r#"{{"keys":[{{"key":"{K1}"}},{{"note":"neither"}}]}}"#));
    assert_eq!(bench.bearer(K1).unwrap(), digest(K1)[..8]);
    let upper = digest(K1).to_uppercase();
    bench.write(&format!(r#"{{"keys":[{{"key_hash":"{upper}"}}]}}"#));
    assert!(bench.bearer(K1).is_ok());
    bench.write(&one(K1, r#","expires_at":"2030-01-01""#));
    assert_eq!(bench.bearer(K1), Err(KeyError::Invalid), "an entry that cannot be read is none");
}

/// Of a word that cannot be understood, the careful meaning is taken: the entry is none.
#[test]
fn a_key_may_be_for_attested_clients_only() {
    let bench = Bench::new("");
    let headers = headers(&[("x-api-key", K1.as_bytes())]);
    let demands = || bench.authenticate(&headers).map(|key| key.attested_client);
    for (more, expected) in [
        ("", Ok(false)),
        (r#","attested_client":null"#, Ok(false)),
        (r#","attested_client":false"#, Ok(false)),
        (r#","attested_client":true"#, Ok(true)),
        (r#","attested_client":"true""#, Err(KeyError::Invalid)),
        (r#","attested_client":1"#, Err(KeyError::Invalid)),
    ] {
        bench.write(&one(K1, more));
        assert_eq!(demands(), expected, "{more}");
    }
}

#[test]
fn a_key_whose_conditions_cannot_be_read_is_refused_wherever_else_it_stands() {
    let bench = Bench::new(K1);
    assert!(bench.bearer(K1).is_ok());
    for more in
        [r#","attested_client":"true""#, r#","enabled":"no""#, r#","expires_at":"2020-01-01""#]
    {
        bench.write(&one(K1, more));
        assert_eq!(bench.bearer(K1), Err(KeyError::Invalid), "{more}");
    }
}

/// Requests wait for the file, and for each other: what is put in its place must not keep them for ever.
#[test]
fn a_pipe_in_the_files_place_keeps_nobody_waiting() {
    let bench = Bench::new("e1");
    let path = bench.folder.path().join("keys.json");
    let fifo = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
    let (sender, answer) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(bench.bearer("e1")));
    let answer = answer.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    assert_eq!(answer.unwrap(), "env_key_0");
}

#[test]
fn case_23_to_26_a_broken_file_changes_nothing_and_a_deleted_one_revokes() {
    let bench = Bench::new("");
    bench.write(&one(K1, ""));
    assert!(bench.bearer(K1).is_ok());
    for broken in ["{", "[]", r#"{"keys":[null]}"#, r#"{"keys":7}"#] {
        bench.write(broken);
        assert!(bench.bearer(K1).is_ok(), "{broken}");
    }
    bench.write(&one(K1, r#","enabled":false"#));
    let file = std::fs::File::open(bench.folder.path().join("keys.json")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(bench.bearer(K1), Err(KeyError::Invalid), "an older time counts as well");
    bench.write(&one(K1, ""));
    assert!(bench.bearer(K1).is_ok());
    std::fs::remove_file(bench.folder.path().join("keys.json")).unwrap();
    assert_eq!(bench.bearer(K1), Err(KeyError::Invalid));
}
