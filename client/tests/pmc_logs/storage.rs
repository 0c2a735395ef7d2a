//! Logs in a container: how they are found and read, what is refused, and that no credential is ever shown.

use sim::faults::BlobReadFault;
use tokio::net::TcpListener;

use crate::account::{Account, token_file};
use crate::desk::{Desk, Outcome};

const LONG: &str = "2999-01-01T00:00:00Z";

/// An account with the whole log of one boot, and its reader.
struct Case {
    desk: Desk,
    account: Account,
    blob: String,
    token: String,
}

impl Case {
    async fn new() -> Self {
        let (desk, account) = (Desk::new(), Account::start(5000).await);
        let author = desk.boot(1);
        let blob = account.put("", &author, &author.lines()).await;
        let token = token_file(&desk, "token", &account.token("group"));
        Self { desk, account, blob, token }
    }

    async fn verify(&self, url: &str, more: &[&str]) -> Outcome {
        let outcome = self.desk.pmc("verify", url, &self.account.words(more)).await;
        self.keeps_secrets(&outcome, url);
        outcome
    }

    async fn by_token(&self) -> Outcome {
        self.verify(&self.account.container(), &["--azure-token", &self.token]).await
    }

    fn follow(&self) -> crate::desk::Following {
        let words = self.account.words(&["--azure-token", &self.token]);
        self.desk.follow(&self.account.container(), &words)
    }

