//! The admin pages in a real browser: Debian's Chromium without a window, driven by its own driver over WebDriver (W3C).
//!
//! Without Chromium every test says so and passes, unless `CHROMIUM_REQUIRED=1`. Pictures of every page are left in the
//! target folder's `tmp/admin-pages`, to be looked at. With `AXE_JS` naming a copy of axe-core, that is run as well.
//!
//! Must not know anything of the proxy but its binary.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wrong_self_convention,
    clippy::disallowed_methods,
    clippy::needless_pass_by_value,
    reason = "helpers of tests"
)]

mod accessibility;
mod driver;
mod pages;
mod people;
#[path = "../contract/support/mod.rs"]
#[expect(dead_code, reason = "shared with the contract's cases")]
mod support;
