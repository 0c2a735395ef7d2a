//! Append blobs, in a simulated storage account.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::Command;

use attestation::log_record::Chain;
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use service::outbound::{Call, Limits, Outbound};
use service::roots::Roots;
use sim::faults::{BlobFault, IdentityFault, Scheduled};
use sim::world::{BlobServerConfig, GroupConfig, TLS_CA, World, WorldConfig};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::common::otlp::{long, say};
use crate::common::running::Running;
use crate::common::{Place, Sealer, eventually, head};

/// An account, and the metadata service of a group that may write there.
struct Account {
    world: World,
    folder: TempDir,
}

impl Account {
    async fn start(max_blocks: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = WorldConfig::empty(folder.path());
        config.state = Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/sim-state"));
        config.groups = vec![GroupConfig::new("group")];
        config.blob = Some(BlobServerConfig { max_blocks, ..BlobServerConfig::default() });
        Self { world: World::start(config).await.unwrap(), folder }
    }

    fn container(&self) -> String {
        format!("{}/logs", self.world.blob().unwrap().running.url)
    }

    fn roots(&self) -> PathBuf {
        self.folder.path().join(TLS_CA)
    }

    fn schedule(&self, faults: &[BlobFault]) {
        let once =
            |fault: &BlobFault| Scheduled { fault: fault.clone(), times: Some(NonZeroU32::MIN) };
        self.world.blob().unwrap().running.faults.replace(faults.iter().map(once).collect());
    }

    /// What a `log-sealer` that writes there is started with.
    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LOG_SEALER", "off".to_owned()),
            ("LOG_SEGMENT_BYTES", "4096".to_owned()),
            ("LOG_SINK", format!("blob:{}", self.container())),
            ("LOG_IDENTITY_ENDPOINT", self.world.groups()[0].imds_url()),
            ("SSL_CERT_FILE", self.roots().display().to_string()),
        ]
    }

    async fn sealer(&self) -> Sealer {
        let environment = self.environment();
        let changes: Vec<_> = environment.iter().map(|(name, value)| (*name, &**value)).collect();
        let sealer = Sealer::start_without_evidence(&changes).await;
        sealer.sidecar.give_evidence();
        sealer
    }

    /// A blob's text; `None` if there is none.
    async fn read(&self, name: &str) -> Option<String> {
        let url = format!("{}/{name}", self.container()).parse().unwrap();
        let token = self.world.storage_token("group").unwrap();
        let header = |value: &str| HeaderValue::from_str(value).unwrap();
        let call = Call::get(url)
            .header(http::header::AUTHORIZATION, header(&format!("Bearer {token}")))
            .header(HeaderName::from_static("x-ms-version"), header("2022-11-02"))
            .header(HeaderName::from_static("x-ms-date"), header("now"));
        let roots = Roots::from_file(&self.roots()).unwrap();
        let limits = Limits { answer: 64 << 20, ..Limits::default() };
        let answer = Outbound::new("the account", &roots, limits).once(&call).await.ok()?;
        Some(String::from_utf8(answer.body.to_vec()).unwrap())
    }

    /// Numbers of the records in all blobs of a boot, in order; panics at what is no chain.
    async fn numbers(&self, boot: &str) -> Vec<u64> {
        let mut text = self.read(&format!("{boot}.jsonl")).await.unwrap();
        for number in 2.. {
            let Some(more) = self.read(&format!("{boot}-{number}.jsonl")).await else { break };
            text.push_str(&more);
        }
        let mut chain: Option<Chain> = None;
        let mut numbers = Vec::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let compact = line["record"].as_str().unwrap();
            let record = match &mut chain {
                Some(chain) => chain.follow(compact).unwrap(),
                None => {
                    let (began, record, _) = Chain::begin(compact).unwrap();
                    chain = Some(began);
                    record
                }
            };
            numbers.push(record.seq);
        }
        numbers
    }

    fn appends(&self) -> u64 {
        self.world.blob().unwrap().appends.get()
    }
}

/// Says something and waits until it is in the account.
async fn say_and_wait(channel: &Channel, account: &Account, seq: u64) {
    say(channel, "a", [long(&seq.to_string())]).await;
    let boot = head(channel).await.unwrap().boot_id;
    let there = async || {
        account.read(&format!("{boot}.jsonl")).await?;
        account.numbers(&boot).await.contains(&seq).then_some(())
    };
    eventually(there).await;
}

