//! A newer list of readers, in a file that the host carries: believed on the operator's signature.
//!
//! The host can withhold the file, swap it, hand over an old one or any bytes. It gets a refusal by name in the log,
//! and the readers stay who they are. Within a boot versions only rise; what a new boot takes at least is measured.
//!
//! Must not know what a change of readers means for the chain.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use attestation::crypto::sha256;
use attestation::log_record::{Expected, MAX_SIGNED, Readers, Refusal};
use attestation::secrets::{Signer, is_group};
use service::env::{Class, Reader, Var};
use service::plain_file;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::recipients::{NotRecipients, Recipients};
use crate::sealer;

const FILE: &str = "LOG_RECIPIENTS_FILE";
const SIGNER: &str = "LOG_RECIPIENTS_SIGNER";
const GROUP: &str = "LOG_RECIPIENTS_GROUP";
const MIN_VERSION: &str = "LOG_RECIPIENTS_MIN_VERSION";

/// The row of the file.
pub(crate) const FILE_VAR: Var = Var {
    name: FILE,
    class: Class::Harmless,
    default: None,
    help: "A file with a newer list of readers, as `pmc logs recipients` writes it. It may come later, and is read again when it changes.",
};
/// The row of the operator's key.
pub(crate) const SIGNER_VAR: Var = Var {
    name: SIGNER,
    class: Class::Measured,
    default: None,
    help: "The operator's public key that signs lists of readers, as `pmc secrets new-signer` prints it: SubjectPublicKeyInfo of a P-256 key in base64url. Nobody else's lists are taken.",
};
/// The row of the group's name.
pub(crate) const GROUP_VAR: Var = Var {
    name: GROUP,
    class: Class::Measured,
    default: None,
    help: "This group's name in lists of readers. Those for another group are refused.",
};
/// The row of the lowest version.
pub(crate) const MIN_VERSION_VAR: Var = Var {
    name: MIN_VERSION,
    class: Class::Measured,
    default: None,
    help: "The lowest version of a list of readers that is taken: 1 or more. After a restart it is all that keeps an older list from being handed over again.",
};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// How long a boot waits for the file before it seals for the readers of LOG_RECIPIENTS.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// Where the file is, and what is believed.
pub(crate) struct Settings {
    path: PathBuf,
    expected: Expected,
}

impl Settings {
    /// Reads them; `None` if there are none, or too few, which is a problem.
    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Self> {
        let names = [FILE, SIGNER, GROUP, MIN_VERSION];
        let is_set = names.map(|name| env.optional::<String>(name).is_some());
        let path = env.optional::<PathBuf>(FILE);
        let signer = env.optional::<Signer>(SIGNER);
        let group = env.optional::<String>(GROUP);
        let min_version = env.optional::<NonZeroU64>(MIN_VERSION);
        if is_set == [false; 4] {
            return None;
        }
        for (name, _) in names.iter().zip(is_set).filter(|(_, is_set)| !is_set) {
            env.refuse(name, &format!("new readers need {}: set it as well", names.join(", ")));
        }
        if group.as_ref().is_some_and(|group| !is_group(group)) {
            env.refuse(GROUP, &"must have 1 to 128 visible ASCII characters");
        }
        let expected = Expected { signer: signer?, group: group?, min_version: min_version? };
        Some(Self { path: path?, expected })
    }
}

/// Readers that take the place of those before them.
pub(crate) struct Change {
    /// The new ones; something can be encrypted to them.
    pub(crate) recipients: Arc<Recipients>,
    /// The operator's word.
    pub(crate) signed: String,
}

/// Why a file changes nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum NoChange {
    #[error("the file cannot be read: {0}")]
    Unreadable(std::io::ErrorKind),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the list cannot be encrypted to")]
    Recipients(#[from] NotRecipients),
    #[error("nothing can be encrypted to the list: make new recipients with age-keygen")]
    TriedOut,
    #[error("replayed: version {version}, and {in_force} is in force")]
    Replayed { version: u64, in_force: u64 },
}

/// The changes that the file brings.
pub(crate) struct Changes(Option<mpsc::Receiver<Option<Change>>>);

impl Changes {
    /// Starts to look. Must be called inside a runtime.
    pub(crate) fn start(settings: Option<Settings>) -> Self {
        Self(settings.map(|settings| {
            let (sender, receiver) = mpsc::channel(1);
            tokio::spawn(follow(settings, sender));
            receiver
        }))
    }

