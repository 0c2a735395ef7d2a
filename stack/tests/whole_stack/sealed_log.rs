//! What the roles log comes out at the reader, verified, and nowhere else.

use crate::support::{Running, pmc, start, text};

/// Words of `pmc logs open` for this group's log.
fn open(running: &Running, identity: &str) -> Vec<String> {
    let log = running.stack.group.places().sealed_logs().display().to_string();
    let mut words = vec!["logs".to_owned(), "open".to_owned(), log];
    words.extend(["--identity".to_owned(), identity.to_owned()]);
    words.extend(running.trusting());
    words
}

#[tokio::test]
async fn every_role_logs_into_it_and_its_reader_sees_who_sealed_it() {
    let running = start().await;
    let identity = running.path("reader.txt");
    let words = open(&running, &identity);
    let elsewhere = {
        let mut words = words.clone();
        let anchors = words.iter().position(|word| word == "--danger-anchors").unwrap();
        words.drain(anchors..anchors + 2);
        words
    };
    let stranger = running.folder.path().join("stranger.txt");
    let secret = age::x25519::Identity::generate().to_string();
    std::fs::write(&stranger, age::secrecy::ExposeSecret::expose_secret(&secret)).unwrap();
    let as_stranger = open(&running, &stranger.display().to_string());

    let Running { stack, folder, .. } = running;
    assert!(stack.stop().await.is_empty());

    let opened = pmc(&words).await;
    let shown = text(&opened);
    assert_eq!(opened.status.code(), Some(0), "{shown}");
    for role in stack::RoleName::ALL {
        assert!(shown.contains(role.name()), "{role} is missing in {shown}");
    }
    assert!(shown.contains("anchors: NOT PRODUCTION"), "{shown}");

    let production = pmc(&elsewhere).await;
    assert_eq!(production.status.code(), Some(1), "{}", text(&production));
    let refused = pmc(&as_stranger).await;
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(!text(&refused).contains("listening"), "a stranger sees no record");
    drop(folder);
}
