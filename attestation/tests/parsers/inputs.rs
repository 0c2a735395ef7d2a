//! Bytes to feed a parser with: any bytes, and more often small changes of what it accepts.

use proptest::prelude::*;
use proptest::sample::Index;

use crate::entries::Entry;

/// One small change of an input.
#[derive(Clone, Debug)]
enum Mutation {
    Set(Index, u8),
    Flip(Index, u8),
    Truncate(Index),
    Insert(Index, Vec<u8>),
    /// Writes a stretch of the input over another place.
    Copy(Index, Index, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        any::<Index>().prop_map(Mutation::Truncate),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..16))
            .prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (any::<Index>(), any::<Index>(), 1..64_usize)
            .prop_map(|(from, to, length)| Mutation::Copy(from, to, length)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    let length = bytes.len();
    match mutation {
        Mutation::Set(at, byte) => *at.get_mut(bytes) = *byte,
        Mutation::Flip(at, bit) => *at.get_mut(bytes) ^= 1 << bit,
        Mutation::Truncate(at) => bytes.truncate(at.index(length)),
        Mutation::Insert(at, new) => {
            let at = at.index(length);
            bytes.splice(at..at, new.iter().copied());
        }
        Mutation::Copy(from, to, stretch) => {
            let from = from.index(length);
            let copy = bytes.iter().skip(from).take(*stretch).copied().collect::<Vec<_>>();
            let to = to.index(length);
            let end = (to + copy.len()).min(length);
            bytes.splice(to..end, copy);
        }
    }
}

/// One time in eight any bytes, else a seed with up to eight changes.
pub(crate) fn input(entry: &Entry) -> impl Strategy<Value = Vec<u8>> + use<> {
    let near = (prop::sample::select((entry.seeds)()), prop::collection::vec(mutation(), 0..8))
        .prop_map(|(mut bytes, mutations)| {
            mutations.iter().for_each(|one| mutate(&mut bytes, one));
            bytes
        });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..2048), 7 => near]
}
