//! Owns the key vault: secure key release