    /// What the file says when a boot begins.
    pub(crate) async fn first(&mut self) -> Option<Change> {
        let receiver = self.0.as_mut()?;
        timeout(FIRST_LOOK, receiver.recv()).await.ok()??
    }

    /// The next change; there may never be one. Nothing is lost when this is dropped.
    pub(crate) async fn next(&mut self) -> Change {
        if let Some(receiver) = &mut self.0 {
            while let Some(found) = receiver.recv().await {
                if let Some(change) = found {
                    return change;
                }
            }
        }
        std::future::pending().await
    }
}

/// Says what the first look finds, and from then on every change, as long as somebody listens.
async fn follow(settings: Settings, to: mpsc::Sender<Option<Change>>) {
    let mut follower = Follower::new(settings);
    let mut found = follower.look().await;
    loop {
        if to.send(found).await.is_err() {
            return;
        }
        found = loop {
            tokio::select! {
                () = sleep(LOOK) => {}
                () = to.closed() => return,
            }
            if let Some(change) = follower.look().await {
                break Some(change);
            }
        };
    }
}

struct Follower {
    settings: Arc<Settings>,
    /// Version in force; 0 where the readers are those of LOG_RECIPIENTS.
    version: u64,
    /// Digest of the text that was judged last.
    judged: Option<[u8; 32]>,
    /// What was said last.
    said: Option<NoChange>,
}

impl Follower {
    fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), version: 0, judged: None, said: None }
    }

    /// The change that was not there before. A refusal is said once.
    async fn look(&mut self) -> Option<Change> {
        match self.see().await {
            Ok(change) => change,
            Err(error) => {
                if self.said.as_ref() != Some(&error) {
                    tracing::warn!(error = %error, "a list of readers was not taken");
                    self.said = Some(error);
                }
                None
            }
        }
    }

    async fn see(&mut self) -> Result<Option<Change>, NoChange> {
        let text = read(self.settings.clone()).await.map_err(NoChange::Unreadable)?;
        let digest = sha256(text.as_bytes());
        if self.judged.replace(digest) == Some(digest) {
            return Ok(None);
        }
        let readers = Readers::open(&text, &self.settings.expected)?;
        let version = readers.version.get();
        if version <= self.version {
            return Err(NoChange::Replayed { version, in_force: self.version });
        }
        let recipients = Arc::new(Recipients::try_from(&readers)?);
        sealer::try_out(&recipients).await.map_err(|_| NoChange::TriedOut)?;
        self.version = version;
        self.said = None;
        tracing::info!(version, readers = readers.recipients.len(), "the readers change");
        Ok(Some(Change { recipients, signed: text }))
    }
}

/// The text without the line feed that stands at the end of most files. What is not UTF-8 is no list.
async fn read(settings: Arc<Settings>) -> Result<String, std::io::ErrorKind> {
    let most = u64::try_from(MAX_SIGNED).unwrap_or(u64::MAX);
    let read = tokio::task::spawn_blocking(move || plain_file::read(&settings.path, most)).await;
    let bytes = read.map_err(|_| std::io::ErrorKind::Interrupted)?.map_err(|error| error.kind())?;
    Ok(String::from_utf8_lossy(bytes.trim_ascii()).into_owned())
}

#[cfg(test)]
mod tests {
    use age::x25519::Identity;
    use attestation::log_record::compact_readers;
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use service::env::Environment;

    use super::*;

    struct Operator(EcdsaKeyPair);

    impl Operator {
        fn new() -> Self {
            Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
        }

        fn signer(&self) -> Signer {
            let spki: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
            Signer::from_spki(spki.as_ref()).unwrap()
        }

        fn sign(&self, version: u64, recipients: &[String]) -> String {
            let version = NonZeroU64::new(version).unwrap();
            let recipients = recipients.to_vec();
            let readers = Readers { group: "group".to_owned(), version, recipients };
            let input = readers.signing_input(self.signer().kid()).unwrap();
            let signature = self.0.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
            compact_readers(&input, signature.as_ref().try_into().unwrap())
        }
    }

    fn recipient() -> String {
        Identity::generate().to_public().to_string()
    }

