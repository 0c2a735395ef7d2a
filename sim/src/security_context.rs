//! The folder that Azure mounts into every container of a confidential group.
//!
//! Must not know: who reads it. Three text files, as `$UVM_SECURITY_CONTEXT_DIR` has them; all
//! are standard base64 without a final newline.

use std::fs;
use std::io;
use std::path::Path;

use crate::encoding::b64;
use crate::machine::HostCertificate;

/// The enforcement policy, base64 of Rego text.
pub const SECURITY_POLICY: &str = "security-policy-base64";
/// The endorsement of the utility VM, base64 of a COSE_Sign1.
pub const REFERENCE_INFO: &str = "reference-info-base64";
/// The host's certificates, base64 of JSON.
pub const HOST_AMD_CERT: &str = "host-amd-cert-base64";

/// A policy for groups that need no particular one: the framework's rules, and one container.
pub const DEFAULT_POLICY: &str = r#"package policy

import future.keywords.every
import future.keywords.in

api_version := "0.11.0"
framework_version := "0.2.3"

fragments := []

containers := [{
  "id": "simulated",
  "name": "simulated",
  "command": ["/app"],
  "env_rules": [],
  "layers": [],
  "mounts": [],
  "exec_processes": [],
  "signals": [],
  "user": {"umask": "0022"},
  "capabilities": null,
  "allow_elevated": false,
  "allow_stdio_access": false,
  "no_new_privileges": true,
  "working_dir": "/"
}]

allow_properties_access := false
allow_dump_stacks := false
allow_runtime_logging := false
allow_environment_variable_dropping := false
allow_unencrypted_scratch := false
allow_capability_dropping := false

mount_device := data.framework.mount_device
unmount_device := data.framework.unmount_device
mount_overlay := data.framework.mount_overlay
unmount_overlay := data.framework.unmount_overlay
create_container := data.framework.create_container
exec_in_container := data.framework.exec_in_container
exec_external := data.framework.exec_external
shutdown_container := data.framework.shutdown_container
signal_container_process := data.framework.signal_container_process
plan9_mount := data.framework.plan9_mount
plan9_unmount := data.framework.plan9_unmount
get_properties := data.framework.get_properties
dump_stacks := data.framework.dump_stacks
runtime_logging := data.framework.runtime_logging
load_fragment := data.framework.load_fragment
scratch_mount := data.framework.scratch_mount
scratch_unmount := data.framework.scratch_unmount
reason := data.framework.reason
"#;

/// What the folder says.
#[derive(Debug, Clone)]
pub struct SecurityContext {
    /// Rego text; its SHA-256 is the HOST_DATA of the group's reports.
    pub policy: String,
    /// COSE_Sign1; absent on hosts that give none.
    pub reference_info: Option<Vec<u8>>,
    /// The host's certificates; absent on hosts that give none.
    pub host_certificate: Option<HostCertificate>,
}

impl SecurityContext {
    /// Writes the files into `folder`, which is created when it is missing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join(SECURITY_POLICY), b64(self.policy.as_bytes()))?;
        if let Some(endorsement) = &self.reference_info {
            fs::write(folder.join(REFERENCE_INFO), b64(endorsement))?;
        }
        if let Some(host) = &self.host_certificate {
            let json = serde_json::to_vec(host).map_err(io::Error::other)?;
            fs::write(folder.join(HOST_AMD_CERT), b64(&json))?;
        }
        Ok(())
    }
}
