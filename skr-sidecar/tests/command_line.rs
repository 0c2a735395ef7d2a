//! The command line of the reference (contract `skr.md` part 1.3): what starts, what does not, and with which words.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use service::env::{Class, Environment};
use service::{Process, Role as _};
use skr_sidecar::reference::DropIn;

/// Runs the program under this name until it ends by itself.
fn run(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skr-sidecar"));
    command.arg0(name).args(arguments).env_clear().envs(variables.iter().copied());
    command.stdin(Stdio::null()).output().unwrap()
}

/// Its exit code and what it printed on standard error.
fn failure(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stderr.clone()).unwrap())
}

#[test]
fn a_bad_flag_is_answered_with_the_usage_and_two() {
    let (code, text) = failure(&run("/bin/skr", &["-prt", "1"], &[]));
    assert_eq!(code, Some(2));
    assert!(text.starts_with("flag provided but not defined: -prt\nusage: skr "), "{text}");
    let (code, text) = failure(&run("/bin/skr", &["--help"], &[]));
    assert_eq!(code, Some(0));
    assert!(text.starts_with("usage: skr "), "{text}");
}

#[test]
fn what_cannot_start_says_fatal_and_one() {
    let secret = "c2VjcmV0";
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = occupied.local_addr().unwrap().port().to_string();
    for (name, arguments, variables, said) in [
        ("/skr.sh", vec![], vec![("SkrSideCarArgs", secret)], "SkrSideCarArgs cannot be used: "),
        ("/bin/skr", vec!["-base64", secret], vec![], "SkrSideCarArgs cannot be used: "),
        ("/skr.sh", vec!["c2VjcmV"], vec![], "illegal base64 data"),
        ("/skr.sh", vec![], vec![("LogLevel", "loud")], "not a valid logrus Level"),
        ("/bin/skr", vec!["-port", "x"], vec![], "the port must be a number"),
        ("/skr.sh", vec![], vec![("LogFile", "/nowhere/log")], "LogFile: must be a file in a"),
        ("/skr.sh", vec![], vec![("SKR_PORT", "1")], "SKR_PORT is not a variable of this role"),
        ("/skr.sh", vec![], vec![("ServerType", "http"), ("Port", &taken)], "cannot listen on"),
    ] {
        let (code, text) = failure(&run(name, &arguments, &variables));
        assert_eq!(code, Some(1), "{text}");
        assert!(text.lines().all(|line| line.starts_with("level=fatal msg=")), "{text}");
        assert!(text.contains(said), "{said}: {text}");
        assert!(!text.contains("c2Vj") && !text.contains("secret"), "{text}");
    }
}

/// The reference's script leaves a file `result` and repeats its variables.
#[test]
fn the_script_leaves_no_file_and_repeats_no_variable() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_skr-sidecar"));
    command.arg0("/skr.sh").current_dir(folder.path()).env_clear();
    // Base64, and no JSON.
    let ended = command.env("SkrSideCarArgs", "c2VjcmV0").stdin(Stdio::null()).output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stdout.is_empty());
    assert!(!String::from_utf8(ended.stderr).unwrap().contains("c2VjcmV0"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn sources_that_are_none_are_named_as_the_reference_names_them() {
    // {"certcache":{"endpoint_type":"AMD"}} and {"certcache":{"endpoint_type":"Other","endpoint":"a"}}
    for (args, said) in [
        ("eyJjZXJ0Y2FjaGUiOnsiZW5kcG9pbnRfdHlwZSI6IkFNRCJ9fQ==", "certificate endpoint not set"),
        (
            "eyJjZXJ0Y2FjaGUiOnsiZW5kcG9pbnRfdHlwZSI6Ik90aGVyIiwiZW5kcG9pbnQiOiJhIn19",
            "invalid endpoint type: Other",
        ),
    ] {
        let (code, text) = failure(&run("/bin/skr", &["-base64", args], &[]));
        assert_eq!(code, Some(1), "{text}");
        let prefix = "Refreshing CertChain failed: failed to retrieve cert chain: ";
        assert!(text.contains(&format!("{prefix}{said}")), "{text}");
    }
}

#[test]
fn under_its_own_name_it_is_not_the_reference() {
    let (code, text) = failure(&run("/skr-sidecar", &["-port", "1"], &[]));
    assert_eq!(code, Some(64));
    assert!(text.contains("usage: skr-sidecar"), "{text}");
    let (code, text) = failure(&run("/skr-sidecar", &[], &[("SKR_ATTEST_PROGRAM", "/a")]));
    assert_eq!(code, Some(64), "{text}");
}

/// Asked on the socket that `ServerType` leaves, by the image's only program.
#[test]
fn its_health_check_asks_whatever_answers() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| format!("unix:{}/{name}", folder.path().display());
    let (http, attest) = (at("http"), at("attest"));
    for (http, grpc) in [(http.as_str(), "off"), ("off", at("grpc").as_str())] {
        let variables =
            [("SKR_HTTP_LISTEN", http), ("SKR_LISTEN", grpc), ("ATTEST_SIDECAR", attest.as_str())];
        let asked = || run("/skr.sh", &["healthcheck"], &variables).status;
        assert_eq!(asked().code(), Some(1), "nobody is there yet");
        let mut command = Command::new(env!("CARGO_BIN_EXE_skr-sidecar"));
        command.arg0("/skr.sh").env_clear().envs(variables).stdout(Stdio::null());
        let mut role = command.spawn().unwrap();
        let by = Instant::now() + Duration::from_secs(20);
        while !asked().success() {
            assert!(role.try_wait().unwrap().is_none(), "it ended instead of serving");
            assert!(Instant::now() < by, "it serves by now");
        }
        role.kill().unwrap();
        role.wait().unwrap();
    }
}

#[test]
fn a_health_check_takes_the_flags_of_whom_it_asks() {
    let status = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = status.local_addr().unwrap().port().to_string();
    let answering = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = status.accept().unwrap();
        stream.read_exact(&mut [0; 20]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    });
    let arguments = ["healthcheck", "-server_type", "http", "-port", &port];
    assert_eq!(failure(&run("/bin/skr", &arguments, &[])), (Some(0), String::new()));
    answering.join().unwrap();
}

