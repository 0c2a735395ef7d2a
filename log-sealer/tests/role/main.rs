//! The role as a whole: real gRPC and HTTP in, real sinks out. One binary, because each links everything anew.

// `cfg(test)` marks helpers outside of test functions as tests, where a failed `unwrap` is a failed test
#[cfg(test)]
mod blob;
#[cfg(test)]
mod common;
#[cfg(test)]
mod http;
#[cfg(test)]
mod live;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod outward;
#[cfg(test)]
mod pressure;
#[cfg(test)]
mod process;
#[cfg(test)]
mod reader;
#[cfg(test)]
mod seal;
#[cfg(test)]
mod spool;
#[cfg(test)]
mod tools;
