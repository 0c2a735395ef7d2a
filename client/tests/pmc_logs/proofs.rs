//! `pmc logs verify --proof`.

use std::fs;

use attestation::log_record::Event;

use crate::desk::Desk;
use crate::testing::{Author, Group};

#[tokio::test]
async fn a_saved_proof_shows_what_nothing_in_the_log_shows() {
    let desk = Desk::new();
    let log = desk.path("log");
    fs::create_dir(&log).unwrap();
    let save = |name: &str, author: &Author, group: &Group| {
        fs::write(desk.path(name), author.proof(group).to_json()).unwrap();
    };
    let (first, mut second) = (desk.boot(1), Author::new(2, &desk.reader));
    second.start(&desk.group);
    second.segment(&[&["one"]]);
    save("first", &first, &desk.group);
    save("second", &second, &desk.group);
    save("strangers", &second, &Group::new("package evil"));
    second.add(Event::Stop, None, None);
    first.write_to(&log);
    second.write_to(&log);

    let (first, second) = (desk.text("first"), desk.text("second"));
    let both = ["--proof", &first, "--proof", &second];
    let verify = async |more: &[&str]| desk.pmc("verify", &desk.text("log"), more).await;
    verify(&both).await.is(0, "is the one that the saved proof");

    // A whole boot, to which nothing points.
    for file in fs::read_dir(&log).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("0202") {
            fs::remove_file(path).unwrap();
        }
    }
    verify(&[]).await.is(0, "nothing is wrong");
    verify(&["--proof", &first]).await.is(0, "nothing is wrong");
    verify(&both).await.is(1, "was taken away");
    verify(&[&both[..], &["--json"]].concat()).await.is(1, "\"proof-boot-missing\"");

    verify(&["--proof", &desk.text("strangers")]).await.is(1, "the saved proof is refused");
    verify(&["--proof", &desk.text("policy.json")]).await.is(2, "not a saved proof");
    verify(&["--proof", &first, "--boot", "01"]).await.is(2, "cannot be used with");
}
