//! What a relying party demands that a report be bound to, and what such a report would prove.
//!
//! `REPORT_DATA` is one digest: it holds or it does not. What follows from it depends on what the relying party
//! put in, which the 64 bytes alone do not say. So whoever composes them says it here.

use crate::binding::{Binding, ReportData};
use crate::merkle::Inclusion;
use crate::owner::OwnerStatement;
use crate::policy::Expect;

/// The demand, by the questions that it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// All 64 bytes.
    pub report_data: Expect<ReportData>,
    /// The relying party's own nonce in them, new for this proof; or why there is none.
    pub nonce: Expect<[u8; 32]>,
    /// The `tls-exporter` (RFC 9266) of the relying party's own connection in them; or why there is none.
    pub exporter: Expect<[u8; 32]>,
    /// What came in the owner's name. A policy may demand that it be there and good.
    pub owner: Option<OwnerStatement>,
}

impl Demand {
    /// A report that covers `binding` at that place of a batch; `None` if it cannot stand there. Nonce and
    /// exporter of the binding must be the relying party's own.
    #[must_use]
    pub fn of(binding: &Binding, inclusion: &Inclusion) -> Option<Self> {
        let report_data = Expect::Value(binding.report_data(inclusion)?);
        let (nonce, exporter) = match binding {
            Binding::TlsChannel { nonce, exporter, .. }
            | Binding::ClientChannel { nonce, exporter, .. } => {
                (Expect::Value(*nonce), Expect::Value(*exporter))
            }
            Binding::LogKey { .. } => (
                Expect::unchecked("a log's key is proved once, when its boot begins"),
                Expect::unchecked("a log's key belongs to no connection"),
            ),
        };
        Some(Self { report_data, nonce, exporter, owner: None })
    }
}

/// Bytes that somebody else composed: they may hold anything.
impl From<&Expect<ReportData>> for Demand {
    fn from(report_data: &Expect<ReportData>) -> Self {
        let unknown = |what: &str| match report_data {
            Expect::Value(_) => {
                Expect::unchecked(format!("nobody says that the bytes hold {what}"))
            }
            Expect::Unchecked { why } => Expect::unchecked(why),
        };
        Self {
            nonce: unknown("a nonce of this verifier"),
            exporter: unknown("an exporter of this verifier"),
            report_data: report_data.clone(),
            owner: None,
        }
    }
}
