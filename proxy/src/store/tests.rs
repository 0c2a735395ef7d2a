//! The database: what is encrypted, refused, kept and replaced.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;

const NOW: u64 = 1_800_000_000;

/// Stands in the database, and must stand in no file.
const CANARY: &str = "canary-of-the-stored-state";

async fn open(path: &Path) -> Result<Store, StoreError> {
    Store::open(path.to_owned(), KeySource::File, NOW).await
}

async fn put(store: &Store, day: i64) {
    let put = move |connection: &mut Connection| {
        let values = (day, CANARY, CANARY, CANARY);
        connection.execute(
            "INSERT INTO usage VALUES (?1, ?2, ?3, ?4, 1, 2, 3, 4, 5, 6, 7, 8, 9)",
            values,
        )?;
        Ok::<_, StoreError>(())
    };
    store.run(put).await.unwrap();
}

async fn count(store: &Store) -> i64 {
    let count = |connection: &mut Connection| {
        Ok::<_, StoreError>(
            connection.query_row("SELECT count(*) FROM usage", [], |row| row.get(0))?,
        )
    };
    store.read(count).await.unwrap()
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let file = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test]
async fn nothing_that_is_stored_stands_in_a_file_and_all_files_are_for_one_user() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.db");
    let store = open(&path).await.unwrap();
    for day in 0..200 {
        put(&store, day).await;
    }
    let names: Vec<String> = files(folder.path()).into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"proxy.db-wal".to_owned()), "{names:?}");
    for _ in 0..2 {
        for (name, content) in files(folder.path()) {
            assert!(!holds(&content, CANARY.as_bytes()), "{name}");
            assert!(!holds(&content, b"SQLite format 3"), "{name}");
            assert!(!holds(&content, b"CREATE TABLE"), "{name}");
            let mode = std::fs::metadata(folder.path().join(&name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name}");
        }
        store.close().await;
    }
    let again = open(&path).await.unwrap();
    assert_eq!(count(&again).await, 200);
    assert_eq!(again.epoch, Epoch(2), "the second start");
}

/// Every position is in some page, and every page is authenticated before anything is served.
#[tokio::test]
async fn altered_bytes_are_refused_and_the_file_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.db");
    let store = open(&path).await.unwrap();
    for day in 0..300 {
        put(&store, day).await;
    }
    store.close().await;
    let good = std::fs::read(&path).unwrap();
    assert!(good.len() > 10 * 4096);
    let sampled = (0..24).map(|n| n * (good.len() - 1) / 23);
    for at in sampled.chain([0, 15, 16, 4000, 4095, 4096, 8191]) {
        let mut altered = good.clone();
        altered[at] ^= 0x40;
        std::fs::write(&path, &altered).unwrap();
        let refused = open(&path).await.err().unwrap_or_else(|| panic!("byte {at} is taken"));
        let expected = matches!(refused, StoreError::Foreign(_) | StoreError::Altered(..));
        assert!(expected, "{at}: {refused}");
        assert!(std::fs::read(&path).unwrap() == altered, "{at}: the file was changed");
    }
    for length in [1, 4095, 4096, good.len() - 1, good.len() - 4096] {
        std::fs::write(&path, &good[..length]).unwrap();
        let refused = open(&path).await.err();
        assert!(refused.is_some(), "cut to {length} bytes");
        let visited = Store::visit(path.clone(), KeySource::File).await;
        assert!(
            length >= 4096 || visited.is_err(),
            "a command begins nothing anew in {length} bytes"
        );
        assert_eq!(std::fs::metadata(&path).unwrap().len(), length as u64);
    }
    std::fs::write(&path, &good).unwrap();
    assert_eq!(count(&open(&path).await.unwrap()).await, 300);
}

