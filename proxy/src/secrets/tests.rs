//! Secrets from a `skr-sidecar` that says, question by question, what the real one may say.

use std::collections::VecDeque;
use std::sync::Mutex;

use proto::skr::skr_server::{Skr, SkrServer};
use proto::skr::{
    GetOwnerKeyReply, GetOwnerKeyRequest, HoldTlsKeyReply, HoldTlsKeyRequest, ReleaseKeyReply,
    ReleaseKeyRequest, SignEvidenceReply, SignEvidenceRequest, SignTlsReply, SignTlsRequest,
};
use service::env::Environment;
use service::listen::Listener;
use tokio::sync::mpsc;
use tonic::{Request, Response};

use super::*;

type Answer<T> = Result<Response<T>, Status>;

/// Says one thing after the other; the last one for ever.
#[derive(Clone)]
struct Fake {
    script: Arc<Mutex<VecDeque<Result<GetSecretsReply, Status>>>>,
    asked: mpsc::UnboundedSender<Vec<String>>,
}

#[tonic::async_trait]
impl Skr for Fake {
    async fn get_secrets(&self, asked: Request<GetSecretsRequest>) -> Answer<GetSecretsReply> {
        let names = asked.into_inner().names;
        let mut script = self.script.lock().unwrap();
        let next = if script.len() > 1 { script.pop_front() } else { script.front().cloned() };
        let mut reply = next.unwrap()?;
        reply.values.retain(|name, _| names.contains(name));
        let _ = self.asked.send(names);
        Ok(Response::new(reply))
    }

    async fn release_key(&self, _: Request<ReleaseKeyRequest>) -> Answer<ReleaseKeyReply> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_owner_key(&self, _: Request<GetOwnerKeyRequest>) -> Answer<GetOwnerKeyReply> {
        Err(Status::unimplemented("not here"))
    }

    async fn sign_evidence(&self, _: Request<SignEvidenceRequest>) -> Answer<SignEvidenceReply> {
        Err(Status::unimplemented("not here"))
    }

    async fn hold_tls_key(&self, _: Request<HoldTlsKeyRequest>) -> Answer<HoldTlsKeyReply> {
        Err(Status::unimplemented("not here"))
    }

    async fn sign_tls(&self, _: Request<SignTlsRequest>) -> Answer<SignTlsReply> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_state_key(
        &self,
        _: Request<proto::skr::GetStateKeyRequest>,
    ) -> Answer<proto::skr::GetStateKeyReply> {
        Err(Status::unimplemented("not here"))
    }
}

/// A running fake, and what it was asked.
struct Bench {
    sealed: Sealed,
    asked: mpsc::UnboundedReceiver<Vec<String>>,
    shutdown: Shutdown,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new(script: impl IntoIterator<Item = Result<GetSecretsReply, Status>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address: Local = format!("unix:{}/skr.sock", folder.path().display()).parse().unwrap();
        let (sender, asked) = mpsc::unbounded_channel();
        let script = Arc::new(Mutex::new(script.into_iter().collect()));
        let fake = SkrServer::new(Fake { script, asked: sender });
        let listener = Listener::bind(address.address()).await.unwrap();
        let shutdown = Shutdown::default();
        let router = service::grpc::server().add_service(fake);
        let until = shutdown.clone();
        tokio::spawn(async move { service::grpc::serve(router, listener, &until).await });
        Self { sealed: Sealed::of(&address), asked, shutdown, _folder: folder }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.shutdown.fire();
    }
}

fn open(version: u64, values: &[(&str, &str)]) -> Result<GetSecretsReply, Status> {
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Ok(GetSecretsReply { configured: true, version, values: values.collect() })
}

fn read(pairs: &[(&str, &str)]) -> Result<Origin, String> {
    let env: Environment = pairs.iter().copied().collect();
    let vars = [MODE_VAR, UPSTREAM_KEY_VAR, API_KEYS_VAR, ADMIN_PASSWORD_VAR];
    let mut reader = Reader::new(&env, &vars);
    let skr = "127.0.0.1:1".parse().unwrap();
    let origin = Origin::read(&mut reader, Some(&skr));
    reader.finish(origin).map(|(origin, _)| origin).map_err(|problems| problems.to_string())
}

