//! What a path of the API is, as far as usage is concerned: a closed list, since it is a label of metrics and a column of
//! the ledger (`proxy.md` case 72).
//!
//! Must not know how a request or an answer of any of them looks.

/// An endpoint of OpenAI's HTTP API, or of Anthropic's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Endpoint {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
    /// `/v1/embeddings`.
    Embeddings,
    /// `/v1/audio/transcriptions`.
    Transcriptions,
    /// `/v1/audio/translations`.
    Translations,
    /// `/v1/responses`.
    Responses,
    /// Anthropic's `/v1/messages`.
    Messages,
    /// Everything else: forwarded, and counted as a request without a model.
    Other,
}

impl Endpoint {
    /// Every one of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::Chat,
        Self::Completions,
        Self::Embeddings,
        Self::Transcriptions,
        Self::Translations,
        Self::Responses,
        Self::Messages,
        Self::Other,
    ];

    /// Which one a raw path names. Prefixes before it are the upstream's business: `/api/v2/chat/completions` is chat.
    pub(crate) fn of(path: &str) -> Self {
        let table = [
            ("/chat/completions", Self::Chat),
            ("/embeddings", Self::Embeddings),
            ("/audio/transcriptions", Self::Transcriptions),
            ("/audio/translations", Self::Translations),
            ("/completions", Self::Completions),
            ("/responses", Self::Responses),
            ("/messages", Self::Messages),
        ];
        let found = table.into_iter().find(|(part, _)| path.contains(part));
        found.map_or(Self::Other, |(_, endpoint)| endpoint)
    }

    /// Its name, as the ledger and metrics have it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Transcriptions => "transcriptions",
            Self::Translations => "translations",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Other => "other",
        }
    }

    /// The one with this name.
    pub(crate) fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.label() == label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_72_the_label_of_a_path() {
        for (path, label) in [
            ("/v1/chat/completions", "chat"),
            ("/api/v2/chat/completions", "chat"),
            ("/v1/embeddings", "embeddings"),
            ("/v1/audio/transcriptions", "transcriptions"),
            ("/v1/audio/translations", "translations"),
            ("/v1/completions", "completions"),
            ("/v1/responses", "responses"),
            ("/v1/messages", "messages"),
            ("/v1/models", "other"),
            ("/", "other"),
        ] {
            assert_eq!(Endpoint::of(path).label(), label, "{path}");
        }
    }

    #[test]
    fn every_label_names_its_endpoint() {
        for endpoint in Endpoint::ALL {
            assert_eq!(Endpoint::from_label(endpoint.label()), Some(endpoint));
        }
        assert_eq!(Endpoint::from_label("chats"), None);
    }
}