#[tokio::test]
async fn another_key_and_other_programs_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.db");
    let store = open(&path).await.unwrap();
    put(&store, 1).await;
    store.close().await;
    let key = folder.path().join("proxy.db.key");
    let own = std::fs::read(&key).unwrap();

    std::fs::write(&key, "ab".repeat(32)).unwrap();
    assert!(matches!(open(&path).await.err().unwrap(), StoreError::Foreign(_)));
    std::fs::write(&key, "no key").unwrap();
    assert!(matches!(open(&path).await.err().unwrap(), StoreError::File { .. }));
    std::fs::remove_file(&key).unwrap();
    let refused = open(&path).await.err().unwrap();
    assert!(refused.to_string().contains("has lost its key"), "{refused}");
    assert!(!key.exists(), "no other key is made for it");
    std::fs::write(&key, own).unwrap();
    assert_eq!(count(&open(&path).await.unwrap()).await, 1);

    let plain = folder.path().join("plain.db");
    let other = Connection::open(&plain).unwrap();
    other.execute_batch("CREATE TABLE t (x)").unwrap();
    drop(other);
    std::fs::copy(&key, folder.path().join("plain.db.key")).unwrap();
    assert!(matches!(open(&plain).await.err().unwrap(), StoreError::Foreign(_)));
}

#[tokio::test]
async fn a_newer_form_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.db");
    let store = open(&path).await.unwrap();
    let newer = |connection: &mut Connection| {
        Ok::<_, StoreError>(connection.pragma_update(None, "user_version", 1000)?)
    };
    store.run(newer).await.unwrap();
    store.close().await;
    assert!(matches!(open(&path).await.err().unwrap(), StoreError::Newer(1000)));
}

#[tokio::test]
async fn a_backup_is_consistent_encrypted_and_put_back_only_if_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.db");
    let to = folder.path().join("backup.db");
    let store = open(&path).await.unwrap();
    put(&store, 1).await;
    back_up(path.clone(), KeySource::File, to.clone()).await.unwrap();
    assert!(!holds(&std::fs::read(&to).unwrap(), CANARY.as_bytes()));
    assert!(back_up(path.clone(), KeySource::File, to.clone()).await.is_err(), "it is there");
    put(&store, 2).await;
    check(path.clone(), KeySource::File).await.unwrap();
    store.close().await;

    let good = std::fs::read(&to).unwrap();
    let mut altered = good.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    std::fs::write(&to, altered).unwrap();
    assert!(restore(path.clone(), KeySource::File, to.clone()).await.is_err());
    let still = open(&path).await.unwrap();
    assert_eq!(count(&still).await, 2, "a damaged backup replaces nothing");
    still.close().await;

    std::fs::write(&to, good).unwrap();
    restore(path.clone(), KeySource::File, to).await.unwrap();
    let restored = open(&path).await.unwrap();
    assert_eq!(count(&restored).await, 1);
    assert!(folder.path().join("proxy.db.replaced").exists());
}

#[tokio::test]
async fn a_full_queue_refuses_and_keeps_nobody_waiting() {
    let store = Store::in_memory(NOW).unwrap();
    let (sender, blocked) = std::sync::mpsc::channel::<()>();
    let blocker = tokio::spawn({
        let store = store.clone();
        async move {
            let wait = move |_: &mut Connection| {
                let _ = blocked.recv();
                Ok::<_, StoreError>(())
            };
            store.run(wait).await
        }
    });
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let store = store.clone();
        waiting.spawn(async move { store.run(|_| Ok::<_, StoreError>(())).await });
    }
    let mut busy = 0;
    while busy < 30 {
        let outcome = waiting.join_next().await.unwrap().unwrap();
        assert!(matches!(outcome, Err(StoreError::Busy)), "nothing else can have ended");
        busy += 1;
    }
    sender.send(()).unwrap();
    blocker.await.unwrap().unwrap();
}

