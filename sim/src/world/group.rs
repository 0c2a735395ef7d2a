//! One container group: its machine, device, security context and metadata service.
//!
//! Must not know: attestation or vaults.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::GroupConfig;
use super::foundation::{self, HOST_DATA};
use super::{Foundation, StartError, bind, blocking};
use crate::device::{self, DeviceServer, Processor};
use crate::faults::{DeviceFault, Switch};
use crate::http::serve::{self, Server};
use crate::identity::Identity;
use crate::imds::{self, Imds, ImdsFaults};
use crate::kds::Kds;
use crate::machine::{Guest, Machine, default_measurement};
use crate::pki::KeyRing;
use crate::pki::amd::AmdAuthority;
use crate::security_context::SecurityContext;
use crate::tally::Tally;
use crate::uvm;

/// A running group.
#[derive(Debug)]
pub struct Group {
    name: String,
    host_data: [u8; 32],
    context_dir: PathBuf,
    identities: Vec<Identity>,
    machine: Machine,
    device: DeviceServer,
    imds: Server,
    imds_faults: ImdsFaults,
    thim_calls: Tally,
}

impl Group {
    /// The name of its configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// HOST_DATA of its reports: the SHA-256 of its enforcement policy.
    #[must_use]
    pub fn host_data(&self) -> &[u8; 32] {
        &self.host_data
    }

    /// The socket of its security processor.
    #[must_use]
    pub fn device_path(&self) -> &Path {
        self.device.path()
    }

    /// Its security processor.
    #[must_use]
    pub fn processor(&self) -> &Processor {
        self.device.processor()
    }

    /// How its security processor misbehaves.
    #[must_use]
    pub fn device_faults(&self) -> &Switch<DeviceFault> {
        self.device.processor().faults()
    }

    /// What `$UVM_SECURITY_CONTEXT_DIR` names in its containers.
    #[must_use]
    pub fn context_dir(&self) -> &Path {
        &self.context_dir
    }

    /// The URL of its metadata service, which Azure has at `http://169.254.169.254`.
    #[must_use]
    pub fn imds_url(&self) -> String {
        self.imds.url()
    }

    /// How its metadata service misbehaves.
    #[must_use]
    pub fn imds_faults(&self) -> &ImdsFaults {
        &self.imds_faults
    }

    /// How often its metadata service was asked for certificates.
    #[must_use]
    pub fn thim_calls(&self) -> u64 {
        self.thim_calls.get()
    }

    /// Its managed identities.
    #[must_use]
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// The machine under it.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    pub(super) async fn stop(self) {
        tokio::join!(self.device.stop(), self.imds.stop());
    }
}

/// A group whose keys are derived and whose servers are not started.
pub(super) struct Derived {
    config: GroupConfig,
    pub(super) machine: Machine,
    /// Whether the machine's AMD is this world's.
    pub(super) own: bool,
}

pub(super) async fn derive(
    configs: &[GroupConfig],
    foundation: &Arc<Foundation>,
) -> Result<Vec<Derived>, StartError> {
    let (configs, foundation) = (configs.to_vec(), Arc::clone(foundation));
    blocking(move || {
        let mut authorities: Vec<(Option<String>, Arc<AmdAuthority>)> = Vec::new();
        configs
            .into_iter()
            .map(|config| {
                let seed = config.machine_seed.as_ref().unwrap_or(foundation.keys.seed());
                let other = config.machine_seed.as_ref().map(ToString::to_string);
                let known = authorities
                    .iter()
                    .find(|(known, amd)| *known == other && amd.product() == config.product);
                let amd = match (known, &config.machine_seed) {
                    (Some((_, amd)), _) => Arc::clone(amd),
                    (None, None) => foundation.amd(config.product)?,
                    (None, Some(seed)) => {
                        let keys = KeyRing::new(seed.clone(), foundation.state.clone());
                        Arc::new(AmdAuthority::derive(&keys, config.product)?)
                    }
                };
                let own = other.is_none();
                authorities.push((other, Arc::clone(&amd)));
                let tcb = config.tcb.unwrap_or_else(|| config.product.current_tcb());
                let machine = Machine::derive(amd, seed, &config.machine, tcb);
                Ok(Derived { config, machine, own })
            })
            .collect()
    })
    .await
}

pub(super) async fn start(
    derived: Vec<Derived>,
    folder: &Path,
    foundation: &Arc<Foundation>,
    kds: &Arc<Kds>,
) -> Result<Vec<Group>, StartError> {
    let mut groups = Vec::new();
    for group in derived {
        let started = start_one(group, folder, foundation, Arc::clone(kds)).await?;
        if groups.is_empty() {
            let host_data = hex::encode(started.host_data);
            foundation::write(folder, HOST_DATA, &host_data)?;
        }
        groups.push(started);
    }
    Ok(groups)
}

async fn start_one(
    derived: Derived,
    folder: &Path,
    foundation: &Arc<Foundation>,
    kds: Arc<Kds>,
) -> Result<Group, StartError> {
    let Derived { config, machine, own: _ } = derived;
    let seed = foundation.keys.seed();
    let folder = folder.join("groups").join(&config.name);
    let measurement = config.measurement.unwrap_or_else(|| default_measurement(seed));
    let guest = Guest {
        policy: config.policy.clone(),
        measurement,
        debug: config.debug,
        launch: config.name.clone(),
    };
    let host_data = guest.host_data();
    foundation::write(&folder, HOST_DATA, &hex::encode(host_data))?;

    let endorsed = config.endorsed_measurement.unwrap_or(measurement);
    let endorsement =
        uvm::endorse(&foundation.uvm, seed, &endorsed, config.uvm_svn, config.uvm_form)?;
    let context = SecurityContext {
        policy: config.policy.clone(),
        reference_info: Some(endorsement),
        host_certificate: Some(machine.host_certificate(machine.tcb())?),
    };
    let context_dir = folder.join("security-context");
    context
        .write(&context_dir)
        .map_err(|source| StartError::File { path: context_dir.clone(), source })?;

    let mut template = guest.report(&machine, seed);
    (config.amend)(&mut template);
    let processor = Processor::new(&machine, template, config.time_per_report, Switch::default())?;
    let device = device::listen(&folder.join("sev.sock"), processor)?;

    let identities: Vec<_> =
        config.identities.iter().map(|name| Identity::derive(seed, name)).collect();
    let (imds_faults, thim_calls) = (ImdsFaults::default(), Tally::default());
    let imds = Imds {
        machine: machine.clone(),
        identities: identities.clone(),
        provider: foundation.provider.clone(),
        foreign: foundation.foreign(),
        faults: imds_faults.clone(),
        thim_calls: thim_calls.clone(),
    };
    let listener = bind(config.imds).await?;
    let imds = serve::serve(listener, None, imds::router(imds, kds))
        .map_err(|source| StartError::Listen { address: config.imds, source })?;
    Ok(Group {
        name: config.name,
        host_data,
        context_dir,
        identities,
        machine,
        device,
        imds,
        imds_faults,
        thim_calls,
    })
}
