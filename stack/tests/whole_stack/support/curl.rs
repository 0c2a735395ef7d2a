//! Whether `curl` and `jq` are there. Where they are missing a test says so and passes, unless `CURL_REQUIRED=1`.

use tokio::process::Command;

/// Says so if they are not.
pub(crate) async fn has_curl() -> bool {
    for program in ["curl", "jq"] {
        let version = Command::new(program).arg("--version").output().await;
        if version.is_ok_and(|output| output.status.success()) {
            continue;
        }
        #[expect(clippy::disallowed_methods, reason = "a switch of this test, no configuration")]
        let required = std::env::var("CURL_REQUIRED").as_deref() == Ok("1");
        assert!(!required, "{program} is required");
        println!("skipped: no {program}");
        return false;
    }
    true
}
