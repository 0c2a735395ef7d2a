//! The native half of the Python package `privatemode_confidential`: everything that touches the network, TLS and
//! evidence is the Rust library, and Python sends not a byte by itself.
//!
//! Whatever takes time returns a [`pending::Pending`], which a thread waits for without the interpreter's lock and an
//! event loop is told about. The Python half makes transports of `httpx2` from it.
//!
//! This crate must not know `httpx2` or `openai`.

use pyo3::pymodule;

mod answer;
mod call;
mod failure;
mod first;
mod pending;
mod runtime;
mod server;
mod upload;
mod verdict;

/// What the Python half imports. It is private: people import `privatemode_confidential`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::answer::Answer;
    #[pymodule_export]
    use super::call::Call;
    #[pymodule_export]
    use super::failure::Failure;
    #[pymodule_export]
    use super::pending::Pending;
    #[pymodule_export]
    use super::runtime::let_go;
    #[pymodule_export]
    use super::server::Server;
}
