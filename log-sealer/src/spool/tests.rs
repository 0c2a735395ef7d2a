//! The spool as its users see it, and the folder as its owner, the host, can make it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use attestation::crypto::sha256;
use tempfile::TempDir;
use tokio::time::timeout;

use super::item::tests::sealed;
use super::*;

/// What waits for ever does not do so for this long.
const AT_ONCE: Duration = Duration::from_millis(250);

const LIMIT: u64 = 4 << 20;

async fn open(folder: Option<&TempDir>, sinks: &[&str]) -> Spool {
    let folder = folder.map(|folder| folder.path().to_owned());
    let keys = sinks.iter().map(ToString::to_string).collect();
    Spool::open(Settings { folder, bytes: LIMIT }, keys).await.unwrap()
}

async fn put(spool: &Spool, boot: u8, seq: u64, segment: Option<&[u8]>) -> [u8; 32] {
    let sealed = Arc::new(sealed(boot, seq, segment));
    let digest = sha256(sealed.record.as_bytes());
    spool.put(&sealed, digest).await.unwrap();
    digest
}

/// Boots and numbers of what a sink gets, one by one, until nothing is there.
async fn take(spool: &Spool, sink: usize) -> Vec<(u8, u64)> {
    let mut taken = Vec::new();
    while let Ok(portion) = timeout(AT_ONCE, spool.portion(sink, 0)).await {
        let portion = portion.unwrap();
        spool.passed(sink, portion.end).await;
        taken.extend(
            portion
                .items
                .iter()
                .map(|item| (u8::from_str_radix(&item.boot[..2], 16).unwrap(), item.seq)),
        );
    }
    taken
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn items(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| name.ends_with(".sealed")).collect()
}

#[tokio::test]
async fn every_sink_has_its_own_pace_and_what_all_have_goes() {
    let folder = tempfile::tempdir().unwrap();
    for spool in [open(None, &["a", "b"]).await, open(Some(&folder), &["a", "b"]).await] {
        for seq in 0..5 {
            put(&spool, 1, seq, Some(b"age")).await;
        }
        assert_eq!(take(&spool, 0).await, [0, 1, 2, 3, 4].map(|seq| (1, seq)));
        assert_eq!(spool.waiting(), 5, "the other one has nothing yet");
        assert!(timeout(AT_ONCE, spool.drained()).await.is_err());
        assert_eq!(take(&spool, 1).await.len(), 5);
        spool.drained().await;
        assert_eq!(spool.waiting(), 0);
    }
    assert_eq!(items(folder.path()).len(), 1, "the newest stays");
}

#[tokio::test]
async fn a_portion_is_of_one_boot_and_has_a_bound() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(Some(&folder), &["a"]).await;
    for (boot, seq) in [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)] {
        put(&spool, boot, seq, Some(&[7; 1000])).await;
    }
    let seqs = |portion: &Portion| portion.items.iter().map(|item| item.seq).collect::<Vec<_>>();
    let portion = spool.portion(0, 12_000).await.unwrap();
    assert_eq!(seqs(&portion), [0, 1]);
    let portion = spool.portion(0, 1 << 20).await.unwrap();
    assert_eq!(seqs(&portion), [0, 1, 2]);
    spool.passed(0, portion.end).await;
    assert_eq!(seqs(&spool.portion(0, 1 << 20).await.unwrap()), [0, 1]);
}

#[tokio::test]
async fn what_waits_outlives_the_process_and_the_next_boot_comes_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(Some(&folder), &["a", "b"]).await;
    assert_eq!(spool.previous(), None);
    for seq in 0..3 {
        put(&spool, 1, seq, Some(b"age")).await;
    }
    let portion = spool.portion(0, 0).await.unwrap();
    spool.passed(0, portion.end).await;
    let digest = put(&spool, 1, 3, None).await;
    drop(spool);

    let spool = open(Some(&folder), &["a", "b", "new"]).await;
    let previous = spool.previous().unwrap();
    assert_eq!((previous.boot.as_str(), previous.seq), (&*"01".repeat(16), 3));
    assert_eq!(previous.digest, digest);
    put(&spool, 2, 0, None).await;
    let all = [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0)];
    assert_eq!(take(&spool, 0).await, all[1..]);
    assert_eq!(take(&spool, 1).await, all);
    assert_eq!(take(&spool, 2).await, all, "as the one that is furthest behind");
    drop(spool);

    let spool = open(Some(&folder), &["new"]).await;
    assert_eq!(spool.previous().unwrap().boot, "02".repeat(16));
    assert!(take(&spool, 0).await.is_empty(), "the newest is still there, and delivered");
    assert!(!names(folder.path()).contains("a.cursor"), "nobody's any more");
}

#[tokio::test]
async fn the_head_is_what_a_crash_does_not_lose() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(Some(&folder), &["a"]).await;
    let digest = put(&spool, 1, 0, None).await;
    assert_eq!(*spool.head().borrow(), Some(Head { seq: 0, digest }));

    let spool = open(None, &["a", "b"]).await;
    let digest = put(&spool, 1, 0, None).await;
    assert_eq!(*spool.head().borrow(), None, "in memory only");
    assert_eq!(take(&spool, 1).await, [(1, 0)]);
    assert_eq!(*spool.head().borrow(), Some(Head { seq: 0, digest }));
}

