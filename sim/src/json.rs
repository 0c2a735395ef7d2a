//! Changing JSON objects in place.
//!
//! Must not know: any protocol. Indexing a JSON value to write to it panics on anything that is
//! no object; [`set`] leaves such a value as it is.

use serde_json::Value;

/// Gives a member of an object a value.
pub(crate) fn set(object: &mut Value, member: &str, value: impl Into<Value>) {
    if let Some(members) = object.as_object_mut() {
        members.insert(member.to_owned(), value.into());
    }
}