/// Two that count on their own would spend a budget twice. The second waits for as long as the first may take to stop.
#[tokio::test(start_paused = true)]
async fn one_process_serves_from_a_database_and_the_next_one_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.db");
    let first = open(&path).await.unwrap();
    let refused = open(&path).await.err().unwrap();
    assert!(matches!(refused, StoreError::Served(_)), "{refused}");
    assert!(refused.to_string().contains("another process serves from"), "{refused}");

    tokio::time::resume();
    let next = tokio::spawn({
        let path = path.clone();
        async move { open(&path).await }
    });
    put(&first, 1).await;
    assert!(!next.is_finished());
    first.close().await;
    let next = next.await.unwrap().unwrap();
    assert_eq!((count(&next).await, next.epoch), (1, Epoch(2)), "a start that was refused is none");
    // Commands look into it meanwhile.
    Store::visit(path.clone(), KeySource::File).await.unwrap().close().await;
    let copy = folder.path().join("copy.db");
    back_up(path.clone(), KeySource::File, copy.clone()).await.unwrap();
    let refused = restore(path.clone(), KeySource::File, copy).await.err().unwrap();
    assert!(matches!(refused, StoreError::Served(_)), "{refused}");
    // One that ends without a word gives it back as well.
    drop(next);
    open(&path).await.unwrap().close().await;
}

struct Watcher {
    changes: Arc<AtomicUsize>,
    ticks: Arc<Mutex<usize>>,
}

impl Resident for Watcher {
    fn tick(&mut self, _: &mut Connection) -> bool {
        let mut ticks = self.ticks.lock().unwrap();
        *ticks += 1;
        *ticks > 3
    }

    fn changed(&mut self, _: &mut Connection) -> bool {
        // The first look fails.
        self.changes.fetch_add(1, Ordering::Relaxed) > 0
    }
}

#[tokio::test]
async fn residents_work_learn_of_others_changes_and_finish_before_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.db");
    let store = open(&path).await.unwrap();
    let (changes, ticks) = (Arc::default(), Arc::default());
    store
        .settle_in(Box::new(Watcher { changes: Arc::clone(&changes), ticks: Arc::clone(&ticks) }))
        .unwrap();
    put(&store, 1).await;
    let other = Store::visit(path.clone(), KeySource::File).await.unwrap();
    assert_eq!(other.epoch, Epoch(1), "a visit is no start");
    put(&other, 2).await;
    other.close().await;
    let begin = std::time::Instant::now();
    while changes.load(Ordering::Relaxed) < 2 {
        assert!(begin.elapsed() < std::time::Duration::from_secs(20));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    store.close().await;
    let looks = changes.load(Ordering::Relaxed);
    assert_eq!(looks, 2, "once more after a failure; its own changes are none of others");
    assert!(*ticks.lock().unwrap() > 3);
    assert!(matches!(store.run(|_| Ok::<_, StoreError>(())).await, Err(StoreError::Closed)));
}

/// A `skr-sidecar` that derives keys of versions, the newest of which changes.
#[derive(Clone, Default)]
struct Vault {
    newest: Arc<Mutex<&'static str>>,
    withdrawn: Arc<Mutex<Vec<&'static str>>>,
}

type Answer<T> = Result<tonic::Response<T>, tonic::Status>;

#[tonic::async_trait]
impl proto::skr::skr_server::Skr for Vault {
    async fn get_state_key(
        &self,
        request: tonic::Request<proto::skr::GetStateKeyRequest>,
    ) -> Answer<proto::skr::GetStateKeyReply> {
        let newest = *self.newest.lock().unwrap();
        let asked = request.into_inner().version;
        let version = if asked.is_empty() { newest.to_owned() } else { asked };
        if self.withdrawn.lock().unwrap().contains(&version.as_str()) {
            return Err(tonic::Status::failed_precondition("disabled"));
        }
        let key = attestation::crypto::sha256(version.as_bytes()).to_vec();
        Ok(tonic::Response::new(proto::skr::GetStateKeyReply { version, key }))
    }

