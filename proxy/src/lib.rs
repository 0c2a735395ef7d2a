//! Attested TLS in front of an OpenAI-compatible upstream