#[tokio::test]
async fn a_full_spool_has_room_again_when_something_left_it() {
    let folder = tempfile::tempdir().unwrap();
    for spool in [open(None, &["a"]).await, open(Some(&folder), &["a"]).await] {
        let segment = vec![7; 1 << 20];
        let mut seq = 0;
        while spool.fits(segment.len()) {
            put(&spool, 1, seq, Some(&segment)).await;
            seq += 1;
        }
        assert_eq!(seq, 2, "what segments leave is for records");
        assert!(timeout(AT_ONCE, spool.room(segment.len())).await.is_err());
        put(&spool, 1, seq, None).await;
        let portion = spool.portion(0, 0).await.unwrap();
        spool.passed(0, portion.end).await;
        spool.room(segment.len()).await;
    }
}

#[tokio::test]
async fn a_folder_is_one_process_own() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path().to_owned()).unwrap();
    assert!(matches!(Disk::open(folder.path().to_owned()), Err(SpoolError::Taken)));
    drop(disk);
    Disk::open(folder.path().to_owned()).unwrap();
    let missing = folder.path().join("missing");
    assert!(matches!(Disk::open(missing.clone()), Err(SpoolError::Folder(_))));
    assert!(!missing.exists());
}

#[tokio::test]
async fn what_the_host_puts_there_is_passed_over_and_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(Some(&folder), &["a"]).await;
    for seq in 0..4 {
        put(&spool, 1, seq, Some(b"age")).await;
    }
    drop(spool);
    let path = |name: &str| folder.path().join(name);
    let item = |position: u64, seq: u64| Name { position, boot: [1; 16], seq }.to_string();
    let secret = path("outside");
    fs::write(&secret, "precious").unwrap();
    // one is gone, one was changed, one is a link, one stands there twice
    fs::remove_file(path(&item(0, 0))).unwrap();
    fs::write(path(&item(1, 1)), "a.b.c\nage").unwrap();
    fs::remove_file(path(&item(2, 2))).unwrap();
    symlink(&secret, path(&item(2, 2))).unwrap();
    fs::copy(path(&item(3, 3)), path(&item(3, 9))).unwrap();
    // a folder, an endless file, a pipe, a claim to every position there is, and what is nobody's
    fs::create_dir(path(&item(4, 4))).unwrap();
    fs::File::create(path(&item(5, 5))).unwrap().set_len(1 << 40).unwrap();
    let mode = rustix::fs::Mode::RUSR;
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, path(&item(6, 6)), fifo, mode, 0).unwrap();
    fs::write(path(&item(u64::MAX, 7)), "").unwrap();
    fs::write(path(&item(8, 8)), vec![b'x'; 2 << 20]).unwrap();
    fs::write(path("README"), "hello").unwrap();
    fs::write(path("a.cursor"), "99999999").unwrap();
    fs::write(path("b.cursor"), "-1\n").unwrap();
    symlink("/dev/zero", path("c.cursor")).unwrap();
    fs::write(path("a.cursor.partial"), "1").unwrap();

    let spool = open(Some(&folder), &["a", "b", "c"]).await;
    assert_eq!(spool.previous().unwrap().seq, 3, "the newest that can be read");
    put(&spool, 2, 0, Some(b"age")).await;
    for sink in 0..3 {
        assert_eq!(take(&spool, sink).await, [(1, 3), (2, 0)], "{sink}");
    }
    assert_eq!(fs::read(&secret).unwrap(), b"precious");
    assert_eq!(items(folder.path()).len(), 2, "{:?}", names(folder.path()));
    assert!(names(folder.path()).contains(&format!("{}.broken", item(1, 1))));

    // and while it runs: another valid item under the name of one that this process wrote
    put(&spool, 2, 1, Some(b"age")).await;
    put(&spool, 2, 2, Some(b"age")).await;
    let written = Name { position: 10, boot: [2; 16], seq: 1 }.to_string();
    let forged = item::parts(&sealed(2, 1, Some(b"forged"))).concat();
    assert!(path(&written).exists());
    fs::write(path(&written), forged).unwrap();
    assert_eq!(take(&spool, 0).await, [(2, 2)]);
}

#[tokio::test]
async fn a_planted_position_leaves_room_for_what_comes_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(Some(&folder), &["a"]).await;
    for seq in 0..3 {
        put(&spool, 1, seq, Some(b"age")).await;
    }
    assert_eq!(take(&spool, 0).await.len(), 3);
    put(&spool, 1, 3, None).await;
    drop(spool);
    for position in [u64::MAX / 2 - 1, u64::MAX / 4] {
        let planted = Name { position, boot: [9; 16], seq: 9 }.to_string();
        fs::write(folder.path().join(planted), item::parts(&sealed(9, 9, None)).concat()).unwrap();
        let spool = open(Some(&folder), &["a"]).await;
        put(&spool, 2, 0, None).await;
        drop(spool);
    }
    let spool = open(Some(&folder), &["a"]).await;
    assert_eq!(take(&spool, 0).await, [(1, 2), (1, 3), (9, 9), (2, 0), (9, 9), (2, 0)]);
}

#[tokio::test]
async fn a_boot_begins_within_the_bound_only() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(Some(&folder), &["a"]).await;
    let mut seq = 0;
    while spool.fits_beginning() {
        put(&spool, 1, seq, Some(&[7; 400_000])).await;
        seq += 1;
    }
    assert!(spool.state().bytes <= LIMIT);
    assert!(timeout(AT_ONCE, spool.room_for_beginning()).await.is_err());
    drop(spool);
    let spool = open(Some(&folder), &["a"]).await;
    assert!(!spool.fits_beginning(), "nor does the next");
    let portion = spool.portion(0, 0).await.unwrap();
    spool.passed(0, portion.end).await;
    spool.room_for_beginning().await;
}