#[test]
fn sealed_secrets_and_those_of_the_environment_do_not_mix() {
    let sealed = (MODE, "sealed");
    assert!(matches!(read(&[sealed]), Ok(Origin::Sealed(_))));
    for name in NAMES {
        let problems = read(&[sealed, (name, "s3cret")]).err().unwrap();
        assert!(problems.contains(&format!("{name}: is taken from the sealed")), "{problems}");
        assert!(!problems.contains("s3cret"), "{problems}");
        assert!(matches!(read(&[sealed, (name, "")]), Ok(Origin::Sealed(_))), "empty is not set");
    }
    assert!(read(&[(MODE, "both")]).err().unwrap().contains("PROXY_SECRETS: "));
    let Ok(Origin::Environment(given)) = read(&[(UPSTREAM_KEY, "u"), (API_KEYS, "a,b")]) else {
        panic!("the environment is the default")
    };
    assert_eq!(given.upstream_key().map(|key| key.as_str()), Some("u"));
    assert_eq!((given.api_keys().keys, given.api_keys().ids), ("a,b", "env_key"));
    assert!(read(&[(UPSTREAM_KEY, "a\nb")]).err().unwrap().contains("visible ASCII"));
}

/// Neither a vault that is late nor an envelope that is refused ends the wait: both can be mended from outside.
#[tokio::test]
async fn the_first_secrets_are_waited_for() {
    let bench = Bench::new([
        Err(Status::unavailable("not yet")),
        Err(Status::failed_precondition("refused")),
        open(7, &[(UPSTREAM_KEY, "u"), (API_KEYS, "a"), ("STATE_KEY", "not asked for")]),
    ])
    .await;
    let secrets = bench.sealed.first().await.ok().unwrap();
    assert_eq!(secrets.version(), Some(7));
    assert_eq!(secrets.upstream_key().map(|key| key.as_str()), Some("u"));
    assert_eq!((secrets.api_keys().keys, secrets.api_keys().ids), ("a", "sealed_key"));
    assert_eq!(secrets.values.len(), 2);
}

#[tokio::test]
async fn what_cannot_pass_ends_the_wait() {
    for (said, expected) in [
        (Ok(GetSecretsReply::default()), "has no sealed secrets"),
        (Err(Status::unimplemented("an older one")), "has no sealed secrets"),
        (open(1, &[(UPSTREAM_KEY, "s3cret key")]), "must be visible ASCII"),
    ] {
        let bench = Bench::new([said]).await;
        let refused = bench.sealed.first().await.err().unwrap().to_string();
        assert!(refused.contains(expected) && !refused.contains("s3cret"), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let sealed = Sealed::of(&"unix:/nowhere/at/all.sock".parse().unwrap());
    assert!(matches!(sealed.first().await, Err(SecretsError::Patience)));
}

#[tokio::test]
async fn only_a_higher_version_is_taken_and_only_then_do_values_travel() {
    let mut bench = Bench::new([
        open(7, &[(API_KEYS, "a")]),
        open(6, &[(API_KEYS, "an older envelope")]),
        Err(Status::unavailable("restarted")),
        open(8, &[(API_KEYS, "b")]),
        open(8, &[(API_KEYS, "b")]),
        open(9, &[]),
        open(5, &[(API_KEYS, "swapped between two questions")]),
    ])
    .await;
    let newer = |version| bench.sealed.newer_than(Some(version));
    assert!(newer(7).await.ok().unwrap().is_none(), "the same");
    assert!(newer(7).await.ok().unwrap().is_none(), "an older one");
    assert!(matches!(newer(7).await, Err(SecretsError::NotOpen(_))));
    let taken = newer(7).await.ok().unwrap().unwrap();
    assert_eq!((taken.version(), taken.api_keys().keys), (Some(8), "b"));
    assert!(newer(8).await.ok().unwrap().is_none(), "newer when asked first, not when given");
    let mut asked = Vec::new();
    while let Ok(names) = bench.asked.try_recv() {
        asked.push(names.len());
    }
    assert_eq!(asked, [0, 0, 0, 3, 0, 3], "values travel for a newer version only");
}

#[tokio::test]
async fn newer_secrets_are_handed_over_until_the_end() {
    let bench = Bench::new([open(8, &[(API_KEYS, "b")])]).await;
    let (sender, mut taken) = mpsc::unbounded_channel();
    let hand_over = move |secrets: &Secrets| {
        let _ = sender.send(secrets.version());
    };
    let following = bench.sealed.clone().follow(Some(7), bench.shutdown.clone(), hand_over);
    let following = tokio::spawn(following);
    let newer = tokio::time::timeout(Duration::from_secs(60), taken.recv()).await;
    assert_eq!(newer.unwrap(), Some(Some(8)));
    bench.shutdown.fire();
    following.await.unwrap();
    assert_eq!(taken.recv().await, None, "once");
}
