//! What is looked at: a server, a saved proof, or evidence in files.

use std::path::PathBuf;

use attestation::bundle::{self, Bundle};
use attestation::policy::Hex;
use attestation::{Anchors, Evidence, Expect, Policy};
use clap::Args;

use super::{Failure, runtime};
use crate::connection::Connector;
use crate::offline::{self, Parts};
use crate::target::Target;

/// Options that say what.
#[derive(Debug, Args)]
pub(super) struct Subject {
    /// The server: https://host[:port].
    #[arg(
        required_unless_present_any = ["evidence", "report"],
        conflicts_with_all = ["evidence", "report"]
    )]
    url: Option<Target>,
    /// A saved proof, as `pmc verify URL --save FILE` writes it.
    #[arg(long, value_name = "FILE", conflicts_with = "report")]
    evidence: Option<PathBuf>,
    /// A report: raw, hexadecimal or base64. Needs --certs.
    #[arg(long, value_name = "FILE", requires = "certs")]
    report: Option<PathBuf>,
    /// Its certificates: PEM, DER, or THIM's JSON; plain or base64.
    #[arg(long, value_name = "FILE", requires = "report")]
    certs: Option<PathBuf>,
    /// The utility VM's endorsement (COSE_Sign1), raw or base64.
    #[arg(long, value_name = "FILE", requires = "report")]
    uvm: Option<PathBuf>,
    /// The enforcement policy, as Rego or base64.
    #[arg(long, value_name = "FILE", requires = "report")]
    cce_policy: Option<PathBuf>,
}

/// What was found.
pub(super) enum Found {
    /// The proof of one connection.
    Proof(Box<Bundle>),
    /// Evidence that says nothing about a connection.
    Evidence(Box<Evidence>),
}

impl Subject {
    /// Which enforcement policies stand where nobody names one. A server, or a proof of one, is nobody's until somebody
    /// says whose: there is no group that everybody means. An auditor of files wants to see what is there, and the
    /// verdict says that nobody looked.
    pub(super) fn unnamed(&self) -> Expect<Vec<Hex<32>>> {
        if self.report.is_some() {
            Expect::unchecked("neither --host-data nor --policy is given")
        } else {
            Expect::Value(Vec::new())
        }
    }

    /// Who vouches for nonce, exporter, certificate and endpoint of a proof, if it was not this process that saw them.
    /// Anybody can connect to a genuine group, take a proof of his own connection, and hand it on as of another.
    pub(super) fn hearsay(&self) -> Option<&'static str> {
        let saved = self.evidence.is_some();
        saved.then_some("whoever saved this file: what B2 and B3 compare with is its word")
    }

    /// Asks the server, or reads the files. Nothing is judged.
    pub(super) fn find(&self, anchors: &Anchors) -> Result<Found, Failure> {
        match (&self.url, &self.evidence, &self.report, &self.certs) {
            (Some(target), ..) => Ok(Found::Proof(Box::new(recorded(target, anchors)?))),
            (None, Some(file), ..) => {
                let bytes = offline::read(file, bundle::MAX_LENGTH)
                    .map_err(|error| Failure::unusable(&error))?;
                let bundle = Bundle::parse(&bytes).map_err(|error| Failure::unusable(&error))?;
                Ok(Found::Proof(Box::new(bundle)))
            }
            (None, None, Some(report), Some(certificates)) => {
                let parts = Parts {
                    report: report.clone(),
                    certificates: certificates.clone(),
                    uvm: self.uvm.clone(),
                    cce_policy: self.cce_policy.clone(),
                };
                let evidence = parts.read().map_err(|error| Failure::unusable(&error))?;
                Ok(Found::Evidence(Box::new(evidence)))
            }
            _ => {
                let what = "give a URL, --evidence, or --report with --certs";
                Err(Failure::Unusable(what.to_owned()))
            }
        }
    }
}

/// The proof of a new connection to a server, not judged.
pub(super) fn recorded(target: &Target, anchors: &Anchors) -> Result<Bundle, Failure> {
    // The proof is judged by whoever asked for it; a connector has to hold some policy, and this accepts nobody.
    let nobody = Policy::for_host_data(Expect::Value(Vec::new()));
    let connector = Connector::new(target.clone(), anchors.clone(), nobody);
    let bundle = runtime()?.block_on(connector.record());
    bundle.map_err(|error| Failure::refused(&error))
}
