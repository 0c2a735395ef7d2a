//! What one call of the API used. Made where an answer passes, kept by the ledger.
//!
//! Must not know what anything costs, or where usage is kept.

use std::sync::Arc;

use crate::endpoint::Endpoint;
use crate::keys::ApiKey;

/// What was used, as the model server said it, or as nearly as can be told without its word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub(crate) prompt: u64,
    /// Tokens of the answer.
    pub(crate) completion: u64,
    /// Those of the prompt that the server had at hand.
    pub(crate) cached: u64,
    /// Tokens in all, as the server has it: where it says no other, prompt and completion.
    pub(crate) total: u64,
    /// Bytes of the audio part.
    pub(crate) audio_bytes: u64,
    /// Its length as the server says it, in milliseconds.
    pub(crate) audio_milliseconds: u64,
    /// Whether any of it is this proxy's own estimate, since the server's word did not arrive.
    pub(crate) estimated: bool,
}

/// One call that the upstream answered with success, or whose answer was cut off after it had begun.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// When it ended, Unix seconds.
    pub(crate) at: u64,
    /// Whose it was.
    pub(crate) key: Arc<ApiKey>,
    /// What answered: the answer's `model`, else the request's. `None` where neither names one.
    pub(crate) model: Option<String>,
    /// What was called.
    pub(crate) endpoint: Endpoint,
    /// What it used.
    pub(crate) usage: Usage,
}
