//! The append blobs of an account.
//!
//! Must not know: who asks.

use std::collections::BTreeMap;

use super::error::Refusal;

/// The most bytes that an account of a laptop holds.
const MAX_ACCOUNT: usize = 512 * 1024 * 1024;

/// An append blob.
#[derive(Debug, Default)]
pub(super) struct Blob {
    pub(super) content: Vec<u8>,
    pub(super) blocks: usize,
}

/// Blobs by `container/name`.
#[derive(Debug, Default)]
pub(super) struct Store {
    blobs: BTreeMap<String, Blob>,
}

impl Store {
    /// Makes an empty blob; `fresh`: only if there is none.
    pub(super) fn create(&mut self, name: &str, fresh: bool) -> Result<(), Refusal> {
        if fresh && self.blobs.contains_key(name) {
            return Err(Refusal::AlreadyExists);
        }
        self.blobs.insert(name.to_owned(), Blob::default());
        Ok(())
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

    /// Names within a container, and lengths.
    pub(super) fn list<'a>(
        &'a self,
        container: &'a str,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, usize)> {
        self.blobs.iter().filter_map(move |(name, blob)| {
            let name = name.strip_prefix(container)?.strip_prefix('/')?;
            name.starts_with(prefix).then_some((name, blob.content.len()))
        })
    }
}
