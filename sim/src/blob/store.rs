//! The append blobs of an account.
//!
//! Must not know: who asks.

use std::collections::BTreeMap;

use super::error::Refusal;
use super::list::Listed;

/// The most bytes that an account of a laptop holds.
const MAX_ACCOUNT: usize = 512 * 1024 * 1024;

/// An append blob.
#[derive(Debug, Default)]
pub(super) struct Blob {
    pub(super) content: Vec<u8>,
    pub(super) blocks: usize,
    /// When it was made, by a clock of the account's own: a second a blob.
    pub(super) created: String,
}

/// Blobs by `container/name`.
#[derive(Debug, Default)]
pub(super) struct Store {
    blobs: BTreeMap<String, Blob>,
    /// How many were made.
    made: u32,
}

impl Store {
    /// Makes an empty blob; `fresh`: only if there is none.
    pub(super) fn create(&mut self, name: &str, fresh: bool) -> Result<(), Refusal> {
        if fresh && self.blobs.contains_key(name) {
            return Err(Refusal::AlreadyExists);
        }
        self.made += 1;
        let (hour, minute, second) = (self.made / 3600 % 24, self.made / 60 % 60, self.made % 60);
        let created = format!("Mon, 23 Nov 2026 {hour:02}:{minute:02}:{second:02} GMT");
        self.blobs.insert(name.to_owned(), Blob { created, ..Blob::default() });
        Ok(())
    }

    pub(super) fn delete(&mut self, name: &str) -> Result<(), Refusal> {
        self.blobs.remove(name).map(drop).ok_or(Refusal::BlobNotFound)
    }

    /// Where the block begins, and how many there are now.
    pub(super) fn append(
        &mut self,
        name: &str,
        block: &[u8],
        position: Option<usize>,
        max_blocks: usize,
    ) -> Result<(usize, usize), Refusal> {
        let all: usize = self.blobs.values().map(|blob| blob.content.len()).sum();
        let blob = self.blobs.get_mut(name).ok_or(Refusal::BlobNotFound)?;
        let offset = blob.content.len();
        if position.is_some_and(|position| position != offset) {
            return Err(Refusal::AppendPosition);
        }
        if blob.blocks >= max_blocks {
            return Err(Refusal::BlockCount);
        }
        if all + block.len() > MAX_ACCOUNT {
            return Err(Refusal::TooLarge);
        }
        blob.content.extend_from_slice(block);
        blob.blocks += 1;
        Ok((offset, blob.blocks))
    }

    pub(super) fn get(&self, name: &str) -> Result<&Blob, Refusal> {
        self.blobs.get(name).ok_or(Refusal::BlobNotFound)
    }

    /// The blobs of a container, in order.
    pub(super) fn list<'a>(&'a self, container: &'a str) -> impl Iterator<Item = Listed<'a>> {
        self.blobs.iter().filter_map(move |(name, blob)| {
            let name = name.strip_prefix(container)?.strip_prefix('/')?;
            Some(Listed { name, length: blob.content.len(), created: &blob.created })
        })
    }
}
