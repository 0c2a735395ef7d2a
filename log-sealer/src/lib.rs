//! Seals logs for the reader's keys only
