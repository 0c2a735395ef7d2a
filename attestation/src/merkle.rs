//! The Merkle tree that lets many waiting bindings share one report (RFC 9162, section 2.1, with SHA-256).
//!
//! The tree hash of leaves is domain-separated: 0x00 before a leaf, 0x01 before two children.

use crate::crypto::sha256;

/// A node of the tree.
pub type Hash = [u8; 32];

/// The most leaves a batch may have. It bounds the path that a verifier walks at 20 hashes.
pub const MAX_LEAVES: u64 = 1 << 20;

/// The longest path that a tree of [`MAX_LEAVES`] has.
pub const MAX_LENGTH_OF_PATH: usize = 20;

/// Where a leaf stands in its tree, and the hashes that lead from it to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// Position of the leaf, from 0.
    pub index: u64,
    /// Leaves in the tree.
    pub size: u64,
    /// Sibling hashes, from the leaf upwards.
    pub path: Vec<Hash>,
}

impl Inclusion {
    /// The root that this leaf leads to, or `None` if index, size and path do not fit together
    /// (RFC 9162, section 2.1.3.2).
    #[must_use]
    pub fn root(&self, leaf: &[u8]) -> Option<Hash> {
        if self.index >= self.size || self.size > MAX_LEAVES {
            return None;
        }
        let (mut index, mut last) = (self.index, self.size - 1);
        let mut hash = leaf_hash(leaf);
        for sibling in &self.path {
            if last == 0 {
                return None;
            }
            if index % 2 == 1 || index == last {
                hash = node_hash(sibling, &hash);
                while index.is_multiple_of(2) && index != 0 {
                    index /= 2;
                    last /= 2;
                }
            } else {
                hash = node_hash(&hash, sibling);
            }
            index /= 2;
            last /= 2;
        }
        (last == 0).then_some(hash)
    }
}

/// A batch: its root, and each leaf's way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The tree hash.
    pub root: Hash,
    /// One proof a leaf, in the leaves' order.
    pub inclusions: Vec<Inclusion>,
}

impl Tree {
    /// Builds the tree level by level. `None` for no leaves, or more than [`MAX_LEAVES`].
    #[must_use]
    pub fn new(leaves: &[Vec<u8>]) -> Option<Self> {
        let size = u64::try_from(leaves.len()).ok().filter(|n| (1..=MAX_LEAVES).contains(n))?;
        let mut paths: Vec<Vec<Hash>> = vec![Vec::new(); leaves.len()];
        // A subtree of the current level: its hash, and the leaves below it as a range.
        let mut level: Vec<(Hash, std::ops::Range<usize>)> =
            leaves.iter().enumerate().map(|(i, leaf)| (leaf_hash(leaf), i..i + 1)).collect();
        // RFC 9162 splits at the largest power of two below the size; joining neighbours from the left and
        // carrying an odd last one up gives the same tree.
        while level.len() > 1 {
            let mut above = Vec::with_capacity(level.len().div_ceil(2));
            let mut nodes = level.into_iter();
            while let Some((left, left_leaves)) = nodes.next() {
                let Some((right, right_leaves)) = nodes.next() else {
                    above.push((left, left_leaves));
                    break;
                };
                for path in paths.get_mut(left_leaves.clone())? {
                    path.push(right);
                }
                for path in paths.get_mut(right_leaves.clone())? {
                    path.push(left);
                }
                above.push((node_hash(&left, &right), left_leaves.start..right_leaves.end));
            }
            level = above;
        }
        let (root, _) = level.pop()?;
        let inclusions = (0..size).zip(paths).map(|(index, path)| Inclusion { index, size, path });
        Some(Self { root, inclusions: inclusions.collect() })
    }
}

fn leaf_hash(leaf: &[u8]) -> Hash {
    sha256(&[&[0], leaf].concat())
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left.as_slice(), right.as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(n: usize) -> Vec<Vec<u8>> {
        (0..n).map(|i| format!("leaf {i}").into_bytes()).collect()
    }

    #[test]
    fn every_leaf_of_every_size_leads_to_the_root() {
        for n in 1..=130 {
            let leaves = leaves(n);
            let tree = Tree::new(&leaves).unwrap();
            for (leaf, inclusion) in leaves.iter().zip(&tree.inclusions) {
                assert_eq!(inclusion.root(leaf), Some(tree.root), "{} of {n}", inclusion.index);
            }
        }
    }

    #[test]
    fn a_tree_has_a_greatest_size() {
        let first_of = |size: u64, levels: usize| {
            Inclusion { index: 0, size, path: vec![[7; 32]; levels] }.root(b"leaf").is_some()
        };
        assert!(first_of(MAX_LEAVES / 2 + 1, 20));
        assert!(first_of(MAX_LEAVES, 20));
        assert!(!first_of(MAX_LEAVES + 1, 21), "it would fit");
        assert!(!first_of(MAX_LEAVES * 2, 21), "it would fit");
    }

    #[test]
    fn a_leaf_elsewhere_or_changed_leads_to_another_root() {
        let leaves = leaves(7);
        let tree = Tree::new(&leaves).unwrap();
        for (i, inclusion) in tree.inclusions.iter().enumerate() {
            for (j, leaf) in leaves.iter().enumerate() {
                assert_eq!(inclusion.root(leaf) == Some(tree.root), i == j);
            }
        }
    }

    #[test]
    fn misfitting_proofs_are_refused() {
        let leaves = leaves(6);
        let good = Tree::new(&leaves).unwrap().inclusions.remove(2);
        let leaf = &leaves[2];
        let root = good.root(leaf);
        assert!(root.is_some());
        let longer = [good.path.clone(), vec![[0; 32]]].concat();
        for bad in [
            Inclusion { index: 6, ..good.clone() },
            Inclusion { size: 0, ..good.clone() },
            Inclusion { size: u64::MAX, ..good.clone() },
            Inclusion { path: good.path[1..].to_vec(), ..good.clone() },
            Inclusion { path: longer, ..good.clone() },
        ] {
            assert_eq!(bad.root(leaf), None, "{bad:?}");
        }
        let elsewhere = Inclusion { index: 3, ..good };
        assert_ne!(elsewhere.root(leaf), root);
    }

    #[test]
    fn a_node_is_no_leaf() {
        let two = leaves(2);
        let tree = Tree::new(&two).unwrap();
        let forged = [leaf_hash(&two[0]), leaf_hash(&two[1])].concat();
        let alone = Inclusion { index: 0, size: 1, path: vec![] };
        assert_ne!(alone.root(&forged), Some(tree.root));
    }

    #[test]
    fn no_leaves_make_no_tree() {
        assert_eq!(Tree::new(&[]), None);
    }
}
