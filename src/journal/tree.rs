//! The Merkle tree of a log (RFC 6962), over the hashes that its events carry.
//!
//! An event stores the hashes that it completes: its leaf hash, and those of the
//! subtrees that end with it. So each node is found in one row, a proof reads a
//! logarithmic number of rows, and appending reads none: the log's head stores the
//! [`Frontier`].

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tlog_tiles::{HASH_SIZE, Hash, HashReader};
use utoipa::ToSchema;

use super::rows;
use crate::db::Conn;
use crate::error::Error;

/// Encodes a hash for JSON (base64).
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A hash of a log's tree (SHA-256, base64).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(max_length = 44, example = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")]
pub struct TreeHash(String);

impl From<Hash> for TreeHash {
    fn from(hash: Hash) -> Self {
        Self(base64(&hash.0))
    }
}

/// Encodes hashes for JSON.
pub(crate) fn shown(hashes: Vec<Hash>) -> Vec<TreeHash> {
    hashes.into_iter().map(TreeHash::from).collect()
}

/// The right edge of a tree: the roots of its complete subtrees, the largest first.
///
/// It suffices to append and to compute the root.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// Number of events.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree.
    pub(crate) fn root(&self) -> Result<Hash, tlog_tiles::Error> {
        tlog_tiles::tree_hash(self.size, self)
    }

    /// Appends an event by its leaf hash; returns the hashes that it completes, its own first.
    pub(crate) fn push(&mut self, leaf: Hash) -> Result<Vec<Hash>, tlog_tiles::Error> {
        let completed = tlog_tiles::stored_hashes_for_record_hash(self.size, leaf, self)?;
        // Each completed subtree merges with the one to its left.
        let kept = (self.roots.len() + 1).checked_sub(completed.len()).ok_or(tlog_tiles::Error::BadMath)?;
        self.roots.truncate(kept);
        self.roots.extend(completed.last());
        self.size += 1;
        Ok(completed)
    }

    /// Encodes the roots for the head of a log.
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode(&self.roots)
    }

    /// Decodes what [`Frontier::encode`] wrote; `None` if the size does not match.
    pub(crate) fn decode(size: i64, bytes: &[u8]) -> Option<Self> {
        let size = u64::try_from(size).ok()?;
        let roots = decode(bytes)?;
        (roots.len() == usize::try_from(size.count_ones()).ok()?).then_some(Self { size, roots })
    }
}

impl HashReader for Frontier {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        let known = tlog_tiles::sub_tree_index(0, self.size, Vec::new());
        let hash =
            |index| known.iter().position(|known| known == index).and_then(|place| self.roots.get(place).copied());
        indexes.iter().map(hash).collect::<Option<_>>().ok_or(tlog_tiles::Error::IndexesNotInTree)
    }
}

/// Concatenates hashes.
pub(crate) fn encode(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Decodes what [`encode`] wrote.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<HASH_SIZE>();
    rest.is_empty().then(|| hashes.iter().map(|hash| Hash(*hash)).collect())
}

/// Runs a computation over the stored nodes of a log.
///
/// The set of nodes it reads does not depend on their values: a first run collects
/// their indexes, one query loads them, and a second run computes the result.
///
/// # Errors
/// The outer error is the database's; the inner one is the computation's, such as a missing node.
pub(crate) fn prove<T>(
    conn: &mut Conn,
    tenant_id: &str,
    work: impl Fn(&Nodes) -> Result<T, tlog_tiles::Error>,
) -> Result<Result<T, tlog_tiles::Error>, Error> {
    let wanted = Nodes { wanted: Some(RefCell::default()), known: HashMap::new() };
    // The first run sees empty nodes; its result is discarded.
    drop(work(&wanted));
    let wanted = wanted.wanted.map(RefCell::into_inner).unwrap_or_default();
    Ok(work(&Nodes { wanted: None, known: rows::nodes(conn, tenant_id, wanted)? }))
}

/// Nodes of a log's tree, by their index in storage order.
pub(crate) struct Nodes {
    wanted: Option<RefCell<BTreeSet<u64>>>,
    known: HashMap<u64, Hash>,
}

impl HashReader for Nodes {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        if let Some(wanted) = &self.wanted {
            wanted.borrow_mut().extend(indexes);
            return Ok(vec![Hash::default(); indexes.len()]);
        }
        let known = indexes.iter().map(|index| self.known.get(index).copied());
        known.collect::<Option<_>>().ok_or(tlog_tiles::Error::IndexesNotInTree)
    }
}