    #[tokio::test]
    async fn only_a_newer_word_of_the_operator_changes_the_readers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("readers");
        let (operator, host) = (Operator::new(), Operator::new());
        let expected = Expected {
            signer: operator.signer(),
            group: "group".to_owned(),
            min_version: NonZeroU64::new(2).unwrap(),
        };
        let mut follower = Follower::new(Settings { path: path.clone(), expected });
        let (a, b) = (recipient(), recipient());
        let lists = [
            (host.sign(9, std::slice::from_ref(&b)), None, "not signed by the operator's key"),
            (operator.sign(1, std::slice::from_ref(&a)), None, "too old"),
            (operator.sign(3, std::slice::from_ref(&a)), Some(&a), ""),
            (
                operator.sign(2, std::slice::from_ref(&b)),
                None,
                "replayed: version 2, and 3 is in force",
            ),
            (operator.sign(3, std::slice::from_ref(&b)), None, "replayed: version 3"),
            (operator.sign(5, &["age1qqqq".to_owned()]), None, "cannot be encrypted to"),
            (operator.sign(6, &[zero()]), None, "nothing can be encrypted"),
            ("no list".to_owned(), None, "not a signed list"),
            (operator.sign(7, std::slice::from_ref(&b)), Some(&b), ""),
        ];
        assert!(matches!(follower.see().await, Err(NoChange::Unreadable(_))), "not there yet");
        for (text, taken, why) in lists {
            std::fs::write(&path, format!("{text}\n")).unwrap();
            match (follower.see().await, taken) {
                (Ok(Some(change)), Some(recipient)) => {
                    assert_eq!(change.recipients.texts(), std::slice::from_ref(recipient));
                    assert_eq!(change.signed, text);
                }
                (Err(error), None) => assert!(error.to_string().contains(why), "{error}: {why}"),
                _ => panic!("{why} {text}"),
            }
            assert!(matches!(follower.see().await, Ok(None)), "looked at again");
        }
        std::fs::write(&path, vec![b'a'; MAX_SIGNED + 1]).unwrap();
        assert!(matches!(follower.see().await, Err(NoChange::Unreadable(_))));
    }

    /// The point of order one: everybody knows the shared secret.
    fn zero() -> String {
        "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z".to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_told_once_and_where_there_is_no_file_nothing_is() {
        assert!(Changes::start(None).first().await.is_none());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("readers");
        let operator = Operator::new();
        let (signer, group) = (operator.signer(), "group".to_owned());
        let expected = Expected { signer, group, min_version: NonZeroU64::MIN };
        let mut changes = Changes::start(Some(Settings { path: path.clone(), expected }));
        assert!(changes.first().await.is_none(), "there is no file yet");
        for version in [1, 4] {
            let signed = operator.sign(version, &[recipient()]);
            std::fs::write(&path, &signed).unwrap();
            assert_eq!(changes.next().await.signed, signed);
        }
        let hour = Duration::from_secs(3600);
        assert!(timeout(hour, changes.next()).await.is_err(), "nothing new");
    }

    #[test]
    fn all_of_its_variables_are_set_or_none() {
        let signer = Operator::new().signer().to_text();
        let all = [(FILE, "/a"), (SIGNER, signer.as_str()), (GROUP, "group"), (MIN_VERSION, "1")];
        let read = |pairs: &[(&str, &str)]| {
            let env: Environment = pairs.iter().copied().collect();
            let vars = [FILE_VAR, SIGNER_VAR, GROUP_VAR, MIN_VERSION_VAR];
            let mut reader = Reader::new(&env, &vars);
            let settings = Settings::read(&mut reader);
            reader.finish(Some(settings)).map(|(settings, _)| settings.is_some())
        };
        assert!(read(&all).unwrap());
        assert!(!read(&[]).unwrap());
        for missing in 0..all.len() {
            let mut some = all.to_vec();
            let (name, _) = some.remove(missing);
            let problems = read(&some).unwrap_err().to_string();
            assert!(problems.contains(&format!("{name}: new readers need")), "{problems}");
        }
        for (name, value) in [(SIGNER, "AAAA"), (GROUP, "a b"), (MIN_VERSION, "0")] {
            let mut some = all.to_vec();
            some.retain(|(other, _)| *other != name);
            some.push((name, value));
            let problems = read(&some).unwrap_err().to_string();
            assert!(problems.contains(name), "{problems}");
        }
    }
}
