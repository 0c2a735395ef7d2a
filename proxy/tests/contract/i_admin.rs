//! I: the admin pages.

mod api;
mod keys;
mod login;
mod logs;
mod other;
mod person;