/// Whatever changes what the drop-in does is in its digest.
#[tokio::test]
async fn every_measured_variable_is_in_the_digest() {
    let digest = |pairs: &[(&str, &str)]| {
        let environment: Environment = pairs.iter().copied().collect();
        async move {
            let (_, process) = Process::embedded::<DropIn>(&environment).await.unwrap();
            process.identity.measured.digest
        }
    };
    let base = [("SKR_ATTEST_PROGRAM", "/attest-sidecar"), ("ATTEST_SIDECAR", "unix:/a")];
    let nothing_more = digest(&base).await;
    for (name, value) in [
        ("SkrSideCarArgs", "e30="),
        ("Port", "1"),
        ("ServerType", "grpc"),
        ("LogFile", "/log"),
        ("ATTEST_DEVICE", "socket:/snp"),
        ("ATTEST_MAA_USER_AGENT", "me"),
    ] {
        let var = DropIn::VARS.iter().find(|var| var.name == name).unwrap();
        assert_eq!(var.class, Class::Measured, "{name}");
        assert_ne!(digest(&[&base[..], &[(name, value)]].concat()).await, nothing_more, "{name}");
    }
}

/// A file is wrapped without a server; only the holder of the private half reads it.
#[test]
fn a_file_is_wrapped_for_a_key() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rsa::pkcs8::{EncodePublicKey as _, LineEnding};

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let key = rsa::RsaPrivateKey::new(&mut rand::thread_rng(), 2048).unwrap();
    let pem = key.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
    std::fs::write(path("key.pem"), pem).unwrap();
    let info = serde_json::json!({
        "public_key_path": path("key.pem"), "kms_endpoint": "v.test", "attester_endpoint": "m.test"
    });
    std::fs::write(path("key-info.json"), info.to_string()).unwrap();
    std::fs::write(path("in"), [0, 1, 254]).unwrap();

    let (infile, keypath, outfile) = (path("in"), path("key"), path("out"));
    let flags = ["-infile", &infile, "--keypath", &keypath, "-outfile", &outfile];
    let output = run("/bin/skr", &flags, &[]);
    assert_eq!(failure(&output), (Some(0), String::new()));
    assert!(output.stdout.is_empty());
    let annotation = STANDARD.decode(std::fs::read_to_string(&outfile).unwrap()).unwrap();
    let annotation: serde_json::Value = serde_json::from_slice(&annotation).unwrap();
    assert_eq!(annotation.pointer("/kid").unwrap(), "key");
    let wrapped = annotation.pointer("/wrapped_data").unwrap().as_str().unwrap();
    let wrapped = STANDARD.decode(wrapped).unwrap();
    let plaintext = key.decrypt(rsa::Oaep::new::<sha2::Sha256>(), &wrapped).unwrap();
    assert_eq!(plaintext, [0, 1, 254]);

    let (code, text) = failure(&run("/bin/skr", &flags[..4], &[]));
    assert_eq!(code, Some(2));
    assert!(text.starts_with("-infile, -keypath and -outfile go together"), "{text}");
    let (code, text) =
        failure(&run("/bin/skr", &["-infile", "/nowhere", "-keypath=k", "-outfile=o"], &[]));
    assert_eq!(code, Some(1));
    assert!(text.starts_with("level=fatal msg=cannot read"), "{text}");
}
