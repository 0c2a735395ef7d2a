//! The client against a server in this process that can prove itself, and can do anything else as well: how it uses its
//! connections, and what it does when it is attacked.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on, fails"
)]

mod attacks;
mod forwarding;
mod group;
mod pooling;
mod saved;