#[tokio::test]
async fn every_record_is_there_once_whatever_went_wrong_on_the_way() {
    let account = Account::start(50_000).await;
    let identity = &account.world.groups()[0].imds_faults().identity;
    identity.once(IdentityFault::NotReady);
    let sealer = account.sealer().await;
    let boot = sealer.identity.boot_id.clone();
    say_and_wait(&sealer.channel, &account, 1).await;
    let faults = [
        BlobFault::LostAnswer,
        BlobFault::ServerBusy { retry_after: 1 },
        BlobFault::LostAnswer,
        BlobFault::ServerError,
        BlobFault::WrongPosition,
    ];
    for (fault, seq) in faults.into_iter().zip(2..) {
        account.schedule(&[fault]);
        say_and_wait(&sealer.channel, &account, seq).await;
    }
    sealer.stop().await;
    assert_eq!(account.numbers(&boot).await, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(account.appends() >= 7, "{}", account.appends());
}

/// Good: the next token is accepted. Bad: none is, and then nothing is tried a third time until a minute has passed.
#[tokio::test]
async fn a_token_that_is_not_accepted_is_replaced_once() {
    let account = Account::start(50_000).await;
    let identity = &account.world.groups()[0].imds_faults().identity;
    // made for somebody else: only another one gets anything into the account
    identity.once(IdentityFault::WrongAudience);
    let sealer = account.sealer().await;
    let boot = sealer.identity.boot_id.clone();
    say_and_wait(&sealer.channel, &account, 1).await;
    assert!(identity.scheduled().is_empty(), "the first token was the wrong one");

    let before = account.appends();
    account.schedule(&[BlobFault::Unauthorized]);
    say_and_wait(&sealer.channel, &account, 2).await;
    assert_eq!(account.appends(), before + 2);

    sealer.ready().await;
    account.schedule(&[BlobFault::Unauthorized, BlobFault::Unauthorized]);
    say(&sealer.channel, "a", [long("3")]).await;
    sealer.not_ready().await;
    assert_eq!(account.appends(), before + 4);
    assert_eq!(account.numbers(&boot).await, [0, 1, 2]);
}

#[tokio::test]
async fn a_full_blob_is_followed_by_another() {
    let account = Account::start(2).await;
    let sealer = account.sealer().await;
    let boot = sealer.identity.boot_id.clone();
    for seq in 1..=4 {
        say_and_wait(&sealer.channel, &account, seq).await;
    }
    sealer.stop().await;
    assert_eq!(account.numbers(&boot).await, [0, 1, 2, 3, 4, 5]);
    assert!(account.read(&format!("{boot}-2.jsonl")).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_begins_anew_goes_on_where_the_blob_ends() {
    let account = Account::start(50_000).await;
    let place = Place::new();
    let spool = place.spool();
    let mut environment = account.environment();
    environment.push(("LOG_SPOOL", spool.display().to_string()));
    let changes: Vec<_> = environment.iter().map(|(name, value)| (*name, &**value)).collect();
    let running = Running::start(&place, &changes).await;
    running.sidecar.give_evidence();
    let channel = place.channel();
    let began = async || head(&place.channel()).await.filter(|head| !head.digest.is_empty());
    let first = eventually(began).await.boot_id;
    say_and_wait(&channel, &account, 1).await;
    // the account cannot be written, and the process is killed
    account.world.blob().unwrap().running.faults.until_cleared(BlobFault::ServerError);
    say(&channel, "a", [long("2"), long("3")]).await;
    let sidecar = running.kill();
    // its cursor is lost as well: everything that is still there is offered again
    for entry in std::fs::read_dir(&spool).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "cursor") {
            std::fs::remove_file(path).unwrap();
        }
    }
    account.world.blob().unwrap().running.faults.clear();
    let program = Command::new(env!("CARGO_BIN_EXE_log-sealer"));
    let running = Running::start_by(program, &place, &changes, sidecar);
    let second = eventually(began).await.boot_id;
    let ended = running.terminate();
    assert!(ended.status.success(), "{:?}", ended.stderr);
    assert_eq!(account.numbers(&first).await, [0, 1, 2, 3]);
    assert_eq!(account.numbers(&second).await, [0, 1]);
}