/// Where a node is stored: the event that completed it, and the position among that event's hashes.
pub(crate) fn place(node: u64) -> (i64, usize) {
    let (level, number) = tlog_tiles::split_stored_hash_index(node);
    let event = ((number + 1) << level) - 1;
    (i64::try_from(event).unwrap_or(i64::MAX), usize::from(level))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use tlog_tiles::{check_record, check_tree, prove_record, prove_tree, record_hash, stored_hash_index, tree_hash};

    /// The seven-leaf tree's leaves and roots of the reference implementation that RFC 6962 grew from.
    const LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn hex(hash: Hash) -> String {
        use std::fmt::Write;
        hash.0.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    /// What the rows of a log hold, and its frontier after each event.
    fn grown(leaves: impl Iterator<Item = Hash>) -> (Stored, Vec<Frontier>) {
        let (mut stored, mut frontiers) = (Stored::default(), vec![Frontier::default()]);
        for (index, leaf) in leaves.enumerate() {
            let mut frontier = frontiers.last().unwrap().clone();
            let row = encode(&frontier.push(leaf).unwrap());
            stored.0.insert(index, row);
            frontiers.push(Frontier::decode(i64::try_from(index + 1).unwrap(), &frontier.encode()).unwrap());
        }
        (stored, frontiers)
    }

    /// The rows of a log without a database.
    #[derive(Default)]
    struct Stored(HashMap<usize, Vec<u8>>);

    impl HashReader for Stored {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
            Ok(indexes
                .iter()
                .map(|index| {
                    let (event, level) = place(*index);
                    decode(&self.0[&usize::try_from(event).unwrap()]).unwrap()[level]
                })
                .collect())
        }
    }

    #[test]
    fn roots_are_those_of_the_reference() {
        let (_, frontiers) = grown(LEAVES.iter().map(|leaf| record_hash(leaf)));
        let roots: Vec<String> = frontiers.iter().skip(1).map(|frontier| hex(frontier.root().unwrap())).collect();
        assert_eq!(roots, ROOTS);
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex(Frontier::default().root().unwrap()), empty);
    }

    #[test]
    fn proofs_are_those_of_the_reference() {
        let (stored, _) = grown(LEAVES.iter().map(|leaf| record_hash(leaf)));
        let shown = |proof: Vec<Hash>| proof.into_iter().map(hex).collect::<Vec<_>>();
        let first_of_eight = shown(prove_record(8, 0, &stored).unwrap());
        assert_eq!(
            first_of_eight,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ]
        );
        let six_in_eight = shown(prove_tree(8, 6, &stored).unwrap());
        assert_eq!(
            six_in_eight,
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
    }

    #[test]
    fn every_proof_of_every_size_holds_and_no_other_row_passes_for_it() {
        let leaf = |number: u64| record_hash(&number.to_be_bytes());
        let (stored, frontiers) = grown((0..70).map(leaf));
        for size in 1..=70_u64 {
            let root = frontiers[usize::try_from(size).unwrap()].root().unwrap();
            assert_eq!(tree_hash(size, &stored).unwrap(), root);
            for index in 0..size {
                let proof = prove_record(size, index, &stored).unwrap();
                check_record(&proof, size, root, index, leaf(index)).unwrap();
                assert!(check_record(&proof, size, root, index, leaf(index + 1)).is_err());
                assert!(check_record(&proof, size, root, (index + 1) % 71, leaf(index)).is_err() || size == 1);
            }
            for older in 1..=size {
                let proof = prove_tree(size, older, &stored).unwrap();
                let before = frontiers[usize::try_from(older).unwrap()].root().unwrap();
                check_tree(&proof, size, root, older, before).unwrap();
                assert!(older == size || check_tree(&proof, size, root, older, leaf(older)).is_err());
            }
        }
        assert_eq!(stored_hash_index(0, 1), 1);
    }

    #[test]
    fn only_a_whole_frontier_of_the_right_size_is_read() {
        let (_, frontiers) = grown((0..5_u64).map(|number| record_hash(&number.to_be_bytes())));
        let bytes = frontiers[5].encode();
        assert_eq!(Frontier::decode(5, &bytes).as_ref(), Some(&frontiers[5]));
        assert!(Frontier::decode(4, &bytes).is_none() && Frontier::decode(-1, &bytes).is_none());
        assert!(Frontier::decode(5, &bytes[1..]).is_none());
    }
}
