//! `LP(x)`: the length of x as u32 big-endian, then x (`wire.md`). Everything that is hashed or signed here
//! is built of it, so that no two different lists of fields give the same bytes.

/// The project's name as the first part of every label.
const PROJECT: &str = "privatemode-confidential";

/// Bytes that are hashed or signed: a label and fields, each length-prefixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// Begins with `LP("privatemode-confidential/<purpose>/v1")`.
    pub(crate) fn new(purpose: &str) -> Self {
        Self(Vec::new()).field(format!("{PROJECT}/{purpose}/v1").as_bytes())
    }

    /// Appends `LP(field)`.
    ///
    /// Fields are bounded by their callers far below 4 GiB.
    pub(crate) fn field(mut self, field: &[u8]) -> Self {
        let length = u32::try_from(field.len()).expect("a field is far shorter than 4 GiB");
        self.0.extend_from_slice(&length.to_be_bytes());
        self.raw(field)
    }

    /// Appends bytes of a fixed length without a prefix.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The bytes.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
