//! What the platform mounts for a container group: its enforcement policy, the utility VM's endorsement, the
//! machine's certificates. All of it comes from the host and is believed by nobody here.
//!
//! Source: measured on the reference (`skr.md` part 1.4).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use service::plain_file;

/// Where Kata containers find theirs, below the root.
const KATA: &str = "opt/confidential-containers/share/kata-containers";

/// Part of the name of the folder that container groups find theirs in, below the root.
const MOUNTED: &str = "security-context-";

/// The longest file that is read. A certificate file has 9 KiB, an endorsement 15 KiB, a policy up to some
/// hundred.
const MAX_LENGTH: u64 = 4 * 1024 * 1024;

/// Where to look, as the environment says.
#[derive(Clone, Debug)]
pub(crate) struct ContextPlace {
    /// Below which folders are looked for that the environment does not name: `/`.
    pub(crate) root: PathBuf,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) certificates: Option<String>,
    pub(crate) security_policy: Option<String>,
    pub(crate) reference_info: Option<String>,
}

/// What was there. A part that is missing or unreadable is absent; the others stay.
#[derive(Default)]
pub(crate) struct SecurityContext {
    /// The enforcement policy, decoded.
    pub(crate) security_policy: Option<Vec<u8>>,
    /// The utility VM's endorsement in base64, as the platform wrote it.
    pub(crate) uvm_reference_info: Option<String>,
}

impl SecurityContext {
    /// Reads the folder that the environment names, else the first of `/` whose name holds
    /// `security-context-`, else Kata's; the
    /// variables of the environment stand in for what no file holds.
    pub(crate) fn read(place: &ContextPlace) -> Self {
        let policy = part(place, "security-policy-base64", &place.security_policy);
        let reference_info = part(place, "reference-info-base64", &place.reference_info);
        Self {
            security_policy: policy.and_then(|text| decode(&text, "policy")),
            uvm_reference_info: reference_info
                .map(|text| text.trim().to_owned())
                .filter(|text| decode(text, "endorsement").is_some()),
        }
    }
}

/// The host's certificates from the same places, decoded: the JSON of THIM.
pub(crate) fn host_certificates(place: &ContextPlace) -> Option<Vec<u8>> {
    let text = part(place, "host-amd-cert-base64", &place.certificates)?;
    decode(&text, "certificates")
}

fn part(place: &ContextPlace, file: &str, variable: &Option<String>) -> Option<String> {
    let mounted = || mounted(&place.root).unwrap_or_else(|| place.root.join(KATA));
    let folder = place.folder.clone().unwrap_or_else(mounted);
    read_text(&folder.join(file)).or_else(|| variable.clone())
}

fn mounted(root: &Path) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(root)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.contains(MOUNTED)
        })
        .collect();
    found.sort();
    found.into_iter().next()
}

fn read_text(path: &Path) -> Option<String> {
    let content = plain_file::read(path, MAX_LENGTH).inspect_err(|error| {
        if error.kind() != ErrorKind::NotFound {
            tracing::warn!(cause = %error, "a file of the security context is left out");
        }
    });
    String::from_utf8(content.ok()?).ok().filter(|text| !text.trim().is_empty())
}

fn decode(text: &str, part: &'static str) -> Option<Vec<u8>> {
    let decoded = STANDARD.decode(text.trim()).ok();
    if decoded.is_none() {
        tracing::warn!(part, "a part of the security context is not base64 and left out");
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing_said(root: &Path) -> ContextPlace {
        let root = root.to_owned();
        let (folder, certificates, security_policy, reference_info) = Default::default();
        ContextPlace { root, folder, certificates, security_policy, reference_info }
    }

    fn write(folder: &Path, name: &str, text: &str) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
    }

    #[test]
    fn files_go_before_variables_and_a_broken_part_leaves_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| write(folder.path(), name, text);
        write("security-policy-base64", "cG9saWN5\n");
        write("host-amd-cert-base64", "bm8ganNvbg");
        let place = ContextPlace {
            folder: Some(folder.path().to_owned()),
            security_policy: Some("b3RoZXI=".to_owned()),
            reference_info: Some("AAEC".to_owned()),
            ..nothing_said(Path::new("/nowhere"))
        };
        let context = SecurityContext::read(&place);
        assert_eq!(context.security_policy.as_deref(), Some(b"policy".as_slice()));
        assert_eq!(context.uvm_reference_info.as_deref(), Some("AAEC"));
        assert!(host_certificates(&place).is_none());
        write("host-amd-cert-base64", "bm8ganNvbg==");
        assert_eq!(host_certificates(&place).as_deref(), Some(b"no json".as_slice()));

        write("reference-info-base64", "not base64!");
        assert_eq!(SecurityContext::read(&place).uvm_reference_info, None);
    }

    #[test]
    fn folders_are_looked_for_in_their_order() {
        let root = tempfile::tempdir().unwrap();
        let place = nothing_said(root.path());
        let policy = |place: &ContextPlace| SecurityContext::read(place).security_policy;
        let policy_in = |folder: &str, text: &str| {
            write(&root.path().join(folder), "security-policy-base64", &STANDARD.encode(text));
        };
        assert_eq!(policy(&place), None);
        policy_in(KATA, "kata's");
        assert_eq!(policy(&place).as_deref(), Some(b"kata's".as_slice()));
        policy_in("my-security-context-2", "mounted, by a name that holds it");
        policy_in("security-contexts", "not by this name");
        let holds = Some(b"mounted, by a name that holds it".as_slice());
        assert_eq!(policy(&place).as_deref(), holds);
        policy_in("a-security-context-9", "mounted, first by name");
        assert_eq!(policy(&place).as_deref(), Some(b"mounted, first by name".as_slice()));
        policy_in("named", "named");
        let named = ContextPlace { folder: Some(root.path().join("named")), ..place };
        assert_eq!(policy(&named).as_deref(), Some(b"named".as_slice()));
    }

    /// Kata containers mount the endorsement alone.
    #[test]
    fn an_endorsement_alone_is_enough_and_is_given_without_the_newline_of_its_file() {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join(KATA), "reference-info-base64", "0oRZAAA=\n");
        let place = nothing_said(root.path());
        let context = SecurityContext::read(&place);
        assert_eq!(context.uvm_reference_info.as_deref(), Some("0oRZAAA="));
        assert_eq!(context.security_policy, None);
        assert!(host_certificates(&place).is_none());
    }

    /// The host mounts the folder: what it puts there neither stops this role nor takes its memory.
    #[test]
    fn what_is_no_plain_file_or_has_no_end_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(KATA);
        std::fs::create_dir_all(&folder).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RUSR;
        let pipe = folder.join("security-policy-base64");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).unwrap();
        let device = folder.join("host-amd-cert-base64");
        std::os::unix::fs::symlink("/dev/null", device).unwrap();
        let long = "A".repeat(usize::try_from(MAX_LENGTH).unwrap() + 1);
        write(&folder, "reference-info-base64", &long);
        let place = nothing_said(root.path());
        let (sender, answer) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let context = SecurityContext::read(&place);
            let found = (context.security_policy, context.uvm_reference_info);
            sender.send((found, host_certificates(&place)))
        });
        let answer = answer.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
        assert_eq!(answer, ((None, None), None));
    }
}
