//! Whoever follows a log is told when what was shown is taken away.

use std::fs;

use crate::desk::Desk;
use crate::testing::Author;

/// The first records of a boot as files, after which it is followed and `change` is done to it.
async fn as_files(change: impl FnOnce(&Desk, &Author)) -> (i32, String) {
    let desk = Desk::new();
    let log = desk.path("log");
    fs::create_dir(&log).unwrap();
    let mut author = desk.boot(1);
    let last = author.pieces.pop().unwrap();
    author.write_to(&log);
    author.pieces.push(last);
    let mut following = desk.follow(&desk.text("log"), &[""; 0]);
    following.until_shown("six").await;
    change(&desk, &author);
    let outcome = following.end().await;
    (outcome.status, outcome.text)
}

fn record(desk: &Desk, author: &Author, seq: u64) -> std::path::PathBuf {
    desk.path("log").join(format!("{}-{seq:08}.jws", author.boot))
}

#[tokio::test]
async fn a_file_that_was_shown_and_is_deleted() {
    let (status, text) =
        as_files(|desk, author| fs::remove_file(record(desk, author, 2)).unwrap()).await;
    assert!(status == 1 && text.contains("taken away while it was followed"), "{text}");

    // As many files as before: one was deleted, and the log went on.
    let (status, text) = as_files(|desk, author| {
        let new = desk.path("new");
        fs::write(&new, author.pieces[4].record.as_ref().unwrap()).unwrap();
        fs::remove_file(record(desk, author, 2)).unwrap();
        fs::rename(new, record(desk, author, 4)).unwrap();
    })
    .await;
    assert!(status == 1 && text.contains("taken away while it was followed"), "{text}");

    let (status, text) =
        as_files(|desk, _| fs::rename(desk.path("log"), desk.path("gone")).unwrap()).await;
    assert!(status == 1 && text.contains("taken away while it was followed"), "{text}");
}

#[tokio::test]
async fn output_that_was_shown_and_is_cut_or_replaced() {
    for is_cut in [true, false] {
        let desk = Desk::new();
        let lines = desk.boot(1).lines();
        let text = lines[..4].join("\n") + "\n";
        fs::write(desk.path("log"), &text).unwrap();
        let mut following = desk.follow(&desk.text("log"), &[""; 0]);
        following.until_shown("six").await;
        if is_cut {
            let file = fs::OpenOptions::new().write(true).open(desk.path("log")).unwrap();
            file.set_len(u64::try_from(text.len() / 2).unwrap()).unwrap();
        } else {
            fs::write(desk.path("new"), &text).unwrap();
            fs::rename(desk.path("new"), desk.path("log")).unwrap();
        }
        let outcome = following.end().await;
        outcome.is(1, "taken away while it was followed");
        outcome.is(1, "was replaced while it was read");
        outcome.is(1, "6 log records in 3 segments");
    }
}

#[tokio::test]
async fn a_log_that_only_grows_is_followed_to_its_end() {
    let desk = Desk::new();
    let lines = desk.boot(1).lines();
    fs::write(desk.path("log"), lines[..2].join("\n") + "\n").unwrap();
    let mut following = desk.follow(&desk.text("log"), &["--until-stop"]);
    following.until_shown("two").await;
    let mut file = fs::OpenOptions::new().append(true).open(desk.path("log")).unwrap();
    std::io::Write::write_all(&mut file, (lines[2..].join("\n") + "\n").as_bytes()).unwrap();
    following.until_shown("six").await;
    following.end().await.is(0, "nothing is wrong");
}

#[tokio::test]
async fn whoever_interrupts_it_hears_what_was_found() {
    let desk = Desk::new();
    fs::write(desk.path("log"), desk.boot(1).lines().join("\n") + "\n").unwrap();
    let mut following = desk.follow(&desk.text("log"), &[""; 0]);
    following.until_shown("six").await;
    following.interrupt();
    following.end().await.is(0, "nothing is wrong");
}
