//! What the platform mounted, read anew each time: it costs nothing, and the platform may have renewed it.

use super::endorsements::Endorsements;
use super::source::SourceError;
use crate::security_context::{self, ContextPlace};

/// The mounted certificates.
pub(super) struct Context {
    place: ContextPlace,
}

impl Context {
    pub(super) fn new(place: ContextPlace) -> Self {
        Self { place }
    }

    pub(super) async fn ask(&self) -> Result<Endorsements, SourceError> {
        let place = self.place.clone();
        let read = tokio::task::spawn_blocking(move || security_context::host_certificates(&place));
        let json = read.await.ok().flatten().ok_or(SourceError::NothingMounted)?;
        Ok(Endorsements::from_thim(&json)?)
    }
}