    async fn get_secrets(
        &self,
        _: tonic::Request<proto::skr::GetSecretsRequest>,
    ) -> Answer<proto::skr::GetSecretsReply> {
        Err(tonic::Status::unimplemented("not here"))
    }

    async fn release_key(
        &self,
        _: tonic::Request<proto::skr::ReleaseKeyRequest>,
    ) -> Answer<proto::skr::ReleaseKeyReply> {
        Err(tonic::Status::unimplemented("not here"))
    }

    async fn get_owner_key(
        &self,
        _: tonic::Request<proto::skr::GetOwnerKeyRequest>,
    ) -> Answer<proto::skr::GetOwnerKeyReply> {
        Err(tonic::Status::unimplemented("not here"))
    }

    async fn sign_evidence(
        &self,
        _: tonic::Request<proto::skr::SignEvidenceRequest>,
    ) -> Answer<proto::skr::SignEvidenceReply> {
        Err(tonic::Status::unimplemented("not here"))
    }

    async fn hold_tls_key(
        &self,
        _: tonic::Request<proto::skr::HoldTlsKeyRequest>,
    ) -> Answer<proto::skr::HoldTlsKeyReply> {
        Err(tonic::Status::unimplemented("not here"))
    }

    async fn sign_tls(
        &self,
        _: tonic::Request<proto::skr::SignTlsRequest>,
    ) -> Answer<proto::skr::SignTlsReply> {
        Err(tonic::Status::unimplemented("not here"))
    }
}

/// The key is rotated; at whatever point the process was killed on the way, one good file is there.
#[tokio::test]
async fn a_newer_state_key_takes_over_and_the_old_one_is_needed_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.db");
    let address: service::listen::Local =
        format!("unix:{}/skr.sock", folder.path().display()).parse().unwrap();
    let vault = Vault::default();
    *vault.newest.lock().unwrap() = "v1";
    let listener = service::listen::Listener::bind(address.address()).await.unwrap();
    let shutdown = service::Shutdown::default();
    let server = proto::skr::skr_server::SkrServer::new(vault.clone());
    let router = service::grpc::server().add_service(server);
    let until = shutdown.clone();
    tokio::spawn(async move { service::grpc::serve(router, listener, &until).await });
    let open = async || Store::open(path.clone(), KeySource::Released(address.clone()), NOW).await;
    let note = folder.path().join("proxy.db.kid");

    let store = open().await.unwrap();
    put(&store, 1).await;
    store.close().await;
    assert_eq!(std::fs::read_to_string(&note).unwrap(), "v1");
    let under_v1 = std::fs::read(&path).unwrap();

    *vault.newest.lock().unwrap() = "v2";
    // A process that was killed while it wrote the new file left a part of it.
    std::fs::write(folder.path().join("proxy.db.rekeyed"), &under_v1[..5000]).unwrap();
    let store = open().await.unwrap();
    assert_eq!(count(&store).await, 1);
    assert_eq!(store.epoch, Epoch(2), "the new file goes on where the old one was");
    put(&store, 2).await;
    store.close().await;
    assert_eq!(std::fs::read_to_string(&note).unwrap(), "v2");
    assert!(!folder.path().join("proxy.db.rekeyed").exists());

    // One that was killed before it wrote the note down.
    std::fs::write(&note, "v1").unwrap();
    let store = open().await.unwrap();
    assert_eq!(count(&store).await, 2);
    store.close().await;

    vault.withdrawn.lock().unwrap().push("v1");
    std::fs::write(&note, "v1").unwrap();
    open().await.unwrap().close().await;
    // Whoever owns the disk puts the file of before the rotation back: the vault does not release its key any more.
    std::fs::write(&path, &under_v1).unwrap();
    std::fs::write(&note, "v1").unwrap();
    assert!(matches!(open().await.err().unwrap(), StoreError::Foreign(_)));
    std::fs::write(&note, "\0 no version").unwrap();
    assert!(matches!(open().await.err().unwrap(), StoreError::Foreign(_)));
    shutdown.fire();
}