    #[track_caller]
    fn keeps_secrets(&self, outcome: &Outcome, url: &str) {
        let printed = std::fs::read_to_string(&self.token).unwrap();
        let token = printed.split('"').nth(3).unwrap();
        assert!(!outcome.text.contains(token), "{outcome:?}");
        if let Some((_, signature)) = url.split_once("sig=") {
            let plain = signature.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
            for secret in [signature, &plain] {
                assert!(!outcome.text.contains(secret), "{outcome:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_log_of_many_pages_is_read_by_a_token_and_by_a_signature() {
    let (desk, account) = (Desk::new(), Account::start(2).await);
    let boots: Vec<_> = (1..=5).map(|boot| desk.boot(boot)).collect();
    for boot in &boots {
        account.put("", boot, &boot.lines()).await;
        account.put("of/last-year/", boot, &boot.lines()[..3]).await;
    }
    // A boot whose first blob was full, and what is of no log.
    let rest = format!("{}-2.jsonl", boots[4].boot);
    account.create(&rest).await;
    account.append(&rest, &(boots[4].lines()[3..].join("\n") + "\n")).await;
    for other in ["notes.jsonl", "0a.txt", "zz%26%3C.jsonl"] {
        account.create(other).await;
        account.append(other, "{\"record\":\"not of a log\"}\n").await;
    }

    let token = token_file(&desk, "token", &account.token("group"));
    let by_token = account.words(&["--azure-token", &token]);
    let outcome = desk.pmc("verify", &account.container(), &by_token).await;
    outcome.is(0, "5 boots: nothing is wrong");
    outcome.is(0, &account.container());
    let signed = account.signed("rl", LONG);
    desk.pmc("verify", &signed, &account.words(&[])).await.is(0, "5 boots: nothing is wrong");
    let outcome = desk.pmc("open", &signed, &account.words(&[])).await;
    assert_eq!(outcome.text.lines().filter(|line| line.ends_with(" six")).count(), 5);

    // Some boots, and a folder of the container.
    let one = account.words(&["--azure-token", &token, "--boot", "0303"]);
    desk.pmc("verify", &account.container(), &one).await.is(0, "1 boots: nothing is wrong");
    let none = account.words(&["--azure-token", &token, "--boot", "99"]);
    desk.pmc("verify", &account.container(), &none).await.is(2, "");
    let folder = format!("{}/of/last-year", account.container());
    let outcome = desk.pmc("verify", &folder, &by_token).await;
    outcome.is(1, "5 boots: SOMETHING IS WRONG");
    outcome.is(1, &format!("{folder}\n"));
    let folder = format!("{}/of", account.container());
    desk.pmc("verify", &folder, &by_token).await.is(2, "holds no sealed log");
}

#[tokio::test]
async fn whoever_may_not_read_is_told_so() {
    let case = Case::new().await;
    case.by_token().await.is(0, "nothing is wrong");
    for (permissions, expiry, code) in [
        ("r", LONG, "AuthorizationPermissionMismatch"),
        ("l", LONG, "AuthorizationPermissionMismatch"),
        ("rl", "2020-01-01T00:00:00Z", "AuthenticationFailed"),
    ] {
        let outcome = case.verify(&case.account.signed(permissions, expiry), &[]).await;
        outcome.is(2, "403 Forbidden");
        outcome.is(2, code);
    }
    let stranger = token_file(&case.desk, "stranger", &case.account.token("nobody"));
    let container = case.account.container();
    case.verify(&container, &["--azure-token", &stranger]).await.is(2, "403 Forbidden");
    let junk = token_file(&case.desk, "junk", "a.b.c");
    case.verify(&container, &["--azure-token", &junk]).await.is(2, "InvalidAuthenticationInfo");
    let other = container.replace("/logs", "/other");
    case.verify(&other, &["--azure-token", &case.token]).await.is(2, "ContainerNotFound");
}

#[tokio::test]
async fn a_credential_goes_to_nobody_whom_the_reader_did_not_mean() {
    let case = Case::new().await;
    // Somebody who would be glad of it.
    let thief = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = thief.local_addr().unwrap().to_string();
    let signed = case.account.signed("rl", LONG);

    // Another host than the named one, and no named one.
    let stranger = signed.replace(&case.account.host(), &host);
    case.verify(&stranger, &[]).await.is(2, "no storage account of Azure");
    let bare = case.desk.pmc("verify", &stranger, &[""; 0]).await;
    bare.is(2, "no storage account of Azure");
    case.keeps_secrets(&bare, &stranger);
    let clear = case.desk.pmc("verify", "http://a.example/logs?sig=s3cret", &[""; 0]).await;
    assert!(clear.status == 2 && !clear.text.contains("s3cret"), "{clear:?}");
    // The right host's name, and no certificate for it.
    let unknown = ["--storage-host", &case.account.host()];
    let outcome = case.desk.pmc("verify", &signed, &unknown).await;
    outcome.is(2, "cannot be reached");
    case.keeps_secrets(&outcome, &signed);

    // A redirect, of the list and of a blob.
    let location = format!("http://{host}/logs");
    let redirect = BlobReadFault::Redirect { location };
    case.account.reads().until_cleared(redirect);
    case.by_token().await.is(2, "307 Temporary Redirect");
    case.verify(&signed, &[]).await.is(2, "307 Temporary Redirect");

    // An account that says everything again that it was told.
    case.account.reads().until_cleared(BlobReadFault::Echo);
    case.verify(&signed, &[]).await.is(2, "403 Forbidden, no known error code");
    let asked = tokio::time::timeout(std::time::Duration::ZERO, thief.accept()).await;
    assert!(asked.is_err(), "nobody called the thief");
}

#[tokio::test]
async fn what_an_account_may_do_to_a_reader_has_an_end() {
    let case = Case::new().await;
    let reads = case.account.reads();
    for (fault, words) in [
        (BlobReadFault::EntityBomb, "it is not plain XML"),
        (BlobReadFault::EndlessList, "lists more than 1000 blobs or pages"),
        (BlobReadFault::ContainerNotFound, "404 Not Found, ContainerNotFound"),
        (BlobReadFault::Forbidden, "403 Forbidden, AuthorizationPermissionMismatch"),
        (BlobReadFault::ServerBusy { retry_after: 3600 }, "503 Service Unavailable, ServerBusy"),
    ] {
        reads.until_cleared(fault);
        case.by_token().await.is(2, words);
    }
    // The list is good, and then the blob is not what was asked for.
    let schedule = serde_json::json!([
        {"fault": {"kind": "server-busy", "retry_after": 1}, "times": 2},
        {"fault": {"kind": "whole-blob"}, "times": 2},
    ]);
    reads.replace(serde_json::from_value(schedule).unwrap());
    case.by_token().await.is(2, "did not send the bytes");
    // An account that is busy for a moment.
    reads.next_calls(BlobReadFault::ServerBusy { retry_after: 1 }, 2.try_into().unwrap());
    case.by_token().await.is(0, "nothing is wrong");
    assert!(case.account.reads().scheduled().is_empty());
}

#[tokio::test]
async fn a_blob_that_grows_is_followed_past_what_may_pass() {
    let case = Case::new().await;
    let author = case.desk.boot(2);
    let lines = author.lines();
    let blob = case.account.put("", &author, &lines[..2]).await;
    let words = case.account.words(&["--azure-token", &case.token, "--until-stop"]);
    let mut following = case.desk.follow(&case.account.container(), &words);
    following.until_shown("two").await;

    // While the account refuses, nothing was taken away.
    case.account.reads().until_cleared(BlobReadFault::Forbidden);
    following.until_said("AuthorizationPermissionMismatch").await;
    case.account.append(&blob, &lines[2][..40]).await;
    case.account.reads().clear();
    let rest = format!("{}\n{}\n", &lines[2][40..], lines[3..].join("\n"));
    case.account.append(&blob, &rest).await;
    following.until_shown("six").await;
    let outcome = following.end().await;
    outcome.is(0, "2 boots: nothing is wrong");
    case.keeps_secrets(&outcome, "");
}

#[tokio::test]
async fn a_blob_that_was_shown_and_is_taken_away() {
    // Deleted.
    let case = Case::new().await;
    let mut following = case.follow();
    following.until_shown("six").await;
    case.account.delete(&case.blob).await;
    let outcome = following.end().await;
    outcome.is(1, "taken away while it was followed");
    outcome.is(1, &format!("blob {} is gone", case.blob));
    outcome.is(1, "6 log records in 3 segments");

    // Shorter, and longer: another blob under the same name.
    for lines in [2, 5] {
        let case = Case::new().await;
        let mut following = case.follow();
        following.until_shown("six").await;
        let author = case.desk.boot(1);
        case.account.put("", &author, &author.lines()[..lines]).await;
        let outcome = following.end().await;
        outcome.is(1, "taken away while it was followed");
    }

    // The container.
    let mut following = case.follow();
    case.account.put("", &case.desk.boot(1), &case.desk.boot(1).lines()).await;
    following.until_shown("six").await;
    case.account.reads().until_cleared(BlobReadFault::ContainerNotFound);
    following.end().await.is(1, "taken away while it was followed");
}

#[tokio::test]
async fn whoever_stops_while_the_account_is_away_has_not_read_the_end() {
    let case = Case::new().await;
    let mut following = case.follow();
    following.until_shown("six").await;
    case.account.reads().until_cleared(BlobReadFault::Forbidden);
    following.until_said("403 Forbidden").await;
    following.interrupt();
    following.end().await.is(2, "the end was not read");
}
