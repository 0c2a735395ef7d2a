//! I: the admin pages.

mod api;
mod keys;
mod login;
mod other;
mod person;
