//! The whole group and its outside world on one machine, for people at a laptop and for the whole-stack tests.
//!
//! The four roles run as the processes that they are in a container, each with its own environment and nothing
//! else; the outside world is `sim`, in this process. Whatever is tried here is tried with the programs that
//! ship: there is no mode for it in them.

pub mod bench;
pub mod check;
mod group;
pub mod load;
pub mod local;
mod owner;
mod pair;
mod process;
pub mod proofs;
pub mod soak;
mod stack;
pub mod straight;

pub use group::{Group, Places, RoleName};
pub use process::RoleProcess;
pub use stack::{Options, Stack, StartError};
